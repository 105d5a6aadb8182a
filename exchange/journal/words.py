"""The words through which the threads of one stream's journal know of each other, and the step from one segment to the
next.

::

    +0     writer    what it has appended, and up to where that reaches
    +128   keeper    how many segments it has prepared
    +256   syncer    what is durable, up to where, and what it has failed with
    +384   writer    room for the header of a frame, and for two vectors
    +512   keeper    a slot for each prepared segment: where to write
    +1024  writer    the first sequence of the segment in each slot

Each group has one writer, and is published by a store with release order that the others acquire.

Segments are numbered 0, 1, 2 ... from the start of the exchange, whatever lies in the folder from before, and segment
``n`` has the slot ``n % SLOTS``. A *position* is a place in all of them laid end to end, ``n * segment_bytes +
offset``, so that one word says which segment and where in it. The last position of a segment belongs to it and not to
the next one, in which there is a header at that place. Positions only grow:

    synced position  <=  appended position  <=  end of the prepared segments

What is behind the first of them belongs to the keeper, which closes it; what is between the first two to the syncer;
the rest to the writer. So nothing is closed that somebody may still use, and nobody waits for anybody."""

from typing import Final, NamedTuple

from exchange.journal.frames import StreamName
from exchange.journal.layout import (
    FRAME_HEADER_BYTES,
    SEGMENT_CHECKED,
    SEGMENT_CHECKSUM,
    SEGMENT_FIRST_SEQUENCE,
    SEGMENT_HEADER_BYTES,
    SEGMENT_HEADER_DTYPE,
)
from exchange.native import (
    VECTOR_BYTES,
    crc32c,
    inlined,
    load_acquire,
    load_int64,
    load_relaxed,
    store_int64,
    store_relaxed,
    store_release,
    store_uint32,
)

# the writer's
APPENDED: Final = 0
"""The last sequence that was appended."""
APPENDED_POSITION: Final = 8
"""Up to where its frames reach; 0 before the first one."""
TAKEN: Final = 16
"""How many segments have been taken; for the writer itself."""
OFFSET: Final = 24
"""Where in the last of them the next frame goes; for the writer itself."""
PLACE: Final = 32
"""What that segment is to the variant: a descriptor or an address."""
REFUSED: Final = 40
"""How many appends did not succeed."""
WRITE_FAILURE: Final = 48
"""``-errno`` of the last write, if it failed."""
EPOCH: Final = 56
"""What frames say of their epoch; set while nobody writes."""
# the keeper's
PREPARED: Final = 128
# the syncer's
DURABLE: Final = 256
SYNCED_POSITION: Final = 264
SYNC_FAILURE: Final = 272
"""``-errno`` of the sync that failed. There is no second one."""
SYNCS: Final = 280
# the writer's
FRAME_SCRATCH: Final = 384
VECTORS: Final = FRAME_SCRATCH + FRAME_HEADER_BYTES
# the keeper's
SLOT: Final = 512
SLOT_BYTES: Final = 32
SLOT_PLACE: Final = 0
SLOT_HEADER: Final = 8
"""The address of the segment's header: in the mapping, or a copy of it."""
# the writer's
FIRST_SEQUENCES: Final = 1024
WORDS_BYTES: Final = 1152

SLOTS: Final = 8
"""More than are in use at once: one that is prepared, one that is written to, and those that wait for a sync. If a
disk takes longer for a sync than for six segments, appends are refused until it has caught up."""

assert VECTORS + 2 * VECTOR_BYTES <= SLOT
assert SLOT + SLOTS * SLOT_BYTES <= FIRST_SEQUENCES
assert FIRST_SEQUENCES + SLOTS * 8 <= WORDS_BYTES

HEADER_CHECKED_BYTES: Final = SEGMENT_HEADER_DTYPE.itemsize - SEGMENT_CHECKED


class StreamShape(NamedTuple):
    """What compiled code must know of a stream: its words, what its frames say, and the size of its segments."""

    words: int
    name: StreamName
    segment_shift: int


@inlined
def slot_of(words: int, number: int) -> int:
    """Where the keeper says what segment ``number`` is."""
    return words + SLOT + (number & (SLOTS - 1)) * SLOT_BYTES


@inlined
def first_sequence_word(words: int, number: int) -> int:
    """Where the writer says with which sequence segment ``number`` begins."""
    return words + FIRST_SEQUENCES + (number & (SLOTS - 1)) * 8


@inlined
def last_segment(position: int, segment_shift: int) -> int:
    """The number of the segment that ends at or holds what is before ``position``; -1 before the first frame."""
    return (position - 1) >> segment_shift


@inlined
def next_slot(words: int) -> int:
    """The slot of the next prepared segment, or 0 if there is none yet. Nothing is changed by asking."""
    taken = load_int64(words + TAKEN)
    return slot_of(words, taken) if load_acquire(words + PREPARED) > taken else 0


@inlined
def begin_segment(words: int, slot: int, first_sequence: int) -> None:
    """Write to the segment of ``slot`` from now on, from its first frame."""
    taken = load_int64(words + TAKEN)
    store_int64(first_sequence_word(words, taken), first_sequence)
    store_int64(words + PLACE, load_int64(slot + SLOT_PLACE))
    store_int64(words + OFFSET, SEGMENT_HEADER_BYTES)
    store_int64(words + TAKEN, taken + 1)


@inlined
def name_segment(header: int, first_sequence: int) -> None:
    """Put the first sequence into the header of a prepared segment, and its checksum."""
    store_int64(header + SEGMENT_FIRST_SEQUENCE, first_sequence)
    store_uint32(header + SEGMENT_CHECKSUM, crc32c(0, header + SEGMENT_CHECKED, HEADER_CHECKED_BYTES))


@inlined
def note_appended(words: int, segment_shift: int, offset: int, last_sequence: int) -> None:
    """Publish what has been written: frames up to ``offset`` of the segment, records up to ``last_sequence``."""
    store_int64(words + OFFSET, offset)
    begin = (load_int64(words + TAKEN) - 1) << segment_shift
    store_release(words + APPENDED_POSITION, begin + offset)
    store_release(words + APPENDED, last_sequence)


@inlined
def refuse(words: int) -> bool:
    """Count an append that did not succeed. Always False."""
    store_relaxed(words + REFUSED, load_relaxed(words + REFUSED) + 1)
    return False
