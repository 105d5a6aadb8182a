"""A subscriber's book: built from events alone, it has the best prices of the book that made them."""

import numpy as np
import pytest

from exchange.market_data.top_of_book import BookBuilder, TopOfBook, tops_after_commands
from exchange.messages import BUY, EVENT_DTYPE, SELL, Event, EventKind, Reason
from tests.book_driver import BookDriver
from tests.property.book_flows import random_flow

ACCEPTED, EXECUTED, CANCELED = EventKind.ACCEPTED, EventKind.EXECUTED, EventKind.CANCELED
REPLACED, REJECTED = EventKind.REPLACED, EventKind.REJECTED


def order(order_id: int, side: int, price_ticks: int, quantity_lots: int, **fields: int) -> Event:
    return Event(
        ACCEPTED, order_id=order_id, side=side, price_ticks=price_ticks, quantity_lots=quantity_lots, **fields
    )


def book_of(*events: Event) -> BookBuilder:
    book = BookBuilder()
    for event in events:
        book.apply(event)
    return book


def test_an_empty_book_has_no_prices():
    assert book_of().top() == TopOfBook(0, 0, 0, 0)


def test_the_best_price_is_the_highest_bid_and_the_lowest_ask_with_all_lots_that_wait_there():
    orders = [order(1, BUY, 99, 5), order(2, BUY, 98, 7), order(3, SELL, 102, 4), order(4, SELL, 101, 2)]
    assert book_of(*orders, order(5, BUY, 99, 6)).top() == TopOfBook(99, 11, 101, 2)


def test_a_trade_takes_from_both_orders_and_what_is_left_of_the_aggressor_rests():
    trade = Event(EXECUTED, order_id=2, other_order_id=1, side=SELL, price_ticks=99, quantity_lots=5)
    book = book_of(order(1, BUY, 99, 5), order(2, SELL, 99, 8), trade)
    assert book.top() == TopOfBook(0, 0, 99, 3)
    assert book.live_order_count() == 1


def test_the_remainder_of_an_immediate_order_is_gone_and_never_was_a_price():
    remainder = Event(CANCELED, order_id=2, reason=Reason.IMMEDIATE_REMAINDER, quantity_lots=8)
    book = book_of(order(1, BUY, 99, 5), order(2, SELL, 100, 8, time_in_force=1), remainder)
    assert book.top() == TopOfBook(99, 5, 0, 0)


def test_a_cancel_takes_some_lots_or_all():
    orders = order(1, BUY, 99, 5), order(2, BUY, 98, 7)
    assert book_of(*orders, Event(CANCELED, order_id=1, quantity_lots=3)).top().bid_quantity_lots == 2
    assert book_of(*orders, Event(CANCELED, order_id=1, quantity_lots=5)).top() == TopOfBook(98, 7, 0, 0)


@pytest.mark.parametrize("new_order_id", [1, 9])
def test_a_replaced_order_leaves_its_old_price(new_order_id: int):
    change = Event(
        REPLACED, order_id=1, other_order_id=new_order_id, side=BUY, price_ticks=97, quantity_lots=20
    )
    book = book_of(order(1, BUY, 99, 5), order(2, BUY, 98, 7), change)
    assert book.top() == TopOfBook(98, 7, 0, 0)
    gone = Event(CANCELED, order_id=2, quantity_lots=7)
    book.apply(gone)
    assert book.top() == TopOfBook(97, 20, 0, 0)


def test_a_price_that_emptied_may_fill_again():
    gone = Event(CANCELED, order_id=1, quantity_lots=5)
    book = book_of(order(1, SELL, 101, 5), order(2, SELL, 103, 5), gone)
    assert book.top().ask_price_ticks == 103
    book.apply(order(1, SELL, 101, 6))
    assert book.top() == TopOfBook(0, 0, 101, 6)


def test_a_reject_changes_nothing():
    refused = Event(REJECTED, order_id=1, side=BUY, price_ticks=100, quantity_lots=5)
    assert book_of(order(1, BUY, 99, 5), refused).top() == TopOfBook(99, 5, 0, 0)


def test_an_event_of_an_order_that_never_was_is_an_error():
    with pytest.raises(KeyError):
        book_of(Event(CANCELED, order_id=1, quantity_lots=3))


def test_there_is_one_state_for_each_command_and_none_from_within():
    events = [
        order(1, BUY, 99, 5, command_sequence=4),
        order(2, SELL, 99, 8, command_sequence=7),
        Event(EXECUTED, order_id=2, other_order_id=1, quantity_lots=5, command_sequence=7),
        Event(REJECTED, command_sequence=8),
    ]
    tops = tops_after_commands(np.array(events, EVENT_DTYPE))
    assert tops.tolist() == [[99, 5, 0, 0], [0, 0, 99, 3], [0, 0, 99, 3]]
    assert tops_after_commands(np.zeros(0, EVENT_DTYPE)).shape == (0, 4)


@pytest.mark.parametrize("seed", range(12))
def test_it_has_the_best_prices_of_the_book_that_made_the_events(seed: int):
    regime, commands = random_flow(seed, 1_000)
    book = BookDriver(
        "naive",
        symbol_count=regime.symbol_count,
        capacity_orders=regime.capacity_orders,
        price_min_ticks=regime.price_min_ticks,
        price_max_ticks=regime.price_max_ticks,
    )
    built = [BookBuilder() for _ in range(regime.symbol_count)]
    for at in range(len(commands)):
        events = np.frombuffer(book.play(commands[at : at + 1]), EVENT_DTYPE)
        for event in map(Event._make, events.tolist()):
            if event.symbol_id < regime.symbol_count:
                built[event.symbol_id].apply(event)
        for symbol_id, mine in enumerate(built):
            assert list(mine.top()) == book.top(symbol_id)[1], f"after command {at}"
    assert sum(one.live_order_count() for one in built) == book.live_order_count()
