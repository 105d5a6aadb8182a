"""Each side remembers the eight pages (of 4,096 prices each) that it found last, in a table indexed by the last bits of
a page's number. In a market that does not move by tens of thousands of ticks, every page is found there, and the level
of a price is near enough to be prefetched.

Without the idea a page is looked up in the hash table of pages each time. Prefetching a level would need that look-up
as well, and is left out.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.book.ladder_memory import NOTHING, PAGE_SHIFT, LadderBook, side_id_at
from exchange.book.price_tree import _make_page, find_node, tag_of
from exchange.native import inlined, likely

IDEA: Final = Idea(
    title="A window of pages",
    variant="without the window of pages",
    replaces={"price_tree": ("find_page", "find_or_make_page", "prefetch_level")},
)


@inlined
def find_page(book: LadderBook, side_id: int, key: int) -> int:
    """The page of a side that holds ``key``, or ``NOTHING``."""
    return find_node(book, tag_of(side_id, 0), key >> PAGE_SHIFT)


@inlined
def find_or_make_page(book: LadderBook, side: int, key: int) -> int:
    """The page that holds ``key``, of the side whose state stands at ``side``."""
    side_id = side_id_at(book, side)
    page = find_page(book, side_id, key)
    return page if likely(page != NOTHING) else _make_page(book, side_id, key)


@inlined
def prefetch_level(book: LadderBook, side_id: int, key: int) -> None:
    """Where the level stands is not known without a search."""
