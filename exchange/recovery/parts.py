"""What a journal is replayed into, and the snapshots of it.

:class:`Parts` are an exchange that does not run, the gateway whose sessions its clients have, and the publisher of its
feed. Snapshots of a journal lie in its folder, named by the records that are in them::

    DIR/snapshots/00000000000004711000.snapshot

and have, beside the sections of :mod:`exchange.snapshot`, one for each shard: ``shard-K/left``, events that the shard
had made and that had not gone to clients and feed. With one shard there are none; with several the merge stream may end
between the events of one command.

Rules: none of the parts is in use while it is saved or restored."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from exchange.journal.identity import SNAPSHOTS_NAME, Identity
from exchange.logs import log_event
from exchange.market_data.publisher import Publisher
from exchange.messages import EVENT_DTYPE
from exchange.recovery.replayer import Events, Position
from exchange.snapshot.feed import restore_feed, save_feed
from exchange.snapshot.sections import BadSnapshot, SectionFile, SnapshotHeader, write_sections
from exchange.snapshot.sessions import restore_sessions, save_sessions
from exchange.snapshot.shards import restore_shard, save_shard
from exchange.transport.network import NetworkTransport

if TYPE_CHECKING:
    from exchange.assembly import Exchange

SUFFIX: Final = ".snapshot"


class Parts(NamedTuple):
    """An exchange that does not run, its gateway, its feed if it has one, and whose the sessions are."""

    exchange: "Exchange"
    transport: NetworkTransport
    publisher: Publisher | None
    users: tuple[str, ...]


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
    """The last sequence of each stream that is in a snapshot."""
    position = file.header.position
    return Position(position[:shard_count], position[shard_count] if shard_count > 1 else 0)


def save_snapshot(
    directory: Path, identity: Identity, parts: Parts, position: Position, left: Sequence[Events]
) -> Path:
    """Write a snapshot of a journal's parts at a position.

    Args:
        directory: of the journal.
        identity: of the journal.
        parts: what its streams have been replayed into.
        position: up to where.
        left: for each shard the events that have not gone on.

    Raises:
        UserError: the file cannot be written.
    """
    streams = (*position.shards, position.merge) if len(position.shards) > 1 else position.shards
    header = SnapshotHeader(identity.journal_id, identity.digest, streams, time.time_ns())
    path = directory / SNAPSHOTS_NAME / f"{sum(position.shards):020d}{SUFFIX}"
    path.parent.mkdir(exist_ok=True)
    with write_sections(path, header) as writer:
        for shard, state in enumerate(parts.exchange.shards):
            save_shard(writer, shard, state)
            writer.write(f"shard-{shard}/left", left[shard])
        save_sessions(writer, parts.transport.memory, parts.users)
        if parts.publisher is not None:
            save_feed(writer, parts.publisher)
    return path


def restore_snapshot(file: SectionFile, parts: Parts) -> list[Events]:
    """Put a snapshot back into parts that are as they were built; the events that had not gone on, of each shard.

    Raises:
        BadSnapshot: its sections contradict each other.
        UserError: the settings or the users are others.
    """
    left = []
    for shard, state in enumerate(parts.exchange.shards):
        restore_shard(file, shard, state)
        left.append(np.array(file.records(f"shard-{shard}/left", EVENT_DTYPE)))
    restore_sessions(file, parts.transport.memory, parts.users)
    if parts.publisher is not None:
        restore_feed(file, parts.publisher)
    return left
