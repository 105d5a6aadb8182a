"""The journal's agent: it makes durable what the shards have appended.

A sync waits for a disk, a hundred microseconds on a good one and many milliseconds on a poor one, so this agent has a
thread of its own, and nobody else ever waits. While it waits, the shards go on appending, and the next sync makes all
of that durable at once: the slower the disk, the more commands share a sync (*group commit*).

If events wait for it (``gate = "synced"``) there is a sync as soon as there is something to sync; otherwise one every
``sync_every_ns``, which is then what a power cut can take away; or sooner, when a stream has written whole segments
since its last one, for they are kept open until they are synced.
"""

from typing import Any, Final, NamedTuple

from exchange.agent import do_work
from exchange.journal.protocol import sync
from exchange.journal.segmented import unsynced_segments
from exchange.native import Arena, implements, load_int64, monotonic_ns, store_int64

NEXT_SYNC_NS: Final = 0
"""When the next sync is due, on the monotonic clock."""

UNSYNCED_SEGMENTS_MAX: Final = 2
"""So many segments' worth of bytes of a stream are synced before their time."""


class JournalSync(NamedTuple):
    """The agent: the states of all streams' journals, which are of one type, and a word for the time."""

    journals: tuple[Any, ...]
    words: int
    sync_every_ns: int


class JournalSyncMemory:
    """The owner of the agent's word.

    Args:
        journals: the states.
        sync_every_ns: 0 to sync as soon as there is something.
    """

    def __init__(self, journals: tuple[Any, ...], sync_every_ns: int) -> None:
        self._arena: Final = Arena.private(64, huge_pages="never")
        self.agent: Final = JournalSync(journals, self._arena.allocate(8), sync_every_ns)


@implements(do_work, JournalSync, inline=False)
def _do_work(agent: JournalSync) -> int:
    is_due = True
    if agent.sync_every_ns > 0:
        now_ns = monotonic_ns()
        is_due = now_ns >= load_int64(agent.words + NEXT_SYNC_NS)
        if is_due:
            store_int64(agent.words + NEXT_SYNC_NS, now_ns + agent.sync_every_ns)
    synced = 0
    for journal in agent.journals:
        if is_due or unsynced_segments(journal) >= UNSYNCED_SEGMENTS_MAX:
            synced += sync(journal)
    return synced
