"""What every order book shows of itself when it is asked: the top of a symbol's book, and its orders.

The orders are exported so that a book can be made again from them, and the contract is that nobody could tell the two
apart.
"""

from itertools import pairwise

from exchange.messages import ALL_SYMBOLS, BUY, SELL
from tests.book_driver import MakeBook, cancel, mass_cancel, new, replace


def test_top_of_book_follows_the_best_level(make_book: MakeBook) -> None:
    book = make_book(price_max_ticks=10**8)
    assert book.top() == (0, [0, 0, 0, 0])
    book.apply(new(1, SELL, 10**8, 4), new(2, SELL, 10**6, 3), new(3, SELL, 10**6, 2))
    assert book.top() == (2, [0, 0, 10**6, 5])
    book.apply(new(4, BUY, 3, 7), new(5, BUY, 500_000, 1))
    assert book.top() == (3, [500_000, 1, 10**6, 5])
    book.apply(cancel(5), cancel(2), cancel(3))
    assert book.top() == (3, [3, 7, 10**8, 4])


def test_exported_orders_build_the_same_book_again(make_book: MakeBook) -> None:
    book, again = (make_book(symbol_count=2, price_max_ticks=10**7) for _ in range(2))
    prices = [5, 9, 9, 200, 60_000, 60_001, 10**7, 60_000]
    for order_id, price_ticks in enumerate(prices):
        for symbol_id in (0, 1):
            side = BUY if price_ticks < 1000 else SELL
            book.apply(
                new(order_id, side, price_ticks, order_id + 1, symbol_id=symbol_id, session_id=order_id % 3)
            )
    book.apply(replace(1, 50, 9, 100, session_id=1), cancel(4, 2, session_id=1), cancel(3))
    for symbol_id in (0, 1):
        again.apply(*book.orders(symbol_id))
    for symbol_id in (0, 1):
        assert again.orders(symbol_id) == book.orders(symbol_id)
        assert again.top(symbol_id) == book.top(symbol_id)
    # Not only what is exported is the same, but what happens next.
    sweep = [new(99, SELL, 1, 150), new(98, BUY, 10**7, 150), mass_cancel(ALL_SYMBOLS, session_id=1)]
    assert [event[:6] + event[7:-1] for event in book.apply(*sweep)] == [
        event[:6] + event[7:-1] for event in again.apply(*sweep)
    ]


def test_exported_orders_stand_in_priority_order(make_book: MakeBook) -> None:
    book = make_book(price_max_ticks=10**9)
    for order_id in range(60):
        side = order_id % 2
        price_ticks = (5 if side == BUY else 10**8) + (order_id * 7919 % 13) * 10**6
        book.apply(new(order_id, side, price_ticks, 1))
    orders = book.orders()
    assert len(orders) == book.live_order_count() == 60
    ranks = [
        (order.side, -order.price_ticks if order.side == BUY else order.price_ticks, order.order_id)
        for order in orders
    ]
    assert all(before < after for before, after in pairwise(ranks))
