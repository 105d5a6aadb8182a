"""The functions of the C library: name, types, what they promise, and the kernel behind each.

The header and the library are both made from :data:`FUNCTIONS`, so that they cannot say different things. The
kernels take and return 64-bit integers only; the linker puts a function of the C types in front of each.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from exchange.export import book_calls, book_handle, event_ring


class CFunction(NamedTuple):
    """One exported function.

    ``parameters`` are pairs of C type and name, in the order of the kernel's parameters. ``contract`` becomes the
    comment in the header.
    """

    name: str
    result: str
    parameters: tuple[tuple[str, str], ...]
    kernel: Callable[..., int]
    contract: str


_BOOK: Final = ("exchange_book *", "book")
_CONST_BOOK: Final = ("const exchange_book *", "book")
_COMMANDS: Final = (("const exchange_command *", "commands"), ("size_t", "count"))
_SYMBOL: Final = ("uint32_t", "symbol_id")
_BEST: Final = (_CONST_BOOK, _SYMBOL, ("int64_t *", "price_ticks"), ("int64_t *", "quantity_lots"))

BOOK_FUNCTIONS: Final = (
    CFunction(
        "exchange_book_create",
        "exchange_book *",
        (("const exchange_book_config *", "config"),),
        book_handle.book_create,
        "A book without orders. NULL if it cannot be had: errno is EINVAL (a value of the configuration is out of "
        "range, or so many orders in so wide a band are more than 32-bit links reach) or ENOMEM. Address space is "
        "reserved for the worst case; memory is used as it is touched.",
    ),
    CFunction(
        "exchange_book_destroy",
        "void",
        (_BOOK,),
        book_handle.book_destroy,
        "Give all memory of the book back. The ring stays: it is yours. NULL is allowed.",
    ),
    CFunction(
        "exchange_book_attach_ring",
        "int32_t",
        (_BOOK, ("exchange_ring *", "ring")),
        book_handle.book_attach_ring,
        "Send events into this ring from now on; NULL detaches. The book is the ring's only producer. Returns 0, or "
        "-1 with errno EINVAL (exchange_ring_init did not make this) or EBUSY (events wait for room in the old ring).",
    ),
    CFunction(
        "exchange_book_apply",
        "size_t",
        (_BOOK, *_COMMANDS),
        book_calls.book_apply,
        "Apply commands, one after the other; their events go into the ring. If the ring is full it waits (spinning, "
        "then yielding the core) until the consumer has made room: another thread or process must be draining. "
        "Returns count; 0 if no ring is attached. Commands are aligned to 8 bytes and only read.",
    ),
    CFunction(
        "exchange_book_try_apply",
        "size_t",
        (_BOOK, *_COMMANDS),
        book_calls.book_try_apply,
        "As exchange_book_apply, but never waits. Returns how many commands were applied: fewer than count if the "
        "ring is full. No event is lost: those that found no room are kept in the book and go first, when you call "
        "this again with the rest of the commands, or exchange_book_flush. For one thread that also drains.",
    ),
    CFunction(
        "exchange_book_flush",
        "size_t",
        (_BOOK,),
        book_calls.book_flush,
        "Publish all events that are written, whatever publish_every says. Returns how many still wait for room (0 "
        "unless exchange_book_try_apply found the ring full). Never waits.",
    ),
    CFunction(
        "exchange_book_apply_to_buffer",
        "size_t",
        (_BOOK, *_COMMANDS, ("exchange_event *", "events")),
        book_calls.book_apply_to_buffer,
        "Apply all commands and write their events to events, not to the ring. Returns how many there were. There "
        "must be room for exchange_book_events_bound(book, count) of them, aligned to 8 bytes.",
    ),
    CFunction(
        "exchange_book_events_bound",
        "size_t",
        (_CONST_BOOK, ("size_t", "count")),
        book_calls.book_events_bound,
        "The most events that count commands can cause now.",
    ),
    CFunction(
        "exchange_book_best_bid",
        "int32_t",
        _BEST,
        book_calls.book_best_bid,
        "Best bid: its price, and all that rests there. Returns 1; or 0, and writes nothing, if there are no bids or "
        "no such symbol.",
    ),
    CFunction(
        "exchange_book_best_ask", "int32_t", _BEST, book_calls.book_best_ask, "Best ask, in the same way."
    ),
    CFunction(
        "exchange_book_depth",
        "size_t",
        (_CONST_BOOK, _SYMBOL, ("uint32_t", "side"), ("size_t", "levels"), ("exchange_level *", "out")),
        book_calls.book_depth,
        "The best prices of a side (EXCHANGE_SIDE_BUY, EXCHANGE_SIDE_SELL), the best first, at most so many levels. "
        "Returns how many were written; 0 if there is no such symbol or side.",
    ),
    CFunction(
        "exchange_book_live_order_count",
        "size_t",
        (_CONST_BOOK,),
        book_calls.book_live_order_count,
        "How many orders rest in the book, over all symbols.",
    ),
    CFunction(
        "exchange_book_export_orders",
        "size_t",
        (_CONST_BOOK, _SYMBOL, ("exchange_command *", "out")),
        book_calls.book_export_orders,
        "Write the live orders of a symbol as NEW commands in priority order (bids best first, then asks best "
        "first): applied to an empty book they build the same book. Returns how many there were; there must be room "
        "for exchange_book_live_order_count(book).",
    ),
)

RING_FUNCTIONS: Final = (
    CFunction(
        "exchange_ring_size_bytes",
        "size_t",
        (("size_t", "capacity_slots"),),
        event_ring.ring_size_bytes,
        "How much memory a ring takes; 0 if the capacity is no power of two from EXCHANGE_RING_CAPACITY_MIN to "
        "EXCHANGE_RING_CAPACITY_MAX.",
    ),
    CFunction(
        "exchange_ring_init",
        "exchange_ring *",
        (("void *", "memory"), ("size_t", "capacity_slots")),
        event_ring.ring_init,
        "Make an empty ring of any memory of exchange_ring_size_bytes bytes, aligned to EXCHANGE_RING_ALIGNMENT: "
        "from the heap, of huge pages, shared between processes. NULL with errno EINVAL if the address or the "
        "capacity does not serve.",
    ),
)

FUNCTIONS: Final = RING_FUNCTIONS + BOOK_FUNCTIONS
