"""What was measured in a run of a load, as a result of ``exchange bench`` has it, and what has to be said about it."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from exchange.bench.histogram import Counts, encode, latency_percentiles
from exchange.bench.results import LoadPoint, SaturationRound
from exchange.bench.runner import BEHIND_FRACTION, BEHIND_NS_MIN
from exchange.bench.wording import duration
from exchange.load.losses import Loss, reason_text
from exchange.load.requests import SessionRequests
from exchange.load.timeline import RunTimeline, Silence

NOT_SEEN: Final = "not seen from a client"
"""What stands for a digest of the books: a client knows its own orders only."""


class Measured(NamedTuple):
    """One run. All counts but ``measured`` include the warm-up; ``elapsed_ns`` is that of what was measured.

    ``latencies`` are of all requests, ``order_latencies`` of new orders alone. ``user_ns`` and ``system_ns`` are what
    this process took of a processor meanwhile, warm-up included, outside the kernel and in it. ``back_pressure`` is how
    often the line was full, and what it had to repeat. ``losses`` are lines that were lost and found again elsewhere,
    ``silence`` the longest time without an answer, ``timeline`` what happened when, and ``requests`` what became of
    each session's requests, if these are wanted.
    """

    counts: dict[str, int]
    measured: int
    elapsed_ns: int
    lateness_ns: int
    back_pressure: dict[str, int]
    latencies: Counts
    order_latencies: Counts
    user_ns: int
    system_ns: int
    losses: tuple[Loss, ...] = ()
    silence: Silence = Silence(0, 0)
    timeline: RunTimeline | None = None
    requests: tuple[SessionRequests, ...] = ()


def load_point(measured: Measured, rate: float, round_index: int) -> LoadPoint:
    """A run at a rate, as a point of a result."""
    latencies = measured.latencies
    has_gaps = measured.counts["unanswered"] + measured.counts["not sent"] > 0
    return LoadPoint(
        round_index=round_index,
        offered_per_second=rate,
        achieved_per_second=measured.measured / measured.elapsed_ns * 1e9,
        commands=measured.measured,
        elapsed_ns=measured.elapsed_ns,
        sample_count=int(latencies.sum()),
        histogram=encode(latencies) if latencies.any() else None,
        percentiles=latency_percentiles(latencies),
        back_pressure=measured.back_pressure,
        threads=(),
        behind=has_gaps or measured.lateness_ns > max(BEHIND_NS_MIN, BEHIND_FRACTION * measured.elapsed_ns),
        counts=measured.counts,
    )


def saturation_round(measured: Measured, round_index: int) -> SaturationRound:
    """A run in which as many requests were sent as were answered."""
    return SaturationRound(
        round_index=round_index,
        commands=measured.measured,
        events=measured.counts["answered"] + measured.counts["rejected"] + measured.counts["executions"],
        elapsed_ns=measured.elapsed_ns,
        commands_per_second=measured.measured / measured.elapsed_ns * 1e9,
        back_pressure=measured.back_pressure,
        threads=(),
        digest=NOT_SEEN,
        trades=measured.counts["executions"],
        rejects=measured.counts["rejected"],
        counts=measured.counts,
    )


def warnings_of(runs: Sequence[Measured]) -> tuple[str, ...]:
    """What a reader of the figures must know."""
    found = []
    for key, text in (
        ("unanswered", "requests had no answer in time"),
        ("not sent", "requests were due and could not be sent"),
    ):
        total = sum(one.counts[key] for one in runs)
        if total:
            found.append(f"{total:,} {text}.")
    found += [outage_text(one) for one in runs if one.losses]
    return tuple(found)


def outage_text(measured: Measured) -> str:
    """What lines were lost in a run, in a sentence or two."""
    losses, silence = measured.losses, measured.silence
    reasons = ", ".join(dict.fromkeys(reason_text(one.reason) for one in losses))
    places = ", ".join(dict.fromkeys(str(one.found) for one in losses))
    again, taken_back = sum(one.sent_again for one in losses), sum(one.taken_back for one in losses)
    text = (
        f"{len({one.session for one in losses})} sessions lost their line ({reasons}) and went on at {places}. "
        f"The longest time without an answer was {duration(silence.length_ns)}, beginning "
        f"{silence.begin_ns / 1e9:.3f} s into the run. {again:,} requests were sent again."
    )
    return text + (f" {taken_back:,} messages were TAKEN BACK." if taken_back else "")
