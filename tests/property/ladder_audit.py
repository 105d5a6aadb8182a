"""Walks through all the memory of a ladder book and checks that every part of it agrees with every other.

The events of a book can be right for a long time after its memory has gone wrong: a leaf that is never used again, a
count that drifts, a hash run with a gap. The audit looks at the memory itself, between two batches.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from exchange.book.id_index import HASH_BITS, find_id, id_hash
from exchange.book.ladder import Ladder
from exchange.book.ladder_memory import (
    BEST_BOUND,
    BITS,
    CAPACITY_ORDERS,
    CAPACITY_ROWS,
    CHILDREN,
    CLOCK_HAND,
    EMPTY,
    FREE_INNER,
    FREE_ORDER,
    FREE_PAGE,
    FRESH_INNER,
    FRESH_ORDER,
    FRESH_PAGE,
    FRESH_ROW,
    HEIGHT_BITS,
    ID_SLOT_HASH,
    ID_SLOT_LINK,
    ID_SLOTS,
    ID_SLOTS_MASK,
    ID_SLOTS_SHIFT,
    INNER_BYTES,
    LEVEL_LINK_SHIFT,
    LEVEL_QUANTITY,
    LEVELS_LINK,
    LINKS_PER_ORDER,
    LISTED,
    LIVE_ORDERS,
    NEXT,
    NO_LINK,
    NODE_SLOTS,
    NODE_SLOTS_MASK,
    NOTHING,
    NUMBER,
    ORDER_ID,
    ORDER_LEVEL,
    ORDER_QUANTITY,
    ORDER_SYMBOL,
    PAGE_BYTES,
    PARENT,
    PREVIOUS,
    ROW_BITS,
    ROW_KEY,
    ROW_LINKS,
    ROW_PAGE,
    ROW_PLACE,
    SECOND_BOUND,
    SYMBOL_COUNT,
    TAG,
    TREE_HEIGHT,
    WINDOW,
    LadderBook,
    address_of_handle,
    address_of_link,
    row_of_level,
    side_address,
    slot_of_level,
    word,
)
from exchange.book.price_tree import find_node
from exchange.native import load_int64, load_uint16, load_uint32, view_bytes

LEVEL_DTYPE = np.dtype(
    {
        "names": ["next", "previous", "quantity"],
        "formats": ["<u4", "<u4", "<i8"],
        "offsets": [NEXT, PREVIOUS, LEVEL_QUANTITY],
    }
)
ID_SLOT_DTYPE = np.dtype(
    {"names": ["link", "hash"], "formats": ["<u4", "<u4"], "offsets": [ID_SLOT_LINK, ID_SLOT_HASH]}
)
WORD_MASK = 2**64 - 1
LINKS_PER_LEVEL = 1 << LEVEL_LINK_SHIFT


class Node(NamedTuple):
    """A node that stands in the hash table, as it was read."""

    side_id: int
    height: int
    number: int
    bits: int


def audit_ladder(owner: Ladder) -> tuple[int, int]:
    """Check everything; return how many orders and rows have ever been taken from the pools."""
    book = owner.state
    nodes = _nodes(book)
    live: dict[int, int] = {}
    keys: dict[int, list[int]] = defaultdict(list)
    rows: set[int] = set()
    for address, node in nodes.items():
        if node.height == 0:
            keys[node.side_id] += _audit_page(book, address, node, live, rows)
    for side_id in range(2 * word(book, SYMBOL_COUNT)):
        _audit_bounds(book, side_id, keys[side_id])
        _audit_window(book, side_id, nodes)

    assert word(book, LIVE_ORDERS) == len(live)
    fresh_orders = _audit_order_pool(book, live)
    _audit_id_index(book, live)
    _audit_tree(book, nodes)
    _audit_node_pools(book, nodes)
    fresh_rows = word(book, FRESH_ROW)
    assert rows == set(range(fresh_rows)), "a row is in no page, or in two"
    assert fresh_rows <= word(book, CAPACITY_ROWS)
    assert 0 <= word(book, CLOCK_HAND) < max(1, fresh_rows)
    return fresh_orders, fresh_rows


def _slots(address: int, count: int) -> np.ndarray:
    return np.frombuffer(view_bytes(address, 4 * count), np.uint32)


def _nodes(book: LadderBook) -> dict[int, Node]:
    """All nodes that the hash table knows, by address; each is found from its own number."""
    slots = _slots(word(book, NODE_SLOTS), word(book, NODE_SLOTS_MASK) + 1)
    nodes = {}
    for handle in slots[slots != 0].tolist():
        address = address_of_handle(book, handle)
        tag, number = load_uint32(address + TAG), load_int64(address + NUMBER)
        assert find_node(book, tag, number) == address
        height = tag & ((1 << HEIGHT_BITS) - 1)
        nodes[address] = Node(tag >> HEIGHT_BITS, height, number, load_int64(address + BITS) & WORD_MASK)
    assert len(nodes) == np.count_nonzero(slots), "a node stands twice in the hash table"
    return nodes


def _audit_page(book: LadderBook, page: int, node: Node, live: dict[int, int], rows: set[int]) -> list[int]:
    """The keys of the page that have orders, whose links and symbols go into ``live``."""
    keys: list[int] = []
    row_count = 0
    for place in range(64):
        bits = load_int64(page + ROW_BITS + 8 * place) & WORD_MASK
        first = load_uint32(page + ROW_LINKS + 4 * place)
        assert (bits != 0) == bool(node.bits >> place & 1)
        if first == NOTHING:
            assert bits == 0
            continue
        row_count += 1
        row, misplaced = divmod(first - word(book, LEVELS_LINK), 64 * LINKS_PER_LEVEL)
        assert not misplaced
        assert row not in rows
        rows.add(row)
        record = row_of_level(book, first)
        assert record == row_of_level(book, first + 63 * LINKS_PER_LEVEL)
        assert load_uint32(record + ROW_PLACE) == 64 * node.side_id + place
        assert address_of_handle(book, load_uint32(record + ROW_PAGE)) == page
        key = (node.number * 64 + place) * 64
        assert load_int64(record + ROW_KEY) == key
        keys += [key + slot for slot in _audit_row(book, first, bits, node.side_id, live)]
    assert load_uint32(page + CHILDREN) == row_count > 0
    return keys


def _audit_row(book: LadderBook, first: int, bits: int, side_id: int, live: dict[int, int]) -> list[int]:
    """The slots of the row whose levels have orders."""
    levels = np.frombuffer(view_bytes(address_of_link(book, first), 64 * 16), LEVEL_DTYPE)
    links = first + LINKS_PER_LEVEL * np.arange(64)
    assert [slot_of_level(link) for link in links.tolist()] == list(range(64))
    empty = levels["next"] == links
    assert (levels["previous"][empty] == links[empty]).all()
    assert not levels["quantity"][empty].any()
    slots: list[int] = np.flatnonzero(~empty).tolist()
    assert bits == sum(1 << slot for slot in slots)
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
    return slots


def _audit_bounds(book: LadderBook, side_id: int, keys: list[int]) -> None:
    side = side_address(book, side_id)
    bound, second = load_int64(side + BEST_BOUND), load_int64(side + SECOND_BOUND)
    assert EMPTY <= second <= bound
    assert max(keys, default=EMPTY) <= bound
    assert max((key for key in keys if key != bound), default=EMPTY) <= second


def _audit_window(book: LadderBook, side_id: int, nodes: dict[int, Node]) -> None:
    """What a side remembers are pages of its own, each at its place."""
    for place in range(8):
        handle = load_uint32(side_address(book, side_id) + WINDOW + 4 * place)
        if handle != NOTHING:
            page = nodes[address_of_handle(book, handle)]
            assert (page.side_id, page.height, page.number % 8) == (side_id, 0, place)


def _audit_order_pool(book: LadderBook, live: dict[int, int]) -> int:
    free, link = set(), word(book, FREE_ORDER)
    while link:
        assert link not in free
        free.add(link)
        link = load_uint32(address_of_link(book, link) + NEXT)
    assert not free & set(live)
    known = free | set(live)
    end = word(book, FRESH_ORDER)
    assert known == {end - LINKS_PER_ORDER * (1 + index) for index in range(len(known))}
    assert len(known) <= word(book, CAPACITY_ORDERS)
    return len(known)


def _audit_id_index(book: LadderBook, live: dict[int, int]) -> None:
    count = 1 << (HASH_BITS - word(book, ID_SLOTS_SHIFT))
    assert word(book, ID_SLOTS_MASK) == 8 * (count - 1)
    slots = np.frombuffer(view_bytes(word(book, ID_SLOTS), 8 * count), ID_SLOT_DTYPE)
    taken = slots[slots["link"] != NO_LINK]
    assert sorted(taken["link"].tolist()) == sorted(live)
    assert dict(zip(taken["link"].tolist(), taken["hash"].tolist(), strict=True)) == {
        link: id_hash(symbol_id, load_int64(address_of_link(book, link) + ORDER_ID))
        for link, symbol_id in live.items()
    }
    for link, symbol_id in live.items():
        order_id = load_int64(address_of_link(book, link) + ORDER_ID)
        assert find_id(book, symbol_id, order_id)[0] == link


def _audit_tree(book: LadderBook, nodes: dict[int, Node]) -> None:
    """Each node but a root has the right parent; a parent counts its children and has the bits of those with orders."""
    children: dict[int, int] = defaultdict(int)
    bits: dict[int, int] = defaultdict(int)
    exists: dict[int, int] = defaultdict(int)
    for address, node in nodes.items():
        if node.height == word(book, TREE_HEIGHT):
            assert node.number == 0
            assert load_uint32(address + LISTED) == 1
            continue
        parent = address_of_handle(book, load_uint32(address + PARENT))
        above = nodes[parent]
        assert (above.side_id, above.height, above.number) == (
            node.side_id,
            node.height + 1,
            node.number >> 6,
        )
        assert load_uint32(address + LISTED) == above.bits >> (node.number & 63) & 1
        children[parent] += 1
        exists[parent] |= 1 << (node.number & 63)
        bits[parent] |= int(node.bits != 0) << (node.number & 63)
    for address, node in nodes.items():
        if node.height > 0:
            assert load_uint32(address + CHILDREN) == children[address] > 0
            assert node.bits & bits[address] == bits[address], (
                "a node with orders is not in its parent's bits"
            )


def _audit_node_pools(book: LadderBook, nodes: dict[int, Node]) -> None:
    """Every page and inner node that was ever taken is in the tree or free."""
    pages = {address for address, node in nodes.items() if node.height == 0}
    free = _free_nodes(book, FREE_PAGE)
    assert not free & pages
    known = free | pages
    end = word(book, FRESH_PAGE)
    assert known == {end - PAGE_BYTES * (1 + index) for index in range(len(known))}
    inner = set(nodes) - pages
    free = _free_nodes(book, FREE_INNER)
    assert not free & inner
    end = word(book, FRESH_INNER)
    known = free | inner
    assert known == {end - INNER_BYTES * (1 + index) for index in range(len(known))}


def _free_nodes(book: LadderBook, pool: int) -> set[int]:
    free: set[int] = set()
    handle = word(book, pool)
    while handle != NOTHING:
        node = address_of_handle(book, handle)
        assert node not in free
        assert load_int64(node + NUMBER) == -1
        free.add(node)
        handle = load_uint32(node + PARENT)
    return free
