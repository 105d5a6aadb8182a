"""From the exchange's events to the messages of its feed: the compiled publisher.

What an event becomes:

=============== ============================================================ =========================================
event           meaning                                                      message
=============== ============================================================ =========================================
ACCEPTED        the order rests at once                                      A
ACCEPTED        it trades first, or never rests                              nothing yet; A for what is left of it
EXECUTED        a displayed order traded                                     E, at the order's own price, so never C
EXECUTED        an order traded that could not be displayed                  P
CANCELED        of a displayed order a part is left, or nothing              X, D
REPLACED        it has lost its place and rests at once                      U, with the new id as its number
REPLACED        it has lost its place and trades first                       D; A for what is left of it
REPLACED        it keeps its place                                           X for the difference; its number stays
REJECTED        nothing happened                                             nothing
TRADING_STATE   the symbol is halted, or trades again                        H
ANSWER          the day ends, or begins again after that                     S, three times
=============== ============================================================ =========================================

An order that comes in trades before it rests, and no event says that it has done trading. The publisher finds out by
its own book: as long as the price of what is left reaches the other side's best price, there will be another trade;
when it does not, the order rests. So the feed shows no crossed book, not for a moment, and no message waits for the
next event.

Two kinds of orders never rest and look like others: market orders that the engine takes for a day, and those at a
price that the feed's 32 bits cannot hold. They are not displayed; what happens to them afterwards concerns no
displayed order but the makers of their trades.

Rules: events of one symbol come in order, those of different symbols mixed in any way. A trade's number is unique
over all shards (:mod:`exchange.matching.match_numbers`). Nothing here allocates, blocks or raises.
"""

from typing import Final

from exchange.book.id_index import find_id, id_hash, put_id, remove_id
from exchange.book.ladder_events import (
    ACCEPTED,
    CANCELED,
    EXECUTED,
    KIND,
    MATCH_NUMBER,
    OTHER_ORDER_ID,
    PRICE,
    QUANTITY,
    REPLACED,
    SIDE,
    SYMBOL_ID,
    TIMESTAMP,
)
from exchange.book.ladder_events import (
    ORDER_ID as EVENT_ORDER_ID,
)
from exchange.book.ladder_matching import key_of_level, reduce_order, rest_order, unlink_order
from exchange.book.ladder_memory import (
    BEST_BOUND,
    CAPACITY_ORDERS,
    EMPTY,
    LIVE_ORDERS,
    NO_LINK,
    ORDER_ID,
    ORDER_LEVEL,
    ORDER_QUANTITY,
    SPAN,
    address_of_link,
    key_of_price,
    price_of_key,
    row_of_level,
    side_address,
    word,
)
from exchange.book.price_tree import best_key
from exchange.market_data.datagram_store import append_written, next_message
from exchange.market_data.itch_writer import (
    write_add,
    write_canceled,
    write_deleted,
    write_executed,
    write_replaced,
    write_trade,
    write_trading_action,
)
from exchange.market_data.publisher_day import publish_stages
from exchange.market_data.publisher_memory import (
    ARRIVED_ID,
    ARRIVED_PRICE,
    ARRIVED_SHARES,
    ARRIVED_SIDE,
    MIDNIGHT_NS,
    NOT_DISPLAYED,
    OWNER,
    TIMESTAMP_NS,
    PublisherState,
    action_address,
    arrived_address,
    clear_arrived,
    reference_address,
)
from exchange.matching.match_numbers import public_match_number
from exchange.messages import RECORD_BYTES, EventKind, SymbolState, TimeInForce
from exchange.native import (
    copy_bytes,
    implements,
    inlined,
    kernel,
    likely,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    store_int64,
    store_uint32,
    unlikely,
)
from exchange.transport.protocol import flush, send
from exchange.wire.itch50 import STOCK_BYTES
from exchange.wire.itch50_codes import TradingState

PRICE_MIN_TICKS: Final = 1
PRICE_MAX_TICKS: Final = (1 << 32) - 1
_TIME_IN_FORCE: Final = 3
_DAY: Final = int(TimeInForce.DAY)
_TRADING_STATE: Final = int(EventKind.TRADING_STATE)
_ANSWER: Final = int(EventKind.ANSWER)
_HALTED: Final = int(SymbolState.HALTED)
_HALTED_LETTER: Final = ord(TradingState.HALTED)
_TRADING_LETTER: Final = ord(TradingState.TRADING)


@implements(send, PublisherState, inline=False)
def _send(publisher: PublisherState, events_address: int, count: int) -> None:
    for index in range(count):
        publish_event(publisher, events_address + index * RECORD_BYTES)


@implements(flush, PublisherState)
def _flush(publisher: PublisherState) -> int:
    """Every event has given its messages already."""
    return 0


@kernel
def publish_event(publisher: PublisherState, event: int) -> None:
    """Write the messages that an event gives rise to."""
    kind, symbol_id = load_uint8(event + KIND), load_uint16(event + SYMBOL_ID)
    if unlikely(symbol_id >= publisher.symbol_count):
        return
    now_ns = max(load_int64(event + TIMESTAMP) - load_int64(publisher.words + MIDNIGHT_NS), 0)
    if now_ns > load_int64(publisher.words + TIMESTAMP_NS):
        store_int64(publisher.words + TIMESTAMP_NS, now_ns)
    if kind == ACCEPTED:
        _accepted(publisher, event, symbol_id)
    elif kind == CANCELED:
        _canceled(publisher, event, symbol_id)
    elif kind == EXECUTED:
        _executed(publisher, event, symbol_id)
    elif kind == REPLACED:
        _replaced(publisher, event, symbol_id)
    elif kind == _TRADING_STATE:
        _trading_state(publisher, event, symbol_id)
    elif kind == _ANSWER:
        publish_stages(publisher, event)


@inlined
def _now(publisher: PublisherState) -> int:
    return load_int64(publisher.words + TIMESTAMP_NS)


@inlined
def can_be_displayed(price_ticks: int) -> bool:
    """Whether the price field of a message can hold it."""
    return PRICE_MIN_TICKS <= price_ticks <= PRICE_MAX_TICKS


@inlined
def _reaches_other_side(publisher: PublisherState, symbol_id: int, side: int, price_ticks: int) -> bool:
    """Whether an order at that price trades with a displayed one."""
    book = publisher.book
    key = key_of_price(book, side, price_ticks)
    opposite_id = 2 * symbol_id + 1 - side
    if likely(key + load_int64(side_address(book, opposite_id) + BEST_BOUND) < word(book, SPAN)):
        return False
    best = best_key(book, opposite_id)
    return best != EMPTY and key + best >= word(book, SPAN)


@inlined
def _accepted(publisher: PublisherState, event: int, symbol_id: int) -> None:
    clear_arrived(arrived_address(publisher, symbol_id))  # the command before this one is over
    if load_uint8(event + _TIME_IN_FORCE) != _DAY:
        return
    _arrive(
        publisher,
        symbol_id,
        load_uint8(event + SIDE),
        load_int64(event + EVENT_ORDER_ID),
        load_int64(event + PRICE),
        load_uint32(event + QUANTITY),
    )


@inlined
def _arrive(
    publisher: PublisherState,
    symbol_id: int,
    side: int,
    order_id: int,
    price_ticks: int,
    shares: int,
) -> None:
    """An order comes in: it rests and is displayed at once, or is kept until it has traded."""
    if unlikely(not can_be_displayed(price_ticks)):
        store_int64(publisher.words + NOT_DISPLAYED, load_int64(publisher.words + NOT_DISPLAYED) + 1)
        return
    if likely(not _reaches_other_side(publisher, symbol_id, side, price_ticks)):
        _display(publisher, symbol_id, side, order_id, price_ticks, shares)
        return
    arrived = arrived_address(publisher, symbol_id)
    store_int64(arrived + ARRIVED_ID, order_id)
    store_int64(arrived + ARRIVED_PRICE, price_ticks)
    store_int64(arrived + ARRIVED_SHARES, shares)
    store_int64(arrived + ARRIVED_SIDE, side)


@inlined
def _display(
    publisher: PublisherState, symbol_id: int, side: int, order_id: int, price_ticks: int, shares: int
) -> None:
    """Publish an order that rests, under its own id."""
    if not try_rest(publisher, symbol_id, side, order_id, order_id, price_ticks, shares):
        return
    store, stock = publisher.store, publisher.stocks + STOCK_BYTES * symbol_id
    length = write_add(
        next_message(store),
        symbol_id + 1,
        _now(publisher),
        order_id,
        side,
        shares,
        stock,
        price_ticks,
    )
    append_written(store, length)


@inlined
def try_rest(
    publisher: PublisherState,
    symbol_id: int,
    side: int,
    order_id: int,
    reference: int,
    price_ticks: int,
    shares: int,
) -> bool:
    """Put an order into the publisher's own book; False if that is full or has the id already."""
    book = publisher.book
    found, slot = find_id(book, symbol_id, order_id)
    if unlikely(found != NO_LINK or word(book, LIVE_ORDERS) >= word(book, CAPACITY_ORDERS)):
        store_int64(publisher.words + NOT_DISPLAYED, load_int64(publisher.words + NOT_DISPLAYED) + 1)
        return False
    side_state = side_address(book, 2 * symbol_id + side)
    owner = publisher.words + OWNER
    store_uint32(owner, symbol_id)
    key = key_of_price(book, side, price_ticks)
    rest_order(book, owner - SYMBOL_ID, side_state, key, order_id, shares, slot, id_hash(symbol_id, order_id))
    store_int64(reference_address(publisher, load_uint32(slot)), reference)
    return True


@inlined
def _remove(publisher: PublisherState, link: int, slot: int) -> None:
    """Take an order out of the publisher's own book."""
    book = publisher.book
    remove_id(book, slot)
    order = address_of_link(book, link)
    level_link = load_uint32(order + ORDER_LEVEL)
    row = row_of_level(book, level_link)
    unlink_order(
        book, link, level_link, row, key_of_level(row, level_link), load_uint32(order + ORDER_QUANTITY)
    )


@inlined
def _take_away(publisher: PublisherState, symbol_id: int, link: int, slot: int, shares: int) -> None:
    """Shares of a displayed order are gone without a trade: X if others stay, else D."""
    store, locate, now_ns = publisher.store, symbol_id + 1, _now(publisher)
    reference = load_int64(reference_address(publisher, link))
    order = address_of_link(publisher.book, link)
    if shares < load_uint32(order + ORDER_QUANTITY):
        reduce_order(publisher.book, order, shares)
        length = write_canceled(next_message(store), locate, now_ns, reference, shares)
    else:
        _remove(publisher, link, slot)
        length = write_deleted(next_message(store), locate, now_ns, reference)
    append_written(store, length)


@inlined
def _canceled(publisher: PublisherState, event: int, symbol_id: int) -> None:
    order_id, shares = load_int64(event + EVENT_ORDER_ID), load_uint32(event + QUANTITY)
    link, slot = find_id(publisher.book, symbol_id, order_id)
    if likely(link != NO_LINK):
        _take_away(publisher, symbol_id, link, slot, shares)
        return
    _trade_arrived(publisher, symbol_id, order_id, shares)


@inlined
def _executed(publisher: PublisherState, event: int, symbol_id: int) -> None:
    shares = load_uint32(event + QUANTITY)
    shard = load_uint8(publisher.shards + symbol_id)
    match_number = public_match_number(load_int64(event + MATCH_NUMBER), shard, publisher.shard_count)
    _trade_maker(publisher, event, symbol_id, shares, match_number)
    taker_id = load_int64(event + EVENT_ORDER_ID)
    if not _trade_arrived(publisher, symbol_id, taker_id, shares):
        # An order that met one which is not displayed looked as if it would rest, and is displayed already.
        link, slot = find_id(publisher.book, symbol_id, taker_id)
        if unlikely(link != NO_LINK):
            _take_away(publisher, symbol_id, link, slot, shares)


@inlined
def _trade_maker(
    publisher: PublisherState, event: int, symbol_id: int, shares: int, match_number: int
) -> None:
    """The resting order of a trade: E, or P if it is not displayed."""
    store, locate, now_ns = publisher.store, symbol_id + 1, _now(publisher)
    link, slot = find_id(publisher.book, symbol_id, load_int64(event + OTHER_ORDER_ID))
    if likely(link != NO_LINK):
        reference = load_int64(reference_address(publisher, link))
        order = address_of_link(publisher.book, link)
        if shares < load_uint32(order + ORDER_QUANTITY):
            reduce_order(publisher.book, order, shares)
        else:
            _remove(publisher, link, slot)
        length = write_executed(next_message(store), locate, now_ns, reference, shares, match_number)
        append_written(store, length)
        return
    price_ticks = load_int64(event + PRICE)
    if can_be_displayed(price_ticks):
        stock = publisher.stocks + STOCK_BYTES * symbol_id
        length = write_trade(next_message(store), locate, now_ns, shares, stock, price_ticks, match_number)
        append_written(store, length)


@inlined
def _trade_arrived(publisher: PublisherState, symbol_id: int, order_id: int, shares: int) -> bool:
    """Shares of the order that has come in are gone; display it if it has done trading. False if it is another one."""
    arrived = arrived_address(publisher, symbol_id)
    left = load_int64(arrived + ARRIVED_SHARES)
    if left == 0 or load_int64(arrived + ARRIVED_ID) != order_id:
        return False
    left -= shares
    store_int64(arrived + ARRIVED_SHARES, left)
    if left > 0:
        side, price_ticks = load_int64(arrived + ARRIVED_SIDE), load_int64(arrived + ARRIVED_PRICE)
        if not _reaches_other_side(publisher, symbol_id, side, price_ticks):
            clear_arrived(arrived)
            _display(publisher, symbol_id, side, order_id, price_ticks, left)
    return True


@inlined
def _replaced(publisher: PublisherState, event: int, symbol_id: int) -> None:
    clear_arrived(arrived_address(publisher, symbol_id))
    book = publisher.book
    order_id, new_id = load_int64(event + EVENT_ORDER_ID), load_int64(event + OTHER_ORDER_ID)
    price_ticks, shares, side = (
        load_int64(event + PRICE),
        load_uint32(event + QUANTITY),
        load_uint8(event + SIDE),
    )
    link, slot = find_id(book, symbol_id, order_id)
    if unlikely(link == NO_LINK):
        _arrive(publisher, symbol_id, side, new_id, price_ticks, shares)
        return
    order = address_of_link(book, link)
    level_link, open_shares = load_uint32(order + ORDER_LEVEL), load_uint32(order + ORDER_QUANTITY)
    old_price = price_of_key(book, side, key_of_level(row_of_level(book, level_link), level_link))
    if price_ticks == old_price and shares <= open_shares:
        _keep_place(publisher, symbol_id, link, slot, new_id, open_shares - shares)
        return
    rests = can_be_displayed(price_ticks) and not _reaches_other_side(publisher, symbol_id, side, price_ticks)
    if unlikely(new_id == order_id or not rests):
        _take_away(publisher, symbol_id, link, slot, open_shares)
        _arrive(publisher, symbol_id, side, new_id, price_ticks, shares)
        return
    reference = load_int64(reference_address(publisher, link))
    _remove(publisher, link, slot)
    if try_rest(publisher, symbol_id, side, new_id, new_id, price_ticks, shares):
        length = write_replaced(
            next_message(publisher.store),
            symbol_id + 1,
            _now(publisher),
            reference,
            new_id,
            shares,
            price_ticks,
        )
    else:
        length = write_deleted(next_message(publisher.store), symbol_id + 1, _now(publisher), reference)
    append_written(publisher.store, length)


@inlined
def _keep_place(
    publisher: PublisherState, symbol_id: int, link: int, slot: int, new_id: int, fewer_shares: int
) -> None:
    """The order has another id and perhaps fewer shares, and stands where it stood: its number in the feed stays."""
    book = publisher.book
    order = address_of_link(book, link)
    if fewer_shares > 0:
        _take_away(publisher, symbol_id, link, slot, fewer_shares)
    if new_id != load_int64(order + ORDER_ID):
        remove_id(book, slot)
        store_int64(order + ORDER_ID, new_id)
        put_id(find_id(book, symbol_id, new_id)[1], id_hash(symbol_id, new_id), link)


@kernel
def _trading_state(publisher: PublisherState, event: int, symbol_id: int) -> None:
    """A symbol is halted, or trades again."""
    state = _HALTED_LETTER if load_uint32(event + QUANTITY) == _HALTED else _TRADING_LETTER
    length = write_trading_action(
        next_message(publisher.store),
        symbol_id + 1,
        _now(publisher),
        publisher.stocks + STOCK_BYTES * symbol_id,
        state,
        load_int64(event + EVENT_ORDER_ID),
    )
    copy_bytes(action_address(publisher, symbol_id), next_message(publisher.store), length)
    append_written(publisher.store, length)
