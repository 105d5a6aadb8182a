"""What a port promises: many datagrams in or out with one call, and never a wait.

A port is to a transport what a socket is with ``recvmmsg`` and ``sendmmsg``, whatever is behind it. So the structures
are the kernel's (:mod:`exchange.native.datagram_headers`), also where there is no kernel: an array of headers, each
with the peer's 16 bytes and with vectors that say where the bytes are.

Rules:

* One thread receives from a port, and one sends to it and attends to it; they may be the same or two.
* A peer is a ``sockaddr_in``; the eight bytes that the kernel leaves unused in it belong to the port. Who answers a
  datagram sends to the very 16 bytes that it came from.
* Datagrams may be lost, in both directions, and nobody is told.
"""

from typing import Any

from exchange.native import generic


@generic
def receive_many(port: Any, headers_address: int, count: int) -> int:
    """Up to ``count`` datagrams that have arrived: how many, 0 or -errno if there is none.

    ``headers_address``: as many ``struct mmsghdr``, each with one vector. The payload is copied to where that points,
    as far as there is room, the sender's address is written, and the header's last word says how many bytes came.
    """
    raise NotImplementedError


@generic
def send_many(port: Any, headers_address: int, count: int) -> int:
    """Send ``count`` datagrams: how many of them were taken, or -errno if none was.

    ``headers_address``: as many ``struct mmsghdr``, each with its receiver and one or two vectors.
    :data:`~exchange.native.WOULD_BLOCK` says that there is no room now; any other error is about the first datagram.
    """
    raise NotImplementedError


@generic
def attend(port: Any) -> int:
    """Do what a port has to do by itself, such as to say where we are to who asks; how much that was.

    Called at every turn of the thread that sends.
    """
    raise NotImplementedError


OPERATIONS = (receive_many, send_many, attend)
