"""``exchange bench snapshot``: how long a shard with many live orders takes to be saved, and to be put back.

After a restart nobody trades until the books are back, so what counts is the time to read a snapshot and to put its
orders into an empty book. What it takes to write one is paid beside the exchange, by another process, and says how
often one may be made.

One book with so many live orders, of several symbols, at some thousand prices each; then, round by round:

* *write*: export the orders, take checksums, hand the bytes to the kernel;
* *sync*: wait until they are on the disk, and give the file its name; a property of the disk;
* *read and verify*: every byte once, as whoever opens a snapshot does; the file has just been written, so the kernel
  still has it in memory;
* *put back*: read the orders again and apply them to an empty book, whose memory is touched for the first time.

Each is told twice: how long it took, and how long a processor was at work for it, which is what is left of it on a
machine that has nothing else to do, except for the disk.

The digest of the book that was put back must be that of the first one, or the comparison is void. The file lies in a
folder of its own in the current directory, and is removed in the end."""

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from exchange.bench.host import describe_host
from exchange.bench.results import BenchResult, MicroResult
from exchange.book import build_book
from exchange.book.config import LadderBookConfig
from exchange.book.ladder import Ladder
from exchange.book.protocol import apply_commands, events_bound, live_order_count
from exchange.errors import UserError
from exchange.latest_value.protocol import publish
from exchange.matching.digest import state_digest
from exchange.matching.shard import SEQUENCE, STATUS, Shard, ShardMemory
from exchange.messages import BUY, COMMAND_DTYPE, RECORD_BYTES, SELL, CommandKind
from exchange.native import Arena, store_int64, view_bytes
from exchange.snapshot.sections import SectionFile, SnapshotHeader, write_sections
from exchange.snapshot.shards import restore_shard, save_shard

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

MIDDLE_TICKS: Final = 1_000_000
SPREAD_TICKS: Final = 5_000
"""Each side's orders lie within so many ticks of the middle."""
SESSIONS: Final = 64
BATCH_COMMANDS: Final = 4_096
STEPS: Final = ("write", "sync", "read and verify", "put back")


class SnapshotBenchPlan(NamedTuple):
    """How many live orders, of how many symbols, and how often they are saved and put back."""

    orders: int = 1_000_000
    symbols: int = 8
    rounds: int = 5
    seed: int = 1
    directory: Path = Path()


class _Round(NamedTuple):
    """What one round took, in seconds by :data:`STEPS`, how long the file was, and the digest that came back.

    ``processor_seconds`` are those in which this process was running.
    """

    seconds: tuple[float, ...]
    processor_seconds: tuple[float, ...]
    size_bytes: int
    digest: str


def run_snapshot_bench(plan: SnapshotBenchPlan, command_line: str, progress: "Progress") -> BenchResult:
    """Save a shard and put it back.

    Raises:
        UserError: the folder cannot be written to.
    """
    progress.total(2 + plan.rounds)
    progress.step(f"making a book of {plan.orders:,} orders")
    book = _full_book(plan)
    memory = ShardMemory(1, 1, plan.symbols)
    shard = _bare_shard(book, memory)
    store_int64(shard.words + SEQUENCE, plan.orders)
    digest = _digest(book, plan)
    void: str | None = None
    rounds: list[_Round] = []
    with _folder(plan.directory) as folder:
        progress.step("warming up")
        one = plan._replace(orders=1)
        small = _full_book(one)
        _play_round(one, _bare_shard(small, memory), Path(folder))
        for number in range(plan.rounds):
            progress.step(f"round {number + 1} of {plan.rounds}")
            rounds.append(_play_round(plan, shard, Path(folder)))
            if rounds[-1].digest != digest:
                void = f"the book that was put back has the digest {rounds[-1].digest}, and the first one {digest}"
    return BenchResult(
        kind="snapshot",
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        command_line=command_line,
        host=describe_host(),
        micro=_rows(plan, rounds),
        comparison_void=void,
    )


def _folder(directory: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="exchange-bench-", dir=directory)
    except OSError as error:
        raise UserError(f"cannot write to {directory.resolve()}: {error.strerror or error}") from error


def _new_book(plan: SnapshotBenchPlan) -> Ladder:
    book = build_book(LadderBookConfig(capacity_orders=plan.orders), plan.symbols)
    assert isinstance(book, Ladder)
    return book


def _full_book(plan: SnapshotBenchPlan) -> Ladder:
    """A book with all orders resting; they came in any order."""
    book, random = _new_book(plan), np.random.default_rng(plan.seed)
    events_bytes = events_bound(plan.orders, BATCH_COMMANDS) * RECORD_BYTES
    arena = Arena.private(BATCH_COMMANDS * RECORD_BYTES + events_bytes + 4096)
    batch, events = arena.allocate(BATCH_COMMANDS * RECORD_BYTES), arena.allocate(events_bytes)
    for first in range(0, plan.orders, BATCH_COMMANDS):
        count = min(BATCH_COMMANDS, plan.orders - first)
        commands = np.frombuffer(view_bytes(batch, count * RECORD_BYTES), COMMAND_DTYPE)
        sides = random.integers(BUY, SELL + 1, count)
        away_ticks = random.integers(1, SPREAD_TICKS + 1, count)
        commands["kind"], commands["side"] = CommandKind.NEW, sides
        commands["symbol_id"] = random.integers(0, plan.symbols, count)
        commands["session_id"] = random.integers(0, SESSIONS, count)
        commands["order_id"] = np.arange(first, first + count)
        commands["price_ticks"] = np.where(sides == BUY, MIDDLE_TICKS - away_ticks, MIDDLE_TICKS + away_ticks)
        commands["quantity_lots"] = random.integers(1, 1000, count)
        apply_commands(book.state, batch, count, events)
    assert live_order_count(book.state) == plan.orders
    return book


def _bare_shard(book: Ladder, memory: ShardMemory) -> Shard:
    """A shard without queues and journal: what is saved, and nothing else."""
    shard = Shard(
        inbox=0,
        book=book.state,
        trading=memory.trading.state,
        outbox=0,
        journal=0,
        words=memory.words,
        batch=memory.batch,
        batch_commands=1,
        events=memory.events,
        status=memory.status.writer(),
        symbol_count=memory.trading.state.symbol_count,
    )
    publish(shard.status, shard.words + STATUS)
    return shard


def _digest(book: Ladder, plan: SnapshotBenchPlan) -> str:
    return state_digest([book.state], [0] * plan.symbols)


def _play_round(plan: SnapshotBenchPlan, shard: Shard, folder: Path) -> _Round:
    path = folder / "bench.snapshot"
    began = _now()
    with write_sections(path, SnapshotHeader(1, 1, (plan.orders,), 0)) as writer:
        save_shard(writer, 0, shard)
        written = _now()
    synced = _now()
    book, memory = _new_book(plan), ShardMemory(1, 1, plan.symbols)
    opening = _now()
    with SectionFile(path) as file:
        verified = _now()
        restore_shard(file, 0, _bare_shard(book, memory))
        put_back = _now()
    steps = ((began, written), (written, synced), (opening, verified), (verified, put_back))
    elapsed, processor = (tuple(end[clock] - start[clock] for start, end in steps) for clock in range(2))
    return _Round(elapsed, processor, path.stat().st_size, _digest(book, plan))


def _now() -> tuple[float, float]:
    """Seconds of a clock, and of this process on a processor."""
    return time.perf_counter(), time.process_time()


def _rows(plan: SnapshotBenchPlan, rounds: list[_Round]) -> tuple[MicroResult, ...]:
    shape: dict[str, str | int | float | bool] = {"orders": plan.orders, "symbols": plan.symbols}
    times = [
        MicroResult(step, "ladder", "s", "lower", tuple(one.seconds[place] for one in rounds), shape)
        for place, step in enumerate(STEPS)
    ]
    times += [
        MicroResult(
            f"{step}, processor time",
            "ladder",
            "s",
            "lower",
            tuple(one.processor_seconds[place] for one in rounds),
            shape,
        )
        for place, step in enumerate(STEPS)
    ]
    sizes = tuple(float(one.size_bytes) for one in rounds)
    return (*times, MicroResult("size of the file", "ladder", "bytes", "lower", sizes, shape))
