"""``exchange topology`` and ``exchange doctor``: what this machine is, and what it can run."""

from pathlib import Path

import click

from exchange.errors import UserError


@click.command()
@click.argument("profile", default="pinned")
@click.option("--synthetic", metavar="STRING", help="Plan for a made-up machine, as in 'node:2 core:8 pu:2'.")
@click.option("--xml", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Or for one from hwloc XML.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Draw machine and plan here.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the plan as JSON.")
@click.option("--set", "overrides", multiple=True, metavar="TABLE.KEY=VALUE", help="Override a value of the profile.")
def topology(
    profile: str,
    synthetic: str | None,
    xml: Path | None,
    svg: Path | None,
    json_path: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Show the machine, where the threads of PROFILE [default: pinned] would run, and why."""
    import msgspec

    from exchange.placement import ThreadDescription, load_topology, plan
    from exchange.placement.drawing import draw_svg, draw_text
    from exchange.settings import BusySpinIdle, load_profile, thread_layout

    if synthetic is not None and xml is not None:
        raise UserError("--synthetic and --xml: give one of them")
    settings = load_profile(profile, overrides)
    machine = load_topology(synthetic if xml is None else str(xml))
    spins = isinstance(settings.idle, BusySpinIdle)
    layout = thread_layout(settings, len(machine.usable_cores))
    threads = [ThreadDescription("+".join(names), names, spins) for names in layout]
    planned = plan(machine, threads, settings.placement)
    click.echo(draw_text(machine, planned))
    if svg is not None:
        svg.write_text(draw_svg(machine, planned))
        click.echo(f"drawing: {svg}")
    if json_path is not None:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode({"topology": machine, "plan": planned})))
        click.echo(f"plan: {json_path}")


@click.command()
def doctor() -> None:
    """Say which layers this machine can run, and the command that enables each of the others."""
    from exchange.doctor import diagnose, render

    click.echo(render(diagnose()))
