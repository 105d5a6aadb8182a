"""Limits as clients meet them, over real sockets and in both versions of OUCH: at each limit, and one above it."""

from typing import Any

import pytest

from exchange.gateway.server import Server
from exchange.risk.limits import LimitsMemory
from exchange.risk.protocol import REASON_OF, Refusal
from exchange.wire import ouch42, ouch50
from exchange.wire.layout import Message
from exchange.wire.ouch42 import RejectReason as Letter
from exchange.wire.ouch50 import CancelOrder, ModifyOrder, RejectReason
from exchange.wire.ouch_codes import Side
from tests.gateway_driver import (
    BareClient,
    eventually,
    order,
    order42,
    replacement,
    replacement42,
    run,
    serving,
    told,
)

PRICE = 100_0000
MARKET = 0x7FFFFFFF
IMMEDIATE = "3"

LETTERS = {
    Refusal.KILLED: Letter.FIRM_NOT_AUTHORIZED,
    Refusal.RATE: Letter.RISK_PORT_MESSAGE_RATE,
    Refusal.LOTS: Letter.RISK_MAXIMUM_SHARES,
    Refusal.NOTIONAL: Letter.RISK_MAXIMUM_NOTIONAL,
    Refusal.COLLAR: Letter.RISK_FAT_FINGER,
    Refusal.MARKET: Letter.RISK_ORDER_TYPE_RESTRICTED,
    Refusal.OPEN_ORDERS: Letter.RISK_AGGREGATE_EXPOSURE,
    Refusal.EXPOSURE: Letter.RISK_AGGREGATE_EXPOSURE,
}

CASES = [
    (("risk.order_lots_max=500",), [(500, PRICE)], (501, PRICE), Refusal.LOTS),
    (("risk.symbols=['AAPL:order_lots_max=500']",), [(500, PRICE)], (501, PRICE), Refusal.LOTS),
    ((f"risk.order_notional_max={500 * PRICE}",), [(500, PRICE)], (500, PRICE + 1), Refusal.NOTIONAL),
    (
        (f"risk.symbols=['AAPL:order_notional_max={500 * PRICE}']",),
        [(500, PRICE)], (501, PRICE), Refusal.NOTIONAL,
    ),
    (("risk.open_orders_max=2",), [(1, PRICE), (1, PRICE)], (1, PRICE), Refusal.OPEN_ORDERS),
    ((f"risk.exposure_max={3 * PRICE}",), [(1, PRICE), (2, PRICE)], (1, 1), Refusal.EXPOSURE),
    (
        ("risk.orders_per_second=1", "risk.orders_burst=3"),
        [(1, PRICE), (1, PRICE), (1, PRICE)], (1, PRICE), Refusal.RATE,
    ),
    (
        (f"risk.exposure_max={3 * PRICE}", "risk.sessions=['bob:exposure_max=1']"),
        [(3, PRICE)], (1, PRICE), Refusal.EXPOSURE,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "taken", "refused", "why"), CASES)
def test_an_order_at_its_limit_comes_in_and_one_above_does_not(
    overrides: tuple[str, ...], taken: list[tuple[int, int]], refused: tuple[int, int], why: Refusal
) -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        for number, (quantity, price) in enumerate(taken, 1):
            await alice.request(order(number, quantity=quantity, price=price))
            assert isinstance(await alice.answer(), ouch50.OrderAccepted)
        quantity, price = refused
        await alice.request(order(10, quantity=quantity, price=price))
        await is_rejected(alice, 10, REASON_OF[why])

    told(story, overrides)


@pytest.mark.parametrize(("overrides", "taken", "refused", "why"), CASES)
def test_the_same_in_ouch_42(
    overrides: tuple[str, ...], taken: list[tuple[int, int]], refused: tuple[int, int], why: Refusal
) -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        for number, (quantity, price) in enumerate(taken, 1):
            await alice.request(order42(f"T{number}", shares=quantity, price=price))
            assert isinstance(await alice.answer(), ouch42.Accepted)
        quantity, price = refused
        await alice.request(order42("T10", shares=quantity, price=price))
        answer = await alice.answer()
        assert isinstance(answer, ouch42.Rejected), answer
        assert (answer.order_token, answer.reason) == ("T10", LETTERS[why])

    told(story, overrides, speak_ouch42=["alice"])


async def is_rejected(client: BareClient, number: int, reason: RejectReason) -> None:
    answer = await client.answer()
    assert isinstance(answer, ouch50.Rejected), answer
    assert (answer.user_reference_number, answer.reason) == (number, reason)
    assert answer.client_order_id == f"order {number}"


async def answered(client: BareClient, message: Message, kind: type[Any]) -> Any:
    await client.request(message)
    answer = await client.answer()
    assert isinstance(answer, kind), answer
    return answer


async def trade(alice: BareClient, bob: BareClient, price: int, number: int = 1) -> None:
    """One lot changes hands, and both are told."""
    await answered(alice, order(number, Side.BUY, 1, price), ouch50.OrderAccepted)
    await answered(bob, order(number, Side.SELL, 1, price), ouch50.OrderAccepted)
    for client in (alice, bob):
        assert isinstance(await client.answer(), ouch50.OrderExecuted)


def test_the_collar_is_laid_around_the_last_trade_and_reaches_both_ways() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await answered(
            alice, order(1, Side.SELL, 1, 190_0000), ouch50.OrderAccepted
        )  # nothing to measure it by
        await trade(alice, bob, PRICE, 2)
        low, high = PRICE - PRICE // 20, PRICE + PRICE // 20
        for number, price in enumerate((low, high), 3):
            await answered(alice, order(number, Side.BUY, 1, price), ouch50.OrderAccepted)
        for number, price in enumerate((low - 1, high + 1), 5):
            await alice.request(order(number, Side.BUY, 1, price))
            await is_rejected(alice, number, RejectReason.RISK_FAT_FINGER)
        await answered(alice, order(7, Side.BUY, 1, 1, symbol="MSFT"), ouch50.OrderAccepted)
        await alice.request(replacement(3, 8, 1, high + 1))
        await is_rejected(alice, 8, RejectReason.RISK_FAT_FINGER)

    told(story, ["risk.collar_basis_points=500"])


def test_a_market_order_counts_at_the_reference_price_and_needs_one() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        market = {"price": MARKET, "time_in_force": IMMEDIATE}
        await alice.request(order(1, quantity=1, **market))
        await is_rejected(alice, 1, RejectReason.RISK_MARKET_ORDER_NOT_ALLOWED)
        await trade(alice, bob, PRICE, 2)
        await answered(bob, order(3, Side.SELL, 3, PRICE), ouch50.OrderAccepted)
        await answered(alice, order(3, quantity=3, **market), ouch50.OrderAccepted)
        assert isinstance(await alice.answer(), ouch50.OrderExecuted)
        await alice.request(order(4, quantity=4, **market))
        await is_rejected(alice, 4, RejectReason.RISK_AGGREGATE_EXPOSURE_EXCEEDED)

    told(story, [f"risk.exposure_max={3 * PRICE}"])


def test_a_replace_that_is_refused_leaves_its_order_and_uses_its_number_up() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await answered(alice, order(1, quantity=100), ouch50.OrderAccepted)
        await alice.request(replacement(1, 2, 101))
        await is_rejected(alice, 2, RejectReason.RISK_AGGREGATE_EXPOSURE_EXCEEDED)
        await alice.request(replacement(1, 2, 50))  # a number that was used
        replaced = await answered(alice, replacement(1, 3, 100, PRICE), ouch50.OrderReplaced)
        assert (replaced.user_reference_number, replaced.quantity) == (3, 100)
        replaced = await answered(alice, replacement(3, 4, 200, PRICE // 2), ouch50.OrderReplaced)
        assert replaced.quantity == 200
        await alice.request(replacement(4, 5, 200, PRICE // 2 + 1))
        await is_rejected(alice, 5, RejectReason.RISK_AGGREGATE_EXPOSURE_EXCEEDED)
        await answered(alice, CancelOrder(4, 0), ouch50.OrderCanceled)
        await answered(alice, order(6, quantity=100), ouch50.OrderAccepted)

    told(story, [f"risk.exposure_max={100 * PRICE}"])


def test_a_refused_replace_in_ouch_42() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await answered(alice, order42("T1", shares=100), ouch42.Accepted)
        refused = await answered(alice, replacement42("T1", "T2", 101), ouch42.Rejected)
        assert (refused.order_token, refused.reason) == ("T2", Letter.RISK_MAXIMUM_SHARES)
        await alice.request(replacement42("T1", "T2", 50))  # a token that was used
        replaced = await answered(alice, replacement42("T1", "T3", 100, PRICE + 1), ouch42.Replaced)
        assert (replaced.replacement_order_token, replaced.shares) == ("T3", 100)

    told(story, ["risk.order_lots_max=100"], speak_ouch42=["alice"])


async def story_of_changes(server: Server) -> None:
    """What only takes away comes in, however far above its limits a session is; the rest does not."""
    risk = server.transport.risk
    assert isinstance(risk, LimitsMemory)
    alice, bob = [await BareClient.log_on(server, name, sequence=2) for name in ("alice", "bob")]
    for client in (alice, bob):
        await client.packet()
    await trade(alice, bob, PRICE)
    for number in (2, 3):
        await answered(alice, order(number, quantity=100), ouch50.OrderAccepted)
    for name, value in (
        ("order_lots_max", 1), ("order_notional_max", 1), ("open_orders_max", 1), ("exposure_max", 1),
        ("orders_burst", 1), ("orders_per_second", 1),
    ):  # fmt: skip
        risk.limit_session(0, name, value)
    risk.limit_symbol(0, "collar_basis_points", 1)
    risk.give_price(0, 1)
    await answered(alice, replacement(2, 4, 90), ouch50.OrderReplaced)
    await answered(alice, replacement(4, 5, 80), ouch50.OrderReplaced)
    await answered(alice, ModifyOrder(5, Side.BUY, 70), ouch50.OrderModified)
    await answered(alice, CancelOrder(3, 10), ouch50.OrderCanceled)
    used = risk.read_session(0)
    assert (used.open_orders, used.exposure) == (2, (70 + 10) * PRICE)
    await alice.request(replacement(5, 6, 71))
    await is_rejected(alice, 6, RejectReason.RISK_MAXIMUM_QUANTITY_EXCEEDED)
    await alice.request(order(7, quantity=1, price=1))
    await is_rejected(alice, 7, RejectReason.RISK_PORT_MESSAGE_RATE)
    for name in ("order_lots_max", "order_notional_max", "exposure_max", "orders_per_second"):
        risk.limit_session(0, name, 0)
    await answered(alice, replacement(5, 8, 71, 1), ouch50.OrderReplaced)  # 1 is the reference, to a hair
    await alice.request(order(9, quantity=1, price=1))
    await is_rejected(alice, 9, RejectReason.RISK_AGGREGATE_EXPOSURE_EXCEEDED)
    await alice.request(replacement(8, 10, 71, 2))
    await is_rejected(alice, 10, RejectReason.RISK_FAT_FINGER)
    assert risk.read_session(0).refused == {"lots": 1, "rate": 1, "collar": 1, "open_orders": 1}
    assert risk.read_session(1).refused == {}
    for client in (alice, bob):
        await client.close()


def test_limits_change_at_run_time() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob") as server:
            await story_of_changes(server)

    run(scenario())


def test_counters_come_back_to_nothing() -> None:
    """Trades, partial ones too, immediate orders, replaces that trade or meet nothing: all comes off again."""

    async def scenario() -> None:
        async with serving("alice", "bob") as server:
            risk = server.transport.risk
            assert isinstance(risk, LimitsMemory)
            alice, bob = [await BareClient.log_on(server, name, sequence=2) for name in ("alice", "bob")]
            for number in range(1, 40, 4):
                await alice.request(
                    order(number, Side.BUY, 100, PRICE),
                    order(number + 1, Side.BUY, 30, PRICE - 1, time_in_force=IMMEDIATE),
                    replacement(number, number + 2, 150, PRICE + number),
                    replacement(number + 2, number + 3, 80, PRICE - number),
                )
                await bob.request(
                    order(number, Side.SELL, 60, PRICE),
                    order(number + 1, Side.SELL, 60, MARKET, time_in_force=IMMEDIATE),
                    replacement(number, number + 2, 61, PRICE - number),
                )
            await alice.request(ouch50.MassCancel(1000, "", ""))
            await bob.request(ouch50.MassCancel(1000, "", ""))
            await eventually(
                lambda: all(risk.read_session(one)[:2] == (0, 0) for one in (0, 1)),
            )
            for client in (alice, bob):
                await client.close()

    run(scenario())


def test_without_risk_nothing_is_limited_or_counted() -> None:
    overrides = ("risk.kind=none",)

    async def scenario() -> None:
        async with serving("alice", overrides=overrides) as server:
            alice = await BareClient.log_on(server, "alice", sequence=2)
            await alice.packet()
            await answered(alice, order(1, quantity=999_999, price=1_999_999_900), ouch50.OrderAccepted)
            await answered(alice, replacement(1, 2, 1), ouch50.OrderReplaced)
            await answered(alice, CancelOrder(2, 0), ouch50.OrderCanceled)
            await alice.close()

    run(scenario(), overrides)
