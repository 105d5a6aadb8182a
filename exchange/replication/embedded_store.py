"""Where the store of leases is: outside, by URL, or the one of this machine, which is started when somebody needs it.

The *embedded* store is for a primary and a backup on one machine, for trying things out and for tests: nobody has to
set anything up. It is ``exchange lease-store`` as a process of its own, which no exchange is the parent of: it goes on
when the exchange that has started it is killed, which is the moment at which it is needed most. It ends by itself some
seconds after nobody uses it any more. Who uses it holds a shared lock on a file, which the kernel lets go of however a
process ends; the store looks now and then whether it could have the lock for itself.

Where it listens, and the token that it wants, stand in a file that only its user can read. Its records are kept: the
next one goes on from them.

A machine that is lost takes the embedded store with it. Two machines need a store that does not run on the primary's.

Rules: :meth:`StoreAccess.find_urls` may block for as long as it takes to start a process; :meth:`StoreAccess.close`
in any case. ``$EXCHANGE_STATE`` is the folder, else one in the user's folder of states. Deleting it while no exchange
runs forgets who was primary.
"""

import fcntl
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from exchange.child_command import child_command, child_environment
from exchange.errors import UserError
from exchange.replication.config import EMBEDDED_STORE
from exchange.replication.lease_store import parse_urls, without_secrets
from exchange.replication.store_process import LOCK_NAME, StoreProcess

IDLE_SECONDS: Final = 5.0
"""So long the embedded store waits for another user after the last one has gone."""

_URL_NAME: Final = "url"
_USERS_NAME: Final = "users"
_START_NAME: Final = "start"
_MESSAGES_NAME: Final = "lease-store.log"
_READ_BYTES: Final = 4096


def state_root() -> Path:
    """The folder of what this user's exchanges have to remember: ``$EXCHANGE_STATE``, else one in the user's folder."""
    if "EXCHANGE_STATE" in os.environ:
        return Path(os.environ["EXCHANGE_STATE"])
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local/state")) / "hpc-exchange"


class StoreAccess:
    """A store that somebody uses, until it is closed.

    Args:
        lease_store: as the profile has it.

    Attributes:
        name: of the store, to be shown to people.

    Raises:
        UserError: it is no URL; or the folder of the embedded store cannot be used.
    """

    def __init__(self, lease_store: str) -> None:
        is_embedded = lease_store == EMBEDDED_STORE
        self._urls: Final = () if is_embedded else parse_urls(lease_store)
        self.name: Final = EMBEDDED_STORE if is_embedded else ",".join(map(without_secrets, self._urls))
        self._directory: Final = state_root() / "lease-store"
        self._users: int | None = None
        self._started: subprocess.Popen[bytes] | None = None
        if is_embedded:
            _make_folder(self._directory)
            self._users = _open_lock(self._directory / _USERS_NAME)
            fcntl.flock(self._users, fcntl.LOCK_SH)  # a store that is ending is waited for

    def find_urls(self) -> tuple[str, ...]:
        """Where its servers are. An embedded store that does not run is started.

        Raises:
            UserError: it does not start.
        """
        if self._users is None:
            return self._urls
        with _locked(self._directory / _START_NAME):
            if not self._is_running():
                self._start()
            return (_read_text(self._directory / _URL_NAME).strip(),)

    def close(self) -> None:
        """Use it no more."""
        if self._users is not None:
            os.close(self._users)
            self._users = None

    def _is_running(self) -> bool:
        lock = _open_lock(self._directory / LOCK_NAME)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def _start(self) -> None:
        """Start the process, and wait until it says that it listens."""
        command = child_command("lease-store", "--directory", str(self._directory), "--while-used")
        with (self._directory / _MESSAGES_NAME).open("wb") as messages:
            self._started = subprocess.Popen(
                command,
                env=child_environment(),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=messages,
                start_new_session=True,  # it is nobody's child in the terminal's eyes, and outlives us
            )
        assert self._started.stdout is not None
        with self._started.stdout as said:
            if not said.readline():
                status = self._started.wait()
                message = _read_text(self._directory / _MESSAGES_NAME).strip().rpartition("\n")[2]
                raise UserError(f"the embedded lease store ended with status {status}: {message}")


def serve_embedded(store: StoreProcess) -> None:
    """Watch over a started store until nobody has used it for :data:`IDLE_SECONDS`, and close it."""
    users = _open_lock(store.directory / _USERS_NAME)
    idle_since = time.monotonic()
    try:
        while True:
            store.look()
            time.sleep(IDLE_SECONDS / 10)
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                idle_since = time.monotonic()
                continue
            if time.monotonic() > idle_since + IDLE_SECONDS:
                return  # with the lock, so that who comes now waits and starts another one
            fcntl.flock(users, fcntl.LOCK_UN)
    finally:
        store.close()
        os.close(users)


def make_embedded(directory: Path) -> StoreProcess:
    """A started store for the embedded use, whose URL stands in its folder. Raises UserError if it does not start."""
    token = secrets.token_urlsafe(24)
    store = StoreProcess(directory, "127.0.0.1", 0, token)
    try:
        store.start()
        fresh = directory / f"{_URL_NAME}.new"
        fresh.touch(mode=0o600)
        fresh.write_text(f"nats://{token}@127.0.0.1:{store.port}\n")
        fresh.replace(directory / _URL_NAME)
    except BaseException:
        store.close()
        raise
    return store


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"lease store: {str(path)!r}: {error.strerror}; EXCHANGE_STATE names another"
        ) from error


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(
            f"lease store: {str(path)!r}: {error.strerror}; EXCHANGE_STATE names another"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = _open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_READ_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise UserError(f"lease store: {str(path)!r}: {error.strerror}") from error
