"""The memory layout that the compiled rings share, in one place.

::

    control block                                    slots
    +0    header: what the ring was built for        +512  record 0   (64 bytes each)
    +128  producers' line: tail, head as last seen         record 1
    +256  consumer's line: head, tail as last seen         ...
    +384  mutex
    +448  how many pushes were refused

``tail`` counts the records ever pushed, ``head`` the records ever polled; both only grow, and a record's slot
is its number modulo the capacity. The ring is empty when they are equal and full when they differ by the
capacity, so no slot is wasted and no flag is needed (Lamport 1983, "Specifying concurrent program modules").

Words that different threads write are two cache lines apart. Each side keeps, on its own line, the other
side's counter as it last saw it: while that old value still proves that there is room (or that there are
records), the other side's line is not touched at all, and that is most of what separates a fast ring from a
slow one. For the same reason refusals are counted elsewhere: a producer that is refused again and again would
take away the line that the consumer polls.

A fresh arena is zero, and a ring of zeros is an empty ring.
"""

from typing import ClassVar, Final

from exchange import limits
from exchange.errors import UserError
from exchange.messages import RECORD_BYTES
from exchange.native import MUTEX_BYTES, Arena, HugePages, inlined, load_acquire, load_relaxed, store_relaxed
from exchange.native.block_header import HEADER_BYTES, take_header

TAIL: Final = 128
HEAD_SEEN: Final = 136
HEAD: Final = 256
TAIL_SEEN: Final = 264
NEXT_LANE: Final = 272
MUTEX: Final = 384
REFUSED: Final = 448
SLOTS: Final = 512
assert HEADER_BYTES <= TAIL
assert MUTEX + MUTEX_BYTES <= REFUSED

RECORD_SHIFT: Final = 6
assert 1 << RECORD_SHIFT == RECORD_BYTES


def check_shape(variant: str, capacity_slots: int, *counts: tuple[str, int, int]) -> None:
    """Refuse what a queue cannot be built for.

    Args:
        variant: the kind, for the message.
        capacity_slots: must be a power of two, 2 or more.
        counts: ``(what, count, most)`` for each side that has a limit.

    Raises:
        UserError: naming what is wrong and what is allowed.
    """
    if capacity_slots < 2 or capacity_slots & (capacity_slots - 1):
        raise UserError(f"capacity_slots = {capacity_slots}: must be a power of two, 2 or more")
    for what, count, most in counts:
        if not 1 <= count <= most:
            allowed = "1" if most == 1 else f"1 to {most}"
            raise UserError(f"queue {variant!r}: {what} = {count}: must be {allowed}")


@inlined
def count_refusal(ring: int) -> None:
    """Count one refused push, for rings of which one thread at a time is the producer."""
    store_relaxed(ring + REFUSED, load_relaxed(ring + REFUSED) + 1)


class RingOwner:
    """Owner of a compiled queue's memory: what the variants have in common.

    A variant says how many bytes it needs and makes the handles. ``arena=None`` means private memory of its own;
    otherwise the ring is made in that arena, or found there if another process has made it.

    Raises:
        UserError: the capacity is no power of two; the variant does not take so many producers or consumers; the
            shared arena holds a ring that was built for something else.
    """

    VARIANT: ClassVar[str]
    PRODUCERS_MAX: ClassVar[int] = limits.INGRESS_LANES_MAX
    CONSUMERS_MAX: ClassVar[int] = 1

    def __init__(
        self,
        capacity_slots: int,
        producers: int = 1,
        consumers: int = 1,
        arena: Arena | None = None,
        huge_pages: HugePages = "advise",
    ) -> None:
        check_shape(
            self.VARIANT,
            capacity_slots,
            ("producers", producers, self.PRODUCERS_MAX),
            ("consumers", consumers, self.CONSUMERS_MAX),
        )
        size_bytes = self.size_bytes(capacity_slots, producers, consumers)
        self.capacity: Final = capacity_slots
        self.producers: Final = producers
        self.consumers: Final = consumers
        self.arena: Final = Arena.private(size_bytes, huge_pages) if arena is None else arena
        self.base: Final = self.arena.allocate(size_bytes)
        self.is_new: Final = take_header(
            self.base,
            "ring",
            {
                "variant": self.VARIANT,
                "capacity_slots": capacity_slots,
                "producers": producers,
                "consumers": consumers,
            },
        )

    @classmethod
    def size_bytes(cls, capacity_slots: int, producers: int, consumers: int) -> int:
        """How much memory such a queue takes from its arena: here one control block and its slots."""
        return SLOTS + capacity_slots * RECORD_BYTES

    def back_pressure_count(self) -> int:
        """How many pushes were refused, wholly or in part, since the ring was made."""
        return load_relaxed(self.base + REFUSED)

    def slot_count(self) -> int:
        """How many records the queue has room for, over all its rings."""
        return self.capacity

    def waiting_count(self) -> int:
        """How many records wait in the queue now: a look from outside, at any time."""
        return records_between(self.base + HEAD, self.base + TAIL, self.capacity)


def records_between(head_address: int, tail_address: int, capacity: int) -> int:
    """How many records are in a ring of which other threads push and poll meanwhile: never negative, never too many."""
    head = load_acquire(head_address)
    return min(max(load_acquire(tail_address) - head, 0), capacity)
