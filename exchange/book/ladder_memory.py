"""How the ladder book lies in memory: every offset in one place.

One arena holds nearly everything, in this order::

    header      free lists, counters
    sides       8 bytes for each side of each symbol: best key
    levels      16 bytes for each price of each page: first order, last order, quantity
    orders      32 bytes for each resting order
    pages       32 bytes for each page of 64 neighbouring prices: which of them have orders, and which prices they are
    id slots    hash table: order id -> order          (4 bytes a slot)
    page slots  hash table: price / 64 -> page         (4 bytes a slot)

and a second one, of small pages because its few members lie far apart::

    summaries   hash table: which pages of 64 pages exist, which of 64 times 64 ...   (32 bytes a slot)

Three decisions make it quick:

* **Keys.** A price is turned into a *key* that counts from the worst price of its side, so that on both sides
  larger is better and "best" is "highest bit set": bid ``key = price - price_min``, ask ``key = price_max -
  price``. Two orders cross when their keys add up to at least ``span = price_max - price_min``. No code below
  asks which side it is on.
* **Links.** Orders and levels refer to each other by 32-bit links: the distance from the arena's start in
  units of 16 bytes. Half the size of pointers, and the book could be copied to another address as it is.
* **One link space.** A level is the head of a circular list whose members are orders, and both keep *next*
  and *previous* at +0 and +4. Unlinking is two stores without a branch, and a level is empty when its next is
  itself.

A page is only there while one of its 64 prices has orders; pages, orders and hash slots all come from pools
sized for the worst case (every order on a page of its own), which costs address space, not memory, until it
happens."""

from typing import Final, NamedTuple

from exchange.native import add_wrapping, inlined, multiply_wrapping, shift_left_wrapping

LINK_SHIFT: Final = 4
NO_LINK: Final = 0
EMPTY: Final = -1
"""Best key of a side without orders: lower than any key."""

# header
FREE_ORDER: Final = 0
FRESH_ORDER: Final = 8
LIVE_ORDERS: Final = 16
FREE_PAGE: Final = 24
FRESH_PAGE: Final = 32
MATCH_NUMBER: Final = 40
HEADER_BYTES: Final = 128

# side of a symbol; side_id = 2 * symbol_id + side
BEST_KEY: Final = 0
SIDE_SHIFT: Final = 3

# page; its 64 levels stand at levels[64 * page]
OCCUPIED: Final = 0
PAGE_NUMBER: Final = 8
PAGE_SIDE: Final = 16
PAGE_NEXT_FREE: Final = 24
PAGE_SHIFT: Final = 5
LEVELS_PER_PAGE_SHIFT: Final = 6
SLOT_MASK: Final = 63

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
ORDER_SESSION: Final = 24
ORDER_SYMBOL: Final = 26
ORDER_SHIFT: Final = 5
LINKS_PER_ORDER: Final = 2

# summary slot
SUMMARY_BITS: Final = 0
SUMMARY_NUMBER: Final = 8
SUMMARY_TAG: Final = 16
SUMMARY_SHIFT: Final = 5

GOLDEN_RATIO: Final = -7046029254386353131
"""2**64 / golden ratio, odd, as a signed word: Knuth's multiplicative hash (TAOCP 3, 6.4)."""


class LadderBook(NamedTuple):
    """Addresses and constants; all of them fit the registers of a kernel's first lines."""

    base: int
    header: int
    sides: int
    pages: int
    levels: int
    orders: int
    id_slots: int
    id_hash_shift: int
    page_slots: int
    page_hash_shift: int
    summaries: int
    summary_hash_shift: int
    summary_height: int
    price_min: int
    price_max: int
    symbol_count: int
    capacity_orders: int


@inlined
def side_address(book: LadderBook, side_id: int) -> int:
    """Where the side's best key is kept."""
    return book.sides + (side_id << SIDE_SHIFT)


@inlined
def address_of_link(book: LadderBook, link: int) -> int:
    """From a 32-bit link to an address."""
    return book.base + (link << LINK_SHIFT)


@inlined
def link_of_level(book: LadderBook, page: int, slot: int) -> int:
    """The link of one price of a page."""
    level = (page << LEVELS_PER_PAGE_SHIFT) + slot
    return ((book.levels - book.base) >> LINK_SHIFT) + level


@inlined
def key_of_price(book: LadderBook, side: int, price_ticks: int) -> int:
    """Bids count up from the lowest price of the band, asks down from the highest."""
    if side == 0:
        return price_ticks - book.price_min
    return book.price_max - price_ticks


@inlined
def price_of_key(book: LadderBook, side: int, key: int) -> int:
    """The price that has this key on this side."""
    if side == 0:
        return book.price_min + key
    return book.price_max - key


@inlined
def mix(number: int, tag: int) -> int:
    """Spread a number and a small tag over 64 bits; the high bits are the good ones."""
    return multiply_wrapping(add_wrapping(number, shift_left_wrapping(tag, 43)), GOLDEN_RATIO)
