"""A feed that another machine goes on with: the same session and sequence, and lost messages from whoever answers."""

import asyncio
from pathlib import Path

from exchange.client import Client, Side
from exchange.market_data.feed_receiver import FeedReceiver
from tests.gateway_driver import PASSWORD
from tests.market_data_driver import LOOPBACK, LossyRelay, book, follow, free_port
from tests.moving_exchange import MovingExchange, moving_exchange
from tests.system.kill_processes import Starter

SECONDS_MAX = 120.0
ORDERS = 150


def settings(port: int) -> tuple[str, ...]:
    """A feed to one receiver here."""
    return f"market_data.address={LOOPBACK}", f"market_data.port={port}", "market_data.heartbeat_ns=10ms"


async def connect(exchange: MovingExchange) -> Client:
    await exchange.listens()
    first, *others = exchange.endpoints
    return await Client.connect(*first, "alice", PASSWORD, backups=others, sequence=0)


async def trade(client: Client, count: int = ORDERS) -> None:
    """Orders of both sides, some of which trade; answered when this returns, and the feed has told of them."""
    for turn in range(count):
        side = Side.BUY if turn % 2 else Side.SELL
        await client.place("AAPL", side, 10 + turn % 7, price_ticks=100_0000 + 100 * (turn * 37 % 11 - 5))
    await client.synchronize()


async def end(exchange: MovingExchange, receiver: FeedReceiver) -> None:
    """End the exchange, hear that, and compare the books."""
    ending = asyncio.create_task(follow(receiver, lambda: receiver.subscriber.has_ended))
    await exchange.end()
    await ending
    assert receiver.subscriber.book.counts().faults == 0
    assert receiver.subscriber.counts().snapshots == 0
    assert receiver.subscriber.book.live_orders() > 20
    assert receiver.subscriber.book.digest(public=True) == exchange.public_digest()


def throw_away(receiver: FeedReceiver) -> int:
    """What has come is lost."""
    count = 0
    try:
        while receiver._feed.recv(1 << 16):
            count += 1
    except BlockingIOError:
        pass
    return count


def test_requests_follow_a_feed_that_goes_on_from_elsewhere(tmp_path: Path, starter: Starter) -> None:
    async def scenario(exchange: MovingExchange, receiver: FeedReceiver) -> None:
        client = await connect(exchange)
        await trade(client)
        await follow(receiver, lambda: receiver.subscriber.next_sequence > ORDERS)
        session = receiver.subscriber.session
        await exchange.move()
        await exchange.listens()
        await trade(client)
        await asyncio.sleep(0.02)  # the egress has sent what it published
        assert throw_away(receiver) > 1
        await end(exchange, receiver)
        assert receiver.subscriber.session == session
        assert receiver.subscriber.counts().requests > 0
        await client.close()

    with (
        FeedReceiver(LOOPBACK, 0, book) as receiver,
        moving_exchange(tmp_path, starter, "tcp", *settings(receiver.port)) as exchange,
    ):
        asyncio.run(asyncio.wait_for(scenario(exchange, receiver), SECONDS_MAX))


def test_of_two_request_servers_the_one_that_is_there_answers(tmp_path: Path, starter: Starter) -> None:
    """A third of the feed is lost on its way, before the exchange moves and afterwards."""
    ports = (free_port(), free_port())

    async def scenario(receiver: FeedReceiver) -> None:
        relay = await LossyRelay.open(receiver.port)
        own = tuple((f"market_data.request_port={port}",) for port in ports)
        with moving_exchange(tmp_path, starter, "tcp", *settings(relay.port), own=own) as exchange:
            client = await connect(exchange)
            following = asyncio.create_task(
                follow(receiver, lambda: receiver.subscriber.next_sequence > 4 * ORDERS)
            )
            for _ in range(2):
                await trade(client)
                await exchange.move()
                await exchange.listens()
            await trade(client)
            await trade(client)
            await following
            relay.is_lossy = False
            await end(exchange, receiver)
            assert relay.dropped > 2
            await client.close()
        relay.close()

    with FeedReceiver(LOOPBACK, 0, book, requests=[(LOOPBACK, port) for port in ports]) as receiver:
        asyncio.run(asyncio.wait_for(scenario(receiver), SECONDS_MAX))
