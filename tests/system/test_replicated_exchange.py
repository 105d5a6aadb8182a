"""An exchange in memory with a backup in the same process: what leaves it, and when."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from exchange.agent import build_idle
from exchange.assembly import Exchange, expected_answers, lanes_of
from exchange.flow import SyntheticConfig, load_flow
from exchange.journal.identity import JournalDirectory, Opening, outcomes_of
from exchange.journal.reading import StreamReader, records_of
from exchange.journal.streams import JournalStreams, stream_names
from exchange.messages import RECORD_BYTES
from exchange.native import boottime_ns, view_bytes
from exchange.replication.protocol import NO_DEADLINE
from exchange.replication.providers import host_facts
from exchange.replication.receiving import ReceivedStreams
from exchange.replication.streams import ReplicaStreams
from exchange.settings import load_profile
from exchange.transport.memory import ANSWERS, NEVER_NS, MemoryTransport
from tests.replication_driver import PATIENCE_NS, needs_fabric, until

SYMBOLS = 4
FLOW = load_flow("synthetic", synthetic=SyntheticConfig(commands=600, symbols=SYMBOLS, seed=7)).commands

WAYS = {
    "tcp": ("replication.kind=tcp",),
    "rdma-shm": ("replication.kind=rdma", "replication.provider=shm"),
}
each_way = pytest.mark.parametrize("way", ["tcp", pytest.param("rdma-shm", marks=needs_fabric)])
SHARDS = {
    "one": ("shards.count=1", 'shards.threads=[["ingress","shard.0","egress"]]'),
    "two": ("shards.count=2", 'shards.threads=[["ingress","shard.0","shard.1","egress"]]'),
}


class Pair(NamedTuple):
    """An exchange that runs, and its backup, in sync."""

    exchange: Exchange
    transport: MemoryTransport
    replica: ReplicaStreams
    received: ReceivedStreams
    directory: JournalDirectory
    streams: tuple[str, ...]
    answers: int

    def answered(self) -> int:
        """How many answers have left."""
        return self.transport.word(ANSWERS)

    def sequenced(self) -> int:
        """How many commands all shards have applied."""
        return sum(one.commands for one in self.exchange.status() if one is not None)

    def poll(self, taken: dict[int, bytes] | None = None, *, is_acknowledged: bool = True) -> int:
        """Poll once, keep what is there, and acknowledge it."""
        found = self.received.poll(1_000_000)
        for stream in range(len(self.streams)) if found else ():
            for row in self.received.frames(stream):
                size = int(row["record_count"]) * RECORD_BYTES
                if taken is not None:
                    taken[stream] = taken.get(stream, b"") + bytes(view_bytes(int(row["address"]), size))
            if is_acknowledged:
                self.received.acknowledge(stream, self.received.next_sequence(stream) - 1)
        return found


@contextmanager
def pair(path: Path, way: str, shards: str, *own: str, due_ns: Any = 0) -> Iterator[Pair]:
    """``due_ns`` is added to the commands' times, which are all 0."""
    settings = load_profile(
        "compiled",
        (
            "queue.kind=spsc", "journal.kind=mapped", "journal.segment_bytes=1MiB", f"journal.directory={path}",
            f"replication.backup_timeout_ns={PATIENCE_NS}", *SHARDS[shards], *WAYS[way], *own,
        ),
    )  # fmt: skip
    commands = FLOW.copy()
    commands["timestamp_ns"] = due_ns
    count = settings.shards.count
    names = stream_names(count)
    transport = MemoryTransport(lanes_of(commands, 1), keep_events=8 * len(commands))
    outcomes = outcomes_of(settings, Opening(session_name="pair", midnight_ns=0, opened_ns=0))
    assert not isinstance(settings.replication, type(load_profile("textbook").replication))
    with JournalDirectory(path, outcomes) as directory:
        journals = JournalStreams(settings.journal, directory, count)
        replica = ReplicaStreams(settings.replication, count)
        exchange = Exchange(settings, SYMBOLS, transport, journals=journals, replica=replica)
        exchange.compile(lambda text: None)
        own_names = [directory.identity.stream(name).name for name in names]
        received = ReceivedStreams(settings.replication, own_names, build_idle(settings.idle))
        link = replica.connect(received.offer(host_facts()))
        received.accept(link.answer())
        transport.start_at(NEVER_NS)
        replica.set_lease_deadline_ns(NO_DEADLINE)
        with exchange.threads:
            received.begin(replica.attach(link), 0)
            assert replica.hold(5)
            transport.start_at(time.monotonic_ns() - NEVER_NS)
            answers = expected_answers(commands, count)
            try:
                yield Pair(exchange, transport, replica, received, directory, names, answers)
            finally:
                replica.detach()
        received.close()
        link.close()
        journals.close()


@pytest.mark.parametrize("shards", list(SHARDS))
@pytest.mark.parametrize("gate", ["received", "applied"])
@each_way
def test_no_event_leaves_before_the_backup_has_its_command(
    way: str, gate: str, shards: str, tmp_path: Path
) -> None:
    taken: dict[int, bytes] = {}
    with pair(tmp_path, way, shards, f"replication.gate={gate}") as found:
        until(lambda: found.sequenced() == found.answers)
        time.sleep(0.02)
        assert found.answered() == 0
        reached = [one.next_sequence for one in found.replica.positions()]

        def has_all() -> bool:
            return [found.received.next_sequence(k) for k in range(len(found.streams))] == reached

        until(has_all, meanwhile=lambda: found.poll(taken, is_acknowledged=False))
        if gate == "received":
            until(lambda: found.answered() == found.answers, meanwhile=found.poll)
        else:
            assert found.answered() == 0, "it has not been applied"
            for stream, sequence in enumerate(reached):
                found.received.acknowledge(stream, sequence - 1)
            until(lambda: found.answered() == found.answers, meanwhile=found.poll)
    for stream, name in enumerate(found.streams):
        with StreamReader(tmp_path / name, found.directory.identity.stream(name)) as reader:
            assert b"".join(records_of(frame).tobytes() for frame in reader.frames()) == taken[stream]


@each_way
def test_a_fenced_exchange_lets_nothing_leave_any_more(way: str, tmp_path: Path) -> None:
    half = len(FLOW) // 2
    due_ns = np.where(np.arange(len(FLOW)) < half, 0, 300_000_000)
    with pair(tmp_path, way, "one", due_ns=due_ns) as found:
        until(lambda: found.answered() == half, meanwhile=found.poll)
        found.replica.fence()
        until(lambda: found.sequenced() == len(FLOW), meanwhile=found.poll)
        for _ in range(20):
            found.poll()
        found.replica.set_lease_deadline_ns(NO_DEADLINE)
        found.replica.let_go()
        time.sleep(0.02)
        assert found.answered() == half


@each_way
def test_nothing_leaves_behind_the_deadline_of_the_lease(way: str, tmp_path: Path) -> None:
    half = len(FLOW) // 2
    due_ns = np.where(np.arange(len(FLOW)) < half, 0, 300_000_000)
    with pair(tmp_path, way, "one", due_ns=due_ns) as found:
        until(lambda: found.answered() == half, meanwhile=found.poll)
        found.replica.set_lease_deadline_ns(boottime_ns() - 1)
        until(lambda: found.sequenced() == len(FLOW), meanwhile=found.poll)
        for _ in range(20):
            found.poll()
        assert found.answered() == half
        found.replica.set_lease_deadline_ns(boottime_ns() + 60_000_000_000)
        until(lambda: found.answered() == len(FLOW), meanwhile=found.poll)


@each_way
def test_who_is_let_go_goes_on_alone(way: str, tmp_path: Path) -> None:
    with pair(tmp_path, way, "one") as found:
        until(lambda: found.sequenced() == len(FLOW))
        found.replica.detach()
        time.sleep(0.02)
        assert found.answered() == 0, "who holds goes on holding"
        found.replica.let_go()
        until(lambda: found.answered() == len(FLOW))
