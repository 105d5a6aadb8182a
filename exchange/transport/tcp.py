"""The transport over TCP: SoupBinTCP sessions with OUCH in them, polled, and compiled from socket to record.

Ingress and egress run this as they run any other source and sink. What is particular to TCP is here and in its two
halves: :mod:`~exchange.transport.tcp_receiving` (which sockets have something, bytes into a session's buffer) and
:mod:`~exchange.transport.tcp_sending` (from a session's log into its socket). Everything else is alike for all
transports with clients on a network: :mod:`~exchange.transport.network`.

Each connection has a socket of its own, which the control plane opens and closes; the agents use it in between."""

import select
from collections.abc import Sequence

from exchange.agent_layout import EGRESS_AGENT, ingress_agent
from exchange.book.config import BookConfig
from exchange.gateway.config import GatewayConfig
from exchange.messages import RECORD_BYTES
from exchange.native import EPOLL_EVENT_BYTES, Arena, view_bytes
from exchange.placement.memory_owners import made_for
from exchange.transport.network import DEFAULT_OPTIONS, REQUESTS_BYTES, NetworkOptions, NetworkTransport
from exchange.transport.network_agents import PACKET_LENGTH_MAX, WORDS_BYTES
from exchange.transport.tcp_receiving import EVENTS_MAX, TcpSource
from exchange.transport.tcp_sending import TcpSink
from exchange.wire.soupbintcp import CLIENT_PACKETS, ServerHeartbeat
from exchange.wire.soupbintcp_kernel import PLACE_DTYPE, PacketRuleTable


class TcpTransport(NetworkTransport):
    """Owner of the sockets' epolls and of the agents' memory.

    Args:
        config: the gateway's settings.
        book: whose band of prices an order has to be in.
        session_count: how many users there are; a session is numbered like its user.
        shard_of_symbol: for each symbol the shard that owns it.
        shard_count: how many shards there are.
        lanes: how many ingress agents share the sessions.
        batch_commands: how many commands an ingress takes in a turn.
        options: what is not usual.

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
        options: NetworkOptions = DEFAULT_OPTIONS,
    ) -> None:
        super().__init__(config, book, session_count, shard_of_symbol, shard_count, lanes, options)
        self._rules = PacketRuleTable(CLIENT_PACKETS, PACKET_LENGTH_MAX)
        self._epolls = [select.epoll() for _ in range(lanes)]
        list_bytes = 8 * max(session_count, EVENTS_MAX)
        lane_bytes = WORDS_BYTES + batch_commands * (RECORD_BYTES + PLACE_DTYPE.itemsize) + 2 * list_bytes
        lane_bytes += EVENTS_MAX * EPOLL_EVENT_BYTES + REQUESTS_BYTES
        sink_bytes = WORDS_BYTES + list_bytes + len(shard_of_symbol)
        self._lane_arenas = self._make_lane_arenas(lanes, lane_bytes + 4096)
        self._sink_arena = made_for(EGRESS_AGENT, "", Arena.private, sink_bytes + 4096)
        self._sources = [self._build_source(lane, lanes, list_bytes, batch_commands) for lane in range(lanes)]
        self._sink = self._build_sink(list_bytes)
        self._begin([source.words for source in self._sources], self._sink.words)
        if lanes > 1:
            for session_id in range(session_count):
                self.memory.hand_over(session_id, ingress_agent(self.lane_of(session_id), lanes))

    def _build_source(self, lane: int, lanes: int, list_bytes: int, batch_commands: int) -> TcpSource:
        arena = self._lane_arenas[lane]
        allocate = arena.allocate
        words = allocate(WORDS_BYTES)
        return TcpSource(
            requests=self._requests(words, arena),
            clock=self.clock,
            control=self._control[lane].consumer(0),
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
        )

    def _build_sink(self, list_bytes: int) -> TcpSink:
        arena = self._sink_arena
        words, heartbeat = arena.allocate(WORDS_BYTES), arena.allocate(8)
        packet = ServerHeartbeat().encode()
        view_bytes(heartbeat, len(packet))[:] = packet
        return TcpSink(
            reports=self._reports(words, list_bytes, arena),
            latency=self.latency.state,
            words=words,
            heartbeat=heartbeat,
            clock=self.clock,
        )

    def source(self, lane: int) -> TcpSource:
        """What ingress lane ``lane`` receives from."""
        return self._sources[lane]

    def sink(self) -> TcpSink:
        """What the egress sends to."""
        return self._sink

    def readiness(self) -> int:
        """The first lane's epoll, in which its connections are."""
        return self._epolls[0].fileno()

    def close(self) -> None:
        """Close the descriptors; the agents must not run any more."""
        for epoll in self._epolls:
            epoll.close()
