"""A halt has its place in the sequence: before it everything is as ever, behind it nothing comes into the book.

Compiled and textbook shards are given the same commands in batches of different sizes, and are held against the
simulation's twin of a shard, which applies one command after the other to a textbook book. The events are the same
byte for byte, wherever a batch was cut.
"""

import numpy as np
import pytest

from exchange.book.config import LadderBookConfig, NaiveBookConfig
from exchange.matching.trading_states import TradingState
from exchange.messages import (
    ALL_SYMBOLS,
    BUY,
    EVENT_STRUCT,
    SELL,
    Command,
    CommandKind,
    Event,
    EventKind,
    Reason,
    SymbolState,
    reason_text,
    reason_word,
)
from exchange.simulation.oracle import ShardTwin
from tests.book_driver import cancel, mass_cancel, new, replace
from tests.property.book_flows import random_flow
from tests.shard_driver import ShardDriver

VARIANTS = {"naive": NaiveBookConfig, "ladder": LadderBookConfig}
each_book = pytest.mark.parametrize("kind", VARIANTS)


def trading_state(state: int, symbol_id: int = 0, reason: str = "") -> Command:
    return Command(
        CommandKind.TRADING_STATE,
        symbol_id=symbol_id,
        quantity_lots=state,
        order_id=reason_word(reason),
        timestamp_ns=77,
    )


HALT, RESUME = trading_state(SymbolState.HALTED, reason="T1"), trading_state(SymbolState.TRADING, reason="T3")


def shard(kind: str, symbol_count: int = 2, batch_commands: int = 256) -> ShardDriver:
    return ShardDriver(VARIANTS[kind](capacity_orders=64), symbol_count, batch_commands)


def events_of(block: bytes) -> list[Event]:
    return [Event(*fields) for fields in EVENT_STRUCT.iter_unpack(block)]


def outcomes(events: list[Event]) -> list[tuple[EventKind, Reason]]:
    return [(EventKind(event.kind), Reason(event.reason)) for event in events]


REFUSED = (EventKind.REJECTED, Reason.SYMBOL_HALTED)
ACCEPTED = (EventKind.ACCEPTED, Reason.NONE)
CANCELED = (EventKind.CANCELED, Reason.BY_CLIENT)
STATE = (EventKind.TRADING_STATE, Reason.NONE)


@each_book
def test_while_a_symbol_is_halted_orders_only_leave_it(kind: str) -> None:
    driver = shard(kind)
    told = driver.apply(
        new(1, BUY, 500, 10), HALT, new(2, SELL, 500, 10), new(3, BUY, 400, 1), replace(1, 4, 500, 5), cancel(1, 3),
        replace(1, 1, 500, 4, liability_lots=7), replace(1, 1, 500, 4), replace(1, 1, 500, 5, liability_lots=4),
        new(5, SELL, 500, 1, symbol_id=1), mass_cancel(), new(6, BUY, 500, 1), RESUME, new(7, BUY, 500, 1),
    )  # fmt: skip
    assert outcomes(told) == [
        ACCEPTED, STATE, REFUSED, REFUSED, REFUSED, CANCELED,
        (EventKind.REPLACED, Reason.NONE), REFUSED, REFUSED, ACCEPTED,
        (EventKind.CANCELED, Reason.MASS_CANCEL), (EventKind.MASS_CANCELED, Reason.NONE), REFUSED, STATE, ACCEPTED,
    ]  # fmt: skip
    assert [event.command_sequence for event in told] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 12, 13, 14]
    halted = told[1]
    assert halted == Event(
        EventKind.TRADING_STATE,
        command_sequence=2,
        order_id=reason_word("T1"),
        quantity_lots=SymbolState.HALTED,
        command_kind=CommandKind.TRADING_STATE,
        timestamp_ns=77,
    )
    assert driver.memory.trading_state(0) == TradingState(SymbolState.TRADING, "T3", 2)
    assert driver.memory.trading_state(1) == TradingState(SymbolState.TRADING, "", 0)


@each_book
def test_a_halt_is_told_again_with_another_reason(kind: str) -> None:
    driver = shard(kind)
    told = driver.apply(HALT, trading_state(SymbolState.HALTED, reason="T12"), RESUME, new(1, BUY, 500, 10))
    assert outcomes(told) == [STATE, STATE, STATE, ACCEPTED]
    assert [reason_text(event.order_id) for event in told[:3]] == ["T1", "T12", "T3"]
    assert driver.memory.trading_state(0).changes == 3


@each_book
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (trading_state(SymbolState.HALTED, symbol_id=2), Reason.UNKNOWN_SYMBOL),
        (trading_state(SymbolState.HALTED, symbol_id=ALL_SYMBOLS), Reason.UNKNOWN_SYMBOL),
        (trading_state(0), Reason.INVALID_FIELD),
        (trading_state(3), Reason.INVALID_FIELD),
    ],
)
def test_a_state_that_cannot_be_is_refused(kind: str, command: Command, reason: Reason) -> None:
    driver = shard(kind)
    (told, accepted) = driver.apply(command, new(1, BUY, 500, 10))
    assert (told.kind, told.reason, told.command_kind) == (EventKind.REJECTED, reason, command.kind)
    assert accepted.kind == EventKind.ACCEPTED


@each_book
def test_nonsense_in_a_halted_symbol_is_refused_by_the_book(kind: str) -> None:
    told = shard(kind).apply(
        HALT, new(1, BUY, 500, 10, symbol_id=9), Command(kind=0), Command(kind=0x88), cancel(3)
    )
    assert [event.reason for event in told[1:]] == [
        Reason.UNKNOWN_SYMBOL,
        Reason.UNKNOWN_COMMAND,
        Reason.UNKNOWN_COMMAND,
        Reason.UNKNOWN_ORDER,
    ]


@pytest.mark.parametrize("seed", range(25))
def test_shards_agree_with_the_model_wherever_a_batch_is_cut(seed: int) -> None:
    regime, commands = random_flow(seed, 1200)
    random = np.random.default_rng([seed, 7])
    modified = (commands["kind"] == CommandKind.REPLACE) & (random.random(len(commands)) < 0.2)
    commands["new_order_id"][modified] = commands["order_id"][modified]
    commands["liability_lots"][modified] = random.integers(0, 50, modified.sum())
    states = np.flatnonzero(random.random(len(commands)) < 0.03)
    commands["kind"][states] = CommandKind.TRADING_STATE
    commands["quantity_lots"][states] = random.choice([1, 1, 2, 2, 2, 0, 3], len(states))
    for kind, share in ((CommandKind.DETAILS, 0.1), (CommandKind.ANSWER, 0.02)):
        commands["kind"][random.random(len(commands)) < share] = kind
    limits = regime.capacity_orders, regime.price_min_ticks, regime.price_max_ticks
    expected = events_of(ShardTwin(regime.symbol_count, *limits).apply(commands.tobytes()))
    assert {Reason.SYMBOL_HALTED} <= {event.reason for event in expected}
    assert sum(event.kind == EventKind.TRADING_STATE for event in expected) > 5
    for book, batch_commands in (("naive", 64), ("ladder", 3), ("ladder", 256)):
        config = VARIANTS[book](
            capacity_orders=regime.capacity_orders,
            price_min_ticks=regime.price_min_ticks,
            price_max_ticks=regime.price_max_ticks,
        )
        told = ShardDriver(config, regime.symbol_count, batch_commands).play(commands)
        assert events_of(told) == expected, (book, batch_commands)
