"""Smoke runs of the micro-benchmarks of queues, stacks and latest values: that they measure, not how fast."""

import threading
from pathlib import Path
from typing import Any, NoReturn

import pytest

from exchange.bench import latest_value_bench, micro, queue_bench, stack_bench
from exchange.bench.latest_value_bench import LATEST_VALUE_KINDS, LatestValueBenchPlan, run_latest_value_bench
from exchange.bench.micro import Cores, Machine, StoodStill, Table, choose_cores, in_turns, run_pinned
from exchange.bench.queue_bench import QUEUE_KINDS, QueueBenchPlan, run_queue_bench
from exchange.bench.results import BenchResult, from_json, to_json
from exchange.bench.risk_bench import BATCH, RISK_KINDS, RiskBenchPlan, run_risk_bench
from exchange.bench.runner import Progress
from exchange.bench.stack_bench import STACK_KINDS, StackBenchPlan, run_stack_bench
from exchange.errors import UserError
from exchange.native import Arena, load_relaxed
from tests.queue_drivers import EXAMPLE_QUEUE

TINY = QueueBenchPlan(records=500, round_trips=50, rounds=2, capacities=(4, 64), batches=(1, 8))
USER_KIND = f"file:{EXAMPLE_QUEUE}:MyQueue"


def rows(result: BenchResult, name: str) -> dict[tuple[str, Any], tuple[float, ...]]:
    """The values of the rows of that name by variant and first parameter."""
    return {
        (row.variant, next(iter(row.parameters.values()))): row.values
        for row in result.micro
        if row.name == name
    }


def check_result(result: BenchResult, kind: str, rounds: int) -> None:
    """What holds for every micro-benchmark: a value for each round, and the file can be read back."""
    assert result.kind == kind
    assert result.host["fingerprint"]
    assert all(
        len(row.values) == rounds and min(row.values) > 0 and row.skipped is None for row in result.micro
    )
    assert all(row.parameters["cores"] for row in result.micro)
    assert from_json(to_json(result), "itself").micro == result.micro


def test_the_queue_benchmark_measures_every_variant_and_a_users_own_beside_them() -> None:
    steps: list[str] = []
    totals: list[int] = []
    kinds = [*QUEUE_KINDS, USER_KIND]
    result = run_queue_bench(kinds, TINY, "exchange bench queue", Progress(totals.append, steps.append))
    check_result(result, "queue", rounds=2)
    assert [row.variant for row in result.micro if row.name == "throughput"] == kinds * 4
    cells = {
        (row.parameters["records_per_push"], row.parameters["capacity_slots"]) for row in result.micro[1:25]
    }
    assert cells == {(1, 4), (8, 4), (1, 64), (8, 64)}
    for percent in (50, 99):
        assert {variant for variant, _ in rows(result, f"round trip of one record, p{percent}")} == set(kinds)
    assert totals == [len(steps)]


def test_the_stack_benchmark_measures_both_variants_alone_and_contended() -> None:
    result = run_stack_bench(
        [], StackBenchPlan(operations=2_000, rounds=2), "exchange bench stack", Progress()
    )
    check_result(result, "stack", rounds=2)
    measured = rows(result, "buffers acquired and released")
    assert set(measured) == {(kind, threads) for kind in STACK_KINDS for threads in (1, 2)}


def test_the_latest_value_benchmark_measures_both_variants_in_three_situations() -> None:
    result = run_latest_value_bench(
        [], LatestValueBenchPlan(seconds=0.02, rounds=2), "exchange bench", Progress()
    )
    check_result(result, "latest-value", rounds=2)
    writing, reading = rows(result, "publications"), rows(result, "whole reads")
    assert set(writing) == {
        (kind, situation)
        for kind in LATEST_VALUE_KINDS
        for situation in ("nobody reads", "both without pause")
    }
    assert set(reading) == {
        (kind, situation)
        for kind in LATEST_VALUE_KINDS
        for situation in ("both without pause", "one every microsecond")
    }


def test_on_one_core_the_threads_take_turns_and_the_result_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    core = choose_cores().first
    for bench in (queue_bench, stack_bench, latest_value_bench):
        monkeypatch.setattr(bench, "choose_cores", lambda: Cores(core, core))
    plan = QueueBenchPlan(records=200, round_trips=20, rounds=1, capacities=(4,), batches=(1,))
    results = [
        run_queue_bench(["python", "spsc"], plan, "exchange bench queue", Progress()),
        run_stack_bench([], StackBenchPlan(operations=200, rounds=1), "exchange bench stack", Progress()),
        run_latest_value_bench(
            [], LatestValueBenchPlan(seconds=0.02, rounds=1), "exchange bench", Progress()
        ),
    ]
    for result in results:
        check_result(result, result.kind, rounds=1)
        assert {row.parameters["cores"] for row in result.micro} == {f"{core} only"}
        assert "Only one core may be used" in result.warnings[0]


def broken_queue(folder: Path, old: str, new: str) -> str:
    """The kind of a queue file that is the example with a fault in it."""
    text = EXAMPLE_QUEUE.read_text()
    assert text.count(old) == 1
    path = folder / "broken.py"
    path.write_text(text.replace(old, new))
    return f"file:{path}:MyQueue"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        # takes from the slot behind: all records arrive, one place too late
        ("64 * ((head + index) &", "64 * ((head + index + 1) &", "of them not in their turn"),
        # never says that there is a record
        ("polled = min(load_acquire(queue.ring + TAIL) - head, limit)", "polled = 0", "not done after"),
        # does not compile
        ("tail = load_acquire(queue.ring + TAIL)", "tail = 'none'", "it failed: TypingError"),
    ],
)
def test_a_users_queue_that_does_not_work_is_left_out_and_the_result_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, reason: str
) -> None:
    monkeypatch.setattr(micro, "PATIENCE_S", 3.0)
    kind = broken_queue(tmp_path, old, new)
    plan = QueueBenchPlan(records=300, round_trips=20, rounds=2, capacities=(64,), batches=(1,))
    result = run_queue_bench(["spsc", kind], plan, "exchange bench queue", Progress())
    by_variant = {row.variant: row for row in result.micro if row.name == "throughput"}
    assert len(by_variant["spsc"].values) == 2
    assert by_variant[kind].values == ()
    assert reason in (by_variant[kind].skipped or "")
    assert "\n" not in (by_variant[kind].skipped or "")


@pytest.mark.parametrize(
    ("kinds", "complaint"),
    [
        (
            ["spsc", "fast"],
            "queue kind 'fast': must be one of python, locked, spsc, mpsc, disruptor, file:PATH:CLASS",
        ),
        (["spsc", "spsc"], "queue kind 'spsc' is named twice"),
        (["file:my_queue.py"], "queue kind 'file:my_queue.py': must be file:PATH:CLASS"),
        (["file:./no_such_file.py:MyQueue"], "no_such_file.py: No such file or directory"),
    ],
)
def test_a_kind_that_cannot_be_measured_is_refused(kinds: list[str], complaint: str) -> None:
    with pytest.raises(UserError) as raised:
        run_queue_bench(kinds, TINY, "exchange bench queue", Progress())
    assert complaint in str(raised.value)


def test_other_benchmarks_refuse_unknown_kinds_too() -> None:
    with pytest.raises(UserError, match="stack kind 'spsc': must be one of locked, treiber"):
        run_stack_bench(["spsc"], StackBenchPlan(), "", Progress())
    with pytest.raises(UserError, match="latest-value kind 'treiber': must be one of locked, seqlock"):
        run_latest_value_bench(["treiber"], LatestValueBenchPlan(), "", Progress())


def test_pinned_threads_pass_on_results_failures_and_standstills(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = Arena.private(4096, huge_pages="never")
    stop = arena.allocate(8)
    core = choose_cores().first

    def wait_for_stop() -> str:
        while load_relaxed(stop) == 0:
            threading.Event().wait(0.001)
        return "stopped"

    assert run_pinned([(core, lambda: 1), (core, lambda: "two")], stop) == [1, "two"]
    assert run_pinned([(core, wait_for_stop)], stop, seconds=0.01) == ["stopped"]
    with pytest.raises(ZeroDivisionError):
        run_pinned([(core, lambda: 1 / 0), (core, wait_for_stop)], stop)
    monkeypatch.setattr(micro, "PATIENCE_S", 0.01)
    with pytest.raises(StoodStill):
        run_pinned([(core, wait_for_stop)], stop)


@pytest.mark.skipif(choose_cores().must_yield, reason="it takes two cores")
def test_cores_that_others_have_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_still(*_: object, **__: object) -> NoReturn:
        raise micro.StoodStill

    cores = choose_cores()
    monkeypatch.setattr(micro, "run_pinned", stand_still)
    with pytest.raises(UserError, match=f"cores {cores}: .* nothing can be measured while others have"):
        Machine(Table(["a"], cores), cores).measure()


def test_a_variant_that_fails_late_loses_the_values_it_had() -> None:
    table = Table(["a", "b"], Cores(0, 1))
    for variant in ("a", "b"):
        table.add("speed", variant, 1.0, "per second", "higher")
    table.skip("b", "it broke")
    assert table.remaining() == ["a"]
    assert [(row.variant, row.values, row.skipped) for row in table.rows()] == [
        ("a", (1.0,), None),
        ("b", (), "it broke"),
    ]


def test_every_round_begins_with_another_variant() -> None:
    assert [in_turns(["a", "b", "c"], index) for index in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_the_risk_benchmark_measures_both_sides_of_the_gateway() -> None:
    steps: list[str] = []
    totals: list[int] = []
    plan = RiskBenchPlan(orders=4 * BATCH, rounds=2)
    result = run_risk_bench((), plan, "exchange bench risk", Progress(totals.append, steps.append))
    check_result(result, "risk", rounds=2)
    assert [row.variant for row in result.micro] == [*RISK_KINDS, *RISK_KINDS]
    assert totals == [len(steps)]
