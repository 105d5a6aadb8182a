"""Walks through all the memory of a ladder book and checks that every part of it agrees with every other.

The events of a book can be right for a long time after its memory has gone wrong: a page that is never given back, a
count that drifts, a hash run with a gap. The audit looks at the memory itself, between two batches.
"""

from collections import defaultdict

import numpy as np

from exchange.book.id_index import find_id
from exchange.book.ladder import Ladder
from exchange.book.ladder_memory import (
    BEST_KEY,
    FREE_ORDER,
    FREE_PAGE,
    FRESH_ORDER,
    FRESH_PAGE,
    LEVEL_QUANTITY,
    LINKS_PER_ORDER,
    LIVE_ORDERS,
    NEXT,
    OCCUPIED,
    ORDER_ID,
    ORDER_LEVEL,
    ORDER_QUANTITY,
    ORDER_SYMBOL,
    PAGE_NEXT_FREE,
    PAGE_NUMBER,
    PAGE_SIDE,
    PREVIOUS,
    LadderBook,
    address_of_link,
    link_of_level,
    side_address,
)
from exchange.book.price_pages import find_page, page_address
from exchange.native import load_int64, load_uint16, load_uint32, view_bytes

LEVEL_DTYPE = np.dtype(
    {
        "names": ["next", "previous", "quantity"],
        "formats": ["<u4", "<u4", "<i8"],
        "offsets": [NEXT, PREVIOUS, LEVEL_QUANTITY],
    }
)


def audit_ladder(owner: Ladder) -> tuple[int, int]:
    """Check everything; return how many orders and pages have ever been taken from the pools."""
    book = owner.state
    pages = _pages_in_use(book)
    live: dict[int, int] = {}
    best: dict[int, int] = defaultdict(lambda: -1)
    for (side_id, number), page in pages.items():
        for key in _audit_page(book, side_id, number, page, live):
            best[side_id] = max(best[side_id], key)
    for side_id in range(2 * book.symbol_count):
        assert load_int64(side_address(book, side_id) + BEST_KEY) == best[side_id]

    assert load_int64(book.header + LIVE_ORDERS) == len(live)
    fresh_orders = _audit_order_pool(book, live)
    _audit_id_index(book, live)
    fresh_pages = _audit_page_pool(book, set(pages.values()))
    _audit_summaries(book, set(pages))
    return fresh_orders, fresh_pages


def _table(address: int, hash_shift: int, words: int) -> np.ndarray:
    slots = 1 << (64 - hash_shift)
    if words == 0:
        return np.frombuffer(view_bytes(address, 4 * slots), np.uint32)
    return np.frombuffer(view_bytes(address, 8 * words * slots), np.int64).reshape(slots, words)


def _pages_in_use(book: LadderBook) -> dict[tuple[int, int], int]:
    slots = _table(book.page_slots, book.page_hash_shift, 0)
    pages = {}
    for entry in slots[slots != 0].tolist():
        address = page_address(book, entry - 1)
        side_id, number = load_int64(address + PAGE_SIDE), load_int64(address + PAGE_NUMBER)
        assert find_page(book, side_id, number) == entry - 1
        pages[(side_id, number)] = entry - 1
    assert len(set(pages.values())) == np.count_nonzero(slots), "a page stands twice in the hash table"
    return pages


def _audit_page(book: LadderBook, side_id: int, number: int, page: int, live: dict[int, int]) -> list[int]:
    """The keys of the page that have orders, whose links and symbols go into ``live``."""
    bits = load_int64(page_address(book, page) + OCCUPIED)
    assert bits != 0, "an empty page was not given back"
    levels = np.frombuffer(
        view_bytes(address_of_link(book, link_of_level(book, page, 0)), 64 * 16), LEVEL_DTYPE
    )
    links = link_of_level(book, page, 0) + np.arange(64)
    empty = levels["next"] == links
    assert (levels["previous"][empty] == links[empty]).all()
    assert not levels["quantity"][empty].any()
    slots = np.flatnonzero(~empty).tolist()
    assert bits & (2**64 - 1) == sum(1 << slot for slot in slots)
    for slot in slots:
        lots, before, link = 0, links[slot], levels["next"][slot].item()
        while link != links[slot]:
            order = address_of_link(book, link)
            assert link not in live
            assert load_uint32(order + PREVIOUS) == before
            assert load_uint32(order + ORDER_LEVEL) == links[slot]
            assert load_uint16(order + ORDER_SYMBOL) == side_id >> 1
            assert load_uint32(order + ORDER_QUANTITY) > 0
            lots += load_uint32(order + ORDER_QUANTITY)
            live[link] = side_id >> 1
            before, link = link, load_uint32(order + NEXT)
        assert levels["previous"][slot] == before
        assert levels["quantity"][slot] == lots
    return [number * 64 + slot for slot in slots]


def _audit_order_pool(book: LadderBook, live: dict[int, int]) -> int:
    free, link = set(), load_int64(book.header + FREE_ORDER)
    while link:
        assert link not in free
        free.add(link)
        link = load_uint32(address_of_link(book, link) + NEXT)
    first = (book.orders - book.base) >> 4
    fresh = (load_int64(book.header + FRESH_ORDER) - first) // LINKS_PER_ORDER
    assert free | set(live) == {first + LINKS_PER_ORDER * index for index in range(fresh)}
    assert not free & set(live)
    assert fresh <= book.capacity_orders
    return fresh


def _audit_id_index(book: LadderBook, live: dict[int, int]) -> None:
    slots = _table(book.id_slots, book.id_hash_shift, 0)
    assert sorted(slots[slots != 0].tolist()) == sorted(live)
    for link, symbol_id in live.items():
        order_id = load_int64(address_of_link(book, link) + ORDER_ID)
        assert find_id(book, symbol_id, order_id)[0] == link


def _audit_page_pool(book: LadderBook, in_use: set[int]) -> int:
    free, page = set(), load_int64(book.header + FREE_PAGE) - 1
    while page >= 0:
        assert page not in free
        free.add(page)
        page = load_int64(page_address(book, page) + PAGE_NEXT_FREE) - 1
    fresh = load_int64(book.header + FRESH_PAGE)
    assert free | in_use == set(range(fresh))
    assert not free & in_use
    return fresh


def _audit_summaries(book: LadderBook, pages: set[tuple[int, int]]) -> None:
    expected: dict[tuple[int, int], int] = defaultdict(int)
    for side_id, number in pages:
        for height in range(1, book.summary_height + 1):
            tag = (side_id << 4) + height
            expected[(tag, number >> (6 * height))] |= 1 << ((number >> (6 * (height - 1))) & 63)
    slots = _table(book.summaries, book.summary_hash_shift, 4)
    found = {(tag, number): bits & (2**64 - 1) for bits, number, tag, _ in slots[slots[:, 2] != 0].tolist()}
    assert found == expected
    assert len(found) == np.count_nonzero(slots[:, 2]), "a summary stands twice in the hash table"
    assert not slots[slots[:, 2] == 0, 0].any(), "a free slot has bits"
