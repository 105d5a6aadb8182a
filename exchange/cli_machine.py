"""``exchange topology`` and ``exchange doctor``: what this machine is, and what it can run."""

import json
from pathlib import Path

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
def topology(
    profile: str,
    synthetic: str | None,
    xml: Path | None,
    svg: Path | None,
    json_path: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Show the machine, where the threads of PROFILE [default: pinned] would run, and why."""
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
        record = json.dumps(topology_record(machine, threads, settings.placement), indent=1)
        try:
            json_path.write_text(record + "\n")
        except OSError as error:
            raise UserError(f"cannot write {json_path}: {error.strerror}") from error
        click.echo(f"plan: {json_path}")


@click.command()
def doctor() -> None:
    """Say which layers this machine can run, and the command that enables each of the others."""
    from exchange.doctor import diagnose
    from exchange.findings import render

    click.echo(render(diagnose()))
