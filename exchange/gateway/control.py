"""The control plane: what happens once for a connection. Accept, log on, hand over; watch; close.

This is ordinary asyncio Python on the main thread. It reads exactly the Login Request of a new connection, not one byte
more, so that what the client sends behind it waits in the kernel for the compiled agents. If name, password and
session are right, it answers Login Accepted, says where in the session's log to begin, and hands the descriptor over
(:meth:`exchange.transport.network.NetworkTransport.connect`). From then on it does not touch the socket, until both
agents have let it go.

A user has one session, and a session one connection. A second log on with the right password takes the place of the
first: the usual reason for it is a line that died without a word, and its owner must not wait for a time-out.

Reject codes (SoupBinTCP 3.00, Login Rejected): ``A`` for a wrong name or password, or a name that has failed too often
of late; ``S`` for a session that is not the one of this run of the exchange. A connection that sends something else
than a Login Request, or nothing, is closed. How much of all this one address may ask for is limited
(:mod:`exchange.gateway.admission`), and what is refused has a line in the log (:mod:`exchange.gateway.refusals`)."""

import asyncio
import logging
import socket
import time
from contextlib import suppress
from typing import Any, Final, NamedTuple

from exchange.gateway.admission import AdmissionLimits, Doorkeeper, Places, network_of
from exchange.gateway.credentials import Users
from exchange.gateway.logon import accept_clients, read_login, reject
from exchange.gateway.password_checks import PasswordChecks, VoidCheck
from exchange.gateway.refusals import RefusalLog
from exchange.gateway.session_log import position_of
from exchange.gateway.session_memory import (
    CONNECTION,
    HEARTBEAT_LEFT,
    IN_REASON,
    IN_RELEASED,
    LOG_END,
    LOG_MESSAGES,
    OUT_REASON,
    OUT_RELEASED,
    SENT,
    CloseReason,
)
from exchange.limits import LOGONS_MAX
from exchange.logs import log_event
from exchange.native import load_acquire, load_int64, view_bytes
from exchange.transport.network import NetworkTransport
from exchange.wire.soupbintcp import EndOfSession, LoginAccepted, LoginRejectReason, LoginRequest

WATCH_SECONDS: Final = 0.01
"""How often connections that have ended are looked for. Nothing waits for it but their clients."""

RELEASE_SECONDS: Final = 0.5
"""The agents let a connection go within microseconds; after so long something is wrong with them."""


class Connection(NamedTuple):
    """A connection that has logged on: from which address, and since when, in nanoseconds since 1970."""

    peer: str
    since_ns: int


class ControlPlane:
    """Sessions as people see them: who is connected, since when, and how it ended.

    Args:
        transport: whose agents serve the connections.
        users: who may log on; a user's number is the session's.
        session_name: up to ten characters that name this run of the exchange.

    Attributes:
        connections: of each session that is connected, by its number.
        close_reasons: why the last connection ended of each session that had one.
        limits: what a client may ask of the control plane, as it holds now.
        logons_rejected: how many logons were.
        is_closed: whether whoever comes is sent away without an answer, to look for another address.
        refusals: what was refused, and closed before it had logged on.
    """

    def __init__(self, transport: NetworkTransport, users: Users, session_name: str) -> None:
        self.transport: Final = transport
        self.users: Final = users
        self.session_name: Final = session_name
        self.connections: Final[dict[int, Connection]] = {}
        self.close_reasons: Final[dict[int, str]] = {}
        self.logons_rejected = 0
        self.is_closed = False
        self._sockets: dict[int, Any] = {}  # whatever can be closed: over UDP it is no socket
        self._locks: dict[int, asyncio.Lock] = {}
        self.limits: Final = AdmissionLimits.of(transport.config)
        self.refusals: Final = RefusalLog()
        self._doorkeeper: Final = Doorkeeper(self.limits)
        self._checks: Final = PasswordChecks(users)
        self._places: Final = Places(LOGONS_MAX)

    @property
    def connected(self) -> int:
        """How many sessions are connected."""
        return len(self._sockets)

    async def accept(self, listener: socket.socket | None) -> None:
        """Accept connections until cancelled; ``listener`` is non-blocking."""
        assert listener is not None
        await accept_clients(listener, self._places, self._doorkeeper, self.refusals, self._welcome)

    def reap(self) -> None:
        """Close connections that both agents have let go; ask the second agent where only one has."""
        if not self._sockets:
            return
        memory = self.transport.memory
        connection, inbound = memory.column(CONNECTION), memory.column(IN_RELEASED)
        outbound = memory.column(OUT_RELEASED)
        for session_id in ((inbound == connection) | (outbound == connection)).nonzero()[0].tolist():
            if session_id in self._sockets:
                if inbound[session_id] == outbound[session_id]:
                    self._close(session_id)
                else:
                    self.transport.disconnect(session_id)

    def hand_over(self, session_id: int, connection: socket.socket, peer: str, wanted: int) -> int:
        """Tell a client that it is in, and give its connection to the agents.

        Args:
            session_id: whose it is; the session must have no other.
            connection: non-blocking, and nothing has been sent on it.
            peer: where it comes from.
            wanted: the number of the message that the client wants next.

        Returns:
            The number of the message that it gets next.

        Raises:
            OSError: the connection has ended.
        """
        session = self.transport.memory.address(session_id)
        start, sequence = position_of(self.transport.memory.sessions, session, wanted)
        accepted = LoginAccepted(session=self.session_name, sequence_number=sequence)
        connection.send(accepted.encode())  # the first bytes of a fresh socket: there is room
        self.transport.connect(session_id, connection.fileno(), start)
        self._sockets[session_id] = connection
        self.connections[session_id] = Connection(peer, time.time_ns())
        return sequence

    def disconnect(self, session_id: int) -> None:
        """Have the agents let a session's connection go; it is closed when they have."""
        self.transport.disconnect(session_id)

    async def stop(self) -> None:
        """Give up the connections that are logging on, and have the agents let go of all others."""
        await self._stop_logons()
        for session_id in self._sockets:
            self.transport.disconnect(session_id)
        deadline = time.monotonic() + RELEASE_SECONDS
        while time.monotonic() < deadline and not all(map(self.transport.released, self._sockets)):
            await asyncio.sleep(0.001)

    async def _stop_logons(self) -> None:
        tasks = self._places.tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._checks.close()
        self.refusals.flush()

    async def end_sessions(self) -> None:
        """Send End of Session to everybody who has been sent all else, and close. The agents must have let go."""
        for session_id, connection in tuple(self._sockets.items()):
            session = self.transport.memory.address(session_id)
            sent, end = load_int64(session + SENT), load_int64(session + LOG_END)
            with suppress(OSError):
                if sent < end:
                    start = session + self.transport.memory.sessions.log_offset + sent
                    sent += connection.send(view_bytes(start, end - sent))
                if sent == end and load_int64(session + HEARTBEAT_LEFT) == 0:
                    connection.send(EndOfSession().encode())
            self._close(session_id)

    def abandon_sessions(self) -> None:
        """Close all connections without a word: this exchange is not the one any more. The agents must have let go."""
        for session_id in tuple(self._sockets):
            self._close(session_id)

    async def _welcome(self, connection: socket.socket, peer: str) -> None:
        """Log a connection on, or close it."""
        taken_over, reason = False, ""
        try:
            async with asyncio.timeout(self.limits.logon_timeout_ns / 1e9):
                request = await read_login(connection)
                if request is None:
                    reason = "no login"
                else:
                    taken_over = await self._log_on(connection, peer, request)
        except TimeoutError:
            reason = "no login in time"
        except OSError as error:
            reason = error.strerror or "the line broke"
        finally:
            if not taken_over:
                connection.close()
        if reason:
            self.refusals.note("closed", peer, reason, level=logging.INFO)

    async def _admit(
        self, peer: str, username: str, password: str, session: str, sequence: int
    ) -> int | LoginRejectReason:
        """The session that a login from an address leads to, or why it leads to none."""
        network, doorkeeper = network_of(peer), self._doorkeeper
        try:
            session_id = await self._checks.authenticate(
                network,
                doorkeeper.is_known(network),
                username,
                password,
                is_void=lambda: doorkeeper.must_wait(network, username),
            )
        except VoidCheck:
            self._note_rejected(peer, username, sequence, "failed too often")
            return LoginRejectReason.NOT_AUTHORIZED
        if session_id is None:
            doorkeeper.failed(network, username)
            self._note_rejected(peer, username, sequence, "not authorized")
            return LoginRejectReason.NOT_AUTHORIZED
        doorkeeper.succeeded(network, username)
        if session not in ("", self.session_name):
            self._note_rejected(peer, username, sequence, "other session", session=session_id)
            return LoginRejectReason.SESSION_NOT_AVAILABLE
        return session_id

    async def _log_on(self, connection: socket.socket, peer: str, request: LoginRequest) -> bool:
        if self.is_closed:
            return False
        session_id = await self._admit(
            peer,
            request.username,
            request.password,
            request.requested_session,
            request.requested_sequence_number,
        )
        if isinstance(session_id, LoginRejectReason):
            return await reject(connection, session_id)
        async with self._locks.setdefault(session_id, asyncio.Lock()):
            if not await self._free(session_id):
                wanted = request.requested_sequence_number
                self._note_rejected(peer, request.username, wanted, "session in use", session=session_id)
                return await reject(connection, LoginRejectReason.SESSION_NOT_AVAILABLE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sequence = self.hand_over(session_id, connection, peer, request.requested_sequence_number)
        log_event("login", user=request.username, session=session_id, peer=peer, sequence=sequence)
        return True

    async def _free(self, session_id: int) -> bool:
        """End the connection that a session has, if any; whether it has none now."""
        deadline = time.monotonic() + RELEASE_SECONDS
        while session_id in self._sockets and time.monotonic() < deadline:
            self.transport.disconnect(session_id)
            await asyncio.sleep(0.001)
            self.reap()
        return session_id not in self._sockets

    def _close(self, session_id: int) -> None:
        session = self.transport.memory.address(session_id)
        self._sockets.pop(session_id).close()
        reasons = [CloseReason(load_int64(session + word)) for word in (IN_REASON, OUT_REASON)]
        reason = next(
            (one for one in reasons if one not in (CloseReason.NONE, CloseReason.ASKED)), reasons[0]
        )
        told = reason.name.lower().replace("_", " ")
        del self.connections[session_id]
        self.close_reasons[session_id] = told
        log_event(
            "closed",
            user=self.users.users[session_id].name,
            session=session_id,
            sequence=load_acquire(session + LOG_MESSAGES),
            reason=told,
        )

    def _note_rejected(self, peer: str, username: str, sequence: int, reason: str, **more: int) -> None:
        self.logons_rejected += 1
        self.refusals.note("login rejected", peer, reason, user=username, sequence=sequence, **more)
