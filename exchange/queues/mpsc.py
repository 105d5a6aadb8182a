"""One ring for many producers: they race for places with compare-and-swap, then fill them in peace.

A producer moves the shared tail forward by as many places as it has records, in one atomic step; the places
are then its own. Because producers finish in any order, the tail no longer says what is readable: each slot
carries a sequence word, released when its record is whole, and the consumer reads slots in order as long as
their words say so. A slot is two cache lines, the word and the record, so that filling neighbours does not
share a line.

The order of claims is the order of records over all producers, which lanes (``spsc``) do not have. What it
costs: the tail is one word that every producer writes; and a compare-and-swap waits until the core's earlier
stores have reached its cache, so that fetching the slots' lines from the consumer's core, which plain stores
overlap, happens one after the other, even with a single producer. A batch pays that once. And it is lock-free
only for producers: one that is suspended between claiming and filling holds up the consumer, though no other
producer.

Sources: Vyukov 2010, "Bounded MPMC queue" (the sequence words); here with a head counter instead of a second
sequence step, since there is one consumer and it frees slots in order.
"""

from typing import NamedTuple

from exchange.native import (
    compare_exchange,
    copy_record,
    fetch_add,
    implements,
    inlined,
    load_acquire,
    load_int64,
    load_relaxed,
    store_release,
    unlikely,
)
from exchange.queues.protocol import poll_batch, try_push, try_push_batch
from exchange.queues.ring_memory import (
    HEAD,
    HEAD_SEEN,
    RECORD_SHIFT,
    REFUSED,
    SLOTS,
    TAIL,
    RingOwner,
)

SLOT_SHIFT = 7
"""Two cache lines: the sequence word at +0, the record at +64."""
RECORD = 64


class MpscRing(NamedTuple):
    """The ring, as every producer and the consumer see it."""

    ring: int
    capacity: int


class MpscQueue(RingOwner):
    """Owner of the ring."""

    VARIANT = "mpsc"

    @classmethod
    def size_bytes(cls, capacity_slots: int, producers: int, consumers: int) -> int:
        """A control block, and two cache lines for each slot."""
        return SLOTS + (capacity_slots << SLOT_SHIFT)

    def producer(self, index: int) -> MpscRing:
        """The ring: producers differ in nothing."""
        return MpscRing(self.base, self.capacity)

    def consumer(self, index: int) -> MpscRing:
        """The ring."""
        return MpscRing(self.base, self.capacity)


@inlined
def _slot(ring: MpscRing, position: int) -> int:
    return ring.ring + SLOTS + ((position & (ring.capacity - 1)) << SLOT_SHIFT)


@inlined
def _claim(producer: MpscRing, count: int) -> tuple[int, int]:
    """Take up to ``count`` places: the first position, and how many."""
    ring = producer.ring
    while True:
        tail = load_relaxed(ring + TAIL)
        room = producer.capacity - (tail - load_acquire(ring + HEAD_SEEN))
        if unlikely(room < count):
            head = load_acquire(ring + HEAD)
            # Another producer may have stored a newer head meanwhile; an old one errs on the safe side.
            store_release(ring + HEAD_SEEN, head)
            room = producer.capacity - (tail - head)
        claimed = min(room, count)
        if claimed <= 0:
            return tail, 0
        if compare_exchange(ring + TAIL, tail, tail + claimed):
            return tail, claimed


@inlined
def _push(producer: MpscRing, records_address: int, count: int) -> int:
    position, claimed = _claim(producer, count)
    for index in range(claimed):
        slot = _slot(producer, position + index)
        copy_record(slot + RECORD, records_address + (index << RECORD_SHIFT))
        store_release(slot, position + index + 1)
    if claimed < count:
        fetch_add(producer.ring + REFUSED, 1)
    return claimed


@implements(try_push, MpscRing)
def _try_push(producer: MpscRing, record_address: int) -> bool:
    return _push(producer, record_address, 1) == 1


@implements(try_push_batch, MpscRing)
def _try_push_batch(producer: MpscRing, records_address: int, count: int) -> int:
    return _push(producer, records_address, count)


@implements(poll_batch, MpscRing)
def _poll_batch(consumer: MpscRing, out_address: int, limit: int) -> int:
    head = load_int64(consumer.ring + HEAD)
    polled = 0
    while polled < limit and load_acquire(_slot(consumer, head + polled)) == head + polled + 1:
        copy_record(out_address + (polled << RECORD_SHIFT), _slot(consumer, head + polled) + RECORD)
        polled += 1
    if polled > 0:
        store_release(consumer.ring + HEAD, head + polled)
    return polled
