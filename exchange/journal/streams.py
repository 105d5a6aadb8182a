"""All streams of an exchange's journal, opened together: one for each shard, and one for the order of their events.

One shard needs no such order, and without a journal there is nothing to order; then the stream ``merge`` is of the
variant that does nothing, like the others.

The owner of the streams lives as long as the exchange that writes to them, and is closed when its threads have
ended.

Where shards are processes, their streams are looked after there (:mod:`exchange.journal.apart`), and the agent and the
keeper of the exchange have the stream ``merge`` alone, which the egress writes."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.agent_layout import EGRESS_AGENT, JOURNAL_AGENT, shard_agent
from exchange.errors import UserError
from exchange.journal import build_journal
from exchange.journal.apart import StreamsApart
from exchange.journal.config import JournalConfig, NoneJournalConfig
from exchange.journal.identity import JournalDirectory
from exchange.journal.keeper import KEEP_EVERY_S, DiskFailure, JournalKeeper
from exchange.journal.layout import MERGE_STREAM, shard_stream
from exchange.journal.protocol import Journal, append
from exchange.journal.segmented import SegmentedJournal
from exchange.journal.syncing import JournalSync, JournalSyncMemory
from exchange.native import address_of, shared_with_children
from exchange.placement.memory_owners import made_for

_FRAME_RECORDS: Final = 32
"""How many records of the merge stream go into a frame after a restart: it fits into any segment."""


def stream_names(shard_count: int) -> tuple[str, ...]:
    """The names of all streams that a journal of so many shards has."""
    shards = tuple(shard_stream(shard) for shard in range(shard_count))
    return (*shards, MERGE_STREAM) if shard_count > 1 else shards


class JournalStreams:
    """Owner of the journals of all streams.

    Attributes:
        journal_id: what their frames say; 0 if nothing is kept.

    Args:
        config: the [journal] table of a profile.
        directory: where; None for a journal of kind ``none``.
        shard_count: how many shards there are.
        next_sequences: for each of :func:`stream_names` the sequence of the next record; none means 1 for all.
        apart: whether the shards are processes, which take their streams over.

    Raises:
        UserError: there is no room, or a folder holds records from those sequences on.
    """

    def __init__(
        self,
        config: JournalConfig,
        directory: JournalDirectory | None,
        shard_count: int,
        next_sequences: Sequence[int] = (),
        *,
        apart: bool = False,
    ) -> None:
        self.config: Final = config
        self._directory: Final = directory
        self._parts: Final[list[StreamsApart]] = []
        self.journal_id: Final = 0 if directory is None else directory.identity.journal_id
        names = stream_names(shard_count)
        following = dict(zip(names, next_sequences or [1] * len(names), strict=True))
        with shared_with_children() if apart else nullcontext():
            self.shards: Final = [
                made_for(
                    shard_agent(shard), "journal", build_journal, config, directory, name, following[name]
                )
                for shard, name in enumerate(names[:shard_count])
            ]
        self._has_merge: Final = MERGE_STREAM in following
        self.merge: Final = made_for(
            EGRESS_AGENT,
            "journal",
            build_journal,
            config if self._has_merge else NoneJournalConfig(),
            directory,
            MERGE_STREAM,
            following.get(MERGE_STREAM, 1),
        )
        self._own: Final = [
            *([] if apart else self.shards),
            *([self.merge] if self._has_merge or apart else []),
        ]
        self._sync_every_ns: Final = (
            0 if isinstance(config, NoneJournalConfig) or config.gate == "synced" else config.sync_every_ns
        )
        states = tuple(one.state for one in self._own)
        self._sync: Final = made_for(JOURNAL_AGENT, "journal", JournalSyncMemory, states, self._sync_every_ns)

    @property
    def gate(self) -> str:
        """When events may leave."""
        return "none" if isinstance(self.config, NoneJournalConfig) else self.config.gate

    @property
    def is_kept(self) -> bool:
        """Whether anything is written at all."""
        return not isinstance(self.config, NoneJournalConfig)

    @property
    def merge_sequence(self) -> int:
        """The last record that the merge stream has; 0 if there is no such stream."""
        return self.merge.appended_sequence()

    def append_to_merge(
        self, records: NDArray[np.void], first_sequence: int, writer: Any, keeper_runs: bool = False
    ) -> bool:
        """Append records to the merge stream when no shard runs; False if there is no room on the disk.

        ``keeper_runs``: the keeper does, and makes room.

        ``writer`` is the state that the exchange appends with: the stream's journal, or what has that in it.

        Raises:
            OSError: the disk fails.
        """
        for begin in range(0, len(records), _FRAME_RECORDS):
            frame = records[begin : begin + _FRAME_RECORDS]
            while not append(writer, address_of(frame), len(frame), first_sequence + begin):
                if keeper_runs:
                    time.sleep(KEEP_EVERY_S)
                elif not self.merge.make_ready():
                    return False
        return True

    def set_epoch(self, epoch: int) -> None:
        """What is appended from now on is of this epoch, in all streams. For when no shard runs."""
        for one in (*self.shards, self.merge):
            one.set_epoch(epoch)

    def every_state(self) -> tuple[Any, ...]:
        """The states of all streams' journals that are kept, in the order of :func:`stream_names`."""
        return (*self.states(), *([self.merge.state] if self._has_merge else []))

    def states(self) -> tuple[Any, ...]:
        """The states of the shards' journals."""
        return tuple(one.state for one in self.shards)

    def all_states(self) -> tuple[Any, ...]:
        """The states of the shards' journals, and behind them that of the merge stream's."""
        return (*self.states(), self.merge.state)

    def agent(self) -> JournalSync:
        """The agent that makes durable what has been appended."""
        return self._sync.agent

    def keeper(self) -> JournalKeeper:
        """The thread that prepares and closes segments."""
        return JournalKeeper(self._own)

    def apart(self, shards: Sequence[int], idle: Any) -> StreamsApart | None:
        """The streams of some shards, for a process that takes them over; None if nothing is written.

        Args:
            shards: their numbers.
            idle: the idle strategy of the thread that syncs there.
        """
        if self._directory is None:
            return None
        journals = [
            one for one in (self.shards[shard] for shard in shards) if isinstance(one, SegmentedJournal)
        ]
        self._parts.append(StreamsApart(journals, self._sync_every_ns, self._directory.lock, idle))
        return self._parts[-1]

    def close(self) -> None:
        """Sync and close all streams. No thread may use them any more.

        Raises:
            DiskFailure: the disk fails; all streams are closed nevertheless.
            Exception: what a process says that has closed its own.
        """
        failures: list[Exception] = []
        closing: list[Journal | StreamsApart] = [*self._own, *self._parts]
        for one in closing:
            try:
                one.close()
            except OSError as error:
                failures.append(DiskFailure(error))
            except (UserError, RuntimeError) as error:
                failures.append(error)
        if failures:
            raise failures[0]
