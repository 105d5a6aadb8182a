"""How big the parts of a ladder book are, where they go, and what stands in them at first.

``ladder_memory.py`` says what the parts are and why. Their sizes follow from the settings, for the worst case that
these allow, and they lie one behind the other. It is compiled, although it runs once for a book, because the book
is also built where there is no Python (:mod:`exchange.export`).

Rules: the settings have been checked; the memory that a book is built in is zero, and its address a multiple of
:data:`ALIGNMENT_BYTES`.
"""

from typing import Final, NamedTuple

from exchange.book.id_index import HASH_BITS
from exchange.book.ladder_memory import (
    BEST_BOUND,
    CAPACITY_ORDERS,
    CAPACITY_ROWS,
    EMPTY,
    FRESH_INNER,
    FRESH_ORDER,
    FRESH_PAGE,
    ID_SLOT_SHIFT,
    ID_SLOTS,
    ID_SLOTS_MASK,
    ID_SLOTS_SHIFT,
    INNER_BYTES,
    LEVEL_SHIFT,
    LEVELS_LINK,
    LINK_SHIFT,
    NODE_HASH_SHIFT,
    NODE_SLOTS,
    NODE_SLOTS_MASK,
    NUMBER,
    ORDER_SHIFT,
    PAGE_BYTES,
    PAGE_SHIFT,
    ROW_RECORD_SHIFT,
    ROW_SHIFT,
    ROWS,
    SECOND_BOUND,
    SIDE_SHIFT,
    SIDES,
    SPAN,
    SPARE_ROWS,
    SYMBOL_COUNT,
    TREE_HEIGHT,
    WORST_PRICE,
    LadderBook,
    mirrored,
    side_address,
)
from exchange.native import count_leading_zeros, inlined, kernel, store_int64

ALIGNMENT_BYTES: Final = 4096
NODE_SLOT_SHIFT: Final = 2

SPARE: Final = 1024
SPARE_PER_SYMBOL: Final = 16
"""So many empty rows stay in the price trees for the orders that come back to their prices: 1 KiB each."""


class LadderShape(NamedTuple):
    """What a book is built for, and how many of everything that can take in the worst case."""

    symbol_count: int
    capacity_orders: int
    price_min_ticks: int
    price_max_ticks: int
    capacity_rows: int
    capacity_pages: int
    capacity_inner_nodes: int
    tree_height: int
    id_bits: int
    node_bits: int


class LadderPlaces(NamedTuple):
    """How far from the first byte of a book its parts begin, and where the last one ends."""

    levels: int
    orders: int
    rows: int
    nodes: int
    id_slots: int
    node_slots: int
    end: int


@inlined
def _rounded(size_bytes: int) -> int:
    return (size_bytes + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES


@inlined
def _bit_length(number: int) -> int:
    return 64 - count_leading_zeros(number)


@inlined
def _bits_of_slots(members: int) -> int:
    """A hash table of 2**bits slots is at most half full with so many members."""
    return max(4, _bit_length(2 * members - 1))


@inlined
def _most_nodes(side_count: int, last_number: int, most: int) -> int:
    """How many nodes of one height there can be: no more than ``most``, and than the band has.

    Compared before it is multiplied: the product of a wide band and many symbols does not fit 64 bits.
    """
    return most if last_number >= most else min(most, side_count * (last_number + 1))


@kernel
def shape_ladder(
    symbol_count: int, capacity_orders: int, price_min_ticks: int, price_max_ticks: int
) -> LadderShape:
    """Work out the worst case: every order alone in its row, in its page.

    Of the rows an eighth more than orders, so that an empty one is soon found. A page or an inner node stands for at
    least one row and none exists twice, so there are at most as many as rows, and as the band has; and one more while
    a new row is waiting for an old one to be released.
    """
    span_ticks, side_count = price_max_ticks - price_min_ticks, 2 * symbol_count
    most_rows = capacity_orders + capacity_orders // 8 + 64
    rows = _most_nodes(side_count, span_ticks >> ROW_SHIFT, most_rows)
    last_number = span_ticks >> PAGE_SHIFT
    pages = 1 + _most_nodes(side_count, last_number, rows)
    inner_nodes, height = 0, 0
    while last_number > 0:
        last_number >>= 6
        height += 1
        inner_nodes += 1 + _most_nodes(side_count, last_number, rows)
    return LadderShape(
        symbol_count,
        capacity_orders,
        price_min_ticks,
        price_max_ticks,
        rows,
        pages,
        inner_nodes,
        height,
        _bits_of_slots(capacity_orders),
        _bits_of_slots(pages + inner_nodes),
    )


@kernel
def place_ladder(shape: LadderShape) -> LadderPlaces:
    """Where everything goes: the header and the sides come first, and ``end`` is how many bytes a book takes.

    Links and handles must reach all that lies before ``id_slots``. Levels begin at a multiple of a row's length.
    """
    levels = _rounded(SIDES + ((2 * shape.symbol_count) << SIDE_SHIFT))
    orders = levels + _rounded(shape.capacity_rows << (ROW_SHIFT + LEVEL_SHIFT))
    rows = orders + _rounded(shape.capacity_orders << ORDER_SHIFT)
    nodes = rows + _rounded(shape.capacity_rows << ROW_RECORD_SHIFT)
    nodes_bytes = shape.capacity_pages * PAGE_BYTES + shape.capacity_inner_nodes * INNER_BYTES
    id_slots = nodes + _rounded(nodes_bytes)
    node_slots = id_slots + _rounded(1 << (shape.id_bits + ID_SLOT_SHIFT))
    end = node_slots + _rounded(1 << (shape.node_bits + NODE_SLOT_SHIFT))
    return LadderPlaces(levels, orders, rows, nodes, id_slots, node_slots, end)


@kernel
def build_ladder(shape: LadderShape, base: int) -> LadderBook:
    """Make a book without orders of memory that is zero."""
    places = place_ladder(shape)
    first_page = base + places.nodes
    store_int64(base + NUMBER, -1)  # handle 0: no page has this number
    store_int64(base + WORST_PRICE, shape.price_min_ticks)
    store_int64(base + WORST_PRICE + 8, mirrored(1, shape.price_max_ticks))
    store_int64(base + SPAN, shape.price_max_ticks - shape.price_min_ticks)
    store_int64(base + SYMBOL_COUNT, shape.symbol_count)
    store_int64(base + CAPACITY_ORDERS, shape.capacity_orders)
    store_int64(base + ID_SLOTS, base + places.id_slots)
    store_int64(base + ID_SLOTS_SHIFT, HASH_BITS - shape.id_bits)
    store_int64(base + ID_SLOTS_MASK, ((1 << shape.id_bits) - 1) << ID_SLOT_SHIFT)
    store_int64(base + LEVELS_LINK, places.levels >> LINK_SHIFT)
    store_int64(
        base + ROWS, base + places.rows - (places.levels >> (ROW_SHIFT + LEVEL_SHIFT) << ROW_RECORD_SHIFT)
    )
    store_int64(base + NODE_SLOTS, base + places.node_slots)
    store_int64(base + NODE_HASH_SHIFT, 64 - shape.node_bits)
    store_int64(base + NODE_SLOTS_MASK, (1 << shape.node_bits) - 1)
    store_int64(base + TREE_HEIGHT, shape.tree_height)
    store_int64(base + CAPACITY_ROWS, shape.capacity_rows)
    store_int64(base + SPARE_ROWS, SPARE + SPARE_PER_SYMBOL * shape.symbol_count)
    store_int64(base + FRESH_ORDER, places.orders >> LINK_SHIFT)
    store_int64(base + FRESH_PAGE, first_page)
    store_int64(base + FRESH_INNER, first_page + shape.capacity_pages * PAGE_BYTES)
    book = LadderBook(base)
    for side_id in range(2 * shape.symbol_count):
        store_int64(side_address(book, side_id) + BEST_BOUND, EMPTY)
        store_int64(side_address(book, side_id) + SECOND_BOUND, EMPTY)
    return book


@kernel
def measure_ladder(
    symbol_count: int, capacity_orders: int, price_min_ticks: int, price_max_ticks: int
) -> tuple[int, int]:
    """How many bytes a book takes, and how many of them its links must reach. For callers in Python."""
    places = place_ladder(shape_ladder(symbol_count, capacity_orders, price_min_ticks, price_max_ticks))
    return places.end, places.id_slots


@kernel
def build_ladder_at(
    base: int, symbol_count: int, capacity_orders: int, price_min_ticks: int, price_max_ticks: int
) -> None:
    """Make a book without orders of memory that is zero. For callers in Python."""
    build_ladder(shape_ladder(symbol_count, capacity_orders, price_min_ticks, price_max_ticks), base)
