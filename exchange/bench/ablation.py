"""``exchange bench --ablate book``: what each idea of the ladder book is worth, found by leaving it out.

The same published order flows (:mod:`exchange.flow.scenario`) are played through the whole book and through one book
for each idea, built without it (:mod:`exchange.bench.variant_book`). What a book is slower without its idea is what
the idea is worth, here, over these flows. An idea may be worth nothing, or less: then the figure says so.

The first run compiles every one of these books, which takes some minutes; later runs find them in the cache.

Two groups of rows for each scenario. Alone: one thread on one core applies batches of commands; they come from
memory and their events go to memory. To another core: the events go through a ring to a thread on another core,
for the ideas that are about the way there.

Rules: a book is built once and played in every round. Before a measurement its memory has been touched by an unmeasured
pass over the whole flow, and it is empty again: a mass cancel of every session, outside the clock. Rounds are
interleaved, each beginning with another variant; within a round all books play a piece of the flow before any plays
the next; and figures are compared within a round. A variant whose events are
not those of the whole book is left out and named.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from exchange.bench.ablations import ABLATIONS
from exchange.bench.core_loops import TALLY_BYTES
from exchange.bench.micro import Cores, Machine, Table, choose_cores, finish, in_turns, run_pinned
from exchange.bench.results import BenchResult, FlowDescription
from exchange.bench.variant_book import VariantBook, idea_of, load_variant
from exchange.book.protocol import apply_commands, events_bound, live_order_count
from exchange.errors import UserError
from exchange.flow import Flow, build_flow
from exchange.flow.config import SCENARIO_ORDERS_MIN, SCENARIOS, ScenarioConfig, ScenarioName
from exchange.limits import PRICE_TICKS_MAX, PRICE_TICKS_MIN
from exchange.messages import ALL_SYMBOLS, COMMAND_DTYPE, RECORD_BYTES, CommandKind
from exchange.native import FALSE_SHARING_BYTES, Arena, load_acquire, store_release, view_bytes
from exchange.queues import build_queue
from exchange.queues.config import SpscQueueConfig

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

KIND: Final = "ablation"
LAYERS: Final = ("book",)
ALL_IDEAS: Final = "all ideas"
ALONE: Final = "time of a command"
HAND_OFF: Final = "time of a command, to another core"

BATCH: Final = 256
"""How many commands are applied by one call."""
RING_SLOTS: Final = 16_384
PIECE_COMMANDS: Final = 102_400
"""Some milliseconds: longer than filling the caches again takes, shorter than most of a machine's bad moments."""
POLL_LIMIT: Final = 64
"""How many events the reader asks for at once: 4 KiB, which stay in its first-level cache."""
COMPARED_COMMANDS: Final = 20_000
ORDERS_MAX: Final = 2_000_000
"""As many ids as the table of all ids has room for."""


class AblationPlan(NamedTuple):
    """How much to measure: ``orders`` of each scenario, which is about twice as many commands, in each measurement."""

    scenarios: tuple[ScenarioName, ...] = ("static", "flash-crash")
    orders: int = 1_000_000
    rounds: int = 7
    capacity_orders: int = 65_536
    ablations: tuple[str, ...] = ABLATIONS

    @classmethod
    def quick(cls) -> Self:
        """A tenth of the flow and three rounds."""
        return cls(orders=100_000, rounds=3)


def run_ablation(layer: str, plan: AblationPlan, command_line: str, progress: "Progress") -> BenchResult:
    """Measure the books without one idea each against the whole one, which is the baseline.

    Raises:
        UserError: a layer without ablations, or a plan that is out of range.
    """
    if layer not in LAYERS:
        raise UserError(f"ablation of {layer!r}: must be one of {', '.join(LAYERS)}")
    _check_plan(plan)
    progress.detail("making the order flows")
    flows = [build_flow(ScenarioConfig(scenario=name, orders=plan.orders)) for name in plan.scenarios]
    bench = _Bench(plan, flows)
    progress.total(len(bench.entries) + plan.rounds * len(flows))
    for entry in bench.entries:
        progress.step(f"{entry.variant}: compiling, comparing and warming up")
        bench.prepare(entry)
    for round_index in range(plan.rounds):
        bench.machine.measure()
        for flow in flows:
            progress.step(f"{flow.name}, round {round_index + 1} of {plan.rounds}")
            bench.measure(flow, round_index)
    result = finish(KIND, bench.hand_off, bench.machine.warnings(), command_line)
    described = FlowDescription(
        name=", ".join(flow.name for flow in flows),
        description="; ".join(flow.description for flow in flows),
        commands=sum(len(flow.commands) for flow in flows),
        symbols=1,
        seed=ScenarioConfig().seed,
    )
    return msgspec.structs.replace(
        result, flow=described, micro=(*bench.alone.rows(), *bench.hand_off.rows())
    )


def _check_plan(plan: AblationPlan) -> None:
    named: dict[str, tuple[Sequence[str], Sequence[str]]] = {
        "scenarios": (plan.scenarios, SCENARIOS),
        "ablations": (plan.ablations, ABLATIONS),
    }
    for field, (names, allowed) in named.items():
        for name in names:
            if name not in allowed:
                raise UserError(f"{field}: {name!r}; must be one of {', '.join(allowed)}")
        if not names or len(set(names)) < len(names):
            raise UserError(f"{field}: must name at least one, and none twice")
    if not SCENARIO_ORDERS_MIN <= plan.orders <= ORDERS_MAX:
        raise UserError(f"orders = {plan.orders}: must be {SCENARIO_ORDERS_MIN} to {ORDERS_MAX}")
    for field in ("rounds", "capacity_orders"):
        if getattr(plan, field) < 1:
            raise UserError(f"{field} = {getattr(plan, field)}: must be at least 1")


class _Entry(NamedTuple):
    """A variant with its book, and the ring that its events may go into."""

    variant: str
    measured: tuple[str, ...]
    code: VariantBook
    book: Any
    ring: Any


class _Bench:
    """The flows in memory, a book for each variant, and the rows of the result."""

    def __init__(self, plan: AblationPlan, flows: list[Flow]) -> None:
        self._plan: Final = plan
        self._cores: Final = choose_cores()
        ideas = {idea_of(name).variant: name for name in plan.ablations}
        self.entries: Final = list(self._entries(ideas))
        alone, hand_off = (
            [entry.variant for entry in self.entries if group in entry.measured]
            for group in ("book", "hand-off")
        )
        self.alone: Final = Table(alone, Cores(self._cores.second, self._cores.second))
        self.hand_off: Final = Table(hand_off, self._cores)
        self.machine: Final = Machine(self.hand_off, self._cores)
        flow_bytes = sum(flow.commands.nbytes + 4096 for flow in flows)
        room = events_bound(plan.capacity_orders, BATCH) * RECORD_BYTES
        self._arena: Final = Arena.private(flow_bytes + room + (1 << 16))
        self._stop: Final = self._arena.allocate(FALSE_SHARING_BYTES)
        self._done: Final = self._arena.allocate(FALSE_SHARING_BYTES)
        self._tally: Final = self._arena.allocate(TALLY_BYTES)
        self._taken: Final = self._arena.allocate(POLL_LIMIT * RECORD_BYTES)
        self._events: Final = self._arena.allocate(room)
        self._commands: Final = {flow.name: self._place(_stamped(flow)) for flow in flows}
        self._counts: Final = {flow.name: len(flow.commands) for flow in flows}
        leaving = _leaving()
        self._leaving: Final = (self._place(leaving), len(leaving))
        self._expected: Final[dict[str, bytes]] = {}

    def _entries(self, ideas: dict[str, str]) -> Iterator[_Entry]:
        for variant, ablation in {ALL_IDEAS: None, **ideas}.items():
            code = load_variant(ablation)
            measured: tuple[str, ...] = ("book", "hand-off")
            pages: Literal["advise", "never"] = "advise"
            if ablation is not None:
                measured, pages = idea_of(ablation).measured, idea_of(ablation).ring_pages
            if self._cores.must_yield:
                measured = tuple(group for group in measured if group != "hand-off")
            book = code.ladder.Ladder(1, self._plan.capacity_orders, PRICE_TICKS_MIN, PRICE_TICKS_MAX)
            ring = build_queue(SpscQueueConfig(RING_SLOTS, huge_pages=pages))
            yield _Entry(variant, measured, code, book, ring)

    def _place(self, commands: NDArray[Any]) -> int:
        address = self._arena.allocate(commands.nbytes)
        view_bytes(address, commands.nbytes)[:] = commands.tobytes()
        return address

    def prepare(self, entry: _Entry) -> None:
        """Compile a variant, compare what it answers with the whole book, and touch all memory that it will use."""
        for scenario, count in self._counts.items():
            self._compare(entry, f"events of {scenario}", self._digest(entry, scenario, count))
            if "book" in entry.measured:
                self._apply([entry], scenario)
            if "hand-off" in entry.measured:
                digest = self._apply_and_push(entry, scenario)[1]
                self._compare(entry, f"events of {scenario} that arrived", digest)

    def _compare(self, entry: _Entry, what: str, found: bytes) -> None:
        if found != self._expected.setdefault(what, found):
            for table in (self.alone, self.hand_off):
                if entry.variant in table.remaining():
                    table.skip(entry.variant, f"the {what} are not those of the whole book")

    def measure(self, flow: Flow, round_index: int) -> None:
        """One round over one flow: a value for each row."""
        by_name = {entry.variant: entry for entry in self.entries}
        count = self._counts[flow.name]
        parameters: dict[str, str | int] = {"scenario": flow.name, "commands_per_batch": BATCH}
        alone = [by_name[variant] for variant in in_turns(self.alone.remaining(), round_index)]
        for variant, elapsed_ns in self._apply(alone, flow.name).items():
            self.alone.add(ALONE, variant, elapsed_ns / count, "ns", "lower", parameters)
        for variant in in_turns(self.hand_off.remaining(), round_index):
            elapsed_ns, _ = self._apply_and_push(by_name[variant], flow.name)
            self.hand_off.add(
                HAND_OFF, variant, elapsed_ns / count, "ns", "lower", {**parameters, "ring_slots": RING_SLOTS}
            )

    def _apply(self, entries: Sequence[_Entry], scenario: str) -> dict[str, int]:
        """Play a flow through empty books, alone on their core; the nanoseconds each took. Leaves the books empty.

        All books play one piece of the flow before any plays the next, so that a machine that is slow for a moment is
        slow for all of them.
        """
        count = self._counts[scenario]
        elapsed_ns = {entry.variant: 0 for entry in entries}

        def play_all() -> None:
            for first in range(0, count, PIECE_COMMANDS):
                commands = self._commands[scenario] + first * RECORD_BYTES
                piece = min(PIECE_COMMANDS, count - first)
                for entry in entries:
                    play = entry.code.loops.play_into_memory
                    piece_ns, _ = play(entry.book.state, commands, piece, BATCH, self._events, False)
                    elapsed_ns[entry.variant] += int(piece_ns)
                if load_acquire(self._stop) != 0:
                    return

        run_pinned([(self._cores.second, play_all)], self._stop)
        for entry in entries:
            self._empty(entry)
        return elapsed_ns

    def _apply_and_push(self, entry: _Entry, scenario: str) -> tuple[int, bytes]:
        """As :meth:`_apply`, with the events going to another core: the nanoseconds, and the tally of what arrived."""
        loops, state = entry.code.loops, entry.book.state
        commands, count = self._commands[scenario], self._counts[scenario]
        producer, consumer = entry.ring.producer(0), entry.ring.consumer(0)
        stop, done, tally = self._stop, self._done, self._tally
        store_release(done, -1)
        started_ns, ended_ns = run_pinned(
            [
                (
                    self._cores.first,
                    lambda: loops.hand_over(
                        state, producer, commands, count, BATCH, self._events, done, stop
                    ),
                ),
                (
                    self._cores.second,
                    lambda: loops.take_over(consumer, self._taken, POLL_LIMIT, False, tally, done, stop),
                ),
            ],
            stop,
        )
        self._empty(entry)
        return int(ended_ns - started_ns), bytes(view_bytes(tally, TALLY_BYTES))

    def _digest(self, entry: _Entry, scenario: str, count: int) -> bytes:
        """Of the events of the beginning of a flow, without the numbers of trades, which count on from pass to pass."""
        hasher = hashlib.sha256()
        for first in range(0, min(COMPARED_COMMANDS, count), BATCH):
            start = self._commands[scenario] + first * RECORD_BYTES
            events = apply_commands(entry.book.state, start, min(BATCH, count - first), self._events)
            words = np.frombuffer(view_bytes(self._events, events * RECORD_BYTES), np.int64).reshape(-1, 8)
            hasher.update(np.delete(words, 6, axis=1).tobytes())
        self._empty(entry)
        return hasher.digest()

    def _empty(self, entry: _Entry) -> None:
        """Take all orders out of a book."""
        address, count = self._leaving
        for index in range(count):
            apply_commands(entry.book.state, address + index * RECORD_BYTES, 1, self._events)
        assert live_order_count(entry.book.state) == 0, f"{entry.variant}: orders stay after a mass cancel"


def _stamped(flow: Flow) -> NDArray[Any]:
    commands = flow.commands.copy()
    commands["sequence"] = np.arange(1, len(commands) + 1)
    return commands


def _leaving() -> NDArray[Any]:
    """A mass cancel of all symbols for every session that a scenario has."""
    commands = np.zeros(ScenarioConfig().sessions, COMMAND_DTYPE)
    commands["kind"] = int(CommandKind.MASS_CANCEL)
    commands["symbol_id"] = ALL_SYMBOLS
    commands["session_id"] = np.arange(len(commands))
    return commands
