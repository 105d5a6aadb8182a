"""One ring, one producer, several consumers that each see every record.

Instead of copying a record into a queue for each reader, all readers walk the same ring, each with a counter
of its own. The producer may overwrite a slot only when the *slowest* reader has passed it: the least of the
readers' counters is the gate. Execution reports, market data and a journal can thus read the same events at
their own pace, and a slow one holds up the producer rather than losing anything.

Source: Thompson, Farley, Barker, Gee and Stewart 2011, "Disruptor: High performance alternative to bounded
queues" (the single-producer sequencer)."""

from typing import NamedTuple

from exchange import limits
from exchange.native import (
    FALSE_SHARING_BYTES,
    copy_record,
    implements,
    inlined,
    load_acquire,
    load_int64,
    store_int64,
    store_release,
    unlikely,
)
from exchange.queues.protocol import poll_batch, try_push, try_push_batch
from exchange.queues.ring_memory import (
    HEAD_SEEN,
    RECORD_SHIFT,
    SLOTS,
    TAIL,
    RingOwner,
    count_refusal,
    records_between,
)

POSITION = 0
"""On a consumer's line: how many records it has seen."""
TAIL_SEEN = 8
"""On a consumer's line: the tail as it last saw it."""


class DisruptorProducer(NamedTuple):
    """The ring and the number of readers that gate it; their lines begin at ``ring + SLOTS``."""

    ring: int
    capacity: int
    slots: int
    reader_count: int


class DisruptorConsumer(NamedTuple):
    """The ring and this reader's own line."""

    ring: int
    capacity: int
    slots: int
    reader: int


class DisruptorQueue(RingOwner):
    """Owner of the ring."""

    VARIANT = "disruptor"
    PRODUCERS_MAX = 1
    CONSUMERS_MAX = limits.INGRESS_LANES_MAX

    @classmethod
    def size_bytes(cls, capacity_slots: int, producers: int, consumers: int) -> int:
        """A control block, a line for each reader, and the slots."""
        return super().size_bytes(capacity_slots, 1, 1) + consumers * FALSE_SHARING_BYTES

    def producer(self, index: int) -> DisruptorProducer:
        """The one producer."""
        return DisruptorProducer(self.base, self.capacity, self._reader(self.consumers), self.consumers)

    def consumer(self, index: int) -> DisruptorConsumer:
        """Reader ``index``; every reader must keep polling, or the producer comes to a stop."""
        assert 0 <= index < self.consumers
        return DisruptorConsumer(self.base, self.capacity, self._reader(self.consumers), self._reader(index))

    def waiting_count(self) -> int:
        """How many records the slowest reader has not seen."""
        lines = [self._reader(index) for index in range(self.consumers)]
        return max(records_between(line + POSITION, self.base + TAIL, self.capacity) for line in lines)

    def _reader(self, index: int) -> int:
        """The readers' lines stand between the control block and the slots."""
        return self.base + SLOTS + index * FALSE_SHARING_BYTES


@inlined
def _slowest_position(producer: DisruptorProducer) -> int:
    readers = producer.ring + SLOTS
    slowest = load_acquire(readers + POSITION)
    for index in range(1, producer.reader_count):
        slowest = min(slowest, load_acquire(readers + index * FALSE_SHARING_BYTES + POSITION))
    return slowest


@inlined
def _push(producer: DisruptorProducer, records_address: int, count: int) -> int:
    ring = producer.ring
    tail = load_int64(ring + TAIL)
    room = producer.capacity - (tail - load_int64(ring + HEAD_SEEN))
    if unlikely(room < count):
        gate = _slowest_position(producer)
        store_int64(ring + HEAD_SEEN, gate)
        room = producer.capacity - (tail - gate)
        if room < count:
            count_refusal(ring)
    pushed = min(room, count)
    for index in range(pushed):
        slot = producer.slots + (((tail + index) & (producer.capacity - 1)) << RECORD_SHIFT)
        copy_record(slot, records_address + (index << RECORD_SHIFT))
    if pushed > 0:
        store_release(ring + TAIL, tail + pushed)
    return pushed


@implements(try_push, DisruptorProducer)
def _try_push(producer: DisruptorProducer, record_address: int) -> bool:
    return _push(producer, record_address, 1) == 1


@implements(try_push_batch, DisruptorProducer)
def _try_push_batch(producer: DisruptorProducer, records_address: int, count: int) -> int:
    return _push(producer, records_address, count)


@implements(poll_batch, DisruptorConsumer)
def _poll_batch(consumer: DisruptorConsumer, out_address: int, limit: int) -> int:
    position = load_int64(consumer.reader + POSITION)
    available = load_int64(consumer.reader + TAIL_SEEN) - position
    if available < limit:
        tail = load_acquire(consumer.ring + TAIL)
        store_int64(consumer.reader + TAIL_SEEN, tail)
        available = tail - position
    polled = min(available, limit)
    for index in range(polled):
        slot = consumer.slots + (((position + index) & (consumer.capacity - 1)) << RECORD_SHIFT)
        copy_record(out_address + (index << RECORD_SHIFT), slot)
    if polled > 0:
        store_release(consumer.reader + POSITION, position + polled)
    return polled
