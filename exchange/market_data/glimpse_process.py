"""The GLIMPSE server beside an exchange: ``exchange glimpse`` as a process of its own, which lives as long as we do.

Another process, because a book is built and told in Python's time: in this interpreter it would hold up logons and
re-requests, and on a machine with cores to spare it shall use one of them. It is a listener of the feed like any other
and knows nothing that could not be heard.

Three things tie the two together:

* **The address.** The parent binds it, so that a wrong one is told at the start like any other mistake, and clients
  that come while one child takes the place of another wait a moment and are not refused.
* **The start.** The feed does not begin before the child is listening to it.
* **The end.** The child reads its standard input, to which nobody writes. When the parent goes, however it goes, the
  kernel closes the other end. In the ordinary case the child hears End of Session on the feed and is asked to end.

A child that dies is replaced. The new one asks for the whole day from number 1; if the store has not kept so much, it
rejects its clients. An exchange that goes on after a restart knows that the store has not kept so much. It gives each
child a spin to begin with (:mod:`exchange.market_data.first_spin`), in a file that has no name and goes with us.

Rules: :meth:`start` on the main thread, before the event loop if there is one to come; then ``async with``; and
:meth:`close` in any case.
"""

import asyncio
import logging
import os
import subprocess
import tempfile
from collections.abc import Iterable
from typing import IO, Final, Self

from exchange import limits
from exchange.child_command import child_command, child_environment
from exchange.errors import UserError
from exchange.gateway.logon import bind_listener
from exchange.logs import LOGGER, format_options, log_event
from exchange.market_data.config import MoldUdp64MarketDataConfig
from exchange.market_data.feed_server import is_multicast

READY_SECONDS: Final = 300.0
"""How long the child may take until it listens: a second or two, unless it fills a cold cache of compiled code."""

END_SECONDS: Final = 0.5
"""How long it may take to end."""

WATCH_SECONDS: Final = 0.1
RESTART_SECONDS: Final = 1.0
"""A child that dies again and again must not take a core for that."""


class GlimpseProcess:
    """A child that serves snapshots.

    Args:
        config: the feed's settings; it goes to a group, so that there can be more listeners than one.
        session: the feed's session.
        requests: where the feed comes from and lost messages are asked for.
        users_file: who may log on, unless the settings say anybody.
        capacity_orders: how many orders may rest in all books together.
        begin: pieces of a spin to begin with; None: with message 1.

    Raises:
        UserError: the feed goes to one receiver, or the server's address cannot be listened on.
    """

    def __init__(
        self,
        config: MoldUdp64MarketDataConfig,
        session: str,
        requests: tuple[str, int],
        users_file: str,
        capacity_orders: int,
        begin: Iterable[bytes] | None = None,
    ) -> None:
        if not is_multicast(config.address):
            raise UserError(
                f"market_data.address = {config.address!r}: one receiver, and the GLIMPSE server is another;"
                " a group such as 239.255.0.1 has many, and --set market_data.glimpse=none does without"
            )
        self.listener: Final = bind_listener(config.glimpse_address, config.glimpse_port)
        self.restarts = 0
        self._begin: Final = None if begin is None else _written(begin)
        self._options: Final = [
            f"{config.address}:{config.port}",
            *("--interface", config.source_address),
            *("--requests", f"{requests[0]}:{requests[1]}"),
            *("--session", session),
            *("--orders", str(min(capacity_orders, limits.BOOK_CAPACITY_ORDERS_MAX))),
            *("--listener", str(self.listener.fileno())),
            *(("--users", users_file) if config.glimpse_logon == "users" else ()),
            *(("--begin", f"/dev/fd/{self._begin.fileno()}") if self._begin is not None else ()),
            *format_options(),
            *(("--quiet",) if not LOGGER.isEnabledFor(logging.INFO) else ()),
        ]
        self._child: subprocess.Popen[bytes] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def process_id(self) -> int | None:
        """Of the child that there is now."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start a child. Returns at once."""
        self._child = subprocess.Popen(
            child_command("glimpse", *self._options),
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(
                self.listener.fileno(),
                *((self._begin.fileno(),) if self._begin is not None else ()),
            ),
            process_group=0,  # Ctrl-C is for us; the child ends after its clients have been told
        )

    def close(self) -> None:
        """End the child, if it is still there, without further ado; and let go of the address."""
        self._let_go()
        self.listener.close()
        if self._begin is not None:
            self._begin.close()

    async def __aenter__(self) -> Self:
        await self._until_it_listens()
        address, port = self.listener.getsockname()[:2]
        log_event("glimpse listening", address=address, port=port)
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._watching is not None
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        child = self._child
        if child is not None:
            child.terminate()
            deadline = asyncio.get_running_loop().time() + END_SECONDS
            while child.poll() is None and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.005)
        self._let_go()

    async def _until_it_listens(self) -> None:
        """Wait for the line that says so. Raises UserError if the child ends, or says nothing for too long."""
        child = self._child
        assert child is not None
        assert child.stdout is not None
        said, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(child.stdout.fileno(), said.set)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await said.wait()
            if os.read(child.stdout.fileno(), 4096):
                return
            trouble = f"ended with exit status {child.wait()}"
        except TimeoutError:
            trouble = f"did not listen within {READY_SECONDS:.0f} s"
        finally:
            loop.remove_reader(child.stdout.fileno())
        raise UserError(f"the GLIMPSE server {trouble}; --set market_data.glimpse=none does without it")

    async def _watch(self) -> None:
        """Put another child in the place of one that has failed; one that ends with status 0 was asked to."""
        while self._child is not None and (status := self._child.poll()) != 0:
            if status is not None:
                self.restarts += 1
                log_event(
                    "glimpse process ended", level=logging.WARNING, status=status, restarts=self.restarts
                )
                self._let_go()
                await asyncio.sleep(RESTART_SECONDS)
                self.start()
            await asyncio.sleep(WATCH_SECONDS)

    def _let_go(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()


def _written(pieces: Iterable[bytes]) -> IO[bytes]:
    """A file without a name that holds these bytes."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  (it stays open as long as the process may need it)
    try:
        file.writelines(pieces)
        file.flush()
    except OSError as error:
        file.close()
        raise UserError(
            f"cannot write a snapshot for the GLIMPSE server into {tempfile.gettempdir()}: {error.strerror or error};"
            " the variable TMPDIR names another folder, and --set market_data.glimpse=none does without the server"
        ) from error
    return file
