"""The egress: takes events from every shard's outbox and gives them to a transport's sink.

Events of one shard stay in order; shards take turns, some batches each; at the end of a turn the sink may flush. An
egress never holds events back, so a shard's outbox is full only while the egress's thread is busy elsewhere or too
slow."""

from typing import Any, Final, NamedTuple

from exchange.agent import do_work
from exchange.messages import RECORD_BYTES
from exchange.native import Arena, implements
from exchange.queues.protocol import poll_batch
from exchange.transport.protocol import flush, send

BATCHES_MAX: Final = 4
"""A command makes two or three events, so a shard fills more than a batch of events from a batch of commands. Taken one
batch at a time on the shard's own thread, they would pile up in the outbox until it is full."""


class Egress(NamedTuple):
    """The consumer end of every shard's outbox, the sink, and a buffer for one batch."""

    outboxes: tuple[Any, ...]
    sink: Any
    batch: int
    batch_events: int


class EgressMemory:
    """Owner of the egress's buffer."""

    def __init__(self, batch_events: int) -> None:
        self.arena: Final = Arena.private(batch_events * RECORD_BYTES + 256)
        self.batch: Final = self.arena.allocate(batch_events * RECORD_BYTES)


@implements(do_work, Egress, inline=False)
def _do_work(egress: Egress) -> int:
    moved = 0
    for shard in range(len(egress.outboxes)):
        for _batch in range(BATCHES_MAX):
            count = poll_batch(egress.outboxes[shard], egress.batch, egress.batch_events)
            if count > 0:
                send(egress.sink, egress.batch, count)
                moved += count
            if count < egress.batch_events:
                break
    return moved + flush(egress.sink)
