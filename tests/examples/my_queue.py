"""A queue of your own in one file: the least that works, and a good place to begin.

Try it beside the built-in ones::

    exchange bench queue locked file:./my_queue.py:MyQueue spsc

It is a ring with one producer and one consumer. ``tail`` counts the records ever pushed, ``head`` those ever polled.
The capacity is a power of two, so record number n lies in slot ``n & (capacity - 1)``. Each side publishes its own
counter and reads the other's, for every record. That is correct, and not yet fast: where does the time go?
(``exchange/queues/spsc.py`` has one answer.)

What the three operations must do stands in ``exchange/queues/protocol.py``.
"""

from typing import NamedTuple

from exchange.native import copy_record, implements, load_acquire, store_release
from exchange.queues.protocol import poll_batch, try_push, try_push_batch
from exchange.queues.ring_memory import HEAD, SLOTS, TAIL, RingOwner, count_refusal


class MyRing(NamedTuple):
    """What a thread holds: the address of the ring, and how many slots it has. Integers only, so it is compiled."""

    ring: int
    capacity: int


class MyQueue(RingOwner):
    """Owns the memory: a control block, and ``capacity`` slots of 64 bytes."""

    VARIANT = "mine"
    PRODUCERS_MAX = 1

    def producer(self, index: int) -> MyRing:
        """The handle of the thread that pushes."""
        return MyRing(self.base, self.capacity)

    def consumer(self, index: int) -> MyRing:
        """The handle of the thread that polls."""
        return MyRing(self.base, self.capacity)


@implements(try_push, MyRing)
def my_try_push(queue: MyRing, record_address: int) -> bool:
    tail = load_acquire(queue.ring + TAIL)
    if tail - load_acquire(queue.ring + HEAD) == queue.capacity:
        count_refusal(queue.ring)
        return False
    copy_record(queue.ring + SLOTS + 64 * (tail & (queue.capacity - 1)), record_address)
    store_release(
        queue.ring + TAIL, tail + 1
    )  # not before the record is written: that is what "release" says
    return True


@implements(try_push_batch, MyRing)
def my_try_push_batch(queue: MyRing, records_address: int, count: int) -> int:
    for pushed in range(count):
        if not try_push(queue, records_address + 64 * pushed):
            return pushed
    return count


@implements(poll_batch, MyRing)
def my_poll_batch(queue: MyRing, out_address: int, limit: int) -> int:
    head = load_acquire(queue.ring + HEAD)
    polled = min(load_acquire(queue.ring + TAIL) - head, limit)
    for index in range(polled):
        copy_record(
            out_address + 64 * index, queue.ring + SLOTS + 64 * ((head + index) & (queue.capacity - 1))
        )
    store_release(queue.ring + HEAD, head + polled)  # not before the records are copied out
    return polled
