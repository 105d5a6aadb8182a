"""The textbook queue: a deque, a lock, and a bound.

What anyone writes first in Python, and the baseline that the others are measured against. The deque holds one
``bytes`` object of 64 bytes for each record. The lock protects the test for room, which a bare ``deque`` has
not; the interpreter's own lock is taken and given back around every one of these steps as well."""

from collections import deque
from ctypes import memmove, string_at
from threading import Lock
from typing import Final

from exchange import limits
from exchange.messages import RECORD_BYTES
from exchange.native import implements
from exchange.queues.protocol import poll_batch, try_push, try_push_batch
from exchange.queues.ring_memory import check_shape


class PythonQueue:
    """A bounded deque under a lock; it is its own producer and consumer handle, for any number of threads."""

    VARIANT: Final = "python"

    def __init__(self, capacity_slots: int, producers: int = 1, consumers: int = 1) -> None:
        check_shape(
            self.VARIANT,
            capacity_slots,
            ("producers", producers, limits.INGRESS_LANES_MAX),
            ("consumers", consumers, 1),
        )
        self.capacity: Final = capacity_slots
        self.records: Final[deque[bytes]] = deque()
        self.lock: Final = Lock()
        self.refused_count = 0

    def producer(self, index: int) -> "PythonQueue":
        """The queue itself."""
        return self

    def consumer(self, index: int) -> "PythonQueue":
        """The queue itself."""
        return self

    def back_pressure_count(self) -> int:
        """How many pushes were refused."""
        return self.refused_count


@implements(try_push, PythonQueue)
def _try_push(queue: PythonQueue, record_address: int) -> bool:
    record = string_at(record_address, RECORD_BYTES)
    with queue.lock:
        if len(queue.records) >= queue.capacity:
            queue.refused_count += 1
            return False
        queue.records.append(record)
        return True


@implements(try_push_batch, PythonQueue)
def _try_push_batch(queue: PythonQueue, records_address: int, count: int) -> int:
    block = string_at(records_address, count * RECORD_BYTES)
    with queue.lock:
        pushed = min(queue.capacity - len(queue.records), count)
        queue.records.extend(
            block[start : start + RECORD_BYTES] for start in range(0, pushed * RECORD_BYTES, RECORD_BYTES)
        )
        if pushed < count:
            queue.refused_count += 1
    return pushed


@implements(poll_batch, PythonQueue)
def _poll_batch(queue: PythonQueue, out_address: int, limit: int) -> int:
    with queue.lock:
        polled = min(len(queue.records), limit)
        block = b"".join([queue.records.popleft() for _ in range(polled)])
    memmove(out_address, block, len(block))
    return polled
