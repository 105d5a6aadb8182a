"""A journal that writes each batch with one system call: the plain way, and what ``mapped`` is compared with.

``pwritev`` takes the frame's header and the records from where they are, so nothing is copied but by the kernel, into
its page cache. There the frame survives the end of the process. ``fdatasync`` makes it survive the end of the machine.

It costs a system call for each batch, about a microsecond, however small the batch is; and an error is an error: where
``mapped`` would be killed by a signal, a write that fails is a False and a line in the log.

Sources: writev(2), fdatasync(2); Rebello and others, "Can Applications Recover from fsync Failures?" (2020), for why a
failed sync is the end."""

import errno
import os
from pathlib import Path
from typing import Final, NamedTuple

from exchange.journal.frames import seal_header, write_header
from exchange.journal.layout import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_DTYPE
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
    FRAME_SCRATCH,
    OFFSET,
    PLACE,
    SLOT_HEADER,
    SLOT_PLACE,
    SLOTS,
    VECTORS,
    WRITE_FAILURE,
    StreamShape,
    begin_segment,
    name_segment,
    next_slot,
    note_appended,
    refuse,
)
from exchange.messages import RECORD_BYTES
from exchange.native import (
    VECTOR_BYTES,
    copy_bytes,
    copy_record,
    crc32c_words,
    file_sync_data,
    file_write_vectors,
    implements,
    inlined,
    load_acquire,
    load_int64,
    store_relaxed,
    unlikely,
    view_bytes,
    write_vector,
)

_HEADER_BYTES: Final = SEGMENT_HEADER_DTYPE.itemsize
_SHORT: Final = -errno.ENOSPC
"""A write of which the kernel took only a part has met an end. It is tried again, and then the kernel says which."""


class FileWriter(NamedTuple):
    """The state of a journal in files."""

    shape: StreamShape


class FileJournal(SegmentedJournal):
    """The owner of a stream in files."""

    def __init__(
        self, folder: Path, identity: StreamIdentity, segment_bytes: int, next_sequence: int = 1
    ) -> None:
        self._descriptors: Final[dict[int, int]] = {}
        self._headers: Final[list[int]] = []
        super().__init__(folder, identity, segment_bytes, next_sequence)

    @property
    def state(self) -> FileWriter:
        """What the operations take."""
        return FileWriter(self.shape)

    def _open(self, number: int, descriptor: int) -> tuple[int, int]:
        if len(self._headers) < SLOTS:
            self._headers.append(self._arena.allocate(_HEADER_BYTES))
        header = self._headers[number % SLOTS]
        view_bytes(header, _HEADER_BYTES)[:] = os.pread(descriptor, _HEADER_BYTES, 0)
        self._descriptors[number] = descriptor
        return descriptor, header

    def descriptors(self) -> list[int]:
        """Those of the segments that are open."""
        return list(self._descriptors.values())

    def _close(self, number: int) -> None:
        os.close(self._descriptors.pop(number))


@inlined
def _write(words: int, descriptor: int, vectors: int, offset: int, size_bytes: int) -> bool:
    """Write what the vectors name, ``size_bytes`` in all. False, with the reason noted, if it was not all written."""
    written = file_write_vectors(descriptor, words + VECTORS, vectors, offset)
    if unlikely(written != size_bytes):
        store_relaxed(words + WRITE_FAILURE, written if written < 0 else _SHORT)
        return refuse(words)
    store_relaxed(words + WRITE_FAILURE, 0)
    return True


@implements(append, FileWriter, inline=False)
def _append(journal: FileWriter, records_address: int, count: int, first_sequence: int) -> bool:
    words, shift = journal.shape.words, journal.shape.segment_shift
    size_bytes = FRAME_HEADER_BYTES + count * RECORD_BYTES
    offset = load_int64(words + OFFSET)
    if unlikely(offset + size_bytes > 1 << shift):
        slot = next_slot(words)
        if slot == 0:
            return refuse(words)
        name_segment(load_int64(slot + SLOT_HEADER), first_sequence)
        write_vector(words + VECTORS, load_int64(slot + SLOT_HEADER), _HEADER_BYTES)
        if not _write(words, load_int64(slot + SLOT_PLACE), 1, 0, _HEADER_BYTES):
            return False
        begin_segment(words, slot, first_sequence)
        offset = SEGMENT_HEADER_BYTES
    header = words + FRAME_SCRATCH
    durable, epoch = load_acquire(words + DURABLE), load_int64(words + EPOCH)
    checksum = write_header(header, journal.shape.name, first_sequence, durable, count, epoch)
    seal_header(header, crc32c_words(checksum, records_address, count * RECORD_BYTES))
    write_vector(words + VECTORS, header, FRAME_HEADER_BYTES)
    write_vector(words + VECTORS + VECTOR_BYTES, records_address, count * RECORD_BYTES)
    if not _write(words, load_int64(words + PLACE), 2, offset, size_bytes):
        return False
    note_appended(words, shift, offset + size_bytes, first_sequence + count - 1)
    return True


@implements(append_and_copy, FileWriter)
def _append_and_copy(
    journal: FileWriter, records_address: int, count: int, first_sequence: int, copy_address: int
) -> bool:
    if unlikely(not append(journal, records_address, count, first_sequence)):
        return False
    copy_record(copy_address, journal.shape.words + FRAME_SCRATCH)
    copy_bytes(copy_address + FRAME_HEADER_BYTES, records_address, count * RECORD_BYTES)
    return True


@implements(durable_sequence, FileWriter)
def _durable_sequence(journal: FileWriter) -> int:
    return load_acquire(journal.shape.words + DURABLE)


@implements(sync_segment, FileWriter)
def _sync_segment(journal: FileWriter, slot: int, begin: int, end: int) -> int:
    return file_sync_data(load_int64(slot + SLOT_PLACE))


@implements(sync, FileWriter, inline=False)
def _sync(journal: FileWriter) -> int:
    return sync_stream(journal)


@implements(unsynced_segments, FileWriter)
def _unsynced_segments(journal: FileWriter) -> int:
    return unsynced_segments_of(journal.shape)
