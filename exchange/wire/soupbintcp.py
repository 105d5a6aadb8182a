"""SoupBinTCP 3.00: sessions over TCP. A client logs in, and reads numbered messages that no broken line can lose.

Source: NASDAQ, "SoupBinTCP", version 3.00: section 1 (logical packets, the flow of a session, heartbeats) and section
2 (the packet types of both sides).

A TCP stream carries logical packets, each a 2-byte length, a type, and a payload. TCP may cut and join them at any
byte, so a reader needs a splitter: :class:`PacketSplitter` here, in plain Python, for clients and tests, and its
compiled twin in :mod:`exchange.wire.soupbintcp_kernel` for the order path.

What makes it a *session* is one rule: Sequenced Data (S) packets are counted, from 1, by both sides, and carry no
number themselves. Login Accepted announces the number of the next one. A client that lost its line logs in again with
the number it wants next, and the server sends from there. What a client sends (U) is not counted and may be lost with
the line; OUCH is made so that sending it twice does no harm.

Rules of the specification that concern who uses this module:

* Each side sends a heartbeat when it has sent nothing for a second (the client once it is logged in), and takes the
  other side for dead after 15 seconds of silence.
* User name and password are compared without regard to case. The password is not shown by ``repr`` nor by errors.
* Padding: the specification pads the fields of Login Accepted on the left and those of Login Request on the right, and
  implementations differ. Both are read; all numbers are written with the spaces on the left.
* A requested sequence number of 0 asks for the newest message on. One beyond the end waits for that message.
* Login Request may carry the heartbeat time-out of version 4.10; it is read, and left out unless it is given.
"""

from typing import Annotated, Final

from exchange.wire.fields import AsciiNumber, AsciiNumber20, Char, Code, Payload, Text, WireError
from exchange.wire.layout import (
    LENGTH_BYTES,
    LENGTH_LARGEST,
    OPTIONAL,
    Buffer,
    Message,
    MessageTable,
    message,
)

SESSION_CHARACTERS: Final = 10
USERNAME_CHARACTERS: Final = 6
PASSWORD_CHARACTERS: Final = 10

HEARTBEAT_INTERVAL_SECONDS: Final = 1
"""A side that has sent nothing for so long sends a heartbeat."""

SILENCE_SECONDS_MAX: Final = 15
"""A side that has received nothing for so long takes the line for dead."""

LOGIN_SECONDS_MAX: Final = 30
"""A server may drop a connection that has not asked to log in for so long."""


class LoginRejectReason(Code):
    """Why a login was refused."""

    NOT_AUTHORIZED = "A", "not authorized: wrong user name or password"
    SESSION_NOT_AVAILABLE = "S"


@message("L", "Login Request", length_prefixed=True)
class LoginRequest(Message, frozen=True):
    """The first packet of a client; once, and at once."""

    username: Annotated[str, Text(USERNAME_CHARACTERS, tolerant=True), "case-insensitive"]
    password: Annotated[str, Text(PASSWORD_CHARACTERS, tolerant=True, secret=True), "case-insensitive"]
    requested_session: Annotated[
        str, Text(SESSION_CHARACTERS, tolerant=True), "all spaces = the session now active"
    ]
    requested_sequence_number: Annotated[
        AsciiNumber20, "next message wanted; 1 = from the start, 0 = from the newest on"
    ]
    heartbeat_timeout: Annotated[
        int | None, AsciiNumber(5), OPTIONAL, "milliseconds; from version 4.10 on"
    ] = None

    def __repr__(self) -> str:
        session, number = self.requested_session, self.requested_sequence_number
        return f"LoginRequest({self.username!r}, password not shown, {session!r}, {number})"


@message("U", "Unsequenced Data", length_prefixed=True)
class UnsequencedData(Message, frozen=True):
    """A message of the client, such as an OUCH order. It is not numbered."""

    message: Annotated[Payload, "one message of the protocol above (OUCH inbound)"]


@message("R", "Client Heartbeat", length_prefixed=True)
class ClientHeartbeat(Message, frozen=True):
    """The client is there and has nothing to say."""


@message("O", "Logout Request", length_prefixed=True)
class LogoutRequest(Message, frozen=True):
    """The client leaves; the server closes the connection."""


@message("A", "Login Accepted", length_prefixed=True)
class LoginAccepted(Message, frozen=True):
    """The client is in; sequenced messages follow."""

    session: Annotated[
        str, Text(SESSION_CHARACTERS, padded="left", tolerant=True), "the session now logged in to"
    ]
    sequence_number: Annotated[AsciiNumber20, "number of the next Sequenced Data packet"]


@message("J", "Login Rejected", length_prefixed=True)
class LoginRejected(Message, frozen=True):
    """The client is not let in; the server closes the connection."""

    reject_reason_code: Annotated[Char, LoginRejectReason]


@message("S", "Sequenced Data", length_prefixed=True)
class SequencedData(Message, frozen=True):
    """The next numbered message of the session."""

    message: Annotated[Payload, "one message of the protocol above (OUCH outbound, GLIMPSE, ITCH)"]


@message("H", "Server Heartbeat", length_prefixed=True)
class ServerHeartbeat(Message, frozen=True):
    """The server is there and has nothing to say."""


@message("Z", "End of Session", length_prefixed=True)
class EndOfSession(Message, frozen=True):
    """The session is over for good; nothing sequenced follows."""


@message("+", "Debug", length_prefixed=True)
class Debug(Message, frozen=True):
    """Free text of either side for people who look at the line. Programs ignore it."""

    text: Annotated[Payload, "free text"]


CLIENT_PACKETS: Final = MessageTable(
    "SoupBinTCP client", LoginRequest, UnsequencedData, ClientHeartbeat, LogoutRequest, Debug
)
"""What a client sends, by type."""

SERVER_PACKETS: Final = MessageTable(
    "SoupBinTCP server",
    LoginAccepted, LoginRejected, SequencedData, ServerHeartbeat, EndOfSession, Debug,
)  # fmt: skip
"""What a server sends, by type."""

HEADER_BYTES: Final = LENGTH_BYTES + 1
"""Length and type."""

PACKET_BYTES_MAX: Final = LENGTH_BYTES + LENGTH_LARGEST

PAYLOAD_BYTES_MAX: Final = PACKET_BYTES_MAX - HEADER_BYTES

LengthRange = tuple[int, int]
"""Smallest and largest ``packet_length`` of a type."""


def packet_lengths(packets: MessageTable, packet_length_max: int = LENGTH_LARGEST) -> dict[int, LengthRange]:
    """For each type byte of a side, which ``packet_length`` it may have.

    Args:
        packets: :data:`CLIENT_PACKETS` or :data:`SERVER_PACKETS`: what is expected on the line.
        packet_length_max: the bound for types whose payload has no size of its own, such as Sequenced Data.
    """
    lengths: dict[int, LengthRange] = {}
    for packet in packets.values():
        smallest = packet.layout.size_bytes - LENGTH_BYTES
        sizes = [field.size_bytes for field in packet.layout.fields]
        largest = sum(size for size in sizes if size is not None) - LENGTH_BYTES
        lengths[packet.layout.type_byte] = (smallest, packet_length_max if None in sizes else largest)
    return lengths


class PacketSplitter:
    """Cuts a stream of bytes that arrives in any pieces into whole packets.

    Rules: what is not yet whole is kept, and that is never more than one packet. When the stream turns out to be
    something else, the packets before that place are still given, :attr:`garbage` says what is wrong, and nothing is
    given any more; the owner handles what it got and closes the connection. So what a stream means never depends on
    how TCP cut it.
    """

    def __init__(self, packets: MessageTable, packet_length_max: int = LENGTH_LARGEST) -> None:
        self._protocol = packets.protocol
        self._lengths = packet_lengths(packets, packet_length_max)
        self._largest = max(largest for _, largest in self._lengths.values())
        self._pending = bytearray()
        self.garbage: WireError | None = None
        """What is wrong with the stream; None while it is fine."""

    def feed(self, data: Buffer) -> list[bytes]:
        """The packets that are whole now, each with its length in front, ready for ``MessageTable.decode``."""
        if self.garbage is not None:
            return []
        self._pending += data
        packets: list[bytes] = []
        position = 0
        try:
            while (length := self._length_at(position)) is not None:
                end = position + LENGTH_BYTES + length
                if end > len(self._pending):
                    break
                packets.append(bytes(self._pending[position:end]))
                position = end
        except WireError as error:
            self.garbage = error
            position = len(self._pending)
        del self._pending[:position]
        return packets

    @property
    def pending_bytes(self) -> int:
        """How many bytes of a packet that is not yet whole are kept."""
        return len(self._pending)

    def _length_at(self, position: int) -> int | None:
        """``packet_length`` of the packet at ``position``; None if not there yet. Raises WireError for garbage."""
        header = bytes(self._pending[position : position + HEADER_BYTES])
        if len(header) < LENGTH_BYTES:
            return None
        length = int.from_bytes(header[:LENGTH_BYTES], "big")
        if not 1 <= length <= self._largest:
            raise self._error(f"packet_length is {length:,}, allowed is 1 to {self._largest:,}")
        if len(header) < HEADER_BYTES:
            return None
        smallest, largest = self._lengths.get(header[-1], (0, 0))
        if largest == 0:
            allowed = ", ".join(chr(byte) for byte in self._lengths)
            raise self._error(f"packet type is {header[-1:]!r}, allowed is one of {allowed}")
        if not smallest <= length <= largest:
            allowed = f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
            raise self._error(f"packet_length is {length:,} of type {header[-1:]!r}, allowed is {allowed}")
        return length

    def _error(self, text: str) -> WireError:
        return WireError(f"{self._protocol}: {text}")
