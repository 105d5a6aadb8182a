"""A pair in the moments between its states: a backup that is in sync and was not told, and a second one.

The nodes are processes, as in :mod:`tests.system.test_replication_failover`."""

import signal
from pathlib import Path

from tests.lease_driver import Way
from tests.system.failover_campaign import HOST, Node, PairDay
from tests.system.kill_processes import Starter
from tests.system.test_replication_failover import (
    accepted,
    bare,
    bounded,
    command,
    day,
    refuses,
    starter,
)

__all__ = ["day", "starter"]


def test_a_backup_that_was_not_told_that_it_is_in_sync_takes_over_and_one_that_lost_its_memory_does_not(
    day: PairDay,
) -> None:
    """The primary dies between telling the lease store and telling the backup."""
    way = Way(day.primary.place.pair_port)
    way.lost_text = b'"in sync"'

    async def scenario() -> None:
        old, new = day.primary, day.backup
        old.start()
        await old.listens()
        new.start(old, way=f"{HOST}:{way.port}")
        await old.says("backup in sync")
        client = await bare(old, 2)
        await accepted(client, 1)
        await old.kill()
        await client.close()
        await new.listens()
        assert "state=in sync" not in new.log().replace('"', "")
        client = await bare(new, 3)
        await accepted(client, 2)
        await client.close()

        day.primary, day.backup = new, old
        old.start(new)
        await new.says("backup in sync")
        assert new.process is not None
        new.process.signal(signal.SIGSTOP)  # so that it cannot write down that it goes on alone
        await old.kill()
        await new.kill()
        old.start(new)
        said = await old.says("no takeover: ")
        assert "'a' was in sync with 'b' in epoch 2, but was started again since" in said
        assert "only if it is lost for good, end 'a' and start it without --backup-of" in said
        status = command(day, "status", "--node", old.place.pair_address)
        assert "; no takeover: 'a' was in sync with 'b' in epoch 2, but was started" in status.stdout

    try:
        bounded(scenario())
    finally:
        way.close()


def test_a_backup_that_is_there_first_waits_for_the_secret_and_a_second_one_is_refused_in_a_line(
    day: PairDay, starter: Starter
) -> None:
    """What becomes of the second when the first one is gone is told in tests/unit/test_pair_sides.py."""
    second = Node("b", day.primary.folder, day.options, starter)
    second.extra = (f"journal.directory={second.journal}-2",)
    secret = day.primary.folder / "secret"

    async def scenario() -> None:
        secret.unlink()
        day.backup.start(day.primary)
        await day.backup.says("waiting for the pair's secret")
        day.primary.start()
        await day.primary.says("pair secret made")
        await day.primary.says("backup in sync")
        assert secret.stat().st_mode & 0o777 == 0o600
        told = (
            f"'a' is backed up by 'b' already, at {day.backup.place.pair_address}, which has the same"
            " replication.node: each needs a name of its own; a pair has one backup, so end that one first"
        )
        await refuses(second.start(day.primary), told)
        assert not Path(f"{second.journal}-2").exists(), "nothing is copied for one that is refused"
        assert "Traceback" not in second.log()
        await day.primary.says("backup refused node=b")
        assert "backup gone" not in day.primary.log()

    bounded(scenario())
