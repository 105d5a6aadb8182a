"""A session's beginning and its end: connect, log on, ask for the next number; cancel what rests, log out.

All this happens once for each session, so it is plain Python over a socket that waits. Between the two the compiled
loop has the socket. Nothing is read beyond the packet that is waited for, so what comes behind it is still there
when the loop takes over. (SoupBinTCP 3.00, section 1; OUCH 5.0, Account Query.)

Rules: every wait is bounded. What goes wrong while logging on is a UserError that names address and user."""

import socket
import time
from contextlib import suppress
from typing import Final

from exchange.errors import UserError
from exchange.load.logins import Endpoint, Login
from exchange.wire.fields import WireError
from exchange.wire.layout import LENGTH_BYTES, Message
from exchange.wire.ouch50 import OUTBOUND_MESSAGES, AccountQuery, AccountQueryResponse, CancelOrder
from exchange.wire.soupbintcp import (
    LOGIN_SECONDS_MAX,
    SERVER_PACKETS,
    LoginAccepted,
    LoginRejected,
    LoginRequest,
    LogoutRequest,
    SequencedData,
    UnsequencedData,
)

CONNECT_SECONDS: Final = 5.0
LOGOUT_SECONDS: Final = 0.3
"""All sessions together: an exchange that is gone cannot hold the end up."""

_NEWEST: Final = 0
"""The sequence number that leaves out what was said before."""


class Session:
    """One user, logged on.

    Attributes:
        socket: the connection, not blocking once the session is logged on.
        next_number: the UserRefNum that the exchange expects next.
    """

    def __init__(self, endpoint: Endpoint, login: Login) -> None:
        self.name: Final = login.name
        try:
            self.socket: Final = socket.create_connection(endpoint, CONNECT_SECONDS)
        except OSError as error:
            raise UserError(f"cannot connect to {endpoint}: {error.strerror or error}") from error
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.settimeout(LOGIN_SECONDS_MAX)
            self.socket.sendall(LoginRequest(login.name, login.password, "", _NEWEST).encode())
            answer = self._packet()
            if isinstance(answer, LoginRejected):
                raise UserError(f"login of {login.name} refused by {endpoint}: {_reason(answer)}")
            if not isinstance(answer, LoginAccepted):
                raise UserError(f"{endpoint} answered a login with {type(answer).__name__}")
            self.next_number: Final = self._query_number()
            self.socket.setblocking(False)
        except (OSError, WireError) as error:
            self.socket.close()
            raise UserError(f"{endpoint} did not log {login.name} on: {error}") from error
        except BaseException:
            self.socket.close()
            raise

    def _query_number(self) -> int:
        self.socket.sendall(UnsequencedData(AccountQuery().encode()).encode())
        while True:
            packet = self._packet()
            if isinstance(packet, SequencedData):
                message = OUTBOUND_MESSAGES.decode(packet.message)
                if isinstance(message, AccountQueryResponse):
                    return message.next_user_reference_number

    def _packet(self) -> Message:
        length = self._exactly(LENGTH_BYTES)
        return SERVER_PACKETS.decode(length + self._exactly(int.from_bytes(length, "big")))

    def _exactly(self, size_bytes: int) -> bytes:
        data = b""
        while len(data) < size_bytes:
            piece = self.socket.recv(size_bytes - len(data))
            if not piece:
                raise ConnectionResetError("it closed the connection")
            data += piece
        return data

    def begin_logout(self, resting_numbers: list[int]) -> None:
        """Cancel the orders that still rest and say goodbye; a line that is broken or full is left as it is."""
        cancels = b"".join(
            UnsequencedData(CancelOrder(number, 0).encode()).encode() for number in resting_numbers
        )
        with suppress(OSError):
            self.socket.send(cancels + LogoutRequest().encode())
            self.socket.shutdown(socket.SHUT_WR)

    def finish_logout(self, deadline: float) -> None:
        """Read until the exchange has closed too, or the deadline on the monotonic clock has come, and close."""
        with suppress(OSError):
            while (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                if not self.socket.recv(1 << 16):
                    break
        self.socket.close()


def log_out(sessions: list[Session], resting_numbers: list[list[int]]) -> None:
    """End all sessions, together within :data:`LOGOUT_SECONDS`."""
    for session, numbers in zip(sessions, resting_numbers, strict=True):
        session.begin_logout(numbers)
    deadline = time.monotonic() + LOGOUT_SECONDS
    for session in sessions:
        session.finish_logout(deadline)


def _reason(answer: LoginRejected) -> str:
    reasons = {"A": "user name or password is not right", "S": "no such session"}
    return reasons.get(answer.reject_reason_code, answer.reject_reason_code)
