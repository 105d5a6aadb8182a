"""What a backup lacks, out of the primary's journal, while the primary goes on writing to it.

First it is found out whether the backup's journal is the beginning of the primary's (:class:`CatchUp`). In one epoch
one node writes, so two frames of a stream that have the same sequence and the same epoch are the same, and so is
everything before them. That is how logs are compared in Raft (Ongaro and Ousterhout, "In Search of an Understandable
Consensus Algorithm", 2014, 5.3) and, since its KIP-101, in Kafka. It is enough to look at the backup's last record; its
checksum is compared as well, in case somebody has run two exchanges with copies of one journal and no replication.

A backup that has more than the primary, or something else at that place, has *diverged*: it was primary, or followed
one, and wrote down what nobody else has. What it wrote cannot be taken back from its books, so it begins anew.

Then everything from there on is sent, as it stands in the journal, the merge stream first: so the backup knows which
records of that are void before it sees a frame that came later (:mod:`exchange.recovery.replayer`).

Rules: one thread. It reads only."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.journal.frames import FRAME_PLACE_DTYPE
from exchange.journal.identity import Identity
from exchange.journal.layout import FRAME_EPOCH, FRAME_HEADER_BYTES
from exchange.journal.protocol import ALL_DURABLE
from exchange.journal.reading import JournalDamage, StreamReader
from exchange.journal.streams import stream_names
from exchange.messages import RECORD_BYTES
from exchange.native import crc32c_of, load_int64, view_bytes
from exchange.recovery.kept import SESSIONS_NAME
from exchange.replication.control_line import ControlLine
from exchange.replication.control_wire import PIECE_BYTES, StreamEnd, frames_header


class Diverged(Exception):
    """A backup's journal is not the beginning of the primary's, or too far behind: why, in words."""


def sessions_digest(directory: Path) -> str:
    """A digest of whose the sessions of a journal are."""
    with suppress(FileNotFoundError):
        return hashlib.sha256((directory / SESSIONS_NAME).read_bytes()).hexdigest()
    return "0" * 64


class LastRecord(NamedTuple):
    """The last record that is there of a stream before some sequence: the epoch of its frame, and its CRC32C."""

    epoch: int
    checksum: int


def stream_ends(directory: Path, identity: Identity, next_sequences: Sequence[int]) -> tuple[StreamEnd, ...]:
    """Where the streams of a journal end, as a backup tells it, of which it is known what comes next.

    A stream whose last records are only in a snapshot ends as if it had no last one: epoch and checksum are 0.

    Raises:
        JournalDamage: the end is not there.
    """
    ends = []
    names = stream_names(identity.outcomes.shard_count)
    for name, following in zip(names, next_sequences, strict=True):
        last = LastRecord(0, 0)
        if following > 1:
            with StreamReader(directory / name, identity.stream(name), following - 1) as reader:
                last = _record_at(reader, following - 1) or last
        ends.append(StreamEnd(following, *last))
    return tuple(ends)


def _record_at(reader: StreamReader, sequence: int) -> LastRecord | None:
    """The record of a sequence, with which a reader begins; None if it is not there."""
    for places in reader.batches():
        place = places[0]
        index = sequence - int(place["first_sequence"])
        if not 0 <= index < int(place["record_count"]):
            return None
        address = int(place["address"])
        record = bytes(view_bytes(address + index * RECORD_BYTES, RECORD_BYTES))
        return LastRecord(epoch_of(address), crc32c_of(record))
    return None


def epoch_of(records_address: int) -> int:
    """The epoch of the frame whose records begin there."""
    return load_int64(records_address - FRAME_HEADER_BYTES + FRAME_EPOCH)


class CatchUp:
    """What one backup lacks. Use it in a ``with`` statement.

    Args:
        directory: of the primary's journal.
        identity: of that.
        ends: where the backup's streams end.

    Attributes:
        next_sequences: for each stream what is sent next.

    Raises:
        Diverged: the backup's journal is of no use.
        UserError: the primary's journal cannot be read.
    """

    def __init__(self, directory: Path, identity: Identity, ends: Sequence[StreamEnd]) -> None:
        self.next_sequences: Final = [end.next_sequence for end in ends]
        names = stream_names(identity.outcomes.shard_count)
        if len(ends) != len(names):
            raise Diverged(f"it has {len(ends)} streams, and there are {len(names)}")
        self._held: Final[list[NDArray[np.void]]] = [np.zeros(0, FRAME_PLACE_DTYPE) for _ in names]
        self._readers: Final = [
            _open_behind(directory / name, identity, name, end) for name, end in zip(names, ends, strict=True)
        ]

    def __enter__(self) -> "CatchUp":
        return self

    def __exit__(self, *exception: object) -> None:
        for reader in self._readers:
            reader.close()

    def send(self, line: ControlLine, until: Sequence[int] | None = None) -> int:
        """Send what the journal has by now; how many bytes that was.

        Args:
            line: to the backup.
            until: for each stream the sequence before which to stop; at that one a frame begins.

        Raises:
            LineTrouble: the backup is gone.
            UserError: the journal cannot be read.
        """
        sent_bytes = 0
        for stream in reversed(range(len(self._readers))):  # the merge stream is the last one
            before = ALL_DURABLE if until is None else until[stream]
            reader = self._readers[stream]
            reader.look_again()
            sent_bytes += self._send_places(line, stream, self._held[stream], before)
            if len(self._held[stream]) == 0:
                for places in reader.batches():
                    sent_bytes += self._send_places(line, stream, places, before)
                    if len(self._held[stream]):
                        break
        return sent_bytes

    def _send_places(self, line: ControlLine, stream: int, places: NDArray[np.void], before: int) -> int:
        """Send frames that the backup lacks, and hold those that begin at ``before`` or behind it."""
        ends = places["first_sequence"] + places["record_count"]
        wanted = places[ends > self.next_sequences[stream]]
        now = wanted[wanted["first_sequence"] < before]
        self._held[stream] = wanted[len(now) :].copy()
        sent_bytes, begin = 0, 0
        while begin < len(now):
            address = int(now["address"][begin]) - FRAME_HEADER_BYTES
            stops = now["address"] + now["record_count"] * RECORD_BYTES
            count = int(np.searchsorted(stops[begin:] - address, PIECE_BYTES, side="right"))
            last = min(begin + count, len(now) - 1)
            size_bytes = int(stops[last]) - address
            line.send_bytes((frames_header(stream, size_bytes), memoryview(view_bytes(address, size_bytes))))
            sent_bytes, begin = sent_bytes + size_bytes, last + 1
            self.next_sequences[stream] = int(now["first_sequence"][last] + now["record_count"][last])
        return sent_bytes


def _open_behind(folder: Path, identity: Identity, name: str, end: StreamEnd) -> StreamReader:
    """A reader of a stream from where a backup's ends. Raises Diverged if the backup's is not its beginning."""
    first = max(end.next_sequence - 1, 1)
    try:
        reader = StreamReader(folder, identity.stream(name), first)
    except JournalDamage as damage:
        raise Diverged(
            f"{name}: it is too far behind, at sequence {end.next_sequence}: {damage.reason}"
        ) from damage
    if end.next_sequence == 1 or end.checksum == 0 == end.epoch:
        return reader
    last = _record_at(reader, first)
    reader.close()
    if last is None:
        raise Diverged(f"{name}: it has sequence {first}, and the primary does not")
    if last != LastRecord(end.epoch, end.checksum):
        raise Diverged(
            f"{name}: its sequence {first} is of epoch {end.epoch}, and the primary's of epoch {last.epoch}"
            f"{', and says something else' if last.epoch == end.epoch else ''}"
        )
    return StreamReader(folder, identity.stream(name), first)
