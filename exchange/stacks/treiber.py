"""A stack without a lock: read the top, link below it, and swap the top if nobody else has meanwhile.

The whole stack is one word, the top, and every push or pop is one compare-and-swap of it. A thread that loses
the race looks again; some thread always wins, so a thread that the kernel suspends in the middle holds up
nobody.

What makes it hard is *ABA*. A thread that pops reads the top A and, in A's link, the one below, B. It is
suspended. Others pop A, pop B, and push A back: the top is A again, so the swap would succeed and put B on
top, although somebody owns B. Therefore the word carries a *tag* beside the place: every change of the top
counts it up, and the swap succeeds only if nothing at all has happened in between. (The tag has 32 bits. To
be fooled, a thread would have to sleep through an exact multiple of 4,294,967,296 operations.)

Memory orders: a push *releases* what its thread wrote to the buffer and the link, a pop *acquires* it. The
loser of a race may read the link of an index that its new owner is just linking elsewhere; it will not use
what it read, but the read must be atomic to be allowed at all, hence ``relaxed`` and not plain.

Sources: Treiber 1986, "Systems programming: coping with parallelism" (IBM RJ 5118), also for the tag, which
it takes from the System/370 Principles of Operation."""

from typing import NamedTuple

from exchange.native import (
    add_wrapping,
    compare_exchange,
    implements,
    inlined,
    load_acquire,
    load_relaxed,
    store_relaxed,
)
from exchange.stacks.protocol import NOTHING, pop, push
from exchange.stacks.stack_memory import LINK_SHIFT, LINKS, PLACE_MASK, TOP, StackOwner

TAG_MASK = ~PLACE_MASK
TAG_STEP = PLACE_MASK + 1


class TreiberHandle(NamedTuple):
    """The address of the top word, and of the links."""

    top: int
    links: int


class TreiberStack(StackOwner):
    """Owner of the top word and the links."""

    VARIANT = "treiber"

    def handle(self) -> TreiberHandle:
        """The handle, the same for all threads."""
        return TreiberHandle(self.base + TOP, self.base + LINKS)


@inlined
def _replace_top(stack: TreiberHandle, seen: int, place: int) -> bool:
    """Make ``place`` the top and count the tag up, unless the top has changed since it was ``seen``."""
    return compare_exchange(stack.top, seen, add_wrapping(seen & TAG_MASK, TAG_STEP) | place)


@implements(push, TreiberHandle)
def _push(stack: TreiberHandle, index: int) -> None:
    place = index + 1
    while True:
        top = load_relaxed(stack.top)
        store_relaxed(stack.links + (place << LINK_SHIFT), top & PLACE_MASK)
        if _replace_top(stack, top, place):
            return


@implements(pop, TreiberHandle)
def _pop(stack: TreiberHandle) -> int:
    while True:
        top = load_acquire(stack.top)
        place = top & PLACE_MASK
        if place == 0:
            return NOTHING
        below = load_relaxed(stack.links + (place << LINK_SHIFT))
        if _replace_top(stack, top, below):
            return place - 1
