"""The options of commands that hear a feed: where it is, whom to ask for what is lost, and who has a snapshot.

``exchange feed`` and ``exchange glimpse`` share them. A command that is decorated with :func:`feed_options` takes them
as keywords, for :func:`open_receiver`.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from exchange import limits
from exchange.errors import UserError

if TYPE_CHECKING:
    from exchange.market_data.feed_book import Book
    from exchange.market_data.feed_receiver import FeedReceiver

_OPTIONS: Final = (
    click.argument("source", metavar="ADDRESS:PORT"),
    click.option(
        "--interface",
        default="",
        metavar="ADDRESS",
        help="For a multicast group: the address of this machine on whose network it is joined."
        " [default: the system's choice, and the loopback]",
    ),
    click.option(
        "--requests",
        metavar="ADDRESS:PORT[,ADDRESS:PORT...]",
        help="Where to ask for lost messages: whoever of them answers. [default: where the feed comes from]",
    ),
    click.option(
        "--session", default="", metavar="NAME", help="Follow this session. [default: the first heard]"
    ),
    click.option(
        "--glimpse",
        metavar="ADDRESS:PORT[,ADDRESS:PORT...]",
        help="GLIMPSE servers, for a snapshot when that is the shorter way or the only one.",
    ),
    click.option("--user", default="", metavar="NAME", help="As who to log on there."),
    click.option(
        "--password-env", metavar="VARIABLE", help="The password for that is in this environment variable."
    ),
)


def feed_options[F: Callable[..., object]](command: F) -> F:
    """Give a command the options of a feed."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def open_receiver(
    make_book: "Callable[[], Book]",
    *,
    source: str,
    interface: str,
    requests: str | None,
    session: str,
    glimpse: str | None,
    user: str,
    password_env: str | None,
) -> "FeedReceiver":
    """A receiver of the feed that the options name. Raises UserError for options that make no sense."""
    from exchange.market_data.feed_receiver import FeedReceiver
    from exchange.market_data.glimpse_client import GlimpseLogin

    address, port = _endpoint("ADDRESS:PORT", source)
    password = "" if password_env is None else os.environ.get(password_env, "")
    if password_env is not None and not password:
        raise UserError(f"--password-env {password_env}: there is no such environment variable")
    return FeedReceiver(
        address,
        port,
        make_book,
        interface=interface,
        requests=_endpoints("--requests", requests),
        glimpse=[GlimpseLogin(*one, user, password) for one in _endpoints("--glimpse", glimpse)],
        session=session,
    )


def _endpoints(name: str, text: str | None) -> list[tuple[str, int]]:
    return [_endpoint(name, one.strip()) for one in text.split(",")] if text is not None else []


def _endpoint(name: str, text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    if not address or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= limits.PORT_MAX:
        raise UserError(f"{name} {text!r}: must be a numeric address and a port, as in 239.255.0.1:9006")
    return address, int(port)
