"""Opening a journal to go on with it: whose it is, where each stream ends, and what is cut.

Before an exchange is built, every stream is read once to its end. A torn end is cut, and said; damage is refused. Then
it is known with which sequence each stream goes on, the journals can be opened to be written, and the exchange be
built; only then the streams are read again, and replayed. Reading without replaying takes a fraction of a second for
ten million records.

Rules: whoever opens a directory for writing holds it (:class:`~exchange.journal.identity.JournalDirectory`)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from exchange.errors import UserError
from exchange.journal.identity import Identity, JournalDirectory
from exchange.journal.judging import cut_torn_tail, judge_end
from exchange.journal.reading import StreamReader
from exchange.journal.segment import segment_paths, settle
from exchange.journal.streams import stream_names
from exchange.journal.words import SLOTS
from exchange.logs import log_event
from exchange.recovery.replayer import END, Position

START: Final = END
"""The beginning of all streams."""


class Ends(NamedTuple):
    """Where streams end: the next sequence of each, and how many bytes were cut from all of them."""

    next_sequences: list[int]
    cut_bytes: int


def find_ends(directory: JournalDirectory, shard_count: int, begin: Position = START) -> Ends:
    """Where each stream ends, of which what is torn is cut.

    Args:
        directory: the journal.
        shard_count: how many shards it has.
        begin: where to begin reading, which is the position of a snapshot.

    Raises:
        JournalDamage: something that was synced is not there.
        UserError: a file cannot be read, or not be synced.
    """
    following, cut_bytes = [], 0
    for name, first in zip(stream_names(shard_count), first_sequences(shard_count, begin), strict=True):
        _settle_last(directory.path / name)
        with StreamReader(directory.path / name, directory.identity.stream(name), first) as reader:
            reader.read_to_end()
            tear = judge_end(reader)
            if tear is not None:
                cut_torn_tail(tear)
                cut_bytes += tear.torn_bytes
                log_event("journal cut", level=logging.WARNING, stream=name, end=str(tear))
            following.append(reader.next_sequence)
    return Ends(following, cut_bytes)


def _settle_last(folder: Path) -> None:
    """Settle the segments of a stream that may have been unsynced when its writer ended."""
    if not folder.is_dir():
        return
    for path in segment_paths(folder)[-SLOTS:]:
        try:
            settle(path)
        except OSError as error:
            raise UserError(f"journal {path}: {error.strerror}") from error


def first_sequences(shard_count: int, begin: Position) -> list[int]:
    """For each stream the first sequence behind a position."""
    shards = [last + 1 for last in begin.shards] or [1] * shard_count
    return [*shards, begin.merge + 1] if shard_count > 1 else shards


def open_readers(
    directory: Path, identity: Identity, shard_count: int, begin: Position = START
) -> tuple[list[StreamReader], StreamReader | None]:
    """Readers of the shards' streams, and of the merge stream if there is one, from a position on."""
    firsts = first_sequences(shard_count, begin)
    names = stream_names(shard_count)
    readers = [
        StreamReader(directory / name, identity.stream(name), first)
        for name, first in zip(names, firsts, strict=True)
    ]
    return readers[:shard_count], readers[shard_count] if shard_count > 1 else None


def close_readers(readers: Sequence[StreamReader], merge: StreamReader | None) -> None:
    """Unmap what they have read."""
    for reader in (*readers, *([merge] if merge is not None else [])):
        reader.close()
