"""SoupBinTCP's sessions without TCP: the same packets in numbered datagrams that are acknowledged and sent again.

This protocol is this exchange's own; its words are those of SoupBinTCP 3.00 and MoldUDP64 1.00. What is carried are
the very packets of a SoupBinTCP session (Sequenced Data one way, Unsequenced Data the other), each with its two bytes
of length in front: the message blocks of MoldUDP64. So a stretch of a session's log that ends between two packets is
the payload of a datagram as it stands, and whatever can move datagrams, a socket today and a network card without a
kernel later, carries equal bytes.

*Logging on.* A client sends Login Request until there is an answer, always with the same ``login_number``, by which the
exchange knows a repetition. Login Accepted names the session and the *token*: 64 random bits that every further
datagram of the connection carries, in both directions. Who does not know them is not listened to.

*Both directions are alike.* Packets are numbered. In a session from 1 over all connections as in SoupBinTCP, and what a
client sends from 1 in each connection, because OUCH can be asked twice. ``sequence_number`` is the first packet's,
``next_wanted`` the number of the first packet of the other direction that has not come: everything below it is
acknowledged. Both stand in every datagram. One without packets is a heartbeat, and an acknowledgement.

*What is lost is sent again.* A receiver takes packets in order only. What it has had it skips; if the first one is not
the one that it wants, it drops the datagram and sends Retransmission Request, once for a gap and again if nothing
comes of it. A sender goes back to ``next_wanted`` when it is told so, or when nothing has been acknowledged for a
while. It never has more than :data:`WINDOW_BYTES` on their way.

*The end.* A client says Logout Request; the exchange says Connection Closed when it lets a client go, and End of
Session when all is over. These three are not acknowledged: who misses one learns from the silence.

Rules: any bytes may be given to ``decode``; IPv4 and UDP know no session, so an address alone is never believed.
"""

from typing import Annotated, Final

from exchange.wire.fields import Char, Payload, Text, UInt16, UInt64
from exchange.wire.layout import Buffer, Message, MessageTable, message
from exchange.wire.moldudp64 import DATAGRAM_BYTES_MAX, decode_blocks
from exchange.wire.soupbintcp import (
    PASSWORD_CHARACTERS,
    SESSION_CHARACTERS,
    USERNAME_CHARACTERS,
    LoginRejectReason,
)

LoginNumber = Annotated[UInt64, "made up by the client; the same in every repetition and in the answer"]


class Numbered(Message, frozen=True):
    """What every datagram behind the logon begins with."""

    session_number: Annotated[UInt16, "which session, as Login Accepted said"]
    token: Annotated[UInt64, "which connection of it, as Login Accepted said"]
    sequence_number: Annotated[UInt64, "of the first packet; if there is none, of the next one to come"]
    next_wanted: Annotated[UInt64, "of the other direction: all packets below have come"]
    message_count: Annotated[UInt16, "packets in this datagram; 0 = heartbeat"]


@message("L", "Login Request")
class LoginRequest(Message, frozen=True):
    """The first datagram of a client, again and again until it is answered."""

    login_number: LoginNumber
    username: Annotated[str, Text(USERNAME_CHARACTERS, tolerant=True), "case-insensitive"]
    password: Annotated[str, Text(PASSWORD_CHARACTERS, tolerant=True, secret=True), "case-insensitive"]
    requested_session: Annotated[
        str, Text(SESSION_CHARACTERS, tolerant=True), "all spaces = the session now active"
    ]
    requested_sequence_number: Annotated[
        UInt64, "next message wanted; 1 = from the start, 0 = from the newest on"
    ]

    def __repr__(self) -> str:
        session, number = self.requested_session, self.requested_sequence_number
        return f"LoginRequest({self.username!r}, password not shown, {session!r}, {number})"


@message("A", "Login Accepted")
class LoginAccepted(Message, frozen=True):
    """The client is in; sequenced messages follow."""

    login_number: LoginNumber
    session: Annotated[str, Text(SESSION_CHARACTERS, tolerant=True), "the session now logged in to"]
    sequence_number: Annotated[UInt64, "number of the next Sequenced Data packet"]
    session_number: Annotated[UInt16, "to be said in every datagram"]
    token: Annotated[UInt64, "to be said in every datagram; random"]


@message("J", "Login Rejected")
class LoginRejected(Message, frozen=True):
    """The client is not let in."""

    login_number: LoginNumber
    reject_reason_code: Annotated[Char, LoginRejectReason]


@message("S", "Sequenced Data")
class SequencedData(Numbered, frozen=True):
    """The next packets of one direction, or a heartbeat."""

    packets: Annotated[Payload, "SoupBinTCP packets, each with its length, which fill the datagram"]


@message("T", "Retransmission Request")
class RetransmissionRequest(Numbered, frozen=True):
    """Later packets have come, and `next_wanted` has not: send from there again. Without packets."""


@message("O", "Logout Request")
class LogoutRequest(Numbered, frozen=True):
    """The client leaves. Without packets."""


@message("X", "Connection Closed")
class ConnectionClosed(Numbered, frozen=True):
    """The exchange has let this connection go; log on again to go on. Without packets."""


@message("Z", "End of Session")
class EndOfSession(Numbered, frozen=True):
    """The session is over for good; nothing follows `sequence_number` - 1. Without packets."""


CLIENT_DATAGRAMS: Final = MessageTable(
    "SoupBinUDP client", LoginRequest, SequencedData, RetransmissionRequest, LogoutRequest
)
"""What a client sends, by type."""

SERVER_DATAGRAMS: Final = MessageTable(
    "SoupBinUDP server",
    LoginAccepted, LoginRejected, SequencedData, RetransmissionRequest, ConnectionClosed, EndOfSession,
)  # fmt: skip
"""What an exchange sends, by type."""

HEADER_BYTES: Final = SequencedData.layout.size_bytes
PACKETS_BYTES_MAX: Final = DATAGRAM_BYTES_MAX - HEADER_BYTES
"""What the packets of a datagram may come to, so that no network cuts it in two."""

WINDOW_BYTES: Final = 1 << 15
"""What a sender may have on its way without an acknowledgement: some 23 full datagrams, which every receiver's socket
buffer has room for."""

PACKETS_MAX: Final = PACKETS_BYTES_MAX // 3
"""The shortest packet is a length and a type."""

for _cls in (RetransmissionRequest, LogoutRequest, ConnectionClosed, EndOfSession):
    assert _cls.layout.size_bytes == HEADER_BYTES


def packets_of(datagram: SequencedData) -> tuple[bytes, ...]:
    """The packets of a datagram, without the lengths in front of them.

    Raises:
        WireError: they are not ``message_count``, or do not fill it exactly.
    """
    return decode_blocks(datagram.packets, datagram.message_count)


def number_of(data: Buffer) -> tuple[int, int] | None:
    """Session number and token of a datagram; None for a login, an answer to one, and what is too short."""
    if len(data) < HEADER_BYTES or data[0] in b"LAJ":
        return None
    return int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:11], "big")
