"""The frame ring of a stream: the same bytes at the same places in the memory of the primary and of the backup.

Positions count bytes from the start of the exchange and only grow; a position lies at ``position & (ring_bytes - 1)``.
What lies there is a frame as in the journal (:mod:`exchange.journal.layout`), whose size is a multiple of 64, and the
next frame behind it. No frame goes over the end of the ring: before one that would stands a *wrap marker*, a header of
64 bytes with another magic, which says that the next frame is at the beginning.

The backup looks at the place where the next frame must be. It is there if magic, stream, epoch and sequence are right,
and the checksum over the whole of it. Anything else means that it is not there yet: zeros, a frame of an earlier round
(its sequence is older), or one of which only some bytes have arrived, in whatever order they come. So nobody has to
write a second word behind the frame to say that it is complete, and nothing is asked of the order in which a network
card writes memory.

Rules: one thread puts frames into a ring. It looks whether there is room first (:func:`room_for`), has the frame
written to its place (:func:`next_place`), and publishes it (:func:`publish_frame`). Who holds it back is told in
:mod:`exchange.replication.words`."""

from typing import Final, NamedTuple

from exchange.journal.frames import PLACE_BYTES, Flaw, StreamName, check_frame, note_frame, write_header
from exchange.journal.layout import (
    FRAME_CHECKED,
    FRAME_CHECKSUM,
    FRAME_DURABLE_SEQUENCE,
    FRAME_EPOCH,
    FRAME_FIRST_SEQUENCE,
    FRAME_HEADER_BYTES,
    FRAME_JOURNAL_ID,
    FRAME_RECORD_COUNT,
    FRAME_STREAM_NUMBER,
)
from exchange.messages import RECORD_BYTES
from exchange.native import (
    crc32c,
    fence_release,
    inlined,
    kernel,
    load_acquire,
    load_int64,
    load_relaxed,
    load_uint32,
    store_int64,
    store_relaxed,
    store_release,
    unlikely,
)
from exchange.replication.words import (
    APPENDED_POSITION,
    BEGUN_POSITION,
    CONSUMED_POSITION,
    HOLDING,
    NEXT_SEQUENCE,
)

WRAP_MAGIC: Final = int.from_bytes(b"WRAP", "little")

_NONE: Final = int(Flaw.NONE)
_ALL_ONES: Final = 0xFFFFFFFF


class FrameRing(NamedTuple):
    """A primary's ring: the words of its stream, those of the control side, its first byte and its size."""

    words: int
    control: int
    base: int
    ring_bytes: int


@inlined
def room_for(ring: FrameRing, size_bytes: int) -> bool:
    """Whether a frame of this size may be put: always, unless somebody holds and the backup has not consumed enough."""
    if load_acquire(ring.control + HOLDING) == 0:
        return True
    position = load_int64(ring.words + APPENDED_POSITION)
    left = ring.ring_bytes - (position & (ring.ring_bytes - 1))
    needed = size_bytes if size_bytes <= left else left + size_bytes
    return position + needed - load_acquire(ring.words + CONSUMED_POSITION) <= ring.ring_bytes


@inlined
def next_place(ring: FrameRing, count: int) -> int:
    """Where the next frame belongs, if it has ``count`` records."""
    offset = load_int64(ring.words + APPENDED_POSITION) & (ring.ring_bytes - 1)
    is_whole = offset + FRAME_HEADER_BYTES + count * RECORD_BYTES <= ring.ring_bytes
    return ring.base + offset if is_whole else ring.base


@inlined
def publish_frame(ring: FrameRing, frame: int, count: int) -> None:
    """Publish the frame that lies at its place, which is that of :func:`next_place`."""
    position = load_int64(ring.words + APPENDED_POSITION)
    offset = position & (ring.ring_bytes - 1)
    if unlikely(ring.base + offset != frame):
        write_wrap(ring.base + offset, frame)
        position += ring.ring_bytes - offset
    next_sequence = load_int64(frame + FRAME_FIRST_SEQUENCE) + count
    publish_position(ring.words, position + FRAME_HEADER_BYTES + count * RECORD_BYTES, next_sequence)


@inlined
def publish_position(words: int, position: int, next_sequence: int) -> None:
    """Frames reach up to ``position`` now, and the next record has this sequence."""
    store_relaxed(words + BEGUN_POSITION, position)
    fence_release()
    store_relaxed(words + NEXT_SEQUENCE, next_sequence)
    store_release(words + APPENDED_POSITION, position)


@inlined
def is_settled(words: int, position: int) -> bool:
    """Whether what was read behind an acquiring load of ``position`` belongs to it."""
    return load_relaxed(words + BEGUN_POSITION) == position


@kernel
def write_wrap(marker: int, header: int) -> None:
    """Write the wrap marker that stands before the frame with this header."""
    stream = StreamName(load_int64(header + FRAME_JOURNAL_ID), load_uint32(header + FRAME_STREAM_NUMBER))
    checksum = write_header(
        marker,
        stream,
        load_int64(header + FRAME_FIRST_SEQUENCE),
        load_int64(header + FRAME_DURABLE_SEQUENCE),
        0,
        load_int64(header + FRAME_EPOCH),
    )
    store_int64(marker, WRAP_MAGIC | ((checksum ^ _ALL_ONES) << 32))


@inlined
def is_wrap(marker: int, stream: StreamName) -> bool:
    """Whether a wrap marker of this stream stands there, whole."""
    if load_uint32(marker) != WRAP_MAGIC or load_uint32(marker + FRAME_RECORD_COUNT) != 0:
        return False
    if crc32c(0, marker + FRAME_CHECKED, FRAME_HEADER_BYTES - FRAME_CHECKED) != load_uint32(
        marker + FRAME_CHECKSUM
    ):
        return False
    is_ours = load_int64(marker + FRAME_JOURNAL_ID) == stream.journal_id
    return is_ours and load_uint32(marker + FRAME_STREAM_NUMBER) == stream.stream_number


@kernel
def scan_ring(
    base: int,
    ring_bytes: int,
    position: int,
    stream: StreamName,
    epoch: int,
    expected_sequence: int,
    places: int,
    limit: int,
) -> tuple[int, int, int]:
    """Go over the frames that are there from ``position`` on, up to ``limit`` of them, and note each at ``places``.

    Returns how many there were, and the position and the sequence behind the last of them. Whatever the ring holds,
    nothing outside it is read.
    """
    found = 0
    while found < limit:
        offset = position & (ring_bytes - 1)
        frame = base + offset
        # First what tells at a glance that there is nothing new.
        if load_int64(frame + FRAME_FIRST_SEQUENCE) != expected_sequence:
            return found, position, expected_sequence
        if load_int64(frame + FRAME_EPOCH) != epoch:
            return found, position, expected_sequence
        if unlikely(offset != 0 and is_wrap(frame, stream)):
            position += ring_bytes - offset
            continue
        if check_frame(frame, ring_bytes - offset, stream) != _NONE:
            return found, position, expected_sequence
        count = load_uint32(frame + FRAME_RECORD_COUNT)
        note_frame(places + found * PLACE_BYTES, frame)
        found += 1
        position += FRAME_HEADER_BYTES + count * RECORD_BYTES
        expected_sequence += count
    return found, position, expected_sequence
