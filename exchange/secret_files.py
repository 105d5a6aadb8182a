"""Secrets that lie in a file which only its owner can read: the admin interface's token, what the two of a pair share.

A secret is 32 random bytes as text. It is made when there is none; a file that others can read is refused, because what
they have read they have. An environment variable goes before the file, for places where secrets come that way. It
is compared in constant time by whoever compares it, and never printed.
"""

import os
import secrets
import stat
from pathlib import Path
from typing import Final, NamedTuple

from exchange.errors import UserError

SECRET_CHARACTERS_MIN: Final = 16
SECRET_CHARACTERS_MAX: Final = 1024


class SecretPlace(NamedTuple):
    """How messages name a secret: what it is called, its setting, its variable, and who makes it."""

    noun: str
    setting: str
    variable: str
    made_by: str


def make_secret(path: Path, place: SecretPlace) -> bool:
    """Make the file of a secret if there is none, and the environment has none; whether one was made.

    Raises:
        UserError: it cannot be written.
    """
    if place.variable in os.environ:
        return False
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise _not_written(path, place, error) from error
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    except OSError as error:
        path.unlink(missing_ok=True)  # the next start is to make one, and not to find an empty one
        raise _not_written(path, place, error) from error
    return True


def _not_written(path: Path, place: SecretPlace, error: OSError) -> UserError:
    return UserError(f"{place.setting} = {str(path)!r}: cannot write it: {error.strerror}")


def read_secret(path: Path, place: SecretPlace) -> str:
    """The secret of the environment, else of the file.

    Raises:
        UserError: there is none, it is too short to be one, or others can read the file.
    """
    given = os.environ.get(place.variable)
    if given is not None:
        return _checked(given, place.variable, place.noun)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(SECRET_CHARACTERS_MAX + 2)
    except OSError as error:
        raise UserError(f"{place.noun} file {path}: {error.strerror}; {place.made_by}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(
            f"{place.noun} file {path}: others can read it; 'chmod 600 {path}', or delete it for a new one"
        )
    return _checked(content.decode("ascii", "replace"), f"{place.noun} file {path}", place.noun)


def _checked(text: str, where: str, noun: str) -> str:
    secret = text.strip()
    is_possible = SECRET_CHARACTERS_MIN <= len(secret) <= SECRET_CHARACTERS_MAX
    if not is_possible or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise UserError(
            f"{where}: no {noun}; allowed are {SECRET_CHARACTERS_MIN} to {SECRET_CHARACTERS_MAX} printable ASCII"
            " characters without spaces"
        )
    return secret
