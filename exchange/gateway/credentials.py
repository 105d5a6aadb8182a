"""Who may log on: a text file with a line for each user, and passwords that cannot be read from it.

::

    alice:scrypt:16384:8:1:kO3b…:x9Yt…

are the name, the method, its cost (N, r, p), a random salt and the hash, both in base64. Behind that may stand
``cancel`` (the user's orders are to be cancelled whenever its connection ends) and ``ouch42`` (the user speaks OUCH
4.2 and not 5.0). Empty lines and lines that begin with ``#`` are skipped. The place of a user among the lines is the
number of its session.

SoupBinTCP gives a name six characters and a password ten, compares both without regard to case, and sends them in the
clear: good enough to tell members of a private network apart, and no more. What the exchange can do is to hash what it
keeps with a function that is dear to guess through (scrypt, RFC 7914), to compare in constant time, and to take as long
for a name that does not exist as for one that does.

``exchange user add NAME`` writes the file, whole and under another name first, so that a server that starts at that
moment reads the old one or the new one."""

import base64
import hashlib
import hmac
import os
import secrets
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from exchange import limits
from exchange.errors import UserError
from exchange.wire.soupbintcp import PASSWORD_CHARACTERS, USERNAME_CHARACTERS

_METHOD: Final = "scrypt"
_CANCELS: Final = "cancel"
_FIELDS: Final = 7
"""Of a line, without what may stand behind them."""
OUCH50: Final = "ouch50"
OUCH42: Final = "ouch42"
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_COST: Final = 1 << 14
_BLOCK_SIZE: Final = 8
_PARALLEL: Final = 1
_MEMORY_BYTES_MAX: Final = 1 << 26
_FILE_BYTES_MAX: Final = 1 << 21


class User(NamedTuple):
    """A line of the file."""

    name: str
    cost: int
    block_size: int
    parallel: int
    salt: bytes
    digest: bytes
    cancels_on_disconnect: bool = False
    protocol: str = OUCH50

    @classmethod
    def create(
        cls,
        name: str,
        password: str,
        cost: int = _COST,
        *,
        cancels_on_disconnect: bool = False,
        protocol: str = OUCH50,
    ) -> Self:
        """A user with a fresh salt. UserError for a name or a password that SoupBinTCP could not carry."""
        check_name(name)
        _check_text("password", password, PASSWORD_CHARACTERS, shown="(not shown)")
        salt = secrets.token_bytes(_SALT_BYTES)
        digest = _hash(password, cost, salt)
        hashed = (cost, _BLOCK_SIZE, _PARALLEL, salt, digest)
        return cls(name.upper(), *hashed, cancels_on_disconnect, protocol)

    def matches(self, password: str) -> bool:
        """Whether it is this user's password. Takes tens of milliseconds, on purpose."""
        found = _hash(password, self.cost, self.salt, self.block_size, self.parallel)
        return hmac.compare_digest(found, self.digest)

    def line(self) -> str:
        """The user as the file has it."""
        salt, digest = (base64.b64encode(part).decode() for part in (self.salt, self.digest))
        fields = [self.name, _METHOD, str(self.cost), str(self.block_size), str(self.parallel), salt, digest]
        fields += [_CANCELS] if self.cancels_on_disconnect else []
        fields += [] if self.protocol == OUCH50 else [self.protocol]
        return ":".join(fields)


class Users:
    """The users of a file, in its order."""

    def __init__(self, users: Sequence[User]) -> None:
        self.users: Final = tuple(users)
        self._numbers = {user.name: number for number, user in enumerate(users)}
        self._nobody = User.create("NOBODY", "x", max((user.cost for user in users), default=_COST))

    def authenticate(self, name: str, password: str) -> int | None:
        """The number of the user with this name and password, or None. As slow for a name that does not exist."""
        number = self._numbers.get(name.upper())
        user = self._nobody if number is None else self.users[number]
        return number if user.matches(password) and number is not None else None


def read_users(path: Path) -> Users:
    """The users of a file. UserError if it cannot be read or has a line that is none."""
    try:
        text = path.read_bytes()[:_FILE_BYTES_MAX].decode("ascii")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; 'exchange user add NAME --users {path}' makes it") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UserError(f"{path}: {reason}") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    users = [_parse(f"{path}:{number}", line) for number, line in lines if line and not line.startswith("#")]
    for name, times in Counter(user.name for user in users).items():
        if times > 1:
            raise UserError(f"{path}: the user {name} is there twice")
    if not 1 <= len(users) <= limits.GATEWAY_SESSIONS_MAX:
        raise UserError(f"{path}: {len(users)} users; allowed are 1 to {limits.GATEWAY_SESSIONS_MAX}")
    return Users(users)


def write_user(path: Path, user: User) -> bool:
    """Put a user into a file, in the place of one with the same name, else at the end; whether it is a new one."""
    others = read_users(path).users if path.exists() else ()
    known = any(other.name == user.name for other in others)
    users = [user if other.name == user.name else other for other in others] + ([] if known else [user])
    text = "".join(f"{one.line()}\n" for one in users)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    return not known


def check_name(name: str) -> None:
    """UserError for a name that SoupBinTCP could not carry."""
    _check_text("user name", name, USERNAME_CHARACTERS, shown=repr(name))


def _check_text(what: str, text: str, longest: int, *, shown: str) -> None:
    if not 1 <= len(text) <= longest or not text.isascii() or not text.isalnum():
        raise UserError(f"{what} {shown}: allowed are 1 to {longest} letters and digits")


def _hash(
    password: str, cost: int, salt: bytes, block_size: int = _BLOCK_SIZE, parallel: int = _PARALLEL
) -> bytes:
    secret = password.upper().encode("ascii", "replace")
    return hashlib.scrypt(
        secret, salt=salt, n=cost, r=block_size, p=parallel, maxmem=_MEMORY_BYTES_MAX, dklen=_HASH_BYTES
    )


def _parse(place: str, line: str) -> User:
    fields, flags = line.split(":")[:_FIELDS], line.split(":")[_FIELDS:]
    try:
        name, method, cost, block_size, parallel, salt, digest = fields
        check_name(name)
        user = User(
            name.upper(),
            int(cost),
            int(block_size),
            int(parallel),
            base64.b64decode(salt, validate=True),
            base64.b64decode(digest, validate=True),
            _CANCELS in flags,
            OUCH42 if OUCH42 in flags else OUCH50,
        )
    except (ValueError, UserError) as error:  # binascii.Error is a ValueError
        raise UserError(_no_user(place)) from error
    is_power_of_two = user.cost > 1 and user.cost & (user.cost - 1) == 0
    memory_bytes = 128 * user.block_size * (user.cost + user.parallel)
    if (
        method != _METHOD
        or len(user.digest) != _HASH_BYTES
        or not is_power_of_two
        or min(user.block_size, user.parallel) < 1
        or memory_bytes > _MEMORY_BYTES_MAX
        or not set(flags) <= {_CANCELS, OUCH42}
        or len(set(flags)) < len(flags)
    ):
        raise UserError(_no_user(place))
    return user


def _no_user(place: str) -> str:
    return f"{place}: no user; a line is NAME:scrypt:N:r:p:SALT:HASH and its options, as 'exchange user add' writes it"
