"""The journal's records through the exchange again: what a restart, a snapshot and a replay have in common.

A *replica* is a set of shards that nobody feeds: their books, and what their events lead to. Each shard has the frames
of its journal before it, and a cursor. A step takes the next piece of a frame, puts back what the gateway had written
for it (:func:`~exchange.gateway.details.restore_records`), has the shard apply it by the very code that applied it
first, and leaves the events where the shard left them. From there they go to the sink, the same in kind as that of an
egress: the logs of sessions, the feed.

One shard's events go on as they come. With several, the merge stream says whose come next and how many, so that they
reach the sink in the order of the first time; what is behind its end had not left the exchange for good, and comes
in the order in which its frames were made (:class:`~exchange.recovery.replayer.Replayer`).

Rules: no thread of the exchange runs. Addresses of frames must stay valid during a call."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.book.ladder_events import SEQUENCE as RECORD_SEQUENCE
from exchange.gateway.details import ALL_RESTORED, restore_records
from exchange.gateway.inbound import Requests
from exchange.gateway.outbound import Reports
from exchange.gateway.reports import report_events
from exchange.journal.frames import FRAME_PLACE_DTYPE
from exchange.journal.protocol import ALL_DURABLE
from exchange.matching.gated_egress import MERGE_COUNT, MERGE_SHARD
from exchange.matching.shard import SEQUENCE, apply_batch, publish_status
from exchange.messages import EVENT_DTYPE, RECORD_BYTES
from exchange.native import (
    Arena,
    copy_record,
    generic,
    implements,
    kernel,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    store_int64,
    view_bytes,
)
from exchange.transport.protocol import flush, send

# a row of FRAME_PLACE_DTYPE
FRAME_RECORDS: Final = 0
FRAME_COUNT: Final = 8
FRAME_SEQUENCE: Final = 16
FRAME_BYTES: Final = FRAME_PLACE_DTYPE.itemsize

# the cursor of a shard
FRAMES: Final = 0
"""Where the index of its frames begins."""
FRAMES_COUNT: Final = 8
FRAME: Final = 16
"""The frame that is next, or is being applied."""
DONE: Final = 24
"""How many of its records have been applied."""
LEFT: Final = 32
"""Events of the last piece that have not gone to the sink."""
LEFT_FROM: Final = 40
"""The address of the first of them."""
LAST: Final = 48
"""The last sequence that is to be applied."""
CURSOR_BYTES: Final = 64

# the cursor of the merge stream, behind those of the shards
RUN: Final = 0
"""The record that is next, or of whose events some are left."""
WANTED: Final = 8
"""How many of them; 0 if it is not begun."""

NOTHING_LEFT: Final = -1
REPLAYED: Final = -2
IMPOSSIBLE: Final = -3
"""A record that these sessions or this shard cannot have made."""


class LogSink(NamedTuple):
    """A sink that writes what events mean to clients into the logs of their sessions, and sends nothing."""

    reports: Reports


class Replica(NamedTuple):
    """The shards, and what their records and events lead to.

    ``shards`` are :class:`~exchange.matching.shard.Shard`; ``requests`` are a lane's; at ``cursors`` there is a
    cursor for each shard.
    """

    shards: tuple[Any, ...]
    requests: Requests
    sink: Any
    cursors: int


class ReplicaMemory:
    """Owner of the cursors."""

    def __init__(self, shard_count: int) -> None:
        size_bytes = (shard_count + 1) * CURSOR_BYTES
        self._arena: Final = Arena.private(size_bytes + 256, huge_pages="never")
        self.cursors: Final = self._arena.allocate(size_bytes)
        self._merge_cursor: Final = self.cursors + shard_count * CURSOR_BYTES
        for shard in range(shard_count):
            self.stop_behind(shard, ALL_DURABLE)

    def put_frames(self, shard: int, places: NDArray[np.void], done: int = 0) -> None:
        """Put frames before a shard that has none left, rows of ``FRAME_PLACE_DTYPE`` that the caller keeps.

        The first ``done`` records of the first frame have been applied before.
        """
        cursor = self.cursors + shard * CURSOR_BYTES
        assert load_int64(cursor + FRAME) == load_int64(cursor + FRAMES_COUNT), "its frames are not done yet"
        store_int64(cursor + FRAMES, places.ctypes.data)
        store_int64(cursor + FRAMES_COUNT, len(places))
        store_int64(cursor + FRAME, 0)
        store_int64(cursor + DONE, done)

    def stop_behind(self, shard: int, last_sequence: int) -> None:
        """Apply nothing behind that sequence."""
        store_int64(self.cursors + shard * CURSOR_BYTES + LAST, last_sequence)

    def next_frame(self, shard: int) -> int:
        """The index of the next one, or of the one that is being applied, among the frames that were put there."""
        return load_int64(self.cursors + shard * CURSOR_BYTES + FRAME)

    def begin_runs(self) -> None:
        """The next records of the merge stream are others."""
        store_int64(self._merge_cursor + RUN, 0)
        store_int64(self._merge_cursor + WANTED, 0)

    def run(self) -> tuple[int, int]:
        """At which record of the merge stream it is, and how many events of that are still wanted; 0: not begun."""
        return load_int64(self._merge_cursor + RUN), load_int64(self._merge_cursor + WANTED)

    def put_left(self, shard: int, events: NDArray[np.void]) -> None:
        """Put events that have not gone to the sink before a shard; the caller keeps them."""
        cursor = self.cursors + shard * CURSOR_BYTES
        store_int64(cursor + LEFT, len(events))
        store_int64(cursor + LEFT_FROM, events.ctypes.data)

    def left_events(self, shard: int) -> NDArray[np.void]:
        """The events of a shard that have not gone to the sink, copied."""
        cursor = self.cursors + shard * CURSOR_BYTES
        size_bytes = load_int64(cursor + LEFT) * RECORD_BYTES
        return np.frombuffer(bytes(view_bytes(load_int64(cursor + LEFT_FROM), size_bytes)), EVENT_DTYPE)

    def left(self, shard: int) -> int:
        """Events of a shard that have not gone to the sink."""
        return load_int64(self.cursors + shard * CURSOR_BYTES + LEFT)


@implements(send, LogSink, inline=False)
def _send_to_logs(sink: LogSink, events_address: int, count: int) -> None:
    report_events(sink.reports, events_address, count)


@implements(flush, LogSink)
def _flush_logs(sink: LogSink) -> int:
    return 0


@generic
def replay_piece(replica: Any, shard: int) -> int:
    """Apply the next piece of a shard's next frame; no events may be left.

    Returns:
        :data:`REPLAYED`, :data:`NOTHING_LEFT` if there is no frame, or :data:`IMPOSSIBLE`.
    """
    raise NotImplementedError


@generic
def replay_rest(replica: Any, shard: int, frames: int) -> int:
    """Replay up to so many of a shard's frames, events left over first; all events go to the sink.

    Returns:
        :data:`REPLAYED`, :data:`NOTHING_LEFT` if there were fewer, or :data:`IMPOSSIBLE`.
    """
    raise NotImplementedError


@generic
def replay_runs(replica: Any, records: int, count: int) -> int:
    """Replay what ``count`` records of the merge stream name; may be called again for the same ones.

    Returns:
        :data:`REPLAYED`; the number of a shard that has no frames left for what is wanted; or :data:`IMPOSSIBLE`.
    """
    raise NotImplementedError


@implements(replay_piece, Replica, inline=False)
def _replay_piece(replica: Replica, shard: int) -> int:
    cursor = replica.cursors + shard * CURSOR_BYTES
    frame_number = load_int64(cursor + FRAME)
    if frame_number == load_int64(cursor + FRAMES_COUNT):
        return NOTHING_LEFT
    state = replica.shards[shard]
    frame = load_int64(cursor + FRAMES) + frame_number * FRAME_BYTES
    records, frame_count = load_int64(frame + FRAME_RECORDS), load_int64(frame + FRAME_COUNT)
    done = load_int64(cursor + DONE)
    sequence = load_int64(state.words + SEQUENCE)
    count = min(frame_count - done, state.batch_commands, load_int64(cursor + LAST) - sequence)
    if count == 0:
        return NOTHING_LEFT
    if done == 0 and restore_records(replica.requests, records, frame_count) != ALL_RESTORED:
        return IMPOSSIBLE
    if load_int64(frame + FRAME_SEQUENCE) + done != sequence + 1:
        return IMPOSSIBLE
    kinds = 0
    for index in range(count):
        record = records + (done + index) * RECORD_BYTES
        if load_int64(record + RECORD_SEQUENCE) != sequence + index + 1:
            return IMPOSSIBLE
        copy_record(state.batch + index * RECORD_BYTES, record)
        kinds |= load_uint8(record)
    events = apply_batch(state, count, kinds)
    publish_status(state, sequence + count, events)
    is_whole = done + count == frame_count
    store_int64(cursor + DONE, 0 if is_whole else done + count)
    store_int64(cursor + FRAME, frame_number + is_whole)
    store_int64(cursor + LEFT, events)
    store_int64(cursor + LEFT_FROM, state.events)
    return REPLAYED


@kernel
def take_left(cursor: int, limit: int) -> tuple[int, int]:
    """Take up to ``limit`` of the events that a shard has left: where they are, and how many."""
    left, begin = load_int64(cursor + LEFT), load_int64(cursor + LEFT_FROM)
    count = min(left, limit)
    store_int64(cursor + LEFT, left - count)
    store_int64(cursor + LEFT_FROM, begin + count * RECORD_BYTES)
    return begin, count


@implements(replay_rest, Replica, inline=False)
def _replay_rest(replica: Replica, shard: int, frames: int) -> int:
    cursor = replica.cursors + shard * CURSOR_BYTES
    while True:
        events, count = take_left(cursor, load_int64(cursor + LEFT))
        if count > 0:
            send(replica.sink, events, count)
        if frames == 0:
            return REPLAYED
        outcome = replay_piece(replica, shard)
        if outcome != REPLAYED:
            return outcome
        frames -= load_int64(cursor + DONE) == 0


@implements(replay_runs, Replica, inline=False)
def _replay_runs(replica: Replica, records: int, count: int) -> int:
    merge = replica.cursors + len(replica.shards) * CURSOR_BYTES
    while load_int64(merge + RUN) < count:
        record = records + load_int64(merge + RUN) * RECORD_BYTES
        shard = load_uint16(record + MERGE_SHARD)
        if shard >= len(replica.shards):
            return IMPOSSIBLE
        if load_int64(merge + WANTED) == 0:
            store_int64(merge + WANTED, load_uint32(record + MERGE_COUNT))
        cursor = replica.cursors + shard * CURSOR_BYTES
        while load_int64(merge + WANTED) > 0:
            if load_int64(cursor + LEFT) == 0:
                outcome = replay_piece(replica, shard)
                if outcome != REPLAYED:
                    return shard if outcome == NOTHING_LEFT else IMPOSSIBLE
            events, taken = take_left(cursor, load_int64(merge + WANTED))
            if taken > 0:
                send(replica.sink, events, taken)
            store_int64(merge + WANTED, load_int64(merge + WANTED) - taken)
        store_int64(merge + RUN, load_int64(merge + RUN) + 1)
    return REPLAYED
