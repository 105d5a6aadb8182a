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

RECORDS = {2: 100_000, 4: 150_000, 1024: 1_000_000}
"""By capacity: some eight million in all. On a ring of two slots the threads wait for each other at every step."""
SHARED_RECORDS = {4: 15_000, 1024: 250_000}
"""From each process, or to each: some two million in all."""
SHARED_ENDS = {"locked": (2, 1), "spsc": (2, 1), "mpsc": (2, 1), "disruptor": (1, 2)}
"""Producers and consumers."""
SHARED_BYTES = 1 << 20


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
    each = RECORDS[capacity] // producers
    case.poll(queue.consumer(0), producers, each * producers)
    for index in range(producers):
        case.push(queue.producer(index), index, each)
    assert case.run() == [each * producers, *[each] * producers]


@pytest.mark.parametrize("capacity", [2, 4, 1024])
def test_every_reader_of_a_disruptor_sees_all_of_it(capacity: int) -> None:
    queue = build("disruptor", capacity, consumers=3)
    case = Case()
    count = RECORDS[capacity] // 4
    for index in range(3):
        case.poll(queue.consumer(index), 1, count)
    case.push(queue.producer(0), 0, count)
    assert case.run() == [count] * 4


@pytest.mark.parametrize(("variant", "count"), [("python", 2_000), ("user", RECORDS[4])])
def test_the_textbook_queue_and_a_users_own_lose_nothing_either(variant: str, count: int) -> None:
    queue = build(variant, 4)
    case = Case()
    case.poll(queue.consumer(0), 1, count)
    case.push(queue.producer(0), 0, count)
    assert case.run() == [count, count]


def test_nothing_is_lost_between_processes(shared_name: str) -> None:
    """Two other processes at the other ends of rings that this one made in shared memory, ring after ring."""
    arena = Arena.create_shared(shared_name, SHARED_BYTES)
    queues = _shared_queues(arena)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_take_part, args=(shared_name, index)) for index in range(2)]
    for process in processes:
        process.start()
    handled = {}
    for (variant, capacity), queue in queues.items():
        count = SHARED_RECORDS[capacity]
        case = Case()
        if variant == "disruptor":
            case.push(queue.producer(0), 0, count)
        else:
            case.poll(queue.consumer(0), 2, 2 * count)
        handled[variant, capacity] = case.run()[0] / count
    for process in processes:
        process.join()
    assert handled == {key: 1 if key[0] == "disruptor" else 2 for key in queues}
    assert [process.exitcode for process in processes] == [0, 0]


def _shared_queues(arena: Arena) -> dict[tuple[str, int], Any]:
    """All variants and capacities one after the other: alike in every process that asks alike."""
    return {
        (variant, capacity): RINGS[variant](capacity, *SHARED_ENDS[variant], arena=arena)
        for variant in RINGS
        for capacity in SHARED_RECORDS
    }


def _take_part(name: str, index: int) -> None:
    """What the other processes do: be producer ``index`` of each ring, or reader ``index`` of a disruptor."""
    for (variant, capacity), queue in _shared_queues(Arena.attach_shared(name)).items():
        count = SHARED_RECORDS[capacity]
        case = Case()
        if variant == "disruptor":
            case.poll(queue.consumer(index), 1, count)
        else:
            case.push(queue.producer(index), index, count)
        if case.run() != [count]:
            raise SystemExit(f"{variant}, {capacity} slots: {case.results} of {count}")
