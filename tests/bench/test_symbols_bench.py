"""``exchange bench symbols`` at a tiny size: every row is there, and what fills the book is what it says."""

import numpy as np
import pytest

from exchange.bench import symbols_bench
from exchange.bench.report import render_report
from exchange.bench.results import BenchResult, from_json, to_json
from exchange.bench.runner import Progress
from exchange.bench.summary import micro_families, micro_groups
from exchange.bench.symbols_bench import (
    PAGES,
    SymbolsBenchPlan,
    replacements,
    resident_bytes,
    resting_orders,
    run_symbols_bench,
)
from exchange.errors import UserError
from exchange.messages import BUY, SELL, CommandKind, EventKind
from exchange.native import Arena, store_int64
from tests.book_driver import BookDriver

TINY = SymbolsBenchPlan(
    symbols=(1, 20), commands=400, warmup_commands=100, rounds=2, full_symbols=30, full_orders=900
)
PRICE_MAX_TICKS = 1 << 30


def run(plan: SymbolsBenchPlan = TINY) -> BenchResult:
    steps: list[str] = []
    totals: list[int] = []
    result = run_symbols_bench(plan, "exchange bench symbols", Progress(totals.append, steps.append))
    assert totals == [len(steps)]
    return from_json(to_json(result), "a smoke run")


@pytest.fixture(scope="module")
def result() -> BenchResult:
    return run()


def test_each_number_of_symbols_is_a_point_of_every_curve(result: BenchResult) -> None:
    families = {family.name: family for family in micro_families(result)}
    assert set(families) == {
        "throughput",
        "time of a command",
        "memory per symbol, empty",
        "memory per symbol, after the flow",
        "memory of the book",
    }
    for name, family in families.items():
        assert [curve.variant for curve in family.curves] == list(PAGES)
        whole = name == "memory of the book"
        assert family.axis == ("orders" if whole else "symbols")
        assert list(family.positions) == ([112, 225, 450, 900] if whole else [1, 20])
        for curve in family.curves:
            assert all(point.values.rounds == 2 and point.values.minimum > 0 for point in curve.points)
    times, rates = families["time of a command"].curves[0], families["throughput"].curves[0]
    for one, other in zip(times.points, rates.points, strict=True):
        assert one.row.values[0] * other.row.values[0] == pytest.approx(1e9)


def test_the_full_book_is_measured_with_both_kinds_of_pages(result: BenchResult) -> None:
    groups = micro_groups(result)
    assert [group.name for group in groups] == [
        "throughput, full book, anywhere",
        "throughput, full book, flow",
    ]
    for group in groups:
        assert [row.result.variant for row in group.rows] == list(PAGES)
        assert group.parameters["book"] == "900 orders in 30 symbols"
        assert all(row.values is not None and row.values.rounds == 2 for row in group.rows)
    assert result.warnings == ()
    assert result.flow is not None
    assert (result.flow.commands, result.flow.symbols) == (500, 30)


def test_memory_grows_with_symbols_and_orders(result: BenchResult) -> None:
    families = {family.name: family for family in micro_families(result)}
    for name in ("memory per symbol, empty", "memory per symbol, after the flow"):
        small = families[name].curves[0]  # 4 KiB pages: huge ones are too coarse for so little
        first, last = (point.values.median * point.position for point in (small.points[0], small.points[-1]))
        assert first <= last
    assert families["memory of the book"].curves[0].change is not None
    assert families["memory of the book"].curves[0].change.ratio > 1


def test_the_report_has_a_plot_for_each_curve(result: BenchResult) -> None:
    page = render_report(result)
    assert page.count("<svg") == 2 * 5 + 2 * 2
    assert "Symbols benchmark" in page


def test_a_book_that_is_larger_than_it_may_be_is_said_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols_bench, "FULL_BYTES_ALLOWED", 1_000)
    (warning,) = run(TINY._replace(symbols=(1,), rounds=1)).warnings
    assert "The full book took up to" in warning


def test_symbols_that_the_model_is_too_coarse_for_are_told() -> None:
    result = run(TINY._replace(symbols=(400,), rounds=1))
    assert result.flow is not None
    assert any(
        note.endswith("of 400 symbols occur in the flow: by Zipf's law with 16-bit shares")
        for note in result.flow.notes
    )


def test_a_full_book_that_lost_an_order_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols_bench, "live_order_count", lambda book: 5)
    with pytest.raises(RuntimeError, match="5 orders rest in the full book, not 900"):
        run(TINY._replace(rounds=1))


def test_the_orders_of_the_full_book_all_rest_and_are_shared_out_by_zipfs_law() -> None:
    orders = resting_orders(50, 2_000, seed=3)
    assert len(np.unique(orders["order_id"])) == 2_000
    counts = np.bincount(orders["symbol_id"], minlength=50)
    assert counts.min() >= 1
    assert (np.diff(counts) <= 1).all()
    assert counts[0] == pytest.approx(1 + 1_950 / np.sum(1 / np.arange(1, 51)), abs=1)
    assert np.bincount(orders["side"]).tolist() == [1_000, 1_000]
    first = orders[orders["symbol_id"] == 0]
    bids, asks = (first["price_ticks"][first["side"] == side] for side in (BUY, SELL))
    assert bids.max() < asks.min()
    assert bids.max() - bids.min() <= 127 >= asks.max() - asks.min()
    assert (resting_orders(50, 2_000, seed=3) == orders).all()


@pytest.mark.parametrize("pairs", [500, 2_700])
def test_replacements_find_their_orders_and_keep_the_book_full(pairs: int) -> None:
    orders = resting_orders(20, 1_000, seed=1)
    commands = replacements(orders, pairs, seed=1)
    driver = BookDriver("ladder", symbol_count=20, capacity_orders=1_000, price_max_ticks=PRICE_MAX_TICKS)
    driver.play(orders)
    assert driver.live_order_count() == 1_000
    kinds = np.frombuffer(driver.play(commands), np.uint8)[::64]
    assert {EventKind(kind): int((kinds == kind).sum()) for kind in np.unique(kinds)} == {
        EventKind.ACCEPTED: pairs,
        EventKind.CANCELED: pairs,
    }
    assert (commands["kind"][0::2] == CommandKind.CANCEL).all()
    assert driver.live_order_count() == 1_000


def test_memory_is_counted_when_it_is_touched() -> None:
    arena = Arena.private(8 << 20, huge_pages="never")
    assert resident_bytes(arena) == 0
    for page in range(10):
        store_int64(arena.address + 4096 * 3 * page, 1)
    assert resident_bytes(arena) == 10 * 4096


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbols": (1, 8_193)}, "symbols: 8193; must be 1 to 8192"),
        ({"symbols": (0,)}, "symbols: 0; must be 1 to 8192"),
        ({"symbols": ()}, "symbols: at least one number of symbols, each once"),
        ({"symbols": (5, 5)}, "symbols: at least one number of symbols, each once"),
        ({"full_orders": 29}, "full_orders = 29: must be 30 to 2097152"),
        ({"full_orders": 1 << 22}, "full_orders = 4194304: must be 30 to 2097152"),
        ({"rounds": 0}, "rounds = 0: must be at least 1"),
        ({"commands": 1}, "commands = 1: must be at least 2"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        run(TINY._replace(**change))  # type: ignore[arg-type]


def test_a_quick_plan_still_fills_the_whole_book() -> None:
    quick, usual = SymbolsBenchPlan.quick(), SymbolsBenchPlan()
    assert (
        (quick.full_symbols, quick.full_orders)
        == (usual.full_symbols, usual.full_orders)
        == (8_000, 2_000_000)
    )
    assert max(quick.symbols) == max(usual.symbols)
    assert quick.commands < usual.commands
