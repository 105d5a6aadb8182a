"""The compiled order book: the same rules as ``naive``, on flat memory.

Read ``naive.py`` first: each step here has its counterpart there. What differs is where things lie
(``ladder_memory.py``), how an id is found (``id_index.py``), how the next best price is found
(``price_tree.py``) and how events are written (``ladder_events.py``).

One batch of commands is one call. ``event`` in the functions below is the address where the next event goes;
a function that writes events returns the address behind them. Nothing here allocates, blocks or raises."""

from exchange.book.id_index import find_id, id_hash, prefetch_id, put_id, remove_id
from exchange.book.ladder_events import (
    KIND,
    LIABILITY,
    MASS_CANCEL,
    NEW,
    NO_REASON,
    ORDER_TYPE,
    OTHER_ORDER_ID,
    PRICE,
    QUANTITY,
    REPLACE,
    SESSION_ID,
    SIDE,
    SYMBOL_ID,
    TIME_IN_FORCE,
    cause_word,
    write_accepted,
    write_canceled,
    write_executed,
    write_mass_canceled,
    write_rejected,
    write_replaced,
)
from exchange.book.ladder_events import ORDER_ID as COMMAND_ORDER_ID
from exchange.book.ladder_memory import (
    BEST_BOUND,
    CAPACITY_ORDERS,
    EMPTY,
    FREE_ORDER,
    FRESH_ORDER,
    LAST_MATCH,
    LEVEL_QUANTITY,
    LINKS_PER_ORDER,
    LIVE_ORDERS,
    NEXT,
    NO_LINK,
    OPPOSITE,
    ORDER_ID,
    ORDER_LEVEL,
    ORDER_QUANTITY,
    ORDER_SESSION,
    ORDER_SYMBOL,
    PREVIOUS,
    ROW_KEY,
    ROW_PAGE,
    ROW_PLACE,
    ROW_SHIFT,
    SIDES,
    SLOT_MASK,
    SPAN,
    SYMBOL_COUNT,
    TAKER_LOTS,
    LadderBook,
    address_of_handle,
    address_of_link,
    is_in_band,
    key_of_price,
    price_of_key,
    row_of_level,
    side_address,
    slot_of_level,
    word,
)
from exchange.book.price_tree import (
    best_key,
    find_or_make_level,
    find_or_make_page,
    find_page,
    level_of_key,
    lower_bounds,
    next_best_key,
    occupy_price,
    prefetch_level,
    raise_bounds,
    vacate_price,
)
from exchange.book.protocol import apply_commands
from exchange.limits import QUANTITY_LOTS_MAX
from exchange.messages import ALL_SYMBOLS, RECORD_BYTES, CommandKind, OrderType, Reason, TimeInForce
from exchange.native import (
    implements,
    inlined,
    kernel,
    likely,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    prefetch_for_read,
    prefetch_for_write,
    store_int64,
    store_uint16,
    store_uint32,
    unlikely,
)

LOOK_AHEAD_BYTES = 8 * RECORD_BYTES
"""How far down the batch a command is prepared for: about as many commands as fit the time of one cache miss."""

CANCEL = int(CommandKind.CANCEL)
BY_CLIENT = int(Reason.BY_CLIENT)
IMMEDIATE_REMAINDER = int(Reason.IMMEDIATE_REMAINDER)
BY_MASS_CANCEL = int(Reason.MASS_CANCEL)
BY_OPERATOR = int(Reason.BY_OPERATOR)
UNKNOWN_COMMAND = int(Reason.UNKNOWN_COMMAND)
UNKNOWN_SYMBOL = int(Reason.UNKNOWN_SYMBOL)
UNKNOWN_ORDER = int(Reason.UNKNOWN_ORDER)
DUPLICATE_ORDER_ID = int(Reason.DUPLICATE_ORDER_ID)
NOT_YOUR_ORDER = int(Reason.NOT_YOUR_ORDER)
INVALID_QUANTITY = int(Reason.INVALID_QUANTITY)
PRICE_OUT_OF_BAND = int(Reason.PRICE_OUT_OF_BAND)
BOOK_FULL = int(Reason.BOOK_FULL)
INVALID_FIELD = int(Reason.INVALID_FIELD)

# What the first word of a new order says besides kind, symbol and session: three bytes that are 0 or 1.
SELLS = 1 << (8 * SIDE)
IS_IMMEDIATE = int(TimeInForce.IMMEDIATE_OR_CANCEL) << (8 * TIME_IN_FORCE)
IS_MARKET = int(OrderType.MARKET) << (8 * ORDER_TYPE)
INVALID_BITS = 0xFFFFFF00 & ~(SELLS | IS_IMMEDIATE | IS_MARKET)


@implements(apply_commands, LadderBook, inline=False)
def _apply_commands(book: LadderBook, commands_address: int, count: int, events_address: int) -> int:
    command, event = commands_address, events_address
    end = commands_address + count * RECORD_BYTES
    for ahead in range(command, min(end, command + LOOK_AHEAD_BYTES), RECORD_BYTES):
        _prefetch(book, ahead)
    while command < end:
        ahead = command + LOOK_AHEAD_BYTES
        if ahead < end:
            _prefetch(book, ahead)
        kind = load_uint8(command + KIND)
        if unlikely(load_uint16(command + SYMBOL_ID) >= word(book, SYMBOL_COUNT)):
            event = _rare(book, command, event)
        elif kind == NEW:
            event = _new(book, command, event)
        elif kind == CANCEL:
            event = _cancel(book, command, event)
        elif likely(kind == REPLACE):
            event = _replace(book, command, event)
        else:
            event = _rare(book, command, event)
        command += RECORD_BYTES
    return (event - events_address) // RECORD_BYTES


@inlined
def _prefetch(book: LadderBook, command: int) -> None:
    """Bring what a command will touch first nearer: the slot of its id, and the level of its price.

    And a command three times as far down: it may be in the cache of the core that wrote it. Behind the batch there is
    perhaps the next one; a prefetch of what is not there does nothing.
    """
    prefetch_for_read(command + 3 * LOOK_AHEAD_BYTES)
    symbol_id, side = load_uint16(command + SYMBOL_ID), load_uint8(command + SIDE) & 1
    prefetch_id(book, symbol_id, load_int64(command + COMMAND_ORDER_ID))
    if likely(symbol_id < word(book, SYMBOL_COUNT)):
        prefetch_level(book, symbol_id * 2 + side, key_of_price(book, side, load_int64(command + PRICE)))


@kernel
def _rare(book: LadderBook, command: int, event: int) -> int:
    """A command that is no new order, cancel or replace in one of the symbols."""
    kind = load_uint8(command + KIND)
    if kind == MASS_CANCEL:
        return _mass_cancel(book, command, event)
    return write_rejected(event, command, UNKNOWN_SYMBOL if NEW <= kind <= REPLACE else UNKNOWN_COMMAND)


@inlined
def _new(book: LadderBook, command: int, event: int) -> int:
    head, symbol_id = load_uint32(command), load_uint16(command + SYMBOL_ID)
    side = load_uint8(command + SIDE)  # a wrong one gives a meaningless key and is refused below
    key = key_of_price(book, side, load_int64(command + PRICE))
    if unlikely(head & IS_MARKET != 0):
        key = word(book, SPAN)  # the best that there is: it trades at any price
    reason = _flaw_of_new(book, command, head, key)
    if unlikely(reason != NO_REASON):
        return write_rejected(event, command, reason)
    order_id = load_int64(command + COMMAND_ORDER_ID)
    hashed = id_hash(symbol_id, order_id)
    found, id_slot = find_id(book, symbol_id, order_id)
    if unlikely(found != NO_LINK):
        return write_rejected(event, command, DUPLICATE_ORDER_ID)
    may_rest = head & (IS_IMMEDIATE | IS_MARKET) == 0
    if unlikely(word(book, LIVE_ORDERS) >= word(book, CAPACITY_ORDERS)) and may_rest:
        return write_rejected(event, command, BOOK_FULL)
    event = write_accepted(event, command)
    quantity_lots = load_uint32(command + QUANTITY)
    side_state = side_address(book, symbol_id * 2 + side)
    if unlikely(key + load_int64((side_state ^ OPPOSITE) + BEST_BOUND) >= word(book, SPAN)):
        event = _trade(book, command, event, side, key, order_id, quantity_lots)
        quantity_lots = word(book, TAKER_LOTS)
        if quantity_lots == 0:
            return event
        found, id_slot = find_id(book, symbol_id, order_id)  # trades have moved ids about
    if likely(may_rest):
        rest_order(book, command, side_state, key, order_id, quantity_lots, id_slot, hashed)
        return event
    price_ticks = load_int64(command + PRICE)
    return write_canceled(
        event, command, side, IMMEDIATE_REMAINDER, order_id, price_ticks, quantity_lots, NEW
    )


@inlined
def _flaw_of_new(book: LadderBook, command: int, head: int, key: int) -> int:
    """Why a new order cannot be taken whatever the book holds, or ``NO_REASON``."""
    if unlikely(head & INVALID_BITS != 0):
        return INVALID_FIELD
    if unlikely(load_uint32(command + QUANTITY) == 0):
        return INVALID_QUANTITY
    return PRICE_OUT_OF_BAND if unlikely(not is_in_band(book, key)) else NO_REASON


@inlined
def _cancel(book: LadderBook, command: int, event: int) -> int:
    order_id = load_int64(command + COMMAND_ORDER_ID)
    link, id_slot = find_id(book, load_uint16(command + SYMBOL_ID), order_id)
    if unlikely(link == NO_LINK):
        return write_rejected(event, command, UNKNOWN_ORDER)
    order = address_of_link(book, link)
    if unlikely(load_uint16(order + ORDER_SESSION) != load_uint16(command + SESSION_ID)):
        return write_rejected(event, command, NOT_YOUR_ORDER)
    open_lots, cancelled = load_uint32(order + ORDER_QUANTITY), load_uint32(command + QUANTITY)
    level_link = load_uint32(order + ORDER_LEVEL)
    row = row_of_level(book, level_link)
    side, key = side_of_row(row), key_of_level(row, level_link)
    if unlikely(0 < cancelled < open_lots):
        reduce_order(book, order, cancelled)
    else:
        cancelled = open_lots
        remove_id(book, id_slot)
        unlink_order(book, link, level_link, row, key, open_lots)
    price_ticks = price_of_key(book, side, key)
    return write_canceled(event, command, side, BY_CLIENT, order_id, price_ticks, cancelled, CANCEL)


@inlined
def _replace(book: LadderBook, command: int, event: int) -> int:
    symbol_id, order_id = load_uint16(command + SYMBOL_ID), load_int64(command + COMMAND_ORDER_ID)
    new_order_id = load_int64(command + OTHER_ORDER_ID)
    link, id_slot = find_id(book, symbol_id, order_id)
    if unlikely(link == NO_LINK):
        return write_rejected(event, command, UNKNOWN_ORDER)
    order = address_of_link(book, link)
    if unlikely(load_uint16(order + ORDER_SESSION) != load_uint16(command + SESSION_ID)):
        return write_rejected(event, command, NOT_YOUR_ORDER)
    quantity_lots, price_ticks = load_uint32(command + QUANTITY), load_int64(command + PRICE)
    if unlikely(quantity_lots == 0):
        return write_rejected(event, command, INVALID_QUANTITY)
    open_lots, liability_lots = load_uint32(order + ORDER_QUANTITY), load_uint32(command + LIABILITY)
    if unlikely(liability_lots != 0):
        quantity_lots += open_lots - liability_lots
        if quantity_lots > QUANTITY_LOTS_MAX:
            return write_rejected(event, command, INVALID_QUANTITY)
    level_link = load_uint32(order + ORDER_LEVEL)
    row = row_of_level(book, level_link)
    side, old_key = side_of_row(row), key_of_level(row, level_link)
    key = key_of_price(book, side, price_ticks)
    if unlikely(not is_in_band(book, key)):
        return write_rejected(event, command, PRICE_OUT_OF_BAND)
    if new_order_id != order_id and find_id(book, symbol_id, new_order_id)[0] != NO_LINK:
        return write_rejected(event, command, DUPLICATE_ORDER_ID)
    if unlikely(quantity_lots <= 0):
        return _replace_by_nothing(book, command, event, link, id_slot)
    event = write_replaced(event, command, side, quantity_lots)
    remove_id(book, id_slot)
    if key == old_key and quantity_lots <= open_lots:
        reduce_order(book, order, open_lots - quantity_lots)
        store_int64(order + ORDER_ID, new_order_id)
        put_id(find_id(book, symbol_id, new_order_id)[1], id_hash(symbol_id, new_order_id), link)
        return event
    unlink_order(book, link, level_link, row, old_key, open_lots)
    side_state = side_address(book, symbol_id * 2 + side)
    if unlikely(key + load_int64((side_state ^ OPPOSITE) + BEST_BOUND) >= word(book, SPAN)):
        event = _trade(book, command, event, side, key, new_order_id, quantity_lots)
        quantity_lots = word(book, TAKER_LOTS)
    if quantity_lots > 0:
        id_slot = find_id(book, symbol_id, new_order_id)[1]
        hashed = id_hash(symbol_id, new_order_id)
        rest_order(book, command, side_state, key, new_order_id, quantity_lots, id_slot, hashed)
    return event


@kernel
def _replace_by_nothing(book: LadderBook, command: int, event: int, link: int, id_slot: int) -> int:
    """A replace by totals that leaves nothing open: the order goes, and the event names the id it would have had."""
    order = address_of_link(book, link)
    level_link, open_lots = load_uint32(order + ORDER_LEVEL), load_uint32(order + ORDER_QUANTITY)
    row = row_of_level(book, level_link)
    side, key = side_of_row(row), key_of_level(row, level_link)
    remove_id(book, id_slot)
    unlink_order(book, link, level_link, row, key, open_lots)
    order_id, price_ticks = load_int64(order + ORDER_ID), price_of_key(book, side, key)
    behind = write_canceled(event, command, side, BY_CLIENT, order_id, price_ticks, open_lots, REPLACE)
    store_int64(event + OTHER_ORDER_ID, load_int64(command + OTHER_ORDER_ID))
    return behind


@kernel
def _mass_cancel(book: LadderBook, command: int, event: int) -> int:
    symbol_id, session_id = load_uint16(command + SYMBOL_ID), load_uint16(command + SESSION_ID)
    first_symbol, end_symbol = symbol_id, symbol_id + 1
    if symbol_id == ALL_SYMBOLS:
        first_symbol, end_symbol = 0, word(book, SYMBOL_COUNT)
    elif symbol_id >= word(book, SYMBOL_COUNT):
        return write_rejected(event, command, UNKNOWN_SYMBOL)
    cancelled_orders = 0
    for side_id in range(first_symbol * 2, end_symbol * 2):
        key = best_key(book, side_id)
        while key != EMPTY:
            next_key = next_best_key(book, side_id, key)
            level_link = level_of_key(find_page(book, side_id, key), key)
            link = load_uint32(address_of_link(book, level_link) + NEXT)
            while link != level_link:
                order = address_of_link(book, link)
                next_link = load_uint32(order + NEXT)
                if load_uint16(order + ORDER_SESSION) == session_id:
                    event = _mass_cancel_order(book, command, event, link)
                    cancelled_orders += 1
                link = next_link
            key = next_key
    return write_mass_canceled(event, command, cancelled_orders)


@inlined
def _mass_cancel_order(book: LadderBook, command: int, event: int, link: int) -> int:
    order = address_of_link(book, link)
    symbol_id, order_id = load_uint16(order + ORDER_SYMBOL), load_int64(order + ORDER_ID)
    level_link = load_uint32(order + ORDER_LEVEL)
    row = row_of_level(book, level_link)
    side, key, open_lots = (
        side_of_row(row),
        key_of_level(row, level_link),
        load_uint32(order + ORDER_QUANTITY),
    )
    remove_id(book, find_id(book, symbol_id, order_id)[1])
    unlink_order(book, link, level_link, row, key, open_lots)
    price_ticks = price_of_key(book, side, key)
    reason = BY_OPERATOR if load_uint32(command + QUANTITY) == BY_OPERATOR else BY_MASS_CANCEL
    behind = write_canceled(event, command, side, reason, order_id, price_ticks, open_lots, MASS_CANCEL)
    store_uint16(event + SYMBOL_ID, symbol_id)  # the command may name all symbols
    return behind


@kernel
def _trade(
    book: LadderBook, command: int, event: int, side: int, key: int, order_id: int, quantity_lots: int
) -> int:
    """Let an order trade as far as its key reaches. What is left of it stands in the header: ``TAKER_LOTS``."""
    symbol_id, command_kind = load_uint16(command + SYMBOL_ID), load_uint8(command + KIND)
    opposite_id = symbol_id * 2 + 1 - side
    match_number = word(book, LAST_MATCH)
    best = best_key(book, opposite_id)
    while quantity_lots > 0 and key + best >= word(book, SPAN):
        level_link = level_of_key(find_page(book, opposite_id, best), best)
        row = row_of_level(book, level_link)
        level = address_of_link(book, level_link)
        price_ticks = price_of_key(book, 1 - side, best)
        link = load_uint32(level + NEXT)
        while quantity_lots > 0 and link != level_link:
            maker = address_of_link(book, link)
            maker_lots, maker_id = load_uint32(maker + ORDER_QUANTITY), load_int64(maker + ORDER_ID)
            traded = min(maker_lots, quantity_lots)
            quantity_lots -= traded
            match_number += 1
            cause = cause_word(load_uint16(maker + ORDER_SESSION), command_kind)
            event = write_executed(
                event, command, side, order_id, maker_id, price_ticks, traded, cause, match_number
            )
            if traded < maker_lots:
                reduce_order(book, maker, traded)
            else:
                next_link = load_uint32(maker + NEXT)
                remove_id(book, find_id(book, symbol_id, maker_id)[1])
                unlink_order(book, link, level_link, row, best, maker_lots)
                link = next_link
        if quantity_lots > 0:
            best = best_key(book, opposite_id)
    store_int64(book.base + LAST_MATCH, match_number)
    store_int64(book.base + TAKER_LOTS, quantity_lots)
    return event


@inlined
def side_of_row(row: int) -> int:
    """The side that the orders of a row stand on."""
    return (load_uint32(row + ROW_PLACE) >> ROW_SHIFT) & 1


@inlined
def key_of_level(row: int, level_link: int) -> int:
    """The key of a level in a row."""
    return load_int64(row + ROW_KEY) + slot_of_level(level_link)


@inlined
def reduce_order(book: LadderBook, order: int, lots: int) -> None:
    """Take a part of an order's lots away; it keeps its place."""
    store_uint32(order + ORDER_QUANTITY, load_uint32(order + ORDER_QUANTITY) - lots)
    level = address_of_link(book, load_uint32(order + ORDER_LEVEL))
    store_int64(level + LEVEL_QUANTITY, load_int64(level + LEVEL_QUANTITY) - lots)


@inlined
def rest_order(
    book: LadderBook,
    command: int,
    side_state: int,
    key: int,
    order_id: int,
    quantity_lots: int,
    id_slot: int,
    hashed: int,
) -> None:
    """Put an order behind the others of its price; there is room, and its id, hashed, belongs in ``id_slot``.

    Of ``command`` only the symbol and the session are read.
    """
    page = find_or_make_page(book, side_state, key)
    level_link = find_or_make_level(book, side_state, page, key)
    occupy_price(book, page, key)
    raise_bounds(side_state, key)
    link = _take_order(book)
    put_id(id_slot, hashed, link)

    level, order = address_of_link(book, level_link), address_of_link(book, link)
    last = load_uint32(level + PREVIOUS)
    store_uint32(order + NEXT, level_link)
    store_uint32(order + PREVIOUS, last)
    store_uint32(order + ORDER_LEVEL, level_link)
    store_uint32(order + ORDER_QUANTITY, quantity_lots)
    store_int64(order + ORDER_ID, order_id)
    store_uint32(order + ORDER_SYMBOL, load_uint32(command + SYMBOL_ID))  # and the session behind it
    store_uint32(address_of_link(book, last) + NEXT, link)
    store_uint32(level + PREVIOUS, link)
    store_int64(level + LEVEL_QUANTITY, load_int64(level + LEVEL_QUANTITY) + quantity_lots)


@inlined
def _take_order(book: LadderBook) -> int:
    """The link of an order that is free: the one freed last, whose memory is still warm, or one never used."""
    store_int64(book.base + LIVE_ORDERS, word(book, LIVE_ORDERS) + 1)
    link = word(book, FREE_ORDER)
    if likely(link != NO_LINK):
        following = load_uint32(address_of_link(book, link) + NEXT)
        store_int64(book.base + FREE_ORDER, following)
        prefetch_for_write(address_of_link(book, following))
    else:
        link = word(book, FRESH_ORDER)
        store_int64(book.base + FRESH_ORDER, link + LINKS_PER_ORDER)
    return link


@inlined
def unlink_order(book: LadderBook, link: int, level_link: int, row: int, key: int, open_lots: int) -> None:
    """Take an order out of its level and give its memory back; its id is out of the index already.

    ``row`` and ``key`` are the level's. ``open_lots`` is what the level's quantity still holds of the order.
    """
    order, level = address_of_link(book, link), address_of_link(book, level_link)
    following, previous = load_uint32(order + NEXT), load_uint32(order + PREVIOUS)
    store_uint32(address_of_link(book, previous) + NEXT, following)
    store_uint32(address_of_link(book, following) + PREVIOUS, previous)
    store_int64(level + LEVEL_QUANTITY, load_int64(level + LEVEL_QUANTITY) - open_lots)
    store_uint32(order + NEXT, word(book, FREE_ORDER))
    store_int64(book.base + FREE_ORDER, link)
    store_int64(book.base + LIVE_ORDERS, word(book, LIVE_ORDERS) - 1)
    if following == previous:  # only the level itself can stand on both sides
        _close_level(book, row, key)


@inlined
def _close_level(book: LadderBook, row: int, key: int) -> None:
    """A price has no orders any more."""
    vacate_price(address_of_handle(book, load_uint32(row + ROW_PAGE)), key)
    lower_bounds(book.base + SIDES + (load_uint32(row + ROW_PLACE) & ~SLOT_MASK), key)
