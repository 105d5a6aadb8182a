"""From an order's id to the order: a hash table of the live ids and of nothing else.

Open addressing with linear probing (Knuth, TAOCP 3, 6.4, Algorithm L): a slot holds the 32-bit link of an
order, and the id is compared in the order itself, which the caller is about to touch anyway. The table has at
least twice as many slots as orders can rest, so a probe is nearly always the first. Removal moves later
members of the run back into the gap (Algorithm R), so there are no tombstones and the table never wears out,
however many orders have passed through it.

An id is any 64-bit pattern, unique within its symbol.
"""

from exchange.book.ladder_memory import NO_LINK, ORDER_ID, ORDER_SYMBOL, LadderBook, address_of_link, mix
from exchange.native import (
    inlined,
    likely,
    load_int64,
    load_uint16,
    load_uint32,
    prefetch_for_write,
    shift_right_logical,
    store_uint32,
    unlikely,
)


@inlined
def _home(book: LadderBook, symbol_id: int, order_id: int) -> int:
    return shift_right_logical(mix(order_id, symbol_id), book.id_hash_shift)


@inlined
def _mask(book: LadderBook) -> int:
    return shift_right_logical(-1, book.id_hash_shift)


@inlined
def prefetch_id(book: LadderBook, symbol_id: int, order_id: int) -> None:
    """Bring the slot of an id nearer, for a command that is still some way down the batch."""
    prefetch_for_write(book.id_slots + (_home(book, symbol_id, order_id) << 2))


@inlined
def find_id(book: LadderBook, symbol_id: int, order_id: int) -> tuple[int, int]:
    """The order's link (``NO_LINK`` if no such order lives) and the slot where the search ended."""
    slot = _home(book, symbol_id, order_id)
    while True:
        link = load_uint32(book.id_slots + (slot << 2))
        if link == NO_LINK:
            return NO_LINK, slot
        order = address_of_link(book, link)
        if (
            likely(load_int64(order + ORDER_ID) == order_id)
            and load_uint16(order + ORDER_SYMBOL) == symbol_id
        ):
            return link, slot
        slot = (slot + 1) & _mask(book)


@inlined
def put_id(book: LadderBook, slot: int, link: int) -> None:
    """Enter an order at the empty slot where :func:`find_id` did not find it."""
    store_uint32(book.id_slots + (slot << 2), link)


@inlined
def remove_id(book: LadderBook, slot: int) -> None:
    """Empty the slot where :func:`find_id` found an order, and close the gap."""
    mask = _mask(book)
    gap = slot
    following = (slot + 1) & mask
    link = load_uint32(book.id_slots + (following << 2))
    while unlikely(link != NO_LINK):
        order = address_of_link(book, link)
        home = _home(book, load_uint16(order + ORDER_SYMBOL), load_int64(order + ORDER_ID))
        # It may move back only if that does not take it in front of its own home.
        if ((following - home) & mask) >= ((following - gap) & mask):
            store_uint32(book.id_slots + (gap << 2), link)
            gap = following
        following = (following + 1) & mask
        link = load_uint32(book.id_slots + (following << 2))
    store_uint32(book.id_slots + (gap << 2), NO_LINK)
