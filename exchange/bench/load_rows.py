"""The lines of a load's tables, as text: what was offered and how fast it was answered, and what became of requests.

A load over the network has one subject and many loads, where ``exchange bench`` has many profiles side by side at one
load, so its tables are turned round: a line for each load. The terminal and the HTML report show the same lines."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from exchange.bench.results import BenchResult, LoadPoint, ProfileResult, SaturationRound
from exchange.bench.statistics import spread
from exchange.bench.summary import latency_at, offered_loads, points_at
from exchange.bench.wording import duration, quantity, rate

SHOWN_PERCENTILES: Final = ("p50", "p90", "p99", "p99.9", "max")
COUNTS: Final = ("sent", "answered", "rejected", "lapsed", "unanswered", "executions")
SPEED_HEADINGS: Final = ("offered/s", "reached/s", *SHOWN_PERCENTILES, "kept up")
COUNT_HEADINGS: Final = ("offered/s", *COUNTS, "line was full", "sent again")

COUNTS_NOTE: Final = (
    "Warm-up included. Lapsed: the order that the request named was filled before, and OUCH says nothing about a "
    "request that comes too late. Line was full: sends that did not fit into the socket, or over UDP into the "
    "window. Sent again: requests over UDP of which it was not known in time that they had arrived."
)


class LoadRow(NamedTuple):
    """A line of each table, for one offered load."""

    speed: tuple[str, ...]
    counts: tuple[str, ...]


def load_rows(result: BenchResult) -> list[LoadRow]:
    """Return a line for each load of a result of ``exchange load``, the unbounded one last."""
    rows = [_load_row(profile, load) for profile in result.profiles for load in offered_loads(profile)]
    return rows + [_saturation_row(one) for one in result.profiles if one.saturation_rounds]


def load_verdict(result: BenchResult) -> list[str]:
    """Return what was found, as sentences."""
    findings = []
    for profile in result.profiles:
        if profile.saturation_rounds:
            median = spread([one.commands_per_second for one in profile.saturation_rounds]).median
            findings.append(f"{profile.name} answers {rate(median, 'requests')} at most.")
        for load in offered_loads(profile):
            summary = latency_at(profile, load)
            if summary is None:
                continue
            sentence = f"At {rate(load, 'requests')} offered, "
            half, tail = summary.percentiles_ns["p50"], summary.percentiles_ns["p99"]
            if summary.rounds_behind:
                findings.append(sentence + "it fell behind: latencies are those of the queue before it.")
            elif half is not None:
                sentence += f"half of the answers come within {duration(half.median)}"
                findings.append(sentence + (f", 99 % within {duration(tail.median)}." if tail else "."))
    return findings or ["Nothing was measured."]


def _load_row(profile: ProfileResult, load: float) -> LoadRow:
    summary, points = latency_at(profile, load), points_at(profile, load)
    assert summary is not None, "a load that was offered was measured"
    values = (summary.percentiles_ns[name] for name in SHOWN_PERCENTILES)
    latencies = ("too few" if value is None else duration(value.median) for value in values)
    kept_up = "yes" if summary.rounds_behind == 0 else f"NO, {summary.rounds_behind} of {summary.rounds}"
    reached = quantity(summary.achieved_per_second.median)
    return LoadRow((quantity(load), reached, *latencies, kept_up), (quantity(load), *_counts(points)))


def _saturation_row(profile: ProfileResult) -> LoadRow:
    rounds = profile.saturation_rounds
    reached = quantity(spread([one.commands_per_second for one in rounds]).median)
    blank = ("–",) * (len(SHOWN_PERCENTILES) + 1)
    return LoadRow(("max", reached, *blank), ("max", *_counts(rounds)))


def _counts(rounds: Sequence[LoadPoint] | Sequence[SaturationRound]) -> tuple[str, ...]:
    """What became of the requests of all rounds together."""
    totals = [sum(one.counts.get(name, 0) for one in rounds) for name in COUNTS]
    totals.append(sum(one.back_pressure.get("line", 0) for one in rounds))
    again = sum(one.back_pressure.get("sent again", 0) for one in rounds)
    has_again = any("sent again" in one.back_pressure for one in rounds)
    return (*(f"{total:,}" for total in totals), f"{again:,}" if has_again else "–")
