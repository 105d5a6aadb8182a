"""All parts of an exchange into one file, and back, whether it serves clients or only applies what it is given.

What there is depends on the exchange: one in memory has no sessions, and one without market data no feed. A snapshot
has the parts that the exchange has, and is put back into one that has the same; what is missing on either side is a
mistake, and not passed over.

Rules: see :mod:`exchange.snapshot`. The header's position names the last sequence of each shard, in the order of the
shards; what other streams there are comes behind."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.gateway.session_memory import SessionMemory
from exchange.market_data.publisher import Publisher
from exchange.matching.shard import SEQUENCE, Shard
from exchange.messages import EVENT_DTYPE
from exchange.native import load_int64
from exchange.risk.recount import REFERENCE_DTYPE, put_references, references
from exchange.snapshot.feed import restore_feed, save_feed
from exchange.snapshot.sections import BadSnapshot, SectionFile, SnapshotHeader, write_sections
from exchange.snapshot.sessions import restore_sessions, save_sessions
from exchange.snapshot.shards import restore_shard, save_shard


class Parts(NamedTuple):
    """What a snapshot is made of.

    Attributes:
        shards: all of them.
        sessions: the clients', if there are some.
        users: for each session its user's name.
        publisher: the feed's, if there is one.
        left: for each shard the events that it has made and that have not gone on to sessions and feed; none at all if
            nobody has to know. With several shards, the order of events may end between those of one command.
        risk: its owner; what is saved of it is how often each symbol has traded, and at which price last.
    """

    shards: Sequence[Shard]
    sessions: SessionMemory | None = None
    users: Sequence[str] = ()
    publisher: Publisher | None = None
    left: Sequence[NDArray[np.void]] = ()
    risk: object = None


def save_parts(path: Path, header: SnapshotHeader, parts: Parts) -> int:
    """Write a snapshot; how many bytes it has. Raises UserError if it cannot be written."""
    assert _position(parts) == header.position[: len(parts.shards)]
    with write_sections(path, header) as writer:
        for number, shard in enumerate(parts.shards):
            save_shard(writer, number, shard)
        for number, events in enumerate(parts.left):
            writer.write(f"shard-{number}/left", events)
        if parts.sessions is not None:
            save_sessions(writer, parts.sessions, parts.users)
            writer.write("risk/references", references(parts.risk, parts.shards[0].symbol_count))
        if parts.publisher is not None:
            save_feed(writer, parts.publisher)
    return writer.size_bytes


def restore_parts(file: SectionFile, parts: Parts) -> None:
    """Put everything back.

    Raises:
        BadSnapshot: the sections contradict each other.
        UserError: the settings are others than those of the exchange that was saved.
    """
    for what, is_there, section in (
        (f"{len(parts.shards)} shards", True, f"shard-{len(parts.shards) - 1}/state"),
        (f"{len(parts.shards)} shards", False, f"shard-{len(parts.shards)}/state"),
        ("sessions", parts.sessions is not None, "sessions/table"),
        ("a feed", parts.publisher is not None, "feed/state"),
    ):
        if is_there != (section in file.sections):
            has = "has no" if is_there else "has"
            raise UserError(
                f"{file.path}: {has} {section!r}, and the settings ask for {what if is_there else 'none'}"
            )
    for number, shard in enumerate(parts.shards):
        restore_shard(file, number, shard)
    if _position(parts) != file.header.position[: len(parts.shards)]:
        raise BadSnapshot(
            f"{file.path}: header: the position {file.header.position} is not that of the shards"
        )
    if parts.sessions is not None:
        restore_sessions(file, parts.sessions, parts.users)
        put_references(parts.risk, file.records("risk/references", REFERENCE_DTYPE))
    if parts.publisher is not None:
        restore_feed(file, parts.publisher)


def left_events(file: SectionFile, shard_count: int) -> list[NDArray[np.void]]:
    """The events of each shard that had not gone on, copied."""
    names = [f"shard-{number}/left" for number in range(shard_count)]
    return [np.array(file.records(name, EVENT_DTYPE)) for name in names if name in file.sections]


def _position(parts: Parts) -> tuple[int, ...]:
    return tuple(load_int64(shard.words + SEQUENCE) for shard in parts.shards)
