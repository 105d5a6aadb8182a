"""``exchange simulate``: run the exchange through seeded faults, many times, and say which seeds break it.

The command only parses, calls :mod:`exchange.simulation` and prints; everything is imported when it runs. A broken
invariant gives exit status 1, a mistake in the input leaves as :class:`~exchange.errors.UserError`."""

import os
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from exchange.ending import ended_by_sigterm
from exchange.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.simulation.simulator import Outcome

_SEEDS_MAX = 10_000_000
_TERMINATED_STATUS = 143
"""As a shell has it: 128 and the number of SIGTERM."""
_JOBS_MAX = 1024
_ACTIONS_MAX = 1_000_000


@click.command()
@click.option(
    "--seeds", default="1..100", show_default=True, metavar="A..B", help="The seeds to run, both included."
)
@click.option("--seed", type=int, metavar="N", help="Run this seed only, and show what came of it.")
@click.option("--verbose", is_flag=True, help="Print every step of the one seed that --seed names.")
@click.option("--jobs", type=int, metavar="N", help="Processes; as many as there are cores for us.")
@click.option(
    "--profile",
    "profile_name",
    default="serve",
    show_default=True,
    metavar="NAME",
    help="The exchange to simulate: a profile's name, or the path of a file.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="Set a value of the profile for all seeds, as in --set shards.count=2. May be repeated.",
)
@click.option(
    "--actions", type=int, default=0, metavar="N", help="How often clients act in a seed; 400 unless given."
)
def simulate(
    seeds: str,
    seed: int | None,
    verbose: bool,
    jobs: int | None,
    profile_name: str,
    overrides: tuple[str, ...],
    actions: int,
) -> None:
    """Run the exchange through everything that can happen to it, in an order that a seed decides.

    The real sessions, books, queues and journals run, stepped by hand on a clock of their own, while lines break,
    packets come in pieces, clients come and go, the disk is full or fails, the process is killed and the power cut.
    After each step it is checked that no message is lost or changed, that every order gets one answer, that quantities
    come out even, and that books are those of a textbook book. A seed that fails does so every time.
    """
    if not 0 <= actions <= _ACTIONS_MAX:
        raise UserError(f"--actions {actions}: allowed are 1 to {_ACTIONS_MAX:,}, or 0 for the usual")
    if verbose and seed is None:
        raise UserError("--verbose: prints the steps of one seed, which --seed N names")
    if seed is not None:
        _run_one(seed, verbose, profile_name, overrides, actions)
        return
    first, last = _parse_seeds(seeds)
    if jobs is not None and not 1 <= jobs <= _JOBS_MAX:
        raise UserError(f"--jobs {jobs}: allowed are 1 to {_JOBS_MAX}")
    from exchange.simulation.campaign import Options, run_campaign

    started = time.monotonic()
    processes = jobs or len(os.sched_getaffinity(0))
    options = Options(profile_name, overrides, actions)
    outcomes = None
    with ended_by_sigterm(), _watching(last - first + 1) as ended:
        outcomes = run_campaign(range(first, last + 1), processes, options, ended)
    if outcomes is None:
        raise SystemExit(_TERMINATED_STATUS)
    failed = [outcome for outcome in outcomes if outcome.failure is not None]
    more = _more_options(profile_name, overrides, actions)
    for outcome in failed:
        click.echo(f"seed {outcome.seed}: {outcome.failure}")
        click.echo(f"  exchange simulate --seed {outcome.seed} --verbose{more}")
    click.echo(_summary(outcomes, len(failed), time.monotonic() - started))
    if failed:
        raise SystemExit(1)


def _parse_seeds(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", text)
    if found is None:
        raise UserError(f"--seeds {text}: allowed is FIRST..LAST, as in 1..1000")
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < _SEEDS_MAX:
        raise UserError(f"--seeds {text}: allowed are 1 to {_SEEDS_MAX:,} seeds, the first one first")
    return first, last


def _run_one(seed: int, verbose: bool, profile: str, overrides: Sequence[str], actions: int) -> None:
    if not 0 <= seed < 10**18:
        raise UserError(f"--seed {seed}: allowed are 0 to 999,999,999,999,999,999")
    from exchange.simulation.simulator import simulate as simulate_seed

    outcome = simulate_seed(seed, profile, tuple(overrides), actions, click.echo if verbose else None)
    click.echo(
        f"seed {seed}: {outcome.steps:,} steps, {outcome.commands:,} records sequenced,"
        f" {outcome.messages:,} messages, digest {outcome.digest}"
    )
    if outcome.failure is not None:
        click.echo(outcome.trace + f"broken: {outcome.failure}")
        raise SystemExit(1)


def _more_options(profile: str, overrides: Sequence[str], actions: int) -> str:
    words = [] if profile == "serve" else ["--profile", profile]
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--actions", str(actions)] if actions else []
    return "".join(f" {shlex.quote(word)}" for word in words)


def _summary(outcomes: "Sequence[Outcome]", failed: int, seconds: float) -> str:
    steps, records, messages = (
        sum(getattr(outcome, name) for outcome in outcomes) for name in ("steps", "commands", "messages")
    )
    rate = len(outcomes) / max(seconds, 1e-9) * 3600
    return (
        f"{len(outcomes):,} seeds, {failed:,} failed: {steps:,} steps, {records:,} records sequenced,"
        f" {messages:,} messages; {rate:,.0f} seeds an hour"
    )


@contextmanager
def _watching(seeds: int) -> "Iterator[Callable[[Outcome], None]]":
    """A progress bar on the error stream, if a person watches it; it is gone when the block ends."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,} seeds"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    failed = 0
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("compiling, if need be", total=seeds)

        def ended(outcome: "Outcome") -> None:
            nonlocal failed
            failed += outcome.failure is not None
            progress.update(task, advance=1, description=f"{failed:,} failed")

        yield ended
