"""What a stack promises, once, for every variant.

A stack holds *indices*: small integers from 0 to ``capacity - 1`` that stand for something else, usually a
buffer. Whoever takes one off owns what it stands for until putting it back. Last in, first out: the buffer
given out next is the one given back last, whose lines are the likeliest to be in a cache still.

Rules:

* Any number of threads may push and pop, through copies of one handle, at any moment.
* An index is pushed only by whoever popped it (or, on a stack that was built empty, by whoever brings it
  first). So an index is never on the stack twice, and a stack of ``capacity`` indices never overflows.
  Nothing checks this.
* What a thread wrote before it pushed an index is seen by the thread that pops it.
* Nothing blocks: an empty stack yields -1.

The same bytes in shared memory serve several processes, as with queues: build with an arena from
``Arena.create_shared`` first, then, with equal arguments, on one from ``Arena.attach_shared``.
"""

from typing import Any, Final, Protocol

from exchange.native import generic

NOTHING: Final = -1
"""What :func:`pop` returns when the stack is empty."""


@generic
def push(stack: Any, index: int) -> None:
    """Put ``index`` (0 to ``capacity - 1``, not on the stack) on top."""
    raise NotImplementedError


@generic
def pop(stack: Any) -> int:
    """Take the topmost index off; :data:`NOTHING` if there is none."""
    raise NotImplementedError


class Stack(Protocol):
    """The owner of a stack's memory; it must outlive all use of its handle."""

    def handle(self) -> Any:
        """The handle through which any thread pushes and pops."""
