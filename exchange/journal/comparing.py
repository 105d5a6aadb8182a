"""Two journals held against each other, record by record: where do they first say something else?

Frames are how records were appended and not what they are, so two journals of the same records in other frames are
alike. A stream of which one is longer is alike as far as the shorter one goes, and the rest is told.

Rules: both are only read. Both may be written to meanwhile; then the longer one has simply more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.journal.identity import read_identity
from exchange.journal.reading import StreamReader, records_of
from exchange.journal.streams import stream_names
from exchange.messages import COMMAND_DTYPE, RECORD_BYTES, Command, CommandKind

Records = NDArray[np.void]


class StreamDifference(NamedTuple):
    """What two journals have of a stream.

    Attributes:
        name: of the stream.
        alike: how many records they have alike, from the first on.
        sequence: of the first record that differs; None if none does.
        first: that record of the first journal, in words.
        second: of the second.
        longer_by: how many records the first has more than the second, if none differs; negative: fewer.
    """

    name: str
    alike: int
    sequence: int | None
    first: str
    second: str
    longer_by: int


def compare_journals(first: Path, second: Path) -> list[StreamDifference]:
    """Each stream of two journals.

    Raises:
        UserError: one of them is no journal, or cannot be read.
    """
    shards = max(read_identity(path).outcomes.shard_count for path in (first, second))
    return [_compare(first, second, name) for name in stream_names(shards)]


def _compare(first: Path, second: Path, name: str) -> StreamDifference:
    readers = [StreamReader(path / name, read_identity(path).stream(name)) for path in (first, second)]
    left, right = (_Records(reader) for reader in readers)
    alike = 0
    try:
        while True:
            count = min(left.ready(), right.ready())
            if count == 0:
                rest = left.count_rest() - right.count_rest()
                return StreamDifference(name, alike, None, "", "", rest)
            ours, theirs = left.take(count), right.take(count)
            differing = np.flatnonzero(_as_words(ours) != _as_words(theirs))
            if len(differing) > 0:
                place = int(differing[0]) // (RECORD_BYTES // 8)
                told = describe(ours[place]), describe(theirs[place])
                return StreamDifference(name, alike + place, int(ours["sequence"][place]), *told, 0)
            alike += count
    finally:
        for reader in readers:
            reader.close()


def _as_words(records: Records) -> NDArray[np.int64]:
    return records.view(np.int64).reshape(-1)


class _Records:
    """The records of a stream, some at a time, whatever frames they are in."""

    def __init__(self, reader: StreamReader) -> None:
        self._frames: Final = reader.frames()
        self._held = np.zeros(0, COMMAND_DTYPE)

    def ready(self) -> int:
        """How many records can be taken; 0 at the end."""
        if len(self._held) == 0:
            self._held = next(self._blocks(), self._held)
        return len(self._held)

    def take(self, count: int) -> Records:
        """The next records, which are ready."""
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def count_rest(self) -> int:
        """How many records are left."""
        return len(self._held) + sum(len(block) for block in self._blocks())

    def _blocks(self) -> Iterator[Records]:
        for frame in self._frames:
            yield records_of(frame)


def describe(record: np.void) -> str:
    """A record in words: its kind, and the fields that are not 0."""
    plain = Command(*record.tolist())
    known = plain.kind in CommandKind.__members__.values()
    kind = CommandKind(plain.kind).name if known else f"kind {plain.kind}"
    told = [f"{name} {value}" for name, value in plain._asdict().items() if value and name != "kind"]
    return f"{kind} ({', '.join(told)})"
