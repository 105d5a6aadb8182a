"""One end of a connection over UDP, in plain Python: for clients, and as the plain twin of the compiled agents.

:class:`DatagramConnection` is the protocol without a socket and without a clock: give it packets to send, datagrams
that came and the time, and it says which datagrams are to be sent and which packets have come, in order, each once.
:class:`DatagramLine` puts it on a socket of asyncio and logs on; to :class:`~exchange.client.Client` it is what a TCP
connection is. The datagrams are :mod:`exchange.wire.soupbinudp`.

Rules: times are seconds of any clock that only goes forward. A line is broken when the exchange says so, or has said
nothing for so long as SoupBinTCP allows; then it is thrown away and the client logs on again."""

import asyncio
import secrets
from collections import deque
from contextlib import suppress
from typing import Any, Final, Self

from exchange.wire.fields import WireError
from exchange.wire.layout import Message
from exchange.wire.soupbintcp import HEARTBEAT_INTERVAL_SECONDS, SILENCE_SECONDS_MAX
from exchange.wire.soupbintcp import EndOfSession as EndOfSessionPacket
from exchange.wire.soupbinudp import (
    PACKETS_BYTES_MAX,
    SERVER_DATAGRAMS,
    WINDOW_BYTES,
    ConnectionClosed,
    EndOfSession,
    LoginAccepted,
    LoginRejected,
    LoginRequest,
    LogoutRequest,
    RetransmissionRequest,
    SequencedData,
    packets_of,
)

PATIENCE_SECONDS_FIRST: Final = 0.05
PATIENCE_SECONDS_MAX: Final = 1.0
"""How long an acknowledgement is waited for before everything is sent again; doubles with each time."""
LOGIN_REPEAT_SECONDS: Final = 0.1
ASK_AGAIN_SECONDS: Final = 0.002
UNSENT_PACKETS_MAX: Final = 65_536
TICK_SECONDS: Final = 0.01


class DatagramConnection:
    """What one side of a logged-on connection knows.

    Attributes:
        next_wanted: the number of the packet that is wanted next.
        has_ended: the session is over, and everything that was said in it has come.
        is_closed: the exchange has let the connection go, or has not been heard of for too long.
    """

    def __init__(self, accepted: LoginAccepted, now: float) -> None:
        self.session_number: Final = accepted.session_number
        self.token: Final = accepted.token
        self.next_wanted = accepted.sequence_number
        self.has_ended = False
        self.is_closed = False
        self._packets: deque[bytes] = deque()
        """Packets that are not acknowledged, of which the first has the number ``_first``."""
        self._first = 1
        self._following = 1
        self._patience = PATIENCE_SECONDS_FIRST
        self._retry_at = float("inf")
        self._heard_at = self._said_at = now
        self._asked: tuple[int, float] = (0, now)
        self._asks = self._owes = False

    @property
    def unacknowledged(self) -> int:
        """How many packets the other side is not known to have."""
        return len(self._packets)

    def put(self, packet: bytes) -> None:
        """A packet to be sent, with its length in front of it."""
        assert len(packet) <= PACKETS_BYTES_MAX
        self._packets.append(packet)

    def receive(self, data: bytes, now: float) -> list[bytes]:
        """The packets, with their lengths, that a datagram brings; none if it is nobody's that we know.

        Raises:
            WireError: it has the token, and its packets do not fill it.
        """
        try:
            datagram: Any = SERVER_DATAGRAMS.decode(data)
        except WireError:
            return []
        is_ours = getattr(datagram, "token", None) == self.token and not isinstance(datagram, LoginAccepted)
        if not is_ours or datagram.session_number != self.session_number:
            return []
        self._heard_at = now
        self._acknowledge(datagram.next_wanted, now)
        match datagram:
            case SequencedData():
                return self._take(datagram, now)
            case RetransmissionRequest():
                self._following = self._first
            case ConnectionClosed():
                self.is_closed = True
            case EndOfSession():
                self.has_ended = datagram.sequence_number == self.next_wanted
                self.is_closed = not self.has_ended
        return []

    def due(self, now: float) -> list[bytes]:
        """The datagrams that are to be sent now."""
        if now - self._heard_at > SILENCE_SECONDS_MAX:
            self.is_closed = True
        if now >= self._retry_at:
            self._patience = min(2 * self._patience, PATIENCE_SECONDS_MAX)
            self._retry_at = now + self._patience
            self._following = self._first
        found = []
        if self._asks:
            found.append(RetransmissionRequest(*self._header(self._following, 0)).encode())
        while datagram := self._next_datagram(now):
            found.append(datagram)
        if not found and (self._owes or now - self._said_at >= HEARTBEAT_INTERVAL_SECONDS):
            found.append(SequencedData(*self._header(self._following, 0), b"").encode())
        if found:
            self._said_at = now
            self._asks = self._owes = False
        return found

    def logout(self) -> bytes:
        """The datagram that says goodbye."""
        return LogoutRequest(*self._header(self._following, 0)).encode()

    def _header(self, sequence: int, count: int) -> tuple[int, int, int, int, int]:
        return self.session_number, self.token, sequence, self.next_wanted, count

    def _acknowledge(self, next_wanted: int, now: float) -> None:
        if not self._first < next_wanted <= self._first + len(self._packets):
            return
        for _ in range(next_wanted - self._first):
            self._packets.popleft()
        self._first = next_wanted
        self._following = max(self._following, next_wanted)
        self._patience = PATIENCE_SECONDS_FIRST
        self._retry_at = now + self._patience if self._packets else float("inf")

    def _take(self, datagram: SequencedData, now: float) -> list[bytes]:
        packets = packets_of(datagram)
        if not packets:
            return []
        first = datagram.sequence_number
        if first > self.next_wanted:
            wanted, asked_at = self._asked
            if wanted != self.next_wanted or now - asked_at >= ASK_AGAIN_SECONDS:
                self._asked, self._asks = (self.next_wanted, now), True
            return []
        self._owes = True
        taken = [len(one).to_bytes(2, "big") + one for one in packets[self.next_wanted - first :]]
        self.next_wanted += len(taken)
        return taken

    def _next_datagram(self, now: float) -> bytes:
        """The next packets that fit a datagram and the window; nothing if there are none."""
        begin = self._following - self._first
        size, window = 0, WINDOW_BYTES - sum(len(self._packets[index]) for index in range(begin))
        packets = []
        for index in range(begin, len(self._packets)):
            size += len(self._packets[index])
            if size > min(PACKETS_BYTES_MAX, window):
                break
            packets.append(self._packets[index])
        if not packets:
            return b""
        datagram = SequencedData(*self._header(self._following, len(packets)), b"".join(packets))
        self._following += len(packets)
        if self._retry_at == float("inf"):
            self._retry_at = now + self._patience
        return datagram.encode()


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

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """A socket; nobody has been told anything yet. OSError if there is no way there."""
        loop = asyncio.get_running_loop()
        _, line = await loop.create_datagram_endpoint(cls, remote_addr=(host, port))
        return line

    async def log_on(
        self, username: str, password: str, session: str, sequence: int
    ) -> LoginAccepted | LoginRejected:
        """Ask until there is an answer; the caller bounds the time."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._login = loop.create_future()
        request = LoginRequest(self._login_number, username, password, session, sequence).encode()
        while not self._login.done():
            self._transport.sendto(request)
            await asyncio.wait([self._login], timeout=LOGIN_REPEAT_SECONDS)
        answer = self._login.result()
        if isinstance(answer, LoginAccepted):
            self._connection = DatagramConnection(answer, loop.time())
            self._ticking = loop.create_task(self._tick())
        return answer

    async def send(self, packet: bytes) -> None:
        """Send a packet, now or when the exchange has taken what was sent before."""
        connection = self._connection
        assert connection is not None
        while connection.unacknowledged >= UNSENT_PACKETS_MAX and not connection.is_closed:
            await asyncio.sleep(TICK_SECONDS)
        connection.put(packet)
        self._send_due()

    async def receive(self) -> list[bytes]:
        """The packets that came next, at least one; none when the line is broken."""
        connection = self._connection
        assert connection is not None
        while not self._received and not connection.has_ended:
            if connection.is_closed or self._garbage is not None:
                return []
            self._has_news.clear()
            await self._has_news.wait()
        found, self._received = self._received, []
        return found or [EndOfSessionPacket().encode()]

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
        while connection.unacknowledged and not connection.is_closed and loop.time() < deadline:
            self._send_due()
            await asyncio.sleep(TICK_SECONDS)
        assert self._transport is not None
        self._transport.sendto(connection.logout())

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
        self._has_news.set()
        self._send_due()

    def error_received(self, exc: Exception) -> None:
        """As asyncio calls it: nobody listens there at the moment, which the silence says as well."""

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
