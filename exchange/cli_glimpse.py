"""``exchange glimpse``: a server of snapshots, which follows a feed from wherever it can be heard.

The command only parses, listens and serves (:mod:`exchange.market_data.glimpse_server`). By hand it runs on any
machine. ``exchange serve`` starts it beside itself with ``--listener``, hands down a socket that has its address
already, and holds the other end of its standard input: when that closes, for whatever reason, the parent is gone.
SIGTERM ends it with exit status 0, as the end of the feed's session does; Ctrl-C with 130.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from exchange import limits
from exchange.cli_feed_options import feed_options, open_receiver
from exchange.cli_serve import log_format_option
from exchange.errors import UserError
from exchange.logs import LogFormat, start_logging

if TYPE_CHECKING:
    from exchange.market_data.glimpse_server import GlimpseServer
    from exchange.market_data.subscriber import Subscriber

NICENESS: Final = 10
"""Beside an exchange: whatever the order path wants to do is done first."""

KEEP_MESSAGES: Final = 1 << 20
"""Room for what a spin tells of the day and the stocks; memory is taken for what there is."""


@click.command()
@feed_options
@click.option(
    "--port",
    type=click.IntRange(0, limits.PORT_MAX),
    default=9008,
    show_default=True,
    help="Where to listen; 0 takes a port that is free.",
)
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="And on which of this machine's addresses."
)
@click.option("--users", "users_file", metavar="FILE", help="Who may log on. [default: anybody]")
@click.option(
    "--begin",
    metavar="FILE",
    help="A spin to begin with instead of message 1, in blocks as in the file of a day; --session says of which feed.",
)
@click.option(
    "--orders",
    "capacity_orders",
    type=click.IntRange(1, limits.BOOK_CAPACITY_ORDERS_MAX),
    default=limits.FEED_ORDERS_DEFAULT,
    show_default=True,
    help="Room for so many orders in all books together.",
)
@click.option(
    "--listener",
    type=int,
    metavar="DESCRIPTOR",
    help="A bound socket that a parent hands down, instead of an address; ends when standard input does.",
)
@click.option("--quiet", is_flag=True, help="Log warnings only, not each client.")
@log_format_option
def glimpse(
    port: int,
    address: str,
    users_file: str | None,
    begin: str | None,
    capacity_orders: int,
    listener: int | None,
    quiet: bool,
    log_format: LogFormat,
    **feed: str,
) -> None:
    """Serve snapshots of a feed's books to those who join late (GLIMPSE 5.0 over SoupBinTCP).

    ADDRESS:PORT is where the feed goes, as for 'exchange feed'. 'exchange serve' starts one by itself, if
    market_data.glimpse of its profile says so; this runs another one, wherever the feed can be heard. If the day is so
    old that the feed's re-request server has not kept its beginning, --glimpse names a server to begin from, or
    --begin a file. Ends with the session, or by Ctrl-C or SIGTERM.
    """
    from exchange.gateway.credentials import read_users
    from exchange.gateway.logon import bind_listener
    from exchange.market_data.feed_book import FeedBook

    start_logging(log_format, quiet=quiet)
    users = None if users_file is None else read_users(Path(users_file))
    with (
        open_receiver(
            lambda: FeedBook(capacity_orders=capacity_orders, keep_messages=KEEP_MESSAGES), **feed
        ) as receiver,
        bind_listener(address, port) if listener is None else _handed_down(listener) as listening,
    ):
        from exchange.market_data.glimpse_server import GlimpseServer, warm_up

        warm_up()
        if begin is not None:
            _begin_with(receiver.subscriber, begin)
        if listener is not None:
            os.nice(NICENESS)
        server = GlimpseServer(receiver, users)
        ended_by = asyncio.run(_serve(server, listening, has_parent=listener is not None))
    if ended_by == signal.SIGINT:
        raise KeyboardInterrupt


def _begin_with(subscriber: "Subscriber", file: str) -> None:
    """Load a spin. Raises UserError if it cannot be read, is none, or nothing says of which session it is."""
    from exchange.market_data.first_spin import load_first_spin

    if not subscriber.session:
        raise UserError(f"--begin {file}: name the session that it is of, with --session")
    try:
        blocks = Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"--begin {file}: {error.strerror or error}") from error
    load_first_spin(subscriber, blocks, time.monotonic_ns())


async def _serve(
    server: "GlimpseServer", listening: socket.socket, *, has_parent: bool
) -> signal.Signals | None:
    """Serve until the session's end, a signal, or the end of the parent; which signal it was."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    received: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        received.append(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    if has_parent:
        loop.add_reader(sys.stdin.fileno(), stop.set)

    def say() -> None:
        click.echo("listening on {} port {}".format(*listening.getsockname()[:2]))
        sys.stdout.flush()

    await server.serve(listening, stop, say)
    return received[0] if received else None


def _handed_down(descriptor: int) -> socket.socket:
    """The socket that a parent has bound. Raises UserError if it is none."""
    try:
        listener = socket.socket(fileno=descriptor)
        listener.setblocking(False)
    except OSError as error:
        raise UserError(f"--listener {descriptor}: {error.strerror or error}") from error
    return listener
