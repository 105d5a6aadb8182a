"""Snapshots for those who join late: made from a book that itself was built from the feed.

The exchange's order path does not make snapshots. A snapshot server is a subscriber like any other
(:mod:`exchange.market_data.subscriber`), whose book also keeps the messages about the day and the symbols; what it
has built up to message n, it tells as a GLIMPSE spin that goes on with message n + 1. It may run in another thread,
process or machine, and as slowly as it likes.

Rules: the book was made with ``keep_messages`` large enough for the day's messages that are not about orders.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exchange.market_data.feed_book import FeedBook
from exchange.messages import SELL
from exchange.wire.fields import unsigned48_bytes
from exchange.wire.glimpse import Snapshot
from exchange.wire.itch50 import AddOrder


def take_snapshot(book: FeedBook, next_sequence: int) -> Snapshot:
    """Tell what a book holds.

    Args:
        book: what was built from the messages below ``next_sequence``.
        next_sequence: the number of the first message that the book has not seen.

    Raises:
        UserError: the book has not kept all messages that a snapshot needs.
    """
    messages = book.kept_messages()
    for symbol_id, (name, locate) in enumerate(zip(book.symbols, book.locates(), strict=True)):
        messages.extend(_add_messages(book.orders(symbol_id), name, locate, book.timestamp_ns))
    return Snapshot(tuple(messages), next_sequence)


def _add_messages(orders: NDArray[Any], name: str, locate: int, timestamp_ns: int) -> Iterator[bytes]:
    """An Add Order for each order, in the order given, all with the time of the snapshot."""
    layout = AddOrder.layout
    records = np.zeros(len(orders), layout.dtype)
    records["message_type"] = layout.message_type.encode("ascii")
    records["stock_locate"] = locate
    records["timestamp"] = unsigned48_bytes(np.array(timestamp_ns, np.int64))
    records["order_reference_number"] = orders["order_id"].view(np.uint64)
    records["buy_sell_indicator"] = np.where(orders["side"] == SELL, b"S", b"B")
    records["shares"] = orders["quantity_lots"]
    records["stock"] = name.encode("ascii").ljust(layout.dtype["stock"].itemsize)
    records["price"] = orders["price_ticks"]
    return (record.tobytes() for record in records)
