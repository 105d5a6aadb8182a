"""The composition root: settings in, a running exchange out. Read this first.

::

    transport ── ingress ──[inbox of shard k]── shard k ──[outbox of shard k]── egress ── transport
                 routes by symbol               sequence, books, events   gate ┘     └─── market data
                                                ├── journal ───────────────┤
                                                └── ring ── replicator ────┘── backup

One inbox and one outbox for each shard; any number of ingress lanes, one egress. Each box of the picture is
built here, in the order in which commands meet them, and nowhere else does code ask which variant of a layer
was chosen. Everything that owns memory is held by :class:`Exchange`, because agents hold plain addresses."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from exchange.agent import AgentThread, GroupThread, Park, ThreadGroup, build_idle
from exchange.agent_layout import (
    EGRESS_AGENT,
    JOURNAL_AGENT,
    agent_names,
    ingress_agent,
    shard_agent,
    thread_layout,
)
from exchange.agent_process import AgentProcess
from exchange.book import build_book
from exchange.errors import UserError
from exchange.journal.config import NoneJournalConfig
from exchange.journal.keeper import JournalKeeper
from exchange.journal.streams import JournalStreams
from exchange.matching.digest import state_digest
from exchange.matching.egress import Egress, EgressMemory
from exchange.matching.gated_egress import GatedEgress, GatedEgressMemory
from exchange.matching.ingress import Ingress, IngressMemory
from exchange.matching.shard import Shard, ShardMemory, ShardStatus
from exchange.matching.symbol_owners import spread_symbols
from exchange.matching.trading_states import TradingState
from exchange.messages import COMMAND_DTYPE
from exchange.native import EPOLL_EVENT_BYTES, Arena, shared_with_children
from exchange.placement import Assignment, Plan, ThreadDescription, Topology, load_topology
from exchange.placement import plan as plan_placement
from exchange.placement.memory_owners import made_for, memory_as_planned, memory_of
from exchange.queues import build_queue
from exchange.queues.ring_memory import RingOwner
from exchange.replication.none import NoReplica
from exchange.replication.streams import ReplicaStreams
from exchange.settings import BlockIdle, ParkIdle, Settings

JOURNAL_PARK_NS: Final = 1_000_000

Progress = Callable[[str], None]
"""Told what is being done ("compiling thread shard.0"), for people who wait."""


class Transport(Protocol):
    """What an exchange needs of a transport: see :mod:`exchange.transport.protocol`."""

    def source(self, lane: int) -> Any:
        """What ingress lane ``lane`` receives from."""

    def sink(self) -> Any:
        """What the egress sends to."""


class Feed(Protocol):
    """What an exchange needs of a feed of market data: see :class:`exchange.market_data.feed_server.FeedServer`."""

    def sink(self, first: Any) -> Any:
        """A sink that gives events to ``first``, the transport's, and then publishes them."""


class QueueLevel(NamedTuple):
    """How full a queue is, and how many pushes it has refused. ``waiting`` is None for a queue that does not tell."""

    waiting: int | None
    slots: int
    refused: int


class Exchange:
    """An exchange, built but not running; ``with exchange.threads:`` runs it.

    Attributes:
        settings: what it was built from.
        threads: the group of its threads.
        plan: where they run, and why.
        shard_of_symbol: for each symbol the shard that owns it.
    """

    def __init__(
        self,
        settings: Settings,
        symbol_count: int,
        transport: Transport,
        feed: Feed | None = None,
        journals: JournalStreams | None = None,
        plan: Plan | None = None,
        replica: ReplicaStreams | None = None,
    ) -> None:
        self.settings: Final = settings
        self.plan: Final = plan_exchange(settings) if plan is None else plan
        self.shard_of_symbol: Final = spread_symbols(settings, symbol_count)
        self._transport, self._feed = transport, feed
        self.journals: Final = journals or JournalStreams(NoneJournalConfig(), None, settings.shards.count)
        self.replica: Final = replica or NoReplica()
        # What shards and egress append to: the journals, and with them the rings that the backup gets.
        *shard_journals, merge = self.replica.writers(self.journals.all_states())
        self._shard_journals: Final = tuple(shard_journals)
        self._merge_journal: Final = merge
        with memory_as_planned(self.plan):
            self._make_memory(symbol_count)
            self.shards: Final = self._build_shards()
            self.threads: Final = self._build_threads()

    def _make_memory(self, symbol_count: int) -> None:
        """All memory but the transport's, the feed's and the journal's, each part for the agent that uses it most."""
        settings, owners = self.settings, [shard_agent(shard) for shard in range(self.settings.shards.count)]
        batch, lanes = settings.shards.batch_commands, settings.transport.ingress_lanes
        shape = (batch, settings.book.capacity_orders, symbol_count)
        with shared_with_children() if settings.shards.run_as == "processes" else nullcontext():
            self._inboxes = [
                made_for(one, "inbox", build_queue, settings.queue, producers=lanes) for one in owners
            ]
            self._books = [made_for(one, "book", build_book, settings.book, symbol_count) for one in owners]
            self._outboxes = [made_for(one, "outbox", build_queue, settings.queue) for one in owners]
            self._shard_memory = [made_for(one, "shard", ShardMemory, *shape) for one in owners]
        self._ingress_memory = [
            made_for(ingress_agent(lane, lanes), "ingress", IngressMemory, self.shard_of_symbol, len(owners), batch)
            for lane in range(lanes)
        ]  # fmt: skip
        with memory_of(EGRESS_AGENT, "egress"):
            self._egress_memory = EgressMemory(batch)
            self._gate_memory = self._build_gate_memory()
        self._idle_memory = Arena.private(4096, huge_pages="never")

    def _build_threads(self) -> ThreadGroup:
        agents, idle = (
            dict(zip(agent_names(self.settings), self._build_agents(), strict=True)),
            self._build_idle(),
        )
        return ThreadGroup(
            [
                made_for(one.agents[0], "thread", self._build_thread, one, agents, idle)
                for one in self.plan.assignments
            ]
            + ([self.journals.keeper()] if self.journals.is_kept else []),
            memory=(self._transport, self._feed, self._inboxes, self._books, self._outboxes, self._shard_memory,
                    self.journals, self._ingress_memory, self._egress_memory, self._gate_memory, self._idle_memory,
                    self.replica),
        )  # fmt: skip

    def _build_thread(self, assignment: Assignment, agents: dict[str, Any], idle: Any) -> AgentThread:
        """A thread, or the process that takes its place."""
        name, names = assignment.thread, assignment.agents
        own = tuple(agents[one] for one in names)
        if assignment.runs_shard and self.settings.shards.run_as == "processes":
            shards = [int(one.removeprefix("shard.")) for one in names]
            streams = self.journals.apart(shards, self._idle_of_journal(idle))
            return AgentProcess(name, own, idle, assignment, streams)
        if names == (JOURNAL_AGENT,):
            idle = self._idle_of_journal(idle)
        return AgentThread(name, own, idle, assignment)

    def _build_agents(self) -> list[Any]:
        """The agents in the order of :func:`exchange.agent_layout.agent_names`."""
        batch = self.settings.shards.batch_commands
        ingress = [
            Ingress(
                source=self._transport.source(lane),
                inboxes=tuple(inbox.producer(lane) for inbox in self._inboxes),
                shard_of_symbol=memory.shard_of_symbol,
                stages=memory.stages,
                stage_bytes=memory.stage_bytes,
                left=memory.left,
                batch_commands=batch,
            )
            for lane, memory in enumerate(self._ingress_memory)
        ]
        replicator = [self.replica.agent()] if isinstance(self.replica, ReplicaStreams) else []
        journal = [self.journals.agent()] if self.journals.is_kept else []
        return [*ingress, *self.shards, *replicator, self._build_egress(), *journal]

    def _build_shards(self) -> list[Shard]:
        return [
            Shard(
                inbox=inbox.consumer(0),
                book=book.state,
                trading=memory.trading.state,
                outbox=outbox.producer(0),
                journal=journal,
                words=memory.words,
                batch=memory.batch,
                batch_commands=self.settings.shards.batch_commands,
                events=memory.events,
                status=memory.status.writer(),
                symbol_count=len(self.shard_of_symbol),
            )
            for inbox, book, outbox, journal, memory in zip(
                self._inboxes,
                self._books,
                self._outboxes,
                self._shard_journals,
                self._shard_memory,
                strict=True,
            )
        ]

    def _build_gate_memory(self) -> GatedEgressMemory | None:
        if not self._has_gate():
            return None
        return GatedEgressMemory(self.journals.gate == "synced", self.journals.merge_sequence)

    def _has_gate(self) -> bool:
        """Whether events have to pass a gate: to wait for disk or backup, or to have their order written down."""
        waits = self.journals.gate == "synced" or isinstance(self.replica, ReplicaStreams)
        return self.journals.is_kept and (waits or self.settings.shards.count > 1)

    def _build_egress(self) -> Egress | GatedEgress:
        outboxes = tuple(outbox.consumer(0) for outbox in self._outboxes)
        first = self._transport.sink()
        sink = first if self._feed is None else self._feed.sink(first)
        batch, gate = self.settings.shards.batch_commands, self._gate_memory
        if gate is None:
            return Egress(outboxes, sink, self._egress_memory.batch, batch)
        return GatedEgress(
            outboxes=outboxes,
            sink=sink,
            journals=self.journals.states(),
            merge=self._merge_journal,
            replica=self.replica.gate_state(),
            waits_for_disk=int(self.journals.gate == "synced"),
            words=gate.words,
            events=gate.events,
            events_slots=gate.events_slots,
            records=gate.records,
            runs=gate.runs,
            batch_events=batch,
        )

    @property
    def journal_threads(self) -> tuple[GroupThread, ...]:
        """The threads that only serve the journal: its keeper, and its agent's if that is alone on one."""
        agents = [one for one in self.threads.agent_threads if one.name == JOURNAL_AGENT]
        keepers = [one for one in self.threads.threads if isinstance(one, JournalKeeper)]
        return (*agents, *keepers)

    @property
    def journal_agent_has_thread(self) -> bool:
        """Whether what syncs the journal shares its thread with no other agent."""
        return any(one.name == JOURNAL_AGENT for one in self.threads.agent_threads)

    def _idle_of_journal(self, idle: Any) -> Any:
        """Where nobody waits for a sync, its thread need not look for work all the time."""
        return idle if self.journals.gate == "synced" else Park(0, JOURNAL_PARK_NS)

    def _build_idle(self) -> Any:
        config = self.settings.idle
        if not isinstance(config, BlockIdle):
            return build_idle(config)
        from exchange.transport.network import NetworkTransport

        assert isinstance(self._transport, NetworkTransport), "the settings refuse all others"
        return build_idle(config, self._transport.readiness(), self._idle_memory.allocate(EPOLL_EVENT_BYTES))

    def compile(self, progress: Progress) -> None:
        """Compile every thread's loop now, or load it from disk, so that no command waits for a compiler."""
        for thread in self.threads.agent_threads:
            progress(f"compiling thread {thread.name}")
            thread.compile()

    def status(self) -> list[ShardStatus | None]:
        """The last status of each shard; can be read at any time, and does not hold a running shard up."""
        return [memory.read_status() for memory in self._shard_memory]

    def back_pressure(self) -> dict[str, int]:
        """For each queue how many pushes it refused."""
        inboxes = {f"inbox.{k}": queue.back_pressure_count() for k, queue in enumerate(self._inboxes)}
        outboxes = {f"outbox.{k}": queue.back_pressure_count() for k, queue in enumerate(self._outboxes)}
        return inboxes | outboxes

    def queue_levels(self) -> dict[str, QueueLevel]:
        """For each queue how full it is; can be asked at any time."""
        queues = {f"inbox.{k}": queue for k, queue in enumerate(self._inboxes)}
        queues |= {f"outbox.{k}": queue for k, queue in enumerate(self._outboxes)}
        capacity = self.settings.queue.capacity_slots
        return {
            name: QueueLevel(queue.waiting_count(), queue.slot_count(), queue.back_pressure_count())
            if isinstance(queue, RingOwner)
            else QueueLevel(None, capacity, queue.back_pressure_count())
            for name, queue in queues.items()
        }

    def trading_state(self, symbol_id: int) -> TradingState:
        """Whether a symbol trades; can be asked at any time."""
        return self._shard_memory[self.shard_of_symbol[symbol_id]].trading_state(symbol_id)

    def go_on(self, corrections: Sequence[bytes]) -> None:
        """The journals have been appended to while the threads did not run; go on behind that, and behind corrections
        of the merge stream.

        Args:
            corrections: records for the merge stream, without their sequence.

        Raises:
            UserError: the journal has no room for them.
        """
        if self._gate_memory is None:
            return
        sequence = self.journals.merge_sequence
        if corrections:
            stream = np.frombuffer(b"".join(corrections), COMMAND_DTYPE).copy()
            stream["sequence"] = np.arange(sequence + 1, sequence + 1 + len(stream))
            keeper_runs = any(one.is_alive() for one in self.journal_threads)
            if not self.journals.append_to_merge(
                stream, sequence + 1, self._merge_journal, keeper_runs=keeper_runs
            ):
                raise UserError("journal: no room to go on with the merge stream (journal.segment_bytes)")
        self._gate_memory.go_on_behind(self.journals.merge_sequence)

    def digest(self, *, public: bool = False) -> str:
        """The state digest of all books, or the public one; call it when the threads have stopped."""
        return state_digest([book.state for book in self._books], self.shard_of_symbol, public=public)

    def book_of(self, symbol_id: int) -> Any:
        """The state of the book that holds a symbol."""
        return self._books[self.shard_of_symbol[symbol_id]].state


def plan_exchange(settings: Settings) -> Plan:
    """Where the threads of an exchange with these settings run on this machine, and where their memory lies.

    Memory that is made for it before the exchange is (a transport's, a journal's) is made in a block
    :func:`~exchange.placement.memory_owners.memory_as_planned`.
    """
    machine = load_topology(None)
    return plan_placement(machine, describe_threads(settings, machine), settings.placement)


def describe_threads(settings: Settings, machine: Topology) -> list[ThreadDescription]:
    """The threads that an exchange with these settings has on a machine, as the placement wants to know them."""
    layout = thread_layout(settings, len(machine.usable_cores))
    never_sleeps = not isinstance(settings.idle, ParkIdle | BlockIdle)
    return [
        ThreadDescription("+".join(names), names, never_sleeps and names != (JOURNAL_AGENT,))
        for names in layout
    ]


def lanes_of(commands: Any, lanes: int) -> list[Any]:
    """Split commands over ingress lanes by symbol, so that one symbol's commands keep their order."""
    return (
        [commands]
        if lanes == 1
        else [commands[commands["symbol_id"] % lanes == lane] for lane in range(lanes)]
    )


def expected_answers(commands: Any, shards: int) -> int:
    """How many answers commands get: one each, and one from every shard for what concerns all symbols."""
    from exchange.messages import ALL_SYMBOLS

    broadcasts = int((commands["symbol_id"] == ALL_SYMBOLS).sum())
    return len(commands) + broadcasts * (shards - 1)
