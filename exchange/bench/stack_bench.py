"""``exchange bench stack``: what it costs to take a buffer from a shared pool and to give it back.

Each thread acquires a buffer, writes its own mark into it, looks whether the mark is still there, wipes it
and releases the buffer. Once with one thread alone, which shows the cost of the operations themselves, and
once with two threads on two cores, which fight for the same word all the time: the worst case, since a real
thread does something with its buffer in between. A stack that gives one buffer to two owners is not faster;
it is left out and named."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.bench.micro import (
    Cores,
    Machine,
    Table,
    check_kinds,
    choose_cores,
    finish,
    in_turns,
    run_pinned,
    wait_briefly,
)
from exchange.bench.results import BenchResult
from exchange.native import Arena, kernel, load_relaxed, monotonic_ns, store_relaxed
from exchange.stacks import LockedStackConfig, StackConfig, TreiberStackConfig
from exchange.stacks.buffer_pool import EXHAUSTED, BufferPool, BufferPoolHandle, acquire, release

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

_CONFIGS: Final[dict[str, StackConfig]] = {"locked": LockedStackConfig(), "treiber": TreiberStackConfig()}
STACK_KINDS: Final = tuple(_CONFIGS)

BUFFER_COUNT: Final = 1024
BUFFER_BYTES: Final = 64
REHEARSAL_OPERATIONS: Final = 1_000
SECONDS_MAX: Final = 0.5


class StackBenchPlan(NamedTuple):
    """How much to measure. ``operations``: the most acquisitions of each thread in one measurement."""

    operations: int = 2_000_000
    rounds: int = 5


def run_stack_bench(
    kinds: Sequence[str], plan: StackBenchPlan, command_line: str, progress: "Progress"
) -> BenchResult:
    """Measure ``kinds`` (none means all, the locked twin first); the first is the baseline.

    Raises:
        UserError: an unknown kind.
    """
    kinds = list(kinds) or list(STACK_KINDS)
    check_kinds("stack", kinds, STACK_KINDS)
    cores = choose_cores()
    table = Table(kinds, cores)
    machine = Machine(table, cores)
    pools = {kind: _Pool(kind, cores) for kind in kinds}
    counts: dict[tuple[str, int], int] = {}
    progress.total(len(kinds) + 2 * plan.rounds)
    for kind in kinds:
        progress.step(f"{kind}: compiling and warming up")
        for threads in (1, 2):
            pools[kind].per_second(threads, REHEARSAL_OPERATIONS)
            rate = pools[kind].per_second(threads, min(50 * REHEARSAL_OPERATIONS, plan.operations)) / threads
            counts[kind, threads] = min(plan.operations, max(REHEARSAL_OPERATIONS, int(rate * SECONDS_MAX)))
    for round_index in range(plan.rounds):
        machine.measure()
        for threads in (1, 2):
            progress.step(f"threads: {threads}, round {round_index + 1} of {plan.rounds}")
            for kind in in_turns(table.remaining(), round_index):
                try:
                    rate = pools[kind].per_second(threads, counts[kind, threads])
                except ValueError as failure:
                    table.skip(kind, str(failure))
                    continue
                table.add(
                    "buffers acquired and released", kind, rate, "buffers/s", "higher", {"threads": threads}
                )
    return finish("stack", table, machine.warnings(), command_line)


class _Pool:
    """A pool of one kind and the threads that use it."""

    def __init__(self, kind: str, cores: Cores) -> None:
        self._kind: Final = kind
        self._cores: Final = cores
        self._pool: Final = BufferPool(BUFFER_COUNT, BUFFER_BYTES, _CONFIGS[kind])
        self._arena: Final = Arena.private(4096, huge_pages="never")
        self._stop: Final = self._arena.allocate(8)

    def per_second(self, threads: int, count: int) -> float:
        """Acquire and release ``count`` buffers in each of so many threads; returns how many per second in all.

        Raises:
            ValueError: a buffer had two owners at once.
        """
        pool, stop, yields = self._pool.handle(), self._stop, self._cores.must_yield
        units = self._cores[:threads]

        def task(mark: int) -> tuple[int, int, int]:
            return acquire_and_release(pool, count, mark, stop, yields)

        results = run_pinned(
            [(unit, lambda mark=index + 1: task(mark)) for index, unit in enumerate(units)],  # type: ignore[misc]
            stop,
        )
        shared = sum(result[2] for result in results)
        if shared:
            raise ValueError(f"{shared} of {count * threads} buffers had another owner at the same time")
        elapsed_ns = max(result[1] for result in results) - min(result[0] for result in results)
        return float(count * threads / (elapsed_ns / 1e9))


@kernel
def acquire_and_release(
    pool: BufferPoolHandle, count: int, mark: int, stop_address: int, must_yield: bool
) -> tuple[int, int, int]:
    """Use ``count`` buffers, one after the other.

    Returns when it began, when it ended, and how many buffers somebody else wrote to meanwhile.
    """
    started_ns = monotonic_ns()
    shared = 0
    for _ in range(count):
        buffer = acquire(pool)
        while buffer == EXHAUSTED and load_relaxed(stop_address) == 0:
            wait_briefly(must_yield)
            buffer = acquire(pool)
        if buffer == EXHAUSTED:
            break
        shared += 1 if load_relaxed(buffer) != 0 else 0
        store_relaxed(buffer, mark)
        shared += 1 if load_relaxed(buffer) != mark else 0
        store_relaxed(buffer, 0)
        release(pool, buffer)
    return started_ns, monotonic_ns(), shared
