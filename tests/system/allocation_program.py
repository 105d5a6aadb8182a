"""A program that runs a part of the compiled core and prints what was allocated meanwhile.

``python -m tests.system.allocation_program PART`` prints five integers: how much numba's four allocation counters grew
(set ``NUMBA_NRT_STATS=1``) and how many bytes the resident memory did. Each part runs its work first until all memory
that it reserves has been touched: the kernel's giving a page for it is no allocation of ours, and has an end.
"""

import dataclasses
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba.core.runtime import rtsys
from numpy.typing import NDArray

from exchange.agent import do_work
from exchange.book import build_book
from exchange.book.config import LadderBookConfig
from exchange.book.protocol import apply_commands, events_bound, live_order_count
from exchange.flow import load_flow
from exchange.flow.config import ScenarioConfig, SyntheticConfig
from exchange.journal.none import NoneJournal
from exchange.market_data.datagram_store import DatagramStore, take_datagram
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.feed_file import END_MARK, make_day
from exchange.market_data.feed_kernel import apply_blocks
from exchange.market_data.publisher import Publisher
from exchange.matching.shard import Shard, ShardMemory
from exchange.messages import (
    ALL_SYMBOLS,
    COMMAND_DTYPE,
    EVENT_DTYPE,
    CommandKind,
    EventKind,
    Reason,
)
from exchange.native import address_of, kernel
from exchange.queues.protocol import poll_batch, try_push_batch
from exchange.queues.spsc import SpscQueue
from exchange.transport.protocol import send

SESSIONS = 16
BATCH = 256


def measured(warmups: int, rounds: int, work: Callable[[], None]) -> list[int]:
    """How much the counters and the resident memory grew over ``rounds`` calls of ``work``."""
    for _ in range(warmups):
        work()
    before = _state()
    for _ in range(rounds):
        work()
    return [now - then for then, now in zip(before, _state(), strict=True)]


def _state() -> list[int]:
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return [*map(int, rtsys.get_allocation_stats()), resident_pages * resource.getpagesize()]


def mass_cancels(sessions: int) -> NDArray[Any]:
    """Commands that empty a book."""
    commands = np.zeros(sessions, COMMAND_DTYPE)
    commands["kind"], commands["symbol_id"] = CommandKind.MASS_CANCEL, ALL_SYMBOLS
    commands["session_id"] = np.arange(sessions)
    return commands


@kernel
def play(book: Any, commands: int, count: int, batch: int, events: int) -> int:
    """Apply commands in batches, each batch's events over those of the last; how many events there were."""
    total = 0
    for start in range(0, count, batch):
        total += apply_commands(book, commands + 64 * start, min(batch, count - start), events)
    return total


def book() -> list[int]:
    """Deep and thin books, and fifty symbols; more than a million commands."""
    capacity_orders = 40_000
    flows = [
        load_flow("synthetic", scenario=ScenarioConfig(scenario="static", orders=300_000)),
        load_flow("synthetic", scenario=ScenarioConfig(scenario="flash-crash", orders=300_000)),
        load_flow("synthetic", synthetic=SyntheticConfig(commands=300_000, symbols=50)),
    ]
    arrays = [array for flow in flows for array in (flow.commands.copy(), mass_cancels(SESSIONS))]
    ladder = build_book(LadderBookConfig(capacity_orders=capacity_orders), symbol_count=50)
    events = np.zeros(events_bound(capacity_orders, BATCH), EVENT_DTYPE)

    def work() -> None:
        for array in arrays:
            play(ladder.state, address_of(array), len(array), BATCH, address_of(events))
        assert live_order_count(ladder.state) == 0

    assert sum(map(len, arrays)) > 1_000_000
    return measured(2, 1, work)


def full_book() -> list[int]:
    """Five times as many orders as there is room for, at prices all over the band; each time all go again."""
    capacity_orders, count = 1000, 5000
    ladder = build_book(LadderBookConfig(capacity_orders=capacity_orders), symbol_count=2)
    events = np.zeros(events_bound(capacity_orders, count), EVENT_DTYPE)
    rng = np.random.default_rng(1)
    orders = np.zeros(count, COMMAND_DTYPE)
    orders["kind"], orders["quantity_lots"] = CommandKind.NEW, 3
    orders["order_id"] = rng.integers(-(2**63), 2**63, count)
    orders["price_ticks"] = rng.integers(1, 2**36, count)
    orders["price_ticks"][::2] = orders["price_ticks"][0]
    clear = mass_cancels(1)

    def work() -> None:
        written = play(ladder.state, address_of(orders), count, count, address_of(events))
        answers = events[:written]
        rejected = answers["kind"] == EventKind.REJECTED
        assert np.count_nonzero(rejected) == count - capacity_orders
        assert (answers["reason"][rejected] == Reason.BOOK_FULL).all()
        assert live_order_count(ladder.state) == capacity_orders
        play(ladder.state, address_of(clear), 1, 1, address_of(events))
        assert live_order_count(ladder.state) == 0

    return measured(30, 200, work)


@kernel
def take_turns(inbox: Any, shard: Any, outbox: Any, commands: int, count: int, polled: int) -> int:
    """Push commands, let the shard work, take its events, until all of them have come; how many there were."""
    pushed = events = idle_turns = 0
    while idle_turns < 2:
        moved = try_push_batch(inbox, commands + 64 * pushed, min(64, count - pushed))
        pushed += moved
        worked = do_work(shard)
        taken = poll_batch(outbox, polled, BATCH)
        events += taken
        idle_turns = idle_turns + 1 if moved + worked + taken == 0 else 0
    return events


def shard() -> list[int]:
    """A shard between its two queues: ring, sequence, book, ring, status."""
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=300_000, symbols=8)).commands.copy()
    arrays = [flow, mass_cancels(SESSIONS)]
    ladder = build_book(LadderBookConfig(capacity_orders=100_000), symbol_count=8)
    inbox, outbox = SpscQueue(1024), SpscQueue(1024)
    memory = ShardMemory(64, 100_000, 8)
    state = Shard(
        inbox=inbox.consumer(0),
        book=ladder.state,
        trading=memory.trading.state,
        outbox=outbox.producer(0),
        journal=NoneJournal().state,
        words=memory.words,
        batch=memory.batch,
        batch_commands=64,
        events=memory.events,
        status=memory.status.writer(),
        symbol_count=8,
    )
    polled = np.zeros(BATCH, EVENT_DTYPE)

    def work() -> None:
        for array in arrays:
            events = take_turns(
                inbox.producer(0),
                state,
                outbox.consumer(0),
                address_of(array),
                len(array),
                address_of(polled),
            )
            assert events >= len(array)
        assert live_order_count(ladder.state) == 0

    return measured(2, 3, work)


@kernel
def play_and_publish(book: Any, publisher: Any, buffer: Any, commands: int, count: int, events: int) -> int:
    """Apply commands in batches, publish their events, take every datagram; how many messages there were."""
    messages = 0
    for start in range(0, count, BATCH):
        written = apply_commands(book, commands + 64 * start, min(BATCH, count - start), events)
        send(publisher, events, written)
        packed = 1
        while packed > 0:
            packed = take_datagram(publisher.store, buffer)
            messages += packed
    return messages


def publisher() -> list[int]:
    """The events of a busy market become messages, and these datagrams."""
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=300_000, symbols=8))
    arrays = [flow.commands.copy(), mass_cancels(SESSIONS)]
    ladder = build_book(LadderBookConfig(capacity_orders=100_000), symbol_count=8)
    store = DatagramStore("ALLOC", 1 << 16)
    feed = Publisher(flow.symbols, store, capacity_orders=100_000)
    events = np.zeros(events_bound(100_000, BATCH), EVENT_DTYPE)

    def work() -> None:
        for array in arrays:
            messages = play_and_publish(
                ladder.state, feed.state, store.buffer, address_of(array), len(array), address_of(events)
            )
            assert messages > len(array) // 2
        assert feed.live_orders() == 0

    return measured(2, 3, work)


def feed() -> list[int]:
    """A day becomes books, and they go again."""
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=300_000, symbols=50))
    commands = np.concatenate([flow.commands, mass_cancels(SESSIONS)])
    day = np.frombuffer(make_day(dataclasses.replace(flow, commands=commands)), np.uint8)
    book = FeedBook(capacity_orders=100_000, capacity_symbols=64)
    end = address_of(day) + len(day) - len(END_MARK)

    def work() -> None:
        assert apply_blocks(book.state, address_of(day), end) == (end, 0)
        assert book.live_orders() == 0

    return measured(2, 3, work)


@kernel
def make_arrays(steps: int) -> int:
    """What the core must not do."""
    total = 0
    for step in range(steps):
        total += len(np.zeros(step + 1, np.int64))
    return total


def wasteful() -> list[int]:
    """A hundred small arrays."""
    return measured(1, 1, lambda: make_arrays(100))


if __name__ == "__main__":
    parts = {
        "book": book,
        "full-book": full_book,
        "shard": shard,
        "publisher": publisher,
        "feed": feed,
        "wasteful": wasteful,
    }
    print(*parts[sys.argv[1]]())
