"""A load's line over TCP: a stream that the kernel keeps whole.

A send hands the socket all bytes that are due with one call. What it has no room for is sent in the next turn; it may
end within a packet. A receive appends to the session's input, where packets are cut; the piece of one that is left is
moved to the front. Messages are counted as they are handed on, because on a new line (:meth:`TcpLineMemory.resume`) the
exchange has to be told which is wanted next, and going back to the first unanswered request is setting a number.

Rules: as of the protocol. Nothing but a heartbeat is sent that is not a request, and never within one."""

from typing import Any, Final, NamedTuple

import numpy as np

from exchange.load.protocol import next_packets, receive, send
from exchange.load.requests import SessionRequests
from exchange.load.words import (
    CLOSED,
    DESCRIPTOR,
    FULL,
    HEARD_NS,
    LINE_WORDS,
    NEXT,
    NOT_SOUPBINTCP,
    PACKETS,
    SENT_AGAIN,
    SENT_NS,
    TAKEN,
    add,
    end_of,
    fail,
)
from exchange.native import (
    WOULD_BLOCK,
    address_of,
    implements,
    inlined,
    kernel,
    load_int64,
    load_uint8,
    socket_receive,
    socket_send,
    store_int64,
    store_uint8,
    unlikely,
)
from exchange.wire.soupbintcp import (
    HEADER_BYTES,
    HEARTBEAT_INTERVAL_SECONDS,
    SERVER_PACKETS,
    ClientHeartbeat,
    SequencedData,
)
from exchange.wire.soupbintcp_kernel import PLACE_DTYPE, PacketRules, PacketRuleTable, Trouble, find_packets

# a session's words
HEARTBEAT_LEFT: Final = LINE_WORDS
INPUT_BEGIN: Final = LINE_WORDS + 8
"""The part of the input that has not been looked at yet."""
INPUT_END: Final = LINE_WORDS + 16
NEXT_WANTED: Final = LINE_WORDS + 24
"""The number of the message that has not come."""
INPUT: Final = LINE_WORDS + 64
INPUT_BYTES: Final = 1 << 16
SESSION_BYTES: Final = INPUT + INPUT_BYTES

PLACES_MAX: Final = 1024

_NO_TROUBLE: Final = int(Trouble.NONE)
_PLACE_BYTES: Final = PLACE_DTYPE.itemsize
_PACKET_TYPE: Final = 2
_SEQUENCED: Final = SequencedData.layout.type_byte
_BEAT_NS: Final = HEARTBEAT_INTERVAL_SECONDS * 1_000_000_000


class TcpLine(NamedTuple):
    """The load's words, which packets an exchange sends, room for the places of some, and a heartbeat's bytes."""

    words: int
    rules: PacketRules
    places: int
    heartbeat: int


class TcpLineMemory:
    """Owner of the memory behind a :class:`TcpLine`; see :class:`~exchange.load.protocol.LineMemory`."""

    session_bytes: Final = SESSION_BYTES
    counted: Final = {"line": FULL, "sent again": SENT_AGAIN}

    def __init__(self, words: int) -> None:
        self._rules: Final = PacketRuleTable(SERVER_PACKETS, INPUT_BYTES // 2)
        self._places: Final = np.zeros(PLACES_MAX, PLACE_DTYPE)
        self._heartbeat: Final = np.frombuffer(ClientHeartbeat().encode(), np.uint8)
        self.state: Final = TcpLine(
            words, self._rules.state, address_of(self._places), address_of(self._heartbeat)
        )

    def lay_out(self, address: int, session: Any) -> None:
        """As the protocol says."""
        store_int64(address + NEXT_WANTED, session.next_wanted)

    def next_wanted(self, address: int) -> int:
        """As the protocol says."""
        return load_int64(address + NEXT_WANTED)

    def resume(self, address: int, session: Any, first: int, elapsed_ns: int) -> None:
        """As the protocol says; what the old line had of a packet is nobody's any more."""
        self.lay_out(address, session)
        add(self.state.words + SENT_AGAIN, load_int64(address + NEXT) - first)
        for offset, value in (
            (DESCRIPTOR, session.descriptor),
            (TAKEN, end_of(address, first)),
            (HEARTBEAT_LEFT, 0),
            (INPUT_BEGIN, 0),
            (INPUT_END, 0),
            (SENT_NS, elapsed_ns),
            (HEARD_NS, elapsed_ns),
        ):
            store_int64(address + offset, value)

    def give_back(self, address: int, session: Any, requests: SessionRequests) -> None:
        """As the protocol says: the kernel knows how far it is."""


@implements(send, TcpLine)
def _send(line: TcpLine, session: int, due: int, elapsed_ns: int) -> int:
    taken = load_int64(session + TAKEN)
    wanted = end_of(session, due) - taken
    if wanted == 0:
        if unlikely(elapsed_ns - load_int64(session + SENT_NS) > _BEAT_NS):
            left = _send_heartbeat(session, line.heartbeat, elapsed_ns)
            return left if left < 0 else taken
        return taken
    if unlikely(load_int64(session + HEARTBEAT_LEFT) > 0):
        left = _send_heartbeat(session, line.heartbeat, elapsed_ns)
        if left != 0:
            return left if left < 0 else taken
    sent = socket_send(load_int64(session + DESCRIPTOR), load_int64(session + PACKETS) + taken, wanted)
    if sent < wanted:
        if sent < 0 and sent != WOULD_BLOCK:
            return sent
        add(line.words + FULL, 1)
    if sent > 0:
        taken += sent
        store_int64(session + TAKEN, taken)
        store_int64(session + SENT_NS, elapsed_ns)
    return taken


@kernel
def _send_heartbeat(session: int, heartbeat: int, elapsed_ns: int) -> int:
    """Begin a heartbeat or send what is left of one: how many bytes of it are left now, or -errno."""
    left = load_int64(session + HEARTBEAT_LEFT)
    left = HEADER_BYTES if left == 0 else left
    sent = socket_send(load_int64(session + DESCRIPTOR), heartbeat + HEADER_BYTES - left, left)
    if sent < 0:
        return left if sent == WOULD_BLOCK else sent
    store_int64(session + SENT_NS, elapsed_ns)
    store_int64(session + HEARTBEAT_LEFT, left - sent)
    return left - sent


@implements(receive, TcpLine)
def _receive(line: TcpLine, session: int, elapsed_ns: int) -> int:
    end = load_int64(session + INPUT_END)
    received = socket_receive(load_int64(session + DESCRIPTOR), session + INPUT + end, INPUT_BYTES - end)
    if received <= 0:
        if received != WOULD_BLOCK:
            fail(line.words, session, CLOSED if received == 0 else received)
        return 0
    store_int64(session + INPUT_BEGIN, 0)
    store_int64(session + INPUT_END, end + received)
    store_int64(session + HEARD_NS, elapsed_ns)
    return received


@implements(next_packets, TcpLine)
def _next_packets(line: TcpLine, session: int, elapsed_ns: int) -> tuple[int, int, int]:
    begin, end = load_int64(session + INPUT_BEGIN), load_int64(session + INPUT_END)
    packets, count = session + INPUT + begin, 0
    if begin < end:
        count, consumed, trouble = find_packets(packets, end - begin, line.rules, line.places, PLACES_MAX)
        store_int64(session + INPUT_BEGIN, begin + consumed)
        if unlikely(trouble != _NO_TROUBLE and count == 0):  # what is good is taken first
            fail(line.words, session, NOT_SOUPBINTCP)
        _count_messages(line, session, packets, count)
    if count == 0:
        for index in range(end - begin):  # a piece of a packet
            store_uint8(session + INPUT + index, load_uint8(packets + index))
        store_int64(session + INPUT_END, end - begin)
    return packets, 0, count


@inlined
def _count_messages(line: TcpLine, session: int, packets: int, count: int) -> None:
    messages = 0
    for index in range(count):
        kind = load_uint8(packets + load_int64(line.places + index * _PLACE_BYTES) + _PACKET_TYPE)
        messages += 1 if kind == _SEQUENCED else 0
    add(session + NEXT_WANTED, messages)
