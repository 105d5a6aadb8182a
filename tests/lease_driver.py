"""A store of leases for a test, and a way to it that loses, holds up or cuts off what passes."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from exchange.errors import UserError
from exchange.replication.config import TcpReplicationConfig
from exchange.replication.store_process import StoreProcess, find_server

PATIENCE_SECONDS: Final = 30.0
LEASE_NS: Final = 150_000_000
RENEW_EVERY_NS: Final = 25_000_000


def needs_server() -> pytest.MarkDecorator:
    """Skip where nats-server or its client is not installed, saying so."""
    try:
        find_server()
        import nats  # noqa: F401
    except (UserError, ImportError) as error:
        return pytest.mark.skipif(True, reason=str(error))
    return pytest.mark.skipif(False, reason="")


def config_for(port: int, token: str = "", group: str = "exchange") -> TcpReplicationConfig:
    """Settings with a store on a port of this machine."""
    at = f"{token}@" if token else ""
    return TcpReplicationConfig(
        group=group,
        lease_store=f"nats://{at}127.0.0.1:{port}",
        lease_ns=LEASE_NS,
        renew_every_ns=RENEW_EVERY_NS,
    )


@contextmanager
def running_store(directory: Path, port: int = 0, token: str = "") -> Iterator[StoreProcess]:
    """A store that runs until the block ends."""
    store = StoreProcess(directory, "127.0.0.1", port, token)
    try:
        store.start()
        yield store
    finally:
        store.close()


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "it did not come to be so"
        time.sleep(0.002)


class Way:
    """A TCP port that leads to another, until something happens on the way.

    Attributes:
        delay_s: how long each piece is held up, in either direction.
        is_blocked: nothing passes, and nobody is told; new connections are accepted and lead nowhere.
        lost_text: what is said to whoever came by this way, with this in it, is lost.
    """

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self.is_blocked = False
        self.lost_text: bytes | None = None
        self._to: Final = port
        self._listener: Final = socket.create_server(("127.0.0.1", 0))
        self.port: Final = int(self._listener.getsockname()[1])
        self._losing: Final[set[socket.socket]] = set()
        self._open: Final[list[socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answers(self) -> None:
        """Lose all that the store says from now on over the connections that there are; new ones work."""
        self._losing.update(self._open)

    def cut(self) -> None:
        """Break all connections."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Lead nowhere any more."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            self._open += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError), source, target:
            is_answer = source.getpeername()[1] == self._to
            while piece := source.recv(65536):
                while self.is_blocked:
                    time.sleep(0.001)
                time.sleep(self.delay_s)
                is_lost = self.lost_text is not None and self.lost_text in piece
                if not (is_answer and (is_lost or source in self._losing)):
                    target.sendall(piece)
