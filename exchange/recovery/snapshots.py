"""The snapshots of a journal: where they are, and which one a restart begins with.

They lie in the journal's folder, named by the number of records that are in them::

    DIR/snapshots/00000000000004711000.snapshot

and the position in their header says how far each of the streams is: the last sequence of each shard; with several, the
last record of the merge stream as well, and how many events of the next one.

Rules: none of the parts is in use while it is saved; whoever saves or deletes snapshots holds them
(:func:`hold_snapshots`)."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from exchange.errors import UserError
from exchange.journal.identity import LOCK_NAME, SNAPSHOTS_NAME, Identity
from exchange.logs import log_event
from exchange.matching.shard import SEQUENCE
from exchange.native import load_int64
from exchange.recovery.replayer import Position
from exchange.snapshot.parts import Parts, save_parts
from exchange.snapshot.sections import PARTIAL, BadSnapshot, SectionFile, SnapshotHeader

SUFFIX: Final = ".snapshot"
UNUSABLE_SUFFIX: Final = ".unusable"
"""What the name of a snapshot that is damaged, or of another journal, ends in from then on."""


def snapshot_paths(directory: Path) -> list[Path]:
    """The snapshots of a journal, the newest first."""
    return sorted((directory / SNAPSHOTS_NAME).glob(f"*{SUFFIX}"), reverse=True)


@contextmanager
def hold_snapshots(directory: Path) -> Iterator[None]:
    """Let nobody else save or delete snapshots of a journal as long as the block lasts. What somebody who was killed
    had written of one is deleted.

    Raises:
        UserError: another process holds them, or the folder cannot be written to.
    """
    folder = directory / SNAPSHOTS_NAME
    try:
        folder.mkdir(exist_ok=True)
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: another process makes a snapshot of this journal") from error
        for partial in folder.glob(f"*{PARTIAL}"):
            partial.unlink(missing_ok=True)
        yield
    finally:
        os.close(lock)


def open_newest(directory: Path, identity: Identity) -> SectionFile | None:
    """The newest snapshot of a journal that is whole, open; None if there is none. What is wrong with others is logged.

    The caller closes it.
    """
    for path in snapshot_paths(directory):
        try:
            return open_snapshot(path, identity)
        except BadSnapshot as error:
            log_event("snapshot damaged", level=logging.ERROR, reason=str(error))
    return None


def open_snapshot(path: Path, identity: Identity) -> SectionFile:
    """A snapshot of a journal, open; the caller closes it. Raises BadSnapshot if it is not whole, or of another."""
    file = SectionFile(path)
    if (file.header.journal_id, file.header.identity_digest) != (identity.journal_id, identity.digest):
        file.close()
        raise BadSnapshot(f"{path}: header: it belongs to another journal, {file.header.journal_id:016x}")
    return file


def delete_all_but(count: int, directory: Path, identity: Identity) -> Position | None:
    """Delete old snapshots, so that the newest ones remain that are whole; others of them are renamed and said.

    Args:
        count: how many remain.
        directory: of the journal.
        identity: of the journal.

    Returns:
        The position of the oldest that remains; None if there are fewer than so many.
    """
    kept: list[Position] = []
    for path in snapshot_paths(directory):
        if len(kept) == count:
            path.unlink()
            continue
        try:
            with open_snapshot(path, identity) as file:
                kept.append(position_of(file, identity.outcomes.shard_count))
        except BadSnapshot as error:
            path.replace(path.with_name(path.name + UNUSABLE_SUFFIX))
            log_event("snapshot damaged", level=logging.ERROR, reason=str(error))
    return kept[-1] if len(kept) == count else None


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
    save_parts(path, header, parts)
    return path
