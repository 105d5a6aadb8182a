"""``exchange bench lease`` at a tiny size: each row has its values, and the lease is taken over."""

import subprocess
import sys
from pathlib import Path

import pytest

from exchange.bench import lease_bench, lease_prober
from exchange.bench.lease_bench import AXIS, BUSY, QUIET, TAKEOVER, USED, LeaseBenchPlan, run_lease_bench
from exchange.bench.report import write_report
from exchange.bench.results import from_json, to_json
from exchange.bench.runner import Progress
from exchange.bench.summary import micro_families
from exchange.errors import UserError
from tests.lease_driver import needs_server

pytestmark = needs_server()

TINY = LeaseBenchPlan(leases_ms=(150,), seconds=0.3, rounds=1)


def test_each_length_of_a_lease_is_a_point_of_every_curve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    steps: list[str] = []
    totals: list[int] = []
    progress = Progress(totals.append, steps.append)
    result = from_json(to_json(run_lease_bench(TINY, "exchange bench lease", progress)), "a smoke run")
    assert totals == [len(steps)]
    families = {family.name: family for family in micro_families(result)}
    assert set(families) == {TAKEOVER, USED, "a renewal, median", "a renewal, p99"}
    for family in families.values():
        assert family.axis == AXIS
        assert [curve.variant for curve in family.curves] == [QUIET, BUSY]
        assert list(family.positions) == [150]
        assert all(point.values.minimum > 0 for curve in family.curves for point in curve.points)
    assert list(tmp_path.iterdir()) == [], "the store's files are gone"
    write_report(result, tmp_path / "report.html")


def test_a_holder_that_fails_is_told() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "raise SystemExit('it was not renewed')"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"^lease: the process that held it has failed: it was not renewed$"):
        lease_bench._held(holder)


def test_what_was_used_of_a_lease_counts_from_the_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    record = lease_prober._Record()
    clock = iter((0, 10, 45, 60))
    monkeypatch.setattr(lease_prober, "lease_clock_ns", lambda: next(clock))
    for sent_ns in (0, 5, 15, 58):  # each good until 90 after that, for a lease of 100
        record.renewed(sent_ns + 90)
    assert record.held(100) == lease_prober.Held(3, 5.0, pytest.approx(29.5, abs=1), pytest.approx(45 / 90))
    with pytest.raises(UserError, match="it was not renewed; measure for longer"):
        lease_prober._Record().held(100)
