"""An ``exchange_book`` of a C program: one block of memory with everything in it, made and unmade here.

::

    +0     words of this file: the ring, what is pending
    +128   the state of the book, a word for each field
    +4096  the ladder book
    ...    room for the events of one batch

The handle that C holds is the address of the first byte. Compiled code takes a state as a tuple of integers,
C cannot; so each call reads the state from the handle again (:func:`load_book`), which costs less than a cache
miss. What fields a state has is read from ``LadderBook`` and known nowhere else."""

import errno
import mmap
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types

from exchange import limits
from exchange.book.ladder import LINKED_BYTES_MAX
from exchange.book.ladder_layout import ALIGNMENT_BYTES, build_ladder, place_ladder, shape_ladder
from exchange.book.ladder_memory import LadderBook
from exchange.book.protocol import events_bound
from exchange.export.c_memory import MAP_FAILED, advise_memory, map_memory, set_errno, unmap_memory
from exchange.export.event_ring import ring_capacity
from exchange.messages import RECORD_BYTES
from exchange.native import inlined, kernel, load_int64, load_uint32, store_int64, store_release
from exchange.native.arena import HUGE_PAGE_BYTES
from exchange.native.lowering import INT64, lowers_to, pointer
from exchange.queues.ring_memory import TAIL

CONFIG_DTYPE: Final = np.dtype(
    {
        "names": [
            "symbol_count", "capacity_orders", "price_min_ticks", "price_max_ticks", "publish_every", "flags",
        ],
        "formats": ["<u4", "<u4", "<i8", "<i8", "<u4", "<u4"],
        "offsets": [0, 4, 8, 16, 24, 28],
        "itemsize": 32,
    }
)  # fmt: skip
"""What a C program says about the book that it wants."""

SYMBOL_COUNT, CAPACITY_ORDERS, PRICE_MIN, PRICE_MAX, PUBLISH_EVERY_OF_CONFIG, FLAGS = (
    int(CONFIG_DTYPE.fields[name][1])  # type: ignore[index]
    for name in CONFIG_DTYPE.names or ()
)
SMALL_PAGES: Final = 1
"""Flag: do not ask for huge pages."""

# the words of a handle
RING: Final = 0
RING_CAPACITY: Final = 8
WRITTEN: Final = 16
"""Where the next event goes: the tail of the ring, as far as it is written."""
PUBLISHED: Final = 24
"""The tail of the ring, as far as the consumer may see it."""
PUBLISH_EVERY: Final = 32
PENDING: Final = 40
"""Events that found no room in the ring yet."""
PENDING_FROM: Final = 48
"""The address of the first of them, in the room for events."""
EVENTS: Final = 56
MAPPING: Final = 64
MAPPING_BYTES: Final = 72
BOOK: Final = 128
HANDLE_BYTES: Final = 4096

BATCH_COMMANDS: Final = 256
"""How many commands are applied before their events are handed on: enough for the book to look ahead, and few enough
for their events to stay in the cache."""

FIELDS: Final = len(LadderBook._fields)
assert BOOK + 8 * FIELDS <= HANDLE_BYTES

most_events = inlined(events_bound)
_STATE = types.NamedUniTuple(types.int64, FIELDS, LadderBook)
_WORDS = ir.ArrayType(INT64, FIELDS)


def _emit_load_book(builder: Any, address: Any) -> Any:
    return builder.load(pointer(builder, address, _WORDS), align=8, typ=_WORDS)


@lowers_to(_STATE(types.int64), _emit_load_book)
def load_book(address: int) -> LadderBook:
    """The state whose fields are the words at ``address``, in their order."""
    return LadderBook(*(load_int64(address + 8 * index) for index in range(FIELDS)))


def _emit_store_book(builder: Any, address: Any, book: Any) -> Any:
    return builder.store(book, pointer(builder, address, _WORDS), align=8)


@lowers_to(types.void(types.int64, _STATE), _emit_store_book)
def store_book(address: int, book: LadderBook) -> None:
    """Write the fields of a state as words at ``address``."""
    for index, word in enumerate(book):
        store_int64(address + 8 * index, word)


@inlined
def _is_valid(config: int) -> bool:
    price_min_ticks, price_max_ticks = load_int64(config + PRICE_MIN), load_int64(config + PRICE_MAX)
    return (
        1 <= load_uint32(config + SYMBOL_COUNT) <= limits.SYMBOLS_MAX
        and 1 <= load_uint32(config + CAPACITY_ORDERS) <= limits.BOOK_CAPACITY_ORDERS_MAX
        and limits.PRICE_TICKS_LOWEST <= price_min_ticks <= price_max_ticks <= limits.PRICE_TICKS_HIGHEST
        and load_uint32(config + FLAGS) <= SMALL_PAGES
    )


@kernel
def book_create(config: int) -> int:
    """A book without orders; 0, and ``EINVAL`` or ``ENOMEM``, if it cannot be had."""
    if config == 0 or not _is_valid(config):
        set_errno(errno.EINVAL)
        return 0
    shape = shape_ladder(
        load_uint32(config + SYMBOL_COUNT),
        load_uint32(config + CAPACITY_ORDERS),
        load_int64(config + PRICE_MIN),
        load_int64(config + PRICE_MAX),
    )
    places = place_ladder(shape)
    if places.id_slots > LINKED_BYTES_MAX:
        set_errno(errno.EINVAL)
        return 0
    book_bytes = HANDLE_BYTES + places.end
    events_bytes = most_events(shape.capacity_orders, BATCH_COMMANDS) * RECORD_BYTES
    mapping_bytes = HUGE_PAGE_BYTES + ((book_bytes + events_bytes + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES)
    mapping = map_memory(mapping_bytes)
    if mapping == MAP_FAILED:
        return 0  # errno is what the kernel said: ENOMEM
    huge = load_uint32(config + FLAGS) & SMALL_PAGES == 0
    advise_memory(mapping, mapping_bytes, mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    handle = (mapping + HUGE_PAGE_BYTES - 1) & -HUGE_PAGE_BYTES
    store_int64(handle + MAPPING, mapping)
    store_int64(handle + MAPPING_BYTES, mapping_bytes)
    store_int64(handle + EVENTS, handle + book_bytes)
    store_int64(handle + PUBLISH_EVERY, max(1, load_uint32(config + PUBLISH_EVERY_OF_CONFIG)))
    store_book(handle + BOOK, build_ladder(shape, handle + HANDLE_BYTES))
    return handle


@kernel
def book_destroy(handle: int) -> int:
    """Give all memory of a book back; the ring is the caller's and stays. 0 is allowed and does nothing."""
    if handle == 0:
        return 0
    return unmap_memory(load_int64(handle + MAPPING), load_int64(handle + MAPPING_BYTES))


@inlined
def publish_events(handle: int) -> None:
    """Let the consumer see all that is written."""
    written = load_int64(handle + WRITTEN)
    if written != load_int64(handle + PUBLISHED):
        store_release(load_int64(handle + RING) + TAIL, written)
        store_int64(handle + PUBLISHED, written)


@kernel
def book_attach_ring(handle: int, ring: int) -> int:
    """Send events into ``ring`` from now on, or nowhere if it is 0. Returns 0, or -1 and ``errno``.

    Events that are written are published first. ``EBUSY``: some are still waiting for room in the old ring.
    ``EINVAL``: there is no ring.
    """
    if load_int64(handle + PENDING) > 0:
        set_errno(errno.EBUSY)
        return -1
    capacity_slots = 0 if ring == 0 else ring_capacity(ring)
    if ring != 0 and capacity_slots == 0:
        set_errno(errno.EINVAL)
        return -1
    publish_events(handle)
    tail = 0 if ring == 0 else load_int64(ring + TAIL)
    store_int64(handle + RING, ring)
    store_int64(handle + RING_CAPACITY, capacity_slots)
    store_int64(handle + WRITTEN, tail)
    store_int64(handle + PUBLISHED, tail)
    return 0
