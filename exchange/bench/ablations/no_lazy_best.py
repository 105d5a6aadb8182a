"""When the last order at the best price goes, nobody looks for the next best price. A bound takes its place: no order
of the side is better. Nearly every new order can be seen not to reach even the bound; only one that does makes the
book look.

Without the idea the next best price is looked for at once, each time the best level runs empty, so that it is always
known.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.book.ladder_memory import (
    BEST_BOUND,
    ROW_PAGE,
    ROW_PLACE,
    ROW_SHIFT,
    LadderBook,
    address_of_handle,
    side_address,
)
from exchange.book.price_tree import best_key, vacate_price
from exchange.native import inlined, load_int64, load_uint32

IDEA: Final = Idea(
    title="The best price, when somebody asks",
    variant="without waiting for the question",
    replaces={"ladder_matching": ("_close_level",)},
    shown=("exchange/book/ladder_matching.py:_close_level", "exchange/book/price_tree.py:best_key"),
)


@inlined
def _close_level(book: LadderBook, row: int, key: int) -> None:
    """A price has no orders any more; if it was the best, find the next."""
    vacate_price(address_of_handle(book, load_uint32(row + ROW_PAGE)), key)
    side_id = load_uint32(row + ROW_PLACE) >> ROW_SHIFT
    if key == load_int64(side_address(book, side_id) + BEST_BOUND):
        best_key(book, side_id)
