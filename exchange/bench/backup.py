"""The backup of an exchange in memory, for a benchmark: started, attached and in sync before the first command is due.

It is a process of its own (:mod:`exchange.bench.backup_process`), as a backup is; on one machine, for want of a second.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final, Self

import msgspec

from exchange.bench.backup_process import BackupPlan, Followed
from exchange.bench.micro import choose_cores
from exchange.child_command import child_environment
from exchange.errors import UserError
from exchange.journal.streams import JournalStreams
from exchange.replication.config import NoneReplicationConfig
from exchange.replication.protocol import NO_DEADLINE
from exchange.replication.providers import host_facts
from exchange.replication.streams import ReplicaStreams
from exchange.settings import Settings

SYNC_SECONDS: Final = 5.0
STOP_SECONDS: Final = 5.0
"""For the backup to remove its journal. It is ended by force then."""


class BackupProcess:
    """A process in which backups run, one after the other. Use it in a ``with`` statement."""

    def __init__(self) -> None:
        self._process: Final = subprocess.Popen(
            (sys.executable, "-P", "-m", "exchange.bench.backup_process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C is for us
            env=child_environment(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # The end of its input is the end of it; it removes its journal then.
        with suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=STOP_SECONDS)
        self._process.kill()
        self._process.communicate()

    def ask(self, what: Any) -> Any:
        """Tell it the next thing; what it answers.

        Raises:
            UserError: it has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(msgspec.json.encode(what).decode() + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            told = self._process.communicate()[1].strip().splitlines()
            raise UserError(f"the backup has ended: {told[-1] if told else 'without a word'}")
        return msgspec.json.decode(line)


class Backup:
    """A backup that is ready, and the primary's side of it.

    Attributes:
        replica: what the exchange is built with.
        provider: which way it is reached, and why.
    """

    def __init__(self, replica: ReplicaStreams, process: BackupProcess, plan: BackupPlan) -> None:
        self.replica: Final = replica
        self._process: Final = process
        self._link: Any = None
        offer = self._process.ask(plan)
        self._link = replica.connect(offer)
        reason = self._process.ask(self._link.answer())["reason"]
        self.provider: Final[str] = f"{offer.get('provider', 'tcp')}{': ' if reason else ''}{reason}"

    def attach(self) -> None:
        """Attach the backup to the exchange, which is running and has sequenced nothing, and wait for it from now on.

        Raises:
            UserError: it did not come in sync.
        """
        self._process.ask(self.replica.attach(self._link))
        self.replica.set_lease_deadline_ns(NO_DEADLINE)
        if not self.replica.hold(SYNC_SECONDS):
            raise UserError(f"the backup did not come in sync: {self.replica.failure or 'it is too slow'}")

    def check(self) -> None:
        """Raise UserError if the backup was lost, for then nothing leaves any more."""
        if self.replica.failure:
            raise UserError(f"the backup was lost: {self.replica.failure}")

    def finish(self) -> Followed:
        """What the backup has, after everything has been answered; it is over then.

        Raises:
            UserError: it has lost its link, or does not have everything.
        """
        appended = [one.next_sequence - 1 for one in self.replica.positions()]
        deadline = time.monotonic() + SYNC_SECONDS
        while any(
            one.received_sequence < last
            for one, last in zip(self.replica.progress().streams, appended, strict=True)
        ):
            self.check()
            if time.monotonic() > deadline:
                raise UserError("the backup does not go on")
            time.sleep(0.001)
        self.replica.let_go()
        found = msgspec.convert(self._process.ask({}), Followed)
        self.replica.detach()
        if found.sequences != appended:
            raise UserError(
                f"the backup has records up to {found.sequences}, and the primary up to {appended}"
            )
        return found

    def close(self) -> None:
        """Let go of the link."""
        if self._link is not None:
            self._link.close()


@contextmanager
def backup_of(
    settings: Settings,
    shard_of_symbol: Sequence[int],
    journals: JournalStreams | None,
    process: BackupProcess | None = None,
    core: int | None = None,
) -> Iterator[Backup | None]:
    """The backup that an exchange with these settings has, until the block ends; None if it has none.

    The threads of the exchange must have ended then. ``process`` is where it runs, by default one of its own,
    and ``core`` on which core, by default another than ours.

    Raises:
        UserError: it cannot be started, or cannot be reached.
    """
    if isinstance(settings.replication, NoneReplicationConfig):
        yield None
        return
    assert journals is not None, "the settings refuse that"
    plan = BackupPlan(
        settings=settings,
        shard_of_symbol=list(shard_of_symbol),
        journal_id=journals.journal_id,
        facts=host_facts()._asdict(),
        core=choose_cores().second if core is None else core,
    )
    with ExitStack() as stack:
        running = stack.enter_context(BackupProcess()) if process is None else process
        backup = Backup(ReplicaStreams(settings.replication, settings.shards.count), running, plan)
        stack.callback(backup.close)
        yield backup
