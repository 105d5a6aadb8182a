"""Streams through a replica: the frames of each shard as they are wanted, in the order of the merge stream if there is
one.

:class:`Replayer` is what a restart, a backup, a snapshot and ``exchange journal replay`` run. It begins at a position,
by default the beginning. :meth:`Replayer.follow` goes as far as the streams go now, and can be called again when there
is more of them; :meth:`Replayer.finish` says that no more will come, and deals with what the streams' ends leave open.
:meth:`Replayer.run` is both. What it does with each frame is told in :mod:`exchange.recovery.replaying`.

**A merge stream that is ahead.** The merge stream and the shards' streams are synced one after the other. After a power
cut the merge stream may name events whose commands are gone. Nobody has heard of them, for both have to be durable
before an event leaves. So those records are void, and whoever goes on with the journal has to write that down, or the
next restart would take them for events that came later: a record that names no shard and says how many records
before it are void (:func:`correction`). Who follows may have taken some of the events of the first of them already; the
next record names just those again.

**A merge stream that is behind** has lost the order in which the events that follow were taken, so another one is
chosen, and written down likewise. Not any will do: in a session's table an order takes the room of one that was
answered before it came. So the frame comes next whose *last* command is the oldest. If frame A holds an order that has
the room of one that B answered, then B was applied before that order came, so all commands in B are older than it,
and than the last in A: B, and all before it in its shard, come first.

Rules: as of the replica, nothing else uses the shards. A record of the merge stream that is void must not be followed
before the record that says so if a shard has frames that came later than that one: whoever hands out frames of several
streams hands out the merge stream's first."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.gateway.inbound import Requests
from exchange.journal.protocol import ALL_DURABLE
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


class FrameSource(Protocol):
    """Frames of a stream: a :class:`~exchange.journal.reading.StreamReader`, or what somebody sends."""

    @property
    def folder(self) -> Path:
        """Of the stream, for what is said of it."""

    def batches(self) -> Iterator[NDArray[np.void]]:
        """The frames that there are now, in order, as rows of ``FRAME_PLACE_DTYPE``; called again, those that follow.

        A batch, and what it names, need not be kept any longer when the next one is asked for.
        """


class Replayer:
    """Shards without an exchange around them, and the streams that they go through.

    Args:
        shards: the states of the shards, at the position where the streams begin.
        requests: what a lane decodes with, whose sessions the records are put back into.
        sink: where the events go.
        streams: the shards', in their order; each from the frame on in which the next sequence is.
        merge: the merge stream; None if there is none.
        last: where to stop; no shards means at the end of all streams.
        begin: where the streams begin.

    Attributes:
        corrections: what has to be appended to the merge stream before the exchange goes on.
    """

    def __init__(
        self,
        shards: Sequence[Any],
        requests: Requests,
        sink: Any,
        streams: Sequence[FrameSource],
        merge: FrameSource | None = None,
        last: Position = END,
        begin: Position = END,
    ) -> None:
        self._memory: Final = ReplicaMemory(len(shards))
        self._replica: Final = Replica(tuple(shards), requests, sink, self._memory.cursors)
        self._streams: Final = tuple(streams)
        self._held: Final[list[Records | None]] = [None] * len(shards)  # what the cursors point to
        self._merge: Final = merge
        self._begun: Final = [self.sequence(shard) for shard in range(len(shards))]
        self.corrections: Final[list[bytes]] = []
        self._left: tuple[Events, ...] = ()
        self._last: Final = last.shards or (ALL_DURABLE,) * len(shards)
        self._last_merge: Final = last.merge if last.shards else ALL_DURABLE
        self._merge_read = begin.merge
        self._merge_done = begin.merge
        self._runs: Records = np.zeros(0, COMMAND_DTYPE)
        self._run_taken = begin.taken
        self._lacking: int | None = None
        for shard, last_sequence in enumerate(self._last):
            self._memory.stop_behind(shard, last_sequence)

    def compile(self) -> None:
        """Compile what :meth:`finish` calls; before anything else is asked, and nothing is changed by it."""
        body_for(replay_rest, self._replica)(self._replica, 0, 0)

    def put_left(self, left: Sequence[Events]) -> None:
        """Begin with events of each shard that have not gone to the sink, as :meth:`left` has told them."""
        self._left = tuple(np.ascontiguousarray(events) for events in left)
        for shard, events in enumerate(self._left):
            self._memory.put_left(shard, events)

    def left(self) -> list[Events]:
        """For each shard the events that have not gone to the sink, copied."""
        return [self._memory.left_events(shard) for shard in range(len(self._streams))]

    @property
    def commands(self) -> int:
        """How many records have been replayed, over all shards."""
        return sum(self.sequence(shard) - begun for shard, begun in enumerate(self._begun))

    @property
    def events(self) -> int:
        """How many events the shards have made, ever."""
        return sum(load_int64(shard.words + EVENTS) for shard in self._replica.shards)

    def sequence(self, shard: int) -> int:
        """The last record of a shard that has been applied."""
        return load_int64(self._replica.shards[shard].words + SEQUENCE)

    def position(self) -> Position:
        """How far it is."""
        shards = tuple(self.sequence(shard) for shard in range(len(self._streams)))
        run, wanted = self._memory.run()
        merge = int(self._runs["sequence"][run - 1]) if run > 0 else self._merge_done
        return Position(shards, merge, self._taken_of(run, wanted))

    def _taken_of(self, run: int, wanted: int) -> int:
        """How many events of a record of the merge stream have gone to the sink, of which so many are still wanted."""
        before = self._run_taken if run == 0 else 0
        return before + (int(self._runs["quantity_lots"][run]) - wanted if wanted else 0)

    def follow(self) -> None:
        """Replay as far as the streams go now, and the merge stream says what came next. May be called again.

        Raises:
            UserError: a record that this exchange cannot have written, with its place.
        """
        if self._merge is None:
            self._run_one()
        else:
            self._read_runs(self._merge)
            self._run_merged()

    def finish(self) -> None:
        """No more frames will come: replay what the merge stream does not name, and say what has to be corrected.

        Raises:
            UserError: as :meth:`follow`.
        """
        if self._lacking is not None:
            self._note_void(self._lacking)
        if self._merge is not None:
            self._run_rest()

    def run(self) -> None:
        """Replay to the end of the streams.

        Raises:
            UserError: as :meth:`follow`.
        """
        self.follow()
        self.finish()

    def _run_merged(self) -> None:
        operation = body_for(replay_runs, self._replica)
        while True:
            outcome = operation(self._replica, self._runs.ctypes.data, len(self._runs))
            if outcome == IMPOSSIBLE:
                self._refuse()
            self._lacking = None if outcome == REPLAYED else outcome
            if outcome == REPLAYED or not self._refill(outcome):
                return

    def _read_runs(self, merge: FrameSource) -> None:
        """Read what there is of the merge stream behind the records that are held, which begin with the next one.

        The first of them is shortened by what of its events had gone to the sink before; it may be all of them by now,
        for a restart writes a record for just those that are there.
        """
        run, wanted = self._memory.run()
        held = self._runs[run:].copy()
        if run > 0:
            self._merge_done, self._run_taken = int(self._runs["sequence"][run - 1]), 0
        if self._run_taken and len(held):  # as the stream has it, so that it can be void
            held["quantity_lots"][0] += self._run_taken
        taken = self._run_taken + (int(self._runs["quantity_lots"][run]) - wanted if wanted else 0)
        records = _without_void([held, *self._new_records(merge)])
        self._runs, self._run_taken = records[records["sequence"] <= self._last_merge], taken
        if len(self._runs) and taken:
            self._runs["quantity_lots"][0] -= taken
            if self._runs["quantity_lots"][0] == 0:
                self._merge_done = int(self._runs["sequence"][0])
                self._runs, self._run_taken = self._runs[1:].copy(), 0
        self._memory.begin_runs()

    def _new_records(self, merge: FrameSource) -> Iterator[Records]:
        for places in merge.batches():
            for address, count, first_sequence, *_ in places.tolist():
                content = bytes(view_bytes(address, count * RECORD_BYTES))
                records = np.frombuffer(content, COMMAND_DTYPE)[
                    max(self._merge_read + 1 - first_sequence, 0) :
                ]
                if len(records):
                    self._merge_read = first_sequence + count - 1
                    yield records

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
        for shard in range(len(self._streams)):
            self._note_run(runs, shard, self._memory.left(shard))
            self._replay(shard, 0)
        due = [self._due_ns(shard) for shard in range(len(self._streams))]
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
        if self.sequence(shard) >= self._last[shard]:
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
        is_wanted = self.sequence(shard) < self._last[shard]
        places = next(self._streams[shard].batches(), None) if is_wanted else None
        if places is None:
            return False
        self._held[shard] = places
        done = self.sequence(shard) + 1 - int(places["first_sequence"][0])
        assert done >= 0, "a stream gives the frame in which its next sequence is"
        self._memory.put_frames(shard, places, done)
        return True

    def _refuse(self) -> None:
        places = ", ".join(
            f"{stream.folder} at sequence {self.sequence(shard) + 1}"
            for shard, stream in enumerate(self._streams)
        )
        raise UserError(
            f"journal: a record that an exchange with these settings and users cannot have written: {places}"
        )


def _without_void(blocks: Sequence[Records]) -> Records:
    """Records of the merge stream that hold, copied: without those that a later one has made void."""
    kept: list[Records] = []
    for block in blocks:
        void = np.flatnonzero(block["symbol_id"] == NO_SHARD)
        begin = 0
        for index in void.tolist():
            kept.append(block[begin:index])
            _drop_last(kept, int(block["quantity_lots"][index]))
            begin = index + 1
        kept.append(block[begin:])
    return np.concatenate(kept)


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
