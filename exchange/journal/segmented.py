"""What the journals in files have in common: the owner of a stream's segments, and how a stream is synced.

The owner's thread is the keeper's: :meth:`SegmentedJournal.keep` names segments that the writer has begun, closes
those that are synced, and prepares the next one when half of the last is full, so that a burst that finds room does
not have to share the machine with that. If the disk is full it says so once, tries again, and
says when there is room; meanwhile the writer goes on as long as the segments last that it has, and then its appends
return False. Nothing else waits and nothing fails.

What cannot be gone on with, a disk that fails, is raised by ``keep`` and ends the exchange.
"""

import errno
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from exchange.errors import UserError
from exchange.journal.layout import PREPARED_NAME, SEGMENT_HEADER_BYTES, segment_name
from exchange.journal.protocol import sync
from exchange.journal.segment import StreamIdentity, make_room, prepare_segment, sync_folder
from exchange.journal.words import (
    APPENDED,
    APPENDED_POSITION,
    DURABLE,
    EPOCH,
    OFFSET,
    PREPARED,
    REFUSED,
    SLOT_HEADER,
    SLOT_PLACE,
    SLOTS,
    SYNC_FAILURE,
    SYNCED_POSITION,
    SYNCS,
    WORDS_BYTES,
    WRITE_FAILURE,
    StreamShape,
    first_sequence_word,
    last_segment,
    slot_of,
)
from exchange.logs import log_event
from exchange.native import (
    Arena,
    generic,
    inlined,
    load_acquire,
    load_int64,
    load_relaxed,
    store_int64,
    store_relaxed,
    store_release,
)
from exchange.placement.memory_nodes import new_pages_on
from exchange.placement.memory_owners import current_nodes

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
RETRY_NS: Final = 100_000_000
"""How long a full disk is left alone before it is asked again."""


@generic
def sync_segment(journal: Any, slot: int, begin: int, end: int) -> int:
    """Make a segment's bytes from ``begin`` to ``end`` durable; 0 or -errno. One step of :func:`sync`."""
    raise NotImplementedError


@generic
def unsynced_segments(journal: Any) -> int:
    """How many segments' worth of bytes wait for a sync. The keeper closes none of them before it."""
    raise NotImplementedError


@inlined
def unsynced_segments_of(shape: StreamShape) -> int:
    """The body of :func:`unsynced_segments`."""
    synced = load_relaxed(shape.words + SYNCED_POSITION)
    return (load_acquire(shape.words + APPENDED_POSITION) - synced) >> shape.segment_shift


@inlined
def sync_stream(journal: Any) -> int:
    """The body of :func:`sync` for journals in files."""
    words, shift = journal.shape.words, journal.shape.segment_shift
    # In this order: what has been appended lies before a position that is read later.
    appended = load_acquire(words + APPENDED)
    position = load_acquire(words + APPENDED_POSITION)
    durable = load_relaxed(words + DURABLE)
    if appended == durable or load_relaxed(words + SYNC_FAILURE) != 0:
        return 0
    last = last_segment(position, shift)
    synced = load_relaxed(words + SYNCED_POSITION)
    for number in range(synced >> shift, last + 1):
        start = number << shift
        end = position if number == last else start + (1 << shift)
        result = sync_segment(journal, slot_of(words, number), max(synced - start, 0), end - start)
        if result == -errno.EINTR:
            return 0
        if result < 0:
            store_release(words + SYNC_FAILURE, result)
            return 0
        synced = end
        store_release(words + SYNCED_POSITION, synced)
    store_relaxed(words + SYNCS, load_relaxed(words + SYNCS) + 1)
    store_release(words + DURABLE, appended)
    return appended - durable


class SegmentedJournal(ABC):
    """The owner of a stream's segments.

    Args:
        folder: of the stream; it is made if need be.
        identity: what all its segments say.
        segment_bytes: the size of new segments, a power of two.
        next_sequence: of the first record that will be appended. What the folder holds must end right before it, as
            a reader has found out (and cut, if there was something to cut): the journal goes on in a new segment.

    Raises:
        UserError: there is no room for a segment, or the folder holds records from ``next_sequence`` on.
    """

    def __init__(
        self, folder: Path, identity: StreamIdentity, segment_bytes: int, next_sequence: int = 1
    ) -> None:
        self.folder: Final = folder
        self.identity: Final = identity
        self.segment_bytes: Final = segment_bytes
        self._arena: Final = Arena.private(WORDS_BYTES + SLOTS * SEGMENT_HEADER_BYTES, huge_pages="never")
        self.words: Final = self._arena.allocate(WORDS_BYTES)
        self.shape: Final = StreamShape(self.words, identity.name, segment_bytes.bit_length() - 1)
        self._named = self._closed = self._prepared = 0
        self._retry_at_ns = self._refused = 0
        self._nodes: Final = current_nodes()
        self._preparation: Generator[None, None, int] | None = None
        self._is_full = self._is_failing = False
        for word in (APPENDED, DURABLE):
            store_int64(self.words + word, next_sequence - 1)
        store_int64(self.words + OFFSET, segment_bytes)
        try:
            make_room(folder, next_sequence)
            self._preparation = prepare_segment(folder, identity, segment_bytes)
            while self._prepared == 0:
                self._continue_preparation()
        except OSError as error:
            needed = f"; a segment needs {segment_bytes} bytes (journal.segment_bytes)"
            reason = f"{error.strerror}{needed if error.errno in _NO_ROOM else ''}"
            raise UserError(f"journal {folder}: {reason}") from error

    @property
    @abstractmethod
    def state(self) -> Any:
        """What the operations take."""

    @abstractmethod
    def _open(self, number: int, descriptor: int) -> tuple[int, int]:
        """Take over a new segment's descriptor. Returns what the writer writes to, and the address of its header."""

    @abstractmethod
    def _close(self, number: int) -> None:
        """Let go of a segment that nobody uses any more."""

    def _prefault(self, position: int) -> None:
        """Ready memory ahead of what has been appended, if the variant has any."""
        return

    def appended_sequence(self) -> int:
        """The last sequence that was appended."""
        return load_acquire(self.words + APPENDED)

    def durable_sequence(self) -> int:
        """The last sequence that is known to be synced."""
        return load_acquire(self.words + DURABLE)

    def set_epoch(self, epoch: int) -> None:
        """Frames that are appended from now on say that they are of this epoch. For when nobody appends."""
        store_int64(self.words + EPOCH, epoch)

    def refused_count(self) -> int:
        """How many appends did not succeed since the start: back-pressure, as a full queue's."""
        return load_relaxed(self.words + REFUSED)

    def sync_count(self) -> int:
        """How often the stream was synced since the start."""
        return load_relaxed(self.words + SYNCS)

    def keep(self) -> bool:
        """Name, close and prepare segments. Called again and again by the keeper, and by nobody else meanwhile.

        Returns:
            Whether there is no time to lose: most of the last segment is full, and the next one is in the making.

        Raises:
            OSError: the disk fails.
        """
        self._check_failures()
        position = load_acquire(self.words + APPENDED_POSITION)
        taken = last_segment(position, self.shape.segment_shift) + 1
        while self._named < taken:
            self._name(self._named)
        synced = load_acquire(self.words + SYNCED_POSITION) >> self.shape.segment_shift
        while self._closed < synced:
            self._close(self._closed)
            self._closed += 1
        self._prefault(position)
        left_bytes = (taken << self.shape.segment_shift) - position
        # A frame that found no room may be larger than what is left of a segment that is not half full.
        refused, self._refused = self._refused, self.refused_count()
        has_no_room = self._refused > refused and not self._is_failing
        # What was said of a full disk is taken back as soon as there is room, whether or not anybody needs it.
        is_begun = self._preparation is not None or self._is_full
        is_due = has_no_room or is_begun or left_bytes < self.segment_bytes // 2
        if self._prepared == taken and is_due and self._prepared - self._closed < SLOTS:
            self._prepare()
        return self._preparation is not None and left_bytes < self.segment_bytes // 4

    def make_ready(self) -> bool:
        """Prepare the next segment whole. Raises OSError if the disk fails."""
        prepared = self._prepared
        while self._prepared == prepared:
            self.keep()
            if self._preparation is None and self._prepared == prepared:
                return False
        return True

    def close(self) -> None:
        """Sync and close. The threads that use the state have ended.

        Raises:
            OSError: the last sync failed.
        """
        try:
            sync(self.state)
            self._check_failures()
            position = load_acquire(self.words + APPENDED_POSITION)
            while self._named <= last_segment(position, self.shape.segment_shift):
                self._name(self._named)
        finally:
            if self._preparation is not None:
                self._preparation.close()
            while self._closed < self._prepared:
                self._close(self._closed)
                self._closed += 1
        if self._named < self._prepared:
            (self.folder / PREPARED_NAME).unlink()

    @abstractmethod
    def descriptors(self) -> list[int]:
        """The descriptors that a child which takes the stream over has to keep."""

    def take_over(self) -> None:
        """Be this process's from now on, which was forked from the one that made it."""
        return

    def let_go(self) -> None:
        """Close what this process has open of the stream: a child that was forked has taken it over."""
        assert self._preparation is None, "no keeper has run yet"
        while self._closed < self._prepared:
            self._close(self._closed)
            self._closed += 1

    def _name(self, number: int) -> None:
        first_sequence = load_int64(first_sequence_word(self.words, number))
        (self.folder / PREPARED_NAME).rename(self.folder / segment_name(first_sequence))
        sync_folder(self.folder)
        self._named += 1

    def _prepare(self) -> None:
        """One step towards the next segment; nothing as long as a full disk is left alone."""
        if self._preparation is None:
            if time.monotonic_ns() < self._retry_at_ns:
                return
            self._preparation = prepare_segment(self.folder, self.identity, self.segment_bytes)
        try:
            self._continue_preparation()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                error.filename = error.filename or str(self.folder)
                raise
            if not self._is_full:
                self._log("journal-full", logging.ERROR, wanted="segment", needed_bytes=self.segment_bytes)
            self._is_full = True
            self._preparation = None
            self._retry_at_ns = time.monotonic_ns() + RETRY_NS
            return
        if self._is_full:
            self._log("journal-has-room", logging.WARNING, wanted="segment")
        self._is_full = False

    def _continue_preparation(self) -> None:
        assert self._preparation is not None
        with new_pages_on(self._nodes):  # the kernel's pages of the file too, which the writer will write to
            try:
                next(self._preparation)
            except StopIteration as ended:
                self._preparation = None
                number = self._prepared
                place, header = self._open(number, ended.value)
                store_int64(slot_of(self.words, number) + SLOT_PLACE, place)
                store_int64(slot_of(self.words, number) + SLOT_HEADER, header)
                self._prepared += 1
                store_release(self.words + PREPARED, self._prepared)

    def _check_failures(self) -> None:
        failure = load_acquire(self.words + SYNC_FAILURE)
        if failure:
            raise OSError(
                -failure, f"the journal cannot be synced: {os.strerror(-failure)}", str(self.folder)
            )
        failure = load_relaxed(self.words + WRITE_FAILURE)
        if failure and -failure not in _NO_ROOM:
            raise OSError(
                -failure, f"the journal cannot be written: {os.strerror(-failure)}", str(self.folder)
            )
        if bool(failure) != self._is_failing:
            self._is_failing = bool(failure)
            event, level = (
                ("journal-full", logging.ERROR) if failure else ("journal-has-room", logging.WARNING)
            )
            self._log(event, level, wanted="write")

    def _log(self, event: str, level: int, **fields: object) -> None:
        log_event(event, level=level, stream=self.folder.name, folder=str(self.folder.parent), **fields)
