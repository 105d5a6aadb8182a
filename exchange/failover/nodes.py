"""One of a pair of exchanges on this machine: its place there, and the process that runs it now.

A :class:`NodePlace` is what tells two exchanges of one machine apart: ports, names, folders. A :class:`Node` runs
``exchange serve`` there as a child, as the primary or as a backup, again and again.

Rules: start nodes on the main thread, because the kernel kills a child whose starting thread has ended. A node is given
up with :meth:`Node.close`, which is SIGKILL: who wants an end in order asks for it before.
"""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple, Self

from exchange.child_command import child_command, child_environment, die_with_parent
from exchange.errors import UserError
from exchange.failover.log_lines import LogLine, NodeLog
from exchange.load.logins import Endpoint

HOST: Final = "127.0.0.1"
END_SECONDS: Final = 15.0
"""How long an end in order may take."""
LOG_END_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.2
"""So often it is looked whether a process has ended that is waited for."""


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now."""
    with closing(socket.socket()) as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


class NodePlace(NamedTuple):
    """Where one of a pair is on this machine.

    Attributes:
        name: of the node.
        group: of the pair.
        clients_port: where clients connect.
        pair_port: where the other one of the pair does.
        journal: the folder of its journal.
        secret_file: what both know.
    """

    name: str
    group: str
    clients_port: int
    pair_port: int
    journal: Path
    secret_file: Path

    @classmethod
    def choose(cls, name: str, folder: Path, group: str) -> Self:
        """A place with ports that are free, and files in a folder that both have."""
        return cls(name, group, free_port(), free_port(), folder / name, folder / "secret")

    @property
    def endpoint(self) -> Endpoint:
        """Where clients connect."""
        return Endpoint(HOST, self.clients_port)

    @property
    def pair_address(self) -> str:
        """Where its pair listens, as ``--backup-of`` takes it."""
        return f"{HOST}:{self.pair_port}"

    def overrides(self) -> tuple[str, ...]:
        """What a profile has to say of this node and of no other."""
        return (
            f"transport.port={self.clients_port}",
            f"replication.port={self.pair_port}",
            f"replication.node={self.name}",
            f"replication.group={self.group}",
            f"replication.secret_file={self.secret_file}",
            f"journal.directory={self.journal}",
        )


class Node:
    """One of the pair, and its process.

    Args:
        place: where it is.
        profile: of both.
        overrides: of the profile, for both.
        users_file: who may log on.
        environment: variables for the process, beside our own.
        heard: is told each line of its log, on another thread.
    """

    def __init__(
        self,
        place: NodePlace,
        profile: str,
        overrides: Sequence[str],
        users_file: Path,
        environment: dict[str, str],
        heard: Callable[["Node", LogLine], None],
    ) -> None:
        self.place: Final = place
        self.overrides: Final = (*overrides, *place.overrides())
        self._profile: Final = profile
        self._users_file: Final = users_file
        self._environment: Final = environment
        self._heard: Final = heard
        self._process: subprocess.Popen[str] | None = None
        self._log: NodeLog | None = None

    @property
    def name(self) -> str:
        """The node's."""
        return self.place.name

    @property
    def process_id(self) -> int:
        """Of the process that runs it."""
        assert self._process is not None, "start it first"
        return self._process.pid

    @property
    def log(self) -> NodeLog:
        """What the process that runs it has said."""
        assert self._log is not None, "start it first"
        return self._log

    def start(self, backup_of: "Node | None" = None) -> None:
        """Run it, as the primary or as a backup of the other."""
        arguments = ["serve", self._profile, "--users", str(self._users_file), "--log-format", "json"]
        arguments += [part for one in self.overrides for part in ("--set", one)]
        if backup_of is not None:
            arguments += ["--backup-of", backup_of.place.pair_address]
        self._process = subprocess.Popen(
            child_command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment() | self._environment,
            process_group=0,  # Ctrl-C is for us
            preexec_fn=die_with_parent,
        )
        assert self._process.stderr is not None
        self._log = NodeLog(self._process.stderr, lambda line: self._heard(self, line))

    def wait(self, event: str, seconds: float, other: "Node | None" = None) -> LogLine:
        """Wait until its log says something.

        Args:
            event: what.
            seconds: how long at most.
            other: a node without which it never would.

        Raises:
            UserError: it does not, or a process ends instead, with what that said last.
        """
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            line = self.log.wait(event, LOOK_SECONDS)
            if line is not None:
                return line
            for node in (self,) if other is None else (self, other):
                if node.log.is_over:
                    status = status_text(node.end())
                    raise UserError(f"exchange {node.name} has ended with {status}: {node.last_word()}")
        raise UserError(f"exchange {self.name} does not say {event!r} in {seconds:g} s: {self.last_word()}")

    def last_word(self) -> str:
        """What it has said last that tells a person something."""
        if self.log.others:
            return self.log.others[-1].removeprefix("exchange: ")
        return self.log.lines[-1].event if self.log.lines else "nothing was said"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process. Nothing happens if it has ended."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, seconds: float = END_SECONDS) -> int:
        """Wait for the end of the process; its status. UserError if it does not end."""
        assert self._process is not None
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise UserError(f"exchange {self.name} does not end in {seconds:g} s") from None
        self.log.join(LOG_END_SECONDS)
        return status

    def close(self) -> None:
        """Kill it, if it is there."""
        if self._process is not None:
            self._process.kill()  # also one that was stopped
            self._process.wait()
            self.log.join(LOG_END_SECONDS)


def status_text(status: int) -> str:
    """The end of a process in words."""
    if status >= 0:
        return f"status {status}"
    return signal.Signals(-status).name if -status in {*map(int, signal.Signals)} else f"signal {-status}"
