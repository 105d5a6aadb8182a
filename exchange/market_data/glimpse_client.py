"""Getting a snapshot from a GLIMPSE server without ceasing to listen to the feed.

:class:`SnapshotSeeker` is a connection that is looked after in small pieces: whoever has a loop over sockets gives it a
turn when something has come, or a moment has passed. It logs on, takes the messages of one spin, and logs out. A line
that breaks, and a server that has no snapshot yet, are tried again after pauses that double; after
:data:`ATTEMPTS_MAX` of them it gives up. Of several servers, as of an exchange and its backup, one is tried after the
other between two pauses.

Rules: one thread; a turn takes at most :data:`RECEIVE_BYTES` and never waits. What a spin may hold is bounded
(:data:`SPIN_MESSAGES_MAX`), and whether its messages are right is for the book to say. Sources: NASDAQ, "GLIMPSE 5.0";
SoupBinTCP 3.00.
"""

import errno
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import numpy as np

from exchange import limits
from exchange.errors import UserError
from exchange.native import address_of
from exchange.wire.fields import WireError
from exchange.wire.glimpse import SNAPSHOT_TYPES, EndOfSnapshot, Snapshot
from exchange.wire.layout import LENGTH_BYTES
from exchange.wire.soupbintcp import (
    HEADER_BYTES,
    HEARTBEAT_INTERVAL_SECONDS,
    SERVER_PACKETS,
    SILENCE_SECONDS_MAX,
    ClientHeartbeat,
    LoginRejected,
    LoginRejectReason,
    LoginRequest,
    LogoutRequest,
    SequencedData,
)
from exchange.wire.soupbintcp_kernel import PLACE_DTYPE, PacketRuleTable, Trouble, find_packets

RECEIVE_BYTES: Final = 1 << 16
PLACES_MAX: Final = 2_048
SPIN_MESSAGES_MAX: Final = limits.BOOK_CAPACITY_ORDERS_MAX + limits.FEED_STORE_MESSAGES_MAX
ANSWER_SECONDS: Final = 5
"""How long a server may say nothing if there is another one to ask; it has a heartbeat each second."""
ATTEMPTS_MAX: Final = 6
PAUSE_NS_FIRST: Final = 100_000_000
"""From the first attempt to the second; six attempts take three seconds and what the server lets pass itself."""

_SECOND_NS: Final = 1_000_000_000
_DATA: Final = SequencedData.layout.type_byte
_END: Final = EndOfSnapshot.layout.type_byte
_ALLOWED: Final = frozenset(SNAPSHOT_TYPES.encode("ascii"))


class GlimpseLogin(NamedTuple):
    """Where a GLIMPSE server is, and as who to log on there."""

    host: str
    port: int
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"GlimpseLogin({self.host!r}, {self.port}, {self.username!r}, password not shown)"


class _Line:
    """One connection: what has come of one spin. Any WireError or OSError of it means that it is of no use."""

    def __init__(self, login: GlimpseLogin, session: str, silence_seconds: int, now_ns: int) -> None:
        self._silence_ns: Final = silence_seconds * _SECOND_NS
        family = socket.AF_INET6 if ":" in login.host else socket.AF_INET
        self.socket: Final = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.heard_ns = self._said_ns = now_ns
        self._greeting = LoginRequest(login.username, login.password, session, 1).encode()
        self._rules: Final = PacketRuleTable(SERVER_PACKETS)
        self._places: Final = np.zeros(PLACES_MAX, PLACE_DTYPE)
        self._pending = b""
        self._messages: list[bytes] = []
        problem = self.socket.connect_ex((login.host, login.port))
        if problem not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise OSError(problem, os.strerror(problem))

    def turn(self, now_ns: int) -> Snapshot | LoginRejected | None:
        """Go on as far as it goes now; None while there is no end of it."""
        if self._greeting:
            if not self._is_connected():
                self._check_silence(now_ns)
                return None
            self.socket.sendall(self._greeting)  # a fresh socket has room
            self._greeting = b""
        elif now_ns - self._said_ns >= HEARTBEAT_INTERVAL_SECONDS * _SECOND_NS:
            self._said_ns = now_ns
            self.socket.send(ClientHeartbeat().encode())
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            self._check_silence(now_ns)
            return None
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "the server closed the connection")
        self.heard_ns = now_ns
        return self._take(data)

    def close(self) -> None:
        """Log out and hang up."""
        with suppress(OSError):
            self.socket.send(LogoutRequest().encode())
        self.socket.close()

    def _is_connected(self) -> bool:
        problem = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, os.strerror(problem))
        try:
            self.socket.getpeername()
        except OSError:
            return False
        return True

    def _check_silence(self, now_ns: int) -> None:
        if now_ns - self.heard_ns > self._silence_ns:
            raise TimeoutError(errno.ETIMEDOUT, "the server says nothing")

    def _take(self, data: bytes) -> Snapshot | LoginRejected | None:
        received = self._pending + data
        block, at, trouble = np.frombuffer(received, np.uint8), 0, 0
        while at < len(received) and not trouble:
            count, used, trouble = find_packets(
                address_of(block) + at,
                len(received) - at,
                self._rules.state,
                address_of(self._places),
                PLACES_MAX,
            )
            for offset, length in self._places[:count].tolist():
                found = self._packet(received[at + offset : at + offset + length])
                if found is not None:
                    return found
            at += used
            if count < PLACES_MAX:
                break
        if trouble:
            raise WireError(f"SoupBinTCP server: {Trouble(trouble).name.lower().replace('_', ' ')}")
        self._pending = received[at:]
        return None

    def _packet(self, packet: bytes) -> Snapshot | LoginRejected | None:
        """Take a packet; what the line ends with, if it is that."""
        if packet[LENGTH_BYTES] != _DATA:
            answer = SERVER_PACKETS.decode(packet)
            return answer if isinstance(answer, LoginRejected) else None
        letter = packet[HEADER_BYTES] if len(packet) > HEADER_BYTES else 0
        if letter == _END:
            end = EndOfSnapshot.decode(packet[HEADER_BYTES:])
            return Snapshot(tuple(self._messages), end.sequence_number)
        if letter not in _ALLOWED or len(self._messages) >= SPIN_MESSAGES_MAX:
            raise WireError(f"GLIMPSE 5.0: message_type is {chr(letter)!r}, or the messages are too many")
        self._messages.append(packet[HEADER_BYTES:])
        return None


class SnapshotSeeker:
    """Seeks a snapshot until it has one.

    Args:
        logins: where, and as who; hosts are numeric addresses. The first is tried first.
        session: of which session.
    """

    def __init__(self, logins: Sequence[GlimpseLogin], session: str) -> None:
        self._logins: Final = tuple(logins)
        self._silence_seconds: Final = SILENCE_SECONDS_MAX if len(self._logins) == 1 else ANSWER_SECONDS
        self._session: Final = session
        self._line: _Line | None = None
        self._attempts = 0
        self._next_ns = 0

    @property
    def login(self) -> GlimpseLogin:
        """The server that is asked at the moment, or has given its snapshot."""
        return self._logins[self._attempts % len(self._logins)]

    @property
    def socket(self) -> socket.socket | None:
        """The connection, if there is one at the moment; for select."""
        return self._line.socket if self._line is not None else None

    def turn(self, now_ns: int) -> Snapshot | None:
        """Go on as far as it goes now. The snapshot, once it is there.

        Raises:
            UserError: the server does not let us in, or has no snapshot, or cannot be reached, for too long.
        """
        why = ""
        try:
            if self._line is None:
                if now_ns < self._next_ns:
                    return None
                self._line = _Line(self.login, self._session, self._silence_seconds, now_ns)
            found = self._line.turn(now_ns)
            if isinstance(found, Snapshot):
                self.close()
                return found
            if found is None:
                return None
            if found.reject_reason_code == LoginRejectReason.NOT_AUTHORIZED:
                raise self._failure("wrong user name or password")
            why = f"it has no snapshot of session {self._session}"
        except OSError as error:
            why = error.strerror or str(error)
        except WireError as error:
            why = str(error)
        self._try_again(why, now_ns)
        return None

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _try_again(self, why: str, now_ns: int) -> None:
        self.close()
        failure, before = self._failure(why), self._attempts // len(self._logins)
        self._attempts += 1
        rounds = self._attempts // len(self._logins)
        if rounds >= ATTEMPTS_MAX:
            raise failure
        self._next_ns = now_ns + (PAUSE_NS_FIRST << before if rounds > before else 0)

    def _failure(self, why: str) -> UserError:
        self.close()
        return UserError(f"no snapshot from {self.login.host}, port {self.login.port}: {why}")
