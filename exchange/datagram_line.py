"""A client's line over UDP: logs on, and keeps a connection of numbered datagrams going on a socket of asyncio.

To :class:`~exchange.client.Client` it is what a TCP connection is. What is sent when, and what came, is decided by
:class:`~exchange.wire.soupbinudp_connection.DatagramConnection`; here are the socket and the clock.

Rules: a line is broken when the exchange says so, or has said nothing for so long as SoupBinTCP allows; then it is
thrown away and the client logs on again."""

import asyncio
import secrets
from contextlib import suppress
from typing import Any, Final, Self

from exchange.wire.fields import WireError
from exchange.wire.layout import Message
from exchange.wire.soupbintcp import HEARTBEAT_INTERVAL_SECONDS, EndOfSession
from exchange.wire.soupbinudp import SERVER_DATAGRAMS, LoginAccepted, LoginRejected, LoginRequest
from exchange.wire.soupbinudp_connection import DatagramConnection

LOGIN_REPEAT_SECONDS: Final = 0.1
UNSENT_PACKETS_MAX: Final = 1024
"""More than a window holds. Whoever sends more has to wait, and the event loop hears what the exchange says."""
TICK_SECONDS: Final = 0.01


class DatagramLine(asyncio.DatagramProtocol):
    """A connection on a socket: what :class:`exchange.line.Line` promises, over UDP."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._login: asyncio.Future[LoginAccepted | LoginRejected] | None = None
        self._login_number = secrets.randbits(64)
        self._connection: DatagramConnection | None = None
        self._received: list[bytes] = []
        self._has_news = asyncio.Event()
        self._ticking: asyncio.Task[None] | None = None
        self._garbage: WireError | None = None
        self._is_lost = False
        self._turn = asyncio.Lock()
        self.heard_at = asyncio.get_running_loop().time()

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """A socket; nobody has been told anything yet. OSError if there is no way there."""
        loop = asyncio.get_running_loop()
        _, line = await loop.create_datagram_endpoint(cls, remote_addr=(host, port))
        return line

    async def log_on(
        self, username: str, password: str, session: str, sequence: int
    ) -> LoginAccepted | LoginRejected:
        """Ask until there is an answer; the caller bounds the time. ConnectionRefusedError if nobody listens there."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._login = loop.create_future()
        request = LoginRequest(self._login_number, username, password, session, sequence).encode()
        try:
            while not self._login.done():
                if self._is_lost:
                    raise ConnectionResetError("the way to the exchange is lost")
                self._transport.sendto(request)
                await asyncio.wait([self._login], timeout=LOGIN_REPEAT_SECONDS)
            answer = self._login.result()
        finally:
            self._login.cancel()
        if isinstance(answer, LoginAccepted):
            self._connection = DatagramConnection(
                answer.session_number, answer.token, answer.sequence_number, loop.time()
            )
            self._ticking = loop.create_task(self._tick())
        return answer

    async def send(self, packet: bytes) -> None:
        """Send a packet, now or when the exchange has taken what was sent before."""
        connection = self._connection
        assert connection is not None
        async with self._turn:  # or who comes when there is room again would overtake who waits for it
            while connection.unacknowledged >= UNSENT_PACKETS_MAX and not self._is_broken(connection):
                await asyncio.sleep(TICK_SECONDS)
            connection.put(packet)
            self._send_due()

    async def receive(self) -> list[bytes]:
        """The packets that came next, at least one; none when the line is broken."""
        connection = self._connection
        assert connection is not None
        while not self._received and not connection.has_ended:
            if self._is_broken(connection) or self._garbage is not None:
                return []
            self._has_news.clear()
            await self._has_news.wait()
        found, self._received = self._received, []
        return found or [EndOfSession().encode()]

    async def close(self, *, logout: bool = False) -> None:
        """Hang up; with ``logout`` what was asked for last is still sent, and the exchange is told."""
        if self._ticking is not None:
            self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking
        if self._transport is not None:
            if logout and self._connection is not None:
                await self._say_goodbye(self._connection)
            self._transport.close()

    async def _say_goodbye(self, connection: DatagramConnection) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HEARTBEAT_INTERVAL_SECONDS
        while connection.unacknowledged and not self._is_broken(connection) and loop.time() < deadline:
            self._send_due()
            await asyncio.sleep(TICK_SECONDS)
        assert self._transport is not None
        self._transport.sendto(connection.logout())

    def _is_broken(self, connection: DatagramConnection) -> bool:
        return connection.is_closed or self._is_lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio calls it."""
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """As asyncio calls it."""
        if self._connection is None:
            self._take_answer(data)
            return
        try:
            self._received += self._connection.receive(data, asyncio.get_running_loop().time())
        except WireError as error:
            self._garbage = error
        self.heard_at = self._connection.heard_at
        self._has_news.set()
        self._send_due()

    def error_received(self, exc: Exception) -> None:
        """As asyncio calls it. Where nobody listens, the exchange that knew this connection is gone.

        Other errors may pass; if they do not, the silence says so as well.
        """
        if isinstance(exc, ConnectionRefusedError):
            self._is_lost = True
            self._has_news.set()
            if self._login is not None and not self._login.done():
                self._login.set_exception(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio calls it when the transport was closed: by us, or by a card whose link is down."""
        self._is_lost = True
        self._has_news.set()

    def _take_answer(self, data: bytes) -> None:
        try:
            answer: Message = SERVER_DATAGRAMS.decode(data)
        except WireError:
            return
        if not isinstance(answer, LoginAccepted | LoginRejected) or self._login is None:
            return
        if answer.login_number == self._login_number and not self._login.done():
            self._login.set_result(answer)

    def _send_due(self) -> None:
        connection, transport = self._connection, self._transport
        assert connection is not None
        assert transport is not None
        if not transport.is_closing():
            for datagram in connection.due(asyncio.get_running_loop().time()):
                transport.sendto(datagram)

    async def _tick(self) -> None:
        """Let what is due by time be sent, and the reader learn of a line that is broken."""
        assert self._connection is not None
        while not self._connection.is_closed:
            await asyncio.sleep(TICK_SECONDS)
            self._send_due()
        self._has_news.set()
