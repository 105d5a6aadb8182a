"""What a latest value promises, once, for every variant.

One thread knows something that many others would like to know *now*: the top of a shard's book, how many
trades there were. A queue would be the wrong thing, for nobody wants yesterday's values. A latest value is a
record of a few 64-bit words that its writer overwrites in place, and that any thread reads as a consistent
whole: all words of a read come from one publication.

Rules:

* Exactly one thread publishes; any number read, through copies of one handle.
* A reader sees the last complete publication or a newer one, never an older one than it has seen.
  Publications in between are missed, which is the purpose. Before the first publication all words are zero.
* Addresses of words are multiples of 8.

The same bytes in shared memory serve several processes, as with queues: build with an arena from
``Arena.create_shared`` first, then, with equal arguments, on one from ``Arena.attach_shared``.
"""

from typing import Any, Protocol

from exchange.native import generic, inlined, pause


@generic
def publish(writer: Any, words_address: int) -> None:
    """Make the words at ``words_address`` (as many as the record has) the latest value."""
    raise NotImplementedError


@generic
def try_read(reader: Any, out_address: int) -> bool:
    """Copy the latest value to ``out_address``.

    False if the writer changed it at the same moment; what stands at ``out_address`` then means nothing.
    """
    raise NotImplementedError


@inlined
def read(reader: Any, out_address: int, attempts_max: int) -> int:
    """Try to read until it succeeds; returns how many attempts it took, or 0 if ``attempts_max`` did not suffice.

    It gives up at all because a writer that is suspended, or killed, in the middle of a publication would
    otherwise keep its readers for ever.
    """
    for attempt in range(attempts_max):
        if try_read(reader, out_address):
            return attempt + 1
        pause()
    return 0


class LatestValue(Protocol):
    """The owner of the memory; it must outlive all use of its handles."""

    def writer(self) -> Any:
        """The handle of the one thread that publishes."""

    def reader(self) -> Any:
        """The handle of any thread that reads."""
