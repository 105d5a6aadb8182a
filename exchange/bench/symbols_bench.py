"""``exchange bench symbols``: what it costs a shard to keep the books of one symbol, or of thousands.

One thread on one core applies the synthetic flow to the ladder book of one shard. The flow has as many commands
whatever the number of symbols; they only spread over more of them, the k-th most active getting a share of 1 / k.
So the work is the same and the memory it happens in is not: what the benchmark shows is how well a cache, and the
table of addresses in front of it (the TLB), copes with many small books instead of one.

Four questions:

* **Throughput** for each number of symbols. A fresh book for every measurement, and a warm-up before the clock
  starts that is long enough for nearly every symbol to have been seen.
* **Memory per symbol**: how much of the book's address space the kernel has given pages to (``mincore``), once
  before the first command and once after the last, divided by the symbols.
* **A full book**: two million orders in eight thousand symbols, shared out by the same law, on 128 prices on each
  side of every symbol; how much memory that takes, and how it grew while the book was filled.
* **Throughput of the full book**, in two ways. *Anywhere*: any of the orders is cancelled and another entered in
  its symbol, so that every other command asks for memory that has not been looked at for millions of commands:
  about the worst that a book can be asked. *Flow*: the flow, whose activity is where its participants are.

The variants are the two kinds of pages that the book's memory can be asked for. Pages of 2 MiB spare address
translation, and make a small book look large: less than one of them cannot be given.

Rules: rounds are interleaved over all of it; what a measurement must leave resting in the book is checked after
the clock has stopped."""

import ctypes
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from exchange.bench.book_bench import play_commands
from exchange.bench.micro import Cores, Table, choose_cores, finish, in_turns, run_pinned
from exchange.bench.results import BenchResult, FlowDescription, along_axis
from exchange.book import build_book
from exchange.book.config import LadderBookConfig
from exchange.book.protocol import events_bound, live_order_count
from exchange.errors import UserError
from exchange.flow import build_flow
from exchange.flow.config import SyntheticConfig
from exchange.flow.synthetic import PRICE_BASE_TICKS, PRICE_STEP_TICKS
from exchange.flow.synthetic_market import LEVELS
from exchange.limits import FLOW_SYMBOLS_MAX
from exchange.messages import COMMAND_DTYPE, RECORD_BYTES, SELL, CommandKind
from exchange.native import Arena, HugePages, view_bytes

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

PAGES: Final[dict[str, HugePages]] = {"4 KiB pages": "never", "2 MiB pages": "advise"}
SYMBOLS_AXIS: Final = "symbols"
ORDERS_AXIS: Final = "orders"
BATCH_COMMANDS: Final = 256
CAPACITY_ORDERS: Final = 262_144

FULL_CAPACITY_ORDERS: Final = 1 << 21
FULL_PRICES: Final = 128
FULL_LOTS: Final = 100
FULL_PARTS: Final = 8
"""The memory of the full book is told when an eighth, a quarter, half and all of its orders are there."""
FULL_FIRST_ID: Final = 1 << 40
"""Beyond every id of the flow, which counts from 1."""
FULL_BYTES_ALLOWED: Final = 2_000_000_000
"""What the full book has to fit into; a warning says if it does not."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


class SymbolsBenchPlan(NamedTuple):
    """How much to measure.

    ``commands`` are timed for each number of symbols, after ``warmup_commands`` of the same flow that are not. The full
    book has ``full_orders`` orders in ``full_symbols`` symbols.
    """

    symbols: tuple[int, ...] = (1, 10, 100, 1_000, 8_000)
    commands: int = 1_000_000
    warmup_commands: int = 500_000
    rounds: int = 5
    full_symbols: int = 8_000
    full_orders: int = 2_000_000
    seed: int = 1

    @classmethod
    def quick(cls) -> "SymbolsBenchPlan":
        """A plan that takes some seconds; the full book is as full."""
        return cls(symbols=(1, 100, 8_000), commands=200_000, warmup_commands=100_000, rounds=3)


def run_symbols_bench(plan: SymbolsBenchPlan, command_line: str, progress: "Progress") -> BenchResult:
    """Measure each number of symbols with each kind of pages, and the full book.

    Raises:
        UserError: a plan that is out of range.
    """
    _check_plan(plan)
    progress.detail("making the order flows")
    bench = _Bench(plan)
    progress.total(1 + plan.rounds * (len(plan.symbols) + 1))
    progress.step("compiling and warming up")
    bench.rehearse()
    counts = [str(symbols) for symbols in plan.symbols]
    for round_index in range(plan.rounds):
        for symbols in in_turns(counts, round_index):
            progress.step(f"{symbols} symbols, round {round_index + 1} of {plan.rounds}")
            for pages in in_turns(list(PAGES), round_index):
                bench.measure(int(symbols), pages)
        progress.step(f"full book, round {round_index + 1} of {plan.rounds}")
        for pages in in_turns(list(PAGES), round_index):
            bench.measure_full(pages)
    result = finish("symbols", bench.table, bench.warnings(), command_line)
    result = along_axis(along_axis(result, SYMBOLS_AXIS), ORDERS_AXIS)
    return msgspec.structs.replace(result, flow=bench.flow_description())


def _check_plan(plan: SymbolsBenchPlan) -> None:
    for symbols in (*plan.symbols, plan.full_symbols):
        if not 1 <= symbols <= FLOW_SYMBOLS_MAX:
            raise UserError(f"symbols: {symbols}; must be 1 to {FLOW_SYMBOLS_MAX}")
    if len(set(plan.symbols)) != len(plan.symbols) or not plan.symbols:
        raise UserError("symbols: at least one number of symbols, each once")
    least = max(plan.full_symbols, FULL_PARTS)
    if not least <= plan.full_orders <= FULL_CAPACITY_ORDERS:
        raise UserError(f"full_orders = {plan.full_orders}: must be {least} to {FULL_CAPACITY_ORDERS}")
    for field, least in (("commands", 2), ("warmup_commands", 1), ("rounds", 1)):
        if getattr(plan, field) < least:
            raise UserError(f"{field} = {getattr(plan, field)}: must be at least {least}")


class _Flow(NamedTuple):
    """Commands in memory. ``traded_symbols`` is how many symbols occur in them."""

    address: int
    commands: int
    traded_symbols: int


class _Bench:
    """The flows in memory, room for the events of a batch, and the rows of the result."""

    def __init__(self, plan: SymbolsBenchPlan) -> None:
        core = choose_cores().second
        self.table: Final = Table(tuple(PAGES), Cores(core, core))
        self._core: Final = core
        self._plan: Final = plan
        self._full_bytes_most = 0
        self._arenas: Final[list[Arena]] = []
        self._stop: Final = self._reserve(8)
        self._events: Final = self._reserve(events_bound(FULL_CAPACITY_ORDERS, BATCH_COMMANDS) * RECORD_BYTES)
        counts = dict.fromkeys((*plan.symbols, plan.full_symbols))
        self._flows: Final = {symbols: self._make_flow(symbols) for symbols in counts}
        resting = resting_orders(plan.full_symbols, plan.full_orders, plan.seed)
        self._fill: Final = self._keep(resting)
        self._anywhere: Final = self._keep(replacements(resting, plan.commands // 2, plan.seed))

    def rehearse(self) -> None:
        """Compile what is timed, here where it may take as long as it likes."""
        book = self._build(1, CAPACITY_ORDERS, "never")
        play_commands(book.state, self._fill, 0, BATCH_COMMANDS, self._events)

    def measure(self, symbols: int, pages: str) -> None:
        """One round of one number of symbols: two rows of time, two of memory."""
        plan, flow, parameters = self._plan, self._flows[symbols], {SYMBOLS_AXIS: symbols}
        book = self._build(symbols, CAPACITY_ORDERS, PAGES[pages])
        empty_bytes = resident_bytes(book.arena)
        self._play(book, flow.address, plan.warmup_commands)
        timed = flow.address + plan.warmup_commands * RECORD_BYTES
        elapsed_ns = self._play(book, timed, plan.commands)
        add = self.table.add
        add("throughput", pages, plan.commands / elapsed_ns * 1e9, "commands/s", "higher", parameters)
        add("time of a command", pages, elapsed_ns / plan.commands, "ns", "lower", parameters)
        for name, size_bytes in (("empty", empty_bytes), ("after the flow", resident_bytes(book.arena))):
            add(f"memory per symbol, {name}", pages, size_bytes / symbols, "bytes", "lower", parameters)

    def measure_full(self, pages: str) -> None:
        """One round of the full book: its memory, and its throughput in two ways."""
        plan, flow = self._plan, self._flows[self._plan.full_symbols]
        book = self._build(plan.full_symbols, FULL_CAPACITY_ORDERS, PAGES[pages])
        size_bytes = self._fill_up(book, pages)
        self._full_bytes_most = max(self._full_bytes_most, size_bytes)
        shared = {"book": f"{plan.full_orders:,} orders in {plan.full_symbols:,} symbols"}
        replaced = plan.commands // 2
        rate = 2 * replaced / self._play(book, self._anywhere, 2 * replaced) * 1e9
        self.table.add("throughput, full book, anywhere", pages, rate, "commands/s", "higher", shared)
        resting = live_order_count(book.state)
        if resting != plan.full_orders:
            raise RuntimeError(f"{resting} orders rest in the full book, not {plan.full_orders}")
        rate = plan.commands / self._play(book, flow.address, plan.commands) * 1e9
        self.table.add("throughput, full book, flow", pages, rate, "commands/s", "higher", shared)

    def _fill_up(self, book: Any, pages: str) -> int:
        """Enter the resting orders, a row of memory at each of some stages; the bytes it takes in the end."""
        plan, entered, size_bytes = self._plan, 0, 0
        part = FULL_PARTS
        while part:
            target = plan.full_orders // part
            self._play(book, self._fill + entered * RECORD_BYTES, target - entered)
            entered, part, size_bytes = target, part // 2, resident_bytes(book.arena)
            parameters = {"symbols_in_all": plan.full_symbols, ORDERS_AXIS: entered}
            self.table.add("memory of the book", pages, size_bytes / 1e9, "GB", "lower", parameters)
        return size_bytes

    def warnings(self) -> tuple[str, ...]:
        """Whether the full book was larger than it may be."""
        if self._full_bytes_most < FULL_BYTES_ALLOWED:
            return ()
        return (
            f"The full book took up to {self._full_bytes_most / 1e9:.2f} GB, more than the "
            f"{FULL_BYTES_ALLOWED / 1e9:.0f} GB that it is meant to fit into.",
        )

    def flow_description(self) -> FlowDescription:
        """What was played, and which symbols the model is too coarse for."""
        plan = self._plan
        notes = [
            f"{flow.traded_symbols:,} of {symbols:,} symbols occur in the flow: by Zipf's law with 16-bit shares"
            for symbols, flow in self._flows.items()
            if flow.traded_symbols < symbols
        ]
        commands = plan.warmup_commands + plan.commands
        text = f"synthetic flows of {commands:,} commands, one for each number of symbols, seed {plan.seed}"
        return FlowDescription("synthetic", text, commands, max(self._flows), plan.seed, tuple(notes))

    def _make_flow(self, symbols: int) -> _Flow:
        count = self._plan.warmup_commands + self._plan.commands
        commands = build_flow(SyntheticConfig(commands=count, symbols=symbols, seed=self._plan.seed)).commands
        traded = int(np.count_nonzero(np.bincount(commands["symbol_id"])))
        return _Flow(self._keep(commands), count, traded)

    def _reserve(self, size_bytes: int) -> int:
        self._arenas.append(Arena.private(size_bytes))
        return self._arenas[-1].allocate(size_bytes)

    def _keep(self, commands: NDArray[Any]) -> int:
        """Copy commands to where they stay, with sequences."""
        address = self._reserve(max(commands.nbytes, 1))
        kept = np.frombuffer(view_bytes(address, commands.nbytes), COMMAND_DTYPE)
        kept[:] = commands
        kept["sequence"] = np.arange(1, len(kept) + 1)
        return address

    def _build(self, symbols: int, capacity_orders: int, huge_pages: HugePages) -> Any:
        config = LadderBookConfig(capacity_orders=capacity_orders)
        return build_book(msgspec.structs.replace(config, huge_pages=huge_pages), symbols)

    def _play(self, book: Any, address: int, count: int) -> int:
        """Apply commands, alone on the core; the nanoseconds it took."""
        (elapsed_ns,) = run_pinned(
            [(self._core, lambda: play_commands(book.state, address, count, BATCH_COMMANDS, self._events))],
            self._stop,
        )
        return int(elapsed_ns)


def resting_orders(symbols: int, orders: int, seed: int) -> NDArray[Any]:
    """New orders that fill a book and trade with none of each other, in random order of arrival.

    Args:
        symbols: symbol k gets a share of the orders in proportion to 1 / (k + 1), and at least one.
        orders: how many, at least ``symbols``.
        seed: of the prices and of the order.

    Returns:
        Shape (orders,), ``COMMAND_DTYPE``: half of them bids, on 128 prices that begin a tick behind the middle of the
        symbol's band in the synthetic flow.
    """
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, symbols + 1)
    ends = np.rint(np.cumsum(weights) / weights.sum() * (orders - symbols)).astype(np.int64)
    ends += np.arange(1, symbols + 1)
    place = np.arange(orders)
    commands = np.zeros(orders, COMMAND_DTYPE)
    commands["kind"] = int(CommandKind.NEW)
    commands["symbol_id"] = np.searchsorted(ends, place, side="right")
    commands["side"] = place & 1
    commands["quantity_lots"] = FULL_LOTS
    _draw_prices(commands, generator)
    generator.shuffle(commands)
    commands["order_id"] = FULL_FIRST_ID + place
    return commands


def replacements(resting: NDArray[Any], pairs: int, seed: int) -> NDArray[Any]:
    """A cancel of one of the resting orders, any of them, and a new order on the same side of its symbol; ``pairs``
    times.

    Returns:
        Shape (2 * pairs,), ``COMMAND_DTYPE``. No order is cancelled twice as long as ``pairs`` is at most
        ``len(resting)``; beyond that the orders that came instead are cancelled in their turn.
    """
    generator = np.random.default_rng(seed + 1)
    commands = np.zeros(2 * pairs, COMMAND_DTYPE)
    cancels, news = commands[0::2], commands[1::2]
    victims = np.resize(generator.permutation(len(resting)), pairs)
    news[:] = resting[victims]
    _draw_prices(news, generator)
    news["order_id"] = FULL_FIRST_ID + len(resting) + np.arange(pairs)
    cancels["kind"] = int(CommandKind.CANCEL)
    cancels["symbol_id"] = resting["symbol_id"][victims]
    turn = np.arange(pairs) - len(resting)  # what is cancelled a second time came in a turn ago
    cancels["order_id"] = np.where(
        turn < 0, resting["order_id"][victims], FULL_FIRST_ID + len(resting) + turn
    )
    return commands


def _draw_prices(commands: NDArray[Any], generator: np.random.Generator) -> None:
    depths = generator.integers(1, 1 + FULL_PRICES, len(commands))
    middles = PRICE_BASE_TICKS + PRICE_STEP_TICKS * commands["symbol_id"].astype(np.int64) + LEVELS // 2
    commands["price_ticks"] = np.where(commands["side"] == SELL, middles + 1 + depths, middles - depths)


def resident_bytes(arena: Arena) -> int:
    """How much of a private arena the kernel has given memory to, by asking it page by page.

    Raises:
        OSError: the kernel does not answer.
    """
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    pages = np.zeros(-(-arena.capacity_bytes // page_bytes), np.uint8)
    failed = _libc.mincore(
        ctypes.c_void_p(arena.address),
        ctypes.c_size_t(arena.capacity_bytes),
        ctypes.c_void_p(pages.ctypes.data),
    )
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return int(np.count_nonzero(pages & 1)) * page_bytes
