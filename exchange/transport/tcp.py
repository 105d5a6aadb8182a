"""The transport over TCP: SoupBinTCP sessions with OUCH in them, polled, and compiled from socket to record.

Ingress and egress run this as they run any other source and sink. What is particular to TCP is here and in its two
halves: :mod:`~exchange.transport.tcp_receiving` (which sockets have something, bytes into a session's buffer) and
:mod:`~exchange.transport.tcp_sending` (from a session's log into its socket). What the bytes mean is the gateway's
(:mod:`exchange.gateway`): packets, requests and reports are functions of it.

Logging on, and everything else that happens once for a connection, is the control plane's
(:mod:`exchange.gateway.control`). It hands a connection over with :meth:`TcpTransport.connect` and takes it back with
:meth:`TcpTransport.released`; in between it does not touch the socket.

This class owns the memory and the descriptors; whoever builds it keeps it, and closes it when the exchange's threads
have ended."""

import select
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from exchange import limits
from exchange.book.config import BookConfig
from exchange.errors import UserError
from exchange.gateway.config import GatewayConfig
from exchange.gateway.inbound import Requests
from exchange.gateway.outbound import Reports
from exchange.gateway.requests42 import TRANSLATED_BYTES
from exchange.gateway.session_memory import (
    CANCELS_ON_DISCONNECT,
    CLOSING,
    CONNECTION,
    DESCRIPTOR,
    IN_RELEASED,
    OUT_RELEASED,
    START,
    TOKENS,
    SessionMemory,
)
from exchange.gateway.symbol_table import SymbolTable
from exchange.gateway.token_index import TokenIndex
from exchange.messages import RECORD_BYTES
from exchange.native import (
    EPOLL_EVENT_BYTES,
    Arena,
    load_acquire,
    load_int64,
    monotonic_ns,
    store_int64,
    store_release,
    view_bytes,
)
from exchange.queues.spsc import SpscQueue
from exchange.transport import tcp_receiving, tcp_sending
from exchange.transport.tcp_receiving import EVENTS_MAX, LANE_BYTES, PACKET_LENGTH_MAX, TcpSource
from exchange.transport.tcp_sending import ANSWERS_BATCH, DAY_NS, LISTED, SINK_BYTES, TcpSink
from exchange.wire.soupbintcp import CLIENT_PACKETS, ServerHeartbeat
from exchange.wire.soupbintcp_kernel import PLACE_DTYPE, PacketRuleTable

ANSWERS_SLOTS: Final = 4096
"""The ring of the gateway's own answers, for each lane: rejects come back in batches, not by the million."""


class TcpTransport:
    """Owner of everything that is shared between the agents of this transport and the control plane.

    Args:
        config: the gateway's settings.
        book: whose band of prices an order has to be in.
        session_count: how many users there are; a session is numbered like its user.
        shard_of_symbol: for each symbol the shard that owns it.
        shard_count: how many shards there are.
        lanes: how many ingress agents share the sessions.
        batch_commands: how many commands an ingress takes in a turn.

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
        batch_commands: int,
    ) -> None:
        self.config: Final = config
        self.memory: Final = SessionMemory(config, session_count)
        self.symbols: Final = SymbolTable(config.symbols)
        self._tokens: list[TokenIndex] = []
        self._rules = PacketRuleTable(CLIENT_PACKETS, PACKET_LENGTH_MAX)
        self._answers = SpscQueue(ANSWERS_SLOTS, producers=lanes)
        self._epolls = [select.epoll() for _ in range(lanes)]
        list_bytes = 8 * max(session_count, EVENTS_MAX)
        lane_bytes = LANE_BYTES + batch_commands * (RECORD_BYTES + PLACE_DTYPE.itemsize) + 2 * list_bytes
        lane_bytes += EVENTS_MAX * EPOLL_EVENT_BYTES + RECORD_BYTES + TRANSLATED_BYTES
        sink_bytes = SINK_BYTES + list_bytes + len(shard_of_symbol)
        self._arena = Arena.private(lanes * (lane_bytes + 1024) + sink_bytes + 16_384)
        self._sources = [
            self._build_source(lane, lanes, list_bytes, batch_commands, book) for lane in range(lanes)
        ]
        self._sink = self._build_sink(list_bytes, bytes(shard_of_symbol), shard_count)

    def _build_source(
        self, lane: int, lanes: int, list_bytes: int, batch_commands: int, book: BookConfig
    ) -> TcpSource:
        allocate = self._arena.allocate
        words = allocate(LANE_BYTES)
        requests = Requests(
            sessions=self.memory.sessions,
            symbols=self.symbols.symbols,
            price_min_ticks=book.price_min_ticks,
            price_max_ticks=book.price_max_ticks,
            answers=self._answers.producer(lane),
            answer=allocate(RECORD_BYTES),
            translated=allocate(TRANSLATED_BYTES),
            cancels_due=words + tcp_receiving.CANCELS_DUE,
        )
        return TcpSource(
            requests=requests,
            rules=self._rules.state,
            words=words,
            commands=allocate(batch_commands * RECORD_BYTES),
            batch_commands=batch_commands,
            places=allocate(batch_commands * PLACE_DTYPE.itemsize),
            ready=allocate(list_bytes),
            connected=allocate(list_bytes),
            epoll=self._epolls[lane].fileno(),
            events=allocate(EVENTS_MAX * EPOLL_EVENT_BYTES),
            lane=lane,
            lanes=lanes,
            client_timeout_ns=self.config.client_timeout_ns,
        )

    def _build_sink(self, list_bytes: int, shard_of_symbol: bytes, shard_count: int) -> TcpSink:
        words, heartbeat = self._arena.allocate(SINK_BYTES), self._arena.allocate(8)
        packet = ServerHeartbeat().encode()
        view_bytes(heartbeat, len(packet))[:] = packet
        shards = self._arena.allocate(len(shard_of_symbol))
        view_bytes(shards, len(shard_of_symbol))[:] = shard_of_symbol
        return TcpSink(
            reports=Reports(
                self.memory.sessions, words + LISTED, self._arena.allocate(list_bytes), shards, shard_count
            ),
            answers=self._answers.consumer(0),
            words=words,
            batch=self._arena.allocate(ANSWERS_BATCH * RECORD_BYTES),
            heartbeat=heartbeat,
            midnight_ns=_midnight_ns(self.config.time_zone),
            heartbeat_ns=self.config.heartbeat_ns,
            slow_reader_ns=self.config.slow_reader_ns,
        )

    def source(self, lane: int) -> TcpSource:
        """What ingress lane ``lane`` receives from."""
        return self._sources[lane]

    def sink(self) -> TcpSink:
        """What the egress sends to."""
        return self._sink

    def cancel_on_disconnect(self, session_id: int) -> None:
        """From now on the session's orders are cancelled whenever its connection ends, for whatever reason."""
        store_int64(self.memory.address(session_id) + CANCELS_ON_DISCONNECT, 1)

    def speak_ouch42(self, session_id: int) -> None:
        """The session speaks OUCH 4.2 and not 5.0; to be said before anybody connects."""
        assert load_int64(self.memory.address(session_id) + CONNECTION) == 0
        self._tokens.append(TokenIndex(self.config.log_bytes))
        store_int64(self.memory.address(session_id) + TOKENS, self._tokens[-1].address)

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

    def _call(self, session_id: int) -> None:
        """Bring the session to the attention of the agents that serve it."""
        for words, offset in (
            (self._sources[session_id % len(self._sources)].words, tcp_receiving.ATTENTION),
            (self._sink.words, tcp_sending.ATTENTION),
        ):
            store_release(words + offset, load_int64(words + offset) + 1)

    def drain(self) -> None:
        """Take nothing in any more; what has been taken in is still handled."""
        for source in self._sources:
            store_release(source.words + tcp_receiving.DRAIN, 1)

    def consumed(self) -> int:
        """Commands that went into the exchange so far."""
        return sum(load_acquire(source.words + tcp_receiving.CONSUMED) for source in self._sources)

    def is_idle(self) -> bool:
        """Whether no decoded command waits to be consumed."""
        return all(
            load_acquire(source.words + tcp_receiving.BEGIN) == load_acquire(source.words + tcp_receiving.END)
            for source in self._sources
        )

    def events(self) -> int:
        """Events that came out of the exchange so far."""
        return load_acquire(self._sink.words + tcp_sending.EVENTS)

    def waiting(self) -> int:
        """How many sessions have something to send that their sockets have not taken."""
        return load_acquire(self._sink.words + LISTED)

    def since_midnight_ns(self) -> int:
        """The time of day as messages carry it."""
        return (monotonic_ns() + self._sink.midnight_ns) % DAY_NS

    def close(self) -> None:
        """Close the descriptors; the agents must not run any more."""
        for epoll in self._epolls:
            epoll.close()


def _midnight_ns(time_zone: str) -> int:
    """What to add to the monotonic clock to get, modulo a day, nanoseconds since midnight in a time zone."""
    try:
        now = datetime.now(ZoneInfo(time_zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UserError(
            f"gateway.time_zone = {time_zone!r}: this machine knows no such zone; allowed are names such as"
            " 'America/New_York' and 'UTC'"
        ) from error
    seconds = (now.hour * 60 + now.minute) * 60 + now.second
    return (seconds * 1_000_000_000 + now.microsecond * 1_000 - monotonic_ns()) % DAY_NS


assert ANSWERS_SLOTS <= limits.QUEUE_CAPACITY_SLOTS_MAX
