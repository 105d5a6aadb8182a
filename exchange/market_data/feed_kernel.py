"""The compiled reader of an ITCH 5.0 feed: from the bytes of its messages straight into a book.

A feed arrives as *blocks*, two bytes of length and a message, whether from the file of a day or inside a datagram, so
there is one loop for both. It reads every message in place: nothing is copied, and no object is made.

In a feed of thousands of symbols what a message touches is in no cache, and one thing leads to the next: the slot of
the order's number to the order, the order to its level and its neighbours in the queue, the symbol's side to a page,
the page to a level. A book that went to them one after the other would do little else than wait. So three more
readers run ahead, each asks the memory for the next thing on these ways, and what it needs to find that has come by
then, because the reader before it asked: :func:`_look_far`, :func:`_look_nearer` and :func:`_look_near`.

Rules: the framing is checked and everything inside a message is judged. A message that cannot be applied (its order
is not there, its number is taken, a field is zero or wrong) changes nothing and is counted; one that takes more
shares than the order has takes what there is, and is counted too. What is counted where, and that nothing else
happens, is defined by the plain twin (:mod:`exchange.market_data.plain_feed_book`).
"""

from typing import Final

from exchange.book.id_index import find_id, id_hash, prefetch_id, remove_id, slot_of_hash
from exchange.book.ladder_events import SYMBOL_ID
from exchange.book.ladder_matching import (
    key_of_level,
    reduce_order,
    rest_order,
    side_of_row,
    unlink_order,
)
from exchange.book.ladder_memory import (
    BEST_BOUND,
    CAPACITY_ORDERS,
    EMPTY,
    ID_SLOT_LINK,
    LEVEL_QUANTITY,
    LIVE_ORDERS,
    NEXT,
    NO_LINK,
    OPPOSITE,
    ORDER_LEVEL,
    ORDER_QUANTITY,
    PAGE_SHIFT,
    PREVIOUS,
    ROW_SHIFT,
    SLOT_MASK,
    SPAN,
    address_of_handle,
    address_of_link,
    key_of_price,
    price_of_key,
    row_of_level,
    side_address,
    side_id_at,
    word,
)
from exchange.book.price_tree import (
    best_key,
    find_page,
    level_of_key,
    next_best_key,
    prefetch_level,
    row_bits_address,
    row_link_address,
    window_entry,
)
from exchange.market_data.feed_memory import (
    BY_TYPE,
    CHOSEN,
    CROSSED,
    CROWDED_ORDERS,
    DUPLICATE_REFERENCES,
    INVALID,
    IS_KEPT,
    KEPT,
    KEPT_MAX,
    KEPT_SLOT_BYTES,
    LEFT_OUT,
    LENGTHS,
    MISSING_REFERENCES,
    NAME,
    NO_ROOM,
    NOT_KEPT,
    OVERDRAWN,
    OWNER,
    SYMBOLS,
    SYMBOLS_MAX,
    SYSTEM_EVENT,
    TIMESTAMP_NS,
    UNKNOWN,
    UNWANTED,
    FeedState,
    count,
    take_larger_table,
)
from exchange.messages import BUY, SELL
from exchange.native import (
    copy_bytes,
    inlined,
    kernel,
    load_big_endian_int64,
    load_big_endian_uint16,
    load_big_endian_uint32,
    load_big_endian_uint48,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    prefetch_for_read,
    prefetch_for_write,
    store_big_endian_uint16,
    store_int64,
    store_uint8,
    store_uint16,
    store_uint32,
    unlikely,
)
from exchange.wire.itch50 import (
    ADD_PRICE,
    ADD_SHARES,
    ADD_SIDE,
    ADD_STOCK,
    EVENT_CODE,
    LOCATE,
    NEW_PRICE,
    NEW_REFERENCE,
    NEW_SHARES,
    REFERENCE,
    STOCK,
    STOCK_BYTES,
    TAKEN_SHARES,
    TIMESTAMP,
    TRADING_STATE,
)
from exchange.wire.layout import LENGTH_BYTES

FAR, NEARER, NEAR = 18, 12, 6
"""How many messages the other readers are ahead: far enough apart for memory to answer one before the next one asks."""

# Why reading stopped, by number.
WHOLE, CUT, END_MARK, UNKNOWN_TYPE, WRONG_LENGTH = range(5)

_A, _F, _E, _C, _X, _D, _U, _R, _H, _S = (ord(letter) for letter in "AFECXDURHS")
_BUYS, _SELLS = ord("B"), ord("S")
_LOOKED_AT_BYTES: Final = ADD_PRICE + 4
"""How far the readers that are ahead may look into a message of whatever type; the last messages are not looked at."""
_NOWHERE: Final = -1
"""The symbol of a message about a symbol that was not chosen."""


@kernel
def apply_blocks(feed: FeedState, first: int, end: int) -> tuple[int, int]:
    """Apply the messages of consecutive blocks.

    Returns the address of the block where reading stopped (``end`` if nothing is left), and why: ``WHOLE``, ``CUT``
    (more bytes are needed), ``END_MARK`` (a block of length 0), ``UNKNOWN_TYPE`` or ``WRONG_LENGTH``.
    """
    far = nearer = near = first
    for step in range(FAR):
        far = _look_far(feed, far, end)
        nearer = _look_nearer(feed, nearer, end) if step >= FAR - NEARER else nearer
        near = _look_near(feed, near, end) if step >= FAR - NEAR else near
    block = first
    while block < end:
        far = _look_far(feed, far, end)
        nearer = _look_nearer(feed, nearer, end)
        near = _look_near(feed, near, end)
        message = block + LENGTH_BYTES
        if unlikely(message >= end):  # not even a type
            is_mark = message == end and load_big_endian_uint16(block) == 0
            return block, END_MARK if is_mark else CUT
        length = load_big_endian_uint16(block)
        kind = load_uint8(message)
        if unlikely(length != load_uint8(feed.words + LENGTHS + kind) or length == 0):
            return block, _trouble(feed, kind, length)
        if unlikely(message + length > end):
            return block, CUT
        _apply_message(feed, message, kind)
        block = message + length
    return block, WHOLE


@inlined
def _trouble(feed: FeedState, kind: int, length: int) -> int:
    if length == 0:
        return END_MARK
    return UNKNOWN_TYPE if load_uint8(feed.words + LENGTHS + kind) == 0 else WRONG_LENGTH


@inlined
def _look_far(feed: FeedState, block: int, end: int) -> int:
    """Ask for the slot of an order's number, and for the side where a new order will stand; where the next block is."""
    message = block + LENGTH_BYTES
    if unlikely(message + _LOOKED_AT_BYTES > end):
        return end
    symbol_id = _symbol_at(feed, load_big_endian_uint16(message + LOCATE))
    if symbol_id >= 0:
        prefetch_id(feed.book, symbol_id, load_big_endian_int64(message + REFERENCE))
        if _is_add(message):
            prefetch_for_write(side_address(feed.book, _side_id_of_add(message, symbol_id)))
    return message + load_big_endian_uint16(block)


@inlined
def _look_nearer(feed: FeedState, block: int, end: int) -> int:
    """Ask for the order that the slot leads to, or for the part of the page that a new order's price is on."""
    message = block + LENGTH_BYTES
    if unlikely(message + _LOOKED_AT_BYTES > end):
        return end
    symbol_id = _symbol_at(feed, load_big_endian_uint16(message + LOCATE))
    if symbol_id >= 0:
        if _is_add(message):
            _prefetch_page(feed, _side_id_of_add(message, symbol_id), _key_of_add(feed, message))
        else:
            prefetch_for_write(_expected_order(feed, message, symbol_id))
    return message + load_big_endian_uint16(block)


@inlined
def _prefetch_page(feed: FeedState, side_id: int, key: int) -> None:
    """Bring nearer what a page, if the side remembers it, has of a price: its bits, and the way to its level."""
    book = feed.book
    side = side_address(book, side_id)
    page = address_of_handle(book, load_uint32(window_entry(side, key >> PAGE_SHIFT)))
    prefetch_for_write(page)
    prefetch_for_write(row_bits_address(page, (key >> ROW_SHIFT) & SLOT_MASK))
    prefetch_for_read(row_link_address(page, key))


@inlined
def _look_near(feed: FeedState, block: int, end: int) -> int:
    """Ask for the level of the order and its neighbours in the queue, or for the level of a new order's price."""
    message = block + LENGTH_BYTES
    if unlikely(message + _LOOKED_AT_BYTES > end):
        return end
    symbol_id = _symbol_at(feed, load_big_endian_uint16(message + LOCATE))
    if symbol_id >= 0:
        book = feed.book
        if _is_add(message):
            prefetch_level(book, _side_id_of_add(message, symbol_id), _key_of_add(feed, message))
        else:
            order = _expected_order(feed, message, symbol_id)
            level_link = load_uint32(order + ORDER_LEVEL)
            prefetch_for_write(address_of_link(book, level_link))
            prefetch_for_read(row_of_level(book, level_link))
            prefetch_for_write(address_of_link(book, load_uint32(order + NEXT)))
            prefetch_for_write(address_of_link(book, load_uint32(order + PREVIOUS)))
    return message + load_big_endian_uint16(block)


@inlined
def _is_add(message: int) -> bool:
    return load_uint8(message) in (_A, _F)


@inlined
def _side_id_of_add(message: int, symbol_id: int) -> int:
    return 2 * symbol_id + (1 if load_uint8(message + ADD_SIDE) == _SELLS else 0)


@inlined
def _key_of_add(feed: FeedState, message: int) -> int:
    side = 1 if load_uint8(message + ADD_SIDE) == _SELLS else 0
    return key_of_price(feed.book, side, load_big_endian_uint32(message + ADD_PRICE))


@inlined
def _expected_order(feed: FeedState, message: int, symbol_id: int) -> int:
    """Where the order of a message most likely is: in the slot where its number would stand first of all."""
    hashed = id_hash(symbol_id, load_big_endian_int64(message + REFERENCE))
    return address_of_link(feed.book, load_uint32(slot_of_hash(feed.book, hashed) + ID_SLOT_LINK))


@inlined
def _symbol_at(feed: FeedState, locate: int) -> int:
    """The number of a symbol; negative if it has none."""
    entry = load_uint16(feed.locates + 2 * locate)
    return _NOWHERE if entry == UNWANTED else entry - 1


@inlined
def _apply_message(feed: FeedState, message: int, kind: int) -> None:
    """Apply a message whose type and length are right."""
    by_type = feed.words + BY_TYPE + 8 * kind
    store_int64(by_type, load_int64(by_type) + 1)
    store_int64(feed.words + TIMESTAMP_NS, load_big_endian_uint48(message + TIMESTAMP))
    entry = load_uint16(feed.locates + 2 * load_big_endian_uint16(message + LOCATE))
    if kind in (_A, _F):
        _add(feed, message, entry)
    elif kind == _D:
        _delete(feed, message, entry)
    elif kind in (_E, _X, _C):
        _take(feed, message, entry)
    elif kind == _U:
        _replace(feed, message, entry)
    else:
        _apply_other(feed, message, kind, entry)


@kernel
def _apply_other(feed: FeedState, message: int, kind: int, entry: int) -> None:
    """What is not about an order: the directory, halts, the day's stages; the rest is only counted."""
    locate = load_big_endian_uint16(message + LOCATE)
    if kind == _R and entry == UNKNOWN and locate != 0:
        _admit(feed, locate, message + STOCK)
    elif kind == _H and entry != UNKNOWN and entry != UNWANTED:
        store_uint8(feed.states + entry - 1, load_uint8(message + TRADING_STATE))
    elif kind == _S:
        store_int64(feed.words + SYSTEM_EVENT, load_uint8(message + EVENT_CODE))
    is_wanted = load_uint16(feed.locates + 2 * locate) != UNWANTED
    if load_uint8(feed.words + IS_KEPT + kind) == 1 and is_wanted and load_int64(feed.words + KEPT_MAX) > 0:
        _keep(feed, message, load_uint8(feed.words + LENGTHS + kind))


@kernel
def _keep(feed: FeedState, message: int, length: int) -> None:
    """Keep a message for snapshots, if there is room."""
    number = load_int64(feed.words + KEPT)
    if number == load_int64(feed.words + KEPT_MAX):
        count(feed, NOT_KEPT)
        return
    slot = feed.kept + KEPT_SLOT_BYTES * number
    store_big_endian_uint16(slot, length)
    copy_bytes(slot + LENGTH_BYTES, message, length)
    count(feed, KEPT)


@kernel
def _admit(feed: FeedState, locate: int, name_address: int) -> int:
    """Give a symbol its number, if it was chosen and there is room; what then stands in the table of locates."""
    name = feed.words + NAME
    copy_bytes(name, name_address, STOCK_BYTES)  # to where a word may be read as one
    chosen = load_int64(feed.words + CHOSEN)
    is_wanted = chosen == 0
    for index in range(chosen):
        if load_int64(feed.chosen + STOCK_BYTES * index) == load_int64(name):
            is_wanted = True
    number = load_int64(feed.words + SYMBOLS)
    entry = UNWANTED
    if is_wanted and number < load_int64(feed.words + SYMBOLS_MAX):
        entry = number + 1
        store_int64(feed.names + STOCK_BYTES * number, load_int64(name))
        store_int64(feed.words + SYMBOLS, number + 1)
    elif is_wanted:
        count(feed, LEFT_OUT)
    store_uint16(feed.locates + 2 * locate, entry)
    return entry


@inlined
def _add(feed: FeedState, message: int, entry: int) -> None:
    if unlikely(entry == UNKNOWN):
        locate = load_big_endian_uint16(message + LOCATE)
        if locate == 0:
            count(feed, INVALID)
            return
        entry = _admit(feed, locate, message + ADD_STOCK)
    if entry == UNWANTED:
        return
    letter = load_uint8(message + ADD_SIDE)
    side = SELL if letter == _SELLS else BUY
    shares = load_big_endian_uint32(message + ADD_SHARES)
    price_ticks = load_big_endian_uint32(message + ADD_PRICE)
    reference = load_big_endian_int64(message + REFERENCE)
    if unlikely((letter != _BUYS and letter != _SELLS) or shares == 0 or price_ticks == 0):
        count(feed, INVALID)
        return
    found, slot = find_id(feed.book, entry - 1, reference)
    if unlikely(found != NO_LINK):
        count(feed, DUPLICATE_REFERENCES)
        return
    if unlikely(word(feed.book, LIVE_ORDERS) >= load_int64(feed.words + CROWDED_ORDERS)):
        if word(feed.book, LIVE_ORDERS) >= word(feed.book, CAPACITY_ORDERS):
            count(feed, NO_ROOM)
            return
        take_larger_table(feed)
        slot = find_id(feed.book, entry - 1, reference)[1]
    _rest(feed, entry - 1, side, price_ticks, reference, shares, slot)


@inlined
def _rest(
    feed: FeedState, symbol_id: int, side: int, price_ticks: int, reference: int, shares: int, slot: int
) -> None:
    """Put an order behind the others of its price; look whether that crosses the book."""
    book = feed.book
    key = key_of_price(book, side, price_ticks)
    side_state = side_address(book, 2 * symbol_id + side)
    owner = feed.words + OWNER
    store_uint32(owner, symbol_id)  # in session 0: a feed does not say whose an order is
    rest_order(
        book, owner - SYMBOL_ID, side_state, key, reference, shares, slot, id_hash(symbol_id, reference)
    )
    if unlikely(key + load_int64((side_state ^ OPPOSITE) + BEST_BOUND) >= word(book, SPAN)):
        opposite = best_key(book, side_id_at(book, side_state ^ OPPOSITE))
        if opposite != EMPTY and key + opposite >= word(book, SPAN):
            count(feed, CROSSED)


@inlined
def _delete(feed: FeedState, message: int, entry: int) -> None:
    if entry == UNWANTED:
        return
    link, slot = find_id(feed.book, entry - 1, load_big_endian_int64(message + REFERENCE))
    if unlikely(link == NO_LINK):
        count(feed, MISSING_REFERENCES)
        return
    _remove(feed, link, slot)


@inlined
def _remove(feed: FeedState, link: int, slot: int) -> None:
    """Take an order out of the book."""
    book = feed.book
    remove_id(book, slot)
    order = address_of_link(book, link)
    level_link = load_uint32(order + ORDER_LEVEL)
    row = row_of_level(book, level_link)
    unlink_order(
        book, link, level_link, row, key_of_level(row, level_link), load_uint32(order + ORDER_QUANTITY)
    )


@inlined
def _take(feed: FeedState, message: int, entry: int) -> None:
    """Shares of an order traded (E, C) or were cancelled (X)."""
    if entry == UNWANTED:
        return
    link, slot = find_id(feed.book, entry - 1, load_big_endian_int64(message + REFERENCE))
    if unlikely(link == NO_LINK):
        count(feed, MISSING_REFERENCES)
        return
    order = address_of_link(feed.book, link)
    shares, open_shares = load_big_endian_uint32(message + TAKEN_SHARES), load_uint32(order + ORDER_QUANTITY)
    if shares < open_shares:
        if unlikely(shares == 0):
            count(feed, INVALID)
        reduce_order(feed.book, order, shares)
        return
    if unlikely(shares > open_shares):
        count(feed, OVERDRAWN)
    _remove(feed, link, slot)


@inlined
def _replace(feed: FeedState, message: int, entry: int) -> None:
    if entry == UNWANTED:
        return
    book, symbol_id = feed.book, entry - 1
    reference = load_big_endian_int64(message + REFERENCE)
    link, slot = find_id(book, symbol_id, reference)
    if unlikely(link == NO_LINK):
        count(feed, MISSING_REFERENCES)
        return
    new_reference = load_big_endian_int64(message + NEW_REFERENCE)
    shares = load_big_endian_uint32(message + NEW_SHARES)
    price_ticks = load_big_endian_uint32(message + NEW_PRICE)
    if unlikely(shares == 0 or price_ticks == 0):
        count(feed, INVALID)
        return
    if unlikely(new_reference != reference and find_id(book, symbol_id, new_reference)[0] != NO_LINK):
        count(feed, DUPLICATE_REFERENCES)
        return
    side = side_of_row(row_of_level(book, load_uint32(address_of_link(book, link) + ORDER_LEVEL)))
    _remove(feed, link, slot)
    new_slot = find_id(book, symbol_id, new_reference)[1]  # the removal may have moved ids about
    _rest(feed, symbol_id, side, price_ticks, new_reference, shares, new_slot)


@kernel
def depth_of_side(feed: FeedState, symbol_id: int, side: int, levels: int, out_address: int) -> int:
    """Write the best ``levels`` prices of a side, best first: price, shares, orders (three int64 each); how many."""
    book, side_id = feed.book, 2 * symbol_id + side
    key = best_key(book, side_id)
    written = 0
    while key != EMPTY and written < levels:
        level_link = level_of_key(find_page(book, side_id, key), key)
        level = address_of_link(book, level_link)
        link, orders = load_uint32(level + NEXT), 0
        while link != level_link:
            orders += 1
            link = load_uint32(address_of_link(book, link) + NEXT)
        out = out_address + 24 * written
        store_int64(out, price_of_key(book, side, key))
        store_int64(out + 8, load_int64(level + LEVEL_QUANTITY))
        store_int64(out + 16, orders)
        written += 1
        key = next_best_key(book, side_id, key)
    return written
