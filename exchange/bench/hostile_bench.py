"""``exchange bench hostile``: what a good client feels of those who mean no good.

A good client trades at a constant rate, in rounds of two phases: in one it is alone, in the other all of
:mod:`exchange.load.hostile` is let loose on the same exchange. For each phase: its latency from the intended time of
each order, how long its logon took, the latency inside the exchange, and the exchange's memory. The *ratio* of a round
is the p99 with them through the p99 without.

**Who runs where.** The thread of the exchange that serves clients is pinned to a core of its own, and everything else
shares what is left: the control plane, the good client, and the hostile, who stand back for all others (nice 19) and
whose rates are bounded. On two cores that is one core for all of them. So the good client sleeps until it has something
to do, as a client would; what it feels is the exchange, the kernel, and how soon it gets its core. The latency inside
the exchange is not in that: it is measured by the exchange, of everybody's orders.

Beside the figures stands what became of each connection, by the exchange's own log: a connection that was opened has
either logged on, or a line there says why it did not.

Rules: the phases are interleaved, and which comes first changes from round to round. The load is one process's: it
shows what the limits are worth, not how many attackers an exchange stands."""

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from exchange.assembly import describe_threads
from exchange.bench.histogram import latency_percentiles
from exchange.bench.hostile_processes import (
    BAD,
    GOOD,
    HostileProcess,
    ServedExchange,
    hostile_process,
    served_exchange,
    until,
)
from exchange.bench.micro import Cores, Table, finish, in_turns, on_core
from exchange.bench.results import BenchResult, FlowDescription
from exchange.load.generator import LEAVING, SENDING, compile_loop, run_once
from exchange.load.hostile import ORDERS, HostilePlan
from exchange.load.measured import Measured
from exchange.load.plan import LoadPlan
from exchange.placement import load_topology
from exchange.placement import plan as plan_placement
from exchange.settings import load_profile

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

QUIET: Final = "quiet"
HOSTILE: Final = "hostile"
RATIO: Final = "order, p99, hostile through quiet"
SETTINGS: Final = (
    "placement.kind=pinned",
    "idle.kind=busy-spin",
    "market_data.kind=none",
    "admin.port=0",
    "gateway.log_bytes=1GiB",
    "gateway.slow_reader_ns=1s",
    "gateway.logon_timeout_ns=2s",
)
"""What is set in the profile ``serve``. Slow readers and the silent are let go sooner than by default, so that each
phase sees it."""

RATE_LIMIT: Final = 1_000
"""What a session may send in a second; the one that floods sends ten times that."""

LIMITED: Final = (
    "risk.kind=limits",
    f"risk.orders_per_second={RATE_LIMIT}",
    f"risk.orders_burst={RATE_LIMIT}",
)
ACCOUNTED_SECONDS: Final = 5.0
"""How long the log is waited for at the end: connections that say nothing have still to be closed."""


class HostileBenchPlan(NamedTuple):
    """How much to measure: seconds of a phase, the good client's orders a second, rounds; and the hostile's rates."""

    seconds: float = 3.0
    warmup_seconds: float = 0.5
    requests_per_second: int = 500
    rounds: int = 7
    connects_per_second: int = 1000
    logons_per_second: int = 50
    flooded_per_second: int = 10 * RATE_LIMIT
    seed: int = 1


def run_hostile_bench(plan: HostileBenchPlan, command_line: str, progress: "Progress") -> BenchResult:
    """Measure both phases.

    Raises:
        UserError: the exchange did not start, or did not let the good client in.
    """
    progress.total(2 + plan.rounds)
    progress.step("compiling the load")
    compile_loop()
    settings = (*SETTINGS, *LIMITED)
    cores = _choose_cores(settings)
    table = Table((QUIET, HOSTILE), cores)
    progress.step("starting the exchange")
    with (
        served_exchange(settings) as exchange,
        on_core(cores.second),
        hostile_process(_hostile_plan(plan, exchange)) as hostile,
    ):
        run = _Run(plan, table, exchange, hostile)
        for round_index in range(plan.rounds):
            progress.step(f"round {round_index + 1} of {plan.rounds}")
            run.round(round_index)
        flow = run.account()
    result = finish("hostile", table, _warnings(cores), command_line)
    return msgspec.structs.replace(result, flow=flow)


def _hostile_plan(plan: HostileBenchPlan, exchange: ServedExchange) -> HostilePlan:
    return HostilePlan(
        *exchange.endpoint,
        victim=GOOD,
        users=BAD,
        password=exchange.password,
        connects_per_second=plan.connects_per_second,
        logons_per_second=plan.logons_per_second,
        orders_per_second=plan.flooded_per_second,
        seed=plan.seed,
    )


def _choose_cores(settings: tuple[str, ...]) -> Cores:
    """The core that the exchange will have for itself, and one for everything else."""
    chosen, machine = load_profile("serve", list(settings)), load_topology(None)
    placed = plan_placement(machine, describe_threads(chosen, machine), chosen.placement)
    allowed = os.sched_getaffinity(0)
    unit = next((one.processing_unit for one in placed.assignments if one.processing_unit is not None), None)
    first = min(allowed) if unit is None else unit
    return Cores(first, min(allowed - {first}, default=first))


class _Run:
    """The rounds."""

    def __init__(
        self, plan: HostileBenchPlan, table: Table, exchange: ServedExchange, hostile: HostileProcess
    ) -> None:
        self._plan: Final = plan
        self._table: Final = table
        self._exchange: Final = exchange
        self._hostile: Final = hostile
        self._opened: dict[str, int] = {}

    def round(self, index: int) -> None:
        """Both phases, and their ratio."""
        p99_ns: dict[str, int] = {}
        for phase in in_turns([QUIET, HOSTILE], index):
            if phase == HOSTILE:
                self._hostile.go()
            try:
                p99_ns[phase] = self._phase(phase, index)
            finally:
                if phase == HOSTILE:
                    self._opened = self._hostile.stop()
        self._table.add(RATIO, HOSTILE, p99_ns[HOSTILE] / p99_ns[QUIET], "times", "lower")

    def _phase(self, phase: str, index: int) -> int:
        """One phase; the good client's p99 in nanoseconds."""
        plan, times, inside = self._plan, dict[str, float](), dict[str, int | None]()

        def note(doing: str) -> None:
            times[doing] = time.monotonic()
            if doing == LEAVING:
                inside.update(self._exchange.statistics()["latency_ns"])

        load = LoadPlan(
            self._exchange.endpoint, (self._exchange.good,), (plan.requests_per_second,), plan.seconds,
            plan.warmup_seconds, "constant", orders=4, seed=plan.seed, sleeps=True,
        )  # fmt: skip
        began = time.monotonic()
        measured = run_once(load, plan.requests_per_second, index, note)
        percentiles = latency_percentiles(measured.latencies)
        assert percentiles is not None, "a phase has requests"
        add = self._table.add
        add("order, median", phase, percentiles.p50_ns / 1000, "us", "lower")
        add("order, p99", phase, percentiles.p99_ns / 1000, "us", "lower")
        for name in ("p50", "p99"):
            value_ns = inside.get(name)
            if value_ns is not None:
                add(f"inside the exchange, {name}", phase, value_ns / 1000, "us", "lower")
        add("logon", phase, (times[SENDING] - began) * 1000, "ms", "lower")
        add("orders answered", phase, _answered_percent(measured), "%", "higher")
        add("resident memory", phase, self._exchange.resident_bytes() / (1 << 20), "MiB", "lower")
        return percentiles.p99_ns

    def account(self) -> FlowDescription:
        """What became of all connections."""
        opened, log = self._opened, self._exchange.log
        connections = sum(count for kind, count in opened.items() if kind != ORDERS)
        until(lambda: log.accounted() - log.logins[GOOD] >= connections, ACCOUNTED_SECONDS)
        logged_on = log.logins.total() - log.logins[GOOD]
        known = log.accounted() - log.logins[GOOD]
        self._table.add("connections that the log accounts for", HOSTILE, 100 * known / max(connections, 1), "%",
                        "higher")  # fmt: skip
        said = {f"{event}: {reason}": count for (event, reason), count in sorted(log.ends.items())}
        said |= {
            f"session of {user} ended: {reason}": count
            for (user, reason), count in sorted(log.session_ends.items())
            if user != GOOD
        }
        return FlowDescription(
            "a good client, and the hostile",
            f"In all rounds the hostile opened {connections:,} connections ({_listed(opened)}). The log of the "
            f"exchange has {log.lines:,} lines, which say: {logged_on:,} logged on; {_listed(said)}.",
            opened.get(ORDERS, 0),
            1,
            self._plan.seed,
        )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _answered_percent(measured: Measured) -> float:
    counts = measured.counts
    due = counts["sent"] + counts["not sent"]
    return 100 * (counts["sent"] - counts["unanswered"]) / due


def _warnings(cores: Cores) -> tuple[str, ...]:
    if cores.must_yield:
        return (
            "Only one core may be used: the exchange shared it with everybody, and the figures show what that costs.",
        )
    return ()
