"""``exchange bench feed`` at a tiny size: every reader has its rows, and one that reads otherwise is left out."""

from pathlib import Path
from typing import Any

import pytest

from exchange.bench import feed_bench
from exchange.bench.feed_bench import FEED_KINDS, PACKAGES, FeedBenchPlan, run_feed_bench
from exchange.bench.results import BenchResult, from_json, to_json
from exchange.bench.runner import Progress
from exchange.cli_micro import MICRO_BENCHMARKS, MicroChoice
from exchange.errors import UserError
from exchange.flow import load_flow
from exchange.flow.config import SyntheticConfig
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.feed_file import make_day

TINY = FeedBenchPlan(commands=3000, plain_bytes=20_000, symbols=(2, 20), rounds=2)


def run(kinds: list[str], plan: FeedBenchPlan = TINY) -> BenchResult:
    return run_feed_bench(kinds, plan, "exchange bench feed", Progress())


def test_every_reader_has_a_time_and_a_rate_for_each_day_and_round() -> None:
    result = from_json(to_json(run([])), "a smoke run")
    assert result.kind == "feed"
    assert result.flow is not None
    assert (result.flow.commands, result.flow.symbols, result.flow.seed) == (3000, 20, 1)
    rows = {(row.name, row.variant, row.parameters["day"]): row for row in result.micro}
    for kind in FEED_KINDS:
        for day in ("2 symbols", "20 symbols"):
            times, rates = rows["time of a message", kind, day], rows["throughput", kind, day]
            if times.skipped is not None:
                assert times.skipped == f"not installed: pip install {PACKAGES[kind]}"
                continue
            assert len(times.values) == len(rates.values) == TINY.rounds
            for time_ns, rate in zip(times.values, rates.values, strict=True):
                assert time_ns * rate == pytest.approx(1e9)


def test_a_file_of_a_day_can_be_read_instead(tmp_path: Path) -> None:
    day = make_day(load_flow("synthetic", synthetic=SyntheticConfig(commands=500, symbols=3)))
    path = tmp_path / "day.itch"
    path.write_bytes(day)
    result = run(["feed-book", "itch-book"], TINY._replace(source=str(path)))
    assert result.flow is not None
    assert (result.flow.name, result.flow.symbols, result.flow.seed) == (str(path), 3, None)
    assert {row.parameters["day"] for row in result.micro} == {str(path)}


def test_a_reader_with_other_prices_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = feed_bench._READERS["feed-book"]

    def dishonest(day: Any, plan: FeedBenchPlan) -> Any:
        reader = honest(day, plan)
        assert reader.tops is not None
        return reader._replace(tops=lambda: dict.fromkeys(reader.tops(), (1, 2, 3, 4)))

    monkeypatch.setitem(feed_bench._READERS, "itchcpp-book", dishonest)
    monkeypatch.setattr(feed_bench, "PACKAGES", {})
    rows = run(["feed-book", "itchcpp-book"]).micro
    assert {row.skipped for row in rows if row.variant == "itchcpp-book"} == {
        "its best prices differ from those of the first variant"
    }


def test_a_day_is_the_same_each_time_and_without_fault() -> None:
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=2000, symbols=4))
    day = make_day(flow)
    assert make_day(flow) == day
    book = FeedBook(capacity_orders=5000)
    assert book.apply_blocks(day) == len(day) - 2
    assert book.counts().faults == 0
    assert (book.system_event, book.symbols) == ("C", flow.symbols)


def test_the_command_takes_a_file_a_length_and_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[FeedBenchPlan] = []
    monkeypatch.setattr(feed_bench, "run_feed_bench", lambda kinds, plan, line, progress: asked.append(plan))
    choice = MicroChoice((), 3, True, None, False, (), 5_000, 9, "exchange bench feed", "day.itch")
    MICRO_BENCHMARKS["feed"].run(choice, Progress())
    (plan,) = asked
    assert (plan.rounds, plan.commands, plan.seed, plan.source) == (3, 5_000, 9, "day.itch")


@pytest.mark.parametrize(
    ("kinds", "plan", "message"),
    [
        (
            ["moldudp"],
            TINY,
            "feed kind 'moldudp': must be one of feed-book, itch-book, itchcpp-book, itchcpp, plain",
        ),
        ([], TINY._replace(rounds=0), "bench feed: commands, rounds and symbols must be at least 1"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(
    kinds: list[str], plan: FeedBenchPlan, message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        run(kinds, plan)
