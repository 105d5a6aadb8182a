"""``exchange bench endurance``: does a book get slower the longer it runs?

A hundred million commands go through one book in one process. What could make the last million slower than the
first: hash tables that fill with the traces of removed ids, free lists that scatter neighbours over memory, prices
that walk away and leave pages behind, memory that grows. Each has a name in other people's post-mortems, so here it
is measured.

**Equal work.** Throughput of two millions can only be compared if both ask for the same. The flow is therefore one
*piece* of a million commands of a scenario, played again and again, and between two pieces every command is moved on:
order ids by as many as there are orders, so that no id ever comes twice; prices by some ticks, so that the market
walks through the band for ever; sequence and time, as they would. A piece ends with a mass cancel of every session, so
that the next one finds no order resting, but the book's memory as the last one left it. So every piece is the same
work on an older book, and whatever differs is age, or the machine.

Before the clock one piece warms up (memory is mapped, the code is compiled). Moving the commands on is not timed. One
thread on one core; events go to memory, each batch's over the last's. Every piece must make as many events as the
first and leave no order behind; if one does not, the comparison is void.

Resident memory is the process's own, as the kernel counts it, after the warm-up and at the end."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from exchange.bench.core_loops import play_into_memory
from exchange.bench.micro import Cores, Table, choose_cores, finish, in_turns, run_pinned
from exchange.bench.results import BenchResult, FlowDescription, along_axis
from exchange.book import build_book
from exchange.book.config import LadderBookConfig
from exchange.book.ladder_events import ORDER_ID, OTHER_ORDER_ID, PRICE, SEQUENCE, TIMESTAMP
from exchange.book.protocol import events_bound, live_order_count
from exchange.errors import UserError
from exchange.flow import build_flow
from exchange.flow.config import ScenarioConfig, ScenarioName
from exchange.flow.scenario import orders_for
from exchange.messages import ALL_SYMBOLS, COMMAND_DTYPE, RECORD_BYTES, CommandKind
from exchange.native import Arena, kernel, load_int64, store_int64, view_bytes

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

PARTS: Final = 10
"""The curve along the run has so many points, each the median of as many pieces as fall to it."""
AXIS: Final = "commands_so_far"
ROUNDS: Final = 9
"""How often the old book and a new one play the same piece at the end."""
PRICE_STEP_TICKS: Final = 137
"""How far the market walks between two pieces: no multiple of what a book could group prices by."""
PIECES_MAX: Final = 1_000_000
"""So many steps of the price stay within the default price band, and so many shifts of the ids within 64 bits."""


class EnduranceBenchPlan(NamedTuple):
    """How much to measure: ``commands`` in all, a multiple of ``piece_commands``, which are timed together."""

    commands: int = 100_000_000
    scenario: ScenarioName = "normal"
    piece_commands: int = 1_000_000
    batch_commands: int = 256
    capacity_orders: int = 65_536
    seed: int = ScenarioConfig().seed


def run_endurance_bench(plan: EnduranceBenchPlan, command_line: str, progress: "Progress") -> BenchResult:
    """Play the flow, piece by piece.

    Raises:
        UserError: a plan that is out of range.
    """
    _check_plan(plan)
    pieces = plan.commands // plan.piece_commands
    progress.total(3 + pieces)
    progress.step("making the order flow")
    core = choose_cores().second
    run = _Run(plan, core)
    progress.step("compiling and warming up")
    expected, _ = run.play()
    before_bytes = resident_bytes()
    times_ns: list[int] = []
    void: str | None = None
    for piece in range(pieces):
        progress.step(f"{(piece + 1) * plan.piece_commands:,} commands")
        run.move_on()
        found, elapsed_ns = run.play()
        times_ns.append(elapsed_ns)
        if found != expected and void is None:
            void = f"piece {piece + 1} ended with {_said(found)}, but the first with {_said(expected)}"
    rates = plan.piece_commands / np.array(times_ns) * 1e9
    table = _table(rates, (before_bytes, resident_bytes()), core, plan)
    progress.step("a new book and the old one in turns")
    for book, times in run.against_a_new_book().items():
        name = f"{plan.piece_commands:,} commands, a new book and the old one in turns"
        for time_ns in times:
            rate = plan.piece_commands / time_ns * 1e9
            table.add(name, book, rate, "commands/s", "higher", {"scenario": plan.scenario})
    result = along_axis(finish("endurance", table, (), command_line), AXIS)
    return msgspec.structs.replace(result, flow=run.flow, comparison_void=void)


def _check_plan(plan: EnduranceBenchPlan) -> None:
    pieces, rest = divmod(plan.commands, plan.piece_commands)
    if rest or not 2 <= pieces <= PIECES_MAX:
        raise UserError(
            f"commands = {plan.commands}: must be 2 to {PIECES_MAX:,} times {plan.piece_commands:,}, "
            "each of which is timed by itself"
        )


class _Found(NamedTuple):
    """What a piece made: as many events, and as many orders that still rest."""

    events: int
    live_orders: int


def _said(found: _Found) -> str:
    return f"{found.events:,} events and {found.live_orders:,} orders in the book"


class _Run:
    """The piece in memory, and the book."""

    def __init__(self, plan: EnduranceBenchPlan, core: int) -> None:
        self._plan: Final = plan
        orders = orders_for(plan.piece_commands)
        flow = build_flow(ScenarioConfig(plan.scenario, orders, plan.seed)).first(plan.piece_commands)
        if flow.notes["live_orders_max"] > plan.capacity_orders:
            raise UserError(
                f"capacity_orders = {plan.capacity_orders}: in scenario {plan.scenario} "
                f"{flow.notes['live_orders_max']} orders rest at once"
            )
        commands = _ended(flow.commands)
        self.flow: Final = FlowDescription(
            name=f"{plan.scenario}, over and over",
            description=f"{flow.description}; cut to {plan.piece_commands:,} and repeated with other ids and prices",
            commands=plan.commands,
            symbols=1,
            seed=plan.seed,
        )
        self._core: Final = core
        self._id_shift: Final = orders
        self._time_shift_ns: Final = flow.duration_ns + 1
        self._owner = self._new_book()
        room_bytes = events_bound(plan.capacity_orders, plan.batch_commands) * RECORD_BYTES
        self._arena: Final = Arena.private(commands.nbytes + room_bytes + 4096)
        self._stop: Final = self._arena.allocate(8)
        self._commands: Final = self._arena.allocate(commands.nbytes)
        self._events: Final = self._arena.allocate(room_bytes)
        view_bytes(self._commands, commands.nbytes)[:] = commands.tobytes()
        # with nothing to do, so that it is compiled: a piece has only so much time
        play_into_memory(self._owner.state, self._commands, 0, plan.batch_commands, self._events, False)

    def _new_book(self) -> Any:
        return build_book(LadderBookConfig(capacity_orders=self._plan.capacity_orders), symbol_count=1)

    def against_a_new_book(self) -> dict[str, list[int]]:
        """Play each of the next pieces through the old book and through one that has seen little, one after the other.

        What the machine does in between meets both alike; what is left is age. Returns nanoseconds by round.
        """
        old, new = self._owner, self._new_book()
        self._owner = new
        self.play()
        times_ns: dict[str, list[int]] = {"new book": [], "old book": []}
        for round_index in range(ROUNDS):
            self.move_on()
            for book in in_turns(list(times_ns), round_index):
                self._owner = old if book == "old book" else new
                times_ns[book].append(self.play()[1])
        self._owner = old
        return times_ns

    def move_on(self) -> None:
        """Make the next piece of the last one."""
        shifts = (self._id_shift, PRICE_STEP_TICKS, self._time_shift_ns)
        move_commands(self._commands, self._plan.piece_commands, *shifts)

    def play(self) -> tuple[_Found, int]:
        """Apply the piece; returns what was found, and the nanoseconds that it took."""
        plan, state = self._plan, self._owner.state
        task = (
            self._core,
            lambda: play_into_memory(
                state, self._commands, plan.piece_commands, plan.batch_commands, self._events, False
            ),
        )
        ((elapsed_ns, events),) = run_pinned([task], self._stop)
        return _Found(int(events), int(live_order_count(state))), int(elapsed_ns)


def _ended(flow: NDArray[Any]) -> NDArray[Any]:
    """The commands with a mass cancel of every session in place of the last ones, and with sequences from 1 on."""
    commands = flow.copy()
    sessions = np.unique(commands["session_id"])
    ends = np.zeros(len(sessions), COMMAND_DTYPE)
    ends["kind"], ends["symbol_id"], ends["session_id"] = CommandKind.MASS_CANCEL, ALL_SYMBOLS, sessions
    ends["timestamp_ns"] = commands["timestamp_ns"][-1]
    commands[len(commands) - len(ends) :] = ends
    commands["sequence"] = np.arange(1, len(commands) + 1)
    return commands


@kernel
def move_commands(
    commands: int, count: int, id_shift: int, price_shift_ticks: int, time_shift_ns: int
) -> None:
    """Turn ``count`` commands into the next ones: other ids, other prices, later; sequences go on by ``count``."""
    for index in range(count):
        command = commands + index * RECORD_BYTES
        store_int64(command + SEQUENCE, load_int64(command + SEQUENCE) + count)
        store_int64(command + ORDER_ID, load_int64(command + ORDER_ID) + id_shift)
        store_int64(command + OTHER_ORDER_ID, load_int64(command + OTHER_ORDER_ID) + id_shift)
        store_int64(command + PRICE, load_int64(command + PRICE) + price_shift_ticks)
        store_int64(command + TIMESTAMP, load_int64(command + TIMESTAMP) + time_shift_ns)


def resident_bytes() -> int:
    """How much memory this process has, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def _table(
    rates: NDArray[np.float64], resident: tuple[int, int], core: int, plan: EnduranceBenchPlan
) -> Table:
    """The rows: first and last piece and the slowest, their ratio, a curve along the run, resident memory."""
    table = Table((), Cores(core, core))
    parameters = {"scenario": plan.scenario}
    size = f"{plan.piece_commands:,} commands"
    for variant, rate in (("first", rates[0]), ("last", rates[-1]), ("slowest", rates.min())):
        name = f"throughput of {size}"
        table.add(name, variant, float(rate), "commands/s", "higher", parameters)
    table.add(
        f"last {size} against the first", "ladder", float(rates[-1] / rates[0]), "times", "higher", parameters
    )
    played = 0
    for part in np.array_split(rates, min(PARTS, len(rates))):
        played += len(part) * plan.piece_commands
        here = {**parameters, AXIS: played}
        for rate in part.tolist():
            table.add("throughput along the run", "ladder", rate, "commands/s", "higher", here)
            table.add("time of a command along the run", "ladder", 1e9 / rate, "ns", "lower", here)
    for variant, size_bytes in zip(("after the warm-up", "at the end"), resident, strict=True):
        table.add("resident memory", variant, float(size_bytes), "bytes", "lower", parameters)
    return table
