"""The loops that ``exchange bench core`` and ``exchange bench endurance`` time: commands from memory through a book,
and from there to memory or through a ring to another core.

:func:`play_into_memory` is one thread alone. :func:`hand_over` and :func:`take_over` are two threads on two cores:
the first applies a batch into a buffer and pushes all of its events, the second polls them, copies them out and
reads each one. Nothing is skipped on the way: the last event is read before the clock stops.

Rules: the caller owns all memory and has touched it. The ring is empty when a pass begins, and the word at
``done_address`` is -1; a producer that has pushed everything stores there how many events there were, so that the
consumer knows when it is done without having been told how many to expect. Both end early if the stop word is not 0.

What a reader finds, a *tally*, is the same whoever reads: how many events, how many of each kind, and a sum over
their ids, prices and quantities. Trade numbers are left out of it, because they go on from pass to pass."""

from typing import Any, Final

from exchange.bench.micro import wait_briefly
from exchange.book.ladder_events import KIND, ORDER_ID, OTHER_ORDER_ID, PRICE, QUANTITY
from exchange.book.protocol import apply_commands
from exchange.messages import RECORD_BYTES
from exchange.native import (
    inlined,
    kernel,
    load_acquire,
    load_int64,
    load_relaxed,
    load_uint8,
    monotonic_ns,
    pause,
    store_int64,
    store_release,
)
from exchange.queues.protocol import poll_batch, try_push_batch

EVENT_COUNT: Final = 0
SUM: Final = 8
KIND_COUNTS: Final = 16
KINDS: Final = 8
TALLY_BYTES: Final = KIND_COUNTS + 8 * KINDS
"""Of a tally: how many events, the sum, how many of each kind (a kind that does not exist counts modulo 8)."""


@kernel
def play_into_memory(
    book: Any, commands_address: int, count: int, batch: int, events_address: int, keep: bool
) -> tuple[int, int]:
    """Apply ``count`` commands in batches. ``keep``: all events one after the other, else each batch's over the last's.

    Returns nanoseconds, and how many events there were.
    """
    started_ns = monotonic_ns()
    applied = events = 0
    while applied < count:
        in_batch = min(batch, count - applied)
        out = events_address + events * RECORD_BYTES if keep else events_address
        events += apply_commands(book, commands_address + applied * RECORD_BYTES, in_batch, out)
        applied += in_batch
    return monotonic_ns() - started_ns, events


@kernel
def hand_over(
    book: Any,
    producer: Any,
    commands_address: int,
    count: int,
    batch: int,
    buffer_address: int,
    done_address: int,
    stop_address: int,
) -> int:
    """Apply ``count`` commands in batches and push every event; returns the time of the first command."""
    started_ns = monotonic_ns()
    applied = events = 0
    while applied < count:
        in_batch = min(batch, count - applied)
        made = apply_commands(book, commands_address + applied * RECORD_BYTES, in_batch, buffer_address)
        pushed = try_push_batch(producer, buffer_address, made)
        while pushed < made:
            if load_relaxed(stop_address) != 0:
                return started_ns
            pause()
            pushed += try_push_batch(producer, buffer_address + pushed * RECORD_BYTES, made - pushed)
        applied += in_batch
        events += made
    store_release(done_address, events)
    return started_ns


@kernel
def take_over(
    consumer: Any,
    out_address: int,
    limit: int,
    keep: bool,
    tally_address: int,
    done_address: int,
    stop_address: int,
) -> int:
    """Poll and read all events; returns the time at which the last one had been read.

    ``keep``: all events one after the other at ``out_address``, else at most ``limit`` over the last ones.
    """
    clear_tally(tally_address)
    arrived = 0
    while True:
        out = out_address + arrived * RECORD_BYTES if keep else out_address
        polled = poll_batch(consumer, out, limit)
        if polled == 0:
            if load_acquire(done_address) == arrived or load_relaxed(stop_address) != 0:
                return monotonic_ns()
            wait_briefly(False)
        else:
            read_events(out, polled, tally_address)
            arrived += polled


@kernel
def tally_events(events_address: int, count: int, tally_address: int) -> None:
    """Read events that lie in memory, as a consumer would have."""
    clear_tally(tally_address)
    read_events(events_address, count, tally_address)


@inlined
def clear_tally(tally_address: int) -> None:
    """Nothing has been read yet."""
    for offset in range(0, TALLY_BYTES, 8):
        store_int64(tally_address + offset, 0)


@inlined
def read_events(events_address: int, count: int, tally_address: int) -> None:
    """Add ``count`` events to a tally; the sum wraps around."""
    total = load_int64(tally_address + SUM)
    for index in range(count):
        event = events_address + index * RECORD_BYTES
        total += load_int64(event + ORDER_ID) + load_int64(event + OTHER_ORDER_ID)
        total += load_int64(event + PRICE) + load_int64(event + QUANTITY)
        kind = tally_address + KIND_COUNTS + 8 * (load_uint8(event + KIND) & (KINDS - 1))
        store_int64(kind, load_int64(kind) + 1)
    store_int64(tally_address + SUM, total)
    store_int64(tally_address + EVENT_COUNT, load_int64(tally_address + EVENT_COUNT) + count)
