"""``exchange topology`` and ``exchange doctor``: what this machine is, and what it can run."""

import json
from pathlib import Path
from typing import Any

import click

from exchange.errors import UserError


@click.command()
@click.argument("profile", default="pinned")
@click.option("--synthetic", metavar="STRING", help="Plan for a made-up machine, as in 'node:2 core:8 pu:2'.")
@click.option(
    "--xml", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Or for one from hwloc XML."
)
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Draw machine and plan here.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the plan as JSON."
)
@click.option(
    "--set", "overrides", multiple=True, metavar="TABLE.KEY=VALUE", help="Override a value of the profile."
)
@click.option(
    "--running",
    is_flag=False,
    flag_value="",
    metavar="[PID]",
    help="Instead, the memory of a running exchange: the pages of each part on each NUMA node.",
)
def topology(
    profile: str,
    synthetic: str | None,
    xml: Path | None,
    svg: Path | None,
    json_path: Path | None,
    overrides: tuple[str, ...],
    running: str | None,
) -> None:
    """Show the machine, where the threads of PROFILE [default: pinned] would run, and why.

    With --running, show where the memory of an exchange that runs on this machine is. Without a number it is the only
    one that runs; the same user may look, and root.
    """
    if running is not None:
        _show_running(running, json_path)
        return
    from exchange.assembly import describe_threads
    from exchange.placement import load_topology, plan
    from exchange.placement.drawing import draw_text, topology_record, write_svg
    from exchange.settings import load_profile

    if synthetic is not None and xml is not None:
        raise UserError("--synthetic and --xml: give one of them")
    settings = load_profile(profile, overrides)
    machine = load_topology(synthetic if xml is None else str(xml))
    threads = describe_threads(settings, machine)
    click.echo(draw_text(machine, plan(machine, threads, settings.placement)))
    if svg is not None:
        write_svg(svg, machine, threads, settings.placement)
        click.echo(f"drawing: {svg}")
    if json_path is not None:
        _write_json(json_path, topology_record(machine, threads, settings.placement))
        click.echo(f"plan: {json_path}")


def _show_running(text: str, json_path: Path | None) -> None:
    from exchange.placement.running import (
        choose_running,
        look_at,
        read_running,
        running_record,
        running_report,
    )

    process_id = choose_running(text)
    running = read_running(process_id)
    rows = look_at(process_id, running)
    click.echo(running_report(process_id, running, rows))
    if json_path is not None:
        _write_json(json_path, running_record(process_id, running, rows))
        click.echo(f"memory: {json_path}")


def _write_json(path: Path, record: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


@click.command()
def doctor() -> None:
    """Say which layers this machine can run, and the command that enables each of the others."""
    from exchange.doctor import diagnose
    from exchange.findings import render

    click.echo(render(diagnose()))
