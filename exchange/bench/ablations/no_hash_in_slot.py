"""A slot of the id index has two halves: where the order is, and half of its id's hash. A look-up that meets another
id on its way sees it by the hash, and removal sees by the hash where each member of a run would like to be. Both leave
alone the memory of orders that they have nothing to do with.

Without the idea a slot is only the order's link, four bytes instead of eight, and the id is compared in the order
itself. The table is half as large, and the order that is looked for is needed next anyway; but each order that is met
on the way, and each that stands behind one that goes, is one more cache line from anywhere in the book.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.book.id_index import _slot_behind, id_hash, slot_of_hash
from exchange.book.ladder_memory import (
    ID_SLOTS_MASK,
    NO_LINK,
    ORDER_ID,
    ORDER_SYMBOL,
    LadderBook,
    address_of_link,
    word,
)
from exchange.native import (
    inlined,
    kernel,
    likely,
    load_int64,
    load_uint16,
    load_uint32,
    store_uint32,
)

IDEA: Final = Idea(
    title="The hash in the slot",
    variant="without the hash in the slot",
    replaces={
        "id_index": ("find_id", "_find_id_behind", "put_id", "_close_gap"),
        "ladder_memory": ("ID_SLOT_SHIFT",),
    },
    shown=(
        "exchange/book/id_index.py:find_id",
        "exchange/book/id_index.py:_is_slot_of",
        "exchange/book/id_index.py:put_id",
        "exchange/book/id_index.py:_close_gap",
    ),
)

ID_SLOT_SHIFT: Final = 2


@inlined
def find_id(book: LadderBook, symbol_id: int, order_id: int) -> tuple[int, int]:
    """The order's link (``NO_LINK`` if no such order lives) and the address of the slot where the search ended."""
    slot = slot_of_hash(book, id_hash(symbol_id, order_id))
    link = load_uint32(slot)
    if link == NO_LINK or likely(_is_order(book, link, symbol_id, order_id)):
        return link, slot
    slot = _find_id_behind(book, slot, symbol_id, order_id)
    return load_uint32(slot), slot


@inlined
def _is_order(book: LadderBook, link: int, symbol_id: int, order_id: int) -> bool:
    order = address_of_link(book, link)
    return load_int64(order + ORDER_ID) == order_id and load_uint16(order + ORDER_SYMBOL) == symbol_id


@kernel
def _find_id_behind(book: LadderBook, slot: int, symbol_id: int, order_id: int) -> int:
    """The slot where :func:`find_id` ends, when another id stands in the one where it begins."""
    while True:
        slot = _slot_behind(book, slot)
        link = load_uint32(slot)
        if link == NO_LINK or _is_order(book, link, symbol_id, order_id):
            return slot


@inlined
def put_id(slot: int, hashed: int, link: int) -> None:
    """Enter an order in the empty slot where :func:`find_id` did not find it."""
    store_uint32(slot, link)


@kernel
def _close_gap(book: LadderBook, gap: int) -> None:
    """Move members of the run behind an empty slot back into it, as far as they want to be there."""
    mask = word(book, ID_SLOTS_MASK)
    following = _slot_behind(book, gap)
    link = load_uint32(following)
    while link != NO_LINK:
        order = address_of_link(book, link)
        home = slot_of_hash(book, id_hash(load_uint16(order + ORDER_SYMBOL), load_int64(order + ORDER_ID)))
        if ((following - home) & mask) >= ((following - gap) & mask):
            store_uint32(gap, link)
            gap = following
        following = _slot_behind(book, following)
        link = load_uint32(following)
    store_uint32(gap, NO_LINK)
