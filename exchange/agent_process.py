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

Rules: all agents are compiled, and none of them uses a descriptor."""

import time
from typing import Any, Final

from exchange.agent import STOP_SECONDS, AgentThread
from exchange.forked_child import ForkedChild
from exchange.logs import log_event
from exchange.native import is_compiled, load_acquire, shared_with_children
from exchange.placement import Assignment

LOOK_SECONDS: Final = 0.1
"""How often the watching thread looks whether the child has been asked to end, and has not."""
KILL_SECONDS: Final = STOP_SECONDS / 2
"""How long a child may take to end when it is asked to, before it is killed."""


class AgentProcess(AgentThread):
    """A process that runs some agents where its assignment says; in this process, a thread that watches it.

    Attributes:
        pid: its process id; 0 before it was forked.
    """

    def __init__(self, name: str, agents: tuple[Any, ...], idle: Any, assignment: Assignment | None) -> None:
        assert is_compiled(agents), "the settings refuse all others"
        with shared_with_children():
            super().__init__(name, agents, idle, assignment)
        self._child: ForkedChild | None = None

    @property
    def pid(self) -> int:
        """The process id; 0 before it was forked."""
        return 0 if self._child is None else self._child.pid

    def prepare(self) -> None:
        """Fork; the loop is compiled before, so that no child has to."""
        self.compile()
        self._child = ForkedChild(self.name, self.run_loop)
        log_event("process started", name=self.name, pid=self.pid)

    def give_up(self) -> None:
        """End the child without waiting for what it says."""
        if self._child is not None:
            self._child.kill()
            self._child.forget()

    def work(self) -> None:
        """Watch the child.

        Raises:
            ChildDied: it was ended by somebody else.
            UserError: it could not be bound to its core.
            RuntimeError: it did not end when it was asked to, or its loop failed.
        """
        child, asked_at = self._child, 0.0
        assert child is not None
        while not child.wait(LOOK_SECONDS):
            if asked_at == 0.0 and load_acquire(self._stop_address) != 0:
                asked_at = time.monotonic()
            elif asked_at > 0.0 and time.monotonic() - asked_at > KILL_SECONDS:
                child.kill()
                child.forget()
                raise RuntimeError(f"{self.name}: its process {child.pid} did not end when it was asked to")
        self.counters = child.take_result()
