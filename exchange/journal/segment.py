"""A segment's file: made, named, found again.

A new segment is made under the name ``prepared.segment`` with no first sequence, for nobody knows yet with which
sequence it will begin. Space is reserved first, so that a full disk is found out here and not in the middle of a
write; then zeros are written to all of it and synced, so that a later sync has no block to allocate and no length to
write down. The writer puts the first sequence into the header when it begins the segment; the keeper renames the file
soon after. If the machine ends between these two, ``prepared.segment`` is the last segment, and readers take it as
that.

A rename or a new file is only there for good when its folder is synced: :func:`sync_folder`."""

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from exchange.errors import UserError
from exchange.journal.frames import StreamName
from exchange.journal.layout import (
    FORMAT_VERSION,
    PREPARED_NAME,
    SEGMENT_CHECKED,
    SEGMENT_HEADER_BYTES,
    SEGMENT_HEADER_DTYPE,
    SEGMENT_MAGIC,
    SEGMENT_SUFFIX,
    first_sequence_of,
    segment_name,
)
from exchange.native import crc32c_of

ZERO_BYTES: Final = 64 << 10
"""How many zeros are written at once. Linux (ext4 since 6.16, XFS for longer) keeps the pages of one write together and
from then on writes them to the disk as one: more would be faster to lay out, and every small sync would write as
much; less would be slow to lay out. ``docs/examples/pages_of_a_file.py`` measures both."""
_ZEROS: Final = bytes(ZERO_BYTES)
STEP_BYTES: Final = 4 << 20
"""How much of a new segment is written and synced at a time: a stop, and syncs that events wait for, come in
between."""


class SegmentHeader(NamedTuple):
    """The header of a segment, less magic and checksum."""

    format_version: int
    journal_id: int
    identity_digest: int
    stream_number: int
    segment_bytes: int
    created_ns: int
    first_sequence: int


class StreamIdentity(NamedTuple):
    """What all segments of a stream have in common."""

    journal_id: int
    identity_digest: int
    stream_number: int

    @property
    def name(self) -> StreamName:
        """What its frames have in common."""
        return StreamName(self.journal_id, self.stream_number)


def encode_header(header: SegmentHeader) -> bytes:
    """The bytes of a header: the 128 that mean something."""
    row = np.zeros(1, SEGMENT_HEADER_DTYPE)
    row[0] = (SEGMENT_MAGIC, 0, *header)
    row["checksum"] = crc32c_of(row.tobytes()[SEGMENT_CHECKED:])
    return row.tobytes()


def decode_header(content: bytes) -> SegmentHeader | str:
    """A header from its bytes, or what is wrong with them."""
    if len(content) < SEGMENT_HEADER_BYTES:
        return f"the file ends after {len(content)} bytes, within the segment's header"
    content = content[: SEGMENT_HEADER_DTYPE.itemsize]
    row: Any = np.frombuffer(content, SEGMENT_HEADER_DTYPE)[0]
    if int(row["magic"]) != SEGMENT_MAGIC:
        return "it is no segment of a journal: the first eight bytes are wrong"
    if int(row["checksum"]) != crc32c_of(content[SEGMENT_CHECKED:]):
        return "the checksum of the segment's header is wrong"
    header = SegmentHeader(*(int(row[name]) for name in SegmentHeader._fields))
    if header.segment_bytes <= SEGMENT_HEADER_BYTES:
        return f"a segment of {header.segment_bytes} bytes has no room for frames"
    return header


def prepare_segment(folder: Path, identity: StreamIdentity, segment_bytes: int) -> Generator[None, None, int]:
    """Make ``prepared.segment``, whole and synced, in steps of a few milliseconds; a step for each ``next``.

    Returns its descriptor, open for reading and writing. If it fails, or is closed before it has ended, nothing is
    left behind.

    Raises:
        OSError: there is no room, which the first step finds out, or the disk fails.
    """
    path = folder / PREPARED_NAME
    header = SegmentHeader(FORMAT_VERSION, *identity, segment_bytes, time.time_ns(), 0)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, segment_bytes)
        for begin in range(0, segment_bytes, STEP_BYTES):
            if begin > 0:
                yield
            write_zeros(descriptor, begin, min(begin + STEP_BYTES, segment_bytes))
            os.fdatasync(descriptor)
        _write_all(descriptor, encode_header(header), 0)
        os.fsync(descriptor)
        sync_folder(folder)
    except BaseException:
        os.close(descriptor)
        path.unlink()
        raise
    return descriptor


def write_zeros(descriptor: int, begin: int, end: int) -> None:
    """Overwrite a file's bytes from ``begin`` to ``end`` with zeros."""
    for offset in range(begin, end, len(_ZEROS)):
        _write_all(descriptor, _ZEROS[: end - offset], offset)


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_document(path: Path, document: object) -> None:
    """Write a file of JSON into a journal's folder: it is there whole and for good, or it is as it was."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def segment_paths(folder: Path) -> list[Path]:
    """The files of a stream's segments in their order, a prepared one last."""
    found = [path for path in folder.iterdir() if path.name.endswith(SEGMENT_SUFFIX)]
    return sorted(
        found, key=lambda path: (path.name == PREPARED_NAME, first_sequence_of(path.name) or 0, path.name)
    )


def make_room(folder: Path, next_sequence: int) -> None:
    """Ready a stream's folder for a segment that begins with ``next_sequence``, and make durable what is in it.

    A segment that was prepared or begun and never written to is removed; one that was never renamed gets its name.
    What a process wrote before it was killed may still be in the kernel's memory only. The frames to come will say
    that it is durable, so it is synced here.

    Raises:
        UserError: the folder holds something from ``next_sequence`` on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prepared = folder / PREPARED_NAME
    if prepared.exists():
        header = decode_header(read_header(prepared))
        if isinstance(header, str) or header.first_sequence == 0:
            prepared.unlink()
        else:
            prepared.rename(folder / segment_name(header.first_sequence))
    for path in segment_paths(folder):
        first_sequence = first_sequence_of(path.name)
        if first_sequence == next_sequence and is_empty(path):
            path.unlink()
        elif first_sequence is None or first_sequence >= next_sequence:
            raise UserError(
                f"journal {path}: its stream goes on with sequence {next_sequence}; cut it or move it away"
            )
        else:
            settle(path)
    sync_folder(folder)


def settle(path: Path) -> None:
    """Have a file show what the disk has, before it is read to be gone on with.

    A kernel that could not write a page says so once, and may go on showing what was to be written as if it were there
    (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). So what can be written is, and what is
    then in the page cache is let go of.

    Raises:
        OSError: the disk fails.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def read_header(path: Path) -> bytes:
    """The first page of a segment's file, or as much of it as there is."""
    with path.open("rb") as file:
        return file.read(SEGMENT_HEADER_BYTES)


def is_empty(path: Path) -> bool:
    """Whether a segment holds nothing but its header and zeros."""
    with path.open("rb") as file:
        file.seek(SEGMENT_HEADER_BYTES)
        while block := file.read(len(_ZEROS)):
            if block != _ZEROS[: len(block)]:
                return False
    return True
