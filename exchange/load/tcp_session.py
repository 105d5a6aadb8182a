"""A session over TCP: connect, log on, ask for the next number; cancel what rests, log out.

Nothing is read beyond the packet that is waited for, so what comes behind it is still there when the loop takes the
socket over. (SoupBinTCP 3.00, section 1; OUCH 5.0, Account Query.)

Rules: as of :mod:`exchange.load.sessions`."""

import asyncio
import socket
from contextlib import suppress
from typing import Final, NamedTuple

from exchange.address_search import CONNECT_SECONDS as REACH_SECONDS
from exchange.address_search import LOGON_SECONDS, LogonTurns
from exchange.errors import UserError
from exchange.load.logins import Endpoint, Login
from exchange.load.sessions import CONNECT_SECONDS, NEWEST, NotReached, refusal
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


class TcpAnswer(NamedTuple):
    """A socket on which somebody has logged us on, and what was said to that."""

    socket: socket.socket
    accepted: LoginAccepted

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


class TcpSession:
    """See :class:`~exchange.load.sessions.Session`.

    Args:
        endpoint: where the exchange listens.
        login: who logs on.
        connect_seconds: how long it may take to connect.
        logon_seconds: how long an answer to the logon may take.

    Attributes:
        next_wanted: the number of the message that comes next, before the loop has the line.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        login: Login,
        connect_seconds: float = CONNECT_SECONDS,
        logon_seconds: float = LOGIN_SECONDS_MAX,
    ) -> None:
        self.name: Final = login.name
        self._login: Final = login
        try:
            self.socket = socket.create_connection(endpoint, connect_seconds)
        except OSError as error:
            raise NotReached(f"cannot connect to {endpoint}: {error.strerror or error}") from error
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.settimeout(max(logon_seconds, connect_seconds))
            self.socket.sendall(LoginRequest(login.name, login.password, "", NEWEST).encode())
            accepted = self._accepted(endpoint, self._packet())
            self._session, self.next_wanted = accepted.session, accepted.sequence_number
            self.next_number: Final = self._query_number()
            self.socket.setblocking(False)
        except (OSError, WireError) as error:
            self.socket.close()
            raise NotReached(f"{endpoint} did not log {login.name} on: {error}") from error
        except BaseException:
            self.socket.close()
            raise

    def _accepted(self, endpoint: Endpoint, answer: Message) -> LoginAccepted:
        if isinstance(answer, LoginRejected):
            raise refusal(endpoint, self._login, answer)
        if not isinstance(answer, LoginAccepted):
            raise UserError(f"{endpoint} answered a login with {type(answer).__name__}")
        return answer

    def _query_number(self) -> int:
        self.socket.sendall(UnsequencedData(AccountQuery().encode()).encode())
        while True:
            packet = self._packet()
            if isinstance(packet, SequencedData):
                self.next_wanted += 1
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

    async def ask(self, endpoint: Endpoint, sequence: int, turns: LogonTurns) -> TcpAnswer:
        """As the protocol says."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LOGON_SECONDS):
            async with asyncio.timeout(REACH_SECONDS):
                found = await loop.getaddrinfo(*endpoint, type=socket.SOCK_STREAM)
                one = socket.socket(found[0][0], socket.SOCK_STREAM)
                try:
                    one.setblocking(False)
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    await loop.sock_connect(one, found[0][4])
                except BaseException:
                    one.close()
                    raise
            try:
                async with turns.turn():
                    request = LoginRequest(self._login.name, self._login.password, self._session, sequence)
                    await loop.sock_sendall(one, request.encode())
                    length = await _receive_exactly(one, LENGTH_BYTES)
                    packet = length + await _receive_exactly(one, int.from_bytes(length, "big"))
                return TcpAnswer(one, self._accepted(endpoint, SERVER_PACKETS.decode(packet)))
            except (NotReached, WireError) as error:
                one.close()
                raise ConnectionRefusedError(str(error)) from error
            except BaseException:
                one.close()
                raise

    def move(self, answer: TcpAnswer) -> int:
        """As the protocol says."""
        self.socket.close()
        self.socket, self._session = answer.socket, answer.accepted.session
        self.next_wanted = answer.accepted.sequence_number
        return self.next_wanted

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


async def _receive_exactly(one: socket.socket, size_bytes: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < size_bytes:
        piece = await loop.sock_recv(one, size_bytes - len(data))
        if not piece:
            raise ConnectionResetError("it closed the connection")
        data += piece
    return data
