"""A backup for a benchmark: a process that keeps what a primary in memory is given, as a backup does.

It polls, writes every frame into a journal of its own, applies it to books of its own, and acknowledges; all of that in
one compiled loop. What a served backup has beside that, sessions, risk and a feed, an exchange in memory has not
either.

It is told what to do by lines of JSON on its standard input, and answers each with one: a :class:`BackupPlan`, to which
it answers with the offer of a link; the primary's answer; where the streams begin; and in the end anything, to which it
answers with a :class:`Followed`. Then it may be told of another primary. The end of its input is its end."""

import os
import sys
import threading
from typing import Any, Final, NamedTuple

import msgspec

from exchange.agent import ThreadGroup, build_idle
from exchange.bench.touched_memory import TouchedMemory
from exchange.book import build_book
from exchange.book.protocol import apply_commands, events_bound
from exchange.journal.frames import PLACE_BYTES, StreamName
from exchange.journal.layout import stream_number
from exchange.journal.protocol import append
from exchange.journal.scratch import scratch_streams
from exchange.journal.streams import stream_names
from exchange.matching.digest import state_digest
from exchange.messages import RECORD_BYTES
from exchange.native import (
    Arena,
    kernel,
    load_acquire,
    load_int64,
    store_int64,
    store_release,
    yield_core,
)
from exchange.replication.config import NoneReplicationConfig
from exchange.replication.polling import PLACES, Receiver, poll_frames
from exchange.replication.protocol import StreamStart
from exchange.replication.providers import read_facts
from exchange.replication.receiving import ReceivedStreams
from exchange.replication.words import APPLIED, CONSUMED, FOUND, POSITION, RECEIVER_STREAM_BYTES, SEQUENCE
from exchange.settings import Settings

LOOK_NS: Final = 1_000_000
"""How long a poll waits before it is looked whether the benchmark is over."""


class BackupPlan(msgspec.Struct, frozen=True):
    """What to follow, and where to run: the settings, the symbols, the primary's journal, and what its machine has
    (:class:`~exchange.replication.providers.HostFacts`)."""

    settings: Settings
    shard_of_symbol: list[int]
    journal_id: int
    facts: dict[str, Any]
    core: int


class Followed(msgspec.Struct, frozen=True):
    """How far the backup has come: the last sequence of each stream, and the digest of its books."""

    sequences: list[int]
    digest: str
    failure: str


class Follower(NamedTuple):
    """What a backup applies to: journals of the streams, books of the shards, and room for a batch's events."""

    receiver: Receiver
    journals: tuple[Any, ...]
    books: tuple[Any, ...]
    events: int
    stop: int


@kernel
def follow(follower: Follower) -> None:
    """Keep, apply and acknowledge what arrives, until the stop word is set and nothing more is in the rings."""
    receiver = follower.receiver
    while True:
        is_over = load_acquire(follower.stop) != 0
        if poll_frames(receiver, LOOK_NS) == 0:
            if is_over:
                return
            continue
        for stream in range(len(follower.journals)):
            words = receiver.streams + stream * RECEIVER_STREAM_BYTES
            found = load_int64(words + FOUND)
            if found == 0:
                continue
            places = receiver.places + stream * PLACES * PLACE_BYTES
            for index in range(found):
                place = places + index * PLACE_BYTES
                records, count = load_int64(place), load_int64(place + 8)
                while not append(follower.journals[stream], records, count, load_int64(place + 16)):
                    yield_core()
                if stream < len(follower.books):
                    apply_commands(follower.books[stream], records, count, follower.events)
            store_int64(words + APPLIED, load_int64(words + SEQUENCE) - 1)
            store_release(words + CONSUMED, load_int64(words + POSITION))


def follow_one(plan: BackupPlan, touched: TouchedMemory) -> None:
    """Follow one primary from its first record to its last."""
    os.sched_setaffinity(0, {plan.core})
    settings, shards = plan.settings, plan.settings.shards.count
    assert not isinstance(settings.replication, NoneReplicationConfig)
    with scratch_streams(settings) as journals:
        assert journals is not None
        names = [StreamName(plan.journal_id, stream_number(name)) for name in stream_names(shards)]
        received = ReceivedStreams(settings.replication, names, build_idle(settings.idle))
        books = [build_book(settings.book, len(plan.shard_of_symbol)) for _ in range(shards)]
        events_bytes = (
            events_bound(settings.book.capacity_orders, settings.shards.batch_commands) * RECORD_BYTES
        )
        arena = Arena.private(events_bytes + 4096)
        follower = Follower(
            receiver=received.receiver,
            journals=journals.all_states()[: len(names)],
            books=tuple(book.state for book in books),
            events=arena.allocate(events_bytes),
            stop=arena.allocate(8),
        )
        store_release(follower.stop, 1)
        follow(follower)
        offer = received.offer(read_facts(plan.facts))
        _say(offer)
        received.accept(msgspec.json.decode(_next_line()))
        _say({"reason": received.reason})
        starts = msgspec.json.decode(_next_line(), type=list[StreamStart])
        received.begin(starts, 0)
        store_release(follower.stop, 0)
        with ThreadGroup([journals.keeper()], (journals, arena)):
            touched.make_ready()
            thread = threading.Thread(target=follow, args=(follower,))
            thread.start()
            try:
                _say({})
                _next_line()
            finally:
                store_release(follower.stop, 1)
                thread.join()
                touched.note()
        sequences = [received.next_sequence(stream) - 1 for stream in range(len(names))]
        digest = state_digest([book.state for book in books], plan.shard_of_symbol)
        _say(msgspec.to_builtins(Followed(sequences, digest, received.failure)))
        received.close()


def _next_line() -> str:
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return line


def _say(what: Any) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    touched = TouchedMemory()
    while True:
        follow_one(msgspec.json.decode(_next_line(), type=BackupPlan), touched)
