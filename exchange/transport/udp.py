"""The transport over UDP: the sessions and packets of ``tcp`` in numbered datagrams, acknowledged and sent again.

Ingress and egress run this as they run any other source and sink. What is particular to UDP is here and in its two
halves: :mod:`~exchange.transport.udp_receiving` (which datagrams are believed, and what they come to) and
:mod:`~exchange.transport.udp_sending` (from sessions' logs into datagrams, and again). Everything else is alike for all
transports with clients on a network: :mod:`~exchange.transport.network`. The format is :mod:`exchange.wire.soupbinudp`.

All sessions share one port (:mod:`exchange.datagrams`). Login Requests come out of it in compiled code and are handed
to the control plane through a pair of local sockets (:attr:`UdpTransport.logins`), each behind the address it came
from. What the control plane answers goes through a mailbox to the egress, which alone sends.

Rules: one lane. Several would have to share the port, and a kernel deals datagrams out as it likes."""

import select
import socket
from collections.abc import Sequence
from typing import Final

from exchange.book.config import BookConfig
from exchange.datagrams.port import Port
from exchange.datagrams.posting import Mailbox
from exchange.gateway.config import GatewayConfig
from exchange.gateway.session_memory import PEER, START_SEQUENCE, TOKEN
from exchange.messages import RECORD_BYTES
from exchange.native import (
    VECTOR_BYTES,
    Arena,
    store_int64,
    view_bytes,
    write_vector,
)
from exchange.native.datagram_headers import (
    MESSAGE_HEADER_BYTES,
    SOCKET_ADDRESS_BYTES,
    write_message_header,
)
from exchange.queues.spsc import SpscQueue
from exchange.transport import udp_receiving, udp_sending
from exchange.transport.network import DEFAULT_OPTIONS, REQUESTS_BYTES, NetworkOptions, NetworkTransport
from exchange.transport.network_agents import PACKET_LENGTH_MAX, WORDS_BYTES
from exchange.transport.udp_receiving import DATAGRAM_STRIDE, LOGIN_STRIDE, UdpSource
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
        options: what is not usual.
        port: where datagrams come in and go out; it is closed with this.

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
        super().__init__(config, book, session_count, shard_of_symbol, shard_count, 1, options)
        self._rules = PacketRuleTable(CLIENT_PACKETS, PACKET_LENGTH_MAX)
        self.logins, self._logins_in = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for one in (self.logins, self._logins_in):
            one.setblocking(False)
        self.port: Final = port
        self.mailbox: Final = Mailbox()
        self._asks: Final = SpscQueue(ASKS_SLOTS, huge_pages="never")
        self._epoll = select.epoll()
        if (descriptor := port.readiness()) is not None:
            self._epoll.register(descriptor, select.EPOLLIN)
        received = udp_receiving.BATCH_DATAGRAMS * (MESSAGE_HEADER_BYTES + VECTOR_BYTES + LOGIN_STRIDE + 1)
        sent = udp_sending.BATCH_DATAGRAMS * (MESSAGE_HEADER_BYTES + 2 * VECTOR_BYTES + HEADER_STRIDE)
        lists = batch_commands * RECORD_BYTES + PACKETS_MAX * PLACE_DTYPE.itemsize + 8 * session_count
        records = REQUESTS_BYTES + len(shard_of_symbol) + (1 + ASKS_MAX) * RECORD_BYTES
        self._arena = Arena.private(
            received + sent + lists + records + 2 * WORDS_BYTES + _ALLOCATIONS * 256 + 4096
        )
        self._source = self._build_source(batch_commands)
        self._sink = self._build_sink(session_count)
        self._begin([self._source.words], self._sink.words)

    def _build_source(self, batch_commands: int) -> UdpSource:
        allocate, count = self._arena.allocate, udp_receiving.BATCH_DATAGRAMS
        headers, vectors = allocate(count * MESSAGE_HEADER_BYTES), allocate(count * VECTOR_BYTES)
        datagrams = allocate(count * LOGIN_STRIDE)
        for index in range(count):
            peer, vector = datagrams + index * LOGIN_STRIDE, vectors + index * VECTOR_BYTES
            write_vector(vector, peer + SOCKET_ADDRESS_BYTES, DATAGRAM_STRIDE)
            write_message_header(headers + index * MESSAGE_HEADER_BYTES, peer, vector)
        words = allocate(WORDS_BYTES)
        return UdpSource(
            requests=self._requests(words, self._arena),
            clock=self.clock,
            control=self._control[0].consumer(0),
            rules=self._rules.state,
            words=words,
            commands=allocate(batch_commands * RECORD_BYTES),
            batch_commands=batch_commands,
            port=self.port.state,
            headers=headers,
            datagrams=datagrams,
            undone=allocate(count),
            places=allocate(PACKETS_MAX * PLACE_DTYPE.itemsize),
            asks=self._asks.producer(0),
            ask=allocate(RECORD_BYTES),
            logins=self._logins_in.fileno(),
        )

    def _build_sink(self, session_count: int) -> UdpSink:
        allocate, count = self._arena.allocate, udp_sending.BATCH_DATAGRAMS
        headers, messages = allocate(count * HEADER_STRIDE), allocate(count * MESSAGE_HEADER_BYTES)
        vectors = allocate(count * 2 * VECTOR_BYTES)
        for index in range(count):
            header, vector = headers + index * HEADER_STRIDE, vectors + index * 2 * VECTOR_BYTES
            write_vector(vector, header, HEADER_BYTES)
            write_vector(vector + VECTOR_BYTES, 0, 0)
            write_message_header(messages + index * MESSAGE_HEADER_BYTES, 0, vector, 2)
        words = allocate(WORDS_BYTES)
        return UdpSink(
            reports=self._reports(words, 8 * session_count, self._arena),
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
        """What the ingress receives from."""
        assert lane == 0
        return self._source

    def sink(self) -> UdpSink:
        """What the egress sends to."""
        return self._sink

    def readiness(self) -> int:
        """An epoll with the port in it, if that can be waited for."""
        return self._epoll.fileno()

    def connect_peer(self, session_id: int, peer: bytes, token: int, start: int, sequence: int) -> int:
        """Hand a connection over to the agents; the session's last one must have been released.

        Args:
            session_id: whose it is.
            peer: where the client is (:func:`exchange.native.datagram_headers.socket_address`).
            token: what every datagram of the connection says, 64 random bits and not 0.
            start: the position in the session's log from which it is to be sent.
            sequence: the number of the message at that position.

        Returns:
            The connection's number.
        """
        assert self.released(session_id)
        session = self.memory.address(session_id)
        view_bytes(session + PEER, SOCKET_ADDRESS_BYTES)[:] = peer
        store_int64(session + TOKEN, int.from_bytes(token.to_bytes(8, "big"), "big", signed=True))
        store_int64(session + START_SEQUENCE, sequence)
        return self.connect(session_id, NO_DESCRIPTOR, start)

    def close(self) -> None:
        """Close the port and the descriptors; the agents must not run any more."""
        for one in (self.logins, self._logins_in, self._epoll, self.port):
            one.close()
