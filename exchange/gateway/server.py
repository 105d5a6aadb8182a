"""An exchange with a gateway, from its start to its end: what ``exchange serve`` runs.

Start: the address is taken, then memory, threads and compiled loops are made, and only then does the socket listen: who
comes before the exchange could answer is refused by the kernel, and not left to wait.
Each session's log begins with System Event "start of day", which goes through the exchange as everything does.

End, on SIGTERM or Ctrl-C, within a second: accept nobody any more; take nothing in any more; let what was taken in come
out at the other end, and behind it "end of day"; have the agents let go of the sockets and stop; then send each client
what it has not been sent, say End of Session and close, and end the feed in the same way. A client that does not read
is not waited for.

A GLIMPSE server may run beside it (:mod:`exchange.market_data.glimpse_process`); it is there before the feed begins and
until the feed has ended.

The main thread runs the control plane and sleeps most of the time; commands never pass through it."""

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exchange.admin.config import HttpAdminConfig
from exchange.agent_layout import EGRESS_AGENT
from exchange.assembly import Exchange, Progress, plan_exchange
from exchange.datagrams.opening import PortChoice, open_port
from exchange.errors import UserError
from exchange.gateway.control import WATCH_SECONDS, ControlPlane
from exchange.gateway.credentials import OUCH42, Users
from exchange.gateway.logon import bind_listener
from exchange.gateway.outbound import DAY_NS
from exchange.gateway.session_log import last_message
from exchange.gateway.udp_control import UdpControlPlane
from exchange.journal.config import NoneJournalConfig
from exchange.journal.identity import Opening
from exchange.logs import log_event
from exchange.market_data.config import MoldUdp64MarketDataConfig
from exchange.market_data.feed_server import FeedServer
from exchange.market_data.first_spin import encode_first_spin
from exchange.market_data.glimpse_process import GlimpseProcess
from exchange.matching.symbol_owners import spread_symbols
from exchange.placement.memory_owners import made_for, memory_as_planned
from exchange.recovery.kept import KeptJournal
from exchange.recovery.snapshot_process import SnapshotProcess
from exchange.replication.config import NoneReplicationConfig
from exchange.replication.streams import ReplicaStreams
from exchange.risk import build_risk
from exchange.risk.recount import recount
from exchange.settings import Settings
from exchange.transport.config import DatagramTransportConfig, MemoryTransportConfig, TcpTransportConfig
from exchange.transport.network import NetworkOptions, NetworkTransport, zone_offset_ns
from exchange.transport.tcp import TcpTransport
from exchange.transport.udp import UdpTransport
from exchange.wire.ouch50 import SystemEvent
from exchange.wire.ouch_codes import EventCode

if TYPE_CHECKING:
    from exchange.admin.listening import AdminListener

DRAIN_SECONDS: Final = 0.3
"""How long the end waits for what is still inside to come out; that takes microseconds unless something is wrong."""

ANNOUNCE_SECONDS: Final = 1.0
"""How long an ingress may take to take a System Event: microseconds, unless the machine is busy."""

QUIET_LOOKS: Final = 3
"""The exchange has come to rest if so many looks in a row, a millisecond apart, saw the same."""

BACKLOG: Final = 512
"""Connections that the kernel keeps until they are accepted."""

_Config = TcpTransportConfig | DatagramTransportConfig

Listening = Callable[[str, int], None]
"""Told the address and the port when clients can connect."""


class Server:
    """An exchange and its gateway, built and not running.

    Args:
        settings: a profile whose transport is ``tcp``, ``udp``, ``afxdp`` or ``dpdk``.
        users: who may log on.

    Attributes:
        ended_by: the signal that has ended it, if one has.

    Raises:
        UserError: the profile has no gateway, or a part that is not compiled; its address cannot be listened on.
    """

    def __init__(self, settings: Settings, users: Users) -> None:
        if isinstance(settings.transport, MemoryTransportConfig):
            raise UserError(
                f"profile {settings.name}: transport.kind must be tcp, udp, afxdp or dpdk to be served; 'serve' is such"
                " a profile, and --set transport.kind=tcp makes one of any other"
            )
        _check_compiled(settings)
        self.settings: Final = settings
        self.built_seconds: Final = time.monotonic()
        opening = open_day(settings.gateway.time_zone, time.time_ns())
        self.journal: Final = self._keep_journal(users, opening)
        if self.journal is not None:
            users, opening = self.journal.users, self.journal.opening
        self._opening: Final = opening
        self.listener: Final = self._bind(settings.transport)
        plan = plan_exchange(settings)
        with memory_as_planned(plan):
            self.transport: Final = self._build_transport(settings.transport, users)
            for session_id, user in enumerate(users.users):
                if user.cancels_on_disconnect:
                    self.transport.cancel_on_disconnect(session_id)
                if user.protocol == OUCH42:
                    self.transport.speak_ouch42(session_id)
            self.feed: Final = made_for(EGRESS_AGENT, "", self._build_feed, opening)
            self.admin: Final = self._build_admin()
            streams = None if self.journal is None else self.journal.open_streams()
        self.exchange: Final = Exchange(
            settings,
            len(settings.gateway.symbols),
            self.transport,
            self.feed,
            streams,
            plan,
            self._build_replica(),
        )
        self.control: Final = self._build_control(users, opening.session_name)
        self._stop: Final = asyncio.Event()
        self._is_prepared = False
        self.ended_by: signal.Signals | None = None

    def _keep_journal(self, users: Users, opening: Opening) -> KeptJournal | None:
        kept = not isinstance(self.settings.journal, NoneJournalConfig)
        return KeptJournal(self.settings, users, opening) if kept else None

    def _build_replica(self) -> ReplicaStreams | None:
        """What a backup gets; :mod:`exchange.gateway.paired_server` leads it."""
        config = self.settings.replication
        if isinstance(config, NoneReplicationConfig):
            return None
        assert self.journal is not None, "the settings refuse it"
        return ReplicaStreams(config, self.settings.shards.count, self.journal.next_sequences)

    def _bind(self, config: _Config) -> socket.socket | None:
        """The socket that will listen, where clients connect to one."""
        return bind_listener(config.address, config.port) if isinstance(config, TcpTransportConfig) else None

    def _build_transport(self, config: _Config, users: Users) -> NetworkTransport:
        settings, shards = self.settings, self.settings.shards
        owners = spread_symbols(settings, len(settings.gateway.symbols))
        names = [user.name for user in users.users]
        alike = (settings.gateway, settings.book, len(names), owners, shards.count)
        options = NetworkOptions(
            keeps_details=self.journal is not None,
            midnight_ns=-self._opening.midnight_ns % DAY_NS,
            risk=build_risk(settings.risk, names, settings.gateway.symbols),
        )
        if not isinstance(config, TcpTransportConfig):
            port = open_port(PortChoice(config))
            try:
                return UdpTransport(*alike, shards.batch_commands, port, options)
            except BaseException:
                port.close()
                raise
        return TcpTransport(*alike, config.ingress_lanes, shards.batch_commands, options)

    def _build_control(self, users: Users, session: str) -> ControlPlane:
        if isinstance(self.transport, UdpTransport):
            return UdpControlPlane(self.transport, users, session)
        return ControlPlane(self.transport, users, session)

    def _build_feed(self, opening: Opening) -> FeedServer | None:
        settings, config = self.settings, self.settings.market_data
        if not isinstance(config, MoldUdp64MarketDataConfig):
            return None
        symbols, shards = settings.gateway.symbols, settings.shards.count
        return FeedServer(
            config,
            symbols,
            opening.session_name,
            capacity_orders=shards * settings.book.capacity_orders,
            shard_of_symbol=spread_symbols(settings, len(symbols)),
            midnight_ns=opening.midnight_ns,
        )

    def _build_admin(self) -> "AdminListener | None":
        config = self.settings.admin
        if not isinstance(config, HttpAdminConfig):
            return None
        from exchange.admin.listening import AdminListener

        listener = bind_listener(config.address, config.port)
        try:
            return AdminListener(config, listener)
        except UserError:
            listener.close()
            raise

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: address and port."""
        if isinstance(self.transport, UdpTransport):
            return self.transport.port.address
        assert self.listener is not None
        address, port = self.listener.getsockname()[:2]
        return str(address), int(port)

    def leave_cores_to_agents(self) -> None:
        """Keep this process, and all that it starts, off the cores to which agents are bound; agents bind themselves.

        What the control plane does in a flood of logons would else be done where orders are matched, now and then.
        Nothing happens where no core would be left. No agent may be running.
        """
        plan = self.exchange.plan
        taken = {one.processing_unit for one in plan.assignments if one.processing_unit is not None}
        free = os.sched_getaffinity(0) - taken
        if plan.is_this_machine and taken and free:
            for thread in Path("/proc/self/task").iterdir():  # numpy's are there already
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), free)

    def run(self, progress: Progress, listening: Listening) -> signal.Signals | None:
        """Serve until SIGTERM, SIGINT or :meth:`request_stop`; which signal it was. Call it on the main thread.

        If the profile says so, a GLIMPSE server runs beside it as a process of its own.
        """
        if self.journal is not None and not self.journal.is_new:
            progress(f"recovering from {self.journal.directory.path}")
        self.prepare()
        glimpse = self._build_glimpse()
        if glimpse is not None:
            glimpse.start()
        try:
            self.exchange.compile(progress)
            asyncio.run(self._serve_until_signal(listening, glimpse))
        finally:
            if glimpse is not None:
                glimpse.close()
        return self.ended_by

    def _build_glimpse(self) -> GlimpseProcess | None:
        """The GLIMPSE server, if there is to be one, as of now; no agent may be running."""
        settings, config = self.settings, self.settings.market_data
        if self.feed is None or not isinstance(config, MoldUdp64MarketDataConfig) or config.glimpse == "none":
            return None
        capacity_orders = settings.shards.count * settings.book.capacity_orders
        return GlimpseProcess(
            config,
            self.control.session_name,
            self.feed.source,
            settings.gateway.users_file,
            capacity_orders,
            encode_first_spin(self.feed.publisher) if self.feed.goes_on else None,
        )

    def prepare(self) -> None:
        """Open the day, and go back to where the journal ends; before any thread runs, and once.

        Raises:
            UserError: the journal cannot have been written by this exchange.
        """
        self._is_prepared = True
        if self.journal is not None and not self.journal.is_new:
            self.journal.recover(self.exchange, self.transport, self.feed)
            recount(self.transport.risk, self.transport.memory)
        if self.feed is not None:
            self.feed.open(self._opening.opened_ns - self._opening.midnight_ns)

    def request_stop(self) -> None:
        """End as after SIGTERM; to be called in the event loop that serves."""
        self._stop.set()

    async def _serve_until_signal(self, listening: Listening, glimpse: GlimpseProcess | None) -> None:
        self._heed_signals()
        async with glimpse or nullcontext(), self._snapshots() or nullcontext():
            await self.serve(listening)

    def _heed_signals(self) -> None:
        """End in order after SIGTERM and Ctrl-C; to be called in the event loop that serves."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _snapshots(self) -> SnapshotProcess | None:
        config = self.settings.journal
        if self.journal is None or isinstance(config, NoneJournalConfig):
            return None
        return SnapshotProcess(self.journal.directory.path, config.snapshot_every_ns)

    async def serve(self, listening: Listening) -> None:
        """Serve until :meth:`request_stop`, in an event loop of the caller's. Once for each server.

        Raises:
            Exception: whatever a thread of the exchange failed with; the sessions have been ended all the same.
        """
        loop = asyncio.get_running_loop()
        if not self._is_prepared:
            self.prepare()
        if self.feed is not None:
            self.feed.answer_requests(loop)
        try:
            await self._serve(loop, listening)
        finally:
            await self._take_leave()
            self._log_end()
            self.close()

    async def _take_leave(self) -> None:
        """Tell everybody that the day is over; no agent runs any more."""
        await self.control.end_sessions()
        if self.feed is not None:
            await self.feed.end()

    def _log_end(self) -> None:
        """With a journal, say which state a restart has to come back to."""
        fields: dict[str, Any] = {"session_name": self.control.session_name}
        if self.journal is not None and not self._has_failed():
            fields["digest"] = self.exchange.digest()
        log_event("ended", **fields)

    def close(self) -> None:
        """Close every descriptor; no thread of the exchange may be running. :meth:`serve` does it at its end."""
        if self.listener is not None:
            self.listener.close()
        self.transport.close()
        if self.admin is not None:
            self.admin.close()
        if self.feed is not None:
            self.feed.close()
        self.exchange.journals.close()
        self.exchange.replica.close()
        if self.journal is not None:
            self.journal.close()

    async def _serve(self, loop: asyncio.AbstractEventLoop, listening: Listening) -> None:
        with self.exchange.threads:
            if self._is_to_begin():
                await self._announce(EventCode.START_OF_DAY)
            if self.listener is not None:
                _listen(self.listener)
            if self.admin is not None:
                _listen(self.admin.listener)
                self.admin.start(self)
            self._log_start()
            accepting = loop.create_task(self.control.accept(self.listener))
            watching = loop.create_task(self._watch())
            listening(*self.address)
            try:
                await self._stop.wait()
            finally:
                looking = loop.create_task(self.admin.stop()) if self.admin is not None else None
                for task in (accepting, watching):
                    task.cancel()
                await asyncio.gather(accepting, watching, return_exceptions=True)
                if self.listener is not None:
                    self.listener.close()
                await self._end_day()
                await self.control.stop()
                if looking is not None:
                    await looking

    async def _end_day(self) -> None:
        """Take nothing in any more, and have what was taken in come out, and behind it the end of the day."""
        self.transport.drain()
        await self._come_to_rest()
        await self._announce(EventCode.END_OF_DAY)

    def _log_start(self) -> None:
        address, port = self.address
        log_event("listening", address=address, port=port, session_name=self.control.session_name)
        if self.admin is not None:
            address, port = self.admin.address
            token = self.settings.admin.token_file if isinstance(self.settings.admin, HttpAdminConfig) else ""
            secured = self.admin.is_encrypted
            log_event("admin listening", address=address, port=port, token_file=token, tls=secured)
            if not secured and not ipaddress.ip_address(address).is_loopback:
                log_event(
                    "admin not encrypted",
                    level=logging.WARNING,
                    address=address,
                    remedy="admin.tls_certificate and admin.tls_key, or an address of this machine only",
                )

    def _on_signal(self, number: signal.Signals) -> None:
        self.ended_by = number
        self.request_stop()

    async def _watch(self) -> None:
        """Close what has ended, and stop if a thread of the exchange has failed."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self.control.reap()
            if self._has_failed():
                self.request_stop()

    def _has_failed(self) -> bool:
        """Whether a thread of the exchange has ended with an error."""
        return any(thread.error is not None for thread in self.exchange.threads.threads)

    async def _come_to_rest(self) -> None:
        """Wait until everything that was taken in has been answered and sent, for a while at most."""
        deadline = time.monotonic() + DRAIN_SECONDS
        last, quiet = None, 0
        while quiet < QUIET_LOOKS and time.monotonic() < deadline:
            statuses = self.exchange.status()
            commands = sum(status.commands for status in statuses if status is not None)
            events = sum(status.events for status in statuses if status is not None)
            seen = (commands, events, self.transport.consumed(), self.transport.events())
            is_at_rest = (
                self.transport.is_idle()
                and commands >= self.transport.consumed()
                and events == self.transport.events()
                and self.transport.waiting() == 0
            )
            quiet = quiet + 1 if is_at_rest and seen == last else 0
            last = seen
            await asyncio.sleep(0.001)

    def _is_to_begin(self) -> bool:
        """Whether clients have to be told that the day begins: it has not yet, or it had ended before a restart."""
        memory = self.transport.memory
        last = last_message(memory.sessions, memory.address(0))
        return last == b"" or (
            last[0] == SystemEvent.layout.type_byte and last[-1] == ord(EventCode.END_OF_DAY)
        )

    async def _announce(self, event: EventCode) -> None:
        """Have a System Event written into every session's log, behind all that was said before."""
        deadline, before = time.monotonic() + ANNOUNCE_SECONDS, self.transport.consumed()
        self.transport.announce(event)
        while self.transport.consumed() == before and not self._has_failed() and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        await self._come_to_rest()


def open_day(time_zone: str, time_ns: int) -> Opening:
    """A day that begins at that time: its session is named by the second, its times count from the zone's midnight."""
    since_midnight_ns = (time_ns + zone_offset_ns(time_zone, time_ns)) % DAY_NS
    return Opening(f"{time_ns // 1_000_000_000:010d}", time_ns - since_midnight_ns, time_ns)


def _check_compiled(settings: Settings) -> None:
    """UserError for a profile with a part that would bring the interpreter into the order path."""
    for key, kind in (("queue.kind", settings.queue), ("book.kind", settings.book)):
        name = type(kind).__struct_config__.tag
        if name in ("python", "naive"):
            raise UserError(
                f"profile {settings.name}: {key} = {name!r} is plain Python; the gateway takes compiled layers,"
                " as those of the profile compiled"
            )


def _listen(listener: socket.socket) -> None:
    """Let clients come. Raises UserError if another server that was started meanwhile has the port."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        address, port = listener.getsockname()[:2]
        raise UserError(f"cannot listen on {address}, port {port}: {error.strerror or error}") from error
