"""itchfeed and itch-book rebuild our feed and have the engine's best prices, at sampled points and at the end.

The engine is asked after every hundred commands. itch-book keeps books of its own; itchfeed only reads messages, so a
book of ten lines stands behind it here, which knows nothing of ours.
"""

import datetime
import os
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from exchange.flow import Flow, load_flow
from exchange.flow.config import SyntheticConfig
from exchange.market_data.feed_file import END_MARK
from tests.feed_driver import PublishedMarket, commands_of

itch_parser = pytest.importorskip("itch.parser")
itch_book = pytest.importorskip("itch_book")

DATA = Path(os.environ.get("EXCHANGE_DATA", "."))
HOUR = str(DATA / "AAPL_2012-06-21_0930-1030.lobster.itch50.gz")
STEP_COMMANDS = 100

Top = tuple[int, ...]


class Sampled(NamedTuple):
    """A feed, and the engine's best prices of every symbol when the feed had so many messages."""

    data: bytes
    messages: list[int]
    tops: list[list[Top]]


@pytest.fixture(
    scope="module",
    params=[
        "synthetic",
        pytest.param(
            "hour",
            marks=[
                pytest.mark.real_data,
                pytest.mark.skipif(
                    "EXCHANGE_DATA" not in os.environ, reason="EXCHANGE_DATA names no folder of market data"
                ),
            ],
        ),
    ],
)
def sampled(request: pytest.FixtureRequest) -> Sampled:
    flow: Flow = (
        load_flow("synthetic", synthetic=SyntheticConfig(commands=20_000, symbols=6, seed=4))
        if request.param == "synthetic"
        else load_flow(HOUR)
    )
    commands = commands_of(flow)
    market = PublishedMarket("ladder", flow.symbols, capacity_orders=100_000, plain=False)
    messages, tops = [], []
    for begin in range(0, len(commands), STEP_COMMANDS):
        market.play(commands[begin : begin + STEP_COMMANDS])
        messages.append(market.book.counts().messages)
        tops.append([tuple(market.engine.top(symbol_id)[1]) for symbol_id in range(len(flow.symbols))])
    assert len({tuple(one) for one in tops}) > len(tops) // 2, "the points show different markets"
    return Sampled(bytes(market.blocks), messages, tops)


def test_itch_book_has_the_engines_best_prices_at_every_sampled_point(
    sampled: Sampled, tmp_path: Path
) -> None:
    path = tmp_path / "day.itch50"
    path.write_bytes(sampled.data + END_MARK)
    with itch_book.open(str(path), price_type="fixed", date=datetime.date(2012, 6, 21)) as feed:
        batches = list(feed.batches(("bbo",)))
        stats = feed.stats
    for fault in ("unknown", "malformed", "missing_ref", "dup_ref", "rejected", "clamped", "crossed_books"):
        assert stats[fault] == 0, fault
    names = ("seq", "locate", "bid_px", "bid_sz", "ask_px", "ask_sz")
    columns = [np.concatenate([batch.bbo[name] for batch in batches]).tolist() for name in names]
    rows = list(zip(*columns, strict=True))
    now: list[Top] = [(0, 0, 0, 0)] * len(sampled.tops[0])
    at = 0
    for messages, tops in zip(sampled.messages, sampled.tops, strict=True):
        while at < len(rows) and rows[at][0] <= messages:
            _, locate, *top = rows[at]
            now[locate - 1] = tuple(top)
            at += 1
        assert now == tops, f"after {messages} messages"
    assert at == len(rows)


class DictionaryBook:
    """Orders by number and shares by price, of one symbol or of many."""

    def __init__(self) -> None:
        self.orders: dict[int, tuple[int, bytes, int, int]] = {}
        self.levels: dict[tuple[int, bytes], dict[int, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, number: int, locate: int, side: bytes, price: int, shares: int) -> None:
        assert number not in self.orders
        self.orders[number] = (locate, side, price, shares)
        self.levels[locate, side][price] += shares

    def take(self, number: int, shares: int | None = None) -> tuple[int, bytes]:
        """Take shares off an order, None for all of it; KeyError if there is no such order."""
        locate, side, price, left = self.orders.pop(number)
        shares = left if shares is None else shares
        assert 0 < shares <= left
        if left > shares:
            self.orders[number] = (locate, side, price, left - shares)
        level = self.levels[locate, side]
        level[price] -= shares
        if level[price] == 0:
            del level[price]
        return locate, side

    def apply(self, message: Any) -> None:
        match message.message_type:
            case b"A":
                self.add(
                    message.order_reference_number,
                    message.stock_locate,
                    message.buy_sell_indicator,
                    message.price,
                    message.shares,
                )
            case b"E":
                self.take(message.order_reference_number, message.executed_shares)
            case b"X":
                self.take(message.order_reference_number, message.cancelled_shares)
            case b"D":
                self.take(message.order_reference_number)
            case b"U":
                locate, side = self.take(message.order_reference_number)
                self.add(message.new_order_reference_number, locate, side, message.price, message.shares)
            case other:
                assert other in (b"S", b"R", b"H")

    def top(self, locate: int) -> Top:
        bids, asks = self.levels[locate, b"B"], self.levels[locate, b"S"]
        bid, ask = max(bids, default=0), min(asks, default=0)
        return bid, bids.get(bid, 0), ask, asks.get(ask, 0)


def test_itchfeed_has_the_engines_best_prices_at_every_sampled_point(sampled: Sampled) -> None:
    book, points = DictionaryBook(), iter(zip(sampled.messages, sampled.tops, strict=True))
    due, tops = next(points)
    compared = 0
    for count, message in enumerate(itch_parser.MessageParser().parse_stream(sampled.data), 1):
        book.apply(message)
        while count == due:
            assert [book.top(1 + symbol_id) for symbol_id in range(len(tops))] == tops, (
                f"after {count} messages"
            )
            compared += 1
            due, tops = next(points, (0, []))
    assert compared == len(sampled.messages)
    assert count == sampled.messages[-1]
