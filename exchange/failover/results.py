"""What a failover came to, as the JSON file has it: moments, steps of a timeline, and the account of the requests.

Times of a failover are nanoseconds from its *strike*, the SIGKILL or what was done instead, negative before it. A time
that nobody has told is None, "not seen": nothing here is made up.
"""

from typing import Any, Final

from msgspec import Struct

LINE_LOST: Final = "line lost"
PRIMARY_GONE: Final = "primary gone"
LEASE_OUT: Final = "lease ran out"
LEASE_TAKEN: Final = "lease taken"
TOOK_OVER: Final = "took over"
LISTENING: Final = "listening"
LET_IN: Final = "let in"
FIRST_ANSWER: Final = "first answer"
FIRST_ACKNOWLEDGEMENT: Final = "first acknowledgement"
ALL_BACK: Final = "all back"
CAUGHT_UP: Final = "caught up"
LAST_ANSWER: Final = "last answer"
BEGINNINGS: Final = {"kill": "SIGKILL", "stop": "SIGSTOP", "promote": "order to hand over"}
"""What a strike is, by how it is done."""
MOMENTS: Final[dict[str, str]] = {
    LAST_ANSWER: "the last answer of the old primary comes",
    LINE_LOST: "the first client notices that its line is lost",
    PRIMARY_GONE: "the backup notices that the primary's line has ended",
    LEASE_OUT: "the backup sees that it may take over: the lease has run out, or was handed over",
    LEASE_TAKEN: "the store has given it the lease",
    TOOK_OVER: "it has applied everything and is primary",
    LISTENING: "it listens to clients",
    LET_IN: "the first client is let in",
    FIRST_ANSWER: "the first answer of the new primary comes",
    FIRST_ACKNOWLEDGEMENT: "the first request that came due after the strike is acknowledged",
    ALL_BACK: "the last client is let in",
    CAUGHT_UP: "everything that had become due until then is answered",
}
"""What can happen, roughly in its order, and what that means."""


class Moment(Struct, frozen=True):
    """Something that happened. ``after_ns`` is None if it was not seen; ``told_by`` says whose word it is."""

    name: str
    after_ns: int | None
    told_by: str


class Steps(Struct, frozen=True):
    """A timeline around a strike, in steps of ``step_ns``; the first begins at ``begin_ns``.

    Attributes:
        due: how many requests were due in each step.
        answered: how many answers came in it.
        latency_p50_ns: the median latency of the requests that were due in each; None if there was none.
        latency_max_ns: the longest.
    """

    begin_ns: int
    step_ns: int
    due: list[int]
    answered: list[int]
    latency_p50_ns: list[int | None]
    latency_max_ns: list[int | None]


class Account(Struct, frozen=True):
    """The requests of a run, held against the journal of who is primary at the end.

    Attributes:
        sent: requests that were sent.
        acknowledged: orders, replacements and cancels that a client was told to be done.
        lost: those of them that the journal does not have.
        twice: those that it has more than once.
        unanswered: requests that never had an answer.
        sent_again: requests that were sent once more, on a new line.
        taken_back: messages that clients had got, and that the new primary did not know.
    """

    sent: int
    acknowledged: int
    lost: int
    twice: int
    unanswered: int
    sent_again: int
    taken_back: int


class Failover(Struct, frozen=True):
    """One failover.

    Attributes:
        number: from 1.
        how: what was done to the primary: kill, stop or promote.
        old: who was primary.
        new: who is then.
        epoch: of the new primary; None if its log does not tell.
        moments: what happened.
        outage_ns: from the strike to the first acknowledgement of a request that came due after it; None: not seen.
        silence_ns: the longest time in which a request was unanswered and no client had an answer.
        due_meanwhile: requests that came due in the outage.
        waited_p50_ns: their median latency, from when they were due; None if none was answered.
        waited_max_ns: the longest.
        old_status: the exit status of the old primary, or minus the signal that has ended it.
        account: of the requests.
        steps: the timeline.
    """

    number: int
    how: str
    old: str
    new: str
    epoch: int | None
    moments: tuple[Moment, ...]
    outage_ns: int | None
    silence_ns: int
    due_meanwhile: int
    waited_p50_ns: int | None
    waited_max_ns: int | None
    old_status: int
    account: Account
    steps: Steps

    def after_ns(self, name: str) -> int | None:
        """When something happened; None if it was not seen."""
        return next((one.after_ns for one in self.moments if one.name == name), None)


class FailoverResult(Struct, frozen=True):
    """A whole demonstration. ``kind`` is always "failover".

    Attributes:
        digests: of the books at the end, by who says so; None: it did not say.
        settings: of the profile, as far as they matter here.
        load: what the clients did.
    """

    created_utc: str
    command_line: str
    host: dict[str, Any]
    profile: str
    settings: dict[str, Any]
    load: dict[str, Any]
    failovers: tuple[Failover, ...]
    digests: dict[str, str | None]
    warnings: tuple[str, ...]
    kind: str = "failover"

    @property
    def lost(self) -> int:
        """Acknowledged requests that are nowhere."""
        return sum(one.account.lost for one in self.failovers)

    @property
    def twice(self) -> int:
        """Acknowledged requests that were done more than once."""
        return sum(one.account.twice for one in self.failovers)

    @property
    def digests_agree(self) -> bool:
        """Whether all that were told are alike, and more than one was."""
        told = [one for one in self.digests.values() if one is not None]
        return len(told) > 1 and len(set(told)) == 1

    @property
    def is_whole(self) -> bool:
        """Whether nothing was lost, nothing done twice, and no digest is another one."""
        told = {one for one in self.digests.values() if one is not None}
        return self.lost == 0 and self.twice == 0 and len(told) <= 1
