"""``exchange bench core``: what a command costs in the core of the exchange, with and without handing its events on.

The core is a book that one thread drives with commands from memory; what it makes of them has to reach somebody.
Six variants are measured, two books times three ways for the events to go:

* the *null book* decodes each command and writes one event (:mod:`exchange.bench.null_book`); the *ladder* matches;
* events go to memory, each batch's over those of the last, as in a shard; or to memory and are all *kept*, one after
  the other, which adds the cost of memory that no cache holds; or through the lock-free ring ``spsc`` to a consumer on
  another core (*hand-off*), which copies each one out and reads it. That clock runs from the first command until the
  consumer has read the last event.

So the difference between two rows of one book is what a way costs, and the ratio between two books on one way what
matching costs in units of "read a command, write an event", which hardly depends on the machine. Flows are the
published scenarios (:mod:`exchange.flow.scenario`), which are also where order ids of several kinds come from.

**How.** Before the clock: the flow lies in memory, each book has played all of it once, so that its memory is mapped,
and is emptied by mass cancels between passes. Rounds are interleaved, variants and kinds of ids alike. Both threads
are bound to cores of their own; a machine with one core measures no hand-off, and the result says so.

**What is checked**, outside the clock: the first pass of a book with and without hand-off must give the same events,
byte for byte, and those of the ladder begin as the naive book's do; each later pass must give the same tally (see
:mod:`exchange.bench.core_loops`). A variant that fails is left out and named.

**What this is not**: an exchange. Nothing is sequenced, sent or received, and commands wait in memory for as long as
they like. ``exchange bench PROFILE`` measures that."""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from exchange.bench.core_loops import (
    EVENT_COUNT,
    TALLY_BYTES,
    hand_over,
    play_into_memory,
    take_over,
    tally_events,
)
from exchange.bench.micro import Cores, Machine, StoodStill, Table, choose_cores, finish, in_turns, run_pinned
from exchange.bench.null_book import NullBook
from exchange.bench.results import BenchResult, FlowDescription, MicroResult
from exchange.book import build_book
from exchange.book.config import LadderBookConfig, NaiveBookConfig
from exchange.book.protocol import apply_commands, events_bound, live_order_count
from exchange.errors import UserError
from exchange.flow import Flow, build_flow
from exchange.flow.config import ScenarioConfig, ScenarioName
from exchange.limits import BATCH_COMMANDS_MAX
from exchange.messages import ALL_SYMBOLS, COMMAND_DTYPE, RECORD_BYTES, CommandKind
from exchange.native import Arena, load_int64, store_release, view_bytes
from exchange.queues.spsc import SpscQueue

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

OrderIds = Literal["shuffled", "arrival", "arbitrary"]
"""What order ids look like, see :mod:`exchange.flow.scenario`."""

BOOKS: Final = ("null book", "ladder")
KEPT: Final = ", events kept"
HAND_OFF: Final = ", hand-off"
WAYS: Final = ("", KEPT, HAND_OFF)
TIME: Final = "time of a command"
THROUGHPUT: Final = "throughput"
COST: Final = "time of a command against the null book's on the same way"
VARIANTS: Final = tuple(book + way for way in WAYS for book in BOOKS)

COMPARED_COMMANDS: Final = 5_000
POLL_LIMIT: Final = 64
"""How many events the consumer asks for at once: 4 KiB, which stay in its first-level cache."""

ONE_CORE: Final = "not measured on this machine: only one core may be used, and a hand-off takes two"


class CoreBenchPlan(NamedTuple):
    """How much to measure.

    Each of ``scenarios`` is played with each of ``order_ids``, ``orders`` orders long (about twice as many commands).
    ``batch_commands``: how many commands one call applies. ``ring_slots``: a power of two. ``capacity_orders``: the
    most that may rest in the book.
    """

    scenarios: tuple[ScenarioName, ...] = ("normal",)
    orders: int = 1_000_000
    order_ids: tuple[OrderIds, ...] = ("shuffled",)
    rounds: int = 7
    batch_commands: int = 256
    ring_slots: int = 16_384
    capacity_orders: int = 65_536
    seed: int = ScenarioConfig().seed


class WrongEvents(Exception):
    """A book or a ring gave other events than it should have."""


def run_core_bench(plan: CoreBenchPlan, command_line: str, progress: "Progress") -> BenchResult:
    """Measure the core over each scenario; the null book is the baseline.

    Raises:
        UserError: a plan that is out of range.
    """
    _check_plan(plan)
    bench = _Bench(plan, choose_cores())
    progress.total(len(plan.scenarios) * (2 * len(plan.order_ids) + plan.rounds))
    flows = []
    for scenario in plan.scenarios:
        cases = []
        for ids in plan.order_ids:
            progress.step(f"{scenario}, {ids} ids: making the order flow")
            flow = build_flow(ScenarioConfig(scenario, plan.orders, plan.seed, ids))
            flows.append(_describe(flow))
            case = _Case(plan, scenario, ids, flow)
            del flow
            progress.step(f"{scenario}, {ids} ids: compiling, comparing and warming up")
            bench.prepare(case)
            cases.append(case)
        for round_index in range(plan.rounds):
            progress.step(f"{scenario}, round {round_index + 1} of {plan.rounds}")
            bench.machine.measure()
            for case in cases:
                bench.measure(case, round_index)
    warnings = () if bench.cores.must_yield else bench.machine.warnings()
    result = finish("core", bench.table, warnings, command_line)
    worst = _worst(result.micro) if len(flows) > 1 else ()
    return msgspec.structs.replace(result, flow=_describe_all(flows, plan), micro=result.micro + worst)


def _check_plan(plan: CoreBenchPlan) -> None:
    if not 1 <= plan.batch_commands <= BATCH_COMMANDS_MAX:
        raise UserError(f"batch_commands = {plan.batch_commands}: must be 1 to {BATCH_COMMANDS_MAX}")
    if plan.rounds < 1:
        raise UserError(f"rounds = {plan.rounds}: must be at least 1")
    for field in ("scenarios", "order_ids"):
        named = getattr(plan, field)
        if not named or len(set(named)) < len(named):
            raise UserError(f"{field} = {', '.join(named)}: name at least one, and none twice")


def _describe(flow: Flow) -> FlowDescription:
    return FlowDescription(flow.name, flow.description, len(flow.commands), 1)


def _describe_all(flows: list[FlowDescription], plan: CoreBenchPlan) -> FlowDescription:
    """All flows as one; what each does to a book stands in the notes."""
    names = dict.fromkeys(flow.name for flow in flows)
    return FlowDescription(
        name=", ".join(names),
        description="one after the other" if len(flows) > 1 else flows[0].description,
        commands=sum(flow.commands for flow in flows),
        symbols=1,
        seed=plan.seed,
        notes=tuple(flow.description for flow in flows),
    )


def _worst(rows: tuple[MicroResult, ...]) -> tuple[MicroResult, ...]:
    """For each way, the row of the ladder's throughput that has the lowest median, once more, under one name."""
    found = []
    for variant in (f"ladder{way}" for way in WAYS):
        measured = [row for row in rows if row.name == THROUGHPUT and row.variant == variant and row.values]
        if measured:
            row = min(measured, key=lambda one: float(np.median(one.values)))
            label = f"{variant}: {row.parameters['scenario']}, {row.parameters['ids']} ids"
            parameters = {"flows": len(measured), "cores": row.parameters["cores"]}
            found.append(
                msgspec.structs.replace(
                    row, name="throughput in the worst flow", variant=label, parameters=parameters
                )
            )
    return tuple(found)


class _Case:
    """One flow in memory, the commands that empty a book after it, and what each book has to make of it."""

    def __init__(self, plan: CoreBenchPlan, scenario: ScenarioName, ids: OrderIds, flow: Flow) -> None:
        if flow.notes["live_orders_max"] > plan.capacity_orders:
            raise UserError(
                f"capacity_orders = {plan.capacity_orders}: in scenario {scenario} {flow.notes['live_orders_max']} "
                "orders rest at once"
            )
        self.parameters: Final = {"scenario": scenario, "ids": ids}
        self.count: Final = len(flow.commands)
        sessions = np.unique(flow.commands["session_id"])
        self.mass_cancels: Final = len(sessions)
        self._arena: Final = Arena.private((self.count + self.mass_cancels + 1) * RECORD_BYTES)
        self.commands: Final = self._arena.allocate(self.count * RECORD_BYTES)
        self.emptying: Final = self._arena.allocate(self.mass_cancels * RECORD_BYTES)
        commands = _records_at(self.commands, self.count)
        commands[:] = flow.commands
        commands["sequence"] = np.arange(1, self.count + 1)
        mass_cancels = _records_at(self.emptying, self.mass_cancels)
        mass_cancels["kind"], mass_cancels["symbol_id"] = CommandKind.MASS_CANCEL, ALL_SYMBOLS
        mass_cancels["session_id"] = sessions
        self.books: Final[dict[str, Any]] = {}
        self.tallies: Final[dict[str, bytes]] = {}


def _records_at(address: int, count: int) -> NDArray[Any]:
    return np.frombuffer(view_bytes(address, count * RECORD_BYTES), COMMAND_DTYPE)


class _Bench:
    """Cores, the ring, room for events, and the rows of the result."""

    def __init__(self, plan: CoreBenchPlan, cores: Cores) -> None:
        self._plan: Final = plan
        self.cores: Final = cores
        self.table: Final = Table(VARIANTS, cores)
        self.machine: Final = Machine(self.table, cores)
        self._queue = SpscQueue(plan.ring_slots)
        batch_events = events_bound(plan.capacity_orders, BATCH_COMMANDS_MAX)
        self._arena: Final = Arena.private((batch_events + POLL_LIMIT) * RECORD_BYTES + (1 << 16))
        self._stop: Final = self._arena.allocate(8)
        self._done: Final = self._arena.allocate(8)
        self._tally: Final = self._arena.allocate(TALLY_BYTES)
        self._out: Final = self._arena.allocate(POLL_LIMIT * RECORD_BYTES)
        self._buffer: Final = self._arena.allocate(batch_events * RECORD_BYTES)
        self._room = Arena.private(1)
        self._kept = self._room.address
        if cores.must_yield:
            for book in BOOKS:
                self.table.skip(book + HAND_OFF, ONE_CORE)

    def prepare(self, case: _Case) -> None:
        """Play the flow once on each way through fresh books, and compare the events to the byte.

        The last of these books is the one that is measured: all memory that it needs, it has.
        """
        self._make_room(case)
        for book in BOOKS:
            if book not in self.table.remaining():
                continue
            case.books[book] = _build(book, self._plan)
            self._compile(case, book)
            _, events = self._play(case, book, keep=True)
            digest = self._digest(events)
            case.tallies[book] = self._tally_of_kept(events)
            # later variants of this book are compared with this one: if it is wrong, none of them is measured
            reason = self._check_against_naive(case) if book == "ladder" else None
            if reason is not None:
                for way in WAYS:
                    self.table.skip(book + way, reason)
            if book + HAND_OFF not in self.table.remaining():
                continue
            case.books[book] = _build(book, self._plan)
            try:
                self._hand_off(case, book, keep=True)
                if self._read_tally() != case.tallies[book] or self._digest(self._arrived()) != digest:
                    raise WrongEvents("its events differ from those that the same book writes to memory")
            except (WrongEvents, StoodStill) as failure:
                self.table.skip(book + HAND_OFF, str(failure))
                case.books[book] = _build(book, self._plan)
                self._play(case, book, keep=True)

    def _compile(self, case: _Case, book: str) -> None:
        """Compile all loops for a book by giving them nothing to do: a pass has only so much time."""
        state, batch, done, stop = case.books[book].state, self._plan.batch_commands, self._done, self._stop
        self._emptying(case, book)()
        play_into_memory(state, case.commands, 0, batch, self._buffer, False)
        hand_over(state, self._queue.producer(0), case.commands, 0, batch, self._buffer, done, stop)
        take_over(self._queue.consumer(0), self._out, POLL_LIMIT, False, self._tally, done, stop)

    def _make_room(self, case: _Case) -> None:
        """Room for all events that a flow could make: address space, of which only what is used becomes memory."""
        size_bytes = events_bound(self._plan.capacity_orders, case.count) * RECORD_BYTES
        if size_bytes > self._room.capacity_bytes:
            self._room = Arena.private(size_bytes)
            self._kept = self._room.allocate(size_bytes)

    def measure(self, case: _Case, round_index: int) -> None:
        """One round: all variants, and how many commands of the null book one of the ladder's is worth."""
        elapsed_ns: dict[str, int] = {}
        for variant in in_turns(self.table.remaining(), round_index):
            book = next(one for one in BOOKS if variant.startswith(one))
            try:
                elapsed_ns[variant] = self._pass(case, book, variant.removeprefix(book))
            except (WrongEvents, StoodStill) as failure:
                self.table.skip(variant, str(failure))
        for variant, time_ns in elapsed_ns.items():
            self.table.add(TIME, variant, time_ns / case.count, "ns", "lower", case.parameters)
            rate = case.count / time_ns * 1e9
            self.table.add(THROUGHPUT, variant, rate, "commands/s", "higher", case.parameters)
        for way in WAYS:
            null, ladder = (elapsed_ns.get(book + way) for book in BOOKS)
            if null is not None and ladder is not None:
                self.table.add(COST, f"ladder{way}", ladder / null, "times", "lower", case.parameters)

    def _pass(self, case: _Case, book: str, way: str) -> int:
        """Play the flow through an emptied book; returns nanoseconds.

        Raises:
            WrongEvents: the pass made other events than the first one.
        """
        if way == HAND_OFF:
            elapsed_ns = self._hand_off(case, book, keep=False)
            tally = self._read_tally()
        else:
            elapsed_ns, events = self._play(case, book, keep=way == KEPT)
            tally = self._tally_of_kept(events) if way == KEPT else case.tallies[book]
            if events != _events_of(case.tallies[book]):
                raise WrongEvents(f"{events} events instead of {_events_of(case.tallies[book])}")
        if tally != case.tallies[book]:
            raise WrongEvents("its events differ from those of the first pass")
        return elapsed_ns

    def _play(self, case: _Case, book: str, *, keep: bool) -> tuple[int, int]:
        """One thread alone; returns nanoseconds, and how many events there were."""
        state, out = case.books[book].state, self._kept if keep else self._buffer
        prepare = self._emptying(case, book)
        batch = self._plan.batch_commands

        def task() -> tuple[int, int]:
            prepare()
            return play_into_memory(state, case.commands, case.count, batch, out, keep)

        ((elapsed_ns, events),) = run_pinned([(self.cores.first, task)], self._stop)
        return int(elapsed_ns), int(events)

    def _hand_off(self, case: _Case, book: str, *, keep: bool) -> int:
        """Two threads; returns nanoseconds from the first command to the last event.

        Raises:
            StoodStill: not all events arrived.
        """
        state, producer, consumer = case.books[book].state, self._queue.producer(0), self._queue.consumer(0)
        prepare = self._emptying(case, book)
        out, limit = (self._kept, self._plan.ring_slots) if keep else (self._out, POLL_LIMIT)
        batch, done, stop = self._plan.batch_commands, self._done, self._stop
        store_release(done, -1)

        def produce() -> int:
            prepare()
            return hand_over(state, producer, case.commands, case.count, batch, self._buffer, done, stop)

        def consume() -> int:
            return take_over(consumer, out, limit, keep, self._tally, done, stop)

        try:
            started_ns, ended_ns = run_pinned(
                [(self.cores.first, produce), (self.cores.second, consume)], stop
            )
        except Exception:
            self._queue = SpscQueue(self._plan.ring_slots)  # the old one may hold what nobody fetched
            raise
        return int(ended_ns - started_ns)

    def _emptying(self, case: _Case, book: str) -> Callable[[], None]:
        """What takes all orders out of a book, to be called where the book is used."""
        state = case.books[book].state

        def prepare() -> None:
            apply_commands(state, case.emptying, case.mass_cancels, self._buffer)
            if live_order_count(state):
                raise WrongEvents("orders rest in the book after all sessions were cancelled")

        return prepare

    def _check_against_naive(self, case: _Case) -> str | None:
        """Compare the beginning of the kept events with the naive book's; the reason to leave the ladder out."""
        naive = build_book(NaiveBookConfig(capacity_orders=self._plan.capacity_orders), symbol_count=1)
        at = self._kept
        for start in range(0, min(COMPARED_COMMANDS, case.count), self._plan.batch_commands):
            count = min(self._plan.batch_commands, case.count - start)
            events = apply_commands(naive.state, case.commands + start * RECORD_BYTES, count, self._buffer)
            size_bytes = events * RECORD_BYTES
            if bytes(view_bytes(self._buffer, size_bytes)) != bytes(view_bytes(at, size_bytes)):
                return f"its events differ from the naive book's within the first {start + count} commands"
            at += size_bytes
        return None

    def _digest(self, events: int) -> bytes:
        return hashlib.sha256(view_bytes(self._kept, events * RECORD_BYTES)).digest()

    def _tally_of_kept(self, events: int) -> bytes:
        tally_events(self._kept, events, self._tally)
        return self._read_tally()

    def _read_tally(self) -> bytes:
        return bytes(view_bytes(self._tally, TALLY_BYTES))

    def _arrived(self) -> int:
        return load_int64(self._tally + EVENT_COUNT)


class _Null(NamedTuple):
    """The owner of a null book, which owns nothing."""

    state: NullBook


def _build(book: str, plan: CoreBenchPlan) -> Any:
    if book == "null book":
        return _Null(NullBook(symbol_count=1))
    return build_book(LadderBookConfig(capacity_orders=plan.capacity_orders), symbol_count=1)


def _events_of(tally: bytes) -> int:
    return int.from_bytes(tally[EVENT_COUNT : EVENT_COUNT + 8], "little")
