"""``exchange bench worst-cases``: what an event costs when the market does its worst, and whether that depends on
how many orders there are.

The cases are those of :mod:`exchange.bench.worst_cases`. Each is measured at several sizes, and the question is not
how large a figure is but whether it stays: a book that searches, shifts or counts along its orders pays more for
each event the more orders there are, and takes 100 times as long for each of 100 times as many.

A flat line is not quite flat on a real machine. A thousand orders fit the first caches, a hundred thousand do not, and
a million fit none; an event that waits for memory costs some factor more than one that does not. The verdict
therefore gives the factor between the largest and the smallest size beside the factor that a proportional cost would
show, and calls flat what is nearer to 1.

What is timed: one thread on one core, batches of 256 commands, every event written. A book is built for each
measurement and plays the case once before the clock starts; then a small case is repeated until
``events_least`` events have been timed, preparations left out. All events of a rehearsal, kind by kind, and the number
of events of each measurement are held against what the case says must come.

The plain-Python book plays the small sizes, for contrast."""

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from exchange.bench.micro import Cores, Table, choose_cores, finish, in_turns, run_pinned
from exchange.bench.results import BenchResult, along_axis
from exchange.bench.worst_cases import CASES, CLEAR, Case, Commands
from exchange.book import build_book
from exchange.book.config import BookConfig, LadderBookConfig, NaiveBookConfig
from exchange.book.protocol import apply_commands, events_bound
from exchange.errors import UserError
from exchange.messages import COMMAND_DTYPE, EVENT_DTYPE, RECORD_BYTES, EventKind
from exchange.native import Arena, is_compiled, kernel, monotonic_ns, view_bytes

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

BOOK_KINDS: Final = ("naive", "ladder")
AXIS: Final = "orders"
BATCH_COMMANDS: Final = 256
ORDERS_MIN: Final = 64
ORDERS_MAX: Final = 1 << 20
COMMANDS_PER_ORDER: Final = 3
"""No case has more commands than so many for each order."""
MEASUREMENT_NS: Final = 100_000_000
"""A case is not repeated for longer than about this, preparations included: one that is slow is long enough."""


class WorstCaseBenchPlan(NamedTuple):
    """How much to measure.

    ``sizes`` are played by the ladder, ``interpreted_sizes`` by the plain-Python book; a case leaves out those that
    are beyond its own bound. ``events_least``: a measurement of the ladder has at least so many events.
    """

    sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    interpreted_sizes: tuple[int, ...] = (1_000, 10_000)
    rounds: int = 5
    events_least: int = 200_000

    @classmethod
    def quick(cls) -> "WorstCaseBenchPlan":
        """A plan that takes some tens of seconds; the largest size is left out."""
        return cls(
            sizes=(1_000, 10_000, 100_000), interpreted_sizes=(500, 4_000), rounds=3, events_least=50_000
        )


def run_worst_case_bench(plan: WorstCaseBenchPlan, command_line: str, progress: "Progress") -> BenchResult:
    """Measure every case at every size, on both books.

    Raises:
        UserError: a plan that is out of range.
    """
    _check_plan(plan)
    progress.detail("laying out memory")
    bench = _Bench(plan)
    runs = [
        (case, kind, size)
        for case in CASES
        for kind in BOOK_KINDS
        for size in (plan.sizes if kind == "ladder" else plan.interpreted_sizes)
        if size <= case.orders_max
    ]
    progress.total(len(runs) + plan.rounds * len(CASES))
    for case, kind, size in runs:
        progress.step(f"rehearsing: {case.name}, {kind}, {size:,} orders")
        bench.rehearse(case, kind, size)
    for round_index in range(plan.rounds):
        for case in CASES:
            progress.step(f"{case.name}, round {round_index + 1} of {plan.rounds}")
            own = [str(index) for index, run in enumerate(runs) if run[0] is case]
            for index in in_turns(own, round_index):
                bench.measure(*runs[int(index)])
    return along_axis(finish("worst-cases", bench.table, (), command_line), AXIS)


def _check_plan(plan: WorstCaseBenchPlan) -> None:
    for field in ("sizes", "interpreted_sizes"):
        sizes = getattr(plan, field)
        if len(set(sizes)) != len(sizes) or not sizes:
            raise UserError(f"{field}: at least one, each once")
        for size in sizes:
            if not ORDERS_MIN <= size <= ORDERS_MAX:
                raise UserError(f"{field}: {size} orders; must be {ORDERS_MIN} to {ORDERS_MAX}")
    for field in ("rounds", "events_least"):
        if getattr(plan, field) < 1:
            raise UserError(f"{field} = {getattr(plan, field)}: must be at least 1")


class _Bench:
    """Room for the commands and events of the largest case, and the rows of the result."""

    def __init__(self, plan: WorstCaseBenchPlan) -> None:
        core = choose_cores().second
        self.table: Final = Table(BOOK_KINDS, Cores(core, core))
        self._core: Final = core
        self._plan: Final = plan
        largest = max(*plan.sizes, *plan.interpreted_sizes)
        self._capacity_orders: Final = largest + ORDERS_MIN
        commands_bytes = COMMANDS_PER_ORDER * largest * RECORD_BYTES + (1 << 16)
        events_bytes = events_bound(self._capacity_orders, BATCH_COMMANDS) * RECORD_BYTES
        self._arena: Final = Arena.private(2 * commands_bytes + events_bytes + (1 << 16))
        self._stop: Final = self._arena.allocate(8)
        self._prepare: Final = self._arena.allocate(commands_bytes)
        self._timed: Final = self._arena.allocate(commands_bytes)
        self._clear: Final = self._arena.allocate(RECORD_BYTES)
        self._events: Final = self._arena.allocate(events_bytes)

    def rehearse(self, case: Case, kind: str, size: int) -> None:
        """Play a case once, untimed, and hold every event against what the case says.

        Raises:
            RuntimeError: the book did something else, so that its time would mean nothing.
        """
        book, script = self._build(kind), case.script(size)
        prepared = self._count_kinds(book, self._prepare, self._load(script.prepare, self._prepare))
        seen = self._count_kinds(book, self._timed, self._load(script.timed, self._timed))
        wanted = Counter(script.events)
        if seen != wanted or prepared != Counter({EventKind.ACCEPTED: len(script.prepare)}):
            raise RuntimeError(f"{case.name}, {size} orders, {kind}: events {seen}, not {wanted}")
        if is_compiled(book.state):  # here, where compiling may take as long as it likes
            nothing = (self._clear, 0)
            play_case(book.state, nothing, nothing, nothing, self._events, 0)

    def measure(self, case: Case, kind: str, size: int) -> None:
        """One round of one case at one size.

        Raises:
            RuntimeError: as :meth:`rehearse`, by the number of events.
        """
        script, book = case.script(size), self._build(kind)
        places = (
            (self._prepare, self._load(script.prepare, self._prepare)),
            (self._timed, self._load(script.timed, self._timed)),
            (self._clear, self._load(CLEAR, self._clear)),
        )
        play = play_case if is_compiled(book.state) else getattr(play_case, "py_func", play_case)
        wanted = sum(script.events.values())

        def measured() -> tuple[int, int]:
            began_ns = time.perf_counter_ns()
            play(book.state, *places, self._events, 1)
            fitting = MEASUREMENT_NS // (time.perf_counter_ns() - began_ns)
            repeats = max(1, min(fitting, -(-self._plan.events_least // wanted)))
            elapsed_ns, events = play(book.state, *places, self._events, repeats)
            if events != repeats * wanted:
                raise RuntimeError(
                    f"{case.name}, {size} orders, {kind}: {events} events, not {repeats * wanted}"
                )
            return elapsed_ns, events

        ((elapsed_ns, events),) = run_pinned([(self._core, measured)], self._stop)
        self.table.add(case.name, kind, elapsed_ns / events, "ns", "lower", {AXIS: size})

    def _build(self, kind: str) -> Any:
        config: BookConfig = (
            NaiveBookConfig(capacity_orders=self._capacity_orders)
            if kind == "naive"
            else LadderBookConfig(capacity_orders=self._capacity_orders)
        )
        return build_book(config, symbol_count=1)

    def _load(self, commands: Commands, address: int) -> int:
        """Put commands in their place, with sequences; how many they are."""
        placed = np.frombuffer(view_bytes(address, commands.nbytes), COMMAND_DTYPE)
        placed[:] = commands
        placed["sequence"] = np.arange(1, len(placed) + 1)
        return len(placed)

    def _count_kinds(self, book: Any, address: int, count: int) -> "Counter[EventKind]":
        """Apply commands in batches and count the events of each kind."""
        seen: Counter[EventKind] = Counter()
        for first in range(0, count, BATCH_COMMANDS):
            in_batch = min(BATCH_COMMANDS, count - first)
            written = apply_commands(book.state, address + first * RECORD_BYTES, in_batch, self._events)
            block = np.frombuffer(view_bytes(self._events, written * RECORD_BYTES), EVENT_DTYPE)
            kinds, counts = np.unique(block["kind"], return_counts=True)
            seen.update({EventKind(kind): int(number) for kind, number in zip(kinds, counts, strict=True)})
        return seen


@kernel
def play_case(
    book: Any,
    prepare: tuple[int, int],
    timed: tuple[int, int],
    clear: tuple[int, int],
    events_address: int,
    repeats: int,
) -> tuple[int, int]:
    """Prepare, play and clear a case so many times; each part is an address and how many commands stand there.

    Parts are applied in batches, each batch's events over those of the last. Returns the nanoseconds and the number of
    events of what is timed.
    """
    elapsed_ns, events = 0, 0
    for _ in range(repeats):
        for address, count, is_timed in ((*prepare, 0), (*timed, 1), (*clear, 0)):
            started_ns = monotonic_ns()
            applied, written = 0, 0
            while applied < count:
                in_batch = min(BATCH_COMMANDS, count - applied)
                written += apply_commands(book, address + applied * RECORD_BYTES, in_batch, events_address)
                applied += in_batch
            elapsed_ns += is_timed * (monotonic_ns() - started_ns)
            events += is_timed * written
    return elapsed_ns, events
