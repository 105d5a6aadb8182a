"""The ring that a book's events go into: the exchange's own ``spsc`` ring, in memory that the caller gives.

``queues/ring_memory.py`` has the layout and ``queues/spsc.py`` the algorithm. What is added here is that
writing and publishing are two steps: the producer writes records behind the tail that the consumer sees, and
moves that tail for many of them at once. Since the ring of a C program is byte for byte the ring that
``SpscQueue`` makes, a Python process may be its consumer, over shared memory.
"""

import errno
from typing import Final

from exchange import limits
from exchange.export.c_memory import set_errno
from exchange.native import FALSE_SHARING_BYTES, inlined, kernel, load_int64, store_int64, store_release
from exchange.native.block_header import HEADER_BYTES
from exchange.queues.ring_memory import RECORD_SHIFT, SLOTS
from exchange.queues.spsc import SpscQueue


def _marks_of_a_ring() -> tuple[tuple[int, ...], int]:
    """The header words of a ring, read from rings that the queue layer made, and which of them is the capacity."""
    rings = [SpscQueue(capacity, huge_pages="never") for capacity in (2, 4)]
    first, second = (
        [load_int64(ring.base + 8 * index) for index in range(HEADER_BYTES // 8)] for ring in rings
    )
    differing = [index for index, word in enumerate(first) if word != second[index]]
    assert [(first[index], second[index]) for index in differing] == [(2, 4)]
    return tuple(first), differing[0]


MARKS, CAPACITY_WORD = _marks_of_a_ring()
CAPACITY: Final = 8 * CAPACITY_WORD
"""Where a ring says how many slots it has."""
_MAGIC: Final = MARKS[0]
_WORDS: Final = len(MARKS)


@inlined
def _is_capacity(slots: int) -> bool:
    in_range = limits.QUEUE_CAPACITY_SLOTS_MIN <= slots <= limits.QUEUE_CAPACITY_SLOTS_MAX
    return in_range and slots & (slots - 1) == 0


@kernel
def ring_size_bytes(capacity_slots: int) -> int:
    """How much memory a ring of one producer takes; 0 for a capacity that it cannot have."""
    return SLOTS + (capacity_slots << RECORD_SHIFT) if _is_capacity(capacity_slots) else 0


@kernel
def ring_init(memory: int, capacity_slots: int) -> int:
    """Make an empty ring of any memory; 0 (and ``EINVAL``) if the address or the capacity does not serve."""
    if memory == 0 or memory & (FALSE_SHARING_BYTES - 1) or not _is_capacity(capacity_slots):
        set_errno(errno.EINVAL)
        return 0
    for offset in range(0, SLOTS, 8):
        store_int64(memory + offset, 0)
    for index in range(1, _WORDS):
        store_int64(memory + 8 * index, capacity_slots if index == CAPACITY_WORD else MARKS[index])
    store_release(memory, _MAGIC)  # last: whoever finds the magic finds the rest
    return memory


@kernel
def ring_capacity(ring: int) -> int:
    """The capacity that a ring's header states; 0 if there is no ring of one producer and one consumer."""
    if ring & (FALSE_SHARING_BYTES - 1):
        return 0
    for index in range(_WORDS):
        if index != CAPACITY_WORD and load_int64(ring + 8 * index) != MARKS[index]:
            return 0
    capacity_slots = load_int64(ring + CAPACITY)
    return capacity_slots if _is_capacity(capacity_slots) else 0
