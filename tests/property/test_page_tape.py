"""The tape beside a feed's book: against a plain twin, on feeds that are right and on feeds that are nonsense."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.market_data.feed_book import BadBlock, FeedBook
from exchange.market_data.plain_feed_book import PlainFeedBook
from exchange.messages import BUY, SELL
from exchange.page.tape import TapeBook, Trade
from exchange.page.tape_kernel import TRADES_KEPT
from exchange.wire.itch50 import (
    AddOrder,
    ItchMessage,
    OrderExecuted,
    OrderExecutedWithPrice,
)
from exchange.wire.itch50 import Trade as TradeMessage
from exchange.wire.moldudp64 import encode_blocks
from tests.feed_driver import feed_messages, random_feed

quick = settings(max_examples=100, deadline=None)


class PlainTape(PlainFeedBook):
    """The definition: looks a trade's order up in the plain book before it is applied."""

    def __init__(self, capacity_orders: int, capacity_symbols: int) -> None:
        super().__init__(capacity_orders=capacity_orders, capacity_symbols=capacity_symbols)
        self.printed: dict[int, list[Trade]] = {}

    def take(self, message: ItchMessage) -> None:
        symbol_id = self._locates.get(message.stock_locate)
        if symbol_id is not None:
            self._print(symbol_id, message)
        super().take(message)

    def _print(self, symbol_id: int, message: ItchMessage) -> None:
        trades = self.printed.setdefault(symbol_id, [])
        match message:
            case TradeMessage():
                side = BUY if message.buy_sell_indicator == "S" else SELL
                trades.insert(
                    0, Trade(message.timestamp, message.price, message.shares, side, message.match_number)
                )
            case OrderExecuted() | OrderExecutedWithPrice():
                number = message.order_reference_number
                order_id = number - (1 << 64) if number >> 63 else number
                order = self._book.orders.get((symbol_id, order_id))
                is_bulk = isinstance(message, OrderExecutedWithPrice) and message.printable == "N"
                if order is None or is_bulk:
                    return
                price = (
                    message.execution_price
                    if isinstance(message, OrderExecutedWithPrice)
                    else order.price_ticks
                )
                side = BUY if order.side == SELL else SELL
                trades.insert(
                    0, Trade(message.timestamp, price, message.executed_shares, side, message.match_number)
                )


def compare(messages: list[ItchMessage]) -> None:
    """The tape is the plain one's, and the book is what it is without a tape."""
    taped = TapeBook(capacity_orders=1000, capacity_symbols=8)
    book = FeedBook(capacity_orders=1000, capacity_symbols=8)
    plain = PlainTape(1000, 8)
    data = encode_blocks([one.encode() for one in messages])
    assert taped.apply_blocks(data) == book.apply_blocks(data) == len(data)
    for one in messages:
        plain.take(one)
    assert taped.counts() == book.counts()
    assert taped.digest() == book.digest()
    for symbol_id in range(len(taped.symbols)):
        printed = plain.printed.get(symbol_id, [])
        assert taped.trade_count(symbol_id) == len(printed)
        assert taped.trades(symbol_id) == printed[:TRADES_KEPT]
        assert taped.traded_lots(symbol_id) == sum(one.quantity_lots for one in printed)


@quick
@given(st.lists(feed_messages(), max_size=60))
def test_the_tape_is_that_of_the_plain_twin(messages: list[ItchMessage]) -> None:
    compare(messages)


@pytest.mark.parametrize("seed", range(3))
def test_long_tapes_forget_their_oldest_trades(seed: int) -> None:
    compare(random_feed(seed, 3000, symbols=2))


def test_bulk_prints_are_not_on_the_tape() -> None:
    head = (1, 0, 5)
    compare(
        [
            AddOrder(*head, 7, "B", 100, "ONE", 500),
            OrderExecutedWithPrice(*head, 7, 40, 1, "N", 490),
            OrderExecutedWithPrice(*head, 7, 60, 2, "Y", 490),
        ]
    )


def test_damage_stops_it_where_it_stops_the_book() -> None:
    good = encode_blocks([AddOrder(1, 0, 5, 7, "B", 100, "ONE", 500).encode()])
    trade = encode_blocks([OrderExecuted(1, 0, 6, 7, 40, 9).encode()])
    for damage in (b"\x00\x02E!", b"\x00\x05?abcd", trade[:-3], b"\x00\x00" + trade, b"\x00"):
        taped, book = (make(capacity_orders=10, capacity_symbols=2) for make in (TapeBook, FeedBook))
        outcomes = []
        for one in (taped, book):
            try:
                outcomes.append(one.apply_blocks(good + trade + damage))
            except BadBlock as error:
                outcomes.append((str(error), error.offset_bytes))
        assert outcomes[0] == outcomes[1]
        assert (taped.counts(), taped.trade_count(0)) == (book.counts(), 1)
