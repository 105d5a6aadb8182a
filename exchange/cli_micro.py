"""The micro-benchmarks as ``exchange bench`` knows them: a table of what runs each, and which options it takes.

A benchmark of one layer (``queue``, ``stack``, ``latest-value``, ``journal``, ``book``, ``flow``, ``feed``, ``risk``,
``transport``) compares variants, of which the caller may choose some; a benchmark of the core (``core``, ``symbols``,
``worst-cases``, ``endurance``, ``snapshot``) or of the gateway (``gateway``, ``hostile``) has none to choose from, and
``lease`` neither. Each imports what it runs only when it runs, so that ``exchange bench --help`` stays quick.

To add one: a function that makes its plan from a :class:`MicroChoice`, and a line in :data:`MICRO_BENCHMARKS`. An
option that is not named there is refused before the function is called, so it need not look for it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exchange.errors import UserError

if TYPE_CHECKING:
    from exchange.bench.core_bench import OrderIds
    from exchange.bench.results import BenchResult
    from exchange.bench.runner import Progress
    from exchange.flow.config import ScenarioName

QUICK_ROUNDS: Final = 3


class MicroChoice(NamedTuple):
    """What a person asked of a micro-benchmark. None, and empty ``kinds`` and ``ids``, leave it to the benchmark."""

    kinds: tuple[str, ...]
    rounds: int | None
    quick: bool
    scenario: "ScenarioName | None"
    all_scenarios: bool
    ids: "tuple[OrderIds, ...]"
    commands: int | None
    seed: int | None
    command_line: str
    source: str = "synthetic"
    orders: int | None = None
    shards: tuple[int, ...] = ()


class MicroBenchmark(NamedTuple):
    """What runs a micro-benchmark, and the options and kinds it takes."""

    run: "Callable[[MicroChoice, Progress], BenchResult]"
    options: tuple[str, ...] = ("--rounds",)
    takes_kinds: bool = False


def _bench_queue(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.queue_bench import QueueBenchPlan, run_queue_bench

    plan = QueueBenchPlan(records=1_000_000, round_trips=10_000) if choice.quick else QueueBenchPlan()
    return run_queue_bench(choice.kinds, _quicker(plan, choice), choice.command_line, progress)


def _bench_stack(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.stack_bench import StackBenchPlan, run_stack_bench

    plan = StackBenchPlan(operations=300_000) if choice.quick else StackBenchPlan()
    return run_stack_bench(choice.kinds, _quicker(plan, choice), choice.command_line, progress)


def _bench_latest_value(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.latest_value_bench import LatestValueBenchPlan, run_latest_value_bench

    plan = _quicker(LatestValueBenchPlan(), choice)
    return run_latest_value_bench(choice.kinds, plan, choice.command_line, progress)


def _bench_journal(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.journal_bench import JournalBenchPlan, run_journal_bench

    plan = JournalBenchPlan.quick() if choice.quick else JournalBenchPlan()
    return run_journal_bench(choice.kinds, _with_rounds(plan, choice.rounds), choice.command_line, progress)


def _bench_book(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.book_bench import BookBenchPlan, run_book_bench

    plan = BookBenchPlan(commands=500_000, interpreted_commands=20_000) if choice.quick else BookBenchPlan()
    plan = _with_flow(plan, choice)
    if choice.commands is not None:
        plan = plan._replace(commands=choice.commands)
    return run_book_bench(choice.kinds, _quicker(plan, choice), choice.command_line, progress)


def _bench_flow(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.flow_bench import FlowBenchPlan, run_flow_bench

    plan = FlowBenchPlan(commands=300_000) if choice.quick else FlowBenchPlan()
    return run_flow_bench(choice.kinds, _quicker(plan, choice), choice.command_line, progress)


def _bench_feed(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.feed_bench import FeedBenchPlan, run_feed_bench

    plan = FeedBenchPlan(commands=300_000, plain_bytes=1 << 18) if choice.quick else FeedBenchPlan()
    if choice.source != "synthetic":
        plan = plan._replace(source=choice.source)
    if choice.commands is not None:
        plan = plan._replace(commands=choice.commands)
    if choice.seed is not None:
        plan = plan._replace(seed=choice.seed)
    return run_feed_bench(choice.kinds, _quicker(plan, choice), choice.command_line, progress)


def _bench_gateway(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.gateway_bench import GatewayBenchPlan, run_gateway_bench

    plan = GatewayBenchPlan(seconds=0.3, warmup_seconds=0.1) if choice.quick else GatewayBenchPlan()
    return run_gateway_bench(_quicker(plan, choice), choice.command_line, progress)


def _bench_risk(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.risk_bench import BATCH, RiskBenchPlan, run_risk_bench

    plan = RiskBenchPlan(orders=1000 * BATCH) if choice.quick else RiskBenchPlan()
    return run_risk_bench(choice.kinds, _quicker(plan, choice), choice.command_line, progress)


def _bench_hostile(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.hostile_bench import HostileBenchPlan, run_hostile_bench

    plan = HostileBenchPlan(seconds=1.0) if choice.quick else HostileBenchPlan()
    if choice.seed is not None:
        plan = plan._replace(seed=choice.seed)
    return run_hostile_bench(_quicker(plan, choice), choice.command_line, progress)


def _bench_durability(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.durability_bench import DurabilityBenchPlan, run_durability_bench

    plan = DurabilityBenchPlan.quick() if choice.quick else DurabilityBenchPlan()
    if choice.commands is not None:
        plan = plan._replace(commands=choice.commands)
    if choice.seed is not None:
        plan = plan._replace(seed=choice.seed)
    return run_durability_bench(_quicker(plan, choice), choice.command_line, progress)


def _bench_core(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.core_bench import CoreBenchPlan, run_core_bench
    from exchange.flow.scenario import orders_for

    plan = CoreBenchPlan(orders=200_000) if choice.quick else CoreBenchPlan()
    plan = plan._replace(scenarios=_scenarios(choice) or plan.scenarios)
    if choice.commands is not None:
        plan = plan._replace(orders=orders_for(choice.commands))
    if choice.seed is not None:
        plan = plan._replace(seed=choice.seed)
    if choice.ids:
        plan = plan._replace(order_ids=tuple(dict.fromkeys(choice.ids)))
    return run_core_bench(_quicker(plan, choice), choice.command_line, progress)


def _bench_symbols(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.symbols_bench import SymbolsBenchPlan, run_symbols_bench

    plan = SymbolsBenchPlan.quick() if choice.quick else SymbolsBenchPlan()
    return run_symbols_bench(_with_rounds(plan, choice.rounds), choice.command_line, progress)


def _bench_scaling(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.scaling_bench import ScalingBenchPlan, run_scaling_bench

    plan = ScalingBenchPlan.quick() if choice.quick else ScalingBenchPlan()
    plan = plan._replace(kinds=choice.kinds, shards=choice.shards)
    if choice.commands is not None:
        plan = plan._replace(commands=choice.commands)
    if choice.seed is not None:
        plan = plan._replace(seed=choice.seed)
    return run_scaling_bench(_quicker(plan, choice), choice.command_line, progress)


def _bench_worst_cases(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.worst_case_bench import WorstCaseBenchPlan, run_worst_case_bench

    plan = WorstCaseBenchPlan.quick() if choice.quick else WorstCaseBenchPlan()
    return run_worst_case_bench(_with_rounds(plan, choice.rounds), choice.command_line, progress)


def _bench_endurance(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.endurance_bench import EnduranceBenchPlan, run_endurance_bench

    plan = EnduranceBenchPlan(commands=10_000_000) if choice.quick else EnduranceBenchPlan()
    plan = _with_flow(plan, choice)
    if choice.commands is not None:
        plan = plan._replace(commands=choice.commands)
    return run_endurance_bench(plan, choice.command_line, progress)


def ablate(layer: str, choice: MicroChoice, progress: "Progress") -> "BenchResult":
    """What each technique inside a layer is worth: the layer as it is, against itself without one of them."""
    from exchange.bench.ablation import AblationPlan, run_ablation

    plan = AblationPlan.quick() if choice.quick else AblationPlan()
    plan = plan._replace(scenarios=_scenarios(choice) or plan.scenarios)
    return run_ablation(layer, _with_rounds(plan, choice.rounds), choice.command_line, progress)


def _scenarios(choice: MicroChoice) -> "tuple[ScenarioName, ...]":
    """The scenarios that were asked for; none if it was left to the benchmark."""
    from exchange.flow.config import SCENARIOS

    if choice.scenario is None:
        return SCENARIOS if choice.all_scenarios else ()
    if choice.all_scenarios:
        raise UserError(f"--all-scenarios: not together with --scenario {choice.scenario}")
    return (choice.scenario,)


def _with_flow[Plan: tuple[Any, ...]](plan: Plan, choice: MicroChoice) -> Plan:
    """The plan with the scenario and the seed that were asked for."""
    named = {"scenario": choice.scenario, "seed": choice.seed}
    given = {field: value for field, value in named.items() if value is not None}
    return plan._replace(**given)  # type: ignore[attr-defined,no-any-return]


def _with_rounds[Plan: tuple[Any, ...]](plan: Plan, rounds: int | None) -> Plan:
    """The plan with as many rounds as were asked for."""
    return plan if rounds is None else plan._replace(rounds=rounds)  # type: ignore[attr-defined]


def _quicker[Plan: tuple[Any, ...]](plan: Plan, choice: MicroChoice) -> Plan:
    """The plan with as many rounds as were asked for, and with few if it is to be quick."""
    return _with_rounds(plan, choice.rounds or (QUICK_ROUNDS if choice.quick else None))


def _bench_snapshot(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.snapshot_bench import SnapshotBenchPlan, run_snapshot_bench

    plan = SnapshotBenchPlan(orders=100_000) if choice.quick else SnapshotBenchPlan()
    if choice.orders is not None:
        plan = plan._replace(orders=choice.orders)
    if choice.seed is not None:
        plan = plan._replace(seed=choice.seed)
    return run_snapshot_bench(_quicker(plan, choice), choice.command_line, progress)


def _bench_lease(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.lease_bench import LeaseBenchPlan, run_lease_bench

    plan = LeaseBenchPlan.quick() if choice.quick else LeaseBenchPlan()
    return run_lease_bench(_quicker(plan, choice), choice.command_line, progress)


def _bench_transport(choice: MicroChoice, progress: "Progress") -> "BenchResult":
    from exchange.bench.transport_bench import TransportBenchPlan, run_transport_bench

    plan = TransportBenchPlan.quick() if choice.quick else TransportBenchPlan()
    return run_transport_bench(choice.kinds, _quicker(plan, choice), choice.command_line, progress)


ABLATION_OPTIONS: Final = ("--rounds", "--scenario", "--all-scenarios")

MICRO_BENCHMARKS: Final = {
    "queue": MicroBenchmark(_bench_queue, takes_kinds=True),
    "stack": MicroBenchmark(_bench_stack, takes_kinds=True),
    "latest-value": MicroBenchmark(_bench_latest_value, takes_kinds=True),
    "journal": MicroBenchmark(_bench_journal, takes_kinds=True),
    "book": MicroBenchmark(_bench_book, ("--rounds", "--scenario", "--commands", "--seed"), takes_kinds=True),
    "flow": MicroBenchmark(_bench_flow, takes_kinds=True),
    "feed": MicroBenchmark(_bench_feed, ("--rounds", "--flow", "--commands", "--seed"), takes_kinds=True),
    "gateway": MicroBenchmark(_bench_gateway),
    "risk": MicroBenchmark(_bench_risk, takes_kinds=True),
    "transport": MicroBenchmark(_bench_transport, takes_kinds=True),
    "hostile": MicroBenchmark(_bench_hostile, ("--rounds", "--seed")),
    "durability": MicroBenchmark(_bench_durability, ("--rounds", "--commands", "--seed")),
    "lease": MicroBenchmark(_bench_lease),
    "core": MicroBenchmark(
        _bench_core, ("--rounds", "--scenario", "--all-scenarios", "--ids", "--commands", "--seed")
    ),
    "symbols": MicroBenchmark(_bench_symbols),
    "scaling": MicroBenchmark(
        _bench_scaling, ("--rounds", "--shards", "--commands", "--seed"), takes_kinds=True
    ),
    "snapshot": MicroBenchmark(_bench_snapshot, ("--rounds", "--orders", "--seed")),
    "worst-cases": MicroBenchmark(_bench_worst_cases),
    "endurance": MicroBenchmark(_bench_endurance, ("--scenario", "--commands", "--seed")),
}
