"""What the tests of replication share: both sides of a link, and frames that can be told apart.

The primary's journal is one that keeps nothing: a ring is filled from what it makes.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np
import pytest

from exchange.agent import AgentThread, SpinThenYield, ThreadGroup
from exchange.journal.frames import StreamName, seal_header, write_header
from exchange.journal.layout import FRAME_HEADER_BYTES
from exchange.journal.protocol import append, append_and_copy
from exchange.messages import RECORD_BYTES
from exchange.native import (
    Arena,
    address_of,
    copy_bytes,
    crc32c_words,
    implements,
    kernel,
    load_int64,
    pause,
    store_int64,
    view_bytes,
    yield_core,
)
from exchange.replication.config import FABRIC_PACKAGES, RdmaReplicationConfig, TcpReplicationConfig
from exchange.replication.fabric import SHIM
from exchange.replication.protocol import NO_DEADLINE, StreamStart
from exchange.replication.providers import host_facts
from exchange.replication.rdma import RING_OFFSET
from exchange.replication.receiving import ReceivedStreams
from exchange.replication.streams import ReplicaStreams
from tests.journal_driver import make_records

RING_BYTES = 1 << 14
EPOCH = 3
PATIENCE_NS = 20_000_000_000
"""Nobody is given up for being slow, but where a test wants that."""
CONFIGS: dict[str, Any] = {
    "tcp": TcpReplicationConfig(ring_bytes=RING_BYTES, backup_timeout_ns=PATIENCE_NS),
    "rdma-shm": RdmaReplicationConfig(ring_bytes=RING_BYTES, backup_timeout_ns=PATIENCE_NS, provider="shm"),
    "rdma-tcp": RdmaReplicationConfig(ring_bytes=RING_BYTES, backup_timeout_ns=PATIENCE_NS, provider="tcp"),
}
needs_fabric = pytest.mark.skipif(
    not SHIM.is_installed(), reason=f"libfabric is not installed ({FABRIC_PACKAGES})"
)
VARIANTS = [pytest.param(name, marks=needs_fabric if name.startswith("rdma") else ()) for name in CONFIGS]
each_way = pytest.mark.parametrize("way", VARIANTS)
IDLE = SpinThenYield(100)


def names_of(stream_count: int) -> tuple[StreamName, ...]:
    """What the frames of so many streams say of themselves."""
    return tuple(StreamName(0x1234_5678_9ABC, stream) for stream in range(stream_count))


class FrameMaker(NamedTuple):
    """A journal that keeps nothing and makes frames for who wants a copy: ``words`` is room for an epoch."""

    words: int
    name: StreamName


@implements(append_and_copy, FrameMaker)
def _append_and_copy(
    journal: FrameMaker, records_address: int, count: int, first_sequence: int, copy_address: int
) -> bool:
    checksum = write_header(copy_address, journal.name, first_sequence, 0, count, load_int64(journal.words))
    seal_header(copy_address, crc32c_words(checksum, records_address, count * RECORD_BYTES))
    copy_bytes(copy_address + FRAME_HEADER_BYTES, records_address, count * RECORD_BYTES)
    return True


class FrameMakers:
    """The owner of such journals."""

    def __init__(self, stream_count: int, epoch: int = EPOCH) -> None:
        self._arena = Arena.private(4096 + stream_count * 64, huge_pages="never")
        self.states = tuple(FrameMaker(self._arena.allocate(64), name) for name in names_of(stream_count))
        for state in self.states:
            store_int64(state.words, epoch)


@kernel
def append_many(writer: Any, records: int, sizes: int, count: int, first_sequence: int, turns: int) -> int:
    """Append frames of the records that lie at ``records``, as large as ``sizes`` says, waiting for room at most so
    many turns; how many were appended."""
    for index in range(count):
        size = load_int64(sizes + index * 8)
        left = turns
        while not append(writer, records, size, first_sequence):
            left -= 1
            if left == 0:
                return index
            pause()
            yield_core()
        records += size * RECORD_BYTES
        first_sequence += size
    return count


class Primary:
    """A primary's side with its thread."""

    def __init__(self, way: str, streams: int = 1, epoch: int = EPOCH, **changes: Any) -> None:
        config = msgspec.structs.replace(CONFIGS[way], **changes)
        shards = streams if streams == 1 else streams - 1
        self.replica = ReplicaStreams(config, shards)
        assert self.replica.stream_count == streams
        self.journals = FrameMakers(streams, epoch)
        self.writers = self.replica.writers(self.journals.states)
        self.next = [1] * streams
        self.gate = self.replica.gate_state()
        self.link: Any = None
        thread = AgentThread("replicator", (self.replica.agent(),), IDLE, None)
        thread.compile()
        self.threads = ThreadGroup([thread], self)
        self.replica.set_lease_deadline_ns(NO_DEADLINE)

    def __enter__(self) -> Self:
        self.threads.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.threads.__exit__(*exception)
        if self.link is not None:
            self.link.close()

    def append(self, count: int, stream: int = 0) -> bool:
        """Append the next records as one frame."""
        return self.append_frames([count], stream, turns=1) == 1

    def append_frames(self, sizes: list[int], stream: int = 0, turns: int = 1 << 40) -> int:
        """Append the next records in frames of these sizes; how many were appended in the turns that there were."""
        records = make_records(self.next[stream], sum(sizes))
        counts = np.array(sizes, np.int64)
        writer, first = self.writers[stream], self.next[stream]
        done = append_many(writer, address_of(records), address_of(counts), len(sizes), first, turns)
        self.next[stream] += sum(sizes[:done])
        return int(done)

    def connect(self, backup: "Backup") -> tuple[StreamStart, ...]:
        """Attach a backup that has not begun yet."""
        self.link = self.replica.connect(backup.received.offer(host_facts()))
        backup.received.accept(self.link.answer())
        starts = self.replica.attach(self.link)
        backup.begin(starts)
        backup.primary = self
        return starts


class Backup:
    """A backup's side, and what it has taken."""

    def __init__(self, way: str, streams: int = 1, epoch: int = EPOCH, **changes: Any) -> None:
        config = msgspec.structs.replace(CONFIGS[way], **changes)
        self.received = ReceivedStreams(config, names_of(streams), IDLE)
        self.epoch = epoch
        self.primary: Primary | None = None
        self.taken: list[list[bytes]] = [[] for _ in range(streams)]
        self.starts: tuple[StreamStart, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # In one process, libfabric's shared memory is gone for both as soon as it is for one.
        if self.primary is not None:
            self.primary.replica.detach()
        self.received.close()

    def begin(self, starts: tuple[StreamStart, ...]) -> None:
        """From these places on."""
        self.starts = starts
        self.received.begin(starts, self.epoch)

    def take(self, timeout_ns: int = 0, *, is_consumed: bool = True) -> int:
        """Poll once, and keep what was found."""
        found = self.received.poll(timeout_ns)
        for stream, taken in enumerate(self.taken):
            for row in self.received.frames(stream) if found else ():
                taken.append(bytes(view_bytes(int(row["address"]), int(row["record_count"]) * RECORD_BYTES)))
                assert row["epoch"] == self.epoch
            if is_consumed and found:
                self.received.acknowledge(stream, self.received.next_sequence(stream) - 1)
        return found

    def take_until(self, is_enough: Callable[[], bool], seconds: float = 20.0) -> None:
        """Poll until it is so."""
        until(is_enough, seconds, lambda: self.take(1_000_000))

    def take_all(self, primary: Primary, seconds: float = 20.0) -> None:
        """Poll until everything is here that was appended."""
        self.take_until(
            lambda: [self.next_sequence(k) for k in range(len(self.taken))] == primary.next, seconds
        )

    def next_sequence(self, stream: int = 0) -> int:
        """The sequence behind what was taken."""
        return self.starts[stream].next_sequence + len(self.content(stream)) // RECORD_BYTES

    def content(self, stream: int = 0) -> bytes:
        """All records that were taken."""
        return b"".join(self.taken[stream])

    def ring(self, stream: int = 0) -> bytes:
        """What a stream's ring holds now."""
        ring_bytes = self.received.config.ring_bytes
        return bytes(view_bytes(self.received.memory[0] + RING_OFFSET + stream * ring_bytes, ring_bytes))

    def check(self, stream: int = 0) -> None:
        """What was taken are the records from the start on, each once and in order."""
        first = self.starts[stream].next_sequence
        count = self.next_sequence(stream) - first
        assert self.content(stream) == make_records(first, count).tobytes()


def until(
    is_so: Callable[[], Any], seconds: float = 60.0, meanwhile: Callable[[], Any] = lambda: time.sleep(0.001)
) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        meanwhile()


@contextlib.contextmanager
def pair(way: str, streams: int = 1, **changes: Any) -> Iterator[tuple[Primary, Backup]]:
    """Both sides in this process, attached."""
    with Primary(way, streams, **changes) as primary, Backup(way, streams, **changes) as backup:
        primary.connect(backup)
        yield primary, backup
