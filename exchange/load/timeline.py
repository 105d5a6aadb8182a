"""What happened when in a run of a load: how much was due and answered in each hundredth of a second, and how late.

A run's percentiles say how long requests took. They do not say when; and of a run in which the exchange was killed, or
moved to another machine, one wants to see the moment. Requests are counted by the time at which they were due, and so
are their latencies: an outage shows as a slope, for what was due first has waited longest. Answers are counted by the
time at which they came.

Times in a run are nanoseconds from its start, of which the monotonic clock's time and the time of day are given; so a
timeline can be laid beside the logs of exchanges, on this machine or another.

Rules: a run is over when it is looked at. Buckets without a request have no latency: null in JSON.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from exchange.bench.results import BenchResult
from exchange.load.losses import Loss, reason_text
from exchange.load.plan import LoadPlan
from exchange.load.requests import UNANSWERED, UNSENT, SessionRequests


class Silence(NamedTuple):
    """The longest time in which requests were unanswered and no answer came to any session. From the run's start."""

    begin_ns: int
    end_ns: int

    @property
    def length_ns(self) -> int:
        """How long it was."""
        return self.end_ns - self.begin_ns


class LostLine(msgspec.Struct, frozen=True):
    """A line that a session has lost: :class:`~exchange.load.losses.Loss` in words."""

    session: str
    reason: str
    left: str
    found: str
    lost_ns: int
    back_ns: int
    sent_again: int
    taken_back: int


class RunTimeline(msgspec.Struct, frozen=True):
    """One run.

    Attributes:
        offered_per_second: of all sessions; None if it was as many as were answered.
        round_index: from 0.
        start_monotonic_ns: when the run began, on this machine's CLOCK_MONOTONIC.
        start_unix_ns: the same moment as time of day, from 1970 on.
        warmup_ns: what is due before is not measured elsewhere; it is counted here.
        bucket_ns: how long a bucket is; the first begins with the run.
        due: for each bucket the requests that were due in it.
        answered: for each bucket the answers that came in it.
        unanswered: for each bucket the requests that were due in it and not answered until the end of the run.
        latency_p50_ns: the median latency of the requests that were due in each bucket and answered.
        latency_p99_ns: their 99th percentile.
        latency_max_ns: the longest.
        silence_begin_ns: when the longest silence began: after the last answer, or when something was due again.
        silence_end_ns: the first answer after it.
        sent_again: requests that were sent once more.
        lost_lines: the lines that sessions have lost.
    """

    offered_per_second: float | None
    round_index: int
    start_monotonic_ns: int
    start_unix_ns: int
    warmup_ns: int
    bucket_ns: int
    due: list[int]
    answered: list[int]
    unanswered: list[int]
    latency_p50_ns: list[int | None]
    latency_p99_ns: list[int | None]
    latency_max_ns: list[int | None]
    silence_begin_ns: int
    silence_end_ns: int
    sent_again: int
    lost_lines: tuple[LostLine, ...]


class LoadTimeline(msgspec.Struct, frozen=True):
    """The runs of a load. ``kind`` is always "load timeline"."""

    created_utc: str
    command_line: str
    sessions: int
    runs: tuple[RunTimeline, ...]
    kind: str = "load timeline"


def timeline_of(result: BenchResult, plan: LoadPlan, runs: Sequence[RunTimeline]) -> LoadTimeline:
    """The runs of a load together."""
    return LoadTimeline(result.created_utc, result.command_line, len(plan.logins), tuple(runs))


class RunClock(NamedTuple):
    """When a run began, on two clocks."""

    start_monotonic_ns: int
    start_unix_ns: int

    @classmethod
    def at(cls, start_monotonic_ns: int) -> "RunClock":
        """A moment of the monotonic clock, which may lie a little ahead."""
        return cls(start_monotonic_ns, time.time_ns() + start_monotonic_ns - time.monotonic_ns())


class _Columns(NamedTuple):
    """What is looked at of all requests: the records themselves may be hundreds of megabytes."""

    due_ns: NDArray[np.int64]
    answered_ns: NDArray[np.int64]
    state: NDArray[np.int64]

    @classmethod
    def of(cls, requests: Sequence[SessionRequests]) -> "_Columns":
        """Of all sessions together."""
        names = ("intended_ns", "answered_ns", "state")
        return cls(*(np.concatenate([one.records[name] for one in requests]) for name in names))

    def where(self, is_chosen: NDArray[np.bool_]) -> "_Columns":
        """Those of some requests."""
        return _Columns(*(one[is_chosen] for one in self))


def longest_silence(requests: Sequence[SessionRequests]) -> Silence:
    """The longest time without any answer in which some request was unanswered that was answered later."""
    columns = _Columns.of(requests)
    columns = columns.where(columns.answered_ns > 0)
    if not len(columns.due_ns):
        return Silence(0, 0)
    order = np.argsort(columns.answered_ns, kind="stable")
    answered_ns = columns.answered_ns[order]
    # Of the answers from each on: when the first of their requests was due.
    due_ns = np.minimum.accumulate(columns.due_ns[order][::-1])[::-1]
    before_ns = np.concatenate(([0], answered_ns[:-1]))
    begin_ns = np.maximum(before_ns, due_ns)
    longest = int(np.argmax(answered_ns - begin_ns))
    return Silence(int(begin_ns[longest]), int(answered_ns[longest]))


def run_timeline(
    requests: Sequence[SessionRequests],
    clock: RunClock,
    *,
    rate: float | None,
    round_index: int,
    warmup_ns: int,
    bucket_ns: int,
    sent_again: int,
    losses: Sequence[Loss],
) -> RunTimeline:
    """The timeline of a run that is over.

    Args:
        requests: of each session.
        clock: when the run began.
        rate: requests per second that were offered, or None.
        round_index: of the run.
        warmup_ns: how long it warmed up.
        bucket_ns: how long a bucket is to be.
        sent_again: how many requests were sent once more.
        losses: the lines that were lost.
    """
    columns = _Columns.of(requests)
    if rate is None:  # then a request is due when it is sent, and what was not sent was not due
        columns = columns.where(columns.state != UNSENT)
    answers = columns.where(columns.answered_ns > 0)
    last_ns = max(columns.due_ns.max(initial=0), answers.answered_ns.max(initial=0))
    count = int(last_ns // bucket_ns) + 1
    is_open = (columns.state == UNSENT) | (columns.state == UNANSWERED)
    half, tail, longest = _latencies(answers, bucket_ns, count)
    silence = longest_silence(requests)
    return RunTimeline(
        offered_per_second=rate,
        round_index=round_index,
        start_monotonic_ns=clock.start_monotonic_ns,
        start_unix_ns=clock.start_unix_ns,
        warmup_ns=warmup_ns,
        bucket_ns=bucket_ns,
        due=_counts(columns.due_ns, bucket_ns, count),
        answered=_counts(answers.answered_ns, bucket_ns, count),
        unanswered=_counts(columns.due_ns[is_open], bucket_ns, count),
        latency_p50_ns=half,
        latency_p99_ns=tail,
        latency_max_ns=longest,
        silence_begin_ns=silence.begin_ns,
        silence_end_ns=silence.end_ns,
        sent_again=sent_again,
        lost_lines=tuple(_in_words(one) for one in losses),
    )


def _in_words(loss: Loss) -> LostLine:
    return LostLine(
        loss.session,
        reason_text(loss.reason),
        str(loss.left),
        str(loss.found),
        loss.lost_ns,
        loss.back_ns,
        loss.sent_again,
        loss.taken_back,
    )


def _counts(times_ns: NDArray[np.int64], bucket_ns: int, count: int) -> list[int]:
    counted: list[int] = np.bincount(times_ns // bucket_ns, minlength=count).tolist()
    return counted


def _latencies(
    answers: _Columns, bucket_ns: int, count: int
) -> tuple[list[int | None], list[int | None], list[int | None]]:
    """For each bucket the median, the 99th percentile (nearest rank) and the largest latency of what was due in it."""
    bucket = answers.due_ns // bucket_ns
    latency_ns = answers.answered_ns - answers.due_ns
    order = np.lexsort((latency_ns, bucket))
    latency_ns = latency_ns[order]
    ends = np.cumsum(np.bincount(bucket, minlength=count))
    half: list[int | None] = [None] * count
    tail, longest = half.copy(), half.copy()
    begin = 0
    for index, end in enumerate(ends.tolist()):
        if end > begin:
            number = end - begin
            half[index] = int(latency_ns[begin + (number + 1) // 2 - 1])
            tail[index] = int(latency_ns[begin + -(-99 * number // 100) - 1])
            longest[index] = int(latency_ns[end - 1])
        begin = end
    return half, tail, longest
