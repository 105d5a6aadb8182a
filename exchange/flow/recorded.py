"""What the readers of recordings share: the bytes of a file, one form for all records, the way to commands.

A recording is a market-data feed: it tells what happened to orders, not what was sent. Its records come in
two file formats that say the same things, so each reader (:mod:`~exchange.flow.lobster`,
:mod:`~exchange.flow.itch`) turns its file into one array of :data:`RECORD_DTYPE`, and
:mod:`~exchange.flow.translation` turns that into commands. The same hour in both formats therefore gives the
same commands, byte for byte.

Rules: records are in time order; ``order_id`` is from 1 to 2**63 - 1, quantities and prices are at least 1
(the readers refuse anything else, naming the byte where it stands). A plain file is mapped, not read, so that
a day of many gigabytes costs only the memory of the records that are wanted; a gzip file is unpacked into
memory.
"""

import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.flow import Flow
from exchange.flow.config import RecordedConfig

GZIP_MAGIC: Final = b"\x1f\x8b"
GZIP_WINDOW_BITS: Final = 31  # zlib: a window of 2**15 bytes, with gzip's header and trailer
UNPACKED_BYTES_MAX: Final = 1 << 33
"""8 GiB unpacked: more would fill the memory of a small machine, while a plain file of any size is mapped."""


class RecordKind(IntEnum):
    """What a record says about an order on display."""

    ADD = 1
    CANCEL = 2
    DELETE = 3
    EXECUTE = 4
    REPLACE = 5


RECORD_DTYPE: Final = np.dtype(
    [
        ("timestamp_ns", "<i8"),
        ("order_id", "<i8"),
        ("new_order_id", "<i8"),
        ("price_ticks", "<i8"),
        ("quantity_lots", "<u4"),
        ("symbol_id", "<u2"),
        ("kind", "u1"),
        ("side", "u1"),
    ]
)
"""One record; ``timestamp_ns`` counts from midnight. Fields that a kind does not need are zero:

ADD: order, side, price, quantity. CANCEL, EXECUTE: order, quantity. DELETE: order. REPLACE: order, new order,
price, quantity.
"""


class Source(NamedTuple):
    """The unpacked bytes of a file, and what to call it in an error."""

    name: str
    data: NDArray[np.uint8]
    is_packed: bool = False

    def error(self, offset: int, text: str) -> UserError:
        """An error that says where in the (unpacked) file the trouble begins."""
        where = f"byte {offset} of the unpacked data" if self.is_packed else f"byte {offset}"
        return UserError(f"{self.name}: {where}: {text}")


@dataclass(frozen=True, eq=False)
class Recording:
    """What a reader found in a file.

    Attributes:
        format: the file format's name.
        records: shape (n,), ``RECORD_DTYPE``, in time order.
        symbols: names; ``symbol_id`` is the index.
        notes: counts by kind, of what was read and of what was left out.
    """

    format: str
    records: NDArray[Any]
    symbols: tuple[str, ...]
    notes: dict[str, int]


def map_file(path: str) -> mmap.mmap:
    """A file's bytes, mapped and not read.

    Raises:
        UserError: it cannot be read, or is empty.
    """
    try:
        with Path(path).open("rb") as file:
            if not file.read(1):
                raise UserError(f"{path}: byte 0: the file is empty")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def is_gzip(data: mmap.mmap) -> bool:
    """Whether a file is packed, by its first two bytes."""
    return data[: len(GZIP_MAGIC)] == GZIP_MAGIC


def open_source(path: str, *, allow_truncated: bool = False) -> Source:
    """Map a plain file, or unpack a gzip file (by its first two bytes, whatever its name).

    Raises:
        UserError: it cannot be read, is empty, its gzip data is corrupt or (unless ``allow_truncated``) cut.
    """
    packed = map_file(path)
    if not is_gzip(packed):
        return Source(path, np.frombuffer(packed, np.uint8))
    unpacked = unpack_gzip(path, packed, allow_truncated=allow_truncated)
    if not unpacked:
        raise UserError(f"{path}: byte 0 of the unpacked data: the file is empty")
    data = np.frombuffer(unpacked, np.uint8)
    data.flags.writeable = False  # as a mapped file is, so that each kernel is compiled once
    return Source(path, data, is_packed=True)


def unpack_gzip(name: str, packed: bytes | mmap.mmap, *, allow_truncated: bool) -> bytearray:
    """All members of a gzip file, one after the other.

    Raises:
        UserError: corrupt, cut, followed by something else, or larger than ``UNPACKED_BYTES_MAX``.
    """
    unpacked = bytearray()
    for piece in gzip_pieces(name, packed, allow_truncated=allow_truncated):
        unpacked += piece
        if len(unpacked) > UNPACKED_BYTES_MAX:
            limit = f"more than {UNPACKED_BYTES_MAX >> 30} GiB unpacked"
            raise UserError(f"{name}: {limit}: run gunzip first, a plain file of any size is read in place")
    return unpacked


def gzip_pieces(name: str, packed: bytes | mmap.mmap, *, allow_truncated: bool) -> Iterator[bytes]:
    """The unpacked data of all members of a gzip file, a piece at a time.

    Raises:
        UserError: corrupt, cut or followed by something else; the pieces before that have been given out.
    """
    step = 1 << 20
    unpacked_bytes = 0
    position = 0
    while position < len(packed) and packed[position : position + 2] == GZIP_MAGIC:
        member = zlib.decompressobj(GZIP_WINDOW_BITS)
        while not member.eof and position < len(packed):
            block = packed[position : position + step]
            try:
                piece = member.decompress(block)
            except zlib.error:
                where = f"byte {unpacked_bytes} of the unpacked data"
                raise UserError(f"{name}: {where}: the gzip data is corrupt from here on") from None
            unpacked_bytes += len(piece)
            yield piece
            position += len(block) - len(member.unused_data)
        if not member.eof and not allow_truncated:
            raise UserError(
                f"{name}: byte {unpacked_bytes} of the unpacked data: the gzip file is cut off here"
            )
    if packed[position:].strip(b"\0"):
        raise UserError(f"{name}: byte {position}: something that is not gzip follows the gzip data")


def read_recording(source: Source, config: RecordedConfig) -> Recording:
    """Find out which format the bytes are in, and read them.

    Raises:
        UserError: neither format; cut or corrupt.
    """
    first = int(source.data[0])
    if chr(first).isdigit():
        from exchange.flow.lobster import read_lobster

        return read_lobster(source, symbol=config.symbol, allow_truncated=config.allow_truncated)
    if first == 0:  # the high byte of a message's length: no ITCH message has 256 bytes
        from exchange.flow.itch import read_itch

        return read_itch(source, symbol=config.symbol, allow_truncated=config.allow_truncated)
    beginning = bytes(source.data[:8])
    raise source.error(
        0, f"neither a LOBSTER message file nor an ITCH 5.0 file: it begins with {beginning!r}"
    )


def recorded_flow(config: RecordedConfig) -> Flow:
    """The commands of a recording.

    Raises:
        UserError: see :func:`open_source` and the readers.
    """
    source = open_source(config.path, allow_truncated=config.allow_truncated)
    return flow_of(read_recording(source, config), config)


def flow_of(recording: Recording, config: RecordedConfig) -> Flow:
    """Turn records into commands, by the reading that ``config`` chooses."""
    from exchange.flow.translation import translate

    commands, expected_maker, counts = translate(recording.records, config.reading)
    meaning = {
        "flow": "each visible execution sent as an immediate-or-cancel order",
        "feed": "each visible execution taken from the order that the record names",
    }[config.reading]
    name = Path(config.path).name
    return Flow(
        commands=commands,
        name=name,
        description=f"{recording.format} recording {name}, {len(recording.records):,} records, {meaning}",
        symbols=recording.symbols,
        notes=recording.notes | counts,
        expected_maker=expected_maker,
    )
