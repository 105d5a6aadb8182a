"""How a book that is built from a feed lies in memory: the ladder book, and a few words and tables beside it.

The orders and levels are those of the matching engine's own ladder (:mod:`exchange.book.ladder_memory`): a
subscriber needs the same things of a book as the exchange does, to find an order by its number and a level by its
price, and the ladder is quick at both. So whatever can be asked of an exchange's book (best prices, orders by
priority, the state digest) can be asked of this one in the same way. What it never does is to match.

A feed names symbols by the *stock locate* of its day, any number below 65,536. The ladder numbers its symbols from
0. The table ``locates`` leads from one to the other; symbols get their numbers in the order in which the feed first
names them.

Rules: everything here is written by the one thread that applies messages. Counters only count up.
"""

from typing import Final, NamedTuple

from exchange.book.ladder_memory import LadderBook
from exchange.native import inlined, load_int64, store_int64

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
def count(feed: FeedState, word: int) -> None:
    """Add one to a word."""
    store_int64(feed.words + word, load_int64(feed.words + word) + 1)
