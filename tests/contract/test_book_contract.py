"""What every order book does with commands that it accepts: the rules of ``exchange.book.protocol``, one by one.

The refusals are in ``test_book_rejects.py``, what a book shows of itself in ``test_book_views.py``. Each test runs on
every variant. Whole events are compared wherever the rule says something about more than one field.
"""

import pytest

from exchange.book.protocol import events_bound
from exchange.messages import ALL_SYMBOLS, BUY, SELL, Event, EventKind, OrderType, Reason, TimeInForce
from tests.book_driver import MakeBook, cancel, mass_cancel, new, replace

IOC = {"time_in_force": int(TimeInForce.IMMEDIATE_OR_CANCEL)}
MARKET = {"order_type": int(OrderType.MARKET)}
QUANTITY_MAX = 2**32 - 1


def kinds(events: list[Event]) -> list[str]:
    return [EventKind(event.kind).name for event in events]


def trades(events: list[Event]) -> list[tuple[int, int, int]]:
    """Maker, price and quantity of each trade."""
    return [
        (event.other_order_id, event.price_ticks, event.quantity_lots)
        for event in events
        if event.kind == EventKind.EXECUTED
    ]


def test_an_accepted_order_rests_and_its_event_repeats_its_fields(make_book: MakeBook) -> None:
    book = make_book(symbol_count=3)
    order = new(
        11, SELL, 70, 5, symbol_id=2, session_id=9, tag=77, timestamp_ns=123, new_order_id=4, liability_lots=6
    )
    accepted = Event(
        EventKind.ACCEPTED,
        side=SELL,
        symbol_id=2,
        session_id=9,
        command_sequence=1,
        order_id=11,
        price_ticks=70,
        quantity_lots=5,
        command_kind=1,
        timestamp_ns=123,
    )
    assert book.apply(order) == [accepted]
    exported = order._replace(tag=0, timestamp_ns=0, new_order_id=0, liability_lots=0)
    assert book.orders(2) == [exported]
    assert book.orders(0) == book.orders(1) == []
    assert book.live_order_count() == 1


def test_a_trade_names_both_orders_and_prints_at_the_resting_price(make_book: MakeBook) -> None:
    book = make_book(symbol_count=2)
    book.apply(new(1, SELL, 100, 8, session_id=3, symbol_id=1))
    accepted, executed = book.apply(new(2, BUY, 105, 5, session_id=4, symbol_id=1, timestamp_ns=50))
    assert (accepted.kind, accepted.price_ticks, accepted.quantity_lots) == (EventKind.ACCEPTED, 105, 5)
    assert executed == Event(
        EventKind.EXECUTED,
        side=BUY,
        symbol_id=1,
        session_id=4,
        command_sequence=2,
        order_id=2,
        other_order_id=1,
        price_ticks=100,
        quantity_lots=5,
        other_session_id=3,
        command_kind=1,
        match_number=1,
        timestamp_ns=50,
    )
    assert [(order.order_id, order.quantity_lots) for order in book.orders(1)] == [(1, 3)]


@pytest.mark.parametrize("side", [BUY, SELL])
def test_best_price_trades_first_and_at_one_price_the_earliest(make_book: MakeBook, side: int) -> None:
    book = make_book()
    better = 1 if side == BUY else -1
    for order_id, price_ticks in [
        (1, 100),
        (2, 100 + better),
        (3, 100),
        (4, 100 + better),
        (5, 100 - better),
    ]:
        book.apply(new(order_id, side, price_ticks, 1))
    events = book.apply(new(9, 1 - side, 100 - better, 5))
    assert [maker for maker, _, _ in trades(events)] == [2, 4, 1, 3, 5]
    assert book.live_order_count() == 0


@pytest.mark.parametrize("side", [BUY, SELL])
def test_prices_cross_when_equal_and_not_one_tick_before(make_book: MakeBook, side: int) -> None:
    book = make_book()
    worse = -1 if side == BUY else 1
    book.apply(new(1, 1 - side, 500, 1))
    assert kinds(book.apply(new(2, side, 500 + worse, 1))) == ["ACCEPTED"]
    assert trades(book.apply(new(3, side, 500, 1))) == [(1, 500, 1)]


def test_a_day_order_trades_as_far_as_its_limit_and_rests_with_what_is_left(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, SELL, 100, 2), new(2, SELL, 101, 2), new(3, SELL, 102, 2))
    events = book.apply(new(4, BUY, 101, 7))
    assert trades(events) == [(1, 100, 2), (2, 101, 2)]
    assert [(order.order_id, order.price_ticks, order.quantity_lots) for order in book.orders()] == [
        (4, 101, 3),
        (3, 102, 2),
    ]


def test_the_rest_of_an_immediate_order_is_cancelled_after_its_trades(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 2))
    events = book.apply(new(2, SELL, 100, 5, session_id=6, **IOC))
    assert kinds(events) == ["ACCEPTED", "EXECUTED", "CANCELED"]
    assert events[0].time_in_force == TimeInForce.IMMEDIATE_OR_CANCEL
    assert events[2] == Event(
        EventKind.CANCELED,
        side=SELL,
        reason=Reason.IMMEDIATE_REMAINDER,
        session_id=6,
        command_sequence=2,
        order_id=2,
        price_ticks=100,
        quantity_lots=3,
        command_kind=1,
        timestamp_ns=2000,
    )
    assert book.live_order_count() == 0


def test_an_immediate_order_that_trades_in_full_leaves_no_cancel(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 5))
    assert kinds(book.apply(new(2, SELL, 90, 5, **IOC))) == ["ACCEPTED", "EXECUTED"]
    assert kinds(book.apply(new(3, SELL, 90, 5, **IOC))) == ["ACCEPTED", "CANCELED"]


@pytest.mark.parametrize("time_in_force", TimeInForce)
@pytest.mark.parametrize("price_ticks", [0, -(2**63), 2**63 - 1, 50])
def test_a_market_order_takes_any_price_and_never_rests(
    make_book: MakeBook, time_in_force: TimeInForce, price_ticks: int
) -> None:
    book = make_book(price_min_ticks=1, price_max_ticks=10**9)
    book.apply(new(1, SELL, 10**9, 1), new(2, SELL, 1, 1))
    events = book.apply(new(3, BUY, price_ticks, 5, time_in_force=time_in_force, **MARKET))
    assert trades(events) == [(2, 1, 1), (1, 10**9, 1)]
    assert events[0].price_ticks == events[-1].price_ticks == price_ticks
    assert (events[-1].kind, events[-1].reason, events[-1].quantity_lots) == (
        EventKind.CANCELED,
        Reason.IMMEDIATE_REMAINDER,
        3,
    )
    assert book.live_order_count() == 0


def test_a_session_may_trade_with_itself(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, SELL, 100, 1, session_id=5))
    (trade,) = [event for event in book.apply(new(2, BUY, 100, 1, session_id=5)) if event.match_number]
    assert (trade.session_id, trade.other_session_id) == (5, 5)


def test_match_numbers_count_the_trades_of_all_symbols_from_one(make_book: MakeBook) -> None:
    book = make_book(symbol_count=2)
    book.apply(new(1, SELL, 10, 1), new(2, SELL, 10, 1), new(1, SELL, 10, 9, symbol_id=1))
    events = book.apply(
        new(7, BUY, 10, 2),
        new(8, BUY, 10, 1, symbol_id=1),
        new(9, BUY, 10, 0),
        new(8, BUY, 10, 1, symbol_id=1),
    )
    assert [event.match_number for event in events if event.kind == EventKind.EXECUTED] == [1, 2, 3, 4]
    assert all(event.match_number == 0 for event in events if event.kind != EventKind.EXECUTED)


@pytest.mark.parametrize(("asked", "taken", "left"), [(1, 1, 4), (4, 4, 1), (5, 5, 0), (6, 5, 0), (0, 5, 0)])
def test_a_cancel_takes_the_asked_lots_or_all(make_book: MakeBook, asked: int, taken: int, left: int) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 5, session_id=2), new(2, BUY, 100, 3))
    assert book.apply(cancel(1, asked, session_id=2, side=SELL, price_ticks=7)) == [
        Event(
            EventKind.CANCELED,
            side=BUY,
            reason=Reason.BY_CLIENT,
            session_id=2,
            command_sequence=3,
            order_id=1,
            price_ticks=100,
            quantity_lots=taken,
            command_kind=2,
            timestamp_ns=3000,
        )
    ]
    assert [(order.order_id, order.quantity_lots) for order in book.orders()] == [(1, left)] * (left > 0) + [
        (2, 3)
    ]
    assert book.top() == (1, [100, left + 3, 0, 0])


def test_replace_with_no_more_quantity_at_the_same_price_keeps_its_place(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 5, session_id=3), new(2, BUY, 100, 5))
    assert book.apply(replace(1, 10, 100, 4, session_id=3, side=SELL)) == [
        Event(
            EventKind.REPLACED,
            side=BUY,
            session_id=3,
            command_sequence=3,
            order_id=1,
            other_order_id=10,
            price_ticks=100,
            quantity_lots=4,
            command_kind=3,
            timestamp_ns=3000,
        )
    ]
    assert kinds(book.apply(replace(10, 10, 100, 4, session_id=3))) == ["REPLACED"]
    assert [(order.order_id, order.quantity_lots) for order in book.orders()] == [(10, 4), (2, 5)]
    assert book.top() == (1, [100, 9, 0, 0])
    assert [maker for maker, _, _ in trades(book.apply(new(3, SELL, 100, 9)))] == [10, 2]


@pytest.mark.parametrize(
    ("price_ticks", "quantity_lots", "order"), [(100, 6, [2, 1]), (99, 5, [2, 1]), (101, 5, [1, 2])]
)
def test_replace_with_more_quantity_or_another_price_goes_to_the_end_of_its_level(
    make_book: MakeBook, price_ticks: int, quantity_lots: int, order: list[int]
) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 5), new(2, BUY, 100, 5))
    assert kinds(book.apply(replace(1, 1, price_ticks, quantity_lots))) == ["REPLACED"]
    assert book.ids() == order


def test_a_replaced_order_goes_behind_those_that_wait_at_its_new_price(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, SELL, 100, 5), new(2, SELL, 101, 5), replace(1, 1, 101, 5))
    assert book.ids() == [2, 1]


def test_a_replace_that_crosses_trades_and_rests_with_what_is_left(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 5, session_id=1), new(2, SELL, 110, 3, session_id=2), new(3, SELL, 111, 3))
    events = book.apply(replace(1, 7, 110, 5, session_id=1, time_in_force=1, order_type=1))
    assert kinds(events) == ["REPLACED", "EXECUTED"]
    assert events[1] == Event(
        EventKind.EXECUTED,
        side=BUY,
        session_id=1,
        command_sequence=4,
        order_id=7,
        other_order_id=2,
        price_ticks=110,
        quantity_lots=3,
        other_session_id=2,
        command_kind=3,
        match_number=1,
        timestamp_ns=4000,
    )
    assert [(order.order_id, order.price_ticks, order.quantity_lots) for order in book.orders()] == [
        (7, 110, 2),
        (3, 111, 3),
    ]
    events = book.apply(replace(7, 8, 111, 2, session_id=1))
    assert trades(events) == [(3, 111, 2)]
    assert book.ids() == [3], "the replaced order traded in full"


@pytest.mark.parametrize(
    ("total", "was", "open_lots"), [(12, 10, 8), (9, 10, 5), (5, 10, 1), (4, 10, 0), (1, 10, 0)]
)
def test_a_replace_by_totals_changes_what_is_open_by_their_difference(
    make_book: MakeBook, total: int, was: int, open_lots: int
) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 10, session_id=3), new(2, SELL, 100, 4, **IOC))
    (event,) = book.apply(replace(1, 7, 99, total, session_id=3, liability_lots=was))
    assert (event.order_id, event.other_order_id, event.command_kind) == (1, 7, 3)
    if open_lots:
        assert (event.kind, event.quantity_lots, event.price_ticks) == (EventKind.REPLACED, open_lots, 99)
        assert [(order.order_id, order.quantity_lots) for order in book.orders(0)] == [(7, open_lots)]
    else:
        assert (event.kind, event.reason, event.quantity_lots) == (EventKind.CANCELED, Reason.BY_CLIENT, 6)
        assert book.orders(0) == []


def test_a_replaced_order_is_known_by_its_new_id_only(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 5))
    for old_id, new_id, price_ticks in [(1, 2, 100), (2, 3, 101), (3, 1, 101)]:
        book.apply(replace(old_id, new_id, price_ticks, 5))
        assert book.ids() == [new_id]
        assert book.apply(cancel(old_id))[0].reason == Reason.UNKNOWN_ORDER
    assert kinds(book.apply(new(2, BUY, 100, 1), new(3, BUY, 100, 1), cancel(1))) == [
        "ACCEPTED",
        "ACCEPTED",
        "CANCELED",
    ]


def test_mass_cancel_goes_by_symbol_then_side_then_priority(make_book: MakeBook) -> None:
    book = make_book(symbol_count=3, price_max_ticks=10**9)
    for order_id, (symbol_id, side, price_ticks) in enumerate(
        [
            (2, SELL, 900),
            (0, BUY, 5),
            (2, BUY, 10),
            (0, BUY, 50_000),
            (0, SELL, 10**9),
            (0, BUY, 5),
            (0, SELL, 60_000),
        ]
    ):
        book.apply(new(order_id, side, price_ticks, order_id + 1, symbol_id=symbol_id, session_id=7))
    book.apply(new(90, BUY, 5, 1, session_id=8), new(91, SELL, 10**9, 1, session_id=8))
    *cancelled, end = book.apply(mass_cancel(ALL_SYMBOLS, session_id=7, side=SELL, order_id=5, price_ticks=3))
    assert [event.order_id for event in cancelled] == [3, 1, 5, 6, 4, 2, 0]
    assert [event.quantity_lots for event in cancelled] == [4, 2, 6, 7, 5, 3, 1]
    assert cancelled[3] == Event(
        EventKind.CANCELED,
        side=SELL,
        reason=Reason.MASS_CANCEL,
        symbol_id=0,
        session_id=7,
        command_sequence=10,
        order_id=6,
        price_ticks=60_000,
        quantity_lots=7,
        command_kind=4,
        timestamp_ns=10_000,
    )
    assert end == Event(
        EventKind.MASS_CANCELED,
        symbol_id=ALL_SYMBOLS,
        session_id=7,
        command_sequence=10,
        quantity_lots=7,
        command_kind=4,
        timestamp_ns=10_000,
    )
    assert book.ids(0) == [90, 91]


def test_mass_cancel_of_one_symbol_leaves_the_others(make_book: MakeBook) -> None:
    book = make_book(symbol_count=3)
    for symbol_id in range(3):
        book.apply(new(symbol_id, BUY, 10, 1, symbol_id=symbol_id))
    events = book.apply(mass_cancel(1))
    assert [(event.order_id, event.symbol_id) for event in events[:-1]] == [(1, 1)]
    assert (events[-1].symbol_id, events[-1].quantity_lots) == (1, 1)
    assert [book.ids(symbol_id) for symbol_id in range(3)] == [[0], [], [2]]


def test_a_mass_cancel_may_say_that_it_is_the_operators(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, BUY, 10, 1), new(2, SELL, 20, 1), new(3, BUY, 10, 1, session_id=1))
    events = book.apply(mass_cancel(quantity_lots=Reason.BY_OPERATOR))
    assert [(event.order_id, event.reason) for event in events] == [
        (1, Reason.BY_OPERATOR),
        (2, Reason.BY_OPERATOR),
        (0, Reason.NONE),
    ]
    book.apply(new(4, BUY, 10, 1))
    assert book.apply(mass_cancel(quantity_lots=5))[0].reason == Reason.MASS_CANCEL


def test_mass_cancel_of_nothing_still_answers(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, BUY, 10, 1, session_id=1))
    assert kinds(book.apply(mass_cancel(ALL_SYMBOLS, session_id=2))) == ["MASS_CANCELED"]
    assert book.apply(mass_cancel(session_id=2))[0].quantity_lots == 0
    assert book.ids() == [1]


def test_symbols_share_ids_and_prices_without_meeting(make_book: MakeBook) -> None:
    book = make_book(symbol_count=2)
    events = book.apply(new(1, BUY, 100, 1), new(1, SELL, 100, 1, symbol_id=1), cancel(1, symbol_id=1))
    assert kinds(events) == ["ACCEPTED", "ACCEPTED", "CANCELED"]
    assert (book.ids(0), book.ids(1)) == ([1], [])


def test_the_book_is_the_same_however_the_commands_are_batched(make_book: MakeBook) -> None:
    flow = [new(n, n % 2, 50 + (n * 7) % 11, 1 + n % 4, **(IOC if n % 5 == 0 else {})) for n in range(60)]
    flow += [cancel(n) for n in range(0, 60, 3)] + [mass_cancel()]
    together, apart = make_book(), make_book()
    assert together.apply(*flow) == [event for command in flow for event in apart.apply(command)]
    assert together.apply() == []


EXTREME_IDS = [-(2**63), 2**63 - 1, 0, -1, 1, 2**32, -(2**32), 1 << 43]


def test_any_64_bit_pattern_is_an_order_id(make_book: MakeBook) -> None:
    book = make_book(symbol_count=2)
    for symbol_id in (0, 1):
        for order_id in EXTREME_IDS:
            (accepted,) = book.apply(new(order_id, BUY, 10, 2, symbol_id=symbol_id))
            assert (accepted.kind, accepted.order_id) == (EventKind.ACCEPTED, order_id)
    assert book.ids(0) == book.ids(1) == EXTREME_IDS
    (replaced,) = book.apply(replace(-(2**63), 2**62, 11, 2))
    assert (replaced.order_id, replaced.other_order_id) == (-(2**63), 2**62)
    for order_id in EXTREME_IDS[1:]:
        assert book.apply(cancel(order_id))[0].order_id == order_id
    assert (book.ids(0), book.ids(1)) == ([2**62], EXTREME_IDS)


@pytest.mark.parametrize(
    ("low", "high"), [(1, 2**36 - 1), (1, 1), (77, 77), (1, 64), (1, 65), (500, 4596), (2**36 - 2, 2**36 - 1)]
)
def test_the_edges_of_the_band_are_ordinary_prices(make_book: MakeBook, low: int, high: int) -> None:
    book = make_book(price_min_ticks=low, price_max_ticks=high)
    assert trades(book.apply(new(1, BUY, low, 1), new(2, SELL, low, 1))) == [(1, low, 1)]
    assert trades(book.apply(new(3, SELL, high, 1), new(4, BUY, high, 1))) == [(3, high, 1)]
    if low < high:
        book.apply(new(5, SELL, high, 2), new(6, BUY, low, 3))
        assert book.top() == (3, [low, 3, high, 2])
        assert trades(book.apply(new(7, BUY, high, 1), new(8, SELL, low, 1))) == [(5, high, 1), (6, low, 1)]
        book.apply(cancel(5))
        assert book.top() == (1, [low, 2, 0, 0])


def test_largest_quantities_add_up_beyond_32_bits(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(*[new(n, BUY, 10, QUANTITY_MAX) for n in range(5)])
    assert book.top() == (1, [10, 5 * QUANTITY_MAX, 0, 0])
    (cancelled,) = book.apply(cancel(0, QUANTITY_MAX - 1))
    assert cancelled.quantity_lots == QUANTITY_MAX - 1
    assert book.orders()[0].quantity_lots == 1
    events = book.apply(new(9, SELL, 10, QUANTITY_MAX))
    assert trades(events) == [(0, 10, 1), (1, 10, QUANTITY_MAX - 1)]
    assert book.top() == (1, [10, 3 * QUANTITY_MAX + 1, 0, 0])
    book.apply(replace(1, 1, 10, QUANTITY_MAX))
    assert book.top() == (1, [10, 4 * QUANTITY_MAX, 0, 0])
    assert book.ids() == [2, 3, 4, 1]


def test_one_batch_writes_no_more_events_than_its_bound(make_book: MakeBook) -> None:
    capacity_orders = 32
    book = make_book(capacity_orders=capacity_orders)
    book.apply(*[new(n, SELL, 10, 1) for n in range(capacity_orders)])
    batch = [new(100, BUY, 10, 20, **IOC), new(101, SELL, 10, 5), new(102, BUY, 10, 99, **IOC), mass_cancel()]
    assert len(book.apply(*batch)) <= events_bound(capacity_orders, len(batch))
    assert book.live_order_count() == 0
