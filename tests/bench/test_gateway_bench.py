"""``exchange bench gateway`` at a tiny size: every variant has its rows, and a missing sockperf is named."""

import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from exchange.bench import gateway_bench
from exchange.bench.gateway_bench import ORDER_BYTES, GatewayBenchPlan, run_gateway_bench
from exchange.bench.results import BenchResult, from_json, to_json
from exchange.bench.runner import Progress
from exchange.bench.terminal import print_result
from exchange.dpdk.building import is_installed
from exchange.errors import UserError
from tests.gateway_driver import SETTINGS, compile_once
from tests.udp_driver import UDP

BYPASS = gateway_bench.EXCHANGES["bypass-no-feed"]
TINY = GatewayBenchPlan(seconds=0.5, warmup_seconds=0.05, window=8, rounds=2)
ROUND_TRIPS = ("round trip, median", "round trip, p99")


@pytest.fixture(autouse=True)
def _layout_that_is_compiled_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_bench, "EXCHANGES", {"serve": (), "serve-udp": UDP})
    monkeypatch.setattr(gateway_bench, "SETTINGS", (*SETTINGS, "gateway.log_bytes=256MiB"))
    compile_once()
    compile_once(UDP)


def measure() -> BenchResult:
    return from_json(to_json(run_gateway_bench(TINY, "exchange bench gateway", Progress())), "a smoke run")


def test_every_row_has_a_value_for_each_round(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only here: DPDK is started once in a process.
    bypass = (*(one for one in BYPASS if not one.startswith("market_data")), "transport.port=9005")
    monkeypatch.setitem(gateway_bench.EXCHANGES, "bypass-no-feed", bypass)
    result = measure()
    rows = {(row.name, row.variant): row for row in result.micro}
    assert result.kind == "gateway"
    for (name, variant), row in rows.items():
        if row.skipped is None:
            assert len(row.values) == TINY.rounds, (name, variant)
            assert min(row.values) >= 0
    for variant in ("serve", "serve-udp", "bypass-no-feed"):
        if rows["round trip, median", variant].skipped is not None:
            assert variant == "bypass-no-feed"
            assert not is_installed()
            continue
        for name in ROUND_TRIPS:
            assert rows[name, variant].parameters["bytes"] == ORDER_BYTES
            assert min(rows[name, variant].values) > 0.1  # microseconds
        assert min(rows["requests answered", variant].values) > 100
    served = [name for name, variant in rows if variant in ("serve", "serve-udp")]
    assert sum("core for a request" in name for name in served) == 2 * 4
    if shutil.which("sockperf") is not None:
        for variant in ("sockperf", "sockperf-udp"):
            row = rows[ROUND_TRIPS[0], variant]
            assert row.skipped is None
            assert min(row.values) > 1
    print_result(result)
    assert "requests answered" in capsys.readouterr().out


def test_without_sockperf_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_bench.shutil, "which", lambda name: None)
    rows = {(row.name, row.variant): row for row in measure().micro}
    for variant in ("sockperf", "sockperf-udp"):
        told = rows["round trip, median", variant].skipped
        assert told == "not measured on this machine: no sockperf; apt install sockperf"
    assert len(rows["round trip, median", "serve"].values) == TINY.rounds


def test_no_process_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def start(*arguments: object, **options: object) -> "subprocess.Popen[str]":
        started.append(popen(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    def fail(*arguments: object) -> None:
        raise UserError("in the middle")

    monkeypatch.setattr(gateway_bench.subprocess, "Popen", start)
    monkeypatch.setattr(gateway_bench, "measure_exchange", fail)
    with pytest.raises(UserError, match="in the middle"):
        measure()
    assert started
    assert all(process.returncode is not None for process in started)


STARTS_ONE = """
import os, sys, time
from exchange.bench.gateway_bench import _started
with _started((sys.executable, "-c", "import time; time.sleep(600)"), min(os.sched_getaffinity(0))) as child:
    child.send_signal(19)
    print(child.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_does_not_outlive_a_bench_that_is_killed(number: signal.Signals) -> None:
    """Not even one that is stopped, because it is not its turn."""
    bench = subprocess.Popen([sys.executable, "-c", STARTS_ONE], stdout=subprocess.PIPE, text=True)
    assert bench.stdout is not None
    server = Path("/proc", bench.stdout.readline().strip())
    assert server.exists()
    bench.send_signal(number)
    bench.communicate()
    deadline = time.monotonic() + 20
    with suppress(FileNotFoundError, ProcessLookupError):  # that is what is waited for
        while "State:\tZ" not in (server / "status").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_an_exchange_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_bench, "SETTINGS", (*SETTINGS, "transport.address=192.0.2.1"))
    with pytest.raises(UserError, match=r"serve did not start: exchange: cannot listen on 192\.0\.2\.1"):
        measure()
