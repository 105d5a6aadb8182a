"""The lines between clients and the exchange: bytes that come late, in pieces, or not at all.

A line is a socket pair of the kernel, whose one end the exchange has as it would have any connection. What is written
to the other end is there at once, so on one thread nothing depends on the machine. Between that end and the client lies
the network, which is ours: bytes that the client has said wait until a step carries some of them over (any number, so
that packets are torn at any byte), and what the exchange has sent waits in the same way.

A line can be *cut*: the exchange sees its end at once, the client whenever it looks. Or the client *forgets* it: it is
gone without a word, as when a cable is pulled, and the exchange holds on to a dead connection until it notices.

Rules: every socket that is made here is closed by :meth:`Line.close` at the latest."""

import socket
from typing import Final

SEND_BUFFER_BYTES: Final = 4096
"""What is asked for of the exchange's socket: a client that does not read is soon noticed."""

RECEIVE_BYTES: Final = 1 << 16


class Line:
    """A connection of a client: two ends, and what is on its way.

    Attributes:
        far: the exchange's end, non-blocking.
        upward: what the client has said and has not arrived.
        downward: what the exchange has sent and has not arrived.
        is_cut: our end is closed.
        has_ended: the exchange has closed its end, and what it sent before is in ``downward``.
    """

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self._near, self.far = socket.socketpair()
        for end in (self._near, self.far):
            end.setblocking(False)
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.upward: Final = bytearray()
        self.downward: Final = bytearray()
        self.is_cut = False
        self.has_ended = False

    def carry_up(self, most: int) -> int:
        """Bring up to ``most`` bytes to the exchange's socket; how many it took. 0 for a line that is cut."""
        if self.is_cut or not self.upward or most == 0:
            return 0
        try:
            taken = self._near.send(self.upward[:most])
        except BlockingIOError:
            return 0
        except OSError:  # the exchange has closed its end: what it sent before is still to be had
            self.upward.clear()
            return 0
        del self.upward[:taken]
        return taken

    def carry_down(self, most: int) -> int:
        """Fetch up to ``most`` bytes that the exchange has sent; how many there were."""
        if self.is_cut or self.has_ended or most == 0:
            return 0
        try:
            data = self._near.recv(min(most, RECEIVE_BYTES))
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self.has_ended = True
        self.downward.extend(data)
        return len(data)

    def take(self, most: int) -> bytes:
        """The next bytes that arrive at the client."""
        data = bytes(self.downward[:most])
        del self.downward[:most]
        return data

    def cut(self, kept_bytes: int) -> None:
        """Cut the line: of what is on its way to the client only the first ``kept_bytes`` still arrive."""
        del self.downward[kept_bytes:]
        self.upward.clear()
        self.is_cut = True
        self._near.close()

    def close(self) -> None:
        """Close both ends."""
        self._near.close()
        self.far.close()
