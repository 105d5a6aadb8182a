"""``exchange bench durability`` at a tiny size: every variant has its rows, and no journal is left."""

from pathlib import Path

import numpy as np
import pytest

from exchange.bench import durability_bench
from exchange.bench.durability_bench import DurabilityBenchPlan, run_durability_bench
from exchange.bench.gateway_bench import GatewayBenchPlan
from exchange.bench.player import play
from exchange.bench.results import from_json, to_json
from exchange.bench.runner import Progress
from exchange.errors import UserError
from exchange.flow import SyntheticConfig, load_flow
from exchange.settings import load_profile
from tests.gateway_driver import SETTINGS, compile_once

TINY = DurabilityBenchPlan(
    commands=20_000,
    flood_commands=30_000,
    served=GatewayBenchPlan(seconds=0.5, warmup_seconds=0.05, window=8),
    rounds=2,
)
VARIANTS = {name: durability_bench.VARIANTS[name] for name in ("none", "mapped-written")}
ROWS = ("core, a burst", "core, a flood", "round trip, median", "round trip, p99", "requests answered")


def test_every_row_has_a_value_for_each_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(durability_bench, "VARIANTS", VARIANTS)
    monkeypatch.setattr(durability_bench, "SERVED_SETTINGS", (*SETTINGS, "gateway.log_bytes=256MiB"))
    compile_once()
    compile_once(
        (*VARIANTS["mapped-written"], durability_bench.JOURNAL_THREADS, "journal.directory=compiling")
    )
    result = from_json(
        to_json(run_durability_bench(TINY, "exchange bench durability", Progress())), "a smoke run"
    )
    assert result.kind == "durability"
    assert result.host["file_system"] is None or " on " in result.host["file_system"]
    rows = {(row.name, row.variant): row for row in result.micro}
    for name in ROWS:
        for variant in VARIANTS:
            assert rows[name, variant].skipped is None
            assert len(rows[name, variant].values) == TINY.rounds
            assert min(rows[name, variant].values) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["compiling"]


@pytest.mark.parametrize("kind", ["mapped", "file"])
def test_an_exchange_in_memory_writes_a_journal_that_is_gone_afterwards(tmp_path: Path, kind: str) -> None:
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=5_000, seed=3))
    digests = set()
    for journal in ((), (f"journal.kind={kind}", f"journal.directory={tmp_path}/journal")):
        settings = load_profile("lockfree", list(journal))
        at_once = np.zeros(len(flow.commands), np.int64)
        digests.add(play(settings, flow.commands, at_once, len(flow.symbols), 100, lambda _text: None).digest)
    assert len(digests) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=100, seed=3))
    settings = load_profile("lockfree", ["journal.kind=mapped", f"journal.directory={tmp_path}/none/journal"])
    with pytest.raises(
        UserError, match=r"journal\.directory = .*: no folder can be made beside it: No such file"
    ):
        play(settings, flow.commands, np.zeros(100, np.int64), len(flow.symbols), 10, lambda _text: None)
