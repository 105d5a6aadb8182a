"""The stack layer: which buffer is free, asked and answered by many threads.

======== =============================== ===================================================================
variant  what it is                      what it trades
======== =============================== ===================================================================
treiber  compare-and-swap of one word    no thread ever waits for a suspended one; losers of a race try again
locked   the same under a pthread mutex  simple; a thread suspended inside holds up all others
======== =============================== ===================================================================

What both promise stands in :mod:`exchange.stacks.protocol`. What they are for is
:mod:`exchange.stacks.buffer_pool`: a pool of buffers that threads, or processes, share.
"""

from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

if TYPE_CHECKING:
    from exchange.native import Arena
    from exchange.stacks.protocol import Stack


class TreiberStackConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="treiber"):
    """Lock-free, with a tag against ABA."""


class LockedStackConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="locked"):
    """Under a pthread mutex."""


StackConfig = TreiberStackConfig | LockedStackConfig


def build_stack(
    config: StackConfig, capacity: int, filled: bool = False, arena: "Arena | None" = None
) -> "Stack":
    """A stack of the chosen variant for the indices 0 to ``capacity - 1``, holding all of them or none.

    Args:
        config: the variant.
        capacity: how many indices there are.
        filled: whether they are on the stack at first.
        arena: where to make the stack, or to find one that another process has made; ``None`` means private
            memory of its own.

    Raises:
        UserError: the capacity is out of range, or the arena holds a stack that was built for something else.
    """
    match config:
        case TreiberStackConfig():
            from exchange.stacks.treiber import TreiberStack

            return TreiberStack(capacity, filled, arena)
        case LockedStackConfig():
            from exchange.stacks.locked import LockedStack

            return LockedStack(capacity, filled, arena)
        case _:
            assert_never(config)


def stack_size_bytes(config: StackConfig, capacity: int) -> int:
    """How many bytes of an arena such a stack takes, for whoever shares an arena between structures."""
    match config:
        case TreiberStackConfig():
            from exchange.stacks.treiber import TreiberStack

            return TreiberStack.size_bytes(capacity)
        case LockedStackConfig():
            from exchange.stacks.locked import LockedStack

            return LockedStack.size_bytes(capacity)
        case _:
            assert_never(config)
