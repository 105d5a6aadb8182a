"""Setting the bit of a price sets the bit of its row as well, whether it was set before or not, and when a bit is
cleared that of the row is written again, whether it changes or not: two loads and two stores, always. Whether a price
or a row had orders before is different from one command to the next, so a processor that must guess it guesses wrong,
and a wrong guess costs as much as a dozen stores.

Without the idea the book asks first, and writes only what changes.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.book.ladder_memory import BITS, LISTED, ROW_SHIFT, SLOT_MASK, LadderBook
from exchange.book.price_tree import _list_in_parents, bit, row_bits_address
from exchange.native import inlined, load_int64, load_uint32, store_int64, unlikely

IDEA: Final = Idea(
    title="Stores instead of branches",
    variant="without blind stores",
    replaces={"price_tree": ("occupy_price", "vacate_price")},
)


@inlined
def occupy_price(book: LadderBook, page: int, key: int) -> None:
    """A price has orders now, perhaps it had some before."""
    row_bits = row_bits_address(page, (key >> ROW_SHIFT) & SLOT_MASK)
    bits = load_int64(row_bits)
    if bits & bit(key) == 0:
        store_int64(row_bits, bits | bit(key))
        if bits == 0:
            store_int64(page + BITS, load_int64(page + BITS) | bit(key >> ROW_SHIFT))
            if unlikely(load_uint32(page + LISTED) == 0):
                _list_in_parents(book, page)


@inlined
def vacate_price(page: int, key: int) -> None:
    """A price has no orders any more."""
    row_bits = row_bits_address(page, (key >> ROW_SHIFT) & SLOT_MASK)
    bits = load_int64(row_bits) & ~bit(key)
    store_int64(row_bits, bits)
    if bits == 0:
        store_int64(page + BITS, load_int64(page + BITS) & ~bit(key >> ROW_SHIFT))
