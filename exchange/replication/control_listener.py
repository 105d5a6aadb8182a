"""Where a node of a pair can be reached by the other one, and by whoever asks how it is.

A thread accepts; each connection has a thread of its own, in which it first has to show that it knows the secret, and
is then handled by whatever the node is at the time. So many may be there at once, and no more are accepted until one of
them has gone: two machines and an operator need few.

Rules: the address is taken when it is built, and clients are let in from :meth:`ControlListener.start` on. Handlers end
when their line is closed, which :meth:`ControlListener.close` does with all."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from exchange.errors import UserError
from exchange.gateway.refusals import RefusalLog
from exchange.replication.control_line import ControlLine, LineTrouble

LINES_MAX: Final = 16
LOOK_SECONDS: Final = 0.2
END_SECONDS: Final = 1.0

Handler = Callable[[ControlLine], None]
"""Deals with a connection whose hands were shaken. It may raise LineTrouble and UserError."""


class ControlListener:
    """Accepts the connections of a pair's control plane.

    Args:
        address: to listen on.
        port: 0 takes one that is free.
        node: our name.
        secret: of the pair.

    Raises:
        UserError: the address cannot be listened on.
    """

    def __init__(self, address: str, port: int, node: str, secret: str) -> None:
        self._node: Final = node
        self._secret: Final = secret
        self._handler: Handler = _refuse
        self._is_closed: Final = threading.Event()
        self._refusals: Final = RefusalLog()
        self._lock: Final = threading.Lock()
        self._places: Final = threading.Semaphore(LINES_MAX)
        self._lines: Final[set[ControlLine]] = set()
        self._threads: Final[set[threading.Thread]] = set()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener: Final = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((address, port))
            self._listener.settimeout(LOOK_SECONDS)
        except OSError as error:
            self._listener.close()
            raise UserError(
                f"replication.address, replication.port: cannot listen on {address}, port {port}:"
                f" {error.strerror or error}"
            ) from error
        self._accepting: Final = threading.Thread(target=self._accept, name="pair-listener", daemon=True)

    @property
    def address(self) -> str:
        """Where it listens, as HOST:PORT."""
        host, port = self._listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def handle_with(self, handler: Handler) -> None:
        """From now on, deal with new connections like this."""
        self._handler = handler

    def start(self) -> None:
        """Let others come in."""
        self._listener.listen(LINES_MAX)
        self._accepting.start()

    def close(self) -> None:
        """Let nobody in any more, and end all connections. May be called again."""
        self._is_closed.set()
        for line in tuple(self._lines):
            line.close()
        for thread in (self._accepting, *self._threads):
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(END_SECONDS)
        self._listener.close()
        with self._lock:
            self._refusals.flush()

    def _accept(self) -> None:
        while not self._is_closed.is_set():
            if not self._places.acquire(timeout=LOOK_SECONDS):
                continue
            try:
                connection, peer = self._listener.accept()
            except OSError:  # nobody has come, or there is no descriptor left
                self._places.release()
                continue
            thread = threading.Thread(
                target=self._serve, args=(connection, str(peer[0])), name="pair-line", daemon=True
            )
            self._threads.add(thread)
            thread.start()

    def _serve(self, connection: socket.socket, peer: str) -> None:
        line = ControlLine(connection)
        self._lines.add(line)
        try:
            line.welcome(self._node, self._secret)
            self._handler(line)
        except (LineTrouble, UserError) as trouble:
            if not self._is_closed.is_set():
                with self._lock:
                    self._refusals.note("pair line ended", peer, str(trouble), node=line.node)
        finally:
            line.close()
            self._lines.discard(line)
            with suppress(KeyError):
                self._threads.remove(threading.current_thread())
            self._places.release()


def _refuse(line: ControlLine) -> None:
    line.refuse("it is only just starting")
