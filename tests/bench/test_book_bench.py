"""``exchange bench book`` at a tiny size: every row is there, and a book that does other work is left out."""

from typing import Any

import pytest

from exchange.bench import book_bench
from exchange.bench.book_bench import BookBenchPlan, run_book_bench
from exchange.bench.results import BenchResult, from_json, to_json
from exchange.bench.runner import Progress
from exchange.book import build_book
from exchange.book.config import NaiveBookConfig
from exchange.errors import UserError

TINY = BookBenchPlan(
    commands=3000, interpreted_commands=300, warmup_commands=200, rounds=3, batches=(1, 16, 256)
)


def run(kinds: list[str], plan: BookBenchPlan = TINY) -> BenchResult:
    return run_book_bench(kinds, plan, "exchange bench book", Progress())


def test_every_variant_has_a_time_and_a_rate_for_each_batch_and_round() -> None:
    result = from_json(to_json(run([])), "a smoke run")
    assert result.kind == "book"
    assert result.flow is not None
    assert (result.flow.commands, result.flow.symbols, result.flow.seed) == (3200, 1, 1)
    rows = {(row.name, row.variant, row.parameters["commands_per_batch"]): row for row in result.micro}
    assert len(rows) == 2 * 2 * 3
    for kind in ("naive", "ladder"):
        for batch in TINY.batches:
            times, rates = rows["time of a command", kind, batch], rows["throughput", kind, batch]
            assert (times.unit, times.better, rates.unit, rates.better) == (
                "ns",
                "lower",
                "commands/s",
                "higher",
            )
            assert len(times.values) == len(rates.values) == TINY.rounds
            assert times.skipped is rates.skipped is None
            for time_ns, rate in zip(times.values, rates.values, strict=True):
                assert time_ns * rate == pytest.approx(1e9)


@pytest.mark.parametrize(("seed", "told"), [(None, 24), (5, 5)])
def test_the_flow_may_be_a_scenario(seed: int | None, told: int) -> None:
    result = run(["ladder"], TINY._replace(scenario="flash-crash", seed=seed))
    assert result.flow is not None
    assert (result.flow.name, result.flow.commands, result.flow.seed) == ("flash-crash", 3200, told)


def test_only_the_named_variants_are_measured() -> None:
    assert {row.variant for row in run(["ladder"]).micro} == {"ladder"}


def test_a_book_that_does_other_work_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    build = book_bench._build

    def build_wrong(kind: str) -> Any:
        if kind == "naive":
            return build_book(NaiveBookConfig(capacity_orders=3), symbol_count=1)
        return build(kind)

    monkeypatch.setattr(book_bench, "_build", build_wrong)
    rows = run(["ladder", "naive"]).micro
    assert {row.skipped for row in rows if row.variant == "naive"} == {
        "its events differ from those of the first variant"
    }
    assert all(row.values == () for row in rows if row.variant == "naive")
    assert all(len(row.values) == TINY.rounds for row in rows if row.variant == "ladder")


@pytest.mark.parametrize(
    ("kinds", "plan", "message"),
    [
        (["tree"], TINY, "book kind 'tree': must be one of naive, ladder"),
        (["naive", "naive"], TINY, "book kind 'naive' is named twice"),
        ([], TINY._replace(batches=(16, 0)), "batches: 0 commands in a batch; must be 1 to 4096"),
        ([], TINY._replace(batches=(4097,)), "batches: 4097 commands in a batch; must be 1 to 4096"),
        ([], TINY._replace(rounds=0), "rounds = 0: must be at least 1"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(
    kinds: list[str], plan: BookBenchPlan, message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        run(kinds, plan)
