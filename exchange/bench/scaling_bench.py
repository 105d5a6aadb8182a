"""``exchange bench scaling``: what more shards are worth, and where that ends.

The matching core (ladder book, lock-free rings) at saturation with 1, 2, 4 ... shards, as threads and as processes, in
two layouts (:mod:`exchange.bench.scaling_setup`): every shard with a feed of its own on its own core, and one feed for
all. Each shard has as many commands, and as many symbols, whatever their number: so what is asked is whether a machine
does twice the work with twice the cores, and not how evenly symbols are spread.

**Where.** On cores that the placement plan gives (``pinned``): one for each loop, no two halves of one, and one is left
to the operating system if there are enough. A number of shards for which there are not enough cores is not measured,
and the result says so: two loops that share a core would measure the scheduler.

**Rounds** are interleaved: in each, every variant with every number of shards has a turn. Each round also times plain
arithmetic on as many cores at once. Efficiency compares passes of the same round. What limits is told from counts
(:mod:`exchange.bench.scaling_reasons`).

**What is checked**, outside the clock: every command is answered, and after each pass the books are in the state that
plain books come to which one thread drives with the same commands. What fails is left out and named."""

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from exchange.bench.book_bench import play_commands
from exchange.bench.host import describe_host
from exchange.bench.micro import StoodStill, check_kinds, in_turns, run_pinned
from exchange.bench.results import BenchResult, FlowDescription, MicroResult
from exchange.bench.scaling_loops import spin_arithmetic
from exchange.bench.scaling_reasons import Point, Variation, findings
from exchange.bench.scaling_setup import (
    BATCH_COMMANDS,
    Commands,
    Layout,
    Pass,
    QueueKind,
    RunAs,
    Setup,
    Variant,
    WrongBooks,
    interleave,
    loop_names,
)
from exchange.book import build_book
from exchange.book.config import LadderBookConfig
from exchange.book.protocol import events_bound
from exchange.errors import UserError
from exchange.flow import build_flow
from exchange.flow.config import SyntheticConfig
from exchange.limits import SHARDS_MAX, SYMBOLS_MAX
from exchange.matching.digest import state_digest
from exchange.messages import RECORD_BYTES
from exchange.native import Arena
from exchange.placement import PinnedPlacement, Plan, ThreadDescription, Topology
from exchange.placement import plan as plan_placement
from exchange.placement.topology import read_this_machine

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

AXIS: Final = "shards"
THROUGHPUT: Final = "throughput"
EFFICIENCY: Final = "throughput of a shard, against the fewest shards"
COMMAND: Final = "time of a command in its shard"
SHARDS_BUSY: Final = "busy time of the shards"
FEED_BUSY: Final = "busy time of the feed"
ARITHMETIC: Final = "time of a step of arithmetic"

_QUANTITIES: Final[tuple[tuple[str, str, Literal["higher", "lower"]], ...]] = (
    (THROUGHPUT, "commands/s", "higher"),
    (EFFICIENCY, "times", "higher"),
    (COMMAND, "ns", "lower"),
    (SHARDS_BUSY, "%", "higher"),
    (FEED_BUSY, "%", "lower"),
)
"""What there is a row of, in the result's order: name, unit, and which way is better."""

RUN_AS: Final[tuple[RunAs, ...]] = get_args(RunAs)
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)
QUEUES: Final[tuple[QueueKind, ...]] = get_args(QueueKind)
KINDS: Final = (*RUN_AS, *QUEUES)


class ScalingBenchPlan(NamedTuple):
    """How much to measure.

    ``shards``: their numbers, ascending; none: 1, 2, 4 ... and as many as there are cores. Every shard plays
    ``commands`` commands in ``symbols`` symbols. ``kinds``: some of :data:`KINDS`; of threads and processes both if
    neither is named, of queues ``spsc``.
    """

    shards: tuple[int, ...] = ()
    commands: int = 500_000
    symbols: int = 8
    rounds: int = 7
    kinds: tuple[str, ...] = ()
    capacity_orders: int = 65_536
    arithmetic_steps: int = 10_000_000
    seed: int = 1

    @classmethod
    def quick(cls) -> "ScalingBenchPlan":
        """A plan that takes some seconds once all is compiled."""
        return cls(commands=100_000, rounds=3)


def run_scaling_bench(plan: ScalingBenchPlan, command_line: str, progress: "Progress") -> BenchResult:
    """Measure every number of shards in every variant.

    Raises:
        UserError: a plan that is out of range, or nothing that could be measured.
    """
    machine = read_this_machine()
    counts = plan.shards or usual_counts(len(machine.usable_cores))
    _check_plan(plan, counts)
    bench = _Bench(plan, counts, machine)
    progress.total(len(counts) + len(bench.cases) + plan.rounds)
    with ExitStack() as stack:
        bench.prepare(stack, progress)
        for round_index in range(plan.rounds):
            progress.step(f"round {round_index + 1} of {plan.rounds}")
            bench.measure(round_index)
    return bench.result(command_line)


def usual_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4 ... and as many as there are cores."""
    most = min(cores, SHARDS_MAX)
    return tuple(sorted({1 << power for power in range(most.bit_length())} | {most}))


def _check_plan(plan: ScalingBenchPlan, counts: Sequence[int]) -> None:
    check_kinds("scaling", plan.kinds, KINDS)
    for count in counts:
        if not 1 <= count <= SHARDS_MAX:
            raise UserError(f"shards: {count}; must be 1 to {SHARDS_MAX}")
    if list(counts) != sorted(set(counts)):
        raise UserError(f"shards: {', '.join(map(str, counts))}; must ascend, each number once")
    for field, least in (("commands", 1), ("symbols", 1), ("rounds", 1), ("arithmetic_steps", 1)):
        if getattr(plan, field) < least:
            raise UserError(f"{field} = {getattr(plan, field)}: must be at least {least}")
    if plan.symbols * max(counts) > SYMBOLS_MAX:
        raise UserError(
            f"symbols = {plan.symbols}: {max(counts)} shards have more than {SYMBOLS_MAX} of them"
        )


def variants_of(kinds: Sequence[str]) -> list[Variant]:
    """The variants that these kinds choose, the baseline first."""
    run_as = [kind for kind in RUN_AS if kind in kinds] or list(RUN_AS)
    queues = [kind for kind in QUEUES if kind in kinds] or ["spsc"]
    return [Variant(how, layout, queue) for layout in LAYOUTS for how in run_as for queue in queues]


class _Case(NamedTuple):
    """A variant with a number of shards, and where its loops run."""

    variant: Variant
    shards: int
    plan: Plan

    @property
    def key(self) -> str:
        """To take turns by."""
        return f"{self.shards} {self.variant.name}"

    @property
    def units(self) -> tuple[int, ...]:
        """The processing units of its loops."""
        return tuple(one.processing_unit for one in self.plan.assignments if one.processing_unit is not None)


def place(machine: Topology, variant: Variant, shards: int) -> Plan:
    """Where the loops of a variant run."""
    described = [
        ThreadDescription(name, ("ingress", "egress") if name == "feed" else (name,))
        for name in loop_names(variant, shards)
    ]
    return plan_placement(machine, described, PinnedPlacement())


class _Bench:
    """The setups and the values of all rounds."""

    def __init__(self, plan: ScalingBenchPlan, counts: Sequence[int], machine: Topology) -> None:
        self._plan: Final = plan
        self._counts: Final = counts
        self._cores: Final = len(machine.usable_cores)
        self.variants: Final = variants_of(plan.kinds)
        self.cases: Final[dict[str, _Case]] = {}
        self._missing: Final[dict[tuple[Variant, int], str]] = {}
        for variant in self.variants:
            for shards in counts:
                needed = len(loop_names(variant, shards))
                if needed > self._cores:
                    there = "1 core" if self._cores == 1 else f"{self._cores} cores"
                    self._missing[variant, shards] = f"they take {needed} cores, and this machine has {there}"
                else:
                    case = _Case(variant, shards, place(machine, variant, shards))
                    self.cases[case.key] = case
        if not self.cases:
            raise UserError(
                "scaling: nothing can be measured: " + "; ".join(dict.fromkeys(self._missing.values()))
            )
        self._setups: Final[dict[str, Setup]] = {}
        self._passes: Final[dict[str, list[Pass]]] = {}
        self._arithmetic: Final[dict[int, list[float]]] = {}
        self._arena: Final = Arena.private(4096, huge_pages="never")
        self._stop: Final = self._arena.allocate(8)
        self._out: Final = self._arena.allocate(8)

    def prepare(self, stack: ExitStack, progress: "Progress") -> None:
        """Make flows, and every setup; play each once, which gives it all the memory that it needs."""
        flows: list[Commands] = []
        digests: dict[tuple[Layout, int], list[str]] = {}
        for shards in self._counts:
            progress.step(f"making the order flow of {shards} shards")
            needed = max((case.shards for case in self.cases.values() if case.shards <= shards), default=0)
            while len(flows) < needed:
                flows.append(self._make_flow(len(flows)))
            for layout in LAYOUTS:
                if any(
                    (case.variant.layout, case.shards) == (layout, shards) for case in self.cases.values()
                ):
                    digests[layout, shards] = self._expected(layout, flows[:shards])
        for case in tuple(self.cases.values()):
            progress.step(f"compiling and warming up {case.variant.name} with {case.shards} shards")
            setup = Setup(
                case.variant, flows[: case.shards], case.plan, self._plan.capacity_orders, self._plan.symbols
            )
            setup.digests = digests[case.variant.layout, case.shards]
            self._setups[case.key] = stack.enter_context(setup)
            self._passes[case.key] = []
            self._play(case)
        spin_arithmetic(1, self._out)

    def _make_flow(self, lane: int) -> Commands:
        plan = self._plan
        config = SyntheticConfig(commands=plan.commands, symbols=plan.symbols, seed=plan.seed + lane)
        return build_flow(config).commands

    def _expected(self, layout: Layout, flows: Sequence[Commands]) -> list[str]:
        """The digests that exchanges with these flows must come to, found with plain books on this thread."""
        parts = [[flow] for flow in flows] if layout == "a feed each" else [list(flows)]
        return [self._digest_of(part) for part in parts]

    def _digest_of(self, flows: Sequence[Commands]) -> str:
        plan, count = self._plan, len(flows)
        config, symbols = LadderBookConfig(capacity_orders=plan.capacity_orders), plan.symbols * count
        whole = interleave(flows)
        room = Arena.private(events_bound(plan.capacity_orders, BATCH_COMMANDS) * RECORD_BYTES)
        events = room.allocate(events_bound(plan.capacity_orders, BATCH_COMMANDS) * RECORD_BYTES)
        books = []
        for lane in range(count):
            mine = whole[lane::count].copy()
            book = build_book(config, symbols)
            play_commands(book.state, mine.ctypes.data, len(mine), BATCH_COMMANDS, events)
            books.append(book)
        owners = [symbol_id % count for symbol_id in range(symbols)]
        return state_digest([book.state for book in books], owners)

    def measure(self, round_index: int) -> None:
        """One round: each number of shards in each variant, and arithmetic on as many cores."""
        for key in in_turns(list(self.cases), round_index):
            one = self._play(self.cases[key])
            if one is not None:
                self._passes[key].append(one)
        for shards in self._counts:
            units = next(
                (case.units[-shards:] for case in self.cases.values() if case.shards == shards), None
            )
            if units is not None:
                self._arithmetic.setdefault(shards, []).append(self._spin(units))

    def _play(self, case: _Case) -> Pass | None:
        """A pass; a case that fails is left out from then on."""
        try:
            return self._setups[case.key].play()
        except (WrongBooks, StoodStill) as failure:
            del self.cases[case.key]
            self._passes.pop(case.key, None)
            self._missing[case.variant, case.shards] = str(failure)
            return None

    def _spin(self, units: Sequence[int]) -> float:
        """Nanoseconds for a step of arithmetic on all these units at once, the slowest of them."""
        steps, out = self._plan.arithmetic_steps, self._out
        times = run_pinned([(unit, lambda: spin_arithmetic(steps, out)) for unit in units], self._stop)
        return float(max(times)) / steps

    def result(self, command_line: str) -> BenchResult:
        """Rows, and what follows from them."""
        if not any(self._passes.values()):
            raise UserError(
                f"scaling: nothing was measured: {'; '.join(dict.fromkeys(self._missing.values()))}"
            )
        sentences = [one for variant in self.variants for one in findings(self._variation(variant))]
        plan = self._plan
        text = f"{plan.commands:,} commands in {plan.symbols} symbols for each shard"
        return BenchResult(
            kind="scaling",
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            command_line=command_line,
            host=describe_host(),
            flow=FlowDescription("synthetic", text, plan.commands, plan.symbols, plan.seed),
            micro=tuple(self._rows()),
            findings=tuple(sentences),
        )

    def _rows(self) -> list[MicroResult]:
        rows = []
        for name, unit, better in _QUANTITIES:
            for variant in self.variants:
                for shards in self._counts:
                    values = self._values(name, variant, shards)
                    told = self._missing.get((variant, shards)) if name == THROUGHPUT else None
                    if values or told is not None:
                        rows.append(
                            MicroResult(
                                name,
                                variant.runs,
                                unit,
                                better,
                                tuple(values),
                                {AXIS: shards, "layout": variant.layout},
                                told,
                                AXIS,
                            )
                        )
        for shards, times in self._arithmetic.items():
            rows.append(
                MicroResult(ARITHMETIC, "threads", "ns", "lower", tuple(times), {AXIS: shards}, None, AXIS)
            )
        return rows

    def _passes_of(self, variant: Variant, shards: int) -> list[Pass]:
        return self._passes.get(f"{shards} {variant.name}", [])

    def _values(self, name: str, variant: Variant, shards: int) -> list[float]:
        """The values of one row, a round each."""
        passes = self._passes_of(variant, shards)
        if name == THROUGHPUT:
            return [_rate(one) for one in passes]
        if name == COMMAND:
            return [shards * one.elapsed_ns / one.commands for one in passes]
        if name == SHARDS_BUSY:
            return [_busy_percent(one, feed=False) for one in passes]
        if name == FEED_BUSY:
            return [_busy_percent(one, feed=True) for one in passes if variant.layout == "one feed"]
        fewest = next((count for count in self._counts if self._passes_of(variant, count)), shards)
        pairs = zip(passes, self._passes_of(variant, fewest), strict=False)  # none, if this was not measured
        return [(_rate(one) / shards) / (_rate(alone) / fewest) for one, alone in pairs]

    def _variation(self, variant: Variant) -> Variation:
        points = [self._point(variant, shards) for shards in self._counts if self._passes_of(variant, shards)]
        missing = {shards: why for (other, shards), why in self._missing.items() if other == variant}
        last = max((point.shards for point in points), default=0)
        has_more = len(loop_names(variant, last + 1)) <= self._cores
        return Variation(variant.name, tuple(points), missing, None if has_more else self._cores)

    def _point(self, variant: Variant, shards: int) -> Point:
        passes = self._passes_of(variant, shards)

        def median(name: str) -> float:
            return statistics.median(self._values(name, variant, shards))

        return Point(
            shards=shards,
            units=self.cases[f"{shards} {variant.name}"].units,
            per_second=median(THROUGHPUT),
            efficiency=median(EFFICIENCY),
            command_ns=median(COMMAND),
            shards_busy_percent=median(SHARDS_BUSY),
            feed_busy_percent=median(FEED_BUSY) if variant.layout == "one feed" else None,
            without_core_percent=statistics.median(map(_without_core_percent, passes)),
            inbox_refused=statistics.median(1000 * one.inbox_refused / one.commands for one in passes),
            outbox_refused=statistics.median(1000 * one.outbox_refused / one.commands for one in passes),
            arithmetic_ns=statistics.median(self._arithmetic[shards]),
        )


def _rate(one: Pass) -> float:
    return one.commands / one.elapsed_ns * 1e9


def _busy_percent(one: Pass, *, feed: bool) -> float:
    """How much of their time loops had something to do: those with a shard, or the one that feeds them."""
    loops = [loop for loop in one.loops if (loop.name == "feed") == feed]
    busy_ns, idle_ns = sum(loop.busy_ns for loop in loops), sum(loop.idle_ns for loop in loops)
    return 100 * busy_ns / max(busy_ns + idle_ns, 1)


def _without_core_percent(one: Pass) -> float:
    """How much of their time loops had no core, though they never sleep."""
    elapsed_ns = sum(loop.elapsed_ns for loop in one.loops)
    return 100 * max(elapsed_ns - sum(loop.cpu_ns for loop in one.loops), 0) / elapsed_ns
