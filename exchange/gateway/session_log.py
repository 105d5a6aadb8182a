"""A session's log: every sequenced message it was ever sent, framed as SoupBinTCP sends it, end to end.

The log is the session's send buffer, its replay store and its back-pressure at once. A message is appended where the
next one belongs and never changes. Sending is handing the socket the bytes between "sent so far" and "end"; replay
from any sequence number after a reconnect is the same thing from an earlier position; a slow reader is a "sent so far"
that does not move. So nothing is copied for any of them, and one send call takes as many messages as there are.

``index[n]`` is where message ``n + 1`` begins, so that a position is one look-up, also for the message that is not
there yet. Heartbeats and the end of the session are not sequenced and not in the log.

Rules: only the outbound agent appends. Others read ``LOG_MESSAGES`` with acquire, and then everything below it."""

from typing import Final

from exchange.gateway.session_memory import (
    INDEX_ENTRY_BYTES,
    LOG_END,
    LOG_MESSAGES,
    LOST_MESSAGES,
    SESSION_LOG_RESERVE,
    Sessions,
)
from exchange.native import (
    inlined,
    load_acquire,
    load_int64,
    load_relaxed,
    load_uint32,
    store_big_endian_uint16,
    store_int64,
    store_release,
    store_uint8,
    store_uint32,
    unlikely,
    view_bytes,
)

HEADER_BYTES: Final = 3
"""Of a SoupBinTCP packet: its length and its type."""
SEQUENCED: Final = ord("S")
"""Its type, of a message that has a number."""


@inlined
def begin_message(sessions: Sessions, session: int, size_bytes: int) -> int:
    """Where to write the next message of ``size_bytes``; 0, and the message counted as lost, if the log is full."""
    end = load_int64(session + LOG_END)
    if unlikely(end + HEADER_BYTES + size_bytes > sessions.log_bytes):
        store_int64(session + LOST_MESSAGES, load_int64(session + LOST_MESSAGES) + 1)
        return 0
    packet = session + sessions.log_offset + end
    store_big_endian_uint16(packet, 1 + size_bytes)
    store_uint8(packet + 2, SEQUENCED)
    return packet + HEADER_BYTES


@inlined
def commit_message(sessions: Sessions, session: int, size_bytes: int) -> None:
    """The message that :func:`begin_message` made room for is written: it is now the session's newest."""
    end = load_int64(session + LOG_END) + HEADER_BYTES + size_bytes
    messages = load_int64(session + LOG_MESSAGES) + 1
    store_uint32(session + sessions.index_offset + messages * INDEX_ENTRY_BYTES, end)
    store_int64(session + LOG_END, end)
    store_release(session + LOG_MESSAGES, messages)


@inlined
def is_nearly_full(sessions: Sessions, session: int) -> bool:
    """Whether only the reserve is left, which is for answers to what was asked before."""
    return load_relaxed(session + LOG_END) > sessions.log_bytes - sessions.log_bytes // SESSION_LOG_RESERVE


def last_message(sessions: Sessions, session: int) -> bytes:
    """The newest message of a session's log; nothing if there is none."""
    messages = load_acquire(session + LOG_MESSAGES)
    if messages == 0:
        return b""
    index = session + sessions.index_offset
    begin, end = (load_uint32(index + (messages - back) * INDEX_ENTRY_BYTES) for back in (1, 0))
    return bytes(view_bytes(session + sessions.log_offset + begin + HEADER_BYTES, end - begin - HEADER_BYTES))


def position_of(sessions: Sessions, session: int, sequence: int) -> tuple[int, int]:
    """Where a replay begins that was asked for from message ``sequence`` on, and that message's number.

    Numbers below 1 mean the newest message, numbers beyond the end the next one that will be.
    """
    messages = load_acquire(session + LOG_MESSAGES)
    wanted = sequence if sequence > 0 else messages
    first = min(max(wanted, 1), messages + 1)
    return load_uint32(session + sessions.index_offset + (first - 1) * INDEX_ENTRY_BYTES), first
