"""How a book that is built from a feed lies in memory: the ladder book, and a few words and tables beside it.

The orders and levels are those of the matching engine's own ladder (:mod:`exchange.book.ladder_memory`): a
subscriber needs the same things of a book as the exchange does, to find an order by its number and a level by its
price, and the ladder is quick at both. So whatever can be asked of an exchange's book (best prices, orders by
priority, the state digest) can be asked of this one in the same way. What it never does is to match.

A feed names symbols by the *stock locate* of its day, any number below 65,536. The ladder numbers its symbols from
0. The table ``locates`` leads from one to the other; symbols get their numbers in the order in which the feed first
names them.

The ladder's table of order numbers has room for the most orders that may rest. A day seldom has so many, and a table
that is far too large is in no cache. So a feed book begins with a table of :data:`SLOTS_FIRST` slots and takes one
of twice the size whenever it is crowded, up to the ladder's own.

Rules: everything here is written by the one thread that applies messages. Counters only count up.
"""

from typing import Final, NamedTuple

from exchange.book.id_index import grow_ids, start_ids
from exchange.book.ladder_memory import (
    CAPACITY_ORDERS,
    ID_SLOT_SHIFT,
    ID_SLOTS,
    ID_SLOTS_MASK,
    LadderBook,
    word,
)
from exchange.native import inlined, kernel, load_int64, store_int64

SLOTS_FIRST: Final = 1 << 15
CROWDED_SHIFT: Final = 3
"""A table is crowded when one slot in eight is taken: where a search meets another number first, the processor has
guessed wrong, and that costs more than the memory."""

# words
MISSING_REFERENCES: Final = 0
DUPLICATE_REFERENCES: Final = 8
OVERDRAWN: Final = 16
INVALID: Final = 24
CROSSED: Final = 32
NO_ROOM: Final = 40
LEFT_OUT: Final = 48
SYMBOLS: Final = 56
"""How many symbols have a number."""
SYMBOLS_MAX: Final = 64
CHOSEN: Final = 72
"""How many symbols were chosen; 0 means all."""
TIMESTAMP_NS: Final = 80
"""The time of the last message, from midnight."""
SYSTEM_EVENT: Final = 88
"""The letter of the last system event, 0 before the first."""
NAME: Final = 96
"""Eight bytes for the name that is being looked at."""
KEPT: Final = 104
"""How many messages were kept for snapshots."""
KEPT_MAX: Final = 112
NOT_KEPT: Final = 120
"""How many should have been kept when there was no room."""
OWNER: Final = 128
"""Eight bytes that stand where a command would have its symbol and session; see ``rest_order`` of the ladder."""
CROWDED_ORDERS: Final = 136
"""With so many live orders the table of their numbers is crowded, or the book is full."""
TABLES: Final = 144
"""Where tables smaller than the book's own are, one of n slots n slots from here; and the book's own."""
OWN_TABLE: Final = 152
OWN_SLOTS: Final = 160
LENGTHS: Final = 192
"""A byte for each type of message: its length, 0 for what is no type."""
IS_KEPT: Final = LENGTHS + 256
"""A byte for each type of message: 1 if a snapshot needs it, and it is not about an order."""
BY_TYPE: Final = IS_KEPT + 256
"""A word for each type of message: how many there were."""
WORDS_BYTES: Final = BY_TYPE + 256 * 8

KEPT_SLOT_BYTES: Final = 64
"""A message that was kept: its length in two bytes, and the message."""

LOCATES: Final = 1 << 16
LOCATE_BYTES: Final = 2 * LOCATES
"""A half-word for each stock locate."""
UNKNOWN: Final = 0
"""Of a locate: the feed has not named its symbol."""
UNWANTED: Final = 0xFFFF
"""Of a locate: its symbol was not chosen, or there was no room for it. Any other value is the symbol's number + 1."""
SYMBOLS_LIMIT: Final = UNWANTED - 1


class FeedState(NamedTuple):
    """A book that is built from a feed, as compiled code sees it.

    ``words``: counters and small tables; ``locates``: a half-word for each stock locate; ``names``: eight bytes for
    each symbol, its name; ``chosen``: the names of the symbols that were asked for; ``states``: a byte for each symbol,
    the letter of its last trading action; ``kept``: 64 bytes for each message that is kept.
    """

    book: LadderBook
    words: int
    locates: int
    names: int
    chosen: int
    states: int
    kept: int


@inlined
def count(feed: FeedState, offset: int) -> None:
    """Add one to a word."""
    store_int64(feed.words + offset, load_int64(feed.words + offset) + 1)


def lay_out_tables(book: LadderBook, words: int, tables: int) -> None:
    """Give an empty book its first table of order numbers; ``tables`` is as much memory as its own table takes."""
    own_slots = (word(book, ID_SLOTS_MASK) >> ID_SLOT_SHIFT) + 1
    store_int64(words + TABLES, tables)
    store_int64(words + OWN_TABLE, word(book, ID_SLOTS))
    store_int64(words + OWN_SLOTS, own_slots)
    store_int64(words + CROWDED_ORDERS, word(book, CAPACITY_ORDERS))
    if own_slots > SLOTS_FIRST:
        start_ids(book, tables + (SLOTS_FIRST << ID_SLOT_SHIFT), SLOTS_FIRST)
        store_int64(words + CROWDED_ORDERS, SLOTS_FIRST >> CROWDED_SHIFT)


@kernel
def take_larger_table(feed: FeedState) -> None:
    """Double the table of order numbers, which is crowded."""
    slots = 2 * ((word(feed.book, ID_SLOTS_MASK) >> ID_SLOT_SHIFT) + 1)
    is_own = slots == load_int64(feed.words + OWN_SLOTS)
    place = (
        load_int64(feed.words + OWN_TABLE)
        if is_own
        else load_int64(feed.words + TABLES) + (slots << ID_SLOT_SHIFT)
    )
    grow_ids(feed.book, place)
    store_int64(
        feed.words + CROWDED_ORDERS, word(feed.book, CAPACITY_ORDERS) if is_own else slots >> CROWDED_SHIFT
    )
