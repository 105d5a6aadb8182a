"""The snapshots of a journal: where they are, and which one a restart begins with.

They lie in the journal's folder, named by the number of records that are in them::

    DIR/snapshots/00000000000004711000.snapshot

and the position in their header says how far each of the streams is: the last sequence of each shard; with several, the
last record of the merge stream as well, and how many events of the next one.

Rules: none of the parts is in use while it is saved."""

import logging
import time
from pathlib import Path
from typing import Final

from exchange.journal.identity import SNAPSHOTS_NAME, Identity
from exchange.logs import log_event
from exchange.matching.shard import SEQUENCE
from exchange.native import load_int64
from exchange.recovery.replayer import Position
from exchange.snapshot.parts import Parts, save_parts
from exchange.snapshot.sections import BadSnapshot, SectionFile, SnapshotHeader

SUFFIX: Final = ".snapshot"


def snapshot_paths(directory: Path) -> list[Path]:
    """The snapshots of a journal, the newest first."""
    return sorted((directory / SNAPSHOTS_NAME).glob(f"*{SUFFIX}"), reverse=True)


def open_newest(directory: Path, identity: Identity) -> SectionFile | None:
    """The newest snapshot of a journal that is whole, open; None if there is none. What is wrong with others is logged.

    The caller closes it.
    """
    for path in snapshot_paths(directory):
        try:
            file = SectionFile(path)
        except BadSnapshot as error:
            log_event("snapshot damaged", level=logging.ERROR, reason=str(error))
            continue
        of = (file.header.journal_id, file.header.identity_digest)
        if of == (identity.journal_id, identity.digest):
            return file
        file.close()
        log_event("snapshot of another journal", level=logging.ERROR, path=str(path))
    return None


def position_of(file: SectionFile, shard_count: int) -> Position:
    """How much of each stream is in a snapshot."""
    position = file.header.position
    return Position(position[:shard_count], *position[shard_count:])


def save_snapshot(directory: Path, identity: Identity, parts: Parts, reached: Position) -> Path:
    """Write a snapshot of a journal's parts.

    Args:
        directory: of the journal.
        identity: of the journal.
        parts: what its streams have been replayed into.
        reached: how much of the streams.

    Raises:
        UserError: the file cannot be written.
    """
    shards = tuple(load_int64(shard.words + SEQUENCE) for shard in parts.shards)
    position = (*shards, reached.merge, reached.taken) if len(shards) > 1 else shards
    header = SnapshotHeader(identity.journal_id, identity.digest, position, time.time_ns())
    path = directory / SNAPSHOTS_NAME / f"{sum(shards):020d}{SUFFIX}"
    path.parent.mkdir(exist_ok=True)
    save_parts(path, header, parts)
    return path
