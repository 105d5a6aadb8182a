"""The ring without a lock: one producer, one consumer, and two counters that each have one writer.

Why nothing more is needed. A lock makes sure that one thread at a time touches ``TAIL``, ``HEAD`` and the
slots. But ``TAIL`` has one writer, the producer, and ``HEAD`` one, the consumer; and at any moment each
*slot* belongs to one of them: those between ``HEAD`` and ``TAIL`` to the consumer, the rest to the producer.
Moving a counter is what hands slots over. So there is nothing to exclude; there is only something to *order*:

* the producer writes records, then moves ``TAIL``. The store is a **release**: nobody may see the new tail
  and not yet the records. The consumer loads ``TAIL`` with **acquire**: what it reads after that is at least
  as new.
* the consumer reads records, then moves ``HEAD``, again with **release**: its reads are done before the
  producer, which loads ``HEAD`` with **acquire**, may write into those slots.
* its own counter a thread loads plainly: nobody else writes it.

On x86 both orders cost nothing at run time, since the processor keeps loads in order and stores in order
anyway; they keep the *compiler* from reordering, and they are real instructions on ARM.

Why it is fast and not only correct. A word that another core has written has to be fetched from that core's
cache, and that takes as long as hundreds of instructions. So each side remembers the other's counter as it
last saw it, on a line of its own (``HEAD_SEEN``, ``TAIL_SEEN``). An old value errs on the safe side: there
may be more room, or there may be more records, never fewer. Only when the old value is not enough is the real
counter fetched."""

from typing import NamedTuple

from exchange.native import (
    copy_record,
    implements,
    inlined,
    load_acquire,
    load_int64,
    store_int64,
    store_release,
)
from exchange.queues.protocol import poll_batch, try_push, try_push_batch
from exchange.queues.ring_memory import (
    HEAD,
    HEAD_SEEN,
    RECORD_SHIFT,
    SLOTS,
    TAIL,
    TAIL_SEEN,
    RingOwner,
    count_refusal,
)


class MyRing(NamedTuple):
    """What a thread needs to use the ring: its address and its capacity. Only integers, so that it compiles."""

    ring: int
    capacity: int


class MyQueue(RingOwner):
    """Owner of the ring's memory. One producer and one consumer use it, each from a thread of its own."""

    VARIANT = "mine"
    PRODUCERS_MAX = 1

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
    tail = load_int64(ring + TAIL)
    room = producer.capacity - (tail - load_int64(ring + HEAD_SEEN))
    if room < count:
        head = load_acquire(ring + HEAD)
        store_int64(ring + HEAD_SEEN, head)
        room = producer.capacity - (tail - head)
    pushed = min(room, count)
    for index in range(pushed):
        copy_record(slot_address(producer, tail + index), records_address + (index << RECORD_SHIFT))
    store_release(ring + TAIL, tail + pushed)
    if pushed < count:
        count_refusal(ring)
    return pushed


@implements(try_push, MyRing)
def _try_push(producer: MyRing, record_address: int) -> bool:
    return try_push_batch(producer, record_address, 1) == 1


@implements(poll_batch, MyRing)
def _poll_batch(consumer: MyRing, out_address: int, limit: int) -> int:
    ring = consumer.ring
    head = load_int64(ring + HEAD)
    available = load_int64(ring + TAIL_SEEN) - head
    if available < limit:
        tail = load_acquire(ring + TAIL)
        store_int64(ring + TAIL_SEEN, tail)
        available = tail - head
    polled = min(available, limit)
    for index in range(polled):
        copy_record(out_address + (index << RECORD_SHIFT), slot_address(consumer, head + index))
    if polled > 0:
        store_release(ring + HEAD, head + polled)
    return polled
