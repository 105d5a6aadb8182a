"""Naive and ladder answer every command alike, byte for byte; and what they answer adds up.

Three independent views are held together: the naive book, the ladder book, and a ledger that knows only the events.
After each command the ladder's memory is audited too. The seeded flows are longer and take new seeds in each run; the
full campaign is ``python -m tests.property.campaign``.
"""

import os
import time
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.book.id_index import find_id
from exchange.book.ladder_memory import GOLDEN_RATIO
from exchange.book.naive import NaiveBook, RestingOrder
from exchange.messages import (
    ALL_SYMBOLS,
    COMMAND_STRUCT,
    EVENT_STRUCT,
    Command,
    CommandKind,
    Event,
    EventKind,
)
from tests.book_driver import BOOK_EVENTS, BOOK_REASONS, BookDriver
from tests.property.book_ledger import Ledger
from tests.property.campaign import COMMANDS_PER_SEED, run_campaign
from tests.property.ladder_audit import audit_ladder

COMMANDS_IN_EACH_RUN = 15 * COMMANDS_PER_SEED
UNHASHED = pow(GOLDEN_RATIO, -1, 2**64)
"""An id times the golden ratio decides its slot; so this times a small number is an id of slot 0."""

EXTREME_IDS = [0, 1, -1, 2**63 - 1, -(2**63), 2**32, 1 << 43, -(1 << 43)]


@dataclass(frozen=True)
class World:
    """The few symbols, sessions, ids and prices that a sequence of commands is made of."""

    symbol_count: int
    capacity_orders: int
    ids: tuple[int, ...]
    prices: tuple[int, ...]
    price_min_ticks: int
    price_max_ticks: int


def signed(word: int) -> int:
    word %= 2**64
    return word - 2**64 if word >= 2**63 else word


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Prices next to each other or up to half the widest band apart; a band that just holds them or the widest."""
    spacing_ticks = draw(st.sampled_from([1, 2, 63, 64, 65, 4096, 2**18, 2**24, 2**30, 2**33]))
    price_count = draw(st.integers(1, 8))
    span = min((price_count - 1) * spacing_ticks + draw(st.integers(0, 3)), 2**36 - 2)
    low = draw(st.sampled_from([1, 2, 60, 2**36 - 1 - span]))
    prices = [min(low + step * spacing_ticks, low + span, 2**36 - 1) for step in range(price_count)]
    narrow = draw(st.booleans())
    colliding = [signed(UNHASHED * number) for number in range(3)]
    ids = st.sampled_from(EXTREME_IDS + colliding) | st.integers(-(2**63), 2**63 - 1)
    return World(
        symbol_count=draw(st.integers(1, 3)),
        capacity_orders=draw(st.integers(1, 12)),
        ids=tuple(draw(st.lists(ids, min_size=2, max_size=10, unique=True))),
        prices=(*prices, low - 1, min(low + span, 2**36 - 1) + 1, draw(st.integers(-(2**63), 2**63 - 1))),
        price_min_ticks=low if narrow else 1,
        price_max_ticks=min(low + span, 2**36 - 1) if narrow else 2**36 - 1,
    )


KINDS = (
    [CommandKind.NEW] * 5
    + [CommandKind.CANCEL] * 2
    + [CommandKind.REPLACE] * 3
    + [CommandKind.MASS_CANCEL, 0]
)
MOSTLY_ZERO = [0, 0, 0, 0, 0, 0, 1]


@st.composite
def command_sequences(draw: st.DrawFn) -> tuple[World, list[Command]]:
    """A world and some commands; all draws of a command are small numbers, so that examples shrink well.

    Most cancels and replaces are aimed at an order that lives by then, or they would nearly all miss.
    """
    world = draw(worlds())
    last_price, last_symbol = len(world.prices) - 4, world.symbol_count - 1
    commands = st.builds(
        Command,
        kind=st.sampled_from(KINDS),
        side=st.sampled_from([0, 1, 0, 1, 0, 1, 2]),
        time_in_force=st.sampled_from(MOSTLY_ZERO),
        order_type=st.sampled_from([*MOSTLY_ZERO, 0, 0]),
        symbol_id=st.sampled_from([*range(world.symbol_count)] * 3 + [last_symbol + 1, ALL_SYMBOLS]),
        session_id=st.sampled_from([3, 3, 3, 4]),
        sequence=st.just(0),
        order_id=st.sampled_from(world.ids),
        new_order_id=st.sampled_from(world.ids),
        price_ticks=st.integers(0, last_price).map(world.prices.__getitem__) | st.sampled_from(world.prices),
        quantity_lots=st.sampled_from([1, 2, 3, 5, 8, 100, 0, 2**32 - 1]),
        liability_lots=st.sampled_from([0, 0, 0, 1, 2, 5, 8, 100, 4294967295]),
        tag=st.just(9),
        timestamp_ns=st.just(0),
    )
    length = draw(st.integers(1, 60))
    aims = st.tuples(
        st.integers(0, 5), st.sampled_from(["as drawn", "as drawn", "same quantity", "same price"])
    )
    drawn = draw(st.lists(st.tuples(commands, aims), min_size=length, max_size=length))
    book = NaiveBook(world.symbol_count, world.capacity_orders, world.price_min_ticks, world.price_max_ticks)
    sequence = []
    for number, (command, (aim, keep)) in enumerate(drawn, 1):
        aimed = aimed_at(command, list(book.orders.values()), aim, keep)
        sequence.append(aimed._replace(sequence=number, timestamp_ns=10 * number))
        book.apply(sequence[-1])
    return world, sequence


def aimed_at(command: Command, live: list[RestingOrder], aim: int, keep: str) -> Command:
    """The command with the id, the owner and perhaps quantity or price of a live order; 0 aims at nothing."""
    if aim == 0 or not live or command.kind not in (CommandKind.CANCEL, CommandKind.REPLACE):
        return command
    order = live[aim % len(live)]
    command = command._replace(
        symbol_id=order.symbol_id, session_id=order.session_id, order_id=order.order_id
    )
    if keep == "same quantity":
        return command._replace(quantity_lots=order.quantity_lots)
    return command._replace(price_ticks=order.price_ticks) if keep == "same price" else command


def driver_of(kind: str, world: World) -> BookDriver:
    return BookDriver(
        kind,
        symbol_count=world.symbol_count,
        capacity_orders=world.capacity_orders,
        price_min_ticks=world.price_min_ticks,
        price_max_ticks=world.price_max_ticks,
    )


@settings(max_examples=250, deadline=None)
@given(command_sequences())
def test_books_and_ledger_agree_after_every_command(drawn: tuple[World, list[Command]]) -> None:
    world, commands = drawn
    naive, ladder = driver_of("naive", world), driver_of("ladder", world)
    ledger = Ledger(world.symbol_count)
    for command in commands:
        block = COMMAND_STRUCT.pack(*command)
        answer = naive.apply_bytes(block)
        events = [Event(*fields) for fields in EVENT_STRUCT.iter_unpack(answer)]
        assert [Event(*fields) for fields in EVENT_STRUCT.iter_unpack(ladder.apply_bytes(block))] == events
        ledger.follow(command, events)
        for book in (naive, ladder):
            for symbol_id in range(world.symbol_count):
                ledger.check_book(symbol_id, book.orders(symbol_id), book.top(symbol_id))
            assert book.live_order_count() == sum(len(entries) for entries in ledger.symbols)
        check_id_index(naive, ladder, ledger, world)
        audit_ladder(ladder.owner)


def check_id_index(naive: BookDriver, ladder: BookDriver, ledger: Ledger, world: World) -> None:
    """Exactly the ids that live are found."""
    live = {(symbol_id, order_id) for symbol_id, entries in enumerate(ledger.symbols) for order_id in entries}
    assert set(naive.owner.orders) == live
    for symbol_id in range(world.symbol_count):
        for order_id in world.ids:
            assert (find_id(ladder.state, symbol_id, order_id)[0] != 0) == ((symbol_id, order_id) in live)


@settings(max_examples=60, deadline=None)
@given(command_sequences(), st.sampled_from([2, 3, 7, 60]))
def test_a_batch_does_what_its_commands_do_one_by_one(drawn: tuple[World, list[Command]], size: int) -> None:
    world, commands = drawn
    apart, together = driver_of("ladder", world), driver_of("ladder", world)
    blocks = [COMMAND_STRUCT.pack(*command) for command in commands]
    batches = [b"".join(blocks[at : at + size]) for at in range(0, len(blocks), size)]
    assert b"".join(map(apart.apply_bytes, blocks)) == b"".join(map(together.apply_bytes, batches))
    audit_ladder(together.owner)


@settings(max_examples=60, deadline=None)
@given(command_sequences())
def test_exported_orders_rebuild_a_book_that_goes_on_alike(drawn: tuple[World, list[Command]]) -> None:
    """Half of the commands, then export and rebuild: the other half is answered alike but for match numbers."""
    world, commands = drawn
    half = len(commands) // 2
    for kind in ("naive", "ladder"):
        first = driver_of(kind, world)
        first.apply(*commands[:half])
        second = driver_of(kind, world)
        for symbol_id in range(world.symbol_count):
            second.apply(*first.orders(symbol_id))
        first.sequence = second.sequence = half
        left, right = (
            [event._replace(match_number=0) for event in book.apply(*commands[half:])]
            for book in (first, second)
        )
        assert left == right


def test_seeded_flows_of_this_run_agree() -> None:
    """New seeds in each run, unless EXCHANGE_TEST_SEED repeats one; a failure names its seed."""
    seed = int(os.environ.get("EXCHANGE_TEST_SEED", time.time_ns() // 1_000_000))
    tally = run_campaign(seed, COMMANDS_IN_EACH_RUN)
    assert tally.commands == COMMANDS_IN_EACH_RUN
    assert tally.events_by_kind.sum() > COMMANDS_IN_EACH_RUN


def test_the_flows_reach_every_kind_of_event_and_reason() -> None:
    """A comparison is worth as much as the variety of what it compares."""
    tally = run_campaign(1, 60_000, commands_per_seed=1000)
    assert all(tally.events_by_kind[kind] > 100 for kind in BOOK_EVENTS)
    assert all(tally.events_by_reason[reason] > 10 for reason in BOOK_REASONS)


def test_a_campaign_is_the_same_for_the_same_seed() -> None:
    digests = {run_campaign(seed, 3000).digest.hexdigest() for seed in (7, 7, 8)}
    assert len(digests) == 2


def test_the_ledger_notices_a_wrong_event() -> None:
    """The ledger is only worth something if it can fail: each single changed field of an event must be noticed."""
    book, ledger = BookDriver("naive"), Ledger(1)
    for command in [
        Command(CommandKind.NEW, order_id=1, price_ticks=10, quantity_lots=5, sequence=1),
        Command(CommandKind.NEW, order_id=2, price_ticks=10, quantity_lots=5, sequence=2),
    ]:
        ledger.follow(command, book.apply(command))
    trade = Command(CommandKind.NEW, side=1, order_id=3, price_ticks=9, quantity_lots=6, sequence=3)
    events = book.apply(trade)
    for at, field, value in [
        (1, "other_order_id", 2),
        (1, "price_ticks", 9),
        (1, "quantity_lots", 4),
        (1, "match_number", 2),
        (1, "side", 0),
        (2, "order_id", 1),
        (2, "quantity_lots", 2),
        (2, "kind", int(EventKind.CANCELED)),
    ]:
        copy = Ledger(1)
        copy.symbols = [{order_id: replace(entry) for order_id, entry in ledger.symbols[0].items()}]
        wrong = [
            event._replace(**{field: value}) if at == index else event for index, event in enumerate(events)
        ]
        with pytest.raises(AssertionError):
            follow_and_compare(copy, trade, wrong, book)
    follow_and_compare(ledger, trade, events, book)


def follow_and_compare(ledger: Ledger, command: Command, events: list[Event], book: BookDriver) -> None:
    ledger.follow(command, events)
    ledger.check_book(0, book.orders(), book.top())
