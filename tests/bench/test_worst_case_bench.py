"""``exchange bench worst-cases`` at a tiny size, and the cases themselves: they do what their names say, on both
books, and none of them makes the ladder take memory without bound. Nothing here measures a time."""

import numpy as np
import pytest

from exchange.bench import worst_case_bench
from exchange.bench.report import render_report
from exchange.bench.results import BenchResult, from_json, to_json
from exchange.bench.runner import Progress
from exchange.bench.summary import micro_families, micro_groups
from exchange.bench.symbols_bench import resident_bytes
from exchange.bench.worst_case_bench import WorstCaseBenchPlan, run_worst_case_bench
from exchange.bench.worst_cases import CASES, CLEAR, Case, Script
from exchange.book import build_book
from exchange.book.config import LadderBookConfig
from exchange.book.id_index import id_hash
from exchange.errors import UserError
from exchange.limits import PRICE_TICKS_MAX, PRICE_TICKS_MIN
from exchange.messages import BUY, EVENT_DTYPE, CommandKind, EventKind
from tests.book_driver import BookDriver

TINY = WorstCaseBenchPlan(sizes=(64, 200), interpreted_sizes=(64, 100), rounds=2, events_least=500)

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def run(plan: WorstCaseBenchPlan = TINY) -> BenchResult:
    steps: list[str] = []
    totals: list[int] = []
    result = run_worst_case_bench(plan, "exchange bench worst-cases", Progress(totals.append, steps.append))
    assert totals == [len(steps)]
    return from_json(to_json(result), "a smoke run")


@pytest.fixture(scope="module")
def result() -> BenchResult:
    return run()


def case_named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def driver_for(kind: str, capacity_orders: int) -> BookDriver:
    return BookDriver(
        kind,
        capacity_orders=capacity_orders,
        price_min_ticks=PRICE_TICKS_MIN,
        price_max_ticks=PRICE_TICKS_MAX,
    )


def events_of(driver: BookDriver, script: Script) -> np.ndarray:
    driver.play(script.prepare)
    return np.frombuffer(driver.play(script.timed), EVENT_DTYPE)


def test_every_case_is_a_curve_of_both_books(result: BenchResult) -> None:
    families = micro_families(result)
    assert [family.name for family in families] == [case.name for case in CASES]
    assert micro_groups(result) == []
    for family in families:
        assert (family.axis, family.unit, family.better) == ("orders", "ns", "lower")
        curves = {curve.variant: [point.position for point in curve.points] for curve in family.curves}
        assert curves == {"naive": [64, 100], "ladder": [64, 200]}
        assert all(point.values.rounds == 2 for curve in family.curves for point in curve.points)
        assert all(point.values.minimum > 0 for curve in family.curves for point in curve.points)


def test_the_report_has_a_plot_for_each_case(result: BenchResult) -> None:
    page = render_report(result)
    assert page.count("<svg") == 2 * len(CASES)
    assert "Worst cases benchmark" in page


def test_a_size_beyond_a_cases_own_bound_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worst_case_bench, "CASES", (CASES[0]._replace(orders_max=100), CASES[1]))
    families = micro_families(run(TINY._replace(rounds=1)))
    assert [family.positions for family in families] == [(64, 100), (64, 100, 200)]


@pytest.mark.parametrize("kind", list(EventKind))
def test_a_book_that_does_something_else_is_not_measured(
    kind: EventKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(count: int) -> Script:
        right = CASES[0].script(count)
        return right._replace(events={**right.events, kind: right.events.get(kind, 0) + 1})

    monkeypatch.setattr(worst_case_bench, "CASES", (CASES[0]._replace(script=script),))
    with pytest.raises(RuntimeError, match="one order sweeps one price, 64 orders, naive: events"):
        run()


@each_case
@pytest.mark.parametrize("kind", ["naive", "ladder"])
def test_a_case_causes_the_events_it_promises_and_can_be_played_again(case: Case, kind: str) -> None:
    script = case.script(150)
    driver = driver_for(kind, 150 + worst_case_bench.ORDERS_MIN)
    for _ in range(2):
        seen = np.bincount(events_of(driver, script)["kind"], minlength=7).tolist()
        assert seen == [script.events.get(EventKind(number), 0) if number else 0 for number in range(7)]
        driver.play(CLEAR)
        assert driver.live_order_count() == 0


@each_case
def test_a_case_fits_the_memory_that_is_laid_out_for_it(case: Case) -> None:
    script = case.script(150)
    for commands in (script.prepare, script.timed):
        assert len(commands) <= worst_case_bench.COMMANDS_PER_ORDER * 150
    again = case.script(150)
    assert (again.prepare == script.prepare).all()
    assert (again.timed == script.timed).all()


@each_case
def test_after_a_first_time_no_case_takes_new_memory(case: Case) -> None:
    """What is released is used again, wherever in the band the market goes."""
    script = case.script(1_200)
    capacity_orders = 1_200 + worst_case_bench.ORDERS_MIN
    driver = driver_for("ladder", capacity_orders)
    driver.owner = build_book(LadderBookConfig(capacity_orders=capacity_orders, huge_pages="never"), 1)
    driver.state = driver.owner.state
    sizes = []
    for _ in range(4):
        events_of(driver, script)
        driver.play(CLEAR)
        sizes.append(resident_bytes(driver.owner.arena))
    assert sizes[3] == sizes[2]


def test_a_sweep_is_one_command_that_takes_every_order_in_turn() -> None:
    for name, prices in (("one order sweeps one price", 1), ("one order sweeps as many prices", 150)):
        script = case_named(name).script(150)
        assert len(script.timed) == 1
        assert len(np.unique(script.prepare["price_ticks"])) == prices
        events = events_of(driver_for("ladder", 300), script)
        assert events["other_order_id"][1:].tolist() == list(range(1, 151))


def test_orders_far_from_all_others_have_the_whole_band_between_them() -> None:
    script = case_named("every order far from all others").script(1_000)
    news = script.timed[script.timed["kind"] == CommandKind.NEW]
    gaps = np.diff(np.sort(news["price_ticks"]))
    assert gaps.min() > 4096  # no two of them on one page of the ladder
    assert gaps.min() * 1_001 > 0.99 * (PRICE_TICKS_MAX - PRICE_TICKS_MIN)


@pytest.mark.parametrize("name", ["the next a tick away", "the next far away"])
def test_it_is_always_the_best_price_that_is_cancelled(name: str) -> None:
    script = case_named(f"best prices cancelled in turn, {name}").script(100)
    driver = driver_for("ladder", 200)
    driver.play(script.prepare)
    for at in range(0, len(script.timed), 4):
        assert driver.top()[0] == 3
        _, (bid, _, ask, _) = driver.top()
        assert script.timed[at + 1]["price_ticks"] == bid
        assert script.timed[at + 3]["price_ticks"] == ask
        driver.play(script.timed[at : at + 4])
    assert driver.top()[0] == 0


def test_the_price_that_comes_and_goes_is_the_best_and_far_from_the_next() -> None:
    script = case_named("a best price that comes and goes, the others far away").script(100)
    driver = driver_for("ladder", 200)
    driver.play(script.prepare)
    _, (behind, *_) = driver.top()
    driver.play(script.timed[:1])
    _, (best, *_) = driver.top()
    assert best == script.timed[0]["price_ticks"]
    assert best - behind > (PRICE_TICKS_MAX - PRICE_TICKS_MIN) // 3
    assert (script.prepare["side"] == BUY).all()


def test_ids_chosen_to_collide_do_and_the_others_do_not() -> None:
    def hashes(name: str) -> int:
        script = case_named(name).script(500)
        ids = script.timed["order_id"][script.timed["kind"] == CommandKind.NEW]
        assert len(np.unique(ids)) == 500
        return len({id_hash(0, int(order_id)) for order_id in ids})

    assert hashes("ids chosen to collide") == 1
    for name in (
        "ids in sequence",
        "ids at random",
        "ids that are multiples of 2**20",
        "ids that are multiples of 2**44",
    ):
        assert hashes(name) == 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (10,)}, "sizes: 10 orders; must be 64 to 1048576"),
        ({"interpreted_sizes": (1 << 21,)}, "interpreted_sizes: 2097152 orders; must be 64 to 1048576"),
        ({"sizes": ()}, "sizes: at least one, each once"),
        ({"sizes": (64, 64)}, "sizes: at least one, each once"),
        ({"interpreted_sizes": (64, 64)}, "interpreted_sizes: at least one, each once"),
        ({"rounds": 0}, "rounds = 0: must be at least 1"),
        ({"events_least": 0}, "events_least = 0: must be at least 1"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        run(TINY._replace(**change))  # type: ignore[arg-type]


def test_the_usual_plan_reaches_what_was_asked_of_it() -> None:
    usual = WorstCaseBenchPlan()
    reached = {case.name: [size for size in usual.sizes if size <= case.orders_max] for case in CASES}
    assert max(reached["one order sweeps one price"]) == 100_000
    assert max(reached["orders on one price, cancelled in any order"]) == 1_000_000
    assert all(len(sizes) >= 2 for sizes in reached.values())
    quick = WorstCaseBenchPlan.quick()
    assert all(sum(size <= case.orders_max for size in quick.sizes) >= 2 for case in CASES)
