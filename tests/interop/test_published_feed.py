"""Our published feed in the hands of programs that know nothing of ours: itchfeed, itch-book, and the real hour."""

import datetime
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from exchange.flow import Flow, load_flow
from exchange.flow.config import SyntheticConfig
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.feed_file import make_day, read_day
from exchange.market_data.plain_feed_book import PlainFeedBook
from tests.feed_driver import PublishedMarket, commands_of, seen

itch_parser = pytest.importorskip("itch.parser")
itch_book = pytest.importorskip("itch_book")

DATA = Path(os.environ.get("EXCHANGE_DATA", "."))
HOUR = str(DATA / "AAPL_2012-06-21_0930-1030.lobster.itch50.gz")
real_data = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        "EXCHANGE_DATA" not in os.environ, reason="EXCHANGE_DATA names no folder of market data"
    ),
]
DATE = datetime.date(2012, 6, 21)


@pytest.fixture(scope="module", params=["synthetic", pytest.param("hour", marks=real_data)])
def flow(request: pytest.FixtureRequest) -> Flow:
    if request.param == "synthetic":
        return load_flow("synthetic", synthetic=SyntheticConfig(commands=20_000, symbols=6, seed=4))
    return load_flow(HOUR)


@pytest.fixture(scope="module")
def day(flow: Flow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("feed") / "day.itch50"
    path.write_bytes(make_day(flow))
    return path


def best_prices(batches: list, count: int) -> list[tuple[int, int, int, int]]:
    """itch-book's last word on each symbol's best prices, as our books tell them."""
    tops = [(0, 0, 0, 0)] * count
    for batch in batches:
        bbo = batch.bbo
        for locate in np.unique(bbo["locate"]):
            last = np.flatnonzero(bbo["locate"] == locate)[-1]
            names = ("bid_px", "bid_sz", "ask_px", "ask_sz")
            tops[locate - 1] = tuple(int(bbo[name][last]) for name in names)
    return tops


def test_itch_book_rebuilds_it_without_a_fault_and_has_our_best_prices(flow: Flow, day: Path) -> None:
    with itch_book.open(str(day), price_type="fixed", date=DATE) as feed:
        batches = list(feed.batches(("bbo",)))
        stats = feed.stats
    for fault in ("unknown", "malformed", "missing_ref", "dup_ref", "rejected", "clamped", "crossed_books"):
        assert stats[fault] == 0, fault
    assert stats["end_of_session"]
    book = FeedBook(capacity_orders=100_000)
    read_day(str(day), book)
    assert stats["messages"] == book.counts().messages
    assert stats["live_orders"] == book.live_orders() > 0
    assert book.counts().faults == 0
    assert best_prices(batches, len(flow.symbols)) == [
        tuple(book.top(number)) for number in range(len(flow.symbols))
    ]


def test_itchfeed_reads_every_message_of_it(day: Path) -> None:
    data = day.read_bytes()
    messages = list(itch_parser.MessageParser().parse_stream(data))
    book = FeedBook(capacity_orders=100_000)
    book.apply_blocks(data)
    counted = Counter(message.message_type.decode() for message in messages)
    assert counted == book.counts_by_type()
    assert {"A", "D", "E", "R", "S", "H"} <= set(counted)


def test_the_books_twin_agrees_on_the_whole_feed(day: Path) -> None:
    compiled, plain = FeedBook(capacity_orders=100_000), PlainFeedBook()
    for book in (compiled, plain):
        read_day(str(day), book)
    assert seen(compiled) == seen(plain)
    assert compiled.digest() == plain.digest()


def test_at_every_sampled_point_the_feed_has_the_engines_book(flow: Flow) -> None:
    commands = commands_of(flow)
    market = PublishedMarket("ladder", flow.symbols, capacity_orders=100_000, plain=False)
    for begin in range(0, len(commands), 100):
        market.play(commands[begin : begin + 100])
        market.assert_same_tops()
    market.assert_same_books()


@pytest.mark.real_data
@pytest.mark.skipif("EXCHANGE_DATA" not in os.environ, reason="EXCHANGE_DATA names no folder of market data")
def test_the_real_hour_itself_is_read_alike_by_both_twins_and_by_itch_book() -> None:
    compiled, plain = FeedBook(capacity_orders=100_000), PlainFeedBook()
    for book in (compiled, plain):
        read_day(HOUR, book)
    assert seen(compiled) == seen(plain)
    assert compiled.digest() == plain.digest()
    assert (compiled.counts().messages, compiled.counts().faults) == (92_085, 0)
    with itch_book.open(HOUR, price_type="fixed", date=DATE) as feed:
        batches = list(feed.batches(("bbo",)))
    assert best_prices(batches, 1) == [tuple(compiled.top(0))]
