"""The control plane over UDP: the same logons and ends as over TCP, of connections that are an address and a token.

The compiled receiving half hands over each Login Request with the address that it came from. A client repeats its
request until it is answered, so one that is being worked on is ignored, and one that has been answered is answered in
the same words as long as the connection lives; ``login_number`` says which is which. Whoever sends from somebody else's
address gets nothing from it: an answer is shorter than a request, and goes to that address.

At the end, when the agents have ended, everything that a client lacks and End of Session is sent from here, for a short
while and with acknowledgements, by the plain twin of what was compiled: it knows the session's words and its log.
(The datagrams are :mod:`exchange.wire.soupbinudp`.)"""

import asyncio
import logging
import secrets
import socket
import time
from collections import deque
from typing import Any, Final

from exchange.datagrams.port import PortByHand
from exchange.gateway.admission import network_of
from exchange.gateway.control import RELEASE_SECONDS, Connection, ControlPlane
from exchange.gateway.credentials import Users
from exchange.gateway.session_log import position_of
from exchange.gateway.session_memory import IN_NEXT, KEPT, KEPT_END, LOG_END, LOG_MESSAGES, OUT_ADOPTED
from exchange.limits import LOGONS_MAX
from exchange.logs import log_event
from exchange.native import load_acquire, load_int64, view_bytes
from exchange.native.datagram_headers import SOCKET_ADDRESS_BYTES, address_and_port
from exchange.transport.udp import UdpTransport
from exchange.transport.udp_receiving import LOGIN_STRIDE, ORIGIN_BYTES
from exchange.wire.fields import WireError
from exchange.wire.layout import Message
from exchange.wire.soupbintcp import SERVER_PACKETS, LoginRejectReason, PacketSplitter
from exchange.wire.soupbinudp import (
    CLIENT_DATAGRAMS,
    ConnectionClosed,
    EndOfSession,
    LoginAccepted,
    LoginRejected,
    LoginRequest,
    RetransmissionRequest,
    SequencedData,
    number_of,
)
from exchange.wire.soupbinudp_connection import DatagramConnection

REFUSALS_KEPT: Final = 1024
"""Logins that were refused, so that one that comes again is no further guess."""

END_SECONDS: Final = 0.2
"""How long clients are waited for that lack something at the end."""

HEARD_MAX: Final = 1024
"""Datagrams that are looked at in a turn of the end."""

END_REPEATS: Final = 3
"""Nobody acknowledges the end, so it is said more than once."""


class _Connection:
    """A connection as the control plane sees it: how to tell the client that it has ended."""

    def __init__(
        self, control: "UdpControlPlane", session_id: int, peer: bytes, accepted: LoginAccepted
    ) -> None:
        self._control = control
        self.session_id = session_id
        self.peer = peer
        self.accepted = accepted

    def close(self) -> None:
        """Say Connection Closed; who does not hear it learns from the silence."""
        self.say(ConnectionClosed)

    def say(self, kind: type[ConnectionClosed] | type[EndOfSession]) -> None:
        """Send a datagram without packets."""
        session = self._control.transport.memory.address(self.session_id)
        following = load_acquire(session + LOG_MESSAGES) + 1
        wanted = load_acquire(session + IN_NEXT)
        datagram = kind(self.session_id, self.accepted.token, following, wanted, 0)
        for _ in range(END_REPEATS):
            self._control.answer(self.peer, datagram)


class UdpControlPlane(ControlPlane):
    """Sessions over UDP: who is connected, since when, and how it ended.

    Args:
        transport: whose agents serve the connections.
        users: who may log on; a user's number is the session's.
        session_name: up to ten characters that name this run of the exchange.
    """

    def __init__(self, transport: UdpTransport, users: Users, session_name: str) -> None:
        super().__init__(transport, users, session_name)
        self._udp: Final = transport
        self._by_hand: list[PortByHand] = []
        self._peers: dict[int, _Connection] = {}
        self._working_on: set[tuple[bytes, int]] = set()
        self._answered: dict[tuple[bytes, int], LoginAccepted | LoginRejected] = {}
        self._refused: deque[tuple[bytes, int]] = deque()

    async def accept(self, listener: socket.socket | None) -> None:
        """Take Login Requests until cancelled; they come without a listener."""
        loop = asyncio.get_running_loop()
        while True:
            data = await loop.sock_recv(self._udp.logins, LOGIN_STRIDE)
            origin, peer = data[:ORIGIN_BYTES], data[ORIGIN_BYTES - SOCKET_ADDRESS_BYTES : ORIGIN_BYTES]
            try:
                request = LoginRequest.decode(data[ORIGIN_BYTES:])
            except WireError:
                continue
            lane = int.from_bytes(origin[:-SOCKET_ADDRESS_BYTES], "little")
            key = (peer, request.login_number)
            if self.is_closed or key in self._working_on or self._repeat(key) or not self._may_log_on(peer):
                continue
            self._working_on.add(key)
            self._places.add(_network(peer), loop.create_task(self._welcome_peer(peer, lane, request)))

    def _may_log_on(self, peer: bytes) -> bool:
        """Whether a login is to be looked at; it is counted if so."""
        network = _network(peer)
        if not self._doorkeeper.may_connect(network):
            reason = "too many logins in a second"
        elif self._places.taken_by(network) >= self.limits.logons_per_address:
            reason = "too many logins at a time"
        elif self._places.taken < LOGONS_MAX:
            return True
        elif (loser := self._places.put_out(network)) is not None:
            self.refusals.note("closed", loser, "gave its place to another address")
            return True
        else:
            reason = "too many logins of all addresses"
        self.refusals.note("refused", network, reason)
        return False

    def answer(self, peer: bytes, datagram: Message) -> None:
        """Send a datagram."""
        self.send(peer, datagram.encode())

    def send(self, peer: bytes, data: bytes) -> None:
        """Have a datagram's bytes sent, or send them when the agents have ended; what finds no room is lost."""
        if self._by_hand:
            self._by_hand[0].send(peer, data)
        else:
            self._udp.mailbox.put(peer, data)

    async def end_sessions(self) -> None:
        """Send everybody what is lacking, and End of Session. The agents must have ended."""
        self._by_hand = [PortByHand(queue) for queue in self._udp.port.queues]
        deadline = time.monotonic() + END_SECONDS
        tails = {session_id: self._tail(session_id) for session_id in self._peers}
        while any(tail.unacknowledged for tail in tails.values()) and time.monotonic() < deadline:
            for session_id, tail in tails.items():
                for data in tail.due(time.monotonic()):
                    self.send(self._peers[session_id].peer, data)
            await asyncio.sleep(0.001)
            for by_hand in self._by_hand:
                self._hear(by_hand, tails)
        for connection in self._peers.values():
            connection.say(EndOfSession)
        self._peers.clear()
        self._sockets.clear()

    def _tail(self, session_id: int) -> DatagramConnection:
        """The exchange's end of a connection, in plain Python, with all that the client is not known to have."""
        sessions, session = self.transport.memory.sessions, self.transport.memory.address(session_id)
        kept, end = load_int64(session + KEPT_END), load_int64(session + LOG_END)
        tail = DatagramConnection(
            session_id,
            self._peers[session_id].accepted.token,
            load_int64(session + IN_NEXT),
            time.monotonic(),
            load_int64(session + KEPT),
        )
        log_bytes = bytes(view_bytes(session + sessions.log_offset + kept, end - kept))
        for packet in PacketSplitter(SERVER_PACKETS).feed(log_bytes):
            tail.put(packet)
        return tail

    def _hear(self, by_hand: PortByHand, tails: dict[int, DatagramConnection]) -> None:
        """Look at acknowledgements; what clients still ask for is not taken, and not acknowledged either."""
        for _ in range(HEARD_MAX):
            received = by_hand.receive()
            if received is None:
                return
            session_id, _token = number_of(received[1]) or (-1, 0)
            try:
                datagram: Any = CLIENT_DATAGRAMS.decode(received[1])
            except WireError:
                continue
            if session_id in tails and isinstance(datagram, SequencedData | RetransmissionRequest):
                numbers = (session_id, datagram.token, datagram.sequence_number, datagram.next_wanted, 0)
                tails[session_id].receive(SequencedData(*numbers, b"").encode(), time.monotonic())

    async def stop(self) -> None:
        """Give up the logins that are worked on. The connections stay, for what has still to be said."""
        await self._stop_logons()

    def _repeat(self, key: tuple[bytes, int]) -> bool:
        """Give the answer that a request has had, if that is remembered; whether it is."""
        answer = self._answered.get(key)
        if answer is not None:
            self.answer(key[0], answer)
        return answer is not None

    async def _welcome_peer(self, peer: bytes, lane: int, request: LoginRequest) -> None:
        try:
            async with asyncio.timeout(self.limits.logon_timeout_ns / 1e9):
                answer = await self._log_on_peer(peer, lane, request)
        except TimeoutError:
            self.refusals.note("closed", _network(peer), "no login in time", level=logging.INFO)
            return
        finally:
            self._working_on.discard((peer, request.login_number))
        if isinstance(answer, LoginRejected):
            self._remember_refusal((peer, request.login_number), answer)
        self.answer(peer, answer)

    def _remember_refusal(self, key: tuple[bytes, int], answer: LoginRejected) -> None:
        self._answered[key] = answer
        self._refused.append(key)
        if len(self._refused) > REFUSALS_KEPT:
            oldest = self._refused.popleft()
            if isinstance(self._answered.get(oldest), LoginRejected):
                del self._answered[oldest]

    async def _log_on_peer(
        self, peer: bytes, lane: int, request: LoginRequest
    ) -> LoginAccepted | LoginRejected:
        number, name = request.login_number, "{}:{}".format(*address_and_port(peer))
        wanted = request.requested_sequence_number
        session_id = await self._admit(
            address_and_port(peer)[0], request.username, request.password, request.requested_session, wanted
        )
        if isinstance(session_id, LoginRejectReason):
            return LoginRejected(number, session_id)
        async with self._locks.setdefault(session_id, asyncio.Lock()):
            if not await self._free(session_id):
                return LoginRejected(number, LoginRejectReason.SESSION_NOT_AVAILABLE)
            sessions, session = self.transport.memory.sessions, self.transport.memory.address(session_id)
            start, sequence = position_of(sessions, session, wanted)
            token = secrets.randbelow((1 << 64) - 1) + 1
            accepted = LoginAccepted(number, self.session_name, sequence, session_id, token)
            connection = _Connection(self, session_id, peer, accepted)
            connected = self._udp.connect_peer(session_id, peer, token, start, sequence, lane)
            self._sockets[session_id] = self._peers[session_id] = connection
            self._answered[peer, number] = accepted
            self.connections[session_id] = Connection(name, time.time_ns())
            await self._adopted(session + OUT_ADOPTED, connected)
        log_event("login", user=request.username, session=session_id, peer=name, sequence=sequence)
        return accepted

    async def _free(self, session_id: int) -> bool:
        """As of all; and what a session has to be cancelled since a restart is cancelled first."""
        is_free, deadline = await super()._free(session_id), time.monotonic() + RELEASE_SECONDS
        while is_free and not self._udp.released(session_id) and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        return is_free and self._udp.released(session_id)

    async def _adopted(self, address: int, connection: int) -> None:
        """Wait until the agents know a connection, the sending half last, so that the first datagram behind the answer
        is neither lost nor left without one."""
        deadline = time.monotonic() + RELEASE_SECONDS
        while load_acquire(address) != connection and time.monotonic() < deadline:
            await asyncio.sleep(0.0002)

    def _close(self, session_id: int) -> None:
        super()._close(session_id)
        connection = self._peers.pop(session_id)
        self._answered.pop((connection.peer, connection.accepted.login_number), None)


def _network(peer: bytes) -> str:
    return network_of(address_and_port(peer)[0])
