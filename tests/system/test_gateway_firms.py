"""What OUCH 5.0 has beside single orders, and Modify, over a real socket: firms, groups, order entry on and off."""

from typing import Any

import pytest

from exchange.wire.ouch50 import (
    CancelOrder,
    DisableOrderEntry,
    DisableOrderEntryResponse,
    EnableOrderEntry,
    EnableOrderEntryResponse,
    MassCancel,
    MassCancelResponse,
    ModifyOrder,
    OrderAccepted,
    OrderCanceled,
    OrderExecuted,
    OrderModified,
    OrderReplaced,
    Rejected,
    RejectReason,
)
from exchange.wire.ouch50_options import Option, OptionTag
from exchange.wire.ouch_codes import Side
from tests.gateway_driver import BareClient, is_answered, order, replacement, told

PRICE = 100_0000


def named(firm: str = "", group_id: int = 0) -> tuple[Option, ...]:
    """The options of an order of a firm, of a group in it."""
    options = (Option(OptionTag.FIRM, firm),) if firm else ()
    return (*options, Option(OptionTag.GROUP_ID, group_id)) if group_id else options


def test_modify_changes_the_kind_of_sale_and_the_size_and_keeps_the_place() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await alice.request(order(1, Side.SELL, 500), order(2, Side.SELL, 100))
        await alice.answers(2)
        await bob.request(order(1, Side.BUY, 50))
        await bob.answers(2)
        assert isinstance(await alice.answer(), OrderExecuted)
        await alice.request(ModifyOrder(1, Side.SELL_SHORT, 500), ModifyOrder(1, Side.SELL_SHORT_EXEMPT, 300))
        first, second = await alice.answers(2)
        assert isinstance(first, OrderModified)
        assert isinstance(second, OrderModified)
        assert (first.user_reference_number, first.side, first.quantity) == (1, "T", 450)
        assert (second.user_reference_number, second.side, second.quantity) == (1, "E", 250)
        await bob.request(order(2, Side.BUY, 260))
        sold = [one for one in await alice.answers(2) if isinstance(one, OrderExecuted)]
        assert [(one.user_reference_number, one.quantity) for one in sold] == [(1, 250), (2, 10)]

    told(story)


def test_what_a_modify_may_not_do_is_ignored() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        await alice.request(order(1, Side.SELL, 100), order(2, Side.BUY, 100, PRICE - 1))
        await alice.answers(2)
        await alice.request(
            ModifyOrder(1, Side.BUY, 50),
            ModifyOrder(1, Side.SELL_SHORT, 101),
            ModifyOrder(1, Side.SELL, 100),
            ModifyOrder(1, Side.SELL, 0),
            ModifyOrder(1, "X", 50),
            ModifyOrder(2, Side.SELL, 50),
            ModifyOrder(9, Side.SELL, 50),
            ModifyOrder(2, Side.BUY, 40, (Option(OptionTag.USER_REFERENCE_INDEX, 3),)),
            ModifyOrder(2, Side.BUY, 60, (Option(OptionTag.SHARES_LOCATED, "Y"),)),
        )
        modified = await alice.answer()
        assert isinstance(modified, OrderModified)
        assert (modified.user_reference_number, modified.side, modified.quantity) == (2, "B", 60)
        await is_answered(alice, 3)

    told(story)


def test_a_modify_to_what_is_executed_already_cancels_the_rest() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await alice.request(order(1, Side.SELL, 100))
        await alice.answer()
        await bob.request(order(1, Side.BUY, 40))
        await bob.answers(2)
        await alice.answer()
        await alice.request(ModifyOrder(1, Side.SELL_SHORT, 40))
        canceled = await alice.answer()
        assert isinstance(canceled, OrderCanceled)
        assert (canceled.quantity, canceled.reason) == (60, "U")
        await alice.request(CancelOrder(1, 0))
        await is_answered(alice, 2)

    told(story)


def test_modifications_are_answered_one_by_one_however_fast_they_come() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        letters = [Side.SELL_SHORT, Side.SELL_SHORT_EXEMPT, Side.SELL] * 40
        await alice.request(
            order(1, Side.SELL, 999),
            *(ModifyOrder(1, letter, 998 - turn) for turn, letter in enumerate(letters)),
        )
        accepted, *modified = await alice.answers(1 + len(letters))
        assert isinstance(accepted, OrderAccepted)
        assert accepted.side == Side.SELL
        answered = [(one.side, one.quantity) for one in modified if isinstance(one, OrderModified)]
        assert answered == [(letter, 998 - turn) for turn, letter in enumerate(letters)]

    told(story)


def test_a_replacement_inherits_the_modified_side_or_says_another() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        side = (Option(OptionTag.SIDE, Side.SELL_SHORT_EXEMPT),)
        await alice.request(
            order(1, Side.SELL),
            ModifyOrder(1, Side.SELL_SHORT, 90),
            replacement(1, 2, 80),
            replacement(2, 3, 70, options=side),
            replacement(3, 4, 60, options=(Option(OptionTag.SIDE, Side.BUY),)),
        )
        heard = await alice.answers(5)
        replaced = [one for one in heard if isinstance(one, OrderReplaced)]
        assert [(one.side, one.quantity) for one in replaced] == [("T", 80), ("E", 70)]
        assert isinstance(heard[-1], OrderCanceled), "a sale cannot become a purchase"

    told(story)


ORDERS: list[dict[str, Any]] = [
    {"symbol": "AAPL", "side": Side.BUY, "price": PRICE - 1},
    {"symbol": "AAPL", "side": Side.SELL, "options": named("LIME", 7)},
    {"symbol": "AAPL", "side": Side.SELL_SHORT, "options": named("MLRO")},
    {"symbol": "MSFT", "side": Side.SELL, "options": named("LIME")},
    {"symbol": "MSFT", "side": Side.BUY, "price": PRICE - 1, "options": named("", 7)},
]


@pytest.mark.parametrize(
    ("firm", "symbol", "options", "canceled"),
    [
        ("", "", (), {1, 2, 3, 4, 5}),
        ("LIME", "", (), {1, 2, 4, 5}),
        ("MLRO", "", (), {1, 3, 5}),
        ("NONE", "MSFT", (), {5}),
        ("", "", (Option(OptionTag.SIDE, "S"),), {2, 4}),
        ("", "", (Option(OptionTag.SIDE, "T"),), {3}),
        ("", "", (Option(OptionTag.GROUP_ID, 7),), {2, 5}),
        ("", "", (Option(OptionTag.GROUP_ID, 0),), {1, 3, 4}),
        ("", "AAPL", (Option(OptionTag.GROUP_ID, 7), Option(OptionTag.SIDE, "B")), set()),
        ("LIME", "MSFT", (Option(OptionTag.SIDE, "S"), Option(OptionTag.GROUP_ID, 0)), {4}),
    ],
)
def test_a_mass_cancel_takes_the_orders_that_match(
    firm: str, symbol: str, options: tuple[Option, ...], canceled: set[int]
) -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await bob.request(order(1, Side.BUY, 1, PRICE - 5))
        await bob.answer()
        await alice.request(*(order(number, **one) for number, one in enumerate(ORDERS, 1)))
        accepted = await alice.answers(len(ORDERS))
        told_back = [one.options for one in accepted if isinstance(one, OrderAccepted)]
        assert told_back == [one.get("options", ()) for one in ORDERS]
        await alice.request(MassCancel(6, firm, symbol, options), MassCancel(6, "", ""), order(7))
        heard = await alice.answers(2 + len(canceled))
        (echo,) = [one for one in heard if isinstance(one, MassCancelResponse)]
        assert (echo.user_reference_number, echo.firm, echo.symbol) == (6, firm, symbol)
        assert sorted(echo.options) == sorted(options)
        gone = [one for one in heard if isinstance(one, OrderCanceled)]
        assert {one.user_reference_number for one in gone} == canceled
        assert all((one.quantity, one.reason) == (100, "U") for one in gone)
        assert isinstance(heard[-1], OrderAccepted), "what comes after the mass cancel waits for its end"
        await is_answered(bob, 2)

    told(story)


def test_a_mass_cancel_of_many_orders_takes_all_and_nothing_that_comes_later() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        numbers = range(1, 2001)
        await alice.request(
            *(order(number, Side.BUY, 1, PRICE - number) for number in numbers),
            MassCancel(2001, "", ""),
            order(2002),
        )
        heard = await alice.answers(2 * len(numbers) + 2)
        gone = [one.user_reference_number for one in heard if isinstance(one, OrderCanceled)]
        assert sorted(gone) == list(numbers)
        await is_answered(alice, 2003)

    told(story)


def test_a_modified_order_is_of_its_new_side() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        side = (Option(OptionTag.SIDE, Side.SELL_SHORT),)
        await alice.request(order(1, Side.SELL), ModifyOrder(1, Side.SELL_SHORT, 99))
        await alice.answers(2)
        await alice.request(MassCancel(2, "", "", side))
        heard = await alice.answers(2)
        assert {type(one) for one in heard} == {MassCancelResponse, OrderCanceled}

    told(story)


def test_order_entry_is_disabled_and_enabled_for_a_firm() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await alice.request(order(1, options=named("LIME")), DisableOrderEntry(2, "LIME"))
        await alice.request(
            order(3, options=named("LIME")),
            order(4),
            order(5, options=named("MLRO")),
            DisableOrderEntry(2, "MLRO"),
        )
        await alice.request(replacement(1, 6, 50), CancelOrder(6, 10))
        heard = await alice.answers(7)
        echo = [one for one in heard if isinstance(one, DisableOrderEntryResponse)]
        assert [(one.user_reference_number, one.firm) for one in echo] == [(2, "LIME")]
        rejected = {one.user_reference_number: one.reason for one in heard if isinstance(one, Rejected)}
        assert rejected == dict.fromkeys((3, 4), RejectReason.FIRM_NOT_AUTHORIZED)
        accepted = [one.user_reference_number for one in heard if isinstance(one, OrderAccepted)]
        assert accepted == [1, 5]
        assert sum(isinstance(one, OrderReplaced | OrderCanceled) for one in heard) == 2
        await is_answered(bob, 1)
        await alice.request(EnableOrderEntry(7, "MLRO"), order(8), EnableOrderEntry(9, "LIME"), order(10))
        heard = await alice.answers(4)
        assert [one.user_reference_number for one in heard if isinstance(one, Rejected)] == [8]
        assert sum(isinstance(one, EnableOrderEntryResponse) for one in heard) == 2
        assert [one.user_reference_number for one in heard if isinstance(one, OrderAccepted)] == [10]

    told(story)


def test_order_entry_is_disabled_for_all_by_no_firm_and_by_too_many() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        firms = [f"F{number}" for number in range(9)]
        named_orders = [order(number, options=named("MLRO")) for number in (2, 13, 23)]
        await alice.request(DisableOrderEntry(1, ""), named_orders[0], EnableOrderEntry(3, ""))
        await alice.request(*(DisableOrderEntry(4 + number, firm) for number, firm in enumerate(firms)))
        await alice.request(named_orders[1], EnableOrderEntry(20, "F8"), EnableOrderEntry(21, ""))
        await alice.request(named_orders[2])
        heard = await alice.answers(16)
        rejected = [one.user_reference_number for one in heard if isinstance(one, Rejected)]
        assert rejected == [2, 13]
        assert [one.user_reference_number for one in heard if isinstance(one, OrderAccepted)] == [23]

    told(story)
