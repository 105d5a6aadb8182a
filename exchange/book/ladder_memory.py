"""How the ladder book lies in memory: every offset in one place.

One arena holds everything, and a book is the address of its first byte. From there on::

    header      what the book was built for; free lists, counters
    sides       64 bytes for each side of each symbol: bound of its best key, the pages found last
    levels      16 bytes for each price of each row: first order, last order, quantity
    orders      32 bytes for each resting order
    rows        16 bytes for each row of 64 levels: its first price, its page
    nodes       the price trees: which prices have orders; pages of 1 KiB, then inner nodes of 32 bytes
    id slots    hash table: order id -> order          (8 bytes a slot)
    node slots  hash table: price / 4096 -> page, etc. (4 bytes a slot)

Four decisions make it quick:

* **Keys.** A price is turned into a *key* that counts from the worst price of its side, so that on both sides
  larger is better and "best" is "highest bit set": bid ``key = price - price_min``, ask ``key = price_max -
  price``. Two orders cross when their keys add up to at least ``span = price_max - price_min``. No code below
  asks which side it is on.
* **Links.** Orders and levels refer to each other by 32-bit links: the distance from the arena's start in
  units of 16 bytes. Half the size of pointers.
* **One link space.** A level is the head of a circular list whose members are orders, and both keep *next*
  and *previous* at +0 and +4. Unlinking is two stores without a branch, and a level is empty when its next is
  itself.
* **One base.** Whatever the code needs of the book it reads from the header, whose two lines never leave the
  first-level cache. A dozen addresses passed around in registers would push out what a command is about.

Orders, nodes and hash slots all come from pools sized for the worst case (every order on a page of its own),
which costs address space, not memory, until it happens."""

from typing import Final, NamedTuple

from exchange.native import add_wrapping, inlined, load_int64, multiply_wrapping, shift_left_wrapping

LINK_SHIFT: Final = 4
NO_LINK: Final = 0
EMPTY: Final = -1
"""Best key of a side without orders: lower than any key."""

# header: written when the book is built
WORST_PRICE: Final = 0
"""Two words: where the keys of the bids begin, the lowest price; where those of the asks do, the highest."""
SPAN: Final = 16
SYMBOL_COUNT: Final = 24
CAPACITY_ORDERS: Final = 32
ID_SLOTS: Final = 40
ID_SLOTS_SHIFT: Final = 48
LEVELS_LINK: Final = 56
ROWS: Final = 64
NODES: Final = 72
NODE_SLOTS: Final = 80
NODE_HASH_SHIFT: Final = 88
NODE_SLOTS_MASK: Final = 96
TREE_HEIGHT: Final = 104
CAPACITY_ROWS: Final = 112
SPARE_ROWS: Final = 120
# header: written by commands
FREE_ORDER: Final = 128
FRESH_ORDER: Final = 136
LIVE_ORDERS: Final = 144
LAST_MATCH: Final = 152
FRESH_ROW: Final = 160
CLOCK_HAND: Final = 168
FREE_PAGE: Final = 176
FRESH_PAGE: Final = 184
FREE_INNER: Final = 192
FRESH_INNER: Final = 200
TAKER_LOTS: Final = 208
HEADER_BYTES: Final = 256

# side of a symbol; side_id = 2 * symbol_id + side, so that a symbol's two sides stand side by side
SIDES: Final = HEADER_BYTES
BEST_BOUND: Final = 0
"""No order of the side has a better key than this; the best one may have a worse one since it was last looked for."""
SECOND_BOUND: Final = 8
"""No order has a better key than this but those at ``BEST_BOUND``."""
WINDOW: Final = 16
WINDOW_MASK: Final = 7
SIDE_SHIFT: Final = 6
OPPOSITE: Final = 1 << SIDE_SHIFT

# row: 64 neighbouring prices, whose levels stand at levels[64 * row]
ROW_PRICE: Final = 0
ROW_PAGE: Final = 8
ROW_PLACE: Final = 12
"""The side in the upper bits (so that they are its distance from the first side), the row within its page in six."""
ROW_RECORD_SHIFT: Final = 4
ROW_SHIFT: Final = 6
SLOT_MASK: Final = 63

# node of a price tree: an inner node, or a page, which has more behind the same beginning
BITS: Final = 0
NUMBER: Final = 8
TAG: Final = 16
PARENT: Final = 20
CHILDREN: Final = 24
LISTED: Final = 28
"""1 if the node's bit in its parent is set, which it may be although the node has no bits itself; 1 in a root."""
INNER_BYTES: Final = 32
ROW_BITS: Final = 64
ROW_LINKS: Final = 576
PAGE_BYTES: Final = 1024
PAGE_SHIFT: Final = 12
HANDLE_SHIFT: Final = 5
HEIGHT_BITS: Final = 4
HEIGHT_MASK: Final = 15
NOTHING: Final = 0
"""A handle or a link that leads nowhere, or the address of no node."""

# level and order share these two
NEXT: Final = 0
PREVIOUS: Final = 4
# level
LEVEL_QUANTITY: Final = 8
LEVEL_SHIFT: Final = 4
# order
ORDER_LEVEL: Final = 8
ORDER_QUANTITY: Final = 12
ORDER_ID: Final = 16
ORDER_SYMBOL: Final = 24
ORDER_SESSION: Final = 26
ORDER_SHIFT: Final = 5
LINKS_PER_ORDER: Final = 2

GOLDEN_RATIO: Final = -7046029254386353131
"""2**64 / golden ratio, odd, as a signed word: Knuth's multiplicative hash (TAOCP 3, 6.4)."""


class LadderBook(NamedTuple):
    """A book: where its header stands."""

    base: int


@inlined
def word(book: LadderBook, offset: int) -> int:
    """One word of the header."""
    return load_int64(book.base + offset)


@inlined
def side_address(book: LadderBook, side_id: int) -> int:
    """Where what a side has is kept."""
    return book.base + SIDES + (side_id << SIDE_SHIFT)


@inlined
def row_address(book: LadderBook, row: int) -> int:
    """Where a row's first price and its page are kept."""
    return word(book, ROWS) + (row << ROW_RECORD_SHIFT)


@inlined
def row_of_level(book: LadderBook, level_link: int) -> int:
    """As :func:`row_address`, for the row that a level stands in."""
    return row_address(book, (level_link - word(book, LEVELS_LINK)) >> ROW_SHIFT)


@inlined
def address_of_handle(book: LadderBook, handle: int) -> int:
    """From a 32-bit handle to a node of a price tree."""
    return word(book, NODES) + (handle << HANDLE_SHIFT)


@inlined
def handle_of(book: LadderBook, node: int) -> int:
    """From a node of a price tree to its 32-bit handle."""
    return (node - word(book, NODES)) >> HANDLE_SHIFT


@inlined
def address_of_link(book: LadderBook, link: int) -> int:
    """From a 32-bit link to an address."""
    return book.base + (link << LINK_SHIFT)


@inlined
def mirrored(side: int, steps: int) -> int:
    """``steps`` for a bid, ``-steps`` for an ask: two's complement instead of a branch that goes either way."""
    return (steps ^ -side) + side


@inlined
def _worst_price(book: LadderBook, side: int) -> int:
    """Where a side's keys begin: the lowest price for bids, the highest for asks."""
    return load_int64(book.base + WORST_PRICE + (side << 3))


@inlined
def key_of_price(book: LadderBook, side: int, price_ticks: int) -> int:
    """Bids count up from the lowest price of the band, asks down from the highest; see :func:`is_in_band`."""
    return mirrored(side, add_wrapping(price_ticks, -_worst_price(book, side)))


@inlined
def price_of_key(book: LadderBook, side: int, key: int) -> int:
    """The price that has this key on this side."""
    return _worst_price(book, side) + mirrored(side, key)


@inlined
def is_in_band(book: LadderBook, key: int) -> bool:
    """Whether the price of this key is one that the book takes: neither negative nor beyond the span."""
    return key | (word(book, SPAN) - key) >= 0


@inlined
def mix(number: int, tag: int) -> int:
    """Spread a number and a small tag over 64 bits; the high bits are the good ones."""
    return multiply_wrapping(add_wrapping(number, shift_left_wrapping(tag, 43)), GOLDEN_RATIO)
