"""When a silent line is given up, with a clock of our own."""

import pytest

from exchange.errors import UserError
from exchange.liveness import Liveness, check_limits


def test_a_line_on_which_nobody_waits_may_be_silent_for_long() -> None:
    life = Liveness(15.0, 1.0, 100.0)
    assert life.gives_up_at(False) == 115.0
    life.heard(103.0)
    life.heard(102.0)  # what is told late
    assert life.gives_up_at(False) == 118.0


def test_the_wait_for_an_answer_begins_with_the_first_request_since_something_came() -> None:
    life = Liveness(15.0, 1.0, 0.0)
    life.asked(4.0)
    life.asked(4.9)
    assert life.gives_up_at(True) == 5.0
    life.heard(4.95)  # a sign of life, though not the answer
    assert life.gives_up_at(True) == pytest.approx(5.95)
    life.asked(7.0)
    assert life.gives_up_at(True) == 8.0
    assert life.gives_up_at(False) == pytest.approx(19.95)


def test_no_answer_is_waited_for_longer_than_a_sign_of_life() -> None:
    life = Liveness(2.0, 1.5, 0.0)
    life.asked(1.0)
    assert life.gives_up_at(True) == 2.0


@pytest.mark.parametrize(
    ("silence", "answer", "named"), [(16.0, 1.0, "--silence 16"), (1.0, 0.0, "--answer 0")]
)
def test_limits_beyond_those_of_soupbintcp_are_refused(silence: float, answer: float, named: str) -> None:
    check_limits(("--silence", "--answer"), 15.0, 0.01)
    with pytest.raises(UserError, match=f"{named}: allowed is 0.01 to 15"):
        check_limits(("--silence", "--answer"), silence, answer)
