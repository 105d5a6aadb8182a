"""Feeds in files: the recording of a day, as NASDAQ publishes it, read into a book; and days of our own.

A file has a block for each message, two bytes of length and the message, and a block of length 0 at its end
(NASDAQ's BinaryFILE). A plain file is mapped and read in place, a gzip file (by its first bytes, whatever its name)
a piece at a time, so that a day of many gigabytes needs no more memory than its books do.

:func:`make_day` makes the file of a day from an order flow, by the exchange's own book and publisher, so that
whoever wants to try or to measure a reader of feeds needs no recording.

Rules: whatever is wrong with a file is a :class:`~exchange.errors.UserError` that names the byte.
"""

import mmap
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from exchange.book import build_book
from exchange.book.config import LadderBookConfig
from exchange.book.protocol import apply_commands, events_bound
from exchange.errors import UserError
from exchange.flow import Flow
from exchange.flow.recorded import gzip_pieces, is_gzip, map_file
from exchange.market_data.datagram_store import SLOT_BYTES, DatagramStore, copy_blocks
from exchange.market_data.feed_book import BadBlock, Book
from exchange.market_data.publisher import Publisher
from exchange.messages import EVENT_DTYPE, RECORD_BYTES
from exchange.native import address_of
from exchange.transport.protocol import send
from exchange.wire.layout import LENGTH_BYTES

PIECE_BYTES: Final = 1 << 26
"""How much of a plain file is read between two looks at whether someone has pressed Ctrl-C: some tenths of a second."""

END_MARK: Final = bytes(LENGTH_BYTES)

DAY_BATCH_COMMANDS: Final = 1024


def read_day(path: str, book: Book, *, allow_truncated: bool = False) -> int:
    """Apply the messages of a file to a book.

    Args:
        path: an ITCH 5.0 file, plain or gzip.
        book: what to apply them to.
        allow_truncated: ignore a last message that is cut.

    Returns:
        How many bytes of messages there were.

    Raises:
        UserError: it cannot be read, is cut, or holds something else than ITCH 5.0; what came before has been applied.
    """
    packed = map_file(path)
    if is_gzip(packed):
        return read_pieces(
            path, gzip_pieces(path, packed, allow_truncated=allow_truncated), book, allow_truncated
        )
    return read_pieces(path, _pieces_of(packed), book, allow_truncated)


def read_pieces(
    name: str, pieces: Iterable[bytes | memoryview], book: Book, allow_truncated: bool = False
) -> int:
    """Apply the messages of a file that comes in pieces of any size; the rest as :func:`read_day`."""
    used, left = 0, b""
    has_ended = False
    for piece in pieces:
        data = left + piece if left else piece
        if has_ended and len(data):
            raise UserError(
                f"{name}: byte {used}: {len(data)} bytes follow the end mark (a block of length 0)"
            )
        try:
            applied = book.apply_blocks(data)
        except BadBlock as error:
            raise UserError(f"{name}: byte {used + error.offset_bytes}: {error}") from None
        used += applied
        left = bytes(data[applied:])
        if left[:LENGTH_BYTES] == END_MARK:
            has_ended, left = True, left[LENGTH_BYTES:]
            used += LENGTH_BYTES
    if has_ended and left:
        raise UserError(f"{name}: byte {used}: {len(left)} bytes follow the end mark (a block of length 0)")
    if left and not allow_truncated:
        raise UserError(
            f"{name}: byte {used}: the file ends within a message ({len(left)} bytes of it are there)"
        )
    return used


def _pieces_of(data: mmap.mmap) -> Iterator[memoryview]:
    view = memoryview(data)
    for begin in range(0, len(view), PIECE_BYTES):
        yield view[begin : begin + PIECE_BYTES]


def make_day(flow: Flow, *, capacity_orders: int = 1 << 18, session: str = "DAY") -> bytes:
    """Play a flow through the exchange's book and publisher, and write what its feed would have been.

    Args:
        flow: commands and symbols; prices are taken as ticks of 1/10,000 dollar.
        capacity_orders: how many orders may rest at once.
        session: any name.

    Returns:
        The bytes of an ITCH 5.0 file, with directory, stages of the day and end mark.
    """
    symbols = [name if len(name) <= 8 else f"SYM{index}" for index, name in enumerate(flow.symbols)]
    commands = flow.commands.copy()
    commands["sequence"] = np.arange(1, len(commands) + 1)
    book = build_book(LadderBookConfig(capacity_orders=capacity_orders), len(symbols))
    events = np.zeros(events_bound(capacity_orders, DAY_BATCH_COMMANDS), EVENT_DTYPE)
    store = DatagramStore(session, capacity_messages=1 << 20)
    publisher = Publisher(symbols, store, capacity_orders=capacity_orders)
    day = bytearray()
    publisher.open_day()
    first = _drain(store, 1, day)
    for begin in range(0, len(commands), DAY_BATCH_COMMANDS):
        count = min(DAY_BATCH_COMMANDS, len(commands) - begin)
        address = address_of(commands) + begin * RECORD_BYTES
        written = apply_commands(book.state, address, count, address_of(events))
        send(publisher.state, address_of(events), written)
        first = _drain(store, first, day)
    publisher.close_day()
    _drain(store, first, day)
    return bytes(day + END_MARK)


def _drain(store: DatagramStore, first: int, day: bytearray) -> int:
    """Append the blocks of the messages from number ``first`` on; the number that comes next."""
    end = store.next_sequence
    out = np.zeros((end - first) * SLOT_BYTES, np.uint8)
    day += out[: copy_blocks(store.state, first, address_of(out))].tobytes()
    return end
