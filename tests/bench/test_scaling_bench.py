"""``exchange bench scaling`` at a tiny size, its loops, and the sentences that follow from counts."""

import time
from contextlib import ExitStack

import numpy as np
import pytest
from click.testing import CliRunner

from exchange.bench.report import render_report
from exchange.bench.results import BenchResult, from_json, to_json
from exchange.bench.runner import Progress
from exchange.bench.scaling_bench import (
    COMMAND,
    EFFICIENCY,
    FEED_BUSY,
    SHARDS_BUSY,
    THROUGHPUT,
    ScalingBenchPlan,
    place,
    run_scaling_bench,
    usual_counts,
    variants_of,
)
from exchange.bench.scaling_loops import spin_arithmetic
from exchange.bench.scaling_reasons import Point, Variation, findings, reason
from exchange.bench.scaling_setup import Setup, Variant, WrongBooks, interleave, loop_names
from exchange.bench.wording import verdict
from exchange.book.naive import NaiveBook
from exchange.cli_bench import bench
from exchange.errors import UserError
from exchange.flow import build_flow
from exchange.flow.config import SyntheticConfig
from exchange.forked_child import ChildDied
from exchange.matching.digest import state_digest
from exchange.messages import Command
from exchange.native import Arena, load_int64
from exchange.placement.topology import read_synthetic, read_this_machine

TINY = ScalingBenchPlan(shards=(1, 2), commands=3_000, symbols=3, rounds=2, arithmetic_steps=1_000)
CORES = len(read_this_machine().usable_cores)
needs_two_cores = pytest.mark.skipif(CORES < 2, reason="takes two cores, and this machine has one")


@pytest.fixture(scope="module")
def result() -> BenchResult:
    steps: list[str] = []
    totals: list[int] = []
    made = run_scaling_bench(TINY, "exchange bench scaling", Progress(totals.append, steps.append))
    assert totals == [len(steps)]
    return from_json(to_json(made), "a smoke run")


def test_every_number_of_shards_is_measured_or_the_reason_is_told(result: BenchResult) -> None:
    for variant in variants_of(()):
        for shards in (1, 2):
            needed = len(loop_names(variant, shards))
            (row,) = (
                one
                for one in result.micro
                if (one.name, one.variant) == (THROUGHPUT, variant.runs)
                and one.parameters == {"shards": shards, "layout": variant.layout}
            )
            if needed > CORES:
                assert row.values == ()
                assert row.skipped is not None
                assert row.skipped.startswith(f"they take {needed} cores, and this machine has {CORES} core")
            else:
                assert len(row.values) == 2
                assert min(row.values) > 0
    for row in result.micro:
        if row.name in (SHARDS_BUSY, FEED_BUSY):
            assert all(0 < value <= 100 for value in row.values)
        if row.name == EFFICIENCY and row.parameters["shards"] == 1:
            assert row.values == (1.0, 1.0)


@needs_two_cores
def test_a_shards_time_is_that_of_its_own_commands(result: BenchResult) -> None:
    rows = {
        (one.name, one.parameters["shards"]): one.values
        for one in result.micro
        if one.variant == "processes" and one.parameters.get("layout") == "a feed each"
    }
    for shards in (1, 2):
        for rate, time_ns in zip(rows[THROUGHPUT, shards], rows[COMMAND, shards], strict=True):
            assert rate * time_ns == pytest.approx(shards * 1e9)
    for one, alone, ratio in zip(rows[THROUGHPUT, 2], rows[THROUGHPUT, 1], rows[EFFICIENCY, 2], strict=True):
        assert ratio == pytest.approx(one / alone / 2)


def test_what_it_says_is_in_the_report_and_names_the_cores(result: BenchResult) -> None:
    sentences = verdict(result)
    machine = read_this_machine()
    (unit,) = (one.processing_unit for one in place(machine, variants_of(())[0], 1).assignments)
    assert sentences[0].startswith(f"threads, a feed each: 1 shard on unit {unit}, ")
    assert any(one.startswith("processes, one feed: ") for one in sentences)
    assert "a feed each" in render_report(result)


def test_a_plan_that_cannot_be_is_refused() -> None:
    for plan, told in (
        (TINY._replace(shards=(2, 1)), "shards: 2, 1; must ascend, each number once"),
        (TINY._replace(shards=(65,)), "shards: 65; must be 1 to 64"),
        (TINY._replace(commands=0), "commands = 0: must be at least 1"),
        (
            TINY._replace(kinds=("coroutines",)),
            "scaling kind 'coroutines': must be one of threads, processes",
        ),
        (TINY._replace(symbols=60_000), "symbols = 60000: 2 shards have more than 65535 of them"),
    ):
        with pytest.raises(UserError, match=told):
            run_scaling_bench(plan, "", Progress())
    refused = CliRunner().invoke(bench, ["scaling", "--shards", "1,x"])
    assert "'1,x': must be numbers with commas between them, as in 1,2,4" in refused.output


@pytest.mark.skipif(CORES >= 64, reason="a machine of less than 64 cores is needed")
def test_a_machine_without_enough_cores_for_anything_is_told() -> None:
    told = f"^scaling: nothing can be measured: they take 64 cores, and this machine has {CORES} core"
    with pytest.raises(UserError, match=told):
        run_scaling_bench(TINY._replace(shards=(64,), kinds=("threads",)), "", Progress())


def test_the_usual_numbers_are_powers_of_two_and_all_cores() -> None:
    assert [usual_counts(cores) for cores in (1, 2, 3, 8, 12, 100)] == [
        (1,), (1, 2), (1, 2, 3), (1, 2, 4, 8), (1, 2, 4, 8, 12), (1, 2, 4, 8, 16, 32, 64),
    ]  # fmt: skip


def test_kinds_choose_what_runs_the_loops_and_through_which_queues() -> None:
    assert [one.name for one in variants_of(("mpsc", "processes"))] == [
        "processes, mpsc, a feed each",
        "processes, mpsc, one feed",
    ]
    assert len(variants_of(())) == 4
    assert len(variants_of(("spsc", "mpsc"))) == 8


def test_loops_are_placed_on_cores_of_their_own_and_the_first_is_left_to_the_system() -> None:
    machine = read_synthetic("pack:1 l3:1 core:5 pu:2")
    plan = place(machine, Variant("threads", "one feed", "spsc"), 3)
    assert [one.thread for one in plan.assignments] == ["feed", "shard.0", "shard.1", "shard.2"]
    assert sorted(one.processing_unit or 0 for one in plan.assignments) == [2, 4, 6, 8]


# A setup by itself.


def flows(count: int) -> list[np.ndarray]:
    return [
        build_flow(SyntheticConfig(commands=2_000, symbols=3, seed=seed)).commands for seed in range(count)
    ]


def test_flows_are_interleaved_with_symbols_of_their_own() -> None:
    first, second = flows(2)
    whole = interleave([first, second])
    assert whole["order_id"][::2].tolist() == first["order_id"].tolist()
    assert whole["symbol_id"][1::2].tolist() == (second["symbol_id"] * 2 + 1).tolist()
    assert interleave([first]).tobytes() == first.tobytes()


@needs_two_cores
@pytest.mark.parametrize("run_as", ["threads", "processes"])
def test_a_pass_leaves_the_books_of_the_textbook_whoever_runs_the_loops(run_as: str) -> None:
    naive = NaiveBook(3, 10_000, 1, 2**36 - 1)
    (flow,) = flows(1)
    for one in flow:
        naive.apply(Command(*one.item()))
    variant = Variant(run_as, "one feed", "spsc")  # type: ignore[arg-type]
    with Setup(variant, [flow], place(read_this_machine(), variant, 1), 10_000, 3) as setup:
        setup.digests = [state_digest([naive], [0, 0, 0])]
        for _ in range(2):
            done = setup.play()
            assert [loop.name for loop in done.loops] == ["feed", "shard.0"]
            assert all(loop.busy_ns + loop.idle_ns <= loop.elapsed_ns for loop in done.loops)
            assert all(loop.busy_ns > 0 for loop in done.loops)
            assert (done.commands, done.elapsed_ns > 0) == (2_000, True)
        setup.digests = ["another"]
        with pytest.raises(WrongBooks, match=r"and not another$"):
            setup.play()


@needs_two_cores
def test_a_process_that_dies_in_a_pass_is_told() -> None:
    variant = Variant("processes", "a feed each", "spsc")
    with ExitStack() as stack:
        setup = stack.enter_context(
            Setup(variant, flows(1), place(read_this_machine(), variant, 1), 10_000, 3)
        )
        with pytest.raises(WrongBooks):
            setup.play()  # it has not been told what is right
        (child,) = setup._children
        child.kill()
        assert child.wait(10)
        began = time.monotonic()
        with pytest.raises(ChildDied, match="was ended by SIGKILL"):
            setup.play()
        assert time.monotonic() - began < 10


def test_arithmetic_is_done() -> None:
    arena = Arena.private(64)
    few, many = (min(spin_arithmetic(steps, arena.address) for _ in range(5)) for steps in (1_000, 100_000))
    assert many > 10 * few
    assert load_int64(arena.address) != 0


# What follows from counts.

ALONE = Point(1, (1,), 10e6, 1.0, 100.0, 100.0, None, 0.0, 0.0, 0.0, 1.0)


def test_a_machine_that_is_busy_with_something_else_is_told() -> None:
    told = reason(ALONE._replace(shards=2, efficiency=0.6, without_core_percent=30.0), ALONE)
    assert told == "for 30 % of the time its loops had no core, because something else runs on this machine"


def test_a_feed_that_is_saturated_is_told() -> None:
    alone = ALONE._replace(feed_busy_percent=60.0, shards_busy_percent=95.0)
    told = reason(
        alone._replace(
            shards=4, efficiency=0.5, command_ns=200.0, feed_busy_percent=99.0, shards_busy_percent=45.0
        ),
        alone,
    )
    assert told == (
        "the loop that feeds them all was busy 99 % of the time, and they were idle 55 %, with 0 pushes refused in a"
        " thousand commands: the feed is saturated"
    )


@pytest.mark.parametrize(
    ("arithmetic_ns", "told"),
    [(1.5, "the cores themselves"), (1.02, "wait for each other's caches or for memory")],
)
def test_cores_that_hold_each_other_up_are_told_from_memory(arithmetic_ns: float, told: str) -> None:
    slow = ALONE._replace(shards=2, efficiency=0.66, command_ns=150.0, arithmetic_ns=arithmetic_ns)
    said = reason(slow, ALONE)
    assert said.startswith(
        f"a command keeps a shard busy × 1.50 as long, and arithmetic alone takes × {arithmetic_ns:.2f}"
    )
    assert told in said


def test_what_no_count_explains_is_left_unexplained() -> None:
    idle = ALONE._replace(
        shards=2, efficiency=0.7, command_ns=142.0, shards_busy_percent=70.0, outbox_refused=3.0
    )
    assert reason(idle, ALONE).endswith("none of that is enough to say why")


def test_the_sentences_of_a_variant() -> None:
    two = ALONE._replace(shards=2, units=(0, 1), per_second=19e6, efficiency=0.95)
    assert findings(Variation("threads, a feed each", (ALONE, two), {}, 2)) == [
        "threads, a feed each: 1 shard on unit 1, 10 M commands/s; 2 shards on units 0, 1, 19 M commands/s (× 1.90,"
        " 95 % of a shard alone).",
        "threads, a feed each: nothing stops it up to 2 shards; then the cores are used up, of which there are 2.",
    ]
    missing = {4: "they take 4 cores, and this machine has 2 cores"}
    slow = two._replace(efficiency=0.6, without_core_percent=20.0)
    assert findings(Variation("x", (ALONE, slow), missing, 2))[1:] == [
        "x: with 2 shards each does less than alone: for 20 % of the time its loops had no core, because something else"
        " runs on this machine.",
        "x: not measured: 4 shards, they take 4 cores, and this machine has 2 cores.",
    ]
    assert findings(Variation("x", (), missing, 2)) == [
        "x: not measured: 4 shards, they take 4 cores, and this machine has 2 cores."
    ]
    assert findings(Variation("x", (ALONE, two), {}, None))[1:] == ["x: nothing stops it up to 2 shards."]
