"""The same stack under a mutex.

It differs from ``treiber`` in nothing but the lock: same places, same links. The top changes only while the
mutex is held, so there is nothing to compare and no tag to count."""

from typing import NamedTuple

from exchange.native import (
    Arena,
    HugePages,
    implements,
    initialise_mutex,
    load_int64,
    mutex_lock,
    mutex_unlock,
    store_int64,
)
from exchange.stacks.protocol import pop, push
from exchange.stacks.stack_memory import LINK_SHIFT, LINKS, MUTEX, TOP, StackOwner


class LockedStackHandle(NamedTuple):
    """The address of the stack."""

    base: int


class LockedStack(StackOwner):
    """Owner of a stack under a mutex."""

    VARIANT = "locked"

    def __init__(
        self,
        capacity: int,
        filled: bool = False,
        arena: Arena | None = None,
        huge_pages: HugePages = "advise",
    ) -> None:
        super().__init__(capacity, filled, arena, huge_pages)
        if self.is_new:
            initialise_mutex(self.base + MUTEX)

    def handle(self) -> LockedStackHandle:
        """The handle, the same for all threads."""
        return LockedStackHandle(self.base)


@implements(push, LockedStackHandle)
def _push(stack: LockedStackHandle, index: int) -> None:
    place = index + 1
    mutex_lock(stack.base + MUTEX)
    store_int64(stack.base + LINKS + (place << LINK_SHIFT), load_int64(stack.base + TOP))
    store_int64(stack.base + TOP, place)
    mutex_unlock(stack.base + MUTEX)


@implements(pop, LockedStackHandle)
def _pop(stack: LockedStackHandle) -> int:
    mutex_lock(stack.base + MUTEX)
    place = load_int64(stack.base + TOP)
    if place != 0:
        store_int64(stack.base + TOP, load_int64(stack.base + LINKS + (place << LINK_SHIFT)))
    mutex_unlock(stack.base + MUTEX)
    return place - 1  # NOTHING when there was no place
