"""A port that is a UDP socket of the kernel: a system call for each batch, and the kernel does the rest.

Rules: the socket is bound, non-blocking and of IPv4. If it is connected, it receives from that peer only, and who sends
may leave the receiver out.
"""

import socket
from typing import Any, Final, NamedTuple

from exchange.datagrams.protocol import attend, receive_many, send_many
from exchange.errors import UserError
from exchange.native import implements, socket_receive_many, socket_send_many
from exchange.native.datagram_headers import socket_address


class KernelSocket(NamedTuple):
    """The state: the socket's descriptor."""

    descriptor: int


class SocketPort:
    """The owner of a socket, which it closes."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket: Final = opened

    @property
    def state(self) -> Any:
        """What the operations take."""
        return KernelSocket(self._socket.fileno())

    @property
    def queues(self) -> tuple[Any, ...]:
        """There is one."""
        return (self.state,)

    @property
    def address(self) -> tuple[str, int]:
        """Where others find it: address and port."""
        address, port = self._socket.getsockname()[:2]
        return str(address), int(port)

    def readiness(self) -> int:
        """The socket itself."""
        return self._socket.fileno()

    def find_peer(self, address: str, udp_port: int) -> bytes:
        """The peer as the kernel wants it; how to get there the kernel knows. UserError if it is no address."""
        try:
            return socket_address(address, udp_port)
        except OSError as error:
            raise UserError(f"{address!r}: not a numeric IPv4 address") from error

    def counters(self) -> dict[str, int]:
        """The kernel counts for all sockets together, so there is nothing of this one's own."""
        return {}

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


@implements(receive_many, KernelSocket)
def _receive_many(port: KernelSocket, headers_address: int, count: int) -> int:
    return socket_receive_many(port.descriptor, headers_address, count)


@implements(send_many, KernelSocket)
def _send_many(port: KernelSocket, headers_address: int, count: int) -> int:
    return socket_send_many(port.descriptor, headers_address, count)


@implements(attend, KernelSocket)
def _attend(port: KernelSocket) -> int:
    return 0
