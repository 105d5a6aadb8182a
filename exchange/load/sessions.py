"""Sessions of a load, whatever carries them: what all of them promise, and how they end together.

:mod:`~exchange.load.tcp_session` and :mod:`~exchange.load.udp_session` connect, log on, ask for the next number, and in
the end cancel what rests and log out. All this happens once for each session, so it is plain Python. Between the two
the compiled loop has the socket.

Rules: every wait is bounded. What goes wrong while logging on is a UserError that names address and user; what goes
wrong while logging out is nobody's business any more."""

import time
from collections.abc import Sequence
from typing import Final, Protocol

from exchange.errors import UserError
from exchange.load.logins import Endpoint, Login
from exchange.wire import soupbintcp, soupbinudp

CONNECT_SECONDS: Final = 5.0
LOGOUT_SECONDS: Final = 0.5
"""All sessions together: an exchange that is gone cannot hold the end up."""

TICK_SECONDS: Final = 0.001

NEWEST: Final = 0
"""The sequence number that leaves out what was said before."""


class Session(Protocol):
    """One user, logged on. Made of an :class:`Endpoint` and a :class:`Login`."""

    @property
    def name(self) -> str:
        """The user's."""

    @property
    def descriptor(self) -> int | None:
        """Of the connection's socket, not blocking; None if it shares a port with others."""

    @property
    def next_number(self) -> int:
        """The UserRefNum that the exchange expected next when the session logged on."""

    def begin_logout(self, resting_numbers: list[int]) -> None:
        """Cancel the orders that still rest and say goodbye; a line that is broken or full is left as it is."""

    def has_logged_out(self) -> bool:
        """Do what can be done without waiting; whether the exchange has closed too, or never will."""

    def close(self) -> None:
        """Let go of the connection."""


def log_out(sessions: Sequence[Session], resting_numbers: Sequence[list[int]]) -> None:
    """End all sessions, together within :data:`LOGOUT_SECONDS`."""
    for session, numbers in zip(sessions, resting_numbers, strict=True):
        session.begin_logout(numbers)
    deadline, waiting = time.monotonic() + LOGOUT_SECONDS, list(sessions)
    while (waiting := [one for one in waiting if not one.has_logged_out()]) and time.monotonic() < deadline:
        time.sleep(TICK_SECONDS)
    for session in sessions:
        session.close()


def refusal(
    endpoint: Endpoint, login: Login, answer: soupbintcp.LoginRejected | soupbinudp.LoginRejected
) -> UserError:
    """A refused login as what to raise."""
    reasons = {"A": "user name or password is not right", "S": "no such session"}
    reason = reasons.get(answer.reject_reason_code, answer.reject_reason_code)
    return UserError(f"login of {login.name} refused by {endpoint}: {reason}")
