"""The compiled order book: the same rules as ``naive``, on flat memory.

Read ``naive.py`` first: each step here has its counterpart there. What differs is where things lie
(``ladder_memory.py``), how an id is found (``id_index.py``), how the next best price is found
(``price_pages.py``) and how events are written (``ladder_events.py``).

One batch of commands is one call. ``event`` in the functions below is the address where the next event goes;
a function that writes events returns the address behind them. Nothing here allocates, blocks or raises."""

from exchange.book.id_index import find_id, prefetch_id, put_id, remove_id
from exchange.book.ladder_events import (
    ACCEPTED,
    EXECUTED,
    KIND,
    MASS_CANCELED,
    NO_REASON,
    ORDER_TYPE,
    OTHER_ORDER_ID,
    PRICE,
    QUANTITY,
    REPLACED,
    SESSION_ID,
    SIDE,
    SYMBOL_ID,
    TIME_IN_FORCE,
    head_word,
    quantity_word,
    write_canceled,
    write_event,
    write_rejected,
)
from exchange.book.ladder_events import ORDER_ID as COMMAND_ORDER_ID
from exchange.book.ladder_memory import (
    BEST_KEY,
    EMPTY,
    FREE_ORDER,
    FRESH_ORDER,
    LEVEL_QUANTITY,
    LIVE_ORDERS,
    MATCH_NUMBER,
    NEXT,
    NO_LINK,
    OCCUPIED,
    ORDER_ID,
    ORDER_LEVEL,
    ORDER_QUANTITY,
    ORDER_SESSION,
    ORDER_SYMBOL,
    PAGE_NUMBER,
    PAGE_SIDE,
    PREVIOUS,
    SLOT_MASK,
    LadderBook,
    address_of_link,
    key_of_price,
    link_of_level,
    price_of_key,
    side_address,
)
from exchange.book.price_pages import (
    NO_PAGE,
    find_page,
    highest,
    make_page,
    next_best_key,
    page_address,
    release_page,
)
from exchange.book.protocol import apply_commands
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
    shift_left_wrapping,
    store_int64,
    store_uint16,
    store_uint32,
    unlikely,
)

LOOK_AHEAD_COMMANDS = 8
"""How far down the batch ids are prefetched: about as many commands as fit the time of one cache miss."""

NEW = int(CommandKind.NEW)
CANCEL = int(CommandKind.CANCEL)
REPLACE = int(CommandKind.REPLACE)
MASS_CANCEL = int(CommandKind.MASS_CANCEL)
DAY = int(TimeInForce.DAY)
MARKET = int(OrderType.MARKET)
BY_CLIENT = int(Reason.BY_CLIENT)
IMMEDIATE_REMAINDER = int(Reason.IMMEDIATE_REMAINDER)
BY_MASS_CANCEL = int(Reason.MASS_CANCEL)
UNKNOWN_COMMAND = int(Reason.UNKNOWN_COMMAND)
UNKNOWN_SYMBOL = int(Reason.UNKNOWN_SYMBOL)
UNKNOWN_ORDER = int(Reason.UNKNOWN_ORDER)
DUPLICATE_ORDER_ID = int(Reason.DUPLICATE_ORDER_ID)
NOT_YOUR_ORDER = int(Reason.NOT_YOUR_ORDER)
INVALID_QUANTITY = int(Reason.INVALID_QUANTITY)
PRICE_OUT_OF_BAND = int(Reason.PRICE_OUT_OF_BAND)
BOOK_FULL = int(Reason.BOOK_FULL)
INVALID_FIELD = int(Reason.INVALID_FIELD)


@implements(apply_commands, LadderBook, inline=False)
def _apply_commands(book: LadderBook, commands_address: int, count: int, events_address: int) -> int:
    event = events_address
    for index in range(count):
        command = commands_address + index * RECORD_BYTES
        if index + LOOK_AHEAD_COMMANDS < count:
            ahead = command + LOOK_AHEAD_COMMANDS * RECORD_BYTES
            prefetch_id(book, load_uint16(ahead + SYMBOL_ID), load_int64(ahead + COMMAND_ORDER_ID))
        kind = load_uint8(command + KIND)
        if unlikely(kind == MASS_CANCEL):
            event = _mass_cancel(book, command, event)
        elif unlikely(kind < NEW or kind > MASS_CANCEL):
            event = write_rejected(event, command, UNKNOWN_COMMAND)
        elif unlikely(load_uint16(command + SYMBOL_ID) >= book.symbol_count):
            event = write_rejected(event, command, UNKNOWN_SYMBOL)
        elif kind == NEW:
            event = _new(book, command, event)
        elif kind == CANCEL:
            event = _cancel(book, command, event)
        else:
            event = _replace(book, command, event)
    return (event - events_address) // RECORD_BYTES


@inlined
def _in_band(book: LadderBook, price_ticks: int) -> bool:
    return book.price_min <= price_ticks <= book.price_max


@inlined
def _new(book: LadderBook, command: int, event: int) -> int:
    side, time_in_force = load_uint8(command + SIDE), load_uint8(command + TIME_IN_FORCE)
    order_type = load_uint8(command + ORDER_TYPE)
    symbol_id, session_id = load_uint16(command + SYMBOL_ID), load_uint16(command + SESSION_ID)
    order_id = load_int64(command + COMMAND_ORDER_ID)
    price_ticks = load_int64(command + PRICE)
    quantity_lots = load_uint32(command + QUANTITY)
    may_rest = time_in_force == DAY and order_type != MARKET
    if unlikely((side | time_in_force | order_type) > 1):
        return write_rejected(event, command, INVALID_FIELD)
    if unlikely(quantity_lots == 0):
        return write_rejected(event, command, INVALID_QUANTITY)
    if unlikely(order_type != MARKET and not _in_band(book, price_ticks)):
        return write_rejected(event, command, PRICE_OUT_OF_BAND)
    found, id_slot = find_id(book, symbol_id, order_id)
    if unlikely(found != NO_LINK):
        return write_rejected(event, command, DUPLICATE_ORDER_ID)
    if unlikely(may_rest and load_int64(book.header + LIVE_ORDERS) >= book.capacity_orders):
        return write_rejected(event, command, BOOK_FULL)
    head = head_word(ACCEPTED, side, NO_REASON, time_in_force, symbol_id, session_id)
    quantity = quantity_word(quantity_lots, 0, NEW)
    event = write_event(event, command, head, order_id, 0, price_ticks, quantity, 0)
    # A market order trades at any price: its key is the best that there is.
    key = book.price_max - book.price_min if order_type == MARKET else key_of_price(book, side, price_ticks)
    best = load_int64(side_address(book, symbol_id * 2 + 1 - side) + BEST_KEY)
    if unlikely(key + best >= book.price_max - book.price_min):
        quantity_lots, event = _trade(book, command, event, side, key, session_id, order_id, quantity_lots)
        found, id_slot = find_id(book, symbol_id, order_id)  # trades have moved ids about
    if quantity_lots == 0:
        return event
    if likely(may_rest):
        _rest(book, symbol_id, side, key, session_id, order_id, quantity_lots, id_slot)
        return event
    return write_canceled(
        event, command, side, IMMEDIATE_REMAINDER, symbol_id, session_id, order_id, price_ticks, quantity_lots
    )


@inlined
def _cancel(book: LadderBook, command: int, event: int) -> int:
    symbol_id, session_id = load_uint16(command + SYMBOL_ID), load_uint16(command + SESSION_ID)
    order_id = load_int64(command + COMMAND_ORDER_ID)
    link, id_slot = find_id(book, symbol_id, order_id)
    if unlikely(link == NO_LINK):
        return write_rejected(event, command, UNKNOWN_ORDER)
    order = address_of_link(book, link)
    if unlikely(load_uint16(order + ORDER_SESSION) != session_id):
        return write_rejected(event, command, NOT_YOUR_ORDER)
    open_lots = load_uint32(order + ORDER_QUANTITY)
    cancelled = load_uint32(command + QUANTITY)
    side, key, level = _place(book, order)
    price_ticks = price_of_key(book, side, key)
    if unlikely(0 < cancelled < open_lots):
        store_uint32(order + ORDER_QUANTITY, open_lots - cancelled)
        store_int64(level + LEVEL_QUANTITY, load_int64(level + LEVEL_QUANTITY) - cancelled)
    else:
        cancelled = open_lots
        remove_id(book, id_slot)
        _unlink(book, link, symbol_id * 2 + side, key)
    return write_canceled(
        event, command, side, BY_CLIENT, symbol_id, session_id, order_id, price_ticks, cancelled
    )


@inlined
def _replace(book: LadderBook, command: int, event: int) -> int:
    symbol_id, session_id = load_uint16(command + SYMBOL_ID), load_uint16(command + SESSION_ID)
    order_id, new_order_id = load_int64(command + COMMAND_ORDER_ID), load_int64(command + OTHER_ORDER_ID)
    price_ticks, quantity_lots = load_int64(command + PRICE), load_uint32(command + QUANTITY)
    link, id_slot = find_id(book, symbol_id, order_id)
    if unlikely(link == NO_LINK):
        return write_rejected(event, command, UNKNOWN_ORDER)
    order = address_of_link(book, link)
    if unlikely(load_uint16(order + ORDER_SESSION) != session_id):
        return write_rejected(event, command, NOT_YOUR_ORDER)
    if unlikely(quantity_lots == 0):
        return write_rejected(event, command, INVALID_QUANTITY)
    if unlikely(not _in_band(book, price_ticks)):
        return write_rejected(event, command, PRICE_OUT_OF_BAND)
    if new_order_id != order_id and find_id(book, symbol_id, new_order_id)[0] != NO_LINK:
        return write_rejected(event, command, DUPLICATE_ORDER_ID)
    side, key, level = _place(book, order)
    head = head_word(REPLACED, side, NO_REASON, 0, symbol_id, session_id)
    quantity = quantity_word(quantity_lots, 0, REPLACE)
    event = write_event(event, command, head, order_id, new_order_id, price_ticks, quantity, 0)
    new_key = key_of_price(book, side, price_ticks)
    open_lots = load_uint32(order + ORDER_QUANTITY)
    remove_id(book, id_slot)
    if new_key == key and quantity_lots <= open_lots:
        store_uint32(order + ORDER_QUANTITY, quantity_lots)
        store_int64(level + LEVEL_QUANTITY, load_int64(level + LEVEL_QUANTITY) - (open_lots - quantity_lots))
        store_int64(order + ORDER_ID, new_order_id)
        put_id(book, find_id(book, symbol_id, new_order_id)[1], link)
        return event
    _unlink(book, link, symbol_id * 2 + side, key)
    best = load_int64(side_address(book, symbol_id * 2 + 1 - side) + BEST_KEY)
    if unlikely(new_key + best >= book.price_max - book.price_min):
        quantity_lots, event = _trade(
            book, command, event, side, new_key, session_id, new_order_id, quantity_lots
        )
    if quantity_lots > 0:
        id_slot = find_id(book, symbol_id, new_order_id)[1]
        _rest(book, symbol_id, side, new_key, session_id, new_order_id, quantity_lots, id_slot)
    return event


@kernel
def _mass_cancel(book: LadderBook, command: int, event: int) -> int:
    symbol_id, session_id = load_uint16(command + SYMBOL_ID), load_uint16(command + SESSION_ID)
    first_symbol, end_symbol = symbol_id, symbol_id + 1
    if symbol_id == ALL_SYMBOLS:
        first_symbol, end_symbol = 0, book.symbol_count
    elif symbol_id >= book.symbol_count:
        return write_rejected(event, command, UNKNOWN_SYMBOL)
    cancelled_orders = 0
    for side_id in range(first_symbol * 2, end_symbol * 2):
        key = load_int64(side_address(book, side_id) + BEST_KEY)
        while key != EMPTY:
            next_key = next_best_key(book, side_id, key)
            level_link = link_of_level(book, find_page(book, side_id, key >> 6), key & SLOT_MASK)
            link = load_uint32(address_of_link(book, level_link) + NEXT)
            while link != level_link:
                order = address_of_link(book, link)
                next_link = load_uint32(order + NEXT)
                if load_uint16(order + ORDER_SESSION) == session_id:
                    event = _mass_cancel_order(book, command, event, link, side_id, key)
                    cancelled_orders += 1
                link = next_link
            key = next_key
    head = head_word(MASS_CANCELED, 0, NO_REASON, 0, symbol_id, session_id)
    quantity = quantity_word(cancelled_orders, 0, MASS_CANCEL)
    return write_event(event, command, head, 0, 0, 0, quantity, 0)


@inlined
def _mass_cancel_order(book: LadderBook, command: int, event: int, link: int, side_id: int, key: int) -> int:
    order = address_of_link(book, link)
    symbol_id, side = side_id >> 1, side_id & 1
    order_id, session_id = load_int64(order + ORDER_ID), load_uint16(order + ORDER_SESSION)
    quantity_lots, price_ticks = load_uint32(order + ORDER_QUANTITY), price_of_key(book, side, key)
    remove_id(book, find_id(book, symbol_id, order_id)[1])
    _unlink(book, link, side_id, key)
    return write_canceled(
        event, command, side, BY_MASS_CANCEL, symbol_id, session_id, order_id, price_ticks, quantity_lots
    )


@kernel
def _trade(
    book: LadderBook,
    command: int,
    event: int,
    side: int,
    key: int,
    session_id: int,
    order_id: int,
    quantity_lots: int,
) -> tuple[int, int]:
    """Let an order trade as far as its key reaches: what is left of it, and the next event's address."""
    symbol_id, command_kind = load_uint16(command + SYMBOL_ID), load_uint8(command + KIND)
    opposite_id = symbol_id * 2 + 1 - side
    opposite = side_address(book, opposite_id)
    head = head_word(EXECUTED, side, NO_REASON, 0, symbol_id, session_id)
    match_number = load_int64(book.header + MATCH_NUMBER)
    best = load_int64(opposite + BEST_KEY)
    while quantity_lots > 0 and key + best >= book.price_max - book.price_min:
        level_link = link_of_level(book, find_page(book, opposite_id, best >> 6), best & SLOT_MASK)
        level = address_of_link(book, level_link)
        price_ticks = price_of_key(book, 1 - side, best)
        link = load_uint32(level + NEXT)
        while quantity_lots > 0 and link != level_link:
            maker = address_of_link(book, link)
            maker_lots, maker_id = load_uint32(maker + ORDER_QUANTITY), load_int64(maker + ORDER_ID)
            traded = min(maker_lots, quantity_lots)
            quantity_lots -= traded
            match_number += 1
            quantity = quantity_word(traded, load_uint16(maker + ORDER_SESSION), command_kind)
            event = write_event(event, command, head, order_id, maker_id, price_ticks, quantity, match_number)
            if traded < maker_lots:
                store_uint32(maker + ORDER_QUANTITY, maker_lots - traded)
                store_int64(level + LEVEL_QUANTITY, load_int64(level + LEVEL_QUANTITY) - traded)
            else:
                next_link = load_uint32(maker + NEXT)
                remove_id(book, find_id(book, symbol_id, maker_id)[1])
                _unlink(book, link, opposite_id, best)
                link = next_link
        best = load_int64(opposite + BEST_KEY)
    store_int64(book.header + MATCH_NUMBER, match_number)
    return quantity_lots, event


@inlined
def _place(book: LadderBook, order: int) -> tuple[int, int, int]:
    """Where a resting order stands: side, key, and its level's address."""
    level_link = load_uint32(order + ORDER_LEVEL)
    index = level_link - link_of_level(book, 0, 0)
    page = page_address(book, index >> 6)
    key = (load_int64(page + PAGE_NUMBER) << 6) + (index & SLOT_MASK)
    return load_int64(page + PAGE_SIDE) & 1, key, address_of_link(book, level_link)


@inlined
def _rest(
    book: LadderBook,
    symbol_id: int,
    side: int,
    key: int,
    session_id: int,
    order_id: int,
    quantity_lots: int,
    id_slot: int,
) -> None:
    """Put an order behind the others of its price; there is room, and its id belongs in ``id_slot``."""
    side_id = symbol_id * 2 + side
    page = find_page(book, side_id, key >> 6)
    if unlikely(page == NO_PAGE):
        page = make_page(book, side_id, key >> 6)
    occupied = page_address(book, page) + OCCUPIED
    store_int64(occupied, load_int64(occupied) | shift_left_wrapping(1, key & SLOT_MASK))
    side_state = side_address(book, side_id)
    store_int64(side_state + BEST_KEY, max(load_int64(side_state + BEST_KEY), key))

    link = load_int64(book.header + FREE_ORDER)
    if likely(link != NO_LINK):
        store_int64(book.header + FREE_ORDER, load_uint32(address_of_link(book, link) + NEXT))
    else:
        link = load_int64(book.header + FRESH_ORDER)
        store_int64(book.header + FRESH_ORDER, link + 2)
    store_int64(book.header + LIVE_ORDERS, load_int64(book.header + LIVE_ORDERS) + 1)

    level_link = link_of_level(book, page, key & SLOT_MASK)
    level, order = address_of_link(book, level_link), address_of_link(book, link)
    last = load_uint32(level + PREVIOUS)
    store_uint32(order + NEXT, level_link)
    store_uint32(order + PREVIOUS, last)
    store_uint32(order + ORDER_LEVEL, level_link)
    store_uint32(order + ORDER_QUANTITY, quantity_lots)
    store_int64(order + ORDER_ID, order_id)
    store_uint16(order + ORDER_SESSION, session_id)
    store_uint16(order + ORDER_SYMBOL, symbol_id)
    store_uint32(address_of_link(book, last) + NEXT, link)
    store_uint32(level + PREVIOUS, link)
    store_int64(level + LEVEL_QUANTITY, load_int64(level + LEVEL_QUANTITY) + quantity_lots)
    put_id(book, id_slot, link)


@inlined
def _unlink(book: LadderBook, link: int, side_id: int, key: int) -> None:
    """Take an order out of its level and give its memory back; its id is out of the index already.

    If the order had just traded in full its quantity still stands in it, and leaves the level with it.
    """
    order = address_of_link(book, link)
    following, previous = load_uint32(order + NEXT), load_uint32(order + PREVIOUS)
    level = address_of_link(book, load_uint32(order + ORDER_LEVEL))
    store_uint32(address_of_link(book, previous) + NEXT, following)
    store_uint32(address_of_link(book, following) + PREVIOUS, previous)
    left = load_int64(level + LEVEL_QUANTITY) - load_uint32(order + ORDER_QUANTITY)
    store_int64(level + LEVEL_QUANTITY, left)
    store_uint32(order + NEXT, load_int64(book.header + FREE_ORDER))
    store_int64(book.header + FREE_ORDER, link)
    store_int64(book.header + LIVE_ORDERS, load_int64(book.header + LIVE_ORDERS) - 1)
    if following == previous:  # only the level itself can stand on both sides
        _close_level(book, load_uint32(order + ORDER_LEVEL), side_id, key)


@inlined
def _close_level(book: LadderBook, level_link: int, side_id: int, key: int) -> None:
    """A price has no orders any more: clear its bit, and find the next best price if it was the best."""
    page = (level_link - link_of_level(book, 0, 0)) >> 6
    occupied = page_address(book, page) + OCCUPIED
    bits = load_int64(occupied) & ~shift_left_wrapping(1, key & SLOT_MASK)
    store_int64(occupied, bits)
    side_state = side_address(book, side_id)
    if load_int64(side_state + BEST_KEY) == key:
        if likely(bits != 0):
            store_int64(side_state + BEST_KEY, (key & ~SLOT_MASK) + highest(bits))
        else:
            store_int64(side_state + BEST_KEY, next_best_key(book, side_id, key))
    if unlikely(bits == 0):
        release_page(book, page)
