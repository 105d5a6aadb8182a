"""The memory layout that the stacks share.

::

    +0    header
    +128  top: the tag in the high 32 bits (unused by ``locked``), the place in the low 32
    +256  mutex (used by ``locked`` only)
    +384  link of place 0 (unused), of place 1, of place 2 ...   8 bytes each

A *place* is an index plus one, so that zero can mean "nothing": a fresh arena is zero, and a stack of zeros
is an empty stack. The link of a place is the place below it, zero at the bottom."""

from typing import ClassVar, Final

import numpy as np

from exchange.errors import UserError
from exchange.native import MUTEX_BYTES, Arena, HugePages, store_int64, view_bytes
from exchange.native.block_header import HEADER_BYTES, take_header

TOP: Final = HEADER_BYTES
MUTEX: Final = 256
LINKS: Final = 384
assert MUTEX + MUTEX_BYTES <= LINKS

LINK_SHIFT: Final = 3
PLACE_MASK: Final = 0xFFFF_FFFF

CAPACITY_MAX: Final = 1 << 24
"""Indices have 32 bits; 16 million buffers of the least size are already one GiB."""


class StackOwner:
    """Owner of a stack's memory: what the variants have in common.

    Args:
        capacity: indices run from 0 to ``capacity - 1``.
        filled: whether a new stack holds all of them (0 on top) or none.
        arena: where to make or find the stack; ``None`` means private memory of its own.
        huge_pages: of the private memory.

    Raises:
        UserError: the capacity is out of range; the shared arena holds a stack that was built for something else.
    """

    VARIANT: ClassVar[str]

    def __init__(
        self,
        capacity: int,
        filled: bool = False,
        arena: Arena | None = None,
        huge_pages: HugePages = "advise",
    ) -> None:
        if not 1 <= capacity <= CAPACITY_MAX:
            raise UserError(f"stack {self.VARIANT!r}: capacity = {capacity}: must be 1 to {CAPACITY_MAX}")
        size_bytes = self.size_bytes(capacity)
        self.capacity: Final = capacity
        self.arena: Final = Arena.private(size_bytes, huge_pages) if arena is None else arena
        self.base: Final = self.arena.allocate(size_bytes)
        self.is_new: Final = take_header(
            self.base, "stack", {"variant": self.VARIANT, "capacity": capacity, "filled": int(filled)}
        )
        if self.is_new and filled:
            self._fill()

    @classmethod
    def size_bytes(cls, capacity: int) -> int:
        """How much memory such a stack takes from its arena."""
        return LINKS + (capacity + 1 << LINK_SHIFT)

    def _fill(self) -> None:
        links = np.frombuffer(view_bytes(self.base + LINKS, self.capacity + 1 << LINK_SHIFT), np.int64)
        links[:-1] = np.arange(1, self.capacity + 1)
        store_int64(self.base + TOP, 1)
