"""A connection of the pair's control plane: an ordinary socket, and one thread that uses it.

Both sides have to show that they know the pair's secret before anything else is said. Whoever connects says
:class:`~exchange.replication.control_wire.Hello` with a number that nobody can guess, gets one back, and shows an HMAC
over both, the names and the purpose; then the other side shows one that cannot be made of that. Nobody learns the
secret from it, and nobody can use again what was said before (RFC 2104; ISO/IEC 9798-4, mutual, three passes).

The connection is not encrypted. Who can change what passes between the two machines can change it here too; frames are
checked for damage and not for malice. Between machines it belongs on a network of their own, or into a tunnel.

Rules: one thread for each line; every wait has an end. What goes wrong is :class:`LineTrouble`, in words, and the line
is of no use any more."""

import hashlib
import hmac
import os
import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from exchange.errors import UserError
from exchange.logs import log_event
from exchange.replication.control_wire import (
    NONCE_BYTES,
    PROTOCOL_VERSION,
    Challenge,
    Hello,
    Message,
    MessageSplitter,
    Proof,
    Received,
    Refused,
    WireTrouble,
    encode_message,
)
from exchange.secret_files import SecretPlace, make_secret, read_secret

SECRET_VARIABLE: Final = "EXCHANGE_REPLICATION_SECRET"
_PLACE: Final = SecretPlace(
    "secret",
    "replication.secret_file",
    SECRET_VARIABLE,
    "'exchange serve' of the primary makes it: copy it here",
)
SECRET_SECONDS: Final = 10.0
"""A primary makes it in its first seconds."""
CONNECT_SECONDS: Final = 1.0
SHAKE_HANDS_SECONDS: Final = 2.0
SEND_SECONDS: Final = 5.0
_RECEIVE_BYTES: Final = 1 << 18


class LineTrouble(Exception):
    """The connection is of no use any more, and why."""


class HungUp(LineTrouble):
    """The other side has closed it."""


class Denied(LineTrouble):
    """The other side has said no, and why; for the moment, or for good."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"refused: {refused.reason}")
        self.reason: Final = refused.reason
        self.is_final: Final = refused.is_final

    def raise_if_final(self) -> None:
        """Raise UserError if asking again is of no use."""
        if self.is_final:
            raise UserError(self.reason) from self


def make_pair_secret(path: Path) -> bool:
    """Make the file of the pair's secret if there is none. Raises UserError if it cannot be written."""
    return make_secret(path, _PLACE)


def read_pair_secret(path: Path) -> str:
    """What the two of a pair share. Raises UserError: there is none, or others can read it."""
    return read_secret(path, _PLACE)


def await_pair_secret(path: Path) -> str:
    """The same, for a backup, which may have been started together with the primary that makes it: wait a while."""
    if SECRET_VARIABLE not in os.environ and not _has_content(path):
        log_event("waiting for the pair's secret", file=str(path), seconds=SECRET_SECONDS)
        deadline = time.monotonic() + SECRET_SECONDS
        while not _has_content(path) and time.monotonic() < deadline:
            time.sleep(0.05)
    return read_pair_secret(path)


def _has_content(path: Path) -> bool:
    """Whether there is a file with something in it. A secret is written at once: who sees some of it sees all."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


class ControlLine:
    """A connection to the other one of a pair. Use it in a ``with`` statement, or close it.

    Args:
        connection: connected.

    Attributes:
        node: the other side's name, once hands were shaken.
        purpose: what whoever connected wants.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.node = ""
        self.purpose = ""
        self._socket: Final = connection
        self._splitter: Final = MessageSplitter()
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def connect(cls, address: tuple[str, int], node: str, purpose: str, secret: str) -> Self:
        """A line to whoever listens there, with hands shaken.

        Raises:
            LineTrouble: nobody is there, or it does not know the secret.
        """
        try:
            connection = socket.create_connection(address, CONNECT_SECONDS)
        except OSError as error:
            raise LineTrouble(f"{address[0]}:{address[1]}: {error.strerror or error}") from error
        line = cls(connection)
        try:
            line._introduce(node, purpose, secret)
        except BaseException:
            line.close()
            raise
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it. May be called again, and by any thread, which ends what the line's own is waiting for."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _introduce(self, node: str, purpose: str, secret: str) -> None:
        hello = Hello(PROTOCOL_VERSION, node, purpose, secrets.token_hex(NONCE_BYTES))
        self.send(hello)
        challenge = self.expect(Challenge, SHAKE_HANDS_SECONDS)
        self._check_version(challenge.version)
        self.send(Proof(_proof(secret, "who connects", hello, challenge)))
        shown = self.expect(Proof, SHAKE_HANDS_SECONDS).proof
        if not hmac.compare_digest(shown, _proof(secret, "who was connected to", hello, challenge)):
            raise LineTrouble(f"{challenge.node!r} does not know the pair's secret")
        self.node, self.purpose = challenge.node, purpose
        self._splitter.trust()

    def welcome(self, node: str, secret: str) -> None:
        """Have whoever has connected show that it knows the secret.

        Raises:
            LineTrouble: it does not.
        """
        hello = self.expect(Hello, SHAKE_HANDS_SECONDS)
        self._check_version(hello.version)
        challenge = Challenge(PROTOCOL_VERSION, node, secrets.token_hex(NONCE_BYTES))
        self.send(challenge)
        shown = self.expect(Proof, SHAKE_HANDS_SECONDS).proof
        if not hmac.compare_digest(shown, _proof(secret, "who connects", hello, challenge)):
            self.refuse("you do not know the pair's secret (replication.secret_file)")
            raise LineTrouble(f"{hello.node!r} does not know the pair's secret")
        self.send(Proof(_proof(secret, "who was connected to", hello, challenge)))
        self.node, self.purpose = hello.node, hello.purpose
        self._splitter.trust()

    def _check_version(self, version: int) -> None:
        if version != PROTOCOL_VERSION:
            reason = f"version {version} of the pair's protocol, and this exchange speaks {PROTOCOL_VERSION}"
            self.refuse(reason)
            raise LineTrouble(reason)

    def refuse(self, reason: str, *, is_final: bool = False) -> None:
        """Say no, if that can still be said; for good, if asking again is of no use."""
        with suppress(LineTrouble):
            self.send(Refused(reason, is_final))

    def send(self, message: Message) -> None:
        """Say something. Raises LineTrouble if it cannot be said within :data:`SEND_SECONDS`."""
        self.send_bytes((encode_message(message),))

    def send_bytes(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Say what was encoded, one piece after the other."""
        try:
            self._socket.settimeout(SEND_SECONDS)
            for piece in pieces:
                self._socket.sendall(piece)
        except OSError as error:
            raise HungUp(error.strerror or str(error)) from error

    def receive(self, timeout_s: float) -> Received | None:
        """The next thing that the other side says; None if it says nothing in so long.

        Raises:
            LineTrouble: it has hung up, or says what it cannot say.
        """
        give_up_at = time.monotonic() + timeout_s
        while True:
            try:
                found = self._splitter.take()
            except WireTrouble as trouble:
                raise LineTrouble(
                    f"{self.node or 'the other side'} is not understood: {trouble}"
                ) from trouble
            if found is not None:
                return found
            if not self._read(max(give_up_at - time.monotonic(), 0.0)):
                return None

    def _read(self, timeout_s: float) -> bool:
        try:
            self._socket.settimeout(timeout_s)  # 0: it does not wait at all
            content = self._socket.recv(_RECEIVE_BYTES)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError as error:
            raise HungUp(error.strerror or str(error)) from error
        if not content:
            raise HungUp("the other side has closed the connection")
        self._splitter.feed(content)
        return True

    def expect[T: Message](self, kind: type[T], timeout_s: float) -> T:
        """The next thing that is said, which has to be of a kind.

        Raises:
            LineTrouble: it is not, or nothing is said.
        """
        found = self.receive(timeout_s)
        if isinstance(found, kind):
            return found
        if isinstance(found, Refused):
            raise Denied(found)
        told = "nothing" if found is None else type(found).__name__
        raise LineTrouble(f"{self.node or 'the other side'} said {told}, and {kind.__name__} was expected")


def parse_address(text: str, named: str) -> tuple[str, int]:
    """HOST:PORT taken apart. Raises UserError, which names it so, if it is not that."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UserError(f"{named} {text}: must be HOST:PORT, such as 10.0.0.1:9020")
    return host.strip("[]"), int(port)


def _proof(secret: str, whose: str, hello: Hello, challenge: Challenge) -> str:
    parts = (whose, hello.node, hello.purpose, hello.nonce, challenge.node, challenge.nonce)
    transcript = b"\0".join(part.encode() for part in parts)
    return hmac.digest(secret.encode(), b"exchange pair 1\0" + transcript, hashlib.sha256).hex()
