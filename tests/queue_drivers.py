"""What the tests of queues share: the variants, records that can be recognised, and threads that push and poll them.

A *marked* record says in every one of its eight words which producer pushed it and as which of its records, so that
a torn, lost, doubled or overtaken record is seen by the consumer at once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from exchange.messages import RECORD_BYTES
from exchange.native import (
    Arena,
    add_wrapping,
    is_compiled,
    kernel,
    load_int64,
    load_relaxed,
    monotonic_ns,
    multiply_wrapping,
    pause,
    shift_right_logical,
    store_int64,
    view_bytes,
    yield_core,
)
from exchange.queues import build_queue
from exchange.queues.config import (
    DisruptorQueueConfig,
    LockedQueueConfig,
    MpscQueueConfig,
    PythonQueueConfig,
    SpscQueueConfig,
    UserQueueConfig,
)
from exchange.queues.protocol import poll_batch, try_push, try_push_batch

EXAMPLE_QUEUE = Path(__file__).parent / "examples" / "my_queue.py"

CONFIGS: dict[str, Callable[[int], Any]] = {
    "python": lambda slots: PythonQueueConfig(capacity_slots=slots),
    "locked": lambda slots: LockedQueueConfig(capacity_slots=slots, huge_pages="never"),
    "spsc": lambda slots: SpscQueueConfig(capacity_slots=slots, huge_pages="never"),
    "mpsc": lambda slots: MpscQueueConfig(capacity_slots=slots, huge_pages="never"),
    "disruptor": lambda slots: DisruptorQueueConfig(capacity_slots=slots, huge_pages="never"),
    "user": lambda slots: UserQueueConfig(path=str(EXAMPLE_QUEUE), name="MyQueue", capacity_slots=slots),
}
MANY_PRODUCERS = ("python", "locked", "spsc", "mpsc")

SPINS = 16
"""Fruitless attempts before a thread gives the core away: the tests have more threads than cores."""

PATIENCE_NS = 60_000_000_000


def build(variant: str, capacity_slots: int, producers: int = 1, consumers: int = 1) -> Any:
    """A queue of the variant."""
    return build_queue(CONFIGS[variant](capacity_slots), producers, consumers)


class Desk:
    """A queue with its handles and some memory, as plain Python uses it: bytes in, bytes out."""

    ROOM = 4096

    def __init__(self, variant: str, capacity_slots: int, producers: int = 1, consumers: int = 1) -> None:
        self.queue = build(variant, capacity_slots, producers, consumers)
        self.producers = [self.queue.producer(index) for index in range(producers)]
        self.consumers = [self.queue.consumer(index) for index in range(consumers)]
        self.arena = Arena.private(2 * self.ROOM * RECORD_BYTES, huge_pages="never")
        self.source = self.arena.allocate(self.ROOM * RECORD_BYTES)
        self.out = self.arena.allocate(self.ROOM * RECORD_BYTES)

    def push(self, record: bytes, producer: int = 0) -> bool:
        """``try_push``."""
        write(self.source, record)
        return bool(try_push(self.producers[producer], self.source))

    def push_batch(self, records: list[bytes], producer: int = 0) -> int:
        """``try_push_batch``."""
        write(self.source, b"".join(records))
        return int(try_push_batch(self.producers[producer], self.source, len(records)))

    def poll(self, limit: int, consumer: int = 0) -> list[bytes]:
        """``poll_batch``."""
        polled = poll_batch(self.consumers[consumer], self.out, limit)
        block = read(self.out, polled * RECORD_BYTES)
        return [block[at : at + RECORD_BYTES] for at in range(0, len(block), RECORD_BYTES)]

    def drain(self, limit: int, consumer: int = 0) -> list[bytes]:
        """Everything there is, ``limit`` at a time."""
        records: list[bytes] = []
        while batch := self.poll(limit, consumer):
            records += batch
        return records

    @property
    def refused(self) -> int:
        """``back_pressure_count``."""
        return int(self.queue.back_pressure_count())


def write(address: int, block: bytes) -> None:
    """Bytes to memory."""
    view_bytes(address, len(block))[:] = block


def read(address: int, size_bytes: int) -> bytes:
    """Bytes from memory."""
    return bytes(view_bytes(address, size_bytes))


def record(number: int) -> bytes:
    """A record of 64 bytes that no other number has."""
    return b"".join(((number * 8 + word) & (1 << 64) - 1).to_bytes(8, "little") for word in range(8))


def body(driver: Any, handle: Any) -> Any:
    """The compiled driver for a compiled handle, else its source."""
    return driver if is_compiled(handle) else getattr(driver, "py_func", driver)


@kernel
def mix(value: int) -> int:
    """A pseudo-random word for each word (the finalizer of splitmix64)."""
    value = add_wrapping(value, -7046029254386353131)
    value = multiply_wrapping(value ^ shift_right_logical(value, 30), -4658895280553007687)
    value = multiply_wrapping(value ^ shift_right_logical(value, 27), -7723592293110705685)
    return value ^ shift_right_logical(value, 31)


@kernel
def mark(address: int, producer: int, number: int) -> None:
    """Write a marked record: producer, number, and six words that follow from them."""
    store_int64(address, producer)
    store_int64(address + 8, number)
    for word in range(2, 8):
        store_int64(
            address + 8 * word, mix(add_wrapping(multiply_wrapping(number, 1024), producer * 8 + word))
        )


@kernel
def is_marked(address: int) -> bool:
    """Whether the record is one that :func:`mark` wrote, whole."""
    producer = load_int64(address)
    number = load_int64(address + 8)
    for word in range(2, 8):
        expected = mix(add_wrapping(multiply_wrapping(number, 1024), producer * 8 + word))
        if load_int64(address + 8 * word) != expected:
            return False
    return True


@kernel
def push_marked(
    handle: Any, scratch_address: int, producer: int, count: int, batch_max: int, stop_address: int
) -> int:
    """Push records 0 to ``count - 1`` of this producer in singles and batches, mixed; returns how many went in."""
    pushed = 0
    failures = 0
    deadline_ns = monotonic_ns() + PATIENCE_NS
    while pushed < count:
        size = min(1 + (mix(pushed + failures) & (batch_max - 1)), count - pushed)
        for index in range(size):
            mark(scratch_address + RECORD_BYTES * index, producer, pushed + index)
        if size == 1:
            accepted = 1 if try_push(handle, scratch_address) else 0
        else:
            accepted = try_push_batch(handle, scratch_address, size)
        pushed += accepted
        if accepted == 0:
            failures += 1
            if load_relaxed(stop_address) != 0 or monotonic_ns() > deadline_ns:
                break
            if failures % SPINS == 0:
                yield_core()
            else:
                pause()
    return pushed


@kernel
def poll_marked(
    handle: Any,
    out_address: int,
    next_address: int,
    producers: int,
    count: int,
    limit_max: int,
    stop_address: int,
) -> int:
    """Poll ``count`` records; the next number of each producer is counted at ``next_address``, a word for each.

    Returns how many records came whole and in their producer's order; stops at the first that did not.
    """
    polled = 0
    failures = 0
    deadline_ns = monotonic_ns() + PATIENCE_NS
    while polled < count:
        got = poll_batch(handle, out_address, 1 + (mix(polled) & (limit_max - 1)))
        for index in range(got):
            address = out_address + RECORD_BYTES * index
            producer = load_int64(address)
            if producer < 0 or producer >= producers or not is_marked(address):
                return polled
            if load_int64(address + 8) != load_int64(next_address + 8 * producer):
                return polled
            store_int64(next_address + 8 * producer, load_int64(address + 8) + 1)
            polled += 1
        if got == 0:
            failures += 1
            if load_relaxed(stop_address) != 0 or monotonic_ns() > deadline_ns:
                break
            if failures % SPINS == 0:
                yield_core()
            else:
                pause()
    return polled
