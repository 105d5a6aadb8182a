"""A feed's book that remembers its trades; see :mod:`exchange.page.tape_kernel` for how.

:class:`TapeBook` is a :class:`~exchange.market_data.feed_book.FeedBook` and takes its place wherever a book is made of
a feed. A book that begins with a snapshot has an empty tape: a snapshot tells of orders and not of trades.

Rules: those of a feed book.
"""

from typing import Final, NamedTuple

import numpy as np

from exchange.market_data.feed_book import BadBlock, FeedBook, describe_trouble
from exchange.market_data.feed_kernel import CUT, END_MARK, WHOLE
from exchange.native import Arena, HugePages, load_int64, view_bytes
from exchange.page.tape_kernel import (
    HEAD_BYTES,
    TAPE_BYTES,
    TRADE_BYTES,
    TRADE_COUNT,
    TRADE_WORDS,
    TRADED_LOTS,
    TRADES_KEPT,
    Tape,
    apply_blocks_to_tape,
)
from exchange.wire.layout import LENGTH_BYTES


class Trade(NamedTuple):
    """A trade. ``side`` is that of the order that came in; ``number`` is the feed's match number."""

    timestamp_ns: int
    price_ticks: int
    quantity_lots: int
    side: int
    number: int


class TapeBook(FeedBook):
    """A feed book with a tape for each symbol.

    Args:
        capacity_orders: how many orders may rest at once, over all symbols.
        capacity_symbols: how many symbols there may be.
        huge_pages: whether to ask for huge pages.
    """

    def __init__(
        self, *, capacity_orders: int, capacity_symbols: int, huge_pages: HugePages = "advise"
    ) -> None:
        super().__init__(
            capacity_orders=capacity_orders, capacity_symbols=capacity_symbols, huge_pages=huge_pages
        )
        self._tape_arena: Final = Arena.private(TAPE_BYTES * capacity_symbols + 4096)
        self._tape: Final = Tape(self._tape_arena.allocate(TAPE_BYTES * capacity_symbols))

    def apply_blocks_at(self, address: int, size_bytes: int) -> int:
        """Apply the messages of blocks that lie at an address; as :class:`FeedBook`, with the trades written down."""
        stopped, why = apply_blocks_to_tape(self.state, self._tape, address, address + size_bytes)
        used = int(stopped) - address
        if why in (WHOLE, CUT, END_MARK):
            return used
        start = view_bytes(address + used, min(size_bytes - used, LENGTH_BYTES + 1))
        raise BadBlock(describe_trouble(bytes(start), int(why)), used)

    def trade_count(self, symbol_id: int) -> int:
        """How many trades of a symbol there were."""
        return int(load_int64(self._head(symbol_id) + TRADE_COUNT))

    def traded_lots(self, symbol_id: int) -> int:
        """How many shares were traded in them."""
        return int(load_int64(self._head(symbol_id) + TRADED_LOTS))

    def trades(self, symbol_id: int, newest: int = TRADES_KEPT) -> list[Trade]:
        """The last trades of a symbol, the newest first."""
        count = self.trade_count(symbol_id)
        kept = view_bytes(self._head(symbol_id) + HEAD_BYTES, TRADES_KEPT * TRADE_BYTES)
        rows = np.frombuffer(kept, np.int64).reshape(TRADES_KEPT, TRADE_WORDS)
        places = [number % TRADES_KEPT for number in range(count - 1, count - 1 - min(count, newest), -1)]
        width = len(Trade._fields)
        return [Trade(*row) for row in rows[places, :width].tolist()]

    def _head(self, symbol_id: int) -> int:
        self._check_symbol(symbol_id)
        return self._tape.tapes + TAPE_BYTES * symbol_id
