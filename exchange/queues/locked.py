"""The same ring under a mutex: what a careful C programmer writes first.

It differs from ``spsc`` in nothing but the lock: same slots, same counters, same copies. A POSIX mutex around
each operation lets any number of producers and consumers share the ring; measuring the two side by side
therefore shows the lock and nothing else. A lock that is free costs two atomic instructions (some 20 ns); a
lock that another core has just held also costs the trip of its cache line; a lock that is held costs a system
call to sleep and one to be woken."""

from typing import NamedTuple

from exchange.native import (
    Arena,
    HugePages,
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
from exchange.queues.ring_memory import (
    HEAD,
    MUTEX,
    RECORD_SHIFT,
    SLOTS,
    TAIL,
    RingOwner,
    count_refusal,
)


class LockedRing(NamedTuple):
    """The ring, as producers and consumers alike see it."""

    ring: int
    capacity: int


class LockedQueue(RingOwner):
    """Owner of a ring under a mutex."""

    VARIANT = "locked"

    def __init__(
        self,
        capacity_slots: int,
        producers: int = 1,
        consumers: int = 1,
        arena: Arena | None = None,
        huge_pages: HugePages = "advise",
    ) -> None:
        super().__init__(capacity_slots, producers, consumers, arena, huge_pages)
        if self.is_new:
            initialise_mutex(self.base + MUTEX)

    def producer(self, index: int) -> LockedRing:
        """The ring: the mutex makes all producers alike."""
        return LockedRing(self.base, self.capacity)

    def consumer(self, index: int) -> LockedRing:
        """The ring."""
        return LockedRing(self.base, self.capacity)


@implements(try_push, LockedRing)
def _try_push(producer: LockedRing, record_address: int) -> bool:
    return _push_under_lock(producer, record_address, 1) == 1


@implements(try_push_batch, LockedRing)
def _try_push_batch(producer: LockedRing, records_address: int, count: int) -> int:
    return _push_under_lock(producer, records_address, count)


@implements(poll_batch, LockedRing)
def _poll_batch(consumer: LockedRing, out_address: int, limit: int) -> int:
    ring = consumer.ring
    mutex_lock(ring + MUTEX)
    head = load_int64(ring + HEAD)
    polled = min(load_int64(ring + TAIL) - head, limit)
    for index in range(polled):
        slot = ring + SLOTS + (((head + index) & (consumer.capacity - 1)) << RECORD_SHIFT)
        copy_record(out_address + (index << RECORD_SHIFT), slot)
    store_int64(ring + HEAD, head + polled)
    mutex_unlock(ring + MUTEX)
    return polled


@inlined
def _push_under_lock(producer: LockedRing, records_address: int, count: int) -> int:
    ring = producer.ring
    mutex_lock(ring + MUTEX)
    tail = load_int64(ring + TAIL)
    pushed = min(producer.capacity - (tail - load_int64(ring + HEAD)), count)
    for index in range(pushed):
        slot = ring + SLOTS + (((tail + index) & (producer.capacity - 1)) << RECORD_SHIFT)
        copy_record(slot, records_address + (index << RECORD_SHIFT))
    store_int64(ring + TAIL, tail + pushed)
    if pushed < count:
        count_refusal(ring)
    mutex_unlock(ring + MUTEX)
    return pushed
