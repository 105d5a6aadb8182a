"""``exchange bench snapshot`` at a tiny size: every step told, what came back is the same, and a difference is said."""

from pathlib import Path

import pytest

from exchange.bench import snapshot_bench
from exchange.bench.results import from_json, to_json
from exchange.bench.runner import Progress
from exchange.bench.snapshot_bench import STEPS, SnapshotBenchPlan, run_snapshot_bench
from exchange.cli_micro import MICRO_BENCHMARKS, MicroChoice
from exchange.errors import UserError

TINY = SnapshotBenchPlan(orders=5_000, symbols=3, rounds=2)
COMMAND = "exchange bench snapshot"


def test_every_step_is_told(tmp_path: Path) -> None:
    steps: list[str] = []
    totals: list[int] = []
    plan = TINY._replace(directory=tmp_path)
    result = run_snapshot_bench(plan, COMMAND, Progress(totals.append, steps.append))
    result = from_json(to_json(result), "a smoke run")
    assert totals == [len(steps)]
    assert (result.kind, result.comparison_void) == ("snapshot", None)
    named = [*STEPS, *(f"{step}, processor time" for step in STEPS), "size of the file"]
    assert [row.name for row in result.micro] == named
    for row in result.micro:
        assert row.parameters == {"orders": 5_000, "symbols": 3}
        assert len(row.values) == 2
        assert min(row.values) >= 0
    assert 5_000 * 64 < result.micro[-1].values[0] < 5_000 * 64 + 8192
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_book_that_came_back_differently_makes_it_void(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digests = iter(["first", "warming up", "first", "other"])
    monkeypatch.setattr(snapshot_bench, "_digest", lambda *_: next(digests))
    result = run_snapshot_bench(TINY._replace(directory=tmp_path), COMMAND, Progress())
    assert (
        result.comparison_void == "the book that was put back has the digest other, and the first one first"
    )


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^cannot write to {tmp_path}/none: No such file or directory$"):
        run_snapshot_bench(TINY._replace(directory=tmp_path / "none"), COMMAND, Progress())


def test_the_command_line_makes_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_bench, "run_snapshot_bench", lambda plan, command_line, progress: plan)
    choice = MicroChoice((), None, False, None, False, (), None, None, COMMAND)
    make = MICRO_BENCHMARKS["snapshot"].run
    assert make(choice, Progress()) == SnapshotBenchPlan()
    assert make(choice._replace(quick=True), Progress()) == SnapshotBenchPlan(orders=100_000, rounds=3)
    choice = choice._replace(orders=10_000_000, seed=7, rounds=1)
    assert make(choice, Progress()) == SnapshotBenchPlan(orders=10_000_000, seed=7, rounds=1)
