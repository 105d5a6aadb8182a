"""Leases in a real store: who is primary, who may be it next, and what the network and the store can do to both."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from exchange.errors import UserError
from exchange.native import address_of, kernel, load_acquire
from exchange.replication.config import TcpReplicationConfig
from exchange.replication.lease import LeaseKeeper, LeaseWatcher, lease_clock_ns
from exchange.replication.lease_record import LeaseRecord
from exchange.replication.lease_rules import Found, deadline_after
from exchange.replication.lease_store import StoreTrouble
from exchange.replication.store_process import StoreProcess
from tests.lease_driver import (
    LEASE_NS,
    PATIENCE_SECONDS,
    Way,
    config_for,
    needs_server,
    running_store,
    until,
)

pytestmark = needs_server()

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:9000"
CALM_LEASE_NS = 5_000_000_000


class Told:
    """What a keeper has told its owner, and when."""

    def __init__(self) -> None:
        self.deadlines_ns: list[int] = []
        self.at_ns: list[int] = []
        self.replaced: list[LeaseRecord | None] = []

    def renewed(self, deadline_ns: int) -> None:
        self.at_ns.append(lease_clock_ns())
        self.deadlines_ns.append(deadline_ns)

    def until_renewed(self, times: int = 2) -> None:
        """Wait for so many more renewals."""
        count = len(self.deadlines_ns) + times
        until(lambda: len(self.deadlines_ns) >= count)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    with running_store(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def config(store: StoreProcess, request: pytest.FixtureRequest) -> TcpReplicationConfig:
    """Settings with a group of the test's own."""
    return config_for(store.port, group=request.node.name.replace("[", "-").replace("]", "")[:64])


@pytest.fixture
def calm(config: TcpReplicationConfig) -> TcpReplicationConfig:
    """The same with a lease that does not run out because a machine is busy, for what shall not happen."""
    return msgspec.structs.replace(config, lease_ns=CALM_LEASE_NS)


@contextmanager
def primary(
    config: TcpReplicationConfig, node: str = "a", backup: str = ""
) -> Iterator[tuple[LeaseKeeper, Told]]:
    """A primary that renews its lease, with a backup in sync if one is named."""
    told = Told()
    with LeaseKeeper(config, node, ADDRESS) as keeper:
        keeper.acquire()
        keeper.start(told.renewed, told.replaced.append)
        if backup:
            assert keeper.set_backup(backup, True)
        yield keeper, told


def test_a_lease_is_renewed_as_long_as_its_holder_lives(calm: TcpReplicationConfig) -> None:
    with primary(calm, backup="b") as (keeper, told), LeaseWatcher(calm, "b") as watcher:
        told.until_renewed(10)
        assert not watcher.expired()
        assert watcher.try_take_over() is None
        assert watcher.obstacle() is None
        assert told.deadlines_ns == sorted(told.deadlines_ns)
        for at_ns, deadline_ns in zip(told.at_ns, told.deadlines_ns, strict=True):
            assert deadline_ns < deadline_after(at_ns, CALM_LEASE_NS), "it counts from before the sending"
        record = watcher.record()
        assert record is not None
        assert (record.epoch, record.primary, record.primary_address) == (1, "a", ADDRESS)
        assert record.renewal > 1
        assert keeper.record.epoch == 1


@pytest.mark.parametrize("node", ["b", "a"])
def test_a_second_primary_is_refused_with_the_name_of_the_first(
    calm: TcpReplicationConfig, node: str
) -> None:
    with (
        primary(calm),
        LeaseKeeper(calm, node, "") as second,
        pytest.raises(
            UserError, match=r"'a'.* is primary, in epoch 1, for clients at 127.0.0.1:9000"
        ) as refusal,
    ):
        second.acquire()
    assert ("another process of this name" in str(refusal.value)) is (node == "a")


def test_the_backup_takes_over_when_the_lease_has_run_out_and_not_before(
    config: TcpReplicationConfig,
) -> None:
    with LeaseWatcher(config, "b", "127.0.0.1:9001") as watcher:
        with primary(config, backup="b") as (_, told):
            told.until_renewed()
        assert watcher.wait(PATIENCE_SECONDS)
        assert watcher.expired()
        grant = watcher.try_take_over()
        assert grant is not None
        assert grant.sent_ns > told.deadlines_ns[-1], "the primary could still have released events"
        assert (grant.epoch, grant.record.primary, grant.record.in_sync) == (2, "b", False)
        assert grant.record.primary_address == "127.0.0.1:9001"
        then = Told()
        with LeaseKeeper(config, "b", "127.0.0.1:9001") as keeper:
            keeper.take(grant)
            keeper.start(then.renewed, then.replaced.append)
            then.until_renewed()
        assert told.replaced == then.replaced == []


def test_of_many_watchers_exactly_one_takes_over(config: TcpReplicationConfig) -> None:
    with ExitStack() as stack:
        watchers = [stack.enter_context(LeaseWatcher(config, "b")) for _ in range(6)]
        with primary(config, backup="b") as (_, told):
            told.until_renewed()
        start = threading.Barrier(len(watchers))

        def take(watcher: LeaseWatcher) -> int | None:
            assert watcher.wait(PATIENCE_SECONDS)
            start.wait(PATIENCE_SECONDS)
            grant = watcher.try_take_over()
            return None if grant is None else grant.epoch

        with ThreadPoolExecutor(len(watchers)) as threads:
            assert sorted(threads.map(take, watchers), key=str) == [2, *[None] * 5]


def test_who_is_not_in_sync_does_not_take_over(config: TcpReplicationConfig) -> None:
    with LeaseWatcher(config, "b") as watcher, LeaseKeeper(config, "b", "") as other:
        with primary(config, backup="b") as (keeper, told):
            assert keeper.set_backup("b", False), "the primary goes on alone"
            told.until_renewed()
        until(watcher.expired)
        assert not watcher.wait(0.05)
        assert watcher.try_take_over() is None
        assert "'b' was not in sync" in str(watcher.obstacle())
        with pytest.raises(UserError, match=r"acknowledged would be lost; start 'a' first"):
            other.acquire()
    with primary(config) as (keeper, _):
        assert keeper.record.epoch == 2, "the one that has everything goes on"


def test_a_primary_that_slept_past_its_lease_is_told_who_has_replaced_it(
    config: TcpReplicationConfig,
) -> None:
    with primary(config, backup="b") as (keeper, told), LeaseWatcher(config, "b", ADDRESS) as watcher:
        awake = threading.Event()
        keeper._thread.loop.call_soon_threadsafe(awake.wait)  # the whole loop sleeps
        assert watcher.wait(PATIENCE_SECONDS)
        grant = watcher.try_take_over()
        assert grant is not None
        assert lease_clock_ns() > told.deadlines_ns[-1]
        awake.set()
        until(lambda: told.replaced)
        assert told.replaced == [grant.record]
        assert not keeper.set_backup("b", True)
        assert told.replaced == [grant.record], "once is enough"


HOLDER = r"""
import sys, time
from exchange.replication.lease import LeaseKeeper, lease_clock_ns
from tests.lease_driver import config_for
keeper = LeaseKeeper(config_for(int(sys.argv[1]), group=sys.argv[2]), "a", "")
keeper.acquire()
deadline_ns = 0
def renewed(told_ns):
    global deadline_ns
    deadline_ns = told_ns
keeper.start(renewed, lambda record: sys.stdout.write(f"replaced by {record.primary}\n") and sys.stdout.flush())
keeper.set_backup("b", True)
print("holds", flush=True)
while True:
    if lease_clock_ns() < deadline_ns:
        sys.stdout.write(f"{lease_clock_ns()}\n")
        sys.stdout.flush()
    time.sleep(0.001)
"""


def test_a_process_that_is_stopped_and_goes_on_releases_nothing(
    config: TcpReplicationConfig, store: StoreProcess
) -> None:
    """Both clocks are the same here, so that what it says after it was replaced can be compared."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.port), config.group],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        while process.stdout.readline() != "holds\n":
            assert process.poll() is None
        with LeaseWatcher(config, "b") as watcher:
            process.send_signal(signal.SIGSTOP)
            assert watcher.wait(PATIENCE_SECONDS)
            grant = watcher.try_take_over()
            assert grant is not None
            process.send_signal(signal.SIGCONT)
            released = []
            while (line := process.stdout.readline()) != "replaced by b\n":
                released.append(int(line))
            assert max(released, default=0) < grant.sent_ns
    finally:
        process.kill()
        process.communicate()


def test_a_renewal_whose_answer_was_lost_is_known_again(
    config: TcpReplicationConfig, store: StoreProcess
) -> None:
    way = Way(store.port)
    with primary(config_for(way.port, group=config.group), backup="b") as (keeper, told):
        for _ in range(3):
            told.until_renewed()
            way.lose_answers()
            told.until_renewed()
        assert keeper.set_backup("b", False)
        way.lose_answers()
        assert keeper.set_backup("c", True), "one whose answer was lost as well"
        assert told.replaced == []
        assert keeper.record.epoch == 1
    way.close()


def test_a_takeover_whose_answer_was_lost_is_known_again(
    config: TcpReplicationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LeaseWatcher(config, "b") as watcher:
        with primary(config, backup="b"):
            pass
        assert watcher.wait(PATIENCE_SECONDS)
        write, read = watcher._thread.store.write, watcher._thread.store.read

        async def write_and_lose(record: LeaseRecord, expected: int) -> int:
            await write(record, expected)
            raise StoreTrouble("lost")

        async def say_nothing() -> Found:
            raise StoreTrouble("nothing")

        monkeypatch.setattr(watcher._thread.store, "write", write_and_lose)
        monkeypatch.setattr(watcher._thread.store, "read", say_nothing)
        assert watcher.try_take_over() is None
        monkeypatch.setattr(watcher._thread.store, "read", read)
        assert watcher.wait(PATIENCE_SECONDS)
        grant = watcher.try_take_over()
        assert grant is not None
        assert (grant.epoch, grant.record.primary) == (2, "b")


def test_a_name_that_could_not_be_read_again_is_not_written(config: TcpReplicationConfig) -> None:
    with primary(config) as (keeper, told):
        with pytest.raises(ValueError, match="no lease: Expected `str` of length <= 64"):
            keeper.set_backup("b" * 65, True)
        told.until_renewed()
        assert keeper.set_backup("b" * 64, True)


def test_a_store_that_is_slow_ends_no_lease(config: TcpReplicationConfig, store: StoreProcess) -> None:
    way = Way(store.port)
    with primary(config_for(way.port, group=config.group), backup="b") as (_, told):
        way.delay_s = 0.02
        told.until_renewed(4)
        way.delay_s = 0.0
        told.until_renewed()
        assert told.replaced == []
    way.close()


def test_a_primary_that_the_store_cannot_hear_ends_before_it_is_replaced(
    config: TcpReplicationConfig, store: StoreProcess
) -> None:
    way = Way(store.port)
    with (
        primary(config_for(way.port, group=config.group), backup="b") as (keeper, told),
        LeaseWatcher(config, "b") as watcher,
    ):
        told.until_renewed()
        way.is_blocked = True
        assert not keeper.set_backup("b", False, timeout_s=0.1), "nobody knows whether it is written"
        assert watcher.wait(PATIENCE_SECONDS)
        grant = watcher.try_take_over()
        assert grant is not None
        assert grant.sent_ns > told.deadlines_ns[-1]
        way.is_blocked = False
        until(lambda: told.replaced)
        assert told.replaced == [grant.record]
    way.close()


def test_a_watcher_that_cannot_reach_the_store_does_not_take_over(
    config: TcpReplicationConfig, store: StoreProcess
) -> None:
    way = Way(store.port)
    with (
        primary(config, backup="b") as (_, told),
        LeaseWatcher(config_for(way.port, group=config.group), "b") as watcher,
    ):
        way.is_blocked = True
        told.until_renewed(3 * LEASE_NS // config.renew_every_ns)
        assert not watcher.expired()
        assert watcher.try_take_over() is None
        way.is_blocked = False
        told.until_renewed()
        assert told.replaced == []
    way.close()


def test_after_the_store_was_away_the_primary_goes_on(tmp_path: Path) -> None:
    with running_store(tmp_path) as store:
        config = config_for(store.port)
        with primary(config, backup="b") as (keeper, told), LeaseWatcher(config, "b") as watcher:
            told.until_renewed()
            assert store.process_id is not None
            os.kill(store.process_id, signal.SIGKILL)
            until(lambda: lease_clock_ns() > told.deadlines_ns[-1])
            assert not watcher.expired(), "there was no answer by which it could be"
            assert watcher.try_take_over() is None
            store.look()
            told.until_renewed(3)
            assert told.replaced == []
            assert keeper.record.epoch == 1


def test_a_lease_that_is_handed_over_is_taken_without_waiting(config: TcpReplicationConfig) -> None:
    with primary(config, backup="b") as (keeper, told), LeaseWatcher(config, "b") as watcher:
        assert keeper.hand_over()
        assert told.deadlines_ns[-1] == 0, "it stops before it says so"
        assert watcher.wait(PATIENCE_SECONDS)
        grant = watcher.try_take_over()
        assert grant is not None
        assert grant.epoch == 2


def test_after_an_orderly_end_nobody_takes_over_and_the_next_start_does_not_wait(
    config: TcpReplicationConfig,
) -> None:
    with LeaseWatcher(config, "b") as watcher:
        with primary(config, backup="b") as (keeper, told):
            assert keeper.end()
            assert told.deadlines_ns[-1] == 0
        until(watcher.expired)
        record = watcher.record()
        assert record is not None
        assert record.ended
        assert watcher.try_take_over() is None
    with primary(config, "b") as (keeper, _):
        assert keeper.record.epoch == 2, "it was in sync: it has everything"


def test_a_record_that_is_deleted_ends_the_primary(config: TcpReplicationConfig) -> None:
    with primary(config) as (keeper, told):
        keeper._thread.call(_delete(keeper))
        until(lambda: told.replaced)
        assert told.replaced == [None]


async def _delete(keeper: LeaseKeeper) -> None:
    line = keeper._thread.store._line
    assert line is not None
    await line.bucket.delete(keeper._thread.group)


def test_what_no_exchange_has_written_is_told(config: TcpReplicationConfig) -> None:
    with LeaseKeeper(config, "a", "") as keeper:
        keeper._thread.call(keeper._thread.first(keeper._thread.store.read))
        keeper._thread.call(_write_nonsense(keeper))
        with pytest.raises(UserError, match=r"bucket 'exchange-leases', key '\w+': no lease"):
            keeper.acquire()


async def _write_nonsense(keeper: LeaseKeeper) -> None:
    line = keeper._thread.store._line
    assert line is not None
    await line.bucket.put(keeper._thread.group, b"nonsense")


@kernel
def spin(stop: int) -> int:
    """Never rest."""
    turns = 0
    while load_acquire(stop) == 0:
        turns += 1
    return turns


def test_a_lease_is_renewed_beside_compiled_threads_that_never_rest(config: TcpReplicationConfig) -> None:
    stop = np.ones(1, np.int64)
    spin(address_of(stop))
    stop[0] = 0
    spinning = [threading.Thread(target=spin, args=(address_of(stop),)) for _ in range(2)]
    with primary(config, backup="b") as (_, told):
        for thread in spinning:
            thread.start()
        try:
            told.until_renewed(10)
        finally:
            stop[0] = 1
            for thread in spinning:
                thread.join()
        assert told.replaced == []


def test_only_who_has_the_token_is_let_in_and_it_is_shown_to_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, wrong = "the-right-one-aWx9", "a-wrong-one-bYz8"
    with running_store(tmp_path, token=token) as store:
        with LeaseKeeper(config_for(store.port, wrong), "a", "") as keeper:
            with pytest.raises(
                UserError, match=r"^lease store: .*Authorization.*; EXCHANGE_LEASE_TOKEN"
            ) as error:
                keeper.acquire()
            assert wrong not in str(error.value)
        monkeypatch.setenv("EXCHANGE_LEASE_TOKEN", token)
        with primary(config_for(store.port)) as (_, told):
            told.until_renewed()
        monkeypatch.delenv("EXCHANGE_LEASE_TOKEN")
        with LeaseWatcher(config_for(store.port, token)) as watcher:
            assert watcher.record() is not None
        assert token not in caplog.text
        assert wrong not in caplog.text


def test_a_store_that_is_not_there_is_a_mistake_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.replication.lease.PATIENCE_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"^lease store nats://127.0.0.1:1: [^\n]+$"):
        LeaseWatcher(config_for(1))
    assert time.monotonic() - began < PATIENCE_SECONDS
    with pytest.raises(
        UserError, match=r"lease_store = 'nats://host:pig': must be embedded, or nats://HOST:PORT"
    ):
        LeaseWatcher(TcpReplicationConfig(lease_store="nats://secret@host:pig"))
