"""Joining a served exchange's feed late, when the store has forgotten the beginning: by a snapshot, amid trade."""

import asyncio
from contextlib import ExitStack

import pytest

from exchange.gateway.logon import bind_listener
from exchange.market_data import feed_receiver, glimpse_server
from exchange.market_data.feed_receiver import FeedReceiver
from exchange.market_data.glimpse_client import GlimpseLogin
from exchange.market_data.glimpse_server import GlimpseServer
from tests.gateway_driver import PASSWORD, run, serving, users
from tests.glimpse_driver import snapshot_book
from tests.market_data_driver import (
    LOOPBACK,
    LossyRelay,
    assert_same_book,
    book,
    follow,
    free_port,
    overrides,
    trade,
)

EARLY, LATE = ("alice", "bob", "carol", "dave"), ("erin", "frank")


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    glimpse_server.warm_up()


@pytest.mark.parametrize("gap_messages_max", [1 << 14, 100], ids=["asked in vain", "not asked"])
def test_who_joins_late_by_a_snapshot_has_the_engines_book(
    gap_messages_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day's beginning is not kept any more, and a third of what comes is lost on its way to the joiner."""
    patience = feed_receiver.GLIMPSE_PATIENCE._replace(gap_messages_max=gap_messages_max)
    monkeypatch.setattr(feed_receiver, "GLIMPSE_PATIENCE", patience)

    async def scenario() -> None:
        request_port = free_port()
        asked = [(LOOPBACK, request_port)]
        with (
            FeedReceiver(LOOPBACK, 0, snapshot_book, requests=asked) as follower,
            FeedReceiver(LOOPBACK, 0, book, requests=asked) as early,
            bind_listener(LOOPBACK, 0) as listening,
            ExitStack() as stack,
        ):
            glimpse = GlimpseServer(follower, users(["late"]))
            serving_snapshots = asyncio.create_task(glimpse.serve(listening, asyncio.Event()))
            login = GlimpseLogin(*listening.getsockname(), "late", PASSWORD)
            relay = await LossyRelay.open(0, (follower.port, early.port))
            more = (
                "market_data.capacity_messages=1024",
                "market_data.heartbeat_ns=10ms",
                f"market_data.request_port={request_port}",
            )
            async with serving(*EARLY, *LATE, overrides=overrides(relay.port, *more)) as server:
                following = asyncio.create_task(follow(early, lambda: early.subscriber.has_ended))
                for seed, name in enumerate(EARLY):
                    await trade(server, name, seed)
                assert server.feed is not None
                store = server.feed.store
                assert store.next_sequence > 1_024
                nobody = GlimpseLogin(LOOPBACK, free_port())  # a backup that is not there yet
                joiner = stack.enter_context(
                    FeedReceiver(LOOPBACK, 0, book, requests=asked, glimpse=[nobody, login])
                )
                relay.lossy = joiner.port
                trading = asyncio.gather(*(trade(server, name, 10 + n) for n, name in enumerate(LATE)))
                await follow(joiner, lambda: joiner.subscriber.counts().snapshots > 0)
                await trading
                await follow(joiner, lambda: joiner.subscriber.next_sequence == store.next_sequence)
                relay.is_lossy = False
                ending = asyncio.create_task(follow(joiner, lambda: joiner.subscriber.has_ended))
            await asyncio.gather(ending, following, serving_snapshots)
            relay.close()
            assert relay.dropped > 2
            assert_same_book(server, joiner)
            assert_same_book(server, early)
            assert joiner.subscriber.book.digest() == early.subscriber.book.digest()
            assert early.subscriber.counts().snapshots == 0
            assert glimpse.served >= 1

    run(scenario())
