"""A timeline of a load, and the longest silence, of requests that are made up by hand."""

from collections.abc import Sequence
from unittest.mock import patch

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exchange.load.logins import Endpoint
from exchange.load.losses import Loss
from exchange.load.measured import Measured, outage_text
from exchange.load.requests import (
    REQUEST_DTYPE,
    SETTLED,
    UNANSWERED,
    UNSENT,
    SessionRequests,
    first_unanswered,
)
from exchange.load.timeline import RunClock, RunTimeline, longest_silence, run_timeline
from exchange.load.words import CLOSED

MS = 1_000_000
HERE, THERE = Endpoint("10.0.0.1", 9005), Endpoint("10.0.0.2", 9005)


def requests(*rows: tuple[int, int, int]) -> SessionRequests:
    """Requests of a session: due and answered in milliseconds (0: not), and what has become of them."""
    records = np.zeros(len(rows), REQUEST_DTYPE)
    records["intended_ns"], records["answered_ns"], records["state"] = np.array(rows).T * [[MS], [MS], [1]]
    return SessionRequests(records, np.zeros(0, np.uint8), np.zeros(0, np.int64))


def timeline(
    *sessions: SessionRequests, rate: float | None = 100.0, losses: Sequence[Loss] = ()
) -> RunTimeline:
    return run_timeline(
        sessions, RunClock(5, 6), rate=rate, round_index=0, warmup_ns=0, bucket_ns=10 * MS, sent_again=3, losses=losses
    )  # fmt: skip


def test_requests_are_counted_when_due_and_answers_when_they_came() -> None:
    first = requests((1, 2, SETTLED), (2, 4, SETTLED), (12, 35, SETTLED), (31, 0, SETTLED))  # which lapsed
    second = requests((5, 36, SETTLED), (22, 0, UNANSWERED), (33, 0, UNSENT))
    loss = Loss("ALICE", CLOSED, HERE, THERE, 9 * MS, 30 * MS, 2, 0)
    found = timeline(first, second, losses=[loss])
    assert found.due == [3, 1, 1, 2]
    assert found.answered == [2, 0, 0, 2]
    assert found.unanswered == [0, 0, 1, 1]
    assert found.latency_p50_ns == [2 * MS, 23 * MS, None, None]
    assert found.latency_p99_ns == found.latency_max_ns == [31 * MS, 23 * MS, None, None]
    assert (found.silence_begin_ns, found.silence_end_ns) == (5 * MS, 35 * MS)
    assert (found.lost_lines[0].reason, found.lost_lines[0].found) == ("closed", "10.0.0.2:9005")
    decoded = msgspec.json.decode(msgspec.json.encode(found))
    assert decoded["latency_p50_ns"] == [2 * MS, 23 * MS, None, None]


def test_without_intended_times_what_was_not_sent_was_not_due() -> None:
    found = timeline(requests((0, 1, SETTLED), (0, 0, UNSENT), (0, 0, UNSENT)), rate=None)
    assert (found.due, found.unanswered) == ([1], [0])


def test_a_pause_in_which_nothing_was_due_is_no_silence() -> None:
    silence = longest_silence([requests((0, 1, SETTLED), (500, 503, SETTLED), (501, 502, SETTLED))])
    assert (silence.begin_ns, silence.end_ns) == (500 * MS, 502 * MS)
    assert longest_silence([requests((3, 0, UNANSWERED))]).length_ns == 0


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 200)), min_size=1, max_size=60))
def test_the_longest_silence_is_that_of_the_definition(answers: list[tuple[int, int]]) -> None:
    """Millisecond by millisecond: one is silent if something is open that is answered later, and nothing comes."""
    rows = [(due, due + late) for due, late in answers]
    come = {at for _, at in rows}
    longest = run = 0
    for now in range(502):
        run = run + 1 if any(due <= now < at for due, at in rows) else 0
        longest = max(longest, run)
        run = 0 if now + 1 in come else run
    assert longest_silence([requests(*((*row, SETTLED) for row in rows))]).length_ns == longest * MS


@given(st.lists(st.sampled_from([UNANSWERED, SETTLED]), max_size=80), st.integers(0, 20))
def test_the_first_unanswered_request_is_found_from_the_end(states: list[int], unsent: int) -> None:
    one = requests(*((0, 0, state) for state in [*states, *[UNSENT] * (unsent + 1)]))
    sent, unanswered = len(states), states.count(UNANSWERED)
    expected = states.index(UNANSWERED) if unanswered else sent
    with patch("exchange.load.requests.LOOK_BACK", 7):
        assert first_unanswered(one, sent, unanswered) == expected


def test_an_outage_is_told_in_words() -> None:
    losses = tuple(Loss(name, CLOSED, HERE, THERE, 1, 2, 40, taken) for name, taken in (("A", 0), ("B", 2)))
    silence = longest_silence([requests((0, 1, SETTLED), (2, 402, SETTLED))])
    nothing = np.zeros(1, np.int64)
    measured = Measured({}, 0, 0, 0, {}, nothing, nothing, 0, 0, losses, silence)
    assert outage_text(measured) == (
        "2 sessions lost their line (closed) and went on at 10.0.0.2:9005. The longest time without an answer was "
        "400 ms, beginning 0.002 s into the run. 80 requests were sent again. 2 messages were TAKEN BACK."
    )
