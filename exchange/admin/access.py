"""Who may use the admin interface: whoever has the token.

The token is 32 random bytes in a file that only its owner can read. It is made when there is none; a file that others
can read is refused, because what they have read they have. The environment variable ``EXCHANGE_ADMIN_TOKEN`` goes
before the file, for places where secrets come that way. A token is compared in constant time and never printed.
"""

import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from exchange.errors import UserError

TOKEN_VARIABLE: Final = "EXCHANGE_ADMIN_TOKEN"
TOKEN_CHARACTERS_MIN: Final = 16
TOKEN_CHARACTERS_MAX: Final = 1024
_SCHEME: Final = b"bearer "


def make_token(path: Path) -> bool:
    """Make the file of a token if there is none, and the environment has none; whether one was made.

    Raises:
        UserError: it cannot be written.
    """
    if TOKEN_VARIABLE in os.environ:
        return False
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(f"admin.token_file = {str(path)!r}: cannot write it: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    return True


def read_token(path: Path) -> str:
    """The token of the environment, else of the file.

    Raises:
        UserError: there is none, it is too short to be one, or others can read the file.
    """
    given = os.environ.get(TOKEN_VARIABLE)
    if given is not None:
        return _checked(given, TOKEN_VARIABLE)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(TOKEN_CHARACTERS_MAX + 2)
    except OSError as error:
        raise UserError(f"token file {path}: {error.strerror}; 'exchange serve' makes it") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(
            f"token file {path}: others can read it; 'chmod 600 {path}', or delete it for a new one"
        )
    return _checked(content.decode("ascii", "replace"), f"token file {path}")


def is_right(authorization: str | None, token: str) -> bool:
    """Whether an ``Authorization`` header names the token. Takes as long for a wrong one as for the right one."""
    given = (authorization or "").encode("utf-8", "replace")
    is_scheme = given[: len(_SCHEME)].lower() == _SCHEME
    return hmac.compare_digest(given[len(_SCHEME) :].strip(), token.encode()) and is_scheme


def _checked(text: str, where: str) -> str:
    token = text.strip()
    is_possible = TOKEN_CHARACTERS_MIN <= len(token) <= TOKEN_CHARACTERS_MAX
    if not is_possible or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(
            f"{where}: no token; allowed are {TOKEN_CHARACTERS_MIN} to {TOKEN_CHARACTERS_MAX} printable ASCII"
            " characters without spaces"
        )
    return token
