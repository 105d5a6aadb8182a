"""Lanes: one single-producer single-consumer ring for each producer, and one consumer that goes round them.

No instruction here is dearer than a plain store: with one writer for each counter there is nothing to compare
and nothing to lock. A producer writes the record, then *releases* its tail; the consumer *acquires* the tail,
then reads the record. That pair is the whole algorithm. Several producers each get a ring of their own, so
they never meet; the price is that the consumer looks at every lane, and that there is no order between lanes.

Sources: Lamport 1983; Giacomoni, Moseley and Vachharajani 2008 ("FastForward") for the cached counters.
"""

from typing import Final, NamedTuple

from exchange.native import (
    copy_record,
    implements,
    load_acquire,
    load_int64,
    load_relaxed,
    prefetch_for_write,
    store_int64,
    store_release,
    unlikely,
)
from exchange.queues.protocol import poll_batch, try_push, try_push_batch
from exchange.queues.ring_memory import (
    HEAD,
    HEAD_SEEN,
    NEXT_LANE,
    RECORD_SHIFT,
    REFUSED,
    SLOTS,
    TAIL,
    TAIL_SEEN,
    RingOwner,
    count_refusal,
    records_between,
)

PREFETCHED_SLOTS: Final = 64
"""4 KiB: some of a first-level cache, not all of it."""


class SpscProducer(NamedTuple):
    """One lane as its producer sees it."""

    lane: int
    capacity: int


class SpscConsumer(NamedTuple):
    """All lanes; ``lane_bytes`` lies between the control blocks of neighbours."""

    first_lane: int
    lane_bytes: int
    lane_count: int
    capacity: int


class SpscQueue(RingOwner):
    """Owner of the lanes."""

    VARIANT = "spsc"

    @classmethod
    def size_bytes(cls, capacity_slots: int, producers: int, consumers: int) -> int:
        """A control block and slots for each lane."""
        return producers * super().size_bytes(capacity_slots, 1, 1)

    def producer(self, index: int) -> SpscProducer:
        """Lane ``index``."""
        assert 0 <= index < self.producers
        return SpscProducer(self._lane(index), self.capacity)

    def consumer(self, index: int) -> SpscConsumer:
        """The one consumer, of all lanes."""
        return SpscConsumer(self.base, self._lane(1) - self._lane(0), self.producers, self.capacity)

    def back_pressure_count(self) -> int:
        """How many pushes were refused, over all lanes."""
        return sum(load_relaxed(self._lane(index) + REFUSED) for index in range(self.producers))

    def slot_count(self) -> int:
        """How many records all lanes together have room for."""
        return self.capacity * self.producers

    def waiting_count(self) -> int:
        """How many records wait in all lanes now."""
        lanes = [self._lane(index) for index in range(self.producers)]
        return sum(records_between(lane + HEAD, lane + TAIL, self.capacity) for lane in lanes)

    def _lane(self, index: int) -> int:
        return self.base + index * super().size_bytes(self.capacity, 1, 1)


@implements(try_push, SpscProducer)
def _try_push(producer: SpscProducer, record_address: int) -> bool:
    lane = producer.lane
    tail = load_int64(lane + TAIL)
    if unlikely(tail - load_int64(lane + HEAD_SEEN) >= producer.capacity):
        head = load_acquire(lane + HEAD)
        store_int64(lane + HEAD_SEEN, head)
        if tail - head >= producer.capacity:
            count_refusal(lane)
            return False
    copy_record(lane + SLOTS + ((tail & (producer.capacity - 1)) << RECORD_SHIFT), record_address)
    store_release(lane + TAIL, tail + 1)
    return True


@implements(try_push_batch, SpscProducer)
def _try_push_batch(producer: SpscProducer, records_address: int, count: int) -> int:
    lane = producer.lane
    tail = load_int64(lane + TAIL)
    room = producer.capacity - (tail - load_int64(lane + HEAD_SEEN))
    if unlikely(room < count):
        head = load_acquire(lane + HEAD)
        store_int64(lane + HEAD_SEEN, head)
        room = producer.capacity - (tail - head)
        if room < count:
            count_refusal(lane)
    pushed = min(room, count)
    for index in range(pushed):
        slot = lane + SLOTS + (((tail + index) & (producer.capacity - 1)) << RECORD_SHIFT)
        copy_record(slot, records_address + (index << RECORD_SHIFT))
    if pushed > 0:
        store_release(lane + TAIL, tail + pushed)
    # The slots of the next batch were last in the consumer's cache. Asking for them now, while the caller makes that
    # batch, hides the way between the cores. Slots that are perhaps still being read are left alone.
    for index in range(pushed, min(2 * pushed, pushed + PREFETCHED_SLOTS, room)):
        prefetch_for_write(lane + SLOTS + (((tail + index) & (producer.capacity - 1)) << RECORD_SHIFT))
    return pushed


@implements(poll_batch, SpscConsumer)
def _poll_batch(consumer: SpscConsumer, out_address: int, limit: int) -> int:
    polled = 0
    first = load_int64(consumer.first_lane + NEXT_LANE)
    for index in range(consumer.lane_count):
        # Each lane may fill its even share of what is left, and another lane is first each time: so a busy lane
        # starves no other, however small the limit.
        number = first + index
        if number >= consumer.lane_count:
            number -= consumer.lane_count
        lane = consumer.first_lane + number * consumer.lane_bytes
        share = (limit - polled + consumer.lane_count - index - 1) // (consumer.lane_count - index)
        head = load_int64(lane + HEAD)
        available = load_int64(lane + TAIL_SEEN) - head
        if available < share:
            tail = load_acquire(lane + TAIL)
            store_int64(lane + TAIL_SEEN, tail)
            available = tail - head
        taken = min(available, share)
        for step in range(taken):
            slot = lane + SLOTS + (((head + step) & (consumer.capacity - 1)) << RECORD_SHIFT)
            copy_record(out_address + ((polled + step) << RECORD_SHIFT), slot)
        if taken > 0:
            store_release(lane + HEAD, head + taken)
        polled += taken
    if consumer.lane_count > 1 and polled > 0:
        store_int64(consumer.first_lane + NEXT_LANE, (first + 1) % consumer.lane_count)
    return polled
