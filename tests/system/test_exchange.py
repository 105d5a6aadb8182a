"""The whole exchange in one process: every combination of layers does the same work.

Commands of a small synthetic flow go through the real pipeline (ingress, shards, egress on threads) for each profile
built here; the final state, and the events symbol by symbol, must be those of the textbook book applied directly.
"""

import time
from typing import Any

import numpy as np
import pytest

from exchange.assembly import Exchange, expected_answers, lanes_of
from exchange.book.naive import NaiveBook
from exchange.flow import load_flow
from exchange.flow.config import SyntheticConfig
from exchange.messages import ALL_SYMBOLS, COMMAND_DTYPE, EVENT_DTYPE, Command, CommandKind, EventKind
from exchange.settings import Settings, load_profile
from exchange.transport.memory import ANSWERS, EVENTS, TRADES, MemoryTransport

SYMBOLS = 5


def flow(commands: int = 4_000, seed: int = 3) -> Any:
    return load_flow(
        "synthetic", synthetic=SyntheticConfig(commands=commands, symbols=SYMBOLS, seed=seed)
    ).commands


def settings(*overrides: str) -> Settings:
    return load_profile("textbook", overrides)


def play(profile: Settings, commands: Any) -> tuple[Exchange, MemoryTransport]:
    """Play everything at once; the exchange has stopped when this returns."""
    timeless = commands.copy()
    timeless["timestamp_ns"] = 0
    transport = MemoryTransport(
        lanes_of(timeless, profile.transport.ingress_lanes), keep_events=4 * len(commands) + 64
    )
    exchange = Exchange(profile, SYMBOLS, transport)
    exchange.compile(lambda text: None)
    answers = expected_answers(commands, profile.shards.count)
    deadline = time.monotonic() + 60
    with exchange.threads:
        while transport.word(ANSWERS) < answers:
            exchange.threads.check()
            assert time.monotonic() < deadline, f"{transport.word(ANSWERS)} of {answers} answers"
            time.sleep(0.002)
    return exchange, transport


def textbook_events(commands: Any) -> list[tuple[Any, ...]]:
    """What the rules say, without sequences and match numbers, which each shard counts for itself."""
    book = NaiveBook(SYMBOLS, 262_144, 1, 2**36 - 1)
    events = [event for one in commands for event in book.apply(Command(*one.item()))]
    return [event._replace(command_sequence=0, match_number=0, timestamp_ns=0) for event in events]


def without_counters(events: Any) -> Any:
    plain = events.copy()
    for name in ("command_sequence", "match_number", "timestamp_ns"):
        plain[name] = 0
    return plain


PROFILES = [
    pytest.param((), id="textbook"),
    pytest.param(("queue.kind=python", "book.kind=ladder"), id="python-ladder"),
    pytest.param(("queue.kind=spsc", "book.kind=naive"), id="spsc-naive"),
    pytest.param(("queue.kind=locked", "book.kind=ladder"), id="locked-ladder"),
    pytest.param(("queue.kind=mpsc", "book.kind=ladder", "shards.count=2"), id="mpsc-two-shards"),
    pytest.param(("queue.kind=disruptor", "book.kind=ladder"), id="disruptor"),
    pytest.param(
        ("queue.kind=spsc", "book.kind=ladder", "shards.count=3", "transport.ingress_lanes=2"),
        id="spsc-two-lanes",
    ),
    pytest.param(("queue.kind=spsc", "book.kind=ladder", "queue.capacity_slots=2"), id="spsc-two-slots"),
    pytest.param(
        ("queue.kind=mpsc", "book.kind=ladder", "queue.capacity_slots=4", "shards.count=2"),
        id="mpsc-four-slots",
    ),
    pytest.param(("queue.capacity_slots=2", "shards.count=2"), id="python-two-slots"),
    pytest.param(
        ("queue.kind=spsc", "book.kind=ladder", 'shards.threads=[["ingress","shard.0","egress"]]'),
        id="run-to-completion",
    ),
    pytest.param(("queue.kind=spsc", "book.kind=ladder", "idle.kind=park"), id="parking"),
    pytest.param(("queue.kind=spsc", "book.kind=ladder", "placement.kind=pinned"), id="pinned"),
    pytest.param(("queue.kind=locked", "book.kind=ladder", "shards.run_as=processes"), id="locked-process"),
    pytest.param(
        (
            *("queue.kind=spsc", "book.kind=ladder", "queue.capacity_slots=64", "shards.count=3"),
            *("transport.ingress_lanes=2", "shards.run_as=processes", "placement.kind=pinned"),
        ),
        id="spsc-processes",
    ),
    pytest.param(
        (
            *("queue.kind=mpsc", "book.kind=ladder", "queue.capacity_slots=4", "shards.count=2"),
            "shards.run_as=processes",
        ),
        id="mpsc-processes",
    ),
]


@pytest.mark.parametrize("overrides", PROFILES)
def test_every_combination_makes_the_events_of_the_textbook(overrides: tuple[str, ...]) -> None:
    commands = flow()
    expected = np.array(textbook_events(commands), dtype=EVENT_DTYPE)
    _, transport = play(settings(*overrides), commands)
    events = without_counters(transport.events())
    assert transport.word(EVENTS) == len(expected)
    assert transport.word(TRADES) == int((expected["kind"] == EventKind.EXECUTED).sum()) > 0
    for symbol_id in range(SYMBOLS):
        mine, theirs = events[events["symbol_id"] == symbol_id], expected[expected["symbol_id"] == symbol_id]
        assert mine.tobytes() == theirs.tobytes(), f"symbol {symbol_id}"


def test_digests_agree_across_profiles_and_tell_different_flows_apart() -> None:
    commands = flow()
    profiles = [parameter.values[0] for parameter in (*PROFILES[:6], *PROFILES[-3:])]
    digests = {play(settings(*overrides), commands)[0].digest() for overrides in profiles}
    assert len(digests) == 1
    assert play(settings(), flow(seed=4))[0].digest() not in digests


def test_the_digest_sees_priority() -> None:
    first = Command(CommandKind.NEW, order_id=1, price_ticks=100, quantity_lots=5)
    second = first._replace(order_id=2)

    def digest(*orders: Command) -> str:
        return play(settings(), np.array([tuple(order) for order in orders], COMMAND_DTYPE))[0].digest()

    assert digest(first, second) != digest(second, first)


def test_a_mass_cancel_of_all_symbols_reaches_every_shard() -> None:
    orders = [
        Command(
            CommandKind.NEW, symbol_id=symbol_id, session_id=7, order_id=1, price_ticks=100, quantity_lots=5
        )
        for symbol_id in range(SYMBOLS)
    ]
    orders.append(Command(CommandKind.MASS_CANCEL, symbol_id=ALL_SYMBOLS, session_id=7))
    commands = np.array([tuple(order) for order in orders], COMMAND_DTYPE)
    _, transport = play(settings("shards.count=3", "book.kind=ladder", "queue.kind=spsc"), commands)
    events = transport.events()
    assert (events["kind"] == EventKind.CANCELED).sum() == SYMBOLS
    ends = events[events["kind"] == EventKind.MASS_CANCELED]
    assert len(ends) == 3
    assert ends["quantity_lots"].sum() == SYMBOLS


def test_commands_for_unknown_symbols_are_refused_not_lost() -> None:
    commands = flow(200)
    commands["symbol_id"] = SYMBOLS + 1
    _, transport = play(settings("shards.count=2"), commands)
    assert (transport.events()["kind"] == EventKind.REJECTED).all()
    assert len(transport.events()) == 200


def test_back_pressure_is_counted_where_it_happens() -> None:
    exchange, _ = play(settings("queue.kind=spsc", "book.kind=ladder", "queue.capacity_slots=2"), flow())
    counts = exchange.back_pressure()
    assert set(counts) == {"inbox.0", "outbox.0"}
    assert counts["inbox.0"] > 0


def test_a_shard_publishes_how_far_it_is_and_the_top_of_the_book_it_touched_last() -> None:
    bid = Command(CommandKind.NEW, symbol_id=3, order_id=1, price_ticks=100, quantity_lots=5)
    ask = bid._replace(side=1, order_id=2, price_ticks=103, quantity_lots=9)
    profile = settings("queue.kind=spsc", "book.kind=ladder")
    exchange, _ = play(profile, np.array([tuple(bid), tuple(ask)], COMMAND_DTYPE))
    assert [tuple(status) for status in exchange.status() if status] == [(2, 2, 2, 3, 100, 5, 103, 9)]
