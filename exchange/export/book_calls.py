"""What a C program does with a book: apply commands, hand events on, look at prices.

Events go the shortest way that is safe. If the ring has room in one piece for all that a batch could possibly
cause, the book writes straight into the slots behind the tail, which no consumer looks at yet. Otherwise it
writes into room of its own, and from there as many as fit are copied into the ring; the rest is *pending*.
No command is applied while events of an earlier one are pending: so nothing is lost, nothing is reordered and
nothing grows.

Every function has integers as parameters and returns one: addresses where C has pointers.
"""

from typing import Final

import numpy as np

from exchange.book.ladder_memory import (
    EMPTY,
    LEVEL_QUANTITY,
    SYMBOL_COUNT,
    LadderBook,
    address_of_link,
    price_of_key,
    word,
)
from exchange.book.price_tree import best_key, find_page, level_of_key, next_best_key
from exchange.book.protocol import apply_commands, export_orders, live_order_count
from exchange.export.book_handle import (
    BATCH_COMMANDS,
    BOOK,
    EVENTS,
    PENDING,
    PENDING_FROM,
    PUBLISH_EVERY,
    PUBLISHED,
    RING,
    RING_CAPACITY,
    WRITTEN,
    load_book,
    most_events,
    publish_events,
)
from exchange.messages import BUY, SELL
from exchange.native import (
    copy_record,
    inlined,
    kernel,
    likely,
    load_acquire,
    load_int64,
    pause,
    store_int64,
    unlikely,
    yield_core,
)
from exchange.queues.ring_memory import HEAD, HEAD_SEEN, RECORD_SHIFT, SLOTS, count_refusal

SPINS_BEFORE_YIELD: Final = 1000
"""How often a full ring is looked at before the core is offered to others, in case the consumer needs this one."""

LEVEL_DTYPE: Final = np.dtype(
    {
        "names": ["price_ticks", "quantity_lots"],
        "formats": ["<i8", "<i8"],
        "offsets": [0, 8],
        "itemsize": 16,
    }
)
"""One price of a book."""

LEVEL_BYTES: Final = 16
LEVEL_QUANTITY_OFFSET: Final = 8
assert LEVEL_DTYPE.itemsize == LEVEL_BYTES


@inlined
def _room(handle: int, wanted: int) -> int:
    """Free slots behind what is written. The consumer's counter is only read if the last look leaves too few."""
    ring, written = load_int64(handle + RING), load_int64(handle + WRITTEN)
    room = load_int64(handle + RING_CAPACITY) - (written - load_int64(ring + HEAD_SEEN))
    if unlikely(room < wanted):
        head = load_acquire(ring + HEAD)
        store_int64(ring + HEAD_SEEN, head)
        room = load_int64(handle + RING_CAPACITY) - (written - head)
    return room


@kernel
def _hand_on_pending(handle: int) -> int:
    """Copy pending events into the ring as far as there is room; how many are still pending.

    If they do not all fit, what is written is published at once: it is the consumer who has to make room.
    """
    pending, source = load_int64(handle + PENDING), load_int64(handle + PENDING_FROM)
    moved = min(_room(handle, pending), pending)
    written, mask = load_int64(handle + WRITTEN), load_int64(handle + RING_CAPACITY) - 1
    slots = load_int64(handle + RING) + SLOTS
    for index in range(moved):
        slot = slots + (((written + index) & mask) << RECORD_SHIFT)
        copy_record(slot, source + (index << RECORD_SHIFT))
    store_int64(handle + WRITTEN, written + moved)
    store_int64(handle + PENDING, pending - moved)
    store_int64(handle + PENDING_FROM, source + (moved << RECORD_SHIFT))
    if moved < pending:
        publish_events(handle)
    return pending - moved


@inlined
def _apply_batch(handle: int, book: LadderBook, commands: int, count: int) -> None:
    """Apply one batch; its events are then written, or pending."""
    most = most_events(live_order_count(book), count)
    capacity_slots = load_int64(handle + RING_CAPACITY)
    slot = load_int64(handle + WRITTEN) & (capacity_slots - 1)
    in_one_piece = capacity_slots - slot >= most
    if likely(in_one_piece and _room(handle, most) >= most):
        target = load_int64(handle + RING) + SLOTS + (slot << RECORD_SHIFT)
    else:
        target = load_int64(handle + EVENTS)
    events = apply_commands(book, commands, count, target)
    if likely(target != load_int64(handle + EVENTS)):
        store_int64(handle + WRITTEN, load_int64(handle + WRITTEN) + events)
    else:
        store_int64(handle + PENDING, events)
        store_int64(handle + PENDING_FROM, target)
        if _hand_on_pending(handle) > 0:
            count_refusal(load_int64(handle + RING))


@kernel
def book_try_apply(handle: int, commands: int, count: int) -> int:
    """Apply commands as long as no event is pending; returns how many were applied. Never waits."""
    if unlikely(load_int64(handle + RING) == 0):
        return 0
    book = load_book(handle + BOOK)
    applied = 0
    while applied < count:
        if unlikely(load_int64(handle + PENDING) > 0 and _hand_on_pending(handle) > 0):
            return applied
        batch = min(count - applied, BATCH_COMMANDS)
        _apply_batch(handle, book, commands + (applied << RECORD_SHIFT), batch)
        applied += batch
        if load_int64(handle + WRITTEN) - load_int64(handle + PUBLISHED) >= load_int64(
            handle + PUBLISH_EVERY
        ):
            publish_events(handle)
    return applied


@kernel
def _wait_for_room(handle: int) -> None:
    """Until nothing is pending."""
    spins = 0
    while load_int64(handle + PENDING) > 0 and _hand_on_pending(handle) > 0:
        spins += 1
        if spins < SPINS_BEFORE_YIELD:
            pause()
        else:
            yield_core()


@kernel
def book_apply(handle: int, commands: int, count: int) -> int:
    """Apply all commands, waiting for the consumer whenever the ring is full; returns ``count`` (0 without a ring)."""
    if unlikely(load_int64(handle + RING) == 0):
        return 0
    applied = book_try_apply(handle, commands, count)
    while unlikely(load_int64(handle + PENDING) > 0):
        _wait_for_room(handle)
        applied += book_try_apply(handle, commands + (applied << RECORD_SHIFT), count - applied)
    return applied


@kernel
def book_flush(handle: int) -> int:
    """Publish all events that are written, and those pending that fit; returns how many are still pending."""
    if load_int64(handle + RING) == 0:
        return 0
    waiting = _hand_on_pending(handle)
    publish_events(handle)
    return waiting


@kernel
def book_events_bound(handle: int, count: int) -> int:
    """The most events that so many commands can cause now."""
    return most_events(live_order_count(load_book(handle + BOOK)), count)


@kernel
def book_apply_to_buffer(handle: int, commands: int, count: int, events: int) -> int:
    """Apply all commands and write their events to ``events``, past any ring; returns how many there were."""
    return apply_commands(load_book(handle + BOOK), commands, count, events)


@kernel
def book_live_order_count(handle: int) -> int:
    """How many orders rest in the book, over all symbols."""
    return live_order_count(load_book(handle + BOOK))


@inlined
def _best_key(book: LadderBook, symbol_id: int, side: int) -> int:
    """The best key of a side; ``EMPTY`` for a symbol that the book does not have."""
    if symbol_id >= word(book, SYMBOL_COUNT):
        return EMPTY
    return best_key(book, symbol_id * 2 + side)


@inlined
def _write_level(book: LadderBook, symbol_id: int, side: int, key: int, price: int, quantity: int) -> None:
    """Write the price of a key, and how much rests there, to two addresses."""
    level = address_of_link(book, level_of_key(find_page(book, symbol_id * 2 + side, key), key))
    store_int64(price, price_of_key(book, side, key))
    store_int64(quantity, load_int64(level + LEVEL_QUANTITY))


@inlined
def _write_best(handle: int, symbol_id: int, side: int, price: int, quantity: int) -> int:
    book = load_book(handle + BOOK)
    key = _best_key(book, symbol_id, side)
    if key == EMPTY:
        return 0
    _write_level(book, symbol_id, side, key, price, quantity)
    return 1


@kernel
def book_best_bid(handle: int, symbol_id: int, price: int, quantity: int) -> int:
    """Write the best bid's price and quantity; 0, and nothing written, if there is none."""
    return _write_best(handle, symbol_id, BUY, price, quantity)


@kernel
def book_best_ask(handle: int, symbol_id: int, price: int, quantity: int) -> int:
    """Write the best ask's price and quantity; 0, and nothing written, if there is none."""
    return _write_best(handle, symbol_id, SELL, price, quantity)


@kernel
def book_depth(handle: int, symbol_id: int, side: int, levels: int, out: int) -> int:
    """Write up to ``levels`` prices of a side, the best first, as ``LEVEL_DTYPE``; returns how many there were."""
    if side != BUY and side != SELL:
        return 0
    book = load_book(handle + BOOK)
    key = _best_key(book, symbol_id, side)
    written = 0
    while written < levels and key != EMPTY:
        level = out + written * LEVEL_BYTES
        _write_level(book, symbol_id, side, key, level, level + LEVEL_QUANTITY_OFFSET)
        written += 1
        key = next_best_key(book, symbol_id * 2 + side, key)
    return written


@kernel
def book_export_orders(handle: int, symbol_id: int, out: int) -> int:
    """Write the live orders of a symbol as NEW commands in priority order; returns how many there were."""
    book = load_book(handle + BOOK)
    return export_orders(book, symbol_id, out) if symbol_id < word(book, SYMBOL_COUNT) else 0
