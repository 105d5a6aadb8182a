"""The sending half of the transport over TCP: events into the logs of sessions, and logs into sockets.

:func:`~exchange.transport.protocol.send` writes what a batch of events means into the logs of the sessions that it
concerns and puts those on a list. :func:`~exchange.transport.protocol.flush`, at the end of the egress's turn, hands
each socket on the list everything that it has not been sent, with one system call however many messages that is.

A socket that is full stays on the list and is tried again after :data:`RETRY_NS`; its messages wait in their log, where
they were anyway. So a slow reader costs nobody anything. One that takes nothing for as long as the settings say is let
go, and so is one that takes a little now and then (:mod:`exchange.transport.slow_readers`). Heartbeats are sent from
here as well, because only here it is known that nothing else was.

An agent here may let a connection go, and never closes one: see :mod:`exchange.gateway.session_memory`."""

from typing import Any, Final, NamedTuple

from exchange.clock import now_ns
from exchange.gateway.latency import Latency, count_latencies, note_events
from exchange.gateway.outbound import Reports, list_session
from exchange.gateway.reports import report_events
from exchange.gateway.session_memory import (
    BLOCKED_NS,
    CLOSING,
    CONNECTION,
    DESCRIPTOR,
    HEARTBEAT_LEFT,
    IS_LISTED,
    LOG_END,
    LOST_MESSAGES,
    OUT_ADOPTED,
    RETRY_NS,
    SENT,
    SENT_NS,
    START,
    CloseReason,
    session_address,
)
from exchange.native import (
    WOULD_BLOCK,
    implements,
    inlined,
    kernel,
    load_acquire,
    load_int64,
    socket_send,
    store_int64,
    store_release,
    unlikely,
)
from exchange.transport.network_agents import (
    EVENTS,
    HEARTBEAT_NS,
    SLOW_READER_NS,
    is_called,
    is_outbound_connected,
    note_scan,
    release_outbound,
)
from exchange.transport.protocol import flush, send
from exchange.transport.slow_readers import note_progress
from exchange.wire.soupbintcp import HEADER_BYTES

SCAN_NS: Final = 20_000_000
RETRY_AFTER_NS: Final = 200_000
"""A socket that was full is left alone for 0.2 ms: its reader needs longer than that to notice."""
SEND_BYTES_MAX: Final = 1 << 18
"""A long replay goes out in pieces, so that it does not hold up the others."""

_SLOW_READER: Final = int(CloseReason.SLOW_READER)
_SOCKET_ERROR: Final = int(CloseReason.SOCKET_ERROR)
_LOG_FULL: Final = int(CloseReason.LOG_FULL)
_ASKED: Final = int(CloseReason.ASKED)


class TcpSink(NamedTuple):
    """The logs of all sessions, and the bytes of a heartbeat."""

    reports: Reports
    latency: Latency
    words: int
    heartbeat: int
    clock: Any


@implements(send, TcpSink, inline=False)
def _send(sink: TcpSink, events_address: int, count: int) -> None:
    report_events(sink.reports, events_address, count)
    note_events(sink.latency, events_address, count)
    store_release(sink.words + EVENTS, load_int64(sink.words + EVENTS) + count)


@implements(flush, TcpSink, inline=False)
def _flush(sink: TcpSink) -> int:
    words, time_ns = sink.words, now_ns(sink.clock)
    if unlikely(is_called(words, time_ns)):
        _look_around(sink, time_ns)
    listed, kept = load_int64(sink.reports.listed), 0
    for index in range(listed):
        session_id = load_int64(sink.reports.list_address + 8 * index)
        session = session_address(sink.reports.sessions, session_id)
        if is_outbound_connected(session) and not _send_bytes(sink, session, time_ns):
            store_int64(sink.reports.list_address + 8 * kept, session_id)
            kept += 1
        else:
            store_int64(session + IS_LISTED, 0)
    store_int64(sink.reports.listed, kept)
    count_latencies(sink.latency, sink.clock)
    return listed - kept


@inlined
def _send_bytes(sink: TcpSink, session: int, time_ns: int) -> bool:
    """Send what the connection has not been sent; whether that was all."""
    if time_ns < load_int64(session + RETRY_NS):
        return False
    if unlikely(load_int64(session + HEARTBEAT_LEFT) > 0) and not _send_heartbeat(sink, session, time_ns):
        return False
    sent, end = load_int64(session + SENT), load_int64(session + LOG_END)
    if sent == end:
        return True
    wanted = min(end - sent, SEND_BYTES_MAX)
    log = session + sink.reports.sessions.log_offset
    taken = socket_send(load_int64(session + DESCRIPTOR), log + sent, wanted)
    if not _note_taken(session, taken, wanted, time_ns):
        return not is_outbound_connected(session)
    store_int64(session + SENT, sent + taken)
    return taken == wanted and sent + taken == end


@inlined
def _note_taken(session: int, taken: int, wanted: int, time_ns: int) -> bool:
    """What a send call said; whether the socket took anything."""
    if taken > 0:
        store_int64(session + SENT_NS, time_ns)
        if taken == wanted:
            store_int64(session + BLOCKED_NS, 0)
        else:
            store_int64(session + RETRY_NS, time_ns + RETRY_AFTER_NS)
            note_progress(session, taken, time_ns)
        return True
    if taken != WOULD_BLOCK:
        release_outbound(session, _SOCKET_ERROR)
        return False
    store_int64(session + RETRY_NS, time_ns + RETRY_AFTER_NS)
    note_progress(session, 0, time_ns)
    return False


@kernel
def _send_heartbeat(sink: TcpSink, session: int, time_ns: int) -> bool:
    """Send what is left of a heartbeat; whether all of it is out."""
    left = load_int64(session + HEARTBEAT_LEFT)
    taken = socket_send(load_int64(session + DESCRIPTOR), sink.heartbeat + HEADER_BYTES - left, left)
    if not _note_taken(session, taken, left, time_ns):
        if left == HEADER_BYTES:
            store_int64(session + HEARTBEAT_LEFT, 0)  # not begun: what else there is to send may go first
        return False
    store_int64(session + HEARTBEAT_LEFT, left - taken)
    return taken == left


@kernel
def _look_around(sink: TcpSink, time_ns: int) -> None:
    """Adopt new connections, let go of those that must end or take too little, send heartbeats."""
    words = sink.words
    note_scan(words, time_ns + SCAN_NS)
    for session_id in range(sink.reports.sessions.session_count):
        session = session_address(sink.reports.sessions, session_id)
        connection = load_acquire(session + CONNECTION)
        if connection != load_int64(session + OUT_ADOPTED):
            _adopt(sink, session_id, session, connection, time_ns)
        if not is_outbound_connected(session):
            continue
        blocked_ns = load_int64(session + BLOCKED_NS)
        if load_acquire(session + CLOSING) == connection:
            release_outbound(session, _ASKED)
        elif blocked_ns != 0 and time_ns - blocked_ns > load_acquire(sink.words + SLOW_READER_NS):
            release_outbound(session, _SLOW_READER)
        elif load_int64(session + LOST_MESSAGES) > 0:
            release_outbound(session, _LOG_FULL)
        elif _is_quiet(sink, session, time_ns):
            store_int64(session + HEARTBEAT_LEFT, HEADER_BYTES)
            if not _send_heartbeat(sink, session, time_ns) and load_int64(session + HEARTBEAT_LEFT) > 0:
                list_session(sink.reports, session_id, session)


@inlined
def _is_quiet(sink: TcpSink, session: int, time_ns: int) -> bool:
    """Whether a heartbeat is due: all has been sent, and that is a while ago."""
    return (
        load_int64(session + SENT) == load_int64(session + LOG_END)
        and load_int64(session + HEARTBEAT_LEFT) == 0
        and time_ns - load_int64(session + SENT_NS) >= load_acquire(sink.words + HEARTBEAT_NS)
    )


@inlined
def _adopt(sink: TcpSink, session_id: int, session: int, connection: int, time_ns: int) -> None:
    store_int64(session + SENT, load_int64(session + START))
    store_int64(session + SENT_NS, time_ns)
    store_int64(session + BLOCKED_NS, 0)
    store_int64(session + RETRY_NS, 0)
    store_int64(session + HEARTBEAT_LEFT, 0)
    store_int64(session + OUT_ADOPTED, connection)
    list_session(sink.reports, session_id, session)
