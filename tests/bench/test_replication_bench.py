"""``exchange bench replication`` at a tiny size: every variant has its rows, and nothing is left behind."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from exchange.bench import replication_bench
from exchange.bench.backup import backup_of
from exchange.bench.player import play
from exchange.bench.replication_bench import (
    CORE_SETTINGS,
    GATES,
    VARIANTS,
    ReplicationBenchPlan,
    run_replication_bench,
)
from exchange.bench.results import from_json, to_json
from exchange.bench.runner import Progress
from exchange.errors import UserError
from exchange.flow import SyntheticConfig, load_flow
from exchange.journal.scratch import scratch_streams
from exchange.replication.fabric import SHIM
from exchange.settings import load_profile

WRONG = ("replication.kind=tcp", "replication.address=192.0.2.77")
TINY = ReplicationBenchPlan(commands=20_000, single_commands=500, rounds=1)


def test_every_row_has_a_value_for_each_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = {name: VARIANTS[name] for name in ("none", "tcp", "rdma-shm")}
    monkeypatch.setattr(replication_bench, "VARIANTS", chosen)
    ours = (*CORE_SETTINGS, f"journal.directory={tmp_path}/exchange-bench-journal")
    monkeypatch.setattr(replication_bench, "CORE_SETTINGS", ours)
    result = from_json(
        to_json(run_replication_bench(TINY, "exchange bench replication", Progress())), "a smoke run"
    )
    assert result.kind == "replication"
    rows = {(row.name, row.variant, row.parameters["gate"]): row for row in result.micro}
    for name in chosen:
        is_there = SHIM.is_installed() or not name.startswith("rdma")
        for gate in GATES:
            for row in ("commands at once", "an answer, median", "an answer, p99"):
                assert (len(rows[row, name, gate].values) == TINY.rounds) == is_there
            for row in ("added to the median", "part of the throughput without"):
                assert ((row, name, gate) in rows) == (name != "none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shards", [(), ("shards.count=2", "shards.threads=auto")], ids=["one", "two"])
def test_the_backup_of_an_exchange_in_memory_has_all_that_it_has(shards: tuple[str, ...]) -> None:
    """The player compares the digests, and the last sequences of all streams."""
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=5_000, seed=3))
    own = (
        *CORE_SETTINGS,
        "journal.segment_bytes=1MiB",
        *shards,
        "replication.kind=tcp",
        replication_bench.PATIENCE,
    )
    at_once = np.zeros(len(flow.commands), np.int64)
    played = play(
        load_profile("lockfree", own), flow.commands, at_once, len(flow.symbols), 100, lambda _text: None
    )
    assert played.measured_commands == 4_900


def test_a_backup_that_cannot_start_is_told() -> None:
    settings = load_profile("lockfree", (*CORE_SETTINGS, "journal.segment_bytes=1MiB", *WRONG))
    with (
        scratch_streams(settings) as journals,
        pytest.raises(UserError, match=r"replication\.address = 192\.0\.2\.77"),
        backup_of(settings, [0], journals),
    ):
        pass


def test_the_command_is_there() -> None:
    told = subprocess.run(
        (sys.executable, "-m", "exchange", "bench", "--help"), capture_output=True, text=True, check=True
    )
    assert "replication" in told.stdout
