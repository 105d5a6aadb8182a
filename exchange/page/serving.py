"""The page's process from its start to its end: a listener of the feed, a reader of statistics, a web server.

One event loop does all of it. Between two looks at the feed it sleeps for milliseconds, longer when the feed is quiet,
and the kernel keeps what comes meanwhile; fifteen times a second it looks at the books, twice a second at the
statistics. It runs at a lower priority than the exchange, so that on a machine with few cores orders go first.

It ends on SIGTERM and on Ctrl-C: browsers are told, people are logged off. With a parent it ends as soon as that is
gone, however it went: nobody writes to its standard input, whose other end the kernel then closes.
"""

import asyncio
import contextlib
import ipaddress
import logging
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from exchange.errors import UserError
from exchange.gateway.logon import bind_listener
from exchange.gateway.refusals import RefusalLog
from exchange.http_serving import Connections, TaskServer
from exchange.page.app import build_app
from exchange.page.browsers import TICKS_PER_SECOND, Room
from exchange.page.market import MakeReceiver, Market
from exchange.page.requests import REQUEST_BYTES_MAX
from exchange.page.statistics_reader import Sampler, StatisticsReader
from exchange.tls import client_context, pinned_context, server_context

log: Final = logging.getLogger("exchange.page")

BUSY_SECONDS: Final = 0.004
QUIET_SECONDS: Final = 0.02
"""How long the loop may sleep between two looks at the feed. The kernel's buffer, 200 KB where nobody changed it, is
then good for 50 MB a second."""

SAMPLE_SECONDS: Final = 0.5
END_SECONDS: Final = 0.5
BACKLOG: Final = 128
CONNECTIONS_MAX: Final = 256
CONNECTIONS_PER_ADDRESS: Final = 128
"""Connections that are not WebSockets, at a time, and of one address."""
NICENESS: Final = 10


class PageOptions(NamedTuple):
    """What the page is connected to.

    Attributes:
        listen: host and port of the page; port 0 takes one that is free.
        exchange: where people are logged on: wherever the exchange may be; empty: nowhere.
        admin_url: the admin interface, empty: none.
        token_file: the token for it.
        names: by which names the page may be called, besides localhost and addresses in digits.
        tls_certificate: path of the page's certificate; empty: plain HTTP.
        tls_key: path of its private key.
        admin_ca: path of the certificates that vouch for an admin interface over https; empty: the machine's.
        admin_pin: path of the one certificate that it has; empty: ``admin_ca`` says who is trusted.
    """

    listen: tuple[str, int]
    exchange: Sequence[tuple[str, int]]
    admin_url: str
    token_file: str
    names: Sequence[str]
    tls_certificate: str = ""
    tls_key: str = ""
    admin_ca: str = ""
    admin_pin: str = ""


class Page:
    """The page, listening on its address and not answering yet.

    Args:
        options: what it is connected to.
        make_receiver: makes what listens to the feed, with a ``TapeBook``.

    Raises:
        UserError: the address cannot be listened on, or the feed cannot, or a file for TLS is not right.
    """

    def __init__(self, options: PageOptions, make_receiver: MakeReceiver) -> None:
        keys = ("--tls-certificate", "--tls-key")
        self._secured: Final = server_context(options.tls_certificate, options.tls_key, keys)
        trusted = None
        if options.admin_pin:
            trusted = pinned_context(options.admin_pin, "--admin-pin")
        elif options.admin_ca:
            trusted = client_context(options.admin_ca, "--admin-ca")
        self._refusals: Final = RefusalLog()
        self.listener: Final = bind_listener(*options.listen)
        try:
            self.listener.listen(BACKLOG)
            self.market: Final = Market(make_receiver)
        except (UserError, OSError):
            self.listener.close()
            raise
        self._sampler: Final = Sampler()
        self._reader: Final = StatisticsReader(options.admin_url, options.token_file, trusted)
        self._options: Final = options
        self._stop: Final = asyncio.Event()
        self.ended_by: signal.Signals | None = None
        self.room: Final = Room(self.market, self._sampler, options.exchange)

    @property
    def url(self) -> str:
        """Where browsers find it."""
        host, port = self.listener.getsockname()[:2]
        scheme = "http" if self._secured is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    @property
    def is_encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self._secured is not None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.listener.getsockname()[0]).is_loopback

    def request_stop(self) -> None:
        """End; to be called in the event loop that serves."""
        self._stop.set()

    def close(self) -> None:
        """Let go of the address and the feed; :meth:`serve` does it at its end."""
        self.listener.close()
        self.market.close()

    async def serve(self, ready: Callable[[str], None]) -> None:
        """Serve until :meth:`request_stop`; ``ready`` is told the address when browsers can come."""
        server = self._web_server()
        tasks = [
            asyncio.create_task(work)
            for work in (server.serve([self.listener]), self._follow(), self._tick(), self._sample())
        ]
        stopping = asyncio.create_task(self._stop.wait())
        try:
            while not server.started and not tasks[0].done():
                await asyncio.sleep(0.005)
            ready(self.url)
            await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            server.should_exit = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await asyncio.gather(*(browser.close() for browser in tuple(self.room.browsers)))
            server.force_exit = True
            for task in (*tasks[1:], stopping):
                task.cancel()
            await asyncio.wait(tasks, timeout=END_SECONDS)
            self.close()
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def serve_until_signal(self, ready: Callable[[str], None]) -> None:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        await self.serve(ready)

    def _on_signal(self, number: signal.Signals) -> None:
        self.ended_by = number
        self.request_stop()

    def _web_server(self) -> TaskServer:
        return TaskServer(
            build_app(self.room, self._options.names),
            Connections(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS, self._refusals, "page"),
            self._secured,
            ws="websockets-sansio",
            ws_max_size=REQUEST_BYTES_MAX,
            ws_per_message_deflate=False,
        )

    async def _follow(self) -> None:
        """Take what the feed brings."""
        while True:
            taken = self.market.turn()
            await asyncio.sleep(BUSY_SECONDS if taken else QUIET_SECONDS)

    async def _tick(self) -> None:
        """Look at the books, and let browsers know."""
        loop, period = asyncio.get_running_loop(), 1 / TICKS_PER_SECOND
        while True:
            began = loop.time()
            self.market.tick(self.room.watched())
            self.room.wake()
            await asyncio.sleep(max(0.25 * period, began + period - loop.time()))

    async def _sample(self) -> None:
        """Ask for statistics, and make a point for the charts."""
        while True:
            began = time.monotonic()
            found = await self._reader.read()
            statistics = None if isinstance(found, str) else found
            self.room.trouble = found if isinstance(found, str) else ""
            self.room.sessions_connected = (
                statistics.gateway.sessions_connected if statistics is not None else None
            )
            self._sampler.sample(self.market.messages, statistics, time.monotonic())
            await asyncio.sleep(max(0.1, began + SAMPLE_SECONDS - time.monotonic()))
