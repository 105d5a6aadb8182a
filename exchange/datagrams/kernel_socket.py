"""A port that is a UDP socket of the kernel: a system call for each batch, and the kernel does the rest.

Rules: the socket is bound, non-blocking and of IPv4. If it is connected, it receives from that peer only, and who sends
may leave the receiver out. Whoever opened it closes it.
"""

from typing import NamedTuple

from exchange.datagrams.protocol import attend, receive_many, send_many
from exchange.native import implements, socket_receive_many, socket_send_many


class KernelSocket(NamedTuple):
    """The socket's descriptor."""

    descriptor: int


@implements(receive_many, KernelSocket)
def _receive_many(port: KernelSocket, headers_address: int, count: int) -> int:
    return socket_receive_many(port.descriptor, headers_address, count)


@implements(send_many, KernelSocket)
def _send_many(port: KernelSocket, headers_address: int, count: int) -> int:
    return socket_send_many(port.descriptor, headers_address, count)


@implements(attend, KernelSocket)
def _attend(port: KernelSocket) -> int:
    return 0
