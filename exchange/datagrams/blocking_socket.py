"""A port that is a UDP socket as a textbook uses it: a call for each datagram, and who finds none sleeps in the kernel.

It is here to be measured against. Who waits in it has no time for anything else, so no exchange is served through it.

Rules: as of :mod:`exchange.datagrams.kernel_socket`, but the socket is blocking, and has a timeout
(:data:`TIMEOUT_SECONDS`) after which a receiver that has to look at something else gets to do so.
Sources: recvmsg(2), sendmsg(2), SO_RCVTIMEO in socket(7).
"""

import ctypes
import socket
import struct
from typing import Final, NamedTuple

from numba import types

from exchange.datagrams.kernel_socket import SocketPort
from exchange.datagrams.protocol import attend, receive_many, send_many
from exchange.native import implements, store_uint32
from exchange.native.datagram_headers import SIZE_BYTES
from exchange.native.lowering import INT32, INT64, Emit, lowers_to
from exchange.native.system_calls import emit_call_with_errno, with_errno

TIMEOUT_SECONDS: Final = 0.1

_TWO_WORDS = types.int64(types.int64, types.int64)
_NO_FLAGS: Final = 0
_libc: Final = ctypes.CDLL(None, use_errno=True)


class BlockingSocket(NamedTuple):
    """The state: the socket's descriptor."""

    descriptor: int


class BlockingSocketPort(SocketPort):
    """The owner of a socket that it makes blocking."""

    def __init__(self, opened: socket.socket) -> None:
        opened.setblocking(True)
        timeout = struct.pack("@ll", 0, int(TIMEOUT_SECONDS * 1e6))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        super().__init__(opened)

    @property
    def state(self) -> BlockingSocket:
        """What the operations take."""
        return BlockingSocket(self.readiness())


def _emit_message(name: str) -> Emit:
    call = emit_call_with_errno(name, INT64, (INT32, INT64, INT32))

    def emit(builder: object, descriptor: object, header: object) -> object:
        return call(builder, descriptor, header, INT64(_NO_FLAGS))

    return emit


@lowers_to(_TWO_WORDS, _emit_message("recvmsg"))
def _receive_message(descriptor: int, header: int) -> int:
    """Wait for a datagram; how many bytes it has, or -errno."""
    return with_errno(int(_libc.recvmsg(descriptor, ctypes.c_void_p(header), _NO_FLAGS)))


@lowers_to(_TWO_WORDS, _emit_message("sendmsg"))
def _send_message(descriptor: int, header: int) -> int:
    """Send a datagram, and wait until there is room for it; how many bytes it has, or -errno."""
    return with_errno(int(_libc.sendmsg(descriptor, ctypes.c_void_p(header), _NO_FLAGS)))


@implements(receive_many, BlockingSocket)
def _receive_many(port: BlockingSocket, headers_address: int, count: int) -> int:
    size_bytes = _receive_message(port.descriptor, headers_address)
    if size_bytes < 0:
        return size_bytes
    store_uint32(headers_address + SIZE_BYTES, size_bytes)
    return 1


@implements(send_many, BlockingSocket)
def _send_many(port: BlockingSocket, headers_address: int, count: int) -> int:
    sent = _send_message(port.descriptor, headers_address)
    return 1 if sent >= 0 else sent


@implements(attend, BlockingSocket)
def _attend(port: BlockingSocket) -> int:
    return 0
