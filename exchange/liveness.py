"""When a line whose other side says nothing is given up, though nothing has broken it.

A machine that loses power, and a process that is stopped, send no word of farewell: the line just falls silent.
SoupBinTCP has both sides say something every second, and takes one that is silent for fifteen for dead. Whoever waits
for an answer knows sooner that something is wrong, so there are two limits: one for a line on which nobody waits, and a
shorter one for a line on which a request is unanswered. Any byte that comes is a sign of life.

Rules: no clock and no socket; times are seconds of any clock that only goes forward.
"""

from typing import Final

from exchange.errors import UserError
from exchange.wire.soupbintcp import HEARTBEAT_INTERVAL_SECONDS, SILENCE_SECONDS_MAX

ANSWER_SECONDS: Final = 1.5
"""What a client with a second address to go to waits for an answer, unless it is told otherwise.

It is more than :data:`~exchange.wire.soupbintcp.HEARTBEAT_INTERVAL_SECONDS`, for OUCH has no answer to a cancel of an
order that is gone; heartbeats are a sign of life all the same."""
LIMIT_SECONDS_MIN: Final = 0.01


class Liveness:
    """What is known of the other side's life.

    Args:
        silence_seconds: how long it may say nothing.
        answer_seconds: how long it may say nothing while something is unanswered.
        now: the time; the line is fresh.
    """

    def __init__(self, silence_seconds: float, answer_seconds: float, now: float) -> None:
        self._silence_seconds: Final = silence_seconds
        self._answer_seconds: Final = answer_seconds
        self._heard_at = self._asked_at = now

    def heard(self, at: float) -> None:
        """Something came then, or it was our own doing that nothing could come."""
        self._heard_at = max(self._heard_at, at)

    def asked(self, at: float) -> None:
        """Something was asked then: if it is the first since something came, the wait for an answer begins."""
        if self._asked_at <= self._heard_at:
            self._asked_at = max(at, self._heard_at)

    def gives_up_at(self, is_waiting: bool) -> float:
        """When the line is given up if nothing comes; ``is_waiting`` says whether something is unanswered."""
        silent_at = self._heard_at + self._silence_seconds
        if not is_waiting:
            return silent_at
        return min(silent_at, max(self._heard_at, self._asked_at) + self._answer_seconds)


def check_limits(names: tuple[str, str], silence_seconds: float, answer_seconds: float) -> None:
    """UserError for limits that make no sense; ``names`` is what they are called where they were given."""
    for name, value in zip(names, (silence_seconds, answer_seconds), strict=True):
        if not LIMIT_SECONDS_MIN <= value <= SILENCE_SECONDS_MAX:
            raise UserError(
                f"{name} {value:g}: allowed is {LIMIT_SECONDS_MIN:g} to {SILENCE_SECONDS_MAX}, the longest silence of "
                "SoupBinTCP, in seconds"
            )


assert ANSWER_SECONDS > HEARTBEAT_INTERVAL_SECONDS
