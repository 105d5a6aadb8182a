"""From an order's id to the order: a hash table of the live ids and of nothing else.

Open addressing with linear probing (Knuth, TAOCP 3, 6.4, Algorithm L). A slot is one word: the 32-bit link of an
order below, the upper 32 bits of its id's hash above. So a probe that meets another id sees it in the slot and
leaves that order's memory alone, which has perhaps not been touched for a million commands. The table has at
least twice as many slots as orders can rest. Removal moves later members of the run back into the gap (Algorithm
R; the hash in the slot says where each would like to be), so there are no tombstones and the table never wears
out, however many orders have passed through it.

An id is any 64-bit pattern, unique within its symbol.
"""

from exchange.book.ladder_memory import (
    ID_SLOTS,
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
    inlined,
    kernel,
    likely,
    load_int64,
    load_uint16,
    prefetch_for_write,
    shift_left_wrapping,
    shift_right_logical,
    store_int64,
    unlikely,
)

HASH_BITS = 32
LINK_MASK = (1 << HASH_BITS) - 1


@inlined
def id_hash(symbol_id: int, order_id: int) -> int:
    """The 32 bits of an id's hash that are kept."""
    return shift_right_logical(mix(order_id, symbol_id), HASH_BITS)


@inlined
def _home(book: LadderBook, hashed: int) -> int:
    """The slot where the search for an id begins: the upper bits of its hash."""
    return hashed >> word(book, ID_SLOTS_SHIFT)


@inlined
def _mask(book: LadderBook) -> int:
    return LINK_MASK >> word(book, ID_SLOTS_SHIFT)


@inlined
def _slot_address(book: LadderBook, slot: int) -> int:
    return word(book, ID_SLOTS) + (slot << 3)


@inlined
def prefetch_id(book: LadderBook, symbol_id: int, order_id: int) -> None:
    """Bring the slot of an id nearer, for a command that is still some way down the batch."""
    slot = _slot_address(book, _home(book, id_hash(symbol_id, order_id)))
    prefetch_for_write(slot)
    prefetch_for_write(slot + 8)  # where removing looks; one time in eight it is another cache line


@inlined
def find_id(book: LadderBook, symbol_id: int, order_id: int) -> tuple[int, int]:
    """The order's link (``NO_LINK`` if no such order lives) and the slot where the search ended."""
    hashed = id_hash(symbol_id, order_id)
    slot = _home(book, hashed)
    entry = load_int64(_slot_address(book, slot))
    if entry == 0:
        return NO_LINK, slot
    if likely(_is_entry_of(book, entry, hashed, symbol_id, order_id)):
        return entry & LINK_MASK, slot
    found = _find_id_behind(book, slot, symbol_id, order_id)
    return found & LINK_MASK, found >> HASH_BITS


@inlined
def _is_entry_of(book: LadderBook, entry: int, hashed: int, symbol_id: int, order_id: int) -> bool:
    order = address_of_link(book, entry & LINK_MASK)
    return (
        shift_right_logical(entry, HASH_BITS) == hashed
        and load_int64(order + ORDER_ID) == order_id
        and load_uint16(order + ORDER_SYMBOL) == symbol_id
    )


@kernel
def _find_id_behind(book: LadderBook, slot: int, symbol_id: int, order_id: int) -> int:
    """As :func:`find_id`, when another id stands in the slot where the search begins: the slot above, the link below.

    One word, because the room for a pair of results would be cleared on every call of the caller.
    """
    hashed = id_hash(symbol_id, order_id)
    while True:
        slot = (slot + 1) & _mask(book)
        entry = load_int64(_slot_address(book, slot))
        if entry == 0:
            return slot << HASH_BITS
        if _is_entry_of(book, entry, hashed, symbol_id, order_id):
            return (slot << HASH_BITS) | (entry & LINK_MASK)


@inlined
def put_id(book: LadderBook, slot: int, hashed: int, link: int) -> None:
    """Enter an order, whose id has this hash, at the empty slot where :func:`find_id` did not find it."""
    store_int64(_slot_address(book, slot), shift_left_wrapping(hashed, HASH_BITS) | link)


@inlined
def remove_id(book: LadderBook, slot: int) -> None:
    """Empty the slot where :func:`find_id` found an order, and close the gap."""
    following = (slot + 1) & _mask(book)
    store_int64(_slot_address(book, slot), 0)
    if unlikely(load_int64(_slot_address(book, following)) != 0):
        _close_gap(book, slot)


@kernel
def _close_gap(book: LadderBook, gap: int) -> None:
    """Move members of the run behind an empty slot back into it, as far as they want to be there."""
    mask = _mask(book)
    following = (gap + 1) & mask
    entry = load_int64(_slot_address(book, following))
    while entry != 0:
        home = _home(book, shift_right_logical(entry, HASH_BITS))
        # It may move back only if that does not take it in front of its own home.
        if ((following - home) & mask) >= ((following - gap) & mask):
            store_int64(_slot_address(book, gap), entry)
            gap = following
        following = (following + 1) & mask
        entry = load_int64(_slot_address(book, following))
    store_int64(_slot_address(book, gap), 0)
