"""``exchange bench latest-value``: what it costs to publish a record that others read, and to read it.

A record of seven words, one cache line with its sequence number. Three situations:

* *nobody reads*: the cost of a publication itself.
* *both without pause*: one thread publishes as fast as it can while another reads as fast as it can. The
  worst case for readers of a seqlock, who are disturbed nearly always, and for both sides of a lock.
* *a publication every microsecond*: busy, but possible for a top of book. Here the readers show what they can
  do.

Every word of a publication carries the same number, so a reader can tell a torn record from a whole one, and
an older one from a newer. A variant that yields either is left out and named."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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
from exchange.latest_value import LatestValueConfig, LockedValueConfig, SeqlockValueConfig, build_latest_value
from exchange.latest_value.protocol import publish, try_read
from exchange.native import (
    Arena,
    kernel,
    load_int64,
    load_relaxed,
    monotonic_ns,
    pause,
    store_int64,
    yield_core,
)

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

_CONFIGS: Final[dict[str, LatestValueConfig]] = {
    "locked": LockedValueConfig(),
    "seqlock": SeqlockValueConfig(),
}
LATEST_VALUE_KINDS: Final = tuple(_CONFIGS)

WORD_COUNT: Final = 7
"""With the sequence number, one cache line."""
PACED_NS: Final = 1_000


class LatestValueBenchPlan(NamedTuple):
    """How much to measure. ``seconds``: how long one measurement lasts."""

    seconds: float = 0.1
    rounds: int = 5


class _Counted(NamedTuple):
    """What the two threads did in a second: publications, and whole reads if there was a reader."""

    published_per_second: float
    read_per_second: float | None


def run_latest_value_bench(
    kinds: Sequence[str], plan: LatestValueBenchPlan, command_line: str, progress: "Progress"
) -> BenchResult:
    """Measure ``kinds`` (none means all, the locked twin first); the first is the baseline.

    Raises:
        UserError: an unknown kind.
    """
    kinds = list(kinds) or list(LATEST_VALUE_KINDS)
    check_kinds("latest-value", kinds, LATEST_VALUE_KINDS)
    cores = choose_cores()
    table = Table(kinds, cores)
    machine = Machine(table, cores)
    values = {kind: _Value(kind, cores) for kind in kinds}
    progress.total(len(kinds) + 3 * plan.rounds)
    for kind in kinds:
        progress.step(f"{kind}: compiling and warming up")
        values[kind].run(plan.seconds / 10, 0, read=True)
    for round_index in range(plan.rounds):
        machine.measure()
        for situation, interval_ns, read in (
            ("nobody reads", 0, False),
            ("both without pause", 0, True),
            ("one every microsecond", PACED_NS, True),
        ):
            progress.step(f"{situation}, round {round_index + 1} of {plan.rounds}")
            for kind in in_turns(table.remaining(), round_index):
                try:
                    counted = values[kind].run(plan.seconds, interval_ns, read=read)
                except ValueError as failure:
                    table.skip(kind, str(failure))
                    continue
                _add(table, kind, situation, interval_ns, counted)
    return finish("latest-value", table, machine.warnings(), command_line)


def _add(table: Table, kind: str, situation: str, interval_ns: int, counted: _Counted) -> None:
    parameters = {"situation": situation}
    if interval_ns == 0:
        table.add("publications", kind, counted.published_per_second, "publications/s", "higher", parameters)
    if counted.read_per_second is not None:
        table.add("whole reads", kind, counted.read_per_second, "reads/s", "higher", parameters)


class _Value:
    """A latest value of one kind, its writer and its reader."""

    def __init__(self, kind: str, cores: Cores) -> None:
        self._cores: Final = cores
        self._value: Final = build_latest_value(_CONFIGS[kind], WORD_COUNT)
        self._arena: Final = Arena.private(4096, huge_pages="never")
        self._stop: Final = self._arena.allocate(8)
        self._words: Final = self._arena.allocate(8 * WORD_COUNT)
        self._out: Final = self._arena.allocate(8 * WORD_COUNT)

    def run(self, seconds: float, interval_ns: int, *, read: bool) -> _Counted:
        """Publish for so long, once every ``interval_ns`` (0: without pause), with or without a reader.

        Raises:
            ValueError: a record was torn, or older than the one before it.
        """
        stop, yields = self._stop, self._cores.must_yield
        writer, reader = self._value.writer(), self._value.reader()
        tasks: list[tuple[int, Any]] = [
            (
                self._cores.first,
                lambda: publish_until(writer, self._words, WORD_COUNT, interval_ns, stop, yields),
            )
        ]
        if read:
            tasks.append(
                (self._cores.second, lambda: read_until(reader, self._out, WORD_COUNT, stop, yields))
            )
        (published, writer_ns), *rest = run_pinned(tasks, stop, seconds)
        rate = published / (writer_ns / 1e9)
        if not rest:
            return _Counted(rate, None)
        whole, faulty, reader_ns = rest[0]
        if faulty:
            raise ValueError(f"{faulty} of {whole} records were torn, or older than the one before")
        return _Counted(rate, whole / (reader_ns / 1e9))


@kernel
def publish_until(
    writer: Any, words_address: int, word_count: int, interval_ns: int, stop_address: int, must_yield: bool
) -> tuple[int, int]:
    """Publish records whose words are all the same growing number; returns how many, and the nanoseconds it took."""
    started_ns = monotonic_ns()
    published = 0
    number = load_int64(words_address)
    while load_relaxed(stop_address) == 0:
        number += 1
        published += 1
        for word in range(word_count):
            store_int64(words_address + 8 * word, number)
        publish(writer, words_address)
        if interval_ns > 0:
            due_ns = started_ns + published * interval_ns
            while monotonic_ns() < due_ns and load_relaxed(stop_address) == 0:
                yield_core() if must_yield else pause()
        elif must_yield and published & 1023 == 0:
            yield_core()
    return published, monotonic_ns() - started_ns


@kernel
def read_until(
    reader: Any, out_address: int, word_count: int, stop_address: int, must_yield: bool
) -> tuple[int, int, int]:
    """Read without pause; returns whole reads, faulty ones among them, and the nanoseconds it took."""
    started_ns = monotonic_ns()
    whole = 0
    faulty = 0
    newest = 0
    while load_relaxed(stop_address) == 0:
        if not try_read(reader, out_address):
            wait_briefly(must_yield)
            continue
        whole += 1
        number = load_int64(out_address)
        torn = number < newest
        for word in range(1, word_count):
            torn = torn or load_int64(out_address + 8 * word) != number
        faulty += 1 if torn else 0
        newest = number
        if must_yield and whole & 1023 == 0:
            yield_core()
    return whole, faulty, monotonic_ns() - started_ns
