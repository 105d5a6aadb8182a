"""The backup's side of a pair: it follows the primary, and takes over when the lease says that it may.

One thread does everything that the backup does with records: it hears the primary's line, polls the ring that the
primary writes into, writes what comes into the journal and applies it (:mod:`exchange.replication.intake`). What is
said is told in :mod:`exchange.replication.primary`.

**When it may take over.** Two things have to be true: the lease has run out, or is handed over; and the store's record
says that this node is in sync, *by the ring that it has now*. A ring has a name, made up with it, which the primary
writes into the record. So a record of an earlier ring says nothing: what had only been in the memory of a backup that
was killed, or has joined anew, is gone. It is the record that counts, and not whether the primary has come to tell:
that message may be lost with the primary, which has just written the record.

**A line that breaks** says nothing of the primary. A backup whose ring has everything then goes on taking what it has,
and waits for the store: either the lease runs out, or the record says that this ring is in sync no more, and then it
joins anew. It asks the store now and then, so the record that it knows may be older than its being in sync: such a one
says nothing. Nor does one that was asked for before the line had ended; and behind that the primary's last write may
still have been under way (:class:`_LineEnd`).

**Taking over** begins with closing the ring: from then on no write of the old primary changes anything here. What had
arrived wholly is applied, and that is all that was ever acknowledged. The rest is the end of a restart
(:meth:`~exchange.recovery.following.Following.finish`), which is the business of whoever waits for
:attr:`BackupSide.outcome`.

Rules: until there is an outcome no other thread touches the exchange, its journals or what follows them."""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final, NamedTuple

from exchange.errors import UserError
from exchange.journal.identity import Identity
from exchange.journal.streams import stream_names
from exchange.logs import log_event
from exchange.recovery.following import Following
from exchange.replication.catch_up import sessions_digest, stream_ends
from exchange.replication.config import check_name_of_primary
from exchange.replication.control_line import ControlLine, Denied, LineTrouble
from exchange.replication.control_wire import (
    Accepted,
    Answer,
    Attached,
    Ended,
    Frames,
    GoOn,
    HandingOver,
    InSync,
    Join,
    Leave,
    Left,
    NeedsCopy,
    NodeStatus,
    Offer,
    Progress,
    Refused,
    StreamStatus,
    WantOffer,
)
from exchange.replication.intake import BrokenFrames, Intake
from exchange.replication.lease import LeaseWatcher
from exchange.replication.lease_record import LeaseRecord
from exchange.replication.lease_rules import Grant
from exchange.replication.primary import PairMember
from exchange.replication.protocol import StreamStart
from exchange.replication.providers import read_facts
from exchange.replication.receiving import ReceivedStreams

RETRY_SECONDS: Final = 0.1
"""How long a primary that cannot be followed is left alone."""

DENIED_SECONDS: Final = 2.0
"""And one that does not want to be: the reason will be the same for a while."""

LISTEN_SECONDS: Final = 0.01
"""How long the line is listened to at a time while no frames come by the ring."""

POLL_NS: Final = 1_000_000
"""How long the ring is waited for before the line is listened to again."""

TELL_SECONDS: Final = 0.02
"""How often the primary is told how far everything is, if nothing has changed."""
ANSWER_SECONDS: Final = 10.0
LEAVE_SECONDS: Final = 0.3
LINK_NAME_BYTES: Final = 8

LINE_ENDED: Final = "the primary's line has ended; waiting for the lease"
TAKING_OVER: Final = "taking over"
"""States, as the log tells them."""


class TookOver(NamedTuple):
    """The lease is ours, and everything that had arrived is applied."""

    grant: Grant
    since_ns: int
    """When the lease was seen to have run out, on the monotonic clock."""


class ExchangeEnded(NamedTuple):
    """The exchange has ended in order, or this backup was asked to: there is nothing to stand by for."""

    is_asked: bool


class CopyWanted(NamedTuple):
    """The journal is of no use; the exchange has to be built anew around a copy of the primary's."""

    reason: str


Outcome = TookOver | ExchangeEnded | CopyWanted


class _Link:
    """A ring that the primary writes into, from the offer on.

    Attributes:
        receiver: it.
        name: that no other ring has.
        starts: where it begins; nothing before it is attached.
        acknowledged: what the primary was told last to be applied.
    """

    def __init__(self, receiver: ReceivedStreams) -> None:
        self.receiver: Final = receiver
        self.name: Final = secrets.token_hex(LINK_NAME_BYTES)
        self.starts: tuple[StreamStart, ...] = ()
        self.acknowledged: tuple[int, ...] = ()

    def has_reached(self, next_sequences: list[int]) -> bool:
        """Whether all that comes by the line has come."""
        return bool(self.starts) and all(
            following >= start.next_sequence
            for following, start in zip(next_sequences, self.starts, strict=True)
        )


class _LineEnd:
    """The moment at which a primary's line has ended, by what the store says from then on.

    A primary has one write under way at the most. So if an answer that was asked for behind that moment has shown one
    write, and a later answer shows another, then the last one that was under way is known.
    """

    def __init__(self, watcher: LeaseWatcher) -> None:
        self._watcher: Final = watcher
        self._answers: Final = watcher.answers() + 2
        self._renewal: int | None = None

    def is_passed(self) -> bool:
        """Whether whatever was under way is known: the primary has written something since."""
        if self._watcher.answers() < self._answers:
            return False
        record = self._watcher.record()
        renewal = 0 if record is None else record.renewal
        if self._renewal is None:
            self._renewal = renewal
        return renewal > self._renewal


class BackupSide:
    """Follows a primary, in a thread of its own.

    Args:
        member: who we are.
        primary: where the primary's control plane listens.
        directory: of our journal.
        identity: of our journal.
        following: what applies records.
        intake: what takes them in.
        watcher: of the lease.
        build_receiver: makes a ring for a link.
        between: is called again and again while nothing else is done.

    Attributes:
        outcome: what comes of it. Whatever the thread fails with is its exception.
        state: in words.
    """

    def __init__(
        self,
        member: PairMember,
        primary: tuple[str, int],
        directory: Path,
        identity: Identity,
        following: Following,
        intake: Intake,
        watcher: LeaseWatcher,
        build_receiver: Callable[[], ReceivedStreams],
        between: Callable[[], None],
    ) -> None:
        self.outcome: Final[Future[Outcome]] = Future()
        self.state = "joining"
        self._member: Final = member
        self._primary: Final = primary
        self._directory: Final = directory
        self._identity: Final = identity
        self._names: Final = stream_names(identity.outcomes.shard_count)
        self._following: Final = following
        self._intake: Final = intake
        self._watcher: Final = watcher
        self._build_receiver: Final = build_receiver
        self._between: Final = between
        self._is_in_sync = False
        self._in_sync_since = (0, 0)
        self._epoch = 0
        self._link: _Link | None = None
        self._told_at = 0.0
        self._heard_at = 0.0
        self._applied: tuple[int, ...] = (0,) * len(self._names)
        self._is_stopped: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, name="backup", daemon=True)

    @property
    def is_in_sync(self) -> bool:
        """Whether it may take over once the lease has run out."""
        return self._is_in_sync

    def start(self) -> None:
        """Follow from now on."""
        self._thread.start()

    def request_stop(self) -> None:
        """Leave the primary, which then goes on alone, and end. Returns at once."""
        self._is_stopped.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def status(self) -> NodeStatus:
        """How we are."""
        streams = tuple(
            StreamStatus(name, following - 1, following - 1, last)
            for name, following, last in zip(
                self._names, tuple(self._intake.next_sequences), self._applied, strict=True
            )
        )
        host, port = self._primary
        heard_ns = int((time.monotonic() - self._heard_at) * 1e9) if self._heard_at else -1
        return NodeStatus(
            self._member.node, "backup", self._epoch, self.state, self._is_in_sync,
            self._member.clients_address, f"{host}:{port}", streams, heard_ns,
        )  # fmt: skip

    def _run(self) -> None:
        try:
            outcome = self._follow_primaries()
        except BaseException as error:
            self._drop_link()
            self.outcome.set_exception(error)
        else:
            self._drop_link()
            self.outcome.set_result(outcome)

    def _follow_primaries(self) -> Outcome:
        """Join, follow, and join again."""
        while True:
            outcome: Outcome | None = None
            rest_s = RETRY_SECONDS
            try:
                with ControlLine.connect(
                    self._primary, self._member.node, "join", self._member.secret
                ) as line:
                    check_name_of_primary(self._member.config, line.node, self._primary)
                    outcome = self._follow(line)
            except (LineTrouble, BrokenFrames) as trouble:
                self._set_state(f"no primary: {trouble}", self._obstacle())
                if isinstance(trouble, Denied):
                    trouble.raise_if_final()
                    rest_s = DENIED_SECONDS
            if outcome is None:
                outcome = self._wait_for_decision(rest_s)
            if outcome is not None:
                return outcome

    def _set_state(self, state: str, obstacle: str = "") -> None:
        told = f"{state}; no takeover: {obstacle}" if obstacle else state
        if told != self.state:
            level = logging.WARNING if obstacle else logging.INFO
            log_event("backup", level=level, state=told, epoch=self._epoch)
        self.state = told

    def _obstacle(self) -> str:
        """Why we do not take over a lease that has run out, and what a person can do; nothing as long as it lasts."""
        record = self._watcher.record()
        if record is None or record.ended or not self._watcher.expired():
            return ""
        primary, node = record.primary, self._member.node
        if self._is_named_by(record):
            return ""
        if record.in_sync and record.backup == node:
            return (
                f"{node!r} was in sync with {primary!r} in epoch {record.epoch}, but was started again since or has"
                f" joined anew, and lacks what had only been in its memory; start {primary!r}; only if it is lost for"
                f" good, end {node!r} and start it without --backup-of, to go on without that"
            )
        return (
            f"{primary!r} was primary in epoch {record.epoch}, and {node!r} was not in sync with it: orders that were"
            f" acknowledged would be lost; start {primary!r}; only if it is lost for good, end {node!r} and start it"
            " without --backup-of and with another replication.group, to go on without them"
        )

    def _wait_for_decision(self, rest_s: float) -> Outcome | None:
        """The line has ended: wait until the store says what that means. None: join again, after a rest."""
        if self._has_everything():
            self._set_state(LINE_ENDED)
        line_end = _LineEnd(self._watcher)
        while self._has_everything() and not self._is_stopped.is_set():
            outcome = self._decide()
            if outcome is not None:
                return outcome
            if self._is_told_otherwise(line_end):
                break
            self._take_from_ring(POLL_NS)
            self._between()
        self._drop_link()
        record = self._watcher.record()
        if record is not None and record.ended and record.epoch == self._epoch:
            return ExchangeEnded(is_asked=False)
        return ExchangeEnded(is_asked=True) if self._is_stopped.wait(rest_s) else None

    def _is_told_otherwise(self, line_end: _LineEnd) -> bool:
        """Whether the store says that we are not in sync, or no more. What it has said before we were says nothing."""
        record = self._watcher.record()
        if record is None:
            return True
        if (record.epoch, record.renewal) < self._in_sync_since:
            return False
        if record.epoch != self._epoch or record.ended:
            return True
        if self._is_named_by(record):
            self._is_in_sync, self._in_sync_since = True, (record.epoch, record.renewal)
            return False
        return self._is_in_sync or self._watcher.expired() or line_end.is_passed()

    def _is_named_by(self, record: LeaseRecord) -> bool:
        """Whether a record says that we are in sync, by the ring that we have."""
        link = self._link
        return (
            link is not None
            and record.in_sync
            and (record.backup, record.link) == (self._member.node, link.name)
        )

    def _has_everything(self) -> bool:
        """Whether all that comes from now on comes by the ring."""
        return self._link is not None and self._link.has_reached(self._intake.next_sequences)

    def _drop_link(self) -> None:
        link, self._link, self._is_in_sync = self._link, None, False
        if link is not None:
            link.receiver.close()

    def _follow(self, line: ControlLine) -> Outcome | None:
        """Follow a primary until its line ends; None then."""
        self._join_primary(line)
        said = line.receive(ANSWER_SECONDS)
        if isinstance(said, NeedsCopy):
            return CopyWanted(said.reason)
        if isinstance(said, Refused):
            raise Denied(said)
        if not isinstance(said, GoOn):
            raise LineTrouble("it does not say whether to go on")
        self._epoch, self._in_sync_since = said.epoch, (said.epoch, 0)
        self._set_state("catching up")
        while True:
            is_live = self._has_everything()
            said = line.receive(0.0 if is_live else LISTEN_SECONDS)
            while said is not None:
                outcome = self._hear(line, said)
                if outcome is not None:
                    return outcome
                self._tell_progress(line)
                said = line.receive(0.0)
            if is_live:
                self._take_from_ring(POLL_NS)
            self._following.follow()
            self._tell_progress(line)
            self._between()
            outcome = self._decide()
            if outcome is not None:
                return outcome
            if not self._is_in_sync:
                self._set_state("catching up", self._obstacle())
            if self._is_stopped.is_set():
                return self._leave(line)

    def _join_primary(self, line: ControlLine) -> None:
        self._heard_at = time.monotonic()
        self._following.follow()
        line.send(
            Join(
                self._identity.journal_id,
                self._identity.digest,
                sessions_digest(self._directory),
                stream_ends(self._directory, self._identity, self._intake.next_sequences),
                self._member.control_address,
            )
        )

    def _hear(self, line: ControlLine, said: object) -> Outcome | None:
        """Do what the primary says."""
        self._heard_at = time.monotonic()
        match said:
            case Frames(stream, content):
                self._intake.take_bytes(stream, content, self._is_stopped.is_set)
                self._following.follow()
            case WantOffer(host):
                self._drop_link()
                self._link = _Link(self._build_receiver())
                self._watcher.stand_by_with(self._link.name)
                line.send(Offer(self._link.receiver.offer(read_facts(host)), self._link.name))
            case Answer(answer) if self._link is not None:
                try:
                    self._link.receiver.accept(answer)
                except UserError as error:
                    raise LineTrouble(str(error)) from error
                line.send(Accepted())
            case Attached(positions, next_sequences, epoch) if self._link is not None:
                if not len(positions) == len(next_sequences) == len(self._names):
                    raise LineTrouble("it attaches other streams")
                starts = tuple(map(StreamStart, positions, next_sequences))
                self._link.receiver.begin(starts, epoch)
                self._link.starts = starts
            case InSync(renewal) if self._link is not None:
                self._is_in_sync, self._in_sync_since = True, (self._epoch, renewal)
                self._set_state("in sync")
            case Ended():
                return ExchangeEnded(is_asked=False)
            case HandingOver():
                self._set_state("taking over from a primary that has ended")
            case Refused():
                raise Denied(said)
            case _:
                raise LineTrouble(f"{type(said).__name__} is not expected now")
        return None

    def _take_from_ring(self, timeout_ns: int) -> int:
        """Journal and apply what has come by the ring, and have its room used again; how many frames that was."""
        link = self._link
        if link is None or not self._has_everything():
            return 0
        receiver, streams = link.receiver, range(len(self._names))
        found = receiver.poll(timeout_ns)
        if found > 0:
            for stream in reversed(streams):  # the merge stream first
                self._intake.take(stream, receiver.frames(stream), self._is_stopped.is_set)
            self._following.follow()
        applied = tuple(map(self._following.applied_sequence, streams))
        if found > 0 or applied != link.acknowledged:  # what has come by the line is acknowledged here too
            link.acknowledged = applied
            for stream, sequence in enumerate(applied):
                receiver.acknowledge(stream, sequence)
        return found

    def _tell_progress(self, line: ControlLine) -> None:
        now = time.monotonic()
        if now < self._told_at + TELL_SECONDS:
            return
        journaled = tuple(following - 1 for following in self._intake.next_sequences)
        self._applied = tuple(self._following.applied_sequence(stream) for stream in range(len(self._names)))
        line.send(Progress(journaled, self._applied))
        self._told_at = now

    def _decide(self) -> Outcome | None:
        """Take over, if the store says that we may."""
        if not self._has_everything() or not self._watcher.wait(0.0):
            return None
        since_ns = time.monotonic_ns()
        grant = self._watcher.try_take_over()
        if grant is None:
            return None
        return self._take_over(grant, since_ns)

    def _take_over(self, grant: Grant, since_ns: int) -> TookOver:
        self._set_state(TAKING_OVER)
        assert self._link is not None
        self._link.receiver.close()
        while self._take_from_ring(0) > 0:
            pass
        return TookOver(grant, since_ns)

    def _leave(self, line: ControlLine) -> ExchangeEnded:
        """Have the primary go on alone, and wait a little for it to say that it does."""
        self._is_in_sync = False
        line.send(Leave())
        give_up_at = time.monotonic() + LEAVE_SECONDS
        while time.monotonic() < give_up_at:
            said = line.receive(LISTEN_SECONDS)
            if isinstance(said, Left | Ended):
                break
            self._tell_progress(line)
        return ExchangeEnded(is_asked=True)
