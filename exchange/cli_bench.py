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

from exchange import limits
from exchange.cli_micro import ABLATION_OPTIONS, MICRO_BENCHMARKS, QUICK_ROUNDS, MicroChoice, ablate
from exchange.errors import UserError

if TYPE_CHECKING:
    from exchange.bench.results import BenchResult
    from exchange.bench.runner import Progress
    from exchange.flow import Flow
    from exchange.flow.config import ScenarioConfig, ScenarioName, SyntheticConfig
    from exchange.settings import Settings

STAIRS: Final = ("textbook", "compiled", "locked-sharded", "lockfree", "pinned")

QUICK_COMMANDS: Final = 200_000

json_option = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures here as JSON.",
)
html_option = click.option(
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
    click.option(
        "--scenario",
        type=click.Choice(["static", "normal", "swing-25", "swing-40", "flash-crash"]),
        help="Instead of the model, a published regime of one symbol, two million commands long.",
    ),
    click.option("--symbol", help="Of an ITCH file, only this symbol."),
    click.option("--allow-truncated", is_flag=True, help="Of a file that is cut, take what is whole."),
    click.option(
        "--commands", type=click.IntRange(2), help="Length of the flow [default: by profile or benchmark]."
    ),
    click.option(
        "--seed", type=click.IntRange(0), help="Seed of the model or scenario [default: each one's own]."
    ),
    click.option(
        "--symbols",
        type=click.IntRange(1, limits.FLOW_SYMBOLS_MAX),
        default=8,
        show_default=True,
        help="Symbols of the model.",
    ),
)


def _numbers(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[int, ...]:
    """The numbers of an option that takes some, with commas between them."""
    parts = text.split(",") if text else []
    if not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(f"{text!r}: must be numbers with commas between them, as in 1,2,4")
    return tuple(int(part) for part in parts)


def _with_flow_options(command: Any) -> Any:
    for option in reversed(_flow_options):
        command = option(command)
    return command


class FlowChoice(NamedTuple):
    """Which order flow a person asked for.

    ``commands`` None leaves the length to the profile, or makes a scenario as long as it is published; ``seed`` None
    is the model's own.
    """

    source: str = "synthetic"
    reading: str = "flow"
    scenario: "ScenarioName | None" = None
    symbol: str | None = None
    allow_truncated: bool = False
    commands: int | None = None
    seed: int | None = None
    symbols: int = 8


@click.command()
@json_option
@html_option
def demo(json_path: Path | None, html_path: Path | None) -> None:
    """Run every stair from the textbook to pinned cores over the same orders and write a report.

    The same as 'exchange bench textbook compiled locked-sharded lockfree pinned --quick'.
    """
    from exchange.settings import load_profile

    click.echo("The same order flow through five exchanges, each one technique away from the one before.\n")
    profiles = [load_profile(name) for name in STAIRS]
    finish(_bench_profiles(profiles, FlowChoice(), (), None, quick=True), json_path, html_path)


@click.command()
@click.argument("targets", nargs=-1, metavar="PROFILE... | LAYER [KIND...] | CORE")
@_with_flow_options
@click.option(
    "--all-scenarios", is_flag=True, help="Of core and --ablate: every scenario, one after the other."
)
@click.option(
    "--ids",
    type=click.Choice(["shuffled", "arrival", "arbitrary"]),
    multiple=True,
    help="Of core: order ids that are dense but shuffled, dense as they arrive, or any 64 bits. May be repeated "
    "[default: shuffled].",
)
@click.option(
    "--orders",
    type=click.IntRange(1, limits.BOOK_CAPACITY_ORDERS_MAX),
    help="Of snapshot: how many live orders. [default: 1000000]",
)
@click.option(
    "--shards",
    callback=_numbers,
    default="",
    show_default=False,
    metavar="N,N...",
    help="Of scaling: the numbers of shards. [default: 1,2,4 ... and as many as there are cores]",
)
@click.option(
    "--ablate", "layer", type=click.Choice(["book"]), help="What each technique inside this layer is worth."
)
@click.option(
    "--rate",
    "rates",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    help="Offered load in commands/s, instead of parts of each profile's own throughput. May be repeated.",
)
@click.option(
    "--rounds", type=click.IntRange(1, 1000), help="Interleaved rounds [default: by profile or benchmark]."
)
@click.option("--quick", is_flag=True, help="A short flow and few rounds: under a minute.")
@_set_option
@json_option
@html_option
@click.pass_context
def bench(
    context: click.Context,
    /,
    targets: tuple[str, ...],
    all_scenarios: bool,
    ids: tuple[Any, ...],
    orders: int | None,
    shards: tuple[int, ...],
    layer: str | None,
    rates: tuple[float, ...],
    rounds: int | None,
    quick: bool,
    overrides: tuple[str, ...],
    json_path: Path | None,
    html_path: Path | None,
    **flow: Any,
) -> None:
    """Measure profiles against each other, the variants of one layer, or the core.

    PROFILE is a name ('exchange profile list') or a TOML file; the first one is the baseline of all ratios. LAYER is
    one of queue, stack, latest-value, journal, book, flow, feed, risk, transport; KINDs are some of its variants, or
    for queue a file of your own ('file:./my_queue.py:MyQueue').

    CORE is one of core (the book with and without the hand-off of its events to another core), scaling (more and more
    shards, as threads and as processes; KINDs are some of threads, processes, spsc, mpsc), symbols (one to many of
    them), worst-cases (single commands that cost most), endurance (a hundred million commands in one process),
    snapshot (a shard with many live orders saved and put back).
    And of a served exchange: gateway (beside sockperf, a C program that only sends the bytes back), durability (what
    each kind and gate of a journal costs), hostile (what a good client feels of those who mean no good).
    And of a pair of them: lease (how soon a backup knows that its primary is gone).
    """
    choice = FlowChoice(**flow)
    typed = _typed_options(context)
    micro = MicroChoice(
        targets[1:],
        rounds,
        quick,
        choice.scenario,
        all_scenarios,
        ids,
        choice.commands,
        choice.seed,
        command_line(),
        choice.source,
        orders,
        shards,
    )
    if layer is not None:
        if targets:
            raise UserError(f"--ablate {layer}: not together with {targets[0]}; it measures that layer alone")
        _check_options(f"--ablate {layer}", [one for one in typed if one != "--ablate"], ABLATION_OPTIONS)
        with progress_bar() as progress:
            result = ablate(layer, micro, progress)
    elif not targets:
        raise UserError(
            "bench: name a PROFILE, a LAYER, a CORE benchmark or --ablate LAYER; see 'bench --help'"
        )
    elif targets[0] in MICRO_BENCHMARKS:
        result = _bench_micro(targets[0], micro, typed)
    else:
        _check_options("bench PROFILE", typed, _PROFILE_OPTIONS)
        result = _bench_profiles(_load_profiles(targets, overrides), choice, rates, rounds, quick=quick)
    finish(result, json_path, html_path)


_COMMON_OPTIONS: Final = ("--quick", "--json", "--html")
_PROFILE_OPTIONS: Final = (
    "--flow", "--as", "--scenario", "--symbol", "--allow-truncated", "--commands", "--seed", "--symbols", "--rate",
    "--rounds", "--set",
)  # fmt: skip


def _typed_options(context: click.Context) -> list[str]:
    """The options that were typed, as opposed to those that have their default."""
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and parameter.name is not None
        and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    ]


def _check_options(what: str, typed: list[str], taken: tuple[str, ...]) -> None:
    """Refuse an option that would change nothing, instead of ignoring it."""
    for option in typed:
        if option not in taken and option not in _COMMON_OPTIONS:
            raise UserError(
                f"{option}: not together with {what}, which takes {', '.join((*taken, *_COMMON_OPTIONS))}"
            )


def _load_profiles(targets: tuple[str, ...], overrides: tuple[str, ...]) -> "list[Settings]":
    from exchange.settings import load_profile

    profiles = [load_profile(target, overrides) for target in targets]
    names = [settings.name for settings in profiles]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UserError(f"profile {', '.join(doubled)} is named twice; a comparison needs different names")
    return profiles


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
    length = choice.commands or (QUICK_COMMANDS if quick else None)
    with progress_bar() as progress:
        progress.detail("reading the order flow")
        model = _model(choice, length, measure.saturation_commands)
        flow = _load_flow(choice, model, length)
        plan = BenchPlan(
            rounds=rounds or (QUICK_ROUNDS if quick else measure.rounds),
            warmup_commands=measure.warmup_commands,
            saturation_ns=150_000_000 if quick else 500_000_000,
            load_fractions=(0.3, 0.6, 0.9) if quick else measure.offered_load_fractions,
            rates=rates,
            point_ns=200_000_000 if quick else measure.point_duration_ns,
            flow_seed=None if model is None else model.seed,
        )
        return run_bench(profiles, flow, plan, command_line(), progress)


def _model(
    choice: FlowChoice, length: int | None, by_profile: int
) -> "SyntheticConfig | ScenarioConfig | None":
    """The settings of a flow that is made; None if it is read from a file. ``length`` None: as long as usual."""
    from msgspec import structs

    from exchange.flow.config import ScenarioConfig, SyntheticConfig

    model: SyntheticConfig | ScenarioConfig
    if choice.scenario is not None:
        _check_alone(choice)
        model = ScenarioConfig(scenario=choice.scenario)
        if length is not None:
            from exchange.flow.scenario import orders_for

            model = structs.replace(model, orders=orders_for(length))
    elif choice.source == "synthetic":
        model = SyntheticConfig(commands=length or by_profile, symbols=choice.symbols)
    else:
        return None
    return model if choice.seed is None else structs.replace(model, seed=choice.seed)


def _check_alone(choice: FlowChoice) -> None:
    """A scenario says what the flow is; options that say it otherwise are refused."""
    usual = FlowChoice()
    for option, value, alone in (
        ("--flow", choice.source, usual.source),
        ("--symbols", choice.symbols, usual.symbols),
    ):
        if value != alone:
            raise UserError(
                f"{option} {value}: not together with --scenario {choice.scenario}, a flow of one symbol by itself"
            )


def _load_flow(
    choice: FlowChoice, model: "SyntheticConfig | ScenarioConfig | None", length: int | None
) -> "Flow":
    from exchange.flow import build_flow, load_flow
    from exchange.flow.config import Reading

    if model is not None:
        flow = build_flow(model)
        return flow.first(length) if length else flow
    reading: Reading = "feed" if choice.reading == "feed" else "flow"
    flow = load_flow(
        choice.source, reading=reading, symbol=choice.symbol, allow_truncated=choice.allow_truncated
    )
    return flow.first(choice.commands) if choice.commands else flow


def _bench_micro(name: str, choice: MicroChoice, typed: list[str]) -> "BenchResult":
    benchmark = MICRO_BENCHMARKS[name]
    _check_options(f"bench {name}", typed, benchmark.options)
    if choice.kinds and not benchmark.takes_kinds:
        raise UserError(f"bench {name} {choice.kinds[0]}: {name} has no kinds to choose from")
    with progress_bar() as progress:
        return benchmark.run(choice, progress)


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


def finish(result: "BenchResult", json_path: Path | None, html_path: Path | None) -> None:
    """Print the result, write the files, and end with the report's path."""
    from exchange.bench.results import to_json
    from exchange.bench.terminal import print_result

    print_result(result)
    if json_path is not None:
        write_file(json_path, lambda path: path.write_bytes(to_json(result)))
        click.echo(f"figures: {json_path}")
    # Its drawing takes a second to load, for which nobody has to wait who wants to see figures.
    from exchange.bench.report import write_report

    report = html_path or Path("reports") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{result.kind}.html"
    write_file(report, lambda path: write_report(result, path))
    click.echo(f"report: {report}")


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written, and the folder for it. UserError if that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def command_line() -> str:
    """What was typed, for the result file; the path of the command itself is left out."""
    return shlex.join(["exchange", *sys.argv[1:]])


@contextmanager
def progress_bar() -> "Iterator[Progress]":
    """A progress bar on standard error while something long runs; gone afterwards."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from exchange.bench.runner import Progress

    counted = (BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    columns = (*counted, TextColumn("{task.description}"))
    console = Console(stderr=True)
    # Where no terminal is, rich would leave an empty line behind, and a mistake is told on one line.
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def step(text: str) -> None:
            bar.update(task, description=text, advance=1)

        yield Progress(
            total=lambda parts: bar.update(task, total=parts, completed=-1),
            step=step,
            detail=lambda text: bar.update(task, description=text),
        )
