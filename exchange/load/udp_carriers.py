"""How a session over UDP says and hears single datagrams before and after the compiled loop: by a socket, or by a port.

A :class:`SocketCarrier` has a socket of its own, connected to the exchange. A :class:`PortCarrier` shares a port with
the other sessions: what is not for it is kept for them in a :class:`Sorting`, which all of them have.

Rules: plain Python, on one thread, while no loop uses the port.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from exchange.datagrams.port import Port, PortByHand
from exchange.load.logins import Endpoint
from exchange.native.datagram_headers import SOCKET_ADDRESS_BYTES

DATAGRAM_BYTES: Final = 2048
RECEIVE_BUFFER_BYTES: Final = 1 << 20
"""What is asked for of the kernel: a window of datagrams with one short message each takes it many times 32 KiB."""
KEPT_MAX: Final = 4096
"""Datagrams that wait for the session that they are for; older ones are lost."""
LOOK_SECONDS: Final = 0.0002

IsWanted = Callable[[bytes], bool]


class UdpCarrier(Protocol):
    """What a session needs.

    Attributes:
        peer: where the exchange is, in 16 bytes, for a port that must be told; zeros for a socket that knows.
        descriptor: of its own socket, not blocking; None if it has none.
    """

    peer: bytes
    descriptor: int | None

    def send(self, data: bytes) -> None:
        """Send a datagram. OSError if the way is known to be broken."""

    def receive(self, is_wanted: IsWanted, seconds: float) -> bytes:
        """The next datagram that is wanted. TimeoutError if none comes in time; other OSErrors if the way is broken."""

    def close(self) -> None:
        """Let go of what is the session's own."""


class SocketCarrier:
    """A connected socket. OSError if there is no way to the endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.peer = bytes(SOCKET_ADDRESS_BYTES)
        self._socket: Final = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._socket.setblocking(False)
        self.descriptor: int | None = self._socket.fileno()
        try:
            self._socket.connect(endpoint)
        except BaseException:
            self._socket.close()
            raise

    def send(self, data: bytes) -> None:
        """As the protocol says."""
        self._socket.send(data)

    def receive(self, is_wanted: IsWanted, seconds: float) -> bytes:
        """As the protocol says; what nobody wants is dropped."""
        deadline = time.monotonic() + seconds
        while True:
            self._socket.settimeout(max(deadline - time.monotonic(), 0))
            try:
                data = self._socket.recv(DATAGRAM_BYTES)
            except BlockingIOError as error:
                raise TimeoutError from error
            finally:
                self._socket.setblocking(False)
            if is_wanted(data):
                return data

    async def heard(self, is_wanted: IsWanted) -> bytes:
        """The next datagram that is wanted, on an event loop. OSError if nobody listens at the other end."""
        while True:
            data = await asyncio.get_running_loop().sock_recv(self._socket, DATAGRAM_BYTES)
            if is_wanted(data):
                return data

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Sorting:
    """A port that several sessions use by hand, and what has come for others than the one that looked."""

    def __init__(self, port: Port) -> None:
        self.by_hand: Final = PortByHand(port.state)
        self._kept: Final[deque[bytes]] = deque(maxlen=KEPT_MAX)

    def next_wanted(self, is_wanted: IsWanted) -> bytes | None:
        """The oldest datagram that is wanted; None if none has come."""
        for index, data in enumerate(self._kept):
            if is_wanted(data):
                del self._kept[index]
                return data
        while (received := self.by_hand.receive()) is not None:
            if is_wanted(received[1]):
                return received[1]
            self._kept.append(received[1])
        return None


class PortCarrier:
    """A share of a port.

    Args:
        sorting: the port, and what others have left.
        peer: where the exchange is, in 16 bytes.
    """

    def __init__(self, sorting: Sorting, peer: bytes) -> None:
        self.peer = peer
        self.descriptor: int | None = None
        self._sorting: Final = sorting

    def send(self, data: bytes) -> None:
        """As the protocol says; what the port does not take is lost."""
        self._sorting.by_hand.send(self.peer, data)

    def receive(self, is_wanted: IsWanted, seconds: float) -> bytes:
        """As the protocol says."""
        deadline = time.monotonic() + seconds
        while (data := self._sorting.next_wanted(is_wanted)) is None:
            if time.monotonic() >= deadline:
                raise TimeoutError
            time.sleep(min(LOOK_SECONDS, seconds))
        return data

    def close(self) -> None:
        """The port is not the session's own."""
