"""What tests of a feed on the network share: clients that trade, receivers that follow, and what must be equal."""

import asyncio
import socket
from collections.abc import Callable

import numpy as np

from exchange.gateway.server import Server
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.feed_receiver import FeedReceiver
from exchange.wire.layout import Message
from exchange.wire.ouch50 import CancelOrder, ReplaceOrder
from exchange.wire.ouch_codes import Side
from tests.gateway_driver import BareClient, order

LOOPBACK = "127.0.0.1"
GROUP = "239.255.42.1"
MESSAGES = 400


def book() -> FeedBook:
    return FeedBook(capacity_orders=4096, capacity_symbols=16)


def requests_of(seed: int, count: int = MESSAGES) -> list[Message]:
    """What a client of some activity asks for: orders that rest, trade, shrink, move and go."""
    chance = np.random.default_rng(seed)
    asked: list[Message] = []
    for number in range(1, count + 1):
        draw, earlier = chance.random(), int(chance.integers(1, number + 1))
        price = 100_0000 + 100 * int(chance.integers(-8, 9))
        if draw < 0.7 or earlier == number:
            side = Side.BUY if chance.random() < 0.5 else Side.SELL
            symbol = str(chance.choice(["AAPL", "QQQ", "TSLA"]))
            quantity = int(chance.integers(1, 300))
            asked.append(order(number, side, quantity, price, symbol=symbol))
        elif draw < 0.85:
            asked.append(CancelOrder(earlier, int(chance.integers(0, 50))))
        else:
            quantity = int(chance.integers(1, 300))
            asked.append(ReplaceOrder(earlier, number, quantity, price, "0", "Y", "N", f"order {number}"))
    return asked


def listener(port: int = 0, **options: object) -> FeedReceiver:
    return FeedReceiver(LOOPBACK, port, book, **options)  # type: ignore[arg-type]


async def follow(receiver: FeedReceiver, until: Callable[[], bool]) -> None:
    """Let a receiver have its turns, and the event loop its own, until something holds."""
    while not until():
        if receiver.turn(0) == 0:
            await asyncio.sleep(0.001)


async def trade(server: Server, name: str = "alice", seed: int = 1) -> None:
    """A client sends its requests; when this returns, the exchange has answered all of them."""
    client = await BareClient.log_on(server, name)
    await client.packet()  # Login Accepted
    await client.request(*requests_of(seed))
    await client.request(order(MESSAGES + 1, symbol="MSFT", quantity=1))
    while getattr(await client.answer(), "user_reference_number", None) != MESSAGES + 1:
        pass
    await client.close()


def overrides(port: int, *more: str) -> tuple[str, ...]:
    return (
        f"market_data.address={LOOPBACK}",
        f"market_data.port={port}",
        "market_data.capacity_messages=16384",
        *more,
    )


def assert_same_book(server: Server, receiver: FeedReceiver) -> None:
    """The threads have stopped: the engine's book and the subscriber's, order by order."""
    subscriber = receiver.subscriber
    assert server.feed is not None
    assert subscriber.next_sequence == server.feed.store.next_sequence
    assert subscriber.book.counts().faults == 0
    assert subscriber.book.live_orders() > 20
    assert subscriber.book.symbols == server.settings.gateway.symbols
    assert subscriber.book.digest(public=True) == server.exchange.digest(public=True)


def free_port() -> int:
    """A UDP port that nobody has at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def has_multicast() -> bool:
    """Whether a datagram to a group comes back over the loopback."""
    try:
        with FeedReceiver(GROUP, free_port(), book, interface=LOOPBACK) as receiver:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
                sender.sendto(b"hello", (GROUP, receiver.port))
            return receiver.turn(0.5) == 1
    except OSError:
        return False


class LossyRelay(asyncio.DatagramProtocol):
    """Takes a feed and gives it on: a third of it is lost on the way to one receiver, and nothing to the others.

    ``lossy``: that receiver's port; 0 while there is none.
    """

    def __init__(self, lossy: int, whole: tuple[int, ...] = ()) -> None:
        self.chance, self.lossy, self.whole = np.random.default_rng(3), lossy, whole
        self.is_lossy, self.dropped = True, 0
        self.port = 0

    @classmethod
    async def open(cls, lossy: int, whole: tuple[int, ...] = ()) -> "LossyRelay":
        """A relay to these ports, in the running event loop."""
        _, relay = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: cls(lossy, whole), local_addr=(LOOPBACK, 0)
        )
        return relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for port in self.whole:
            self.transport.sendto(data, (LOOPBACK, port))
        if self.is_lossy and self.chance.random() < 0.33:
            self.dropped += 1
        elif self.lossy:
            self.transport.sendto(data, (LOOPBACK, self.lossy))

    def close(self) -> None:
        """Close its socket."""
        self.transport.close()
