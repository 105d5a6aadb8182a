"""``exchange send``: a recorded market, sent to an exchange on the network, and its feed held against a replay.

The command only parses, calls :mod:`exchange.load.recording` and prints. It exits with 1 if the feed's book is not the
replay's."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli_load import (
    address_option,
    device_of,
    device_option,
    password_option,
    transport_option,
    users_option,
)
from exchange.cli_replay import reading_option, speed_option, symbol_option, watching, write_json
from exchange.errors import UserError

if TYPE_CHECKING:
    from exchange.load.carriage import LoadCarrier
    from exchange.load.recording import SentReport


@click.command()
@click.argument("file", metavar="FILE")
@click.argument("endpoint", metavar="HOST:PORT[,HOST:PORT...]")
@users_option
@password_option
@transport_option
@device_option
@address_option
@click.option("--feed", "feed", required=True, metavar="ADDRESS:PORT", help="Where the exchange's feed goes.")
@click.option(
    "--interface",
    default="",
    metavar="ADDRESS",
    help="For a multicast group: the address of this machine on whose network it is joined.",
)
@reading_option
@symbol_option
@speed_option
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the report here."
)
def send(
    file: str,
    endpoint: str,
    users: str,
    password_env: str | None,
    transport: "LoadCarrier",
    device: str,
    address: str,
    feed: str,
    interface: str,
    reading: str,
    symbol: str | None,
    speed_factor: float,
    json_path: Path | None,
) -> None:
    """Send a recorded market to an exchange on the network, and compare its feed with a replay.

    FILE is a LOBSTER message file or a NASDAQ ITCH 5.0 file, HOST:PORT an exchange that speaks SoupBinTCP and OUCH 5.0;
    with --transport udp, afxdp or dpdk it is an 'exchange serve' with that transport. More addresses are those of its
    backups, to which the clients go when it has gone there. The users send the orders in their recorded sequence. The
    book that the exchange's feed tells of must then be the one that 'exchange replay' builds; both digests are printed.
    The exit status is 1 if they differ.
    """
    if not 0 <= speed_factor < math.inf:
        raise UserError(f"--speed {speed_factor:g}: 0 (all at once) or more is allowed; 1 is as it happened")
    if json_path is not None and not json_path.absolute().parent.is_dir():
        raise UserError(f"--json {json_path}: there is no folder {json_path.absolute().parent}")
    from exchange.flow import RecordedConfig, build_flow
    from exchange.load.logins import parse_endpoint, parse_endpoints, read_logins
    from exchange.load.recording import Destination, send_recording
    from exchange.settings import load_profile

    feed_address, feed_port = parse_endpoint(feed)
    first, *backups = parse_endpoints(endpoint)
    destination = Destination(
        first,
        tuple(read_logins(users, password_env)),
        feed_address,
        feed_port,
        interface,
        transport,
        device_of(transport, device),
        address,
        tuple(backups),
    )
    flow = build_flow(RecordedConfig(file, "feed" if reading == "feed" else "flow", symbol))
    settings = load_profile("compiled")
    with watching(len(flow.commands)) as watcher:
        report = send_recording(
            flow, destination, settings, speed_factor=speed_factor or None, watcher=watcher
        )
    _print(report)
    if json_path is not None:
        write_json(report, json_path)
    if not report.is_equal:
        sys.exit(1)


def _print(report: "SentReport") -> None:
    seconds = report.elapsed_ns / 1e9
    lines = (
        f"Sent {report.flow}: {report.requests:,} requests of {report.clients} clients in {seconds:.1f} s.",
        f"Orders: {report.orders:,}; accepted {report.accepted:,}, rejected {report.rejected:,}. "
        f"Executions reported: {report.executions:,}, cancels {report.canceled:,}.",
        f"Feed: {report.feed_messages:,} messages, {report.feed_faults:,} that made no sense; "
        f"{report.live_orders:,} orders rest.",
        f"Digest of the feed's book {report.feed_digest}, of the replay's {report.replay_digest}: "
        + ("equal." if report.feed_digest == report.replay_digest else "DIFFERENT."),
    )
    for line in lines:
        click.echo(line)
