"""The streams of shards that run in a process of their own: looked after there, and by nobody else.

A descriptor or a mapping that is made after a fork is in the process that made it and in no other. So whoever writes a
stream, prepares its segments and syncs them must be one process. Where shards are processes, the exchange opens their
streams, each with its first segment, and recovers; then a child is forked for a shard, and takes its streams over:
beside the shard's loop it runs their keeper and a thread that syncs them, and at its end it closes them. The exchange
closes its own descriptors of them. What both need to know, how far a stream is and what of it is durable, are words in
memory that both have, so a gate in the exchange waits for a shard's disk as ever.

The folder's lock goes along: as long as a process lives that may write to a journal, nobody else gets it.

Rules: :meth:`StreamsApart.attended` is for the child, all else for the exchange."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

from exchange.agent import AgentThread, GroupThread, ThreadGroup
from exchange.journal.keeper import JournalKeeper
from exchange.journal.segmented import SegmentedJournal
from exchange.journal.syncing import JournalSyncMemory

SYNC_THREAD: Final = "journal"


class StreamsApart:
    """Streams that a child takes over.

    Args:
        journals: their owners.
        sync_every_ns: how often they are synced; 0: as soon as there is something to sync.
        lock: the descriptor of the folder's lock.
        idle: the idle strategy of the thread that syncs.
    """

    def __init__(
        self, journals: Sequence[SegmentedJournal], sync_every_ns: int, lock: int, idle: Any
    ) -> None:
        self._journals: Final = tuple(journals)
        self._sync_every_ns: Final = sync_every_ns
        self._lock: Final = lock
        self._idle: Final = idle
        self._wait: Callable[[], None] | None = None

    def compile(self) -> None:
        """Have the loop of the thread that syncs compiled, so that the child need not."""
        self._sync_thread().compile()

    def descriptors(self) -> list[int]:
        """What the child has to keep open."""
        return [self._lock, *(number for one in self._journals for number in one.descriptors())]

    def hand_over(self, wait: Callable[[], None]) -> None:
        """A child has been forked: it has them now, and ``wait`` waits until it has closed them."""
        self._wait = wait
        for journal in self._journals:
            journal.let_go()

    def close(self) -> None:
        """Wait until the child has closed them; without a child, close them here.

        Raises:
            OSError: the disk fails.
            RuntimeError: what the child says of its end.
        """
        if self._wait is not None:
            self._wait()
        else:
            _close_all(self._journals)

    @contextmanager
    def attended(self, end_loop: Callable[[], None]) -> Iterator[None]:
        """In the child: look after the streams while the block runs, and close them. ``end_loop`` ends the block.

        Raises:
            OSError: the disk fails; the block has been ended.
        """
        for journal in self._journals:
            journal.take_over()
        members = [JournalKeeper(self._journals), self._sync_thread(), _LoopEnd(end_loop)]
        try:
            with ThreadGroup(members):
                yield
        finally:
            _close_all(self._journals)

    def _sync_thread(self) -> AgentThread:
        states = tuple(journal.state for journal in self._journals)
        memory = JournalSyncMemory(states, self._sync_every_ns)
        return _OwningThread(memory, self._idle)


class _OwningThread(AgentThread):
    """The thread that syncs; it owns its agent's memory."""

    def __init__(self, memory: JournalSyncMemory, idle: Any) -> None:
        super().__init__(SYNC_THREAD, (memory.agent,), idle, None)
        self._memory: Final = memory


class _LoopEnd(GroupThread):
    """Ends the shard's loop when a thread beside it fails."""

    def __init__(self, end_loop: Callable[[], None]) -> None:
        super().__init__("loop end")
        self._end_loop: Final = end_loop
        self._is_stopped: Final = Event()

    def request_stop(self) -> None:
        """End the loop, and this."""
        self._end_loop()
        self._is_stopped.set()

    def work(self) -> None:
        """Nothing, until then."""
        self._is_stopped.wait()


def _close_all(journals: Sequence[SegmentedJournal]) -> None:
    """Sync and close. Raises OSError of the first that failed; all are closed nevertheless."""
    failures: list[OSError] = []
    for journal in journals:
        try:
            journal.close()
        except OSError as error:
            failures.append(error)
    if failures:
        raise failures[0]
