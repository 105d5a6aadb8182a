"""An agent's life: small pieces of work, and threads that do them round and round.

An *agent* (an ingress, a shard, an egress) is a state with one operation, :func:`do_work`: do what there is
to do now, never wait, and say how much it was. A *thread* runs a tuple of agents in a loop. Which agents
share a thread is the profile's choice, and it is a technique of its own: a core for each stage is a pipeline;
all stages on one core is run-to-completion.

When a turn of the loop found nothing to do, the *idle strategy* decides how to wait, so that no agent ever
sleeps:

* ``busy-spin``: look again at once. The least latency, and a whole core for each thread.
* ``spin-then-yield``: spin for a while, then let other threads have the core between looks. For shared
  machines.
* ``park``: spin for a while, then sleep. Friendly, and some 50 microseconds late.
* ``block``: spin for a while, then sleep in the kernel until a client has said something. An idle exchange costs next
  to nothing; who speaks first waits for the thread to be woken. Only where one thread runs all agents: nobody would
  wake it for what another thread has put into a queue.

If all agents of a thread are compiled, its loop is one compiled function without the interpreter lock;
otherwise the same source runs interpreted. Either way it ends within one turn after its stop word is set. A
thread that fails stops the whole group, so that nothing is left running behind an error.

Sources: the agents of Agrona (Thompson, Montgomery) and their idle strategies.
"""

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Self

from numba import types
from numba.extending import lower_builtin, type_callable

from exchange.native import (
    Arena,
    body_for,
    epoll_wait,
    generic,
    implements,
    is_compiled,
    kernel,
    load_acquire,
    pause,
    sleep_ns,
    store_release,
    yield_core,
)
from exchange.placement import Assignment, apply_to_current_thread
from exchange.placement.running import publish
from exchange.settings import BlockIdle, BusySpinIdle, IdleConfig, ParkIdle, SpinThenYieldIdle

STOP_SECONDS: Final = 1.0
"""How long a stopped thread may take for its last turn before it is reported as stuck."""


@generic
def do_work(agent: Any) -> int:
    """Do what can be done now without waiting; returns how many records were handled, 0 if there was nothing."""
    raise NotImplementedError


@generic
def wait(idle: Any, turns: int) -> None:
    """Pass the time after ``turns`` turns in a row without work."""
    raise NotImplementedError


class BusySpin(NamedTuple):
    """Look again at once."""

    pauses: int = 1


class SpinThenYield(NamedTuple):
    """Spin for ``spins`` turns, then offer the core to others at each turn."""

    spins: int


class Park(NamedTuple):
    """Spin for ``spins`` turns, then sleep ``park_ns`` at each turn."""

    spins: int
    park_ns: int


class Block(NamedTuple):
    """Spin for ``spins`` turns, then sleep until ``epoll`` has something, ``timeout_ms`` at most.

    ``events`` is room for one event.
    """

    spins: int
    epoll: int
    events: int
    timeout_ms: int


@implements(wait, BusySpin)
def _wait_busy_spin(idle: BusySpin, turns: int) -> None:
    pause()


@implements(wait, SpinThenYield)
def _wait_spin_then_yield(idle: SpinThenYield, turns: int) -> None:
    if turns < idle.spins:
        pause()
    else:
        yield_core()


@implements(wait, Park)
def _wait_park(idle: Park, turns: int) -> None:
    if turns < idle.spins:
        pause()
    else:
        sleep_ns(idle.park_ns)


@implements(wait, Block)
def _wait_block(idle: Block, turns: int) -> None:
    if turns < idle.spins:
        pause()
    else:
        epoll_wait(idle.epoll, idle.events, 1, idle.timeout_ms)


def build_idle(
    config: IdleConfig, epoll: int = -1, events: int = 0
) -> BusySpin | SpinThenYield | Park | Block:
    """The idle strategy of a profile; ``epoll`` and room for one event are for the one that sleeps on sockets."""
    match config:
        case BusySpinIdle():
            return BusySpin()
        case SpinThenYieldIdle():
            return SpinThenYield(config.spins)
        case ParkIdle():
            return Park(config.spins, config.park_ns)
        case BlockIdle():
            return Block(config.spins, epoll, events, config.wake_ns // 1_000_000)


def do_all_work(agents: tuple[Any, ...]) -> int:
    """One turn: every agent of the thread once, in order."""
    return sum(do_work(agent) for agent in agents)


@type_callable(do_all_work)
def _type_of_all_work(context: Any) -> Any:
    return lambda agents: types.int64


@lower_builtin(do_all_work, types.BaseTuple)
def _emit_all_work(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
    """A call for each agent of a tuple, which are of different types. As a function that calls itself with the rest of
    the tuple, each rest would be compiled, and everything that the agents do once more for each."""
    operation = context.typing_context.resolve_value_type(do_work)
    total = context.get_constant(types.int64, 0)
    for index, agent in enumerate(signature.args[0]):
        one = operation.get_call_type(context.typing_context, (agent,), {})
        count = context.get_function(operation, one)(builder, (builder.extract_value(operands[0], index),))
        total = builder.add(total, context.cast(builder, count, one.return_type, types.int64))
    return total


@kernel
def run_agents(agents: tuple[Any, ...], stop_address: int, idle: Any) -> None:
    """A thread's loop, compiled: turn after turn until the word at ``stop_address`` is not 0."""
    idle_turns = 0
    while load_acquire(stop_address) == 0:
        if do_all_work(agents) > 0:
            idle_turns = 0
        else:
            wait(idle, idle_turns)
            idle_turns += 1


def run_agents_interpreted(agents: tuple[Any, ...], stop_address: int, idle: Any) -> None:
    """The same loop for agents of which at least one has a plain-Python part."""
    bodies = [(body_for(do_work, agent), agent) for agent in agents]
    idle_turns = 0
    while load_acquire(stop_address) == 0:
        if sum(body(agent) for body, agent in bodies) > 0:
            idle_turns = 0
        else:
            # An interpreted thread holds the lock that the others need: give it up, whatever the strategy.
            time.sleep(0) if idle_turns < 1000 else wait(idle, idle_turns)
            idle_turns += 1


class GroupThread(threading.Thread):
    """A member of a :class:`ThreadGroup`: it ends when it is asked to, and if it fails, the group ends with it.

    A subclass says what the thread does, :meth:`work`, and how it is ended, :meth:`request_stop`.

    Attributes:
        error: the exception that ended it, or None.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.error: BaseException | None = None
        self._group: Callable[[], ThreadGroup | None] = lambda: None

    def work(self) -> None:
        """What the thread does, until it is asked to end."""
        raise NotImplementedError

    def request_stop(self) -> None:
        """Ask the thread to end; returns at once."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Do what has to be done while no thread of the group runs."""

    def give_up(self) -> None:
        """Undo :meth:`prepare`, for the thread is not going to be started."""

    def join_group(self, group: "ThreadGroup") -> None:
        """If this thread fails, ``group`` is to be stopped."""
        # Not held, or there were a cycle, and the group's memory would not be freed as soon as nobody needs it.
        self._group = weakref.ref(group)

    def run(self) -> None:
        """The thread's body; called by ``start()``."""
        try:
            self.work()
        except BaseException as error:
            self.error = error
            group = self._group()
            if group is not None:
                group.request_stop()


class AgentThread(GroupThread):
    """A thread that runs some agents where its assignment says.

    Attributes:
        counters: what :func:`exchange.bench.host.thread_counters` said at its end, less what it said at its start.
    """

    def __init__(self, name: str, agents: tuple[Any, ...], idle: Any, assignment: Assignment | None) -> None:
        super().__init__(name)
        self.agents: Final = agents
        self.assignment: Final = assignment
        self.counters: dict[str, Any] = {}
        self._idle = idle
        self._arena = Arena.private(64, huge_pages="never")
        self._stop_address = self._arena.allocate(64)

    @property
    def pid(self) -> int:
        """The process that runs the agents in this one's place; 0 if none does."""
        return 0

    def compile(self) -> None:
        """Compile the thread's loop (or load it from disk) by running it with its stop word set."""
        if is_compiled(self.agents):
            store_release(self._stop_address, 1)
            run_agents(self.agents, self._stop_address, self._idle)
            store_release(self._stop_address, 0)

    def request_stop(self) -> None:
        """End the loop at its next turn."""
        store_release(self._stop_address, 1)

    def work(self) -> None:
        """Run the agents, counting what the kernel knows of the thread."""
        self.counters = self.run_loop()

    def run_loop(self) -> dict[str, Any]:
        """Run the agents on the calling thread, until the stop word says otherwise; what the kernel counted of it."""
        from exchange.bench.host import thread_counters

        if self.assignment is not None:
            apply_to_current_thread(self.assignment)
        before = thread_counters(threading.get_native_id())
        loop = run_agents if is_compiled(self.agents) else run_agents_interpreted
        loop(self.agents, self._stop_address, self._idle)
        after = thread_counters(threading.get_native_id())
        return _difference(before, after)


_memory_in_use: Final[dict[int, object]] = {}
"""What the threads of each running group read and write, by the group's id.

Threads hold plain addresses. If whoever started them goes away without waiting for them (Ctrl-C while they are being
started, a thread that does not end in time), the memory behind the addresses must stay nevertheless: as long as the
process, if need be.
"""


class ThreadGroup:
    """The threads of an exchange, which live and end together. Use it in a ``with`` statement.

    Leaving the block stops and joins every thread, also after Ctrl-C or an error in the block.

    Args:
        threads: what runs.
        memory: the owners of all memory that the agents use; held until every thread has ended.
    """

    def __init__(self, threads: Sequence[GroupThread], memory: object = None) -> None:
        self.threads: Final = tuple(threads)
        self._memory = memory
        for thread in self.threads:
            thread.join_group(self)

    def __enter__(self) -> Self:
        self.start(self.threads)
        return self

    def start(self, threads: Sequence[GroupThread]) -> None:
        """Start those of these members that do not run yet; entering the block starts all that are left.

        Whoever starts some and does not enter the block calls :meth:`stop`.
        """
        _memory_in_use[id(self)] = (self, self._memory)
        try:
            beginning = [thread for thread in threads if thread.ident is None]
            for thread in beginning:
                thread.prepare()
            for thread in beginning:
                thread.start()
            agents = self.agent_threads
            publish(
                [one.assignment for one in agents if one.assignment is not None],
                [one.pid for one in agents if one.pid],
            )
        except BaseException:
            self.request_stop()
            for thread in self.threads:
                if thread.ident is None:
                    thread.give_up()
            raise

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            try:
                self.stop()
            finally:  # what one has failed with is the news, not that another is slow to end
                self.check()
        else:
            with suppress(RuntimeError):  # what ended the block is the news, not that a thread is slow to end
                self.stop()

    @property
    def agent_threads(self) -> tuple[AgentThread, ...]:
        """Those of the threads that run agents."""
        return tuple(thread for thread in self.threads if isinstance(thread, AgentThread))

    def check(self) -> None:
        """Raise what a thread failed with, if one did."""
        for thread in self.threads:
            if thread.error is not None:
                raise thread.error

    def request_stop(self) -> None:
        """Ask every thread to end; returns at once."""
        for thread in self.threads:
            thread.request_stop()

    def stop(self) -> None:
        """Ask every thread to end and wait for it.

        Raises:
            RuntimeError: one did not end in time. It is a daemon thread: it dies with the process.
        """
        self.request_stop()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self.threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        stuck = [thread.name for thread in self.threads if thread.is_alive()]
        if stuck:
            raise RuntimeError(f"threads did not stop within {STOP_SECONDS} s: {', '.join(stuck)}")
        _memory_in_use.pop(id(self), None)


def _difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Counters that grew during a thread's life; what the kernel does not count stays None, with its reason."""
    return {
        name: value - before[name] if isinstance(value, int) and isinstance(before.get(name), int) else value
        for name, value in after.items()
    }
