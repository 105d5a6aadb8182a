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
* ``ship``, ``reap``: the replicator, which alone knows the link that is attached.
* everything else is the business of Python threads, and of two owners: :class:`ReplicaOwner` and
  :class:`exchange.replication.receiving.ReceivedStreams`.
"""

from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

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


GATE_OPERATIONS = (replicated_sequence, may_release)
LINK_OPERATIONS = (ship, reap)
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


class Link(Protocol):
    """One way to one backup, made on the control side and attached while the exchange runs. It is of use once."""

    def answer(self) -> dict[str, Any]:
        """What the backup's :meth:`~exchange.replication.receiving.ReceivedStreams.accept` wants; JSON can carry it."""

    def close(self) -> None:
        """Give everything back. It must not be attached any more."""


class ReplicaOwner(Protocol):
    """The primary's side: the owner of rings, words and link, and what Python threads may ask of it."""

    @property
    def is_kept(self) -> bool:
        """Whether there is replication at all."""

    def writers(self, journals: tuple[Any, ...]) -> tuple[Any, ...]:
        """For the state of each stream's journal one that also copies each frame into the stream's ring.

        Streams are in the order of :func:`exchange.journal.streams.stream_names`.
        """

    def agent(self) -> Any:
        """The replicator."""

    def gate_state(self) -> Any:
        """What ``replicated_sequence`` and ``may_release`` take."""

    def connect(self, offer: dict[str, Any]) -> Link:
        """The way to the backup that has made this offer. May wait for some seconds.

        Raises:
            UserError: it cannot be reached that way.
        """

    def attach(self, link: Link) -> tuple[StreamStart, ...]:
        """Ship everything that is appended from now on; where that begins in each stream.

        Raises:
            RuntimeError: a link is attached, or somebody holds, or the replicator does not run.
        """

    def detach(self) -> None:
        """Let go of the link, if one is attached. When this returns it may be closed. Who holds goes on holding."""

    def hold(self, timeout_seconds: float) -> bool:
        """Begin to hold. True: whatever leaves from now on, and has left before, has reached the backup's memory.

        False: that was not so in time, or the link was lost; then somebody has to :meth:`let_go` or try again.
        """

    def let_go(self) -> None:
        """Hold no longer: nobody waits for a backup. Only after the lease store knows that none is in sync."""

    def set_lease_deadline_ns(self, deadline_ns: int) -> None:
        """Events may leave until then, on CLOCK_BOOTTIME. 0, as at the start: none may."""

    def fence(self) -> None:
        """Never release an event again."""

    def set_epoch(self, epoch: int) -> None:
        """Frames that are appended from now on are of that epoch. For when no shard runs."""

    def progress(self) -> ReplicaProgress:
        """How far everything is."""

    def close(self) -> None:
        """Let go of everything. No thread may use it any more."""


class Receiver(Protocol):
    """The backup's side: the memory that the primary writes into. One thread uses it. It is of use for one link."""

    def offer(self) -> dict[str, Any]:
        """What the primary's :meth:`ReplicaOwner.connect` wants; JSON can carry it."""

    def accept(self, answer: dict[str, Any]) -> None:
        """What the primary's :meth:`Link.answer` said. May wait for some seconds.

        Raises:
            UserError: it cannot be reached that way, or the answer is none.
        """

    def begin(self, starts: tuple[StreamStart, ...], epoch: int) -> None:
        """Where :meth:`ReplicaOwner.attach` began, and the epoch that frames have. They are given from now on."""

    def poll(self, timeout_ns: int) -> int:
        """Wait for frames, without the interpreter lock, up to so long; how many are new in all streams.

        They are what :meth:`frames` gives until the next poll. Has to be called again and again, for where the hardware
        does not, it is this that lets the link go on. After the link has failed or was closed it gives what is there.
        """

    def frames(self, stream: int) -> NDArray[np.void]:
        """The new frames of a stream, as rows of ``FRAME_PLACE_DTYPE``; their records lie in the ring."""

    def acknowledge(self, stream: int, applied_sequence: int) -> None:
        """All frames given so far are done with, and their memory may be written again; the primary is told so by the
        next poll, and that records are journaled and applied up to a sequence."""

    @property
    def failure(self) -> str:
        """Why the link is of no use any more; nothing as long as it is."""

    def close(self) -> None:
        """Revoke: from now on nobody but this process changes the memory. What had arrived wholly can still be polled,
        and :meth:`frames` still be read. May be called again."""
