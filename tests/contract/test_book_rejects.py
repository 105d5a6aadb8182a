"""What every order book refuses, with which reason, in which order of checks; and that a refusal changes nothing."""

import pytest

from exchange.messages import ALL_SYMBOLS, BUY, SELL, Command, CommandKind, Event, EventKind, Reason
from tests.book_driver import BookDriver, MakeBook, cancel, mass_cancel, new, replace

IOC = {"time_in_force": 1}
MARKET = {"order_type": 1}
LOW, HIGH = 10, 500


@pytest.fixture
def make_book(make_book: MakeBook) -> MakeBook:
    return lambda **settings: make_book(**({"price_min_ticks": LOW, "price_max_ticks": HIGH} | settings))


def refusal(book: BookDriver, command: Command) -> Reason:
    """The reason why ``command`` was refused, having checked all that holds for any refusal."""
    before = [book.orders(symbol_id) for symbol_id in range(book.symbol_count)], book.live_order_count()
    (event,) = book.apply(command)
    assert event == Event(
        EventKind.REJECTED,
        side=command.side,
        reason=event.reason,
        time_in_force=command.time_in_force,
        symbol_id=command.symbol_id,
        session_id=command.session_id,
        command_sequence=book.sequence,
        order_id=command.order_id,
        other_order_id=command.new_order_id,
        price_ticks=command.price_ticks,
        quantity_lots=command.quantity_lots,
        command_kind=command.kind,
        timestamp_ns=1000 * book.sequence,
    )
    assert before == (
        [book.orders(symbol_id) for symbol_id in range(book.symbol_count)],
        book.live_order_count(),
    )
    return Reason(event.reason)


def invalid_bytes(valid: set[int]) -> list[int]:
    return [byte for byte in range(256) if byte not in valid]


def test_every_byte_that_is_no_command_kind_is_refused(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 5))
    for kind in invalid_bytes({int(kind) for kind in CommandKind}):
        everything_wrong = Command(
            kind, side=9, time_in_force=8, order_type=7, symbol_id=44, order_id=1, session_id=3
        )
        assert refusal(book, everything_wrong) == Reason.UNKNOWN_COMMAND
        assert refusal(book, new(2, BUY, 100, 5)._replace(kind=kind)) == Reason.UNKNOWN_COMMAND


@pytest.mark.parametrize("symbol_id", [2, 3, 0x7FFF, 0xFFFE])
def test_symbols_that_the_shard_does_not_have_are_refused(make_book: MakeBook, symbol_id: int) -> None:
    book = make_book(symbol_count=2)
    book.apply(new(1, BUY, 100, 5))
    for command in [new(1, 9, 0, 0), cancel(1, session_id=1), replace(1, 1, 0, 0), mass_cancel()]:
        assert refusal(book, command._replace(symbol_id=symbol_id)) == Reason.UNKNOWN_SYMBOL


def test_all_symbols_is_for_mass_cancels_only(make_book: MakeBook) -> None:
    book = make_book(symbol_count=2)
    book.apply(new(1, BUY, 100, 5))
    for command in [new(2, BUY, 100, 5), cancel(1), replace(1, 1, 100, 5)]:
        assert refusal(book, command._replace(symbol_id=ALL_SYMBOLS)) == Reason.UNKNOWN_SYMBOL


@pytest.mark.parametrize("field", ["side", "time_in_force", "order_type"])
def test_every_invalid_byte_of_a_new_order_is_refused(make_book: MakeBook, field: str) -> None:
    book = make_book()
    for byte in invalid_bytes({0, 1}):
        assert refusal(book, new(1, BUY, 100, 5)._replace(**{field: byte})) == Reason.INVALID_FIELD
    for byte in (0, 1):
        assert book.apply(new(1, BUY, 100, 5)._replace(**{field: byte}))[0].kind == EventKind.ACCEPTED
        book.apply(mass_cancel())


@pytest.mark.parametrize("field", ["side", "time_in_force", "order_type"])
def test_those_bytes_do_not_matter_to_other_commands(make_book: MakeBook, field: str) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 5))
    for byte in range(256):
        for command in [
            replace(1, 1, 100, 5),
            cancel(1, 1),
            replace(1, 1, 100, 5),
            mass_cancel(session_id=4),
        ]:
            (event,) = book.apply(command._replace(**{field: byte}))
            assert event.kind != EventKind.REJECTED
            assert (event.side, event.time_in_force) == (BUY, 0), "told by the order, not by the command"


def test_zero_quantity_is_refused(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 5))
    assert refusal(book, new(2, BUY, 100, 0)) == Reason.INVALID_QUANTITY
    assert refusal(book, new(2, BUY, 0, 0, **MARKET)) == Reason.INVALID_QUANTITY
    assert refusal(book, replace(1, 2, 100, 0)) == Reason.INVALID_QUANTITY


OUT_OF_BAND = [LOW - 1, HIGH + 1, 0, -1, -LOW, 2**36, -(2**63), 2**63 - 1, 2**32 + LOW]


@pytest.mark.parametrize("price_ticks", OUT_OF_BAND)
def test_prices_out_of_the_band_are_refused(make_book: MakeBook, price_ticks: int) -> None:
    book = make_book()
    book.apply(new(1, BUY, LOW, 5), new(2, SELL, HIGH, 5))
    for side in (BUY, SELL):
        assert refusal(book, new(3, side, price_ticks, 5)) == Reason.PRICE_OUT_OF_BAND
        assert refusal(book, new(3, side, price_ticks, 5, **IOC)) == Reason.PRICE_OUT_OF_BAND
    assert refusal(book, replace(1, 3, price_ticks, 5)) == Reason.PRICE_OUT_OF_BAND
    assert refusal(book, replace(2, 3, price_ticks, 5)) == Reason.PRICE_OUT_OF_BAND


def test_an_id_that_lives_in_the_symbol_is_refused(make_book: MakeBook) -> None:
    book = make_book(symbol_count=2)
    book.apply(new(1, BUY, 100, 5, session_id=1), new(2, SELL, 200, 5, session_id=2))
    for command in [
        new(1, BUY, 100, 5),
        new(1, SELL, 90, 1, session_id=2, **IOC),
        new(2, SELL, 0, 1, **MARKET),
    ]:
        assert refusal(book, command) == Reason.DUPLICATE_ORDER_ID
    assert refusal(book, replace(1, 2, 100, 5, session_id=1)) == Reason.DUPLICATE_ORDER_ID
    assert book.apply(new(1, BUY, 100, 5, symbol_id=1))[0].kind == EventKind.ACCEPTED


@pytest.mark.parametrize("end", ["cancelled", "traded", "replaced", "mass cancelled", "never rested"])
def test_the_id_of_an_order_that_is_gone_is_free_and_unknown(make_book: MakeBook, end: str) -> None:
    book = make_book()
    match end:
        case "cancelled":
            book.apply(new(1, BUY, 100, 5), cancel(1))
        case "traded":
            book.apply(new(1, BUY, 100, 5), new(2, SELL, 100, 5))
        case "replaced":
            book.apply(new(1, BUY, 100, 5), replace(1, 2, 100, 5), cancel(2))
        case "mass cancelled":
            book.apply(new(1, BUY, 100, 5), mass_cancel())
        case "never rested":
            book.apply(new(1, BUY, 100, 5, **IOC), new(2, BUY, 100, 5, **MARKET))
    for order_id in (1, 2):
        assert refusal(book, cancel(order_id)) == Reason.UNKNOWN_ORDER
        assert refusal(book, replace(order_id, 3, 100, 5)) == Reason.UNKNOWN_ORDER
        assert book.apply(new(order_id, BUY, 100, 5))[0].kind == EventKind.ACCEPTED


def test_orders_of_other_sessions_are_out_of_reach(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 5, session_id=0xFFFF))
    for session_id in (0, 1, 0x7FFF, 0xFFFE):
        assert refusal(book, cancel(1, session_id=session_id)) == Reason.NOT_YOUR_ORDER
        assert refusal(book, cancel(1, 2, session_id=session_id)) == Reason.NOT_YOUR_ORDER
        assert refusal(book, replace(1, 1, 100, 5, session_id=session_id)) == Reason.NOT_YOUR_ORDER
    assert book.apply(cancel(1, session_id=0xFFFF))[0].session_id == 0xFFFF


def test_a_full_book_refuses_orders_that_may_rest_and_no_others(make_book: MakeBook) -> None:
    book = make_book(symbol_count=2, capacity_orders=3)
    book.apply(new(1, BUY, 100, 5), new(2, SELL, 200, 5), new(1, BUY, 100, 5, symbol_id=1))
    assert refusal(book, new(3, BUY, 100, 5)) == Reason.BOOK_FULL
    assert refusal(book, new(2, BUY, 100, 5, symbol_id=1)) == Reason.BOOK_FULL, (
        "capacity is of all symbols together"
    )
    assert refusal(book, new(3, BUY, 200, 5)) == Reason.BOOK_FULL, "even though it would trade at once"
    assert [event.kind for event in book.apply(replace(1, 3, 101, 50))] == [EventKind.REPLACED]
    assert [event.kind for event in book.apply(new(4, BUY, 150, 5, **IOC))] == [
        EventKind.ACCEPTED,
        EventKind.CANCELED,
    ]
    book.apply(new(4, BUY, 200, 5, **MARKET))
    assert book.apply(new(4, BUY, 100, 5))[0].kind == EventKind.ACCEPTED
    assert refusal(book, new(5, BUY, 100, 5)) == Reason.BOOK_FULL
    book.apply(mass_cancel(ALL_SYMBOLS))
    assert book.live_order_count() == 0
    assert [event.kind for event in book.apply(*[new(n, BUY, 100, 5) for n in range(4)])] == [
        EventKind.ACCEPTED,
        EventKind.ACCEPTED,
        EventKind.ACCEPTED,
        EventKind.REJECTED,
    ]


def test_new_orders_are_checked_in_the_order_of_the_rules(make_book: MakeBook) -> None:
    """Start with a command that is wrong in every way and mend one fault after the other."""
    book = make_book(capacity_orders=1)
    book.apply(new(1, BUY, 100, 5))
    command = Command(99, side=2, symbol_id=9, order_id=1, price_ticks=LOW - 1, quantity_lots=0)
    for fault, mended in [
        (Reason.UNKNOWN_COMMAND, {"kind": CommandKind.NEW}),
        (Reason.UNKNOWN_SYMBOL, {"symbol_id": 0}),
        (Reason.INVALID_FIELD, {"side": SELL}),
        (Reason.INVALID_QUANTITY, {"quantity_lots": 4}),
        (Reason.PRICE_OUT_OF_BAND, {"price_ticks": 300}),
        (Reason.DUPLICATE_ORDER_ID, {"order_id": 2}),
        (Reason.BOOK_FULL, {"time_in_force": 1}),
    ]:
        assert refusal(book, command) == fault
        command = command._replace(**mended)
    assert book.apply(command)[0].kind == EventKind.ACCEPTED


def test_replaces_are_checked_in_the_order_of_the_rules(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 5, session_id=7), new(2, BUY, 100, 5))
    command = Command(99, symbol_id=9, order_id=3, new_order_id=2, price_ticks=HIGH + 1, quantity_lots=0)
    for fault, mended in [
        (Reason.UNKNOWN_COMMAND, {"kind": CommandKind.REPLACE}),
        (Reason.UNKNOWN_SYMBOL, {"symbol_id": 0}),
        (Reason.UNKNOWN_ORDER, {"order_id": 1}),
        (Reason.NOT_YOUR_ORDER, {"session_id": 7}),
        (Reason.INVALID_QUANTITY, {"quantity_lots": 4}),
        (Reason.PRICE_OUT_OF_BAND, {"price_ticks": 300}),
        (Reason.DUPLICATE_ORDER_ID, {"new_order_id": 3}),
    ]:
        assert refusal(book, command) == fault
        command = command._replace(**mended)
    assert book.apply(command)[0].kind == EventKind.REPLACED


def test_cancels_are_checked_in_the_order_of_the_rules(make_book: MakeBook) -> None:
    book = make_book()
    book.apply(new(1, BUY, 100, 5, session_id=7))
    command = Command(99, symbol_id=9, order_id=3)
    for fault, mended in [
        (Reason.UNKNOWN_COMMAND, {"kind": CommandKind.CANCEL}),
        (Reason.UNKNOWN_SYMBOL, {"symbol_id": 0}),
        (Reason.UNKNOWN_ORDER, {"order_id": 1}),
        (Reason.NOT_YOUR_ORDER, {"session_id": 7}),
    ]:
        assert refusal(book, command) == fault
        command = command._replace(**mended)
    assert book.apply(command)[0].kind == EventKind.CANCELED
