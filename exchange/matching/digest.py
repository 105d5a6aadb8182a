"""One number for the state of all books.

Two exchanges that have applied the same commands must hold the same orders in the same priority, whatever
their books are made of and however the symbols are spread over shards. The digest is a hash over the live
orders, symbol by symbol, in priority order: 64-bit BLAKE2b (RFC 7693) over the records of ``export_orders``.
Order matters: two orders at one price that changed places give another digest. What is not state (times,
sequences, counters) is not in it.

A market-data feed says of an order where it stands, and never whose it is; which number it has is the feed's own
business. The *public* digest leaves both out, so that the books of an exchange can be held against those that
somebody built from its feed."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from exchange.book.protocol import export_orders, live_order_count
from exchange.messages import COMMAND_DTYPE, RECORD_BYTES
from exchange.native import Arena, view_bytes


def state_digest(books: Sequence[Any], shard_of_symbol: Sequence[int], *, public: bool = False) -> str:
    """Hexadecimal digest of the live orders of all symbols.

    Args:
        books: the state of each shard's book. No shard may be running.
        shard_of_symbol: for each symbol the index into ``books``.
        public: leave out whose the orders are and which ids they have.
    """
    most = max(live_order_count(book) for book in books)
    arena = Arena.private((most + 1) * RECORD_BYTES)
    out = arena.allocate((most + 1) * RECORD_BYTES)
    hasher = hashlib.blake2b(digest_size=8)
    for symbol_id, shard in enumerate(shard_of_symbol):
        count = export_orders(books[shard], symbol_id, out)
        if public:
            orders = np.frombuffer(view_bytes(out, count * RECORD_BYTES), COMMAND_DTYPE)
            orders["session_id"] = orders["order_id"] = 0
        hasher.update(symbol_id.to_bytes(2, "little") + count.to_bytes(8, "little"))
        hasher.update(view_bytes(out, count * RECORD_BYTES))
    return hasher.hexdigest()
