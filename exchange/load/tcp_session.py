"""A session over TCP: connect, log on, ask for the next number; cancel what rests, log out.

Nothing is read beyond the packet that is waited for, so what comes behind it is still there when the loop takes the
socket over. (SoupBinTCP 3.00, section 1; OUCH 5.0, Account Query.)

Rules: as of :mod:`exchange.load.sessions`."""

import socket
from contextlib import suppress
from typing import Final

from exchange.errors import UserError
from exchange.load.logins import Endpoint, Login
from exchange.load.sessions import CONNECT_SECONDS, NEWEST, refusal
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


class TcpSession:
    """See :class:`~exchange.load.sessions.Session`."""

    def __init__(self, endpoint: Endpoint, login: Login, connect_seconds: float = CONNECT_SECONDS) -> None:
        self.name: Final = login.name
        try:
            self.socket: Final = socket.create_connection(endpoint, connect_seconds)
        except OSError as error:
            raise UserError(f"cannot connect to {endpoint}: {error.strerror or error}") from error
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.settimeout(max(LOGIN_SECONDS_MAX, connect_seconds))
            self.socket.sendall(LoginRequest(login.name, login.password, "", NEWEST).encode())
            answer = self._packet()
            if isinstance(answer, LoginRejected):
                raise refusal(endpoint, login, answer)
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

    @property
    def descriptor(self) -> int:
        """As the protocol says."""
        return self.socket.fileno()

    def close(self) -> None:
        """As the protocol says."""
        self.socket.close()

    def begin_logout(self, resting_numbers: list[int]) -> None:
        """As the protocol says."""
        cancels = b"".join(
            UnsequencedData(CancelOrder(number, 0).encode()).encode() for number in resting_numbers
        )
        with suppress(OSError):
            self.socket.send(cancels + LogoutRequest().encode())
            self.socket.shutdown(socket.SHUT_WR)

    def has_logged_out(self) -> bool:
        """As the protocol says."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True
