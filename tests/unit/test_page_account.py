"""A person's account: what the exchange's answers add up to, without an exchange."""

from typing import Any

import pytest

from exchange.page.documents import AccountView, FillRow, OrderRow
from exchange.page.requests import BadRequest
from exchange.page.trader import FILLS_KEPT, NOTICES_KEPT, ORDERS_TOLD, Account
from exchange.wire.ouch50 import (
    AiqCanceled,
    OrderAccepted,
    OrderCanceled,
    OrderExecuted,
    OrderModified,
    OrderReplaced,
    Rejected,
    RejectReason,
    SystemEvent,
)


def accepted(number: int, quantity: int = 100, price: int = 100_0000, state: str = "L") -> OrderAccepted:
    return OrderAccepted(
        5, number, "B", quantity, "AAPL", price, "0", "Y", 900 + number, "P", "N", "N", state, ""
    )  # fmt: skip


def replaced(before: int, number: int, quantity: int, price: int, state: str = "L") -> OrderReplaced:
    return OrderReplaced(
        6, before, number, "B", quantity, "AAPL", price, "0", "Y", 900 + number, "P", "N", "N", state, ""
    )  # fmt: skip


def after(*answers: Any) -> AccountView:
    account = Account("ALICE")
    for one in answers:
        account.apply(one)
    return account.view()


def test_an_order_rests_trades_and_is_gone() -> None:
    view = after(accepted(1), OrderExecuted(7, 1, 30, 100_0000, "A", 5))
    assert view.orders == [OrderRow(1, "AAPL", "B", 100_0000, 70, 30)]
    assert view.fills == [FillRow(1, 7, "AAPL", "B", 100_0000, 30)]
    view = after(accepted(1), OrderExecuted(7, 1, 100, 99_0000, "R", 5))
    assert view.orders == []
    assert view.fills == [FillRow(1, 7, "AAPL", "B", 99_0000, 100)]


def test_what_is_dead_at_once_is_not_open() -> None:
    assert after(accepted(1, state="D")).orders == []
    assert after(accepted(1), replaced(1, 2, 50, 99_0000, state="D")).orders == []


def test_cancels_for_other_reasons_than_the_persons_own_are_told() -> None:
    view = after(accepted(1), OrderCanceled(8, 1, 40, "U"))
    assert (view.orders[0].open_lots, view.notices) == (60, [])
    view = after(accepted(1), OrderCanceled(8, 1, 100, "I"))
    assert (view.orders, view.notices[0].text) == ([], "100 AAPL cancelled: immediate or cancel")
    view = after(accepted(1), AiqCanceled(8, 1, 100, "Q", 0, 1, "R"))
    assert "self match prevention" in view.notices[0].text


def test_a_replaced_order_remembers_what_its_chain_has_done() -> None:
    account = Account("ALICE")
    answers = [
        accepted(1),
        OrderExecuted(7, 1, 30, 100_0000, "A", 5),
        replaced(1, 2, 50, 99_0000),
        OrderExecuted(9, 2, 10, 99_0000, "A", 6),
    ]
    for one in answers:
        account.apply(one)
    assert account.view().orders == [OrderRow(2, "AAPL", "B", 99_0000, 40, 10)]
    assert account.total_for(2, open_lots=25) == 30 + 10 + 25
    with pytest.raises(BadRequest, match="not open"):
        account.total_for(1, 5)


def test_refusals_and_the_end_of_the_day_are_told_in_words() -> None:
    view = after(
        Rejected(3, 9, RejectReason.INVALID_SYMBOL, ""), Rejected(4, 10, 999, ""), SystemEvent(5, "E")
    )
    assert [one.text for one in view.notices] == [
        "the exchange ended its day",
        "the exchange refused the request: reason 999",
        "the exchange refused the request: invalid symbol",
    ]


def test_answers_about_orders_that_are_not_known_change_nothing() -> None:
    view = after(
        OrderExecuted(7, 8, 30, 1, "A", 5), OrderCanceled(8, 8, 40, "U"), OrderModified(9, 8, "S", 10)
    )
    assert view == AccountView("ALICE", [], 0, [], [])


def test_a_long_day_takes_bounded_room() -> None:
    answers: list[Any] = []
    for number in range(1, 501):
        answers += [accepted(number), OrderExecuted(7, number, 1, 1, "A", number), Rejected(3, number, 1, "")]
    view = after(*answers)
    assert (len(view.orders), view.orders_left_out) == (ORDERS_TOLD, 500 - ORDERS_TOLD)
    assert (len(view.fills), len(view.notices)) == (FILLS_KEPT, NOTICES_KEPT)
    assert view.orders[0].number == 500
