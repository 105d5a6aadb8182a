"""What replication promises, once, for every variant.

A *stream* is what one shard sequences, or the order in which their events left (``merge``): exactly the streams of the
journal (:func:`exchange.journal.streams.stream_names`), by the same numbers from 0 on. The *primary* writes each of
their frames into its journal and into a ring in its memory; an agent of its own, the *replicator*, copies what is new
into the same place of a ring in the memory of the *backup*, which takes the frames from there.

Three things can be true of the primary:

* *nobody holds*: there is no backup, or it is not in sync yet. The ring is written round and round, and no event
  waits.
* *holding*: a backup is in sync. A frame is appended only when there is room for it in the backup's ring as well, and
  an event leaves only when the gate says that its command is safe.
* *fenced*: somebody else leads. No event leaves any more, for good.

Beside all that, an event leaves only before the *deadline* of the lease, on the clock that goes on while a machine
sleeps (CLOCK_BOOTTIME).

Who may call what:

* ``replicated_sequence``, ``may_release``: the egress.
* ``ship``, ``reap``, ``beat``, ``take_link``: the replicator, which alone knows the link that is attached.
* ``receive``, ``acknowledge``: the thread of the backup that polls.
* everything else is the business of Python threads, and of two owners:
  :class:`exchange.replication.streams.ReplicaStreams` and :class:`exchange.replication.receiving.ReceivedStreams`.
"""

from typing import Any, Final, NamedTuple

from exchange.journal.protocol import ALL_DURABLE
from exchange.native import generic

ALL_REPLICATED: Final = ALL_DURABLE
"""The replicated sequence of a stream for which nobody has to wait."""

NO_DEADLINE: Final = (1 << 63) - 1
"""The deadline of an exchange that needs no lease."""


@generic
def replicated_sequence(gate: Any, stream: int) -> int:
    """Up to which sequence of a stream the backup has what the gate asks for.

    :data:`ALL_REPLICATED` if nobody has to be waited for: gate ``async``, nobody holds, or there is no such stream.
    """
    raise NotImplementedError


@generic
def may_release(gate: Any) -> bool:
    """Whether events may leave now: not fenced, and before the deadline. To be asked once in each turn of the egress,
    which is also how others know that this turn has seen what they have set.
    """
    raise NotImplementedError


@generic
def ship(link: Any, stream: int, position: int, offset: int, size_bytes: int, slot: int) -> int:
    """Begin to copy ``size_bytes`` bytes of a stream's ring, from ``offset`` on, to the same place of the backup's.

    The bytes stay as they are until the copy is done. ``slot`` is below ``SLOTS`` and free. Returns 1, or 0 if the link
    takes nothing now, or -errno if it has failed.
    """
    raise NotImplementedError


@generic
def reap(link: Any) -> int:
    """Let the link go on: note which copies are done, and take what the backup says. Their count, or -errno."""
    raise NotImplementedError


@generic
def beat(link: Any) -> int:
    """Let the backup know that we are alive, as nothing was shipped for a while. As ``ship``."""
    raise NotImplementedError


@generic
def take_link(link: Any, wanted: int) -> None:
    """From now on the link is ``wanted``, a number that its maker has given; 0 for none."""
    raise NotImplementedError


@generic
def receive(link: Any) -> int:
    """On the backup: let the link go on, so that what is shipped arrives in the ring. Whether it did anything, or
    -errno."""
    raise NotImplementedError


@generic
def acknowledge(link: Any, lines: int, size_bytes: int) -> int:
    """On the backup: take a copy of the acknowledgements of all streams and begin to send it. 1, or 0 if those before
    are still under way, or -errno."""
    raise NotImplementedError


GATE_OPERATIONS = (replicated_sequence, may_release)
LINK_OPERATIONS = (ship, reap, beat, take_link)
RECEIVER_OPERATIONS = (receive, acknowledge)
"""What a variant has to implement."""


class StreamStart(NamedTuple):
    """Where a link begins in a stream: the place in the ring, and the sequence of the first record from there on."""

    position: int
    next_sequence: int


class StreamProgress(NamedTuple):
    """How far a stream is. Positions count bytes of its ring from the start of the exchange and only grow; sequences
    are those of the last record. What concerns a backup is that of the link that is or was attached last."""

    appended_position: int
    shipped_position: int
    received_position: int
    consumed_position: int
    appended_sequence: int
    received_sequence: int
    applied_sequence: int
    refused_count: int
    """How many appends did not find room in the ring."""


class ReplicaProgress(NamedTuple):
    """What the control side can know at any time."""

    is_attached: bool
    is_holding: bool
    is_fenced: bool
    failure: str
    """Why the last link was given up; nothing if it was not."""
    silent_ns: int
    """For how long nothing was heard from the backup; 0 if none is attached."""
    streams: tuple[StreamProgress, ...]
