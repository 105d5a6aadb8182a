"""Where SoupBinTCP clients come in: a socket that listens, and the first packet of a connection, read in Python.

Whoever comes is accepted at once, also if only to be turned away: in the kernel's queue a flood would stand before
everybody else. Who may stay is said by :mod:`exchange.gateway.admission`.

Rules: the socket is non-blocking, and whoever calls bounds the time. (SoupBinTCP 3.00, sections 1.1 and 2.2.1.)
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from exchange.errors import UserError
from exchange.gateway.admission import Doorkeeper, Places, network_of
from exchange.gateway.refusals import RefusalLog
from exchange.wire.fields import WireError
from exchange.wire.layout import LENGTH_BYTES
from exchange.wire.soupbintcp import LoginRejected, LoginRejectReason, LoginRequest

RETRY_SECONDS: Final = 0.01
"""After an accept that failed."""

LOGIN_BYTES_MAX: Final = LENGTH_BYTES + 1 + 46 + 5
"""A Login Request of version 4.10, which says its heartbeat time-out."""


SOCKET_BUFFER_BYTES: Final = 1 << 22
"""What is asked for of a UDP socket that all sessions share: their windows, of some hundred sessions."""


def bind_listener(address: str, port: int, *, is_udp: bool = False) -> socket.socket:
    """A non-blocking socket that has the address and does not listen yet. Raises UserError if it cannot have it."""
    family = socket.AF_INET6 if ":" in address and not is_udp else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM)
    try:
        if is_udp:  # as much as the system allows; the kernel drops what finds no room
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise UserError(f"cannot listen on {address}, port {port}: {error.strerror or error}") from error
    return listener


async def accept_clients(
    listener: socket.socket,
    places: Places,
    doorkeeper: Doorkeeper,
    refusals: RefusalLog,
    welcome: Callable[[socket.socket, str], Coroutine[Any, Any, None]],
) -> None:
    """Accept connections until cancelled, and welcome each in a task of its own, if it may come in.

    Args:
        listener: non-blocking, and listening.
        places: the tasks that there are, kept up to date. When all are taken by addresses that have as few as the
            newcomer's, it waits, and those behind it wait in the kernel's queue.
        doorkeeper: says who may come in.
        refusals: what becomes of the others.
        welcome: what becomes of a connection, which it closes; and the peer's address.
    """
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, address = await _accept(listener)
        except OSError as error:  # no descriptors left, or the peer is gone already
            refusals.note("accept failed", "", error.strerror or str(error))
            await asyncio.sleep(RETRY_SECONDS)
            continue
        peer = str(address[0])
        network = network_of(peer)
        if (reason := _refusal(network, places, doorkeeper)) is not None:
            refusals.note("refused", peer, reason)
            hang_up(connection)
            await asyncio.sleep(0)  # accept does not wait as long as somebody comes, and others have work too
            continue
        connection.setblocking(False)
        if places.taken >= places.at_a_time:
            if (loser := places.put_out(network)) is not None:
                refusals.note("closed", loser, "gave its place to another address")
            else:
                try:
                    await places.wait()
                except BaseException:
                    connection.close()
                    raise
        places.add(network, loop.create_task(welcome(connection, peer)))


async def _accept(listener: socket.socket) -> tuple[socket.socket, Any]:
    """The next connection. The event loop's own ``sock_accept``, cancelled in the turn in which somebody comes, accepts
    him all the same, loses him, and logs an error."""
    while True:
        with suppress(BlockingIOError, InterruptedError):
            return listener.accept()
        await _readable(listener)


async def _readable(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    somebody = asyncio.Event()
    loop.add_reader(listener, somebody.set)
    try:
        await somebody.wait()
    finally:
        loop.remove_reader(listener)


def _refusal(network: str, places: Places, doorkeeper: Doorkeeper) -> str | None:
    """Why a connection of an address is too many; None if it is not."""
    if not doorkeeper.may_connect(network):
        return "too many connections in a second"
    if places.taken_by(network) >= doorkeeper.limits.logons_per_address:
        return "too many connections that have not logged on"
    return None


def hang_up(connection: socket.socket) -> None:
    """Close a connection so that nothing of it is kept, here or in the kernel (RST instead of FIN)."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def login_bytes_missing(packet: bytes) -> int:
    """How many bytes to read next of the first packet of a connection: 0 if it is whole, -1 if it can be no login."""
    wanted = LENGTH_BYTES
    if len(packet) >= LENGTH_BYTES:
        wanted += int.from_bytes(packet[:LENGTH_BYTES], "big")
    return wanted - len(packet) if wanted <= LOGIN_BYTES_MAX else -1


async def read_login(connection: socket.socket) -> LoginRequest | None:
    """The Login Request at the beginning of a connection, and not a byte behind it; None for anything else."""
    loop = asyncio.get_running_loop()
    packet = b""
    while (missing := login_bytes_missing(packet)) > 0:
        received = await loop.sock_recv(connection, missing)
        if not received:
            return None
        packet += received
    if missing < 0:
        return None
    try:
        return LoginRequest.decode(packet)
    except WireError:
        return None


async def reject(connection: socket.socket, reason: LoginRejectReason) -> bool:
    """Say no; always False, for the caller to return."""
    await asyncio.get_running_loop().sock_sendall(connection, LoginRejected(reason).encode())
    return False
