"""What the agents of every network transport have in common: their words, and how they let a connection go.

A network transport has a receiving half in each ingress and a sending half in the egress. Each has a block of words,
of which the first cache lines are written by the control plane and the rest by the agent. Up to here all of them are
alike; what is particular to TCP or UDP begins behind.

The words of a receiving half at which a batch of decoded commands stands (:data:`BEGIN`, :data:`END`) make
:func:`take_commands` the same for all.

Rules: as in :mod:`exchange.gateway.session_memory`; each word has one writer."""

from typing import Any, Final

from exchange.book.ladder_events import TIMESTAMP
from exchange.clock import now_ns
from exchange.gateway.session_memory import (
    CANCEL_DUE,
    CANCELS_ON_DISCONNECT,
    IN_ADOPTED,
    IN_REASON,
    IN_RELEASED,
    OUT_ADOPTED,
    OUT_REASON,
    OUT_RELEASED,
)
from exchange.messages import RECORD_BYTES
from exchange.native import inlined, kernel, load_acquire, load_int64, store_int64, store_release
from exchange.queues.protocol import poll_batch

# control's words, of both halves
ATTENTION: Final = 0
"""Control adds 1 when a connection has begun or must end."""
DRAIN: Final = 8
"""Not 0: nothing new is taken in any more."""

# control's words of a receiving half
CLIENT_TIMEOUT_NS: Final = 16
"""A client that has sent nothing for so long is let go."""

# control's words of a sending half
HEARTBEAT_NS: Final = 24
"""A heartbeat is due after so long without another packet."""
SLOW_READER_NS: Final = 32
"""A client that has taken nothing for so long is let go."""

# the agent's own, of both halves
SEEN: Final = 128
NEXT_SCAN_NS: Final = 136

# of a receiving half
BEGIN: Final = 144
END: Final = 152
"""The commands that have been decoded and not consumed."""
CONSUMED: Final = 160
"""Commands that the ingress took, ever."""
CANCELS_DUE: Final = 168
"""Sessions that have orders to be cancelled, as they asked for or because their connection has ended."""
CONTROL_DUE: Final = 176
"""Not 0: there may be commands of the control plane's own."""
STAMPED_NS: Final = 184
"""The time of the last turn that took commands."""
RECEIVING_WORDS: Final = 192
"""Where a transport's own words begin."""

# of a sending half
EVENTS: Final = 144
"""Events taken, ever."""
LISTED: Final = 152
"""How many sessions are on the list of those with something to send."""
SENDING_WORDS: Final = 160

WORDS_BYTES: Final = 256

PACKET_LENGTH_MAX: Final = 1024
"""The longest packet that a client may send: an order with every option there is takes less than a fifth of it."""


@inlined
def is_called(words: int, now_ns: int) -> bool:
    """Whether an agent has to look over the sessions: control calls, or it is time."""
    return load_acquire(words + ATTENTION) != load_int64(words + SEEN) or now_ns >= load_int64(
        words + NEXT_SCAN_NS
    )


@inlined
def note_scan(words: int, next_scan_ns: int) -> None:
    """The sessions are being looked over; the next time is at ``next_scan_ns``, or when control calls."""
    store_int64(words + SEEN, load_acquire(words + ATTENTION))
    store_int64(words + NEXT_SCAN_NS, next_scan_ns)


@inlined
def turn_time_ns(words: int, clock: Any) -> int:
    """The time of a turn: now, and later than that of any turn before in which this ingress has taken commands.

    What comes in may follow from what went out, and then it has to be the later one also by its time: a restart that
    finds no record of the order in which shards' events went out goes by the times of their commands.
    """
    return max(now_ns(clock), load_int64(words + STAMPED_NS) + 1)


@inlined
def take_commands(words: int, count: int) -> None:
    """The first ``count`` of the commands that were shown last are taken."""
    store_int64(words + BEGIN, load_int64(words + BEGIN) + count)
    store_release(words + CONSUMED, load_int64(words + CONSUMED) + count)


@kernel
def take_control_commands(
    control: Any, words: int, commands: int, count: int, limit: int, now_ns: int
) -> int:
    """Take what the control plane wants of the exchange, as if a client had asked now; how many commands there are.

    They are put behind the first ``count`` at ``commands``, up to ``limit`` of all.
    """
    taken = poll_batch(control, commands + count * RECORD_BYTES, limit - count)
    for index in range(count, count + taken):
        store_int64(commands + index * RECORD_BYTES + TIMESTAMP, now_ns)
    if count + taken < limit:
        store_int64(words + CONTROL_DUE, 0)
    return count + taken


@inlined
def is_inbound_connected(session: int) -> bool:
    """Whether the receiving half has the session's connection."""
    return load_int64(session + IN_ADOPTED) != load_int64(session + IN_RELEASED)


@inlined
def is_outbound_connected(session: int) -> bool:
    """Whether the sending half has the session's connection."""
    return load_int64(session + OUT_ADOPTED) != load_int64(session + OUT_RELEASED)


@kernel
def release_inbound(words: int, session: int, reason: int) -> None:
    """The receiving half lets the session's connection go, and notes whether its orders are to be cancelled."""
    note_end(words, session, reason)
    store_release(session + IN_RELEASED, load_int64(session + IN_ADOPTED))
    store_int64(words + NEXT_SCAN_NS, 0)


@inlined
def note_end(words: int, session: int, reason: int) -> None:
    """Note why the session's connection ends, and whether its orders are to be cancelled."""
    if load_int64(session + CANCELS_ON_DISCONNECT) != 0 and load_int64(session + CANCEL_DUE) == 0:
        store_int64(session + CANCEL_DUE, 1)
        store_int64(words + CANCELS_DUE, load_int64(words + CANCELS_DUE) + 1)
    store_int64(session + IN_REASON, reason)


@inlined
def release_outbound(session: int, reason: int) -> None:
    """The sending half lets the session's connection go: its descriptor is not touched from here on."""
    store_int64(session + OUT_REASON, reason)
    store_release(session + OUT_RELEASED, load_int64(session + OUT_ADOPTED))
