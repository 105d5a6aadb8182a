"""Frames: writing one, checking one, and going over many at a time.

What a frame looks like stands in :mod:`exchange.journal.layout`. The checks here read memory that may hold anything at
all, a damaged file or a page of another journal; they never read outside the range that they are given, whatever the
lengths in it say.

A frame is checked in this order, and the first thing that is wrong is what is reported: magic, length, checksum,
journal, stream, sequence. So "another journal" and "wrong sequence" are said only of frames that somebody really
wrote.
"""

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np

from exchange.journal.layout import (
    FRAME_CHECKED,
    FRAME_CHECKSUM,
    FRAME_DURABLE_SEQUENCE,
    FRAME_EPOCH,
    FRAME_FIRST_SEQUENCE,
    FRAME_HEADER_BYTES,
    FRAME_JOURNAL_ID,
    FRAME_MAGIC,
    FRAME_RECORD_COUNT,
    FRAME_RESERVED,
    FRAME_STREAM_NUMBER,
)
from exchange.messages import RECORD_BYTES
from exchange.native import (
    crc32c,
    crc32c_step,
    inlined,
    kernel,
    load_int64,
    load_uint8,
    load_uint32,
    store_int64,
    store_release,
    store_uint32,
)

_ALL_ONES: Final = 0xFFFFFFFF


class Flaw(IntEnum):
    """What is wrong with the bytes where the next frame should be."""

    NONE = 0
    END = 1
    """There is no room for another frame."""
    ZEROS = 2
    """The header is zero, as memory that was never written to."""
    NO_FRAME = 3
    LENGTH = 4
    CHECKSUM = 5
    OTHER_JOURNAL = 6
    OTHER_STREAM = 7
    SEQUENCE = 8


_NONE, _END, _ZEROS, _NO_FRAME, _LENGTH, _CHECKSUM, _OTHER_JOURNAL, _OTHER_STREAM, _SEQUENCE = map(int, Flaw)

FRAME_PLACE_DTYPE: Final = np.dtype(
    [
        ("address", "<i8"),
        ("record_count", "<i8"),
        ("first_sequence", "<i8"),
        ("durable_sequence", "<i8"),
        ("epoch", "<i8"),
    ]
)
"""Where the records of a good frame are, how many, and what its header says. Written by :func:`note_frame`."""

PLACE_BYTES: Final = FRAME_PLACE_DTYPE.itemsize


class StreamName(NamedTuple):
    """What every frame of a stream must say."""

    journal_id: int
    stream_number: int


@inlined
def write_header(
    header: int, stream: StreamName, first_sequence: int, durable_sequence: int, record_count: int, epoch: int
) -> int:
    """Write all of a frame's header but magic and checksum; returns the checksum of that, not inverted yet."""
    store_int64(header + FRAME_JOURNAL_ID, stream.journal_id)
    store_int64(header + FRAME_FIRST_SEQUENCE, first_sequence)
    store_int64(header + FRAME_DURABLE_SEQUENCE, durable_sequence)
    store_uint32(header + FRAME_RECORD_COUNT, record_count)
    store_uint32(header + FRAME_STREAM_NUMBER, stream.stream_number)
    store_int64(header + FRAME_EPOCH, epoch)
    for offset in range(FRAME_RESERVED, FRAME_HEADER_BYTES, 8):
        store_int64(header + offset, 0)
    # From the values, not from the memory: what has just been stored in halves is slow to load as a whole.
    checksum = crc32c_step(_ALL_ONES, stream.journal_id)
    checksum = crc32c_step(checksum, first_sequence)
    checksum = crc32c_step(checksum, durable_sequence)
    checksum = crc32c_step(checksum, record_count | (stream.stream_number << 32))
    checksum = crc32c_step(checksum, epoch)
    for _ in range(FRAME_RESERVED, FRAME_HEADER_BYTES, 8):
        checksum = crc32c_step(checksum, 0)
    return checksum


@inlined
def seal_header(header: int, checksum: int) -> None:
    """Write what makes the frame one: magic and checksum, in one store that releases all the rest of it, for whoever
    reads the file meanwhile. ``checksum`` is not inverted yet."""
    store_release(header, FRAME_MAGIC | ((checksum ^ _ALL_ONES) << 32))


@inlined
def is_zero(address: int, size_bytes: int) -> bool:
    """Whether ``size_bytes`` bytes (a multiple of 8) are all zero."""
    found = 0
    for index in range(size_bytes >> 3):
        found |= load_int64(address + (index << 3))
    return found == 0


@inlined
def check_frame(frame: int, room_bytes: int, stream: StreamName) -> int:
    """The flaw of what lies at ``frame``, of which ``room_bytes`` may be read; its sequence is not looked at."""
    if room_bytes < FRAME_HEADER_BYTES:
        return _END
    if load_uint32(frame) != FRAME_MAGIC:
        return _ZEROS if is_zero(frame, FRAME_HEADER_BYTES) else _NO_FRAME
    count = load_uint32(frame + FRAME_RECORD_COUNT)
    if count == 0 or FRAME_HEADER_BYTES + count * RECORD_BYTES > room_bytes:
        return _LENGTH
    checked_bytes = FRAME_HEADER_BYTES + count * RECORD_BYTES - FRAME_CHECKED
    if crc32c(0, frame + FRAME_CHECKED, checked_bytes) != load_uint32(frame + FRAME_CHECKSUM):
        return _CHECKSUM
    if load_int64(frame + FRAME_JOURNAL_ID) != stream.journal_id:
        return _OTHER_JOURNAL
    if load_uint32(frame + FRAME_STREAM_NUMBER) != stream.stream_number:
        return _OTHER_STREAM
    return _NONE


@kernel
def frame_checksum(header: int, records: int, count: int) -> int:
    """The checksum of a frame whose header and records lie apart."""
    checked_bytes = FRAME_HEADER_BYTES - FRAME_CHECKED
    return crc32c(crc32c(0, header + FRAME_CHECKED, checked_bytes), records, count * RECORD_BYTES)


@inlined
def note_frame(place: int, frame: int) -> None:
    """Write a row of :data:`FRAME_PLACE_DTYPE` for a good frame."""
    store_int64(place, frame + FRAME_HEADER_BYTES)
    store_int64(place + 8, load_uint32(frame + FRAME_RECORD_COUNT))
    store_int64(place + 16, load_int64(frame + FRAME_FIRST_SEQUENCE))
    store_int64(place + 24, load_int64(frame + FRAME_DURABLE_SEQUENCE))
    store_int64(place + 32, load_int64(frame + FRAME_EPOCH))


@kernel
def scan_frames(
    base: int, offset: int, end: int, stream: StreamName, expected_sequence: int, places: int, limit: int
) -> tuple[int, int, int, int]:
    """Go over good frames from ``base + offset`` on, up to ``limit`` of them, and note each at ``places``.

    Returns how many there were, the offset and the sequence behind the last of them, and why it stopped: a
    :class:`Flaw`, where ``NONE`` says that the limit was reached. Nothing at or behind ``base + end`` is read.
    """
    found = 0
    while found < limit:
        frame = base + offset
        flaw = check_frame(frame, end - offset, stream)
        if flaw == _NONE and load_int64(frame + FRAME_FIRST_SEQUENCE) != expected_sequence:
            flaw = _SEQUENCE
        if flaw != _NONE:
            return found, offset, expected_sequence, flaw
        count = load_uint32(frame + FRAME_RECORD_COUNT)
        note_frame(places + found * PLACE_BYTES, frame)
        found += 1
        offset += FRAME_HEADER_BYTES + count * RECORD_BYTES
        expected_sequence += count
    return found, offset, expected_sequence, _NONE


@kernel
def find_frame(base: int, offset: int, end: int, stream: StreamName) -> int:
    """The offset of the next good frame of the stream at or behind ``offset``, whatever its sequence; -1 for none.

    ``offset`` is a multiple of 64, and so is every place that is looked at.
    """
    while offset + FRAME_HEADER_BYTES <= end:
        if check_frame(base + offset, end - offset, stream) == _NONE:
            return offset
        offset += FRAME_HEADER_BYTES
    return -1


@kernel
def last_used_byte(base: int, offset: int, end: int) -> int:
    """The offset behind the last byte between ``offset`` and ``end`` that is not zero; ``offset`` if all are."""
    while end > offset and (end & 7) != 0:
        if load_uint8(base + end - 1) != 0:
            return end
        end -= 1
    while end - 8 >= offset and load_int64(base + end - 8) == 0:
        end -= 8
    while end > offset and load_uint8(base + end - 1) == 0:
        end -= 1
    return end


@kernel
def count_kinds(places: int, frames: int, counts: int) -> None:
    """Add the kind of each record, its first byte, to 256 words at ``counts``, for frames that a scan has noted."""
    for frame in range(frames):
        records = load_int64(places + frame * PLACE_BYTES)
        for index in range(load_int64(places + frame * PLACE_BYTES + 8)):
            word = counts + load_uint8(records + index * RECORD_BYTES) * 8
            store_int64(word, load_int64(word) + 1)


@kernel
def flipped_bit(size_bytes: int, difference: int) -> int:
    """Which single bit makes a checksum of ``size_bytes`` bytes (a multiple of 8) differ so; -1 if no single one does.

    Bits are counted from the lowest bit of the first byte. ``difference`` is the XOR of both checksums. A checksum is
    linear: a flipped bit changes it by the same whatever the other bits are, which is found by walking back from
    the last bit, where the change is the polynomial itself.
    """
    polynomial = 0x82F63B78
    change = polynomial
    for place in range(size_bytes * 8 - 1, -1, -1):
        if change == difference:
            return place
        change = (change >> 1) ^ (polynomial if change & 1 else 0)
    return -1
