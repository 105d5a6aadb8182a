"""The tutorials: what a student is given works, the solution works, and the check catches what it is there for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOCK = Path(__file__).parents[2] / "tutorials" / "01-what-a-lock-costs"
PING = Path(__file__).parents[2] / "tutorials" / "02-from-a-system-call-to-a-poll-loop" / "ping.py"
SOLUTION = (LOCK / "solution" / "my_queue.py").read_text()

WRITE_RECORDS = """\
    for index in range(pushed):
        copy_record(slot_address(producer, tail + index), records_address + (index << RECORD_SHIFT))
"""
PUBLISH_TAIL = "    store_release(ring + TAIL, tail + pushed)\n"
READ_RECORDS = """\
    for index in range(polled):
        copy_record(out_address + (index << RECORD_SHIFT), slot_address(consumer, head + index))
"""
GIVE_BACK = """\
    if polled > 0:
        store_release(ring + HEAD, head + polled)
"""
TIME_TO_BE_SEEN = "    yield_core()\n"

BROKEN = {
    "publishes the tail before the records are written": (
        WRITE_RECORDS + PUBLISH_TAIL,
        PUBLISH_TAIL + TIME_TO_BE_SEEN + WRITE_RECORDS,
        "3. torture",
    ),
    "gives slots back before they are read": (
        READ_RECORDS + GIVE_BACK,
        GIVE_BACK + TIME_TO_BE_SEEN + READ_RECORDS,
        "3. torture",
    ),
    "believes in one record too many": (
        "store_int64(ring + TAIL_SEEN, tail)",
        "store_int64(ring + TAIL_SEEN, tail + 1)",
        "3. torture",
    ),
    "takes one record too many": (
        "        room = producer.capacity - (tail - head)",
        "        room = producer.capacity + 1 - (tail - head)",
        "1. contract",
    ),
    "wraps round wrongly": ("queue.capacity - 1", "queue.capacity - 2", "1. contract"),
    "never looks again": ("if available < limit:", "if available < 0:", "1. contract"),
    "forgets the release of the tail": (
        "store_release(ring + TAIL",
        "store_int64(ring + TAIL",
        "2. memory orders",
    ),
    "forgets the release of the head": (
        "store_release(ring + HEAD",
        "store_int64(ring + HEAD",
        "2. memory orders",
    ),
    "forgets the acquire of the tail": (
        "load_acquire(ring + TAIL",
        "load_int64(ring + TAIL",
        "2. memory orders",
    ),
}


def run(script: str, *arguments: object, cache: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script of the tutorial as a student does, in its folder."""
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        cwd=LOCK,
        env=os.environ | ({"EXCHANGE_CACHE": str(cache)} if cache else {}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("queue_file", ["my_queue.py", "solution/my_queue.py"])
def test_the_given_queue_and_the_solution_pass_the_whole_check(queue_file: str) -> None:
    checked = run("check.py", queue_file, "--records", 50_000, "--commands", 20_000)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.splitlines()[-1] == "right"
    assert "as with the profile compiled" in checked.stdout


def test_the_start_has_a_lock_and_the_solution_has_none() -> None:
    assert "mutex_lock(" in (LOCK / "my_queue.py").read_text()
    assert "mutex" not in SOLUTION


@pytest.mark.parametrize("mistake", BROKEN)
def test_the_check_catches(mistake: str, tmp_path: Path) -> None:
    right, wrong, caught_by = BROKEN[mistake]
    assert SOLUTION.count(right) == 1, f"the solution has changed: {right!r}"
    broken = SOLUTION.replace(right, wrong).replace(
        "    store_release,\n", "    store_release,\n    yield_core,\n", 1
    )
    (tmp_path / "my_queue.py").write_text(broken)
    checked = run("check.py", tmp_path / "my_queue.py", "--records", 200_000, "--commands", 0, cache=tmp_path)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert checked.stdout.splitlines()[-1].startswith("WRONG: ")
    stages = [line for line in checked.stdout.splitlines() if line[:1].isdigit()]
    assert stages[-1] == caught_by, checked.stdout


def test_the_measurement_prints_a_table_and_draws(tmp_path: Path) -> None:
    plot = tmp_path / "queues.svg"
    options = ("--rounds", 1, "--records", 20_000, "--plot", plot)
    measured = run("measure.py", "solution/my_queue.py", *options, cache=tmp_path)
    assert measured.returncode == 0, measured.stdout + measured.stderr
    for variant in ("locked", "mine", "spsc"):
        assert variant in measured.stdout
        assert f"<!-- {variant} -->" in plot.read_text()
    assert "round trip of one record" in measured.stdout


def test_a_file_without_a_queue_is_told_on_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "my_queue.py"
    empty.write_text("class SomethingElse:\n    pass\n")
    for script in ("check.py", "measure.py"):
        failed = run(script, empty, *(["--commands", 0] if script == "check.py" else []), cache=tmp_path)
        assert failed.returncode in (1, 2)
        assert "it has no class 'MyQueue'" in failed.stdout + failed.stderr
        assert "Traceback" not in failed.stderr


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="both ends of the polled one poll")
@pytest.mark.parametrize("wait", ["blocking", "polled"])
def test_the_first_rungs_of_the_ladder(wait: str) -> None:
    done = subprocess.run(
        [sys.executable, str(PING), wait, "--round-trips", "50"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{wait}: median ")
