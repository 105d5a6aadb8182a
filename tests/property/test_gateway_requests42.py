"""Requests of OUCH 4.2 against a model in plain Python, which knows the rules and nothing of how they are kept.

The model says of each request what becomes of it: the command, the reject, or nothing. And any bytes at all: what the
plain decoder takes for a message of OUCH 4.2 the gateway takes, and nothing else."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.gateway.inbound import FORWARD, GARBAGE, NOTHING
from exchange.gateway.order_table import engine_order_id
from exchange.messages import BUY, SELL, Command, CommandKind, OrderType
from exchange.messages import TimeInForce as EngineTimeInForce
from exchange.wire.fields import WireError
from exchange.wire.layout import Message
from exchange.wire.ouch42 import (
    INBOUND_MESSAGES,
    CancelOrder,
    EnterOrder,
    ModifyOrder,
    ReplaceOrder,
    TradeNow,
)
from exchange.wire.ouch50 import RejectReason
from tests.gateway_driver import order42, replacement42
from tests.request_bench import NOW_NS, PRICE_MAX_TICKS, SESSION, SYMBOLS, RequestBench

MARKET = (0x7FFF_FFFF, 2_000_000_000, 0xFFFF_FFFF)


@dataclass
class Order:
    """A live order, as its client thinks of it."""

    number: int
    side: str
    symbol_id: int
    price: int
    liability: int


@dataclass
class Model:
    """What a session of OUCH 4.2 may expect of an exchange that accepts everything and never trades."""

    last_number: int = 0
    used: set[str] = field(default_factory=set)
    live: dict[str, Order] = field(default_factory=dict)

    def take(self, request: Message) -> Command | RejectReason | None:
        """What a request comes to: a command, a reject, or nothing."""
        match request:
            case EnterOrder(order_token=token) if token not in self.used:
                return self._enter(request)
            case ReplaceOrder() if request.existing_order_token in self.live:
                return None if request.replacement_order_token in self.used else self._replace(request)
            case CancelOrder(order_token=token) if token in self.live:
                return self._cancel(request)
            case ModifyOrder(order_token=token) if token in self.live:
                return self._modify(request)
        return None

    def _enter(self, request: EnterOrder) -> Command | RejectReason:
        self.used.add(request.order_token)
        self.last_number += 1
        reason = self._flaw(request)
        if reason is not None:
            return reason
        price = -1 if request.price == 0xFFFF_FFFF else request.price
        symbol_id = SYMBOLS.index(request.stock)
        number, side = self.last_number, request.buy_sell_indicator
        self.live[request.order_token] = Order(number, side, symbol_id, price, request.shares)
        return self._command(
            CommandKind.NEW,
            self.live[request.order_token],
            side=BUY if side == "B" else SELL,
            time_in_force=EngineTimeInForce.IMMEDIATE_OR_CANCEL
            if request.time_in_force == 0
            else EngineTimeInForce.DAY,
            order_type=OrderType.MARKET if request.price in MARKET else OrderType.LIMIT,
            price_ticks=price,
            quantity_lots=request.shares,
        )

    @staticmethod
    def _flaw(request: EnterOrder) -> RejectReason | None:
        """The first thing that is wrong, in the gateway's order."""
        minimum = RejectReason.INVALID_MINIMUM_QUANTITY if request.minimum_quantity else None
        symbol = None if request.stock in SYMBOLS else RejectReason.INVALID_SYMBOL
        side = None if request.buy_sell_indicator in "BSTE" else RejectReason.INVALID_SIDE
        cross = None if request.cross_type == "N" else RejectReason.INVALID_CROSS_ORDER
        return minimum or symbol or side or cross or Model._flaw_of_terms(request)

    @staticmethod
    def _flaw_of_terms(request: EnterOrder | ReplaceOrder) -> RejectReason | None:
        if not 0 < request.shares < 1_000_000:
            return RejectReason.INVALID_QUANTITY
        if request.display not in ("Y", "A"):
            return RejectReason.INVALID_DISPLAY
        if request.intermarket_sweep_eligibility != "N":
            return RejectReason.ISO_NOT_ALLOWED
        if request.time_in_force not in (0, 99_998, 99_999):
            return RejectReason.OTHER
        is_right = request.price in MARKET or 1 <= request.price <= PRICE_MAX_TICKS
        return None if is_right else RejectReason.INVALID_PRICE

    def _replace(self, request: ReplaceOrder) -> Command:
        old = self.live.pop(request.existing_order_token)
        if request.minimum_quantity or self._flaw_of_terms(request) or request.price in MARKET:
            return self._command(CommandKind.CANCEL, old)
        self.used.add(request.replacement_order_token)
        self.last_number += 1
        new = Order(self.last_number, old.side, old.symbol_id, request.price, request.shares)
        self.live[request.replacement_order_token] = new
        return self._command(
            CommandKind.REPLACE,
            old,
            new_order_id=engine_order_id(SESSION, new.number),
            price_ticks=request.price,
            quantity_lots=request.shares,
            liability_lots=old.liability,
        )

    def _cancel(self, request: CancelOrder) -> Command | None:
        known = self.live[request.order_token]
        if request.shares >= known.liability:
            return None
        taken = known.liability - request.shares if request.shares else 0
        known.liability = request.shares
        if taken == 0:
            del self.live[request.order_token]
        return self._command(CommandKind.CANCEL, known, quantity_lots=taken)

    def _modify(self, request: ModifyOrder) -> Command | None:
        known, side = self.live[request.order_token], request.buy_sell_indicator
        before = (known.side, known.liability)
        may_become = side == known.side or (side in "STE" and known.side in "STE")
        if not may_become or not 0 < request.shares <= known.liability or before == (side, request.shares):
            return None
        known.side, known.liability = side, request.shares
        return self._command(
            CommandKind.REPLACE,
            known,
            new_order_id=engine_order_id(SESSION, known.number),
            price_ticks=known.price,
            tag=ord(side),
            quantity_lots=request.shares,
            liability_lots=before[1],
        )

    @staticmethod
    def _command(kind: CommandKind, about: Order, **fields: Any) -> Command:
        return Command(
            kind=kind,
            symbol_id=about.symbol_id,
            session_id=SESSION,
            order_id=engine_order_id(SESSION, about.number),
            timestamp_ns=NOW_NS,
            **fields,
        )


def mostly(*right: Any, wrong: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """One of the right values, nineteen times out of twenty or so: a request is seldom wrong in more than one way."""
    repeated = right * (20 * len(wrong) // len(right))
    return st.sampled_from([*repeated, *wrong])


TOKENS = st.sampled_from(
    ["a", "b", "c", "d", "A", "a a", "a" * 14, "a" * 13, "b" * 14, "aaaaaaaab", "aaaaaaaac", ""]
)
SHARES = mostly(100, 100, 50, 60, 99, 1, 999_999, wrong=(0, 1_000_000, 1 << 31))
TERMS = {
    "price": mostly(100_0000, 99_0000, 1, PRICE_MAX_TICKS, wrong=(0, PRICE_MAX_TICKS + 1, *MARKET)),
    "time_in_force": mostly(99_998, 99_999, 0, wrong=(60, 99_996)),
    "display": mostly("Y", "A", wrong=("N", "M")),
    "intermarket_sweep_eligibility": mostly("N", wrong=("Y", "y")),
    "minimum_quantity": mostly(0, wrong=(5,)),
}
REQUESTS = st.one_of(
    st.builds(
        order42,
        TOKENS,
        side=mostly("B", "S", "T", "E", wrong=("X",)),
        shares=SHARES,
        stock=mostly("AAPL", "MSFT", wrong=("NOPE",)),
        firm=st.sampled_from(["", "LIME"]),
        cross_type=mostly("N", wrong=("O",)),
        **TERMS,
    ),
    st.builds(replacement42, TOKENS, TOKENS, shares=SHARES, **TERMS),
    st.builds(CancelOrder, TOKENS, SHARES),
    st.builds(ModifyOrder, TOKENS, st.sampled_from("SSTTEB"), st.sampled_from([100, 99, 60, 50, 1, 0])),
    st.builds(TradeNow, TOKENS),
)


@pytest.fixture(scope="module")
def bench() -> RequestBench:
    return RequestBench(speaks_ouch42=True)


@given(st.lists(REQUESTS, min_size=20, max_size=40))
@settings(deadline=None, max_examples=120)
def test_every_request_comes_to_what_the_model_says(bench: RequestBench, requests: list[Message]) -> None:
    bench.begin_session()
    model = Model()
    for request in requests:
        outcome = bench.take(request.encode())
        expected = model.take(request)
        rejects = [(model.last_number, int(expected))] if isinstance(expected, RejectReason) else []
        commands = [expected] if isinstance(expected, Command) else []
        assert (bench.rejected, bench.commands) == (rejects, commands), request
        assert outcome == (FORWARD if commands or rejects else NOTHING)
        assert bench.last_number == model.last_number


SAMPLES = [
    order42("one").encode(),
    order42("two", "S", firm="LIME").encode(),
    replacement42("one", "three", 50).encode(),
    CancelOrder("one", 10).encode(),
    CancelOrder("two", 0).encode(),
    ModifyOrder("two", "T", 5).encode(),
    TradeNow("one").encode(),
]


def check(bench: RequestBench, data: bytes) -> None:
    """The gateway takes what the plain decoder takes for a message; it does not read texts."""
    outcome, trouble = bench.take(data), ""
    try:
        INBOUND_MESSAGES.decode(data)
    except WireError as error:
        trouble = str(error)
    assert outcome in (FORWARD, NOTHING, GARBAGE)
    assert (outcome == GARBAGE) == (trouble != "") or "printable" in trouble


def test_a_hundred_thousand_mutated_messages(bench: RequestBench) -> None:
    noise = random.Random(42)
    bench.begin_session()
    for turn in range(100_000):
        data = bytearray(noise.choice(SAMPLES))
        for _ in range(noise.randint(0, 3)):
            position = noise.randrange(len(data))
            if noise.random() < 0.8:
                data[position] = noise.randrange(256)
            else:
                data[position : position + 1] = noise.randbytes(noise.randint(0, 2)) or b"X"
        check(bench, bytes(data))
        if turn % 1000 == 0:
            bench.begin_session()


@given(st.binary(min_size=1, max_size=60))
@settings(deadline=None, max_examples=1000)
def test_any_bytes(bench: RequestBench, data: bytes) -> None:
    check(bench, data)


def test_a_session_that_has_no_room_for_a_token_rejects_it_and_does_not_forget_the_others() -> None:
    bench = RequestBench(speaks_ouch42=True)
    taken = [f"token {number}" for number in range(300)]
    outcomes = [bench.take(order42(token, stock="NOPE").encode()) for token in taken]
    assert outcomes == [FORWARD] * 300
    assert bench.last_number == 256, "the table has as many slots"
    assert bench.rejected == [(257, RejectReason.OTHER)]
    for token in taken[:256]:
        bench.take(order42(token).encode())
        assert (bench.rejected, bench.commands) == ([], []), "a repetition"
