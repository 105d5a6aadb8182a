"""``exchange demo``, ``bench``, ``compare`` and ``flame``: everything that measures.

The commands only parse, call :mod:`exchange.bench` and print. What they measure and how is told there.
"""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from exchange.errors import UserError

if TYPE_CHECKING:
    from exchange.bench.results import BenchResult
    from exchange.bench.runner import Progress
    from exchange.flow import Flow
    from exchange.settings import Settings

STAIRS: Final = ("textbook", "compiled", "locked-sharded", "lockfree", "pinned")
MICRO_BENCHMARKS: Final = ("queue", "stack", "latest-value", "book", "flow")

QUICK_COMMANDS: Final = 200_000
QUICK_ROUNDS: Final = 3

_json_option = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures here as JSON.",
)
_html_option = click.option(
    "--html",
    "html_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report here [default: reports/TIME-KIND.html].",
)
_set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="Override a value of every profile, as in --set queue.capacity_slots=4096. May be repeated.",
)
_flow_options: Final[tuple[Callable[[Any], Any], ...]] = (
    click.option(
        "--flow",
        "source",
        default="synthetic",
        show_default=True,
        metavar="synthetic|FILE",
        help="The order flow: the built-in model, or a LOBSTER or ITCH 5.0 file.",
    ),
    click.option(
        "--as",
        "reading",
        type=click.Choice(["flow", "feed"]),
        default="flow",
        show_default=True,
        help="What a recorded execution becomes: an aggressive order, or a reduction of the order it names.",
    ),
    click.option("--symbol", help="Of an ITCH file, only this symbol."),
    click.option("--allow-truncated", is_flag=True, help="Of a file that is cut, take what is whole."),
    click.option("--commands", type=click.IntRange(2), help="Length of the flow [default: by profile]."),
    click.option(
        "--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of the synthetic flow."
    ),
    click.option(
        "--symbols", type=click.IntRange(1, 1024), default=8, show_default=True, help="Its symbols."
    ),
)


def _with_flow_options(command: Any) -> Any:
    for option in reversed(_flow_options):
        command = option(command)
    return command


class FlowChoice(NamedTuple):
    """Which order flow a person asked for; ``commands`` None leaves the length to the profile."""

    source: str = "synthetic"
    reading: str = "flow"
    symbol: str | None = None
    allow_truncated: bool = False
    commands: int | None = None
    seed: int = 1
    symbols: int = 8


@click.command()
@_json_option
@_html_option
def demo(json_path: Path | None, html_path: Path | None) -> None:
    """Run every stair from the textbook to pinned cores over the same orders and write a report.

    The same as 'exchange bench textbook compiled locked-sharded lockfree pinned --quick'.
    """
    from exchange.settings import load_profile

    click.echo("The same order flow through five exchanges, each one technique away from the one before.\n")
    profiles = [load_profile(name) for name in STAIRS]
    _finish(_bench_profiles(profiles, FlowChoice(), (), None, quick=True), json_path, html_path)


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="PROFILE... | LAYER [KIND...]")
@_with_flow_options
@click.option(
    "--rate",
    "rates",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    help="Offered load in commands/s, instead of parts of each profile's own throughput. May be repeated.",
)
@click.option("--rounds", type=click.IntRange(1, 1000), help="Interleaved rounds [default: by profile].")
@click.option("--quick", is_flag=True, help="A short flow and few rounds: under a minute.")
@_set_option
@_json_option
@_html_option
def bench(
    targets: tuple[str, ...],
    rates: tuple[float, ...],
    rounds: int | None,
    quick: bool,
    overrides: tuple[str, ...],
    json_path: Path | None,
    html_path: Path | None,
    **flow: Any,
) -> None:
    """Measure profiles against each other, or the variants of one layer.

    PROFILE is a name ('exchange profile list') or a TOML file; the first one is the baseline of all ratios. LAYER is
    one of queue, stack, latest-value, book, flow; KINDs are some of its variants, or for queue a file of your own
    ('file:./my_queue.py:MyQueue').
    """
    if targets[0] in MICRO_BENCHMARKS:
        _finish(_bench_layer(targets[0], targets[1:], rounds, quick=quick), json_path, html_path)
        return
    from exchange.settings import load_profile

    profiles = [load_profile(target, overrides) for target in targets]
    names = [settings.name for settings in profiles]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UserError(f"profile {', '.join(doubled)} is named twice; a comparison needs different names")
    result = _bench_profiles(profiles, FlowChoice(**flow), rates, rounds, quick=quick)
    _finish(result, json_path, html_path)


def _bench_profiles(
    profiles: "list[Settings]",
    choice: FlowChoice,
    rates: tuple[float, ...],
    rounds: int | None,
    *,
    quick: bool,
) -> "BenchResult":
    from exchange.bench.runner import BenchPlan, run_bench

    measure = profiles[0].bench
    length = choice.commands or (QUICK_COMMANDS if quick else measure.saturation_commands)
    with _progress() as progress:
        progress.detail("reading the order flow")
        flow = _load_flow(choice, length)
        plan = BenchPlan(
            rounds=rounds or (QUICK_ROUNDS if quick else measure.rounds),
            warmup_commands=measure.warmup_commands,
            saturation_ns=150_000_000 if quick else 500_000_000,
            load_fractions=(0.3, 0.6, 0.9) if quick else measure.offered_load_fractions,
            rates=rates,
            point_ns=200_000_000 if quick else measure.point_duration_ns,
            flow_seed=choice.seed if choice.source == "synthetic" else None,
        )
        return run_bench(profiles, flow, plan, command_line(), progress)


def _load_flow(choice: FlowChoice, length: int) -> "Flow":
    from exchange.flow import load_flow
    from exchange.flow.config import Reading, SyntheticConfig

    if choice.source == "synthetic":
        model = SyntheticConfig(commands=length, seed=choice.seed, symbols=choice.symbols)
        return load_flow("synthetic", synthetic=model)
    reading: Reading = "feed" if choice.reading == "feed" else "flow"
    flow = load_flow(
        choice.source, reading=reading, symbol=choice.symbol, allow_truncated=choice.allow_truncated
    )
    return flow.first(choice.commands) if choice.commands else flow


def _bench_layer(layer: str, kinds: tuple[str, ...], rounds: int | None, *, quick: bool) -> "BenchResult":
    """A micro-benchmark: the variants of one layer (``kinds``, or all of them) against each other."""
    with _progress() as progress:
        match layer:
            case "queue":
                from exchange.bench.queue_bench import QueueBenchPlan, run_queue_bench

                queue_plan = QueueBenchPlan()
                if quick:
                    queue_plan = queue_plan._replace(records=1_000_000, round_trips=10_000)
                return run_queue_bench(
                    kinds, _with_rounds(queue_plan, rounds, quick), command_line(), progress
                )
            case "stack":
                from exchange.bench.stack_bench import StackBenchPlan, run_stack_bench

                stack_plan = StackBenchPlan(operations=300_000) if quick else StackBenchPlan()
                return run_stack_bench(
                    kinds, _with_rounds(stack_plan, rounds, quick), command_line(), progress
                )
            case "latest-value":
                from exchange.bench.latest_value_bench import LatestValueBenchPlan, run_latest_value_bench

                value_plan = _with_rounds(LatestValueBenchPlan(), rounds, quick)
                return run_latest_value_bench(kinds, value_plan, command_line(), progress)
            case "book":
                from exchange.bench.book_bench import BookBenchPlan, run_book_bench

                book_plan = BookBenchPlan()
                if quick:
                    book_plan = book_plan._replace(commands=500_000, interpreted_commands=20_000)
                return run_book_bench(kinds, _with_rounds(book_plan, rounds, quick), command_line(), progress)
            case _:
                from exchange.bench.flow_bench import FlowBenchPlan, run_flow_bench

                flow_plan = FlowBenchPlan(commands=300_000) if quick else FlowBenchPlan()
                return run_flow_bench(kinds, _with_rounds(flow_plan, rounds, quick), command_line(), progress)


def _with_rounds[Plan: tuple[Any, ...]](plan: Plan, rounds: int | None, quick: bool) -> Plan:
    """The plan of a micro-benchmark with as many rounds as were asked for."""
    if rounds is None and not quick:
        return plan
    return plan._replace(rounds=rounds or QUICK_ROUNDS)  # type: ignore[attr-defined,no-any-return]


@click.command()
@click.argument("before", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("after", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--different-hosts", is_flag=True, help="Compare although the machines differ.")
def compare(before: Path, after: Path, different_hosts: bool) -> None:
    """Compare two result files of the same benchmark on the same machine: what changed, and is it more than noise?"""
    from exchange.bench.compare import compare_files
    from exchange.bench.terminal import print_comparison

    print_comparison(compare_files(before, after, allow_different_hosts=different_hosts))


@click.command()
@click.argument("profile")
@click.option(
    "--output", default="flame.svg", show_default=True, type=click.Path(dir_okay=False, path_type=Path)
)
@click.option(
    "--seconds", type=click.IntRange(1, 600), default=5, show_default=True, help="How long to sample."
)
@click.option("--native", is_flag=True, help="Show the C functions below the Python ones as well.")
@_set_option
def flame(profile: str, output: Path, seconds: int, native: bool, overrides: tuple[str, ...]) -> None:
    """Run PROFILE at saturation under py-spy and draw where its threads spend their time.

    py-spy sees Python functions: in a compiled loop it shows the loop as a whole.
    """
    from exchange.bench.flame import record_flame_graph

    record_flame_graph(profile, overrides, output, seconds, native=native)
    click.echo(f"flame graph: {output}  (open it in a browser; click to zoom)")


def _finish(result: "BenchResult", json_path: Path | None, html_path: Path | None) -> None:
    """Print the result, write the files, and end with the report's path."""
    from exchange.bench.report import write_report
    from exchange.bench.results import to_json
    from exchange.bench.terminal import print_result

    print_result(result)
    if json_path is not None:
        _write(json_path, lambda path: path.write_bytes(to_json(result)))
        click.echo(f"figures: {json_path}")
    report = html_path or Path("reports") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{result.kind}.html"
    _write(report, lambda path: write_report(result, path))
    click.echo(f"report: {report}")


def _write(path: Path, write: Callable[[Path], object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def command_line() -> str:
    """What was typed, for the result file; the path of the command itself is left out."""
    return shlex.join(["exchange", *sys.argv[1:]])


@contextmanager
def _progress() -> "Iterator[Progress]":
    """A progress bar on standard error while something long runs; gone afterwards."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from exchange.bench.runner import Progress

    columns = (BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    with Bar(*columns, TextColumn("{task.description}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def step(text: str) -> None:
            bar.update(task, description=text, advance=1)

        yield Progress(
            total=lambda parts: bar.update(task, total=parts, completed=-1),
            step=step,
            detail=lambda text: bar.update(task, description=text),
        )
