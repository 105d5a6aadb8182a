"""A snapshot of several shards that stops where the merge stream names more events than the shards' streams may give.

The merge stream says in which order the egress took the events of the shards. A snapshot goes as far as each shard's
stream is known to be synced, which may be in the middle of what a record of the merge stream names. Whoever
goes on from it has to go on in the middle."""

import os
import random
import shutil
from pathlib import Path

from exchange.journal.protocol import ALL_DURABLE
from exchange.recovery.replayer import Position
from exchange.recovery.snapshots import hold_snapshots
from exchange.recovery.twin import Twin
from tests.gateway_driver import run, serving
from tests.system.test_recovery import NAMES, VARIANTS, compile_recovery, logs_of, overrides, traded

OPTIONS = VARIANTS[1]
PLACES = int(os.environ.get("EXCHANGE_TEST_PLACES", "10"))
"""At how many a snapshot is tried, twice each."""


async def written(path: Path, copy: Path) -> None:
    """Have an exchange of two shards write a journal, and copy it."""
    async with serving(*NAMES, overrides=overrides(path, **OPTIONS), speak_ouch42=("carol",)) as server:
        clients = await traded(server)
        shutil.copytree(path, copy, ignore=shutil.ignore_patterns("lock"))
        for client in clients:
            await client.close()


def test_a_restart_goes_on_in_the_middle_of_a_record_of_the_merge_stream(tmp_path: Path) -> None:
    compile_recovery(overrides(tmp_path / "compiling", **OPTIONS))
    journal, chance = tmp_path / "copy", random.Random(1)
    run(written(tmp_path / "journal", journal), overrides(tmp_path / "compiling", **OPTIONS))
    with Twin(journal, from_snapshot=False) as twin:
        twin.replay()
        logs, digest, end = logs_of(twin.transport.memory), twin.exchange.digest(), twin.position
    in_the_middle = 0
    for _ in range(PLACES):
        last = Position(tuple(chance.randrange(1, last + 1) for last in end.shards), ALL_DURABLE)
        for place in (
            last,
            Position(
                tuple(min(one + 7, it) for one, it in zip(last.shards, end.shards, strict=True)), ALL_DURABLE
            ),
        ):
            with Twin(journal) as twin:
                twin.replay(place, only_ordered=True)
                in_the_middle += twin.position.taken > 0
                with hold_snapshots(journal):
                    twin.save()
            with Twin(journal) as twin:
                twin.replay()
                assert logs_of(twin.transport.memory) == logs
                assert twin.exchange.digest() == digest
        shutil.rmtree(journal / "snapshots")
    assert in_the_middle > 0


def test_a_snapshot_knows_no_more_of_the_merge_stream_than_it_was_told(tmp_path: Path) -> None:
    compile_recovery(overrides(tmp_path / "compiling", **OPTIONS))
    journal = tmp_path / "copy"
    run(written(tmp_path / "journal", journal), overrides(tmp_path / "compiling", **OPTIONS))
    with Twin(journal) as twin:
        twin.replay(only_ordered=True)
        end = twin.position
    assert end.merge > 2
    for merge in range(1, end.merge):
        with Twin(journal) as twin:
            twin.replay(Position(end.shards, merge), only_ordered=True)
            assert (twin.position.merge, twin.position.taken) == (merge, 0)
