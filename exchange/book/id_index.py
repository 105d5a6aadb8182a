"""From an order's id to the order: a hash table of the live ids and of nothing else.

Open addressing with linear probing (Knuth, TAOCP 3, 6.4, Algorithm L). A slot is one word: the 32-bit link of an
order below, the upper 32 bits of its id's hash above. So a probe that meets another id sees it in the slot and
leaves that order's memory alone, which has perhaps not been touched for a million commands. The table has at
least twice as many slots as orders can rest. Removal moves later members of the run back into the gap (Algorithm
R; the hash in the slot says where each would like to be), so there are no tombstones and the table never wears
out, however many orders have passed through it.

An id is any 64-bit pattern, unique within its symbol.

A book that matches has its table at full size from the start: to grow takes time, and an order would have to wait for
it. Who only follows a feed may begin with a small one, which stays in the cache while orders are few, and have it
doubled by :func:`grow_ids`.
"""

from typing import Final

from exchange.book.ladder_memory import (
    ID_SLOT_HASH,
    ID_SLOT_LINK,
    ID_SLOT_SHIFT,
    ID_SLOTS,
    ID_SLOTS_MASK,
    ID_SLOTS_SHIFT,
    NO_LINK,
    ORDER_ID,
    ORDER_SYMBOL,
    LadderBook,
    address_of_link,
    mix,
    word,
)
from exchange.native import (
    count_leading_zeros,
    inlined,
    kernel,
    likely,
    load_int64,
    load_uint16,
    load_uint32,
    prefetch_for_write,
    shift_right_logical,
    store_int64,
    store_uint32,
    unlikely,
)

HASH_BITS: Final = 32


@inlined
def id_hash(symbol_id: int, order_id: int) -> int:
    """The 32 bits of an id's hash that are kept."""
    return shift_right_logical(mix(order_id, symbol_id), HASH_BITS)


@inlined
def slot_of_hash(book: LadderBook, hashed: int) -> int:
    """Where the search for an id begins: the upper bits of its hash say in which slot."""
    return word(book, ID_SLOTS) + ((hashed >> word(book, ID_SLOTS_SHIFT)) << ID_SLOT_SHIFT)


@inlined
def _slot_behind(book: LadderBook, slot: int) -> int:
    """The next slot; the first one follows the last."""
    first = word(book, ID_SLOTS)
    return first + ((slot + (1 << ID_SLOT_SHIFT) - first) & word(book, ID_SLOTS_MASK))


@inlined
def prefetch_id(book: LadderBook, symbol_id: int, order_id: int) -> None:
    """Bring the slot of an id nearer, for a command that is still some way down the batch."""
    prefetch_for_write(slot_of_hash(book, id_hash(symbol_id, order_id)))


@inlined
def find_id(book: LadderBook, symbol_id: int, order_id: int) -> tuple[int, int]:
    """The order's link (``NO_LINK`` if no such order lives) and the address of the slot where the search ended."""
    hashed = id_hash(symbol_id, order_id)
    slot = slot_of_hash(book, hashed)
    link = load_uint32(slot + ID_SLOT_LINK)
    if link == NO_LINK or likely(_is_slot_of(book, slot, hashed, symbol_id, order_id)):
        return link, slot
    slot = _find_id_behind(book, slot, symbol_id, order_id)
    return load_uint32(slot + ID_SLOT_LINK), slot


@inlined
def _is_slot_of(book: LadderBook, slot: int, hashed: int, symbol_id: int, order_id: int) -> bool:
    order = address_of_link(book, load_uint32(slot + ID_SLOT_LINK))
    return (
        load_uint32(slot + ID_SLOT_HASH) == hashed
        and load_int64(order + ORDER_ID) == order_id
        and load_uint16(order + ORDER_SYMBOL) == symbol_id
    )


@kernel
def _find_id_behind(book: LadderBook, slot: int, symbol_id: int, order_id: int) -> int:
    """The slot where :func:`find_id` ends, when another id stands in the one where it begins."""
    hashed = id_hash(symbol_id, order_id)
    while True:
        slot = _slot_behind(book, slot)
        if load_uint32(slot + ID_SLOT_LINK) == NO_LINK or _is_slot_of(
            book, slot, hashed, symbol_id, order_id
        ):
            return slot


@inlined
def put_id(slot: int, hashed: int, link: int) -> None:
    """Enter an order, whose id has this hash, in the empty slot where :func:`find_id` did not find it."""
    store_uint32(slot + ID_SLOT_LINK, link)
    store_uint32(slot + ID_SLOT_HASH, hashed)


@inlined
def remove_id(book: LadderBook, slot: int) -> None:
    """Empty the slot where :func:`find_id` found an order, and close the gap."""
    store_uint32(slot + ID_SLOT_LINK, NO_LINK)
    if unlikely(load_uint32(_slot_behind(book, slot) + ID_SLOT_LINK) != NO_LINK):
        _close_gap(book, slot)


@kernel
def _close_gap(book: LadderBook, gap: int) -> None:
    """Move members of the run behind an empty slot back into it, as far as they want to be there."""
    mask = word(book, ID_SLOTS_MASK)
    following = _slot_behind(book, gap)
    while load_uint32(following + ID_SLOT_LINK) != NO_LINK:
        home = slot_of_hash(book, load_uint32(following + ID_SLOT_HASH))
        # It may move back only if that does not take it in front of its own home.
        if ((following - home) & mask) >= ((following - gap) & mask):
            store_int64(gap, load_int64(following))
            gap = following
        following = _slot_behind(book, following)
    store_uint32(gap + ID_SLOT_LINK, NO_LINK)


@kernel
def start_ids(book: LadderBook, place: int, slots: int) -> None:
    """Use a table of so many slots, a power of two, all of them empty, at ``place``."""
    store_int64(book.base + ID_SLOTS, place)
    store_int64(book.base + ID_SLOTS_SHIFT, HASH_BITS - 63 + count_leading_zeros(slots))
    store_int64(book.base + ID_SLOTS_MASK, (slots - 1) << ID_SLOT_SHIFT)


@kernel
def grow_ids(book: LadderBook, place: int) -> None:
    """Move to a table of twice as many slots, all of them empty, at ``place``. The old one stays as it was."""
    slot, size_bytes = word(book, ID_SLOTS), word(book, ID_SLOTS_MASK) + (1 << ID_SLOT_SHIFT)
    behind = slot + size_bytes
    start_ids(book, place, size_bytes >> ID_SLOT_SHIFT << 1)
    while slot < behind:
        if load_uint32(slot + ID_SLOT_LINK) != NO_LINK:
            free = slot_of_hash(book, load_uint32(slot + ID_SLOT_HASH))
            while load_uint32(free + ID_SLOT_LINK) != NO_LINK:
                free = _slot_behind(book, free)
            store_int64(free, load_int64(slot))
        slot += 1 << ID_SLOT_SHIFT
