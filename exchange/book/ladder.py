"""The ladder book: owner of its memory, and the questions that can be asked of it between batches.

The steps that apply commands are in ``ladder_matching.py``, the layout in ``ladder_memory.py``. The owner
sizes every pool for the worst case that the settings allow, so that nothing can run out but the one bound
that the rules name (``capacity_orders``). Address space is taken for all of it; memory only for what is
touched."""

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
    LEVELS_PER_PAGE_SHIFT,
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
"""How far from its start the links of a book can reach: 64 GiB."""

_ALIGNMENT: Final = 4096


class Ladder:
    """A ladder book and the arenas that it lies in; pass ``state`` to the operations of the layer.

    Args:
        symbol_count: symbols are numbered from 0.
        capacity_orders: how many orders may rest at once, over all symbols.
        price_min_ticks: lowest price of the band.
        price_max_ticks: highest price of the band.
        huge_pages: see :class:`exchange.native.Arena`; the summaries never have them.

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
        last_page_number = (price_max_ticks - price_min_ticks) >> LEVELS_PER_PAGE_SHIFT
        nodes_by_height = _most_nodes(2 * symbol_count, last_page_number, capacity_orders)
        capacity_pages = nodes_by_height[0]
        id_bits = _bits_of_slots(capacity_orders)
        page_bits = _bits_of_slots(capacity_pages)
        summary_bits = _bits_of_slots(sum(nodes_by_height[1:]))
        summary_bytes = 1 << (summary_bits + SUMMARY_SHIFT)
        sizes = {
            "header": HEADER_BYTES,
            "sides": 2 * symbol_count << SIDE_SHIFT,
            "levels": capacity_pages << (LEVELS_PER_PAGE_SHIFT + LEVEL_SHIFT),
            "orders": capacity_orders << ORDER_SHIFT,
            "pages": capacity_pages << PAGE_SHIFT,
            "id_slots": 4 << id_bits,
            "page_slots": 4 << page_bits,
        }
        _check_links(capacity_orders, sizes)
        self.arena: Final = _reserve(
            capacity_orders, _ALIGNMENT + sum(map(_rounded, sizes.values())), huge_pages
        )
        # The summaries are few in a market that keeps together, and far apart by hash: on huge pages each of
        # them would cost 2 MiB and the milliseconds that the kernel takes to clear it.
        self.summaries_arena: Final = _reserve(capacity_orders, summary_bytes, "never")
        base = self.arena.allocate(_ALIGNMENT, _ALIGNMENT)  # link 0 points here and means "none"
        places = {name: self.arena.allocate(size, _ALIGNMENT) for name, size in sizes.items()}
        self.state: Final = LadderBook(
            base=base,
            **places,
            summaries=self.summaries_arena.allocate(summary_bytes),
            id_hash_shift=64 - id_bits,
            page_hash_shift=64 - page_bits,
            summary_hash_shift=64 - summary_bits,
            summary_height=len(nodes_by_height) - 1,
            price_min=price_min_ticks,
            price_max=price_max_ticks,
            symbol_count=symbol_count,
            capacity_orders=capacity_orders,
        )
        store_int64(places["header"] + FRESH_ORDER, (places["orders"] - base) >> LINK_SHIFT)
        for side_id in range(2 * symbol_count):
            store_int64(places["sides"] + (side_id << SIDE_SHIFT) + BEST_KEY, EMPTY)


def _most_nodes(side_count: int, last_page_number: int, capacity_orders: int) -> list[int]:
    """How many pages, and summaries of height 1, 2 ..., there can be at once.

    Each stands for at least one order and none exists twice, so there are at most as many as orders, and as the
    band has.
    """
    nodes = [min(capacity_orders, side_count * (last_page_number + 1))]
    while last_page_number > 0 or len(nodes) == 1:
        last_page_number >>= 6
        nodes.append(min(capacity_orders, side_count * (last_page_number + 1)))
    return nodes


def _check_links(capacity_orders: int, sizes: dict[str, int]) -> None:
    linked_bytes = _ALIGNMENT + sum(_rounded(sizes[name]) for name in ("header", "sides", "levels", "orders"))
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


def _rounded(size_bytes: int) -> int:
    return (size_bytes + _ALIGNMENT - 1) & -_ALIGNMENT


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
