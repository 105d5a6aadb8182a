"""How figures and findings are put into words, the same on the terminal and in the HTML report.

Figures keep three significant digits: more would be noise, and fewer would hide a 5 % difference. A missing
figure is never a blank or a zero, but the reason for its absence.

A verdict claims only what the rounds carry: a ratio whose interval includes 1 is called no difference that
these rounds can show, and ratios of a void comparison are not told at all.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from exchange.bench.results import BenchResult
from exchange.bench.statistics import RatioInterval, Spread
from exchange.bench.summary import (
    CommonLoad,
    LatencySummary,
    MicroCurve,
    MicroFamily,
    MicroGroup,
    MicroRow,
    ProfileSummary,
    common_load,
    indistinguishable,
    latency_at,
    micro_families,
    micro_groups,
    summarize_profiles,
)

TREND_FLAT: Final = 2
"""A curve whose ends differ by less than this factor is called flat."""

_TIME_UNITS: Final = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"))
_RATE_UNITS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def three_digits(value: float) -> str:
    """Return a number with three significant digits and no exponent: 0.0123, 1.23, 12.3, 123, 12,300."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    digits = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(digits, 0)}f}"


def duration(nanoseconds: float) -> str:
    """Return a time in the unit that suits it: 850 ns, 1.23 µs, 12.3 ms."""
    for scale, unit in _TIME_UNITS:
        if nanoseconds >= 0.9995 * scale:
            return f"{three_digits(nanoseconds / scale)} {unit}"
    return f"{three_digits(nanoseconds)} ns"


def round_duration(nanoseconds: float) -> str:
    """Return a time for an axis, without the zeros that say how exact it is: 10 µs."""
    number, unit = duration(nanoseconds).split()
    return f"{_trimmed(number)} {unit}"


def quantity(number: float) -> str:
    """Return a rate or a count with a decimal prefix: 850, 50 k, 12.3 M."""
    for scale, prefix in _RATE_UNITS:
        if number >= 0.9995 * scale:
            return f"{_trimmed(three_digits(number / scale))} {prefix}"
    return _trimmed(three_digits(number))


def rate(per_second: float, noun: str = "commands") -> str:
    """Return "12.3 M commands/s"."""
    return f"{quantity(per_second)} {noun}/s"


def ratio(value: RatioInterval) -> str:
    """Return the ratio alone: "× 12.3"."""
    return f"× {three_digits(value.ratio)}"


def interval(value: RatioInterval) -> str:
    """Return the interval alone, "11.9 – 12.8", or that one round has none."""
    if value.low is None or value.high is None:
        return "one round: no interval"
    return f"{three_digits(value.low)} – {three_digits(value.high)}"


def value_range(value: Spread, scale: float = 1.0) -> str:
    """Return smallest and largest round, "11.9 – 12.8", in units of ``scale``."""
    return f"{three_digits(value.minimum / scale)} – {three_digits(value.maximum / scale)}"


def interval_note(ratios: Sequence[RatioInterval | None], *, interleaved: bool = True) -> str:
    """Return the sentence that says what the brackets mean, for the rounds there were."""
    known = [one for one in ratios if one is not None]
    if not known:
        return ""
    if all(one.low is None for one in known):
        return "One round: there is no interval, and a ratio may be chance. Use --rounds 5 or more."
    percents = sorted({round(100 * one.confidence) for one in known if one.low is not None})
    rounds = sorted({one.rounds for one in known if one.low is not None})
    return (
        f"Intervals hold the true ratio with a probability of {_either(percents)} % "
        f"({_either(rounds)} {'interleaved ' if interleaved else ''}rounds)."
    )


def technique(summary: ProfileSummary) -> str:
    """Return what a profile changes: the first sentence of its description, else its changed settings."""
    first, _, _ = summary.profile.description.partition(". ")
    if first:
        return first.rstrip(".")
    if summary.changes:
        return "; ".join(
            f"{one.key}: {setting(one.before)} → {setting(one.after)}" for one in summary.changes
        )
    return "the baseline" if summary.previous is None else f"the same settings as {summary.previous}"


def setting(value: Any) -> str:
    """Return a resolved setting as TOML would show it."""
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(f'"{one}"' if isinstance(one, str) else setting(one) for one in value) + "]"
    return str(value)


def short_digest(digest: str | None) -> str:
    """Return the first eight digits of a digest: enough to see that two are equal. Words stay as they are."""
    return "none" if digest is None else digest[:8] if digest.isalnum() else digest


def not_measured(result: BenchResult, field: str) -> str:
    """Return why a figure is missing, as far as the result or its host description say."""
    reasons = {**result.host.get("not_measured", {}), **result.not_measured}
    return f"not measured on this machine: {reasons[field]}" if field in reasons else "not measured"


def binary_size(size_bytes: int) -> str:
    """Return a size of memory: 32 KiB, 23.5 GiB."""
    for scale, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size_bytes >= scale:
            return f"{_trimmed(three_digits(size_bytes / scale))} {unit}"
    return f"{size_bytes} bytes"


def common_load_note(load: CommonLoad) -> str:
    """Return the sentence that says at which load profiles are set side by side, and what to mind there."""
    sharing = f"{len(load.measured)} profiles share" if len(load.measured) > 1 else "the profile has"
    note = f"Side by side at {rate(load.offered_per_second)} offered, the highest load that {sharing}"
    if not load.behind:
        return note + ", all of them keeping up."
    return (
        f"{note}. {_listed(load.behind)} fell behind there: that latency grows for as long as the run lasts."
    )


def verdict(result: BenchResult) -> list[str]:
    """Return the findings of a run as sentences, the most important first."""
    if result.comparison_void is not None:
        return [
            f"The comparison is void: {result.comparison_void}.",
            "The figures below are there to find the fault with, not to compare.",
        ]
    if result.profiles:
        return _profile_verdict(result)
    if result.kind == "core":
        return _core_verdict(micro_groups(result)) or ["Nothing was measured."]
    if result.findings:
        return list(result.findings)
    findings = [*_family_verdict(micro_families(result)), *_micro_verdict(micro_groups(result))]
    return findings or ["Nothing to compare: no group has two variants that ran."]


def _profile_verdict(result: BenchResult) -> list[str]:
    summaries = summarize_profiles(result)
    ran = [one for one in summaries if one.throughput is not None]
    skipped = [one.profile for one in summaries if one.profile.skipped is not None]
    findings = [f"{one.name} was not run: {one.skipped}." for one in skipped]
    if not ran:
        return ["No profile was run to saturation.", *findings]
    best = max(ran, key=_median_rate)
    sentence = f"{best.profile.name} is the fastest: {rate(_median_rate(best))} at saturation"
    if best.to_first is not None:
        sentence += f", {three_digits(best.to_first.ratio)} times {ran[0].profile.name}"
        sentence += f" (interval {interval(best.to_first)})" if best.to_first.low is not None else ""
    level = indistinguishable(result, best.profile.name)
    if level:
        sentence += f"; these rounds cannot tell it from {_listed(level)}"
    return [sentence + ".", *_step_findings(ran), *_latency_findings(result, ran, best), *findings]


def _median_rate(summary: ProfileSummary) -> float:
    return summary.throughput.median if summary.throughput is not None else 0.0


def _step_findings(ran: Sequence[ProfileSummary]) -> list[str]:
    steps = [(one, one.to_previous) for one in ran if one.to_previous is not None]
    findings = []
    gains = [(one, step) for one, step in steps if step.differs and step.ratio > 1]
    if gains and len(steps) > 1:
        one, step = max(gains, key=lambda gain: gain[1].ratio)
        name = f"{one.previous} → {one.profile.name}"
        findings.append(f"The largest single step is {name}: {ratio(step)} ({interval(step)}).")
    losses = [
        f"{one.previous} → {one.profile.name} ({ratio(step)})"
        for one, step in steps
        if step.differs and step.ratio < 1
    ]
    if losses:
        findings.append(f"Slower than the profile before it: {_listed(losses)}.")
    level = [
        f"{one.previous} → {one.profile.name} ({interval(step)})"
        for one, step in steps
        if step.low is not None and not step.differs
    ]
    if level:
        findings.append(
            f"No difference that these rounds can show: {_listed(level)}; the interval includes 1."
        )
    return findings


def _latency_findings(result: BenchResult, ran: Sequence[ProfileSummary], best: ProfileSummary) -> list[str]:
    load = common_load(result)
    if load is None or best.profile.name not in load.measured:
        return []
    fastest = latency_at(best.profile, load.offered_per_second)
    first = latency_at(ran[0].profile, load.offered_per_second)
    if fastest is None:
        return []
    sentence = f"At {rate(load.offered_per_second)} offered, {best.profile.name} {_median_and_tail(fastest)}"
    if first is not None and best is not ran[0]:
        sentence += f"; {ran[0].profile.name} {_median_and_tail(first)}"
    return [sentence + "."]


def _median_and_tail(summary: LatencySummary) -> str:
    if summary.rounds_behind:
        return f"fell behind in {summary.rounds_behind} of {summary.rounds} rounds"
    half, tail = summary.percentiles_ns["p50"], summary.percentiles_ns["p99"]
    if half is None:
        return "answered too few commands to say how fast"
    words = f"answers half of the commands within {duration(half.median)}"
    return words if tail is None else f"{words} and 99 % within {duration(tail.median)}"


def _core_verdict(groups: Sequence[MicroGroup]) -> list[str]:
    """The book's own rows; the null book beside it is what nothing can be faster than."""
    findings = []
    for group in groups:
        values = {row.result.variant: micro_value(row, row.values.median) for row in group.rows if row.values}
        if group.rows[0].result.unit != "ns" and "ladder" in values:
            with_hand_off = values.get("ladder, hand-off", "not measured on this machine")
            findings.append(
                f"{micro_title(group)}: ladder {values['ladder']}; with the hand-off {with_hand_off}."
            )
    return findings


def _micro_verdict(groups: Sequence[MicroGroup]) -> list[str]:
    findings = []
    for group in groups:
        measured = [row for row in group.rows if row.to_first is not None]
        baseline = next((row for row in group.rows if row.values is not None), None)
        if not measured or baseline is None:
            continue
        best = max(measured, key=lambda row: row.to_first.ratio if row.to_first else 0.0)
        if best.to_first is None or best.values is None:
            continue
        findings.append(
            f"{micro_title(group)}: {best.result.variant} reaches {micro_value(best, best.values.median)}, a "
            f"speed-up of {three_digits(best.to_first.ratio)} over {baseline.result.variant} "
            f"({interval(best.to_first)})."
        )
    return findings


def _family_verdict(families: Sequence[MicroFamily]) -> list[str]:
    """What the size does to a cost. Rates say the same as the times beside them, and are left to the table."""
    findings = []
    for family in families:
        curves = [curve for curve in family.curves if curve.change is not None]
        if family.better == "lower" and curves:
            title = family_title(family)
            findings.append(f"{title}: " + "; ".join(_curve_finding(family, curve) for curve in curves) + ".")
    return findings


def _curve_finding(family: MicroFamily, curve: MicroCurve) -> str:
    if curve.change is None:
        return curve.variant
    first, last = curve.points[0], curve.points[-1]
    return (
        f"{curve.variant} {trend(curve)}, {ratio(curve.change)} from {quantity(first.position)} to "
        f"{quantity(last.position)} {family.axis.replace('_', ' ')}"
    )


def trend(curve: MicroCurve) -> str:
    """Return in two words what a curve does from its first point to its last.

    A value that does not depend on the axis changes by the factor 1, one in proportion to it by the factor by which
    the axis grew. It "grows" if it is nearer to the second, that is, beyond the square root of that factor. It "is
    flat" if it changes by less than 2. Between the two it "rises": what no longer fits a cache costs some factor, but
    it costs it once. The factor itself stands beside the word.
    """
    if curve.change is None:
        return "has one point"
    change, limit = curve.change.ratio, math.sqrt(curve.points[-1].position / curve.points[0].position)
    if change >= limit:
        return "grows"
    if change > TREND_FLAT:
        return "rises"
    return "falls" if change < 1 / TREND_FLAT else "is flat"


def trend_note(family: MicroFamily) -> str:
    """Return the sentence that says how to read the last line of a family's table."""
    factor = quantity(family.positions[-1] / family.positions[0])
    note = f"A value in proportion to {family.axis.replace('_', ' ')} would change by × {factor} over the whole axis"
    if family.better == "lower":
        note += "; if it is the cost of one event, that is quadratic in all"
    return (
        f"{note}. Less than × {TREND_FLAT} is called flat; beyond the square root of the proportion it grows; between "
        "the two it rises, as it does when the memory in use no longer fits a cache."
    )


def family_title(family: MicroFamily) -> str:
    """Return the name of a family with what its curves have in common, as :func:`micro_title` does."""
    return _title(family.name, family.parameters)


def micro_value(row: MicroRow, value: float) -> str:
    """Return one value of a micro-benchmark with its unit: "61.2 M records/s", "1.23 µs"."""
    return value_of_unit(value, row.result.unit)


def value_of_unit(value: float, unit: str) -> str:
    """Return a value with its unit: "61.2 M records/s", "1.23 µs"."""
    return duration(value) if unit == "ns" else f"{quantity(value)} {unit}"


def micro_range(row: MicroRow, values: Spread) -> str:
    """Return smallest and largest round in the prefix of the median, which stands beside it with its unit."""
    return range_of_unit(values, row.result.unit)


def range_of_unit(values: Spread, unit: str) -> str:
    """Return smallest and largest round in the prefix in which :func:`value_of_unit` shows the median."""
    units = _TIME_UNITS if unit == "ns" else _RATE_UNITS
    scale = next((scale for scale, _ in units if values.median >= 0.9995 * scale), 1.0)
    return value_range(values, scale)


def micro_title(group: MicroGroup) -> str:
    """Return the name of a group with what its variants have in common: "push (batch 32, cores 0 and 1)"."""
    return _title(group.name, group.parameters)


def _title(name: str, parameters: Mapping[str, Any]) -> str:
    if not parameters:
        return name
    shared = (f"{key.replace('_', ' ')} {setting(value)}" for key, value in parameters.items())
    return f"{name} ({', '.join(shared)})"


def _trimmed(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


def _either(values: Sequence[int]) -> str:
    return " or ".join(str(value) for value in values)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
