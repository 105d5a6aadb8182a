"""The transports with clients on a network: what is alike in them, and what the control plane does with one.

A network transport owns the sessions' memory, a receiving half for each ingress lane and a sending half for the egress;
:mod:`~exchange.transport.tcp` and :mod:`~exchange.transport.udp` say which. What the bytes mean is the gateway's
(:mod:`exchange.gateway`): packets, requests and reports are functions of it.

Logging on, and everything else that happens once for a connection, is the control plane's
(:mod:`exchange.gateway.control`). It hands a connection over with :meth:`NetworkTransport.connect` and takes it back
with :meth:`NetworkTransport.released`; in between it does not touch it.

The owner holds memory and descriptors; whoever builds it keeps it, and closes it when the exchange's threads have
ended."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from exchange.agent_layout import EGRESS_AGENT, ingress_agent
from exchange.book.config import BookConfig
from exchange.book.ladder_events import KIND, SESSION_ID
from exchange.clock import Clock, now_ns, start_system_clock
from exchange.errors import UserError
from exchange.gateway.config import GatewayConfig
from exchange.gateway.inbound import ANSWER_KIND, ANSWER_REASON, ANSWER_USER_REFERENCE, SYSTEM_EVENT, Requests
from exchange.gateway.latency import LatencyMemory
from exchange.gateway.outbound import Reports, since_midnight_ns
from exchange.gateway.requests42 import TRANSLATED_BYTES
from exchange.gateway.session_memory import (
    CANCEL_DUE,
    CANCEL_PLACE,
    CANCELS_ON_DISCONNECT,
    CLOSING,
    CONNECTION,
    DESCRIPTOR,
    IN_RELEASED,
    KILLED,
    OUT_RELEASED,
    START,
    TOKENS,
    SessionMemory,
)
from exchange.gateway.symbol_table import SymbolTable
from exchange.gateway.token_index import TokenIndex
from exchange.messages import COMMAND_STRUCT, RECORD_BYTES, Command, CommandKind
from exchange.native import (
    Arena,
    address_of,
    load_acquire,
    load_int64,
    load_uint32,
    store_int64,
    store_release,
    view_bytes,
)
from exchange.placement.memory_owners import made_for
from exchange.queues.protocol import try_push
from exchange.queues.spsc import SpscQueue
from exchange.risk import RiskMemory
from exchange.risk.none import NoneMemory
from exchange.transport.network_agents import (
    ATTENTION,
    BEGIN,
    CANCELS_DUE,
    CLIENT_TIMEOUT_NS,
    CONSUMED,
    DRAIN,
    END,
    EVENTS,
    HEARTBEAT_NS,
    LISTED,
    SLOW_READER_NS,
)
from exchange.wire.ouch_codes import EventCode

CHANGEABLE: Final = {
    "client_timeout_ns": CLIENT_TIMEOUT_NS,
    "heartbeat_ns": HEARTBEAT_NS,
    "slow_reader_ns": SLOW_READER_NS,
}
"""The settings of the gateway that may change while it runs, and the word of a lane or of the sink that holds each."""

CONTROL_SLOTS: Final = 4096
"""Commands of the control plane's own that may wait, for each lane; they are taken at the next turn."""

REQUESTS_BYTES: Final = TRANSLATED_BYTES + 256
"""What decoding in a lane takes of an arena, with what alignment may lose."""


class NetworkOptions(NamedTuple):
    """What an exchange may want otherwise than usual.

    Attributes:
        clock: the exchange's time; None is the system's, from now on.
        keeps_details: whether the commands come with what the gateway keeps of orders, for a journal.
        midnight_ns: what has to be added to the exchange's time to get, modulo a day, the time since midnight; None is
            what the settings' time zone says now.
        risk: whose limits an order has to keep; None is nobody's.
    """

    clock: Clock | None = None
    keeps_details: bool = False
    midnight_ns: int | None = None
    risk: RiskMemory | None = None


DEFAULT_OPTIONS: Final = NetworkOptions()


class NetworkTransport:
    """Owner of everything that is shared between the agents of a transport and the control plane.

    Subclasses add the two halves and say where the halves' words are (:meth:`_begin`).

    Args:
        config: the gateway's settings.
        book: whose band of prices an order has to be in.
        session_count: how many users there are; a session is numbered like its user.
        shard_of_symbol: for each symbol the shard that owns it.
        shard_count: how many shards there are.
        lanes: how many ingress agents share the sessions.
        options: what is not usual.

    Attributes:
        clock: the exchange's time.
        risk: the limits that orders have to keep.
        midnight_ns: what has to be added to it to get, modulo a day, the time since midnight.

    Raises:
        UserError: the settings name a symbol or a time zone that cannot be.
    """

    def __init__(
        self,
        config: GatewayConfig,
        book: BookConfig,
        session_count: int,
        shard_of_symbol: Sequence[int],
        shard_count: int,
        lanes: int,
        options: NetworkOptions = DEFAULT_OPTIONS,
    ) -> None:
        self.config: Final = config
        self.risk: Final[RiskMemory] = NoneMemory() if options.risk is None else options.risk
        self.clock: Final[Clock] = start_system_clock() if options.clock is None else options.clock
        self.memory: Final = SessionMemory(config, session_count)
        self.symbols: Final = SymbolTable(config.symbols)
        zone_ns = zone_offset_ns(config.time_zone, now_ns(self.clock))
        self.midnight_ns: Final = zone_ns if options.midnight_ns is None else options.midnight_ns
        self._keeps_details: Final = int(options.keeps_details)
        self._book: Final = book
        self._tokens: Final[list[TokenIndex]] = []
        self._shard_of_symbol: Final = bytes(shard_of_symbol)
        self._shard_count: Final = shard_count
        self._lane_words: list[int] = []
        self._sink_words = 0
        self._control: Final = [
            made_for(ingress_agent(lane, lanes), "control", SpscQueue, CONTROL_SLOTS, huge_pages="never")
            for lane in range(lanes)
        ]
        self.latency: Final = made_for(EGRESS_AGENT, "", LatencyMemory)

    def _begin(self, lane_words: list[int], sink_words: int) -> None:
        """Where the words of the receiving halves and of the sending half are."""
        self._lane_words, self._sink_words = lane_words, sink_words
        for name in CHANGEABLE:
            self.set_limit(name, getattr(self.config, name))

    def _make_lane_arenas(self, lanes: int, size_bytes: int) -> list[Arena]:
        """For each lane memory of its own, which lies where its agent's does."""
        return [
            made_for(ingress_agent(lane, lanes), "lane", Arena.private, size_bytes) for lane in range(lanes)
        ]

    def _requests(self, words: int, arena: Arena) -> Requests:
        """What decoding in a lane needs, in :data:`REQUESTS_BYTES` of the arena at most; ``words`` are the lane's."""
        return Requests(
            sessions=self.memory.sessions,
            symbols=self.symbols.symbols,
            risk=self.risk.state,
            price_min_ticks=self._book.price_min_ticks,
            price_max_ticks=self._book.price_max_ticks,
            keeps_details=self._keeps_details,
            translated=arena.allocate(TRANSLATED_BYTES),
            cancels_due=words + CANCELS_DUE,
        )

    def _reports(self, words: int, list_bytes: int, arena: Arena) -> Reports:
        """What encoding needs; ``words`` are the sending half's, ``list_bytes`` holds a number for each session."""
        shards = arena.allocate(len(self._shard_of_symbol))
        view_bytes(shards, len(self._shard_of_symbol))[:] = self._shard_of_symbol
        listed = arena.allocate(list_bytes)
        return Reports(
            self.memory.sessions,
            self.risk.state,
            words + LISTED,
            listed,
            shards,
            self._shard_count,
            self.midnight_ns,
        )

    def source(self, lane: int) -> Any:
        """What ingress lane ``lane`` receives from."""
        raise NotImplementedError

    def sink(self) -> Any:
        """What the egress sends to."""
        raise NotImplementedError

    def readiness(self) -> int:
        """The descriptor of an epoll that is ready when a client has said something: for ``idle.kind = "block"``."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the descriptors; the agents must not run any more."""
        raise NotImplementedError

    def lane_of(self, session_id: int) -> int:
        """Which ingress lane a session's requests come to: always the same, unless a transport says otherwise."""
        return session_id % len(self._lane_words)

    def cancel_on_disconnect(self, session_id: int) -> None:
        """From now on the session's orders are cancelled whenever its connection ends, for whatever reason."""
        store_int64(self.memory.address(session_id) + CANCELS_ON_DISCONNECT, 1)

    def speak_ouch42(self, session_id: int) -> None:
        """The session speaks OUCH 4.2 and not 5.0; to be said before anybody connects."""
        assert load_int64(self.memory.address(session_id) + CONNECTION) == 0
        self._tokens.append(TokenIndex(self.config.log_bytes))
        store_int64(self.memory.address(session_id) + TOKENS, self._tokens[-1].address)

    def go_on(self, commands: int, events: int) -> None:
        """The sessions have been put back after a restart, before which so much had gone in and come out.

        The restart has ended every connection. So the orders of sessions that asked for it are to be cancelled, and
        what had still to be cancelled before is so again. No agent may be running.
        """
        due = [0] * len(self._lane_words)
        for session_id in range(self.memory.sessions.session_count):
            session = self.memory.address(session_id)
            if load_int64(session + CANCELS_ON_DISCONNECT) != 0:
                store_int64(session + CANCEL_DUE, 1)
            if load_int64(session + CANCEL_DUE) != 0 or load_uint32(session + CANCEL_PLACE) != 0:
                due[self.lane_of(session_id)] += 1
        for words, count in zip(self._lane_words, due, strict=True):
            store_int64(words + CANCELS_DUE, count)
        store_int64(self._lane_words[0] + CONSUMED, commands)
        store_int64(self._sink_words + EVENTS, events)

    def connect(self, session_id: int, descriptor: int, start: int) -> int:
        """Hand a connection over to the agents; the session's last one must have been released.

        Args:
            session_id: whose it is.
            descriptor: of a non-blocking socket, which the caller keeps open until it is released.
            start: the position in the session's log from which it is to be sent.

        Returns:
            The connection's number.
        """
        assert self.released(session_id)
        session = self.memory.address(session_id)
        connection = load_int64(session + CONNECTION) + 1
        store_int64(session + DESCRIPTOR, descriptor)
        store_int64(session + START, start)
        store_release(session + CONNECTION, connection)
        self._call(session_id)
        return connection

    def disconnect(self, session_id: int) -> None:
        """Ask both agents to let the session's connection go; returns at once."""
        session = self.memory.address(session_id)
        store_release(session + CLOSING, load_int64(session + CONNECTION))
        self._call(session_id)

    def released(self, session_id: int) -> bool:
        """Whether both agents have let the session's last connection go, so that its socket may be closed."""
        session = self.memory.address(session_id)
        connection = load_int64(session + CONNECTION)
        return (
            load_acquire(session + IN_RELEASED) == connection
            and load_acquire(session + OUT_RELEASED) == connection
        )

    def command(self, command: Command) -> bool:
        """Put a command of the exchange's own among those of its session's lane; False if too many are waiting.

        It is taken at the ingress's next turn, behind what has been taken from clients before, and gets its time there.
        """
        return self._push_record(self.lane_of(command.session_id), COMMAND_STRUCT.pack(*command))

    def announce(self, event: EventCode) -> bool:
        """Have a System Event written into the log of every session that there is; as :meth:`command`."""
        record = bytearray(RECORD_BYTES)
        # A session that is added later has not been told, and must not be when the record is replayed.
        sessions = self.memory.sessions.session_count
        record[ANSWER_USER_REFERENCE : ANSWER_USER_REFERENCE + 4] = sessions.to_bytes(4, "little")
        record[KIND], record[ANSWER_KIND], record[ANSWER_REASON] = (
            CommandKind.ANSWER,
            SYSTEM_EVENT,
            ord(event),
        )
        return self._push_record(0, bytes(record))

    def set_killed(self, session_id: int, *, is_killed: bool) -> None:
        """Refuse all new orders and replaces of a session that are decoded from now on, or take them again."""
        store_release(self.memory.address(session_id) + KILLED, int(is_killed))

    def note(self, kind: int, session_id: int) -> bool:
        """Have something about a session noted in the sequence, an answer of this kind; as :meth:`command`."""
        record = bytearray(RECORD_BYTES)
        record[KIND], record[ANSWER_KIND] = CommandKind.ANSWER, kind
        record[SESSION_ID : SESSION_ID + 2] = session_id.to_bytes(2, "little")
        return self._push_record(self.lane_of(session_id), bytes(record))

    def _push_record(self, lane: int, record: bytes) -> bool:
        if not try_push(self._control[lane].producer(0), address_of(np.frombuffer(record, np.uint8))):
            return False
        attention = self._lane_words[lane] + ATTENTION
        store_release(attention, load_int64(attention) + 1)
        return True

    def limit(self, name: str) -> int:
        """One of the gateway's settings in :data:`CHANGEABLE`, as it holds now."""
        return int(load_acquire(self._places_of_limit(name)[0]))

    def set_limit(self, name: str, value_ns: int) -> None:
        """Change one of the settings in :data:`CHANGEABLE`; the agents read it within 20 ms."""
        for address in self._places_of_limit(name):
            store_release(address, value_ns)

    def _places_of_limit(self, name: str) -> list[int]:
        words = self._lane_words if name == "client_timeout_ns" else [self._sink_words]
        return [address + CHANGEABLE[name] for address in words]

    def _call(self, session_id: int) -> None:
        """Bring the session to the attention of the agents that serve it."""
        for words in (self._lane_words[self.lane_of(session_id)], self._sink_words):
            store_release(words + ATTENTION, load_int64(words + ATTENTION) + 1)

    def drain(self) -> None:
        """Take nothing in any more; what has been taken in is still handled."""
        for words in self._lane_words:
            store_release(words + DRAIN, 1)

    def replica(self) -> tuple[Requests, Reports]:
        """What a replay of the journal needs to restore the sessions; no agent may be running."""
        return self.source(0).requests, self.sink().reports

    def consumed(self) -> int:
        """Commands that went into the exchange so far."""
        return sum(load_acquire(words + CONSUMED) for words in self._lane_words)

    def is_idle(self) -> bool:
        """Whether no decoded command waits to be consumed."""
        return all(load_acquire(words + BEGIN) == load_acquire(words + END) for words in self._lane_words)

    def events(self) -> int:
        """Events that came out of the exchange so far."""
        return load_acquire(self._sink_words + EVENTS)

    def waiting(self) -> int:
        """How many sessions have something that has still to be sent to their clients."""
        return load_acquire(self._sink_words + LISTED)

    def since_midnight_ns(self) -> int:
        """The time of day as messages carry it."""
        return since_midnight_ns(self.midnight_ns, now_ns(self.clock))


def zone_offset_ns(time_zone: str, time_ns: int) -> int:
    """By how much a time zone is ahead of UTC at that time."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UserError(
            f"gateway.time_zone = {time_zone!r}: this machine knows no such zone; allowed are names such as"
            " 'America/New_York' and 'UTC'"
        ) from error
    offset = datetime.fromtimestamp(time_ns / 1e9, UTC).astimezone(zone).utcoffset() or timedelta()
    return int(offset.total_seconds()) * 1_000_000_000
