"""The derived figures of a result: what the terminal and the HTML report both show, computed once.

Everything here is a pure function of a :class:`~exchange.bench.results.BenchResult`. Rounds become medians
with their spread, profiles become ratios, and where a figure cannot be had (a profile was skipped, a counter
is unknown, too few samples lie beyond a percentile) the answer is ``None``, which the presenters put into
words.

A void comparison has no ratios: they are ``None`` here, so that no presenter can show one by mistake.

The *first* profile is the first in the list that ran; the *previous* of a profile is the nearest before it
that ran.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from exchange.bench.results import (
    BenchResult,
    LatencyPercentiles,
    LoadPoint,
    MicroResult,
    ProfileResult,
    SaturationRound,
    ThreadCounters,
)
from exchange.bench.statistics import RatioInterval, Spread, paired_ratio, spread

FEWEST_SAMPLES_BEYOND: Final = 10
"""A percentile is shown only if this many samples lie beyond it; with fewer it is the story of one hiccup."""

PERCENTILES: Final = (("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99))
"""The percentiles of a result file by their names, in per cent. The maximum is beside them, under "max"."""


type DigestState = Literal["equal", "different", "none"]
"""Whether a profile ended as the first one did; "none" if it did not run."""


class SettingChange(NamedTuple):
    """One resolved setting that differs; ``None`` where a side does not have the key."""

    key: str
    before: Any
    after: Any


class ProfileSummary(NamedTuple):
    """One profile beside the others. Ratios are ``None`` for the first, and for one that was skipped."""

    profile: ProfileResult
    throughput: Spread | None
    to_first: RatioInterval | None
    to_previous: RatioInterval | None
    previous: str | None
    changes: tuple[SettingChange, ...]


class CommonLoad(NamedTuple):
    """The offered load at which profiles are set side by side, and which of them fell behind there."""

    offered_per_second: float
    measured: tuple[str, ...]
    behind: tuple[str, ...]


class LatencySummary(NamedTuple):
    """One profile at one offered load. ``None`` marks a percentile with too few samples beyond it."""

    offered_per_second: float
    achieved_per_second: Spread
    percentiles_ns: dict[str, Spread | None]
    rounds: int
    rounds_behind: int
    sample_count: int
    back_pressure: dict[str, float]


class ThreadSummary(NamedTuple):
    """One thread, medians over rounds. ``None`` marks a counter that this machine does not give."""

    name: str
    agents: tuple[str, ...]
    core: int | None
    voluntary_switches: float | None
    involuntary_switches: float | None
    migrations: float | None
    waiting_ns: float | None


class MicroRow(NamedTuple):
    """One variant of a micro-benchmark. Ratios are speed-ups: more than 1 is better, whatever the unit."""

    result: MicroResult
    values: Spread | None
    to_first: RatioInterval | None
    to_previous: RatioInterval | None


class MicroGroup(NamedTuple):
    """Variants that were measured in the same way, the first being the baseline."""

    name: str
    parameters: dict[str, str | int | float | bool]
    rows: tuple[MicroRow, ...]


class MicroPoint(NamedTuple):
    """One point of a curve: where it stands on the axis, and its rounds."""

    position: float
    row: MicroResult
    values: Spread


class MicroCurve(NamedTuple):
    """One variant along an axis; ``change`` is the last value over the first, ``None`` for a single point."""

    variant: str
    points: tuple[MicroPoint, ...]
    change: RatioInterval | None


class MicroFamily(NamedTuple):
    """Curves over one axis that were measured in the same way; ``parameters`` are the others that they share."""

    name: str
    axis: str
    parameters: dict[str, str | int | float | bool]
    unit: str
    better: Literal["higher", "lower"]
    positions: tuple[float, ...]
    curves: tuple[MicroCurve, ...]


def summarize_profiles(result: BenchResult) -> list[ProfileSummary]:
    """Return one summary for each profile, in the order of the run."""
    summaries: list[ProfileSummary] = []
    ran: list[ProfileResult] = []
    comparable = result.comparison_void is None
    for profile in result.profiles:
        rates = _rates(profile)
        previous = ran[-1] if ran else None
        summaries.append(
            ProfileSummary(
                profile=profile,
                throughput=spread(list(rates.values())) if rates else None,
                to_first=paired_ratio(_rates(ran[0]), rates) if ran and comparable else None,
                to_previous=paired_ratio(_rates(ran[-1]), rates) if ran and comparable else None,
                previous=previous.name if previous else None,
                changes=tuple(settings_changes(previous.settings, profile.settings)) if previous else (),
            )
        )
        if rates:
            ran.append(profile)
    return summaries


def indistinguishable(result: BenchResult, name: str) -> list[str]:
    """Return the profiles whose throughput these rounds cannot tell from that of profile ``name``.

    With a single round nothing can be told from anything, and the list is empty: there is no interval to
    judge by.
    """
    rates = {profile.name: _rates(profile) for profile in result.profiles if profile.saturation_rounds}
    ratios = {other: paired_ratio(rates[other], rates[name]) for other in rates if other != name}
    return [other for other, ratio in ratios.items() if ratio and ratio.low is not None and not ratio.differs]


def digest_states(result: BenchResult) -> dict[str, DigestState]:
    """Return for each profile whether its final books equal those of the first profile that ran."""
    ran = [profile for profile in result.profiles if profile.saturation_rounds]
    reference = ran[0].saturation_rounds[0].digest if ran else None
    states: dict[str, DigestState] = {profile.name: "none" for profile in result.profiles}
    for profile in ran:
        equal = all(one.digest == reference for one in profile.saturation_rounds)
        states[profile.name] = "equal" if equal else "different"
    return states


def settings_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[SettingChange]:
    """Yield every setting that differs, under its dotted key, in alphabetical order.

    A profile's name and description are not settings: they change nothing that is measured.
    """
    flat_before, flat_after = (
        {key: value for key, value in flatten(side) if key not in ("name", "description")}
        for side in (before, after)
    )
    for key in sorted(flat_before.keys() | flat_after.keys()):
        if flat_before.get(key) != flat_after.get(key):
            yield SettingChange(key, flat_before.get(key), flat_after.get(key))


def flatten(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested tables under dotted keys."""
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def offered_loads(profile: ProfileResult) -> list[float]:
    """Return the loads that were offered to a profile, ascending."""
    return sorted({point.offered_per_second for point in profile.load_points})


def common_load(result: BenchResult) -> CommonLoad | None:
    """Choose the load for side-by-side latencies: where most profiles were measured and fewest fell behind.

    Among equals it is the highest load, because an idle machine tells little. ``None`` if no profile has
    latencies.
    """
    profiles = [profile for profile in result.profiles if profile.load_points]
    loads = {load for profile in profiles for load in offered_loads(profile)}
    candidates = [_common_load_at(profiles, load) for load in loads]
    if not candidates:
        return None
    return max(candidates, key=lambda one: (len(one.measured), -len(one.behind), one.offered_per_second))


def latency_at(profile: ProfileResult, offered_per_second: float) -> LatencySummary | None:
    """Return the latencies of a profile at one offered load; ``None`` if it was not measured there."""
    points = points_at(profile, offered_per_second)
    if not points:
        return None
    percentiles: dict[str, Spread | None] = {
        name: _percentile_spread(points, name, percent) for name, percent in PERCENTILES
    }
    answered = [point.percentiles.max_ns for point in points if point.percentiles is not None]
    percentiles["max"] = spread(answered) if answered else None
    return LatencySummary(
        offered_per_second=offered_per_second,
        achieved_per_second=spread([point.achieved_per_second for point in points]),
        percentiles_ns=percentiles,
        rounds=len(points),
        rounds_behind=sum(point.behind for point in points),
        sample_count=sum(point.sample_count for point in points),
        back_pressure=median_back_pressure(points),
    )


def points_at(profile: ProfileResult, offered_per_second: float) -> list[LoadPoint]:
    """Return the rounds of a profile at one offered load."""
    return [point for point in profile.load_points if point.offered_per_second == offered_per_second]


def percentile_ns(percentiles: LatencyPercentiles, name: str) -> int:
    """Return one percentile by its name in ``PERCENTILES``, or "max"."""
    value: int = getattr(percentiles, f"{name.replace('.', '_')}_ns")
    return value


def median_back_pressure(rounds: Sequence[SaturationRound] | Sequence[LoadPoint]) -> dict[str, float]:
    """Return for each queue how often it was found full for each 1,000 commands, the median over rounds.

    Counting by commands makes rounds of different length comparable.
    """
    names = dict.fromkeys(name for one in rounds for name in one.back_pressure)
    return {
        name: spread([1000 * one.back_pressure.get(name, 0) / max(one.commands, 1) for one in rounds]).median
        for name in names
    }


def summarize_threads(rounds: Sequence[SaturationRound] | Sequence[LoadPoint]) -> list[ThreadSummary]:
    """Return the threads of a profile in the order of their first appearance."""
    by_name: dict[str, list[ThreadCounters]] = {}
    for one in rounds:
        for thread in one.threads:
            by_name.setdefault(thread.name, []).append(thread)
    return [
        ThreadSummary(
            name=name,
            agents=seen[0].agents,
            core=seen[0].core,
            voluntary_switches=_median_counter(seen, lambda thread: thread.voluntary_switches),
            involuntary_switches=_median_counter(seen, lambda thread: thread.involuntary_switches),
            migrations=_median_counter(seen, lambda thread: thread.migrations),
            waiting_ns=_median_counter(seen, lambda thread: thread.waiting_ns),
        )
        for name, seen in by_name.items()
    ]


def total_switches(threads: Sequence[ThreadSummary]) -> tuple[float | None, float | None]:
    """Return voluntary and involuntary switches of all threads together; ``None`` if one is unknown."""
    voluntary = [thread.voluntary_switches for thread in threads]
    involuntary = [thread.involuntary_switches for thread in threads]
    return _sum_if_known(voluntary), _sum_if_known(involuntary)


def micro_groups(result: BenchResult) -> list[MicroGroup]:
    """Return the micro-benchmark's rows without those of :func:`micro_families`, grouped by what they share."""
    groups: dict[tuple[str, str], list[MicroResult]] = {}
    for row in result.micro:
        if _position(row) is None:
            groups.setdefault((row.name, repr(sorted(row.parameters.items()))), []).append(row)
    comparable = result.comparison_void is None
    return [
        MicroGroup(rows[0].name, rows[0].parameters, _micro_rows(rows, comparable))
        for rows in groups.values()
    ]


def micro_families(result: BenchResult) -> list[MicroFamily]:
    """Return the rows that declare an axis: for each name and each set of other parameters the variants' curves.

    A row without values is no point and stays with the groups, where its reason is told. A ratio along a curve pairs
    rounds, as one between variants does.
    """
    families: dict[tuple[str, str, str], list[MicroPoint]] = {}
    for row in result.micro:
        position = _position(row)
        if position is not None:
            key = (row.name, str(row.axis), repr(sorted(_other_parameters(row).items())))
            families.setdefault(key, []).append(MicroPoint(position, row, spread(row.values)))
    return [_family(points) for points in families.values()]


def _position(row: MicroResult) -> float | None:
    """Where a row stands on its axis; ``None`` if it declares none, or there is nothing that could be drawn."""
    value = row.parameters.get(row.axis) if row.axis is not None else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not row.values:
        return None
    return float(value) if value > 0 else None


def _other_parameters(row: MicroResult) -> dict[str, str | int | float | bool]:
    return {key: value for key, value in row.parameters.items() if key != row.axis}


def _family(points: Sequence[MicroPoint]) -> MicroFamily:
    first = points[0].row
    variants = dict.fromkeys(point.row.variant for point in points)
    return MicroFamily(
        name=first.name,
        axis=str(first.axis),
        parameters=_other_parameters(first),
        unit=first.unit,
        better=first.better,
        positions=tuple(sorted({point.position for point in points})),
        curves=tuple(
            _curve(
                sorted((point for point in points if point.row.variant == one), key=lambda it: it.position)
            )
            for one in variants
        ),
    )


def _curve(points: Sequence[MicroPoint]) -> MicroCurve:
    first, last = (dict(enumerate(point.row.values)) for point in (points[0], points[-1]))
    change = paired_ratio(first, last) if len(points) > 1 else None
    return MicroCurve(points[0].row.variant, tuple(points), change)


def _rates(profile: ProfileResult) -> dict[int, float]:
    return {one.round_index: one.commands_per_second for one in profile.saturation_rounds}


def _common_load_at(profiles: Sequence[ProfileResult], load: float) -> CommonLoad:
    measured = [(profile.name, points_at(profile, load)) for profile in profiles]
    return CommonLoad(
        offered_per_second=load,
        measured=tuple(name for name, points in measured if points),
        behind=tuple(name for name, points in measured if any(point.behind for point in points)),
    )


def _percentile_spread(points: Sequence[LoadPoint], name: str, percent: float) -> Spread | None:
    values = [
        percentile_ns(point.percentiles, name)
        for point in points
        if point.percentiles is not None
        and point.sample_count * (100.0 - percent) / 100.0 >= FEWEST_SAMPLES_BEYOND
    ]
    return spread(values) if values else None


def _median_counter(
    seen: Sequence[ThreadCounters], counter: Callable[[ThreadCounters], int | None]
) -> float | None:
    values = [counter(thread) for thread in seen]
    known = [value for value in values if value is not None]
    return spread(known).median if known else None


def _sum_if_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None


def _micro_rows(results: Sequence[MicroResult], comparable: bool) -> tuple[MicroRow, ...]:
    rows: list[MicroRow] = []
    ran: list[MicroResult] = []
    for result in results:
        rows.append(
            MicroRow(
                result=result,
                values=spread(result.values) if result.values else None,
                to_first=_speed_up(ran[0], result) if ran and comparable else None,
                to_previous=_speed_up(ran[-1], result) if ran and comparable else None,
            )
        )
        if result.values:
            ran.append(result)
    return tuple(rows)


def _speed_up(baseline: MicroResult, candidate: MicroResult) -> RatioInterval | None:
    before, after = dict(enumerate(baseline.values)), dict(enumerate(candidate.values))
    return paired_ratio(before, after) if candidate.better == "higher" else paired_ratio(after, before)
