"""``exchange serve`` of one of a pair, ``exchange status`` and ``exchange promote``.

The commands only parse, call :mod:`exchange.replication` and print. A mistake leaves as
:class:`~exchange.errors.UserError`, Ctrl-C as KeyboardInterrupt."""

import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from exchange.errors import UserError

if TYPE_CHECKING:
    from exchange.gateway.credentials import Users
    from exchange.replication.asking import PairStatus
    from exchange.replication.config import ActiveReplicationConfig
    from exchange.settings import Settings

REPLACED_STATUS: Final = 3
"""The exit status of a primary that was replaced."""

RETRY_SECONDS: Final = 0.2
DENIED_SECONDS: Final = 2.0
"""How long a primary is left alone that cannot be reached, and one that refuses."""


def serve_one_of_a_pair(settings: "Settings", users: "Users", backup_of: str | None) -> None:
    """Run an exchange of a pair until it ends, as ``exchange serve`` does.

    Args:
        settings: with replication.
        users: who may log on.
        backup_of: where the primary's pair listens; None: be primary.

    Raises:
        UserError: a mistake in the settings, or the other one of the pair.
        SystemExit: with :data:`REPLACED_STATUS`, if somebody else is primary.
        KeyboardInterrupt: Ctrl-C has ended it, in order.
    """
    from exchange.gateway.paired_server import PairedServer
    from exchange.replication.backup import CopyWanted
    from exchange.replication.config import NoneReplicationConfig
    from exchange.replication.control_line import parse_address

    if isinstance(settings.replication, NoneReplicationConfig):
        raise UserError(
            f"--backup-of {backup_of}: profile {settings.name} has replication.kind = none; it takes tcp or rdma, the"
            " same as the primary's"
        )
    if backup_of is None:
        server = PairedServer(settings, users)
        server.leave_cores_to_agents()
        server.run_as_primary(_progress, _listening)
        _end(server)
        return
    primary = parse_address(backup_of, "--backup-of")
    while True:
        _ensure_beginning(settings, settings.replication, primary)
        server = PairedServer(settings, users, primary)
        server.leave_cores_to_agents()
        outcome = server.run_as_backup(_progress, _listening)
        if not isinstance(outcome, CopyWanted):
            _end(server)
            return
        click.echo(f"the journal cannot be gone on with: {outcome.reason}", err=True)
        _copy(settings, settings.replication, primary)


def _progress(text: str) -> None:
    click.echo(text, err=True)


def _listening(address: str, port: int) -> None:
    click.echo(f"listening on {address} port {port}")


def _end(server: Any) -> None:
    """End as the server has ended."""
    if server.replaced_by:
        click.echo(f"exchange: replaced as primary by {server.replaced_by}", err=True)
        raise SystemExit(REPLACED_STATUS)
    if server.handed_over_to:
        click.echo(f"handed over to {server.handed_over_to}", err=True)
    elif server.ended_by == signal.SIGINT:
        raise KeyboardInterrupt


def _ensure_beginning(
    settings: "Settings", config: "ActiveReplicationConfig", primary: tuple[str, int]
) -> None:
    """A backup without a journal begins with a copy of the primary's."""
    from exchange.journal.config import NoneJournalConfig
    from exchange.journal.identity import IDENTITY_NAME

    assert not isinstance(settings.journal, NoneJournalConfig), "the settings refuse it"
    if not (Path(settings.journal.directory) / IDENTITY_NAME).exists():
        _copy(settings, config, primary)


def _copy(settings: "Settings", config: "ActiveReplicationConfig", primary: tuple[str, int]) -> None:
    """Have a copy of the primary's beginnings take the place of our journal; wait for the primary if need be."""
    from exchange.journal.config import NoneJournalConfig
    from exchange.replication.config import check_name_of_primary, node_name
    from exchange.replication.control_line import ControlLine, Denied, LineTrouble, await_pair_secret
    from exchange.replication.copying import receive_copy

    assert not isinstance(settings.journal, NoneJournalConfig)
    secret, told = await_pair_secret(Path(config.secret_file)), ""
    directory = Path(settings.journal.directory)
    while True:
        try:
            with ControlLine.connect(primary, node_name(config), "copy", secret) as line:
                check_name_of_primary(config, line.node, primary)
                aside = receive_copy(line, directory)
            break
        except LineTrouble as trouble:
            if str(trouble) != told:
                _progress(f"waiting for the primary at {primary[0]}:{primary[1]}: {trouble}")
            told = str(trouble)
            if isinstance(trouble, Denied):
                trouble.raise_if_final()
            time.sleep(DENIED_SECONDS if isinstance(trouble, Denied) else RETRY_SECONDS)
    _progress(f"copied the beginnings of the primary's journal to {directory}")
    if aside is not None:
        _progress(f"what was there before is now {aside}")


_SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="Override a value of the profile. May be repeated.",
)
_NODE = click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="HOST:PORT",
    help="Where a node's pair listens, instead of what the profile says. May be repeated.",
)


def _pair_config(profile: str, overrides: tuple[str, ...]) -> "ActiveReplicationConfig":
    from exchange.replication.config import NoneReplicationConfig
    from exchange.settings import load_profile

    config = load_profile(profile, overrides).replication
    if isinstance(config, NoneReplicationConfig):
        raise UserError(
            f"profile {profile}: replication.kind = none: it is no pair; allowed are tcp and rdma"
        )
    return config


@click.command()
@click.argument("profile", default="serve")
@_SET
@_NODE
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(profile: str, overrides: tuple[str, ...], nodes: tuple[str, ...], as_json: bool) -> None:
    """How a pair of exchanges is: who is primary, in which epoch, who is in sync, and how far each stream is.

    PROFILE is that of one of the two. The record of the lease is read from its store, and each node is asked that can
    be found: the profile's own, those that --node names, and those that these know of.
    """
    from exchange.replication.asking import ask_pair

    found = ask_pair(_pair_config(profile, overrides), nodes)
    if as_json:
        click.echo(json.dumps(found.document(), indent=2))
        return
    _show(found)


def _show(found: "PairStatus") -> None:
    record = found.record
    if record is None:
        click.echo("lease: nobody was ever primary")
    else:
        what = [
            f"lease: {record.primary} is primary in epoch {record.epoch}, for clients at {record.primary_address}"
        ]
        what.append(f"{record.backup} is in sync" if record.in_sync else "no backup is in sync")
        what += [
            text
            for text, holds in (("it hands over", record.handing_over), ("it has ended", record.ended))
            if holds
        ]
        click.echo("; ".join(what))
    for address, one in found.nodes.items():
        if isinstance(one, str):
            click.echo(f"{address}: {one}")
            continue
        sync = "in sync" if one.is_in_sync else "not in sync"
        heard = f", heard of the other {one.heard_ns / 1e6:.1f} ms ago" if one.heard_ns >= 0 else ""
        click.echo(f"{address}: {one.node}, {one.role} in epoch {one.epoch}, {sync}: {one.state}{heard}")
        for stream in one.streams:
            lag = (
                f", {stream.appended - stream.applied:,} behind"
                if one.role == "primary" and one.heard_ns >= 0
                else ""
            )
            click.echo(
                f"  {stream.name}: written {stream.appended:,}, received {stream.received:,},"
                f" applied {stream.applied:,}{lag}"
            )


@click.command()
@click.argument("profile", default="serve")
@_SET
@_NODE
def promote(profile: str, overrides: tuple[str, ...], nodes: tuple[str, ...]) -> None:
    """Have the backup of a pair take over.

    The primary takes nothing in any more, waits until the backup has everything, and hands its lease over; its clients
    go on at the other one. It is refused when the backup is not in sync, for then orders would be lost. A backup
    that is in sync and whose primary is lost takes over by itself as soon as the lease has run out.
    """
    from exchange.replication.asking import ask_to_promote

    click.echo(ask_to_promote(_pair_config(profile, overrides), nodes))
