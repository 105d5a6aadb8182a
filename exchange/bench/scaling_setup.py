"""What ``exchange bench scaling`` runs: real exchanges in memory, their agents in loops of the benchmark's own.

A :class:`Setup` is one number of shards in one layout, with all its memory, built once and played again and again:

* ``a feed each``: every shard has a core, and on it everything that its commands pass (run to completion): its own
  ingress, the shard, its own egress. They are as many exchanges of one shard; nothing is shared, not even a clock.
* ``one feed``: one exchange. One core has the ingress and the egress, every shard has another: what a served exchange
  is, whose clients all come through one door.

Either runs as threads or as processes. Threads use private memory; processes are forked once, live as long as the
setup, and use memory that they share with this one. Who waits for the next pass sleeps.

**A pass**: books are emptied where they are used, all loops meet, a word is set, and each plays its commands as fast as
it can. Commands lie in memory and are all due. A pass is right if every command was answered and the books are in the
state that a single book, given the same commands, comes to.

Rules: whoever makes a setup closes it; one pass at a time over all setups."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from exchange.agent import SpinThenYield
from exchange.assembly import Exchange
from exchange.bench.micro import PATIENCE_S, StoodStill
from exchange.bench.scaling_loops import (
    BEGAN_NS,
    BUSY_NS,
    CONTROL_BYTES,
    CPU_NS,
    ENDED_NS,
    IDLE_NS,
    LEFT_ORDERS,
    LOOP_BYTES,
    READY,
    START,
    STOP,
    empty_book,
    run_measured,
)
from exchange.book.config import LadderBookConfig
from exchange.forked_child import ForkedChild
from exchange.matching.config import ShardsConfig
from exchange.matching.shard import Shard
from exchange.messages import ALL_SYMBOLS, COMMAND_DTYPE, RECORD_BYTES, CommandKind
from exchange.native import (
    Arena,
    load_acquire,
    load_int64,
    shared_with_children,
    store_int64,
    store_release,
    view_bytes,
)
from exchange.placement import Plan, apply_to_current_thread, restore
from exchange.queues.config import MpscQueueConfig, SpscQueueConfig
from exchange.settings import Settings
from exchange.transport.memory import ANSWERS, EVENTS, SINK_BYTES, LatencySink, MemorySource

RunAs = Literal["threads", "processes"]
Layout = Literal["a feed each", "one feed"]
QueueKind = Literal["spsc", "mpsc"]
Commands = NDArray[Any]

BATCH_COMMANDS: Final = 256
RING_SLOTS: Final = 4096
"""Some batches of events: a ring that goes round in a core's own cache. A larger one would measure memory instead."""
IDLE: Final = SpinThenYield(200)
LOOK_SECONDS: Final = 0.005
"""How often the main thread looks whether a pass has ended."""
IDLE_LOOK_SECONDS: Final = 0.02
"""How often a process looks for its next pass, while perhaps another setup is measured on its core."""
_ENDED: Final = -1
_NOT_MEASURED: Final = 1 << 62
"""Latencies would be counted after so many answers: never, for at saturation they say nothing."""

# the words of a worker, behind those of its loop
_PASS: Final = LOOP_BYTES
_DONE: Final = LOOP_BYTES + 8
_WORKER_BYTES: Final = 2 * LOOP_BYTES


class WrongBooks(Exception):
    """Books are not as one book would be, or not all commands were answered."""


class Variant(NamedTuple):
    """What runs the loops, who feeds them, and through which queues."""

    run_as: RunAs
    layout: Layout
    queue: QueueKind

    @property
    def name(self) -> str:
        """All of it in words."""
        return f"{self.runs}, {self.layout}"

    @property
    def runs(self) -> str:
        """What runs the loops, as a column of the result is called."""
        return self.run_as + ("" if self.queue == "spsc" else f", {self.queue}")


class Loop(NamedTuple):
    """What one loop did in a pass. It never sleeps, so what is not ``cpu_ns`` it was without a core."""

    name: str
    elapsed_ns: int
    busy_ns: int
    idle_ns: int
    cpu_ns: int


class Pass(NamedTuple):
    """A pass: commands in all, from the first loop's begin to the last one's end, and how pushes fared meanwhile."""

    commands: int
    elapsed_ns: int
    loops: tuple[Loop, ...]
    inbox_refused: int
    outbox_refused: int


def settings_for(variant: Variant, shards: int, capacity_orders: int) -> Settings:
    """The settings of an exchange of a setup."""
    queue = SpscQueueConfig(RING_SLOTS) if variant.queue == "spsc" else MpscQueueConfig(RING_SLOTS)
    names = tuple(f"shard.{shard}" for shard in range(shards))
    whole = (("ingress", *names, "egress"),)
    apart = (("ingress", "egress"), *((name,) for name in names))
    return Settings(
        name=variant.name,
        queue=queue,
        book=LadderBookConfig(capacity_orders=capacity_orders),
        shards=ShardsConfig(
            count=shards,
            threads=whole if variant.layout == "a feed each" else apart,
            batch_commands=BATCH_COMMANDS,
        ),
    )


class Feed:
    """Commands in memory and a count of their answers: the transport of an exchange here.

    Args:
        commands: shape (n,), ``COMMAND_DTYPE``; they are copied, and all due.
    """

    def __init__(self, commands: Commands) -> None:
        self.count: Final = len(commands)
        sessions = np.unique(commands["session_id"])
        self.mass_cancel_count: Final = len(sessions)
        records = self.count + self.mass_cancel_count
        self._arena: Final = Arena.private(records * RECORD_BYTES + SINK_BYTES + 1024)
        self._commands: Final = self._arena.allocate(self.count * RECORD_BYTES)
        self.mass_cancels: Final = self._arena.allocate(self.mass_cancel_count * RECORD_BYTES)
        self._words: Final = self._arena.allocate(SINK_BYTES)
        self._cursor: Final = self._arena.allocate(8)
        due = _records_at(self._commands, self.count)
        due[:] = commands
        due["timestamp_ns"] = 0
        cancels = _records_at(self.mass_cancels, self.mass_cancel_count)
        cancels["kind"], cancels["symbol_id"] = CommandKind.MASS_CANCEL, ALL_SYMBOLS
        cancels["session_id"] = sessions

    @property
    def answers(self) -> int:
        """The address of the count of answers."""
        return self._words + ANSWERS

    def source(self, lane: int) -> MemorySource:
        """What the ingress receives from."""
        return MemorySource(self._commands, self.count, self._cursor)

    def sink(self) -> LatencySink:
        """What the egress sends to."""
        return LatencySink(self._words, 0, _NOT_MEASURED)

    def rewind(self) -> None:
        """All commands are due again, and none is answered."""
        for address in (self._cursor, self._words + ANSWERS, self._words + EVENTS):
            store_int64(address, 0)


def _records_at(address: int, count: int) -> Commands:
    return np.frombuffer(view_bytes(address, count * RECORD_BYTES), COMMAND_DTYPE)


class _Worker:
    """One loop of a setup, where it is placed: what it runs, and its words."""

    def __init__(self, name: str, agents: tuple[Any, ...], feed: Feed, ends_all: bool, words: int) -> None:
        self.name: Final = name
        self.agents: Final = agents
        self.words: Final = words
        self.error: BaseException | None = None
        self._sees_answers: Final = not all(isinstance(agent, Shard) for agent in agents)
        self._feed: Final = feed
        self._ends_all: Final = ends_all

    def play(self, control: int) -> None:
        """A pass, on the calling thread."""
        left = 0
        for shard in self.agents:
            if isinstance(shard, Shard):
                left += empty_book(
                    shard.book, self._feed.mass_cancels, self._feed.mass_cancel_count, 1, shard.events
                )
        store_int64(self.words + LEFT_ORDERS, left)
        answers = self._feed.answers if self._sees_answers else 0
        run_measured(self.agents, IDLE, self.words, control, answers, self._feed.count, self._ends_all)

    def outcome(self) -> Loop:
        """What it did in the last pass."""
        began, ended, busy, idle, cpu = (
            load_int64(self.words + word) for word in (BEGAN_NS, ENDED_NS, BUSY_NS, IDLE_NS, CPU_NS)
        )
        return Loop(self.name, ended - began, busy, idle, cpu)


class Setup:
    """Exchanges, their loops, and where these run. Use it in a ``with`` statement, or close it.

    Args:
        variant: layout, threads or processes, and queues.
        flows: for each shard its commands, of symbols of its own.
        plan: where the loops run, by their names (see :func:`loop_names`).
        capacity_orders: the most that may rest in a book.

    Attributes:
        digests: the state that each exchange's books must come to.
    """

    def __init__(
        self, variant: Variant, flows: Sequence[Commands], plan: Plan, capacity_orders: int, symbols: int
    ) -> None:
        self.variant: Final = variant
        self.shards: Final = len(flows)
        self.digests: list[str] = []
        self._plan: Final = plan
        self._pass = 0
        is_shared = variant.run_as == "processes"
        with shared_with_children() if is_shared else nullcontext():
            self._arena: Final = Arena.private(
                CONTROL_BYTES + (self.shards + 1) * _WORKER_BYTES, huge_pages="never"
            )
            self._control: Final = self._arena.allocate(CONTROL_BYTES)
            each = variant.layout == "a feed each"
            parts = [[flow] for flow in flows] if each else [list(flows)]
            self._feeds: Final = [Feed(interleave(part)) for part in parts]
            self._exchanges: Final = [
                Exchange(settings_for(variant, len(part), capacity_orders), symbols * len(part), feed)
                for part, feed in zip(parts, self._feeds, strict=True)
            ]
        self._workers: Final = self._make_workers()
        self._compile()
        self._children: list[ForkedChild] = []

    def _make_workers(self) -> list[_Worker]:
        names = iter(loop_names(self.variant, self.shards))
        return [
            _Worker(
                next(names), thread.agents, feed, self.variant.layout == "one feed",
                self._arena.allocate(_WORKER_BYTES),
            )
            for exchange, feed in zip(self._exchanges, self._feeds, strict=True)
            for thread in exchange.threads.agent_threads
        ]  # fmt: skip

    def _compile(self) -> None:
        """Compile the loops by running them when they are to stop; a pass has only so much time."""
        store_release(self._control + STOP, 1)
        for worker in self._workers:
            worker.play(self._control)

    def play(self) -> Pass:
        """A pass.

        Raises:
            WrongBooks: it did not do its work right.
            StoodStill: it did not end.
            ChildDied: a process of it was ended.
        """
        for address in (READY, START, STOP):
            store_release(self._control + address, 0)
        for feed in self._feeds:
            feed.rewind()
        refused = self._refused()
        self._pass += 1
        if self.variant.run_as == "processes":
            self._play_in_children()
        else:
            self._play_in_threads()
        self._check()
        inbox, outbox = (after - before for before, after in zip(refused, self._refused(), strict=True))
        words = [worker.words for worker in self._workers]
        began = min(load_int64(address + BEGAN_NS) for address in words)
        ended = max(load_int64(address + ENDED_NS) for address in words)
        loops = tuple(worker.outcome() for worker in self._workers)
        return Pass(sum(feed.count for feed in self._feeds), ended - began, loops, inbox, outbox)

    def _play_in_threads(self) -> None:
        def run(worker: _Worker) -> None:
            before = None
            try:
                before = apply_to_current_thread(self._plan.assignment_of(worker.name))
                worker.play(self._control)
            except BaseException as error:  # handed over to the caller
                worker.error = error
                store_release(self._control + STOP, 1)
            finally:
                restore(before)

        threads = [threading.Thread(target=run, args=(worker,)) for worker in self._workers]
        try:
            for thread in threads:
                thread.start()
            self._start_and_wait(lambda: not any(thread.is_alive() for thread in threads), lambda: None)
        finally:
            store_release(self._control + STOP, 1)
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        for worker in self._workers:
            if worker.error is not None:
                raise worker.error

    def _play_in_children(self) -> None:
        if not self._children:
            for worker in self._workers:
                self._children.append(ForkedChild(worker.name, lambda worker=worker: self._live(worker)))  # type: ignore[misc]
        for worker in self._workers:
            store_release(worker.words + _PASS, self._pass)
        try:
            self._start_and_wait(
                lambda: all(load_acquire(one.words + _DONE) == self._pass for one in self._workers),
                self._check_children,
            )
        finally:
            store_release(self._control + STOP, 1)

    def _live(self, worker: _Worker) -> None:
        """The life of a process: pass after pass."""
        apply_to_current_thread(self._plan.assignment_of(worker.name))
        done = 0
        while (wanted := load_acquire(worker.words + _PASS)) != _ENDED:
            if wanted > done:
                worker.play(self._control)
                done = wanted
                store_release(worker.words + _DONE, done)
            time.sleep(IDLE_LOOK_SECONDS)

    def _check_children(self) -> None:
        for child in tuple(self._children):
            if child.wait(0):
                self._children.remove(child)
                child.take_result()

    def _start_and_wait(self, is_done: Callable[[], bool], check: Callable[[], None]) -> None:
        """Let all loops begin as soon as all of them are there, and wait for their end."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_done():
            if load_acquire(self._control + READY) == len(self._workers):
                store_release(self._control + START, 1)
            check()
            if time.monotonic() > deadline:
                raise StoodStill(f"not done after {PATIENCE_S:.0f} s")
            time.sleep(LOOK_SECONDS)

    def _refused(self) -> tuple[int, int]:
        """How many pushes have found an inbox, and an outbox, full so far."""
        counts = [exchange.back_pressure() for exchange in self._exchanges]
        inbox, outbox = (
            sum(count for one in counts for queue, count in one.items() if queue.startswith(kind))
            for kind in ("inbox", "outbox")
        )
        return inbox, outbox

    def _check(self) -> None:
        for feed in self._feeds:
            if load_acquire(feed.answers) != feed.count:
                raise WrongBooks(f"{load_acquire(feed.answers)} of {feed.count} commands were answered")
        if any(load_int64(worker.words + LEFT_ORDERS) for worker in self._workers):
            raise WrongBooks("orders rest in the book after all sessions were cancelled")
        digests = [exchange.digest() for exchange in self._exchanges]
        if digests != self.digests:
            raise WrongBooks(
                f"the books have the digests {', '.join(digests)} and not {', '.join(self.digests)}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            store_release(worker.words + _PASS, _ENDED)
        for child in self._children:
            if not child.wait(1):
                child.kill()
            child.forget()
        self._children.clear()


def loop_names(variant: Variant, shards: int) -> list[str]:
    """The loops of a setup, in its order: one for each shard, and before them the feed if there is one for all."""
    names = [f"shard.{shard}" for shard in range(shards)]
    return names if variant.layout == "a feed each" else ["feed", *names]


def interleave(flows: Sequence[Commands]) -> Commands:
    """Flows of equal length as one: a command of each in turn. Flow k of n has the symbols k, k + n, k + 2 n ..."""
    whole = np.zeros(sum(len(flow) for flow in flows), COMMAND_DTYPE)
    for lane, flow in enumerate(flows):
        whole[lane :: len(flows)] = flow
        whole["symbol_id"][lane :: len(flows)] = flow["symbol_id"] * len(flows) + lane
    return whole
