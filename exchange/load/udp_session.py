"""A session over UDP: log on, ask for the next number; when the loop has ended, see to what is unacknowledged, log out.

Here a connection is driven in plain Python, by :class:`~exchange.wire.soupbinudp_connection.DatagramConnection`. The
loop takes over from it where it stands (:attr:`UdpSession.connection`) and gives back where the loop stands
(:meth:`UdpSession.go_on`): the numbers of packets go on through both.

What came behind the answer to the account query in the same datagram is no answer to a request of the load, and nobody
misses it. That query is a packet, too: the load's first request is the second of its connection.

Rules: as of :mod:`exchange.load.sessions`. IPv4 only, as the exchange's end."""

import asyncio
import secrets
import time
from contextlib import suppress
from typing import Final, NamedTuple

from exchange.address_search import LOGON_SECONDS, LogonTurns
from exchange.datagram_line import LOGIN_REPEAT_SECONDS
from exchange.load.logins import Endpoint, Login
from exchange.load.sessions import CONNECT_SECONDS, NEWEST, TICK_SECONDS, NotReached, refusal
from exchange.load.udp_carriers import IsWanted, SocketCarrier, UdpCarrier
from exchange.wire.fields import WireError
from exchange.wire.ouch50 import OUTBOUND_MESSAGES, AccountQuery, AccountQueryResponse, CancelOrder
from exchange.wire.soupbintcp import LOGIN_SECONDS_MAX, SERVER_PACKETS, SequencedData, UnsequencedData
from exchange.wire.soupbinudp import SERVER_DATAGRAMS, LoginAccepted, LoginRejected, LoginRequest, number_of
from exchange.wire.soupbinudp_connection import DatagramConnection

LOGOUT_REPEAT_SECONDS: Final = 0.05
"""A Logout Request that is lost is not missed by anybody else."""


class UdpAnswer(NamedTuple):
    """A socket on which somebody has logged us on, and what was said to that."""

    carrier: SocketCarrier
    accepted: LoginAccepted

    def close(self) -> None:
        """Let go of the socket."""
        self.carrier.close()


async def _ask_until_answered(
    carrier: SocketCarrier, request: bytes, is_answer: IsWanted
) -> LoginAccepted | LoginRejected:
    """Ask until there is an answer. OSError if nobody listens there."""
    while True:
        carrier.send(request)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOGIN_REPEAT_SECONDS):
                answer = SERVER_DATAGRAMS.decode(await carrier.heard(is_answer))
                assert isinstance(answer, LoginAccepted | LoginRejected)
                return answer


class UdpSession:
    """See :class:`~exchange.load.sessions.Session`.

    Args:
        endpoint: where the exchange listens.
        login: who logs on.
        connect_seconds: how long the exchange may take to answer.
        logon_seconds: the most that this may be for the logon.
        carrier: what carries datagrams; None is a socket of its own.

    Attributes:
        connection: how far the connection has come, before the loop has it and afterwards.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        login: Login,
        connect_seconds: float = CONNECT_SECONDS,
        logon_seconds: float = LOGIN_SECONDS_MAX,
        carrier: UdpCarrier | None = None,
    ) -> None:
        self.name: Final = login.name
        self._says_goodbye_at = 0.0
        self._connect_seconds: Final = connect_seconds
        try:
            self._carrier = SocketCarrier(endpoint) if carrier is None else carrier
        except OSError as error:
            raise NotReached(f"cannot connect to {endpoint}: {error.strerror or error}") from error
        self._endpoint, self._login = endpoint, login
        self._session = ""
        try:
            self._connect(NEWEST, min(CONNECT_SECONDS, logon_seconds))
            self.next_number: Final = self._query_number()
        except (TimeoutError, WireError) as error:
            self._carrier.close()
            raise NotReached(f"{endpoint} did not log {login.name} on over UDP: {error}") from error
        except OSError as error:
            self._carrier.close()
            raise NotReached(f"cannot connect to {endpoint}: {error.strerror or error}") from error
        except BaseException:
            self._carrier.close()
            raise

    @property
    def descriptor(self) -> int | None:
        """Of the session's own socket, if it has one."""
        return self._carrier.descriptor

    @property
    def peer(self) -> bytes:
        """Where the exchange is, in 16 bytes, for a port that has to be told."""
        return self._carrier.peer

    def close(self) -> None:
        """Let go of what is the session's own."""
        self._carrier.close()

    async def ask(self, endpoint: Endpoint, sequence: int, turns: LogonTurns) -> UdpAnswer:
        """As the protocol says; from a socket of its own."""
        carrier = SocketCarrier(endpoint)
        try:
            request, is_answer = self._logon(sequence)
            async with asyncio.timeout(LOGON_SECONDS), turns.turn():
                answer = await _ask_until_answered(carrier, request, is_answer)
            if isinstance(answer, LoginRejected):
                raise refusal(endpoint, self._login, answer)
            return UdpAnswer(carrier, answer)
        except NotReached as error:
            carrier.close()
            raise ConnectionRefusedError(str(error)) from error
        except BaseException:
            carrier.close()
            raise

    def move(self, answer: UdpAnswer) -> int:
        """As the protocol says."""
        self._carrier.close()
        self._carrier = answer.carrier
        self._go_over(answer.accepted)
        return answer.accepted.sequence_number

    def resume(self, peer: bytes, sequence: int, seconds: float) -> None:
        """Log on anew, after the loop: ``connection`` is a new one, in which ``sequence`` is the next message.

        Args:
            peer: where the exchange is now, in 16 bytes.
            sequence: the number of the first message that has not come.
            seconds: how long to ask.

        Raises:
            TimeoutError: no answer has come.
            UserError: the exchange does not know the session any more.
        """
        self._carrier.peer = peer
        self._connect(sequence, seconds)

    def _connect(self, sequence: int, seconds: float) -> None:
        answer = self._log_on(sequence, seconds)
        if isinstance(answer, LoginRejected):
            raise refusal(self._endpoint, self._login, answer)
        self._go_over(answer)

    def _go_over(self, answer: LoginAccepted) -> None:
        self._session = answer.session
        self.connection = DatagramConnection(
            answer.session_number, answer.token, answer.sequence_number, time.monotonic()
        )

    def _log_on(self, sequence: int, seconds: float) -> LoginAccepted | LoginRejected:
        """Ask until there is an answer."""
        request, is_answer = self._logon(sequence)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._carrier.send(request)
            with suppress(TimeoutError):
                answer = SERVER_DATAGRAMS.decode(self._carrier.receive(is_answer, LOGIN_REPEAT_SECONDS))
                assert isinstance(answer, LoginAccepted | LoginRejected)
                return answer
        raise TimeoutError("no answer")

    def _logon(self, sequence: int) -> tuple[bytes, IsWanted]:
        """A Login Request, and what an answer to it is."""
        number, login = secrets.randbits(64), self._login
        request = LoginRequest(number, login.name, login.password, self._session, sequence).encode()

        def is_answer(data: bytes) -> bool:
            with suppress(WireError):
                answer = SERVER_DATAGRAMS.decode(data)
                return isinstance(answer, LoginAccepted | LoginRejected) and answer.login_number == number
            return False

        return request, is_answer

    def _query_number(self) -> int:
        self.connection.put(UnsequencedData(AccountQuery().encode()).encode())
        deadline = time.monotonic() + self._connect_seconds
        while time.monotonic() < deadline and not self.connection.is_closed:
            self._send_due()
            with suppress(TimeoutError):
                for packet in self._packets(TICK_SECONDS):
                    decoded = SERVER_PACKETS.decode(packet)
                    message = (
                        OUTBOUND_MESSAGES.decode(decoded.message)
                        if isinstance(decoded, SequencedData)
                        else None
                    )
                    if isinstance(message, AccountQueryResponse):
                        self._send_due()  # which acknowledges it
                        return message.next_user_reference_number
        raise TimeoutError("no answer")

    def _packets(self, seconds: float) -> list[bytes]:
        """The packets of the next datagram of this connection. TimeoutError if none comes in time."""
        own = (self.connection.session_number, self.connection.token)
        data = self._carrier.receive(lambda data: number_of(data) == own, seconds)
        return self.connection.receive(data, time.monotonic())

    def _send_due(self) -> None:
        for datagram in self.connection.due(time.monotonic()):
            self._carrier.send(datagram)

    def go_on(self, first: int, next_wanted: int, unacknowledged: list[bytes], *, is_closed: bool) -> None:
        """Take over from the loop.

        Args:
            first: the number of the first packet that the exchange is not known to have.
            next_wanted: the number of the exchange's next packet.
            unacknowledged: that packet, and those behind it that have been sent.
            is_closed: the loop has seen the end of the connection.
        """
        before = self.connection
        self.connection = DatagramConnection(
            before.session_number, before.token, next_wanted, time.monotonic(), first
        )
        self.connection.is_closed = is_closed
        for packet in unacknowledged:
            self.connection.put(packet)

    def begin_logout(self, resting_numbers: list[int]) -> None:
        """As the protocol says."""
        for number in resting_numbers:
            self.connection.put(UnsequencedData(CancelOrder(number, 0).encode()).encode())
        self.has_logged_out()

    def has_logged_out(self) -> bool:
        """As the protocol says: what is unacknowledged goes first, then goodbye, until the exchange has said it too."""
        try:
            with suppress(TimeoutError):
                while not self._has_ended():
                    self._packets(0)
            if not self._has_ended():
                self._send_due()
                self._say_goodbye()
        except BlockingIOError:
            return False
        except (OSError, WireError):
            return True
        return self._has_ended()

    def _has_ended(self) -> bool:
        return self.connection.is_closed or self.connection.has_ended

    def _say_goodbye(self) -> None:
        now = time.monotonic()
        if not self.connection.unacknowledged and now >= self._says_goodbye_at:
            self._says_goodbye_at = now + LOGOUT_REPEAT_SECONDS
            self._carrier.send(self.connection.logout())
