"""The exchange under simulation: its agents, stepped by hand, and the door at which clients log on.

It is put together by :class:`exchange.assembly.Exchange` from the same settings as a served one, with the same
transport and the same control plane. Its threads are never started: a step is one call of ``do_work`` of one agent, of
the body that a thread would run, compiled.

Behind each step of a shard the simulation looks at what the shard has numbered and at the events that it made of it,
where they lie in the shard's memory. Nothing of the exchange knows of it."""

import os
from collections.abc import Sequence
from contextlib import suppress
from ctypes import string_at
from pathlib import Path
from typing import Any, Final, NamedTuple

from exchange.agent import do_work
from exchange.agent_layout import agent_names
from exchange.assembly import Exchange
from exchange.clock import ManualTime
from exchange.errors import UserError
from exchange.gateway.control import ControlPlane
from exchange.gateway.credentials import OUCH42, Users
from exchange.gateway.logon import login_bytes_missing
from exchange.gateway.order_table import CLIENT_ORDER_ID, NO_ORDER, find_order, order_at
from exchange.gateway.outbound import DAY_NS
from exchange.gateway.session_memory import (
    INPUT_BEGIN,
    INPUT_END,
    LOG_END,
    LOG_MESSAGES,
    LOST_MESSAGES,
    REQUESTS,
    WAYS,
)
from exchange.journal.config import FileJournalConfig, NoneJournalConfig
from exchange.journal.identity import Opening
from exchange.journal.keeper import DiskFailure
from exchange.journal.layout import first_sequence_of, shard_stream
from exchange.journal.mapped import MappedWriter
from exchange.journal.none import NoneWriter
from exchange.journal.reading import StreamReader, records_of
from exchange.journal.segment import segment_paths
from exchange.journal.segmented import SegmentedJournal
from exchange.journal.streams import JournalStreams
from exchange.journal.words import OFFSET, PLACE
from exchange.matching.shard import EVENTS, PENDING, SEQUENCE, Shard
from exchange.matching.symbol_owners import spread_symbols
from exchange.messages import RECORD_BYTES, Command
from exchange.native import body_for, load_int64
from exchange.recovery.kept import KeptJournal
from exchange.risk import build_risk
from exchange.risk.limits import LimitsMemory
from exchange.risk.recount import recount
from exchange.settings import Settings
from exchange.simulation.chance import Trace
from exchange.simulation.invariants import broken, text_of_words
from exchange.simulation.network import Line
from exchange.simulation.refusals import close_as_the_kernel_does
from exchange.transport.network import NetworkOptions
from exchange.transport.tcp import TcpTransport
from exchange.wire.fields import WireError
from exchange.wire.ouch_codes import EventCode
from exchange.wire.soupbintcp import LoginRejected, LoginRejectReason, LoginRequest

START_NS: Final = 1_700_000_000_000_000_000
"""When every simulation begins: a moment in November 2023."""

EGRESS: Final = "egress"
OPENING: Final = Opening("run1", START_NS // DAY_NS * DAY_NS, START_NS)


class SteppedAgent(NamedTuple):
    """An agent, the body to call for a step, and for a shard its number, else -1."""

    name: str
    state: Any
    body: Any
    shard: int


class Made(NamedTuple):
    """What a shard made in a step: the records that it numbered, and their events."""

    shard: int
    records: bytes
    events: bytes


class SimulatedVenue:
    """An exchange with a gateway, built and stepped by hand. If it has a journal, it goes on where that ends.

    Args:
        settings: with the transport ``tcp``.
        users: who may log on; a user's number is the session's.
        time: the exchange's clock.
        trace: where steps are noted.

    Raises:
        UserError: the journal cannot be gone on with.
    """

    def __init__(self, settings: Settings, users: Users, time: ManualTime, trace: Trace) -> None:
        symbols, shards = settings.gateway.symbols, settings.shards
        self.settings: Final = settings
        self._trace: Final = trace
        self._waiting: list[tuple[Line, bytearray]] = []
        self._syncs: Final[dict[str, int]] = {}
        is_kept = not isinstance(settings.journal, NoneJournalConfig)
        self._journal: Final = KeptJournal(settings, users, OPENING) if is_kept else None
        self._users: Final = users if self._journal is None else self._journal.users
        self.transport: Final = TcpTransport(
            settings.gateway,
            settings.book,
            len(users.users),
            spread_symbols(settings, len(symbols)),
            shards.count,
            settings.transport.ingress_lanes,
            shards.batch_commands,
            NetworkOptions(
                time.clock,
                is_kept,
                -OPENING.midnight_ns % DAY_NS,
                build_risk(settings.risk, [user.name for user in self._users.users], symbols),
            ),
        )
        for session_id, user in enumerate(self._users.users):
            if user.cancels_on_disconnect:
                self.transport.cancel_on_disconnect(session_id)
            if user.protocol == OUCH42:
                self.transport.speak_ouch42(session_id)
        streams = self._open_streams()
        self.exchange: Final = Exchange(settings, len(symbols), self.transport, None, streams)
        self.control: Final = ControlPlane(self.transport, self._users, OPENING.session_name)
        self.agents: Final = _agents_of(self.exchange, agent_names(settings))
        if self._journal is not None:
            self._journal.recover(self.exchange, self.transport, None)
            recount(self.transport.risk, self.transport.memory)
        if self._journal is None or self._journal.is_new:
            self.transport.announce(EventCode.START_OF_DAY)

    def _open_streams(self) -> JournalStreams | None:
        if self._journal is None:
            return None
        try:
            return self._journal.open_streams()
        except UserError:
            self.close()
            raise

    # Agents.

    def step(self, agent: SteppedAgent) -> tuple[int, Made | None]:
        """Let an agent do what it can; how much that was, and what it made if it is a shard.

        Raises:
            BrokenInvariant: it made something of what its journal has not taken.
        """
        if agent.shard < 0:
            return agent.body(agent.state), None
        words = agent.state.words
        sequence, events = load_int64(words + SEQUENCE), load_int64(words + EVENTS)
        refused = self.refused_count(agent)
        done = agent.body(agent.state)
        records = load_int64(words + SEQUENCE) - sequence
        if records == 0:
            return done, None
        if self.refused_count(agent) > refused:
            raise broken("what is not written is not done", f"{agent.name} has sequenced {records} records")
        made = load_int64(words + EVENTS) - events
        return done, Made(
            agent.shard,
            self._newest_records(agent, records * RECORD_BYTES),
            string_at(agent.state.events, made * RECORD_BYTES),
        )

    def _newest_records(self, shard: SteppedAgent, size_bytes: int) -> bytes:
        """What a shard has just numbered: its batch, or with a journal, the frame that it has just written."""
        journal = shard.state.journal
        if isinstance(journal, NoneWriter):
            return string_at(shard.state.batch, size_bytes)
        place, offset = (load_int64(journal.shape.words + word) for word in (PLACE, OFFSET))
        if isinstance(journal, MappedWriter):
            return string_at(place + offset - size_bytes, size_bytes)
        return os.pread(place, size_bytes, offset - size_bytes)

    def streams(self) -> list[SegmentedJournal]:
        """The journals of all streams that are kept."""
        journals = (*self.exchange.journals.shards, self.exchange.journals.merge)
        return [one for one in journals if isinstance(one, SegmentedJournal)]

    def journal_of(self, agent: SteppedAgent) -> SegmentedJournal | None:
        """The journal that an agent appends to: a shard its own, the egress that of their order."""
        journal = (
            self.exchange.journals.shards[agent.shard] if agent.shard >= 0 else self.exchange.journals.merge
        )
        is_writer = agent.shard >= 0 or agent.name == EGRESS
        return journal if is_writer and isinstance(journal, SegmentedJournal) else None

    def refused_count(self, agent: SteppedAgent) -> int:
        """How many of its appends were refused."""
        journal = self.journal_of(agent)
        return 0 if journal is None else journal.refused_count()

    def newly_synced(self) -> list[str]:
        """The names of the streams that have been synced since somebody last asked."""
        found = []
        for journal in self.streams():
            name, count = journal.folder.name, journal.sync_count()
            if count > self._syncs.get(name, 0):
                self._syncs[name] = count
                found.append(name)
        return found

    def close_journals(self) -> None:
        """Close all journals as an exchange does that ends because its disk has failed."""
        with suppress(DiskFailure):
            self.exchange.journals.close()

    def sequence(self, shard: int) -> int:
        """The number of the last record that a shard has."""
        return int(load_int64(self.exchange.shards[shard].words + SEQUENCE))

    def journaled(self, shard: int) -> tuple[int, bytes]:
        """The records of a shard's journal that are kept, and the sequence of the first of them."""
        assert self._journal is not None
        directory, name = self._journal.directory, shard_stream(shard)
        names = [path.name for path in segment_paths(directory.path / name)]
        first = next(filter(None, map(first_sequence_of, names)), 1)
        with StreamReader(directory.path / name, directory.identity.stream(name), first) as reader:
            return first, b"".join(records_of(frame).tobytes() for frame in reader.frames())

    def pending_events(self) -> int:
        """Events that shards have made and not handed on."""
        return sum(load_int64(one.state.words + PENDING) for one in self.agents if one.shard >= 0)

    def input_words(self) -> bytes:
        """How far the decoding of all sessions is: what decoding changes and no agent counts, changes this."""
        memory = self.transport.memory
        return b"".join(memory.column(word).tobytes() for word in (REQUESTS, INPUT_BEGIN, INPUT_END))

    def command(self, command: Command) -> bool:
        """A command of the control plane's own."""
        return self.transport.command(command)

    # The door.

    def connect(self, line: Line) -> None:
        """A client has connected and is to log on."""
        self._waiting.append((line, bytearray()))

    def waiting(self) -> int:
        """How many connections are logging on."""
        return len(self._waiting)

    def look_at_door(self, place: int) -> None:
        """Go on with one of the connections that are logging on, and then look for those that have ended."""
        if self._waiting:
            line, packet = self._waiting[place % len(self._waiting)]
            if not self._go_on(line, packet):
                self._waiting.remove((line, packet))
        self.control.reap()

    def _go_on(self, line: Line, packet: bytearray) -> bool:
        """Read what a login lacks, and let it in if it is whole; whether there is more to do."""
        while (missing := login_bytes_missing(bytes(packet))) > 0:
            try:
                received = line.far.recv(missing)
            except BlockingIOError:
                return True
            except OSError:
                received = b""
            if not received:
                return self._turn_away(line, "nothing")
            packet += received
        try:
            if missing < 0:
                raise WireError("no login")
            request = LoginRequest.decode(packet)
        except (WireError, UserError):
            return self._turn_away(line, "no login")
        return self._log_on(line, request)

    def _log_on(self, line: Line, request: LoginRequest) -> bool:
        session_id = self._users.authenticate(request.username, request.password)
        if session_id is None:
            return self._reject(line, LoginRejectReason.NOT_AUTHORIZED)
        if request.requested_session not in ("", self.control.session_name):
            return self._reject(line, LoginRejectReason.SESSION_NOT_AVAILABLE)
        if session_id in self.control.connections:
            self.control.disconnect(session_id)
            return True
        try:
            sequence = self.control.hand_over(
                session_id, line.far, line.name, request.requested_sequence_number
            )
        except OSError:
            return self._turn_away(line, "gone")
        self._trace.note("logged on", line.name, session_id, sequence)
        return False

    def _reject(self, line: Line, reason: LoginRejectReason) -> bool:
        with suppress(OSError):
            line.far.send(LoginRejected(reason).encode())
        return self._turn_away(line, reason)

    def _turn_away(self, line: Line, why: str) -> bool:
        self._trace.note("turned away", line.name, why)
        line.far.close()
        return False

    # What can be seen of it.

    def session(self, session_id: int) -> int:
        """Where a session's memory begins."""
        return self.transport.memory.address(session_id)

    def logged_messages(self, session_id: int) -> list[bytes]:
        """All messages of a session's log, without their framing."""
        session, sessions = self.session(session_id), self.transport.memory.sessions
        log = string_at(session + sessions.log_offset, load_int64(session + LOG_END))
        messages, place = [], 0
        while place < len(log):
            following = place + 2 + int.from_bytes(log[place : place + 2], "big")
            messages.append(log[place + 3 : following])
            place = following
        return messages

    def log_messages(self, session_id: int) -> int:
        """How many messages a session's log has."""
        return int(load_int64(self.session(session_id) + LOG_MESSAGES))

    def lost_messages(self, session_id: int) -> int:
        """How many messages found a session's log full."""
        return int(load_int64(self.session(session_id) + LOST_MESSAGES))

    def exposure(self, session_id: int) -> tuple[int, int] | None:
        """Open orders and exposure of a session, as they are counted; None if nobody counts them."""
        risk = self.transport.risk
        if not isinstance(risk, LimitsMemory):
            return None
        counted = risk.read_session(session_id)
        return counted.open_orders, counted.exposure

    def table_numbers(self, session_id: int) -> set[int]:
        """The numbers of the orders that a session's table has alive."""
        sessions, session = self.transport.memory.sessions, self.session(session_id)
        places = range(sessions.sets * WAYS)
        return {number for number, _order in (order_at(sessions, session, place) for place in places)} - {0}

    def client_order_id(self, session_id: int, number: int) -> str:
        """What a client calls an order; nothing if the order is not in the session's table."""
        order = find_order(self.transport.memory.sessions, self.session(session_id), number)
        return text_of_words(string_at(order + CLIENT_ORDER_ID, 16)) if order != NO_ORDER else ""

    def close(self) -> None:
        """Let go of everything as a process does that is killed; connections belong to their lines."""
        self._waiting.clear()
        self.transport.close()
        if self._journal is not None:
            self._journal.close()
        # What is mapped closes its descriptors itself when nobody has it any more.
        if isinstance(self.settings.journal, FileJournalConfig):
            close_as_the_kernel_does(Path(self.settings.journal.directory))


def _agents_of(exchange: Exchange, names: Sequence[str]) -> list[SteppedAgent]:
    """All agents, which are on one thread in the order of their names."""
    (thread,) = exchange.threads.agent_threads
    found: list[SteppedAgent] = []
    for name, state in zip(names, thread.agents, strict=True):
        shard = int(name.removeprefix("shard.")) if isinstance(state, Shard) else -1
        found.append(SteppedAgent(name, state, body_for(do_work, state), shard))
    return found
