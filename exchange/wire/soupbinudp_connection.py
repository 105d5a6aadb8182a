"""One end of a SoupBinUDP connection, in plain Python: for clients, and as the plain twin of the compiled agents.

It is the protocol without a socket and without a clock: give it packets to send, datagrams that came and the time, and
it says which datagrams are to be sent and which packets have come, in order, each once. Both directions are alike, so
two of these can talk to each other, and one of them with the compiled agents of an exchange
(:mod:`exchange.transport.udp_receiving`, :mod:`exchange.transport.udp_sending`).

Rules: times are seconds of any clock that only goes forward; :meth:`DatagramConnection.due` is to be asked whenever
something came or was put, and every few milliseconds."""

from collections import deque
from typing import Any, Final

from exchange.wire.fields import WireError
from exchange.wire.soupbintcp import HEARTBEAT_INTERVAL_SECONDS, SILENCE_SECONDS_MAX
from exchange.wire.soupbinudp import (
    PACKETS_BYTES_MAX,
    SERVER_DATAGRAMS,
    WINDOW_BYTES,
    ConnectionClosed,
    EndOfSession,
    LogoutRequest,
    RetransmissionRequest,
    SequencedData,
    number_of,
    packets_of,
)

PATIENCE_SECONDS_FIRST: Final = 0.05
PATIENCE_SECONDS_MAX: Final = 1.0
"""How long an acknowledgement is waited for before everything is sent again; doubles with each time."""

ASK_AGAIN_SECONDS: Final = 0.002
"""A gap is asked for again after so long."""


class DatagramConnection:
    """What one side of a logged-on connection knows.

    Args:
        session_number: what every datagram says.
        token: and this.
        next_wanted: the number of the other side's next packet.
        now: the time.
        first: the number of the first packet that will be sent.

    Attributes:
        next_wanted: the number of the packet that is wanted next.
        heard_at: when something of this connection came last.
        has_ended: the session is over, and everything that was said in it has come.
        is_closed: the exchange has let the connection go, or has not been heard of for too long.
    """

    def __init__(self, session_number: int, token: int, next_wanted: int, now: float, first: int = 1) -> None:
        self.session_number: Final = session_number
        self.token: Final = token
        self.next_wanted = next_wanted
        self.has_ended = False
        self.is_closed = False
        self._packets: deque[bytes] = deque()
        """Packets that are not acknowledged, of which the first has the number ``_first``."""
        self._first = self._following = first
        self._patience = PATIENCE_SECONDS_FIRST
        self._retry_at = float("inf")
        self.heard_at = self._said_at = now
        self._asked: tuple[int, float] = (0, now)
        self._asks = self._owes = False

    @property
    def unacknowledged(self) -> int:
        """How many packets the other side is not known to have."""
        return len(self._packets)

    @property
    def next_number(self) -> int:
        """The number of the packet that is put next."""
        return self._first + len(self._packets)

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
        if number_of(data) != (self.session_number, self.token):
            return []
        self.heard_at = now
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
        if now - self.heard_at > SILENCE_SECONDS_MAX:
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
