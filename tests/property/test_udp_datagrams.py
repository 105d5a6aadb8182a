"""Datagrams may be any bytes: the receiving half takes what is right, and whatever else comes breaks nothing.

Run through a socket on the loopback into the compiled half, and into the same source interpreted."""

import random
import socket
from collections.abc import Iterator

import pytest

from exchange.book.config import LadderBookConfig
from exchange.datagrams.kernel_socket import SocketPort
from exchange.gateway.config import GatewayConfig
from exchange.gateway.session_memory import (
    ACKNOWLEDGED,
    CONNECTION,
    IN_NEXT,
    IN_REASON,
    IN_RELEASED,
    LAST_USER_REFERENCE,
    OUT_RELEASED,
    CloseReason,
)
from exchange.messages import RECORD_BYTES
from exchange.native import body_for, kernel, load_int64, load_uint16, store_int64
from exchange.native.datagram_headers import socket_address
from exchange.queues.protocol import poll_batch
from exchange.risk.limits import LimitsMemory
from exchange.transport.network import NetworkOptions
from exchange.transport.protocol import consume, receive
from exchange.transport.udp import UdpTransport
from exchange.transport.udp_receiving import ASK_SESSION, STRANGE
from exchange.transport.udp_sending import ASKS_MAX
from exchange.wire.soupbintcp import ClientHeartbeat, UnsequencedData
from exchange.wire.soupbinudp import LogoutRequest, SequencedData
from tests.gateway_driver import order
from tests.wire_messages import mutated

LOOPBACK = "127.0.0.1"
TOKEN = 0xF00D_F00D_F00D_F00D
SESSION = 1


@kernel
def receive_compiled(source, limit):  # type: ignore[no-untyped-def]
    return receive(source, limit)


@kernel
def consume_compiled(source, count):  # type: ignore[no-untyped-def]
    consume(source, count)


class Bench:
    """A transport with a session that has logged on, and a socket of its client."""

    def __init__(self, *, is_compiled: bool) -> None:
        self.listener, self.client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for one in (self.listener, self.client):
            one.bind((LOOPBACK, 0))
            one.setblocking(False)
        config = GatewayConfig(capacity_orders=1 << 14, log_bytes=1 << 16, time_zone="UTC")
        symbols, port = len(config.symbols), SocketPort(self.listener)
        # A served exchange's risk, which limits nobody here: so its loops are compiled once for all tests.
        options = NetworkOptions(risk=LimitsMemory(3, symbols))
        self.transport = UdpTransport(config, LadderBookConfig(), 3, [0] * symbols, 1, 64, port, options)
        self.source = self.transport.source(0)
        self.session = self.transport.memory.address(SESSION)
        self.receive = receive_compiled if is_compiled else body_for(receive, self.source)
        self.consume = consume_compiled if is_compiled else body_for(consume, self.source)
        self.number = 0
        self.connect()

    def connect(self) -> None:
        """A fresh connection; its first packet is number 1 again."""
        self.transport.disconnect(SESSION)
        self.turn()
        # There is no sending half here that would let go.
        store_int64(self.session + OUT_RELEASED, load_int64(self.session + CONNECTION))
        peer = socket_address(*self.client.getsockname())
        self.number = self.transport.connect_peer(SESSION, peer, TOKEN, 0, 1)
        self.turn()

    def turn(self, limit: int = 64) -> int:
        """One turn of the ingress: how many commands it took."""
        _, count = self.receive(self.source, limit)
        self.consume(self.source, count)
        return int(count)

    def say(self, data: bytes) -> int:
        """Send bytes, and let the half deal with them."""
        self.client.sendto(data, self.listener.getsockname())
        return self.turn()

    def data(self, first: int, *packets: bytes, count: int | None = None) -> bytes:
        number = len(packets) if count is None else count
        return SequencedData(SESSION, TOKEN, first, 1, number, b"".join(packets)).encode()

    def asked(self) -> list[int]:
        """The sessions whose clients the sending half has to ask to send again."""
        sink = self.transport.sink()
        count = poll_batch(sink.asks, sink.asked, ASKS_MAX)
        return [load_uint16(sink.asked + index * RECORD_BYTES + ASK_SESSION) for index in range(count)]

    @property
    def following(self) -> int:
        return load_int64(self.session + IN_NEXT)

    @property
    def is_connected(self) -> bool:
        return load_int64(self.session + IN_RELEASED) != self.number

    def close(self) -> None:
        self.transport.close()
        self.client.close()


@pytest.fixture(params=["plain", "compiled"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(is_compiled=request.param == "compiled")
    yield made
    made.close()


def enter(number: int) -> bytes:
    return UnsequencedData(order(number).encode()).encode()


def test_what_is_next_is_taken_what_was_is_skipped_and_what_comes_too_early_is_asked_for(
    bench: Bench,
) -> None:
    assert bench.say(bench.data(1, enter(1), enter(2))) == 2
    assert bench.say(bench.data(1, enter(1), enter(2), enter(3))) == 1
    assert bench.say(bench.data(2, enter(2))) == 0
    assert bench.say(bench.data(6, enter(6))) == 0
    assert bench.following == 4
    assert bench.asked() == [SESSION]
    assert bench.say(bench.data(4, ClientHeartbeat().encode(), enter(4))) == 1
    assert bench.following == 6


def test_a_batch_that_is_full_goes_on_where_it_stopped(bench: Bench) -> None:
    bench.client.sendto(bench.data(1, *map(enter, range(1, 21))), bench.listener.getsockname())
    bench.client.sendto(bench.data(21, *map(enter, range(21, 41))), bench.listener.getsockname())
    taken = [bench.turn(limit=7) for _ in range(7)]
    assert taken == [7, 7, 7, 7, 7, 5, 0]
    assert bench.following == 41
    assert load_int64(bench.session + LAST_USER_REFERENCE) == 40


def test_acknowledgements_only_go_forward_and_never_beyond_what_was_said(bench: Bench) -> None:
    for wanted in (5, 0, 1 << 63, (1 << 64) - 1, 2):
        bench.say(SequencedData(SESSION, TOKEN, 1, wanted, 0, b"").encode())
        assert load_int64(bench.session + ACKNOWLEDGED) == 1


def test_a_logout_lets_the_connection_go(bench: Bench) -> None:
    bench.say(LogoutRequest(SESSION, TOKEN, 1, 1, 0).encode())
    assert not bench.is_connected
    assert load_int64(bench.session + IN_REASON) == CloseReason.LOGOUT


def strings(noise: random.Random, bench: Bench) -> bytes:
    """A datagram that is right, or nearly so, or nothing at all."""
    numbers = [load_int64(bench.session + LAST_USER_REFERENCE) + 1 + index for index in range(3)]
    first = noise.choice([bench.following, bench.following, 1, noise.randrange(1, 1 << 64)])
    packets = [
        noise.choice([enter(one), ClientHeartbeat().encode()]) for one in numbers[: noise.randrange(4)]
    ]
    data = bench.data(first, *packets, count=noise.choice([None, None, noise.randrange(1 << 16)]))
    fate = noise.random()
    if fate < 0.3:
        return data
    if fate < 0.7:
        return data[:11] + mutated(noise, data[11:])
    if fate < 0.9:
        return mutated(noise, data)
    return noise.randbytes(noise.choice([0, 1, 28, 29, 30, 300, 2000]))


@pytest.mark.parametrize("seed", [1, 2])
def test_any_datagram_is_survived(bench: Bench, seed: int) -> None:
    """Thousands of damaged ones: packets are only ever taken in order, and others' sessions are not touched."""
    noise, taken, ended = random.Random(seed), 0, 0
    for _ in range(4_000):
        before = bench.following
        taken += bench.say(strings(noise, bench))
        assert bench.following >= before
        assert bench.following - before <= 3
        if not bench.is_connected:
            ended += 1
            assert load_int64(bench.session + IN_REASON) in (
                CloseReason.NOT_SOUPBINTCP,
                CloseReason.NOT_OUCH,
                CloseReason.LOGOUT,
            )
            bench.connect()
        if load_int64(bench.session + LAST_USER_REFERENCE) > 1 << 30:
            break
    assert taken > 100
    assert ended > 100
    assert load_int64(bench.source.words + STRANGE) > 100
    assert bench.transport.memory.column(IN_NEXT)[[0, 2]].tolist() == [0, 0]
