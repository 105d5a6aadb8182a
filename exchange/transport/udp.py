"""The transport over UDP: the sessions and packets of ``tcp`` in numbered datagrams, acknowledged and sent again.

Ingress and egress run this as they run any other source and sink. What is particular to UDP is here and in its two
halves: :mod:`~exchange.transport.udp_receiving` (which datagrams are believed, and what they come to) and
:mod:`~exchange.transport.udp_sending` (from sessions' logs into datagrams, and again). Everything else is alike for all
transports with clients on a network: :mod:`~exchange.transport.network`. The format is :mod:`exchange.wire.soupbinudp`.

All sessions share one port (:mod:`exchange.datagrams`). If it has several receiving queues, as a card may have, there
is an ingress lane for each, and a session belongs to the lane through which it logged on last. Login Requests come out
of it in compiled code and are handed to the control plane through a pair of local sockets
(:attr:`UdpTransport.logins`), each behind the lane and the address it came from. What the control plane answers goes
through a mailbox to the egress, which alone sends.

Rules: as many lanes as the port has receiving queues, and all datagrams of an address and port come to one of them.
Lanes hand sessions over to each other (:mod:`~exchange.transport.udp_receiving`), which keeps a client's requests in
order only if an inbox takes in order what several producers put there one after the other."""

import select
import socket
from collections.abc import Sequence
from typing import Final

from exchange.agent_layout import EGRESS_AGENT
from exchange.book.config import BookConfig
from exchange.datagrams.port import Port
from exchange.datagrams.posting import Mailbox
from exchange.gateway.config import GatewayConfig
from exchange.gateway.session_memory import (
    CANCEL_DUE,
    CANCEL_PLACE,
    CONNECTION,
    IN_ADOPTED,
    LANE,
    OUT_ADOPTED,
    OUT_RELEASED,
    PEER,
    START_SEQUENCE,
    TOKEN,
)
from exchange.messages import RECORD_BYTES
from exchange.native import (
    VECTOR_BYTES,
    Arena,
    load_int64,
    load_uint32,
    store_int64,
    store_release,
    store_uint8,
    view_bytes,
    write_vector,
)
from exchange.native.datagram_headers import (
    MESSAGE_HEADER_BYTES,
    SOCKET_ADDRESS_BYTES,
    write_message_header,
)
from exchange.placement.memory_owners import made_for
from exchange.queues.spsc import SpscQueue
from exchange.transport import udp_receiving, udp_sending
from exchange.transport.network import DEFAULT_OPTIONS, REQUESTS_BYTES, NetworkOptions, NetworkTransport
from exchange.transport.network_agents import PACKET_LENGTH_MAX, WORDS_BYTES
from exchange.transport.udp_receiving import (
    DATAGRAM_STRIDE,
    IS_LEAVING,
    LEAVING,
    LOGIN_STRIDE,
    ORIGIN_BYTES,
    UdpSource,
)
from exchange.transport.udp_sending import ASKS_MAX, HEADER_STRIDE, UdpSink
from exchange.wire.soupbintcp import CLIENT_PACKETS
from exchange.wire.soupbintcp_kernel import PLACE_DTYPE, PacketRuleTable
from exchange.wire.soupbinudp import HEADER_BYTES, PACKETS_MAX

ASKS_SLOTS: Final = 256
"""Clients that may wait to be asked to send again; what finds no room is asked for a moment later."""
NO_DESCRIPTOR: Final = -1
"""A connection has none of its own."""
_ALLOCATIONS: Final = 64
"""More than there are of them: each may lose two cache lines to alignment."""


class UdpTransport(NetworkTransport):
    """Owner of the agents' memory and of the way of logins to the control plane.

    Args:
        config: the gateway's settings.
        book: whose band of prices an order has to be in.
        session_count: how many users there are; a session is numbered like its user.
        shard_of_symbol: for each symbol the shard that owns it.
        shard_count: how many shards there are.
        batch_commands: how many commands an ingress takes in a turn.
        port: where datagrams come in and go out, with a lane for each of its queues; it is closed with this.
        options: what is not usual.

    Attributes:
        port: the same.
        mailbox: where the control plane puts what the egress is to send.
        logins: where the control plane reads Login Requests.

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
        batch_commands: int,
        port: Port,
        options: NetworkOptions = DEFAULT_OPTIONS,
    ) -> None:
        lanes = len(port.queues)
        super().__init__(config, book, session_count, shard_of_symbol, shard_count, lanes, options)
        self._rules = PacketRuleTable(CLIENT_PACKETS, PACKET_LENGTH_MAX)
        self.logins, self._logins_in = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for one in (self.logins, self._logins_in):
            one.setblocking(False)
        self.port: Final = port
        self.mailbox: Final = Mailbox()
        self._asks: Final = SpscQueue(ASKS_SLOTS, producers=lanes, huge_pages="never")
        self._epoll = select.epoll()
        if (descriptor := port.readiness()) is not None:
            self._epoll.register(descriptor, select.EPOLLIN)
        received = udp_receiving.BATCH_DATAGRAMS * (MESSAGE_HEADER_BYTES + VECTOR_BYTES + LOGIN_STRIDE + 1)
        sent = udp_sending.BATCH_DATAGRAMS * (MESSAGE_HEADER_BYTES + 2 * VECTOR_BYTES + HEADER_STRIDE)
        received += (1 + batch_commands) * RECORD_BYTES + PACKETS_MAX * PLACE_DTYPE.itemsize + session_count
        received += REQUESTS_BYTES + WORDS_BYTES + _ALLOCATIONS * 256
        sent += 8 * session_count + len(shard_of_symbol) + ASKS_MAX * RECORD_BYTES
        sent += WORDS_BYTES + _ALLOCATIONS * 256
        self._lane_arenas = self._make_lane_arenas(lanes, received + 4096)
        self._sink_arena = made_for(EGRESS_AGENT, "", Arena.private, sent + 4096)
        self._sources = [self._build_source(lane, batch_commands) for lane in range(lanes)]
        self._sink = self._build_sink(session_count)
        self._begin([source.words for source in self._sources], self._sink.words)

    def _build_source(self, lane: int, batch_commands: int) -> UdpSource:
        arena, count = self._lane_arenas[lane], udp_receiving.BATCH_DATAGRAMS
        allocate = arena.allocate
        headers, vectors = allocate(count * MESSAGE_HEADER_BYTES), allocate(count * VECTOR_BYTES)
        datagrams = allocate(count * LOGIN_STRIDE)
        for index in range(count):
            origin, vector = datagrams + index * LOGIN_STRIDE, vectors + index * VECTOR_BYTES
            peer = origin + ORIGIN_BYTES - SOCKET_ADDRESS_BYTES
            store_int64(origin, lane)
            write_vector(vector, origin + ORIGIN_BYTES, DATAGRAM_STRIDE)
            write_message_header(headers + index * MESSAGE_HEADER_BYTES, peer, vector)
        words = allocate(WORDS_BYTES)
        return UdpSource(
            requests=self._requests(words, arena),
            clock=self.clock,
            control=self._control[lane].consumer(0),
            rules=self._rules.state,
            words=words,
            commands=allocate(batch_commands * RECORD_BYTES),
            batch_commands=batch_commands,
            port=self.port.queues[lane],
            headers=headers,
            datagrams=datagrams,
            undone=allocate(count),
            places=allocate(PACKETS_MAX * PLACE_DTYPE.itemsize),
            asks=self._asks.producer(lane),
            ask=allocate(RECORD_BYTES),
            logins=self._logins_in.fileno(),
            lane=lane,
            held=allocate(self.memory.sessions.session_count),
        )

    def _build_sink(self, session_count: int) -> UdpSink:
        allocate, count = self._sink_arena.allocate, udp_sending.BATCH_DATAGRAMS
        headers, messages = allocate(count * HEADER_STRIDE), allocate(count * MESSAGE_HEADER_BYTES)
        vectors = allocate(count * 2 * VECTOR_BYTES)
        for index in range(count):
            header, vector = headers + index * HEADER_STRIDE, vectors + index * 2 * VECTOR_BYTES
            write_vector(vector, header, HEADER_BYTES)
            write_vector(vector + VECTOR_BYTES, 0, 0)
            write_message_header(messages + index * MESSAGE_HEADER_BYTES, 0, vector, 2)
        words = allocate(WORDS_BYTES)
        return UdpSink(
            reports=self._reports(words, 8 * session_count, self._sink_arena),
            latency=self.latency.state,
            words=words,
            port=self.port.state,
            headers=headers,
            vectors=vectors,
            messages=messages,
            post=self.mailbox.post,
            asks=self._asks.consumer(0),
            asked=allocate(ASKS_MAX * RECORD_BYTES),
            clock=self.clock,
        )

    def source(self, lane: int) -> UdpSource:
        """What ingress lane ``lane`` receives from."""
        return self._sources[lane]

    def sink(self) -> UdpSink:
        """What the egress sends to."""
        return self._sink

    def readiness(self) -> int:
        """An epoll with the port in it, if that can be waited for."""
        return self._epoll.fileno()

    def lane_of(self, session_id: int) -> int:
        """The lane to which the session's newest connection belongs; the first, if it has had none."""
        return load_int64(self.memory.address(session_id) + LANE)

    def go_on(self, commands: int, events: int) -> None:
        """As of all transports. What a session has still to be cancelled is the first lane's, which releases the
        session when that is done, as if it had been connected there until now."""
        super().go_on(commands, events)
        source = self._sources[0]
        for session_id in range(self.memory.sessions.session_count):
            session = self.memory.address(session_id)
            if load_int64(session + CANCEL_DUE) != 0 or load_uint32(session + CANCEL_PLACE) != 0:
                connection = load_int64(session + CONNECTION) + 1
                for word in (CONNECTION, IN_ADOPTED, OUT_ADOPTED, OUT_RELEASED):
                    store_int64(session + word, connection)
                store_uint8(source.held + session_id, IS_LEAVING)
                store_int64(source.words + LEAVING, load_int64(source.words + LEAVING) + 1)

    def connect_peer(
        self, session_id: int, peer: bytes, token: int, start: int, sequence: int, lane: int = 0
    ) -> int:
        """Hand a connection over to the agents; the session's last one must have been released.

        Args:
            session_id: whose it is.
            peer: where the client is (:func:`exchange.native.datagram_headers.socket_address`).
            token: what every datagram of the connection says, 64 random bits and not 0.
            start: the position in the session's log from which it is to be sent.
            sequence: the number of the message at that position.
            lane: to which ingress lane the client's datagrams come.

        Returns:
            The connection's number.
        """
        assert self.released(session_id)
        session = self.memory.address(session_id)
        view_bytes(session + PEER, SOCKET_ADDRESS_BYTES)[:] = peer
        store_int64(session + TOKEN, int.from_bytes(token.to_bytes(8, "big"), "big", signed=True))
        store_int64(session + START_SEQUENCE, sequence)
        store_release(session + LANE, lane)
        return self.connect(session_id, NO_DESCRIPTOR, start)

    def close(self) -> None:
        """Close the port and the descriptors; the agents must not run any more."""
        for one in (self.logins, self._logins_in, self._epoll, self.port):
            one.close()
