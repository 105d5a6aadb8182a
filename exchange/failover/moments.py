"""When what happened in a failover, counted from the strike, out of two sources on one machine.

The *logs* of the exchanges have the time of day. The *clients'* requests have the time since their run began, of which
both the time of day and the monotonic clock's are known; and so is the strike. Both are brought together by the time of
day. If somebody set the clock meanwhile, the two clocks of this process do not agree any more (:func:`clock_step_ns`).

What is whose is told by when it came: an answer that came before any session had a new line is the old primary's.
Answers count from when their requests were due. A request that was due in the outage was not sent then, for there was
nobody to send it to; it has waited all the same.

Rules: what nobody has told is None.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.failover.log_lines import LogLine
from exchange.failover.results import (
    ALL_BACK,
    CAUGHT_UP,
    FIRST_ACKNOWLEDGEMENT,
    FIRST_ANSWER,
    LAST_ANSWER,
    LEASE_OUT,
    LEASE_TAKEN,
    LET_IN,
    LINE_LOST,
    LISTENING,
    PRIMARY_GONE,
    TOOK_OVER,
    Moment,
    Steps,
)
from exchange.load.losses import Loss
from exchange.load.measured import Measured
from exchange.load.requests import SETTLED
from exchange.replication.backup import LINE_ENDED, TAKING_OVER

CLIENTS: Final = "clients"
CLIENT_MOMENTS: Final = (LAST_ANSWER, LINE_LOST, FIRST_ANSWER, FIRST_ACKNOWLEDGEMENT, ALL_BACK, CAUGHT_UP)
STEPS_NS: Final = tuple(number * 1_000_000 for number in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000))
STEPS_MAX: Final = 120
"""A timeline has as short a step as there is, of :data:`STEPS_NS`, with which it does not have more of them."""
REQUESTS_OF_A_STEP: Final = 8
"""But a step in which only so many requests are due shows chance."""

BEFORE_PART: Final = 0.35
BEHIND_PART: Final = 0.45
"""So much is shown before the strike and behind the backlog, as parts of the time between."""
BEFORE_NS_MIN: Final = 100_000_000


class Requests(NamedTuple):
    """The requests of all clients: when they were due and answered, in nanoseconds from the strike.

    Attributes:
        due_ns: shape (n,), int64.
        answered_ns: shape (n,), int64; where ``is_answered`` is not set it means nothing.
        is_answered: shape (n,), bool.
        is_open: shape (n,), bool: neither answered nor lapsed (a request that came too late has no answer in OUCH).
    """

    due_ns: NDArray[np.int64]
    answered_ns: NDArray[np.int64]
    is_answered: NDArray[np.bool_]
    is_open: NDArray[np.bool_]

    @classmethod
    def of(cls, measured: Measured, strike_unix_ns: int) -> "Requests":
        """Those of a run that kept them."""
        assert measured.timeline is not None, "the run kept no timeline"
        shift_ns = measured.timeline.start_unix_ns - strike_unix_ns
        records = np.concatenate([one.records for one in measured.requests])
        answered_ns = records["answered_ns"]
        is_open = records["state"] != SETTLED
        return cls(records["intended_ns"] + shift_ns, answered_ns + shift_ns, answered_ns > 0, is_open)

    def is_due(self, begin_ns: int, end_ns: int) -> NDArray[np.bool_]:
        """Which were due in a time."""
        return (self.due_ns >= begin_ns) & (self.due_ns < end_ns)

    def latencies_ns(self, begin_ns: int, end_ns: int) -> NDArray[np.int64]:
        """Of those that were due in a time, and answered."""
        chosen = self.is_answered & self.is_due(begin_ns, end_ns)
        return (self.answered_ns - self.due_ns)[chosen]


def log_moments(lines: Sequence[LogLine], node: str, strike_unix_ns: int) -> dict[str, Moment]:
    """What the new primary's log says of a failover."""
    teller = f"log of {node}"
    after = [line for line in lines if line.time_ns >= strike_unix_ns]

    def first(event: str, state: str = "") -> LogLine | None:
        return next(
            (one for one in after if one.event == event and state in ("", one.fields.get("state"))), None
        )

    found = {
        PRIMARY_GONE: first("backup", LINE_ENDED),
        LEASE_TAKEN: first("backup", TAKING_OVER),
        TOOK_OVER: first("took over"),
        LISTENING: first("listening"),
        LET_IN: first("login"),
    }
    moments = {
        name: Moment(name, None if line is None else line.time_ns - strike_unix_ns, teller)
        for name, line in found.items()
    }
    moments[LEASE_OUT] = Moment(LEASE_OUT, _lease_out_ns(found[TOOK_OVER], strike_unix_ns), teller)
    return moments


def _lease_out_ns(took_over: LogLine | None, strike_unix_ns: int) -> int | None:
    """A new primary says how long ago it had seen that it may take over."""
    seconds: Any = None if took_over is None else took_over.fields.get("seconds")
    if took_over is None or not isinstance(seconds, int | float):
        return None
    return took_over.time_ns - round(seconds * 1e9) - strike_unix_ns


def client_moments(requests: Requests, losses: Sequence[Loss], shift_ns: int) -> dict[str, Moment]:
    """What the clients saw.

    Args:
        requests: of all of them.
        losses: of lines.
        shift_ns: what is to be added to a time of the losses to have it count from the strike.
    """
    lost = [one.lost_ns + shift_ns for one in losses if one.lost_ns + shift_ns >= 0]
    back = [one.back_ns + shift_ns for one in losses if one.back_ns >= 0 and one.back_ns + shift_ns >= 0]
    found: dict[str, int | None] = dict.fromkeys(CLIENT_MOMENTS)
    found[LINE_LOST] = min(lost, default=None)
    if back:
        times_ns = requests.answered_ns
        is_new = requests.is_answered & (times_ns >= min(back))
        found[LAST_ANSWER] = _last(times_ns[requests.is_answered & ~is_new])
        found[FIRST_ANSWER] = _first(times_ns[is_new])
        found[FIRST_ACKNOWLEDGEMENT] = _first(times_ns[is_new & (requests.due_ns > 0)])
    if back and len(back) == len(lost):
        found[ALL_BACK] = max(back)
        owed = requests.due_ns <= max(back)
        if not requests.is_open[owed].any():
            found[CAUGHT_UP] = _last(requests.answered_ns[owed & requests.is_answered])
    return {name: Moment(name, after_ns, CLIENTS) for name, after_ns in found.items()}


def _first(times_ns: NDArray[np.int64]) -> int | None:
    return int(times_ns.min()) if len(times_ns) else None


def _last(times_ns: NDArray[np.int64]) -> int | None:
    return int(times_ns.max()) if len(times_ns) else None


def in_order(moments: dict[str, Moment]) -> tuple[Moment, ...]:
    """Moments by time; those that were not seen come last."""
    seen = [one for one in moments.values() if one.after_ns is not None]
    seen.sort(key=lambda one: one.after_ns or 0)
    return (*seen, *(one for one in moments.values() if one.after_ns is None))


def shown_range(requests: Requests, outage_ns: int | None, caught_up_ns: int | None) -> tuple[int, int]:
    """From when to when a timeline is worth looking at: some of the quiet before, and some behind the backlog."""
    last_ns = max(int(requests.due_ns.max(initial=0)), 1)
    length_ns = max(outage_ns or last_ns, caught_up_ns or 0)
    begin_ns = max(-max(round(BEFORE_PART * length_ns), BEFORE_NS_MIN), int(requests.due_ns.min(initial=0)))
    return begin_ns, min(length_ns + max(round(BEHIND_PART * length_ns), BEFORE_NS_MIN), last_ns)


def choose_steps(begin_ns: int, end_ns: int, rate: float) -> int:
    """How long a step of a timeline is to be."""
    for step_ns in STEPS_NS:
        if (end_ns - begin_ns) / step_ns <= STEPS_MAX and rate * step_ns / 1e9 >= REQUESTS_OF_A_STEP:
            return step_ns
    return STEPS_NS[-1]


def steps_of(requests: Requests, begin_ns: int, end_ns: int, step_ns: int) -> Steps:
    """A timeline from ``begin_ns`` on; one of its steps begins with the strike."""
    first = begin_ns // step_ns
    count = max(-(-end_ns // step_ns) - first, 1)
    latencies = requests.answered_ns - requests.due_ns
    place = requests.due_ns // step_ns - first
    half: list[int | None] = []
    longest: list[int | None] = []
    for index in range(count):
        chosen = latencies[(place == index) & requests.is_answered]
        half.append(int(np.median(chosen)) if len(chosen) else None)
        longest.append(int(chosen.max()) if len(chosen) else None)
    return Steps(
        begin_ns=first * step_ns,
        step_ns=step_ns,
        due=_counts(place, count),
        answered=_counts(requests.answered_ns[requests.is_answered] // step_ns - first, count),
        latency_p50_ns=half,
        latency_max_ns=longest,
    )


def _counts(places: NDArray[np.int64], count: int) -> list[int]:
    inside = places[(places >= 0) & (places < count)]
    counted: list[int] = np.bincount(inside, minlength=count).tolist()
    return counted


def clock_step_ns(first: tuple[int, int], second: tuple[int, int]) -> int:
    """By how much somebody has set the time of day between two moments, each as (time of day, monotonic)."""
    return (second[0] - first[0]) - (second[1] - first[1])
