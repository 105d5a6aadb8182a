"""The ladder book: owner of its memory, and the questions that can be asked of it between batches.

The steps that apply commands are in ``ladder_matching.py``, the layout in ``ladder_memory.py``. The owner sizes every pool for
the worst case that the settings allow, so that nothing can run out but the one bound that the rules name
(``capacity_orders``). Address space is taken for all of it; memory only for what is touched.
"""

from typing import Final

from exchange.book import ladder_matching
from exchange.book.ladder_events import (
    KIND,
    PRICE,
    QUANTITY,
    SESSION_ID,
    SIDE,
    SYMBOL_ID,
)
from exchange.book.ladder_events import ORDER_ID as COMMAND_ORDER_ID
from exchange.book.ladder_memory import (
    BEST_KEY,
    EMPTY,
    FRESH_ORDER,
    HEADER_BYTES,
    LEVEL_QUANTITY,
    LEVEL_SHIFT,
    LINK_SHIFT,
    LIVE_ORDERS,
    NEXT,
    ORDER_ID,
    ORDER_QUANTITY,
    ORDER_SESSION,
    ORDER_SHIFT,
    PAGE_SHIFT,
    SIDE_SHIFT,
    SLOT_MASK,
    SUMMARY_SHIFT,
    LadderBook,
    address_of_link,
    link_of_level,
    price_of_key,
    side_address,
)
from exchange.book.price_pages import find_page, next_best_key
from exchange.book.protocol import export_orders, live_order_count, top_of_book
from exchange.messages import RECORD_BYTES
from exchange.native import (
    Arena,
    HugePages,
    implements,
    load_int64,
    load_uint16,
    load_uint32,
    store_int64,
    store_uint8,
    store_uint16,
)

_ALIGNMENT: Final = 4096
_LEVELS_PER_PAGE: Final = 64


class Ladder:
    """A ladder book and the arena that it lies in; pass ``state`` to the operations of the layer.

    Args:
        symbol_count: symbols are numbered from 0.
        capacity_orders: how many orders may rest at once, over all symbols.
        price_min_ticks: lowest price of the band.
        price_max_ticks: highest price of the band.
        huge_pages: see :class:`exchange.native.Arena`.
    """

    def __init__(
        self,
        symbol_count: int,
        capacity_orders: int,
        price_min_ticks: int,
        price_max_ticks: int,
        huge_pages: HugePages = "advise",
    ) -> None:
        span = price_max_ticks - price_min_ticks
        pages_of_band = 2 * symbol_count * ((span >> 6) + 1)
        capacity_pages = min(capacity_orders, pages_of_band)
        height = max(1, -(-max(span >> 6, 1).bit_length() // 6))
        id_bits = _bits_of_slots(capacity_orders)
        page_bits = _bits_of_slots(capacity_pages)
        summary_bits = _bits_of_slots(height * capacity_pages)
        sizes = {
            "header": HEADER_BYTES,
            "sides": 2 * symbol_count << SIDE_SHIFT,
            "pages": capacity_pages << PAGE_SHIFT,
            "levels": capacity_pages * _LEVELS_PER_PAGE << LEVEL_SHIFT,
            "orders": capacity_orders << ORDER_SHIFT,
            "id_slots": 4 << id_bits,
            "page_slots": 4 << page_bits,
            "summaries": 1 << (summary_bits + SUMMARY_SHIFT),
        }
        self.arena: Final = Arena.private(
            sum(size + _ALIGNMENT for size in sizes.values()) + _ALIGNMENT, huge_pages
        )
        base = self.arena.allocate(_ALIGNMENT, _ALIGNMENT)  # link 0 points here and means "none"
        places = {name: self.arena.allocate(size, _ALIGNMENT) for name, size in sizes.items()}
        self.state: Final = LadderBook(
            base=base,
            **places,
            id_hash_shift=64 - id_bits,
            page_hash_shift=64 - page_bits,
            summary_hash_shift=64 - summary_bits,
            summary_height=height,
            price_min=price_min_ticks,
            price_max=price_max_ticks,
            symbol_count=symbol_count,
            capacity_orders=capacity_orders,
        )
        store_int64(places["header"] + FRESH_ORDER, (places["orders"] - base) >> LINK_SHIFT)
        for side_id in range(2 * symbol_count):
            store_int64(places["sides"] + (side_id << SIDE_SHIFT) + BEST_KEY, EMPTY)


def _bits_of_slots(members: int) -> int:
    """A hash table of 2**bits slots is at most half full with so many members."""
    return max(4, (2 * members - 1).bit_length())


@implements(live_order_count, LadderBook)
def _live_order_count(book: LadderBook) -> int:
    return load_int64(book.header + LIVE_ORDERS)


@implements(top_of_book, LadderBook)
def _top_of_book(book: LadderBook, symbol_id: int, out_address: int) -> int:
    present = 0
    for side in range(2):
        side_id = symbol_id * 2 + side
        key = load_int64(side_address(book, side_id) + BEST_KEY)
        price_ticks, quantity_lots = 0, 0
        if key != EMPTY:
            present |= 1 << side
            price_ticks = price_of_key(book, side, key)
            level = link_of_level(book, find_page(book, side_id, key >> 6), key & SLOT_MASK)
            quantity_lots = load_int64(address_of_link(book, level) + LEVEL_QUANTITY)
        store_int64(out_address + 16 * side, price_ticks)
        store_int64(out_address + 16 * side + 8, quantity_lots)
    return present


@implements(export_orders, LadderBook, inline=False)
def _export_orders(book: LadderBook, symbol_id: int, out_address: int) -> int:
    out = out_address
    for side in range(2):
        side_id = symbol_id * 2 + side
        key = load_int64(side_address(book, side_id) + BEST_KEY)
        while key != EMPTY:
            level_link = link_of_level(book, find_page(book, side_id, key >> 6), key & SLOT_MASK)
            link = load_uint32(address_of_link(book, level_link) + NEXT)
            while link != level_link:
                order = address_of_link(book, link)
                for offset in range(0, RECORD_BYTES, 8):
                    store_int64(out + offset, 0)
                store_uint8(out + KIND, ladder_matching.NEW)
                store_uint8(out + SIDE, side)
                store_uint16(out + SYMBOL_ID, symbol_id)
                store_uint16(out + SESSION_ID, load_uint16(order + ORDER_SESSION))
                store_int64(out + COMMAND_ORDER_ID, load_int64(order + ORDER_ID))
                store_int64(out + PRICE, price_of_key(book, side, key))
                store_int64(out + QUANTITY, load_uint32(order + ORDER_QUANTITY))
                out += RECORD_BYTES
                link = load_uint32(order + NEXT)
            key = next_best_key(book, side_id, key)
    return (out - out_address) // RECORD_BYTES
