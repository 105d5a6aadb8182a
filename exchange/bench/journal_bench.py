"""``exchange bench journal``: what it costs to write records down, and how long this disk takes to make them durable.

*Append*: one thread appends records of 64 bytes, 1, 16 or 256 with each call, to a journal of its own in a folder of
the current directory. Segments are prepared and pages readied between the timed stretches, as the keeper does it
beside a running exchange, so this is what a shard pays. *Sync*: after each so many appended records the time of one
sync, the median and the 99th percentile of a round. It says what events wait for that must be durable (``gate =
"synced"``), and it is a property of the disk more than of this code.

After each measurement the journal is read again: one that does not hold exactly what was appended is not faster, it is
left out and named. All that is written is removed in the end."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.bench.micro import Cores, Table, check_kinds, choose_cores, finish, in_turns, run_pinned
from exchange.bench.results import BenchResult
from exchange.journal import build_journal
from exchange.journal.config import FileJournalConfig, JournalConfig, MappedJournalConfig
from exchange.journal.identity import JournalDirectory, Outcomes
from exchange.journal.judging import judge_end
from exchange.journal.layout import frame_bytes
from exchange.journal.protocol import append, sync
from exchange.journal.reading import StreamReader
from exchange.messages import RECORD_BYTES
from exchange.native import Arena, kernel, monotonic_ns, store_int64

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

# The system call first, for it is what the other one is to save. A journal of kind none does nothing at all.
_CONFIGS: Final[dict[str, type[Any]]] = {
    "file": FileJournalConfig,
    "mapped": MappedJournalConfig,
}
JOURNAL_KINDS: Final = tuple(_CONFIGS)

_STREAM: Final = "shard-0"
_STRETCH_BYTES: Final = 4 << 20
"""How much is appended in one timed stretch: less than a mapped journal has readied ahead."""
_SYNC_APPEND: Final = 256
"""Records of one append where a sync follows many of them."""

_OUTCOMES: Final = Outcomes(
    symbols=("BENCH",),
    shard_count=1,
    price_min_ticks=1,
    price_max_ticks=1,
    book_capacity_orders=1,
    session_capacity_orders=8,
    session_log_bytes=4096,
    session_name="BENCH",
    midnight_ns=0,
    opened_ns=0,
    feed_messages=0,
)


class JournalBenchPlan(NamedTuple):
    """How much to measure.

    ``appended_bytes``: of frames in one measurement. ``batches``: records of one append. ``syncs``: in one
    measurement, each after as many records as ``synced_records`` says in turn.
    """

    appended_bytes: int = 24 << 20
    batches: tuple[int, ...] = (1, 16, 256)
    syncs: int = 100
    synced_records: tuple[int, ...] = (1, 16, 256, 4096)
    rounds: int = 5
    segment_bytes: int = 64 << 20
    directory: Path = Path()

    @classmethod
    def quick(cls) -> "JournalBenchPlan":
        """Seconds, not a minute."""
        return cls(appended_bytes=8 << 20, syncs=30, rounds=3, segment_bytes=16 << 20)


def run_journal_bench(
    kinds: Sequence[str], plan: JournalBenchPlan, command_line: str, progress: "Progress"
) -> BenchResult:
    """Measure ``kinds`` (none means all); the first is the baseline.

    Raises:
        UserError: an unknown kind, or the directory cannot be written to.
    """
    kinds = list(kinds) or list(JOURNAL_KINDS)
    check_kinds("journal", kinds, JOURNAL_KINDS)
    bench = _Bench(kinds, plan, choose_cores())
    progress.total(len(kinds) + plan.rounds * (len(plan.batches) + len(plan.synced_records)))
    for kind in kinds:
        progress.step(f"{kind}: compiling and warming up")
        bench.prepare(kind)
    for round_index in range(plan.rounds):
        where = f"round {round_index + 1} of {plan.rounds}"
        for batch in plan.batches:
            progress.step(f"appending {batch} at a time, {where}")
            for kind in in_turns(bench.table.remaining(), round_index):
                bench.measure_append(kind, batch)
        for records in plan.synced_records:
            progress.step(f"syncing {records} records, {where}")
            for kind in in_turns(bench.table.remaining(), round_index):
                bench.measure_sync(kind, records)
    return finish("journal", bench.table, (), command_line)


class _Bench:
    """The records, the core and the table of one run."""

    def __init__(self, kinds: Sequence[str], plan: JournalBenchPlan, cores: Cores) -> None:
        self._plan: Final = plan
        self._cores: Final = Cores(cores.first, cores.first)
        self.table: Final = Table(kinds, self._cores)
        self._records_max: Final = max(*plan.batches, _SYNC_APPEND)
        self._arena: Final = Arena.private(self._records_max * RECORD_BYTES + 4096, huge_pages="never")
        self._stop: Final = self._arena.allocate(8)
        self._records: Final = self._arena.allocate(self._records_max * RECORD_BYTES)
        for offset in range(0, self._records_max * RECORD_BYTES, 8):
            store_int64(self._records + offset, offset * 0x9E37_79B9)

    def prepare(self, kind: str) -> None:
        """Compile, with a small measurement of each sort."""
        with (
            tempfile.TemporaryDirectory(prefix="exchange-journal-bench-", dir=self._plan.directory) as folder,
            _Stream(kind, Path(folder), self._plan.segment_bytes) as stream,
        ):
            self._append(stream, 1, 16)
            self._sync(stream, 1, 1)

    def measure_append(self, kind: str, batch: int) -> None:
        """One value: nanoseconds for a record."""
        count = max(self._plan.appended_bytes // frame_bytes(batch), 1)
        self._measure(
            kind,
            lambda stream: {"append": self._append(stream, batch, count)},
            {"records_per_append": batch},
        )

    def measure_sync(self, kind: str, records: int) -> None:
        """Two values: the median and the 99th percentile of a sync."""

        def measured(stream: "_Stream") -> dict[str, float]:
            samples_ns = self._sync(stream, records, self._plan.syncs)
            return {f"sync, p{percent}": float(np.percentile(samples_ns, percent)) for percent in (50, 99)}

        self._measure(kind, measured, {"records_per_sync": records})

    def _measure(self, kind: str, measured: Any, parameters: dict[str, int]) -> None:
        with tempfile.TemporaryDirectory(
            prefix="exchange-journal-bench-", dir=self._plan.directory
        ) as folder:
            try:
                with _Stream(kind, Path(folder), self._plan.segment_bytes) as stream:
                    values = measured(stream)
                    stream.check()
            except (OSError, ValueError) as failure:
                self.table.skip(kind, f"it failed: {failure}")
                return
        for name, value in values.items():
            self.table.add(name, kind, value, "ns", "lower", parameters)

    def _append(self, stream: "_Stream", batch: int, count: int) -> float:
        """Append ``count`` batches; returns nanoseconds for a record."""
        elapsed_ns, left = 0, count
        while left > 0:
            stretch = min(left, max(_STRETCH_BYTES // frame_bytes(batch), 1))
            stretch_ns, appended = self._append_once(stream, batch, stretch)
            elapsed_ns += stretch_ns
            stream.next_sequence += appended * batch
            left -= appended
            stream.keep()
        return elapsed_ns / (count * batch)

    def _append_once(self, stream: "_Stream", batch: int, count: int) -> tuple[int, int]:
        state, first_sequence = stream.journal.state, stream.next_sequence

        def task() -> tuple[int, int]:
            return append_batches(state, self._records, batch, count, first_sequence)

        (found,) = run_pinned([(self._cores.first, task)], self._stop)
        return int(found[0]), int(found[1])

    def _sync(self, stream: "_Stream", records: int, count: int) -> NDArray[np.int64]:
        """Append so many records and sync, ``count`` times; returns how long each sync took."""
        samples_ns = np.zeros(count, np.int64)
        for index in range(count):
            for begin in range(0, records, _SYNC_APPEND):
                size = min(_SYNC_APPEND, records - begin)
                while not append(stream.journal.state, self._records, size, stream.next_sequence):
                    stream.keep()
                stream.next_sequence += size
            samples_ns[index] = timed_sync(stream.journal.state)
        return samples_ns


class _Stream:
    """A journal of one kind in a folder that is empty."""

    def __init__(self, kind: str, folder: Path, segment_bytes: int) -> None:
        config: JournalConfig = _CONFIGS[kind](segment_bytes=segment_bytes)
        self._directory: Final = JournalDirectory(folder, _OUTCOMES)
        self.journal: Final = build_journal(config, self._directory, _STREAM)
        self.next_sequence = 1

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.journal.close()
        self._directory.close()

    def keep(self) -> None:
        """What the keeper does in a while."""
        self.journal.keep()

    def check(self) -> None:
        """Read the journal again.

        Raises:
            ValueError: it does not hold what was appended.
        """
        folder = self._directory.path / _STREAM
        with StreamReader(folder, self._directory.identity.stream(_STREAM)) as reader:
            for _ in reader.batches():
                pass
            if judge_end(reader) is not None or reader.next_sequence != self.next_sequence:
                raise ValueError(
                    f"of {self.next_sequence - 1} records {reader.next_sequence - 1} can be read again"
                )


@kernel
def append_batches(
    journal: Any, records: int, batch: int, count: int, first_sequence: int
) -> tuple[int, int]:
    """Append ``count`` batches or as many as find room; returns how many nanoseconds that took, and how many it
    was."""
    appended = 0
    started_ns = monotonic_ns()
    while appended < count and append(journal, records, batch, first_sequence + appended * batch):
        appended += 1
    return monotonic_ns() - started_ns, appended


@kernel
def timed_sync(journal: Any) -> int:
    """Sync once; returns how many nanoseconds that took."""
    started_ns = monotonic_ns()
    sync(journal)
    return monotonic_ns() - started_ns
