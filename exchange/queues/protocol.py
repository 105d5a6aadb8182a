"""What a queue promises, once, for every variant.

A queue carries 64-byte records from producers to consumers, in order, without loss and without copies beyond
one in and one out. It never blocks: a full queue refuses, an empty one yields nothing, and the caller decides
what to do (agents count the refusal and try again on their next turn: that is back-pressure).

Who may call what:

* A queue is *built* once (:class:`Queue`), which owns the memory and must outlive all use.
* Each producing thread takes one *producer* handle and keeps it for itself; likewise each consuming thread
  one *consumer* handle. Handles are tuples of integers (for compiled variants) and may be copied freely, but
  two threads never push through the same handle of an ``spsc`` or ``disruptor`` queue.
* The records of one producer arrive in the order in which they were pushed. Nothing is said about the order
  between producers.
* Addresses of records are multiples of 64.

The same bytes in shared memory serve several processes: give :class:`Queue` an arena from
``Arena.create_shared`` in one process and from ``Arena.attach_shared`` in the other, with equal arguments.
"""

from typing import Any, Protocol

from exchange.native import generic


@generic
def try_push(producer: Any, record_address: int) -> bool:
    """Append one record. False, and nothing changed, if there is no room."""
    raise NotImplementedError


@generic
def try_push_batch(producer: Any, records_address: int, count: int) -> int:
    """Append the first records of ``count`` consecutive ones; returns how many found room (0 to ``count``).

    The consumer sees them together or in pieces, never out of order. Being refused, wholly or in part, counts once
    as back-pressure.
    """
    raise NotImplementedError


@generic
def poll_batch(consumer: Any, out_address: int, limit: int) -> int:
    """Move up to ``limit`` records to ``out_address``; returns how many there were (0 to ``limit``)."""
    raise NotImplementedError


OPERATIONS = (try_push, try_push_batch, poll_batch)
"""What a variant has to implement: the first two for its producer state, the last for its consumer state."""


class Queue(Protocol):
    """The owner of a queue's memory. A variant is such a class; so is a user's own queue.

    The class is called with ``capacity_slots`` (a power of two), ``producers`` and ``consumers``.
    """

    def producer(self, index: int) -> Any:
        """The handle through which producer ``index`` pushes."""

    def consumer(self, index: int) -> Any:
        """The handle through which consumer ``index`` polls."""

    def back_pressure_count(self) -> int:
        """How many pushes were refused, wholly or in part, since the queue was built."""
