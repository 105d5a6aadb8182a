"""``exchange failover-demo`` as a person runs it: what it finds is consistent, and nothing of it is left behind.

A lease is longer here than by default, for the machine may be busy with other tests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from exchange.failover.results import (
    CAUGHT_UP,
    FIRST_ACKNOWLEDGEMENT,
    LAST_ANSWER,
    LEASE_OUT,
    LEASE_TAKEN,
    LET_IN,
    LINE_LOST,
    LISTENING,
    MOMENTS,
    TOOK_OVER,
    FailoverResult,
)
from tests.system.kill_processes import ROOT

SECONDS_MAX = 400.0
"""It may have to compile first; it is some ten seconds."""
END_SECONDS_MAX = 2.0
"""Half of it is for a machine with other things to do."""
LEASE = ("--set", "replication.lease_ns=400000000")


def demonstrate(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """The command, with a folder of its own for temporary files."""
    (folder / "temporary").mkdir()
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "exchange",
            "failover-demo",
            *LEASE,
            "--rate",
            "500",
            "--sessions",
            "2",
            *arguments,
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def descendants(process_id: int) -> list[int]:
    """The children of a process, and theirs."""
    children = [
        int(child)
        for path in Path(f"/proc/{process_id}/task").glob("*/children")
        for child in path.read_text().split()
    ]
    return children + [one for child in children for one in descendants(child)]


def is_there(process_id: int) -> bool:
    """Whether a process runs; one that only has not been reaped yet does not."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(") ")[2][0] not in "ZX"


def test_a_primary_is_killed_and_what_is_told_of_it_agrees(tmp_path: Path) -> None:
    process = demonstrate(tmp_path, "--json", "figures.json", "--html", "report.html")
    printed, told = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, (printed, told)
    for text in (
        "b is in sync",
        "SIGKILL to a",
        "b is primary, in epoch 2",
        "a is in sync",
        "report: report.html",
    ):
        assert text in printed
    found = msgspec.json.decode((tmp_path / "figures.json").read_bytes(), type=FailoverResult)
    (one,) = found.failovers
    assert (one.how, one.old, one.new, one.epoch, one.old_status) == ("kill", "a", "b", 2, -signal.SIGKILL)
    times = {name: one.after_ns(name) for name in MOMENTS}
    order = (LEASE_OUT, LEASE_TAKEN, TOOK_OVER, LISTENING, LET_IN, FIRST_ACKNOWLEDGEMENT, CAUGHT_UP)
    seen = [times[name] for name in order]
    assert seen == sorted(value for value in seen if value is not None), times
    last, lost = times[LAST_ANSWER], times[LINE_LOST]
    assert lost is not None
    assert last is None or last < times[LISTENING]  # type: ignore[operator]
    assert 0 <= lost < times[FIRST_ACKNOWLEDGEMENT]  # type: ignore[operator]
    assert one.outage_ns == times[FIRST_ACKNOWLEDGEMENT]
    assert 0 < one.due_meanwhile <= 500 * one.outage_ns / 1e9 + 2
    assert one.waited_max_ns is not None
    assert one.waited_max_ns >= one.outage_ns * 0.9
    account = one.account
    assert (account.lost, account.twice, account.unanswered, account.taken_back) == (0, 0, 0, 0)
    assert 0.8 * account.sent < account.acknowledged <= account.sent
    assert len(found.digests) == 3
    assert found.digests_agree
    assert found.is_whole
    assert last is not None or "answered nothing" in found.warnings[0]  # the machine was too busy
    assert "milliseconds from the SIGKILL" in (tmp_path / "report.html").read_text()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_ctrl_c_ends_everything_and_leaves_nothing(tmp_path: Path) -> None:
    process = demonstrate(tmp_path)
    assert process.stdout is not None
    assert any("clients send" in line for line in process.stdout), process.communicate()
    time.sleep(0.3)
    started = descendants(process.pid)
    assert len(started) >= 3  # two exchanges and the lease store
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert time.monotonic() - began < END_SECONDS_MAX
    assert (process.returncode, told.strip()) == (130, "exchange: stopped")
    assert [one for one in started if is_there(one)] == []
    assert list((tmp_path / "temporary").iterdir()) == []
