"""The id index is a hash table of the live ids, which may be any 64-bit patterns.

If ids are dense (1, 2, 3 … in any order) one can do without a hash: the id is the index of a table, and what stands
there is the order. No probing, no comparing, no gap to close. The price is a slot for every id that was ever given out,
not only for the live ones: a million ids are 4 MiB of which any line may be next, however few orders rest, where the
hash table of a small book stays in the cache. And an id beyond the table, or one used twice, is beyond the book's
reach, which is why the core does not do it. This is the one ablation that does not keep every promise: it gives the
same events as long as ids are dense.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.book.ladder_layout import _bit_length
from exchange.book.ladder_memory import ID_SLOTS, ID_SLOTS_MASK, NO_LINK, SYMBOL_COUNT, LadderBook, word
from exchange.native import (
    add_wrapping,
    inlined,
    load_uint32,
    multiply_wrapping,
    prefetch_for_write,
    shift_left_wrapping,
    store_uint32,
)

IDEA: Final = Idea(
    title="A hash table of the live ids",
    variant="with a table of all ids",
    replaces={
        "id_index": ("prefetch_id", "find_id", "put_id", "remove_id"),
        "ladder_layout": ("_bits_of_slots",),
        "ladder_memory": ("ID_SLOT_SHIFT",),
    },
    shown=(
        "exchange/book/id_index.py:id_hash",
        "exchange/book/id_index.py:find_id",
        "exchange/book/id_index.py:remove_id",
    ),
)

ID_SLOT_SHIFT: Final = 2
DENSE_ID_BITS: Final = 21


@inlined
def _bits_of_slots(members: int) -> int:
    """Room for two million ids, times symbols; the other hash table of the book has as much, and does not use it."""
    return max(DENSE_ID_BITS, _bit_length(2 * members - 1))


@inlined
def _slot_of_dense_id(book: LadderBook, symbol_id: int, order_id: int) -> int:
    """The slot that belongs to an id; one beyond the table shares another's, so that only the table is touched."""
    number = add_wrapping(multiply_wrapping(order_id, word(book, SYMBOL_COUNT)), symbol_id)
    return word(book, ID_SLOTS) + (shift_left_wrapping(number, ID_SLOT_SHIFT) & word(book, ID_SLOTS_MASK))


@inlined
def prefetch_id(book: LadderBook, symbol_id: int, order_id: int) -> None:
    """Bring the slot of an id nearer, for a command that is still some way down the batch."""
    prefetch_for_write(_slot_of_dense_id(book, symbol_id, order_id))


@inlined
def find_id(book: LadderBook, symbol_id: int, order_id: int) -> tuple[int, int]:
    """The order's link (``NO_LINK`` if no such order lives) and its slot."""
    slot = _slot_of_dense_id(book, symbol_id, order_id)
    return load_uint32(slot), slot


@inlined
def put_id(slot: int, hashed: int, link: int) -> None:
    """Enter an order at its slot."""
    store_uint32(slot, link)


@inlined
def remove_id(book: LadderBook, slot: int) -> None:
    """Empty a slot."""
    store_uint32(slot, NO_LINK)
