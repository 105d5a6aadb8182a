"""The command line as a person uses it: help, mistakes, Ctrl-C. Runs the real command in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from exchange.cli import cli


def exchange(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exchange", *arguments],
        capture_output=True, text=True, timeout=240, check=False, cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


def test_help_shows_the_main_job_first_and_imports_nothing_heavy() -> None:
    done = exchange("--help")
    assert done.returncode == 0
    names = [
        line.split()[0]
        for line in done.stdout.partition("Commands:")[2].splitlines()
        if line.startswith("  ") and line[2] != " "
    ]
    assert names == [
        "demo", "bench", "replay", "serve", "load", "reflect", "send", "lease-store", "status", "promote",
        "failover-demo", "user", "admin", "journal",
        "feed", "glimpse", "page", "simulate", "lab-vm", "export", "compare", "flame", "profile", "topology", "doctor",
    ]  # fmt: skip
    code = (
        "import sys, exchange.cli; print(sorted({'numba', 'numpy', 'matplotlib', 'rich'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("command", cli.list_commands(click.Context(cli)))
def test_every_command_has_a_help_text(command: str) -> None:
    done = exchange(command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("bench", "no-such-profile"), "no-such-profile"),
        (("bench", "compiled", "--set", "queue.capacity_slots=3"), "capacity_slots"),
        (("bench", "compiled", "compiled"), "named twice"),
        (("bench", "compiled", "--flow", "/no/such/file"), "/no/such/file"),
        (("bench", "compiled", "--rate", "0"), "--rate"),
        (("bench", "queue", "no-such-kind"), "no-such-kind"),
        (("bench",), "name a PROFILE"),
        (("bench", "queue", "--symbols", "3"), "--symbols: not together with bench queue"),
        (("bench", "compiled", "--ids", "arrival"), "--ids: not together with bench PROFILE"),
        (("bench", "endurance", "--rounds", "3"), "--rounds: not together with bench endurance"),
        (("bench", "endurance", "--commands", "1500000"), "commands = 1500000"),
        (("bench", "core", "ladder"), "core has no kinds to choose from"),
        (("bench", "core", "--all-scenarios", "--scenario", "static"), "not together with --scenario static"),
        (("bench", "--ablate", "book", "core"), "--ablate book: not together with core"),
        (("bench", "--ablate", "book", "--ids", "arrival"), "--ids: not together with --ablate book"),
        (("compare", "/no/such/file", "/no/such/file"), "/no/such/file"),
        (("topology", "--synthetic", "nonsense:::"), "nonsense"),
        (("nonsense",), "nonsense"),
    ],
)
def test_a_mistake_is_one_line_without_a_traceback(arguments: tuple[str, ...], named: str) -> None:
    done = exchange(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert named in done.stderr


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("core", "--commands", "3000", "--ids", "arrival", "--ids", "arbitrary"), "ids arbitrary"),
        (("core", "--all-scenarios", "--commands", "3000"), "throughput in the worst flow"),
        (("book", "ladder", "--scenario", "static", "--commands", "3000"), "Flow: static"),
    ],
)
def test_a_benchmark_of_the_core_prints_its_tables_and_leaves_a_report(
    arguments: tuple[str, ...], shown: str, tmp_path: Path
) -> None:
    done = exchange("bench", *arguments, "--rounds", "2", "--json", "figures.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    assert json.loads((tmp_path / "figures.json").read_text())["kind"] == arguments[0]
    assert len(list((tmp_path / "reports").glob(f"*-{arguments[0]}.html"))) == 1


@pytest.mark.parametrize("profile", ["textbook", "lockfree"])
def test_ctrl_c_stops_everything_within_a_second(profile: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "exchange", "bench", profile, "--commands", "2000000"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    try:
        _wait_for_threads(process)
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        _, errors = process.communicate(timeout=20)
        waited = time.monotonic() - asked
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert waited < 10, "Ctrl-C is to act at once; the bound is for a crowded machine"


def _wait_for_threads(process: subprocess.Popen[str]) -> None:
    """Until the agents' threads run."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        names = []
        for task in Path(f"/proc/{process.pid}/task").glob("*/comm"):
            try:
                names.append(task.read_text().strip())
            except OSError:
                continue
        if any(name.startswith("shard") for name in names) or len(names) >= 4:
            return
        time.sleep(0.05)
    pytest.fail("the exchange did not start in time")
