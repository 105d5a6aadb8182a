"""A whole exchange on its threads that publishes: the feed of all shards together is its books, whatever the profile.

The events go through a tee to a sink that keeps them and to the publisher, as clients and market data get theirs. What
a subscriber builds from the datagrams, with every seventh of them lost and asked for again, is compared with the books
of the exchange, order by order.
"""

import time
from typing import Any

import pytest

from exchange.assembly import Exchange, expected_answers, lanes_of
from exchange.flow import load_flow
from exchange.flow.config import SyntheticConfig
from exchange.market_data.datagram_store import DatagramStore
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.missing import Patience
from exchange.market_data.publisher import Publisher
from exchange.market_data.subscriber import Subscriber
from exchange.matching.digest import state_digest
from exchange.settings import Settings, load_profile
from exchange.transport.memory import ANSWERS, MemoryTransport
from exchange.transport.protocol import flush, send
from exchange.transport.tee import Tee
from exchange.wire.itch50 import MESSAGES, decode
from exchange.wire.itch50_codes import TradingState
from exchange.wire.moldudp64 import decode_packet

SYMBOLS = tuple(f"SYM{number}" for number in range(5))


class PublishingTransport(MemoryTransport):
    """Commands from memory; events are kept, and published."""

    publisher: Publisher

    def sink(self) -> Any:
        return Tee(super().sink(), self.publisher.state)


def play(settings: Settings, commands: Any, publisher: Publisher) -> Exchange:
    """Play everything at once, halt a symbol meanwhile; the exchange has stopped when this returns."""
    lanes = lanes_of(commands, settings.transport.ingress_lanes)
    transport = PublishingTransport(lanes, keep_events=4 * len(commands) + 64)
    transport.publisher = publisher
    exchange = Exchange(settings, len(SYMBOLS), transport)
    exchange.compile(lambda text: None)
    send(
        transport.sink(), 0, 0
    )  # an egress that is interpreted compiles what it calls when it first calls it
    flush(transport.sink())
    answers = expected_answers(commands, settings.shards.count)
    deadline = time.monotonic() + 60
    told = publisher.store.next_sequence
    publisher.tell_trading_state(2, TradingState.HALTED, "T1")
    with exchange.threads:
        while transport.word(ANSWERS) < answers or publisher.store.next_sequence == told:
            exchange.threads.check()
            assert time.monotonic() < deadline, f"{transport.word(ANSWERS)} of {answers} answers"
            time.sleep(0.002)
    return exchange


def subscribe(store: DatagramStore) -> Subscriber:
    """Receive everything, but for every seventh datagram, which has to be asked for."""
    subscriber = Subscriber(lambda: FeedBook(capacity_orders=50_000), patience=Patience(gap_ns=0))
    datagrams = [*store.take_datagrams(), store.heartbeat()]
    for number, datagram in enumerate(datagrams):
        if number % 7 != 3 or number == len(datagrams) - 1:
            subscriber.receive(datagram, number)
        for request in subscriber.poll(number):
            answer = store.answer(request)
            assert answer is not None
            subscriber.receive(answer, number)
    now_ns = len(datagrams)
    while subscriber.next_sequence < store.next_sequence:
        now_ns += 10**9
        for request in subscriber.poll(now_ns):
            answer = store.answer(request)
            assert answer is not None
            subscriber.receive(answer, now_ns)
    return subscriber


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param((), id="textbook"),
        pytest.param(("queue.kind=spsc", "book.kind=ladder"), id="spsc-ladder"),
        pytest.param(
            ("queue.kind=mpsc", "book.kind=ladder", "shards.count=3", "transport.ingress_lanes=2"), id="three-shards"
        ),
    ],
)  # fmt: skip
def test_the_feed_of_all_shards_is_the_books_of_the_exchange(overrides: tuple[str, ...]) -> None:
    settings = load_profile("textbook", overrides)
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=6_000, symbols=len(SYMBOLS), seed=8))
    commands = flow.commands.copy()
    commands["timestamp_ns"] = 0
    store = DatagramStore("SYSTEM", 1 << 15)
    shards = [number % settings.shards.count for number in range(len(SYMBOLS))]
    publisher = Publisher(SYMBOLS, store, capacity_orders=50_000, shard_of_symbol=shards)
    publisher.open_day()
    exchange = play(settings, commands, publisher)
    assert exchange.shard_of_symbol == shards
    publisher.close_day()
    subscriber = subscribe(store)
    assert subscriber.counts().requests > 5
    assert subscriber.book.counts().faults == 0
    assert (subscriber.book.symbols, subscriber.book.system_event) == (SYMBOLS, "C")
    assert [subscriber.book.trading_state(number) for number in range(5)] == ["T", "T", "H", "T", "T"]
    books = [exchange.book_of(number) for number in range(settings.shards.count)]
    assert subscriber.book.digest(public=True) == state_digest(books, shards, public=True)
    assert subscriber.book.live_orders() > 50


def test_no_two_trades_of_a_day_have_the_same_number() -> None:
    settings = load_profile("textbook", ("queue.kind=spsc", "book.kind=ladder", "shards.count=2"))
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=6_000, symbols=len(SYMBOLS), seed=8))
    commands = flow.commands.copy()
    commands["timestamp_ns"] = 0
    store = DatagramStore("SYSTEM", 1 << 15)
    publisher = Publisher(SYMBOLS, store, capacity_orders=50_000, shard_of_symbol=[0, 1, 0, 1, 0])
    play(settings, commands, publisher)
    messages = [decode(data) for one in store.take_datagrams() for data in decode_packet(one).messages]
    numbers = [message.match_number for message in messages if isinstance(message, MESSAGES["E"])]
    assert len(set(numbers)) == len(numbers) > 100
