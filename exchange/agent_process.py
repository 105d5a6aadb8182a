"""Agents that run in a process of their own: the same loop over the same memory, in a child that was forked for it.

An :class:`AgentProcess` takes the place of an :class:`~exchange.agent.AgentThread` in a group. What is a thread of this
process here only watches: it sleeps until the child has ended. All that the agents read and write lies in memory that
both processes have (:func:`exchange.native.shared_with_children`), so rings, books and the word that ends the loop work
as between threads, and whoever looks at a shard's status sees no difference.

What it buys: whoever writes beyond its own memory, or runs out of it, ends its own process and not everybody's memory;
a shard has page tables of its own, so that nothing that the others map, unmap or protect interrupts its core; and an
operator sees a shard where he sees processes, can look into it and bind or limit it. What it costs: 4 KiB pages, unless
the kernel gives shared memory larger ones, and a page fault for each that is touched for the first time.

**If the child ends** before it was asked to, its books and its commands are gone with their only writer, and so the
whole group ends, with an error that says what ended it.

**With a journal** the child looks after its shards' streams as well (:mod:`exchange.journal.apart`). Its loop ends with
the others; closing the streams may take a disk's time, and is waited for by whoever closes the journal.

Rules: all agents are compiled, and use no descriptor but those of their streams."""

import time
from contextlib import nullcontext
from typing import Any, Final

from exchange.agent import STOP_SECONDS, AgentThread
from exchange.forked_child import ForkedChild
from exchange.journal.apart import StreamsApart
from exchange.logs import log_event
from exchange.native import is_compiled, load_acquire, shared_with_children, store_release
from exchange.placement import Assignment

_ENDED: Final = 8
"""Behind the stop word: whether the loop has ended."""
LOOK_SECONDS: Final = 0.1
"""How often the watching thread looks whether the child has been asked to end, and has not."""
KILL_SECONDS: Final = STOP_SECONDS / 2
"""How long a child may take to end its loop when it is asked to, before it is killed."""
CLOSE_SECONDS: Final = 60.0
"""How long it may then take to close its streams."""


class AgentProcess(AgentThread):
    """A process that runs some agents where its assignment says; in this process, a thread that watches it.

    Args:
        name: the thread's, which the process has too.
        agents: what it runs.
        idle: the idle strategy.
        assignment: where it runs.
        streams: of the shards among the agents; None if no journal is kept.
    """

    def __init__(
        self,
        name: str,
        agents: tuple[Any, ...],
        idle: Any,
        assignment: Assignment | None,
        streams: StreamsApart | None = None,
    ) -> None:
        assert is_compiled(agents), "the settings refuse all others"
        with shared_with_children():
            super().__init__(name, agents, idle, assignment)
        self._streams: Final = streams
        self._child: ForkedChild | None = None
        self._is_asked = self._is_over = False

    @property
    def pid(self) -> int:
        """The process id; 0 before it was forked."""
        return 0 if self._child is None else self._child.pid

    def request_stop(self) -> None:
        """End the loop at its next turn. The child does it too, to itself, where it fails beside its loop."""
        self._is_asked = True
        super().request_stop()

    def compile(self) -> None:
        """Compile the loop, and that of the thread beside it."""
        super().compile()
        if self._streams is not None:
            self._streams.compile()

    def prepare(self) -> None:
        """Fork; the loops are compiled before, so that no child has to."""
        self.compile()
        keep = [] if self._streams is None else self._streams.descriptors()
        self._child = ForkedChild(self.name, self._live, keep)
        if self._streams is not None:
            self._streams.hand_over(self.finish)
        log_event("process started", name=self.name, pid=self.pid)

    def _live(self) -> dict[str, Any]:
        """The child's life."""
        with self._streams.attended(self.request_stop) if self._streams is not None else nullcontext():
            try:
                return self.run_loop()
            finally:
                store_release(self._stop_address + _ENDED, 1)

    def give_up(self) -> None:
        """End the child without waiting for what it says."""
        if self._child is not None and not self._is_over:
            self._is_over = True
            self._child.kill()
            self._child.forget()

    def work(self) -> None:
        """Watch the child, until its loop has ended; without streams, until the child has.

        Raises:
            ChildDied: it was ended by somebody else.
            UserError: it could not be bound to its core.
            RuntimeError: it did not end when it was asked to, or its loop failed.
        """
        child, asked_at = self._child, 0.0
        assert child is not None
        while not child.wait(LOOK_SECONDS):
            if not self._is_asked:
                continue
            if self._streams is not None and load_acquire(self._stop_address + _ENDED) != 0:
                return
            asked_at = asked_at or time.monotonic()
            if time.monotonic() - asked_at > KILL_SECONDS:
                self.give_up()
                raise RuntimeError(f"{self.name}: its process {child.pid} did not end when it was asked to")
        self.finish()

    def finish(self) -> None:
        """Wait for the end of a child whose loop has ended, and take what it says; once is enough.

        Raises:
            as :meth:`work`.
        """
        child = self._child
        if child is None or self._is_over:
            return
        if not child.wait(CLOSE_SECONDS):
            self.give_up()
            raise RuntimeError(f"{self.name}: its process {child.pid} did not close its streams")
        self._is_over = True
        self.counters = child.take_result()
