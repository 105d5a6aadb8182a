"""Reading a stream again: from its first segment to where it ends.

A :class:`StreamReader` maps the segments and goes over their frames, many for each call into compiled code; the
records are not copied. It follows one rule: *after the last frame that is good and has the next sequence, the stream
goes on in the segment that begins with that sequence; if there is none, it ends there*. So what lies behind the last
frame of a segment means nothing if the next segment begins where the frames left off: zeros that were not needed, or
the rest of a frame that was torn off when an exchange was killed, before another one went on in a new segment.

The reader says where the stream ends and not what that means. That is :mod:`exchange.journal.judging`'s business: a
clean end, a torn one, or damage. A process that reads a journal while an exchange writes to it, only reads.

Bytes that a file should have and does not are taken for zeros, so a file that was cut short is read as far as it goes.
Nothing outside the file is ever read, whatever its lengths say.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.journal.frames import FRAME_PLACE_DTYPE, Flaw, last_used_byte, scan_frames
from exchange.journal.layout import (
    FORMAT_VERSION,
    FRAME_HEADER_BYTES,
    PREPARED_NAME,
    SEGMENT_HEADER_BYTES,
    first_sequence_of,
)
from exchange.journal.segment import SegmentHeader, StreamIdentity, decode_header, segment_paths
from exchange.messages import COMMAND_DTYPE, RECORD_BYTES

PLACES: Final = 4096
"""How many frames one call into compiled code goes over at the most."""

_LOOKS: Final = 100


class JournalDamage(UserError):
    """A journal that cannot be read on, and that nobody may cut, with the exact place.

    Attributes:
        path: of the segment.
        offset: in it, where the next frame should be.
        sequence: that frame's first.
        reason: what is wrong there.
    """

    def __init__(self, path: Path, offset: int, sequence: int, reason: str) -> None:
        super().__init__(f"journal {path}, offset {offset}, sequence {sequence}: {reason}")
        self.path: Final = path
        self.offset: Final = offset
        self.sequence: Final = sequence
        self.reason: Final = reason


class Frame(NamedTuple):
    """The records of one append: the address of the first, how many, its sequence, and the epoch.

    They stay mapped as long as the reader is open. They may be read and not written.
    """

    address: int
    record_count: int
    first_sequence: int
    epoch: int


class Segment:
    """A segment's file, mapped to be read.

    Attributes:
        header: what its header says, or what is wrong with that.
        base: the address of its first byte; 0 if it has none.
        end: the offset behind the last byte that may hold a frame.
    """

    def __init__(self, path: Path) -> None:
        """Map the file.

        Raises:
            OSError: it cannot be opened.
        """
        self.path: Final = path
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.size_bytes: Final = os.fstat(descriptor).st_size
            self._bytes: NDArray[np.uint8] = np.zeros(0, np.uint8)
            if self.size_bytes > 0:
                mapping = mmap.mmap(descriptor, self.size_bytes, prot=mmap.PROT_READ)
                self._bytes = np.frombuffer(mapping, np.uint8)
        finally:
            os.close(descriptor)
        self.base: Final = int(self._bytes.ctypes.data) if self.size_bytes else 0
        self.header: Final = decode_header(self._bytes[:SEGMENT_HEADER_BYTES].tobytes())
        segment_bytes = self.size_bytes if isinstance(self.header, str) else self.header.segment_bytes
        self.end: Final = min(segment_bytes, self.size_bytes) & -FRAME_HEADER_BYTES

    @property
    def is_unused(self) -> bool:
        """Whether it was prepared and never begun, wholly or in part. It is no part of the stream."""
        if self.path.name != PREPARED_NAME:
            return False
        if isinstance(self.header, SegmentHeader) and self.header.first_sequence != 0:
            return False
        begin = SEGMENT_HEADER_BYTES if isinstance(self.header, SegmentHeader) else 0
        return last_used_byte(self.base, begin, self.end) <= begin

    @property
    def first_sequence(self) -> int | None:
        """With which sequence it begins, if it is whole and bears the right name."""
        if isinstance(self.header, str):
            return None
        named = first_sequence_of(self.path.name)
        is_right = self.path.name == PREPARED_NAME or named == self.header.first_sequence
        return self.header.first_sequence if is_right and self.header.first_sequence > 0 else None

    @property
    def named_sequence(self) -> int | None:
        """With which sequence it should begin, as far as its name or its header tell."""
        named = first_sequence_of(self.path.name)
        if named is not None or isinstance(self.header, str):
            return named
        return self.header.first_sequence or None

    def flaw(self) -> str:
        """What is wrong with it, so that its frames are not read; nothing if nothing is."""
        if isinstance(self.header, str):
            return self.header
        if self.header.first_sequence == 0:
            return "its header says that it was never begun"
        if self.first_sequence is None:
            return f"the file's name is not that of a segment that begins with sequence {self.header.first_sequence}"
        return ""

    def check_identity(self, identity: StreamIdentity) -> None:
        """Refuse a whole segment of something else.

        Raises:
            JournalDamage: another version, journal, identity or stream.
        """
        if isinstance(self.header, str):
            return
        found = self.header
        for what, is_, should_be in (
            ("its format version", found.format_version, FORMAT_VERSION),
            ("its journal's id", found.journal_id, identity.journal_id),
            ("the digest of its journal's identity", found.identity_digest, identity.identity_digest),
            ("its stream's number", found.stream_number, identity.stream_number),
        ):
            if is_ != should_be:
                reason = f"the segment is not one of this stream: {what} is {is_} and should be {should_be}"
                raise JournalDamage(self.path, 0, found.first_sequence, reason)


class StreamReader:
    """The frames of one stream, in order. Use it in a ``with`` statement, or close it.

    Args:
        folder: of the stream; if there is none, the stream is empty.
        identity: what the journal's identity says of the stream.
        next_sequence: the first sequence of interest, which is the last one of a snapshot and one: earlier segments
            are not read, earlier frames are skipped, and a frame that begins before it and ends behind it is given
            whole.

    Attributes:
        wanted_sequence: the first sequence of interest.
        next_sequence: the sequence behind all frames read so far.
        segment: the one in which the last frame was; None before the first.
        offset: the place in it behind the last frame.
        flaw: why it was not read on from there, once all frames are read.
        durable_sequence: the highest that a frame says is synced.
        tails: the segments that are behind it, and where in each of them the frames ended.

    Raises:
        JournalDamage: a segment of something else; or the stream begins behind ``next_sequence``.
        UserError: a file cannot be read.
    """

    def __init__(self, folder: Path, identity: StreamIdentity, next_sequence: int = 1) -> None:
        self.folder: Final = folder
        self.identity: Final = identity
        self.segments: Final = open_segments(folder)
        for segment in self.segments:
            segment.check_identity(identity)
        self.durable_sequence = 0
        self.tails: Final[list[tuple[Segment, int]]] = []
        self.flaw = Flaw.END
        self.offset = 0
        self.wanted_sequence: Final = next_sequence
        self._places: Final[NDArray[np.void]] = np.zeros(PLACES, FRAME_PLACE_DTYPE)
        self._index = self._first_index()
        self.next_sequence = self._first_sequence()

    @property
    def segment(self) -> Segment | None:
        """The segment that is being read."""
        return self.segments[self._index] if self._index < len(self.segments) else None

    @property
    def later_segments(self) -> list[Segment]:
        """Those behind it."""
        return self.segments[self._index + 1 :]

    def frames(self) -> Iterator[Frame]:
        """The frames, one by one."""
        for places in self.batches():
            for address, count, first_sequence, _, epoch in places.tolist():
                yield Frame(address, count, first_sequence, epoch)

    def batches(self) -> Iterator[NDArray[np.void]]:
        """The frames, up to :data:`PLACES` at a time, as rows of ``FRAME_PLACE_DTYPE``.

        A batch is overwritten by the next one. Reading may go on where an earlier iterator was left.
        """
        while True:
            count = self._scan()
            if count > 0:
                places = self._places[:count]
                self.durable_sequence = max(self.durable_sequence, int(places["durable_sequence"].max()))
                ends = places["first_sequence"] + places["record_count"]
                wanted = places[ends > self.wanted_sequence]
                if len(wanted) > 0:
                    yield wanted
            elif not self._step():
                return

    def _scan(self) -> int:
        segment = self.segment
        if segment is None or segment.flaw():
            return 0
        self.offset = max(self.offset, SEGMENT_HEADER_BYTES)
        found, self.offset, self.next_sequence, flaw = scan_frames(
            segment.base,
            self.offset,
            segment.end,
            self.identity.name,
            self.next_sequence,
            self._places.ctypes.data,
            PLACES,
        )
        self.flaw = Flaw(flaw)
        return self._without_given_up(int(found))

    def _without_given_up(self, found: int) -> int:
        """How many of the frames count that a scan has found: the last one does not if the next segment repeats it.

        A full disk may take a frame but for its last bytes, which are zeros anyway. Then it is there, and its append
        has failed: its records are appended again, perhaps with more, and perhaps more than the segment has room for.
        """
        segment, following = self.segment, self.later_segments
        if segment is None or found == 0 or not following:
            return found
        last = self._places[found - 1]
        if int(last["first_sequence"]) != following[0].first_sequence:
            return found
        self.next_sequence = int(last["first_sequence"])
        self.offset = int(last["address"]) - FRAME_HEADER_BYTES - segment.base
        self.flaw = Flaw.END
        return found - 1

    def _step(self) -> bool:
        """Go to the next segment, if it begins where the frames of this one have ended."""
        segment, following = self.segment, self.later_segments
        if segment is None or segment.flaw() or not following:
            return False
        if following[0].first_sequence != self.next_sequence:
            return False
        self.tails.append((segment, self.offset))
        self._index += 1
        self.offset = 0
        return True

    def _first_index(self) -> int:
        """The last segment that begins at or before what is wanted; the first one if none does.

        Names ascend. Where they do not, a file is there that does not belong there, and nothing behind it is looked
        at.
        """
        index = 0
        for place, segment in enumerate(self.segments):
            begins, before = segment.named_sequence, self.segments[index].named_sequence
            if (
                begins is None
                or begins > self.wanted_sequence
                or (place > 0 and before is not None and begins <= before)
            ):
                break
            index = place
        return index

    def _first_sequence(self) -> int:
        segment = self.segment
        if segment is None:
            return self.wanted_sequence
        begins = segment.named_sequence
        if begins is None:
            return self.wanted_sequence
        if begins > self.wanted_sequence:
            reason = (
                segment.flaw() or f"the stream begins here, and sequence {self.wanted_sequence} was expected"
            )
            raise JournalDamage(segment.path, 0, self.wanted_sequence, reason)
        return begins

    def read_to_end(self) -> None:
        """Read all that is left, for what is known of a stream only then."""
        for _batch in self.batches():
            pass

    def look_again(self) -> None:
        """See the segments that somebody who writes to the stream has begun since the last look.

        Raises:
            JournalDamage: a segment of something else.
            UserError: a file cannot be read.
        """
        segment, found = self.segment, open_segments(self.folder)
        for one in found:
            one.check_identity(self.identity)
        if segment is None:
            self.segments[:], self._index = found, 0
        else:
            begins = segment.named_sequence or 0
            self.segments[self._index + 1 :] = [one for one in found if (one.named_sequence or 0) > begins]

    def close(self) -> None:
        """Unmap the files. No frame may be used any more."""
        self.segments.clear()

    def __enter__(self) -> "StreamReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_segments(folder: Path) -> list[Segment]:
    """The segments of a stream in their order, mapped; none if there is no such folder. Unused ones are left out.

    Raises:
        UserError: a file cannot be read.
    """
    if not folder.exists():
        return []
    for _ in range(_LOOKS):
        # Whoever writes to the stream may rename a file between the look at the folder and the look at the file.
        with suppress(FileNotFoundError):
            try:
                segments = [Segment(path) for path in segment_paths(folder)]
            except FileNotFoundError:
                raise
            except OSError as error:
                raise UserError(f"journal {error.filename or folder}: {error.strerror}") from error
            return [segment for segment in segments if not segment.is_unused]
    raise UserError(f"journal {folder}: its files are renamed all the time")


def records_of(frame: Frame) -> NDArray[np.void]:
    """The records of a frame, copied: ``record_count`` of ``COMMAND_DTYPE``."""
    from exchange.native import view_bytes

    return np.frombuffer(view_bytes(frame.address, frame.record_count * RECORD_BYTES), COMMAND_DTYPE).copy()
