"""Where SoupBinTCP clients come in: a socket that listens, and the first packet of a connection, read in Python.

Rules: the socket is non-blocking, and whoever calls bounds the time. (SoupBinTCP 3.00, sections 1.1 and 2.2.1.)
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

from exchange.errors import UserError
from exchange.logs import log_event
from exchange.wire.fields import WireError
from exchange.wire.layout import LENGTH_BYTES
from exchange.wire.soupbintcp import LoginRejected, LoginRejectReason, LoginRequest

RETRY_SECONDS: Final = 0.01
"""After an accept that failed."""

CHECKS_AT_A_TIME: Final = 2
"""Passwords that a server checks at once: each takes a core for tens of milliseconds, and 16 MiB."""

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
    at_a_time: int,
    welcome: Callable[[socket.socket, str], Coroutine[Any, Any, None]],
    tasks: set[asyncio.Task[None]],
) -> None:
    """Accept connections until cancelled, and welcome each in a task of its own.

    Args:
        listener: non-blocking, and listening.
        at_a_time: how many are welcomed at a time; more wait in the kernel's queue.
        welcome: what becomes of a connection, which it closes; and the peer's address.
        tasks: the tasks that there are; kept up to date.
    """
    loop, places = asyncio.get_running_loop(), asyncio.Semaphore(at_a_time)
    while True:
        await places.acquire()
        try:
            connection, peer = await loop.sock_accept(listener)
        except OSError as error:  # no descriptors left, or the peer is gone already
            log_event("accept failed", level=logging.WARNING, reason=error.strerror)
            places.release()
            await asyncio.sleep(RETRY_SECONDS)
            continue
        connection.setblocking(False)
        task = loop.create_task(welcome(connection, str(peer[0])))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _task: places.release())


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
