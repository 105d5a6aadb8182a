"""``exchange replay``: play a recorded market through the whole exchange and show what came of it.

The command only parses, calls :mod:`exchange.replay` and prints; everything is imported when it runs. A
mistake in the input leaves as :class:`~exchange.errors.UserError`, Ctrl-C as KeyboardInterrupt after every
thread of the exchange has ended: the command line makes exit codes of them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.errors import UserError

if TYPE_CHECKING:
    from msgspec import Struct

    from exchange.replay import Watcher


reading_option = click.option(
    "--as",
    "reading",
    type=click.Choice(["flow", "feed"]),
    default="flow",
    show_default=True,
    help="What a recorded execution becomes: an aggressive order, or a reduction of the order it names.",
)
symbol_option = click.option("--symbol", help="Of an ITCH file, only this symbol.")
speed_option = click.option(
    "--speed",
    "speed_factor",
    type=float,
    default=0.0,
    metavar="FACTOR",
    help="Send at the recorded times: 1 as it happened, 10 ten times as fast; 0, the default, all at once.",
)


@click.command()
@click.argument("file", metavar="FILE")
@click.option(
    "--profile",
    "profile_name",
    default="compiled",
    show_default=True,
    metavar="NAME",
    help="The exchange to play it through: a profile's name, or the path of a file.",
)
@reading_option
@symbol_option
@click.option(
    "--level-one",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="LOBSTER's order book file of the same symbol and day: compare the best prices with it.",
)
@speed_option
@click.option("--allow-truncated", is_flag=True, help="Of a file that is cut off, replay what is whole.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="Override a value of the profile, as in --set book.kind=naive. May be repeated.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report here as JSON.",
)
def replay(
    file: str,
    profile_name: str,
    reading: str,
    symbol: str | None,
    level_one: str | None,
    speed_factor: float,
    allow_truncated: bool,
    overrides: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Play a recorded market through the exchange and show the book at its end.

    FILE is a LOBSTER message file or a NASDAQ ITCH 5.0 file, plain or gzip. Every order takes the way of a live one,
    through all layers of the profile. Printed are the best prices and the depth at the end, what was traded and
    refused, whether it agrees with the record, and two digests by which profiles can be compared.
    """
    if not 0 <= speed_factor < math.inf:
        raise UserError(f"--speed {speed_factor:g}: 0 (all at once) or more is allowed; 1 is as it happened")
    if json_path is not None and not json_path.absolute().parent.is_dir():
        raise UserError(f"--json {json_path}: there is no folder {json_path.absolute().parent}")
    from exchange.flow import RecordedConfig, build_flow
    from exchange.replay import run_replay
    from exchange.replay_text import print_report
    from exchange.settings import load_profile

    settings = load_profile(profile_name, overrides)
    flow = build_flow(RecordedConfig(file, "feed" if reading == "feed" else "flow", symbol, allow_truncated))
    with watching(len(flow.commands)) as watcher:
        report = run_replay(
            flow,
            settings,
            reading=reading,
            speed_factor=speed_factor or None,
            level_one=level_one,
            watcher=watcher,
        )
    print_report(report)
    if json_path is not None:
        write_json(report, json_path)


@contextmanager
def watching(commands: int) -> "Iterator[Watcher]":
    """A progress bar on the error stream, if a person watches it; it is gone when the block ends."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from exchange.replay import Watcher

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,} commands"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=commands)
        yield Watcher(
            compiling=lambda text: progress.update(task, description=text),
            answered=lambda count: progress.update(task, description="replaying", completed=count),
        )


def write_json(report: "Struct", path: Path) -> None:
    """Write a report; UserError if that cannot be."""
    import msgspec

    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    except OSError as error:
        raise UserError(f"--json {path}: {error.strerror}") from error
