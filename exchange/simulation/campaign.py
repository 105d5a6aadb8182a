"""Many seeds, in several processes: which fail, and how fast they go.

A seed needs nothing of another one, so each process takes the next seed, runs it and says what came of it. A process
that dies takes only its seed along, which counts as failed: an exchange that reads where it must not is found in this
way. So does a seed that goes on for :data:`SECONDS_MAX`; a process that does so is ended.

Rules: the caller's process only waits. Ctrl-C ends all of them at once."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, NamedTuple

from exchange.simulation.plan import PROFILE, base_settings
from exchange.simulation.simulator import Outcome, fresh_folder, simulate

SECONDS_MAX: Final = 600.0
"""A seed takes less than a second; the first one of a process may have to wait for the compiler."""

_LOOK_SECONDS: Final = 0.5


class Options(NamedTuple):
    """How seeds are run: as :func:`~exchange.simulation.simulator.simulate` takes them."""

    profile: str = PROFILE
    overrides: tuple[str, ...] = ()
    actions: int = 0


class _Worker:
    """A process that runs seeds, and what it is at."""

    def __init__(self, context: Any, following: Any, last: int, options: Options, folder: Path) -> None:
        self.connection, theirs = context.Pipe(duplex=False)
        self.seed: int | None = None
        self.since = time.monotonic()
        self._process = context.Process(
            target=_work, args=(theirs, following, last, options, folder), name="simulate", daemon=True
        )
        self._process.start()
        theirs.close()

    def read(self) -> Outcome | None:
        """The next thing that it says, if that is an outcome. Raises EOFError if it has ended."""
        said = self.connection.recv()
        self.since = time.monotonic()
        self.seed = said if isinstance(said, int) else None
        return None if isinstance(said, int) else said

    def is_stuck(self) -> bool:
        """Whether its seed takes far too long."""
        return self.seed is not None and time.monotonic() - self.since > SECONDS_MAX

    def end(self) -> str:
        """End it, if it has not ended; what became of it."""
        is_stuck = self.is_stuck()
        if is_stuck or self._process.is_alive():
            self._process.kill()
        self._process.join()
        self.connection.close()
        if is_stuck:
            return f"the seed did not end within {SECONDS_MAX:.0f} s"
        code = self._process.exitcode or 0
        return f"the process died of {signal.Signals(-code).name if code < 0 else f'status {code}'}"


def run_campaign(
    seeds: Sequence[int], jobs: int, options: Options, ended: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run every seed from the first to the last of ``seeds`` (a range); ``ended`` is told each outcome as it comes.

    Returns:
        The outcomes in the order of the seeds.

    Raises:
        UserError: the profile cannot be simulated.
    """
    base_settings(options.profile, options.overrides)
    outcomes = []
    with (
        fresh_folder() as folder
    ):  # which is gone at the end, also if a process was ended in the middle of a seed
        for outcome in _outcomes(seeds[0], seeds[-1], min(jobs, len(seeds)), options, folder):
            ended(outcome)
            outcomes.append(outcome)
    return sorted(outcomes)


def _outcomes(first: int, last: int, jobs: int, options: Options, folder: Path) -> Iterator[Outcome]:
    context = multiprocessing.get_context("spawn")
    following = context.Value("q", first)
    workers = [_Worker(context, following, last, options, folder) for _ in range(jobs)]
    try:
        while workers:
            ready = wait([worker.connection for worker in workers], _LOOK_SECONDS)
            for worker in tuple(workers):
                try:
                    outcome = worker.read() if worker.connection in ready else None
                    has_ended = worker.is_stuck()
                except EOFError:
                    outcome, has_ended = None, True
                if outcome is not None:
                    yield outcome
                if has_ended:
                    workers.remove(worker)
                    fate = worker.end()
                    if worker.seed is not None:
                        yield Outcome(worker.seed, "", 0, 0, 0, fate)
                        workers.append(_Worker(context, following, last, options, folder))
    finally:
        for worker in workers:
            worker.end()


def _work(connection: Connection, following: Any, last: int, options: Options, folder: Path) -> None:
    """A process's body: take the next seed until there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller's process ends this one
    while True:
        with following.get_lock():
            seed = following.value
            following.value += 1
        if seed > last:
            break
        connection.send(seed)
        connection.send(simulate(seed, *options, folder=folder))
    connection.close()
    os._exit(0)
