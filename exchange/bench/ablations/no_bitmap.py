"""A page has a bit for each of its 4,096 prices, and above it a bit for each row of 64: the best price of a page is two
counts of leading zeros away, however far from the last one it is.

Without the idea the book looks: from the price that was the best, one price after the other is asked whether it has
orders, until one says yes. Rows that were never made are stepped over, 64 prices at a time. Instead of the bits, a page
and each of its rows count their prices that have orders. From page to page the search still goes by the tree, for
nobody would walk 68 billion prices.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.book.ladder_memory import (
    BEST_BOUND,
    BITS,
    EMPTY,
    HEIGHT_BITS,
    HEIGHT_MASK,
    LISTED,
    NEXT,
    NOTHING,
    NUMBER,
    PAGE_SHIFT,
    PARENT,
    ROW_SHIFT,
    SECOND_BOUND,
    SLOT_MASK,
    TAG,
    TREE_HEIGHT,
    LadderBook,
    address_of_handle,
    address_of_link,
    side_address,
    word,
)
from exchange.book.price_tree import (
    _best_key_elsewhere,
    _bits_below,
    _list_in_parents,
    bit,
    find_node,
    find_page,
    highest,
    level_of_key,
    row_bits_address,
    row_link_address,
    tag_of,
)
from exchange.native import (
    inlined,
    kernel,
    likely,
    load_int64,
    load_uint32,
    store_int64,
    store_uint32,
    unlikely,
)

IDEA: Final = Idea(
    title="Bitmaps for the best price",
    variant="without the bitmaps",
    replaces={"price_tree": ("occupy_price", "vacate_price", "best_key", "next_best_key", "_best_key_from")},
    shown=(
        "exchange/book/price_tree.py:occupy_price",
        "exchange/book/price_tree.py:vacate_price",
        "exchange/book/price_tree.py:_best_key_of_page",
        "exchange/book/price_tree.py:best_key",
        "exchange/book/price_tree.py:next_best_key",
    ),
)

PLACE_MASK: Final = (1 << PAGE_SHIFT) - 1


@inlined
def occupy_price(book: LadderBook, page: int, key: int) -> None:
    """A price will have orders, perhaps it has some already."""
    level_link = level_of_key(page, key)
    if load_uint32(address_of_link(book, level_link) + NEXT) == level_link:
        prices = row_bits_address(page, (key >> ROW_SHIFT) & SLOT_MASK)
        store_int64(prices, load_int64(prices) + 1)
        store_int64(page + BITS, load_int64(page + BITS) + 1)
    if unlikely(load_uint32(page + LISTED) == 0):
        _list_in_parents(book, page)


@inlined
def vacate_price(page: int, key: int) -> None:
    """A price has no orders any more."""
    prices = row_bits_address(page, (key >> ROW_SHIFT) & SLOT_MASK)
    store_int64(prices, load_int64(prices) - 1)
    store_int64(page + BITS, load_int64(page + BITS) - 1)


@kernel
def _walk_down(book: LadderBook, page: int, place: int) -> int:
    """The best key of a page that has orders and is not above its price number ``place``, or ``EMPTY``."""
    while place >= 0:
        if load_uint32(row_link_address(page, place)) == NOTHING:
            place = (place & ~SLOT_MASK) - 1
            continue
        level_link = level_of_key(page, place)
        if load_uint32(address_of_link(book, level_link) + NEXT) != level_link:
            return (load_int64(page + NUMBER) << PAGE_SHIFT) + place
        place -= 1
    return EMPTY


@inlined
def best_key(book: LadderBook, side_id: int) -> int:
    """The best key of a side, or ``EMPTY``; the side's bound is exact from now on."""
    side = side_address(book, side_id)
    bound = load_int64(side + BEST_BOUND)
    if bound == EMPTY:
        return EMPTY
    page = find_page(book, side_id, bound)
    best = _walk_down(book, page, bound & PLACE_MASK) if likely(page != NOTHING) else EMPTY
    if unlikely(best == EMPTY):
        best = _best_key_elsewhere(book, side_id, page)
    store_int64(side + BEST_BOUND, best)
    store_int64(side + SECOND_BOUND, min(load_int64(side + SECOND_BOUND), best))
    return best


@kernel
def next_best_key(book: LadderBook, side_id: int, key: int) -> int:
    """The best key below ``key`` that has orders, or ``EMPTY``; ``key`` itself has orders."""
    page = find_page(book, side_id, key)
    best = _walk_down(book, page, (key & PLACE_MASK) - 1)
    return best if best != EMPTY else _best_key_from(book, page, 0)


@kernel
def _best_key_from(book: LadderBook, node: int, bits: int) -> int:
    """The best key below an inner node's children ``bits``, or below all lower nodes; a page has none left."""
    side_id = load_uint32(node + TAG) >> HEIGHT_BITS
    height = load_uint32(node + TAG) & HEIGHT_MASK
    while True:
        number = load_int64(node + NUMBER)
        if bits == 0:
            if height == word(book, TREE_HEIGHT):
                return EMPTY
            node = address_of_handle(book, load_uint32(node + PARENT))
            height += 1
            bits = _bits_below(load_int64(node + BITS), number)
            continue
        best = highest(bits)
        number = (number << 6) + best
        if height == 1:
            child = find_page(book, side_id, number << PAGE_SHIFT)
        else:
            child = find_node(book, tag_of(side_id, height - 1), number)
        if load_int64(child + BITS) == 0:
            store_uint32(child + LISTED, 0)
            store_int64(node + BITS, load_int64(node + BITS) & ~bit(best))
            bits &= ~bit(best)
        elif height == 1:
            return _walk_down(book, child, PLACE_MASK)
        else:
            node, bits = child, load_int64(child + BITS)
            height -= 1
