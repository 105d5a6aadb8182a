"""Lines between the two of a pair for the tests: a socket on the loopback, with hands shaken."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from exchange.replication.control_line import ControlLine

SECRET = "the secret of both"


@contextmanager
def shaken_lines(purpose: str = "join") -> Iterator[tuple[ControlLine, ControlLine]]:
    """The line of whoever has connected, and that of the other."""
    listener = socket.create_server(("127.0.0.1", 0))
    found: list[ControlLine] = []

    def welcome() -> None:
        connection, _peer = listener.accept()
        found.append(ControlLine(connection))
        found[0].welcome("server", SECRET)

    thread = threading.Thread(target=welcome)
    thread.start()
    with ControlLine.connect(listener.getsockname(), "client", purpose, SECRET) as client:
        thread.join()
        with found[0] as server:
            yield client, server
    listener.close()
