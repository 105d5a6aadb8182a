"""A smoke run of the journal's benchmark: that it measures, checks and cleans up; not how fast."""

from pathlib import Path
from typing import Any

import pytest

from exchange.bench import journal_bench
from exchange.bench.journal_bench import JOURNAL_KINDS, JournalBenchPlan, run_journal_bench
from exchange.bench.results import from_json, to_json
from exchange.bench.runner import Progress
from exchange.errors import UserError


def tiny(folder: Path) -> JournalBenchPlan:
    return JournalBenchPlan(
        appended_bytes=100_000,
        batches=(1, 16),
        syncs=3,
        synced_records=(1, 300),
        rounds=2,
        segment_bytes=1 << 16,
        directory=folder,
    )


def test_every_kind_is_measured_and_nothing_stays_behind(tmp_path: Path) -> None:
    steps: list[str] = []
    totals: list[int] = []
    result = run_journal_bench(
        [], tiny(tmp_path), "exchange bench journal", Progress(totals.append, steps.append)
    )
    assert result.kind == "journal"
    found = {(row.name, row.variant, next(iter(row.parameters.values()))) for row in result.micro}
    appends = {("append", kind, batch) for kind in JOURNAL_KINDS for batch in (1, 16)}
    syncs = {
        (f"sync, p{percent}", kind, records)
        for percent in (50, 99)
        for kind in ("file", "mapped")
        for records in (1, 300)
    }
    assert found == appends | syncs
    assert all(len(row.values) == 2 and min(row.values) >= 0 and row.skipped is None for row in result.micro)
    assert totals == [len(steps)]
    assert from_json(to_json(result), "itself").micro == result.micro
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_loses_something_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(journal: Any, records: int, batch: int, count: int, first_sequence: int) -> tuple[int, int]:
        return 1, count

    monkeypatch.setattr(journal_bench, "append_batches", forgetful)
    with pytest.raises(UserError, match=r"nothing was measured: file: .* can be read again; mapped: "):
        run_journal_bench(["file", "mapped"], tiny(tmp_path), "", Progress())


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UserError, match="journal kind 'disk': must be one of file, mapped"):
        run_journal_bench(["disk"], JournalBenchPlan(), "", Progress())
