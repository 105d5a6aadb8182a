"""``exchange bench transport`` at a tiny size: its rows, what it leaves out and why, and that nothing stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exchange.bench import transport_variants
from exchange.bench.cable import cable, why_no_cable
from exchange.bench.report import render_report
from exchange.bench.results import BenchResult, from_json, to_json
from exchange.bench.runner import Progress
from exchange.bench.system_calls import CallCount, count_system_calls, parse_counts, why_not_counted
from exchange.bench.terminal import print_result
from exchange.bench.transport_bench import (
    CALLS_ALONE,
    CALLS_MANY,
    RATIO,
    TransportBenchPlan,
    run_transport_bench,
)
from exchange.bench.transport_variants import POLLED, VARIANTS, why_not
from exchange.errors import UserError

TINY = TransportBenchPlan(
    round_trips=400, echo_seconds=0.05, traced_round_trips=50, traced_echo_seconds=0.05, rounds=2
)
ROOT = Path(__file__).parents[2]
END_SECONDS = 60.0
"""Long for a second at most, on a machine that runs other tests as well."""

needs_two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="both ends poll")
needs_cable = pytest.mark.skipif(why_no_cable() is not None, reason=str(why_no_cable()))


def run(*names: str) -> BenchResult:
    return from_json(
        to_json(run_transport_bench(names, TINY, "exchange bench transport", Progress())), "a run"
    )


def children() -> set[str]:
    """The processes that this one has started and that have not ended."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@needs_two_cores
def test_every_transport_that_is_here_has_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    before = children()
    result = run()
    assert children() == before
    rows = {(row.name, row.variant): row for row in result.micro}
    for name, variant in VARIANTS.items():
        row = rows["round trip, median", name]
        if why_not(variant) is not None:
            assert row.skipped == why_not(variant)
            continue
        if row.skipped is not None:  # a machine that is busy may have had no turn for both ends
            assert "other things to do" in row.skipped
            continue
        for quantity in ("round trip, median", "round trip, p99", "round trip, p99.9", "echoes"):
            assert len(rows[quantity, name].values) == TINY.rounds
            assert min(rows[quantity, name].values) > 0
        if name != POLLED and rows["round trip, median", POLLED].skipped is None:
            assert len(rows[RATIO, name].values) == TINY.rounds
        if why_not_counted() is None:
            assert rows[CALLS_ALONE, name].unit == "calls"
            assert rows[CALLS_MANY, name].values[0] >= 0
    print_result(result)
    assert RATIO in capsys.readouterr().out
    assert "round trip, median" in render_report(result)


@needs_two_cores
@pytest.mark.skipif(why_not_counted() is not None, reason=str(why_not_counted()))
def test_a_socket_costs_a_call_for_each_direction() -> None:
    for _ in range(4):
        result = run("udp")
        (calls,) = next(row.values for row in result.micro if row.name == CALLS_ALONE)
        # One side looks in vain as long as the other has no core: on a busy machine there are more.
        assert calls > 1.8
        if calls < 2.2:
            return
    raise AssertionError(f"{calls} calls for each message")


@needs_two_cores
def test_what_cannot_be_measured_is_listed_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = dict(transport_variants.NEEDS) | {"cable": lambda: "no ip here; apt install iproute2"}
    monkeypatch.setattr(transport_variants, "NEEDS", needs)
    result = run("udp", "udp-veth")
    reasons = {row.variant: row.skipped for row in result.micro if row.name == "round trip, median"}
    assert reasons["udp-veth"] == "not measured on this machine: no ip here; apt install iproute2"
    assert reasons["udp"] is None


@needs_two_cores
def test_a_transport_that_does_not_start_is_listed_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = VARIANTS["udp"]._replace(transport="pigeons")
    monkeypatch.setattr(
        "exchange.bench.transport_bench.VARIANTS", {"udp": VARIANTS["udp"], "pigeons": broken}
    )
    result = run()
    reasons = [row.skipped for row in result.micro if row.variant == "pigeons"]
    assert reasons
    assert "--transport pigeons: allowed are udp, " in str(reasons[0])


def test_an_unknown_transport_is_refused() -> None:
    with pytest.raises(UserError, match=r"transport kind 'pigeons': must be one of udp-blocking, udp, "):
        run("pigeons")


def children_of(process_id: int) -> list[str]:
    """Running processes of a parent, whichever of its threads started them."""
    found = []
    for tasks in Path(f"/proc/{process_id}/task").glob("*/children"):
        found += tasks.read_text().split()
    return found


@needs_two_cores
def test_ctrl_c_ends_both_processes_of_each_transport() -> None:
    command = [sys.executable, "-m", "exchange", "bench", "transport", "udp", "--rounds", "1000"]
    bench = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + END_SECONDS
        while len(started := children_of(bench.pid)) < 2:
            assert bench.poll() is None, bench.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        bench.send_signal(signal.SIGINT)
        deadline = time.monotonic() + END_SECONDS
        _, said = bench.communicate(timeout=END_SECONDS)
        assert (bench.returncode, said.strip()) == (130, "exchange: stopped")
        while any(Path("/proc", one).exists() for one in started):  # who was not awaited notices by its input
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        bench.kill()
        bench.communicate()


@needs_cable
def test_a_cable_has_two_ends_and_is_gone_with_its_block() -> None:
    before = children()
    with cable(("192.0.2.1", "192.0.2.2")) as ends:
        assert len(children() - before) == 2
        for prefix, other in ((ends.at_left, "192.0.2.2"), (ends.at_right, "192.0.2.1")):
            told = subprocess.run(
                (*prefix, "ip", "route", "get", other), capture_output=True, text=True, check=True
            )
            assert " dev " in told.stdout
    assert children() == before


def test_what_strace_has_counted_is_read() -> None:
    rule = "--------- --------- ----------------\n"
    table = (
        "    calls    errors syscall\n" + rule + "    17118     17110 recvfrom\n        4           read\n"
    )
    assert parse_counts(table + rule + "    17122     17110 total\n") == CallCount(12, 17110)


@pytest.mark.skipif(why_not_counted() is not None, reason=str(why_not_counted()))
def test_system_calls_are_counted_while_something_is_done() -> None:
    with subprocess.Popen(
        ("cat",), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as cat:
        assert cat.stdin is not None
        assert cat.stdout is not None

        def say() -> None:
            assert cat.stdin is not None
            assert cat.stdout is not None
            cat.stdin.write("hello\n")
            cat.stdout.readline()

        def say_ten_times() -> None:
            for _ in range(10):
                say()

        say()
        # Each line is a read and a write; strace may miss a read that it found under way.
        assert 18 <= count_system_calls(cat.pid, say_ten_times).done <= 22
        cat.stdin.close()
