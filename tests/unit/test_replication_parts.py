"""Parts of replication by themselves: who is reached how, what endpoints leave behind, and what is told of failures."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.c_shims import kept_signal_handlers
from exchange.errors import UserError
from exchange.native import Arena
from exchange.replication import opening, providers
from exchange.replication.config import (
    FABRIC_PACKAGES,
    RING_BYTES_DEFAULT,
    RdmaReplicationConfig,
    TcpReplicationConfig,
)
from exchange.replication.fabric import SHIM, FabricLink
from exchange.replication.none import NoReplica
from exchange.replication.protocol import ALL_REPLICATED, may_release, replicated_sequence
from exchange.replication.providers import HostFacts, choose_provider, host_facts, read_facts
from exchange.replication.replicator import BUSY_BYTES, GATHERED_BYTES, is_gathering
from exchange.replication.ring import publish_position
from exchange.replication.streams import ReplicaStreams
from exchange.replication.words import ENDED, NONSENSE, OVERRUN, SILENT, STREAM_BYTES, failure_in_words
from tests.replication_driver import needs_fabric

REPOSITORY = Path(__file__).parents[2]
HERE = HostFacts("boot 1", ())
CARD = HostFacts("boot 1", ("mlx5_0",))


@pytest.mark.parametrize(
    ("ours", "theirs", "provider", "reason"),
    [
        (HERE, HERE, "shm", "on one machine"),
        (CARD, CARD, "shm", "on one machine"),
        (CARD, CARD._replace(shared_memory="boot 2"), "verbs", "mlx5_0 here, mlx5_0 there"),
        (CARD, HERE._replace(shared_memory="boot 2"), "tcp", "only one of them has a device"),
        (HERE, HERE._replace(shared_memory="boot 2"), "tcp", "neither has a device"),
        (HERE._replace(shared_memory=""), HERE._replace(shared_memory=""), "tcp", "do not share memory"),
    ],
)
def test_the_provider_is_chosen_by_what_both_have(
    ours: HostFacts, theirs: HostFacts, provider: str, reason: str
) -> None:
    chosen, told = choose_provider(RdmaReplicationConfig(), ours, theirs)
    assert (chosen, reason in told) == (provider, True)
    for wanted in ("shm", "tcp", "verbs"):
        config = RdmaReplicationConfig(provider=wanted)  # type: ignore[arg-type]
        assert choose_provider(config, ours, theirs) == (wanted, "the profile says so")


def test_what_a_machine_has_survives_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rxe0").mkdir()
    monkeypatch.setattr(providers, "_DEVICES", tmp_path)
    facts = host_facts()
    assert facts.rdma_devices == ("rxe0",)
    assert str(os.getuid()) in facts.shared_memory
    assert read_facts(json.loads(json.dumps(facts._asdict()))) == facts
    monkeypatch.setattr(providers, "_SHARED_MEMORY", tmp_path / "nowhere")
    assert host_facts().shared_memory == ""


@pytest.mark.parametrize(
    "told",
    [None, [], {}, {"shared_memory": 1}, {"shared_memory": "x", "rdma_devices": [1]}, {"rdma_devices": []}],
)
def test_what_are_no_facts_is_refused(told: Any) -> None:
    with pytest.raises(UserError, match="does not say what its machine has"):
        read_facts(told)


def test_only_the_files_of_processes_that_are_gone_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_SHARED_MEMORY", tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kept = [f"exchange-link-{os.getpid()}-0:0:0", "exchange-link-x-0", "another"]
    for name in (*kept, f"exchange-link-{gone.pid}-3:0:0"):
        (tmp_path / name).touch()
    opening.remove_stale_files()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_failures_are_told_in_words() -> None:
    assert failure_in_words(0) == ""
    assert failure_in_words(-104) == os.strerror(104)
    told = [failure_in_words(failure) for failure in (OVERRUN, SILENT, NONSENSE, ENDED)]
    assert len(set(told)) == 4
    assert all("rror" not in one for one in told)


def test_without_replication_nothing_is_waited_for() -> None:
    replica = NoReplica()
    gate = replica.gate_state()
    assert may_release(gate)
    assert replicated_sequence(gate, 0) == replicated_sequence(gate, 7) == ALL_REPLICATED
    assert replica.writers(("a", "b")) == ("a", "b")
    replica.close()


def test_without_libfabric_the_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not SHIM.is_installed()
    (tmp_path / "pkg-config").symlink_to("/bin/false")
    with pytest.raises(UserError, match="libfabric: pkg-config") as caught:
        SHIM.build(tmp_path)
    assert FABRIC_PACKAGES in str(caught.value)


def test_handlers_of_signals_are_kept() -> None:
    caught: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _frame: caught.append(number))
    try:
        with kept_signal_handlers():
            ctypes.CDLL(None).signal(signal.SIGUSR2, 1)  # ignore it, behind Python's back
            os.kill(os.getpid(), signal.SIGUSR2)
        assert caught == []
        os.kill(os.getpid(), signal.SIGUSR2)
        assert caught == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


ABORTED = """
import os
from contextlib import nullcontext
from exchange import c_shims
c_shims.kept_signal_handlers = nullcontext
from exchange.native import Arena
from exchange.replication.fabric import FabricLink
arena = Arena.private(1 << 14, huge_pages="never")
source, target = ((arena.allocate(4096, 4096), 4096) for _ in range(2))
FabricLink("tcp;ofi_rxm", "127.0.0.1", source, target)
os.abort()
"""


@needs_fabric
def test_a_process_that_is_aborted_leaves_no_file(tmp_path: Path) -> None:
    """A library that libfabric brings along writes one, if it may, of whatever interrupts the process from its loading
    on; what is kept of the handlers of signals is kept too late for that."""
    paths = os.pathsep.join((str(REPOSITORY), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-c", ABORTED],
        cwd=tmp_path,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == -signal.SIGABRT, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == []


class Memory:
    """Two pages for an end of a link."""

    def __init__(self) -> None:
        self.arena = Arena.private(1 << 14, huge_pages="never")
        self.source, self.target = ((self.arena.allocate(4096, 4096), 4096) for _ in range(2))


@needs_fabric
@pytest.mark.parametrize(
    ("provider", "node"),
    [("carrier-pigeon", "127.0.0.1"), ("tcp;ofi_rxm", "192.0.2.77"), ("tcp;ofi_rxm", "")],
)
def test_a_provider_or_an_address_that_is_none_is_told(provider: str, node: str) -> None:
    memory = Memory()
    with pytest.raises(UserError, match=rf"replication\.provider = {provider}, at {node}: fi_"):
        FabricLink(provider, node, memory.source, memory.target)


@needs_fabric
def test_a_link_through_libfabric_leaves_signals_alone_and_no_file_behind() -> None:
    memory, name = Memory(), f"exchange-link-{os.getpid()}-unit"
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    link = FabricLink("shm", name, memory.source, memory.target)
    assert list(Path("/dev/shm").glob(f"{name}*"))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    status = Path("/proc/self/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    assert not caught >> (signal.SIGTERM - 1) & 1 or callable(before[1])
    link.close()
    link.close()
    assert not list(Path("/dev/shm").glob(f"{name}*"))


@needs_fabric
@given(st.binary(max_size=600))
@settings(max_examples=40, deadline=None)
def test_whatever_describes_a_peer_it_is_taken_or_refused(description: bytes) -> None:
    memory = Memory()
    for provider, node in (("shm", f"exchange-link-{os.getpid()}-fuzz"), ("tcp;ofi_rxm", "127.0.0.1")):
        link = FabricLink(provider, node, memory.source, memory.target)
        with suppress(UserError):
            link.connect(description)
        link.close()


BIG = RING_BYTES_DEFAULT


@pytest.mark.parametrize(
    ("ring_bytes", "turns"),
    [
        (BIG, [((0, 0), False)]),
        (BIG, [((64, 0), False), ((64, 0), False)]),  # one order, and then nothing: never waits
        (BIG, [((BUSY_BYTES, 0), True), ((0, 0), False)]),  # until the stream is busy no more
        (BIG, [((BUSY_BYTES, 0), True), ((BUSY_BYTES, 64), False)]),  # nor for what is busy beside it
        (BIG, [((BUSY_BYTES, BUSY_BYTES), True)]),
        (BIG, [((GATHERED_BYTES - 64, 0), True), ((BUSY_BYTES, 0), False)]),  # enough
        (BIG, [((BUSY_BYTES, 0), True)] * 15 + [((BUSY_BYTES, 0), False)]),
        (BUSY_BYTES << 3, [((BUSY_BYTES, 0), False)]),  # a small ring is not waited for to go round
        (BUSY_BYTES << 4, [((BUSY_BYTES, 0), True), ((BUSY_BYTES, 0), False)]),
    ],
)
def test_batches_are_gathered_while_all_that_waits_is_busy(
    ring_bytes: int, turns: list[tuple[tuple[int, int], bool]]
) -> None:
    """What two streams append before a turn, and whether that turn leaves it for later."""
    replica = ReplicaStreams(TcpReplicationConfig(ring_bytes=ring_bytes), 2)
    agent, ends = replica.agent(), [0] * replica.stream_count
    for appended, waits in turns:
        for stream, size_bytes in enumerate(appended):
            ends[stream] += size_bytes
            publish_position(agent.streams + stream * STREAM_BYTES, ends[stream], 1)
        assert is_gathering(agent) == waits
