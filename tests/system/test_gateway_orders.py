"""OUCH's rules as a client sees them: what each request comes to, over a real socket."""

from typing import Any

import pytest

from exchange.gateway.server import Server
from exchange.wire import itch50
from exchange.wire.layout import Message
from exchange.wire.moldudp64 import Request, decode_packet
from exchange.wire.ouch50 import (
    AccountQuery,
    AccountQueryResponse,
    CancelOrder,
    MassCancel,
    MassCancelResponse,
    OrderAccepted,
    OrderCanceled,
    OrderExecuted,
    OrderReplaced,
    Rejected,
    RejectReason,
)
from exchange.wire.ouch50_options import Option, OptionTag
from exchange.wire.ouch_codes import OrderState, Side
from tests.gateway_driver import (
    BareClient,
    compile_once,
    is_answered,
    order,
    replacement,
    run,
    serving,
    told,
)

PRICE = 100_0000


def test_accepted_tells_back_what_was_asked_for() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        firm = (Option(OptionTag.FIRM, "LIME"),)
        asked = order(
            7, Side.SELL_SHORT, 225, 63_0200, display="A", capacity="R", time_in_force="5", options=firm
        )
        await alice.request(asked)
        accepted = await alice.answer()
        assert isinstance(accepted, OrderAccepted)
        for field in (
            "user_reference_number", "side", "quantity", "symbol", "price", "time_in_force", "display", "capacity",
            "intermarket_sweep_eligibility", "cross_type", "client_order_id", "options",
        ):  # fmt: skip
            assert getattr(accepted, field) == getattr(asked, field), field
        assert accepted.order_state == OrderState.LIVE
        await bob.request(order(1, Side.BUY, 5, 63_0200))
        assert isinstance(await bob.answer(), OrderAccepted)
        executed, sold = await bob.answer(), await alice.answer()
        assert isinstance(executed, OrderExecuted)
        assert isinstance(sold, OrderExecuted)
        assert (executed.quantity, executed.match_number) == (5, sold.match_number)

    told(story)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"symbol": "NOPE"}, RejectReason.INVALID_SYMBOL),
        ({"symbol": ""}, RejectReason.INVALID_SYMBOL),
        ({"side": "X"}, RejectReason.INVALID_SIDE),
        ({"quantity": 0}, RejectReason.INVALID_QUANTITY),
        ({"quantity": 1_000_000}, RejectReason.INVALID_QUANTITY),
        ({"price": 0}, RejectReason.INVALID_PRICE),
        ({"price": 1_999_999_901}, RejectReason.INVALID_PRICE),
        ({"price": 1 << 63}, RejectReason.INVALID_PRICE),
        ({"display": "N"}, RejectReason.INVALID_DISPLAY),
        ({"capacity": "X"}, RejectReason.OTHER),
        ({"time_in_force": "6"}, RejectReason.OTHER),
        ({"intermarket_sweep_eligibility": "Y"}, RejectReason.ISO_NOT_ALLOWED),
        ({"cross_type": "O"}, RejectReason.INVALID_CROSS_ORDER),
        ({"options": (Option(OptionTag.MINIMUM_QUANTITY, 100),)}, RejectReason.INVALID_MINIMUM_QUANTITY),
    ],
)
def test_a_wrong_order_is_rejected_with_the_reason_and_uses_its_number_up(
    changes: dict[str, Any], reason: RejectReason
) -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        await alice.request(order(3, **changes), order(3), order(2))
        rejected = await alice.answer()
        assert isinstance(rejected, Rejected)
        assert (rejected.user_reference_number, rejected.reason) == (3, reason)
        assert rejected.client_order_id == "order 3"
        await is_answered(alice, 4)

    told(story)


def test_repetitions_are_ignored() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        await alice.request(order(5), order(5), order(4), order(5, Side.SELL), order(6))
        assert [one.user_reference_number for one in await alice.answers(2)] == [5, 6]  # type: ignore[attr-defined]
        await is_answered(alice, 7)

    told(story)


def test_an_order_that_may_not_rest_is_canceled_at_once() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await bob.request(order(1, Side.SELL, 30))
        await bob.answer()
        await alice.request(order(1, time_in_force="3"), order(2, price=0x7FFFFFFF))
        accepted, executed, canceled, market, rest = await alice.answers(5)
        assert isinstance(accepted, OrderAccepted)
        assert isinstance(executed, OrderExecuted)
        assert (executed.quantity, executed.liquidity_flag) == (30, "R")
        assert isinstance(canceled, OrderCanceled)
        assert (canceled.quantity, canceled.reason) == (70, "I")
        assert isinstance(market, OrderAccepted)
        assert isinstance(rest, OrderCanceled)
        assert (rest.quantity, rest.reason) == (100, "I")

    told(story)


def test_a_cancel_names_the_total_that_may_be_executed() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await alice.request(order(1, quantity=500))
        await alice.answer()
        await bob.request(order(1, Side.SELL, 100))
        await bob.answers(2)
        await alice.answer()
        await alice.request(
            CancelOrder(1, 300),
            CancelOrder(1, 300),
            CancelOrder(1, 400),
            CancelOrder(9, 0),
            CancelOrder(1, 50),
        )
        reduced, ended = await alice.answers(2)
        assert isinstance(reduced, OrderCanceled)
        assert isinstance(ended, OrderCanceled)
        assert [(one.quantity, one.reason) for one in (reduced, ended)] == [(200, "U"), (200, "U")]
        await alice.request(CancelOrder(1, 0))
        await is_answered(alice, 2)

    told(story)


def test_a_replace_names_the_total_of_the_chain() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await alice.request(order(1, quantity=500, options=(Option(OptionTag.FIRM, "LIME"),)))
        await alice.answer()
        await bob.request(order(1, Side.SELL, 100))
        await bob.answers(2)
        await alice.answer()
        await alice.request(
            replacement(1, 2, 300, PRICE - 100), replacement(2, 3, 301, client_order_id="third")
        )
        first, second = await alice.answers(2)
        assert isinstance(first, OrderReplaced)
        assert isinstance(second, OrderReplaced)
        assert (first.original_user_reference_number, first.user_reference_number) == (1, 2)
        assert (first.quantity, first.price, first.order_state) == (200, PRICE - 100, "L")
        assert (second.quantity, second.price, second.client_order_id) == (201, PRICE, "third")
        assert (second.side, second.symbol, second.capacity) == ("B", "AAPL", "A")
        assert second.options == first.options == (Option(OptionTag.FIRM, "LIME"),)
        await bob.request(order(2, Side.SELL, 1000))
        executed = await alice.answer()
        assert isinstance(executed, OrderExecuted)
        assert (executed.user_reference_number, executed.quantity) == (3, 201)

    told(story)


def test_a_replace_by_what_is_executed_already_is_dead() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await alice.request(order(1, quantity=500))
        await alice.answer()
        await bob.request(order(1, Side.SELL, 100))
        await bob.answers(2)
        await alice.answer()
        await alice.request(replacement(1, 2, 100))
        replaced = await alice.answer()
        assert isinstance(replaced, OrderReplaced)
        assert (replaced.quantity, replaced.order_state) == (0, OrderState.DEAD)
        await alice.request(CancelOrder(2, 0), CancelOrder(1, 0))
        await is_answered(alice, 3)

    told(story)


def test_a_replace_in_flight_while_executions_come_is_never_more_than_was_said() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        executed, number, liable = 0, 1, 1000
        await alice.request(order(1, quantity=liable))
        selling = [order(turn, Side.SELL, 7) for turn in range(1, 101)]
        for turn in range(0, 100, 10):
            await bob.request(*selling[turn : turn + 10])
            await alice.request(
                replacement(number, number + 1, liable - 1), CancelOrder(number + 1, liable - 3)
            )
            number, liable = number + 1, liable - 3
        await alice.request(AccountQuery())
        heard: list[Message] = []
        while not isinstance(last := await alice.answer(), AccountQueryResponse):
            heard.append(last)
        assert last.next_user_reference_number == number + 1
        await alice.request(CancelOrder(number, 0))
        while not (
            isinstance(last, OrderCanceled) and last.user_reference_number == number and len(heard) > 0
        ):
            last = await alice.answer()
            heard.append(last)
            if isinstance(last, OrderCanceled) and last.quantity > 100:
                break
        executed = sum(one.quantity for one in heard if isinstance(one, OrderExecuted))
        rest = [one.quantity for one in heard if isinstance(one, OrderCanceled)][-1]
        assert executed + rest == liable

    told(story)


def test_a_replace_with_impossible_terms_cancels_and_does_not_use_its_number_up() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        for number, changes in enumerate(({"quantity": 1_000_000}, {"price": 0}, {"display": "N"}), start=1):
            await alice.request(order(number))
            assert isinstance(await alice.answer(), OrderAccepted)
            fields = {"quantity": 100} | changes
            await alice.request(replacement(number, number + 1, **fields))  # type: ignore[arg-type]
            canceled = await alice.answer()
            assert isinstance(canceled, OrderCanceled)
            assert (canceled.user_reference_number, canceled.quantity) == (number, 100)
        await alice.request(replacement(1, 9, 100), replacement(99, 10, 100))
        await is_answered(alice, 4)

    told(story)


def test_a_mass_cancel_is_echoed_and_each_order_canceled() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await alice.request(
            *(order(number, symbol=symbol) for number, symbol in enumerate(("AAPL", "MSFT", "QQQ"), 1))
        )
        await alice.answers(3)
        await bob.request(order(1))
        await bob.answer()
        for number, symbol, gone in ((4, "MSFT", {2}), (5, "NOPE", set[int]()), (6, "", {1, 3})):
            await alice.request(MassCancel(number, "FIRM", symbol))
            heard = await alice.answers(1 + len(gone))
            (echo,) = [one for one in heard if isinstance(one, MassCancelResponse)]
            assert (echo.user_reference_number, echo.firm, echo.symbol) == (number, "FIRM", symbol)
            assert {one.user_reference_number for one in heard if isinstance(one, OrderCanceled)} == gone
        await is_answered(alice, 7)
        await is_answered(bob, 2)

    told(story)


def test_an_account_query_tells_the_next_number() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        await alice.request(AccountQuery(), order(41), AccountQuery())
        heard = [await alice.answer() for _ in range(3)]
        numbers = [one.next_user_reference_number for one in heard if isinstance(one, AccountQueryResponse)]
        assert numbers == [1, 42]

    told(story)


def test_more_live_orders_than_a_session_may_have_are_rejected() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await alice.request(*(order(number) for number in range(1, 10)))
        heard = await alice.answers(9)
        rejected = [one for one in heard if isinstance(one, Rejected)]
        assert [(one.user_reference_number, one.reason) for one in rejected] == [
            (9, RejectReason.PROCESSING_ERROR)
        ]
        await alice.request(CancelOrder(4, 0))
        assert isinstance(await alice.answer(), OrderCanceled)
        await is_answered(alice, 10)
        await is_answered(bob, 1)

    told(story, ("gateway.capacity_orders=8",))


def test_orders_on_their_way_make_a_client_wait_and_are_no_reason_to_reject() -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        await alice.request(*(order(number, time_in_force="3") for number in range(1, 201)))
        await bob.request(order(1, time_in_force="3"))
        heard = await alice.answers(400)
        assert [type(one) for one in heard] == [OrderAccepted, OrderCanceled] * 200
        assert isinstance((await bob.answers(2))[1], OrderCanceled)

    told(story, ("gateway.capacity_orders=8",))


def test_a_full_book_is_a_reject() -> None:
    async def story(alice: BareClient, _bob: BareClient) -> None:
        await alice.request(*(order(number) for number in range(1, 4)))
        heard = await alice.answers(3)
        assert [type(one) for one in heard] == [OrderAccepted, OrderAccepted, Rejected]
        await alice.request(CancelOrder(1, 0), order(4))
        assert [type(one) for one in await alice.answers(2)] == [OrderCanceled, OrderAccepted]

    told(story, ("book.capacity_orders=2",))


TWO_SHARDS = (
    "shards.count=2",
    'shards.threads=[["ingress","shard.0"],["shard.1","egress"]]',
    "shards.assign={AAPL=0, MSFT=1}",
)


def numbers_of_published_trades(server: Server) -> list[int]:
    """The match numbers of the feed, from its first message to its last."""
    assert server.feed is not None
    store, numbers, following = server.feed.store, list[int](), 1
    while following < store.next_sequence:
        datagram = store.answer(Request(server.control.session_name, following, 100).encode())
        assert datagram is not None
        messages = decode_packet(datagram).messages
        decoded = map(itch50.decode, messages)
        numbers += [one.match_number for one in decoded if isinstance(one, itch50.OrderExecuted)]
        following += len(messages)
    return numbers


def test_a_trade_has_one_number_for_both_sides_and_in_the_feed_whatever_its_shard() -> None:
    heard: list[list[OrderExecuted]] = []

    async def scenario() -> None:
        async with serving("alice", "bob", overrides=TWO_SHARDS) as server:
            clients = [await BareClient.log_on(server, name, sequence=2) for name in ("alice", "bob")]
            symbols = [symbol for symbol in ("AAPL", "MSFT", "NVDA") for _ in range(10)]
            for client, side in zip(clients, (Side.BUY, Side.SELL), strict=True):
                await client.packet()
                await client.request(
                    *(order(number, side, number, symbol=symbol) for number, symbol in enumerate(symbols, 1))
                )
            for client in clients:
                answers = [one for one in await client.answers(60) if isinstance(one, OrderExecuted)]
                heard.append(answers)
                await client.close()
        published = numbers_of_published_trades(server)
        numbers = [sorted(one.match_number for one in side) for side in heard]
        assert numbers[0] == numbers[1] == sorted(published)
        assert len(set(published)) == 30

    compile_once(TWO_SHARDS)
    run(scenario())


@pytest.mark.parametrize(
    "overrides",
    [
        TWO_SHARDS,
        ("transport.ingress_lanes=2", 'shards.threads=[["ingress.0","ingress.1","shard.0","egress"]]'),
    ],
)
def test_shards_and_lanes_are_the_profiles_choice(overrides: tuple[str, ...]) -> None:
    async def story(alice: BareClient, bob: BareClient) -> None:
        symbols = ("AAPL", "MSFT", "NVDA", "QQQ") * 25
        await alice.request(*(order(number, symbol=symbol) for number, symbol in enumerate(symbols, 1)))
        assert {one.user_reference_number for one in await alice.answers(100)} == set(range(1, 101))  # type: ignore[attr-defined]
        await bob.request(
            *(order(number, Side.SELL, symbol=symbol) for number, symbol in enumerate(symbols, 1)),
            MassCancel(101, "", ""),
        )
        heard = await bob.answers(201)
        assert sum(isinstance(one, OrderExecuted) for one in heard) == 100
        assert sum(isinstance(one, MassCancelResponse) for one in heard) == 1
        assert all(isinstance(one, OrderExecuted) for one in await alice.answers(100))

    compile_once(overrides)
    told(story, overrides)
