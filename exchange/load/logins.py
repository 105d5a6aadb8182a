"""Who logs on to the exchange under load, and where it is.

Passwords come from a file or from an environment variable. They are never typed on a command line, where every user of
the machine can read them, and no message here shows one.

A file has one user a line: ``NAME:PASSWORD``, or ``NAME`` alone if all passwords are the one of the environment. The
file that ``exchange user add`` writes will do as well: its names are taken, and its hashes are of no use to a client.
Empty lines and lines that begin with ``#`` are skipped."""

import os
from pathlib import Path
from typing import Final, NamedTuple

from exchange import limits
from exchange.errors import UserError
from exchange.gateway.credentials import check_name
from exchange.wire.soupbintcp import PASSWORD_CHARACTERS

_FILE_BYTES_MAX: Final = 1 << 20


class Login(NamedTuple):
    """A user's name and password; the password is in no ``repr``."""

    name: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.name!r}, password not shown)"


class Endpoint(NamedTuple):
    """Where the exchange listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """``HOST:PORT``, or ``[HOST]:PORT`` for an address of IPv6. UserError if it is neither."""
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdecimal() or not 1 <= int(port) <= limits.PORT_MAX:
        raise UserError(f"{text}: not HOST:PORT; PORT is an integer from 1 to {limits.PORT_MAX}")
    return Endpoint(host, int(port))


def parse_endpoints(text: str) -> tuple[Endpoint, ...]:
    """Endpoints with commas between them: where an exchange is, and where its backups are. UserError if one is none."""
    return tuple(parse_endpoint(one.strip()) for one in text.split(","))


def read_logins(users: str, password_variable: str | None) -> list[Login]:
    """The logins of a file, or of a list of names.

    Args:
        users: path of a file, or names with commas between them.
        password_variable: the environment variable with everybody's password.

    Raises:
        UserError: a name that SoupBinTCP cannot carry, one that is there twice, or no password for one.
    """
    shared = None if password_variable is None else os.environ.get(password_variable, "")
    if shared == "":
        raise UserError(f"--password-env {password_variable}: there is no such environment variable")
    path = Path(users)
    if path.is_file():
        pairs = _read_pairs(path)
    elif "/" in users or "." in users:
        raise UserError(f"--users {users}: no such file")
    else:
        pairs = [(name.strip(), None) for name in users.split(",") if name.strip()]
    logins: list[Login] = []
    for name, own in pairs:
        check_name(name)
        password = shared if shared is not None else own
        if password is None:
            raise UserError(f"--users {users}: no password for {name}; name a variable with --password-env")
        if len(password) > PASSWORD_CHARACTERS or not password.isascii() or not password.isalnum():
            raise UserError(f"password of {name}: allowed are 1 to {PASSWORD_CHARACTERS} letters and digits")
        if any(one.name == name.upper() for one in logins):
            raise UserError(f"--users {users}: {name} is there twice, and a user has one session")
        logins.append(Login(name.upper(), password))
    if not logins:
        raise UserError(f"--users {users}: no user")
    return logins


def _read_pairs(path: Path) -> list[tuple[str, str | None]]:
    try:
        text = path.read_bytes()[:_FILE_BYTES_MAX].decode("ascii")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file") from error
    lines = [line.strip() for line in text.splitlines()]
    found = [line.split(":") for line in lines if line and not line.startswith("#")]
    return [(fields[0], fields[1] if len(fields) == 2 else None) for fields in found]
