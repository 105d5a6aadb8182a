"""The journal of a shard that also copies each frame into its stream's ring.

It is a journal as any other to the shard (:mod:`exchange.journal.protocol`). The frame is made once, by the journal;
what lies in the ring is a copy of its bytes, header and checksum included, so that what the backup checks is what was
written here. There is room in both or the append is refused, which is back-pressure as ever: first the ring is asked,
then the journal appends, and then nothing can fail any more."""

from typing import Any, NamedTuple

from exchange.journal.layout import FRAME_HEADER_BYTES
from exchange.journal.protocol import append, durable_sequence, last_header, sync
from exchange.messages import RECORD_BYTES
from exchange.native import implements, load_relaxed, store_relaxed, unlikely
from exchange.replication.ring import FrameRing, put_frame, room_for
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
    if unlikely(not append(writer.journal, records_address, count, first_sequence)):
        return False
    put_frame(writer.ring, last_header(writer.journal, count), records_address, count)
    return True


@implements(durable_sequence, ReplicatedWriter)
def _durable_sequence(writer: ReplicatedWriter) -> int:
    return durable_sequence(writer.journal)


@implements(sync, ReplicatedWriter)
def _sync(writer: ReplicatedWriter) -> int:
    return sync(writer.journal)
