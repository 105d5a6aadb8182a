"""The bytes of a journal, in one place: segments and frames.

::

    DIR/identity.json                                    what the journal belongs to
    DIR/lock                                             held by the exchange that writes
    DIR/shard-0/00000000000000000001.segment             named by its first sequence
    DIR/shard-0/00000000000000913204.segment
    DIR/shard-0/prepared.segment                         the next one, until it has a first sequence
    DIR/merge/...

    segment   +0     header, 4096 bytes
              +4096  frame, frame, frame ...             end to end, each on a multiple of 64
                     zeros up to segment_bytes

    frame     +0     header, 64 bytes
              +64    count records of 64 bytes

A segment has its full size from the first moment, with zeros written to all of it: so a later write changes no length
and allocates no block, and making it durable is a write of data and nothing else. A frame is what one append wrote. It
is good if its checksum, its journal, its stream and its sequence are right; zeros are no frame.

Numbers are little-endian, at multiples of their size. Reserved bytes are zero. A change of this page is a new
:data:`FORMAT_VERSION`."""

from typing import Final

import numpy as np

from exchange.messages import RECORD_BYTES

FORMAT_VERSION: Final = 1

SEGMENT_HEADER_BYTES: Final = 4096
"""A page, so that frames can be mapped and synced apart from the header. The first 128 bytes mean something."""

SEGMENT_MAGIC: Final = int.from_bytes(b"EXJOURNL", "little")

SEGMENT_HEADER_DTYPE: Final = np.dtype(
    {
        "names": [
            "magic", "checksum", "format_version", "journal_id", "identity_digest", "stream_number", "segment_bytes",
            "created_ns", "first_sequence",
        ],
        "formats": ["<i8", "<u4", "<i8", "<i8", "<i8", "<i8", "<i8", "<i8", "<i8"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56, 64],
        "itemsize": 128,
    }
)  # fmt: skip
"""The header of a segment.

``checksum``: CRC32C of bytes 16 to 127. ``identity_digest``: of the identity (:mod:`exchange.journal.identity`).
``created_ns``: nanoseconds since 1970. ``first_sequence`` is 0 as long as the segment is only prepared.
"""

SEGMENT_CHECKSUM: Final = 8
SEGMENT_CHECKED: Final = 16
"""From here on the header is covered by its checksum."""
SEGMENT_FIRST_SEQUENCE: Final = 64

FRAME_HEADER_BYTES: Final = 64
FRAME_MAGIC: Final = int.from_bytes(b"FRM1", "little")

FRAME_HEADER_DTYPE: Final = np.dtype(
    {
        "names": [
            "magic", "checksum", "journal_id", "first_sequence", "durable_sequence", "record_count", "stream_number",
            "epoch",
        ],
        "formats": ["<u4", "<u4", "<i8", "<i8", "<i8", "<u4", "<u4", "<i8"],
        "offsets": [0, 4, 8, 16, 24, 32, 36, 40],
        "itemsize": FRAME_HEADER_BYTES,
    }
)  # fmt: skip
"""The header of a frame.

``checksum``: CRC32C of the frame from byte 8 to its last record. ``durable_sequence``: the highest sequence of this
stream that was known to be synced when the frame was written. ``epoch``: which of a pair of exchanges has sequenced
it, counted over all changes from one to the other; 0 if there is only one.
"""

FRAME_CHECKSUM: Final = 4
FRAME_CHECKED: Final = 8
FRAME_JOURNAL_ID: Final = 8
FRAME_FIRST_SEQUENCE: Final = 16
FRAME_DURABLE_SEQUENCE: Final = 24
FRAME_RECORD_COUNT: Final = 32
FRAME_STREAM_NUMBER: Final = 36
FRAME_EPOCH: Final = 40
FRAME_RESERVED: Final = 48

assert FRAME_HEADER_BYTES == RECORD_BYTES, "a frame of n records is n + 1 units"
assert SEGMENT_HEADER_BYTES % RECORD_BYTES == 0

MERGE_STREAM: Final = "merge"
MERGE_STREAM_NUMBER: Final = 0xFFFF
"""More than any shard."""

PREPARED_NAME: Final = "prepared.segment"
SEGMENT_SUFFIX: Final = ".segment"
SEQUENCE_DIGITS: Final = 20


def frame_bytes(record_count: int) -> int:
    """How many bytes a frame of so many records takes."""
    return FRAME_HEADER_BYTES + record_count * RECORD_BYTES


def segment_name(first_sequence: int) -> str:
    """The name of a segment's file."""
    return f"{first_sequence:0{SEQUENCE_DIGITS}d}{SEGMENT_SUFFIX}"


def first_sequence_of(name: str) -> int | None:
    """What :func:`segment_name` made the name of; None for any other name."""
    digits = name.removesuffix(SEGMENT_SUFFIX)
    is_one = len(digits) == SEQUENCE_DIGITS and digits.isascii() and digits.isdigit()
    return int(digits) if is_one and name.endswith(SEGMENT_SUFFIX) else None


def shard_stream(shard: int) -> str:
    """The name of a shard's stream, which is also its folder's."""
    return f"shard-{shard}"


def stream_number(name: str) -> int:
    """The number by which headers name a stream.

    Raises:
        ValueError: it is no name of a stream.
    """
    if name == MERGE_STREAM:
        return MERGE_STREAM_NUMBER
    prefix, _, digits = name.partition("-")
    if prefix != "shard" or not digits.isascii() or not digits.isdigit() or shard_stream(int(digits)) != name:
        raise ValueError(f"no stream is called {name!r}")
    return int(digits)
