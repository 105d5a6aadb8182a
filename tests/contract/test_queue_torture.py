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

RECORDS = 300_000
"""In each case: over six million in all."""
SHARED_RECORDS = 100_000
"""From each process: over one million in all."""


class Case:
    """The threads of one case, their memory, and the word that stops them all if one of them fails."""

    def __init__(self) -> None:
        self.arena = Arena.private(1 << 20, huge_pages="never")
        self.stop = self.arena.allocate(8)
        self.threads: list[threading.Thread] = []
        self.results: list[int] = []

    def push(self, handle: Any, producer: int, count: int) -> None:
        """A thread that pushes ``count`` records."""
        scratch = self.arena.allocate(SCRATCH_BYTES)
        driver = body(push_marked, handle)
        self._add(count, lambda: driver(handle, scratch, producer, count, BATCH_MAX, self.stop))

    def poll(self, handle: Any, producers: int, count: int) -> None:
        """A thread that polls ``count`` records and checks them."""
        out, expected = self.arena.allocate(SCRATCH_BYTES), self.arena.allocate(8 * producers)
        driver = body(poll_marked, handle)
        self._add(count, lambda: driver(handle, out, expected, producers, count, LIMIT_MAX, self.stop))

    def run(self) -> list[int]:
        """Run all threads; how many records each handled."""
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        return self.results

    def _add(self, count: int, task: Callable[[], int]) -> None:
        index = len(self.threads)
        self.results.append(-1)

        def work() -> None:
            try:
                self.results[index] = task()
            finally:
                if self.results[index] != count:
                    store_release(self.stop, 1)

        self.threads.append(threading.Thread(target=work))


@pytest.mark.parametrize("capacity", [2, 4, 1024])
@pytest.mark.parametrize("producers", [1, 3])
@pytest.mark.parametrize("variant", ["locked", "spsc", "mpsc"])
def test_nothing_is_lost_doubled_or_overtaken(variant: str, producers: int, capacity: int) -> None:
    queue = build(variant, capacity, producers)
    case = Case()
    each = RECORDS // producers
    case.poll(queue.consumer(0), producers, each * producers)
    for index in range(producers):
        case.push(queue.producer(index), index, each)
    assert case.run() == [each * producers, *[each] * producers]


@pytest.mark.parametrize("capacity", [2, 4, 1024])
def test_every_reader_of_a_disruptor_sees_all_of_it(capacity: int) -> None:
    queue = build("disruptor", capacity, consumers=3)
    case = Case()
    for index in range(3):
        case.poll(queue.consumer(index), 1, RECORDS)
    case.push(queue.producer(0), 0, RECORDS)
    assert case.run() == [RECORDS] * 4


@pytest.mark.parametrize(("variant", "count"), [("python", 4_000), ("user", RECORDS)])
def test_the_textbook_queue_and_a_users_own_lose_nothing_either(variant: str, count: int) -> None:
    queue = build(variant, 4)
    case = Case()
    case.poll(queue.consumer(0), 1, count)
    case.push(queue.producer(0), 0, count)
    assert case.run() == [count, count]


@pytest.mark.parametrize("capacity", [4, 1024])
@pytest.mark.parametrize("variant", ["locked", "spsc", "mpsc"])
def test_nothing_is_lost_between_processes(variant: str, capacity: int, shared_name: str) -> None:
    """Two other processes push through the ring that this one made in shared memory."""
    size_bytes = RINGS[variant].size_bytes(capacity, 2, 1) + 4096
    arena = Arena.create_shared(shared_name, size_bytes)
    queue = RINGS[variant](capacity, 2, 1, arena=arena)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_push_from_another_process, args=(variant, capacity, shared_name, index, SHARED_RECORDS))
        for index in range(2)
    ]
    for process in processes:
        process.start()
    case = Case()
    case.poll(queue.consumer(0), 2, 2 * SHARED_RECORDS)
    arrived = case.run()
    for process in processes:
        process.join()
    assert arrived == [2 * SHARED_RECORDS]
    assert [process.exitcode for process in processes] == [0, 0]


def test_every_reader_sees_all_of_a_disruptor_between_processes(shared_name: str) -> None:
    arena = Arena.create_shared(shared_name, DisruptorQueue.size_bytes(4, 1, 2) + 4096)
    queue = DisruptorQueue(4, 1, 2, arena=arena)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_poll_in_another_process, args=(4, shared_name, SHARED_RECORDS))
    process.start()
    case = Case()
    case.push(queue.producer(0), 0, SHARED_RECORDS)
    case.poll(queue.consumer(0), 1, SHARED_RECORDS)
    handled = case.run()
    process.join()
    assert handled == [SHARED_RECORDS] * 2
    assert process.exitcode == 0


def _push_from_another_process(variant: str, capacity: int, name: str, producer: int, count: int) -> None:
    queue = RINGS[variant](capacity, 2, 1, arena=Arena.attach_shared(name))
    case = Case()
    case.push(queue.producer(producer), producer, count)
    raise SystemExit(0 if case.run() == [count] else 1)


def _poll_in_another_process(capacity: int, name: str, count: int) -> None:
    queue = DisruptorQueue(capacity, 1, 2, arena=Arena.attach_shared(name))
    case = Case()
    case.poll(queue.consumer(1), 1, count)
    raise SystemExit(0 if case.run() == [count] else 1)
