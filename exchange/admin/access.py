"""Who may use the admin interface: whoever has the token.

The token is a secret in a file (:mod:`exchange.secret_files`); the environment variable ``EXCHANGE_ADMIN_TOKEN`` goes
before it. It is compared in constant time and never printed.
"""

import hmac
from pathlib import Path
from typing import Final

from exchange.secret_files import SecretPlace, make_secret, read_secret

TOKEN_VARIABLE: Final = "EXCHANGE_ADMIN_TOKEN"
_PLACE: Final = SecretPlace("token", "admin.token_file", TOKEN_VARIABLE, "'exchange serve' makes it")
_SCHEME: Final = b"bearer "


def make_token(path: Path) -> bool:
    """Make the file of a token if there is none, and the environment has none; whether one was made.

    Raises:
        UserError: it cannot be written.
    """
    return make_secret(path, _PLACE)


def read_token(path: Path) -> str:
    """The token of the environment, else of the file.

    Raises:
        UserError: there is none, it is too short to be one, or others can read the file.
    """
    return read_secret(path, _PLACE)


def is_right(authorization: str | None, token: str) -> bool:
    """Whether an ``Authorization`` header names the token. Takes as long for a wrong one as for the right one."""
    given = (authorization or "").encode("utf-8", "replace")
    is_scheme = given[: len(_SCHEME)].lower() == _SCHEME
    return hmac.compare_digest(given[len(_SCHEME) :].strip(), token.encode()) and is_scheme
