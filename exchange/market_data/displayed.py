"""The displayed orders of a publisher, out of its book and back in, each with the number by which the feed knows it.

A record is a NEW command, as of :func:`exchange.book.protocol.export_orders`, with the reference in its ``tag``. It is
what a snapshot keeps of a feed, and what a GLIMPSE spin is made of where nobody has heard the whole day
(:mod:`exchange.market_data.first_spin`).

Rules: no agent publishes meanwhile. Orders are put back in the order in which they came out, into an empty book."""

from typing import Final

from exchange.book.id_index import find_id
from exchange.book.ladder_events import MATCH_NUMBER, ORDER_ID, PRICE, QUANTITY, SIDE, SYMBOL_ID
from exchange.book.protocol import export_orders
from exchange.market_data.publisher_kernel import can_be_displayed, try_rest
from exchange.market_data.publisher_memory import PublisherState, reference_address
from exchange.messages import RECORD_BYTES, SELL
from exchange.native import kernel, load_int64, load_uint8, load_uint16, load_uint32, store_int64

REFERENCE: Final = MATCH_NUMBER
"""Where a command has its ``tag``."""


@kernel
def export_displayed(publisher: PublisherState, symbol_id: int, out_address: int) -> int:
    """Write a symbol's displayed orders in priority order; how many. There is room for all displayed orders."""
    count = export_orders(publisher.book, symbol_id, out_address)
    for index in range(count):
        order = out_address + index * RECORD_BYTES
        link, _slot = find_id(publisher.book, symbol_id, load_int64(order + ORDER_ID))
        store_int64(order + REFERENCE, load_int64(reference_address(publisher, link)))
    return count


@kernel
def restore_displayed(publisher: PublisherState, orders_address: int, count: int) -> int:
    """Put orders back; how many that were: fewer than ``count`` if one cannot be displayed, or there is no room."""
    for index in range(count):
        order = orders_address + index * RECORD_BYTES
        symbol_id, side = load_uint16(order + SYMBOL_ID), load_uint8(order + SIDE)
        price_ticks = load_int64(order + PRICE)
        if symbol_id >= publisher.symbol_count or side > SELL or not can_be_displayed(price_ticks):
            return index
        if not try_rest(
            publisher,
            symbol_id,
            side,
            load_int64(order + ORDER_ID),
            load_int64(order + REFERENCE),
            price_ticks,
            load_uint32(order + QUANTITY),
        ):
            return index
    return count
