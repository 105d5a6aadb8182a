"""The memory layout that the compiled rings share, in one place.

::

    control block                                    slots
    +0    header: magic, what the ring was built for +512  record 0   (64 bytes each,
    +128  producers' line: tail, head as last seen         record 1    or 128 where a slot
    +256  consumer's line: head, tail as last seen         ...         has a sequence word)
    +384  mutex

``tail`` counts the records ever pushed, ``head`` the records ever polled; both only grow, and a record's slot is its
number modulo the capacity. The ring is empty when they are equal and full when they differ by the capacity, so no
slot is wasted and no flag is needed (Lamport 1983, "Specifying concurrent program modules").

Words that different threads write are two cache lines apart. Each side keeps, on its own line, the other side's counter
as it last saw it: while that old value still proves that there is room (or that there are records), the other side's
line is not touched at all, and that is most of what separates a fast ring from a slow one.

A fresh arena is zero, and a ring of zeros is an empty ring.
"""

from typing import ClassVar, Final

from exchange import limits
from exchange.errors import UserError
from exchange.messages import RECORD_BYTES
from exchange.native import Arena, HugePages, load_int64, store_int64

TAIL: Final = 128
HEAD_SEEN: Final = 136
REFUSED: Final = 144
HEAD: Final = 256
TAIL_SEEN: Final = 264
MUTEX: Final = 384
SLOTS: Final = 512

RECORD_SHIFT: Final = 6
assert 1 << RECORD_SHIFT == RECORD_BYTES

_MAGIC: Final = 0x45584348_52494E47
_HEADER_WORDS: Final = ("magic", "variant", "capacity_slots", "producers", "consumers")


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
        if capacity_slots < 2 or capacity_slots & (capacity_slots - 1):
            raise UserError(f"capacity_slots = {capacity_slots}: must be a power of two, 2 or more")
        for what, count, most in (
            ("producers", producers, self.PRODUCERS_MAX),
            ("consumers", consumers, self.CONSUMERS_MAX),
        ):
            if not 1 <= count <= most:
                raise UserError(f"queue {self.VARIANT!r}: {what} = {count}: must be 1 to {most}")
        size_bytes = self.size_bytes(capacity_slots, producers, consumers)
        self.capacity: Final = capacity_slots
        self.producers: Final = producers
        self.consumers: Final = consumers
        self.arena: Final = Arena.private(size_bytes, huge_pages) if arena is None else arena
        self.base: Final = self.arena.allocate(size_bytes)
        self.is_new: Final = self._take_header()

    @classmethod
    def size_bytes(cls, capacity_slots: int, producers: int, consumers: int) -> int:
        """How much memory such a queue takes from its arena: here one control block and its slots."""
        return SLOTS + capacity_slots * RECORD_BYTES

    def back_pressure_count(self) -> int:
        """How many pushes were refused, wholly or in part, since the ring was made."""
        return load_int64(self.base + REFUSED)

    def _take_header(self) -> bool:
        """Write what the ring is built for into fresh memory, or compare with what stands there."""
        variant_word = int.from_bytes(self.VARIANT.encode()[:7], "little")
        words = (_MAGIC, variant_word, self.capacity, self.producers, self.consumers)
        is_new = load_int64(self.base) == 0
        for index, (name, word) in enumerate(zip(_HEADER_WORDS, words, strict=True)):
            found = load_int64(self.base + 8 * index)
            if is_new:
                store_int64(self.base + 8 * index, word)
            elif found != word:
                raise UserError(f"shared ring: its {name} is {found}, but {word} was asked for")
        return is_new
