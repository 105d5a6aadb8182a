"""The two sides of a pair without an exchange: what each does when the other one says, or leaves unsaid, something.

The side that is not under test is a script on a control line, the lease is stepped by the rules' own observer, and the
rings and books do nothing."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import pytest

from exchange.errors import UserError
from exchange.replication import primary as primary_module
from exchange.replication.backup import BackupSide, TookOver
from exchange.replication.config import TcpReplicationConfig
from exchange.replication.control_line import ControlLine, Denied, LineTrouble
from exchange.replication.control_listener import ControlListener
from exchange.replication.control_wire import (
    Accepted,
    Answer,
    Attached,
    GoOn,
    Join,
    Offer,
    Progress,
    Refused,
    StreamEnd,
    WantOffer,
)
from exchange.replication.lease_record import LeaseRecord
from exchange.replication.lease_rules import Found, Observer, wait_ns
from exchange.replication.primary import PairMember, PrimarySide
from exchange.replication.protocol import ReplicaProgress, StreamStart
from exchange.replication.providers import host_facts
from tests.pair_driver import SECRET, shaken_lines

LEASE_NS: Final = 20_000_000
ALONE: Final = LeaseRecord(1, "a", "10.0.0.1:9000", "a1", LEASE_NS)
IDENTITY: Final[Any] = SimpleNamespace(
    journal_id=1, digest=2, outcomes=SimpleNamespace(shard_count=1), stream=lambda name: name
)


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_at, "it did not come to be so"
        time.sleep(0.001)


class Watcher:
    """A lease that the test has seen change, on a clock of its own."""

    def __init__(self) -> None:
        self._observer = Observer("b", "b1")
        self._revision = self._now_ns = 0

    def see(self, record: LeaseRecord | None = None, *, is_late: bool = False) -> None:
        """Have the store answer: with another record, or with the same; a lease later if it is late."""
        self._now_ns += wait_ns(ALONE) if is_late else 1
        self._revision += record is not None
        self._observer.found(Found(self._revision, record or self._observer.record), self._now_ns)

    def record(self) -> LeaseRecord | None:
        return self._observer.record

    def expired(self) -> bool:
        return self._observer.is_expired

    def answers(self) -> int:
        return self._observer.answers

    def stand_by_with(self, link: str) -> None:
        self._observer.link = link

    def wait(self, _timeout_s: float) -> bool:
        return self._observer.may_take_over()

    def try_take_over(self) -> object:
        return "a grant" if self._observer.may_take_over() else None


class Primary:
    """Brings whoever joins to where everything comes by the ring, and hangs up when it is told to.

    Attributes:
        link: the name of the ring of whoever has joined last.
        joined: how often somebody has come so far.
    """

    def __init__(self) -> None:
        self.link, self.joined = "", 0
        self.hang_up = threading.Event()
        self.refusal: Refused | None = None

    def handle(self, line: ControlLine) -> None:
        with suppress(LineTrouble):
            if self.refusal is not None:
                line.refuse(self.refusal.reason, is_final=self.refusal.is_final)
                return
            line.expect(Join, 5)
            line.send(GoOn(1))
            line.send(WantOffer(host_facts()._asdict()))
            self.link = self._next(line, Offer).link
            line.send(Answer({}))
            self._next(line, Accepted)
            line.send(Attached((0,), (1,), 1))
            self._next(line, Progress)
            self.joined += 1
            self.hang_up.wait(20)
            self.hang_up.clear()

    def _next(self, line: ControlLine, kind: type[Any]) -> Any:
        while not isinstance(said := line.receive(5), kind):
            assert said is not None
        return said


class Ring:
    def offer(self, _facts: object) -> dict[str, Any]:
        return {}

    def poll(self, _timeout_ns: int) -> int:
        time.sleep(0.001)
        return 0

    def accept(self, _answer: object) -> None: ...

    def begin(self, _starts: object, _epoch: int) -> None: ...

    def acknowledge(self, _stream: int, _sequence: int) -> None: ...

    def close(self) -> None: ...


class Books:
    next_sequences = (1,)

    def follow(self) -> None: ...

    def applied_sequence(self, _stream: int) -> int:
        return 0


def member(node: str) -> PairMember:
    config = TcpReplicationConfig(node=node, lease_ns=LEASE_NS, backup_timeout_ns=300_000_000)
    return PairMember(config, node, SECRET, f"10.0.0.1:{node}", "10.0.0.1:9000")


@contextmanager
def following(tmp_path: Path) -> Iterator[tuple[BackupSide, Primary, Watcher]]:
    """A backup whose ring has everything; the store has not said so, and nor has the primary."""
    primary, watcher, books = Primary(), Watcher(), Books()
    watcher.see(ALONE)
    listener = ControlListener("127.0.0.1", 0, "a", SECRET)
    listener.handle_with(primary.handle)
    listener.start()
    host, port = listener.address.split(":")
    fakes: tuple[Any, ...] = (books, books, watcher, Ring, lambda: None)
    backup = BackupSide(member("b"), (host, int(port)), tmp_path, IDENTITY, *fakes)
    backup.start()
    try:
        until(lambda: primary.joined)
        yield backup, primary, watcher
    finally:
        backup.request_stop()
        primary.hang_up.set()
        backup.join(5)
        listener.close()


def named(link: str, renewal: int = 1) -> LeaseRecord:
    """The record when the backup is in sync by a ring."""
    return msgspec.structs.replace(ALONE, backup="b", in_sync=True, link=link, renewal=renewal)


def renewed(renewal: int) -> LeaseRecord:
    return msgspec.structs.replace(ALONE, renewal=renewal)


class TestBackup:
    """What a primary leaves unsaid that dies behind a write of the record."""

    @pytest.mark.parametrize("is_known", ["before", "behind", "late"])
    def test_it_takes_over_though_nobody_has_told_it_that_it_is_in_sync(
        self, tmp_path: Path, is_known: str
    ) -> None:
        with following(tmp_path) as (backup, primary, watcher):
            if is_known == "before":
                watcher.see(named(primary.link))
            primary.hang_up.set()
            until(lambda: "line has ended" in backup.state)
            if (
                is_known == "late"
            ):  # these were asked for before the line had ended, or the write was under way
                watcher.see(renewed(1))
                for _ in range(3):
                    watcher.see()
            time.sleep(0.05)
            assert primary.joined == 1
            if is_known != "before":
                watcher.see(named(primary.link, 2))
            assert not backup.outcome.done()
            watcher.see(is_late=True)
            assert isinstance(backup.outcome.result(5), TookOver)

    def test_it_joins_anew_when_the_primary_goes_on(self, tmp_path: Path) -> None:
        with following(tmp_path) as (backup, primary, watcher):
            first = primary.link
            primary.hang_up.set()
            until(lambda: "line has ended" in backup.state)
            renewals = itertools.count(1)
            until(lambda: (watcher.see(renewed(next(renewals))), primary.joined == 2)[1])
            assert primary.link != first
            watcher.see(named(first, next(renewals)))
            watcher.see(is_late=True)
            until(lambda: "no takeover" in backup.state)
            assert not backup.outcome.done(), "what was in that ring is gone"

    def test_it_says_why_it_does_not_take_over(self, tmp_path: Path) -> None:
        with following(tmp_path) as (backup, primary, watcher):
            watcher.see(renewed(1))
            watcher.see(is_late=True)
            until(lambda: "no takeover" in backup.state)
            told = backup.status().state
            assert told.startswith("catching up; no takeover: 'a' was primary in epoch 1, and 'b' was not in")
            assert "start 'a'; only if it is lost for good" in told
            assert "another replication.group" in told
            watcher.see(named("a ring of an earlier life", 2))
            until(lambda: "no takeover" not in backup.state)
            watcher.see(is_late=True)
            until(lambda: "'b' was in sync with 'a' in epoch 1, but was started again since" in backup.state)
            watcher.see(named(primary.link, 3))
            until(lambda: "no takeover" not in backup.state)
            watcher.see(is_late=True)
            assert isinstance(backup.outcome.result(5), TookOver)

    def test_it_ends_when_it_is_refused_for_good(self, tmp_path: Path) -> None:
        with following(tmp_path) as (backup, primary, watcher):
            primary.refusal = Refused("'a' is backed up by 'b' already", is_final=True)
            primary.hang_up.set()
            watcher.see(is_late=True)
            with pytest.raises(UserError, match=r"^'a' is backed up by 'b' already$"):
                backup.outcome.result(5)


class CatchUp:
    """Nothing is lacking."""

    next_sequences = (1,)

    def __init__(self, *_given: object) -> None: ...

    def __enter__(self) -> "CatchUp":
        return self

    def __exit__(self, *_exception: object) -> None: ...

    def send(self, *_given: object) -> int:
        return 0


class Backup(threading.Thread):
    """Joins a primary, and says something now and then until it is to be silent.

    Attributes:
        said: the primary's answer.
    """

    def __init__(self, line: ControlLine, address: str) -> None:
        super().__init__(daemon=True)
        self._line, self._address = line, address
        self.is_silent = False
        self.said: object = None

    def run(self) -> None:
        with suppress(LineTrouble):
            ends = (StreamEnd(1),)
            self._line.send(Join(1, 2, "0" * 64, ends, self._address))
            try:
                self.said = self._line.expect(GoOn, 10)
            except Denied as denied:
                self.said = denied
            while not self.is_silent:
                self._line.send(Progress((0,), (0,)))
                time.sleep(0.01)


def test_a_second_backup_gets_the_place_of_one_that_is_gone_and_of_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one comes as far as being asked for an offer, which it never makes."""
    monkeypatch.setattr(primary_module, "CatchUp", CatchUp)
    monkeypatch.setattr(primary_module, "TURN_SECONDS", 0.4)
    monkeypatch.setattr(primary_module, "HEARD_SECONDS", 0.2)
    replica: Any = SimpleNamespace(let_go=lambda: None, detach=lambda: None)
    keeper: Any = SimpleNamespace(record=ALONE, close=lambda: None)
    primary = PrimarySide(member("a"), replica, keeper, tmp_path, IDENTITY, lambda: None)
    threads = []

    def join(line: ControlLine, served: ControlLine, name: str, address: str) -> Backup:
        def serve() -> None:
            with suppress(LineTrouble):
                primary.serve_backup(served)
            served.close()

        served.node = name
        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        backup = Backup(line, address)
        backup.start()
        until(lambda: backup.said is not None)
        return backup

    with shaken_lines() as one, shaken_lines() as two, shaken_lines() as three, shaken_lines() as four:
        first = join(*one, "b", "10.0.0.2:9010")
        assert isinstance(first.said, GoOn)
        for line, name, reason in ((two, "b", "the same replication.node"), (three, "c", "; a pair has one")):
            denied = join(*line, name, "10.0.0.3:9010").said
            assert isinstance(denied, Denied)
            assert denied.is_final
            assert "'a' is backed up by 'b' already, at 10.0.0.2:9010" in denied.reason
            assert reason in denied.reason
        first.is_silent = True
        time.sleep(0.3)
        second = join(*four, "b", "10.0.0.4:9010")
        assert isinstance(second.said, GoOn), second.said
        assert primary.backup == "b"
        second.is_silent = True
    for thread in threads:
        thread.join(15)


class Keeper:
    """A lease that says yes to everything that can be written, and ``meanwhile`` lets something happen behind it.

    Attributes:
        written: what was.
    """

    record = ALONE

    def __init__(self) -> None:
        self.written: list[object] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def set_backup(self, node: str, in_sync: bool, link: str = "") -> bool:
        self.written.append((node, in_sync, link))
        return True

    def hand_over(self, _timeout_s: float) -> bool:
        self.written.append("handed over")
        self.meanwhile()
        return True

    def close(self) -> None: ...


class Streams:
    """A link that is there, and has everything.

    Attributes:
        is_open: whether the gate was let go.
    """

    is_open = False

    def connect(self, _offer: object) -> Any:
        return SimpleNamespace(answer=dict, close=lambda: None)

    def attach(self, _link: object) -> tuple[StreamStart, ...]:
        return (StreamStart(0, 1),)

    def hold(self, _seconds: float) -> bool:
        return True

    def progress(self) -> ReplicaProgress:
        return ReplicaProgress(True, True, False, "", 0, ())

    def let_go(self) -> None:
        self.is_open = True

    def detach(self) -> None: ...


def test_a_backup_that_takes_over_and_hangs_up_at_once_is_not_taken_for_one_that_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees that the lease is handed over before the primary has said so: nothing may be written behind that."""
    monkeypatch.setattr(primary_module, "CatchUp", CatchUp)
    streams, keeper = Streams(), Keeper()
    given: tuple[Any, ...] = (streams, keeper, tmp_path, IDENTITY, lambda: None)
    primary = PrimarySide(member("a"), *given)

    def serve(served: ControlLine) -> None:
        with suppress(LineTrouble):
            primary.serve_backup(served)

    with shaken_lines() as (line, served):
        thread = threading.Thread(target=serve, args=(served,))
        thread.start()
        line.send(Join(1, 2, "0" * 64, (StreamEnd(1),), "10.0.0.2:9010"))
        for said in (Offer({}, "ring-1"), Accepted(), Progress((0,), (0,))):
            line.send(said)
        until(lambda: primary.is_in_sync)

        def hang_up() -> None:
            line.close()
            thread.join(10)

        keeper.meanwhile = hang_up
        assert primary.hand_over()
    assert not thread.is_alive()
    assert keeper.written == [(served.node, True, "ring-1"), "handed over"]
    assert not streams.is_open, "what waits at the gate stays there"
