"""What a link between a primary and its backup promises (``exchange/replication/protocol.py``), for every way."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from exchange.errors import UserError
from exchange.native import view_bytes
from exchange.replication.protocol import ALL_REPLICATED, StreamStart, may_release, replicated_sequence
from exchange.replication.providers import host_facts, read_facts
from tests.journal_driver import make_records
from tests.replication_driver import RING_BYTES, Backup, Primary, each_way, needs_fabric, pair, until
from tests.replication_processes import Side, connect_to, digest

NOTICE_NS = 500_000_000


@contextmanager
def egress_of(primary: Primary) -> Iterator[None]:
    """An egress that turns and lets nothing leave."""
    stop = threading.Event()

    def turn() -> None:
        while not stop.wait(0.0005):
            may_release(primary.gate)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@each_way
def test_frames_arrive_in_order_and_once(way: str) -> None:
    with pair(way) as (primary, backup):
        for count in (1, 3, 17, 1, 60):
            assert primary.append(count)
            backup.take_all(primary)
        assert [len(frame) // 64 for frame in backup.taken[0]] == [1, 3, 17, 1, 60]
        backup.check()


@each_way
def test_the_ring_goes_round_many_times_and_the_writer_waits_for_room(way: str) -> None:
    chance = random.Random(5)
    sizes = [chance.choice((1, 1, 2, 5, 30, 63)) for _ in range(2000)]
    with pair(way) as (primary, backup), egress_of(primary):
        assert primary.replica.hold(10)
        writer = threading.Thread(target=primary.append_frames, args=(sizes,))
        writer.start()
        backup.take_until(lambda: backup.next_sequence() == 1 + sum(sizes))
        writer.join()
        assert [len(frame) // 64 for frame in backup.taken[0]] == sizes
        backup.check()
        progress = primary.replica.progress().streams[0]
        assert progress.refused_count > 0, "it had to wait"
        assert progress.appended_position > 30 * RING_BYTES


@each_way
def test_streams_do_not_hold_each_other_up(way: str) -> None:
    with pair(way, streams=3) as (primary, backup):
        for stream, frames in ((0, 3), (2, 40), (1, 1), (0, 2)):
            assert primary.append_frames([3] * frames, stream) == frames
            backup.take_all(primary)
        for stream in range(3):
            backup.check(stream)
        assert [len(taken) for taken in backup.taken] == [5, 1, 40]


@each_way
def test_a_slow_backup_holds_the_writer_up_and_nothing_is_written_over(way: str) -> None:
    with pair(way) as (primary, backup), egress_of(primary):
        assert primary.replica.hold(10)
        appended = primary.append_frames([7] * 200, turns=300)
        assert appended == RING_BYTES // 512, "as many as the ring holds"
        until(lambda: backup.take(is_consumed=False) == 0 and backup.next_sequence() == primary.next[0])
        before = backup.ring()
        assert not primary.append(7)
        assert not primary.append_frames([7], turns=200)
        assert backup.ring() == before
        backup.check()
        backup.received.acknowledge(0, backup.next_sequence() - 1)
        threading.Timer(0.05, primary.append_frames, ([7] * 200,)).start()
        backup.take_until(lambda: backup.next_sequence() == 1 + 7 * (appended + 200))
        backup.check()


@each_way
def test_without_a_backup_the_writer_never_waits(way: str) -> None:
    with Primary(way) as primary:
        assert primary.append_frames([63] * 500, turns=1) == 500
        assert primary.replica.progress().streams[0].refused_count == 0
        with Backup(way) as backup:
            starts = primary.connect(backup)
            assert starts[0].next_sequence == 1 + 63 * 500
            primary.append(2)
            backup.take_all(primary)
            backup.check()


@each_way
def test_a_backup_that_is_overrun_is_given_up_and_may_come_again(way: str) -> None:
    with pair(way) as (primary, backup):
        assert primary.append_frames([7] * 200, turns=1) == 200, "nobody holds, so nothing waits"
        until(lambda: not primary.replica.is_attached)
        assert "overrun" in primary.replica.failure
        until(lambda: backup.take(is_consumed=True) == 0)
        assert backup.next_sequence() < primary.next[0]
        backup.check()
        primary.link.close()
        with Backup(way) as another:
            primary.connect(another)
            assert primary.replica.failure == ""
            primary.append(5)
            another.take_all(primary)
            another.check()


@each_way
def test_links_come_and_go_while_the_writer_runs(way: str) -> None:
    stop, roomy = threading.Event(), 1 << 20
    with Primary(way, ring_bytes=roomy) as primary:

        def write() -> None:
            while not stop.is_set():
                primary.append(3)
                time.sleep(0.0002)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            last = 0
            for _ in range(5):
                with Backup(way, ring_bytes=roomy) as backup:
                    (start,) = primary.connect(backup)
                    assert start.next_sequence > last
                    backup.take_until(lambda one=backup: len(one.taken[0]) > 50)  # type: ignore[misc]
                    assert primary.replica.is_attached, primary.replica.failure
                    primary.replica.detach()
                    until(lambda one=backup: one.take() == 0)  # type: ignore[misc]
                    primary.link.close()
                    backup.check()
                    last = backup.next_sequence() - 1
        finally:
            stop.set()
            writer.join()


@each_way
@pytest.mark.parametrize("gate", ["async", "received", "applied"])
def test_the_gate_waits_for_what_it_was_told_to(way: str, gate: str) -> None:
    with pair(way, gate=gate) as (primary, backup):
        primary.append(4)
        assert replicated_sequence(primary.gate, 0) == ALL_REPLICATED, "nobody holds"
        backup.take_all(primary)
        with egress_of(primary):
            assert primary.replica.hold(10)
        assert replicated_sequence(primary.gate, 1) == ALL_REPLICATED, "there is no such stream"
        if gate == "async":
            assert replicated_sequence(primary.gate, 0) == ALL_REPLICATED
            return
        backup.take_until(lambda: replicated_sequence(primary.gate, 0) == 4)
        primary.append(6)
        if gate == "received":
            backup.take_until(lambda: replicated_sequence(primary.gate, 0) == 10)
        else:
            until(lambda: backup.take(is_consumed=False) == 0 and backup.next_sequence() == 11)
            until(lambda: primary.replica.progress().streams[0].received_sequence == 10, 10, backup.take)
            assert replicated_sequence(primary.gate, 0) == 4
            backup.received.acknowledge(0, 7)
            backup.take_until(lambda: replicated_sequence(primary.gate, 0) == 7)
            backup.received.acknowledge(0, 10)
            backup.take_until(lambda: replicated_sequence(primary.gate, 0) == 10)
        assert primary.replica.progress().streams[0].received_sequence == 10


@each_way
def test_holding_begins_when_the_egress_has_seen_it_and_the_backup_has_everything(way: str) -> None:
    with pair(way) as (primary, backup):
        primary.append(4)
        assert not primary.replica.hold(0.05), "no egress turns"
        primary.replica.let_go()
        with egress_of(primary):
            primary.replica.detach()
            assert not primary.replica.hold(0.05), "no link is attached"
            with pytest.raises(RuntimeError, match="somebody waits"):
                primary.replica.attach(primary.link)
            primary.replica.let_go()
        may_release(primary.gate)
        assert replicated_sequence(primary.gate, 0) == ALL_REPLICATED
        backup.take()


@each_way
def test_a_backup_that_is_killed_is_noticed_and_another_may_come(way: str) -> None:
    with Primary(way, backup_timeout_ns=NOTICE_NS) as primary:
        with Side("backup", way, backup_timeout_ns=NOTICE_NS) as backup:
            connect_to(primary, backup)
            assert primary.append_frames([5] * 20) == 20
            until(lambda: primary.replica.progress().streams[0].received_sequence == 100)
            primary.append(5)
            backup.kill()
            primary.append(5)
            until(lambda: not primary.replica.is_attached)
            assert primary.replica.failure
            left = f"exchange-link-{backup.process.pid}-*"
            assert len(list(Path("/dev/shm").glob(left))) == (way == "rdma-shm")
        primary.link.close()
        with Backup(way, backup_timeout_ns=NOTICE_NS) as another:
            primary.connect(another)
            assert not list(Path("/dev/shm").glob(left)), "what the killed one could not remove"
            primary.append(2)
            another.take_all(primary)
            another.check()


@each_way
def test_two_processes_agree_about_a_long_run_and_one_that_is_stopped_is_given_up(way: str) -> None:
    soon = {"backup_timeout_ns": NOTICE_NS}
    sizes = [1, 40, 3, 7] * 250
    with Primary(way, **soon) as primary, Side("backup", way, **soon) as backup, egress_of(primary):
        connect_to(primary, backup)
        assert primary.replica.hold(10)
        assert primary.append_frames(sizes) == len(sizes)
        until(lambda: primary.replica.progress().streams[0].received_sequence == sum(sizes))
        until(lambda: backup.step()["next"] == 1 + sum(sizes))
        assert backup.step()["digest"] == digest(make_records(1, sum(sizes)).tobytes())
        backup.signal(signal.SIGSTOP)
        until(lambda: not primary.replica.is_attached)
        assert "nothing was heard" in primary.replica.failure
        primary.link.close()
        primary.link = None
        primary.append(5)
        backup.signal(signal.SIGCONT)
        until(lambda: backup.step()["failure"], 5)
        assert backup.step()["next"] == 1 + sum(sizes)


@each_way
def test_a_primary_that_is_killed_is_noticed_and_what_had_arrived_is_whole(way: str) -> None:
    soon = {"backup_timeout_ns": NOTICE_NS}
    with Side("primary", way, **soon) as primary, Backup(way, **soon) as backup:
        facts = read_facts(primary.hear()["facts"])
        assert facts == host_facts()
        primary.say(offer=backup.received.offer(facts))
        backup.received.accept(primary.hear()["answer"])
        backup.begin(tuple(StreamStart(*start) for start in primary.step()["starts"]))
        backup.take_until(lambda: len(backup.taken[0]) > 30)
        primary.kill()
        backup.take_until(lambda: backup.received.failure != "")
        backup.received.close()
        while backup.take():
            pass
        backup.check()
        assert len(backup.taken[0]) > 30


@each_way
def test_to_close_is_to_revoke(way: str) -> None:
    """A primary that does not know that it was replaced goes on writing, and changes nothing that is read."""
    soon = {"backup_timeout_ns": NOTICE_NS}
    with Primary(way, **soon) as primary, Side("backup", way, **soon) as backup:
        connect_to(primary, backup)
        primary.append(4)
        until(lambda: primary.replica.progress().streams[0].received_sequence == 4)
        assert primary.append_frames([7] * 10) == 10
        closed = backup.step(close=True)
        assert primary.append_frames([7] * 10) == 10
        time.sleep(0.05)
        later = backup.step()
        assert later["ring"] == closed["ring"], "not a bit has changed"
        assert later["next"] >= 5, "what had arrived is there"
        assert (later["next"] - 5) % 7 == 0, "whole frames only"
        assert backup.step()["next"] == later["next"]
        until(lambda: not primary.replica.is_attached)


@each_way
def test_a_copy_is_a_copy(way: str) -> None:
    """The bytes of frames, wrap markers and all, are at the same places on both sides."""
    with pair(way) as (primary, backup):
        for _ in range(3):
            assert primary.append_frames([60, 1, 33]) == 3
            backup.take_all(primary)
        progress = primary.replica.progress().streams[0]
        assert progress.appended_position > RING_BYTES
        ours = bytes(view_bytes(primary.replica.ring(0).base, RING_BYTES))
        assert ours == backup.ring()


@each_way
def test_a_link_of_other_settings_is_refused(way: str) -> None:
    with Primary(way) as primary, Backup(way, ring_bytes=RING_BYTES * 2) as backup:
        offer = backup.received.offer(host_facts())
        with pytest.raises(
            UserError, match=f"ring_bytes is {RING_BYTES} here, and {2 * RING_BYTES} on the backup"
        ):
            primary.replica.connect(offer)
    with Primary(way) as primary, Backup(way, backup_timeout_ns=NOTICE_NS) as backup:
        offer = backup.received.offer(host_facts())
        with pytest.raises(UserError, match=f"backup_timeout_ns is .* here, and {NOTICE_NS} on the backup"):
            primary.replica.connect(offer)
    with Primary(way, streams=3) as primary, Backup(way) as backup:
        with pytest.raises(UserError, match="streams is 3 here, and 1 on the backup"):
            primary.replica.connect(backup.received.offer(host_facts()))
        for offer in ({}, {"kind": "carrier pigeon"}):
            with pytest.raises(UserError, match="on the backup"):
                primary.replica.connect(offer)


@each_way
def test_an_offer_or_an_answer_that_is_none_is_refused(way: str) -> None:
    with Primary(way) as primary, Backup(way) as backup:
        good = backup.received.offer(host_facts())
        for key in ("port", "token", "address") if way == "tcp" else ("description",):
            for value in (None, "zz", 17, {}):
                bad = {name: content for name, content in good.items() if name != key} | {key: value}
                with pytest.raises(UserError, match=r"does not say|cannot be reached|described itself"):
                    primary.replica.connect(bad)
        if way != "tcp":
            with pytest.raises(UserError, match="does not say where its memory is"):
                backup.received.accept({"gate": "received"})


def test_over_sockets_only_who_knows_the_token_is_let_in() -> None:
    import socket

    with Primary("tcp") as primary, Backup("tcp") as backup:
        offer = backup.received.offer(host_facts())
        with socket.create_connection((offer["address"], offer["port"])) as stranger:
            stranger.sendall(bytes(16))
            primary.link = primary.replica.connect(offer)
            backup.received.accept(primary.link.answer())
            assert stranger.recv(1) == b"", "it was let go"
        backup.begin(primary.replica.attach(primary.link))
        primary.append(3)
        backup.take_all(primary)
        backup.check()


def libfabrics_lock(process_id: int) -> tuple[Any, Any]:
    """The file of a process's shared memory, mapped, whose word at 24 is the lock of libfabric 1.17."""
    import mmap

    (path,) = Path("/dev/shm").glob(f"exchange-link-{process_id}-*")
    file = path.open("r+b")
    memory = mmap.mmap(file.fileno(), 0)
    if memory[0] != 4 or memory[24:28] != b"\x01\0\0\0":
        pytest.skip("this libfabric has its lock elsewhere, or none")
    return file, memory


@needs_fabric
def test_a_lock_that_a_dead_process_has_is_taken_from_it() -> None:
    """libfabric's shared memory has a lock that both sides take. Who is killed meanwhile never gives it back."""
    with Primary("rdma-shm") as primary, Side("backup", "rdma-shm") as backup:
        connect_to(primary, backup)
        primary.append(5)
        until(lambda: primary.replica.progress().streams[0].received_sequence == 5)
        backup.signal(signal.SIGSTOP)
        file, memory = libfabrics_lock(backup.process.pid)
        memory[24:28] = bytes(4)
        primary.append(5)
        until(lambda: not primary.replica.is_attached, 5)
        assert primary.replica.failure == "Owner died"
        memory.close()
        file.close()
        backup.kill()
        primary.link.close()
        primary.link = None
        with Backup("rdma-shm") as another:
            primary.connect(another)
            primary.append(2)
            another.take_all(primary)
            another.check()
