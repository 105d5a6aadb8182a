"""A page for tests: in the test's event loop, fed by hand or by a served exchange, and a browser without a screen."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from exchange.gateway.server import Server
from exchange.market_data.feed_receiver import FeedReceiver
from exchange.market_data.publisher import opening_messages
from exchange.page.serving import Page, PageOptions
from exchange.page.tape import TapeBook
from exchange.wire.itch50 import ItchMessage
from exchange.wire.moldudp64 import Packet, encode_packet
from tests.gateway_driver import SECONDS_MAX, serving

LOOPBACK = "127.0.0.1"
MESSAGES_PER_DATAGRAM = 30


def make_book() -> TapeBook:
    return TapeBook(capacity_orders=1 << 14, capacity_symbols=32)


@cache
def compile_tape() -> None:
    """Compile what a page's book needs, before anybody waits for it."""
    book = make_book()
    for one in opening_messages(["AAPL"], 0):
        book.apply(one.encode())
    book.top(0)
    book.depth(0, 1)


def run_page_test(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine, for a bounded time in which no tape is compiled."""
    compile_tape()

    async def bounded() -> None:
        async with asyncio.timeout(2 * SECONDS_MAX):
            await scenario

    asyncio.run(bounded())


class HandMadeFeed:
    """Sends messages to a page as an exchange would; nothing is lost on the way, and nothing can be asked for."""

    def __init__(self, port: int, session: str = "BYHAND") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._to = (LOOPBACK, port)
        self._session = session
        self.next_sequence = 1

    def send(self, *messages: ItchMessage) -> None:
        """Send messages, some in each datagram."""
        for first in range(0, len(messages), MESSAGES_PER_DATAGRAM):
            data = tuple(one.encode() for one in messages[first : first + MESSAGES_PER_DATAGRAM])
            self._socket.sendto(encode_packet(Packet(self._session, self.next_sequence, data)), self._to)
            self.next_sequence += len(data)

    def open(self, *symbols: str) -> None:
        """The opening of a day."""
        self.send(*opening_messages(list(symbols), 0))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def options(**changes: Any) -> PageOptions:
    """Options of a page that is connected to nothing but a feed."""
    return PageOptions((LOOPBACK, 0), (), "", "", ())._replace(**changes)


@asynccontextmanager
async def serving_page(page: Page) -> AsyncIterator[Page]:
    """A page that serves, and has ended when the block is left."""
    ready = asyncio.Event()
    task = asyncio.create_task(page.serve(lambda _url: ready.set()))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield page
    finally:
        page.request_stop()
        await task


@asynccontextmanager
async def page_by_hand(**changes: Any) -> AsyncIterator[tuple[Page, HandMadeFeed]]:
    """A page with these options and the feed that it hears."""
    ports: list[int] = []

    def make_receiver() -> FeedReceiver:
        receiver = FeedReceiver(LOOPBACK, ports[0] if ports else 0, make_book)
        ports[:] = [receiver.port]
        return receiver

    page = Page(options(**changes), make_receiver)
    feed = HandMadeFeed(ports[0])
    try:
        async with serving_page(page):
            yield page, feed
    finally:
        feed.close()


@asynccontextmanager
async def page_of_exchange(*names: str) -> AsyncIterator[tuple[Page, Server]]:
    """An exchange that serves these users, and its page."""
    receiver = FeedReceiver(LOOPBACK, 0, make_book)
    async with (
        serving(
            *names, overrides=("market_data.address=127.0.0.1", f"market_data.port={receiver.port}")
        ) as server,
        serving_page(Page(options(exchange=[server.address]), lambda: receiver)) as page,
    ):
        yield page, server


class Screen:
    """A browser's end of the line: the last document of each kind, and every problem."""

    def __init__(self, line: ClientConnection) -> None:
        self._line = line
        self.last: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.problems: list[dict[str, Any]] = []

    async def ask(self, **request: Any) -> None:
        """Send a request."""
        await self._line.send(json.dumps(request))

    async def hear(self) -> dict[str, Any]:
        """The next document."""
        document: dict[str, Any] = json.loads(await self._line.recv())
        kind = document["type"]
        self.last[kind] = document
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if kind == "problem":
            self.problems.append(document)
        return document

    async def until(self, condition: Callable[["Screen"], Any]) -> Any:
        """Listen until something holds of what has been heard; what the condition gave."""
        while not (found := condition(self)):
            await self.hear()
        return found

    async def problem(self) -> dict[str, Any]:
        """The next problem."""
        before = len(self.problems)
        await self.until(lambda screen: len(screen.problems) > before)
        return self.problems[-1]

    async def watch(self, symbol: str) -> dict[str, Any]:
        """Look at a symbol; its book."""
        await self.until(lambda screen: symbol in screen.symbols())
        await self.ask(action="watch", symbol=symbol)
        found: dict[str, Any] = await self.until(lambda screen: screen.book(symbol))
        return found

    def symbols(self) -> dict[str, Sequence[Any]]:
        """The rows of the overview by symbol."""
        return {row[0]: row for row in self.last.get("overview", {"symbols": []})["symbols"]}

    def book(self, symbol: str) -> dict[str, Any] | None:
        """The last book, if it is that symbol's."""
        book: dict[str, Any] | None = self.last.get("book")
        return book if book is not None and book["symbol"] == symbol else None

    @property
    def account(self) -> dict[str, Any]:
        """The last account."""
        return dict(self.last.get("account", {}))


@asynccontextmanager
async def screen_of(page: Page, **headers: str) -> AsyncIterator[Screen]:
    """A browser that looks at a page."""
    address = page.url.replace("http://", "ws://") + "/live"
    async with connect(address, origin=page.url, proxy=None, **headers) as line:  # type: ignore[arg-type]
        yield Screen(line)
