"""Which order a cancel names is in the batch long before the cancel's turn. So while one command is applied, the id's
slot and the price's level of the command some places further down are asked for, and their cache lines travel while
the processor is busy. Likewise the next free order, as soon as one is taken.

Without the idea, each command finds out where its order stands when it is its turn, and waits for the memory then.
What it costs where everything is in the cache already is the work of asking.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.book.ladder_memory import (
    FREE_ORDER,
    FRESH_ORDER,
    LINKS_PER_ORDER,
    LIVE_ORDERS,
    NEXT,
    NO_LINK,
    LadderBook,
    address_of_link,
    word,
)
from exchange.native import inlined, likely, load_uint32, store_int64

IDEA: Final = Idea(
    title="Prefetching with look-ahead",
    variant="without prefetching",
    replaces={"ladder_matching": ("_prefetch", "_take_order")},
)


@inlined
def _prefetch(book: LadderBook, command: int) -> None:
    """Leave it to the processor."""


@inlined
def _take_order(book: LadderBook) -> int:
    """The link of an order that is free: the one freed last, or one never used."""
    store_int64(book.base + LIVE_ORDERS, word(book, LIVE_ORDERS) + 1)
    link = word(book, FREE_ORDER)
    if likely(link != NO_LINK):
        store_int64(book.base + FREE_ORDER, load_uint32(address_of_link(book, link) + NEXT))
    else:
        link = word(book, FRESH_ORDER)
        store_int64(book.base + FRESH_ORDER, link + LINKS_PER_ORDER)
    return link
