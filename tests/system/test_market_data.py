"""The feed of a served exchange over the loopback: what a subscriber holds in the end is what the engine holds."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exchange.gateway.server import Server
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.feed_receiver import FeedReceiver
from exchange.market_data.publisher import opening_messages
from exchange.market_data.subscriber import Subscriber
from exchange.wire.layout import Message
from exchange.wire.moldudp64 import Packet, Request, decode_packet, encode_packet
from exchange.wire.ouch50 import CancelOrder, ReplaceOrder
from exchange.wire.ouch_codes import Side
from tests.gateway_driver import BareClient, order, run, serving

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
GROUP = "239.255.42.1"
MESSAGES = 400


@pytest.fixture(scope="module", autouse=True)
def _compiled_subscriber() -> None:
    """The tests here are in a hurry; a compiler is not."""
    subscriber = Subscriber(book)
    messages = tuple(one.encode() for one in opening_messages(["AAPL"], 0))
    subscriber.receive(encode_packet(Packet("TEST", 1, messages)), 0)
    subscriber.book.top(0)
    subscriber.book.digest(public=True)


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
    return (f"market_data.port={port}", "market_data.capacity_messages=16384", *more)


def assert_same_book(server: Server, receiver: FeedReceiver) -> None:
    """The threads have stopped: the engine's book and the subscriber's, order by order."""
    subscriber = receiver.subscriber
    assert server.feed is not None
    assert subscriber.next_sequence == server.feed.store.next_sequence
    assert subscriber.book.counts().faults == 0
    assert subscriber.book.live_orders() > 20
    assert subscriber.book.symbols == server.settings.gateway.symbols
    assert subscriber.book.digest(public=True) == server.exchange.digest(public=True)


def test_a_subscribers_book_is_the_engines() -> None:
    async def scenario() -> None:
        with listener() as receiver:
            async with serving("alice", "bob", overrides=overrides(receiver.port)) as server:
                ending = asyncio.create_task(follow(receiver, lambda: receiver.subscriber.has_ended))
                await asyncio.gather(trade(server), trade(server, "bob", 2))
            await ending
            assert_same_book(server, receiver)
            assert receiver.subscriber.counts().requests == 0
            assert receiver.subscriber.book.system_event == "C"
            assert receiver.subscriber.book.counts_by_type()["E"] > 50

    run(scenario())


def test_lost_datagrams_are_asked_for() -> None:
    """The feed goes through a relay that drops a third of it, and the last messages before a lull."""

    class Relay(asyncio.DatagramProtocol):
        def __init__(self, receiver: int) -> None:
            self.chance, self.receiver = np.random.default_rng(3), receiver
            self.is_lossy, self.dropped = True, 0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.DatagramTransport)
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            if self.is_lossy and self.chance.random() < 0.33:
                self.dropped += 1
            else:
                self.transport.sendto(data, (LOOPBACK, self.receiver))

    async def scenario() -> None:
        request_port = free_port()
        with listener(requests=(LOOPBACK, request_port)) as receiver:
            loop = asyncio.get_running_loop()
            transport, relay = await loop.create_datagram_endpoint(
                lambda: Relay(receiver.port), local_addr=(LOOPBACK, 0)
            )
            port = transport.get_extra_info("sockname")[1]
            more = (f"market_data.request_port={request_port}", "market_data.heartbeat_ns=10ms")
            async with serving("alice", "bob", overrides=overrides(port, *more)) as server:
                for name, seed in (("alice", 4), ("bob", 5)):
                    await trade(server, name, seed)
                assert server.feed is not None
                store = server.feed.store
                await follow(receiver, lambda: receiver.subscriber.next_sequence == store.next_sequence)
                assert relay.dropped > 2
                relay.is_lossy = False
                ending = asyncio.create_task(follow(receiver, lambda: receiver.subscriber.has_ended))
            await ending
            transport.close()
            assert_same_book(server, receiver)
            assert receiver.subscriber.counts().requests >= receiver.subscriber.counts().gaps > 0

    run(scenario())


def test_who_joins_late_asks_for_everything() -> None:
    async def scenario() -> None:
        port = free_port()
        async with serving("alice", overrides=overrides(port, "market_data.heartbeat_ns=10ms")) as server:
            await trade(server)
            assert server.feed is not None
            store = server.feed.store
            with listener(port) as receiver:
                await follow(receiver, lambda: receiver.subscriber.next_sequence == store.next_sequence)
                server.request_stop()
                await follow(receiver, lambda: receiver.subscriber.has_ended)
                assert_same_book(server, receiver)
                assert receiver.subscriber.counts().requests > 3

    run(scenario())


def test_who_lost_what_is_not_kept_any_more_wants_a_snapshot() -> None:
    async def scenario() -> None:
        port, names = free_port(), ("alice", "bob", "carol", "dave", "erin", "frank")
        more = (
            f"market_data.port={port}",
            "market_data.capacity_messages=1024",
            "market_data.heartbeat_ns=10ms",
        )
        async with serving(*names, overrides=more) as server:
            for seed, name in enumerate(names):
                await trade(server, name, seed)
            assert server.feed is not None
            assert server.feed.store.next_sequence > 1024
            with listener(port) as receiver:
                await follow(receiver, lambda: receiver.subscriber.wants_snapshot)
                assert receiver.subscriber.next_sequence == 1

    run(scenario())


def test_a_quiet_feed_sends_heartbeats_and_nonsense_gets_no_answer() -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
            heard.bind((LOOPBACK, 0))
            heard.settimeout(5)
            more = overrides(heard.getsockname()[1], "market_data.heartbeat_ns=20ms")
            async with serving("alice", overrides=more) as server:
                packets = [decode_packet(heard.recv(2048)) for _ in range(4)]
                assert [len(one.messages) for one in packets[1:]] == [0, 0, 0]
                assert {one.sequence_number for one in packets[1:]} == {len(packets[0].messages) + 1}
                assert server.feed is not None
                session = packets[0].session
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
                    asker.setblocking(False)
                    for nonsense in (b"", b"x" * 20, b"y" * 5000, Request("OTHER", 1, 1).encode()):
                        asker.sendto(nonsense, server.feed.source)
                    asker.sendto(Request(session, 2, 3).encode(), server.feed.source)
                    while not (answers := received(asker)):
                        await asyncio.sleep(0.001)
                    assert [decode_packet(one).messages for one in answers] == [packets[0].messages[1:4]]

    run(scenario())


def received(asker: socket.socket) -> list[bytes]:
    try:
        return [asker.recv(2048)]
    except BlockingIOError:
        return []


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


@pytest.mark.skipif(not has_multicast(), reason="no multicast over this machine's loopback")
def test_a_group_has_many_listeners() -> None:
    async def scenario() -> None:
        port = free_port()
        with (
            FeedReceiver(GROUP, port, book, interface=LOOPBACK) as first,
            FeedReceiver(GROUP, port, book, interface=LOOPBACK) as second,
        ):
            more = (f"market_data.address={GROUP}", "market_data.heartbeat_ns=10ms")
            async with serving("alice", overrides=overrides(port, *more)) as server:
                await trade(server)
            await follow(first, lambda: first.subscriber.has_ended)
            await follow(second, lambda: second.subscriber.has_ended)
            assert_same_book(server, first)
            assert_same_book(server, second)

    run(scenario())


def test_the_command_prints_best_prices_and_ends_with_ctrl_c() -> None:
    async def scenario() -> None:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "exchange", "feed", f"{LOOPBACK}:{port}", "--plain"],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert await asyncio.to_thread(process.stderr.readline) == (
                f"listening to the feed on {LOOPBACK} port {port}\n"
            )
            more = overrides(port, "market_data.heartbeat_ns=10ms")
            async with serving("alice", overrides=more) as server:
                client = await BareClient.log_on(server, "alice")
                await client.request(order(1, Side.BUY, 300, 99_5000), order(2, Side.SELL, 200, 101_2500))
                # Every symbol gets a line to begin with; whether the orders are in AAPL's first depends on the machine.
                wanted = {"AAPL": " 300 x 99.5000 | 101.2500 x 200", "QQQ": "- x - | - x -"}
                while wanted:
                    line = await asyncio.to_thread(process.stdout.readline)
                    assert line != ""
                    symbol = line.split()[1]
                    if wanted.get(symbol, line) in line:
                        wanted.pop(symbol, None)
                await client.close()
                began = time.monotonic()
                process.send_signal(signal.SIGINT)
                told = [await asyncio.to_thread(process.stderr.readline) for _ in range(2)]
                assert time.monotonic() - began < 1
                assert told == ["\n", "exchange: stopped\n"]
                assert await asyncio.to_thread(process.wait) == 130
        finally:
            process.kill()
            process.communicate()

    run(scenario())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere",), "must be a numeric address and a port"),
        (("nowhere:9006",), "cannot listen to a feed on nowhere, port 9006: it must be a numeric"),
        (("192.0.2.1:9006",), "cannot listen to a feed on 192.0.2.1"),
        (("127.0.0.1:9006", "--requests", "x:0"), "--requests 'x:0': must be"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(arguments: tuple[str, ...], told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "exchange", "feed", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert told in line
    assert (done.returncode, done.stdout) == (2, "")
