"""The receiving half of the transport over UDP: one call for many datagrams, and what each comes to.

All sessions share one port. A turn takes up to :data:`BATCH_DATAGRAMS` datagrams with one call and goes through them. A
datagram says which session it belongs to; it is believed if it also says the connection's token, 64 random bits, and
comes from where that connection logged on. Everything else is dropped without an answer, except a Login Request, which
is handed to the control plane as it is, through a socket that drops what it has no room for.

What is the client's next packet is decoded as in TCP; what has been decoded is skipped; what comes too early is
dropped, and the client is asked, once for a gap and again after :data:`ASK_AGAIN_NS`, to send it again. So the order of
requests is the order in which they were sent, each once, and nothing has to be kept for later. Asking is the sending
half's business, for one thread sends to a port: it is told of a session through a queue.

Back-pressure: when the batch of commands is full, or a session has to wait for an answer that is on its way, the
datagram stays where it is and is gone through again in the next turn; nothing more is received until the whole batch
is dealt with. Then the port's buffer fills, what comes is dropped, and clients send again later.

With several receiving queues (of a card) there is a lane for each, and a session belongs to one of them at a time: the
one to whose queue its Login Request came, for all datagrams of an address and port come to the same queue. Each lane
knows which sessions it has (``held``) and touches no other; to a datagram of another lane's session it is deaf. When a
client comes back from another port, it may be another lane's. So a lane lets go in two steps: it takes nothing more of
the session, and only when all that it took, and every cancel that is still due, has gone into the inboxes does it
release the words. What the next lane takes then comes behind it in every inbox.

Rules: an agent here may let a connection go. Acknowledgements are the sending half's business; this one only notes
what has to be acknowledged, and what has been. (The datagrams are :mod:`exchange.wire.soupbinudp`.)"""

from typing import Any, Final, NamedTuple

from exchange.datagrams.protocol import receive_many
from exchange.gateway.firm_requests import is_canceling, write_cancels_of
from exchange.gateway.inbound import GARBAGE, WAIT, Requests, records_max
from exchange.gateway.offsets import offsets_of
from exchange.gateway.session_log import is_nearly_full
from exchange.gateway.session_memory import (
    ACKNOWLEDGED,
    ASKED_FOR,
    ASKED_NS,
    CANCEL_DUE,
    CLOSING,
    CONNECTION,
    IN_ADOPTED,
    IN_NEXT,
    IN_OWED,
    IN_RELEASED,
    IS_STALLED,
    LANE,
    LOG_MESSAGES,
    PEER,
    RECEIVED_NS,
    REQUESTS,
    START_SEQUENCE,
    TOKEN,
    WANTED_AGAIN,
    CloseReason,
    session_address,
)
from exchange.gateway.versions import take_request
from exchange.messages import RECORD_BYTES
from exchange.native import (
    implements,
    inlined,
    kernel,
    load_acquire,
    load_big_endian_int64,
    load_big_endian_uint16,
    load_int64,
    load_uint8,
    load_uint32,
    socket_send,
    store_int64,
    store_release,
    store_uint8,
    store_uint16,
    unlikely,
)
from exchange.native.datagram_headers import (
    MESSAGE_HEADER_BYTES,
    SIZE_BYTES,
    SOCKET_ADDRESS_BYTES,
)
from exchange.queues.protocol import try_push
from exchange.transport.network_agents import (
    BEGIN,
    CANCELS_DUE,
    CLIENT_TIMEOUT_NS,
    CONTROL_DUE,
    DRAIN,
    END,
    RECEIVING_WORDS,
    STAMPED_NS,
    is_called,
    note_end,
    note_scan,
    take_commands,
    take_control_commands,
    turn_time_ns,
)
from exchange.transport.protocol import consume, receive
from exchange.wire import soupbintcp
from exchange.wire.soupbintcp import HEADER_BYTES as PACKET_HEADER_BYTES
from exchange.wire.soupbintcp import UnsequencedData
from exchange.wire.soupbintcp_kernel import PLACE_DTYPE, PacketRules, Trouble, find_packets
from exchange.wire.soupbinudp import (
    HEADER_BYTES,
    PACKETS_MAX,
    LoginRequest,
    LogoutRequest,
    RetransmissionRequest,
    SequencedData,
)

# the agent's words, behind those that all transports have
BATCH: Final = RECEIVING_WORDS
"""Datagrams of the batch that is being gone through; 0 when it is done with."""
STRANGE: Final = RECEIVING_WORDS + 8
"""Datagrams, ever, that nobody would believe, or that are about another lane's session."""
LEAVING: Final = RECEIVING_WORDS + 16
"""Sessions that have been let go and are not released yet."""

BATCH_DATAGRAMS: Final = 64
DATAGRAM_STRIDE: Final = 2048
"""Longer datagrams than this are cut by the kernel, and so are none."""
ORIGIN_BYTES: Final = 8 + SOCKET_ADDRESS_BYTES
LOGIN_STRIDE: Final = ORIGIN_BYTES + DATAGRAM_STRIDE
"""The lane, where a datagram came from, and the datagram: so it is handed to the control plane."""
ASK_SESSION: Final = 0
"""In a record for the sending half: the session whose client has to be asked to send again."""
SCAN_NS: Final = 20_000_000
ASK_AGAIN_NS: Final = 2_000_000

# what a lane has of a session
FREE: Final = 0
HELD: Final = 1
IS_LEAVING: Final = 2

_DONE: Final = 0
_UNDONE: Final = 1

_NO_TROUBLE: Final = int(Trouble.NONE)
_PLACE_BYTES: Final = PLACE_DTYPE.itemsize
_UNSEQUENCED: Final = UnsequencedData.layout.type_byte
_NOT_HERE: Final = (soupbintcp.LoginRequest.layout.type_byte, soupbintcp.LogoutRequest.layout.type_byte)
"""Packets of a session over TCP for which there are datagrams of their own."""
_AT: Final = offsets_of(SequencedData)
_DATA: Final = SequencedData.layout.type_byte
_ASK: Final = RetransmissionRequest.layout.type_byte
_LOGOUT: Final = LogoutRequest.layout.type_byte
_LOGIN: Final = LoginRequest.layout.type_byte
_LOGIN_BYTES: Final = LoginRequest.layout.size_bytes

_LOGGED_OUT: Final = int(CloseReason.LOGOUT)
_NOT_SOUPBIN: Final = int(CloseReason.NOT_SOUPBINTCP)
_NOT_OUCH: Final = int(CloseReason.NOT_OUCH)
_SILENT: Final = int(CloseReason.SILENT)
_LOG_FULL: Final = int(CloseReason.LOG_FULL)
_ASKED: Final = int(CloseReason.ASKED)


class UdpSource(NamedTuple):
    """One lane: the sessions that logged on through its queue.

    ``lane`` is its number, and ``held`` has a byte for each session: :data:`FREE`, :data:`HELD` or :data:`IS_LEAVING`.
    ``commands`` is room for ``batch_commands`` records. Of each of the :data:`BATCH_DATAGRAMS` datagrams, ``headers``
    has the kernel's structure, ``datagrams`` the bytes, each behind the lane and the address that it came from, and
    ``undone`` a byte. ``places`` is room for the packets of one. ``asks`` is the producer end of a queue to the sending
    half, and ``ask`` a record for it. ``logins`` is a socket to the control plane, ``control`` the consumer end of a
    queue of commands from there.
    """

    requests: Requests
    clock: Any
    control: Any
    rules: PacketRules
    words: int
    commands: int
    batch_commands: int
    port: Any
    headers: int
    datagrams: int
    undone: int
    places: int
    asks: Any
    ask: int
    logins: int
    lane: int
    held: int


@implements(receive, UdpSource, inline=False)
def _receive(source: UdpSource, limit: int) -> tuple[int, int]:
    words = source.words
    begin, end = load_int64(words + BEGIN), load_int64(words + END)
    if begin == end:
        time_ns = turn_time_ns(words, source.clock)
        begin, end = 0, _decode_batch(source, min(limit, source.batch_commands), time_ns)
        store_int64(words + BEGIN, 0)
        store_int64(words + END, end)
        if end > 0:
            store_int64(words + STAMPED_NS, time_ns)
    return source.commands + begin * RECORD_BYTES, min(limit, end - begin)


@implements(consume, UdpSource)
def _consume(source: UdpSource, count: int) -> None:
    take_commands(source.words, count)


@kernel
def _decode_batch(source: UdpSource, limit: int, time_ns: int) -> int:
    """One turn; what the last one decoded has gone into the inboxes."""
    words, count = source.words, 0
    if unlikely(load_int64(words + LEAVING) != 0):
        _release_leaving(source)
    if unlikely(is_called(words, time_ns)):
        _look_around(source, time_ns)
    is_draining = load_acquire(words + DRAIN) != 0
    if unlikely(load_int64(words + CANCELS_DUE) != 0) and not is_draining:
        count = _write_due_cancels(source, limit, time_ns)
    if unlikely(load_int64(words + CONTROL_DUE) != 0):
        count = take_control_commands(source.control, words, source.commands, count, limit, time_ns)
    count = _take_batch(source, count, limit, time_ns, is_draining)
    if unlikely(load_int64(words + LEAVING) != 0) and count == 0:
        _release_leaving(source)
    return count


@inlined
def _take_batch(source: UdpSource, count: int, limit: int, time_ns: int, is_draining: bool) -> int:
    """Go through the batch of datagrams, a new one if there is none, until it ends or there are ``limit`` commands."""
    words = source.words
    if load_int64(words + BATCH) == 0:
        received = receive_many(source.port, source.headers, BATCH_DATAGRAMS)
        if received <= 0:
            return count
        store_int64(words + BATCH, received)
        for index in range(received):
            store_uint8(source.undone + index, 1)
    undone = 0
    for index in range(load_int64(words + BATCH)):
        if load_uint8(source.undone + index) != 0:
            count, state = _take_datagram(source, index, count, limit, time_ns, is_draining)
            store_uint8(source.undone + index, state)
            undone += state
    if undone == 0:
        store_int64(words + BATCH, 0)
    else:
        _let_stalled_go_on(source)
    return count


@kernel
def _let_stalled_go_on(source: UdpSource) -> None:
    """In the next turn those that had to wait try again."""
    for index in range(load_int64(source.words + BATCH)):
        if load_uint8(source.undone + index) != 0:
            datagram = source.datagrams + index * LOGIN_STRIDE + ORIGIN_BYTES
            session_id = load_big_endian_uint16(datagram + _AT.session_number)
            if load_uint8(source.held + session_id) == HELD:
                store_int64(session_address(source.requests.sessions, session_id) + IS_STALLED, 0)


@inlined
def _take_datagram(
    source: UdpSource, index: int, count: int, limit: int, time_ns: int, is_draining: bool
) -> tuple[int, int]:
    """What one datagram comes to: the count of commands, and whether the datagram has to be gone through again."""
    origin = source.datagrams + index * LOGIN_STRIDE
    peer, datagram = origin + ORIGIN_BYTES - SOCKET_ADDRESS_BYTES, origin + ORIGIN_BYTES
    size_bytes = load_uint32(source.headers + index * MESSAGE_HEADER_BYTES + SIZE_BYTES)
    kind = load_uint8(datagram)
    if kind == _LOGIN and size_bytes == _LOGIN_BYTES:
        if not is_draining:
            socket_send(source.logins, origin, ORIGIN_BYTES + size_bytes)
        return count, _DONE
    session_id = load_big_endian_uint16(datagram + _AT.session_number)
    if unlikely(size_bytes < HEADER_BYTES or session_id >= source.requests.sessions.session_count):
        store_int64(source.words + STRANGE, load_int64(source.words + STRANGE) + 1)
        return count, _DONE
    session = session_address(source.requests.sessions, session_id)
    if unlikely(load_uint8(source.held + session_id) != HELD or not _is_believed(session, peer, datagram)):
        store_int64(source.words + STRANGE, load_int64(source.words + STRANGE) + 1)
        return count, _DONE
    store_int64(session + RECEIVED_NS, time_ns)
    _note_acknowledged(session, load_big_endian_int64(datagram + _AT.next_wanted))
    if kind == _DATA:
        if is_draining:
            return count, _DONE
        return _take_packets(source, session_id, session, datagram, size_bytes, count, limit, time_ns)
    if kind == _ASK:
        store_release(session + WANTED_AGAIN, load_int64(session + WANTED_AGAIN) + 1)
    elif kind == _LOGOUT:
        _leave(source, session_id, session, _LOGGED_OUT)
    else:
        _leave(source, session_id, session, _NOT_SOUPBIN)
    return count, _DONE


@inlined
def _is_believed(session: int, peer: int, datagram: int) -> bool:
    """Whether a datagram has the connection's token and comes from its address and port."""
    token = load_int64(session + TOKEN)
    return (
        token != 0
        and load_big_endian_int64(datagram + _AT.token) == token
        and load_int64(peer) == load_int64(session + PEER)
    )


@inlined
def _note_acknowledged(session: int, next_wanted: int) -> None:
    """The client has everything below; it can neither take that back nor have what was never said."""
    if load_int64(session + ACKNOWLEDGED) < next_wanted <= load_acquire(session + LOG_MESSAGES) + 1:
        store_release(session + ACKNOWLEDGED, next_wanted)


@kernel
def _take_packets(
    source: UdpSource,
    session_id: int,
    session: int,
    datagram: int,
    size_bytes: int,
    count: int,
    limit: int,
    time_ns: int,
) -> tuple[int, int]:
    """Decode the packets of a datagram that are the client's next ones."""
    packets = load_big_endian_uint16(datagram + _AT.message_count)
    if packets == 0:
        return count, _DONE
    if load_int64(session + IS_STALLED) != 0:
        return count, _UNDONE  # it stands behind one that has to wait
    first, following = load_big_endian_int64(datagram + _AT.sequence_number), load_int64(session + IN_NEXT)
    if first > following:
        _ask_again(source, session_id, session, following, time_ns)
        return count, _DONE
    body, body_bytes = datagram + HEADER_BYTES, size_bytes - HEADER_BYTES
    found, found_bytes, trouble = find_packets(body, body_bytes, source.rules, source.places, PACKETS_MAX)
    if unlikely(first < 1 or trouble != _NO_TROUBLE or found != packets or found_bytes != body_bytes):
        _leave(source, session_id, session, _NOT_SOUPBIN)
        return count, _DONE
    if unlikely(is_nearly_full(source.requests.sessions, session)):
        _leave(source, session_id, session, _LOG_FULL)
        return count, _DONE
    store_int64(session + IN_OWED, load_int64(session + IN_OWED) + 1)
    for index in range(max(following - first, 0), found):
        if unlikely(limit - count < records_max(source.requests)):
            return count, _stall(session)
        place = source.places + index * _PLACE_BYTES
        packet = body + load_int64(place)
        kind = load_uint8(packet + PACKET_HEADER_BYTES - 1)
        if kind == _UNSEQUENCED:
            message_bytes = load_int64(place + 8) - PACKET_HEADER_BYTES
            command = source.commands + count * RECORD_BYTES
            message = packet + PACKET_HEADER_BYTES
            outcome = take_request(
                source.requests, session_id, session, message, message_bytes, time_ns, command
            )
            if outcome > 0:
                count += outcome
            elif outcome == WAIT:
                return count, _stall(session)
            elif outcome == GARBAGE:
                _leave(source, session_id, session, _NOT_OUCH)
                return count, _DONE
            store_int64(session + REQUESTS, load_int64(session + REQUESTS) + 1)
        elif kind in _NOT_HERE:
            _leave(source, session_id, session, _NOT_SOUPBIN)
            return count, _DONE
        store_release(session + IN_NEXT, first + index + 1)
    return count, _DONE


@inlined
def _stall(session: int) -> int:
    store_int64(session + IS_STALLED, 1)
    return _UNDONE


@kernel
def _ask_again(source: UdpSource, session_id: int, session: int, wanted: int, time_ns: int) -> None:
    """Have a client told that there is a gap, unless it has been told a moment ago."""
    if wanted == load_int64(session + ASKED_FOR) and time_ns - load_int64(session + ASKED_NS) < ASK_AGAIN_NS:
        return
    store_int64(session + ASKED_FOR, wanted)
    store_int64(session + ASKED_NS, time_ns)
    store_uint16(source.ask + ASK_SESSION, session_id)
    try_push(source.asks, source.ask)  # what finds no room is asked for again


@kernel
def _look_around(source: UdpSource, time_ns: int) -> None:
    """Adopt new connections of this lane, and let go of those that must end or are silent."""
    note_scan(source.words, time_ns + SCAN_NS)
    store_int64(source.words + CONTROL_DUE, 1)
    for session_id in range(source.requests.sessions.session_count):
        session = session_address(source.requests.sessions, session_id)
        connection = load_acquire(session + CONNECTION)
        # The lane is read behind the connection, and what has been adopted behind the lane: a lane that is late sees
        # one of the two, that the connection is another's or that it has begun already.
        if load_acquire(session + LANE) == source.lane and connection > load_acquire(session + IN_ADOPTED):
            store_int64(session + RECEIVED_NS, time_ns)
            store_int64(session + IN_NEXT, 1)
            store_int64(session + ASKED_FOR, 0)
            store_int64(session + IS_STALLED, 0)
            store_release(session + ACKNOWLEDGED, load_int64(session + START_SEQUENCE))
            store_release(session + IN_ADOPTED, connection)
            store_uint8(source.held + session_id, HELD)
        if load_uint8(source.held + session_id) == HELD:
            if load_acquire(session + CLOSING) == connection:
                _leave(source, session_id, session, _ASKED)
            elif time_ns - load_int64(session + RECEIVED_NS) > load_acquire(source.words + CLIENT_TIMEOUT_NS):
                _leave(source, session_id, session, _SILENT)


@kernel
def _leave(source: UdpSource, session_id: int, session: int, reason: int) -> None:
    """Take nothing more of a session."""
    note_end(source.words, session, reason)
    store_uint8(source.held + session_id, IS_LEAVING)
    store_int64(source.words + LEAVING, load_int64(source.words + LEAVING) + 1)


@kernel
def _release_leaving(source: UdpSource) -> None:
    """Release the sessions that are leaving and have nothing left to cancel; all that was decoded is in the inboxes."""
    left = 0
    for session_id in range(source.requests.sessions.session_count):
        if load_uint8(source.held + session_id) == IS_LEAVING:
            session = session_address(source.requests.sessions, session_id)
            if load_int64(session + CANCEL_DUE) != 0 or is_canceling(session):
                left += 1
            else:
                store_uint8(source.held + session_id, FREE)
                store_release(session + IN_RELEASED, load_int64(session + IN_ADOPTED))
    store_int64(source.words + LEAVING, left)


@kernel
def _write_due_cancels(source: UdpSource, limit: int, time_ns: int) -> int:
    """Write up to ``limit`` of the cancels that this lane's sessions have asked for; how many commands that is."""
    count, left = 0, 0
    for session_id in range(source.requests.sessions.session_count):
        if load_uint8(source.held + session_id) != FREE:
            count, still = write_cancels_of(
                source.requests, session_id, source.commands, count, limit, time_ns
            )
            left += still
    store_int64(source.words + CANCELS_DUE, left)
    return count
