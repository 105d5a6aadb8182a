"""How fast flows are made: commands per second of the synthetic model.

A load generator that is slower than what it loads measures itself. The flow is therefore made before a run, and this
benchmark says how long that takes.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from exchange.bench.host import describe_host
from exchange.bench.results import BenchResult, MicroResult
from exchange.flow import load_flow
from exchange.flow.config import SyntheticConfig

SYMBOL_COUNTS: Final = (1, 8, 100)


def run_flow_bench(
    commands: int, rounds: int, command_line: str, progress: Callable[[str], None] = lambda text: None
) -> BenchResult:
    """Make flows of ``commands`` commands, ``rounds`` times each, interleaved; a different seed in every round."""
    rates: dict[int, list[float]] = {symbols: [] for symbols in SYMBOL_COUNTS}
    progress("warm-up")
    load_flow("synthetic", synthetic=SyntheticConfig(commands=min(commands, 1000)))
    for round_index in range(rounds):
        for symbols, values in rates.items():
            progress(f"{symbols} symbols, round {round_index + 1} of {rounds}")
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
