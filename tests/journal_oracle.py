"""A journal's reader as one writes it from the description of the format alone: slices of bytes, and no compiled code.

It reads the files of a stream, given as ``{name: bytes}``, and says what must come of them. Only the checksum is the
exchange's own, which ``tests/unit/test_native_checksum.py`` holds against published values.
"""

import struct
from typing import NamedTuple

from exchange.journal.segment import StreamIdentity
from exchange.native import crc32c_of

UNIT = 64
HEADER = 4096


class OracleFrame(NamedTuple):
    """A good frame."""

    first_sequence: int
    durable_sequence: int
    records: bytes
    epoch: int = 0

    @property
    def count(self) -> int:
        """How many records it has."""
        return len(self.records) // UNIT


class Verdict(NamedTuple):
    """What must come of a stream: its records, and ``clean``, ``torn`` or ``damaged``, with the place."""

    end: str
    records: bytes
    name: str
    offset: int
    next_sequence: int


def frame_at(content: bytes, offset: int, identity: StreamIdentity) -> OracleFrame | None:
    """The frame of the stream that is at this place, if a good one is."""
    if offset + UNIT > len(content):
        return None
    magic, checksum, journal_id, first, durable, count, stream, epoch = struct.unpack_from(
        "<4sIqqqIIq", content, offset
    )
    size = UNIT + count * UNIT
    if magic != b"FRM1" or count == 0 or offset + size > len(content):
        return None
    if crc32c_of(content[offset + 8 : offset + size]) != checksum:
        return None
    if journal_id != identity.journal_id or stream != identity.stream_number:
        return None
    return OracleFrame(first, durable, content[offset + UNIT : offset + size], epoch)


class OracleSegment:
    """A file: what its header says if it is whole, and the bytes in which frames may be."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        header = content[:128]
        self.is_whole = (
            len(content) >= HEADER
            and header[:8] == b"EXJOURNL"
            and struct.unpack_from("<I", header, 8)[0] == crc32c_of(header[16:])
        )
        _, _, _, _, size, _, first = struct.unpack("<7q", header[16:72].ljust(56, b"\0"))
        self.header_sequence = first if self.is_whole else 0
        self.content = content[:size] if self.is_whole else content
        self.content = self.content[: len(self.content) // UNIT * UNIT]
        stem = name.removesuffix(".segment")
        self.named = int(stem) if len(stem) == 20 and stem.isdigit() else None
        self.is_prepared = name == "prepared.segment"
        self.is_unused = (
            self.is_prepared
            and self.header_sequence == 0
            and not any(self.content[HEADER if self.is_whole else 0 :])
        )
        is_named_right = self.is_prepared or self.named == first
        self.first_sequence = first if self.is_whole and is_named_right and first > 0 else None

    def should_begin_with(self) -> int | None:
        """What its name says, or else its header."""
        return self.named if self.named is not None else self.header_sequence if self.is_whole else None


def judge(files: dict[str, bytes], identity: StreamIdentity) -> Verdict:
    """Read a stream from sequence 1 on."""
    ordered = sorted(files, key=lambda name: (name == "prepared.segment", name))
    segments = [OracleSegment(name, files[name]) for name in ordered if name.endswith(".segment")]
    segments = [segment for segment in segments if not segment.is_unused]
    if not segments:
        return Verdict("clean", b"", "", 0, 1)
    begins = [one.should_begin_with() for one in segments]
    # Sequence 1 is in the first segment or in none: no other begins at or before it.
    index = 0
    if begins[index] not in (None, 1):
        return Verdict("damaged", b"", segments[index].name, 0, 1)
    expected, records = 1, b""
    tails: list[tuple[OracleSegment, int]] = []
    while True:
        segment, offset = segments[index], 0
        if segment.first_sequence is not None:
            offset = HEADER
            while (frame := frame_at(segment.content, offset, identity)) and frame.first_sequence == expected:
                records += frame.records
                expected += frame.count
                offset += UNIT + len(frame.records)
        following = segments[index + 1 :]
        tails.append((segment, offset))
        if segment.first_sequence is None or not following or following[0].first_sequence != expected:
            break
        index += 1
    place = (segment.name, offset, expected)
    is_proved = any(
        frame.durable_sequence >= expected
        for one, begin in [*tails, *((one, 0) for one in following)]
        for at in range(max(begin, HEADER), len(one.content), UNIT)
        if one.content[at : at + 4] == b"FRM1" and (frame := frame_at(one.content, at, identity))
    )
    is_clean = segment.first_sequence is not None and not following and not any(segment.content[offset:])
    return Verdict("damaged" if is_proved else "clean" if is_clean else "torn", records, *place)


def proved_durable(files: dict[str, bytes], identity: StreamIdentity) -> int:
    """The highest sequence that any frame which survives anywhere says was synced."""
    return max(
        (
            frame.durable_sequence
            for content in files.values()
            for at in range(HEADER, len(content), UNIT)
            if content[at : at + 4] == b"FRM1" and (frame := frame_at(content, at, identity))
        ),
        default=0,
    )
