"""The two processes of ``exchange bench hostile`` beside its own: an exchange whose log is counted, and the hostile.

The exchange writes its log as JSON, and a thread here reads it line by line and counts: how many connections were
closed or refused, and why. A line may stand for many (``more``), see :mod:`exchange.gateway.refusals`.

Rules: both are gone when their ``with`` block ends."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from exchange.admin.access import TOKEN_VARIABLE
from exchange.admin.client import AdminClient
from exchange.child_command import die_with_parent
from exchange.errors import UserError
from exchange.gateway.credentials import User, write_user
from exchange.load.hostile import HostilePlan
from exchange.load.logins import Endpoint, Login

GOOD: Final = "GOOD"
BAD: Final = ("DEAF", "DRIP", "FLOOD")
STOP_SECONDS: Final = 5.0
_COST: Final = 1 << 14
"""Of the passwords' hashes, as ``exchange user add`` makes them: a guess shall cost what it costs."""

ENDS: Final = ("refused", "closed", "login rejected")
"""The events of the log that end a connection that has not logged on."""


class LogCount:
    """Reads a log and counts what it says.

    Attributes:
        lines: how many lines there were.
        ends: connections that ended before a logon, by event and reason.
        session_ends: those that ended after one, by user and reason.
        logins: logons by users.
        ports: where it said that somebody listens, by event.
    """

    def __init__(self, log: Any) -> None:
        self.lines = 0
        self.ends: Final[Counter[tuple[str, str]]] = Counter()
        self.session_ends: Final[Counter[tuple[str, str]]] = Counter()
        self.logins: Final[Counter[str]] = Counter()
        self.ports: Final[dict[str, int]] = {}
        self.others: Final[list[str]] = []
        self._log: Final = log
        self._thread: Final = threading.Thread(target=self._read, name="log", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the log."""
        self._thread.join(STOP_SECONDS)

    def accounted(self) -> int:
        """Connections that are known to have led to something: a logon, or an end without one."""
        return self.ends.total() + self.logins.total()

    def _read(self) -> None:
        for text in self._log:
            self.lines += 1
            try:
                line = json.loads(text)
                self._count(line)
            except (ValueError, KeyError, AttributeError):
                self.others.append(text)

    def _count(self, line: dict[str, Any]) -> None:
        event = str(line["event"])
        if event == "login":
            self.logins[str(line["user"]).upper()] += 1
        elif event == "closed" and "session" in line:
            self.session_ends[str(line["user"]).upper(), str(line["reason"])] += 1
        elif event in ENDS:
            self.ends[event, str(line["reason"])] += int(line.get("more", 1))
        elif event.endswith("listening"):
            self.ports[event] = int(line["port"])


class ServedExchange:
    """An exchange that runs.

    Attributes:
        process: it.
        endpoint: where it listens.
        password: of all its users.
        log: what it has said.
    """

    def __init__(
        self, process: "subprocess.Popen[str]", endpoint: Endpoint, password: str, token: str
    ) -> None:
        self.process: Final = process
        self.endpoint: Final = endpoint
        self.password: Final = password
        self.log: Final = LogCount(process.stderr)
        self._token: Final = token

    @property
    def good(self) -> Login:
        """The user who means well."""
        return Login(GOOD, self.password)

    def resident_bytes(self) -> int:
        """How much memory the process has."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def statistics(self) -> Any:
        """The document of its admin interface."""
        port = self.log.ports["admin listening"]
        return AdminClient(f"http://127.0.0.1:{port}", self._token).get("statistics")


@contextmanager
def served_exchange(settings: Sequence[str]) -> Iterator[ServedExchange]:
    """An exchange with one good and three bad users. Raises UserError if it does not start."""
    password, token = secrets.token_hex(5), secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory(prefix="exchange-bench-") as folder:
        users = Path(folder) / "users"
        for name in (GOOD, *BAD):
            write_user(users, User.create(name, password, _COST))
        sets = (part for one in settings for part in ("--set", one))
        command = (sys.executable, "-m", "exchange", "serve", "serve", "--users", str(users))
        process = subprocess.Popen(
            (*command, "--port", "0", "--log-format", "json", *sets),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C is for us; and no session of its own, for between sessions nice means nothing
            env=os.environ | {TOKEN_VARIABLE: token},
            preexec_fn=die_with_parent,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise UserError(f"the exchange did not start: {process.communicate()[1].strip()}")
            yield ServedExchange(process, Endpoint("127.0.0.1", int(line.split()[-1])), password, token)
        finally:
            end(process, signal.SIGTERM)


class HostileProcess:
    """The hostile, who wait."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process: Final = process

    def go(self) -> None:
        """Let them loose."""
        self._say(b"go\n")

    def stop(self) -> dict[str, int]:
        """Call them back; what they have opened and sent since the beginning, by kind."""
        self._say(b"stop\n")
        assert self._process.stdout is not None
        found: dict[str, int] = msgspec.json.decode(self._process.stdout.readline(), type=dict[str, int])
        return found

    def _say(self, word: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word)
        self._process.stdin.flush()


@contextmanager
def hostile_process(plan: HostilePlan) -> Iterator[HostileProcess]:
    """A process with the hostile in it."""
    process = subprocess.Popen(
        (sys.executable, "-m", "exchange.load.hostile"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(plan) + b"\n")
        process.stdin.flush()
        yield HostileProcess(process)
    finally:
        end(process, signal.SIGTERM)


def end(process: "subprocess.Popen[Any]", number: signal.Signals) -> float:
    """End a process by a signal, and by force if it does not go; how many seconds it took."""
    began = time.monotonic()
    process.send_signal(number)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    elapsed = time.monotonic() - began
    process.kill()
    process.wait()
    return elapsed


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds, so long at most; whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
