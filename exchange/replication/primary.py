"""The primary's side of a pair, beside its order path: the lease that it holds, and the backup that follows it.

What is said to a backup, in this order (:mod:`exchange.replication.control_wire`)::

    backup     join: which journal, where each stream ends, and the checksum of what stands there
    primary    go on; or: needs a copy; or: refused
    primary    frames of the journal, the merge stream's first         } the primary does not wait
    primary    want offer        backup   offer                        }
    primary    answer            backup   accepted                     } the link is made
    primary    attached: from where on frames come by the link         }
    primary    the frames before that
    backup     progress, again and again
    primary    in sync

States, and how the one becomes the other:

* **alone**: no event waits for a backup, and the lease store says that none is in sync.
* **catching up**: the same, with a backup that follows.
* **in sync**: the gate holds, and the lease store says so. The gate holds *first*, then whatever was released before
  reaches the backup, and only then the store is told. So whenever the store names a backup, that has everything.
* Back to **alone**: the backup is silent, its line or its link ends, or it leaves. The store is told *first*, and only
  then the gate opens. As long as the store does not answer nothing leaves; then the lease ends too.
* **replaced**: the store says that somebody else is primary. No event leaves any more
  (:meth:`~exchange.replication.streams.ReplicaStreams.fence`).
* **handed over**, **ended**: nothing is written of the backup behind that, which hangs up as soon as the store says so.

One backup at a time. Whoever comes while there is one waits until that has gone, and is refused for good if it is
still heard of: it has been given an address or a name that belongs to another. What was not heard of meanwhile may be a
machine that is lost.

Rules: methods may be called by any thread but by none that a callback runs on."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from exchange.errors import UserError
from exchange.journal.identity import Identity
from exchange.journal.streams import stream_names
from exchange.logs import log_event
from exchange.replication.catch_up import CatchUp, Diverged, sessions_digest
from exchange.replication.config import ActiveReplicationConfig
from exchange.replication.control_line import ControlLine, LineTrouble
from exchange.replication.control_wire import (
    PIECE_BYTES,
    Accepted,
    Answer,
    Attached,
    Ended,
    GoOn,
    HandingOver,
    InSync,
    Join,
    Leave,
    Left,
    Message,
    NeedsCopy,
    NodeStatus,
    Offer,
    Progress,
    StreamStatus,
    WantOffer,
)
from exchange.replication.copying import send_copy
from exchange.replication.lease import LeaseKeeper, lease_clock_ns
from exchange.replication.lease_record import LeaseRecord
from exchange.replication.lease_rules import margin_ns
from exchange.replication.protocol import ReplicaProgress, StreamStart
from exchange.replication.providers import host_facts
from exchange.replication.streams import MemoryLink, ReplicaStreams, SocketLink

NEAR_BYTES: Final = PIECE_BYTES
"""A backup that lacks less than this is near enough for the link to be made."""

LOOK_SECONDS: Final = 0.01
ANSWER_SECONDS: Final = 10.0
"""How long a backup may take to make its end of a link."""
TURN_SECONDS: Final = 2.0
"""How long another backup waits for the one that there is to go."""
HEARD_SECONDS: Final = 0.5
"""One that was heard of so short a time ago, behind that, is there; it says something fifty times a second."""
FAREWELL_SECONDS: Final = 0.3
"""How long the lease store and the backup are waited for at the end."""


class PairMember(NamedTuple):
    """What both sides of a pair are made with.

    ``control_address`` is where this node listens for the other one, ``clients_address`` where clients come.
    """

    config: ActiveReplicationConfig
    node: str
    secret: str
    control_address: str
    clients_address: str


class _Lost(Exception):
    """The backup is lost, and why."""


class PrimarySide:
    """Everything about the other one of the pair, as long as this one is primary.

    Args:
        member: who we are.
        replica: the rings and the gate.
        keeper: of our lease, obtained and not started yet.
        directory: of the journal.
        identity: of the journal.
        on_replaced: told once that somebody else is primary; on a thread of ours, and to be short.

    Attributes:
        state: in a word or two.
        replaced_by: the record of who is primary, once somebody else is; None if it was deleted.
        is_replaced: whether somebody else is primary.
    """

    def __init__(
        self,
        member: PairMember,
        replica: ReplicaStreams,
        keeper: LeaseKeeper,
        directory: Path,
        identity: Identity,
        on_replaced: Callable[[], None],
    ) -> None:
        self.state = "alone"
        self.is_replaced = False
        self.replaced_by: LeaseRecord | None = None
        self._member: Final = member
        self._replica: Final = replica
        self._keeper: Final = keeper
        self._directory: Final = directory
        self._identity: Final = identity
        self._names: Final = stream_names(identity.outcomes.shard_count)
        self._on_replaced: Final = on_replaced
        self._turn: Final = threading.Lock()
        self._line: ControlLine | None = None
        self._backup = ""
        self._peer = ""
        self._is_in_sync = False
        self._may_be_in_sync = False
        self._deadline_ns = 0
        self._leaves: Final = threading.Event()
        self._telling: Final = threading.Lock()
        self._has_ended: Final = threading.Event()
        self._farewell: Message | None = None
        self._journaled: tuple[int, ...] = ()
        self._applied: tuple[int, ...] = ()
        self._heard_at = 0.0

    @property
    def epoch(self) -> int:
        """Of our lease."""
        return self._keeper.record.epoch

    @property
    def is_in_sync(self) -> bool:
        """Whether the backup may take over."""
        return self._is_in_sync

    @property
    def backup(self) -> str:
        """Who follows us; nothing if nobody does."""
        return self._backup

    def start(self) -> None:
        """Renew the lease from now on, and let events leave."""
        self._keeper.start(self._renewed, self._replaced)

    def _renewed(self, deadline_ns: int) -> None:
        self._deadline_ns = deadline_ns
        self._replica.set_lease_deadline_ns(deadline_ns)

    @property
    def may_be_replaced(self) -> bool:
        """Whether the lease ran out so long ago that somebody else may lead by now."""
        return lease_clock_ns() > self._deadline_ns + 2 * margin_ns(self._member.config.lease_ns)

    def _replaced(self, record: LeaseRecord | None) -> None:
        self._replica.fence()
        self._leaves.set()
        self._is_in_sync = False
        self.state, self.is_replaced, self.replaced_by = "replaced", True, record
        if self._has_ended.is_set():
            return
        log_event(
            "replaced",
            level=logging.ERROR,
            by="" if record is None else record.primary,
            epoch=0 if record is None else record.epoch,
        )
        self._has_ended.set()
        self._on_replaced()

    # What others want.

    def copy_to(self, line: ControlLine) -> None:
        """Send a backup what a journal is begun with."""
        if not self._get_turn(line):
            return
        self._turn.release()
        log_event("backup copies", node=line.node)
        send_copy(line, self._directory)

    def status(self) -> NodeStatus:
        """How we are."""
        progress = self._replica.progress()
        applied = self._applied or (0,) * len(self._names)
        streams = tuple(
            StreamStatus(name, one.appended_sequence, one.received_sequence if self._backup else 0, last)
            for name, one, last in zip(self._names, progress.streams, applied, strict=True)
        )
        heard_ns = int((time.monotonic() - self._heard_at) * 1e9) if self._backup else -1
        return NodeStatus(
            self._member.node, "primary", self.epoch, self._told_state(progress), self._is_in_sync,
            self._member.clients_address, self._peer, streams, heard_ns,
        )  # fmt: skip

    def _told_state(self, progress: ReplicaProgress) -> str:
        failure = f" (the last link: {progress.failure})" if progress.failure and not self._backup else ""
        return f"{self.state}{f', backup {self._backup}' if self._backup else ''}{failure}"

    def serve_backup(self, line: ControlLine) -> None:
        """Have a backup follow, until it is lost or leaves, or we end. In the thread of its line.

        Raises:
            LineTrouble: its line has ended.
        """
        if not self._get_turn(line):
            return
        try:
            if self._has_ended.is_set():
                line.refuse(f"{self._member.node!r} is ending")
                return
            self._line, self._backup = line, line.node
            self._heard_at = time.monotonic()
            self._serve(line)
        finally:
            self._line, self._backup, self._peer = None, "", ""
            self._journaled = self._applied = ()
            self._turn.release()

    def _get_turn(self, line: ControlLine) -> bool:
        """Wait until no backup is followed by a thread of another line; whether that is so. If not it is refused."""
        if self._turn.acquire(timeout=TURN_SECONDS):
            return True
        known, backup, silent_s = self._line, self._backup, time.monotonic() - self._heard_at
        told = f"{self._member.node!r} is backed up by {backup!r} already{f', at {self._peer}' if self._peer else ''}"
        is_same = backup == line.node
        if silent_s < HEARD_SECONDS:
            names = ", which has the same replication.node: each needs a name of its own" if is_same else ""
            log_event("backup refused", level=logging.WARNING, node=line.node, reason=told + names)
            line.refuse(f"{told}{names}; a pair has one backup, so end that one first", is_final=True)
            return False
        if is_same and known is not None and silent_s > self._member.config.backup_timeout_ns / 1e9:
            known.close()  # it has come back before its line has shown that it was gone
            if self._turn.acquire(timeout=TURN_SECONDS):
                return True
        line.refuse(f"{told}, of which nothing was heard for {silent_s:.1f} s")
        return False

    def _serve(self, line: ControlLine) -> None:
        join = line.expect(Join, ANSWER_SECONDS)
        self._peer = join.control_address
        reason = self._find_flaw(join)
        if reason is None:
            try:
                with CatchUp(self._directory, self._identity, join.streams) as catch_up:
                    line.send(GoOn(self.epoch))
                    self.state = "catching up"
                    log_event("backup catches up", node=line.node, behind=catch_up.next_sequences)
                    self._bring_in(line, catch_up)
                return
            except Diverged as diverged:
                reason = str(diverged)
        log_event("backup needs a copy", level=logging.WARNING, node=line.node, reason=reason)
        line.send(NeedsCopy(reason))

    def _find_flaw(self, join: Join) -> str | None:
        """Why a backup's journal cannot be gone on with, as far as that does not depend on its records."""
        if (join.journal_id, join.identity_digest) != (self._identity.journal_id, self._identity.digest):
            return "it has another journal"
        if join.sessions_digest != sessions_digest(self._directory):
            return "its journal has other sessions"
        return None

    def _bring_in(self, line: ControlLine, catch_up: CatchUp) -> None:
        """From frames out of the journal to frames over the link, and then in sync until it ends."""
        link: SocketLink | MemoryLink | None = None
        reason = ""
        try:
            self._send_until_near(line, catch_up)
            line.send(WantOffer(host_facts()._asdict()))
            offer = self._await(line, Offer)
            link = self._replica.connect(offer.offer)
            line.send(Answer(link.answer()))
            self._await(line, Accepted)
            self._send_until_near(line, catch_up)
            starts = self._replica.attach(link)
            following = tuple(start.next_sequence for start in starts)
            line.send(Attached(tuple(start.position for start in starts), following, self.epoch))
            while any(has < end for has, end in zip(catch_up.next_sequences, following, strict=True)):
                catch_up.send(line, following)
            self._stay(line, starts, offer.link)
        except (LineTrouble, _Lost) as trouble:
            reason = str(trouble)
        except UserError as error:
            line.refuse(str(error))
            reason = str(error)
        finally:
            self._go_alone(line.node, reason)
            with suppress(RuntimeError):  # the replicator has ended before us, and uses no link any more
                self._replica.detach()
            if link is not None:
                link.close()

    def _send_until_near(self, line: ControlLine, catch_up: CatchUp) -> None:
        while catch_up.send(line) > NEAR_BYTES:
            while self._listen(line, 0.0) is not None:
                self._check_end(line)

    def _await[T: Message](self, line: ControlLine, kind: type[T]) -> T:
        """The next message of a kind; what the backup says of its progress comes in between."""
        give_up_at = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < give_up_at:
            said = self._listen(line, LOOK_SECONDS)
            if isinstance(said, kind):
                return said
            if said is not None:
                raise LineTrouble(f"it said {type(said).__name__}, and {kind.__name__} was expected")
            self._check_end(line)
        raise LineTrouble(f"it did not say {kind.__name__} in {ANSWER_SECONDS} s")

    def _listen(self, line: ControlLine, timeout_s: float) -> object:
        """What the backup says that is no mere progress; None if it says nothing."""
        said = line.receive(timeout_s)
        if said is not None:
            self._heard_at = time.monotonic()
        if not isinstance(said, Progress):
            return said
        if not len(said.journaled) == len(said.applied) == len(self._names):
            raise LineTrouble("it tells the progress of other streams")
        self._journaled, self._applied = said.journaled, said.applied
        return None

    def _stay(self, line: ControlLine, starts: tuple[StreamStart, ...], link: str) -> None:
        """As long as the backup is there. Raises _Lost when it is not any more."""
        watch = _Watch(self._member.config.backup_timeout_ns / 1e9)
        while True:
            said = self._listen(line, LOOK_SECONDS)
            if isinstance(said, Leave):
                self._go_alone(line.node, "")
                line.send(Left())
                return
            if said is not None:
                raise LineTrouble(f"it said {type(said).__name__}")
            self._check_end(line)
            watch.check(self._replica.progress(), time.monotonic() - self._heard_at)
            if not self._is_in_sync and self._has_caught_up(starts):
                self._come_into_sync(line, link)

    def _check_end(self, line: ControlLine) -> None:
        """Raises _Lost if we end."""
        if self._farewell is not None:
            line.send(self._farewell)
        if self._has_ended.is_set():
            raise _Lost("this one ends")

    def _has_caught_up(self, starts: tuple[StreamStart, ...]) -> bool:
        journaled = self._journaled or (0,) * len(starts)
        return all(last >= start.next_sequence - 1 for last, start in zip(journaled, starts, strict=True))

    def _come_into_sync(self, line: ControlLine, link: str) -> None:
        """The gate holds, then what was released reaches the backup, and then the store is told. From then on the
        backup may take over, whether or not it hears of that from us."""
        if not self._replica.hold(self._member.config.backup_timeout_ns / 1e9):
            self._replica.let_go()
            raise _Lost("it does not keep up")
        self._may_be_in_sync = True
        if not self._tell_store(line.node, in_sync=True, link=link):
            raise _Lost("the lease store does not answer")
        self._is_in_sync, self.state = True, "in sync"
        line.send(InSync(self._keeper.record.renewal))
        log_event("backup in sync", node=line.node, epoch=self.epoch)

    def _go_alone(self, node: str, reason: str) -> None:
        """The store is told, and then the gate opens. It takes as long as the store does."""
        while self._may_be_in_sync and not self._leaves.is_set():
            self._tell_store("", in_sync=False)
        if self._leaves.is_set():
            return  # whoever goes on, it is not us: what waits at the gate stays there
        self._replica.let_go()
        if self.state != "alone":
            self.state = "alone"
            told = {"reason": reason} if reason else {}
            log_event("backup gone", level=logging.WARNING, node=node, epoch=self.epoch, **told)

    def _tell_store(self, node: str, *, in_sync: bool, link: str = "") -> bool:
        """Write down who is in sync, unless we are about to leave; whether that is in the store."""
        with self._telling:
            try:
                if self._leaves.is_set() or not self._keeper.set_backup(node, in_sync, link):
                    return False
            except (RuntimeError, CancelledError):  # the lease was closed meanwhile
                self._leaves.set()
                return False
            if not in_sync:
                self._is_in_sync = self._may_be_in_sync = False
            return True

    # The end.

    def wait_until_applied(self, timeout_s: float) -> bool:
        """Wait until the backup, if one is in sync, has applied all that there is; whether it has."""
        give_up_at = time.monotonic() + timeout_s
        while self._is_in_sync and time.monotonic() < give_up_at:
            appended = [one.appended_sequence for one in self._replica.progress().streams]
            if all(last >= end for last, end in zip(self._applied or (0,), appended, strict=False)):
                return True
            time.sleep(0.001)
        return False

    def end(self) -> None:
        """The exchange has ended in order, and its backup shall end too. Nothing is released any more."""
        self._leaves.set()
        if not self.is_replaced:
            if not self._keeper.end(FAREWELL_SECONDS):
                log_event("lease not ended", level=logging.WARNING, epoch=self.epoch)
            self._farewell = Ended()
        self._end_line()
        self.state = "ended"

    def hand_over(self) -> bool:
        """Let the backup that is in sync take over. Nothing is released any more; whether the store has been told.

        Raises:
            UserError: it may not, and why.
        """
        if not self._is_in_sync:
            raise UserError("no backup is in sync")
        # It takes over and hangs up before we have said farewell: then nobody goes alone. Nor while this is written.
        self._leaves.set()
        with self._telling:
            if not self._is_in_sync:
                raise UserError("the backup has just been lost")
            is_written = self._keeper.hand_over(FAREWELL_SECONDS)
        self._farewell = HandingOver()
        self._end_line()
        self.state = "handed over"
        return is_written

    def _end_line(self) -> None:
        """Have the thread of the backup's line say farewell and end; it is waited for a little."""
        self._leaves.set()
        self._has_ended.set()
        if self._turn.acquire(timeout=FAREWELL_SECONDS):
            self._turn.release()

    def close(self) -> None:
        """Let go of the backup and of the lease."""
        self._end_line()
        line = self._line
        if line is not None:
            line.close()
        self._keeper.close()


class _Watch:
    """Says when a backup counts as lost, beside what its line says.

    Args:
        timeout_s: how long it may be silent, or lack the same frames.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s: Final = timeout_s
        self._received: tuple[int, ...] = ()
        self._since = time.monotonic()

    def check(self, progress: ReplicaProgress, silent_s: float) -> None:
        """Raises _Lost if it is."""
        if progress.failure or not progress.is_attached:
            raise _Lost(progress.failure or "the link has ended")
        if silent_s > self._timeout_s:
            raise _Lost(f"nothing was heard from it for {silent_s:.3f} s")
        received = tuple(one.received_sequence for one in progress.streams)
        lacks = any(one.appended_sequence > one.received_sequence for one in progress.streams)
        if received != self._received or not lacks:
            self._received, self._since = received, time.monotonic()
        elif time.monotonic() - self._since > self._timeout_s:
            raise _Lost(f"it has received nothing for {self._timeout_s:.3f} s")
