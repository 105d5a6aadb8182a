"""A journal that copies each batch into a file that is mapped into memory: an append is a copy and a checksum.

The mapping is shared, so its pages *are* the kernel's page cache: what has been copied there survives the end of the
process, as after a ``write``, and without a system call. ``msync`` makes it survive the end of the machine; it is
asked for the pages that were appended to and no others.

What costs is the first touch of each page, when the kernel must make it writable, about half a microsecond for 64
records if many are touched at once and several if one is. The keeper does that ahead of the writer, for the whole of a
prepared segment, with ``madvise(MADV_POPULATE_WRITE)``. After pages were synced the kernel watches them again, and
with them the rest of the block of pages that it keeps together (:data:`~exchange.journal.segment.ZERO_BYTES`): the few
that the writer has still before it there cost it a touch each.

A disk that fails under a mapped page ends the process with SIGBUS. A full disk cannot: all blocks were written to when
the segment was made.

Sources: mmap(2), msync(2), madvise(2); Crotty, Leis and Pavlo, "Are You Sure You Want to Use MMAP in Your Database
Management System?" (2022), whose objections are to reading and eviction; here nothing is read and nothing evicted."""

import ctypes
import mmap
import os
from pathlib import Path
from typing import Final, NamedTuple

from exchange.journal.frames import seal_header, write_header
from exchange.journal.layout import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES
from exchange.journal.protocol import append, append_and_copy, durable_sequence, sync
from exchange.journal.segment import StreamIdentity
from exchange.journal.segmented import (
    SegmentedJournal,
    sync_segment,
    sync_stream,
    unsynced_segments,
    unsynced_segments_of,
)
from exchange.journal.words import (
    DURABLE,
    EPOCH,
    OFFSET,
    PLACE,
    SLOT_HEADER,
    SLOT_PLACE,
    StreamShape,
    begin_segment,
    last_segment,
    name_segment,
    next_slot,
    note_appended,
    refuse,
)
from exchange.messages import RECORD_BYTES
from exchange.native import (
    DO_NOT_NEED,
    POPULATE_WRITE,
    copy_record,
    copy_with_crc32c,
    implements,
    inlined,
    kernel,
    load_acquire,
    load_int64,
    memory_advise,
    memory_sync,
    unlikely,
)

PREFAULT_BYTES: Final = 4 << 20
"""How much is readied in one turn of the keeper: half a millisecond's work, and more than a writer fills meanwhile."""

_PAGE_BYTES: Final = mmap.PAGESIZE
assert SEGMENT_HEADER_BYTES % 4096 == 0


class MappedWriter(NamedTuple):
    """The state of a journal in mapped files."""

    shape: StreamShape


class MappedJournal(SegmentedJournal):
    """The owner of a stream in mapped files."""

    def __init__(
        self, folder: Path, identity: StreamIdentity, segment_bytes: int, next_sequence: int = 1
    ) -> None:
        self._mappings: Final[dict[int, tuple[mmap.mmap, int]]] = {}
        self._prefaulted = 0
        super().__init__(folder, identity, segment_bytes, next_sequence)
        self.take_over()

    @property
    def state(self) -> MappedWriter:
        """What the operations take."""
        return MappedWriter(self.shape)

    def _open(self, number: int, descriptor: int) -> tuple[int, int]:
        try:
            mapping = mmap.mmap(descriptor, self.segment_bytes, mmap.MAP_SHARED)
        finally:
            os.close(descriptor)
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        self._mappings[number] = (mapping, address)
        return address, address

    def take_over(self) -> None:
        """Ready all of the first segment: that its pages were ready before a fork does not go along."""
        self._prefaulted = 0
        while self._prefaulted < self.segment_bytes:
            self._prefault(0)

    def descriptors(self) -> list[int]:
        """None: a mapping goes along by itself."""
        return []

    def _close(self, number: int) -> None:
        self._mappings.pop(number)[0].close()

    def _prefault(self, position: int) -> None:
        """Ready the next :data:`PREFAULT_BYTES` behind ``position`` that are not, in prepared segments."""
        begin = max(position, self._prefaulted)
        number = last_segment(begin + 1, self.shape.segment_shift)
        if number not in self._mappings:
            return
        start = number << self.shape.segment_shift
        until = min(begin + PREFAULT_BYTES, start + self.segment_bytes)
        page = (begin - start) & -_PAGE_BYTES
        # What cannot be readied is faulted in by the writer. Kernels before 5.14 do not know how.
        populate(self._mappings[number][1] + page, until - start - page)
        self._prefaulted = until


@kernel
def populate(address: int, size_bytes: int) -> int:
    """Make mapped pages present and writable, without the interpreter lock; 0 or -errno."""
    return memory_advise(address, size_bytes, POPULATE_WRITE)


@implements(append, MappedWriter, inline=False)
def _append(journal: MappedWriter, records_address: int, count: int, first_sequence: int) -> bool:
    frame = _next_place(journal, count, first_sequence)
    if unlikely(frame == 0):
        return False
    _write_frame(journal, frame, (frame + FRAME_HEADER_BYTES,), records_address, count, first_sequence)
    return True


@implements(append_and_copy, MappedWriter, inline=False)
def _append_and_copy(
    journal: MappedWriter, records_address: int, count: int, first_sequence: int, copy_address: int
) -> bool:
    frame = _next_place(journal, count, first_sequence)
    if unlikely(frame == 0):
        return False
    targets = (frame + FRAME_HEADER_BYTES, copy_address + FRAME_HEADER_BYTES)
    _write_frame(journal, frame, targets, records_address, count, first_sequence)
    copy_record(copy_address, frame)
    return True


@inlined
def _next_place(journal: MappedWriter, count: int, first_sequence: int) -> int:
    """Where the next frame belongs, in another segment if this one has no room for it; 0 if there is none."""
    words, shift = journal.shape.words, journal.shape.segment_shift
    if unlikely(load_int64(words + OFFSET) + FRAME_HEADER_BYTES + count * RECORD_BYTES > 1 << shift):
        slot = next_slot(words)
        if slot == 0:
            refuse(words)
            return 0
        name_segment(load_int64(slot + SLOT_HEADER), first_sequence)
        begin_segment(words, slot, first_sequence)
    return load_int64(words + PLACE) + load_int64(words + OFFSET)


@inlined
def _write_frame(
    journal: MappedWriter,
    frame: int,
    targets: tuple[int, ...],
    records_address: int,
    count: int,
    first_sequence: int,
) -> None:
    """Write a frame, and publish it. ``targets`` is where its records go: behind its header, and wherever else."""
    words = journal.shape.words
    durable, epoch = load_acquire(words + DURABLE), load_int64(words + EPOCH)
    checksum = write_header(frame, journal.shape.name, first_sequence, durable, count, epoch)
    seal_header(frame, copy_with_crc32c(targets, records_address, count * RECORD_BYTES, checksum))
    end = frame - load_int64(words + PLACE) + FRAME_HEADER_BYTES + count * RECORD_BYTES
    note_appended(words, journal.shape.segment_shift, end, first_sequence + count - 1)


@implements(durable_sequence, MappedWriter)
def _durable_sequence(journal: MappedWriter) -> int:
    return load_acquire(journal.shape.words + DURABLE)


@implements(sync_segment, MappedWriter)
def _sync_segment(journal: MappedWriter, slot: int, begin: int, end: int) -> int:
    place, page = load_int64(slot + SLOT_PLACE), begin & -_PAGE_BYTES
    # Nobody touches whole pages before the end again. A page that is in no mapping need not be taken away from its
    # writer before the kernel writes it out, which would interrupt the writer's core for each.
    whole_bytes = (end & -_PAGE_BYTES) - page
    if whole_bytes > 0:
        memory_advise(place + page, whole_bytes, DO_NOT_NEED)
    return memory_sync(place + page, end - page)


@implements(sync, MappedWriter, inline=False)
def _sync(journal: MappedWriter) -> int:
    return sync_stream(journal)


@implements(unsynced_segments, MappedWriter)
def _unsynced_segments(journal: MappedWriter) -> int:
    return unsynced_segments_of(journal.shape)
