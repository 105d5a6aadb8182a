"""The gate: what the egress asks before an event leaves.

Two things, and both of words that others set: whether the backup has the event's command, as far as the gate wants it
to, and whether this exchange may speak at all. The second is asked once in a turn. It reads the clock: a lease that
nobody has renewed ends by itself, with nobody running who could say so.

The egress also tells what it has seen (:data:`~exchange.replication.words.SEEN_HOLDING`). Who begins to hold must know
that no event leaves any more that has not waited, and that is so once a turn of the egress has begun behind the word.
"""

from typing import NamedTuple

from exchange.native import boottime_ns, implements, load_acquire, load_relaxed, store_release, unlikely
from exchange.replication.protocol import ALL_REPLICATED, may_release, replicated_sequence
from exchange.replication.words import DEADLINE_NS, FENCED, HOLDING, REPLICATED, SEEN_HOLDING, STREAM_BYTES


class ReplicationGate(NamedTuple):
    """The control side's words, the streams' words and how many there are, and whether anything waits at all."""

    control: int
    streams: int
    stream_count: int
    waits: int


@implements(may_release, ReplicationGate)
def _may_release(gate: ReplicationGate) -> bool:
    holding = load_acquire(gate.control + HOLDING)
    if unlikely(holding != load_relaxed(gate.control + SEEN_HOLDING)):
        store_release(gate.control + SEEN_HOLDING, holding)
    if load_acquire(gate.control + FENCED) != 0:
        return False
    return boottime_ns() < load_acquire(gate.control + DEADLINE_NS)


@implements(replicated_sequence, ReplicationGate)
def _replicated_sequence(gate: ReplicationGate, stream: int) -> int:
    if gate.waits == 0 or stream >= gate.stream_count or load_relaxed(gate.control + SEEN_HOLDING) == 0:
        return ALL_REPLICATED
    return load_acquire(gate.streams + stream * STREAM_BYTES + REPLICATED)
