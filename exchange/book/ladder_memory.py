"""How the ladder book lies in memory: every offset in one place.

One arena holds everything, and a book is the address of its first byte. From there on::

    header      what the book was built for; free lists, counters
    sides       64 bytes for each side of each symbol: bound of its best key, the pages found last
    levels      16 bytes for each price of each row: first order, last order, quantity
    orders      32 bytes for each resting order
    rows        16 bytes for each row of 64 levels: its first key, its page
    nodes       the price trees: which prices have orders; pages of 832 bytes, then inner nodes of 32
    id slots    hash table: order id -> order          (8 bytes a slot)
    node slots  hash table: price / 4096 -> page, etc. (4 bytes a slot)

Four decisions make it quick:

* **Keys.** A price is turned into a *key* that counts from the worst price of its side, so that on both sides
  larger is better and "best" is "highest bit set": bid ``key = price - price_min``, ask ``key = price_max -
  price``. Two orders cross when their keys add up to at least ``span = price_max - price_min``. No code below
  asks which side it is on.
* **Links.** Orders and levels refer to each other by 32-bit links: the distance from the arena's start in
  units of 8 bytes. Half the size of pointers, and the processor multiplies by 8 within the load.
* **One link space.** A level is the head of a circular list whose members are orders, and both keep *next*
  and *previous* at +0 and +4. Unlinking is two stores without a branch, and a level is empty when its next is
  itself.
* **One base.** Whatever the code needs of the book it reads from the header, whose two lines never leave the
  first-level cache. A dozen addresses passed around in registers would push out what a command is about.

Orders, nodes and hash slots all come from pools sized for the worst case (every order on a page of its own),
which costs address space, not memory, until it happens."""

from typing import Final, NamedTuple

from exchange.native import add_wrapping, inlined, load_int64, multiply_wrapping, shift_left_wrapping

LINK_SHIFT: Final = 3
NO_LINK: Final = 0
EMPTY: Final = -1
"""Best key of a side without orders: lower than any key."""

# header: first what stands in for a node that is none; then what is written when the book is built
WORST_PRICE: Final = 32
"""Two words: where the keys of the bids begin, the lowest price; where those of the asks do, the highest, mirrored."""
SPAN: Final = 48
SYMBOL_COUNT: Final = 56
CAPACITY_ORDERS: Final = 64
ID_SLOTS: Final = 72
ID_SLOTS_SHIFT: Final = 80
ID_SLOTS_MASK: Final = 88
LEVELS_LINK: Final = 96
ROWS: Final = 104
"""Where the record of row 0 would stand if levels began at link 0: a level's own link then says which row is its."""
NODE_SLOTS: Final = 112
NODE_HASH_SHIFT: Final = 120
NODE_SLOTS_MASK: Final = 128
TREE_HEIGHT: Final = 136
CAPACITY_ROWS: Final = 144
SPARE_ROWS: Final = 152
# header: written by commands
FREE_ORDER: Final = 192
FRESH_ORDER: Final = 200
LIVE_ORDERS: Final = 208
LAST_MATCH: Final = 216
FRESH_ROW: Final = 224
CLOCK_HAND: Final = 232
FREE_PAGE: Final = 240
FRESH_PAGE: Final = 248
FREE_INNER: Final = 256
FRESH_INNER: Final = 264
TAKER_LOTS: Final = 272
HEADER_BYTES: Final = 384

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

# row: 64 neighbouring prices, whose levels stand side by side
ROW_KEY: Final = 0
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
PAGE_BYTES: Final = 832
PAGE_SHIFT: Final = 12
HANDLE_SHIFT: Final = 3
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
LEVEL_LINK_SHIFT: Final = LEVEL_SHIFT - LINK_SHIFT
ROW_LINK_SHIFT: Final = ROW_SHIFT + LEVEL_LINK_SHIFT
# order
ORDER_LEVEL: Final = 8
ORDER_QUANTITY: Final = 12
ORDER_ID: Final = 16
ORDER_SYMBOL: Final = 24
ORDER_SESSION: Final = 26
ORDER_SHIFT: Final = 5
LINKS_PER_ORDER: Final = 4

# slot of the id index
ID_SLOT_LINK: Final = 0
"""The link of an order, or ``NO_LINK``."""
ID_SLOT_HASH: Final = 4
ID_SLOT_SHIFT: Final = 3

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
def side_id_at(book: LadderBook, side: int) -> int:
    """Which side's state stands there; the inverse of :func:`side_address`."""
    return (side - book.base - SIDES) >> SIDE_SHIFT


@inlined
def row_of_level(book: LadderBook, level_link: int) -> int:
    """Where the record of the row stands that a level belongs to."""
    return word(book, ROWS) + ((level_link >> ROW_LINK_SHIFT) << ROW_RECORD_SHIFT)


@inlined
def slot_of_level(level_link: int) -> int:
    """Which of its row's 64 levels this is; a row begins at a multiple of its length."""
    return (level_link >> LEVEL_LINK_SHIFT) & SLOT_MASK


@inlined
def address_of_handle(book: LadderBook, handle: int) -> int:
    """From a 32-bit handle to a node of a price tree."""
    return book.base + (handle << HANDLE_SHIFT)


@inlined
def handle_of(book: LadderBook, node: int) -> int:
    """From a node of a price tree to its 32-bit handle."""
    return (node - book.base) >> HANDLE_SHIFT


@inlined
def address_of_link(book: LadderBook, link: int) -> int:
    """From a 32-bit link to an address."""
    return book.base + (link << LINK_SHIFT)


@inlined
def mirrored(side: int, number: int) -> int:
    """``number`` for a bid, ``~number``, which falls as it rises, for an ask: no branch that goes either way."""
    return number ^ -side


@inlined
def _worst_price(book: LadderBook, side: int) -> int:
    """Where a side's keys begin: the lowest price for bids, the highest, mirrored, for asks."""
    return load_int64(book.base + WORST_PRICE + (side << 3))


@inlined
def key_of_price(book: LadderBook, side: int, price_ticks: int) -> int:
    """Bids count up from the lowest price of the band, asks down from the highest; see :func:`is_in_band`."""
    return add_wrapping(mirrored(side, price_ticks), -_worst_price(book, side))


@inlined
def price_of_key(book: LadderBook, side: int, key: int) -> int:
    """The price that has this key on this side."""
    return mirrored(side, _worst_price(book, side) + key)


@inlined
def is_in_band(book: LadderBook, key: int) -> bool:
    """Whether the price of this key is one that the book takes: neither negative nor beyond the span."""
    return key | (word(book, SPAN) - key) >= 0


@inlined
def mix(number: int, tag: int) -> int:
    """Spread a number and a small tag over 64 bits; the high bits are the good ones."""
    return multiply_wrapping(add_wrapping(number, shift_left_wrapping(tag, 43)), GOLDEN_RATIO)
