"""The processes that a kill campaign starts and kills: by forking one that is ready, or as a person does it.

:class:`Starter` has the process that forks (:mod:`tests.system.kill_starter`) and remembers what it has started;
:class:`Process` is one of those, held by a descriptor.

Rules: whatever is still there when the starter is closed is killed."""

import asyncio
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
START_SECONDS_MAX: Final = 240.0


class Process:
    """A process that may be killed, by a descriptor, so that no other can be hit."""

    def __init__(
        self, number: int, output: Path, log: Path, child: "subprocess.Popen[bytes] | None" = None
    ) -> None:
        self.output, self.log = output, log
        self._child: Final = child
        self.number: Final = number
        self._descriptor = os.pidfd_open(number)
        weakref.finalize(self, os.close, self._descriptor)

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; whether the process was still there."""
        if self.has_ended():
            return False
        signal.pidfd_send_signal(self._descriptor, number)
        return True

    def has_ended(self) -> bool:
        """Whether it is there no more."""
        return bool(select.select([self._descriptor], [], [], 0)[0])

    def status(self) -> int:
        """The exit status of one that was not forked, when it has ended."""
        assert self._child is not None, "whoever forks it is told"
        return self._child.wait()

    async def end(self) -> None:
        """Wait until it is there no more."""
        while not self.has_ended():
            await asyncio.sleep(0.001)

    async def port(self) -> int:
        """Wait until it listens, and where. AssertionError if it ends instead."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while not (found := re.search(r"listening on \S+ port (\d+)\n", self.output.read_text())):
            assert not self.has_ended(), f"it did not start: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"it does not listen: {self.log.read_text()}"
            await asyncio.sleep(0.002)
        return int(found[1])


class Starter:
    """Starts processes: by forking one that is ready, or as a person does."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self._children: list[subprocess.Popen[bytes]] = []
        self._started: list[Process] = []
        self._ready: set[tuple[str, ...]] = set()
        self._process: Final = subprocess.Popen(
            [sys.executable, "-m", "tests.system.kill_starter"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def _ask(self, what: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def prepare(self, overrides: tuple[str, ...]) -> None:
        """Have everything compiled that an exchange with these settings takes."""
        if overrides not in self._ready:
            self._ready.add(overrides)
            journal = self.folder / f"prepared-{len(self._ready)}"
            self._ask({"prepare": overrides, "journal": str(journal)})

    def start(self, name: str, arguments: list[str], *, forked: bool = True) -> Process:
        """Run ``exchange`` with these arguments."""
        output, log = self.folder / f"{name}.output", self.folder / f"{name}.log"
        for path in (output, log):
            path.touch()
        if forked:
            number = self._ask({"start": arguments, "output": str(output), "log": str(log)})
            return self._keep(Process(number, output, log))
        with output.open("ab") as out, log.open("ab") as err:
            command = [sys.executable, "-m", "exchange", *arguments]
            child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        self._children.append(child)
        return self._keep(Process(child.pid, output, log, child))

    def _keep(self, process: Process) -> Process:
        """Remember it until it has ended."""
        for one in [one for one in self._started if one.has_ended()]:
            self._started.remove(one)
        self._started.append(process)
        return process

    def close(self) -> None:
        """End the process that forks, and all that are still there."""
        for process in self._started:
            process.signal(signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        for child in self._children:
            child.wait()


@contextmanager
def starting(folder: Path) -> Iterator[Starter]:
    """A starter that is gone when the block ends."""
    starter = Starter(folder)
    try:
        yield starter
    finally:
        starter.close()
