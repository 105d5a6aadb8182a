"""What the emulated machine runs: a primary, its backup in another process, and libfabric's verbs between them.

First an exchange, once for each gate, of which every command goes through its books and into the backup's memory, and
from there through the backup's books; the player compares the digests of the two. Then a link alone: its backup closes
its end, and the primary goes on writing.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final, Self, cast

import msgspec
import numpy as np

from exchange.bench.backup import BackupProcess
from exchange.bench.backup_process import BackupPlan, follow_one
from exchange.bench.player import play
from exchange.bench.replication_bench import CORE_SETTINGS
from exchange.bench.touched_memory import TouchedMemory
from exchange.flow import SyntheticConfig, load_flow
from exchange.forked_child import ForkedChild
from exchange.messages import CommandKind
from exchange.replication.config import RdmaReplicationConfig
from exchange.settings import load_profile
from tests.replication_driver import CONFIGS, RING_BYTES, Primary, until
from tests.replication_processes import connect_to, run_backup

COMMANDS = 20_000
SEED = 7
GATES = ("received", "applied")
PATIENCE_NS = 60_000_000_000
FRAMES = [7] * 10
SECONDS = 300.0

CONFIGS["rdma-verbs"] = RdmaReplicationConfig(ring_bytes=RING_BYTES, provider="verbs", address="10.0.0.1")
SETTINGS = (
    *CORE_SETTINGS,
    "idle.kind=park",
    "idle.park_ns=200000",
    "journal.segment_bytes=4MiB",
    "replication.kind=rdma",
    f"replication.backup_timeout_ns={PATIENCE_NS}",
)


class Forked:
    """A child of this process that answers lines of JSON: it has read the modules that a fresh process there reads for
    a minute. It is made before this process uses libfabric, of which a fork would leave both the same."""

    def __init__(self, name: str, live: Callable[[], None]) -> None:
        theirs, self._asking = os.pipe()
        answers, saying = os.pipe()

        def begin() -> None:
            sys.stdin, sys.stdout = os.fdopen(theirs), os.fdopen(saying, "w")
            live()

        self._child: Final = ForkedChild(name, begin, keep=(theirs, saying))
        os.close(theirs)
        os.close(saying)
        self._answers: Final = os.fdopen(answers)

    def ask(self, what: Any) -> Any:
        """What it answers."""
        os.write(self._asking, msgspec.json.encode(what) + b"\n")
        line = self._answers.readline()
        assert line, self._child.take_result()
        return json.loads(line)

    def step(self, **what: Any) -> Any:
        """The same, as :class:`tests.replication_processes.Side` is asked."""
        return self.ask(what)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.kill()


def follow() -> None:
    """The life of a backup of exchanges."""
    while True:
        follow_one(msgspec.json.decode(sys.stdin.readline(), type=BackupPlan), TouchedMemory())


def match_orders(backup: Forked, own: tuple[str, ...]) -> dict[str, Any]:
    """The same orders through an exchange with a backup for each gate; the digest of the books of both."""
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=COMMANDS, seed=SEED))
    at_once = np.zeros(COMMANDS, np.int64)
    digests = {}
    for gate in GATES:
        settings = load_profile("lockfree", (*SETTINGS, f"replication.gate={gate}", *own))
        process = cast(BackupProcess, backup)
        played = play(settings, flow.commands, at_once, len(flow.symbols), 100, say, backup_process=process)
        digests[gate] = played.digest
    orders = np.count_nonzero(flow.commands["kind"] == CommandKind.NEW)
    return {"orders": int(orders), "digests": digests}


def revoke(way: str, backup: Forked) -> dict[str, Any]:
    """What a backup has that has closed its end, when the primary has gone on writing."""
    with Primary(way, backup_timeout_ns=PATIENCE_NS) as primary:
        connect_to(primary, backup)
        assert primary.append_frames(FRAMES) == len(FRAMES)
        until(lambda: backup.step()["next"] == primary.next[0], SECONDS)
        closed = backup.step(close=True)
        assert primary.append_frames(FRAMES) == len(FRAMES)
        time.sleep(1)
        later = backup.step()
        return {
            "records": later["next"] - 1,
            "is_untouched": later["ring"] == closed["ring"],
            "delivers": primary.link._fabric.delivers,
        }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(way: str, *own: str) -> None:
    with (
        Forked("follower", follow) as follower,
        Forked("backup", lambda: run_backup(way, backup_timeout_ns=PATIENCE_NS)) as backup,
    ):
        told = match_orders(follower, own)
        say("revoking")
        print(json.dumps(told | revoke(way, backup)))


if __name__ == "__main__":
    main(*sys.argv[1:])
