"""The journal of a shard that also copies each frame into its stream's ring.

It is a journal as any other to the shard (:mod:`exchange.journal.protocol`). The frame is made once, by the journal;
what lies in the ring are the same bytes, header and checksum included, so that what the backup checks is what was
written here. The journal puts them there itself while it has them at hand: a copy of its own afterwards would go over
all records once more. There is room in both or the append is refused, which is back-pressure as ever: first the ring is
asked, then the journal appends, and then nothing can fail any more."""

from typing import Any, NamedTuple

from exchange.journal.layout import FRAME_HEADER_BYTES
from exchange.journal.protocol import append, append_and_copy, durable_sequence, sync
from exchange.messages import RECORD_BYTES
from exchange.native import implements, load_relaxed, store_relaxed, unlikely
from exchange.replication.ring import FrameRing, next_place, publish_frame, room_for
from exchange.replication.words import REFUSED


class ReplicatedWriter(NamedTuple):
    """A journal's state, and the ring."""

    journal: Any
    ring: FrameRing


@implements(append, ReplicatedWriter)
def _append(writer: ReplicatedWriter, records_address: int, count: int, first_sequence: int) -> bool:
    if unlikely(not room_for(writer.ring, FRAME_HEADER_BYTES + count * RECORD_BYTES)):
        store_relaxed(writer.ring.words + REFUSED, load_relaxed(writer.ring.words + REFUSED) + 1)
        return False
    place = next_place(writer.ring, count)
    if unlikely(not append_and_copy(writer.journal, records_address, count, first_sequence, place)):
        return False
    publish_frame(writer.ring, place, count)
    return True


@implements(durable_sequence, ReplicatedWriter)
def _durable_sequence(writer: ReplicatedWriter) -> int:
    return durable_sequence(writer.journal)


@implements(sync, ReplicatedWriter)
def _sync(writer: ReplicatedWriter) -> int:
    return sync(writer.journal)
