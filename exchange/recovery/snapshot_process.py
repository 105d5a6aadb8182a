"""Snapshots of a running exchange's journal, made now and then by a process beside it.

Each is a process of its own, ``exchange journal snapshot``, at the lowest priority: it reads the journal's files, does
what a restart would do, writes the result and ends (:func:`exchange.recovery.twin.make_snapshot`). It takes nothing
from the exchange but a share of the machine. If it fails, that is logged, and the next one comes in its turn; a restart
then has more to replay.

Rules: used in the event loop that serves; leaving the ``async with`` block ends a process that is at work. What it had
written so far is a temporary file, which the next one overwrites."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from exchange.child_command import child_command, child_environment
from exchange.logs import log_event

END_SECONDS: Final = 0.3
"""How long a process may take to end when it is asked to; then it is killed."""


class SnapshotProcess:
    """Makes snapshots of a journal, as long as the block lasts.

    Args:
        directory: of the journal.
        every_ns: how often; 0 is never.
    """

    def __init__(self, directory: Path, every_ns: int) -> None:
        self._directory: Final = directory
        self._every_s: Final = every_ns / 1e9
        self._task: asyncio.Task[None] | None = None
        self.made = 0

    async def __aenter__(self) -> Self:
        if self._every_s > 0:
            self._task = asyncio.get_running_loop().create_task(self._work())
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self._make()

    async def _make(self) -> None:
        child = await asyncio.create_subprocess_exec(
            *child_command("journal", "snapshot", str(self._directory), "--gently"),
            env=child_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,  # Ctrl-C is for us
        )
        try:
            said, _ = await child.communicate()
        except asyncio.CancelledError:
            await _end(child)
            raise
        text = said.decode(errors="replace").strip()
        if child.returncode == 0:
            self.made += 1
            log_event("snapshot", said=text)
        else:
            log_event("snapshot failed", level=logging.ERROR, status=child.returncode, said=text)


async def _end(child: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        child.terminate()
        try:
            async with asyncio.timeout(END_SECONDS):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()
