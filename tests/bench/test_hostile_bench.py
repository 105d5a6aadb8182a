"""``exchange bench hostile`` at a tiny size: every row has its values, and every connection has become of something."""

import pytest

from exchange.bench import hostile_bench
from exchange.bench.hostile_bench import HOSTILE, QUIET, RATIO, HostileBenchPlan, run_hostile_bench
from exchange.bench.report import write_report
from exchange.bench.results import from_json, to_json
from exchange.bench.runner import Progress
from exchange.bench.terminal import print_result
from tests.gateway_driver import SETTINGS, compile_once

TINY = HostileBenchPlan(
    seconds=0.5,
    warmup_seconds=0.1,
    requests_per_second=200,
    rounds=2,
    connects_per_second=200,
    flooded_per_second=2000,
)
LAYOUT = (*SETTINGS, "placement.kind=pinned", "admin.kind=http", "admin.port=0", "gateway.log_bytes=64MiB")
"""Loops that are compiled anyway."""


def test_every_phase_has_its_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    hurried = ("gateway.slow_reader_ns=300ms", "gateway.logon_timeout_ns=4s")
    own = (*LAYOUT, *hurried, "gateway.connections_per_second=10", "gateway.connections_burst=10")
    monkeypatch.setattr(hostile_bench, "SETTINGS", own)
    compile_once()
    result = from_json(to_json(run_hostile_bench(TINY, "exchange bench hostile", Progress())), "a smoke run")
    rows = {(row.name, row.variant): row.values for row in result.micro}
    for name in ("order, median", "order, p99", "logon", "orders answered", "resident memory"):
        for phase in (QUIET, HOSTILE):
            assert len(rows[name, phase]) == TINY.rounds, name
            assert min(rows[name, phase]) > 0
    assert len(rows[RATIO, HOSTILE]) == TINY.rounds
    (known,) = rows["connections that the log accounts for", HOSTILE]
    assert 90 < known < 110, result.flow
    assert result.flow is not None
    assert "login rejected: not authorized" in result.flow.description
    assert "refused: too many connections in a second" in result.flow.description
    print_result(result)
    assert RATIO in capsys.readouterr().out
    write_report(result, tmp_path / "report.html")  # type: ignore[operator]
