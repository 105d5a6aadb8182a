"""How fast flows are made: commands per second of the synthetic model.

A load generator that is slower than what it loads measures itself. The flow is therefore made before a run,
and this benchmark says how long that takes."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.bench.host import describe_host
from exchange.bench.micro import check_kinds
from exchange.bench.results import BenchResult, MicroResult
from exchange.flow import load_flow
from exchange.flow.config import SyntheticConfig

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

FLOW_KINDS: Final = ("synthetic",)
SYMBOL_COUNTS: Final = (1, 8, 100)


class FlowBenchPlan(NamedTuple):
    """How many commands each flow has, and how often it is made."""

    commands: int = 1_000_000
    rounds: int = 5


def run_flow_bench(
    kinds: Sequence[str], plan: FlowBenchPlan, command_line: str, progress: "Progress"
) -> BenchResult:
    """Make flows with few and with many symbols, interleaved; a different seed in every round.

    Raises:
        UserError: an unknown kind.
    """
    check_kinds("flow", kinds, FLOW_KINDS)
    commands, rounds = plan.commands, plan.rounds
    rates: dict[int, list[float]] = {symbols: [] for symbols in SYMBOL_COUNTS}
    progress.total(1 + rounds * len(rates))
    progress.step("compiling and warming up")
    load_flow("synthetic", synthetic=SyntheticConfig(commands=1000))
    for round_index in range(rounds):
        for symbols, values in rates.items():
            progress.step(f"{symbols} symbols, round {round_index + 1} of {rounds}")
            model = SyntheticConfig(commands=commands, symbols=symbols, seed=round_index)
            begin = time.perf_counter_ns()
            flow = load_flow("synthetic", synthetic=model)
            values.append(len(flow.commands) / (time.perf_counter_ns() - begin) * 1e9)
    rows = tuple(
        MicroResult(
            name="synthetic flow",
            variant=f"{symbols} symbols",
            unit="commands/s",
            better="higher",
            values=tuple(values),
            parameters={"commands": commands},
        )
        for symbols, values in rates.items()
    )
    return BenchResult(
        kind="flow",
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        command_line=command_line,
        host=describe_host(),
        micro=rows,
    )
