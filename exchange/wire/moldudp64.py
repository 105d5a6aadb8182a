"""MoldUDP64 1.00: numbered messages in UDP datagrams, for everyone who listens.

A datagram is a header of 20 bytes (section 3.1) and ``message_count`` blocks, each two bytes of length and a
message, which fill it exactly. Messages are numbered from 1 over the whole session; the header has the number of the
first one in the datagram, and the others follow from it. Two counts mean something else (section 3.2): 0 is a
*heartbeat*, sent when there is nothing to send, and 65,535 the *end of the session*; both carry the number that
comes next, so that whoever lost the last datagram learns of it.

Who finds a gap sends a *request packet* (section 4) to a re-request server: from which number on, and how many. The
answer is an ordinary datagram with as many of these messages as fit in one; for the rest one asks again. No answer
means lost, or not available any more.

Everything is here twice. :func:`encode_packet` and :func:`decode_packet` are plain Python. The others are compiled
and work on memory: :func:`begin_datagram`, then :func:`try_append_message` until it refuses; :func:`check_datagram`,
then from block to block with :func:`message_length` and :func:`block_behind`.

Rules: ``decode_packet`` and ``check_datagram`` accept the same datagrams, any bytes may be given to either, and only
what ``check_datagram`` has accepted may be walked through.
"""

from collections.abc import Iterable
from typing import Annotated, Final, NamedTuple

from exchange.native import (
    copy_bytes,
    inlined,
    kernel,
    load_big_endian_uint16,
    load_int64,
    store_big_endian_int64,
    store_big_endian_uint16,
    store_int64,
)
from exchange.wire.fields import Text, UInt16, UInt64, WireError
from exchange.wire.layout import LENGTH_BYTES, LENGTH_LARGEST, Buffer, Message, message

SessionName = Annotated[str, Text(10), "the same for the whole session"]


@message("", "Downstream packet header")
class PacketHeader(Message, frozen=True):
    """What every datagram of the feed begins with, section 3.1."""

    session: SessionName
    sequence_number: Annotated[UInt64, "of the first message, from 1; of a heartbeat, the next one to come"]
    message_count: Annotated[UInt16, "0 = heartbeat, 65,535 = end of session, else the number of blocks"]


@message("", "Request packet")
class Request(Message, frozen=True):
    """What a re-request server is asked, section 4."""

    session: SessionName
    sequence_number: Annotated[UInt64, "the first message that is wanted"]
    requested_message_count: Annotated[UInt16, "how many are wanted"]


HEADER_BYTES: Final = PacketHeader.layout.size_bytes
SEQUENCE: Final = PacketHeader.layout.offset("sequence_number")
COUNT: Final = PacketHeader.layout.offset("message_count")
SESSION_BYTES: Final = SEQUENCE

HEARTBEAT_COUNT: Final = 0
END_OF_SESSION_COUNT: Final = 0xFFFF
MESSAGES_MAX: Final = END_OF_SESSION_COUNT - 1

DATAGRAM_BYTES_MAX: Final = 1_472
"""An Ethernet frame of 1,500 bytes without the headers of IPv4 and UDP: a datagram of this size is never cut in two."""


class Packet(NamedTuple):
    """A datagram, decoded; a heartbeat has no messages, and the end of the session has none either."""

    session: str
    sequence_number: int
    messages: tuple[bytes, ...] = ()
    is_end_of_session: bool = False


def encode_packet(packet: Packet) -> bytes:
    """The datagram's bytes. How long it may be on a network is the caller's business.

    Raises:
        WireError: a field cannot hold its value, there are too many messages, or the end of the session has any.
    """
    count = len(packet.messages)
    if count > MESSAGES_MAX:
        raise WireError(f"MoldUDP64 packet: {count:,} messages, allowed are {MESSAGES_MAX:,}")
    if packet.is_end_of_session:
        if count:
            raise WireError(
                f"MoldUDP64 packet: {count:,} messages at the end of the session, allowed are none"
            )
        count = END_OF_SESSION_COUNT
    header = PacketHeader(packet.session, packet.sequence_number, count).encode()
    return header + encode_blocks(packet.messages)


def encode_blocks(messages: Iterable[bytes]) -> bytes:
    """Messages with their lengths in front of them, as they stand in a datagram and in the file of a day.

    Raises:
        WireError: a message is longer than its length can say.
    """
    parts = []
    for one in messages:
        if len(one) > LENGTH_LARGEST:
            raise WireError(f"MoldUDP64 block: {len(one):,} bytes, allowed are {LENGTH_LARGEST:,}")
        parts += [len(one).to_bytes(LENGTH_BYTES, "big"), one]
    return b"".join(parts)


def decode_packet(data: Buffer) -> Packet:
    """Take a datagram apart.

    Raises:
        WireError: it is no MoldUDP64 packet, or its blocks do not fill it exactly.
    """
    header = PacketHeader.decode(data[:HEADER_BYTES])
    is_end = header.message_count == END_OF_SESSION_COUNT
    messages = decode_blocks(data[HEADER_BYTES:], 0 if is_end else header.message_count)
    return Packet(header.session, header.sequence_number, messages, is_end)


def decode_blocks(data: Buffer, count: int) -> tuple[bytes, ...]:
    """The messages of so many blocks.

    Raises:
        WireError: they do not fill ``data`` exactly.
    """
    data = bytes(data)
    messages = []
    at = 0
    for index in range(count):
        begin = at + LENGTH_BYTES
        at = begin + int.from_bytes(data[at:begin], "big")
        if begin > len(data) or at > len(data):
            raise WireError(f"MoldUDP64 packet: block {index} of {count} is cut")
        messages.append(data[begin:at])
    if at != len(data):
        raise WireError(f"MoldUDP64 packet: {len(data) - at} bytes behind the last block")
    return tuple(messages)


class DatagramBuffer(NamedTuple):
    """Where a datagram is put together: its first byte, how many bytes it may have, and the word that counts them."""

    address: int
    capacity_bytes: int
    length_address: int


@inlined
def begin_datagram(buffer: DatagramBuffer, session_address: int, sequence_number: int) -> None:
    """Write the header of an empty datagram, which as it stands is a heartbeat.

    ``session_address``: the ten bytes of the session. ``sequence_number``: of the first message that will be appended.
    """
    copy_bytes(buffer.address, session_address, SESSION_BYTES)
    store_big_endian_int64(buffer.address + SEQUENCE, sequence_number)
    store_big_endian_uint16(buffer.address + COUNT, HEARTBEAT_COUNT)
    store_int64(buffer.length_address, HEADER_BYTES)


@inlined
def try_append_message(buffer: DatagramBuffer, message_address: int, length: int) -> bool:
    """Append a message of ``length`` bytes; False, and nothing has changed, if there is no room for it."""
    used = load_int64(buffer.length_address)
    count = load_big_endian_uint16(buffer.address + COUNT)
    if used + LENGTH_BYTES + length > buffer.capacity_bytes or count >= MESSAGES_MAX:
        return False
    block = buffer.address + used
    store_big_endian_uint16(block, length)
    copy_bytes(block + LENGTH_BYTES, message_address, length)
    store_big_endian_uint16(buffer.address + COUNT, count + 1)
    store_int64(buffer.length_address, used + LENGTH_BYTES + length)
    return True


@inlined
def end_session(buffer: DatagramBuffer) -> None:
    """Turn a heartbeat into the end of the session."""
    store_big_endian_uint16(buffer.address + COUNT, END_OF_SESSION_COUNT)


@inlined
def message_length(block: int) -> int:
    """How many bytes the message of a block has; it begins behind these two bytes."""
    return load_big_endian_uint16(block)


@inlined
def block_behind(block: int) -> int:
    """Where the next block begins."""
    return block + LENGTH_BYTES + message_length(block)


@kernel
def check_datagram(address: int, length: int) -> int:
    """How many blocks a datagram has; -1 if they do not fill it exactly, or if it has no whole header.

    The session's name is not looked at: comparing it with the expected one is a better check than any.
    """
    if length < HEADER_BYTES:
        return -1
    count = load_big_endian_uint16(address + COUNT)
    if count == END_OF_SESSION_COUNT:
        count = 0
    block, end = address + HEADER_BYTES, address + length
    for _ in range(count):
        if block + LENGTH_BYTES > end:
            return -1
        block = block_behind(block)
        if block > end:
            return -1
    return count if block == end else -1
