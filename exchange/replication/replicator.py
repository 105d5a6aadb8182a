"""The replicator: the agent that ships what is new in the rings, and learns how far the backup is.

In a turn it lets the link go on (:func:`~exchange.replication.protocol.reap`), and then does for each stream:

1. take what the backup has acknowledged, which makes room for the writer and may open the gate;
2. see which copies are done: what they carried has been received;
3. begin to copy what is new, all that lies in one piece at once. A batch of the shard is one copy when there is
   little to do. When there is much, that is when a shard appends :data:`BUSY_BYTES` between two turns, batches are
   gathered up to :data:`GATHERED_BYTES`: what a copy costs by itself, a system call or more, is then paid once for
   many commands, which wait for each other in a queue anyway. A single order waits for no other, also not for those of
   a busy stream beside its own.

The link that it uses can be changed while everything runs: whoever wants another one writes it down and counts up
:data:`~exchange.replication.words.REQUESTS`; a turn begins with that. A link that fails, or is silent, or whose ring
was overrun, is let go of by the agent itself. It is closed by whoever made it, when no turn uses it any more.

Rules: as of any agent; nothing here waits. One replicator for all streams of an exchange."""

from typing import Any, Final, NamedTuple

from exchange.agent import do_work
from exchange.native import (
    copy_record,
    implements,
    inlined,
    kernel,
    load_acquire,
    load_int64,
    load_relaxed,
    monotonic_ns,
    pause,
    store_int64,
    store_release,
    unlikely,
)
from exchange.replication.protocol import beat, reap, ship, take_link
from exchange.replication.ring import is_settled
from exchange.replication.words import (
    ANSWERS,
    APPENDED_POSITION,
    APPLIED_SEQUENCE,
    ATTACHED_LINK,
    BEAT_NS,
    BEATS_PER_SILENCE,
    BEGUN_COUNT,
    CONSUMED_POSITION,
    DONE,
    DONE_COUNT,
    FAILURE,
    HEARD_NS,
    LINE,
    LINE_APPLIED,
    LINE_BEATS,
    LINE_BYTES,
    LINE_CONSUMED,
    LINE_RECEIVED,
    NEXT_SEQUENCE,
    NONSENSE,
    NOT_BEGUN,
    OVERRUN,
    RECEIVED_POSITION,
    RECEIVED_SEQUENCE,
    REPLICATED,
    REQUESTS,
    SEEN_POSITION,
    SHIPPED_POSITION,
    SILENT,
    SLOTS,
    START_POSITION,
    START_SEQUENCE,
    STREAM_BYTES,
    TURN_NS,
    UNDER_WAY,
    UNDER_WAY_BYTES,
    WANTED_LINK,
    is_whole_line,
)

COPY_BYTES_MAX: Final = 1 << 18
"""A copy is not larger, so that no turn takes long: a quarter of a MiB is some tens of microseconds."""
BUSY_BYTES: Final = 1 << 13
"""About a hundred commands."""
GATHERED_BYTES: Final = 1 << 17
"""So at most fifteen turns are waited, each of which has found much more in every stream that waits."""
GATHERED_PART: Final = 3
"""And no more than an eighth of the ring: a writer that need not wait would go round a small one meanwhile."""


class Replicator(NamedTuple):
    """The link, the words, the rings, the lines that the backup writes into, and what counts as silence.

    ``waits_for_applied`` is not 0 if the gate wants what the backup has applied, and not only received.
    """

    link: Any
    control: int
    streams: int
    lines: int
    stream_count: int
    ring_bytes: int
    silence_ns: int
    waits_for_applied: int


@implements(do_work, Replicator, inline=False)
def _do_work(agent: Replicator) -> int:
    control = agent.control
    if unlikely(load_acquire(control + REQUESTS) != load_int64(control + ANSWERS)):
        answer_request(agent)
        return 1
    if load_int64(control + ATTACHED_LINK) == 0:
        return 0
    if is_gathering(agent):
        return 1
    now_ns = monotonic_ns()
    moved = reap(agent.link)
    if unlikely(moved < 0):
        return give_up(agent, moved)
    for stream in range(agent.stream_count):
        words = agent.streams + stream * STREAM_BYTES
        if unlikely(not _take_line(agent, words, agent.lines + stream * LINE_BYTES, now_ns)):
            return give_up(agent, NONSENSE)
        _finish_copies(agent, words)
        begun = _ship_new(agent, words, stream)
        if unlikely(begun < 0):
            return give_up(agent, begun)
        if begun > 0:
            store_int64(control + BEAT_NS, now_ns)
        moved += begun
    trouble = _keep_alive(agent, now_ns)
    return give_up(agent, trouble) if unlikely(trouble < 0) else moved


@kernel
def answer_request(agent: Any) -> None:
    """Change the link. Each stream begins anew with what its writer appends from now on."""
    requests = load_acquire(agent.control + REQUESTS)
    wanted = load_int64(agent.control + WANTED_LINK)
    for stream in range(agent.stream_count if wanted != 0 else 0):
        words = agent.streams + stream * STREAM_BYTES
        position, next_sequence = load_acquire(words + APPENDED_POSITION), load_int64(words + NEXT_SEQUENCE)
        while not is_settled(words, position):
            pause()
            position, next_sequence = (
                load_acquire(words + APPENDED_POSITION),
                load_int64(words + NEXT_SEQUENCE),
            )
        for word in (START_POSITION, SEEN_POSITION, CONSUMED_POSITION, SHIPPED_POSITION, RECEIVED_POSITION):
            store_release(words + word, position)
        store_int64(words + START_SEQUENCE, next_sequence)
        store_release(words + RECEIVED_SEQUENCE, next_sequence - 1)
        # What came before is in the backup's journal when anybody begins to wait.
        store_release(words + REPLICATED, next_sequence - 1 if agent.waits_for_applied == 0 else 0)
        for word in (APPLIED_SEQUENCE, BEGUN_COUNT, DONE_COUNT):
            store_release(words + word, 0)
        for word in range(LINE, LINE + LINE_BYTES, 8):
            store_int64(words + word, 0)
        for slot in range(SLOTS):
            store_int64(words + DONE + slot * 8, 0)
    take_link(agent.link, wanted)
    now_ns = monotonic_ns()
    for word in (HEARD_NS, BEAT_NS, TURN_NS):
        store_release(agent.control + word, now_ns)
    if wanted != 0:
        store_int64(agent.control + FAILURE, 0)
    store_release(agent.control + ATTACHED_LINK, wanted)
    store_release(agent.control + ANSWERS, requests)


@kernel
def give_up(agent: Any, failure: int) -> int:
    """Let go of the link, for this reason. Always 1."""
    take_link(agent.link, 0)
    store_release(agent.control + FAILURE, failure)
    store_release(agent.control + ATTACHED_LINK, 0)
    return 1


@inlined
def _take_line(agent: Replicator, words: int, line: int, now_ns: int) -> bool:
    """Take an acknowledgement, if there is a new one. False if it says what cannot be."""
    if load_relaxed(line + LINE_BEATS) == load_int64(words + LINE + LINE_BEATS):
        return True
    return take_new_line(agent, words, line, now_ns)


@kernel
def take_new_line(agent: Any, words: int, line: int, now_ns: int) -> bool:
    """The same, of a line that is not the one that was taken last."""
    room = words + LINE + LINE_BYTES
    copy_record(room, line)
    if not is_whole_line(room):
        return True
    store_release(agent.control + HEARD_NS, now_ns)
    consumed, shipped = load_int64(room + LINE_CONSUMED), load_int64(words + SHIPPED_POSITION)
    if consumed == NOT_BEGUN:
        copy_record(words + LINE, room)
        return True
    received, applied = load_int64(room + LINE_RECEIVED), load_int64(room + LINE_APPLIED)
    is_possible = load_int64(words + CONSUMED_POSITION) <= consumed <= shipped and received <= shipped
    if not is_possible or not load_int64(words + APPLIED_SEQUENCE) <= applied < load_int64(
        words + NEXT_SEQUENCE
    ):
        return False
    copy_record(words + LINE, room)
    store_release(words + APPLIED_SEQUENCE, applied)
    if agent.waits_for_applied != 0:
        store_release(words + REPLICATED, applied)
    store_release(words + CONSUMED_POSITION, consumed)
    return True


@inlined
def _finish_copies(agent: Replicator, words: int) -> None:
    """What is behind the copies that are done, in their order, has been received."""
    done, begun = load_int64(words + DONE_COUNT), load_int64(words + BEGUN_COUNT)
    received, next_sequence = 0, 0
    while done < begun:
        slot = done & (SLOTS - 1)
        end = load_int64(words + UNDER_WAY + slot * UNDER_WAY_BYTES)
        if load_int64(words + DONE + slot * 8) == 0 and load_int64(words + LINE + LINE_RECEIVED) < end:
            break
        received = end
        next_sequence = max(next_sequence, load_int64(words + UNDER_WAY + slot * UNDER_WAY_BYTES + 8))
        store_int64(words + DONE + slot * 8, 0)
        done += 1
    if received == 0:
        return
    store_int64(words + DONE_COUNT, done)
    if next_sequence > 0:
        store_release(words + RECEIVED_SEQUENCE, next_sequence - 1)
        if agent.waits_for_applied == 0:
            store_release(words + REPLICATED, next_sequence - 1)
    store_release(words + RECEIVED_POSITION, received)


@inlined
def is_gathering(agent: Replicator) -> bool:
    """Whether all that has something to be copied is busy, and has too little for a copy that is worth its price."""
    enough = min(GATHERED_BYTES, agent.ring_bytes >> GATHERED_PART)
    has_some, is_due = False, False
    for stream in range(agent.stream_count):
        words = agent.streams + stream * STREAM_BYTES
        position, seen = load_acquire(words + APPENDED_POSITION), load_int64(words + SEEN_POSITION)
        store_int64(words + SEEN_POSITION, position)
        waiting = position - load_int64(words + SHIPPED_POSITION)
        has_some |= waiting > 0
        is_due |= waiting > 0 and (position - seen < BUSY_BYTES or waiting >= enough)
    return has_some and not is_due


@inlined
def _ship_new(agent: Replicator, words: int, stream: int) -> int:
    """Begin to copy what is new: how many copies, or why the link is to be given up."""
    position, next_sequence = load_acquire(words + APPENDED_POSITION), load_relaxed(words + NEXT_SEQUENCE)
    if not is_settled(words, position):
        return 0
    if unlikely(position - load_int64(words + CONSUMED_POSITION) > agent.ring_bytes):
        return OVERRUN
    shipped, copies = load_int64(words + SHIPPED_POSITION), 0
    while shipped < position:
        begun = load_int64(words + BEGUN_COUNT)
        if begun - load_int64(words + DONE_COUNT) >= SLOTS:
            break
        offset = shipped & (agent.ring_bytes - 1)
        size_bytes = min(position - shipped, agent.ring_bytes - offset, COPY_BYTES_MAX)
        slot = begun & (SLOTS - 1)
        result = ship(agent.link, stream, shipped, offset, size_bytes, stream * SLOTS + slot)
        if result <= 0:
            return result if result < 0 else copies
        shipped += size_bytes
        store_int64(words + UNDER_WAY + slot * UNDER_WAY_BYTES, shipped)
        # What ends within a frame does not say which records it ends with; what ends at the last one does.
        store_int64(
            words + UNDER_WAY + slot * UNDER_WAY_BYTES + 8, next_sequence if shipped == position else 0
        )
        store_int64(words + BEGUN_COUNT, begun + 1)
        store_release(words + SHIPPED_POSITION, shipped)
        copies += 1
    return copies


@inlined
def _keep_alive(agent: Replicator, now_ns: int) -> int:
    """Send a beat if it is time, and see whether the backup is silent: 0, or why the link is to be given up."""
    control, every_ns = agent.control, agent.silence_ns // BEATS_PER_SILENCE
    # Who has not looked for a while cannot tell whether the other was silent meanwhile.
    if unlikely(now_ns - load_int64(control + TURN_NS) > every_ns):
        store_release(control + HEARD_NS, now_ns)
    store_int64(control + TURN_NS, now_ns)
    if now_ns - load_int64(control + BEAT_NS) > every_ns:
        result = beat(agent.link)
        if result < 0:
            return result
        if result > 0:
            store_int64(control + BEAT_NS, now_ns)
    return SILENT if now_ns - load_int64(control + HEARD_NS) > agent.silence_ns else 0
