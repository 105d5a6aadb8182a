"""Each side remembers the eight pages (of 4,096 prices each) that it found last, in a table indexed by the last bits of
a page's number. In a market that does not move by tens of thousands of ticks, every page is found there, and the level
of a price is near enough to be prefetched.

Without the idea a page is looked up in the hash table of pages each time. Prefetching a level would need that look-up
as well, and is left out.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.book.ladder_memory import NOTHING, PAGE_SHIFT, LadderBook
from exchange.book.price_tree import _make_page, _make_row, _row_link_address, find_node, tag_of
from exchange.native import inlined, load_uint32, unlikely

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
def find_or_make_page(book: LadderBook, side_id: int, key: int) -> int:
    """The page of a side that holds ``key``, with the row that does."""
    page = find_page(book, side_id, key)
    if unlikely(page == NOTHING):
        page = _make_page(book, side_id, key)
    if unlikely(load_uint32(_row_link_address(page, key)) == NOTHING):
        _make_row(book, side_id, page, key)
    return page


@inlined
def prefetch_level(book: LadderBook, side_id: int, key: int) -> None:
    """Where the level stands is not known without a search."""
