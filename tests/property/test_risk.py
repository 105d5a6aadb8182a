"""Compiled risk against its model: any limits, any requests, answers that come late, and limits that change meanwhile.

The gateway's two sides are the real ones, with a textbook book between them and queues that the test empties when it
likes. Decisions are equal, counters are equal and never below what is in the book, and at rest they are what the order
table says."""

import random
from collections import deque
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.book.naive import NaiveBook
from exchange.gateway.config import GatewayConfig
from exchange.gateway.inbound import ANSWER_REASON, Requests
from exchange.gateway.outbound import Reports
from exchange.gateway.reports import report_events
from exchange.gateway.requests42 import TRANSLATED_BYTES
from exchange.gateway.session_memory import KILLED, SessionMemory
from exchange.gateway.symbol_table import SymbolTable
from exchange.gateway.versions import take_request
from exchange.messages import (
    COMMAND_DTYPE,
    EVENT_STRUCT,
    RECORD_BYTES,
    Command,
    CommandKind,
    Event,
)
from exchange.native import Arena, kernel, load_uint8, load_uint16, store_release, view_bytes
from exchange.risk.limits import LimitsMemory
from exchange.risk.names import SESSION_LIMITS, SYMBOL_LIMITS
from exchange.risk.protocol import REASON_OF, Refusal
from exchange.risk.recount import count_open, recount_session
from exchange.wire.layout import Message
from exchange.wire.ouch50 import CancelOrder, ModifyOrder
from exchange.wire.ouch_codes import Side
from tests.gateway_driver import order, replacement
from tests.risk_model import RiskModel

SESSIONS, SYMBOLS = 2, ("AAPL", "MSFT")
PRICES, LOTS = (90, 110), (1, 12)
MARKET = 0x7FFFFFFF
MESSAGE_BYTES_MAX = 256
EVENTS_MAX = 256


@kernel
def decode(requests, session_id, session, message, size_bytes, now_ns, command):  # type: ignore[no-untyped-def]
    return take_request(requests, session_id, session, message, size_bytes, now_ns, command)


class RiskBench:
    """Both sides of a gateway with limits, a book, and the model beside them."""

    def __init__(self) -> None:
        self.arena = Arena.private(1 << 17)
        self.memory = SessionMemory(GatewayConfig(capacity_orders=256, log_bytes=1 << 20), SESSIONS)
        self.risk = LimitsMemory(SESSIONS, len(SYMBOLS))
        self.symbols = SymbolTable(SYMBOLS)
        allocate = self.arena.allocate
        self.message, self.command = allocate(MESSAGE_BYTES_MAX), allocate(RECORD_BYTES)
        self.events = allocate(EVENTS_MAX * RECORD_BYTES)
        self.requests = Requests(
            self.memory.sessions, self.symbols.symbols, self.risk.state, 1, 10**9, 0,
            allocate(TRANSLATED_BYTES), allocate(8),
        )  # fmt: skip
        self.reports = Reports(
            self.memory.sessions, self.risk.state, allocate(8), allocate(8 * SESSIONS), allocate(len(SYMBOLS)), 1, 0
        )  # fmt: skip
        self.book = NaiveBook(len(SYMBOLS), 40, 1, 10**9)
        self.model = RiskModel(SESSIONS, len(SYMBOLS))
        self.waiting: deque[Command] = deque()
        self.untold: deque[Event] = deque()
        self.now_ns, self.number = 10**18, 0
        self.sides: dict[int, str] = {}

    def ask(self, session_id: int, message: Message) -> int | None:
        """Have a message taken: OUCH's reason if it was refused, 0 if it goes on, None if it came to nothing."""
        data = message.encode()
        view_bytes(self.message, len(data))[:] = data
        session = self.memory.address(session_id)
        count = decode(self.requests, session_id, session, self.message, len(data), self.now_ns, self.command)
        if count <= 0:
            return None
        if load_uint8(self.command) == CommandKind.ANSWER:
            return load_uint16(self.command + ANSWER_REASON)
        record = np.frombuffer(view_bytes(self.command, RECORD_BYTES), COMMAND_DTYPE)
        self.waiting.append(Command(*record.tolist()[0]))
        return 0

    def match(self) -> None:
        """The book applies the next command."""
        if self.waiting:
            self.untold.extend(self.book.apply(self.waiting.popleft()))

    def tell(self) -> None:
        """The clients' side hears of the next event."""
        if self.untold:
            event = self.untold.popleft()
            view_bytes(self.events, RECORD_BYTES)[:] = EVENT_STRUCT.pack(*event)
            report_events(self.reports, self.events, 1)
            self.model.hear(event)

    def check(self) -> None:
        """Counters are the model's, and not less than what rests."""
        for session_id, session in enumerate(self.model.sessions):
            used = self.risk.read_session(session_id)
            assert (used.open_orders, used.exposure) == (session.open_orders, session.exposure)
            assert used.refused == session.refused
            resting = [one for one in self.book.orders.values() if one.session_id == session_id]
            assert used.open_orders >= len(resting)
            assert used.exposure >= sum(one.quantity_lots * abs(one.price_ticks) for one in resting)
        for symbol_id, symbol in enumerate(self.model.symbols):
            assert self.risk.reference_price(symbol_id) == symbol.reference

    def rest(self) -> None:
        """Let everything happen, and see that the order table says the same as the counters."""
        while self.waiting:
            self.match()
        while self.untold:
            self.tell()
        self.check()
        for session_id in range(SESSIONS):
            used = self.risk.read_session(session_id)
            counted = count_open(self.memory.sessions, self.memory.address(session_id))
            resting = [one for one in self.book.orders.values() if one.session_id == session_id]
            value = sum(one.quantity_lots * one.price_ticks for one in resting)
            assert (used.open_orders, used.exposure) == counted == (len(resting), value)
            recount_session(self.risk, self.memory, session_id)
            assert self.risk.read_session(session_id) == used

    def do(self, what: tuple[Any, ...]) -> None:
        """One step of a history; see ``STEPS``."""
        match what:
            case "new", session_id, symbol_id, is_buy, lots, price, is_immediate:
                self._enter(session_id, symbol_id, is_buy, lots, price, is_immediate)
            case "replace", session_id, pick, lots, price:
                if (number := self._pick(session_id, pick)) is not None:
                    self._replace(session_id, number, lots, price)
            case ("cancel" | "modify") as kind, session_id, pick, lots:
                if (number := self._pick(session_id, pick)) is not None:
                    self._reduce(kind, session_id, number, lots)
            case "match", count:
                for _ in range(count):
                    self.match()
            case "tell", count:
                for _ in range(count):
                    self.tell()
            case "wait", nanoseconds:
                self.now_ns += nanoseconds
            case "limit session", session_id, (name, value):
                self.risk.limit_session(session_id, name, value)
                self.model.sessions[session_id].limits[name] = value
            case "limit symbol", symbol_id, (name, value):
                self.risk.limit_symbol(symbol_id, name, value)
                self.model.symbols[symbol_id].limits[name] = value
            case "kill", session_id, is_killed:
                store_release(self.memory.address(session_id) + KILLED, int(is_killed))
                self.model.sessions[session_id].is_killed = is_killed
            case "price", symbol_id, price:
                self.risk.give_price(symbol_id, price)
                self.model.symbols[symbol_id].reference = price
            case _:
                raise AssertionError(what)

    def _pick(self, session_id: int, pick: int) -> int | None:
        numbers = [*self.model.sessions[session_id].orders]
        return numbers[pick % len(numbers)] if numbers else None

    def _enter(
        self, session_id: int, symbol_id: int, is_buy: bool, lots: int, price: int | None, is_immediate: bool
    ) -> None:
        self.number += 1
        side, letter = Side.BUY if is_buy else Side.SELL, "3" if is_immediate else "0"
        self.sides[self.number] = side
        told = self.ask(
            session_id,
            order(
                self.number,
                side,
                lots,
                MARKET if price is None else price,
                symbol=SYMBOLS[symbol_id],
                time_in_force=letter,
            ),
        )
        refusal = self.model.enter(session_id, self.number, symbol_id, price, lots, self.now_ns)
        assert told == REASON_OF.get(refusal, 0)

    def _replace(self, session_id: int, original: int, lots: int, price: int) -> None:
        self.number += 1
        self.sides[self.number] = self.sides[original]
        told = self.ask(session_id, replacement(original, self.number, lots, price))
        refusal = self.model.replace(session_id, original, self.number, price, lots, self.now_ns)
        assert told == REASON_OF.get(refusal, 0)

    def _reduce(self, kind: str, session_id: int, number: int, lots: int) -> None:
        side = self.sides[number]
        told = self.ask(
            session_id, CancelOrder(number, lots) if kind == "cancel" else ModifyOrder(number, side, lots)
        )
        if told is not None:
            assert told == 0
            self.model.reduce(session_id, number, lots)


sessions, symbols = st.integers(0, SESSIONS - 1), st.integers(0, len(SYMBOLS) - 1)
lots, prices = st.integers(*LOTS), st.integers(*PRICES)
picks, counts = st.integers(0, 9), st.integers(1, 4)
values = {
    "order_lots_max": st.integers(0, 12),
    "order_notional_max": st.sampled_from([0, 300, 800, 1200]),
    "orders_per_second": st.sampled_from([0, 0, 1, 3, 1000, 1_000_000]),
    "orders_burst": st.integers(1, 4),
    "open_orders_max": st.integers(0, 5),
    "exposure_max": st.sampled_from([0, 0, 900, 2000, 4000]),
    "collar_basis_points": st.sampled_from([0, 1, 300, 1000]),
}
session_limits = st.one_of([st.tuples(st.just(name), values[name]) for name in SESSION_LIMITS.keys])
symbol_limits = st.one_of([st.tuples(st.just(name), values[name]) for name in SYMBOL_LIMITS.keys])
new_orders = st.tuples(
    st.just("new"), sessions, symbols, st.booleans(), lots, st.one_of(prices, prices, prices, st.none()), st.booleans()
)  # fmt: skip
replaces = st.tuples(st.just("replace"), sessions, picks, lots, prices)
passing = st.one_of(st.tuples(st.just("match"), counts), st.tuples(st.just("tell"), counts))
STEPS = st.one_of(
    new_orders,
    new_orders,
    replaces,
    replaces,
    passing,
    passing,
    st.tuples(st.sampled_from(["cancel", "modify"]), sessions, picks, lots),
    st.tuples(st.just("wait"), st.integers(0, 2 * 10**9)),
    st.tuples(st.just("limit session"), sessions, session_limits),
    st.tuples(st.just("limit symbol"), symbols, symbol_limits),
    st.tuples(st.just("kill"), sessions, st.sampled_from([False, False, True])),
    st.tuples(st.just("price"), symbols, prices),
)


@given(st.lists(STEPS, max_size=80))
@settings(deadline=None, max_examples=300)
def test_compiled_risk_is_the_model(steps: list[tuple[Any, ...]]) -> None:
    bench = RiskBench()
    for step in steps:
        bench.do(step)
        bench.check()
    bench.rest()


def drawn(chance: random.Random) -> tuple[Any, ...]:
    """A step of a busy history, in which limits are seldom touched."""
    session_id, symbol_id = chance.randrange(SESSIONS), chance.randrange(len(SYMBOLS))
    lots, price = chance.randint(*LOTS), chance.randint(*PRICES)
    match chance.choices(
        ["new", "replace", "reduce", "match", "tell", "wait", "other"], [8, 8, 2, 12, 24, 4, 1]
    )[0]:
        case "new":
            is_market = chance.random() < 0.1
            return (
                "new",
                session_id,
                symbol_id,
                chance.random() < 0.5,
                lots,
                None if is_market else price,
                False,
            )
        case "replace":
            return "replace", session_id, chance.randrange(10), lots, price
        case "reduce":
            return chance.choice(["cancel", "modify"]), session_id, chance.randrange(10), lots
        case "match" | "tell" as kind:
            return kind, chance.randint(1, 3)
        case "wait":
            return "wait", chance.randrange(10**9)
    name = chance.choice([*values])
    kept = name in SYMBOL_LIMITS.keys and (name not in SESSION_LIMITS.keys or chance.random() < 0.5)
    owner = ("limit symbol", symbol_id) if kept else ("limit session", session_id)
    value = {
        "order_lots_max": 9, "order_notional_max": 950, "orders_per_second": 40, "orders_burst": 6,
        "open_orders_max": 8, "exposure_max": 4000, "collar_basis_points": 600,
    }[name]  # fmt: skip
    return chance.choice([
        (*owner, (name, chance.choice([0, value]) or int(name == "orders_burst"))),
        (*owner, (name, value)),
        ("kill", session_id, chance.random() < 0.2),
        ("price", symbol_id, price),
    ])  # fmt: skip


def test_a_long_history_meets_every_limit() -> None:
    bench, chance = RiskBench(), random.Random(19)
    for step in range(30_000):
        bench.do(drawn(chance))
        bench.check()
        if step % 1000 == 999:
            bench.rest()
    bench.rest()
    met = {name for session in bench.model.sessions for name in session.refused}
    assert met == {one.name.lower() for one in Refusal if one not in (Refusal.NONE, Refusal.MARKET)}
    assert bench.number > 5000
