"""An exchange that goes from one address to another, for the tests of clients that follow it.

It stands for an exchange and its backup: one with a journal is killed, or stopped, and another is started elsewhere
with the same journal. The folder goes along, or a copy of it, so that the old one could do no harm if it went on. What
it knows at the end is read from the journal (:meth:`MovingExchange.told`), and held against what clients have heard."""

import asyncio
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from exchange.gateway.credentials import User, write_user
from exchange.load.logins import Endpoint
from exchange.recovery.twin import Twin
from exchange.wire.layout import Message
from exchange.wire.ouch50 import OUTBOUND_MESSAGES
from tests.gateway_driver import PASSWORD, SETTINGS
from tests.system.kill_campaign import Options
from tests.system.kill_processes import Process, Starter

NAMES = ("alice", "bob", "carol")
LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Ports at which nobody listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]


class MovingExchange:
    """An exchange at the first of its addresses, until it is moved; ``own`` are the settings at each of them."""

    def __init__(
        self,
        folder: Path,
        starter: Starter,
        transport: str,
        *settings: str,
        own: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
    ) -> None:
        self.own = own
        self.folder, self.starter = folder, starter
        self.endpoints = [Endpoint(LOOPBACK, port) for port in free_ports(2)]
        self.overrides = (
            *Options("mapped", "written", 1, "1MiB").overrides(),
            f"transport.kind={transport}",
            *settings,
        )
        self.place = self.moves = 0
        self.processes: list[Process] = []
        for name in NAMES:
            write_user(folder / "users", User.create(name, PASSWORD, 2))
        starter.prepare(self.overrides)

    @property
    def journal(self) -> Path:
        """Where it keeps its journal now."""
        return self.folder / f"journal-{self.moves}"

    def start(self) -> None:
        """Start it where it is now."""
        settings = (
            *SETTINGS,
            *self.overrides,
            *self.own[self.place],
            f"transport.port={self.endpoints[self.place].port}",
            f"journal.directory={self.journal}",
        )
        sets = [part for one in settings for part in ("--set", one)]
        arguments = ["serve", "journaled", "--users", str(self.folder / "users"), *sets]
        self.processes.append(self.starter.start(f"{self.folder.name}-{self.moves}", arguments))

    async def listens(self) -> None:
        """Wait until it lets clients in."""
        await self.processes[-1].port()

    async def kill(self) -> None:
        """Kill it without notice."""
        self.processes[-1].signal(signal.SIGKILL)
        await self.processes[-1].end()

    async def move(self, how: str = "killed") -> None:
        """Kill it, or stop it for good, and start it at its other address."""
        before = self.journal
        for process in self.processes[:-1]:  # one that was stopped has its address still
            process.signal(signal.SIGKILL)
            await process.end()
        if how == "stopped":
            self.processes[-1].signal(signal.SIGSTOP)
            await asyncio.sleep(0.05)  # the signal has to have arrived
            self.moves += 1
            shutil.copytree(before, self.journal)
        else:
            await self.kill()
            self.moves += 1
            before.rename(self.journal)
        self.place = 1 - self.place
        self.start()

    async def end(self) -> None:
        """End it in order."""
        self.processes[-1].signal(signal.SIGTERM)
        await self.processes[-1].end()
        for process in self.processes:
            text = process.log.read_text()
            assert "Traceback" not in text, text

    def public_digest(self) -> str:
        """The digest of what everybody may know of the books."""
        with Twin(self.journal) as twin:
            twin.replay()
            return str(twin.exchange.digest(public=True))

    def told(self) -> dict[str, list[Message]]:
        """What each user was ever told, as the journal has it; the textbook's books come to the same as the others."""
        digests = []
        for book in ("naive", "ladder"):
            with Twin(self.journal, book=book) as twin:
                twin.replay()
                told = twin.told()
                digests.append(twin.exchange.digest())
        assert digests[0] == digests[1]
        messages = [[OUTBOUND_MESSAGES.decode(one) for one in session] for session in told]
        return dict(zip(NAMES, messages, strict=True))


@contextmanager
def moving_exchange(
    folder: Path, starter: Starter, transport: str = "tcp", *settings: str, **options: Any
) -> Iterator[MovingExchange]:
    """A running exchange that may be moved; whatever is left of it is killed when the block ends."""
    exchange = MovingExchange(folder, starter, transport, *settings, **options)
    exchange.start()
    try:
        yield exchange
    finally:
        for process in exchange.processes:
            process.signal(signal.SIGKILL)
