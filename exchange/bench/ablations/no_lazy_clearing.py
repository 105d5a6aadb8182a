"""Above the pages, a bit that says "there are orders below" is set when the first order comes and stays when the last
one goes. A search that follows it to an empty node clears it then. So each clearing is paid for by a setting, and a
page that runs empty and fills again costs nothing above it.

Without the idea every bit is right at all times: a page that runs empty takes its bit out of its parent at once, and so
on upwards, and puts it back when the next order comes.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.book.ladder_memory import (
    BITS,
    HEIGHT_MASK,
    LISTED,
    NUMBER,
    PARENT,
    ROW_PAGE,
    ROW_PLACE,
    ROW_SHIFT,
    TAG,
    TREE_HEIGHT,
    LadderBook,
    address_of_handle,
    side_address,
    word,
)
from exchange.book.price_tree import bit, lower_bounds, vacate_price
from exchange.native import inlined, kernel, load_int64, load_uint32, store_int64, store_uint32

IDEA: Final = Idea(
    title="Bits that are cleared when they are met",
    variant="without late clearing of bits",
    replaces={"ladder_matching": ("_close_level",)},
    shown=("exchange/book/ladder_matching.py:_close_level", "exchange/book/price_tree.py:_best_key_from"),
)


@inlined
def _close_level(book: LadderBook, row: int, key: int) -> None:
    """A price has no orders any more; if it was the last of its page, the tree says so."""
    page = address_of_handle(book, load_uint32(row + ROW_PAGE))
    vacate_price(page, key)
    lower_bounds(side_address(book, load_uint32(row + ROW_PLACE) >> ROW_SHIFT), key)
    if load_int64(page + BITS) == 0:
        _take_out_of_parents(book, page)


@kernel
def _take_out_of_parents(book: LadderBook, node: int) -> None:
    """Clear the node's bit in its parent, and so on as far as nodes have run empty."""
    height = load_uint32(node + TAG) & HEIGHT_MASK
    while height < word(book, TREE_HEIGHT) and load_int64(node + BITS) == 0:
        store_uint32(node + LISTED, 0)
        number = load_int64(node + NUMBER)
        node = address_of_handle(book, load_uint32(node + PARENT))
        store_int64(node + BITS, load_int64(node + BITS) & ~bit(number))
        height += 1
