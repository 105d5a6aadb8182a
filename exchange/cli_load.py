"""``exchange load``: measure an exchange over the network, as its clients see it.

The command only parses, calls :mod:`exchange.load` and prints; results and reports are those of ``exchange bench``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from exchange import limits
from exchange.cli_bench import command_line, finish, html_option, json_option, progress_bar, write_file
from exchange.errors import UserError
from exchange.logs import start_logging

if TYPE_CHECKING:
    from exchange.load.carriage import LoadCarrier
    from exchange.load.measured import Measured

_CLOSED_LOOP = "max"


users_option = click.option(
    "--users",
    required=True,
    metavar="FILE|NAMES",
    help="Who logs on: a file with NAME:PASSWORD or NAME in a line, or names with commas between them.",
)
password_option = click.option(
    "--password-env", metavar="VARIABLE", help="Everybody's password is in this environment variable."
)
transport_option = click.option(
    "--transport",
    type=click.Choice(["tcp", "udp", "afxdp", "dpdk"]),
    default="tcp",
    show_default=True,
    help="What carries the orders; as transport.kind in the exchange's profile.",
)
device_option = click.option(
    "--device",
    metavar="DEVICE",
    default="",
    help="With --transport afxdp: our interface. With dpdk: our card, as DPDK writes it [default: "
    "net_memif0,role=client,socket=exchange].",
)
address_option = click.option(
    "--address",
    metavar="IPV4",
    default="10.0.0.2",
    show_default=True,
    help="With --transport afxdp or dpdk: our address on the wire.",
)


@click.command()
@click.argument("endpoint", metavar="HOST:PORT[,HOST:PORT...]")
@users_option
@password_option
@transport_option
@device_option
@address_option
@click.option(
    "--huge-pages",
    is_flag=True,
    help="With --transport dpdk: keep packets in huge pages, on our card's NUMA node.",
)
@click.option(
    "--patience",
    "patience_s",
    type=float,
    default=0.0,
    metavar="SECONDS",
    help="Wait at least so long for the exchange to be there, for the answer to a logon, and for the last answers.",
)
@click.option("--keep-orders", "keeps_orders", is_flag=True, help="Leave in the book what rests at the end.")
@click.option("--sessions", type=click.IntRange(1), help="How many of the users log on [default: all].")
@click.option(
    "--rate",
    "rates",
    multiple=True,
    default=("1000",),
    show_default=True,
    metavar="REQUESTS|max",
    help="Offered requests/s of all sessions together, or max: as many as are answered. May be repeated.",
)
@click.option("--seconds", type=float, default=5.0, show_default=True, help="How long each rate is measured.")
@click.option(
    "--warm-up", "warmup_seconds", type=float, default=1.0, show_default=True, help="Seconds before that."
)
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "constant"]),
    default="poisson",
    show_default=True,
    help="Independent arrivals, or equal distances.",
)
@click.option(
    "--window",
    type=click.IntRange(1, limits.LOAD_WINDOW_MAX),
    default=32,
    show_default=True,
    help="At --rate max, unanswered requests of each session.",
)
@click.option(
    "--orders",
    type=click.IntRange(1, limits.LOAD_ORDERS_MAX),
    default=16,
    show_default=True,
    help="Orders that each session keeps in the book.",
)
@click.option("--symbols", default="AAPL", show_default=True, help="What is traded, with commas between.")
@click.option(
    "--price-ticks",
    "middle_ticks",
    type=click.IntRange(10_000, 1_900_000_000),
    default=1_000_000,
    show_default=True,
    help="The price around which orders lie, in 1/10,000 dollar.",
)
@click.option(
    "--silence",
    "silence_s",
    type=float,
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="With several addresses: give up a line on which nothing has come for so long.",
)
@click.option(
    "--answer-timeout",
    "answer_s",
    type=float,
    default=1.5,
    show_default=True,
    metavar="SECONDS",
    help="The same for a line on which a request is unanswered.",
)
@click.option(
    "--timeline",
    "timeline_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write here as JSON what was due and answered when, how late it was, and which lines were lost.",
)
@click.option(
    "--timeline-step",
    "step_ms",
    type=click.IntRange(1, 60_000),
    default=10,
    show_default=True,
    metavar="MILLISECONDS",
    help="In steps of this length.",
)
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Runs at each rate."
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of the requests.")
@json_option
@html_option
def load(
    endpoint: str,
    users: str,
    password_env: str | None,
    transport: "LoadCarrier",
    device: str,
    address: str,
    sessions: int | None,
    rates: tuple[str, ...],
    symbols: str,
    timeline_path: Path | None,
    step_ms: int,
    json_path: Path | None,
    html_path: Path | None,
    **same: Any,
) -> None:
    """Send orders to an exchange at fixed times, and measure how long each takes to be answered.

    Over TCP any exchange that speaks SoupBinTCP 3.00 and OUCH 5.0 will do, first of all 'exchange serve'. Over UDP it
    is an 'exchange serve serve-udp', whose datagrams are its own, and with afxdp or dpdk the same past the kernel.
    Latency counts from the time at which a request should have been sent, also of one that is lost and sent again.
    Orders are real: they may trade, and are cancelled at the end, unless --keep-orders leaves them.

    With several addresses (an exchange and its backup, or where it will be started again) sessions that lose their line
    go where they are let in, and the run goes on, if the exchange has a journal. Over memif it does so with one.
    """
    from exchange.card_line import CARDS
    from exchange.load.generator import run_load_plan
    from exchange.load.logins import parse_endpoints, read_logins
    from exchange.load.plan import LoadPlan, check_plan
    from exchange.load.timeline import timeline_of

    logins = read_logins(users, password_env)
    if sessions is not None and sessions > len(logins):
        raise UserError(f"--sessions {sessions}: there are {len(logins)} users, and a user has one session")
    first, *backups = parse_endpoints(endpoint)
    plan = LoadPlan(
        endpoint=first,
        logins=tuple(logins[:sessions]),
        rates=tuple(dict.fromkeys(_rate(text) for text in rates)),
        symbols=tuple(name.strip().upper() for name in symbols.split(",")),
        transport=transport,
        device=device_of(transport, device),
        address=address if transport in CARDS else "",
        backups=tuple(backups),
        bucket_ns=0 if timeline_path is None else step_ms * 1_000_000,
        **same,  # the options that are called as the plan calls them
    )
    check_plan(plan)
    start_logging("text", quiet=True)  # for what a card warns of
    runs: list[Measured] = []
    with progress_bar() as progress:
        result = run_load_plan(plan, command_line(), progress, runs.append)
    if timeline_path is not None:
        timeline = timeline_of(result, plan, [one.timeline for one in runs if one.timeline is not None])
        write_file(timeline_path, lambda path: path.write_bytes(msgspec.json.encode(timeline)))
        click.echo(f"timeline: {timeline_path}")
    finish(result, json_path, html_path)


def device_of(transport: str, device: str) -> str:
    """The card of a load or a client; what is not said is the other end of what an exchange on DPDK serves."""
    from exchange.card_line import CARDS, DPDK_DEVICE

    if transport == "afxdp" and not device:
        raise UserError("--transport afxdp: --device has to say through which interface")
    return (device or DPDK_DEVICE) if transport in CARDS else ""


def _rate(text: str) -> float | None:
    """Requests per second; None for the closed loop."""
    if text == _CLOSED_LOOP:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise UserError(f"--rate {text}: must be a number above 0, or {_CLOSED_LOOP}")
    return rate
