"""``exchange bench endurance`` at a tiny size: pieces, rows, and a book that ages is told."""

from typing import Any

import numpy as np
import pytest

from exchange.bench import endurance_bench
from exchange.bench.endurance_bench import (
    PRICE_STEP_TICKS,
    EnduranceBenchPlan,
    move_commands,
    run_endurance_bench,
)
from exchange.bench.results import BenchResult, from_json, to_json
from exchange.bench.runner import Progress
from exchange.cli_micro import MICRO_BENCHMARKS, MicroChoice
from exchange.errors import UserError
from exchange.messages import COMMAND_DTYPE
from exchange.native import address_of

TINY = EnduranceBenchPlan(commands=60_000, piece_commands=3_000)


def run(plan: EnduranceBenchPlan = TINY) -> BenchResult:
    return run_endurance_bench(plan, "exchange bench endurance", Progress())


def rows(result: BenchResult, name: str) -> dict[str, tuple[float, ...]]:
    return {row.variant: row.values for row in result.micro if row.name == name}


def test_first_last_and_slowest_piece_the_curve_and_memory_are_told() -> None:
    steps: list[str] = []
    totals: list[int] = []
    result = run_endurance_bench(TINY, "exchange bench endurance", Progress(totals.append, steps.append))
    result = from_json(to_json(result), "a smoke run")
    assert totals == [len(steps)]
    assert (result.kind, result.comparison_void) == ("endurance", None)
    assert result.flow is not None
    assert result.flow.commands == 60_000
    every = [rate for _, values in curve(result) for rate in values]
    assert [position for position, _ in curve(result)] == [6_000 * part for part in range(1, 11)]
    assert len(every) == 20
    pieces = rows(result, "throughput of 3,000 commands")
    assert pieces == {"first": (every[0],), "last": (every[-1],), "slowest": (min(every),)}
    ratio = rows(result, "last 3,000 commands against the first")["ladder"]
    assert ratio == pytest.approx((every[-1] / every[0],))
    in_turns = rows(result, "3,000 commands, a new book and the old one in turns")
    assert {book: len(values) for book, values in in_turns.items()} == {"new book": 9, "old book": 9}
    assert min(min(values) for values in in_turns.values()) > 0
    memory = rows(result, "resident memory")
    assert list(memory) == ["after the warm-up", "at the end"]
    assert all(values[0] > 1_000_000 for values in memory.values())


def curve(result: BenchResult) -> list[tuple[Any, tuple[float, ...]]]:
    """Throughput by commands so far; time of a command says the same."""
    rates = [row for row in result.micro if row.name == "throughput along the run"]
    times = [row for row in result.micro if row.name == "time of a command along the run"]
    for rate, time in zip(rates, times, strict=True):
        assert rate.axis == time.axis == "commands_so_far"
        assert rate.values == pytest.approx([1e9 / value for value in time.values])
    return [(row.parameters["commands_so_far"], row.values) for row in rates]


def test_few_pieces_are_told_one_by_one() -> None:
    result = run(TINY._replace(commands=9_000, scenario="flash-crash"))
    assert [(position, len(values)) for position, values in curve(result)] == [
        (3_000, 1),
        (6_000, 1),
        (9_000, 1),
    ]


def test_a_piece_moves_on_and_keeps_its_shape() -> None:
    run = endurance_bench._Run(TINY, 0)
    size = TINY.piece_commands * 64
    first = np.frombuffer(bytes(endurance_bench.view_bytes(run._commands, size)), COMMAND_DTYPE)
    run.move_on()
    second = np.frombuffer(bytes(endurance_bench.view_bytes(run._commands, size)), COMMAND_DTYPE)
    for field in ("kind", "side", "time_in_force", "order_type", "symbol_id", "session_id", "quantity_lots"):
        assert (first[field] == second[field]).all()
    assert first["sequence"].tolist() == list(range(1, TINY.piece_commands + 1))
    assert (second["sequence"] == first["sequence"] + TINY.piece_commands).all()
    assert (second["price_ticks"] == first["price_ticks"] + PRICE_STEP_TICKS).all()
    assert second["timestamp_ns"][0] > first["timestamp_ns"][-1]
    entered = first["kind"] != 4
    assert second["order_id"][entered].min() > first["order_id"].max()
    assert (second["new_order_id"] - first["new_order_id"] == second["order_id"] - first["order_id"]).all()
    assert set(first["session_id"][~entered]) == set(first["session_id"][entered])


def test_a_book_that_does_other_work_later_makes_the_comparison_void(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a book would that runs out of room after a while: here because ids come twice."""
    moved: list[int] = []

    def move_badly(commands: int, count: int, *shifts: int) -> None:
        moved.append(count)
        move_commands(commands, count, *shifts)
        if len(moved) == 3:
            records = np.frombuffer(endurance_bench.view_bytes(commands, count * 64), COMMAND_DTYPE)
            records["order_id"][:100] = records["order_id"][0]

    monkeypatch.setattr(endurance_bench, "move_commands", move_badly)
    assert run().comparison_void is not None
    assert str(run_void(monkeypatch)).startswith("piece 2 ended with ")


def run_void(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run whose second piece leaves orders behind."""
    counted: list[int] = []

    def count(state: Any) -> int:
        counted.append(1)
        return 7 if len(counted) == 3 else 0

    monkeypatch.setattr(endurance_bench, "move_commands", move_commands)
    monkeypatch.setattr(endurance_bench, "live_order_count", count)
    return run().comparison_void


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            TINY._replace(commands=61_000),
            "commands = 61000: must be 2 to 1,000,000 times 3,000, each of which is timed by itself",
        ),
        (
            TINY._replace(commands=3_000),
            "commands = 3000: must be 2 to 1,000,000 times 3,000, each of which is timed by itself",
        ),
        (
            TINY._replace(capacity_orders=3),
            r"capacity_orders = 3: in scenario normal \d+ orders rest at once",
        ),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(plan: EnduranceBenchPlan, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        run(plan)


def test_address_of_a_record_array_is_what_the_kernel_moves() -> None:
    records = np.zeros(2, COMMAND_DTYPE)
    records["order_id"] = [-1, 2**63 - 1]
    move_commands(address_of(records), 2, 1, 10, 100)
    assert records["order_id"].tolist() == [0, -(2**63)]
    assert records["price_ticks"].tolist() == [10, 10]
    assert records["sequence"].tolist() == [2, 2]


def test_the_command_line_makes_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endurance_bench, "run_endurance_bench", lambda plan, command_line, progress: plan)
    choice = MicroChoice((), None, False, None, False, (), None, None, "exchange bench endurance")
    make = MICRO_BENCHMARKS["endurance"].run
    assert make(choice, Progress()) == EnduranceBenchPlan()
    assert make(choice._replace(quick=True), Progress()) == EnduranceBenchPlan(commands=10_000_000)
    choice = choice._replace(scenario="static", seed=2, commands=2_000_000, quick=True)
    assert make(choice, Progress()) == EnduranceBenchPlan(commands=2_000_000, scenario="static", seed=2)
