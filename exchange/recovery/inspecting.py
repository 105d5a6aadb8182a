"""What is in a journal, without an exchange: a survey of its streams, segment by segment.

A survey reads every frame, so it also verifies: a stream that is damaged is reported with the place, and the others
are surveyed all the same. So are the snapshots: a stream must begin where one that is whole allows it to, and must not
end before what one has in it. It changes nothing. Of a journal that is being written to it says how far it was at that
moment, and nothing of its end but that it is not damaged.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from exchange.book.ladder_events import TIMESTAMP
from exchange.journal.copied import copied_sequence
from exchange.journal.frames import count_kinds
from exchange.journal.identity import Identity, holder_of, read_identity
from exchange.journal.judging import judge_end_now
from exchange.journal.layout import frame_bytes, stream_number
from exchange.journal.reading import JournalDamage, StreamReader, open_segments
from exchange.journal.streams import stream_names
from exchange.messages import RECORD_BYTES, CommandKind
from exchange.native import load_int64
from exchange.recovery.replayer import Position
from exchange.recovery.snapshots import open_snapshot, position_of, snapshot_paths
from exchange.snapshot.sections import BadSnapshot

_KIND_NAMES: Final = {int(kind): kind.name for kind in CommandKind}


class SegmentReport(Struct):
    """One segment: its file, and what of it was read."""

    name: str
    size_bytes: int
    first_sequence: int
    last_sequence: int
    frames: int
    used_bytes: int


class StreamReport(Struct):
    """One stream.

    ``end`` is "clean", "torn", "damaged" or "open" (being written to), and ``detail`` says where and why. The sequences
    of an empty stream are the next one and the one before it. Times are nanoseconds since 1970; 0 where records have
    none.
    """

    name: str
    first_sequence: int
    last_sequence: int
    durable_sequence: int
    frames: int
    first_time_ns: int
    last_time_ns: int
    kinds: dict[str, int]
    segments: list[SegmentReport]
    end: str
    detail: str

    @property
    def records(self) -> int:
        """How many records were read."""
        return self.last_sequence - self.first_sequence + 1


class SnapshotReport(Struct):
    """One snapshot. ``sequences`` says for each stream the last record that is in it, ``flaw`` what is wrong."""

    name: str
    size_bytes: int
    sequences: dict[str, int]
    flaw: str


class JournalReport(Struct):
    """A journal. ``holder`` says who writes to it, and is empty if nobody does; the newest snapshot is the first."""

    path: str
    identity: Identity
    holder: str
    streams: list[StreamReport]
    snapshots: list[SnapshotReport]

    @property
    def is_damaged(self) -> bool:
        """Whether a stream is."""
        return any(stream.end == "damaged" for stream in self.streams)


def survey_journal(directory: Path) -> JournalReport:
    """Read a whole journal.

    Raises:
        UserError: there is none, or it cannot be read at all.
    """
    identity = read_identity(directory)
    holder = holder_of(directory) or ""
    snapshots = _survey_snapshots(directory, identity)
    known = next((one.sequences for one in snapshots if not one.flaw), {})
    streams = [
        _survey_stream(directory / name, identity, known.get(name, 0), is_open=bool(holder))
        for name in sorted({*_stream_names(directory), *known}, key=stream_number)
    ]
    return JournalReport(str(directory), identity, holder, streams, snapshots)


def _survey_snapshots(directory: Path, identity: Identity) -> list[SnapshotReport]:
    found = []
    for path in snapshot_paths(directory):
        try:
            size_bytes = path.stat().st_size
            with open_snapshot(path, identity) as file:
                sequences = _sequences(position_of(file, identity.outcomes.shard_count))
            found.append(SnapshotReport(path.name, size_bytes, sequences, ""))
        except BadSnapshot as error:
            found.append(SnapshotReport(path.name, size_bytes, {}, str(error)))
        except FileNotFoundError:  # it has just become too old
            continue
    return found


def _sequences(position: Position) -> dict[str, int]:
    shards = len(position.shards)
    return dict(zip(stream_names(shards), (*position.shards, position.merge), strict=False))


def _stream_names(directory: Path) -> list[str]:
    names = []
    for path in directory.iterdir():
        with suppress(ValueError):
            stream_number(path.name)
            names.append(path.name)
    return names


def _survey_stream(folder: Path, identity: Identity, known_sequence: int, *, is_open: bool) -> StreamReport:
    # Segments that a snapshot made superfluous may be gone. Without one, a stream begins with its first record.
    kept = next((one.named_sequence for one in open_segments(folder)), None) or copied_sequence(folder) + 1
    begins = min(kept, known_sequence + 1)
    report = StreamReport(
        folder.name, begins, begins - 1, 0, 0, 0, 0, {}, [], "open" if is_open else "clean", ""
    )
    counts = np.zeros(256, np.int64)
    try:
        with StreamReader(folder, identity.stream(folder.name), begins) as reader:
            for places in reader.batches():
                _add_batch(report, reader, places, counts)
            report.durable_sequence = reader.durable_sequence
            tear = judge_end_now(reader)
            if tear is not None and not is_open:
                report.end, report.detail = "torn", str(tear)
            if reader.next_sequence <= known_sequence:
                report.end = "damaged"
                report.detail = (
                    f"journal {folder}: the stream ends with sequence {reader.next_sequence - 1}, and a snapshot has"
                    f" it to sequence {known_sequence}"
                )
    except JournalDamage as damage:
        report.end, report.detail = "damaged", str(damage)
    kinds = {_KIND_NAMES.get(kind, f"kind {kind}"): int(count) for kind, count in enumerate(counts) if count}
    report.kinds = kinds
    return report


def _add_batch(
    report: StreamReport, reader: StreamReader, places: NDArray[np.void], counts: NDArray[np.int64]
) -> None:
    segment = reader.segment
    assert segment is not None
    first, last, records = places[0], places[-1], int(places["record_count"].sum())
    last_sequence = int(last["first_sequence"] + last["record_count"]) - 1
    if not report.segments or report.segments[-1].name != segment.path.name:
        report.segments.append(
            SegmentReport(segment.path.name, segment.size_bytes, int(first["first_sequence"]), 0, 0, 0)
        )
    if report.frames == 0:
        report.first_time_ns = _time_of(first, 0)
    report.last_time_ns = _time_of(last, int(last["record_count"]) - 1)
    report.last_sequence = report.segments[-1].last_sequence = last_sequence
    report.frames += len(places)
    report.segments[-1].frames += len(places)
    report.segments[-1].used_bytes += frame_bytes(0) * len(places) + records * RECORD_BYTES
    count_kinds(places.ctypes.data, len(places), counts.ctypes.data)


def _time_of(place: Any, index: int) -> int:
    return load_int64(int(place["address"]) + index * RECORD_BYTES + TIMESTAMP)
