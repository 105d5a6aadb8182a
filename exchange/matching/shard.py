"""The shard: one thread, one core, its own symbols, and nothing shared.

A turn of a shard: hand on what is left of the last turn's events; take a batch of commands from the inbox; stamp each
with the next *sequence*; apply them to the book; hand the events to the outbox. The stamped commands are what is
journaled and replicated: the books are a deterministic function of them.

If the outbox is full the rest of the events stays where it is and the shard takes no further commands: that is
back-pressure, and it travels to the inbox and from there to the ingress. Nothing is dropped and nothing waits.
"""

from typing import Any, Final, NamedTuple

from exchange.agent import do_work
from exchange.book.ladder_events import SEQUENCE as COMMAND_SEQUENCE
from exchange.book.protocol import apply_commands, events_bound
from exchange.messages import RECORD_BYTES
from exchange.native import Arena, implements, kernel, load_int64, store_int64, store_release
from exchange.queues.protocol import poll_batch, try_push_batch

# the shard's own words
SEQUENCE: Final = 0
"""Commands sequenced so far, which is also the last command's sequence."""
PENDING: Final = 8
"""Events that are still to be handed on."""
PENDING_FROM: Final = 16
"""The address of the first of them."""
EVENTS: Final = 24
"""Events made so far."""
WORDS_BYTES: Final = 128


class Shard(NamedTuple):
    """A shard's state: its ends of the queues, its book, its words and its two buffers."""

    inbox: Any
    book: Any
    outbox: Any
    words: int
    batch: int
    batch_commands: int
    events: int


class ShardMemory:
    """Owner of a shard's words and buffers."""

    def __init__(self, batch_commands: int, capacity_orders: int) -> None:
        batch_bytes = batch_commands * RECORD_BYTES
        events_bytes = events_bound(capacity_orders, batch_commands) * RECORD_BYTES
        self.arena: Final = Arena.private(WORDS_BYTES + batch_bytes + events_bytes + 1024)
        self.words: Final = self.arena.allocate(WORDS_BYTES)
        self.batch: Final = self.arena.allocate(batch_bytes)
        self.events: Final = self.arena.allocate(events_bytes)


@kernel
def stamp_sequences(batch: int, count: int, last_sequence: int) -> None:
    """Number ``count`` commands from ``last_sequence + 1`` on."""
    for index in range(count):
        store_int64(batch + index * RECORD_BYTES + COMMAND_SEQUENCE, last_sequence + index + 1)


@implements(do_work, Shard, inline=False)
def _do_work(shard: Shard) -> int:
    words = shard.words
    pending = load_int64(words + PENDING)
    if pending > 0:
        pushed = try_push_batch(shard.outbox, load_int64(words + PENDING_FROM), pending)
        store_int64(words + PENDING, pending - pushed)
        store_int64(words + PENDING_FROM, load_int64(words + PENDING_FROM) + pushed * RECORD_BYTES)
        if pushed < pending:
            return pushed
    count = poll_batch(shard.inbox, shard.batch, shard.batch_commands)
    if count == 0:
        return 0
    sequence = load_int64(words + SEQUENCE)
    stamp_sequences(shard.batch, count, sequence)
    events = apply_commands(shard.book, shard.batch, count, shard.events)
    pushed = try_push_batch(shard.outbox, shard.events, events)
    store_int64(words + PENDING, events - pushed)
    store_int64(words + PENDING_FROM, shard.events + pushed * RECORD_BYTES)
    store_release(words + EVENTS, load_int64(words + EVENTS) + events)
    store_release(words + SEQUENCE, sequence + count)
    return count
