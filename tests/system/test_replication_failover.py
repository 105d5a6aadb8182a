"""The primary of a pair is killed under load, and the other one goes on with everything that anybody was told.

A small part of ``python -m tests.system.failover_campaign``, which says what is held against what; and the other ends
that a pair can come to. A lease is longer here than by default, for the machine may be busy with other tests."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.native import c_library_exists
from tests.system.failover_campaign import Options, PairDay
from tests.system.kill_processes import Starter, starting

LEASE_NS = 1_000_000_000
SECONDS_MAX = 240.0


@pytest.fixture
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Starter]:
    monkeypatch.setenv("EXCHANGE_STATE", str(tmp_path / "state"))
    with starting(tmp_path) as one:
        yield one


OPTIONS = {
    "tcp-received": (Options("received", "tcp", 1, lease_ns=LEASE_NS), 5),
    "tcp-applied-two-shards": (Options("applied", "tcp", 2, "file", lease_ns=LEASE_NS), 5),
    "rdma-received": (Options("received", "rdma", 1, lease_ns=LEASE_NS), 3),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_nothing_that_was_acknowledged_is_lost(tmp_path: Path, starter: Starter, name: str) -> None:
    options, kills = OPTIONS[name]
    if options.kind == "rdma" and not c_library_exists("fabric"):
        pytest.skip("libfabric is not installed (apt install libfabric-dev)")
    starter.prepare(options.overrides())
    day = PairDay(tmp_path / "day", options, 1, starter)
    asyncio.run(asyncio.wait_for(day.run(kills), SECONDS_MAX))
    assert day.counts["failovers"] == kills
    assert day.counts["trades"] > 0
    assert day.counts["messages sent again and equal"] > 0
    assert signal.SIGKILL
