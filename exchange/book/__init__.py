"""The book layer: who waits at which price, and who trades with whom.

========== ============================================== ==================================================
variant    what it is                                     what it trades
========== ============================================== ==================================================
naive      dict of prices, deque of orders, plain Python  reads like the rules; the oracle of all others
ladder     flat memory, 32-bit links, bitmaps; compiled   a hundred times faster and more; a data structure
========== ============================================== ==================================================

The rules, which all variants follow to the byte, stand in :mod:`exchange.book.protocol`; the settings in
:mod:`exchange.book.config`.
"""

from typing import TYPE_CHECKING, assert_never

from exchange.book.config import BookConfig, LadderBookConfig, NaiveBookConfig

if TYPE_CHECKING:
    from exchange.book.ladder import Ladder
    from exchange.book.naive import NaiveBook


def build_book(config: BookConfig, symbol_count: int) -> "NaiveBook | Ladder":
    """The owner of a book of the chosen variant; its ``state`` is what the layer's operations take."""
    match config:
        case NaiveBookConfig():
            from exchange.book.naive import NaiveBook

            return NaiveBook(
                symbol_count, config.capacity_orders, config.price_min_ticks, config.price_max_ticks
            )
        case LadderBookConfig():
            from exchange.book.ladder import Ladder

            return Ladder(
                symbol_count,
                config.capacity_orders,
                config.price_min_ticks,
                config.price_max_ticks,
                config.huge_pages,
            )
        case _:
            assert_never(config)
