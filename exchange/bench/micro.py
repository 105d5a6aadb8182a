"""What the micro-benchmarks share: two cores, threads bound to them, and rows of a result that fill up by
rounds.

A micro-benchmark asks what one structure costs between two threads, so the threads are bound to two different
cores before anything is timed. How far apart these cores are decides the answer more than anything else: two
hardware threads of one core, two cores below one cache, and two cores on different dies differ by a factor of
ten, and in a virtual machine nobody tells which it is, nor that it has just changed. Therefore every round
also measures how long one word takes to the other core and back, and the result shows it beside the figures.

Rules: rounds are interleaved (A B C, A B C, ...), each begins with another variant, and one unmeasured pass
warms up each variant. A variant that fails is left out from then on and the result says why."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from exchange.bench.host import describe_host
from exchange.bench.results import BenchResult, MicroResult
from exchange.errors import UserError
from exchange.native import (
    FALSE_SHARING_BYTES,
    Arena,
    inlined,
    kernel,
    load_acquire,
    load_relaxed,
    monotonic_ns,
    pause,
    store_release,
    yield_core,
)
from exchange.placement.topology import read_this_machine

IDLE_PAUSES: Final = 8
"""How many pauses (some 100 to 200 ns in all) a thread waits that found a queue empty or full.

Looking again at once costs throughput: each look takes the line of the other side's counter away from it. A few
pauses let a handful of records gather, and are still short beside the time a record takes from core to core."""

PATIENCE_S: Final = 30.0
"""A measurement that takes longer than this is stopped and its variant reported as standing still."""

ROUND_TRIPS: Final = 20_000

type Parameters = Mapping[str, str | int | float | bool]


class Cores(NamedTuple):
    """Where the two threads of a measurement run: OS indexes of processing units, equal if there is but one."""

    first: int
    second: int

    @property
    def must_yield(self) -> bool:
        """Whether both threads share a core, so that one that waits must let the other run."""
        return self.first == self.second

    def __str__(self) -> str:
        return f"{self.first} and {self.second}" if self.first != self.second else f"{self.first} only"


def choose_cores() -> Cores:
    """Two different cores that this process may use, never two hardware threads of one; the first core is left to the
    operating system if there are others enough. On a machine with one core, that one twice."""
    units = [core.allowed_units[0].os_index for core in read_this_machine().usable_cores]
    if len(units) > 2:
        units = units[1:]
    return Cores(units[0], units[min(1, len(units) - 1)])


def check_kinds(what: str, kinds: Sequence[str], allowed: Sequence[str]) -> None:
    """Refuse an unknown kind, and one that is named twice.

    Raises:
        UserError: naming it and what is allowed.
    """
    for index, kind in enumerate(kinds):
        if kind not in allowed:
            raise UserError(f"{what} kind {kind!r}: must be one of {', '.join(allowed)}")
        if kind in kinds[:index]:
            raise UserError(f"{what} kind {kind!r} is named twice")


class StoodStill(Exception):
    """A measurement did not end within :data:`PATIENCE_S`."""


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """This thread runs on this core, and so does what it starts inside the block: both inherit where it may run."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def run_pinned(
    tasks: Sequence[tuple[int, Callable[[], Any]]], stop_address: int, seconds: float | None = None
) -> list[Any]:
    """Run each task in a thread of its own on the given processing unit; all begin together.

    Args:
        tasks: ``(processing unit, function)``. The functions end when they are done, or soon after the word at
            ``stop_address`` is not 0.
        stop_address: a word that is 0.
        seconds: when to set the stop word; ``None`` means only if something goes wrong.

    Returns:
        What the functions returned, in order.

    Raises:
        StoodStill: they took longer than :data:`PATIENCE_S`.
        Exception: whatever a task raised.
    """
    store_release(stop_address, 0)
    results: list[Any] = [None] * len(tasks)
    failures: list[BaseException] = []
    together = threading.Barrier(len(tasks))

    def run(index: int, unit: int, task: Callable[[], Any]) -> None:
        try:
            os.sched_setaffinity(0, {unit})  # 0 is the calling thread
            together.wait()
            results[index] = task()
        except BaseException as failure:  # handed over to the caller
            failures.append(failure)
            store_release(stop_address, 1)
            together.abort()

    threads = [threading.Thread(target=run, args=(index, *task)) for index, task in enumerate(tasks)]
    try:
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + (PATIENCE_S if seconds is None else seconds)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        stood_still = seconds is None and any(thread.is_alive() for thread in threads)
    except BaseException:  # Ctrl-C, maybe before all have been started
        together.abort()
        raise
    finally:
        store_release(stop_address, 1)
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if failures:
        raise next(
            (one for one in failures if not isinstance(one, threading.BrokenBarrierError)), failures[0]
        )
    if stood_still:
        raise StoodStill(f"not done after {PATIENCE_S:.0f} s")
    return results


@inlined
def wait_briefly(must_yield: bool) -> None:
    """Pass the time when there is nothing to do: pause, or let the other thread have the core."""
    if must_yield:
        yield_core()
    else:
        for _ in range(IDLE_PAUSES):
            pause()


class _Group(NamedTuple):
    """Rows that are compared with each other: what is measured and how, and the values of each variant."""

    unit: str
    better: Literal["higher", "lower"]
    values: dict[str, list[float]]


class Table:
    """The rows of a result while they are being measured, in the order in which they were first named."""

    def __init__(self, variants: Sequence[str], cores: Cores) -> None:
        self._variants: Final = tuple(variants)
        self._cores: Final = cores
        self._groups: Final[dict[tuple[str, tuple[tuple[str, Any], ...]], _Group]] = {}
        self._skipped: Final[dict[str, str]] = {}

    def add(
        self,
        name: str,
        variant: str,
        value: float,
        unit: str,
        better: Literal["higher", "lower"],
        parameters: Parameters | None = None,
    ) -> None:
        """Add the value of one round to a row."""
        key = (name, tuple((parameters or {}).items()))
        group = self._groups.setdefault(key, _Group(unit, better, {}))
        group.values.setdefault(variant, []).append(value)

    def skip(self, variant: str, reason: str) -> None:
        """Leave a variant out: its rows lose their values, for rounds without it cannot be paired."""
        self._skipped[variant] = reason

    def remaining(self) -> list[str]:
        """The variants that have not been left out."""
        return [variant for variant in self._variants if variant not in self._skipped]

    def reasons(self) -> str:
        """Why variants have been left out."""
        return "; ".join(f"{variant}: {reason}" for variant, reason in self._skipped.items())

    def rows(self) -> tuple[MicroResult, ...]:
        """All rows, in the variants' order; every one says on which cores it was measured."""
        rows: list[MicroResult] = []
        for (name, parameters), group in self._groups.items():
            known = [one for one in self._variants if one in group.values or one in self._skipped]
            rows.extend(
                MicroResult(
                    name=name,
                    variant=variant,
                    unit=group.unit,
                    better=group.better,
                    values=() if variant in self._skipped else tuple(group.values[variant]),
                    parameters={**dict(parameters), "cores": str(self._cores)},
                    skipped=self._skipped.get(variant),
                )
                for variant in known or group.values
            )
        return tuple(rows)


class Machine:
    """The two cores, and how far apart they are in each round."""

    def __init__(self, table: Table, cores: Cores) -> None:
        self._table: Final = table
        self._cores: Final = cores
        self._arena: Final = Arena.private(4 * FALSE_SHARING_BYTES, huge_pages="never")
        self._words: Final = self._arena.allocate(2 * FALSE_SHARING_BYTES)
        self._stop: Final = self._arena.allocate(8)
        self._round_trips: Final[list[float]] = []

    def measure(self) -> None:
        """Add a row's value: one word to the other core and back. Nothing on a machine with one core.

        Raises:
            UserError: others have these cores, and nothing can be measured.
        """
        if self._cores.must_yield:
            return
        words, stop = self._words, self._stop
        for address in (words, words + FALSE_SHARING_BYTES):
            store_release(address, 0)
        there_and_back = (
            (self._cores.first, lambda: serve_word(words, ROUND_TRIPS, stop)),
            (self._cores.second, lambda: return_word(words, ROUND_TRIPS, stop)),
        )
        try:
            elapsed_ns, _ = run_pinned(there_and_back, stop)
        except StoodStill as error:
            raise UserError(
                f"cores {self._cores}: {ROUND_TRIPS:,} words there and back were {error}; nothing can be measured "
                "while others have these cores"
            ) from error
        self._round_trips.append(elapsed_ns / ROUND_TRIPS)
        self._table.add(
            "one word to the other core and back", "this machine", self._round_trips[-1], "ns", "lower"
        )

    def warnings(self) -> tuple[str, ...]:
        """What a reader of the figures must know about the machine."""
        if self._cores.must_yield:
            return (
                "Only one core may be used: the two threads took turns on it, and the figures show what "
                "switching between them costs, not what the structures cost.",
            )
        if self._round_trips and max(self._round_trips) > 1.5 * min(self._round_trips):
            return (
                f"The machine was not quiet: one word took {min(self._round_trips):.0f} to "
                f"{max(self._round_trips):.0f} ns to the other core and back, depending on the round.",
            )
        return ()


@kernel
def serve_word(words: int, turns: int, stop_address: int) -> int:
    """Write a number, wait for its echo, ``turns`` times; returns how many nanoseconds that took."""
    started_ns = monotonic_ns()
    for turn in range(1, turns + 1):
        store_release(words, turn)
        while load_acquire(words + FALSE_SHARING_BYTES) != turn and load_relaxed(stop_address) == 0:
            pause()
    return monotonic_ns() - started_ns


@kernel
def return_word(words: int, turns: int, stop_address: int) -> None:
    """Echo ``turns`` numbers."""
    for turn in range(1, turns + 1):
        while load_acquire(words) != turn and load_relaxed(stop_address) == 0:
            pause()
        store_release(words + FALSE_SHARING_BYTES, turn)


def in_turns(items: Sequence[str], round_index: int) -> list[str]:
    """The items, beginning with another one in each round, so that none always comes first."""
    # All may have been left out by now.
    start = round_index % max(len(items), 1)
    return [*items[start:], *items[:start]]


def finish(kind: str, table: Table, warnings: tuple[str, ...], command_line: str) -> BenchResult:
    """The result, with the machine described.

    Raises:
        UserError: every variant was left out, so there is none.
    """
    if table.reasons() and not table.remaining():
        raise UserError(f"{kind}: nothing was measured: {table.reasons()}")
    return BenchResult(
        kind=kind,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        command_line=command_line,
        host=describe_host(),
        micro=table.rows(),
        warnings=warnings,
    )
