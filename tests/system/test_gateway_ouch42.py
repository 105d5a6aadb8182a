"""Clients of OUCH 4.2 at the same exchange as those of OUCH 5.0, over real sockets: they trade with each other."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from exchange.wire import ouch50
from exchange.wire.layout import Message
from exchange.wire.ouch42 import (
    Accepted,
    Canceled,
    CancelOrder,
    Executed,
    ModifyOrder,
    OrderModified,
    Rejected,
    RejectReason,
    Replaced,
    SystemEvent,
    TimeInForce,
    TradeNow,
)
from exchange.wire.ouch_codes import OrderState, Side
from tests.gateway_driver import (
    BareClient,
    order,
    order42,
    replacement,
    replacement42,
    run,
    serving,
    told,
)

PRICE = 100_0000
ALICE = ("alice",)
"""Who speaks OUCH 4.2."""


async def is_answered(client: BareClient, token: str) -> None:
    """The next thing that the client hears is about another order: nothing came before."""
    await client.request(order42(token, stock="MSFT"))
    answer = await client.answer()
    assert isinstance(answer, Accepted), answer
    assert answer.order_token == token


def test_accepted_tells_back_what_was_asked_for() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        asked = order42(
            "A token of 14!", Side.SELL_SHORT, 225, 63_0200, firm="LIME", display="A", capacity="R",
            time_in_force=TimeInForce.SYSTEM_HOURS,
        )  # fmt: skip
        await alice.request(
            asked, order42("2", price=0x7FFF_FFFF, time_in_force=0), order42("3", price=(1 << 32) - 1)
        )
        accepted, market, bought, _sold, largest = await alice.answers(5)
        assert isinstance(accepted, Accepted)
        for field in (
            "order_token", "buy_sell_indicator", "shares", "stock", "price", "time_in_force", "firm", "display",
            "capacity", "intermarket_sweep_eligibility", "minimum_quantity", "cross_type",
        ):  # fmt: skip
            assert getattr(accepted, field) == getattr(asked, field), field
        assert (accepted.order_state, accepted.bbo_weight_indicator) == (OrderState.LIVE, " ")
        assert isinstance(market, Accepted)
        assert isinstance(bought, Executed)
        assert (market.price, market.time_in_force, market.firm) == (0x7FFF_FFFF, 0, "")
        assert isinstance(largest, Accepted)
        assert largest.price == (1 << 32) - 1

    told(story, speak_ouch42=ALICE)


def test_both_versions_trade_with_each_other_and_agree_on_the_trade() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await bob.request(order(1, Side.SELL, 300))
        await bob.answer()
        await alice.request(order42("take", Side.BUY, 100, PRICE + 5))
        accepted, bought = await alice.answers(2)
        sold = await bob.answer()
        assert isinstance(accepted, Accepted)
        assert isinstance(bought, Executed)
        assert isinstance(sold, ouch50.OrderExecuted)
        assert (bought.order_token, bought.executed_shares, bought.execution_price) == ("take", 100, PRICE)
        assert (bought.liquidity_flag, sold.liquidity_flag) == ("R", "A")
        assert bought.match_number == sold.match_number
        await alice.request(order42("rest", Side.BUY, 50, PRICE - 1))
        await alice.answer()
        await bob.request(order(2, Side.SELL, 20, PRICE - 1))
        _accepted, sold = await bob.answers(2)
        bought = await alice.answer()
        assert isinstance(bought, Executed)
        assert isinstance(sold, ouch50.OrderExecuted)
        assert (bought.order_token, bought.executed_shares, bought.liquidity_flag) == ("rest", 20, "A")
        assert bought.match_number == sold.match_number

    told(story, speak_ouch42=ALICE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stock": "NOPE"}, RejectReason.INVALID_STOCK),
        ({"buy_sell_indicator": "X"}, RejectReason.OTHER),
        ({"shares": 0}, RejectReason.SHARES_ABOVE_SAFETY_THRESHOLD),
        ({"shares": 1_000_000}, RejectReason.SHARES_ABOVE_SAFETY_THRESHOLD),
        ({"price": 0}, RejectReason.INVALID_PRICE),
        ({"price": 1_999_999_901}, RejectReason.INVALID_PRICE),
        ({"display": "N"}, RejectReason.INVALID_DISPLAY),
        ({"display": "M"}, RejectReason.INVALID_DISPLAY),
        ({"capacity": "X"}, RejectReason.OTHER),
        ({"time_in_force": 60}, RejectReason.OTHER),
        ({"time_in_force": TimeInForce.EXTENDED_TRADING_CLOSE}, RejectReason.OTHER),
        ({"intermarket_sweep_eligibility": "y"}, RejectReason.OTHER),
        ({"cross_type": "O"}, RejectReason.NOT_ALLOWED_IN_CROSS),
        ({"minimum_quantity": 100}, RejectReason.INVALID_MINIMUM_QUANTITY),
    ],
)
def test_a_wrong_order_is_rejected_with_the_reason_and_uses_its_token_up(
    changes: dict[str, Any], reason: RejectReason
) -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        await alice.request(order42("wrong", **changes), order42("wrong"))
        rejected = await alice.answer()
        assert isinstance(rejected, Rejected)
        assert (rejected.order_token, rejected.reason) == ("wrong", reason)
        await is_answered(alice, "right")

    told(story, speak_ouch42=ALICE)


def test_tokens_are_used_once_and_say_nothing_when_they_are_unknown() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        await alice.request(
            order42("one"),
            order42("one", shares=5),
            order42("One"),
            CancelOrder("none", 0),
            ModifyOrder("none", "B", 5),
            replacement42("none", "two", 50),
            replacement42("one", "One", 50),
            TradeNow("one"),
            replacement42("one", "two", 50),
            order42("two"),
            CancelOrder("one", 0),
        )
        first, other, replaced = await alice.answers(3)
        assert isinstance(first, Accepted)
        assert isinstance(other, Accepted)
        assert isinstance(replaced, Replaced)
        assert (first.order_token, first.shares, other.order_token) == ("one", 100, "One")
        assert (replaced.previous_order_token, replaced.replacement_order_token) == ("one", "two")
        await is_answered(alice, "three")

    told(story, speak_ouch42=ALICE)


def test_a_chain_of_replaces_cancels_and_modifications() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await alice.request(order42("a", Side.SELL, 500, firm="LIME"))
        await alice.answer()
        await bob.request(order(1, Side.BUY, 100))
        await bob.answers(2)
        await alice.answer()
        await alice.request(
            replacement42("a", "b", 400, PRICE + 100, time_in_force=TimeInForce.SYSTEM_HOURS),
            ModifyOrder("b", Side.SELL_SHORT, 350),
            CancelOrder("b", 300),
            replacement42("b", "c", 100, PRICE),
        )
        replaced, modified, canceled, dead = await alice.answers(4)
        assert isinstance(replaced, Replaced)
        assert (replaced.shares, replaced.price, replaced.order_state) == (300, PRICE + 100, OrderState.LIVE)
        assert (replaced.stock, replaced.firm, replaced.time_in_force) == ("AAPL", "LIME", 99_999)
        assert (replaced.buy_sell_indicator, replaced.capacity, replaced.minimum_quantity) == ("S", "A", 0)
        assert isinstance(modified, OrderModified)
        assert (modified.order_token, modified.buy_sell_indicator, modified.shares) == ("b", "T", 250)
        assert isinstance(canceled, Canceled)
        assert (canceled.order_token, canceled.decrement_shares, canceled.reason) == ("b", 50, "U")
        assert isinstance(dead, Replaced)
        assert (dead.shares, dead.order_state, dead.buy_sell_indicator) == (0, OrderState.DEAD, "T")
        await is_answered(alice, "d")

    told(story, speak_ouch42=ALICE)


def test_a_replace_with_impossible_terms_cancels_and_does_not_use_its_token_up() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        await alice.request(order42("a"), replacement42("a", "b", 1_000_000), order42("b"))
        accepted, canceled, again = await alice.answers(3)
        assert isinstance(accepted, Accepted)
        assert isinstance(canceled, Canceled)
        assert canceled.order_token == "a"
        assert isinstance(again, Accepted)
        assert again.order_token == "b"

    told(story, speak_ouch42=ALICE)


def test_a_session_goes_on_where_it_was_and_garbage_ends_a_connection() -> None:
    async def scenario() -> None:
        async with serving("alice", speak_ouch42=ALICE) as server:
            alice = await BareClient.log_on(server, "alice")
            await alice.packet()
            await alice.request(order42("one"), CancelOrder("one", 0))
            day = await alice.answers(3)
            assert [type(one) for one in day] == [SystemEvent, Accepted, Canceled]
            await alice.request(order(1))  # OUCH 5.0, and nothing that 4.2 knows
            assert await alice.is_closed()
            again = await BareClient.log_on(server, "alice", sequence=2)
            await again.packet()
            await again.request(order42("one"))
            assert await again.answers(2) == day[1:]
            await is_answered(again, "two")
            await again.close()

    run(scenario())


def requests_of(chance: random.Random, count: int) -> Iterator[tuple[Message, Message]]:
    """The same requests in both versions, of a session that trades with itself: OUCH 5.0 in AAPL, 4.2 in MSFT."""
    for number in range(1, count + 1):
        earlier = max(1, number - chance.randint(1, 6))
        quantity, price = chance.randint(1, 300), PRICE + chance.randint(-4, 4)
        token, old = f"order {number}", f"order {earlier}"
        match chance.randrange(10):
            case 0 | 1 | 2 | 3 | 4:
                side = chance.choice("BBBSTE")
                now = chance.random() < 0.2
                yield (
                    order(number, side, quantity, price, time_in_force="3" if now else "0"),
                    order42(token, side, quantity, price, stock="MSFT", time_in_force=0 if now else 99_998),
                )
            case 5 | 6:
                shares = chance.choice([0, quantity // 2, quantity])
                yield ouch50.CancelOrder(earlier, shares), CancelOrder(old, shares)
            case 7 | 8:
                quantity = chance.choice([quantity, quantity, quantity, 1_000_000])
                yield (
                    replacement(earlier, number, quantity, price),
                    replacement42(old, token, quantity, price),
                )
            case _:
                side = chance.choice("BSTE")
                yield ouch50.ModifyOrder(earlier, side, quantity), ModifyOrder(old, side, quantity)


def as_said(message: Any) -> tuple[str, tuple[Any, ...]]:
    """Which order a message is about, and what it says of it, in words that both versions share."""
    match message:
        case ouch50.OrderAccepted() | Accepted():
            side, quantity = side_and_quantity(message)
            return named_in(message), ("A", side, quantity, message.price, message.order_state)
        case ouch50.OrderReplaced() | Replaced():
            old = values(message, "original_user_reference_number", "previous_order_token")
            new = values(message, "user_reference_number", "replacement_order_token")
            side, quantity = side_and_quantity(message)
            return named(new), ("U", named(old), side, quantity, message.price, message.order_state)
        case ouch50.OrderExecuted() | Executed():
            quantity = values(message, "quantity", "executed_shares")
            price = values(message, "price", "execution_price")
            return named_in(message), ("E", quantity, price, message.liquidity_flag)
        case ouch50.OrderCanceled() | Canceled():
            return named_in(message), ("C", values(message, "quantity", "decrement_shares"), message.reason)
        case ouch50.OrderModified() | OrderModified():
            return named_in(message), ("M", *side_and_quantity(message))
    raise AssertionError(message)


def values(message: Message, name50: str, name42: str) -> Any:
    """A field that is called otherwise in OUCH 4.2."""
    return getattr(message, name50 if hasattr(message, name50) else name42)


def side_and_quantity(message: Message) -> tuple[str, int]:
    return values(message, "side", "buy_sell_indicator"), values(message, "quantity", "shares")


def named(name: int | str) -> str:
    return f"order {name}" if isinstance(name, int) else name


def named_in(message: Message) -> str:
    return named(values(message, "user_reference_number", "order_token"))


def by_order(messages: list[Message]) -> dict[str, list[tuple[Any, ...]]]:
    found = defaultdict(list)
    for message in messages:
        name, said = as_said(message)
        found[name].append(said)
    return found


async def everything(client: BareClient, last: Message, is_last: Callable[[Message], bool]) -> list[Message]:
    """What the client hears until its last order, in another symbol, is accepted."""
    await client.request(last)
    heard: list[Message] = []
    while not is_last(answer := await client.answer()):
        heard.append(answer)
    return heard


@pytest.mark.parametrize("seed", range(4))
def test_equal_requests_get_equal_answers_in_both_versions(seed: int) -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        pairs = list(requests_of(random.Random(seed), 600))
        await bob.request(*(one for one, _ in pairs))
        await alice.request(*(one for _, one in pairs))
        in50 = by_order(
            await everything(
                bob,
                order(10_000, symbol="QQQ"),
                lambda one: isinstance(one, ouch50.OrderAccepted) and one.symbol == "QQQ",
            )
        )
        in42 = by_order(
            await everything(
                alice,
                order42("last", stock="QQQ"),
                lambda one: isinstance(one, Accepted) and one.stock == "QQQ",
            )
        )
        assert in50 == in42
        kinds = {said[0] for answers in in50.values() for said in answers}
        assert kinds == set("AUECM")

    told(story, speak_ouch42=ALICE)
