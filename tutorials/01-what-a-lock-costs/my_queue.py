"""Your queue: the one file that you edit. As it stands it works, and every operation takes a lock.

The ring is the one that all compiled queues of the exchange share (``exchange/queues/ring_memory.py`` draws
it):

* ``TAIL`` counts the records ever pushed and belongs to the producer; ``HEAD`` counts the records ever polled
  and belongs to the consumer. Both only grow; record ``n`` lies in slot ``n`` modulo the capacity, a power of
  two.
* The ring is empty when both are equal, and full when they differ by the capacity.
* ``TAIL``, ``HEAD`` and ``MUTEX`` lie on cache lines of their own. ``HEAD_SEEN`` (on the producer's line) and
  ``TAIL_SEEN`` (on the consumer's) are words that nobody uses yet.

What has to stay: the class and its three methods, the three operations, and what
``exchange/queues/protocol.py`` promises of them. ``check.py`` holds your queue to it, ``measure.py`` says
what it is worth."""

from typing import NamedTuple

from exchange.native import (
    copy_record,
    implements,
    initialise_mutex,
    inlined,
    load_int64,
    mutex_lock,
    mutex_unlock,
    store_int64,
)
from exchange.queues.protocol import poll_batch, try_push, try_push_batch
from exchange.queues.ring_memory import HEAD, MUTEX, RECORD_SHIFT, SLOTS, TAIL, RingOwner, count_refusal


class MyRing(NamedTuple):
    """What a thread needs to use the ring: its address and its capacity. Only integers, so that it compiles."""

    ring: int
    capacity: int


class MyQueue(RingOwner):
    """Owner of the ring's memory. One producer and one consumer use it, each from a thread of its own."""

    VARIANT = "mine"
    PRODUCERS_MAX = 1

    def __init__(self, capacity_slots: int, producers: int = 1, consumers: int = 1) -> None:
        super().__init__(capacity_slots, producers, consumers)
        initialise_mutex(self.base + MUTEX)

    def producer(self, index: int) -> MyRing:
        """The handle through which the producer pushes."""
        return MyRing(self.base, self.capacity)

    def consumer(self, index: int) -> MyRing:
        """The handle through which the consumer polls."""
        return MyRing(self.base, self.capacity)


@inlined
def slot_address(queue: MyRing, number: int) -> int:
    """Where record ``number`` lies."""
    return queue.ring + SLOTS + ((number & (queue.capacity - 1)) << RECORD_SHIFT)


@implements(try_push_batch, MyRing)
def _try_push_batch(producer: MyRing, records_address: int, count: int) -> int:
    ring = producer.ring
    mutex_lock(ring + MUTEX)
    tail = load_int64(ring + TAIL)
    room = producer.capacity - (tail - load_int64(ring + HEAD))
    pushed = min(room, count)
    for index in range(pushed):
        copy_record(slot_address(producer, tail + index), records_address + (index << RECORD_SHIFT))
    store_int64(ring + TAIL, tail + pushed)
    if pushed < count:
        count_refusal(ring)
    mutex_unlock(ring + MUTEX)
    return pushed


@implements(try_push, MyRing)
def _try_push(producer: MyRing, record_address: int) -> bool:
    return try_push_batch(producer, record_address, 1) == 1


@implements(poll_batch, MyRing)
def _poll_batch(consumer: MyRing, out_address: int, limit: int) -> int:
    ring = consumer.ring
    mutex_lock(ring + MUTEX)
    head = load_int64(ring + HEAD)
    polled = min(load_int64(ring + TAIL) - head, limit)
    for index in range(polled):
        copy_record(out_address + (index << RECORD_SHIFT), slot_address(consumer, head + index))
    store_int64(ring + HEAD, head + polled)
    mutex_unlock(ring + MUTEX)
    return polled
