"""A slot of the id index has two halves: where the order is, and half of its id's hash. A look-up that meets another
id on its way sees it by the hash, and removal sees by the hash where each member of a run would like to be. Both leave
alone the memory of orders that they have nothing to do with.

Without the idea a slot is only the order's link, four bytes instead of eight, and the id is compared in the order
itself. The table is half as large, and the order that is looked for is needed next anyway; but each order that is met
on the way, and each that stands behind one that goes, is one more cache line from anywhere in the book.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.book.id_index import HASH_BITS, LINK_MASK, _home, _mask, id_hash
from exchange.book.ladder_memory import (
    ID_SLOTS,
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
    unlikely,
)

IDEA: Final = Idea(
    title="The hash in the slot",
    variant="without the hash in the slot",
    replaces={
        "id_index": ("_slot_address", "find_id", "_find_id_behind", "put_id", "remove_id", "_close_gap"),
        "ladder_layout": ("ID_SLOT_SHIFT",),
    },
    shown=(
        "exchange/book/id_index.py:find_id",
        "exchange/book/id_index.py:_is_entry_of",
        "exchange/book/id_index.py:put_id",
        "exchange/book/id_index.py:_close_gap",
    ),
)

ID_SLOT_SHIFT: Final = 2


@inlined
def _slot_address(book: LadderBook, slot: int) -> int:
    return word(book, ID_SLOTS) + (slot << 2)


@inlined
def find_id(book: LadderBook, symbol_id: int, order_id: int) -> tuple[int, int]:
    """The order's link (``NO_LINK`` if no such order lives) and the slot where the search ended."""
    slot = _home(book, id_hash(symbol_id, order_id))
    link = load_uint32(_slot_address(book, slot))
    if link == NO_LINK:
        return NO_LINK, slot
    if likely(_is_order(book, link, symbol_id, order_id)):
        return link, slot
    found = _find_id_behind(book, slot, symbol_id, order_id)
    return found & LINK_MASK, found >> HASH_BITS


@inlined
def _is_order(book: LadderBook, link: int, symbol_id: int, order_id: int) -> bool:
    order = address_of_link(book, link)
    return load_int64(order + ORDER_ID) == order_id and load_uint16(order + ORDER_SYMBOL) == symbol_id


@kernel
def _find_id_behind(book: LadderBook, slot: int, symbol_id: int, order_id: int) -> int:
    """As :func:`find_id`, behind the slot where the search begins: the slot above, the link below."""
    while True:
        slot = (slot + 1) & _mask(book)
        link = load_uint32(_slot_address(book, slot))
        if link == NO_LINK:
            return slot << HASH_BITS
        if _is_order(book, link, symbol_id, order_id):
            return (slot << HASH_BITS) | link


@inlined
def put_id(book: LadderBook, slot: int, hashed: int, link: int) -> None:
    """Enter an order at the empty slot where :func:`find_id` did not find it."""
    store_uint32(_slot_address(book, slot), link)


@inlined
def remove_id(book: LadderBook, slot: int) -> None:
    """Empty the slot where :func:`find_id` found an order, and close the gap."""
    following = (slot + 1) & _mask(book)
    store_uint32(_slot_address(book, slot), NO_LINK)
    if unlikely(load_uint32(_slot_address(book, following)) != NO_LINK):
        _close_gap(book, slot)


@kernel
def _close_gap(book: LadderBook, gap: int) -> None:
    """Move members of the run behind an empty slot back into it, as far as they want to be there."""
    mask = _mask(book)
    following = (gap + 1) & mask
    link = load_uint32(_slot_address(book, following))
    while link != NO_LINK:
        order = address_of_link(book, link)
        home = _home(book, id_hash(load_uint16(order + ORDER_SYMBOL), load_int64(order + ORDER_ID)))
        if ((following - home) & mask) >= ((following - gap) & mask):
            store_uint32(_slot_address(book, gap), link)
            gap = following
        following = (following + 1) & mask
        link = load_uint32(_slot_address(book, following))
    store_uint32(_slot_address(book, gap), NO_LINK)
