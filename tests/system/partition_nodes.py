"""The hosts of a partition campaign, and the exchanges on them: what is started there, and what they leave.

A :class:`Node` is one of the pair, with a host and a journal of its own; it is started again and again, and each
process has a label and a log. What :mod:`tests.history_checker` wants of logs and journals is read here."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from exchange.journal.identity import read_identity
from exchange.journal.layout import first_sequence_of
from exchange.journal.reading import StreamReader, records_of
from exchange.journal.segment import segment_paths
from exchange.journal.streams import stream_names
from tests.gateway_driver import SETTINGS
from tests.history_checker import Journal, Logged, Stream
from tests.network_driver import Network, inside, network
from tests.system.kill_campaign import ASSIGNED, THREADS
from tests.system.kill_processes import Process, Starter, starting

NODES: Final = ("a", "b")
STORE: Final = "store"
CLIENTS: Final = "clients"
CLIENTS_PORT: Final = 9005
PAIR_PORT: Final = 9201
STORE_PORT: Final = 4222


class Options(NamedTuple):
    """A day's settings."""

    gate: str = "received"
    shards: int = 1
    lease_ns: int = 1_500_000_000

    @property
    def lease_seconds(self) -> float:
        """How long a lease is."""
        return self.lease_ns / 1e9

    @property
    def backup_timeout_seconds(self) -> float:
        """How long a backup may be silent."""
        return self.lease_seconds * 2 / 3

    def overrides(self) -> tuple[str, ...]:
        """As a profile has them, but for what is a node's own."""
        return (
            *SETTINGS,
            "replication.kind=tcp",
            f"replication.gate={self.gate}",
            f"replication.lease_ns={self.lease_ns}",
            f"replication.renew_every_ns={self.lease_ns // 10}",
            f"replication.backup_timeout_ns={int(self.backup_timeout_seconds * 1e9)}",
            f"replication.port={PAIR_PORT}",
            f"transport.port={CLIENTS_PORT}",
            f"shards.count={self.shards}",
            f"shards.threads={THREADS[self.shards]}",
            f"shards.assign={ASSIGNED[self.shards]}",
            "idle.kind=park",  # two exchanges and their clients share a machine
            "journal.segment_bytes=1MiB",
            "gateway.log_bytes=32MiB",
        )


class Node:
    """One of the pair: its host, its journal, and the processes that it was and is."""

    def __init__(self, name: str, folder: Path, options: Options, net: Network, starter: Starter) -> None:
        self.name: Final = name
        self.address: Final = net.addresses[name]
        self.journal: Final = folder / name
        self.processes: Final[list[Process]] = []
        self.was_killed = False
        self._folder: Final = folder
        self._options: Final = options
        self._network: Final = net
        self._starter: Final = starter

    def start(self, backup_of: "Node | None") -> None:
        """Run it, as the primary or as a backup."""
        settings = (
            *self._options.overrides(),
            f"transport.address={self.address}",
            f"replication.address={self.address}",
            f"replication.node={self.name}",
            f"replication.secret_file={self._folder / 'secret'}",
            f"replication.lease_store=nats://{self._network.addresses['store']}:{STORE_PORT}",
            f"journal.directory={self.journal}",
        )
        sets = [part for one in settings for part in ("--set", one)]
        arguments = [
            "serve",
            "journaled",
            "--log-format",
            "json",
            "--users",
            str(self._folder / "users"),
            *sets,
        ]
        if backup_of is not None:
            arguments += ["--backup-of", f"{backup_of.address}:{PAIR_PORT}"]
        self.was_killed = False
        name = f"{self._folder.name}-{self.name}-{len(self.processes) + 1}"
        self.processes.append(self._starter.start(name, arguments))

    @property
    def process(self) -> Process:
        """The last one."""
        return self.processes[-1]

    @property
    def label(self) -> str:
        """What the last process is called."""
        return f"{self.name}-{len(self.processes)}"

    def lines(self) -> list[Logged]:
        """What the last process has logged."""
        return read_log(self.process.log)

    @property
    def epoch(self) -> int:
        """In which the last process is primary; 0 if it is not, or not any more."""
        epoch = 0
        for event, fields in self.lines():
            if event == "primary":
                epoch = int(fields["epoch"])
            elif event in ("replaced", "handed over"):
                epoch = 0
        return 0 if self.process.has_ended() else epoch

    @property
    def has_backup_in_sync(self) -> bool:
        """Whether it says that it has."""
        told = [event for event, _ in self.lines() if event in ("backup in sync", "backup gone")]
        return told[-1:] == ["backup in sync"]

    def why_ended(self) -> str:
        """Why the last process has ended; empty if it has been killed, or replaced, or has said so in order."""
        text = self.process.log.read_text()
        assert "Traceback" not in text, text
        if self.was_killed or any(event in ("replaced", "ended") for event, _ in self.lines()):
            return ""
        return f"{self.label} has ended by itself: {text[-2000:]}"


def read_log(path: Path) -> list[Logged]:
    """The lines of a log that are objects."""
    found = []
    for line in path.read_text().splitlines():
        if line.startswith("{") and line.endswith("}"):
            fields = json.loads(line)
            found.append(Logged(fields.pop("event"), fields))
    return found


def read_journal(folder: Path) -> Journal:
    """All records of a journal."""
    identity = read_identity(folder)
    streams: dict[str, Stream] = {}
    for name in stream_names(identity.outcomes.shard_count):
        records: list[bytes] = []
        epochs: list[int] = []
        names = [path.name for path in segment_paths(folder / name)]
        first = min(filter(None, map(first_sequence_of, names)), default=1)
        with StreamReader(folder / name, identity.stream(name), first) as reader:
            for frame in reader.frames():
                records += [one.tobytes() for one in records_of(frame)]
                epochs += [frame.epoch] * frame.record_count
        streams[name] = Stream(first, records, epochs)
    return streams


@contextmanager
def hosts(folder: Path, options: Options) -> Iterator[tuple[Network, dict[str, Starter]]]:
    """The network, and on each host what starts processes there, with everything compiled."""
    with ExitStack() as stack:
        net = stack.enter_context(network(*NODES, STORE, CLIENTS))
        starters = {}
        for name in (*NODES, STORE):
            (folder / name).mkdir()
            with inside(net.hosts[name]):
                starters[name] = stack.enter_context(starting(folder / name))
        for name in NODES:
            starters[name].prepare(options.overrides())
        yield net, starters
