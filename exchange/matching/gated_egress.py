"""The egress behind a gate: events leave in one order, and not before the journal and the backup allow it.

Two things can be asked of the journal before an event leaves, and the same of the backup:

* that the command which caused it is *durable* (gate ``synced``), or *replicated*: a client must not hear of an order
  that a power cut, or the loss of this machine, can take back;
* with several shards, that the *order* in which their events were taken is in the journal as well. A client's messages
  are numbered over all shards, so a restart has to take the shards' events in the same order to number them alike. That
  order is a stream of its own, ``merge``: a record for each run of events, which shard and how many.

So events pass through a queue here. A turn takes runs from the outboxes to its end, appends their records to the merge
stream, and gives the sink what may leave from its front. A run that has to wait makes those behind it wait: the order
stands. With a backup nothing leaves either while this exchange has no lease that says that it leads. While they wait
the shards go on, until the queue is full and pressure travels back. One sync of a disk covers
all that was appended before it began (group commit: Gray and Reuter, Transaction Processing, 9.4), so the wait grows
the batches and not the time for each.

Rules: as of any egress. Without a journal, or with one shard, no backup and no wait for the disk, the plain
:mod:`~exchange.matching.egress` does it."""

from typing import Any, Final, NamedTuple

from exchange.agent import do_work
from exchange.book.ladder_events import KIND, QUANTITY, SEQUENCE, SYMBOL_ID
from exchange.journal.protocol import append, durable_sequence
from exchange.matching.egress import BATCHES_MAX
from exchange.messages import RECORD_BYTES, CommandKind
from exchange.native import (
    Arena,
    implements,
    inlined,
    kernel,
    load_int64,
    load_uint16,
    load_uint32,
    store_int64,
    store_uint8,
    store_uint16,
    store_uint32,
)
from exchange.queues.protocol import poll_batch
from exchange.replication.protocol import may_release, replicated_sequence
from exchange.transport.protocol import flush, send

DISK_EVENTS_SLOTS: Final = 1 << 16
"""Events that may wait for a disk: a sync takes milliseconds, and a shard makes some thousand events in one."""
EVENTS_SLOTS: Final = 1 << 13
"""Events that may wait for a backup, which is there in microseconds: half a MiB, which a core's own cache holds."""
RUNS_SLOTS: Final = 1 << 12

# words; counts only grow, and a slot is a count modulo its ring
EVENTS_TAKEN: Final = 0
EVENTS_LEFT: Final = 8
RUNS_TAKEN: Final = 16
RUNS_APPENDED: Final = 24
RUNS_LEFT: Final = 32
MERGE_SEQUENCE: Final = 40
"""The last record of the merge stream; a run's record has the number that was next when it was taken."""
WORDS_BYTES: Final = 64

RUN_BYTES: Final = 8
"""What a record of the merge stream waits for, beside it: the last command that the run has an event of."""

MERGE_SHARD: Final = SYMBOL_ID
"""In a record of the merge stream: which shard (16 bits)."""
MERGE_COUNT: Final = QUANTITY
"""How many of its events (32 bits)."""
NO_SHARD: Final = 0xFFFF
"""In the place of a shard: so many records before this one are void. Only a restart writes such a record."""

_MERGE: Final = int(CommandKind.MERGE)


class GatedEgress(NamedTuple):
    """Outboxes and sink of an egress, and the queue between them.

    ``journals`` are those of the shards, and ``merge`` that of the order of their events; ``waits_for_disk`` is not 0
    if both have to be durable. ``replica`` is the gate of the backup, which knows the streams by their numbers: the
    shards', and behind them that of their order. ``events`` is a ring of ``events_slots``, a power of two, ``records``
    one of merge records, and ``runs`` one of what each waits for.
    """

    outboxes: tuple[Any, ...]
    sink: Any
    journals: tuple[Any, ...]
    merge: Any
    replica: Any
    waits_for_disk: int
    words: int
    events: int
    events_slots: int
    records: int
    runs: int
    batch_events: int


class GatedEgressMemory:
    """Owner of the queue.

    Args:
        waits_for_disk: whether events wait for a sync.
        merge_sequence: the last record that the merge stream has.
    """

    def __init__(self, waits_for_disk: bool, merge_sequence: int = 0) -> None:
        self.events_slots: Final = DISK_EVENTS_SLOTS if waits_for_disk else EVENTS_SLOTS
        size_bytes = WORDS_BYTES + self.events_slots * RECORD_BYTES + RUNS_SLOTS * (RECORD_BYTES + RUN_BYTES)
        self.arena: Final = Arena.private(size_bytes + 1024)
        self.words: Final = self.arena.allocate(WORDS_BYTES)
        self.events: Final = self.arena.allocate(self.events_slots * RECORD_BYTES)
        self.records: Final = self.arena.allocate(RUNS_SLOTS * RECORD_BYTES)
        self.runs: Final = self.arena.allocate(RUNS_SLOTS * RUN_BYTES)
        store_int64(self.words + MERGE_SEQUENCE, merge_sequence)

    def go_on_behind(self, merge_sequence: int) -> None:
        """The merge stream has been appended to up to that sequence, while no egress was running."""
        store_int64(self.words + MERGE_SEQUENCE, merge_sequence)

    def waiting_count(self) -> int:
        """Events that have been taken and have not left."""
        return load_int64(self.words + EVENTS_TAKEN) - load_int64(self.words + EVENTS_LEFT)


@implements(do_work, GatedEgress, inline=False)
def _do_work(egress: GatedEgress) -> int:
    moved = 0
    _begin_at_the_front(egress.words, egress.events_slots)
    for shard in range(len(egress.outboxes)):
        for _run in range(BATCHES_MAX):
            count = _take_run(egress, shard, egress.outboxes[shard])
            moved += count
            if count < egress.batch_events:
                break
    moved += _append_runs(egress)
    if may_release(egress.replica):
        moved += _release(egress)
    return moved + flush(egress.sink)


@inlined
def _begin_at_the_front(words: int, slots: int) -> None:
    """If nothing waits, go on where the rings begin: in memory that is in the cache, as long as nothing has to wait."""
    runs, events = load_int64(words + RUNS_TAKEN), load_int64(words + EVENTS_TAKEN)
    if load_int64(words + RUNS_LEFT) == runs:
        runs, events = -(-runs // RUNS_SLOTS) * RUNS_SLOTS, (events + slots - 1) & -slots
        for word in (RUNS_TAKEN, RUNS_APPENDED, RUNS_LEFT):
            store_int64(words + word, runs)
        for word in (EVENTS_TAKEN, EVENTS_LEFT):
            store_int64(words + word, events)


@inlined
def _take_run(egress: GatedEgress, shard: int, outbox: Any) -> int:
    """Take what a shard has, up to a batch and as far as there is room in one piece; how many events."""
    words, slots = egress.words, egress.events_slots
    taken, runs = load_int64(words + EVENTS_TAKEN), load_int64(words + RUNS_TAKEN)
    slot = taken & (slots - 1)
    room = min(slots - taken + load_int64(words + EVENTS_LEFT), slots - slot)
    if room == 0 or runs - load_int64(words + RUNS_LEFT) == RUNS_SLOTS:
        return 0
    count = poll_batch(outbox, egress.events + slot * RECORD_BYTES, min(room, egress.batch_events))
    if count == 0:
        return 0
    _note_run(
        egress, shard, count, runs, load_int64(egress.events + (slot + count - 1) * RECORD_BYTES + SEQUENCE)
    )
    store_int64(words + EVENTS_TAKEN, taken + count)
    return count


@kernel
def _note_run(egress: Any, shard: int, count: int, runs: int, sequence: int) -> None:
    slot = runs & (RUNS_SLOTS - 1)
    record = egress.records + slot * RECORD_BYTES
    merge_sequence = load_int64(egress.words + MERGE_SEQUENCE) + 1
    for word in range(0, RECORD_BYTES, 8):
        store_int64(record + word, 0)
    store_uint8(record + KIND, _MERGE)
    store_uint16(record + MERGE_SHARD, shard)
    store_int64(record + SEQUENCE, merge_sequence)
    store_uint32(record + MERGE_COUNT, count)
    store_int64(egress.runs + slot * RUN_BYTES, sequence)
    store_int64(egress.words + MERGE_SEQUENCE, merge_sequence)
    store_int64(egress.words + RUNS_TAKEN, runs + 1)


@inlined
def _append_runs(egress: GatedEgress) -> int:
    """Append the records of the runs that are new, in one frame or two; how many."""
    words = egress.words
    appended, taken = load_int64(words + RUNS_APPENDED), load_int64(words + RUNS_TAKEN)
    if appended == taken:
        return 0
    slot = appended & (RUNS_SLOTS - 1)
    count = min(taken - appended, RUNS_SLOTS - slot, egress.batch_events)
    first = load_int64(egress.records + slot * RECORD_BYTES + SEQUENCE)
    if not append(egress.merge, egress.records + slot * RECORD_BYTES, count, first):
        return 0
    store_int64(words + RUNS_APPENDED, appended + count)
    return count


@inlined
def _release(egress: GatedEgress) -> int:
    """Give the sink the runs that may leave; how many events."""
    words, moved = egress.words, 0
    run, left = load_int64(words + RUNS_LEFT), load_int64(words + EVENTS_LEFT)
    while run < load_int64(words + RUNS_APPENDED) and _may_leave(egress, run & (RUNS_SLOTS - 1)):
        count = load_uint32(egress.records + (run & (RUNS_SLOTS - 1)) * RECORD_BYTES + MERGE_COUNT)
        send(egress.sink, egress.events + (left & (egress.events_slots - 1)) * RECORD_BYTES, count)
        run, left, moved = run + 1, left + count, moved + count
    store_int64(words + RUNS_LEFT, run)
    store_int64(words + EVENTS_LEFT, left)
    return moved


@inlined
def _may_leave(egress: GatedEgress, slot: int) -> bool:
    record = egress.records + slot * RECORD_BYTES
    shard, sequence = load_uint16(record + MERGE_SHARD), load_int64(egress.runs + slot * RUN_BYTES)
    if egress.waits_for_disk != 0:
        if durable_sequence(egress.merge) < load_int64(record + SEQUENCE):
            return False
        if _durable(egress.journals, shard) < sequence:
            return False
    if replicated_sequence(egress.replica, len(egress.journals)) < load_int64(record + SEQUENCE):
        return False
    return replicated_sequence(egress.replica, shard) >= sequence


@inlined
def _durable(journals: tuple[Any, ...], shard: int) -> int:
    """How far a shard's journal is durable. The shards' journals are of one type."""
    return durable_sequence(journals[shard])


assert all(slots & (slots - 1) == 0 for slots in (EVENTS_SLOTS, DISK_EVENTS_SLOTS, RUNS_SLOTS))
