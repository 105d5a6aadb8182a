"""Where SoupBinTCP clients come in: a socket that listens, and the first packet of a connection, read in Python.

Rules: the socket is non-blocking, and whoever calls bounds the time. (SoupBinTCP 3.00, sections 1.1 and 2.2.1.)
"""

import asyncio
import socket
from typing import Final

from exchange.errors import UserError
from exchange.wire.fields import WireError
from exchange.wire.layout import LENGTH_BYTES
from exchange.wire.soupbintcp import LoginRejected, LoginRejectReason, LoginRequest

LOGIN_BYTES_MAX: Final = LENGTH_BYTES + 1 + 46 + 5
"""A Login Request of version 4.10, which says its heartbeat time-out."""


def bind_listener(address: str, port: int) -> socket.socket:
    """A non-blocking socket that has the address and does not listen yet. Raises UserError if it cannot have it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise UserError(f"cannot listen on {address}, port {port}: {error.strerror or error}") from error
    return listener


async def read_login(connection: socket.socket) -> LoginRequest | None:
    """The Login Request at the beginning of a connection, and not a byte behind it; None for anything else."""
    loop = asyncio.get_running_loop()
    packet = b""
    wanted = LENGTH_BYTES
    while len(packet) < wanted:
        received = await loop.sock_recv(connection, wanted - len(packet))
        if not received:
            return None
        packet += received
        if len(packet) == LENGTH_BYTES:
            wanted += int.from_bytes(packet, "big")
            if wanted > LOGIN_BYTES_MAX:
                return None
    try:
        return LoginRequest.decode(packet)
    except WireError:
        return None


async def reject(connection: socket.socket, reason: LoginRejectReason) -> bool:
    """Say no; always False, for the caller to return."""
    await asyncio.get_running_loop().sock_sendall(connection, LoginRejected(reason).encode())
    return False
