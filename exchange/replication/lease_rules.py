"""When somebody is primary, decided by numbers alone: no clock is read here and no store is asked.

Two machines of states, stepped by :mod:`exchange.replication.lease` with what a clock shows and what the store has
answered, and by the tests with clocks and stores of their own:

* :class:`Holder`: the primary. It may release events until its *deadline*, on its own clock.
* :class:`Observer`: everybody else. It says when the lease has run out, and whether this node may take it over.

**Why there are never two.** A holder writes the record again and again (it *renews*), each time by compare-and-set on
the revision that its last write made. Its deadline is what its clock showed *before* it sent the last write of which it
knows that it was applied, plus the lease, less a margin. An observer counts from the moment at which an answer of the
store has shown it a revision for the first time, and takes over only when an answer shows the same revision a lease and
a margin later. Its write is a compare-and-set on that revision. If the store applies it, then no renewal of the
holder's was applied since, so the holder counts from a moment before the one from which the observer has counted. The
one waits for ``lease + margin``, the other ends after ``lease - margin``. So the order is right as long as no clock
runs so much faster than another that the two cross, and the margin is a tenth of the lease: each clock may be wrong by
a tenth of its rate, which is as far as Linux lets anybody bend it (``adjtimex``, ``tick``). What clocks *show* is never
compared, and how long messages take does not matter.

**Whose answer was lost.** A write without an answer may have been applied, or may still be. Until the record has been
read, the holder does not know its revision; its deadline stays as it was. If the record that it finds is one of its
own, then that write was applied, and the deadline follows from when *it* was sent.

Rules: one thread; times are nanoseconds of one clock that never stands still while the machine may still act
(CLOCK_BOOTTIME); ``found`` is given every answer of the store, in the order in which they came.
"""

from typing import Final, NamedTuple

import msgspec

from exchange.replication.lease_record import LeaseRecord

MARGIN_PARTS: Final = 10
"""The margin is this part of a lease."""

PRECEDENCE_PERIODS: Final = 3
"""A primary that is started again leaves its backup in sync so many times to take over first."""


def margin_ns(lease_ns: int) -> int:
    """What a holder ends before the end of its lease, and what others wait after it."""
    return -(-lease_ns // MARGIN_PARTS)


def deadline_after(sent_ns: int, lease_ns: int) -> int:
    """Until when a write that was applied makes its writer the holder, on its clock; it was sent at ``sent_ns``."""
    return sent_ns + lease_ns - margin_ns(lease_ns)


def wait_ns(record: LeaseRecord) -> int:
    """How long an observer sees the same revision until the lease has run out."""
    return record.lease_ns + margin_ns(record.lease_ns)


class Found(NamedTuple):
    """What the store has: a record and its revision; None and some revision if there is no record."""

    revision: int
    record: LeaseRecord | None


class Write(NamedTuple):
    """A compare-and-set: ``record`` shall take the place of revision ``expected`` (0: of nothing). ``sent_ns`` was read
    before it is sent."""

    expected: int
    record: LeaseRecord
    sent_ns: int


class Grant(NamedTuple):
    """A lease that was obtained: the record as the store has it now, and when it was asked for."""

    revision: int
    record: LeaseRecord
    sent_ns: int

    @property
    def epoch(self) -> int:
        """Of the new primary."""
        return self.record.epoch

    @property
    def deadline_ns(self) -> int:
        """Until when it is primary without another renewal."""
        return deadline_after(self.sent_ns, self.record.lease_ns)


class _Attempts:
    """Writes that were sent and of which nobody knows what became."""

    def __init__(self) -> None:
        self._sent: dict[int, Write] = {}

    def add(self, write: Write) -> None:
        """Remember a write, and forget those that could not make anybody a holder any more."""
        lease_ns = write.record.lease_ns
        self._sent = {
            number: one for number, one in self._sent.items() if one.sent_ns + lease_ns > write.sent_ns
        }
        self._sent[write.record.renewal] = write

    def that_wrote(self, record: LeaseRecord) -> Write | None:
        """The one that has made a record."""
        write = self._sent.get(record.renewal)
        return write if write is not None and write.record == record else None

    def clear(self) -> None:
        """Something else has been written since: none of them can be applied any more."""
        self._sent.clear()


class Holder:
    """The primary's side of a lease.

    Args:
        grant: what has made this process the holder.

    Attributes:
        record: as it was written last, as far as is known.
        deadline_ns: until when events may be released; 0 when never again.
        is_certain: whether :attr:`record` is what the store has, unless somebody else has written.
        is_replaced: another holder was found in the store, or no record. It stays so.
        replaced_by: that holder's record.
    """

    def __init__(self, grant: Grant) -> None:
        self.record = grant.record
        self.deadline_ns = grant.deadline_ns
        self.is_certain = True
        self.is_replaced = False
        self.replaced_by: LeaseRecord | None = None
        self._revision = grant.revision
        self._number = grant.record.renewal
        self._attempts: Final = _Attempts()
        self._has_let_go = False

    def let_go(self) -> None:
        """Be primary no more, before others are told."""
        self._has_let_go = True
        self.deadline_ns = 0

    def propose(self, now_ns: int, **changes: object) -> Write:
        """The next write: a renewal, and what else shall change in the record. It is to be sent after this."""
        assert self.is_certain
        assert not self.is_replaced
        self._number += 1
        record = msgspec.structs.replace(self.record, renewal=self._number, **changes)
        write = Write(self._revision, record, now_ns)
        self._attempts.add(write)
        return write

    def accepted(self, write: Write, revision: int) -> None:
        """The store has said yes to a write."""
        self._wrote(write.record, revision, write.sent_ns)

    def unsure(self) -> None:
        """The store has said no to a write, or nothing: what the record is has to be read."""
        self.is_certain = False

    def found(self, found: Found) -> None:
        """The store has said what the record is."""
        record = found.record
        if record is not None and found.revision < self._revision:
            return  # a member of the store that is behind
        if found.revision == self._revision:
            self.is_certain = not self.is_replaced
            return
        if record is None or (record.holder, record.epoch) != (self.record.holder, self.record.epoch):
            self.is_certain, self.is_replaced, self.replaced_by = False, True, record
            self.deadline_ns = 0
            return
        write = self._attempts.that_wrote(record)
        self._wrote(record, found.revision, None if write is None else write.sent_ns)

    def _wrote(self, record: LeaseRecord, revision: int, sent_ns: int | None) -> None:
        self.record, self._revision, self.is_certain = record, revision, not self.is_replaced
        self._attempts.clear()
        if sent_ns is not None and not self._has_let_go and not self.is_replaced:
            self.deadline_ns = max(self.deadline_ns, deadline_after(sent_ns, record.lease_ns))


class Observer:
    """The side of everybody who is not primary.

    Args:
        node: our name.
        holder: our process's, for when it takes over.

    Attributes:
        record: as the store had it last; None: there was none.
        is_expired: the lease has run out, by the last answer of the store.
        answers: how often the store has said what the record is.
        link: by what this process follows the holder: who takes over has to be in sync by that, and not by what an
            earlier one of our name has had.
    """

    def __init__(self, node: str, holder: str) -> None:
        self.record: LeaseRecord | None = None
        self.is_expired = False
        self.has_seen = False
        self.changes = self.answers = 0
        self.link = ""
        self._node: Final = node
        self._holder: Final = holder
        self._revision = 0
        self._since_ns: int | None = None
        self._number = 0
        self._attempts: Final = _Attempts()

    def found(self, found: Found, now_ns: int) -> None:
        """The store has said what the record is; ``now_ns`` was read after its answer had come."""
        self.answers += 1
        if found.record is not None and found.revision < self._revision:
            return  # a member of the store that is behind
        if not self.has_seen or found.revision != self._revision:
            self.changes += self.has_seen
            self.record, self._revision, self.has_seen = found.record, found.revision, True
            self._since_ns = now_ns
        elif self._since_ns is None:
            self._since_ns = now_ns
        self.is_expired = self.record is not None and self.waited_ns(now_ns) >= wait_ns(self.record)

    def unanswered(self) -> None:
        """The store has not answered: the wait begins anew with its next answer.

        It would be as safe not to. But a store that was away has kept the holder from renewing too, and a holder that
        is there shall go on.
        """
        self._since_ns = None
        self.is_expired = False

    def waited_ns(self, now_ns: int) -> int:
        """How long the record has been seen as it is."""
        return 0 if self._since_ns is None else now_ns - self._since_ns

    def obstacle(self) -> str | None:
        """Why this node may not be the next primary, however long the lease has run out; None if it may."""
        record = self.record
        if record is None or record.primary == self._node:
            return None
        if record.in_sync and record.backup == self._node:
            return None
        return (
            f"{record.primary!r} was primary in epoch {record.epoch}, and {self._node!r} was not in sync with it:"
            " orders that were acknowledged would be lost"
        )

    def may_take_over(self) -> bool:
        """Whether a backup may become primary now."""
        record = self.record
        if not self.has_seen or record is None or record.ended or not record.in_sync:
            return False
        is_ours = record.backup == self._node and record.link == self.link
        return is_ours and (record.handing_over or self.is_expired)

    def may_acquire(self, now_ns: int) -> bool:
        """Whether a node that is started as the primary may be it now."""
        record = self.record
        if not self.has_seen or self.obstacle() is not None:
            return False
        if record is None or record.ended or self.may_take_over():
            return True
        periods = PRECEDENCE_PERIODS if record.in_sync else 1
        return self.is_expired and self.waited_ns(now_ns) >= periods * wait_ns(record)

    def propose(self, now_ns: int, address: str, lease_ns: int, after_epoch: int = 0) -> Write:
        """The write that makes us primary. It is to be sent after this."""
        self._number += 1
        epoch = max(self.record.epoch if self.record is not None else 0, after_epoch) + 1
        record = LeaseRecord(epoch, self._node, address, self._holder, lease_ns, self._number)
        write = Write(self._revision if self.record is not None else 0, record, now_ns)
        self._attempts.add(write)
        return write

    def grant(self) -> Grant | None:
        """What we have obtained, if the record that was found is our own. It may be of no use any more: its deadline
        says so."""
        record = self.record
        if record is None or record.holder != self._holder:
            return None
        write = self._attempts.that_wrote(record)
        return Grant(self._revision, record, 0 if write is None else write.sent_ns)
