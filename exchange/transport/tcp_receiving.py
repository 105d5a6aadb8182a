"""The receiving half of the transport over TCP: which sockets have something, and what it comes to.

A turn asks the kernel which sockets are ready, or, while there are only :data:`FEW` connections, reads them all:
asking first would be one system call more. It receives once from each and decodes what is whole, until it has as
many commands as were asked for. What is left stays in the session's buffer and comes first the next time. So
back-pressure travels from a full inbox through this buffer and the kernel's into TCP's flow control: nothing is
lost, and a client that sends too much slows itself down.

An agent here may let a connection go, and never closes one: see :mod:`exchange.gateway.session_memory`."""

from typing import Any, Final, NamedTuple

from exchange.gateway.firm_requests import write_due_cancels
from exchange.gateway.inbound import GARBAGE, WAIT, Requests, records_max
from exchange.gateway.session_log import is_nearly_full
from exchange.gateway.session_memory import (
    CLOSING,
    CONNECTION,
    DESCRIPTOR,
    IN_ADOPTED,
    INPUT,
    INPUT_BEGIN,
    INPUT_BYTES,
    INPUT_END,
    RECEIVED_NS,
    REQUESTS,
    CloseReason,
    session_address,
)
from exchange.gateway.versions import take_request
from exchange.messages import RECORD_BYTES
from exchange.native import (
    EPOLL_ADD,
    EPOLL_DELETE,
    EPOLL_EVENT_BYTES,
    READABLE,
    WOULD_BLOCK,
    epoll_control,
    epoll_event_data,
    epoll_poll,
    implements,
    inlined,
    kernel,
    load_acquire,
    load_int64,
    load_uint8,
    store_int64,
    store_uint8,
    unlikely,
    write_epoll_event,
)
from exchange.native.sockets import socket_receive
from exchange.transport.network_agents import (
    BEGIN,
    CANCELS_DUE,
    CLIENT_TIMEOUT_NS,
    CONTROL_DUE,
    DRAIN,
    END,
    PACKET_LENGTH_MAX,
    RECEIVING_WORDS,
    STAMPED_NS,
    is_called,
    is_inbound_connected,
    note_scan,
    release_inbound,
    take_commands,
    take_control_commands,
    turn_time_ns,
)
from exchange.transport.protocol import consume, receive
from exchange.wire.soupbintcp import (
    HEADER_BYTES,
    LoginRequest,
    LogoutRequest,
    UnsequencedData,
)
from exchange.wire.soupbintcp_kernel import PLACE_DTYPE, PacketRules, Trouble, find_packets

# a lane's words, behind those that all transports have
READY: Final = RECEIVING_WORDS
READY_NEXT: Final = RECEIVING_WORDS + 8
CONNECTED: Final = RECEIVING_WORDS + 16
STALLED: Final = RECEIVING_WORDS + 24
"""Not 0: sessions with whole packets in their buffers had to wait, and the kernel does not know of them."""

FEW: Final = 4
"""Up to so many connections are read without asking which of them is ready."""

EVENTS_MAX: Final = 256
SCAN_NS: Final = 20_000_000
"""Every 20 ms the sessions are looked over for silence; heartbeats come once a second."""

PACKET_BYTES_MAX: Final = 2 + PACKET_LENGTH_MAX

_DONE: Final = 0
_MORE: Final = 1
"""The batch is full: go on here."""
_STALLED: Final = 2
"""The session has to wait for an answer that is on its way: go on with the others, and come back."""

_NO_TROUBLE: Final = int(Trouble.NONE)
_PLACE_BYTES: Final = PLACE_DTYPE.itemsize
_UNSEQUENCED: Final = UnsequencedData.layout.type_byte
_LOGOUT: Final = LogoutRequest.layout.type_byte
_LOGIN: Final = LoginRequest.layout.type_byte

_END_OF_STREAM: Final = int(CloseReason.END_OF_STREAM)
_LOGGED_OUT: Final = int(CloseReason.LOGOUT)
_NOT_SOUPBINTCP: Final = int(CloseReason.NOT_SOUPBINTCP)
_NOT_OUCH: Final = int(CloseReason.NOT_OUCH)
_SILENT: Final = int(CloseReason.SILENT)
_SOCKET_ERROR: Final = int(CloseReason.SOCKET_ERROR)
_LOG_FULL: Final = int(CloseReason.LOG_FULL)
_ASKED: Final = int(CloseReason.ASKED)


class TcpSource(NamedTuple):
    """One lane: the sessions whose number is ``lane`` modulo ``lanes``.

    ``commands`` is room for ``batch_commands`` records, ``places`` for as many packets; ``ready`` and ``connected`` are
    lists of session numbers (8 bytes each), ``epoll`` a descriptor and ``events`` room for :data:`EVENTS_MAX` events.
    ``control`` is the consumer end of a queue of commands from the control plane.
    """

    requests: Requests
    clock: Any
    control: Any
    rules: PacketRules
    words: int
    commands: int
    batch_commands: int
    places: int
    ready: int
    connected: int
    epoll: int
    events: int
    lane: int
    lanes: int


@implements(receive, TcpSource, inline=False)
def _receive(source: TcpSource, limit: int) -> tuple[int, int]:
    words = source.words
    begin, end = load_int64(words + BEGIN), load_int64(words + END)
    if begin == end:
        time_ns = turn_time_ns(words, source.clock)
        begin, end = 0, _decode_ready(source, min(limit, source.batch_commands), time_ns)
        store_int64(words + BEGIN, 0)
        store_int64(words + END, end)
        if end > 0:
            store_int64(words + STAMPED_NS, time_ns)
    return source.commands + begin * RECORD_BYTES, min(limit, end - begin)


@implements(consume, TcpSource)
def _consume(source: TcpSource, count: int) -> None:
    take_commands(source.words, count)


@kernel
def _decode_ready(source: TcpSource, limit: int, time_ns: int) -> int:
    """Go on through the list of ready sessions until there are ``limit`` commands or the list has ended."""
    words = source.words
    if unlikely(is_called(words, time_ns)):
        _look_around(source, time_ns)
    if unlikely(load_acquire(words + DRAIN) != 0):
        return take_control_commands(source.control, words, source.commands, 0, limit, time_ns)
    if load_int64(words + READY_NEXT) >= load_int64(words + READY):
        _list_ready(source)
    count, following, ready = 0, load_int64(words + READY_NEXT), load_int64(words + READY)
    if unlikely(load_int64(words + CANCELS_DUE) != 0):
        count = write_due_cancels(source.requests, source.lane, source.lanes, source.commands, limit, time_ns)
    if unlikely(load_int64(words + CONTROL_DUE) != 0):
        count = take_control_commands(source.control, words, source.commands, count, limit, time_ns)
    while following < ready and limit - count >= records_max(source.requests):
        session_id = load_int64(source.ready + 8 * following)
        count, state = _serve(source, session_id, count, limit, time_ns)
        if state == _MORE:
            break
        if state == _STALLED:
            store_int64(words + STALLED, 1)
        following += 1
    store_int64(words + READY_NEXT, following)
    return count


@inlined
def _list_ready(source: TcpSource) -> None:
    words, count = source.words, load_int64(source.words + CONNECTED)
    if count <= FEW or load_int64(words + STALLED) != 0:
        store_int64(words + STALLED, 0)
        for index in range(count):
            store_int64(source.ready + 8 * index, load_int64(source.connected + 8 * index))
    else:
        count = epoll_poll(source.epoll, source.events, EVENTS_MAX)
        for index in range(count):
            event = source.events + index * EPOLL_EVENT_BYTES
            store_int64(source.ready + 8 * index, epoll_event_data(event))
    store_int64(words + READY, max(count, 0))
    store_int64(words + READY_NEXT, 0)


@inlined
def _serve(source: TcpSource, session_id: int, count: int, limit: int, time_ns: int) -> tuple[int, int]:
    """Decode what a session has in its buffer, receive once, decode again. The count of commands, and is there more?"""
    session = session_address(source.requests.sessions, session_id)
    count, state = _decode(source, session_id, session, count, limit, time_ns)
    if state != _DONE or not is_inbound_connected(session):
        return count, state
    if unlikely(is_nearly_full(source.requests.sessions, session)):
        _release(source, session, _LOG_FULL)
        return count, _DONE
    if not _receive_bytes(source, session, time_ns):
        return count, _DONE
    return _decode(source, session_id, session, count, limit, time_ns)


@kernel
def _decode(
    source: TcpSource, session_id: int, session: int, count: int, limit: int, time_ns: int
) -> tuple[int, int]:
    begin, end = load_int64(session + INPUT_BEGIN), load_int64(session + INPUT_END)
    if begin == end:
        return count, _DONE
    places_max = (limit - count) // records_max(source.requests)
    found, found_bytes, trouble = find_packets(
        session + INPUT + begin, end - begin, source.rules, source.places, places_max
    )
    for index in range(found):
        place = source.places + index * _PLACE_BYTES
        packet = session + INPUT + begin + load_int64(place)
        kind = load_uint8(packet + HEADER_BYTES - 1)
        if kind == _UNSEQUENCED:
            size_bytes = load_int64(place + 8) - HEADER_BYTES
            command = source.commands + count * RECORD_BYTES
            outcome = take_request(
                source.requests, session_id, session, packet + HEADER_BYTES, size_bytes, time_ns, command
            )
            if outcome > 0:
                count += outcome
            elif outcome == WAIT:
                store_int64(session + INPUT_BEGIN, begin + load_int64(place))
                return count, _STALLED
            elif outcome == GARBAGE:
                _release(source, session, _NOT_OUCH)
                return count, _DONE
            store_int64(session + REQUESTS, load_int64(session + REQUESTS) + 1)
        elif kind in (_LOGOUT, _LOGIN):  # to log in twice is no part of a session
            _release(source, session, _LOGGED_OUT if kind == _LOGOUT else _NOT_SOUPBINTCP)
            return count, _DONE
    if unlikely(trouble != _NO_TROUBLE):
        _release(source, session, _NOT_SOUPBINTCP)
        return count, _DONE
    begin += found_bytes
    store_int64(session + INPUT_BEGIN, 0 if begin == end else begin)
    store_int64(session + INPUT_END, 0 if begin == end else end)
    return count, _MORE if found == places_max else _DONE


@inlined
def _receive_bytes(source: TcpSource, session: int, time_ns: int) -> bool:
    """Receive into the session's buffer; whether anything came."""
    begin, end = load_int64(session + INPUT_BEGIN), load_int64(session + INPUT_END)
    if INPUT_BYTES - end < PACKET_BYTES_MAX:  # a piece of a packet at the very end: it moves to the front
        for index in range(end - begin):
            store_uint8(session + INPUT + index, load_uint8(session + INPUT + begin + index))
        begin, end = 0, end - begin
        store_int64(session + INPUT_BEGIN, begin)
    received = socket_receive(load_int64(session + DESCRIPTOR), session + INPUT + end, INPUT_BYTES - end)
    if received > 0:
        store_int64(session + INPUT_END, end + received)
        store_int64(session + RECEIVED_NS, time_ns)
        return True
    store_int64(session + INPUT_END, end)
    if received != WOULD_BLOCK:
        _release(source, session, _END_OF_STREAM if received == 0 else _SOCKET_ERROR)
    return False


@kernel
def _release(source: TcpSource, session: int, reason: int) -> None:
    """Let the connection go: its descriptor is not touched from here on."""
    epoll_control(source.epoll, EPOLL_DELETE, load_int64(session + DESCRIPTOR), source.events)
    release_inbound(source.words, session, reason)


@kernel
def _look_around(source: TcpSource, time_ns: int) -> None:
    """Adopt new connections, let go of those that must end or are silent, and list those that there are."""
    words = source.words
    note_scan(words, time_ns + SCAN_NS)
    store_int64(words + CONTROL_DUE, 1)
    connected, timeout_ns = 0, load_acquire(words + CLIENT_TIMEOUT_NS)
    for session_id in range(source.lane, source.requests.sessions.session_count, source.lanes):
        session = session_address(source.requests.sessions, session_id)
        connection = load_acquire(session + CONNECTION)
        if connection != load_int64(session + IN_ADOPTED):
            _adopt(source, session_id, session, connection, time_ns)
        if is_inbound_connected(session):
            if load_acquire(session + CLOSING) == connection:
                _release(source, session, _ASKED)
            elif time_ns - load_int64(session + RECEIVED_NS) > timeout_ns:
                _release(source, session, _SILENT)
            else:
                store_int64(source.connected + 8 * connected, session_id)
                connected += 1
    store_int64(words + CONNECTED, connected)


@inlined
def _adopt(source: TcpSource, session_id: int, session: int, connection: int, time_ns: int) -> None:
    store_int64(session + INPUT_BEGIN, 0)
    store_int64(session + INPUT_END, 0)
    store_int64(session + RECEIVED_NS, time_ns)
    store_int64(session + IN_ADOPTED, connection)
    write_epoll_event(source.events, READABLE, session_id)
    epoll_control(source.epoll, EPOLL_ADD, load_int64(session + DESCRIPTOR), source.events)
