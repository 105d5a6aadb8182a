"""The primary's side: the owner of the rings, of the words, and of the link; and what other threads may ask of it.

What the replicator does with them is told in :mod:`exchange.replication.replicator`, and what all this promises in
:mod:`exchange.replication.protocol`. The order in which a backup comes in sync::

    link = replica.connect(offer)            # nothing is shipped yet
    starts = replica.attach(link)            # from these places on everything is
    ...                                      # the backup gets what is before them from the journal, and applies it
    if replica.hold(seconds):                # from here on nothing leaves that the backup has not received
        ...                                  # say so in the lease store

and the one in which it is given up: first the lease store is told, then :meth:`~ReplicaStreams.let_go`,
:meth:`~ReplicaStreams.detach`, and the link is closed.

Rules: the control side is one thread at a time."""

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from exchange.errors import UserError
from exchange.journal.streams import stream_names
from exchange.native import (
    Arena,
    load_acquire,
    load_int64,
    monotonic_ns,
    store_int64,
    store_release,
    view_bytes,
)
from exchange.replication.config import ActiveReplicationConfig, RdmaReplicationConfig
from exchange.replication.gate import ReplicationGate
from exchange.replication.protocol import ReplicaProgress, StreamProgress, StreamStart
from exchange.replication.rdma import LINK_BYTES, RING_OFFSET, RdmaLink
from exchange.replication.receiving import CONNECT_SECONDS, prepare_socket, shared_settings
from exchange.replication.replicator import Replicator
from exchange.replication.ring import FrameRing, is_settled, publish_position
from exchange.replication.tcp import SOCKET_BYTES, TcpLink
from exchange.replication.words import (
    ANSWERS,
    APPENDED_POSITION,
    APPLIED_SEQUENCE,
    ATTACHED_LINK,
    CONSUMED_POSITION,
    CONTROL_BYTES,
    DEADLINE_NS,
    FAILURE,
    FENCED,
    HEARD_NS,
    HOLDING,
    LINE_BYTES,
    NEXT_SEQUENCE,
    RECEIVED_POSITION,
    RECEIVED_SEQUENCE,
    REFUSED,
    REQUESTS,
    SEEN_HOLDING,
    SHIPPED_POSITION,
    START_POSITION,
    START_SEQUENCE,
    STREAM_BYTES,
    WANTED_LINK,
    failure_in_words,
)
from exchange.replication.writer import ReplicatedWriter

ANSWER_SECONDS: Final = 1.0
"""How long a turn of the replicator is waited for before it counts as one that does not run."""
_LOOK_SECONDS: Final = 0.000_2


class SocketLink:
    """A connection to a backup."""

    def __init__(self, connection: socket.socket, gate: str) -> None:
        self.number: Final = connection.fileno()
        self._connection: Final = connection
        self._gate: Final = gate

    def answer(self) -> dict[str, Any]:
        """What the backup's ``accept`` takes."""
        return {"gate": self._gate}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class MemoryLink:
    """A pair of memories that each side may write into."""

    def __init__(self, fabric: Any, gate: str) -> None:
        self.number: Final = fabric.handle
        self._fabric: Final = fabric
        self._gate: Final = gate

    def answer(self) -> dict[str, Any]:
        """What the backup's ``accept`` takes."""
        return {"gate": self._gate, "description": self._fabric.description.hex()}

    def close(self) -> None:
        """Give the memory back."""
        self._fabric.close()


class ReplicaStreams:
    """Owner of the primary's side.

    Args:
        config: the [replication] table of a profile.
        shard_count: how many shards there are.
        next_sequences: for each of :func:`~exchange.journal.streams.stream_names` the sequence of the next record.
    """

    is_kept = True

    def __init__(
        self, config: ActiveReplicationConfig, shard_count: int, next_sequences: Sequence[int] = ()
    ) -> None:
        self.config: Final = config
        count = len(stream_names(shard_count))
        self.stream_count: Final = count
        memory_bytes = RING_OFFSET + count * config.ring_bytes
        lines_bytes = max(count * LINE_BYTES, 4096)
        words_bytes = CONTROL_BYTES + count * STREAM_BYTES + SOCKET_BYTES + LINK_BYTES
        self._arena: Final = Arena.private(
            memory_bytes + lines_bytes + words_bytes + (1 << 14), huge_pages="never"
        )
        # Laid out as the backup's: a page that is written from for a beat, and the rings.
        self._memory: Final = (self._arena.allocate(memory_bytes, 4096), memory_bytes)
        self._lines: Final = (self._arena.allocate(lines_bytes, 4096), lines_bytes)
        self._control: Final = self._arena.allocate(CONTROL_BYTES)
        self._streams: Final = self._arena.allocate(count * STREAM_BYTES)
        self._socket: Final = self._arena.allocate(SOCKET_BYTES)
        self._link_words: Final = self._arena.allocate(LINK_BYTES)
        self._arena.touch(*self._memory)
        for stream, next_sequence in enumerate(next_sequences or [1] * count):
            publish_position(self._words(stream), 0, next_sequence)

    def writers(self, journals: tuple[Any, ...]) -> tuple[Any, ...]:
        """For each journal's state one that also copies each frame into its stream's ring.

        ``journals`` are those of the shards, and that of the order of their events, which for one shard is no stream.
        """
        streams = range(self.stream_count)
        replicated = (ReplicatedWriter(journals[stream], self.ring(stream)) for stream in streams)
        return (*replicated, *journals[self.stream_count :])

    def ring(self, stream: int) -> FrameRing:
        """A stream's ring."""
        base = self._memory[0] + RING_OFFSET + stream * self.config.ring_bytes
        return FrameRing(self._words(stream), self._control, base, self.config.ring_bytes)

    def agent(self) -> Replicator:
        """The replicator.

        Raises:
            UserError: libfabric is wanted and missing.
        """
        rings, ring_bytes = self._memory[0] + RING_OFFSET, self.config.ring_bytes
        link: Any
        if isinstance(self.config, RdmaReplicationConfig):
            from exchange.replication.fabric import load_fabric

            load_fabric()
            link = RdmaLink(self._link_words, rings, ring_bytes, self._streams, self._memory[0])
        else:
            link = TcpLink(self._socket, rings, ring_bytes, self._lines[0], self.stream_count)
        return Replicator(
            link=link,
            control=self._control,
            streams=self._streams,
            lines=self._lines[0],
            stream_count=self.stream_count,
            ring_bytes=ring_bytes,
            silence_ns=self.config.backup_timeout_ns,
            waits_for_applied=int(self.config.gate == "applied"),
        )

    def gate_state(self) -> ReplicationGate:
        """What the egress asks."""
        return ReplicationGate(
            self._control, self._streams, self.stream_count, int(self.config.gate != "async")
        )

    def connect(self, offer: dict[str, Any]) -> SocketLink | MemoryLink:
        """The way to the backup that has made this offer. May wait for some seconds.

        Raises:
            UserError: it cannot be reached that way, or is set otherwise than we are.
        """
        kind = "rdma" if isinstance(self.config, RdmaReplicationConfig) else "tcp"
        ours = {"kind": kind, "streams": self.stream_count} | shared_settings(self.config)
        for key, value in ours.items():
            if offer.get(key) != value:
                raise UserError(f"replication: {key} is {value} here, and {offer.get(key)} on the backup")
        # What an earlier backup has acknowledged says nothing of this one.
        assert load_acquire(self._control + ATTACHED_LINK) == 0, "a link is attached"
        address, size_bytes = self._lines
        view_bytes(address, size_bytes)[:] = bytes(size_bytes)
        return self._connect_rdma(offer) if kind == "rdma" else self._connect_tcp(offer)

    def _connect_tcp(self, offer: dict[str, Any]) -> SocketLink:
        try:
            place = (str(offer["address"]), int(offer["port"]))
            token = bytes.fromhex(offer["token"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("replication: the backup does not say where it listens") from error
        try:
            connection = socket.create_connection(place, CONNECT_SECONDS)
            connection.sendall(token)
        except OSError as error:
            raise UserError(
                f"replication: the backup at {place[0]}:{place[1]} cannot be reached ({error})"
            ) from error
        prepare_socket(connection, self._socket)
        return SocketLink(connection, self.config.gate)

    def _connect_rdma(self, offer: dict[str, Any]) -> MemoryLink:
        from exchange.replication.opening import open_fabric
        from exchange.replication.providers import LIBFABRIC_NAMES

        assert isinstance(self.config, RdmaReplicationConfig)
        provider, wanted = offer.get("provider"), self.config.provider
        if provider not in LIBFABRIC_NAMES or wanted not in ("auto", provider):
            raise UserError(f"replication: provider is {wanted} here, and {provider} on the backup")
        try:
            description = bytes.fromhex(offer["description"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("replication: the backup does not say where its memory is") from error
        fabric = open_fabric(provider, self.config.address, self._memory, self._lines)
        try:
            fabric.connect(description)
        except UserError:
            fabric.close()
            raise
        return MemoryLink(fabric, self.config.gate)

    def attach(self, link: SocketLink | MemoryLink) -> tuple[StreamStart, ...]:
        """Ship everything that is appended from now on; where that begins in each stream.

        Raises:
            RuntimeError: a link is attached, or somebody holds, or the replicator does not run.
        """
        if load_acquire(self._control + ATTACHED_LINK) != 0 or load_acquire(self._control + HOLDING) != 0:
            raise RuntimeError("a link is attached, or somebody waits for the last one")
        self._request(link.number)
        return tuple(
            StreamStart(load_int64(words + START_POSITION), load_int64(words + START_SEQUENCE))
            for words in map(self._words, range(self.stream_count))
        )

    def detach(self) -> None:
        """Let go of the link, if one is attached. When this returns it may be closed. Who holds goes on holding.

        Raises:
            RuntimeError: the replicator does not run.
        """
        if load_acquire(self._control + ATTACHED_LINK) != 0:
            self._request(0)

    def _request(self, wanted: int) -> None:
        number = load_int64(self._control + REQUESTS) + 1
        store_int64(self._control + WANTED_LINK, wanted)
        store_release(self._control + REQUESTS, number)
        if not self._wait(lambda: load_acquire(self._control + ANSWERS) == number, ANSWER_SECONDS):
            raise RuntimeError("the replicator does not answer: its thread does not run")

    def hold(self, timeout_seconds: float) -> bool:
        """Begin to hold. True: whatever leaves from now on, and has left before, has reached the backup's memory.

        False: that was not so in time, or the link was lost; then :meth:`let_go`, or try again. The backup must have
        everything that was appended before the link was attached.
        """
        deadline = time.monotonic() + timeout_seconds
        store_release(self._control + HOLDING, 1)
        # An egress that has seen that lets nothing leave any more that has not waited.
        if not self._wait(lambda: load_acquire(self._control + SEEN_HOLDING) == 1, timeout_seconds):
            return False
        # What has left until now was appended before.
        reached = [
            load_acquire(self._words(stream) + APPENDED_POSITION) for stream in range(self.stream_count)
        ]

        def has_received() -> bool:
            words = map(self._words, range(self.stream_count))
            return all(
                load_acquire(one + RECEIVED_POSITION) >= end for one, end in zip(words, reached, strict=True)
            )

        def is_over() -> bool:
            return has_received() or load_acquire(self._control + ATTACHED_LINK) == 0

        self._wait(is_over, deadline - time.monotonic())
        return has_received() and load_acquire(self._control + ATTACHED_LINK) != 0

    def let_go(self) -> None:
        """Hold no longer: nobody waits for a backup. Only after the lease store knows that none is in sync."""
        store_release(self._control + HOLDING, 0)

    def begin_behind(self, next_sequences: Sequence[int]) -> None:
        """The streams were gone on with while no frame was put into the rings: their next sequences."""
        for stream, next_sequence in enumerate(next_sequences):
            publish_position(self._words(stream), 0, next_sequence)

    def set_lease_deadline_ns(self, deadline_ns: int) -> None:
        """Events may leave until then, on CLOCK_BOOTTIME. 0, as at the start: none may."""
        store_release(self._control + DEADLINE_NS, deadline_ns)

    def fence(self) -> None:
        """Never release an event again."""
        store_release(self._control + FENCED, 1)

    @property
    def is_attached(self) -> bool:
        """Whether a link is attached."""
        return load_acquire(self._control + ATTACHED_LINK) != 0

    @property
    def failure(self) -> str:
        """Why the last link was given up; nothing if it was not."""
        return failure_in_words(load_acquire(self._control + FAILURE))

    def positions(self) -> tuple[StreamStart, ...]:
        """Up to where each stream is appended."""
        return tuple(self._settled(stream) for stream in range(self.stream_count))

    def progress(self) -> ReplicaProgress:
        """How far everything is."""
        silent_ns = monotonic_ns() - load_acquire(self._control + HEARD_NS)
        return ReplicaProgress(
            is_attached=self.is_attached,
            is_holding=load_acquire(self._control + HOLDING) != 0,
            is_fenced=load_acquire(self._control + FENCED) != 0,
            failure=self.failure,
            silent_ns=max(silent_ns, 0) if self.is_attached else 0,
            streams=tuple(self._stream_progress(stream) for stream in range(self.stream_count)),
        )

    def _stream_progress(self, stream: int) -> StreamProgress:
        words, appended = self._words(stream), self._settled(stream)
        return StreamProgress(
            appended_position=appended.position,
            shipped_position=load_acquire(words + SHIPPED_POSITION),
            received_position=load_acquire(words + RECEIVED_POSITION),
            consumed_position=load_acquire(words + CONSUMED_POSITION),
            appended_sequence=appended.next_sequence - 1,
            received_sequence=load_acquire(words + RECEIVED_SEQUENCE),
            applied_sequence=load_acquire(words + APPLIED_SEQUENCE),
            refused_count=load_acquire(words + REFUSED),
        )

    def _settled(self, stream: int) -> StreamStart:
        words = self._words(stream)
        while True:
            found = StreamStart(load_acquire(words + APPENDED_POSITION), load_acquire(words + NEXT_SEQUENCE))
            if is_settled(words, found.position):
                return found

    def _words(self, stream: int) -> int:
        return self._streams + stream * STREAM_BYTES

    def _wait(self, is_so: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def close(self) -> None:
        """Nothing is left open: links are closed by who made them."""
