"""``exchange failover-demo``: a pair of exchanges under load, its primary killed, and the picture of what happened.

The command only parses, calls :mod:`exchange.failover` and prints; everything is imported when it runs. A mistake
leaves as :class:`~exchange.errors.UserError`, Ctrl-C as KeyboardInterrupt, after the children have ended."""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli_bench import command_line, html_option, json_option, write_file
from exchange.ending import ended_by_sigterm

if TYPE_CHECKING:
    from exchange.failover.plan import FailoverPlan, How
    from exchange.failover.results import FailoverResult

NOT_WHOLE_STATUS = 1
TERMINATED_STATUS = 143
"""As a shell has it: 128 and the number of SIGTERM."""


@click.command("failover-demo")
@click.argument("profile", default="replicated-tcp")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="Override a value of the profile, for both exchanges. May be repeated.",
)
@click.option(
    "--gate",
    type=click.Choice(["async", "received", "applied"]),
    help="The same as --set replication.gate=GATE.",
)
@click.option(
    "--how",
    type=click.Choice(["kill", "stop", "promote"]),
    default="kill",
    show_default=True,
    help="SIGKILL; SIGSTOP past the lease, then SIGCONT; or an order to hand over.",
)
@click.option(
    "--kills", type=int, default=1, show_default=True, help="How many failovers, there and back again."
)
@click.option(
    "--rate",
    type=float,
    default=2000.0,
    show_default=True,
    metavar="REQUESTS",
    help="Requests/s of all clients together.",
)
@click.option("--sessions", type=int, default=4, show_default=True, help="How many clients.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Seed of the requests and the moments.",
)
@json_option
@html_option
def failover_demo(
    profile: str,
    overrides: tuple[str, ...],
    gate: str | None,
    how: "How",
    kills: int,
    rate: float,
    sessions: int,
    seed: int,
    json_path: Path | None,
    html_path: Path | None,
) -> None:
    """Kill the primary of a pair of exchanges under load, and show what its clients felt.

    Two exchanges (PROFILE, replicated-tcp by default) are started on this machine as primary and backup, and clients
    trade with them. The primary is killed with SIGKILL; the backup takes over, the clients go on there, and the old
    primary comes back as the backup of the new one. At the end every request that had been acknowledged is looked for
    in the journal, digests are compared, and the timeline is drawn into a report.

    It takes half a minute, and some minutes the first time on a machine. Exits with 1 if anything was lost or done
    twice.
    """
    from exchange.failover.plan import FailoverPlan

    said = (*overrides, *((f"replication.gate={gate}",) if gate is not None else ()))
    plan = FailoverPlan(profile, said, kills, how, rate, sessions, seed)
    result = _demonstrate(plan)
    if result is None:
        raise SystemExit(TERMINATED_STATUS)
    _finish(result, json_path, html_path)
    if not result.is_whole:
        raise SystemExit(NOT_WHOLE_STATUS)


def _demonstrate(plan: "FailoverPlan") -> "FailoverResult | None":
    """Run it in a folder that is gone afterwards; None if SIGTERM has ended it."""
    from exchange.failover.demonstration import Demonstration
    from exchange.failover.narrator import Narrator

    result = None
    with ended_by_sigterm():
        folder = Path(tempfile.mkdtemp(prefix="exchange-failover-"))
        try:
            result = Demonstration(plan, folder, Narrator(click.echo)).run(command_line())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return result


def _finish(result: "FailoverResult", json_path: Path | None, html_path: Path | None) -> None:
    """Print the table, write the files, and end with the report's path."""
    import msgspec

    from exchange.failover.terminal import print_failovers

    print_failovers(result)
    if json_path is not None:
        document = msgspec.json.format(msgspec.json.encode(result))
        write_file(json_path, lambda path: path.write_bytes(document))
        click.echo(f"figures: {json_path}")
    # Its drawing takes a second to load, for which nobody has to wait who wants to see figures.
    from exchange.failover.page import write_page

    report = html_path or Path("reports") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{result.kind}.html"
    write_file(report, lambda path: write_page(result, path))
    click.echo(f"report: {report}")
