"""``exchange profile``: list the profiles, show one resolved, compare two, check a file.

The commands only parse, call :mod:`exchange.settings` and print. What they print is plain text: it can be
piped, and what ``show`` prints is a profile itself. A mistake leaves as :class:`~exchange.errors.UserError`,
which the command line prints on one line before it exits with 2.

The settings are imported inside the commands, so that ``exchange --help`` does not wait for them.
"""

import importlib.util
import os
import platform
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.errors import UserError
from exchange.findings import package_version

if TYPE_CHECKING:
    from exchange.settings import Resolved, Settings

_WIDTH = 100
_PROCESSORS = ("x86_64", "aarch64")

_set_option: Callable[[Callable[..., None]], Callable[..., None]] = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="Override a value of the profile, as in --set queue.capacity_slots=4096. May be repeated.",
)


@click.group()
def profile() -> None:
    """The profiles: which techniques an exchange is built from."""


@profile.command("list")
def list_command() -> None:
    """List the profiles, what each builds on, and whether this machine can run it."""
    from exchange.settings import list_profiles, resolve, warnings

    cores, nodes = available_cores(), available_nodes()
    for position, name in enumerate(list_profiles()):
        click.echo("\n" * (position > 0) + click.style(name, bold=True))
        try:
            resolved = resolve(name)
        except UserError as error:
            _print_wrapped(f"broken: {error}")
            continue
        _print_wrapped(resolved.settings.description)
        _print_wrapped("extends: " + (" → ".join(resolved.chain[1:]) or "nothing"))
        lacking = missing(resolved.settings)
        _print_wrapped(
            "this machine: " + (f"cannot run it; {'; '.join(lacking)}" if lacking else "can run it")
        )
        for warning in warnings(resolved.settings, cores, nodes):
            _print_wrapped(f"note: {warning}")


@profile.command("show")
@click.argument("name_or_path", metavar="NAME")
@_set_option
def show_command(name_or_path: str, overrides: tuple[str, ...]) -> None:
    """Print a profile with all its values, and where each of them came from.

    NAME is a profile's name, or the path of a file. What is printed is itself a profile.
    """
    from exchange.settings import resolve
    from exchange.settings_text import settings_toml

    click.echo(settings_toml(resolve(name_or_path, overrides)), nl=False)


@profile.command("diff")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@_set_option
def diff_command(first: str, second: str, overrides: tuple[str, ...]) -> None:
    """Print the keys in which two profiles differ.

    A and B are names or paths. --set applies to B, so that one profile can be compared with itself changed.
    """
    from exchange.profile_files import toml_value
    from exchange.settings import diff, load_profile

    changed = second + (" --set" if overrides else "")
    rows = [("key", first, changed)]
    for key, left, right in diff(load_profile(first), load_profile(second, overrides)):
        rows.append(
            (key, "-" if left is None else toml_value(left), "-" if right is None else toml_value(right))
        )
    if len(rows) == 1:
        click.echo(f"{first} and {changed} do not differ")
        return
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@profile.command("check")
@click.argument("file", metavar="FILE")
@_set_option
def check_command(file: str, overrides: tuple[str, ...]) -> None:
    """Check a profile: what it amounts to here, or its first mistake in one line."""
    from exchange.settings import resolve, warnings

    resolved = resolve(file, overrides)
    click.echo(f"ok: {file}")
    for line in _summary(resolved):
        _print_wrapped(line)
    for lack in missing(resolved.settings):
        _print_wrapped(f"this machine cannot run it: {lack}")
    for warning in warnings(resolved.settings, available_cores(), available_nodes()):
        _print_wrapped(f"note: {warning}")


def _summary(resolved: "Resolved") -> list[str]:
    from exchange.agent_layout import thread_layout
    from exchange.settings import flatten

    settings, cores = resolved.settings, available_cores()
    kinds = [
        f"{key.removesuffix('.kind')} {kind}"
        for key, kind in flatten(settings).items()
        if key.endswith(".kind")
    ]
    threads = " | ".join(" + ".join(agents) for agents in thread_layout(settings, cores))
    return [
        f"extends: {' → '.join(resolved.chain[1:]) or 'nothing'}",
        f"layers: {', '.join(kinds)}",
        f"shards: {settings.shards.count}",
        f"threads with {cores} {'core' if cores == 1 else 'cores'}: {threads}",
    ]


def available_cores() -> int:
    """How many cores the operating system lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_nodes(system: Path = Path("/sys/devices/system/node")) -> int:
    """How many NUMA nodes with memory the machine has; 0 if it does not tell."""
    from exchange.placement.topology import read_cpu_list

    return len(read_cpu_list(system / "has_memory"))


def missing(settings: "Settings") -> tuple[str, ...]:
    """What this machine lacks to run a profile, each with its remedy; nothing is loaded or compiled to find
    out.

    ``exchange doctor`` looks closer: it tries the layers.
    """
    from exchange.replication.config import FABRIC_PACKAGES, RdmaReplicationConfig

    lacking = []
    if not sys.platform.startswith("linux"):
        lacking.append(f"it needs Linux, and this is {sys.platform}")
    if platform.machine() not in _PROCESSORS:
        lacking.append(
            f"it needs a processor of {' or '.join(_PROCESSORS)}, and this is {platform.machine()}"
        )
    if importlib.util.find_spec("numba") is None:
        lacking.append("numba is not installed (pip install numba)")
    if isinstance(settings.replication, RdmaReplicationConfig) and package_version("libfabric") is None:
        lacking.append(f"libfabric is not installed (sudo apt-get install {FABRIC_PACKAGES})")
    return tuple(lacking)


def _print_wrapped(text: str) -> None:
    click.echo(
        textwrap.fill(
            text,
            _WIDTH,
            initial_indent="    ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    )
