"""The transport without a wire: commands lie in memory and are due when their time has come.

It measures everything but the network, and it is deterministic for tests. It is at the same time the load
generator, an *open-loop* one: every command has an intended send time, fixed before the run. If the exchange
falls behind, commands become due all the same, and their latency counts from the moment they were meant to be
sent. A generator that waited for answers (a closed loop) would slow down with the exchange and hide its worst
moments; Gil Tene calls that mistake coordinated omission.

The sink counts answers, trades and rejects, and sorts latencies into a histogram. Every command gets exactly
one answer, so the run is over when there are as many answers as commands. Two variants: :class:`LatencySink`
measures, :class:`KeepingSink` keeps the events themselves, for replays and tests."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.agent_layout import EGRESS_AGENT, ingress_agent
from exchange.bench.histogram import COUNTS_LENGTH, Counts, bucket_index
from exchange.book.ladder_events import KIND, TIMESTAMP
from exchange.messages import COMMAND_DTYPE, EVENT_DTYPE, RECORD_BYTES, EventKind, Reason
from exchange.native import (
    Arena,
    copy_record,
    implements,
    inlined,
    load_acquire,
    load_int64,
    load_uint8,
    monotonic_ns,
    store_int64,
    store_release,
    view_bytes,
)
from exchange.placement.memory_owners import made_for
from exchange.transport.protocol import consume, flush, receive, send

_REASON: Final = 2
_EXECUTED: Final = int(EventKind.EXECUTED)
_CANCELED: Final = int(EventKind.CANCELED)
_REJECTED: Final = int(EventKind.REJECTED)
_BY_CLIENT: Final = int(Reason.BY_CLIENT)

# the sink's words
ANSWERS: Final = 0
EVENTS: Final = 8
TRADES: Final = 16
REJECTS: Final = 24
WARM_NS: Final = 32
"""When the last answer of the warm-up arrived."""
LAST_NS: Final = 40
"""When the last answer arrived."""
SINK_BYTES: Final = 64

NEVER_NS: Final = 1 << 61
"""A start that does not come."""


class MemorySource(NamedTuple):
    """Commands of one lane; the word at ``cursor`` counts those consumed."""

    commands: int
    command_count: int
    cursor: int


class LatencySink(NamedTuple):
    """Counts at ``words``; latencies of answers after the first ``warmup_answers`` in buckets at ``counts``."""

    words: int
    counts: int
    warmup_answers: int


class KeepingSink(NamedTuple):
    """Counts at ``words``; the events themselves from ``events`` on, at most ``capacity`` of them."""

    words: int
    events: int
    capacity: int


class MemoryTransport:
    """The commands of a run, lane by lane, and the sink for its events.

    Args:
        lanes: for each ingress lane its commands, ``COMMAND_DTYPE``, in time order; they are copied.
            ``timestamp_ns`` is the intended time from the start of the run.
        start_ns: the run's start on the monotonic clock, if it is known already (see :meth:`start_at`). 0 leaves
            timestamps as they are, and so long as they lie in the past everything is due at once.
        warmup_answers: how many answers are not measured.
        keep_events: capacity for keeping events; 0 measures latencies instead.
    """

    def __init__(
        self,
        lanes: list[NDArray[Any]],
        start_ns: int = 0,
        warmup_answers: int = 0,
        keep_events: int = 0,
    ) -> None:
        sink_bytes = keep_events * RECORD_BYTES + COUNTS_LENGTH * 8 + 1024
        sink = made_for(EGRESS_AGENT, "answers", Arena.private, sink_bytes)
        sources = [
            made_for(
                ingress_agent(number, len(lanes)),
                "commands",
                Arena.private,
                (len(lane) + 1) * RECORD_BYTES + 256,
            )
            for number, lane in enumerate(lanes)
        ]
        self._arenas = (sink, *sources)
        self._sources = [_play(lane, arena) for lane, arena in zip(lanes, sources, strict=True)]
        self._words = sink.allocate(SINK_BYTES)
        self._counts = sink.allocate(COUNTS_LENGTH * 8)
        self._events = sink.allocate(keep_events * RECORD_BYTES)
        self._warmup_answers = warmup_answers
        self._keep_events = keep_events
        self.start_at(start_ns)

    def start_at(self, start_ns: int) -> None:
        """Add the run's start to every timestamp, before the exchange runs.

        Who does not know it yet begins with :data:`NEVER_NS`, and adds the difference later, when nothing was due.
        """
        for source in self._sources:
            _view(source)["timestamp_ns"] += start_ns

    def source(self, lane: int) -> MemorySource:
        """What ingress lane ``lane`` receives from."""
        return self._sources[lane]

    def sink(self) -> LatencySink | KeepingSink:
        """What the egress sends to."""
        if self._keep_events:
            return KeepingSink(self._words, self._events, self._keep_events)
        return LatencySink(self._words, self._counts, self._warmup_answers)

    def word(self, offset: int) -> int:
        """One of the sink's counters (``ANSWERS``, ``EVENTS``, ...), as it is now."""
        return load_acquire(self._words + offset)

    def latencies(self) -> Counts:
        """Shape (COUNTS_LENGTH,), int64: answers by latency bucket. Read it when the run is over."""
        return np.frombuffer(view_bytes(self._counts, COUNTS_LENGTH * 8), np.int64).copy()

    def events(self) -> NDArray[Any]:
        """The events kept, shape (n,), ``EVENT_DTYPE``; those of one shard in order."""
        kept = min(self.word(EVENTS), self._keep_events)
        return np.frombuffer(view_bytes(self._events, kept * RECORD_BYTES), EVENT_DTYPE).copy()


def _play(lane: NDArray[Any], arena: Arena) -> MemorySource:
    source = MemorySource(arena.allocate(max(len(lane), 1) * RECORD_BYTES), len(lane), arena.allocate(8))
    _view(source)[:] = lane
    return source


def _view(source: MemorySource) -> NDArray[Any]:
    return np.frombuffer(view_bytes(source.commands, source.command_count * RECORD_BYTES), COMMAND_DTYPE)


@implements(receive, MemorySource, inline=False)
def _receive(source: MemorySource, limit: int) -> tuple[int, int]:
    cursor = load_int64(source.cursor)
    first = source.commands + cursor * RECORD_BYTES
    most = min(limit, source.command_count - cursor)
    if most == 0:
        return first, 0
    # If even the last of the batch is due, all are: one look instead of a look at each.
    now_ns = monotonic_ns()
    if load_int64(first + (most - 1) * RECORD_BYTES + TIMESTAMP) <= now_ns:
        return first, most
    due = 0
    # The last one is looked at again: all may become due while this looks (start_at() of a running exchange).
    while due < most and load_int64(first + due * RECORD_BYTES + TIMESTAMP) <= now_ns:
        due += 1
    return first, due


@implements(consume, MemorySource)
def _consume(source: MemorySource, count: int) -> None:
    store_int64(source.cursor, load_int64(source.cursor) + count)


@implements(flush, LatencySink)
def _flush_measuring(sink: LatencySink) -> int:
    return 0


@implements(flush, KeepingSink)
def _flush_keeping(sink: KeepingSink) -> int:
    return 0


@inlined
def _is_answer(event: int) -> bool:
    """Each command has exactly one: everything but trades and the cancels that follow from something else."""
    kind = load_uint8(event + KIND)
    if kind == _CANCELED:
        return load_uint8(event + _REASON) == _BY_CLIENT
    return kind != _EXECUTED


@inlined
def _count_kind(words: int, event: int) -> None:
    kind = load_uint8(event + KIND)
    if kind == _EXECUTED:
        store_int64(words + TRADES, load_int64(words + TRADES) + 1)
    elif kind == _REJECTED:
        store_int64(words + REJECTS, load_int64(words + REJECTS) + 1)


@implements(send, LatencySink, inline=False)
def _send_measuring(sink: LatencySink, events_address: int, count: int) -> None:
    now_ns = monotonic_ns()
    answers = load_int64(sink.words + ANSWERS)
    for index in range(count):
        event = events_address + index * RECORD_BYTES
        _count_kind(sink.words, event)
        if _is_answer(event):
            answers += 1
            if answers > sink.warmup_answers:
                bucket = sink.counts + 8 * bucket_index(now_ns - load_int64(event + TIMESTAMP))
                store_int64(bucket, load_int64(bucket) + 1)
            elif answers == sink.warmup_answers:
                store_int64(sink.words + WARM_NS, now_ns)
    store_int64(sink.words + LAST_NS, now_ns)
    store_int64(sink.words + EVENTS, load_int64(sink.words + EVENTS) + count)
    store_release(sink.words + ANSWERS, answers)


@implements(send, KeepingSink, inline=False)
def _send_keeping(sink: KeepingSink, events_address: int, count: int) -> None:
    kept = load_int64(sink.words + EVENTS)
    answers = load_int64(sink.words + ANSWERS)
    for index in range(count):
        event = events_address + index * RECORD_BYTES
        if kept + index < sink.capacity:
            copy_record(sink.events + (kept + index) * RECORD_BYTES, event)
        _count_kind(sink.words, event)
        if _is_answer(event):
            answers += 1
    store_int64(sink.words + EVENTS, kept + count)
    store_release(sink.words + ANSWERS, answers)
