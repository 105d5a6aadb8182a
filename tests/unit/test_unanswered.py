"""What is sent again on a new line, and in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import unanswered
from exchange.unanswered import Unanswered


def test_what_was_not_answered_is_sent_again_in_the_order_in_which_it_was_asked() -> None:
    waiting = Unanswered()
    for number in (1, 2, 3):
        waiting.put(("order", number), b"%d" % number, is_sent=True)
    assert waiting.next_unsent() == []
    waiting.answered(("order", 2))
    waiting.begin_again()
    waiting.put(("order", 4), b"4", is_sent=False)
    assert waiting.next_unsent() == [b"1", b"3", b"4"]
    waiting.put(("order", 5), b"5", is_sent=False)
    assert waiting.next_unsent() == [b"5"]
    assert waiting.next_unsent() == []
    assert len(waiting) == 4


def test_the_last_cancel_of_an_order_is_kept_until_all_are_answered() -> None:
    waiting = Unanswered()
    waiting.put(("cancel", 7), b"to 50", is_sent=True)
    waiting.put(("cancel", 7), b"to 20", is_sent=True)
    waiting.canceled(7)
    waiting.begin_again()
    assert waiting.next_unsent() == [b"to 20"]
    waiting.put(("cancel", 7), b"to 0", is_sent=False)
    assert waiting.next_unsent() == [b"to 0"]
    waiting.canceled(7)
    waiting.canceled(7)
    assert len(waiting) == 0
    waiting.canceled(7)  # one that nobody has asked for


def test_a_cancel_that_is_made_while_there_is_no_line_goes_out_behind_its_order() -> None:
    waiting = Unanswered()
    waiting.put(("cancel", 7), b"an old one", is_sent=True)
    waiting.put(("order", 8), b"8", is_sent=False)
    waiting.put(("cancel", 7), b"a new one", is_sent=False)
    waiting.begin_again()
    assert waiting.next_unsent() == [b"8", b"a new one"]


def test_the_oldest_of_too_many_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unanswered, "UNANSWERED_MAX", 3)
    waiting = Unanswered()
    for number in range(5):
        waiting.put(("order", number), b"%d" % number, is_sent=True)
    waiting.begin_again()
    assert waiting.next_unsent() == [b"2", b"3", b"4"]


@given(st.lists(st.tuples(st.sampled_from("saxn"), st.integers(0, 30)), max_size=120))
def test_every_request_is_on_each_line_once_and_none_overtakes(steps: list[tuple[str, int]]) -> None:
    """Orders are made with a line and without, answered, and lines are lost, in any order."""
    waiting, made, answered = Unanswered(), 0, set[int]()
    on_this_line: list[int] = []
    is_connected = True
    for step, number in steps:
        if step == "s":
            made += 1
            waiting.put(("order", made), b"%d" % made, is_sent=is_connected)
            if is_connected:
                on_this_line.append(made)
        elif step == "a" and number in on_this_line:
            answered.add(number)
            waiting.answered(("order", number))
        elif step == "x":
            waiting.begin_again()
            on_this_line, is_connected = [], False
        elif step == "n":
            on_this_line += [int(one) for one in waiting.next_unsent()]
            is_connected = True
        assert on_this_line == sorted(set(on_this_line))
    on_this_line += [int(one) for one in waiting.next_unsent()]
    assert set(on_this_line) >= set(range(1, made + 1)) - answered
    assert len(waiting) == made - len(answered)
