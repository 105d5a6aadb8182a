"""A line that a session of a load has lost, and where it found another: what figures and timelines tell of it."""

import errno
from typing import Final, NamedTuple

from exchange.load.logins import Endpoint
from exchange.load.words import CLOSED, NO_LINK, SILENT

REASONS: Final = {
    CLOSED: "closed",
    NO_LINK: "no link",
    SILENT: "silent",
    -errno.ECONNRESET: "reset",
    -errno.EPIPE: "reset",
    -errno.ECONNREFUSED: "refused",
}
"""Why a line was lost, in a word."""


class Loss(NamedTuple):
    """A line that a session has lost. Times are nanoseconds from the run's start; -1 is never.

    Attributes:
        session: the user's name.
        reason: why, one of the words' reasons or -errno.
        left: where the session was.
        found: where it is now; the same if it is nowhere.
        lost_ns: when the loss was noticed.
        back_ns: when the session had another line.
        sent_again: requests that were sent before, and once more on the new line.
        taken_back: messages that had come, and that the exchange does not know any more.
    """

    session: str
    reason: int
    left: Endpoint
    found: Endpoint
    lost_ns: int
    back_ns: int = -1
    sent_again: int = 0
    taken_back: int = 0


def reason_text(reason: int) -> str:
    """Why a line was lost, in a word or a number."""
    return REASONS.get(reason, f"errno {-reason}")
