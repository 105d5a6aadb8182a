"""Snapshots for those who join late: made from a book that itself was built from the feed.

The exchange's order path does not make snapshots. A snapshot server is a subscriber like any other
(:mod:`exchange.market_data.subscriber`), whose book also keeps the messages about the day and the symbols; what it
has built up to message n, it tells as a GLIMPSE spin that goes on with message n + 1. It may run in another thread,
process or machine, and as slowly as it likes.

As a server sends it to many, a spin is one piece of bytes, framed for SoupBinTCP (:func:`encode_spin`): numpy makes the
Add Orders of a symbol all at once.

Rules: the book was made with ``keep_messages`` large enough for the day's messages that are not about orders.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.market_data.feed_book import FeedBook
from exchange.messages import SELL
from exchange.wire.fields import unsigned48_bytes
from exchange.wire.glimpse import EndOfSnapshot, Snapshot
from exchange.wire.itch50 import AddOrder
from exchange.wire.layout import LENGTH_BYTES
from exchange.wire.soupbintcp import HEADER_BYTES, SequencedData

_ADD_BYTES: Final = AddOrder.layout.size_bytes
_PACKET_DTYPE: Final = np.dtype(
    [("packet_length", ">u2"), ("packet_type", "S1"), ("message", AddOrder.layout.dtype)]
)
assert _PACKET_DTYPE.itemsize == HEADER_BYTES + _ADD_BYTES


def take_snapshot(book: FeedBook, next_sequence: int) -> Snapshot:
    """Tell what a book holds.

    Args:
        book: what was built from the messages below ``next_sequence``.
        next_sequence: the number of the first message that the book has not seen.

    Raises:
        UserError: the book has not kept all messages that a snapshot needs.
    """
    messages = book.kept_messages()
    for symbol_id in range(len(book.symbols)):
        orders = book.orders(symbol_id)
        records = np.zeros(len(orders), AddOrder.layout.dtype)
        _fill(records, book, symbol_id, orders)
        messages.extend(record.tobytes() for record in records)
    return Snapshot(tuple(messages), next_sequence)


def encode_spin(book: FeedBook, next_sequence: int) -> bytes:
    """The same as a server sends it: each message, the end included, in a Sequenced Data packet of SoupBinTCP.

    Raises:
        UserError: as :func:`take_snapshot`.
    """
    parts = [SequencedData(message).encode() for message in book.kept_messages()]
    for symbol_id in range(len(book.symbols)):
        orders = book.orders(symbol_id)
        packets = np.zeros(len(orders), _PACKET_DTYPE)
        packets["packet_length"] = _PACKET_DTYPE.itemsize - LENGTH_BYTES
        packets["packet_type"] = SequencedData.layout.message_type.encode("ascii")
        _fill(packets["message"], book, symbol_id, orders)
        parts.append(packets.tobytes())
    parts.append(SequencedData(EndOfSnapshot(next_sequence).encode()).encode())
    return b"".join(parts)


def _fill(records: NDArray[Any], book: FeedBook, symbol_id: int, orders: NDArray[Any]) -> None:
    locate, name = book.locates()[symbol_id], book.symbols[symbol_id]
    fill_add_orders(records, orders, orders["order_id"], locate, name, book.timestamp_ns)


def fill_add_orders(
    records: NDArray[Any],
    orders: NDArray[Any],
    references: NDArray[np.int64],
    locate: int,
    name: str,
    timestamp_ns: int,
) -> None:
    """Write an Add Order for each of a symbol's orders, in their order, all with the time of the snapshot.

    Args:
        records: shape (n,), of the message's dtype.
        orders: shape (n,), ``COMMAND_DTYPE``; of them side, price and quantity are told.
        references: shape (n,), the number of each order in the feed.
        locate: the symbol's stock locate.
        name: and its name.
        timestamp_ns: from midnight.
    """
    layout = AddOrder.layout
    records["message_type"] = layout.message_type.encode("ascii")
    records["stock_locate"] = locate
    records["timestamp"] = unsigned48_bytes(np.array(timestamp_ns, np.int64))
    records["order_reference_number"] = references.view(np.uint64)
    records["buy_sell_indicator"] = np.where(orders["side"] == SELL, b"S", b"B")
    records["shares"] = orders["quantity_lots"]
    records["stock"] = name.encode("ascii").ljust(layout.dtype["stock"].itemsize)
    records["price"] = orders["price_ticks"]
