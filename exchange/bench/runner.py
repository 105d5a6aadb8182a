"""The benchmark of profiles: the same flow through each of them, in turns, at saturation and at offered
loads.

A run has three parts:

1. *Rehearsal.* Every profile plays the flow once, unmeasured: this compiles it, and shows roughly how fast it
   is.
2. *Saturation rounds.* In each round every profile plays the whole flow with nothing held back, again and
   again until it has been busy for a while, so that a fast profile is not judged by a few milliseconds. Every
   pass starts from empty books and must end with the same digest as every other pass of every profile; if one
   differs, the comparison is void, because they did not do the same work.
3. *Load points.* Open loop: commands have intended times (Poisson arrivals) whatever the exchange does, and
   latency counts from them. The loads are parts of the profile's own rehearsed throughput, and one load that
   all profiles are offered alike, so that there is something to compare side by side.

Rounds are interleaved (A B C, A B C, ...): when the machine becomes slower for a while, it becomes so for all
of them, and ratios within a round survive. Figures are medians over rounds.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.agent_layout import thread_layout
from exchange.bench.histogram import encode, latency_percentiles
from exchange.bench.host import describe_host
from exchange.bench.player import Played, play
from exchange.bench.results import (
    BenchResult,
    FlowDescription,
    LoadPoint,
    ProfileResult,
    SaturationRound,
    agreed_digest,
    find_digest_mismatch,
)
from exchange.errors import UserError
from exchange.flow import Flow
from exchange.flow.pacing import poisson
from exchange.placement import load_topology
from exchange.settings import Settings, to_dict, warnings

COMMON_LOAD_FRACTION: Final = 0.5
"""The load that all profiles are offered alike, as a part of the slowest one's rehearsed throughput."""

BEHIND_FRACTION: Final = 0.05
BEHIND_NS_MIN: Final = 20_000_000
"""A run whose last answer comes later than this after its intended time, and than that part of the run, fell behind."""

SATURATION_PATIENCE: Final = 8
"""A round ends after this many times its planned time: building an exchange takes longer than a short flow."""

LOAD_POINT_COMMANDS_MIN: Final = 2_000
"""Fewer samples than this have no p99 to speak of."""


@dataclass(frozen=True)
class BenchPlan:
    """How much to measure.

    Attributes:
        rounds: interleaved rounds.
        warmup_commands: first commands of each pass that are not measured; at most a quarter of the flow.
        saturation_ns: passes of a saturation round are repeated until they add up to this.
        load_fractions: offered loads as parts of a profile's own throughput.
        rates: offered loads in commands per second, instead of fractions and of the common load.
        point_ns: how long one load point lasts.
        seed: of the arrivals.
        flow_seed: what the synthetic flow was made from; None for a recording.
    """

    rounds: int
    warmup_commands: int
    saturation_ns: int
    load_fractions: tuple[float, ...]
    rates: tuple[float, ...]
    point_ns: int
    seed: int = 1
    flow_seed: int | None = None


@dataclass(frozen=True)
class Progress:
    """Whom to tell: ``step(text)`` when a part begins, ``total(parts)`` once at the start."""

    total: Callable[[int], None] = lambda parts: None
    step: Callable[[str], None] = lambda text: None
    detail: Callable[[str], None] = lambda text: None


@dataclass
class _Profile:
    """A profile while it is being measured."""

    settings: Settings
    rehearsed_per_second: float = 0.0
    rates: list[float] = field(default_factory=list)
    saturation_rounds: list[SaturationRound] = field(default_factory=list)
    load_points: list[LoadPoint] = field(default_factory=list)


def run_bench(
    profiles: Sequence[Settings], flow: Flow, plan: BenchPlan, command_line: str, progress: Progress
) -> BenchResult:
    """Measure ``profiles`` over ``flow`` as ``plan`` says.

    Raises:
        UserError: the flow is too short to measure anything.
    """
    if len(flow.commands) < 2:
        raise UserError(f"flow {flow.name}: it has {len(flow.commands)} commands; a benchmark needs more")
    bench = _Bench(flow, plan, progress)
    measured = [_Profile(settings) for settings in profiles]
    points = len(plan.rates) or len(plan.load_fractions) + 1
    progress.total(len(measured) * (1 + plan.rounds * (1 + points)))
    for profile in measured:
        progress.step(f"{profile.settings.name}: rehearsal")
        profile.rehearsed_per_second = bench.rehearse(profile.settings)
    common = _three_digits(COMMON_LOAD_FRACTION * min(one.rehearsed_per_second for one in measured))
    for profile in measured:
        own = [_three_digits(part * profile.rehearsed_per_second) for part in plan.load_fractions]
        profile.rates = list(plan.rates) or sorted({*own, common})
    for round_index in range(plan.rounds):
        for profile in measured:
            progress.step(f"{profile.settings.name}: saturation, round {round_index + 1} of {plan.rounds}")
            profile.saturation_rounds.append(bench.saturate(profile.settings, round_index))
        for profile in measured:
            for rate in profile.rates:
                progress.step(
                    f"{profile.settings.name}: {rate:,.0f} commands/s, round {round_index + 1} of {plan.rounds}"
                )
                profile.load_points.append(bench.offer(profile.settings, round_index, rate))
    return bench.result(measured, command_line)


class _Bench:
    """What all measurements of one run share."""

    def __init__(self, flow: Flow, plan: BenchPlan, progress: Progress) -> None:
        self._flow = flow
        self._plan = plan
        self._progress = progress
        self._warmup = min(plan.warmup_commands, len(flow.commands) // 4)
        self._at_once = np.zeros(len(flow.commands), np.int64)
        self._not_measured: dict[str, str] = {}
        self._warnings: list[str] = []
        self._digests: dict[int, tuple[str, str]] = {}
        self._mismatch: str | None = None

    def rehearse(self, settings: Settings) -> float:
        """Play the flow once to compile, and part of it again to see the speed: commands per second.

        What is slow when it is first used (compiling, page tables) is thereby not taken for the profile's speed.
        """
        self._play(settings, self._flow.commands[:1000], self._at_once[:1000], 0)
        commands = self._flow.commands
        played = self._play(settings, commands, self._at_once, self._warmup)
        return played.measured_commands / played.elapsed_ns * 1e9

    def saturate(self, settings: Settings, round_index: int) -> SaturationRound:
        """Passes over the whole flow, as fast as it goes, until they add up to the planned time."""
        passes: list[Played] = []
        deadline_ns = time.monotonic_ns() + SATURATION_PATIENCE * self._plan.saturation_ns
        while not passes or (
            sum(one.elapsed_ns for one in passes) < self._plan.saturation_ns
            and time.monotonic_ns() < deadline_ns
        ):
            passes.append(self._play(settings, self._flow.commands, self._at_once, self._warmup))
        digests = {one.digest for one in passes}
        if len(digests) > 1:
            self._warn(
                f"{settings.name}: passes of one round ended with digests {', '.join(sorted(digests))}"
            )
        commands = sum(one.measured_commands for one in passes)
        elapsed_ns = sum(one.elapsed_ns for one in passes)
        return SaturationRound(
            round_index=round_index,
            commands=commands,
            events=sum(one.events for one in passes),
            elapsed_ns=elapsed_ns,
            commands_per_second=commands / elapsed_ns * 1e9,
            back_pressure=_sum_by_key([one.back_pressure for one in passes]),
            threads=passes[-1].threads,
            digest=passes[-1].digest if len(digests) == 1 else "passes disagree",
            trades=passes[-1].trades,
            rejects=passes[-1].rejects,
        )

    def offer(self, settings: Settings, round_index: int, rate: float) -> LoadPoint:
        """One open-loop run at ``rate`` commands per second, as long as planned or as the flow lasts."""
        wanted = max(int(rate * self._plan.point_ns / 1e9), LOAD_POINT_COMMANDS_MIN)
        part = self._flow.first(wanted)
        commands = part.commands
        intended_ns = poisson(part, rate, self._plan.seed + round_index)
        warmup = min(self._warmup, len(commands) // 4)
        played = self._play(settings, commands, intended_ns, warmup)
        planned_ns = int(intended_ns[-1] - intended_ns[warmup])
        return LoadPoint(
            round_index=round_index,
            offered_per_second=rate,
            achieved_per_second=played.measured_commands / played.elapsed_ns * 1e9,
            commands=played.measured_commands,
            elapsed_ns=played.elapsed_ns,
            sample_count=int(played.latencies.sum()),
            histogram=encode(played.latencies) if played.latencies.any() else None,
            percentiles=latency_percentiles(played.latencies),
            back_pressure=played.back_pressure,
            threads=played.threads,
            behind=played.lateness_ns > max(BEHIND_NS_MIN, BEHIND_FRACTION * planned_ns),
        )

    def result(self, measured: Sequence[_Profile], command_line: str) -> BenchResult:
        """Everything that was measured, with the machine and the flow that it was measured on."""
        host = describe_host()
        cores = len(load_topology(None).usable_cores)
        profiles = tuple(
            ProfileResult(
                name=one.settings.name,
                description=one.settings.description,
                settings=to_dict(one.settings),
                digest=agreed_digest(one.saturation_rounds),
                saturation_rounds=tuple(one.saturation_rounds),
                load_points=tuple(one.load_points),
            )
            for one in measured
        )
        for one in measured:
            for text in (*warnings(one.settings, cores), *_shared_shards(one.settings, cores)):
                self._warn(f"{one.settings.name}: {text}")
        return BenchResult(
            kind="profiles",
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            command_line=command_line,
            host=host,
            flow=describe_flow(self._flow, self._plan.flow_seed),
            profiles=profiles,
            warnings=tuple(self._warnings),
            not_measured=self._not_measured,
            comparison_void=find_digest_mismatch(profiles) or self._mismatch,
        )

    def _play(
        self, settings: Settings, commands: NDArray[Any], intended_ns: NDArray[np.int64], warmup: int
    ) -> Played:
        played = play(settings, commands, intended_ns, len(self._flow.symbols), warmup, self._progress.detail)
        self._not_measured |= played.not_measured
        self._hold_against_others(settings.name, played)
        for text in played.placement_warnings:
            self._warn(f"{settings.name}: {text}")
        return played

    def _hold_against_others(self, profile: str, played: Played) -> None:
        """Any two runs over the same first commands, paced or not, must end with the same books."""
        first, digest = self._digests.setdefault(played.commands, (profile, played.digest))
        if played.digest != digest and self._mismatch is None:
            self._mismatch = (
                f"after the first {played.commands} commands {profile} ended with digest {played.digest}, but {first} "
                f"with {digest}: they did not do the same work"
            )

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)


def describe_flow(flow: Flow, seed: int | None) -> FlowDescription:
    """The flow as a result file tells of it; ``seed`` is None for a recording."""
    notes = tuple(f"{key.replace('_', ' ')}: {count:,}" for key, count in flow.notes.items())
    return FlowDescription(flow.name, flow.description, len(flow.commands), len(flow.symbols), seed, notes)


def _shared_shards(settings: Settings, cores: int) -> list[str]:
    """Say where sharding cannot pay, because shards take turns on one core."""
    threads = [
        [agent for agent in thread if agent.startswith("shard.")] for thread in thread_layout(settings, cores)
    ]
    crowded = [shards for shards in threads if len(shards) > 1]
    if not crowded:
        return []
    return [
        f"{' and '.join(crowded[0])} share a thread (this machine has {cores} cores for us): here sharding costs "
        "the routing and gains nothing; it needs a core for each shard"
    ]


def _sum_by_key(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    return {key: sum(one[key] for one in counts) for key in counts[0]}


def _three_digits(rate: float) -> float:
    """A rate that a person would name: equal in every round, and readable in a table."""
    return float(f"{rate:.3g}")
