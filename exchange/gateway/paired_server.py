"""A server that is one of a pair: the primary, which serves, or the backup, which follows and stands by.

::

    primary   compile -> acquire the lease -> recover -> threads -> listen ............. end the day -> end the lease
    backup    recover -> compile -> follow ......... take the lease over -> finish -> threads -> listen ....

A backup is built like any server, and its socket is bound and does not listen; what a restart does at its end is all
that is left to be done when it takes over (:mod:`exchange.recovery.following`). Everything that this calls has been
compiled by then.

Three ends are not the end of a day. A primary that was *replaced* lets go of its clients without End of Session, which
would tell them that the day is over, and says who replaced it. One that has *handed over* does the same in order: it
takes nothing in any more, has everything come out, and lets the backup have the lease. A *backup* says nothing to
anybody.

Rules: as of any server; what the other one of the pair wants comes in threads of :mod:`exchange.replication`, and
reaches the exchange through the event loop."""

import asyncio
import importlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Final

from exchange.agent import build_idle, do_work
from exchange.assembly import Progress
from exchange.errors import UserError
from exchange.gateway.credentials import Users
from exchange.gateway.pair_requests import PairRequests
from exchange.gateway.server import Listening, Server
from exchange.journal.streams import stream_names
from exchange.logs import log_event
from exchange.market_data.glimpse_process import GlimpseProcess
from exchange.native import body_for
from exchange.recovery.following import Following
from exchange.replication.backup import BackupSide, ExchangeEnded, Outcome, TookOver
from exchange.replication.catch_up import stream_ends
from exchange.replication.config import ActiveReplicationConfig, NoneReplicationConfig, node_name
from exchange.replication.control_line import await_pair_secret, make_pair_secret, read_pair_secret
from exchange.replication.control_listener import ControlListener
from exchange.replication.intake import Intake
from exchange.replication.lease import LeaseKeeper, LeaseWatcher
from exchange.replication.primary import PairMember, PrimarySide
from exchange.replication.protocol import StreamStart
from exchange.replication.providers import host_facts
from exchange.replication.receiving import ReceivedStreams
from exchange.replication.streams import ReplicaStreams
from exchange.risk.recount import recount
from exchange.settings import BlockIdle, ParkIdle, Settings

HAND_OVER_SECONDS: Final = 5.0
"""How long the backup may take to have everything, when it is to take over."""

END_SECONDS: Final = 0.3
"""How long an end in order waits for the backup to have everything."""
STOP_SECONDS: Final = 0.8
LEASE_LOOK_SECONDS: Final = 0.02
"""So often it is looked whether the lease has run out."""
SYNC_EVERY_SECONDS: Final = 0.1
"""How often a backup syncs its journal, where the journal's agent has no thread of its own."""


BOOT_NAME: Final = "boot"
"""In the journal's folder: which start of the machine it was when this node was primary last."""


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()


class PairedServer(Server):
    """An exchange of a pair, built and not running.

    Args:
        settings: with replication, and a journal.
        users: who may log on.
        primary: where the control plane of the primary listens that this one is to back up; None for a primary.

    Attributes:
        node: our name.
        secret: of the pair.
        primary_address: where the control plane of the primary listens that we back up; None: we are to be primary.
        primary: the pair's affairs while this one is primary.
        backup: the pair's affairs while it is not, and was not yet.
        replaced_by: who has replaced it, in words; empty if nobody has.
        handed_over_to: whom it has handed over to; empty if to nobody.

    Raises:
        UserError: as :class:`Server`; or the secret cannot be read.
    """

    def __init__(self, settings: Settings, users: Users, primary: tuple[str, int] | None = None) -> None:
        config = settings.replication
        assert not isinstance(config, NoneReplicationConfig)
        self._config: Final[ActiveReplicationConfig] = config
        self.primary_address: Final = primary
        secret_file = Path(config.secret_file)
        if primary is None and make_pair_secret(secret_file):
            log_event("pair secret made", file=config.secret_file)
        self.secret: Final = (
            read_pair_secret(secret_file) if primary is None else await_pair_secret(secret_file)
        )
        self.node: Final = node_name(config)
        self.pair_listener: Final = ControlListener(config.address, config.port, self.node, self.secret)
        try:
            super().__init__(settings, users)
        except BaseException:
            self.pair_listener.close()
            raise
        self.primary: PrimarySide | None = None
        self.replaced_by = ""
        self.handed_over_to = ""
        self.backup: BackupSide | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handing_over: Future[str] | None = None
        self._glimpse: asyncio.Task[None] | None = None
        self._last_sync = 0.0

    def _member(self) -> PairMember:
        address, port = self.address
        return PairMember(
            self._config, self.node, self.secret, self.pair_listener.address, f"{address}:{port}"
        )

    def _replica(self) -> ReplicaStreams:
        replica = self.exchange.replica
        assert isinstance(replica, ReplicaStreams)
        return replica

    # As the primary.

    def run_as_primary(self, progress: Progress, listening: Listening) -> None:
        """Serve, if the lease can be had, until a signal, or until somebody else is primary.

        Raises:
            UserError: another one is primary.
        """
        assert self.journal is not None
        keeper = LeaseKeeper(self._config, self.node, self._member().clients_address)
        try:
            directory, identity = self.journal.directory.path, self.journal.directory.identity
            ends = stream_ends(directory, identity, self.journal.next_sequences)
            self.exchange.compile(progress)  # before the lease, whose renewals a compiler would hold up
            self._check_boot()
            progress("asking for the lease")
            grant = keeper.acquire(after_epoch=max(end.epoch for end in ends))
            self._lead(keeper, grant.epoch)
            self.run(progress, listening)
        finally:
            keeper.close()
            self.pair_listener.close()

    def _check_boot(self) -> None:
        """Refuse to go on with a journal whose last moments a machine may have lost that the backup has.

        Raises:
            UserError: this node was primary, its machine was started again since, and a backup was in sync.
        """
        assert self.journal is not None
        known = self.journal.directory.path / BOOT_NAME
        if self.exchange.journals.gate == "synced" or not known.exists():
            return
        with LeaseWatcher(self._config) as watcher:
            record = watcher.record()
        if record is None or record.primary != self.node or not record.in_sync or record.ended:
            return
        if known.read_text() != _boot_id():
            raise UserError(
                f"this machine was started again since {self.node!r} was primary, and its journal may lack the last"
                f" moments, which {record.backup!r} has: start that one with 'exchange serve', and this one as its"
                f" backup; or delete {known} to go on without them"
            )

    def _lead(self, keeper: LeaseKeeper, epoch: int) -> None:
        """Be primary from now on, in an epoch of its own. No shard runs."""
        assert self.journal is not None
        directory = self.journal.directory
        (directory.path / BOOT_NAME).write_text(_boot_id())
        self.exchange.journals.set_epoch(epoch)
        self.primary = PrimarySide(
            self._member(), self._replica(), keeper, directory.path, directory.identity, self._replaced
        )
        self.primary.start()
        log_event("primary", node=self.node, epoch=epoch)

    def _replaced(self) -> None:
        """Somebody else is primary: end. On a thread of the lease's."""
        assert self.primary is not None
        record = self.primary.replaced_by
        self.replaced_by = (
            f"{record.primary} ({record.primary_address}), in epoch {record.epoch}"
            if record is not None
            else "somebody: the lease is not in the store any more"
        )
        self._in_loop(self.request_stop)

    def _in_loop(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(call)

    async def serve(self, listening: Listening) -> None:
        """As of any server; the pair can be reached from the moment when clients can."""
        self._loop = asyncio.get_running_loop()
        if self.replaced_by:
            self.request_stop()
        watching = asyncio.create_task(self._watch_lease())
        try:
            await super().serve(self._also_to_the_pair(listening))
        finally:
            watching.cancel()

    async def _watch_lease(self) -> None:
        """Let clients go while somebody else may lead. All that they are told is heartbeats, and for those they would
        stay as long as they reach us, though we do not reach the store."""
        while not self._stop.is_set():
            primary = self.primary
            is_closed = primary is not None and primary.may_be_replaced
            if is_closed and not self.control.is_closed:
                log_event("clients let go", level=logging.WARNING, reason="the lease has run out")
            self.control.is_closed = is_closed
            if is_closed:
                for session_id in tuple(self.control.connections):
                    self.control.disconnect(session_id)
            await asyncio.sleep(LEASE_LOOK_SECONDS)
        self.control.is_closed = False

    def _also_to_the_pair(self, listening: Listening) -> Listening:
        def told(address: str, port: int) -> None:
            self.pair_listener.handle_with(PairRequests(self).handle)
            if self.backup is None:
                self.pair_listener.start()
            log_event("pair listening", address=self.pair_listener.address, node=self.node)
            listening(address, port)

        return told

    async def _end_day(self) -> None:
        """The day ends only if nobody goes on with it."""
        primary = self.primary
        assert primary is not None
        if self.replaced_by:
            return
        if self._has_failed():
            await self._give_up(primary)
        elif self._handing_over is not None:
            await self._hand_over(primary, self._handing_over)
        else:
            await self._end_in_order(primary)

    async def _end_in_order(self, primary: PrimarySide) -> None:
        await super()._end_day()
        if primary.is_in_sync and not await asyncio.to_thread(primary.wait_until_applied, END_SECONDS):
            log_event("backup does not have the end of the day", level=logging.WARNING)
        await asyncio.to_thread(primary.end)

    async def _give_up(self, primary: PrimarySide) -> None:
        """A thread of ours has failed. The backup, if one is in sync, has what was acknowledged: it goes on."""
        if primary.is_in_sync:
            self.handed_over_to = primary.backup
            with suppress(UserError):
                await asyncio.to_thread(primary.hand_over)
                log_event("handed over", to=self.handed_over_to, epoch=primary.epoch)

    async def _hand_over(self, primary: PrimarySide, told: Future[str]) -> None:
        """Let the backup take over when it has everything. If it cannot, this exchange has taken nothing in any more
        and ends in order."""
        backup = primary.backup
        self.transport.drain()
        await self._come_to_rest()
        try:
            if not await asyncio.to_thread(primary.wait_until_applied, HAND_OVER_SECONDS):
                raise UserError("the backup has not applied everything in time; the exchange has ended")
            if not await asyncio.to_thread(primary.hand_over):
                log_event("lease not handed over; it runs out", level=logging.WARNING)
        except UserError as error:
            told.set_exception(error)
            await self._end_in_order(primary)
            return
        self.handed_over_to = backup
        log_event("handed over", to=backup, epoch=primary.epoch)
        told.set_result(f"{self.node!r} has handed over to {backup!r}")

    async def _take_leave(self) -> None:
        primary = self.primary
        if self.replaced_by or self.handed_over_to:
            self.control.abandon_sessions()
            if self.feed is not None:
                self.feed.leave()
        else:
            await super()._take_leave()
        if self._glimpse is not None:
            self._glimpse.cancel()
            await asyncio.gather(self._glimpse, return_exceptions=True)
        if primary is not None:
            await asyncio.to_thread(primary.close)

    def begin_to_hand_over(self) -> Future[str]:
        """End, so that the backup takes over; what there is to say about it when it has. By any thread."""
        if self._handing_over is None:
            self._handing_over = Future()
            self._in_loop(self.request_stop)
        return self._handing_over

    # As the backup.

    def run_as_backup(self, progress: Progress, listening: Listening) -> Outcome:
        """Stand by, and serve from the moment when this one is primary; what came of standing by.

        Raises:
            UserError: the journal is damaged, or of another exchange; the lease store does not answer.
        """
        assert self.journal is not None
        assert self.primary_address is not None
        member = self._member()
        keeper = LeaseKeeper(self._config, self.node, member.clients_address)
        try:
            following = self._begin_to_follow(progress)
            with LeaseWatcher(self._config, self.node, member.clients_address) as watcher:
                self.backup = self._build_backup(member, following, watcher)
                host, port = self.primary_address
                progress(f"standing by for {host}:{port}; the pair listens on {member.control_address}")
                return asyncio.run(self._stand_by(following, keeper, listening))
        finally:
            keeper.close()
            self.pair_listener.close()

    def _begin_to_follow(self, progress: Progress) -> Following:
        """Come to where the journal is, and compile everything."""
        assert self.journal is not None
        if not self.journal.is_new:
            progress(f"recovering from {self.journal.directory.path}")
        if self.feed is not None:
            self.feed.compile()  # as long as it has nothing to send
        following = self.journal.follow(self.exchange, self.transport, self.feed)
        self._is_prepared = True
        following.compile()
        recount(self.transport.risk, self.transport.memory)
        if self.admin is not None:
            importlib.import_module("exchange.admin.app")  # so that its start takes no time
        self.exchange.compile(progress)
        progress("compiling the link")
        self._compile_link()
        return following

    def _compile_link(self) -> None:
        """Make a link to ourselves and poll it, so that the first one of the primary's finds everything compiled.

        Raises:
            UserError: no link can be made on this machine.
        """
        receiver, replica = self._build_receiver(), self._replica()
        try:
            link = replica.connect(receiver.offer(host_facts()))
            try:
                receiver.accept(link.answer())
                receiver.begin([StreamStart(0, 1)] * replica.stream_count, 0)
                receiver.poll(0)
            finally:
                link.close()
        finally:
            receiver.close()

    def _build_backup(self, member: PairMember, following: Following, watcher: LeaseWatcher) -> BackupSide:
        assert self.journal is not None
        assert self.primary_address is not None
        directory, journals = self.journal.directory, self.exchange.journals
        intake = Intake(journals, following, directory.identity, self.journal.next_sequences)
        return BackupSide(
            member, self.primary_address, directory.path, directory.identity, following, intake, watcher,
            self._build_receiver, self._sync_now_and_then,
        )  # fmt: skip

    def _build_receiver(self) -> ReceivedStreams:
        assert self.journal is not None
        identity = self.journal.directory.identity
        names = [identity.stream(name).name for name in stream_names(self.settings.shards.count)]
        idle = self.settings.idle
        return ReceivedStreams(
            self._config, names, build_idle(ParkIdle() if isinstance(idle, BlockIdle) else idle)
        )

    def _sync_now_and_then(self) -> None:
        """Sync the journal where the agent that does it shares a thread with others, which do not run yet."""
        if self.exchange.journal_agent_has_thread or time.monotonic() < self._last_sync + SYNC_EVERY_SECONDS:
            return
        self._last_sync = time.monotonic()
        agent = self.exchange.journals.agent()
        body_for(do_work, agent)(agent)

    async def _stand_by(self, following: Following, keeper: LeaseKeeper, listening: Listening) -> Outcome:
        backup = self.backup
        assert backup is not None
        self._loop = asyncio.get_running_loop()
        self._heed_signals()
        self.exchange.threads.start(self.exchange.journal_threads)
        is_served = False
        try:
            async with self._snapshots() or nullcontext():
                self.pair_listener.handle_with(PairRequests(self).handle)
                self.pair_listener.start()
                backup.start()
                outcome = await self._await_outcome(backup)
                if isinstance(outcome, TookOver):
                    self._take_over(outcome, following, keeper)
                    is_served = True
                    await self.serve(listening)
                return outcome
        finally:
            if not is_served:
                backup.request_stop()
                await asyncio.to_thread(backup.join, STOP_SECONDS)
                self.exchange.threads.stop()
                following.close()
                self._log_end()
                self.close()

    async def _await_outcome(self, backup: BackupSide) -> Outcome:
        """What comes of standing by; a signal asks it to end, and so does a thread of ours that fails."""
        waiting = asyncio.wrap_future(backup.outcome)
        while not waiting.done():
            stopping = asyncio.ensure_future(self._stop.wait())
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED, timeout=0.1)
            stopping.cancel()
            if self._stop.is_set():
                backup.request_stop()
                await asyncio.wait((waiting,), timeout=STOP_SECONDS)
                if not waiting.done():
                    return ExchangeEnded(is_asked=True)
            self.exchange.threads.check()
        return waiting.result()

    def _take_over(self, took: TookOver, following: Following, keeper: LeaseKeeper) -> None:
        """From a backup that has the lease to an exchange whose threads can be started."""
        assert self.journal is not None
        keeper.take(took.grant)
        self._lead(keeper, took.grant.epoch)
        journals = [*self.exchange.journals.shards, self.exchange.journals.merge]
        appended = [one.appended_sequence() for one in journals[: self._replica().stream_count]]
        self._replica().begin_behind([last + 1 for last in appended])
        following.finish()
        recount(self.transport.risk, self.transport.memory)
        if self.feed is not None:
            self.feed.open(self._opening.opened_ns - self._opening.midnight_ns)
        self._begin_glimpse()
        log_event(
            "took over",
            node=self.node,
            epoch=took.grant.epoch,
            live_orders=following.live_orders,
            seconds=round((time.monotonic_ns() - took.since_ns) / 1e9, 4),
        )

    def _begin_glimpse(self) -> None:
        """Have a GLIMPSE server started, if there is to be one, once the event loop has time for it."""
        try:
            glimpse = self._build_glimpse()
        except UserError as error:  # clients can trade without
            log_event("no glimpse", level=logging.ERROR, reason=str(error))
            return
        if glimpse is not None:
            self._glimpse = asyncio.get_running_loop().create_task(_keep_glimpse(glimpse))


async def _keep_glimpse(glimpse: GlimpseProcess) -> None:
    """Start a GLIMPSE server, and end it when this is cancelled."""
    try:
        glimpse.start()
        async with glimpse:
            await asyncio.Event().wait()
    finally:
        glimpse.close()
