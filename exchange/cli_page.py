"""``exchange page``: the market in a browser, to be watched and traded on.

The command only parses, builds :mod:`exchange.page` and prints; everything is imported when it runs. Ctrl-C leaves as
KeyboardInterrupt, of which the command line makes exit code 130.
"""

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import click

from exchange import limits
from exchange.cli_feed_options import feed_options, open_receiver
from exchange.cli_serve import log_format_option
from exchange.ending import end_with_parent
from exchange.errors import UserError
from exchange.logs import LogFormat, start_logging

if TYPE_CHECKING:
    from exchange.market_data.feed_receiver import FeedReceiver
    from exchange.page.tape import TapeBook

LISTEN = "127.0.0.1:8080"


@click.command()
@feed_options
@click.option(
    "--exchange",
    "gateway",
    metavar="HOST:PORT[,HOST:PORT...]",
    help="Where people are logged on to trade: the exchange, and its backups. [default: nobody trades]",
)
@click.option("--admin", "admin_url", default="", metavar="URL", help="The admin interface, for statistics.")
@click.option(
    "--admin-token-file",
    "token_file",
    default="exchange-admin-token",
    show_default=True,
    metavar="FILE",
    help="Holds the token of the admin interface.",
)
@click.option("--listen", default=LISTEN, show_default=True, metavar="HOST:PORT", help="Where browsers come.")
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="A name by which browsers call this machine; localhost and addresses need none. May be repeated.",
)
@click.option(
    "--nice",
    "niceness",
    type=click.IntRange(0, 19),
    default=10,
    show_default=True,
    help="How far the page stands back for other processes.",
)
@click.option(
    "--tls-certificate", default="", metavar="FILE", help="Serve over https, with this certificate (PEM)."
)
@click.option("--tls-key", default="", metavar="FILE", help="The certificate's private key (PEM).")
@click.option(
    "--admin-ca",
    default="",
    metavar="FILE",
    help="For an https URL of the admin interface: the certificates to trust.",
)
@log_format_option
@click.option("--admin-pin", default="", hidden=True)
@click.option("--with-parent", is_flag=True, hidden=True)
def page(
    gateway: str | None,
    admin_url: str,
    token_file: str,
    listen: str,
    names: tuple[str, ...],
    niceness: int,
    tls_certificate: str,
    tls_key: str,
    admin_ca: str,
    log_format: LogFormat,
    admin_pin: str,
    with_parent: bool,
    **feed: str,
) -> None:
    """Show an exchange in the browser: books, trades, latency, queues; and let people trade.

    ADDRESS:PORT is where the feed goes, market_data.address and market_data.port of the exchange's profile. 'exchange
    serve --page' starts this with all of its options right. Ends by Ctrl-C or SIGTERM.
    """
    from exchange.page.serving import Page, PageOptions

    if with_parent:
        end_with_parent()
    start_logging(log_format, quiet=True)
    options = PageOptions(
        listen=_endpoint("--listen", listen, port_min=0),
        exchange=[_endpoint("--exchange", one) for one in gateway.split(",")] if gateway else (),
        admin_url=_url(admin_url),
        token_file=token_file,
        names=names,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        admin_ca=admin_ca,
        admin_pin=admin_pin,
    )

    def make_receiver() -> "FeedReceiver":
        return open_receiver(_make_book, **feed)

    shown = Page(options, make_receiver)
    _compile()
    os.nice(niceness)
    if not shown.is_local and not shown.is_encrypted:
        click.echo(
            f"warning: {shown.url} can be reached from other machines, and passwords cross the network in the clear;"
            " --tls-certificate and --tls-key encrypt",
            err=True,
        )
    asyncio.run(shown.serve_until_signal(lambda url: click.echo(f"page on {url} (nice {niceness})")))
    if shown.ended_by == signal.SIGINT:
        raise KeyboardInterrupt


def _make_book() -> "TapeBook":
    from exchange.page.tape import TapeBook

    return TapeBook(capacity_orders=limits.FEED_ORDERS_DEFAULT, capacity_symbols=limits.FEED_SYMBOLS_DEFAULT)


def _compile() -> None:
    """Compile what the first datagram and the first look would have compiled, before anybody waits for it."""
    from exchange.market_data.publisher import opening_messages
    from exchange.page.tape import TapeBook

    book = TapeBook(capacity_orders=16, capacity_symbols=1)
    for message in opening_messages(["WARMUP"], 0):
        book.apply(message.encode())
    book.top(0)
    book.depth(0, 1)


def _endpoint(name: str, text: str, port_min: int = 1) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    is_port = port.isascii() and port.isdigit() and port_min <= int(port) <= limits.PORT_MAX
    if not host or not is_port:
        raise UserError(f"{name} {text!r}: must be HOST:PORT, as in {LISTEN}")
    return host, int(port)


def _url(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise UserError(
            f"--admin {text!r}: must be the URL of an admin interface, as in http://127.0.0.1:9010"
        )
    return text
