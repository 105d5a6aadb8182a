"""``exchange bench book``: what a command costs in a book alone, variant by variant.

One thread on one core applies a prepared flow of one symbol, the model's or a scenario's; commands come from
memory and events go to memory, as between two rings, but nobody waits for them. What the whole exchange takes
beyond that is queues, sequence, threads.

The same flow is applied in batches of several sizes: a batch pays once for the call and lets the book look
ahead. Each measurement has a fresh book, whose first commands are not timed: they bring its memory into
being. A plain-Python book gets fewer commands, the same ones. Before anything is timed all variants apply the
same beginning of the flow, and one whose events differ from the first variant's is left out and named: it did
not do the same work."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from exchange.bench.micro import Cores, Table, check_kinds, choose_cores, finish, in_turns, run_pinned
from exchange.bench.results import BenchResult, FlowDescription
from exchange.book import build_book
from exchange.book.config import LadderBookConfig, NaiveBookConfig
from exchange.book.protocol import apply_commands, events_bound
from exchange.errors import UserError
from exchange.flow import Flow, build_flow
from exchange.flow.config import ScenarioConfig, ScenarioName, SyntheticConfig
from exchange.flow.scenario import orders_for
from exchange.messages import RECORD_BYTES
from exchange.native import Arena, is_compiled, kernel, monotonic_ns, view_bytes

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

BOOK_KINDS: Final = ("naive", "ladder")
CAPACITY_ORDERS: Final = 262_144
BATCH_MAX: Final = 4096
COMPARED_COMMANDS: Final = 5_000


class BookBenchPlan(NamedTuple):
    """How much to measure.

    ``commands`` are timed in each measurement of a compiled book, ``interpreted_commands`` of a plain-Python one;
    before them come ``warmup_commands`` that are not. ``batches``: how many commands one call applies. ``scenario``
    None is the model; ``seed`` None is the default of the one or the other.
    """

    commands: int = 2_000_000
    interpreted_commands: int = 50_000
    warmup_commands: int = 10_000
    rounds: int = 5
    batches: tuple[int, ...] = (1, 16, 256)
    scenario: ScenarioName | None = None
    seed: int | None = None


def run_book_bench(
    kinds: Sequence[str], plan: BookBenchPlan, command_line: str, progress: "Progress"
) -> BenchResult:
    """Measure ``kinds`` (none means all, the simplest first); the first is the baseline.

    Raises:
        UserError: an unknown kind, or a plan that is out of range.
    """
    kinds = list(kinds) or list(BOOK_KINDS)
    check_kinds("book", kinds, BOOK_KINDS)
    _check_plan(plan)
    progress.detail("making the order flow")
    model = _model(plan)
    flow = build_flow(model).first(plan.warmup_commands + plan.commands)
    bench = _Bench(kinds, plan, flow)
    progress.total(len(kinds) + plan.rounds * len(plan.batches))
    for kind in kinds:
        progress.step(f"{kind}: compiling and comparing")
        bench.prepare(kind)
    for round_index in range(plan.rounds):
        for batch in plan.batches:
            progress.step(f"batches of {batch}, round {round_index + 1} of {plan.rounds}")
            for kind in in_turns(bench.table.remaining(), round_index):
                bench.measure(kind, batch)
    result = finish("book", bench.table, (), command_line)
    return msgspec.structs.replace(result, flow=_describe(flow, model.seed))


def _model(plan: BookBenchPlan) -> SyntheticConfig | ScenarioConfig:
    """The settings of a flow that has at least as many commands as the plan wants."""
    commands = plan.warmup_commands + plan.commands
    model: SyntheticConfig | ScenarioConfig
    if plan.scenario is None:
        model = SyntheticConfig(commands=commands, symbols=1)
    else:
        model = ScenarioConfig(scenario=plan.scenario, orders=orders_for(commands))
    return model if plan.seed is None else msgspec.structs.replace(model, seed=plan.seed)


def _check_plan(plan: BookBenchPlan) -> None:
    for batch in plan.batches:
        if not 1 <= batch <= BATCH_MAX:
            raise UserError(f"batches: {batch} commands in a batch; must be 1 to {BATCH_MAX}")
    for field in ("commands", "interpreted_commands", "warmup_commands", "rounds"):
        if getattr(plan, field) < 1:
            raise UserError(f"{field} = {getattr(plan, field)}: must be at least 1")


def _describe(flow: Flow, seed: int) -> FlowDescription:
    notes = tuple(f"{key.replace('_', ' ')}: {count:,}" for key, count in flow.notes.items())
    return FlowDescription(flow.name, flow.description, len(flow.commands), len(flow.symbols), seed, notes)


class _Bench:
    """The flow in memory, room for the events of a batch, and the rows of the result."""

    def __init__(self, kinds: Sequence[str], plan: BookBenchPlan, flow: Flow) -> None:
        core = choose_cores().second
        self.table: Final = Table(kinds, Cores(core, core))
        self._core: Final = core
        self._plan: Final = plan
        self._expected: bytes | None = None
        commands = flow.commands.copy()
        commands["sequence"] = np.arange(1, len(commands) + 1)
        room = events_bound(CAPACITY_ORDERS, BATCH_MAX) * RECORD_BYTES
        self._arena: Final = Arena.private(commands.nbytes + room + (1 << 16))
        self._stop: Final = self._arena.allocate(8)
        self._commands: Final = self._arena.allocate(commands.nbytes)
        self._events: Final = self._arena.allocate(room)
        view_bytes(self._commands, commands.nbytes)[:] = commands.tobytes()

    def prepare(self, kind: str) -> None:
        """Compile what drives a variant, and compare what it answers with the first variant's answers."""
        book = _build(kind)
        hasher = hashlib.sha256()
        for start in range(0, min(COMPARED_COMMANDS, self._plan.commands), BATCH_MAX):
            count = min(BATCH_MAX, COMPARED_COMMANDS - start, self._plan.commands - start)
            events = apply_commands(book.state, self._commands + start * RECORD_BYTES, count, self._events)
            hasher.update(view_bytes(self._events, events * RECORD_BYTES))
        self._play(_build(kind), 1, 0, 2)
        if self._expected is None:
            self._expected = hasher.digest()
        elif hasher.digest() != self._expected:
            self.table.skip(kind, "its events differ from those of the first variant")

    def measure(self, kind: str, batch: int) -> None:
        """One round of one variant: two rows, the same figure as a time and as a rate."""
        book, warmup = _build(kind), self._plan.warmup_commands
        count = self._plan.commands
        if not is_compiled(book.state):
            count = min(count, self._plan.interpreted_commands)
        self._play(book, batch, 0, warmup)
        elapsed_ns = self._play(book, batch, warmup, count)
        parameters = {"commands_per_batch": batch}
        self.table.add("time of a command", kind, elapsed_ns / count, "ns", "lower", parameters)
        self.table.add("throughput", kind, count / elapsed_ns * 1e9, "commands/s", "higher", parameters)

    def _play(self, book: Any, batch: int, first: int, count: int) -> int:
        """Apply ``count`` commands from number ``first`` on, alone on its core; the nanoseconds it took."""
        play = play_commands if is_compiled(book.state) else getattr(play_commands, "py_func", play_commands)
        start = self._commands + first * RECORD_BYTES
        (elapsed_ns,) = run_pinned(
            [(self._core, lambda: play(book.state, start, count, batch, self._events))], self._stop
        )
        return int(elapsed_ns)


def _build(kind: str) -> Any:
    config = {"naive": NaiveBookConfig, "ladder": LadderBookConfig}[kind]
    return build_book(config(capacity_orders=CAPACITY_ORDERS), symbol_count=1)


@kernel
def play_commands(book: Any, commands_address: int, count: int, batch: int, events_address: int) -> int:
    """Apply ``count`` commands in batches, each batch's events over those of the last; returns nanoseconds."""
    started_ns = monotonic_ns()
    applied = 0
    while applied < count:
        in_batch = min(batch, count - applied)
        apply_commands(book, commands_address + applied * RECORD_BYTES, in_batch, events_address)
        applied += in_batch
    return monotonic_ns() - started_ns
