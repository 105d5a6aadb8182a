"""``exchange bench queue``: what a record costs on its way from one thread to another, queue by queue.

Two threads on two cores. *Throughput*: one pushes 64-byte records as fast as the queue takes them, in singles
(one push, and so one publication, for each) or in batches; the other polls, and checks in every record the
word that says which one it must be: a queue that loses, doubles or swaps records is not faster, it is left
out and named. *Round trip*: one record in flight, through one queue to the other thread and back through
another; the median and the 99th percentile.

Plain-Python queues are driven by the same loops, interpreted. Slow queues carry fewer records, so that no
measurement lasts much longer than the others.

Your own queue takes part: a kind may be ``file:PATH:CLASS``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.bench.micro import (
    Cores,
    Machine,
    StoodStill,
    Table,
    check_kinds,
    choose_cores,
    finish,
    in_turns,
    run_pinned,
    wait_briefly,
)
from exchange.bench.results import BenchResult
from exchange.errors import UserError
from exchange.messages import RECORD_BYTES
from exchange.native import (
    Arena,
    cycle_counter,
    is_compiled,
    kernel,
    load_int64,
    load_relaxed,
    monotonic_ns,
    pause,
    store_int64,
    view_bytes,
    yield_core,
)
from exchange.queues import build_queue
from exchange.queues.config import (
    DisruptorQueueConfig,
    LockedQueueConfig,
    MpscQueueConfig,
    PythonQueueConfig,
    QueueConfig,
    SpscQueueConfig,
    UserQueueConfig,
)
from exchange.queues.protocol import poll_batch, try_push, try_push_batch

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

_BUILT_IN: Final[dict[str, Any]] = {
    "python": PythonQueueConfig,
    "locked": LockedQueueConfig,
    "spsc": SpscQueueConfig,
    "mpsc": MpscQueueConfig,
    "disruptor": DisruptorQueueConfig,
}
QUEUE_KINDS: Final = tuple(_BUILT_IN)

CYCLE: Final = 1024
"""The producer goes round so many prepared records: a power of two, so that the check is one ``and``."""
BATCH_MAX: Final = 256
POLL_LIMIT: Final = 64
"""How many records the consumer asks for at once: 4 KiB, which stay in its first-level cache."""

SECONDS_MAX: Final = 0.5
TRIPS_NS_MAX: Final = 100_000_000
"""About how long one measurement may last; slow queues carry fewer records."""
REHEARSAL_S: Final = 0.05
REHEARSAL_RECORDS: Final = 2_000
REHEARSAL_TRIPS: Final = 200

ROUND_TRIP_CAPACITY: Final = 1024
ROUND_TRIPS_MAX: Final = 100_000


class QueueBenchPlan(NamedTuple):
    """How much to measure.

    ``records`` and ``round_trips``: the most in one measurement. ``batches``: how many records a push brings, 1 meaning
    ``try_push``. ``capacities`` are in slots.
    """

    records: int = 4_000_000
    round_trips: int = 50_000
    rounds: int = 5
    capacities: tuple[int, ...] = (1024, 16_384)
    batches: tuple[int, ...] = (1, 32)


def queue_config(kind: str, capacity_slots: int) -> QueueConfig:
    """The settings of a kind as it is typed: a built-in name, or ``file:PATH:CLASS`` (relative to where we are).

    Raises:
        UserError: there is no such kind.
    """
    if kind.startswith("file:"):
        path, _, name = kind.removeprefix("file:").rpartition(":")
        if not path or not name:
            raise UserError(f"queue kind {kind!r}: must be file:PATH:CLASS, as in file:./my_queue.py:MyQueue")
        return UserQueueConfig(path=str(Path(path).resolve()), name=name, capacity_slots=capacity_slots)
    check_kinds("queue", [kind], [*QUEUE_KINDS, "file:PATH:CLASS"])
    config: QueueConfig = _BUILT_IN[kind](capacity_slots=capacity_slots)
    return config


def run_queue_bench(
    kinds: Sequence[str], plan: QueueBenchPlan, command_line: str, progress: "Progress"
) -> BenchResult:
    """Measure ``kinds`` (none means all built-in ones, the simplest first); the first is the baseline.

    Raises:
        UserError: an unknown kind, a user's file that lacks something, or a plan that is out of range.
    """
    kinds = list(kinds) or list(QUEUE_KINDS)
    if not all(1 <= batch <= BATCH_MAX for batch in plan.batches):
        raise UserError(f"batches = {plan.batches}: must be 1 to {BATCH_MAX}")
    for index, kind in enumerate(kinds):
        if kind in kinds[:index]:
            raise UserError(f"queue kind {kind!r} is named twice")
    bench = _Bench(kinds, plan, choose_cores())
    cells = [(capacity, batch) for capacity in plan.capacities for batch in plan.batches]
    progress.total(len(kinds) + plan.rounds * (len(cells) + 1))
    for kind in kinds:
        progress.step(f"{kind}: compiling and warming up")
        bench.prepare(kind)
    for round_index in range(plan.rounds):
        where = f"round {round_index + 1} of {plan.rounds}"
        bench.machine.measure()
        for capacity, batch in cells:
            progress.step(f"{capacity} slots, batch {batch}, {where}")
            for kind in in_turns(bench.table.remaining(), round_index):
                bench.measure_throughput(kind, capacity, batch)
        progress.step(f"round trip, {where}")
        for kind in in_turns(bench.table.remaining(), round_index):
            bench.measure_round_trip(kind)
    return finish("queue", bench.table, bench.machine.warnings(), command_line)


class _Route(NamedTuple):
    """A queue and its two ends."""

    queue: Any
    producer: Any
    consumer: Any


class _Bench:
    """Queues, cores and memory of one run."""

    def __init__(self, kinds: Sequence[str], plan: QueueBenchPlan, cores: Cores) -> None:
        self._plan: Final = plan
        self._cores: Final = cores
        self.table: Final = Table(kinds, cores)
        self.machine: Final = Machine(self.table, cores)
        self._routes: Final[dict[tuple[str, int], _Route]] = {}
        self._ways: Final[dict[str, tuple[_Route, _Route]]] = {}
        self._counts: Final[dict[tuple[str, int, int], int]] = {}
        self._trips: Final[dict[str, int]] = {}
        self._arena: Final = Arena.private(4 << 20)
        self._stop: Final = self._arena.allocate(8)
        self._source: Final = self._arena.allocate((CYCLE + BATCH_MAX) * RECORD_BYTES)
        self._out: Final = self._arena.allocate(POLL_LIMIT * RECORD_BYTES)
        self._echo: Final = self._arena.allocate(RECORD_BYTES)
        self._findings: Final = self._arena.allocate(16)
        self._samples: Final = self._arena.allocate(ROUND_TRIPS_MAX * 8)
        for index in range(CYCLE + BATCH_MAX):
            for offset in range(0, RECORD_BYTES, 8):
                store_int64(self._source + index * RECORD_BYTES + offset, index % CYCLE)

    def prepare(self, kind: str) -> None:
        """Build the queues of ``kind``, compile what drives them, and find out how much they carry in the time.

        Raises:
            UserError: a user's file lacks something.
        """
        for capacity in self._plan.capacities:
            self._routes[kind, capacity] = _build(kind, capacity)
        self._ways[kind] = (_build(kind, ROUND_TRIP_CAPACITY), _build(kind, ROUND_TRIP_CAPACITY))
        try:
            for (name, capacity), route in self._routes.items():
                for batch in self._plan.batches if name == kind else ():
                    rate = self._carry(route, REHEARSAL_RECORDS, batch)  # this one compiles as well
                    rate = self._carry(route, min(self._plan.records, _clamp(rate * REHEARSAL_S)), batch)
                    self._counts[kind, capacity, batch] = min(self._plan.records, _clamp(rate * SECONDS_MAX))
            self._return_trips(self._ways[kind], REHEARSAL_TRIPS)
            trip_ns = float(np.mean(self._return_trips(self._ways[kind], REHEARSAL_TRIPS)))
            self._trips[kind] = min(self._plan.round_trips, max(REHEARSAL_TRIPS, int(TRIPS_NS_MAX / trip_ns)))
        except Exception as failure:
            self.table.skip(kind, _reason(failure))

    def measure_throughput(self, kind: str, capacity: int, batch: int) -> None:
        """One value: records per second."""
        try:
            rate = self._carry(self._routes[kind, capacity], self._counts[kind, capacity, batch], batch)
        except Exception as failure:
            self.table.skip(kind, _reason(failure))
            return
        parameters = {"records_per_push": batch, "capacity_slots": capacity}
        self.table.add("throughput", kind, rate, "records/s", "higher", parameters)

    def measure_round_trip(self, kind: str) -> None:
        """Two values: the median and the 99th percentile of a record's way there and back."""
        try:
            samples_ns = self._return_trips(self._ways[kind], self._trips[kind])
        except Exception as failure:
            self.table.skip(kind, _reason(failure))
            return
        for percent in (50, 99):
            value = float(np.percentile(samples_ns, percent))
            self.table.add(f"round trip of one record, p{percent}", kind, value, "ns", "lower")

    def _carry(self, route: _Route, count: int, batch: int) -> float:
        """Carry ``count`` records from one thread to the other; returns how many per second.

        Raises:
            StoodStill: not all of them arrived.
            ValueError: other records arrived than were sent.
        """
        push, poll = _body(push_records, route.producer), _body(poll_records, route.consumer)
        stop, yields = self._stop, self._cores.must_yield
        started_ns, ended_ns = run_pinned(
            [
                (self._cores.first, lambda: push(route.producer, self._source, count, batch, stop, yields)),
                (
                    self._cores.second,
                    lambda: poll(route.consumer, self._out, count, stop, yields, self._findings),
                ),
            ],
            stop,
        )
        arrived, wrong = load_int64(self._findings), load_int64(self._findings + 8)
        if wrong or arrived != count:
            raise ValueError(f"of {count} records {arrived} arrived, {wrong} of them not in their turn")
        return float(count / ((ended_ns - started_ns) / 1e9))

    def _return_trips(self, ways: tuple[_Route, _Route], count: int) -> NDArray[np.float64]:
        """Send ``count`` records there and back, one at a time; returns the nanoseconds each took.

        Raises:
            StoodStill: one did not come back.
            ValueError: another record came back than was sent.
        """
        there, back = ways
        ask_body, answer_body = (
            _body(ask, there.producer, back.consumer),
            _body(answer, there.consumer, back.producer),
        )
        stop, yields = self._stop, self._cores.must_yield
        (elapsed_ns, cycles, wrong), _ = run_pinned(
            [
                (
                    self._cores.first,
                    lambda: ask_body(
                        there.producer,
                        back.consumer,
                        self._source,
                        self._out,
                        count,
                        self._samples,
                        stop,
                        yields,
                    ),
                ),
                (
                    self._cores.second,
                    lambda: answer_body(there.consumer, back.producer, self._echo, count, stop, yields),
                ),
            ],
            stop,
        )
        if wrong:
            raise ValueError(f"{wrong} of {count} records that came back were not the ones that were sent")
        samples_cycles = np.frombuffer(view_bytes(self._samples, count * 8), np.int64)
        samples_ns: NDArray[np.float64] = samples_cycles * (elapsed_ns / cycles)
        return samples_ns


def _clamp(records: float) -> int:
    return max(int(records), REHEARSAL_RECORDS)


def _build(kind: str, capacity: int) -> _Route:
    queue = build_queue(queue_config(kind, capacity))
    return _Route(queue, queue.producer(0), queue.consumer(0))


def _body(driver: Any, *handles: Any) -> Any:
    """The loop that drives these handles: compiled if all of them are, else its source."""
    return driver if all(is_compiled(handle) for handle in handles) else getattr(driver, "py_func", driver)


def _reason(failure: Exception) -> str:
    """One line that says why a queue was left out."""
    first_line = str(failure).strip().partition("\n")[0]
    if isinstance(failure, StoodStill | ValueError):
        return first_line
    return f"it failed: {type(failure).__name__}: {first_line}"


@kernel
def push_records(
    producer: Any, source_address: int, count: int, batch: int, stop_address: int, must_yield: bool
) -> int:
    """Push ``count`` of the prepared records, ``batch`` at a time; returns the time of the first push."""
    started_ns = monotonic_ns()
    pushed = 0
    while pushed < count:
        next_record = source_address + (pushed & (CYCLE - 1)) * RECORD_BYTES
        if batch == 1:
            accepted = 1 if try_push(producer, next_record) else 0
        else:
            accepted = try_push_batch(producer, next_record, min(batch, count - pushed))
        if accepted == 0:
            if load_relaxed(stop_address) != 0:
                break
            wait_briefly(must_yield)
        pushed += accepted
    return started_ns


@kernel
def poll_records(
    consumer: Any, out_address: int, count: int, stop_address: int, must_yield: bool, findings_address: int
) -> int:
    """Poll ``count`` records and check their order; returns the time at which the last one was there.

    At ``findings_address``: how many arrived, and how many of them were not the ones whose turn it was.
    """
    arrived = 0
    wrong = 0
    while arrived < count:
        polled = poll_batch(consumer, out_address, POLL_LIMIT)
        if polled == 0:
            if load_relaxed(stop_address) != 0:
                break
            wait_briefly(must_yield)
        for index in range(polled):
            if load_int64(out_address + index * RECORD_BYTES) != (arrived + index) & (CYCLE - 1):
                wrong += 1
        arrived += polled
    store_int64(findings_address, arrived)
    store_int64(findings_address + 8, wrong)
    return monotonic_ns()


@kernel
def ask(
    producer: Any,
    consumer: Any,
    record_address: int,
    out_address: int,
    count: int,
    samples_address: int,
    stop_address: int,
    must_yield: bool,
) -> tuple[int, int, int]:
    """Send a record and wait for it to come back, ``count`` times, storing the cycles that each took.

    Returns nanoseconds and cycles in all, so that one can be had from the other, and how many came back wrong.
    """
    wrong = 0
    started_ns = monotonic_ns()
    started_cycles = cycle_counter()
    for trip in range(count):
        record = record_address + (trip & (CYCLE - 1)) * RECORD_BYTES
        sent_cycles = cycle_counter()
        while not try_push(producer, record) and load_relaxed(stop_address) == 0:
            yield_core() if must_yield else pause()
        while poll_batch(consumer, out_address, 1) == 0 and load_relaxed(stop_address) == 0:
            yield_core() if must_yield else pause()
        store_int64(samples_address + 8 * trip, cycle_counter() - sent_cycles)
        if load_int64(out_address) != trip & (CYCLE - 1):
            wrong += 1
    return monotonic_ns() - started_ns, cycle_counter() - started_cycles, wrong


@kernel
def answer(
    consumer: Any, producer: Any, record_address: int, count: int, stop_address: int, must_yield: bool
) -> None:
    """Send ``count`` records back as they come."""
    for _ in range(count):
        while poll_batch(consumer, record_address, 1) == 0 and load_relaxed(stop_address) == 0:
            yield_core() if must_yield else pause()
        while not try_push(producer, record_address) and load_relaxed(stop_address) == 0:
            yield_core() if must_yield else pause()
