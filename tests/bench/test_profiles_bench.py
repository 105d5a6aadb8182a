"""Smoke runs of the profile benchmark, at sizes where no figure means anything: shape, honesty, files, exit codes.

No time is asserted. What is: every profile is measured, digests agree (and a disagreement is loud), rounds are
interleaved, percentiles rise, what the machine does not count is None with a reason.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from exchange.bench.results import BenchResult, from_json
from exchange.bench.runner import BenchPlan, Progress, run_bench
from exchange.errors import UserError
from exchange.flow import Flow, load_flow
from exchange.flow.config import SyntheticConfig
from exchange.settings import load_profile

PLAN = BenchPlan(
    rounds=2,
    warmup_commands=500,
    saturation_ns=1,
    load_fractions=(0.2, 0.4),
    rates=(),
    point_ns=20_000_000,
)


def small_flow(commands: int = 4_000) -> Flow:
    return load_flow("synthetic", synthetic=SyntheticConfig(commands=commands, symbols=3))


@pytest.fixture(scope="module")
def result() -> BenchResult:
    steps: list[str] = []
    profiles = [load_profile("textbook"), load_profile("compiled"), load_profile("lockfree")]
    measured = run_bench(profiles, small_flow(), PLAN, "exchange bench", Progress(step=steps.append))
    saturation = [step.partition(":")[0] for step in steps if "saturation" in step]
    assert saturation == ["textbook", "compiled", "lockfree"] * 2, "rounds take turns"
    return measured


def test_every_profile_is_measured_and_ends_with_the_same_books(result: BenchResult) -> None:
    assert result.comparison_void is None
    assert len({profile.digest for profile in result.profiles}) == 1
    for profile in result.profiles:
        assert [one.round_index for one in profile.saturation_rounds] == [0, 1]
        for one in profile.saturation_rounds:
            assert one.commands > 0
            assert one.commands_per_second == pytest.approx(one.commands / one.elapsed_ns * 1e9)
            assert one.events > one.commands > one.trades > 0


def test_load_points_are_open_loop_and_share_one_load(result: BenchResult) -> None:
    offered = [{point.offered_per_second for point in profile.load_points} for profile in result.profiles]
    assert set.intersection(*offered), "there is a load that all profiles were offered"
    for profile in result.profiles:
        for point in profile.load_points:
            assert point.sample_count == point.commands
            assert point.percentiles is not None
            ladder = msgspec.to_builtins(point.percentiles)
            assert list(ladder.values()) == sorted(ladder.values())


def test_what_the_kernel_does_not_count_is_none_with_a_reason(result: BenchResult) -> None:
    for profile in result.profiles:
        for thread in profile.saturation_rounds[0].threads:
            for name in ("voluntary_switches", "involuntary_switches", "migrations"):
                assert getattr(thread, name) is not None or name in result.not_measured


def test_a_digest_mismatch_voids_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    import exchange.bench.runner as runner

    honest = runner.play

    def lying(settings, *arguments, **options):  # type: ignore[no-untyped-def]
        played = honest(settings, *arguments, **options)
        return played._replace(digest="0" * 16) if settings.name == "lockfree" else played

    monkeypatch.setattr(runner, "play", lying)
    profiles = [load_profile("compiled"), load_profile("lockfree")]
    plan = BenchPlan(1, 100, 1, (0.2,), (), 20_000_000)
    void = run_bench(profiles, small_flow(2_000), plan, "exchange bench", Progress())
    assert void.comparison_void is not None
    assert "lockfree" in void.comparison_void


def test_a_flow_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="a benchmark needs more"):
        run_bench([load_profile("compiled")], small_flow(1), PLAN, "exchange bench", Progress())


def exchange(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exchange", *arguments],
        capture_output=True, text=True, timeout=240, check=False, cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


def test_the_command_writes_what_it_says(tmp_path: Path) -> None:
    arguments = ("bench", "compiled", "lockfree", "--quick", "--rounds", "1", "--commands", "3000")
    for name in ("a.json", "b.json"):
        done = exchange(*arguments, "--rate", "50000", "--json", name, "--html", "report.html", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.rstrip().endswith("report: report.html")
    written = from_json((tmp_path / "a.json").read_bytes(), "a.json")
    assert [profile.name for profile in written.profiles] == ["compiled", "lockfree"]
    assert written.profiles[0].load_points[0].offered_per_second == 50_000
    assert json.loads((tmp_path / "a.json").read_text())["schema_version"] == 1
    report = (tmp_path / "report.html").read_text()
    assert "<svg" in report
    assert "lockfree" in report
    compared = exchange("compare", "a.json", "b.json", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr


def test_flame_draws_a_graph_or_says_what_is_missing(tmp_path: Path) -> None:
    done = exchange("flame", "textbook", "--seconds", "1", "--output", "flame.svg", cwd=tmp_path)
    if done.returncode == 0:
        assert "<svg" in (tmp_path / "flame.svg").read_text()
    else:
        assert done.returncode == 2
        assert "py-spy" in done.stderr
        assert "Traceback" not in done.stderr
