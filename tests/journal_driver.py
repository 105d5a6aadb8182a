"""What the tests of the journal share: journals of each variant, and records that can be told apart."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from exchange.journal import build_journal
from exchange.journal.config import FileJournalConfig, MappedJournalConfig, NoneJournalConfig
from exchange.journal.identity import JournalDirectory, Outcomes
from exchange.journal.judging import judge_end
from exchange.journal.protocol import append, durable_sequence, sync
from exchange.journal.reading import StreamReader, records_of
from exchange.journal.segment import StreamIdentity
from exchange.native import kernel, load_acquire, load_relaxed, pause, store_int64, store_release, yield_core

SEGMENT_BYTES = 1 << 16
STREAM = "shard-0"

CONFIGS: dict[str, Any] = {
    "none": NoneJournalConfig(),
    "file": FileJournalConfig(segment_bytes=SEGMENT_BYTES),
    "mapped": MappedJournalConfig(segment_bytes=SEGMENT_BYTES),
}
IN_FILES = ("file", "mapped")

OUTCOMES = Outcomes(
    symbols=("AAPL", "MSFT"),
    shard_count=1,
    price_min_ticks=1,
    price_max_ticks=1 << 36,
    book_capacity_orders=1 << 18,
    session_capacity_orders=1 << 14,
    session_log_bytes=1 << 26,
    session_name="20261129AA",
    midnight_ns=1_795_910_400_000_000_000,
    opened_ns=1_795_950_000_000_000_000,
    feed_messages=1 << 20,
)


def make_records(first_sequence: int, count: int) -> np.ndarray[Any, Any]:
    """Records that are told apart by all of their words, as rows of eight; the sequence stands where it belongs."""
    words = np.arange(first_sequence * 8, (first_sequence + count) * 8, dtype=np.uint64)
    rows = (words * np.uint64(0x9E3779B97F4A7C15)).view(np.int64).reshape(count, 8)
    rows[:, 0] = (rows[:, 0] & ~0xFF) | (1 + np.arange(first_sequence, first_sequence + count) % 4)
    rows[:, 1] = np.arange(first_sequence, first_sequence + count)
    return rows


class Desk:
    """A journal of one variant, as plain Python uses it."""

    def __init__(
        self, variant: str, path: Path, next_sequence: int = 1, outcomes: Outcomes = OUTCOMES
    ) -> None:
        self.directory = None if variant == "none" else JournalDirectory(path, outcomes)
        self.folder = path / STREAM
        try:
            self.journal: Any = build_journal(CONFIGS[variant], self.directory, STREAM, next_sequence)
        except BaseException:
            self._let_go()
            raise
        self.next_sequence = next_sequence
        self.counts: list[int] = []

    @property
    def identity(self) -> StreamIdentity:
        """What the stream's segments say."""
        assert self.directory is not None
        return self.directory.identity.stream(STREAM)

    def append(self, count: int) -> bool:
        """Append the next ``count`` records."""
        records = make_records(self.next_sequence, count)
        if not append(self.journal.state, records.ctypes.data, count, self.next_sequence):
            return False
        self.next_sequence += count
        self.counts.append(count)
        return True

    def append_surely(self, count: int) -> None:
        """The same, with the keeper's help if it has to be."""
        if not self.append(count):
            self.journal.keep()
            assert self.append(count)

    def sync(self) -> int:
        """``sync``."""
        return int(sync(self.journal.state))

    @property
    def durable(self) -> int:
        """``durable_sequence``."""
        return int(durable_sequence(self.journal.state))

    def close(self) -> None:
        """An orderly end."""
        self.journal.close()
        self._let_go()

    def abandon(self) -> None:
        """What is left of an exchange that was killed: the files as they are, and no lock."""
        self._let_go()

    def _let_go(self) -> None:
        if self.directory is not None:
            self.directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._let_go()


def read_all(folder: Path, identity: StreamIdentity, next_sequence: int = 1) -> np.ndarray[Any, Any]:
    """All records of a stream that ends cleanly, as rows of eight words."""
    with StreamReader(folder, identity, next_sequence) as reader:
        rows = [records_of(frame).view(np.int64).reshape(-1, 8) for frame in reader.frames()]
        assert judge_end(reader) is None
    return np.concatenate(rows) if rows else np.zeros((0, 8), np.int64)


def frame_counts(folder: Path, identity: StreamIdentity) -> list[int]:
    """How many records each frame has."""
    with StreamReader(folder, identity) as reader:
        return [frame.record_count for frame in reader.frames()]


def written_files(
    variant: str, path: Path, seed: int, records: int
) -> tuple[dict[str, bytes], StreamIdentity]:
    """The segments of a stream whose exchange was killed: ``records`` records in frames of random sizes, synced now and
    then, and not at the end."""
    chance = random.Random(seed)
    with Desk(variant, path) as desk:
        while desk.next_sequence <= records:
            desk.append_surely(min(chance.choice([1, 1, 2, 7, 40, 200]), records + 1 - desk.next_sequence))
            if chance.random() < 0.1:
                desk.sync()
            if chance.random() < 0.3:
                desk.journal.keep()
        identity = desk.identity
    return {one.name: one.read_bytes() for one in sorted(desk.folder.iterdir())}, identity


def batch_sizes(records: int) -> Iterator[int]:
    """Sizes of batches that add up to ``records``."""
    chance = random.Random(records)
    while records > 0:
        size = min(records, chance.choice([1, 3, 16, 256]))
        yield size
        records -= size


@kernel
def append_numbered(journal: Any, records: int, count: int, batch: int, stop_address: int) -> int:
    """Append records 1 to ``count``, ``batch`` at a time, waiting for room; returns the last sequence.

    Each record has its sequence where a command has it, and its double in the next word.
    """
    next_sequence = 1
    while next_sequence <= count:
        size = min(batch, count + 1 - next_sequence)
        for index in range(size):
            store_int64(records + index * 64 + 8, next_sequence + index)
            store_int64(records + index * 64 + 16, 2 * (next_sequence + index))
        while not append(journal, records, size, next_sequence):
            if load_relaxed(stop_address) != 0:
                return next_sequence - 1
            yield_core()
        next_sequence += size
    return next_sequence - 1


@kernel
def watch_durable(journal: Any, until: int, stop_address: int) -> bool:
    """Look at the durable sequence until it is ``until``. False if it ever went back."""
    last = 0
    while last < until and load_acquire(stop_address) == 0:
        now = durable_sequence(journal)
        if now < last:
            store_release(stop_address, 1)
            return False
        last = now
        pause()
    return True
