"""The composition root: settings in, a running exchange out. Read this first.

::

    transport ── ingress ──[inbox of shard k]── shard k ──[outbox of shard k]── egress ── transport
                 routes by symbol               sequence, books, events   gate ┘     └─── market data
                                                └── journal ───────────────┘

One inbox and one outbox for each shard; any number of ingress lanes, one egress. Each box of the picture is
built here, in the order in which commands meet them, and nowhere else does code ask which variant of a layer
was chosen. Everything that owns memory is held by :class:`Exchange`, because agents hold plain addresses."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from exchange.agent import AgentThread, Park, ThreadGroup, build_idle
from exchange.agent_process import AgentProcess
from exchange.book import build_book
from exchange.errors import UserError
from exchange.journal.config import NoneJournalConfig
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
from exchange.placement import ThreadDescription, Topology, load_topology
from exchange.placement import plan as plan_placement
from exchange.queues import build_queue
from exchange.queues.ring_memory import RingOwner
from exchange.settings import JOURNAL_AGENT, BlockIdle, ParkIdle, Settings, agent_names, thread_layout

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
    ) -> None:
        self.settings: Final = settings
        shards, lanes = settings.shards.count, settings.transport.ingress_lanes
        self.shard_of_symbol: Final = spread_symbols(settings, symbol_count)
        self._transport, self._feed = transport, feed
        self.journals: Final = journals or JournalStreams(NoneJournalConfig(), None, shards)
        with shared_with_children() if settings.shards.run_as == "processes" else nullcontext():
            self._inboxes = [build_queue(settings.queue, producers=lanes) for _ in range(shards)]
            self._books = [build_book(settings.book, symbol_count) for _ in range(shards)]
            self._outboxes = [build_queue(settings.queue) for _ in range(shards)]
            self._shard_memory = [
                ShardMemory(settings.shards.batch_commands, settings.book.capacity_orders, symbol_count)
                for _ in range(shards)
            ]
        self._ingress_memory = [
            IngressMemory(self.shard_of_symbol, shards, settings.shards.batch_commands) for _ in range(lanes)
        ]
        self._egress_memory = EgressMemory(settings.shards.batch_commands)
        self._gate_memory = GatedEgressMemory(self.journals.merge_sequence) if self._has_gate() else None
        self.shards: Final = self._build_shards()
        agents = dict(zip(agent_names(settings), self._build_agents(), strict=True))
        machine = load_topology(None)
        described = describe_threads(settings, machine)
        self.plan: Final = plan_placement(machine, described, settings.placement)
        self._idle_memory = Arena.private(4096, huge_pages="never")
        idle = self._build_idle()
        self.threads: Final = ThreadGroup(
            [self._build_thread(one, agents, idle) for one in described]
            + ([self.journals.keeper()] if self.journals.is_kept else []),
            memory=(transport, feed, self._inboxes, self._books, self._outboxes, self._shard_memory, self.journals,
                    self._ingress_memory, self._egress_memory, self._gate_memory, self._idle_memory),
        )  # fmt: skip

    def _build_thread(self, described: ThreadDescription, agents: dict[str, Any], idle: Any) -> AgentThread:
        """A thread, or the process that takes its place."""
        name, names = described.name, described.agents
        own, assignment = tuple(agents[one] for one in names), self.plan.assignment_of(name)
        if described.runs_shard and self.settings.shards.run_as == "processes":
            shards = [int(one.removeprefix("shard.")) for one in names]
            streams = self.journals.apart(shards, self._idle_of_journal(idle))
            return AgentProcess(name, own, idle, assignment, streams)
        if names == (JOURNAL_AGENT,):
            idle = self._idle_of_journal(idle)
        return AgentThread(name, own, idle, assignment)

    def _build_agents(self) -> list[Any]:
        """The agents in the order of :func:`exchange.settings.agent_names`: ingress lanes, shards, egress, journal."""
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
        journal = [self.journals.agent()] if self.journals.is_kept else []
        return [*ingress, *self.shards, self._build_egress(), *journal]

    def _build_shards(self) -> list[Shard]:
        return [
            Shard(
                inbox=inbox.consumer(0),
                book=book.state,
                trading=memory.trading.state,
                outbox=outbox.producer(0),
                journal=journal.state,
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
                self.journals.shards,
                self._shard_memory,
                strict=True,
            )
        ]

    def _has_gate(self) -> bool:
        """Whether events have to pass a gate: to wait for the disk, or to have their order written down."""
        return self.journals.is_kept and (self.journals.gate == "synced" or self.settings.shards.count > 1)

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
            merge=self.journals.merge.state,
            waits_for_disk=int(self.journals.gate == "synced"),
            words=gate.words,
            events=gate.events,
            records=gate.records,
            runs=gate.runs,
            batch_events=batch,
        )

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

    def append_to_merge(self, records: Sequence[bytes]) -> None:
        """Append records to the merge stream; the threads must not run.

        Raises:
            UserError: the journal has no room for them.
        """
        assert self._gate_memory is not None
        sequence = self.journals.merge_sequence
        stream = np.frombuffer(b"".join(records), COMMAND_DTYPE).copy()
        stream["sequence"] = np.arange(sequence + 1, sequence + 1 + len(stream))
        if not self.journals.append_to_merge(stream, sequence + 1):
            raise UserError("journal: no room to go on with the merge stream (journal.segment_bytes)")
        self._gate_memory.go_on_behind(sequence + len(stream))

    def digest(self, *, public: bool = False) -> str:
        """The state digest of all books, or the public one; call it when the threads have stopped."""
        return state_digest([book.state for book in self._books], self.shard_of_symbol, public=public)

    def book_of(self, symbol_id: int) -> Any:
        """The state of the book that holds a symbol."""
        return self._books[self.shard_of_symbol[symbol_id]].state


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
