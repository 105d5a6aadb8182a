"""A feed that goes on after a restart: its GLIMPSE server has snapshots although the day's beginning is gone."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from exchange.flow import load_flow
from exchange.flow.config import SyntheticConfig
from exchange.market_data.config import MoldUdp64MarketDataConfig
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.feed_sender import send_due
from exchange.market_data.feed_server import FeedServer
from exchange.market_data.first_spin import encode_first_spin
from exchange.market_data.glimpse_process import GlimpseProcess
from exchange.market_data.glimpse_server import warm_up
from exchange.native import address_of
from exchange.snapshot.feed import restore_feed, save_feed
from exchange.transport.protocol import send
from exchange.wire.glimpse import Snapshot
from exchange.wire.moldudp64 import encode_blocks
from exchange.wire.soupbintcp import LoginRejected
from tests.book_driver import BookDriver
from tests.feed_driver import commands_of
from tests.gateway_driver import eventually
from tests.glimpse_driver import GlimpseClient, seek
from tests.market_data_driver import GROUP, free_port, has_multicast
from tests.snapshot_driver import written

pytestmark = pytest.mark.skipif(not has_multicast(), reason="no multicast over this machine's loopback")

SYMBOLS = [f"S{number}" for number in range(4)]
SESSION = "RESTART"
ORDERS = 3000
SECONDS_MAX = 60.0


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    warm_up()


def settings() -> MoldUdp64MarketDataConfig:
    """The store keeps less than the feed has told before the restart."""
    return MoldUdp64MarketDataConfig(
        address=GROUP,
        port=free_port(),
        request_port=0,
        heartbeat_ns=10_000_000,
        capacity_messages=1024,
        glimpse="process",
        glimpse_port=0,
        glimpse_logon="anybody",
    )


def feed_server(config: MoldUdp64MarketDataConfig) -> FeedServer:
    return FeedServer(
        config, SYMBOLS, SESSION, capacity_orders=ORDERS, shard_of_symbol=[0] * 4, midnight_ns=0
    )


def publish(feed: FeedServer, events: bytes) -> None:
    records = np.frombuffer(events, np.uint8)
    send(feed.publisher.state, address_of(records), len(events) // 64)


def two_parts() -> tuple[bytes, bytes]:
    """The events of a day, in front of a restart and behind it."""
    model = SyntheticConfig(commands=5000, symbols=len(SYMBOLS), seed=7)
    engine = BookDriver("ladder", symbol_count=4, capacity_orders=ORDERS, price_max_ticks=1 << 32)
    commands = commands_of(load_flow("synthetic", synthetic=model))
    return engine.play(commands[:4500]), engine.play(commands[4500:])


def restarted(folder: Path, config: MoldUdp64MarketDataConfig, before: bytes) -> FeedServer:
    """A feed that was put back after a day's first part."""
    first = feed_server(config)
    first.open(0)
    publish(first, before)
    assert first.store.next_sequence > 2 * config.capacity_messages
    second = feed_server(config)
    with written(folder / "snapshot", lambda writer: save_feed(writer, first.publisher)) as file:
        restore_feed(file, second.publisher)
    first.close()
    second.go_on()
    return second


@asynccontextmanager
async def served(
    config: MoldUdp64MarketDataConfig, feed: FeedServer, begin: Iterable[bytes] | None
) -> AsyncIterator[GlimpseProcess]:
    """A GLIMPSE server of a feed that goes on."""
    process = GlimpseProcess(config, SESSION, feed.source, "", ORDERS, begin)
    process.start()
    try:
        async with process:
            feed.open(0)
            feed.answer_requests(asyncio.get_running_loop())
            sending = asyncio.create_task(keep_sending(feed))
            yield process
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
    finally:
        asyncio.get_running_loop().remove_reader(feed.socket.fileno())
        process.close()
        feed.close()


async def keep_sending(feed: FeedServer) -> None:
    """What the egress does at each of its turns."""
    while True:
        send_due(feed._memory.state)
        await asyncio.sleep(0.001)


def book_of(snapshot: Snapshot) -> FeedBook:
    book = FeedBook(capacity_orders=ORDERS, capacity_symbols=8, keep_messages=64)
    book.apply_blocks(encode_blocks(snapshot.messages))
    return book


def test_a_server_begins_with_what_the_exchange_knows(tmp_path: Path) -> None:
    before, after = two_parts()

    async def scenario() -> None:
        config = settings()
        feed = restarted(tmp_path, config, before)
        behind = feed.store.next_sequence
        async with served(config, feed, encode_first_spin(feed.publisher)) as process:
            assert feed.store.next_sequence == behind, "the day is not opened again"
            address = process.listener.getsockname()[:2]
            snapshot = await seek(address, session=SESSION)
            assert snapshot.sequence_number == behind
            assert book_of(snapshot).digest(public=True) == feed.publisher.public_digest()
            publish(feed, after)
            while snapshot.sequence_number < feed.store.next_sequence:
                snapshot = await seek(address, session=SESSION)
            book = book_of(snapshot)
            assert book.digest(public=True) == feed.publisher.public_digest()
            assert book.live_orders() > 100
            assert book.counts().faults == 0
            first = process.process_id
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await eventually(lambda: process.process_id not in (None, first))
            snapshot = await seek(address, session=SESSION)
            assert book_of(snapshot).digest(public=True) == feed.publisher.public_digest()

    asyncio.run(asyncio.wait_for(scenario(), SECONDS_MAX))


def test_without_it_there_is_no_whole_book(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = settings()
        feed = restarted(tmp_path, config, two_parts()[0])
        async with served(config, feed, None) as process:
            client = await GlimpseClient.log_on(process.listener.getsockname()[:2], session=SESSION)
            (told,) = await client.everything()
            assert isinstance(told, LoginRejected)

    asyncio.run(asyncio.wait_for(scenario(), SECONDS_MAX))
