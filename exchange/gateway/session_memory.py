"""The sessions: one block of flat memory for each user, which outlives the user's connections.

::

    +0     control's words      written by the control plane (Python): the connection, and that it must end
    +128   inbound's words      written by the inbound agent: bytes received, last UserRefNum, why it let go
    +256   outbound's words     written by the outbound agent: the log's end, bytes sent, why it let go
    +512   inbound's again     of connections over udp: what has come, and what the client has
    +640   input buffer         bytes that arrived and are not decoded yet
    ...    order table          see order_table.py
    ...    index of the log     where message 1, 2, 3 ... begins (4 bytes each)
    ...    log                  every sequenced message, framed as it is sent; see session_log.py

Each group of words has one writer and lies two cache lines from the next; the others only read it, with acquire where
something hangs on it. So the three sides never wait for each other.

The life of a connection is a handshake in these words. Connections of a session are numbered from 1:

1. Control writes descriptor and start position, then *releases* ``CONNECTION = n``, and bumps the agents' attention
words. 2. Each agent that sees a new ``CONNECTION`` adopts the descriptor.
3. An agent lets go (end of stream, garbage, silence, a send error) by releasing ``..._RELEASED = n`` with a reason;
from
   then on it does not touch the descriptor. Control then writes ``CLOSING = n``, and the other agent lets go as well.
   When control wants the end itself, it begins here.
4. Both have let go: control closes the descriptor. Only now may its number, and this session, be used again.

Over udp and dpdk a session's next connection may come to another ingress lane. Then the inbound words and the order
table have another writer, and the same handshake hands them over: the former lane has written before it releases
``IN_RELEASED``, and the next one reads after it has acquired ``CONNECTION``.

The memory is reserved in full and touched when used: an idle session costs some pages."""

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.gateway.config import GatewayConfig
from exchange.native import Arena, inlined, view_bytes
from exchange.placement import memory_nodes
from exchange.placement.memory_owners import hand_over

# control's words
CONNECTION: Final = 0
"""Number of the newest connection; 0 before the first."""
CLOSING: Final = 8
"""The connection that must end."""
DESCRIPTOR: Final = 16
START: Final = 24
"""Where in the log the newest connection begins to read."""
CANCELS_ON_DISCONNECT: Final = 32
"""Not 0: the session's orders are cancelled whenever its connection ends."""
TOKENS: Final = 40
"""Where the session's order tokens are, if it speaks OUCH 4.2; 0 if it speaks OUCH 5.0."""
KILLED: Final = 80
"""Not 0: the operator wants no new orders and no replaces of the session, whoever connects."""

# ... of a connection without a socket of its own (udp)
TOKEN: Final = 72
"""What every datagram of the connection says; 0 for none."""
PEER: Final = 48
"""16 bytes: where the client is, as the kernel writes an address."""
START_SEQUENCE: Final = 64
"""The number of the message at ``START``."""
LANE: Final = 88
"""The ingress lane that the newest connection's datagrams come to; written before ``CONNECTION``."""

# inbound's words
IN_ADOPTED: Final = 128
IN_RELEASED: Final = 136
IN_REASON: Final = 144
INPUT_BEGIN: Final = 152
INPUT_END: Final = 160
RECEIVED_NS: Final = 168
"""When bytes last came."""
LAST_USER_REFERENCE: Final = 176
"""The highest UserRefNum that was taken."""
REQUESTS: Final = 184
"""OUCH messages decoded, over all connections."""
CANCEL_DUE: Final = 192
"""Not 0: the connection has ended and the orders are still to be cancelled."""
DISABLED_FIRMS: Final = 200
"""Eight firms (32 bits each) whose order entry is disabled, from the front; 0 is no firm."""
DISABLED_FIRMS_MAX: Final = 8
CANCEL_PLACE: Final = 232
"""A mass cancel is being done: one more than the place of the order table where it goes on (32 bits); else 0."""
CANCEL_FIRM: Final = 236
CANCEL_GROUP_ID: Final = 240
CANCEL_SYMBOL_ID: Final = 248
CANCEL_SIDE: Final = 250
"""And which orders it cancels."""

# outbound's words
OUT_ADOPTED: Final = 256
OUT_RELEASED: Final = 264
OUT_REASON: Final = 272
LOG_END: Final = 280
"""Bytes in the log."""
LOG_MESSAGES: Final = 288
"""Messages in the log; the next one's sequence number is one more."""
SENT: Final = 296
"""How far the connection has been sent the log."""
SENT_NS: Final = 304
"""When the socket last took something, for heartbeats."""
RETRY_NS: Final = 312
"""A socket that was full is tried again from then on."""
IS_LISTED: Final = 320
"""Whether the session is on the outbound agent's list of those with something to send."""
HEARTBEAT_LEFT: Final = 328
"""Bytes of a heartbeat that the socket has not taken yet."""
BLOCKED_NS: Final = 336
"""Since when the socket has taken too little of what there is; 0 if it takes what it gets."""
LOST_MESSAGES: Final = 344
"""Messages that found the log full."""
BLOCKED_BYTES: Final = 352
"""What the socket has taken since then."""

# ... of a connection over udp
SENT_SEQUENCE: Final = 384
"""Of a connection over udp: the number of the message at ``SENT``."""
KEPT: Final = 392
"""How much of the log the client is known to have: the number of the first message that it may lack."""
KEPT_END: Final = 400
"""Where in the log that message begins."""
OWED_SEEN: Final = 408
"""How much of ``IN_OWED`` has been acknowledged, and of ``WANTED_AGAIN`` dealt with."""
AGAIN_SEEN: Final = 416
PATIENCE_NS: Final = 424
"""How long an acknowledgement is waited for before everything is sent again; doubles with each time."""

# inbound's words of a connection over udp
IN_NEXT: Final = 512
"""Of a connection over udp: the client's packet that is wanted next."""
IN_OWED: Final = 520
"""Counts what has come and has to be acknowledged."""
ACKNOWLEDGED: Final = 528
"""The message that the client wants next: it has all before it."""
WANTED_AGAIN: Final = 536
"""Counts the client's requests to send again from there."""
ASKED_FOR: Final = 544
"""The packet that the client was last asked to send again, and when."""
ASKED_NS: Final = 552
IS_STALLED: Final = 560
"""Whether the connection has datagrams that have to wait for an answer that is on its way."""

INPUT: Final = 640
INPUT_BYTES: Final = 1 << 14
WAYS: Final = 8
SET_BYTES: Final = 8 * WAYS
ORDER_BYTES: Final = 128
INDEX_ENTRY_BYTES: Final = 4
SESSION_LOG_RESERVE: Final = 8
"""The last eighth of a log is for answers to what was asked before: a session that has come so far may ask nothing
new."""
MESSAGE_BYTES_MIN: Final = 13
"""The shortest sequenced packet: three bytes of SoupBinTCP and a System Event. No log can hold more messages."""


class CloseReason(IntEnum):
    """Why an agent let a connection go."""

    NONE = 0
    END_OF_STREAM = 1
    LOGOUT = 2
    NOT_SOUPBINTCP = 3
    NOT_OUCH = 4
    SILENT = 5
    SOCKET_ERROR = 6
    SLOW_READER = 7
    LOG_FULL = 8
    ASKED = 9


class Sessions(NamedTuple):
    """All sessions: ``session_count`` blocks of ``stride`` bytes from ``base`` on, and where their parts begin."""

    base: int
    stride: int
    session_count: int
    sets: int
    orders_offset: int
    index_offset: int
    log_offset: int
    log_bytes: int


class SessionMemory:
    """Owner of the sessions' memory.

    Args:
        config: how many orders and how much log a session has.
        session_count: how many sessions, which are numbered from 0.
    """

    def __init__(self, config: GatewayConfig, session_count: int) -> None:
        sets = config.capacity_orders // WAYS
        orders_offset = INPUT + INPUT_BYTES + sets * SET_BYTES
        index_offset = orders_offset + config.capacity_orders * ORDER_BYTES
        log_offset = index_offset + (config.log_bytes // MESSAGE_BYTES_MIN + 2) * INDEX_ENTRY_BYTES
        log_offset = (log_offset + 127) & -128
        stride = (log_offset + config.log_bytes + memory_nodes.PAGE_BYTES - 1) & -memory_nodes.PAGE_BYTES
        # Huge pages would make the first message of each session cost two megabytes.
        self.arena: Final = Arena.private(
            stride * session_count + memory_nodes.PAGE_BYTES, huge_pages="never"
        )
        base = self.arena.allocate(stride * session_count, alignment=memory_nodes.PAGE_BYTES)
        self.sessions: Final = Sessions(
            base, stride, session_count, sets, orders_offset, index_offset, log_offset, config.log_bytes
        )
        self._words: Final = np.ndarray(
            (session_count, INPUT // 8),
            np.int64,
            buffer=view_bytes(base, stride * session_count),
            strides=(stride, 8),
        )

    def hand_over(self, session_id: int, owner: str) -> None:
        """A session is of one ingress lane only: its memory lies where that agent's does. Before anybody connects."""
        hand_over(self.arena, self.address(session_id), self.sessions.stride, owner)

    def address(self, session_id: int) -> int:
        """Where a session's block begins: :func:`session_address` for Python."""
        assert 0 <= session_id < self.sessions.session_count
        return self.sessions.base + session_id * self.sessions.stride

    def column(self, offset: int) -> NDArray[np.int64]:
        """One word of every session, shape (sessions,), as it is now (a copy)."""
        return self._words[:, offset // 8].copy()


@inlined
def session_address(sessions: Sessions, session_id: int) -> int:
    """Where a session's block begins."""
    return sessions.base + session_id * sessions.stride
