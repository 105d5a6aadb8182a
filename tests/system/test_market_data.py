"""The feed of a served exchange over the loopback: what a subscriber holds in the end is what the engine holds."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exchange.market_data.feed_receiver import FeedReceiver
from exchange.market_data.publisher import opening_messages
from exchange.market_data.subscriber import Subscriber
from exchange.wire.moldudp64 import Packet, Request, decode_packet, encode_packet
from exchange.wire.ouch_codes import Side
from tests.gateway_driver import BareClient, order, run, serving
from tests.market_data_driver import (
    GROUP,
    LOOPBACK,
    LossyRelay,
    assert_same_book,
    book,
    follow,
    free_port,
    has_multicast,
    listener,
    overrides,
    trade,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _compiled_subscriber() -> None:
    """The tests here are in a hurry; a compiler is not."""
    subscriber = Subscriber(book)
    messages = tuple(one.encode() for one in opening_messages(["AAPL"], 0))
    subscriber.receive(encode_packet(Packet("TEST", 1, messages)), 0)
    subscriber.book.top(0)
    subscriber.book.digest(public=True)


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

    async def scenario() -> None:
        request_port = free_port()
        with listener(requests=[(LOOPBACK, request_port)]) as receiver:
            relay = await LossyRelay.open(receiver.port)
            more = (f"market_data.request_port={request_port}", "market_data.heartbeat_ns=10ms")
            async with serving("alice", "bob", overrides=overrides(relay.port, *more)) as server:
                for name, seed in (("alice", 4), ("bob", 5)):
                    await trade(server, name, seed)
                assert server.feed is not None
                store = server.feed.store
                await follow(receiver, lambda: receiver.subscriber.next_sequence == store.next_sequence)
                assert relay.dropped > 2
                relay.is_lossy = False
                ending = asyncio.create_task(follow(receiver, lambda: receiver.subscriber.has_ended))
            await ending
            relay.close()
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
        more = ("market_data.capacity_messages=1024", "market_data.heartbeat_ns=10ms")
        async with serving(*names, overrides=overrides(port, *more)) as server:
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
