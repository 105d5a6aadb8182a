"""Where a stream ends: cleanly, torn, or damaged; and cutting what is torn.

A stream that was being written to when its machine lost power may end in anything: frames that are half there, pages
of zeros before pages with records, for a disk writes in its own order. Nobody was promised any of that, so it is a
*torn* end, and it is cut. A stream whose disk lost or changed something that was synced is *damaged*, and then nobody
may go on as if nothing had happened. Both look alike where reading stops. What tells them apart is written in the
frames: each says up to which sequence the stream was known to be synced when it was written. So:

* Some good frame of this journal and stream, anywhere but among those that were read, says that the place was synced:
damage.
* No such frame, nothing but zeros behind the place, and no later segment: a clean end.
* No such frame, but something: torn.

A frame that says so cannot have got there by mistake: its checksum is right, it has the random number of this journal,
and it was written after the sync. Damage to the last frames, behind which no later one says anything, is taken for a
torn end: the surviving bytes do not tell it from one. That is at most what was appended since the sync before the
last.
"""

import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from exchange.journal.copied import copied_sequence
from exchange.journal.frames import Flaw, find_frame, flipped_bit, frame_checksum, last_used_byte
from exchange.journal.layout import (
    FRAME_CHECKED,
    FRAME_CHECKSUM,
    FRAME_HEADER_BYTES,
    FRAME_HEADER_DTYPE,
    FRAME_MAGIC,
    FRAME_RECORD_COUNT,
    SEGMENT_HEADER_BYTES,
    frame_bytes,
)
from exchange.journal.reading import JournalDamage, Segment, StreamReader
from exchange.journal.segment import sync_folder, write_zeros
from exchange.native import view_bytes

CUT_SUFFIX: Final = ".cut"
"""What a whole segment behind a torn end is called from then on."""


class Tear(NamedTuple):
    """A torn end: from where on nothing counts.

    Attributes:
        path: the segment.
        offset: where in it the next frame should be.
        next_sequence: that frame's first sequence, from which on the stream goes on once it is cut.
        reason: what is wrong there.
        torn_bytes: how many bytes are cut: from there to the last one that is not zero, in all segments.
        torn_records: in how many records of frames that are whole, but lie behind a gap.
        whole_paths: segments of which nothing counts, in their order.
        kept: the last segment of which something counts, and where that ends; None if there is none.
    """

    path: Path
    offset: int
    next_sequence: int
    reason: str
    torn_bytes: int
    torn_records: int
    whole_paths: tuple[Path, ...]
    kept: tuple[Path, int] | None

    def __str__(self) -> str:
        behind = f"; {self.torn_records} records behind it are whole" if self.torn_records else ""
        return (
            f"{self.path}, offset {self.offset}, sequence {self.next_sequence}: torn ({self.reason});"
            f" {self.torn_bytes} bytes that were never synced{behind}"
        )


def judge_end(reader: StreamReader) -> Tear | None:
    """What the end of a stream means, of which a reader has read all frames. None: it is clean.

    Not to be asked about a stream that is being written to.

    Raises:
        JournalDamage: something that was synced is not there, or the stream ends before the sequence that was wanted.
    """
    segment = reader.segment
    if segment is None:
        if reader.wanted_sequence > copied_sequence(reader.folder) + 1:
            known = f"sequence {reader.wanted_sequence - 1} is known to have been in the stream"
            raise JournalDamage(reader.folder, 0, 1, f"there is no segment, and {known}")
        return None
    places = [(segment, reader.offset), *((one, 0) for one in reader.later_segments)]
    used_bytes = sum(
        last_used_byte(one.base, begin, one.end) - begin for one, begin in places if one.end > begin
    )
    is_clean = used_bytes == 0 and not segment.flaw() and not reader.later_segments
    reason = "the segment ends" if is_clean else segment.flaw() or _describe(reader, segment)
    torn_records = 0
    for one, begin in [*reader.tails, *places]:
        for frame in _frames_behind(one, begin, reader):
            durable_sequence = int(frame["durable_sequence"])
            if durable_sequence >= reader.next_sequence:
                reason += (
                    f"; sequence {frame['first_sequence']} in {one.path.name} says that everything up to"
                    f" {durable_sequence} was synced, so this is no torn end"
                )
                raise JournalDamage(segment.path, reader.offset, reader.next_sequence, reason)
            torn_records += int(frame["record_count"])
    if reader.next_sequence < reader.wanted_sequence:
        reason += f", and sequence {reader.wanted_sequence - 1} is known to have been in the stream"
        raise JournalDamage(segment.path, reader.offset, reader.next_sequence, reason)
    if is_clean:
        return None
    # A segment without a header is no segment. Then the one before it is the last.
    whole = [*([segment] if segment.flaw() else []), *reader.later_segments]
    last = reader.tails[-1:] if segment.flaw() else [(segment, reader.offset)]
    return Tear(
        path=segment.path,
        offset=reader.offset,
        next_sequence=reader.next_sequence,
        reason=reason,
        torn_bytes=used_bytes,
        torn_records=torn_records,
        whole_paths=tuple(one.path for one in whole),
        kept=(last[0][0].path, last[0][1]) if last else None,
    )


def judge_end_now(reader: StreamReader) -> Tear | None:
    """What the end of a stream means that somebody may be writing to: then only that it is not damaged.

    Frames that came after the last look say that the place was synced, as they would of damage. So what looks like
    damage is looked at again, and is none if reading goes on from there. It reads what was not read yet.

    Raises:
        JournalDamage: as :func:`judge_end`.
    """
    while True:
        _read_on(reader)
        reached = reader.next_sequence
        try:
            return judge_end(reader)
        except JournalDamage:
            _read_on(reader)
            if reader.next_sequence == reached:
                raise


def _read_on(reader: StreamReader) -> None:
    for _batch in reader.batches():
        pass


def cut_torn_tail(tear: Tear) -> None:
    """Make the stream end cleanly where it is torn. If this is interrupted, the end is still torn, or clean.

    Segments of which nothing counts are renamed, to end in ``.cut``. What follows in the last one of which something
    counts is overwritten with zeros.

    Raises:
        OSError: the disk fails.
    """
    for path in reversed(tear.whole_paths):
        path.replace(path.with_name(path.name + CUT_SUFFIX))
    sync_folder(tear.path.parent)
    if tear.kept is None:
        return
    path, offset = tear.kept
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        write_zeros(descriptor, offset, os.fstat(descriptor).st_size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _frames_behind(segment: Segment, begin: int, reader: StreamReader) -> Any:
    """The headers of the good frames in a segment from ``begin`` on, at whatever place they are."""
    offset = max(begin, SEGMENT_HEADER_BYTES)
    while True:
        offset = int(find_frame(segment.base, offset, segment.end, reader.identity.name))
        if offset < 0:
            return
        header = _header_at(segment.base + offset)
        yield header
        offset += frame_bytes(int(header["record_count"]))


def _header_at(address: int) -> Any:
    return np.frombuffer(bytes(view_bytes(address, FRAME_HEADER_BYTES)), FRAME_HEADER_DTYPE)[0]


def _describe(reader: StreamReader, segment: Segment) -> str:
    """Why reading stopped, in words."""
    flaw = reader.flaw
    frame, room = segment.base + reader.offset, segment.end - reader.offset
    following = reader.later_segments[0] if reader.later_segments else None
    if flaw == Flaw.END or (flaw == Flaw.ZEROS and last_used_byte(frame, 0, room) == 0):
        if following is None:
            return "the segment ends"
        begins = following.first_sequence
        return (
            f"the segment ends, and the next one, {following.path.name}, "
            f"{f'begins with sequence {begins}' if begins else f'is damaged: {following.flaw()}'}"
        )
    header = _header_at(frame)
    match flaw:
        case Flaw.ZEROS:
            return "zeros where a frame should be"
        case Flaw.OTHER_JOURNAL:
            return f"a frame of another journal, {header['journal_id']}"
        case Flaw.OTHER_STREAM:
            return f"a frame of another stream, {header['stream_number']}"
        case Flaw.SEQUENCE:
            return f"a frame that begins with sequence {header['first_sequence']}"
    what = {
        Flaw.NO_FRAME: "no frame begins here",
        Flaw.LENGTH: f"a frame of {header['record_count']} records does not fit here",
    }.get(flaw, f"the checksum of a frame of {header['record_count']} records is wrong")
    bit = _flipped_bit(reader, segment)
    return what if bit is None else f"{what}: bit {bit & 7} of byte {reader.offset + (bit >> 3)} is flipped"


def _flipped_bit(reader: StreamReader, segment: Segment) -> int | None:
    """Which single bit of the frame is wrong, counted from its first; None if it is not a single one."""
    room = segment.end - reader.offset
    records = segment.base + reader.offset + FRAME_HEADER_BYTES
    header = bytes(view_bytes(records - FRAME_HEADER_BYTES, FRAME_HEADER_BYTES))
    wrong_magic = FRAME_MAGIC ^ int.from_bytes(header[:4], "little")
    if wrong_magic:
        bit = wrong_magic.bit_length() - 1
        is_single = wrong_magic.bit_count() == 1
        return bit if is_single and _difference(_with_flipped(header, bit), records, room) == 0 else None
    difference = _difference(header, records, room)
    if difference is not None:
        if difference.bit_count() == 1:
            return FRAME_CHECKSUM * 8 + difference.bit_length() - 1
        count = int.from_bytes(header[FRAME_RECORD_COUNT : FRAME_RECORD_COUNT + 4], "little")
        place = int(flipped_bit(frame_bytes(count) - FRAME_CHECKED, difference))
        if place >= 0:
            return FRAME_CHECKED * 8 + place
    # A wrong count changes which bytes are checked at all, so it is tried out.
    bits = range(FRAME_RECORD_COUNT * 8, FRAME_RECORD_COUNT * 8 + 32)
    return next((bit for bit in bits if _difference(_with_flipped(header, bit), records, room) == 0), None)


def _difference(header: bytes, records: int, room: int) -> int | None:
    """How the checksum in a header differs from that of the frame; None if there is no room for so many records."""
    count = int.from_bytes(header[FRAME_RECORD_COUNT : FRAME_RECORD_COUNT + 4], "little")
    if count == 0 or frame_bytes(count) > room:
        return None
    words = np.frombuffer(header, np.int64)
    found = int.from_bytes(header[FRAME_CHECKSUM:FRAME_CHECKED], "little")
    return found ^ int(frame_checksum(words.ctypes.data, records, count))


def _with_flipped(header: bytes, bit: int) -> bytes:
    return (int.from_bytes(header, "little") ^ (1 << bit)).to_bytes(len(header), "little")
