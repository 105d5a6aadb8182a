"""``exchange feed``: the best prices of an exchange, as its market data tells them.

The command only parses, listens (:mod:`exchange.market_data.feed_receiver`) and prints. While messages are missing it
prints nothing, so that nobody sees a price that was the best one a while ago; what changed meanwhile is printed when
the book is whole again. Ctrl-C leaves as KeyboardInterrupt, of which the command line makes exit code 130.
"""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from exchange.cli_feed_options import feed_options, open_receiver
from exchange.ending import ended_by_sigterm
from exchange.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from exchange.market_data.feed_receiver import FeedReceiver
    from exchange.market_data.top_of_book import TopOfBook

_WAIT_SECONDS = 0.2


@click.command()
@feed_options
@click.option("--plain", is_flag=True, help="A line for each change, also on a terminal.")
def feed(plain: bool, **feed: str) -> None:
    """Watch the best bid and offer of each symbol, as an exchange publishes them.

    ADDRESS:PORT is where the feed goes, market_data.address and market_data.port of the exchange's profile: a multicast
    group or an address of this machine. Lost messages, and those from before the start, are asked for; with --glimpse,
    what would take long or is not kept any more is taken from a snapshot. Prices are in dollars. Ends with the session,
    or by Ctrl-C or SIGTERM.
    """
    from exchange.market_data.feed_book import FeedBook

    with ended_by_sigterm(), open_receiver(FeedBook, **feed) as receiver:
        click.echo(f"listening to the feed on {feed['source'].replace(':', ' port ')}", err=True)
        if plain or not sys.stdout.isatty():
            _print_lines(receiver)
        else:
            _show_table(receiver)
        counts = receiver.subscriber.counts()
        click.echo(
            f"end of session {receiver.subscriber.session}: {receiver.subscriber.next_sequence - 1} messages,"
            f" {counts.gaps} gaps, {counts.requests} requests, {counts.snapshots} snapshots",
            err=True,
        )


def _changes(receiver: "FeedReceiver", tops: "dict[str, TopOfBook]") -> Iterable[str]:
    """Wait a moment for datagrams; the symbols whose best prices have changed, with ``tops`` brought up to date."""
    receiver.turn(_WAIT_SECONDS)
    subscriber = receiver.subscriber
    if receiver.is_lost:
        raise UserError(
            f"session {subscriber.session}: messages from {subscriber.next_sequence} on are lost: no answer from the"
            " re-request server (market_data.capacity_messages says how many it keeps); --glimpse takes a snapshot"
        )
    if not subscriber.is_whole:
        return
    for symbol_id, symbol in enumerate(subscriber.book.symbols):
        top = subscriber.book.top(symbol_id)
        if tops.get(symbol) != top:
            tops[symbol] = top
            yield symbol


def _print_lines(receiver: "FeedReceiver") -> None:
    tops: dict[str, TopOfBook] = {}
    while not receiver.subscriber.has_ended:
        for symbol in _changes(receiver, tops):
            bid, offer = _sides(tops[symbol])
            time = _time_of_day(receiver.subscriber.book.timestamp_ns)
            click.echo(f"{time} {symbol:<8} {' x '.join(bid):>22} | {' x '.join(offer)}")
        sys.stdout.flush()


def _show_table(receiver: "FeedReceiver") -> None:
    from rich.live import Live

    tops: dict[str, TopOfBook] = {}
    with Live(_table(receiver, tops), auto_refresh=False) as live:
        while not receiver.subscriber.has_ended:
            if list(_changes(receiver, tops)):
                live.update(_table(receiver, tops), refresh=True)


def _table(receiver: "FeedReceiver", tops: "dict[str, TopOfBook]") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, caption=_time_of_day(receiver.subscriber.book.timestamp_ns))
    for name in ("symbol", "shares", "bid", "offer", "shares"):
        table.add_column(name, justify="left" if name == "symbol" else "right")
    for symbol, top in tops.items():
        (shares, bid), (offer, offered) = _sides(top)
        table.add_row(*(Text(cell) for cell in (symbol, shares, bid, offer, offered)))
    return table


def _sides(top: "TopOfBook") -> tuple[tuple[str, str], tuple[str, str]]:
    """Shares and price of the best bid, price and shares of the best offer, as texts; a dash where there is none."""
    bid = (str(top.bid_quantity_lots), _dollars(top.bid_price_ticks)) if top.bid_quantity_lots else ("-", "-")
    ask = (_dollars(top.ask_price_ticks), str(top.ask_quantity_lots)) if top.ask_quantity_lots else ("-", "-")
    return bid, ask


def _dollars(price_ticks: int) -> str:
    return f"{price_ticks // 10_000}.{price_ticks % 10_000:04}"


def _time_of_day(timestamp_ns: int) -> str:
    seconds, nanoseconds = divmod(timestamp_ns, 1_000_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{nanoseconds:09}"
