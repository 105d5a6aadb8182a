"""The sending half of the transport over UDP: from the logs of sessions into datagrams, and again if they are lost.

A session's log holds its messages framed as packets, end to end. So a datagram is a header of its own and a stretch of
the log that ends between two messages; the port is given both places and nothing is copied by us. All that a turn has
to send, of whatever sessions, goes with one call for each :data:`BATCH_DATAGRAMS` datagrams.

A session is on the list while its client lacks anything: what is not sent, and what is sent and not acknowledged. A
connection has at most :data:`~exchange.wire.soupbinudp.WINDOW_BYTES` on their way, so a client that is slow, or gone,
costs nobody anything. Going back is setting "sent so far" to what is acknowledged: when the client asks for it, and
when nothing has been acknowledged for a while, which gets longer with each time. A client that acknowledges nothing for
as long as the settings say is let go.

Every datagram says what has come from the client. If there is none to say it, one without packets is sent, when the
sessions are looked over; that is the heartbeat as well. With another type it asks the client to send again, when the
receiving half says that there is a gap.

Rules: as of the half over TCP; what the receiving half wrote about a connection counts once that half has adopted it.
"""

from typing import Any, Final, NamedTuple

from exchange.clock import now_ns
from exchange.datagrams.posting import Post, deliver
from exchange.datagrams.protocol import attend, send_many
from exchange.gateway.latency import Latency, count_latencies, note_events
from exchange.gateway.offsets import offsets_of
from exchange.gateway.outbound import Reports, list_session
from exchange.gateway.reports import report_events
from exchange.gateway.session_memory import (
    ACKNOWLEDGED,
    AGAIN_SEEN,
    BLOCKED_BYTES,
    BLOCKED_NS,
    CLOSING,
    CONNECTION,
    IN_ADOPTED,
    IN_NEXT,
    IN_OWED,
    INDEX_ENTRY_BYTES,
    IS_LISTED,
    KEPT,
    KEPT_END,
    LOG_END,
    LOG_MESSAGES,
    LOST_MESSAGES,
    OUT_ADOPTED,
    OWED_SEEN,
    PATIENCE_NS,
    PEER,
    RETRY_NS,
    SENT,
    SENT_NS,
    SENT_SEQUENCE,
    START,
    START_SEQUENCE,
    TOKEN,
    WANTED_AGAIN,
    CloseReason,
    Sessions,
    session_address,
)
from exchange.messages import RECORD_BYTES
from exchange.native import (
    VECTOR_BYTES,
    WOULD_BLOCK,
    implements,
    inlined,
    kernel,
    load_acquire,
    load_int64,
    load_uint16,
    load_uint32,
    store_big_endian_int64,
    store_big_endian_uint16,
    store_int64,
    store_release,
    store_uint8,
    unlikely,
)
from exchange.native.datagram_headers import (
    MESSAGE_HEADER_BYTES,
    PEER_ADDRESS,
    VECTOR_ADDRESS,
    VECTOR_LENGTH,
)
from exchange.queues.protocol import poll_batch
from exchange.transport.network_agents import (
    EVENTS,
    HEARTBEAT_NS,
    SENDING_WORDS,
    SLOW_READER_NS,
    is_called,
    is_outbound_connected,
    note_scan,
    release_outbound,
)
from exchange.transport.protocol import flush, send
from exchange.transport.slow_readers import note_progress
from exchange.transport.udp_receiving import ASK_SESSION
from exchange.wire.soupbinudp import PACKETS_BYTES_MAX, WINDOW_BYTES, RetransmissionRequest, SequencedData

# the agent's words, behind those that all transports have
BATCH: Final = SENDING_WORDS
"""Datagrams that are put together and not sent yet."""
REFUSED: Final = SENDING_WORDS + 8
"""Datagrams, ever, that the port would not send."""
FULL: Final = SENDING_WORDS + 16
"""Not 0: the port had no room in this turn."""

BATCH_DATAGRAMS: Final = 32
HEADER_STRIDE: Final = 64
"""Room for a header, and behind it what is needed if the port does not take it: whose it is, and what is in it."""
OWNER: Final = 40
FIRST: Final = 48
FIRST_AT: Final = 56

SCAN_NS: Final = 5_000_000
"""How late an acknowledgement may be that has no message to go with."""
ASKS_MAX: Final = 16
"""Clients that are asked to send again in one turn; the others in the next."""
PATIENCE_NS_FIRST: Final = 20_000_000
PATIENCE_NS_MAX: Final = 1_000_000_000

_AT: Final = offsets_of(SequencedData)
_DATA: Final = SequencedData.layout.type_byte
_ASK: Final = RetransmissionRequest.layout.type_byte
_SLOW_READER: Final = int(CloseReason.SLOW_READER)
_LOG_FULL: Final = int(CloseReason.LOG_FULL)
_ASKED: Final = int(CloseReason.ASKED)


class UdpSink(NamedTuple):
    """The logs of all sessions, and a batch of datagrams.

    For each of :data:`BATCH_DATAGRAMS` datagrams, ``headers`` has its first bytes (:data:`HEADER_STRIDE` apart),
    ``vectors`` the kernel's two for it, and ``messages`` the kernel's structure. ``post`` is what the control plane has
    to say. ``asks`` is the consumer end of a queue of sessions whose clients have to send again, and ``asked`` room for
    :data:`ASKS_MAX` of its records.
    """

    reports: Reports
    latency: Latency
    words: int
    port: Any
    headers: int
    vectors: int
    messages: int
    post: Post
    asks: Any
    asked: int
    clock: Any


@implements(send, UdpSink, inline=False)
def _send(sink: UdpSink, events_address: int, count: int) -> None:
    report_events(sink.reports, events_address, count)
    note_events(sink.latency, events_address, count)
    store_release(sink.words + EVENTS, load_int64(sink.words + EVENTS) + count)


@implements(flush, UdpSink, inline=False)
def _flush(sink: UdpSink) -> int:
    words, time_ns = sink.words, now_ns(sink.clock)
    store_int64(words + FULL, 0)
    if unlikely(is_called(words, time_ns)):
        _look_around(sink, time_ns)
    done = attend(sink.port) + deliver(sink.post, sink.port)
    _ask_again(sink)
    listed, kept = load_int64(sink.reports.listed), 0
    for index in range(listed):
        session_id = load_int64(sink.reports.list_address + 8 * index)
        session = session_address(sink.reports.sessions, session_id)
        if is_outbound_connected(session):
            done += _send_due(sink, session_id, session, time_ns)
        if is_outbound_connected(session) and load_int64(session + KEPT) <= load_int64(
            session + LOG_MESSAGES
        ):
            store_int64(sink.reports.list_address + 8 * kept, session_id)
            kept += 1
        else:
            store_int64(session + IS_LISTED, 0)
    store_int64(sink.reports.listed, kept)
    _send_batch(sink)
    count_latencies(sink.latency, sink.clock)
    return done


@inlined
def _position(sessions: Sessions, session: int, sequence: int) -> int:
    """Where in its log a session's message begins, also the one that is not there yet."""
    return load_uint32(session + sessions.index_offset + (sequence - 1) * INDEX_ENTRY_BYTES)


@inlined
def _send_due(sink: UdpSink, session_id: int, session: int, time_ns: int) -> int:
    """Put together what may go to a client now; how many datagrams that is, and one for an acknowledgement taken."""
    count = _take_acknowledgement(sink, session, time_ns)
    sequence, last = load_int64(session + SENT_SEQUENCE), load_int64(session + LOG_MESSAGES)
    sent, limit = load_int64(session + SENT), load_int64(session + KEPT_END) + WINDOW_BYTES
    while sequence <= last and sent < limit and load_int64(sink.words + FULL) == 0:
        first = sequence
        end = _position(sink.reports.sessions, session, sequence + 1)
        while sequence < last:
            further = _position(sink.reports.sessions, session, sequence + 2)
            if further - sent > PACKETS_BYTES_MAX:
                break
            sequence, end = sequence + 1, further
        sequence += 1
        # The port may not take it, and then these two are set back: they must be right before.
        store_int64(session + SENT_SEQUENCE, sequence)
        store_int64(session + SENT, end)
        _add_datagram(sink, _DATA, session_id, session, first, sent, end - sent)
        store_int64(session + SENT_NS, time_ns)
        if load_int64(session + BLOCKED_NS) == 0:
            store_int64(session + BLOCKED_NS, time_ns)
            store_int64(session + RETRY_NS, time_ns + load_int64(session + PATIENCE_NS))
        sent = end
        count += 1
    return count


@inlined
def _take_acknowledgement(sink: UdpSink, session: int, time_ns: int) -> int:
    """See what the client has by now, and whether it has to be sent something again; 1 if it has more than before."""
    acknowledged, again = load_acquire(session + ACKNOWLEDGED), load_acquire(session + WANTED_AGAIN)
    is_progress = acknowledged > load_int64(session + KEPT)
    if is_progress:
        before = load_int64(session + KEPT_END)
        kept = _position(sink.reports.sessions, session, acknowledged)
        store_int64(session + KEPT, acknowledged)
        store_int64(session + KEPT_END, kept)
        store_int64(session + PATIENCE_NS, PATIENCE_NS_FIRST)
        store_int64(session + RETRY_NS, time_ns + PATIENCE_NS_FIRST)
        is_all = acknowledged >= load_int64(session + SENT_SEQUENCE)
        if not is_all and load_int64(session + LOG_END) > kept + WINDOW_BYTES:  # it lags
            note_progress(session, kept - before, time_ns)
        else:
            store_int64(session + BLOCKED_NS, 0 if is_all else time_ns)
            store_int64(session + BLOCKED_BYTES, 0)
        if acknowledged > load_int64(session + SENT_SEQUENCE):  # it came after we had gone back
            _go_back(session)
    if unlikely(again != load_int64(session + AGAIN_SEEN)):
        store_int64(session + AGAIN_SEEN, again)
        _go_back(session)
    elif unlikely(load_int64(session + BLOCKED_NS) != 0 and time_ns >= load_int64(session + RETRY_NS)):
        patience_ns = min(2 * load_int64(session + PATIENCE_NS), PATIENCE_NS_MAX)
        store_int64(session + PATIENCE_NS, patience_ns)
        store_int64(session + RETRY_NS, time_ns + patience_ns)
        _go_back(session)
    return 1 if is_progress else 0


@inlined
def _go_back(session: int) -> None:
    """What the client is not known to have is sent next."""
    store_int64(session + SENT_SEQUENCE, load_int64(session + KEPT))
    store_int64(session + SENT, load_int64(session + KEPT_END))


@kernel
def _add_datagram(
    sink: UdpSink, kind: int, session_id: int, session: int, sequence: int, sent: int, size_bytes: int
) -> None:
    """Put a datagram together; it is a heartbeat if there are no bytes. If the batch is full, it is sent."""
    index = load_int64(sink.words + BATCH)
    header = sink.headers + index * HEADER_STRIDE
    vectors = sink.vectors + index * 2 * VECTOR_BYTES
    count = load_int64(session + SENT_SEQUENCE) - sequence if size_bytes > 0 else 0
    store_int64(session + OWED_SEEN, load_acquire(session + IN_OWED))
    store_uint8(header, kind)
    store_big_endian_uint16(header + _AT.session_number, session_id)
    store_big_endian_int64(header + _AT.token, load_int64(session + TOKEN))
    store_big_endian_int64(header + _AT.sequence_number, sequence)
    store_big_endian_int64(header + _AT.next_wanted, load_acquire(session + IN_NEXT))
    store_big_endian_uint16(header + _AT.message_count, count)
    store_int64(header + OWNER, session)
    store_int64(header + FIRST, sequence)
    store_int64(header + FIRST_AT, sent)
    store_int64(vectors + VECTOR_BYTES + VECTOR_ADDRESS, session + sink.reports.sessions.log_offset + sent)
    store_int64(vectors + VECTOR_BYTES + VECTOR_LENGTH, size_bytes)
    store_int64(sink.messages + index * MESSAGE_HEADER_BYTES + PEER_ADDRESS, session + PEER)
    store_int64(sink.words + BATCH, index + 1)
    if index + 1 == BATCH_DATAGRAMS:
        _send_batch(sink)


@kernel
def _send_batch(sink: UdpSink) -> None:
    """Hand the batch to the port; what it has no room for counts as not sent."""
    words, begin, count = sink.words, 0, load_int64(sink.words + BATCH)
    while begin < count:
        taken = send_many(sink.port, sink.messages + begin * MESSAGE_HEADER_BYTES, count - begin)
        if taken == WOULD_BLOCK:
            store_int64(words + FULL, 1)
            break
        if taken < 0:  # no way there: as if it were lost
            store_int64(words + REFUSED, load_int64(words + REFUSED) + 1)
            taken = 1
        begin += taken
    for index in range(count - 1, begin - 1, -1):  # the first of each session has the last word
        header = sink.headers + index * HEADER_STRIDE
        session = load_int64(header + OWNER)
        store_int64(session + SENT_SEQUENCE, load_int64(header + FIRST))
        store_int64(session + SENT, load_int64(header + FIRST_AT))
    store_int64(words + BATCH, 0)


@kernel
def _look_around(sink: UdpSink, time_ns: int) -> None:
    """Adopt new connections, let go of those that must end or take nothing, acknowledge, send heartbeats."""
    note_scan(sink.words, time_ns + SCAN_NS)
    for session_id in range(sink.reports.sessions.session_count):
        session = session_address(sink.reports.sessions, session_id)
        connection = load_acquire(session + CONNECTION)
        # Before the receiving half has adopted it, its words are still about the last one.
        if (
            connection != load_int64(session + OUT_ADOPTED)
            and load_acquire(session + IN_ADOPTED) == connection
        ):
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
        elif load_acquire(session + IN_OWED) != load_int64(session + OWED_SEEN) or _is_quiet(
            sink, session, time_ns
        ):
            store_int64(session + SENT_NS, time_ns)
            _add_word(sink, _DATA, session_id, session)


@inlined
def _add_word(sink: UdpSink, kind: int, session_id: int, session: int) -> None:
    """Put a datagram without packets together."""
    following, sent = load_int64(session + SENT_SEQUENCE), load_int64(session + SENT)
    _add_datagram(sink, kind, session_id, session, following, sent, 0)


@inlined
def _ask_again(sink: UdpSink) -> None:
    """Ask clients to send again from where the receiving half has a gap."""
    for index in range(poll_batch(sink.asks, sink.asked, ASKS_MAX)):
        session_id = load_uint16(sink.asked + index * RECORD_BYTES + ASK_SESSION)
        session = session_address(sink.reports.sessions, session_id)
        if is_outbound_connected(session):
            _add_word(sink, _ASK, session_id, session)


@inlined
def _is_quiet(sink: UdpSink, session: int, time_ns: int) -> bool:
    return time_ns - load_int64(session + SENT_NS) >= load_acquire(sink.words + HEARTBEAT_NS)


@inlined
def _adopt(sink: UdpSink, session_id: int, session: int, connection: int, time_ns: int) -> None:
    store_int64(session + SENT, load_int64(session + START))
    store_int64(session + SENT_SEQUENCE, load_int64(session + START_SEQUENCE))
    store_int64(session + KEPT, load_int64(session + START_SEQUENCE))
    store_int64(session + KEPT_END, load_int64(session + START))
    store_int64(session + SENT_NS, time_ns)
    store_int64(session + BLOCKED_NS, 0)
    store_int64(session + PATIENCE_NS, PATIENCE_NS_FIRST)
    store_int64(session + OWED_SEEN, load_acquire(session + IN_OWED))
    store_int64(session + AGAIN_SEEN, load_acquire(session + WANTED_AGAIN))
    store_int64(session + OUT_ADOPTED, connection)
    list_session(sink.reports, session_id, session)
