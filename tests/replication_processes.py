"""A side of a link in a process of its own, which can be killed: ``python -m tests.replication_processes SIDE WAY``.

It reads a line of JSON for each step and answers with one. Between the steps it does what its side does: a backup
polls, a primary appends.
"""

import hashlib
import json
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from exchange.replication.protocol import StreamStart
from exchange.replication.providers import host_facts, read_facts
from tests.replication_driver import Backup, Primary

REPOSITORY = Path(__file__).parents[1]
FRAME_RECORDS = 7


def tell(**what: Any) -> None:
    """Answer."""
    print(json.dumps(what), flush=True)


def has_said() -> bool:
    """Whether the next step has been asked for."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def ask() -> dict[str, Any]:
    """The next step; the end of the input is the end."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    answer: dict[str, Any] = json.loads(line)
    return answer


def digest(content: bytes) -> str:
    """What two contents are compared by."""
    return hashlib.sha256(content).hexdigest()


def run_backup(way: str, **changes: Any) -> None:
    """Offer, accept, begin; then poll until the input ends, and say at each step how far it is."""
    with Backup(way, **changes) as backup:
        tell(offer=backup.received.offer(read_facts(ask()["facts"])))
        backup.received.accept(ask()["answer"])
        tell()
        backup.begin(tuple(StreamStart(*start) for start in ask()["starts"]))
        tell()
        while True:
            backup.take(1_000_000)
            if has_said():
                if ask().get("close"):
                    backup.received.close()
                backup.check()
                tell(
                    next=backup.next_sequence(),
                    digest=digest(backup.content()),
                    ring=digest(backup.ring()),
                    failure=backup.received.failure,
                )


def run_primary(way: str, **changes: Any) -> None:
    """Connect, attach; then append until the input ends, and say at each step how far it is."""
    with Primary(way, **changes) as primary:
        tell(facts=host_facts()._asdict())
        link = primary.link = primary.replica.connect(ask()["offer"])
        tell(answer=link.answer())
        ask()
        tell(starts=primary.replica.attach(link))
        while True:
            # In step with the backup: who overruns it is let go of.
            progress = primary.replica.progress().streams[0]
            if (
                progress.appended_position - progress.consumed_position
                < primary.replica.config.ring_bytes // 2
            ):
                primary.append(FRAME_RECORDS)
            if has_said():
                ask()
                tell(next=primary.next[0], failure=primary.replica.failure)


class Side:
    """A side in another process, as its parent has it."""

    def __init__(self, side: str, way: str, **changes: Any) -> None:
        command = [sys.executable, "-m", "tests.replication_processes", side, way, json.dumps(changes)]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def step(self, **what: Any) -> dict[str, Any]:
        """Ask for the next step; what it answers."""
        self.say(**what)
        return self.hear()

    def say(self, **what: Any) -> None:
        """Ask for the next step."""
        assert self.process.stdin is not None
        print(json.dumps(what), file=self.process.stdin, flush=True)

    def hear(self) -> dict[str, Any]:
        """What it answers."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the process has ended with status {self.process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it without any notice."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def connect_to(primary: Primary, backup: Side) -> None:
    """Attach a backup that is another process."""
    offer = backup.step(facts=host_facts()._asdict())["offer"]
    primary.link = primary.replica.connect(offer)
    backup.step(answer=primary.link.answer())
    backup.step(starts=primary.replica.attach(primary.link))


if __name__ == "__main__":
    SIDES: dict[str, Callable[..., None]] = {"backup": run_backup, "primary": run_primary}
    SIDES[sys.argv[1]](sys.argv[2], **json.loads(sys.argv[3]))
