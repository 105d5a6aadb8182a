"""How long the exchange itself takes: from the turn in which a request came to the one in which its answer left.

Every event carries the time of the command that caused it, and that is the clock as the ingress read it before it
received. So the egress knows of each event how old it is when it has been handed to the socket, with one look at the
clock for a whole turn. Events of one turn of the ingress have the same time and mostly follow each other: they are
counted as a *run*, which costs a load and a comparison for each event, and one addition in a histogram for each run.

What the figure includes and what not is told in :mod:`exchange.gateway.statistics`. The counts are laid out as those of
:mod:`exchange.bench.histogram`, and Python reads them while they are written: a count may be one run behind.

Rules: the agent that sends is the one writer. Python keeps copies to take the difference over a window.
"""

import time
from typing import Any, Final, NamedTuple

import numpy as np

from exchange.bench.histogram import COUNTS_LENGTH, Counts, bucket_index, values_at_percentiles_ns
from exchange.book.ladder_events import TIMESTAMP
from exchange.clock import now_ns
from exchange.gateway.statistics import LatencyStatistics
from exchange.messages import RECORD_BYTES
from exchange.native import Arena, inlined, kernel, load_int64, store_int64, view_bytes

RUNS_MAX: Final = 256
"""Runs that are told apart in a turn; what comes behind them counts with the last."""
_RUN_BYTES: Final = 16
_RUNS: Final = 64

WINDOW_SECONDS: Final = 1.0
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 100.0)


class Latency(NamedTuple):
    """``words``: how many runs wait, and from +64 on each one's time and length; ``counts``: the histogram."""

    words: int
    counts: int


@inlined
def note_events(latency: Latency, events: int, count: int) -> None:
    """Events have been written into the logs of their sessions, to be sent at the end of this turn."""
    runs = load_int64(latency.words)
    for index in range(count):
        timestamp_ns = load_int64(events + index * RECORD_BYTES + TIMESTAMP)
        run = latency.words + _RUNS + (runs - 1) * _RUN_BYTES
        if runs == 0 or (runs < RUNS_MAX and timestamp_ns != load_int64(run)):
            runs += 1
            store_int64(run + _RUN_BYTES, timestamp_ns)
            store_int64(run + _RUN_BYTES + 8, 1)
        else:
            store_int64(run + 8, load_int64(run + 8) + 1)
    store_int64(latency.words, runs)


@kernel
def count_latencies(latency: Latency, clock: Any) -> None:
    """Everything that was noted has been handed to the sockets, now."""
    runs = load_int64(latency.words)
    if runs == 0:
        return
    time_ns = now_ns(clock)
    for index in range(runs):
        run = latency.words + _RUNS + index * _RUN_BYTES
        bucket = latency.counts + 8 * bucket_index(time_ns - load_int64(run))
        store_int64(bucket, load_int64(bucket) + load_int64(run + 8))
    store_int64(latency.words, 0)


class LatencyMemory:
    """Owner of the counts, and of the copies from which the latest window is taken."""

    def __init__(self) -> None:
        words_bytes = _RUNS + RUNS_MAX * _RUN_BYTES
        self._arena: Final = Arena.private(words_bytes + 8 * COUNTS_LENGTH + 512, huge_pages="never")
        self.state: Final = Latency(
            self._arena.allocate(words_bytes), self._arena.allocate(8 * COUNTS_LENGTH)
        )
        self._counts: Final = np.frombuffer(view_bytes(self.state.counts, 8 * COUNTS_LENGTH), np.int64)
        self._copies = [(time.monotonic(), self.counts())]

    def counts(self) -> Counts:
        """All counts since the start, a copy."""
        return self._counts.copy()

    def latest(self, now_seconds: float | None = None) -> LatencyStatistics:
        """The percentiles of the last one to two seconds, or since the look before this one if that is longer ago.

        Any number of readers may ask, as often as they like; ``now_seconds`` is for tests.
        """
        now = time.monotonic() if now_seconds is None else now_seconds
        counts = self.counts()
        while len(self._copies) > 1 and now - self._copies[1][0] >= WINDOW_SECONDS:
            del self._copies[0]
        then, before = self._copies[0]
        if now - self._copies[-1][0] >= WINDOW_SECONDS:
            self._copies.append((now, counts))
        window = counts - before
        count = int(window.sum())
        values = values_at_percentiles_ns(window, PERCENTILES) if count > 0 else [None] * len(PERCENTILES)
        return LatencyStatistics(now - then, count, *values)
