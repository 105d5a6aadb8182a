"""A load's line over UDP: numbered datagrams that are acknowledged, and sent again when they are lost.

It is the client's end of :mod:`exchange.wire.soupbinudp`, compiled; the plain twin is
:class:`~exchange.wire.soupbinudp_connection.DatagramConnection`, which logs a session on before the loop has it and
logs it out afterwards.

*Out.* All requests lie in memory, one behind the other, and each is one packet. So a datagram is a header of its own
and a stretch of those bytes, and nothing is copied here: a session's due datagrams go with one call. Requests are
numbered as they lie. Going back is setting "sent so far" to what is acknowledged: when the exchange asks for it, and
when nothing has been acknowledged for a while, which gets longer with each time.

*In.* A receive takes a batch of datagrams with one call, from the session's socket or from the port of all
(:mod:`exchange.load.udp_ports`). One that does not say a session's number and token is dropped and counted. What is the
next packet is handed on, what has come before is skipped, and what comes too early is dropped and asked for, once for a
gap and again after :data:`ASK_AGAIN_NS`.

*Acknowledgements* stand in every datagram. If packets have come and no request goes out in the next turn to say so,
a datagram without packets does.

Rules: as of the protocol. No more than :data:`~exchange.wire.soupbinudp.WINDOW_BYTES` are on their way; what has to
wait for that, or for room in the port, counts as a line that was full. The batch is shared by all sessions."""

import errno
from typing import Any, Final, NamedTuple

import numpy as np

from exchange.datagrams.port import Port
from exchange.gateway.offsets import offsets_of
from exchange.load.protocol import next_packets, receive, send
from exchange.load.requests import SessionRequests
from exchange.load.udp_ports import SessionSockets, SharedPort, is_own, peer_of, receive_for, send_for
from exchange.load.words import (
    ASKED_AGAIN,
    CLOSED,
    DESCRIPTOR,
    ENDED,
    FAILURE,
    FULL,
    HEARD_NS,
    LINE_WORDS,
    LOAD_LINE_WORDS,
    NEXT,
    NOT_SOUPBINTCP,
    PACKETS,
    SENT_AGAIN,
    SENT_NS,
    SILENT,
    STRANGE,
    TAKEN,
    add,
    end_of,
    fail,
)
from exchange.native import (
    VECTOR_BYTES,
    WOULD_BLOCK,
    Arena,
    address_of,
    implements,
    inlined,
    kernel,
    load_big_endian_int64,
    load_big_endian_uint16,
    load_int64,
    load_uint8,
    load_uint32,
    store_big_endian_int64,
    store_big_endian_uint16,
    store_int64,
    store_uint8,
    unlikely,
    view_bytes,
    write_vector,
)
from exchange.native.datagram_headers import (
    MESSAGE_HEADER_BYTES,
    PEER_ADDRESS,
    SIZE_BYTES,
    SOCKET_ADDRESS_BYTES,
    VECTOR_ADDRESS,
    VECTOR_LENGTH,
    write_message_header,
)
from exchange.wire.soupbintcp import HEARTBEAT_INTERVAL_SECONDS, SERVER_PACKETS, SILENCE_SECONDS_MAX
from exchange.wire.soupbintcp_kernel import PLACE_DTYPE, PacketRules, PacketRuleTable, Trouble, find_packets
from exchange.wire.soupbinudp import (
    HEADER_BYTES,
    PACKETS_BYTES_MAX,
    PACKETS_MAX,
    WINDOW_BYTES,
    ConnectionClosed,
    EndOfSession,
    RetransmissionRequest,
    SequencedData,
)
from exchange.wire.soupbinudp_connection import (
    ASK_AGAIN_SECONDS,
    PATIENCE_SECONDS_FIRST,
    PATIENCE_SECONDS_MAX,
)

# the line's words, among those of the load
BATCH: Final = LOAD_LINE_WORDS
"""Datagrams that were received last, and how many of them have been looked at."""
LOOKED_AT: Final = LOAD_LINE_WORDS + 8
FIRST_SESSION: Final = LOAD_LINE_WORDS + 16
"""The address of the session with which a turn begins."""

# a session's words
SESSION_NUMBER: Final = LINE_WORDS
TOKEN: Final = LINE_WORDS + 8
FIRST_PACKET: Final = LINE_WORDS + 16
"""The number of the packet that the first request is."""
KEPT: Final = LINE_WORDS + 24
"""Requests that the exchange is known to have."""
FOLLOWING: Final = LINE_WORDS + 32
"""The request that is sent next; one that has been sent before if the line has gone back."""
NEXT_WANTED: Final = LINE_WORDS + 40
"""The number of the packet of the exchange that has not come."""
RETRY_NS: Final = LINE_WORDS + 48
"""When the line goes back unless something is acknowledged; 0 if all is."""
PATIENCE_NS: Final = LINE_WORDS + 56
ASKED_FOR: Final = LINE_WORDS + 64
"""The packet that was asked for last, and when."""
ASKED_NS: Final = LINE_WORDS + 72
OWED: Final = LINE_WORDS + 80
"""What the exchange has to be told: 0 nothing, 1 what has come, 2 what is missing."""
PEER: Final = LINE_WORDS + 88
"""Where the exchange is, in 16 bytes, if the port is shared."""
SESSION_BYTES: Final = LINE_WORDS + 128

BATCH_DATAGRAMS: Final = 32
"""A whole window, if its datagrams are full."""
DATAGRAM_STRIDE: Final = 2048
"""Longer datagrams than this are cut, and so are none."""
HEADER_STRIDE: Final = 64
"""Room for a header, and behind it the first request in the datagram, in case the port does not take it."""
FIRST: Final = 40

PATIENCE_NS_FIRST: Final = int(PATIENCE_SECONDS_FIRST * 1e9)
PATIENCE_NS_MAX: Final = int(PATIENCE_SECONDS_MAX * 1e9)
ASK_AGAIN_NS: Final = int(ASK_AGAIN_SECONDS * 1e9)
SILENCE_NS: Final = SILENCE_SECONDS_MAX * 1_000_000_000

_ACKNOWLEDGE: Final = 1
_ASK: Final = 2

_FULL: Final = (WOULD_BLOCK, -errno.ENOBUFS)
_NO_TROUBLE: Final = int(Trouble.NONE)
_BEAT_NS: Final = HEARTBEAT_INTERVAL_SECONDS * 1_000_000_000
_AT: Final = offsets_of(SequencedData)
_DATA: Final = SequencedData.layout.type_byte
_AGAIN: Final = RetransmissionRequest.layout.type_byte
_CLOSED: Final = ConnectionClosed.layout.type_byte
_BARE: Final = (_AGAIN, _CLOSED, EndOfSession.layout.type_byte)


class UdpLine(NamedTuple):
    """The load's words, the ports, which packets an exchange sends, and room for the places of those in a datagram.

    For each of :data:`BATCH_DATAGRAMS` datagrams: on their way out, ``headers`` has the first bytes
    (:data:`HEADER_STRIDE` apart), ``vectors`` the kernel's two and ``messages`` its structure; on their way in,
    ``datagrams`` has the bytes (:data:`DATAGRAM_STRIDE` apart) and ``received`` the kernel's structure.
    """

    words: int
    ports: Any
    rules: PacketRules
    places: int
    headers: int
    vectors: int
    messages: int
    datagrams: int
    received: int


class UdpLineMemory:
    """Owner of the memory behind a :class:`UdpLine`; see :class:`~exchange.load.protocol.LineMemory`."""

    session_bytes: Final = SESSION_BYTES
    counted: Final = {
        "line": FULL,
        "sent again": SENT_AGAIN,
        "asked again": ASKED_AGAIN,
        "strange datagrams": STRANGE,
    }

    def __init__(self, words: int, port: Port | None = None) -> None:
        self._port: Final = port
        self._rules: Final = PacketRuleTable(SERVER_PACKETS, PACKETS_BYTES_MAX)
        self._places: Final = np.zeros(PACKETS_MAX, PLACE_DTYPE)
        datagram_bytes = HEADER_STRIDE + 3 * VECTOR_BYTES + 2 * MESSAGE_HEADER_BYTES + DATAGRAM_STRIDE
        self._arena: Final = Arena.private(BATCH_DATAGRAMS * datagram_bytes + 4096, huge_pages="never")
        self.state: Final = self._build(words)

    def _build(self, words: int) -> UdpLine:
        allocate, count = self._arena.allocate, BATCH_DATAGRAMS
        headers, vectors = allocate(count * HEADER_STRIDE), allocate(count * 2 * VECTOR_BYTES)
        messages, received = allocate(count * MESSAGE_HEADER_BYTES), allocate(count * MESSAGE_HEADER_BYTES)
        datagrams, in_vectors = allocate(count * DATAGRAM_STRIDE), allocate(count * VECTOR_BYTES)
        for index in range(count):
            header, vector = headers + index * HEADER_STRIDE, vectors + index * 2 * VECTOR_BYTES
            write_vector(vector, header, HEADER_BYTES)
            write_message_header(messages + index * MESSAGE_HEADER_BYTES, 0, vector, 2)
            vector = in_vectors + index * VECTOR_BYTES
            write_vector(vector, datagrams + index * DATAGRAM_STRIDE, DATAGRAM_STRIDE)
            write_message_header(received + index * MESSAGE_HEADER_BYTES, 0, vector)
        return UdpLine(
            words=words,
            ports=SessionSockets(-1)
            if self._port is None
            else SharedPort(self._port.state, words + FIRST_SESSION),
            rules=self._rules.state,
            places=address_of(self._places),
            headers=headers,
            vectors=vectors,
            messages=messages,
            datagrams=datagrams,
            received=received,
        )

    def lay_out(self, address: int, session: Any) -> None:
        """As the protocol says; the session has a ``connection``, whose place the loop takes."""
        connection = session.connection
        view_bytes(address + PEER, SOCKET_ADDRESS_BYTES)[:] = session.peer
        if load_int64(self.state.words + FIRST_SESSION) == 0:
            store_int64(self.state.words + FIRST_SESSION, address)
        for offset, value in (
            (SESSION_NUMBER, connection.session_number),
            (TOKEN, int.from_bytes(connection.token.to_bytes(8, "big"), "big", signed=True)),
            (FIRST_PACKET, connection.next_number),
            (NEXT_WANTED, connection.next_wanted),
            (PATIENCE_NS, PATIENCE_NS_FIRST),
        ):
            store_int64(address + offset, value)

    def resume(self, address: int, session: Any, first: int, elapsed_ns: int) -> None:
        """As the protocol says; the session has the new ``connection``."""
        self.lay_out(address, session)
        store_int64(address + DESCRIPTOR, -1 if session.descriptor is None else session.descriptor)
        for offset, value in (
            (FIRST_PACKET, session.connection.next_number - first),
            (KEPT, first),
            (FOLLOWING, first),
            (RETRY_NS, 0),
            (HEARD_NS, elapsed_ns),
            (ASKED_FOR, 0),
            (OWED, 0),
        ):
            store_int64(address + offset, value)
        for offset in (BATCH, LOOKED_AT):
            store_int64(self.state.words + offset, 0)

    def next_wanted(self, address: int) -> int:
        """As the protocol says."""
        return load_int64(address + NEXT_WANTED)

    def give_back(self, address: int, session: Any, requests: SessionRequests) -> None:
        """As the protocol says; what nobody has acknowledged is the session's to send again."""
        kept, sent = load_int64(address + KEPT), load_int64(address + NEXT)
        ends = requests.records["end_bytes"][kept:sent].tolist()
        begins = [end_of(address, kept), *ends[:-1]]
        session.go_on(
            load_int64(address + FIRST_PACKET) + kept,
            load_int64(address + NEXT_WANTED),
            [requests.packets[begin:end].tobytes() for begin, end in zip(begins, ends, strict=False)],
            is_closed=load_int64(address + FAILURE) != 0,
        )


@implements(send, UdpLine, inline=False)
def _send(line: UdpLine, session: int, due: int, elapsed_ns: int) -> int:
    if unlikely(elapsed_ns - load_int64(session + HEARD_NS) > SILENCE_NS):
        fail(line.words, session, SILENT)
    retry_ns = load_int64(session + RETRY_NS)
    if unlikely(retry_ns != 0 and elapsed_ns >= retry_ns):
        patience_ns = min(2 * load_int64(session + PATIENCE_NS), PATIENCE_NS_MAX)
        store_int64(session + PATIENCE_NS, patience_ns)
        store_int64(session + RETRY_NS, elapsed_ns + patience_ns)
        store_int64(session + FOLLOWING, load_int64(session + KEPT))
    error = 0
    if load_int64(session + FOLLOWING) < due:
        error = _send_requests(line, session, due, elapsed_ns)
    is_quiet = elapsed_ns - load_int64(session + SENT_NS) >= _BEAT_NS
    if error == 0 and (is_quiet or load_int64(session + OWED) != 0):
        error = _send_word(line, session, elapsed_ns)
    return error if error < 0 else load_int64(session + TAKEN)


@kernel
def _send_requests(line: UdpLine, session: int, due: int, elapsed_ns: int) -> int:
    """Send as many datagrams with requests as the window and the socket have room for; 0 or -errno."""
    before = load_int64(session + FOLLOWING)
    following, begin, count = before, end_of(session, before), 0
    limit = end_of(session, load_int64(session + KEPT)) + WINDOW_BYTES
    while following < due and count < BATCH_DATAGRAMS:
        first, room = following, min(begin + PACKETS_BYTES_MAX, limit)
        while following < due and end_of(session, following + 1) <= room:
            following += 1
        if following == first:
            break
        end = end_of(session, following)
        _put_together(line, session, count, first, following - first, begin, end - begin)
        begin, count = end, count + 1
    is_full, sent = following < due, 0
    if count > 0:
        sent = send_for(line.ports, session, line.messages, count)
        if sent < 0 and sent not in _FULL:
            return sent
        if sent < count:
            is_full, sent = True, max(sent, 0)
            following = load_int64(line.headers + sent * HEADER_STRIDE + FIRST)
    if is_full:
        add(line.words + FULL, 1)
    if sent > 0:
        add(line.words + SENT_AGAIN, max(min(following, load_int64(session + NEXT)) - before, 0))
        store_int64(session + FOLLOWING, following)
        store_int64(session + TAKEN, max(load_int64(session + TAKEN), end_of(session, following)))
        store_int64(session + SENT_NS, elapsed_ns)
        if load_int64(session + OWED) == _ACKNOWLEDGE:
            store_int64(session + OWED, 0)
        if load_int64(session + RETRY_NS) == 0:
            store_int64(session + RETRY_NS, elapsed_ns + load_int64(session + PATIENCE_NS))
    return 0


@inlined
def _put_together(
    line: UdpLine, session: int, index: int, first: int, count: int, begin: int, size_bytes: int
) -> None:
    """Make a datagram of ``count`` requests from ``first`` on, whose bytes begin at ``begin`` of the session's."""
    header = line.headers + index * HEADER_STRIDE
    _write_header(session, header, _DATA, first, count)
    store_int64(header + FIRST, first)
    vector = line.vectors + (2 * index + 1) * VECTOR_BYTES
    store_int64(vector + VECTOR_ADDRESS, load_int64(session + PACKETS) + begin)
    store_int64(vector + VECTOR_LENGTH, size_bytes)
    store_int64(
        line.messages + index * MESSAGE_HEADER_BYTES + PEER_ADDRESS, peer_of(line.ports, session + PEER)
    )


@inlined
def _write_header(session: int, header: int, kind: int, first: int, count: int) -> None:
    store_uint8(header, kind)
    store_big_endian_uint16(header + _AT.session_number, load_int64(session + SESSION_NUMBER))
    store_big_endian_int64(header + _AT.token, load_int64(session + TOKEN))
    store_big_endian_int64(header + _AT.sequence_number, load_int64(session + FIRST_PACKET) + first)
    store_big_endian_int64(header + _AT.next_wanted, load_int64(session + NEXT_WANTED))
    store_big_endian_uint16(header + _AT.message_count, count)


@kernel
def _send_word(line: UdpLine, session: int, elapsed_ns: int) -> int:
    """Send a datagram without packets, as what is owed or as a heartbeat; 0 or -errno."""
    kind = _AGAIN if load_int64(session + OWED) == _ASK else _DATA
    following = load_int64(session + FOLLOWING)
    _put_together(line, session, 0, following, 0, 0, 0)
    store_uint8(line.headers, kind)
    sent = send_for(line.ports, session, line.messages, 1)
    if sent < 0:
        return 0 if sent in _FULL else sent
    add(line.words + ASKED_AGAIN, 1 if kind == _AGAIN else 0)
    store_int64(session + OWED, 0)
    store_int64(session + SENT_NS, elapsed_ns)
    return 0


@implements(receive, UdpLine)
def _receive(line: UdpLine, session: int, elapsed_ns: int) -> int:
    before = load_int64(line.words + BATCH)
    received = receive_for(line.ports, session, line.received, BATCH_DATAGRAMS, before)
    if received < 0:
        if received != WOULD_BLOCK:
            fail(line.words, session, received)
        received = 0
    store_int64(line.words + BATCH, received)
    store_int64(line.words + LOOKED_AT, 0)
    return received


@implements(next_packets, UdpLine, inline=False)
def _next_packets(line: UdpLine, session: int, elapsed_ns: int) -> tuple[int, int, int]:
    index, count = load_int64(line.words + LOOKED_AT), load_int64(line.words + BATCH)
    while index < count:
        datagram = line.datagrams + index * DATAGRAM_STRIDE
        size_bytes = load_uint32(line.received + index * MESSAGE_HEADER_BYTES + SIZE_BYTES)
        index += 1
        if unlikely(not _is_believed(session, datagram, size_bytes)):
            if is_own(line.ports):
                add(line.words + STRANGE, 1)
            continue
        store_int64(session + HEARD_NS, elapsed_ns)
        _note_kept(session, load_big_endian_int64(datagram + _AT.next_wanted), elapsed_ns)
        kind, first, behind = load_uint8(datagram), 0, 0
        if kind == _DATA:
            first, behind = _take_data(line, session, datagram, size_bytes, elapsed_ns)
        elif kind == _AGAIN:
            store_int64(session + FOLLOWING, load_int64(session + KEPT))
        else:
            fail(line.words, session, CLOSED if kind == _CLOSED else ENDED)
        if first < behind:
            store_int64(line.words + LOOKED_AT, index)
            return datagram + HEADER_BYTES, first, behind
    store_int64(line.words + LOOKED_AT, index)
    return 0, 0, 0


@inlined
def _is_believed(session: int, datagram: int, size_bytes: int) -> bool:
    """Whether a datagram is one of this connection, and of a kind that an exchange sends."""
    if size_bytes < HEADER_BYTES:
        return False
    kind = load_uint8(datagram)
    return (
        (kind == _DATA or (kind in _BARE and size_bytes == HEADER_BYTES))
        and load_big_endian_uint16(datagram + _AT.session_number) == load_int64(session + SESSION_NUMBER)
        and load_big_endian_int64(datagram + _AT.token) == load_int64(session + TOKEN)
    )


@inlined
def _note_kept(session: int, next_wanted: int, elapsed_ns: int) -> None:
    """The exchange has everything below; it can neither take that back nor have what was never sent."""
    has = next_wanted - load_int64(session + FIRST_PACKET)
    if load_int64(session + KEPT) < has <= load_int64(session + NEXT):
        store_int64(session + KEPT, has)
        following = max(load_int64(session + FOLLOWING), has)  # it may have come after we had gone back
        store_int64(session + FOLLOWING, following)
        store_int64(session + PATIENCE_NS, PATIENCE_NS_FIRST)
        store_int64(session + RETRY_NS, 0 if following == has else elapsed_ns + PATIENCE_NS_FIRST)


@inlined
def _take_data(
    line: UdpLine, session: int, datagram: int, size_bytes: int, elapsed_ns: int
) -> tuple[int, int]:
    """Which of a datagram's packets are new: the indexes of the first and behind the last."""
    body, body_bytes = datagram + HEADER_BYTES, size_bytes - HEADER_BYTES
    found, found_bytes, trouble = find_packets(body, body_bytes, line.rules, line.places, PACKETS_MAX)
    first = load_big_endian_int64(datagram + _AT.sequence_number)
    is_whole = trouble == _NO_TROUBLE and found_bytes == body_bytes
    if unlikely(first < 1 or not is_whole or found != load_big_endian_uint16(datagram + _AT.message_count)):
        fail(line.words, session, NOT_SOUPBINTCP)
        return 0, 0
    if found == 0:
        return 0, 0
    wanted = load_int64(session + NEXT_WANTED)
    if unlikely(first > wanted):
        _note_gap(session, wanted, elapsed_ns)
        return 0, 0
    if load_int64(session + OWED) == 0:
        store_int64(session + OWED, _ACKNOWLEDGE)
    if unlikely(wanted - first >= found):
        return 0, 0
    store_int64(session + NEXT_WANTED, first + found)
    return wanted - first, found


@inlined
def _note_gap(session: int, wanted: int, elapsed_ns: int) -> None:
    """Ask for what is missing, unless that was done a moment ago."""
    is_asked = load_int64(session + ASKED_FOR) == wanted
    if is_asked and elapsed_ns - load_int64(session + ASKED_NS) < ASK_AGAIN_NS:
        return
    store_int64(session + ASKED_FOR, wanted)
    store_int64(session + ASKED_NS, elapsed_ns)
    store_int64(session + OWED, _ASK)
