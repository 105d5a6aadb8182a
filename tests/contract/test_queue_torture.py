"""Millions of records through every compiled queue, from several threads or processes at once.

Producers and consumer are compiled loops without the interpreter lock, so that they do meet. Every record is marked in
all of its words; the consumer counts on for each producer and stops at the first record that is lost, doubled, torn or
out of its turn. Rings of 2 and 4 slots are full and wrap round all the time. There are more threads than cores, so
threads are also suspended in the worst places.
"""

import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

import pytest

from exchange.native import Arena, store_release
from exchange.queues.disruptor import DisruptorQueue
from exchange.queues.locked import LockedQueue
from exchange.queues.mpsc import MpscQueue
from exchange.queues.spsc import SpscQueue
from tests.queue_drivers import body, build, poll_marked, push_marked

RINGS = {"locked": LockedQueue, "spsc": SpscQueue, "mpsc": MpscQueue, "disruptor": DisruptorQueue}

BATCH_MAX = 8
LIMIT_MAX = 16
SCRATCH_BYTES = 64 * LIMIT_MAX

RECORDS = 400_000
"""In each case of the compiled variants: over seven million in all."""


class Bench:
    """Memory for the threads of one case, and the word that stops them all."""

    def __init__(self) -> None:
        self.arena = Arena.private(1 << 20, huge_pages="never")
        self.stop = self.arena.allocate(8)

    def pusher(self, handle: Any, producer: int, count: int) -> Callable[[], int]:
        scratch = self.arena.allocate(SCRATCH_BYTES)
        return lambda: body(push_marked, handle)(handle, scratch, producer, count, BATCH_MAX, self.stop)

    def poller(self, handle: Any, producers: int, count: int) -> Callable[[], int]:
        out, expected = self.arena.allocate(SCRATCH_BYTES), self.arena.allocate(8 * producers)
        return lambda: body(poll_marked, handle)(handle, out, expected, producers, count, LIMIT_MAX, self.stop)

    def run(self, *tasks: Callable[[], int]) -> list[int]:
        """Run every task in a thread of its own; a consumer that is disappointed stops the producers."""
        results = [-1] * len(tasks)

        def work(index: int) -> None:
            try:
                results[index] = tasks[index]()
            finally:
                if index == 0:
                    store_release(self.stop, 1)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(tasks))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


@pytest.mark.parametrize("capacity", [2, 4, 1024])
@pytest.mark.parametrize("producers", [1, 3])
@pytest.mark.parametrize("variant", ["locked", "spsc", "mpsc"])
def test_nothing_is_lost_doubled_or_overtaken(variant: str, producers: int, capacity: int) -> None:
    queue = build(variant, capacity, producers)
    bench = Bench()
    each = RECORDS // producers
    results = bench.run(
        bench.poller(queue.consumer(0), producers, each * producers),
        *(bench.pusher(queue.producer(index), index, each) for index in range(producers)),
    )
    assert results == [each * producers, *[each] * producers]


@pytest.mark.parametrize("capacity", [2, 4, 1024])
def test_every_reader_of_a_disruptor_sees_all_of_it(capacity: int) -> None:
    readers = 3
    queue = build("disruptor", capacity, consumers=readers)
    bench = Bench()
    count = RECORDS // 2
    finished = [bench.poller(queue.consumer(index), 1, count) for index in range(readers)]
    push = bench.pusher(queue.producer(0), 0, count)
    # The producer is first: the readers' last records lie in the ring when it is done, so it stops nobody too early.
    results = bench.run(push, *finished) if capacity >= count else bench.run(_after(push, bench, finished))
    assert results == [count]


def _after(push: Callable[[], int], bench: Bench, readers: list[Callable[[], int]]) -> Callable[[], int]:
    """Push while all the readers read; what the readers saw, if they all saw the same."""

    def work() -> int:
        seen = [-1] * len(readers)

        def read(index: int) -> None:
            seen[index] = readers[index]()

        threads = [threading.Thread(target=read, args=(index,)) for index in range(len(readers))]
        for thread in threads:
            thread.start()
        pushed = push()
        for thread in threads:
            thread.join()
        return pushed if set(seen) == {pushed} else min(seen)

    return work
