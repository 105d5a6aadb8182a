"""``exchange load`` against a served exchange in another process: every answer is accounted for, mistakes are told."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from exchange.bench.load_rows import load_rows
from exchange.bench.report import render_report
from exchange.bench.results import from_json, read_result, to_json
from exchange.bench.runner import Progress
from exchange.errors import UserError
from exchange.load.generator import compile_loop, run_load_plan
from exchange.load.logins import Endpoint, Login
from exchange.load.plan import LoadPlan
from exchange.load.timeline import LoadTimeline
from tests.system.test_serve_command import PASSWORD, ROOT, exchange, served, write_cheap_user

END_SECONDS_MAX = 2.0
"""Half of it is for a machine with other things to do: logging out and ending Python take some tenths of a second."""
NAMES = ("alice", "bob", "carol", "dave", "erin", "frank")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Where an exchange with six users listens, with logs for all that a quick machine can do in these tests."""
    users = tmp_path_factory.mktemp("load") / "users"
    for name in NAMES:
        write_cheap_user(users, name)
    compile_loop()
    with served(users, "--quiet", "--set", "gateway.log_bytes=1GiB") as (_process, port):
        yield Endpoint("127.0.0.1", port)


def plan(endpoint: Endpoint, sessions: int, *rates: float | None, **changes: float | int | str) -> LoadPlan:
    logins = tuple(Login(name, PASSWORD) for name in NAMES[:sessions])
    return LoadPlan(endpoint, logins, rates, seconds=0.4, warmup_seconds=0.1)._replace(**changes)


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        exchange("load", *arguments),
        cwd=ROOT,
        env=os.environ | {"SECRET": PASSWORD, "WRONG": "wrong", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("sessions", [1, 6])
@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_every_request_is_accounted_for(endpoint: Endpoint, sessions: int, arrivals: str) -> None:
    asked = plan(endpoint, sessions, 2000.0, arrivals=arrivals, orders=4, rounds=2)
    result = from_json(to_json(run_load_plan(asked, "exchange load", Progress())), "a smoke run")
    assert result.warnings == ()
    assert result.host["cpu_model"] is not None or "cpu_model" in result.host["not_measured"]
    (profile,) = result.profiles
    assert [point.round_index for point in profile.load_points] == [0, 1]
    for point in profile.load_points:
        counts = point.counts
        assert counts["sent"] == 1000
        assert counts["answered"] + counts["lapsed"] == counts["sent"]
        assert counts["rejected"] == counts["unanswered"] == counts["not sent"] == 0
        assert counts["executions"] >= 2  # takers trade with makers, and both are told
        assert 0 < point.commands < counts["sent"]  # the warm-up is apart
        assert 0 < point.sample_count <= point.commands
        assert point.percentiles is not None
        assert point.percentiles.p50_ns > 1000


def test_a_closed_loop_finds_what_is_answered_at_most(endpoint: Endpoint) -> None:
    result = run_load_plan(plan(endpoint, 2, None, window=8), "exchange load", Progress())
    (one,) = result.profiles[0].saturation_rounds
    assert one.counts["answered"] + one.counts["lapsed"] == one.counts["sent"] > 100
    assert one.commands_per_second == pytest.approx(one.commands / one.elapsed_ns * 1e9)
    (row,) = load_rows(result)
    assert (row.speed[0], row.counts[0]) == ("max", "max")
    assert "Answers over the network" in render_report(result)


def test_orders_do_not_outlive_the_run(endpoint: Endpoint) -> None:
    """A second run would trade with what the first had left behind: one session's makers never trade by themselves."""
    for _ in range(2):
        result = run_load_plan(plan(endpoint, 1, 500.0, middle_ticks=55_0000), "exchange load", Progress())
        counts = result.profiles[0].load_points[0].counts
        assert counts["answered"] + counts["lapsed"] == counts["sent"] == 250


def test_a_rejected_order_is_an_answer(endpoint: Endpoint) -> None:
    result = run_load_plan(plan(endpoint, 1, 500.0, symbols=("NONE",)), "exchange load", Progress())
    counts = result.profiles[0].load_points[0].counts
    assert counts["rejected"] > 0
    assert counts["rejected"] + counts["lapsed"] == counts["sent"] == 250


def test_the_command_prints_a_table_and_writes_the_figures(endpoint: Endpoint, tmp_path: Path) -> None:
    """Also with an address at which nobody listens: the exchange is where the other one is."""
    figures, page, timeline = tmp_path / "load.json", tmp_path / "load.html", tmp_path / "timeline.json"
    process = start(
        f"127.0.0.1:{unused_port()},{endpoint}", "--users", "alice,bob", "--password-env", "SECRET", "--rate", "1000",
        "--seconds", "0.2", "--warm-up", "0.1", "--json", str(figures), "--html", str(page),
        "--timeline", str(timeline), "--timeline-step", "50",
    )  # fmt: skip
    printed, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "offered/s" in printed
    result = read_result(figures)
    assert result.kind == "load"
    assert "--password-env SECRET" in result.command_line
    told_when = msgspec.json.decode(timeline.read_bytes(), type=LoadTimeline)
    assert (told_when.kind, told_when.sessions) == ("load timeline", 2)
    (run,) = told_when.runs
    assert (run.offered_per_second, run.bucket_ns, run.lost_lines) == (1000.0, 50_000_000, ())
    assert sum(run.due) == result.profiles[0].load_points[0].counts["sent"] == 300
    assert 0 < time.time_ns() - run.start_unix_ns < 300_000_000_000
    for text in (printed, figures.read_text(), page.read_text(), timeline.read_text()):
        assert PASSWORD not in text
    assert "What became of the requests" in page.read_text()


def test_ctrl_c_logs_out_and_ends_at_once(endpoint: Endpoint, tmp_path: Path) -> None:
    process = start(
        str(endpoint), "--users", "alice", "--password-env", "SECRET", "--rate", "100", "--seconds", "60",
        "--json", str(tmp_path / "none.json"),
    )  # fmt: skip
    time.sleep(4)
    assert process.poll() is None, process.communicate()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert time.monotonic() - began < END_SECONDS_MAX
    assert (process.returncode, told.strip()) == (130, "exchange: stopped")


def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--users", "alice", "--password-env", "WRONG"), "login of ALICE refused by 127.0.0.1:"),
        (("--users", "alice", "--password-env", "MISSING"), "there is no such environment variable"),
        (("--users", "alice"), "no password for alice; name a variable with --password-env"),
        (("--users", "alice,ALICE", "--password-env", "SECRET"), "ALICE is there twice"),
        (("--users", "alice", "--password-env", "SECRET", "--sessions", "2"), "--sessions 2: there are 1 users"),
        (("--users", "alice", "--password-env", "SECRET", "--rate", "often"), "--rate often: must be a number"),
        (("--users", "alice", "--password-env", "SECRET", "--rate", "1e9"), "allowed are 4,194,304"),
        (("--users", "alice", "--password-env", "SECRET", "--seconds", "0"), "--seconds 0: allowed is 0.01 to 600"),
        (("--users", "alice", "--password-env", "SECRET", "--answer-timeout", "0"), "--answer-timeout 0: allowed is"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_status_2(
    endpoint: Endpoint, arguments: tuple[str, ...], told: str
) -> None:
    _assert_mistake(str(endpoint), arguments, told)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        pytest.param(f"127.0.0.1:{unused_port()}", "Connection refused", id="nobody"),
        ("127.0.0.1", "127.0.0.1: not HOST:PORT"),
        ("127.0.0.1:0", "127.0.0.1:0: not HOST:PORT"),
        ("127.0.0.1:9005,nowhere", "nowhere: not HOST:PORT"),
    ],
)
def test_a_wrong_address_is_one_line_and_exit_status_2(place: str, told: str) -> None:
    _assert_mistake(place, ("--users", "alice", "--password-env", "SECRET"), told)


def _assert_mistake(place: str, arguments: tuple[str, ...], told: str) -> None:
    process = start(place, *arguments)
    printed, errors = process.communicate(timeout=60)
    (line,) = errors.splitlines()
    assert told in line
    assert PASSWORD not in line
    assert (process.returncode, printed) == (2, "")


def test_an_exchange_that_hangs_up_is_named(tmp_path: Path) -> None:
    """The log of a session is 4 MiB here, some sixty thousand answers; then the exchange ends the connection."""
    users = tmp_path / "users"
    write_cheap_user(users, "frank")
    with served(users, "--quiet") as (_process, port):
        asked = LoadPlan(
            Endpoint("127.0.0.1", port), (Login("FRANK", PASSWORD),), (None,), seconds=20.0, window=1000
        )
        with pytest.raises(UserError, match=r"session of FRANK, after [\d,]+ answers: the exchange closed"):
            run_load_plan(asked, "exchange load", Progress())
