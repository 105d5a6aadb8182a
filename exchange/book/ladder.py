"""The ladder book: owner of its memory, and the questions that can be asked of it between batches.

The steps that apply commands are in ``ladder_matching.py``, the layout in ``ladder_memory.py``. Every pool is
sized for the worst case that the settings allow (``ladder_layout.py``), so that nothing can run out but the one
bound that the rules name (``capacity_orders``). Address space is taken for all of it; memory only for what is
touched."""

from typing import Final

from exchange.book import ladder_matching  # noqa: F401 - registers how commands are applied
from exchange.book.ladder_events import (
    KIND,
    NEW,
    PRICE,
    QUANTITY,
    SESSION_ID,
    SIDE,
    SYMBOL_ID,
)
from exchange.book.ladder_events import ORDER_ID as COMMAND_ORDER_ID
from exchange.book.ladder_layout import ALIGNMENT_BYTES, build_ladder_at, measure_ladder
from exchange.book.ladder_memory import (
    EMPTY,
    LAST_MATCH,
    LEVEL_QUANTITY,
    LINK_SHIFT,
    LIVE_ORDERS,
    NEXT,
    ORDER_ID,
    ORDER_QUANTITY,
    ORDER_SESSION,
    LadderBook,
    address_of_link,
    price_of_key,
    word,
)
from exchange.book.price_tree import best_key, find_page, level_of_key, next_best_key
from exchange.book.protocol import (
    export_orders,
    live_order_count,
    match_count,
    restore_match_count,
    top_of_book,
)
from exchange.errors import UserError
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

LINKED_BYTES_MAX: Final = 1 << (32 + LINK_SHIFT)
"""How far from its start the links of a book can reach: 32 GiB."""


class Ladder:
    """A ladder book and the arena that it lies in; pass ``state`` to the operations of the layer.

    Args:
        symbol_count: symbols are numbered from 0.
        capacity_orders: how many orders may rest at once, over all symbols.
        price_min_ticks: lowest price of the band.
        price_max_ticks: highest price of the band.
        huge_pages: see :class:`exchange.native.Arena`.

    Raises:
        UserError: so many orders are beyond what 32-bit links reach, or what the system gives address space for.
    """

    def __init__(
        self,
        symbol_count: int,
        capacity_orders: int,
        price_min_ticks: int,
        price_max_ticks: int,
        huge_pages: HugePages = "advise",
    ) -> None:
        shape = (symbol_count, capacity_orders, price_min_ticks, price_max_ticks)
        size_bytes, linked_bytes = measure_ladder(*shape)
        _check_links(capacity_orders, linked_bytes)
        self.arena: Final = _reserve(capacity_orders, size_bytes, huge_pages)
        self.state: Final = LadderBook(self.arena.allocate(size_bytes, ALIGNMENT_BYTES))
        build_ladder_at(self.state.base, *shape)


def _check_links(capacity_orders: int, linked_bytes: int) -> None:
    if linked_bytes > LINKED_BYTES_MAX:
        raise UserError(
            f"book.capacity_orders = {capacity_orders}: orders and price levels could take "
            f"{linked_bytes / 2**30:.1f} GiB, but 32-bit links reach {LINKED_BYTES_MAX >> 30} GiB; "
            "lower capacity_orders or narrow the price band"
        )


def _reserve(capacity_orders: int, size_bytes: int, huge_pages: HugePages) -> Arena:
    try:
        return Arena.private(size_bytes, huge_pages)
    except OSError as error:
        raise UserError(
            f"book.capacity_orders = {capacity_orders}: the system refuses {size_bytes / 2**30:.1f} GiB of address "
            f"space ({error.strerror}); lower capacity_orders or narrow the price band"
        ) from error


@implements(live_order_count, LadderBook)
def _live_order_count(book: LadderBook) -> int:
    return word(book, LIVE_ORDERS)


@implements(top_of_book, LadderBook)
def _top_of_book(book: LadderBook, symbol_id: int, out_address: int) -> int:
    present = 0
    for side in range(2):
        side_id = symbol_id * 2 + side
        key = best_key(book, side_id)
        price_ticks, quantity_lots = 0, 0
        if key != EMPTY:
            present |= 1 << side
            price_ticks = price_of_key(book, side, key)
            level = level_of_key(find_page(book, side_id, key), key)
            quantity_lots = load_int64(address_of_link(book, level) + LEVEL_QUANTITY)
        store_int64(out_address + 16 * side, price_ticks)
        store_int64(out_address + 16 * side + 8, quantity_lots)
    return present


@implements(export_orders, LadderBook, inline=False)
def _export_orders(book: LadderBook, symbol_id: int, out_address: int) -> int:
    out = out_address
    for side in range(2):
        side_id = symbol_id * 2 + side
        key = best_key(book, side_id)
        while key != EMPTY:
            level_link = level_of_key(find_page(book, side_id, key), key)
            link = load_uint32(address_of_link(book, level_link) + NEXT)
            while link != level_link:
                order = address_of_link(book, link)
                for offset in range(0, RECORD_BYTES, 8):
                    store_int64(out + offset, 0)
                store_uint8(out + KIND, NEW)
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


@implements(match_count, LadderBook)
def _match_count(book: LadderBook) -> int:
    return word(book, LAST_MATCH)


@implements(restore_match_count, LadderBook)
def _restore_match_count(book: LadderBook, matches: int) -> None:
    store_int64(book.base + LAST_MATCH, matches)
