"""A client's line to an exchange: packets of SoupBinTCP out, packets of SoupBinTCP in, whatever carries them.

:class:`TcpLine` is a TCP connection; :class:`~exchange.datagram_line.DatagramLine` the same over UDP, or
over a card (:class:`~exchange.card_line.ClientCard`). A line breaks once and is then thrown away: making a new one, and
going on where the last one broke, is the client's business. So is giving up one that is silent: a line says when
something came last (``heard_at``), and is broken for everybody who waits on it when it is closed.

Rules: one event loop; one task receives, any may send. Packets go out in the order in which they were given."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Literal, Protocol, Self

from exchange.datagram_line import DatagramLine
from exchange.wire import soupbinudp
from exchange.wire.soupbintcp import (
    SERVER_PACKETS,
    LoginAccepted,
    LoginRejected,
    LoginRequest,
    LogoutRequest,
    PacketSplitter,
)

Carrier = Literal["tcp", "udp"]

RECEIVE_BYTES: Final = 1 << 16
GOODBYE_SECONDS: Final = 5.0
"""How long an exchange that takes nothing may hold up a goodbye, and what was asked for before it."""


class Line(Protocol):
    """What a client needs of a connection. Packets have their lengths in front of them."""

    @property
    def heard_at(self) -> float:
        """When something came last, on the event loop's clock."""

    async def log_on(
        self, username: str, password: str, session: str, sequence: int
    ) -> LoginAccepted | LoginRejected | soupbinudp.LoginAccepted | soupbinudp.LoginRejected:
        """Ask to be let in, and wait for the answer. ConnectionError if it is something else."""

    async def send(self, packet: bytes) -> None:
        """Send a packet. OSError if the line is broken and that is known."""

    async def receive(self) -> list[bytes]:
        """The packets that came next, at least one; none when the line is broken. WireError, OSError."""

    async def close(self, *, logout: bool = False) -> None:
        """Hang up, with or without a word; once more is no harm. Without one, nothing is waited for."""


LineOpener = Callable[[str, int], Awaitable[Line]]
"""Opens a line to a host and port, as :meth:`exchange.card_line.ClientCard.open` does; OSError if that cannot be."""


async def open_line(carrier: Carrier | LineOpener, host: str, port: int) -> Line:
    """A line to an exchange, on which nobody has logged on. OSError if nobody can be reached there."""
    if callable(carrier):
        return await carrier(host, port)
    return await (TcpLine if carrier == "tcp" else DatagramLine).open(host, port)


class TcpLine:
    """A TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._splitter = PacketSplitter(SERVER_PACKETS)
        self._early: list[bytes] = []
        self.heard_at = asyncio.get_running_loop().time()

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """Connect. OSError if nobody listens there."""
        return cls(*await asyncio.open_connection(host, port))

    async def log_on(
        self, username: str, password: str, session: str, sequence: int
    ) -> LoginAccepted | LoginRejected:
        """As the protocol says; the caller bounds the time."""
        self._writer.write(LoginRequest(username, password, session, sequence).encode())
        packets: list[bytes] = []
        while not packets:
            data = await self._reader.read(RECEIVE_BYTES)
            self.heard_at = asyncio.get_running_loop().time()
            if not data:
                raise ConnectionResetError("the exchange closed the connection before it answered")
            packets = self._splitter.feed(data)
        answer = SERVER_PACKETS.decode(packets[0])
        if not isinstance(answer, LoginAccepted | LoginRejected):
            raise ConnectionResetError(f"the exchange answered a login with {type(answer).__name__}")
        self._early = packets[1:]
        return answer

    async def send(self, packet: bytes) -> None:
        """As the protocol says."""
        self._writer.write(packet)
        await self._writer.drain()

    async def receive(self) -> list[bytes]:
        """As the protocol says."""
        packets, self._early = self._early, []
        while not packets:
            if self._splitter.garbage is not None:
                raise self._splitter.garbage
            data = await self._reader.read(RECEIVE_BYTES)
            self.heard_at = asyncio.get_running_loop().time()
            if not data:
                return []
            packets = self._splitter.feed(data)
        return packets

    async def close(self, *, logout: bool = False) -> None:
        """As the protocol says."""
        if logout:
            with suppress(OSError):  # a TimeoutError is one
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self.send(LogoutRequest().encode())
                    self._writer.close()
                    await self._writer.wait_closed()
        self._writer.transport.abort()  # what the other side has not taken would be waited for
