"""The backup's loop: let the link go on, tell the primary how far we are, and see which frames are there.

A poll ends as soon as there are frames. What is done with them is the caller's business, in the time between two polls:
append them to the backup's own journal, apply them, and acknowledge. The acknowledgement goes out at the beginning of
the next poll.

How often it goes out depends on who waits for it. If the primary's gate wants what is applied, at once. Otherwise only
room in the ring depends on it, so an eighth of the ring at a time, and often enough to be heard of."""

from typing import Any, Final, NamedTuple

from exchange.agent import wait
from exchange.journal.frames import PLACE_BYTES, StreamName
from exchange.native import (
    inlined,
    kernel,
    load_acquire,
    load_int64,
    monotonic_ns,
    store_int64,
    store_release,
    unlikely,
)
from exchange.replication.protocol import acknowledge, receive
from exchange.replication.ring import scan_ring
from exchange.replication.words import (
    APPLIED,
    BEATS,
    BEATS_PER_SILENCE,
    BEGUN,
    CONSUMED,
    EPOCH,
    FAILED,
    FOUND,
    IS_EAGER,
    IS_OPEN,
    JOURNAL_ID,
    LINE_APPLIED,
    LINE_BEATS,
    LINE_BYTES,
    LINE_CONSUMED,
    LINE_RECEIVED,
    LINE_STREAM,
    NOT_BEGUN,
    POLLED_NS,
    POSITION,
    PRIMARY_BEATS,
    PRIMARY_HEARD_NS,
    RECEIVED,
    RECEIVER_STREAM_BYTES,
    SEQUENCE,
    SILENT,
    STREAM_NUMBER,
    TOLD_APPLIED,
    TOLD_CONSUMED,
    TOLD_NS,
    TOLD_RECEIVED,
    seal_line,
)


class Receiver(NamedTuple):
    """What a backup polls.

    ``beat`` is the address of a word of the primary's that changes as long as it lives, or of one that never does;
    ``places`` is room for :data:`PLACES` rows for each stream, ``lines`` for the acknowledgements.
    """

    link: Any
    control: int
    streams: int
    rings: int
    ring_bytes: int
    stream_count: int
    beat: int
    places: int
    lines: int
    silence_ns: int
    idle: Any


PLACES: Final = 1024
"""How many frames of a stream one poll finds at the most."""


@kernel
def poll_frames(receiver: Receiver, timeout_ns: int) -> int:
    """Wait for frames until ``timeout_ns`` have passed; how many there are in all streams. 0 if the link fails."""
    deadline_ns = monotonic_ns() + timeout_ns
    turns = 0
    while True:
        now_ns = monotonic_ns()
        if load_acquire(receiver.control + IS_OPEN) != 0 and load_int64(receiver.control + FAILED) == 0:
            failure = _go_on(receiver, now_ns)
            if unlikely(failure < 0):
                store_release(receiver.control + FAILED, failure)
        found = _find_frames(receiver) if load_acquire(receiver.control + BEGUN) != 0 else 0
        if found > 0:
            store_release(receiver.control + PRIMARY_HEARD_NS, now_ns)
            return found
        is_over = load_acquire(receiver.control + IS_OPEN) == 0 or load_int64(receiver.control + FAILED) != 0
        if is_over or now_ns >= deadline_ns:
            return 0
        wait(receiver.idle, turns)
        turns += 1


@inlined
def _find_frames(receiver: Receiver) -> int:
    """Look at all rings: how many frames there are that were not given yet."""
    total = 0
    for stream in range(receiver.stream_count):
        words = receiver.streams + stream * RECEIVER_STREAM_BYTES
        found, position, sequence = scan_ring(
            receiver.rings + stream * receiver.ring_bytes,
            receiver.ring_bytes,
            load_int64(words + POSITION),
            StreamName(load_int64(words + JOURNAL_ID), load_int64(words + STREAM_NUMBER)),
            load_int64(receiver.control + EPOCH),
            load_int64(words + SEQUENCE),
            receiver.places + stream * PLACES * PLACE_BYTES,
            PLACES,
        )
        store_int64(words + POSITION, position)
        store_int64(words + SEQUENCE, sequence)
        store_int64(words + FOUND, found)
        total += found
    return total


@inlined
def _go_on(receiver: Receiver, now_ns: int) -> int:
    """Let the link go on, and tell how far we are if it is time: 0, or -errno."""
    result = receive(receiver.link)
    if unlikely(result < 0):
        return result
    control, every_ns = receiver.control, receiver.silence_ns // BEATS_PER_SILENCE
    beats = load_acquire(receiver.beat)
    # Who has not looked for a while cannot tell whether the other was silent meanwhile.
    is_heard = result > 0 or beats != load_int64(control + PRIMARY_BEATS)
    if is_heard or now_ns - load_int64(control + POLLED_NS) > every_ns:
        store_int64(control + PRIMARY_BEATS, beats)
        store_release(control + PRIMARY_HEARD_NS, now_ns)
    store_int64(control + POLLED_NS, now_ns)
    if now_ns - load_int64(control + TOLD_NS) > every_ns or _is_due(receiver):
        result = tell(receiver, now_ns)
        if unlikely(result < 0):
            return result
    return SILENT if now_ns - load_int64(control + PRIMARY_HEARD_NS) > receiver.silence_ns else 0


@inlined
def _is_due(receiver: Receiver) -> bool:
    """Whether the primary wants to know of a stream what it does not know yet."""
    if load_acquire(receiver.control + BEGUN) == 0:
        return False
    is_eager = load_int64(receiver.control + IS_EAGER) != 0
    for stream in range(receiver.stream_count):
        words = receiver.streams + stream * RECEIVER_STREAM_BYTES
        news_bytes = load_acquire(words + CONSUMED) - load_int64(words + TOLD_CONSUMED)
        if news_bytes > receiver.ring_bytes >> 3 or (news_bytes > 0 and is_eager):
            return True
        if load_int64(words + RECEIVED) != load_int64(words + TOLD_RECEIVED):
            return True
        if is_eager and load_int64(words + APPLIED) != load_int64(words + TOLD_APPLIED):
            return True
    return False


@kernel
def tell(receiver: Receiver, now_ns: int) -> int:
    """Send acknowledgements of all streams, unless those before are still under way: how many, or -errno."""
    has_begun = load_acquire(receiver.control + BEGUN) != 0
    beats = load_int64(receiver.control + BEATS) + 1
    for stream in range(receiver.stream_count):
        words, line = receiver.streams + stream * RECEIVER_STREAM_BYTES, receiver.lines + stream * LINE_BYTES
        store_int64(line + LINE_CONSUMED, load_acquire(words + CONSUMED) if has_begun else NOT_BEGUN)
        store_int64(line + LINE_APPLIED, load_int64(words + APPLIED))
        store_int64(line + LINE_RECEIVED, load_int64(words + RECEIVED))
        store_int64(line + LINE_BEATS, beats)
        store_int64(line + LINE_STREAM, stream)
        seal_line(line)
    result = acknowledge(receiver.link, receiver.lines, receiver.stream_count * LINE_BYTES)
    if result <= 0:
        return result
    store_int64(receiver.control + BEATS, beats)
    store_int64(receiver.control + TOLD_NS, now_ns)
    for stream in range(receiver.stream_count):
        words, line = receiver.streams + stream * RECEIVER_STREAM_BYTES, receiver.lines + stream * LINE_BYTES
        if has_begun:
            store_int64(words + TOLD_CONSUMED, load_int64(line + LINE_CONSUMED))
            store_int64(words + TOLD_APPLIED, load_int64(line + LINE_APPLIED))
            store_int64(words + TOLD_RECEIVED, load_int64(line + LINE_RECEIVED))
    return receiver.stream_count
