"""What is the queue worth? ``python measure.py`` puts it between its two neighbours and draws the result.

``locked`` is the exchange's ring under a mutex, ``spsc`` its lock-free ring. All three are measured by the
exchange's own benchmark (``exchange bench queue``): two threads on two cores, records pushed one by one and
32 at a time, and one record sent there and back. The rounds are interleaved, so a machine that is slower for
a while is slower for all.

This is the queue alone. What it is worth inside an exchange, ``exchange bench compiled my-queue.toml``
measures.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

import msgspec
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from exchange.bench.queue_bench import QueueBenchPlan, run_queue_bench
from exchange.bench.results import BenchResult, MicroResult
from exchange.bench.runner import Progress
from exchange.bench.summary import micro_groups
from exchange.bench.terminal import print_result
from exchange.errors import UserError

HERE: Final = Path(__file__).resolve().parent


def measure(queue_file: Path, plan: QueueBenchPlan) -> BenchResult:
    """``locked``, the queue of the file (called "mine") and ``spsc``."""
    kind = f"file:{queue_file.resolve()}:MyQueue"
    progress = Progress(
        step=lambda text: print(f"   {text.replace(kind, 'mine')}", file=sys.stderr, flush=True)
    )
    result = run_queue_bench(["locked", kind, "spsc"], plan, "python measure.py", progress)

    def named(row: MicroResult) -> MicroResult:
        return msgspec.structs.replace(row, variant="mine") if row.variant == kind else row

    return msgspec.structs.replace(result, micro=tuple(named(row) for row in result.micro))


def draw(result: BenchResult, path: Path) -> None:
    """A panel for each thing measured: the median as a bar, each round as a dot."""
    groups = [group for group in micro_groups(result) if len(group.rows) > 1]
    figure = Figure(figsize=(10, 1.6 * len(groups) + 0.5), layout="constrained")
    for panel, group in zip(figure.subplots(len(groups), squeeze=False).flat, groups, strict=True):
        for position, row in enumerate(group.rows):
            if row.values is not None:
                panel.barh(
                    position, row.values.median, color="tab:orange" if row.result.variant == "mine" else "0.7"
                )
                panel.plot(row.result.values, [position] * len(row.result.values), "k.", markersize=5)
        panel.set_yticks(range(len(group.rows)), [row.result.variant for row in group.rows])
        panel.invert_yaxis()
        panel.xaxis.set_major_formatter(EngFormatter())
        measured = ", ".join(f"{name} {value}" for name, value in group.parameters.items() if name != "cores")
        unit, better = group.rows[0].result.unit, group.rows[0].result.better
        panel.set_title(
            f"{group.name} ({unit}, {better} is better)  {measured}", loc="left", fontsize="medium"
        )
    figure.savefig(path)


def main() -> int:
    """Measure, print the table, draw."""
    parser = argparse.ArgumentParser(description="What is the queue worth?")
    parser.add_argument(
        "queue_file", nargs="?", type=Path, default=HERE / "my_queue.py", help="default: my_queue.py"
    )
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--records", type=int, default=2_000_000, help="records in one measurement, at most")
    parser.add_argument("--plot", type=Path, default=Path("queues.svg"), help="where to draw (.svg or .png)")
    options = parser.parse_args()
    plan = QueueBenchPlan(records=options.records, rounds=options.rounds, capacities=(1024,))
    try:
        result = measure(options.queue_file, plan)
        print_result(result)
        draw(result, options.plot)
    except (UserError, OSError) as error:
        print(f"measure.py: {error}", file=sys.stderr)
        return 2
    print(f"plot: {options.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
