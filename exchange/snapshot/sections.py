"""A file of named sections: written whole or not at all, and verified to the last bit before anything is read from it.

::

    +0      header, 4,096 bytes: which journal, how far each stream is, where the table is; its own CRC32C
    +4096   section, section, ... each begins at a multiple of 64, what is between them is zero
    ...     table: for each section 64 bytes, its name, where it is, how long, and the CRC32C of its bytes

**Writing.** The file grows under a temporary name in its own folder, section by section, as the bytes come; nothing has
to be known beforehand or held in memory. At the end come the table, the header, fsync, the rename to its own name, and
the fsync of the folder. So under its own name there is a whole snapshot or none, whenever the power goes.

**Reading.** Opening a file reads all of it once: every byte belongs to the header, the table or a section, each of
which has a checksum, or lies between two sections and has to be zero. A file that is cut, or in which a single bit is
not as it was written, is refused with the place. Sections are then read as often as one likes, in pieces if they are
large.

Rules: all numbers are little-endian. A file that has its own name is never changed. CRC32C is Castagnoli's polynomial,
as in iSCSI (RFC 3720): a processor computes it at many gigabytes a second, and it finds any burst of up to 32 bits."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.journal.segment import sync_folder
from exchange.native import crc32c_of, view_bytes

MAGIC: Final = b"EXCHSNAP"
FORMAT_VERSION: Final = 1
HEADER_BYTES: Final = 4096
ALIGNMENT_BYTES: Final = 64
NAME_BYTES: Final = 32
CHUNK_BYTES: Final = 1 << 20
"""What is checked and written, or read and checked, at a time: it stays in a core's cache in between."""

_HEADER: Final = Struct("<8sIIqqqqIII")
"""Magic, version, size of the header; journal, identity, moment; offset of the table; sections, streams, its CRC32C."""
_POSITION: Final = 128
_HEADER_CHECK: Final = HEADER_BYTES - 4
_CHECK: Final = Struct("<I")
_ENTRY: Final = Struct(f"<{NAME_BYTES}sqqI12x")
STREAMS_MAX: Final = (_HEADER_CHECK - _POSITION) // 8

assert _HEADER.size <= _POSITION
assert _ENTRY.size == ALIGNMENT_BYTES

PARTIAL: Final = ".partial"
"""What is behind the name of a file while it is being written."""


class BadSnapshot(UserError):
    """A file that is no whole snapshot; the text names the file, the section and the place."""


class SnapshotHeader(NamedTuple):
    """What a snapshot is of.

    Attributes:
        journal_id: the journal whose streams it is made of.
        identity_digest: a number for the journal's identity, see :class:`exchange.journal.identity.Identity`.
        position: how far each stream is in it; what the numbers are is up to whoever makes it.
        created_ns: when it was made, nanoseconds since 1970.
    """

    journal_id: int
    identity_digest: int
    position: tuple[int, ...]
    created_ns: int


class Section(NamedTuple):
    """Where a section is in its file, and the CRC32C of its bytes."""

    offset: int
    length: int
    crc32c: int


def _aligned(offset: int) -> int:
    return (offset + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES


def _bytes_of(data: NDArray[Any] | bytes) -> NDArray[np.uint8]:
    """Any contiguous array or bytes as an array of bytes, without a copy."""
    if isinstance(data, bytes):
        return np.frombuffer(data, np.uint8)
    assert data.flags.c_contiguous, "a copy of it would be no buffer that is written directly"
    return data.reshape(-1).view(np.uint8)


@contextmanager
def write_sections(path: Path, header: SnapshotHeader) -> Iterator["SectionWriter"]:
    """Write a file: the block writes sections, and at its end the file is there, whole and on the disk.

    If the block raises, nothing is left, neither under the file's name nor under the temporary one.

    Raises:
        UserError: the file cannot be written.
    """
    assert len(header.position) <= STREAMS_MAX
    partial = path.with_name(path.name + PARTIAL)
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            writer = SectionWriter(descriptor)
            yield writer
            writer.finish(header)
            os.fsync(descriptor)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


class SectionWriter:
    """Writes sections one after the other; :func:`write_sections` makes it.

    Attributes:
        size_bytes: how long the file is so far.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: Final = descriptor
        self._sections: Final[dict[str, Section]] = {}
        self._name: str | None = None
        self._begin = self._crc = 0
        self.size_bytes = HEADER_BYTES
        os.lseek(descriptor, HEADER_BYTES, os.SEEK_SET)

    def write(self, name: str, *parts: NDArray[Any] | bytes) -> None:
        """Write a section of some parts, end to end."""
        self.begin(name)
        for part in parts:
            self.append(part)

    def begin(self, name: str) -> None:
        """Begin a section, which ends where the next one begins; names are ASCII and not used twice."""
        self._end()
        assert 0 < len(name) <= NAME_BYTES
        assert name.isascii()
        assert name not in self._sections
        self._name, self._begin, self._crc = name, self.size_bytes, 0

    def append(self, data: NDArray[Any] | bytes) -> None:
        """Write the next bytes of the section: any array that is contiguous, or bytes."""
        assert self._name is not None
        block = _bytes_of(data)
        for at in range(0, len(block), CHUNK_BYTES):
            chunk = block[at : at + CHUNK_BYTES]
            self._crc = crc32c_of(chunk.data, self._crc)
            self._put(chunk)

    def finish(self, header: SnapshotHeader) -> None:
        """Write the table and the header; :func:`write_sections` does it."""
        self._end()
        table = b"".join(_ENTRY.pack(name.encode(), *one) for name, one in self._sections.items())
        table_offset = self.size_bytes
        self._put(np.frombuffer(table, np.uint8))
        block = bytearray(HEADER_BYTES)
        _HEADER.pack_into(
            block, 0, MAGIC, FORMAT_VERSION, HEADER_BYTES, header.journal_id, header.identity_digest,
            header.created_ns, table_offset, len(self._sections), len(header.position),
            crc32c_of(table),
        )  # fmt: skip
        Struct(f"<{len(header.position)}q").pack_into(block, _POSITION, *header.position)
        _CHECK.pack_into(block, _HEADER_CHECK, crc32c_of(block[:_HEADER_CHECK]))
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._put(np.frombuffer(block, np.uint8))

    def _end(self) -> None:
        if self._name is None:
            return
        length = self.size_bytes - self._begin
        self._sections[self._name] = Section(self._begin, length, self._crc)
        self._name = None
        self._put(np.zeros(_aligned(self.size_bytes) - self.size_bytes, np.uint8))

    def _put(self, chunk: NDArray[np.uint8]) -> None:
        written = 0
        while written < len(chunk):
            written += os.write(self._descriptor, chunk[written:])
        self.size_bytes += written


class SectionFile:
    """A snapshot that has been verified; use it in a ``with`` statement.

    Attributes:
        path: of the file.
        header: what it is of.
        sections: where each of its sections is.

    Raises:
        BadSnapshot: it cannot be read, is none, or is not as it was written.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        try:
            self._descriptor: Final = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise BadSnapshot(f"{path}: {error.strerror or error}") from error
        try:
            self._size_bytes: Final = os.fstat(self._descriptor).st_size
            self._buffer: Final = np.zeros(CHUNK_BYTES, np.uint8)
            self.header, table_offset, table = self._read_header()
            self.sections: Final = self._read_table(table_offset, table)
            for name, section in self.sections.items():
                self._verify(name, section)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def section(self, name: str) -> Section:
        """Where a section is. Raises BadSnapshot if there is none of that name."""
        if name not in self.sections:
            raise BadSnapshot(f"{self.path}: has no section {name!r}")
        return self.sections[name]

    def records(self, name: str, dtype: Any) -> NDArray[Any]:
        """All records of a section. Raises BadSnapshot if it is not made of them."""
        parts = list(self.chunks(name, dtype, max(1, self.section(name).length)))
        return parts[0] if parts else np.zeros(0, dtype)

    def record(self, name: str, dtype: Any) -> Any:
        """The one record of a section. Raises BadSnapshot if it has another number of them."""
        records = self.records(name, dtype)
        if len(records) != 1:
            raise self._bad(name, f"{len(records)} records, but should be 1")
        return records[0]

    def chunks(self, name: str, dtype: Any, most: int) -> Iterator[NDArray[Any]]:
        """The records of a section, up to ``most`` at a time, each time in fresh memory.

        Raises:
            BadSnapshot: the section is not made of them.
        """
        section, size_bytes = self.section(name), np.dtype(dtype).itemsize
        if section.length % size_bytes:
            raise self._bad(name, f"{section.length} bytes are not records of {size_bytes}")
        count = section.length // size_bytes
        for first in range(0, count, most):
            records = np.empty(min(most, count - first), dtype)
            self._read(name, section.offset + first * size_bytes, _bytes_of(records))
            yield records

    def read_into(self, name: str, offset: int, address: int, size_bytes: int) -> None:
        """Copy bytes of a section to an address, from ``offset`` on.

        Raises:
            BadSnapshot: the section ends before.
        """
        section = self.section(name)
        if not 0 <= offset <= offset + size_bytes <= section.length:
            raise self._bad(name, f"{size_bytes} bytes from {offset} on, but it has {section.length}")
        if size_bytes:
            target = np.frombuffer(view_bytes(address, size_bytes), np.uint8)
            self._read(name, section.offset + offset, target)

    def _read(self, name: str, offset: int, target: NDArray[np.uint8]) -> None:
        """Fill ``target`` with the bytes of the file from ``offset`` on."""
        done = 0
        while done < len(target):
            try:
                got = os.preadv(self._descriptor, [target[done:]], offset + done)
            except OSError as error:
                raise BadSnapshot(f"{self.path}: {name} at byte {offset + done}: {error.strerror}") from error
            if got == 0:
                raise BadSnapshot(f"{self.path}: {name}: the file ends at byte {offset + done}")
            done += got

    def _read_header(self) -> tuple[SnapshotHeader, int, bytes]:
        """The header, where the table is, and its bytes."""
        if self._size_bytes < HEADER_BYTES:
            raise BadSnapshot(f"{self.path}: header: {self._size_bytes} bytes, but it has {HEADER_BYTES}")
        block = np.empty(HEADER_BYTES, np.uint8)
        self._read("header", 0, block)
        (
            magic,
            version,
            header_bytes,
            journal_id,
            digest,
            created_ns,
            table_offset,
            sections,
            streams,
            crc,
        ) = _HEADER.unpack_from(block)
        if magic != MAGIC:
            raise BadSnapshot(
                f"{self.path}: header at byte 0: no snapshot, which begins with {MAGIC.decode()}"
            )
        if version != FORMAT_VERSION:
            raise BadSnapshot(
                f"{self.path}: header at byte 8: format version {version}; this exchange reads {FORMAT_VERSION}"
            )
        found, told = (
            crc32c_of(block[:_HEADER_CHECK].data),
            _CHECK.unpack_from(block, _HEADER_CHECK)[0],
        )
        if found != told or header_bytes != HEADER_BYTES or streams > STREAMS_MAX:
            raise BadSnapshot(f"{self.path}: header at byte 0: {_differs(found, told)}")
        size_bytes = sections * _ENTRY.size
        if table_offset < HEADER_BYTES or table_offset + size_bytes != self._size_bytes:
            raise BadSnapshot(
                f"{self.path}: table at byte {table_offset}: the file should end at byte {table_offset + size_bytes},"
                f" and ends at {self._size_bytes}"
            )
        table = np.empty(size_bytes, np.uint8)
        self._read("table", table_offset, table)
        found = crc32c_of(table.data)
        if found != crc:
            raise BadSnapshot(f"{self.path}: table at byte {table_offset}: {_differs(found, crc)}")
        position = Struct(f"<{streams}q").unpack_from(block, _POSITION)
        return SnapshotHeader(journal_id, digest, position, created_ns), table_offset, table.tobytes()

    def _read_table(self, table_offset: int, table: bytes) -> dict[str, Section]:
        """The sections, which lie end to end from the header to the table."""
        sections: dict[str, Section] = {}
        offset = HEADER_BYTES
        for padded, *numbers in _ENTRY.iter_unpack(table):
            name, section = padded.rstrip(b"\0").decode("ascii", "replace"), Section(*numbers)
            if section.offset != offset or section.length < 0 or not name or name in sections:
                raise BadSnapshot(f"{self.path}: table: section {name!r} cannot be at byte {section.offset}")
            sections[name] = section
            offset = _aligned(section.offset + section.length)
        if offset != table_offset:
            raise BadSnapshot(f"{self.path}: table at byte {table_offset}: the sections end at {offset}")
        return sections

    def _verify(self, name: str, section: Section) -> None:
        """Read all of a section and what is behind it up to the next one."""
        crc, done = 0, 0
        while done < section.length:
            chunk = self._buffer[: min(CHUNK_BYTES, section.length - done)]
            self._read(name, section.offset + done, chunk)
            crc = crc32c_of(chunk.data, crc)
            done += len(chunk)
        if crc != section.crc32c:
            raise self._bad(name, _differs(crc, section.crc32c))
        end = section.offset + section.length
        padding = self._buffer[: _aligned(end) - end]
        self._read(name, end, padding)
        if padding.any():
            raise self._bad(name, f"bytes behind its end at {end} are not zero")

    def _bad(self, name: str, what: str) -> BadSnapshot:
        return BadSnapshot(f"{self.path}: section {name!r} at byte {self.sections[name].offset}: {what}")


def _differs(found: int, told: int) -> str:
    return f"is not as it was written (its CRC32C is {found:08x}, and was {told:08x})"
