"""Streams through a replica: the frames of each shard as they are wanted, in the order of the merge stream if there is
one.

:class:`Replayer` is what a restart, a snapshot and ``exchange journal replay`` run. It begins at a position, by default
the beginning, and goes to the end of the streams. What it does with each frame is told in
:mod:`exchange.recovery.replaying`.

**A merge stream that is ahead.** The merge stream and the shards' streams are synced one after the other. After a power
cut the merge stream may name events whose commands are gone. Nobody has heard of them, for both have to be durable
before an event leaves. So those records are void, and whoever goes on with the journal has to write that down, or the
next restart would take them for events that came later: a record that names no shard and says how many records
before it are void (:func:`correction`).

**A merge stream that is behind** has lost the order in which the events that follow were taken, so another one is
chosen, and written down likewise. Not any will do: in a session's table an order takes the room of one that was
answered before it came. So the frame comes next whose *last* command is the oldest. If frame A holds an order that has
the room of one that B answered, then B was applied before that order came, so all commands in B are older than it,
and than the last in A: B, and all before it in its shard, come first.

Rules: as of the replica, nothing else uses the shards."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.gateway.inbound import Requests
from exchange.journal.protocol import ALL_DURABLE
from exchange.journal.reading import StreamReader, records_of
from exchange.matching.gated_egress import NO_SHARD
from exchange.matching.shard import EVENTS, SEQUENCE
from exchange.messages import COMMAND_DTYPE, RECORD_BYTES, CommandKind
from exchange.native import body_for, load_int64, view_bytes
from exchange.recovery.replaying import (
    IMPOSSIBLE,
    NOTHING_LEFT,
    REPLAYED,
    Replica,
    ReplicaMemory,
    replay_rest,
    replay_runs,
)

Records = NDArray[np.void]
"""Records of ``COMMAND_DTYPE``."""
Events = NDArray[np.void]
"""Records of ``EVENT_DTYPE``."""


class Position(NamedTuple):
    """How far streams have been replayed.

    Attributes:
        shards: the last sequence of each shard's stream.
        merge: the last record of the merge stream all of whose events have gone to the sink.
        taken: how many events have that the next record names. A shard's stream may end, or may not be read further,
            where the merge stream names more of its events.
    """

    shards: tuple[int, ...]
    merge: int = 0
    taken: int = 0


NEVER_NS: Final = 1 << 62
END: Final = Position(())
"""Of no shard: the beginning of all streams, or their end, whatever is asked for."""


class Replayer:
    """Shards without an exchange around them, and the streams that they go through.

    Args:
        shards: the states of the shards, at the position where the readers begin.
        requests: what a lane decodes with, whose sessions the records are put back into.
        sink: where the events go.
        readers: of the shards' streams, in their order.
        merge: reader of the merge stream; None if there is none.
        last: where to stop; no shards means at the end of all streams.
        begin: where the readers begin.

    Attributes:
        commands: how many records have been replayed.
        corrections: what has to be appended to the merge stream before the exchange goes on.
    """

    def __init__(
        self,
        shards: Sequence[Any],
        requests: Requests,
        sink: Any,
        readers: Sequence[StreamReader],
        merge: StreamReader | None = None,
        last: Position = END,
        begin: Position = END,
    ) -> None:
        self._memory: Final = ReplicaMemory(len(shards))
        self._replica: Final = Replica(tuple(shards), requests, sink, self._memory.cursors)
        self._readers: Final = tuple(readers)
        self._batches: Final = [reader.batches() for reader in readers]
        self._held: Final[list[Records | None]] = [None] * len(shards)  # what the cursors point to
        self._merge: Final = merge
        self._begun: Final = [self._sequence(shard) for shard in range(len(shards))]
        self.corrections: Final[list[bytes]] = []
        self._left: tuple[Events, ...] = ()
        self._last: Final = last.shards or (ALL_DURABLE,) * len(shards)
        self._last_merge: Final = last.merge if last.shards else ALL_DURABLE
        self._begin = begin
        self._runs: Records = np.zeros(0, COMMAND_DTYPE)
        self._run_taken = begin.taken
        for shard, last_sequence in enumerate(self._last):
            self._memory.stop_behind(shard, last_sequence)

    def put_left(self, left: Sequence[Events]) -> None:
        """Begin with events of each shard that have not gone to the sink, as :meth:`left` has told them."""
        self._left = tuple(np.ascontiguousarray(events) for events in left)
        for shard, events in enumerate(self._left):
            self._memory.put_left(shard, events)

    def left(self) -> list[Events]:
        """For each shard the events that have not gone to the sink, copied."""
        return [self._memory.left_events(shard) for shard in range(len(self._readers))]

    @property
    def commands(self) -> int:
        """How many records have been replayed, over all shards."""
        return sum(self._sequence(shard) - begun for shard, begun in enumerate(self._begun))

    @property
    def events(self) -> int:
        """How many events the shards have made, ever."""
        return sum(load_int64(shard.words + EVENTS) for shard in self._replica.shards)

    def position(self) -> Position:
        """How far it is."""
        shards = tuple(self._sequence(shard) for shard in range(len(self._readers)))
        run, wanted = self._memory.run()
        merge = int(self._runs["sequence"][run - 1]) if run > 0 else self._begin.merge
        return Position(shards, merge, self._taken_of(run, wanted))

    def _taken_of(self, run: int, wanted: int) -> int:
        """How many events of a record of the merge stream have gone to the sink, of which so many are still wanted."""
        before = self._run_taken if run == 0 else 0
        return before + (int(self._runs["quantity_lots"][run]) - wanted if wanted else 0)

    def run_ordered(self) -> None:
        """Replay as far as the merge stream says what came next; with one shard, to the end.

        Raises:
            UserError: a record that this exchange cannot have written, with its place.
        """
        if self._merge is None:
            self._run_one()
        else:
            self._run_merged(self._merge)

    def run(self) -> None:
        """Replay to the end of the streams.

        Raises:
            UserError: a record that this exchange cannot have written, with its place.
        """
        self.run_ordered()
        if self._merge is not None:
            self._run_rest()

    def _run_merged(self, merge: StreamReader) -> None:
        operation = body_for(replay_runs, self._replica)
        self._begin_runs(merge)
        while True:
            outcome = operation(self._replica, self._runs.ctypes.data, len(self._runs))
            if outcome == REPLAYED:
                return
            if outcome == IMPOSSIBLE:
                self._refuse()
            if not self._refill(outcome):
                self._note_void(outcome)
                return

    def _begin_runs(self, merge: StreamReader) -> None:
        """Read the records of the merge stream. The first is shortened by what of its events had gone to the sink
        before; it may be all of them by now, for a restart writes a record for just those that are there."""
        records = valid_runs(merge)
        self._runs = records[records["sequence"] <= self._last_merge]
        self._memory.begin_runs()
        if len(self._runs) and self._run_taken:
            self._runs["quantity_lots"][0] -= self._run_taken
            if self._runs["quantity_lots"][0] == 0:
                self._begin = self._begin._replace(merge=int(self._runs["sequence"][0]))
                self._runs, self._run_taken = self._runs[1:], 0

    def _note_void(self, shard: int) -> None:
        """The merge stream names events of a shard that are not there, now and in all that follows."""
        run, wanted = self._memory.run()
        count = self._taken_of(run, wanted)
        self.corrections.append(correction(len(self._runs) - run))
        if count > 0:
            self.corrections.append(merge_record(shard, count))

    def _run_one(self) -> None:
        """The only stream, to its end."""
        while self._replay(0, ALL_DURABLE) == NOTHING_LEFT:
            if not self._refill(0):
                return

    def _run_rest(self) -> None:
        """What the merge stream does not name, oldest frame first."""
        runs: list[list[int]] = []
        for shard in range(len(self._readers)):
            self._note_run(runs, shard, self._memory.left(shard))
            self._replay(shard, 0)
        due = [self._due_ns(shard) for shard in range(len(self._readers))]
        while min(due) < NEVER_NS:
            shard = due.index(min(due))
            before = self._events(shard)
            self._replay(shard, 1)
            self._note_run(runs, shard, self._events(shard) - before)
            due[shard] = self._due_ns(shard)
        self.corrections.extend(merge_record(shard, count) for shard, count in runs)

    def _note_run(self, runs: list[list[int]], shard: int, count: int) -> None:
        """So many events of a shard came next."""
        if count > 0 and runs and runs[-1][0] == shard:
            runs[-1][1] += count
        elif count > 0:
            runs.append([shard, count])

    def _due_ns(self, shard: int) -> int:
        """The time of the last command in a shard's next frame; never, if there is none."""
        if self._sequence(shard) >= self._last[shard]:
            return NEVER_NS
        held = self._held[shard]
        if held is None or self._memory.next_frame(shard) == len(held):
            if not self._refill(shard):
                return NEVER_NS
            held = self._held[shard]
            assert held is not None
        frame = held[self._memory.next_frame(shard)]
        records = view_bytes(int(frame["address"]), int(frame["record_count"]) * RECORD_BYTES)
        return int(np.frombuffer(records, COMMAND_DTYPE)["timestamp_ns"].max())

    def _replay(self, shard: int, frames: int) -> int:
        """As :func:`replay_rest`. Raises UserError for a record that this exchange cannot have written."""
        outcome = int(body_for(replay_rest, self._replica)(self._replica, shard, frames))
        if outcome == IMPOSSIBLE:
            self._refuse()
        return outcome

    def _events(self, shard: int) -> int:
        return load_int64(self._replica.shards[shard].words + EVENTS)

    def _refill(self, shard: int) -> bool:
        """Put the shard's next frames before it; whether there are any that it may apply."""
        places = next(self._batches[shard], None) if self._sequence(shard) < self._last[shard] else None
        if places is None:
            return False
        self._held[shard] = places
        done = self._sequence(shard) + 1 - int(places["first_sequence"][0])
        assert done >= 0, "a reader gives the frame in which its first sequence is"
        self._memory.put_frames(shard, places, done)
        return True

    def _sequence(self, shard: int) -> int:
        return load_int64(self._replica.shards[shard].words + SEQUENCE)

    def _refuse(self) -> None:
        places = ", ".join(
            f"{reader.folder} at sequence {self._sequence(shard) + 1}"
            for shard, reader in enumerate(self._readers)
        )
        raise UserError(
            f"journal: a record that an exchange with these settings and users cannot have written: {places}"
        )


def valid_runs(reader: StreamReader) -> Records:
    """The records of the merge stream that hold, without those that a later one has made void."""
    kept: list[Records] = []
    for block in _blocks(reader):
        void = np.flatnonzero(block["symbol_id"] == NO_SHARD)
        begin = 0
        for index in void.tolist():
            kept.append(block[begin:index])
            _drop_last(kept, int(block["quantity_lots"][index]))
            begin = index + 1
        kept.append(block[begin:])
    return np.concatenate(kept) if kept else np.zeros(0, COMMAND_DTYPE)


def _blocks(reader: StreamReader) -> Iterator[Records]:
    for frame in reader.frames():
        skipped = max(reader.wanted_sequence - frame.first_sequence, 0)
        yield records_of(frame)[skipped:]


def _drop_last(blocks: list[Records], count: int) -> None:
    while count > 0 and blocks:
        last = blocks.pop()
        if len(last) > count:
            blocks.append(last[: len(last) - count])
        count -= len(last)


def merge_record(shard: int, count: int) -> bytes:
    """A record of the merge stream, without its sequence: so many events of a shard come next."""
    record = np.zeros(1, COMMAND_DTYPE)
    record["kind"], record["symbol_id"], record["quantity_lots"] = CommandKind.MERGE, shard, count
    return record.tobytes()


def correction(count: int) -> bytes:
    """A record that makes so many before it void."""
    return merge_record(NO_SHARD, count)
