"""Two result files, before and after a change: what became faster, what slower, and what only looks so.

Two runs were not interleaved, so nothing that happened to the machine between them cancels; that is why they
must at least come from the same machine and play the same flow. :func:`compare_results` refuses anything else
in words, and lets through different machines only when told to, with a warning that stays in the result.

A profile is compared with the profile of the same name: its throughput at saturation, and its latency at the
lowest and at the highest load that it kept up with in both runs (the more figures one compares, the more of
them change by chance; a latency that grew with the length of the run is not a property of the profile). A
micro-benchmark's row with the row of the same name, variant and parameters. A digest that changed voids the
comparison: the work was not the same. Settings that changed do not (they may be the point), but they are
listed.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from exchange.bench.results import SCHEMA_VERSION, BenchResult, MicroResult, ProfileResult, read_result
from exchange.bench.statistics import RatioInterval, Spread, independent_ratio, spread
from exchange.bench.summary import (
    flatten,
    latency_at,
    offered_loads,
    percentile_ns,
    points_at,
    settings_changes,
)
from exchange.bench.wording import quantity, setting
from exchange.errors import UserError

COMPARED_PERCENTILES: Final = ("p50", "p99", "p99.9")


class MetricChange(msgspec.Struct, frozen=True):
    """One figure in both runs.

    ``ratio`` is after / before, ``better`` says which direction is an improvement, ``finding`` what the
    change is: "better", "worse", or "no clear change" if the interval includes 1 or there is no interval.
    """

    subject: str
    metric: str
    unit: str
    better: Literal["higher", "lower"]
    before: Spread
    after: Spread
    ratio: RatioInterval
    finding: Literal["better", "worse", "no clear change"]


class Comparison(msgspec.Struct, frozen=True):
    """All changes, and what has to be known to believe them."""

    before: str
    after: str
    changes: tuple[MetricChange, ...]
    warnings: tuple[str, ...]
    void: str | None
    schema_version: int = SCHEMA_VERSION


def compare_files(before: Path, after: Path, *, allow_different_hosts: bool = False) -> Comparison:
    """Compare two result files.

    Raises:
        UserError: as :func:`~exchange.bench.results.read_result` and :func:`compare_results`.
    """
    return compare_results(
        read_result(before),
        read_result(after),
        names=(str(before), str(after)),
        allow_different_hosts=allow_different_hosts,
    )


def compare_results(
    before: BenchResult,
    after: BenchResult,
    *,
    names: tuple[str, str] = ("before", "after"),
    allow_different_hosts: bool = False,
) -> Comparison:
    """Compare two results.

    Raises:
        UserError: they are of different kinds, of different flows, of different machines (unless allowed), or
            have nothing in common.
    """
    _refuse_different_work(before, after, names)
    warnings = [
        *_host_warnings(before, after, names, allow_different_hosts),
        *_membership(before, after, names),
    ]
    changes = [*_profile_changes(before, after), *_micro_changes(before, after)]
    if not changes:
        raise UserError(f"{names[0]} and {names[1]} have no measured profile or variant in common")
    warnings += _load_warnings(before, after)
    if any(change.ratio.low is None for change in changes):
        warnings.append("some figures have a single round: a change of one number may be chance")
    return Comparison(
        before=names[0],
        after=names[1],
        changes=tuple(changes),
        warnings=(*warnings, *_settings_warnings(before, after)),
        void=_void_reason(before, after, names),
    )


def host_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what differs between two hosts, of what their fingerprints are made of: "key one against
    other"."""
    from exchange.bench.host import FINGERPRINT_KEYS

    flat_before, flat_after = dict(flatten(before)), dict(flatten(after))
    return [
        f"{key} {setting(flat_before.get(key))} against {setting(flat_after.get(key))}"
        for key in flat_before | flat_after
        if key.partition(".")[0] in FINGERPRINT_KEYS and flat_before.get(key) != flat_after.get(key)
    ]


def _refuse_different_work(before: BenchResult, after: BenchResult, names: tuple[str, str]) -> None:
    if before.kind != after.kind:
        raise UserError(
            f"{names[0]} is a {before.kind!r} result and {names[1]} a {after.kind!r} result: they measured "
            "different things"
        )
    if before.flow is None or after.flow is None:
        if before.flow is not after.flow:
            raise UserError(
                f"only one of {names[0]} and {names[1]} played a flow: they measured different things"
            )
        return
    for field in ("name", "commands", "symbols", "seed"):
        one, other = getattr(before.flow, field), getattr(after.flow, field)
        if one != other:
            raise UserError(
                f"{names[0]} and {names[1]} played different flows: flow.{field} is {one} against {other}; a "
                "comparison needs the same work on both sides"
            )


def _host_warnings(
    before: BenchResult, after: BenchResult, names: tuple[str, str], allowed: bool
) -> Iterator[str]:
    one, other = before.host.get("fingerprint"), after.host.get("fingerprint")
    if one is not None and one == other:
        return
    if one is None or other is None:
        difference = "a file does not say what machine it is from (host.fingerprint is missing)"
    else:
        found = host_differences(before.host, after.host)
        difference = "; ".join(found) or "only their fingerprints differ"
    if not allowed:
        raise UserError(
            f"{names[0]} and {names[1]} were measured on different machines: {difference}. A ratio would "
            "compare the machines; --different-hosts compares them all the same"
        )
    yield f"different machines: {difference}. The ratios compare the machines too"


def _load_warnings(before: BenchResult, after: BenchResult) -> Iterator[str]:
    for old, new in _same_profiles(before, after):
        if old.load_points and new.load_points and not set(offered_loads(old)) & set(offered_loads(new)):
            yield (
                f"profile {old.name} was offered no load in both runs, so latencies are not compared; "
                "--rate offers the same loads in every run"
            )


def _membership(before: BenchResult, after: BenchResult, names: tuple[str, str]) -> Iterator[str]:
    ours, theirs = _subjects(before), _subjects(after)
    for name, subjects, others in ((names[0], ours, theirs), (names[1], theirs, ours)):
        alone = [subject for subject in subjects if subject not in others]
        if alone:
            yield f"only in {name}: {', '.join(alone)}"


def _subjects(result: BenchResult) -> list[str]:
    profiles = [
        profile.name for profile in result.profiles if profile.saturation_rounds or profile.load_points
    ]
    return [*profiles, *(f"{row.variant}, {_micro_metric(row)}" for row in result.micro if row.values)]


def _profile_changes(before: BenchResult, after: BenchResult) -> Iterator[MetricChange]:
    for old, new in _same_profiles(before, after):
        rates_before = [one.commands_per_second for one in old.saturation_rounds]
        rates_after = [one.commands_per_second for one in new.saturation_rounds]
        yield from _change(
            old.name, "saturation throughput", "commands/s", "higher", rates_before, rates_after
        )
        kept_up = [load for load in offered_loads(old) if _kept_up(old, load) and _kept_up(new, load)]
        for load in dict.fromkeys([*kept_up[:1], *kept_up[-1:]]):
            yield from _latency_changes(old, new, load)


def _kept_up(profile: ProfileResult, load: float) -> bool:
    points = points_at(profile, load)
    return bool(points) and not any(point.behind for point in points)


def _latency_changes(old: ProfileResult, new: ProfileResult, load: float) -> Iterator[MetricChange]:
    summary_before, summary_after = latency_at(old, load), latency_at(new, load)
    if summary_before is None or summary_after is None:
        return
    for name in COMPARED_PERCENTILES:
        if summary_before.percentiles_ns[name] is None or summary_after.percentiles_ns[name] is None:
            continue
        values_before, values_after = _latencies(old, load, name), _latencies(new, load, name)
        yield from _change(
            old.name, f"{name} at {quantity(load)}/s", "ns", "lower", values_before, values_after
        )


def _latencies(profile: ProfileResult, load: float, name: str) -> list[float]:
    found = [point.percentiles for point in points_at(profile, load)]
    return [float(percentile_ns(one, name)) for one in found if one is not None]


def _micro_changes(before: BenchResult, after: BenchResult) -> Iterator[MetricChange]:
    newer = {(row.variant, _micro_metric(row)): row for row in after.micro}
    for old in before.micro:
        new = newer.get((old.variant, _micro_metric(old)))
        if new is not None:
            values_before, values_after = list(old.values), list(new.values)
            yield from _change(
                old.variant, _micro_metric(old), old.unit, old.better, values_before, values_after
            )


def _micro_metric(row: MicroResult) -> str:
    extra = ", ".join(
        f"{key.replace('_', ' ')} {setting(value)}" for key, value in sorted(row.parameters.items())
    )
    return f"{row.name} ({extra})" if extra else row.name


def _change(
    subject: str,
    metric: str,
    unit: str,
    better: Literal["higher", "lower"],
    before: list[float],
    after: list[float],
) -> Iterator[MetricChange]:
    """Yield the change, or nothing if a side was not measured."""
    ratio = independent_ratio(before, after) if before and after else None
    if ratio is None:
        return
    finding: Literal["better", "worse", "no clear change"] = "no clear change"
    if ratio.differs:
        finding = "better" if (ratio.ratio > 1) == (better == "higher") else "worse"
    yield MetricChange(subject, metric, unit, better, spread(before), spread(after), ratio, finding)


def _settings_warnings(before: BenchResult, after: BenchResult) -> Iterator[str]:
    for old, new in _same_profiles(before, after):
        changes = [
            f"{change.key}: {setting(change.before)} → {setting(change.after)}"
            for change in settings_changes(old.settings, new.settings)
        ]
        if changes:
            yield f"profile {old.name} was changed: {', '.join(changes)}"


def _same_profiles(before: BenchResult, after: BenchResult) -> Iterator[tuple[ProfileResult, ProfileResult]]:
    newer = {profile.name: profile for profile in after.profiles}
    for old in before.profiles:
        if old.name in newer:
            yield old, newer[old.name]


def _void_reason(before: BenchResult, after: BenchResult, names: tuple[str, str]) -> str | None:
    for name, result in zip(names, (before, after), strict=True):
        if result.comparison_void is not None:
            return f"{name} is itself void: {result.comparison_void}"
    for old, new in _same_profiles(before, after):
        if old.digest is not None and new.digest is not None and old.digest != new.digest:
            return (
                f"profile {old.name} ended with digest {old.digest} in {names[0]} but {new.digest} in "
                f"{names[1]}: the same flow no longer leads to the same books"
            )
    return None
