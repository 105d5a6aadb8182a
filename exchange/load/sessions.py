"""Sessions of a load, whatever carries them: what all of them promise, and how they end together.

:mod:`~exchange.load.tcp_session` and :mod:`~exchange.load.udp_session` connect, log on, ask for the next number, and in
the end cancel what rests and log out. All this happens once for each session, so it is plain Python. Between the two
the compiled loop has the socket.

A session that has lost its line finds another (:mod:`exchange.load.moving`): :meth:`Session.ask` tries to log on
anew somewhere, beside the loop, and :meth:`Session.move` goes over to the line that came of it, while the loop stands.

Rules: every wait is bounded. What goes wrong while logging on is a UserError that names address and user; what goes
wrong while logging out is nobody's business any more."""

import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

from exchange.address_search import LogonTurns
from exchange.errors import UserError
from exchange.load.logins import Endpoint, Login
from exchange.wire import soupbintcp, soupbinudp

CONNECT_SECONDS: Final = 5.0
LOGOUT_SECONDS: Final = 0.5
"""All sessions together: an exchange that is gone cannot hold the end up."""

TICK_SECONDS: Final = 0.001

NEWEST: Final = 0
"""The sequence number that leaves out what was said before."""


class NotReached(UserError):
    """Nobody has let us in there; somebody else may."""


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

    async def ask(self, endpoint: Endpoint, sequence: int, turns: LogonTurns) -> Any:
        """Try to log on anew; what comes of it is for :meth:`move`, or to be closed.

        Args:
            endpoint: where.
            sequence: the number of the message that is wanted first.
            turns: of this session's logons.

        Raises:
            OSError: nobody lets us in there.
            UserError: the login is not right.
        """

    def move(self, answer: Any) -> int:
        """Go over to the line that :meth:`ask` has come back with; the number of the message that comes first on it."""

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
    """A refused login as what to raise: another address may know a session that this one does not know."""
    reasons = {"A": "user name or password is not right", "S": "no such session"}
    code = answer.reject_reason_code
    kind = NotReached if code == soupbintcp.LoginRejectReason.SESSION_NOT_AVAILABLE else UserError
    return kind(f"login of {login.name} refused by {endpoint}: {reasons.get(code, code)}")
