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
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import uvicorn

from exchange.errors import UserError
from exchange.gateway.logon import bind_listener
from exchange.page.app import build_app
from exchange.page.browsers import TICKS_PER_SECOND, Room
from exchange.page.market import MakeReceiver, Market
from exchange.page.requests import REQUEST_BYTES_MAX
from exchange.page.statistics_reader import Sampler, StatisticsReader

log: Final = logging.getLogger("exchange.page")

BUSY_SECONDS: Final = 0.004
QUIET_SECONDS: Final = 0.02
"""How long the loop may sleep between two looks at the feed. The kernel's buffer, 200 KB where nobody changed it, is
then good for 50 MB a second."""

SAMPLE_SECONDS: Final = 0.5
END_SECONDS: Final = 0.5
BACKLOG: Final = 128
NICENESS: Final = 10


class PageOptions(NamedTuple):
    """What the page is connected to.

    Attributes:
        listen: host and port of the page; port 0 takes one that is free.
        exchange: where people are logged on, or None.
        admin_url: the admin interface, empty: none.
        token_file: the token for it.
        names: by which names the page may be called, besides localhost and addresses in digits.
    """

    listen: tuple[str, int]
    exchange: tuple[str, int] | None
    admin_url: str
    token_file: str
    names: Sequence[str]


class _TaskServer(uvicorn.Server):
    """A web server that is a task of a loop that others end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield


class Page:
    """The page, listening on its address and not answering yet.

    Args:
        options: what it is connected to.
        make_receiver: makes what listens to the feed, with a ``TapeBook``.

    Raises:
        UserError: the address cannot be listened on, or the feed cannot.
    """

    def __init__(self, options: PageOptions, make_receiver: MakeReceiver) -> None:
        self.listener: Final = bind_listener(*options.listen)
        try:
            self.listener.listen(BACKLOG)
            self.market: Final = Market(make_receiver)
        except (UserError, OSError):
            self.listener.close()
            raise
        self._sampler: Final = Sampler()
        self._reader: Final = StatisticsReader(options.admin_url, options.token_file)
        self._options: Final = options
        self._stop: Final = asyncio.Event()
        self.ended_by: signal.Signals | None = None
        self.room: Final = Room(self.market, self._sampler, options.exchange)

    @property
    def url(self) -> str:
        """Where browsers find it."""
        host, port = self.listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

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
        server = _TaskServer(self._config())
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

    def _config(self) -> uvicorn.Config:
        logging.getLogger("uvicorn").setLevel(
            logging.CRITICAL
        )  # that browsers are cut off at the end is our intention
        return uvicorn.Config(
            build_app(self.room, self._options.names),
            loop="none",
            lifespan="off",
            http="h11",
            ws="websockets-sansio",
            ws_max_size=REQUEST_BYTES_MAX,
            ws_per_message_deflate=False,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=0,
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


def end_with_parent() -> None:
    """End this process by SIGTERM when its standard input is closed."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
