"""The ladder's memory: bounded, recycled, and right in the cases that an adversary would choose.

What the commands do is compared with the naive book; the memory itself is checked by the audit.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exchange import limits
from exchange.book.id_index import HASH_BITS, id_hash
from exchange.book.ladder import LINKED_BYTES_MAX, Ladder
from exchange.book.ladder_layout import SPARE, SPARE_PER_SYMBOL, place_ladder, shape_ladder
from exchange.book.ladder_memory import (
    GOLDEN_RATIO,
    ID_SLOTS_SHIFT,
    NODE_HASH_SHIFT,
    PAGE_SHIFT,
    LadderBook,
    word,
)
from exchange.errors import UserError
from exchange.messages import (
    BUY,
    COMMAND_DTYPE,
    EVENT_DTYPE,
    SELL,
    Command,
    CommandKind,
    EventKind,
    OrderType,
    Reason,
)
from tests.book_driver import BookDriver, cancel, first_difference, mass_cancel, new, stamped
from tests.property.campaign import run_campaign
from tests.property.ladder_audit import audit_ladder

PRICE_TICKS_MAX = limits.PRICE_TICKS_MAX
REPOSITORY = Path(__file__).parents[2]
UNHASHED = pow(GOLDEN_RATIO, -1, 2**64)


def agreed_events(commands: NDArray[Any], **settings: int) -> tuple[NDArray[Any], BookDriver]:
    """The events that naive and ladder agree on, and the audited ladder."""
    naive, ladder = BookDriver("naive", **settings), BookDriver("ladder", **settings)
    expected, events = naive.play(commands), ladder.play(commands)
    assert expected == events, first_difference(commands, expected, events)
    for symbol_id in range(ladder.symbol_count):
        assert naive.orders(symbol_id) == ladder.orders(symbol_id)
    audit_ladder(ladder.owner)
    return np.frombuffer(events, EVENT_DTYPE), ladder


def walking_market(step_count: int, tick_step: int, lag: int = 8) -> NDArray[Any]:
    """A bid and an ask at each step of a price that only rises; each is cancelled ``lag`` steps later."""
    commands = np.zeros((step_count, 4), COMMAND_DTYPE)
    steps = np.arange(step_count)
    commands["kind"] = [CommandKind.NEW, CommandKind.NEW, CommandKind.CANCEL, CommandKind.CANCEL]
    commands["side"][:, 1] = SELL
    commands["order_id"][:, :2] = (2 * steps[:, None]) + [0, 1]
    commands["order_id"][:, 2:] = commands["order_id"][:, :2] - 2 * lag
    commands["price_ticks"][:, 0] = 1 + steps * tick_step
    commands["price_ticks"][:, 1] = 1 + (steps + 2 * lag) * tick_step
    commands["quantity_lots"][:, :2] = 5
    flow = commands.reshape(-1)
    flow["sequence"] = np.arange(1, len(flow) + 1)
    return flow


def test_a_market_that_walks_a_million_ticks_uses_its_memory_again() -> None:
    """It leaves empty rows behind, but only so many: 1,000,000 ticks are 31,250 rows of both sides."""
    ladder = BookDriver("ladder", capacity_orders=10_000, price_max_ticks=2_000_000)
    ladder.play(walking_market(1_000_000, 1), batch_commands=4096)
    fresh_orders, fresh_rows = audit_ladder(ladder.owner)
    assert ladder.live_order_count() == 16
    assert fresh_orders <= 20
    assert fresh_rows <= SPARE + SPARE_PER_SYMBOL + 4 * 20


@pytest.mark.parametrize("tick_step", [1, 63, 64, 4097, 2**20 + 1, 2**22])
def test_a_market_that_walks_to_the_end_of_the_band_stays_within_its_pools(tick_step: int) -> None:
    flow = walking_market(4000, tick_step)
    events, ladder = agreed_events(flow, capacity_orders=100, price_max_ticks=PRICE_TICKS_MAX)
    assert (events["kind"] != EventKind.REJECTED).sum() > 15_000
    fresh_orders, fresh_rows = audit_ladder(ladder.owner)
    assert fresh_orders <= 20
    assert fresh_rows <= shape_ladder(1, 100, 1, PRICE_TICKS_MAX).capacity_rows


def test_a_full_book_of_lonely_orders_can_be_emptied_and_filled_again() -> None:
    """Each order in a page of its own, over the whole band: the worst case that the pools are sized for."""
    capacity_orders = 3000
    spacing_ticks = PRICE_TICKS_MAX // capacity_orders
    rng = np.random.default_rng(5)
    fill = [
        new(
            number,
            BUY if number < capacity_orders // 2 else SELL,
            1 + number * spacing_ticks,
            3,
            session_id=number % 2,
        )
        for number in rng.permutation(capacity_orders).tolist()
    ]
    too_many = [new(-1, BUY, 1, 1), new(-2, SELL, PRICE_TICKS_MAX, 1)]
    some = [
        cancel(number, session_id=number % 2) for number in rng.permutation(capacity_orders)[:1000].tolist()
    ]
    end = [mass_cancel(session_id=0), mass_cancel(session_id=1)]
    flow = stamped([*fill, *too_many, *some, *fill, *too_many, *end, *fill, *too_many])
    events, ladder = agreed_events(flow, capacity_orders=capacity_orders, price_max_ticks=PRICE_TICKS_MAX)
    assert (events["reason"] == Reason.BOOK_FULL).sum() == 6
    assert ladder.live_order_count() == capacity_orders
    fresh_orders, fresh_rows = audit_ladder(ladder.owner)
    assert fresh_orders == capacity_orders
    assert capacity_orders <= fresh_rows <= shape_ladder(1, capacity_orders, 1, PRICE_TICKS_MAX).capacity_rows


@pytest.mark.parametrize("spacing_ticks", [1, 64, 10**6])
def test_one_order_sweeps_a_deep_book(spacing_ticks: int) -> None:
    depth = 4000
    rest = [new(n, SELL, 10 + (n * 2654435761 % depth) * spacing_ticks, 2) for n in range(depth)]
    sweep = new(-1, BUY, 0, 2 * depth - 1, order_type=OrderType.MARKET)
    events, ladder = agreed_events(
        stamped([*rest, sweep]), capacity_orders=depth, price_max_ticks=PRICE_TICKS_MAX
    )
    assert (events["kind"] == EventKind.EXECUTED).sum() == depth
    assert [order.quantity_lots for order in ladder.orders()] == [1]
    assert ladder.ids() == [int(events["other_order_id"][-1])]


def test_a_long_level_loses_orders_from_its_middle() -> None:
    length = 3000
    rng = np.random.default_rng(6)
    rest = [new(n, BUY, 100, 1 + n % 7) for n in range(length)]
    gone = [cancel(n) for n in rng.permutation(np.arange(1, length - 1))[: length - 10].tolist()]
    takers = [new(10_000 + n, SELL, 100, 3) for n in range(5)]
    events, _ = agreed_events(stamped([*rest, *gone, *takers]), capacity_orders=length)
    makers = events["other_order_id"][events["kind"] == EventKind.EXECUTED]
    assert makers[0] == 0
    assert (np.diff(makers) >= 0).all(), "those that are left trade in the order of their arrival"


def signed(word: int) -> int:
    word %= 2**64
    return word - 2**64 if word >= 2**63 else word


@pytest.mark.parametrize("slot", [0, 5, -1, -100])
def test_ids_that_all_hash_to_one_slot(slot: int) -> None:
    """From the last slots the run of collisions goes on at the first ones."""
    capacity_orders = 600
    driver = BookDriver("ladder", symbol_count=2, capacity_orders=capacity_orders)
    book: LadderBook = driver.state
    bits = HASH_BITS - word(book, ID_SLOTS_SHIFT)
    home = slot % (1 << bits)
    ids = [
        [signed(((home << (64 - bits)) + n) * UNHASHED - (symbol_id << 43)) for n in range(300)]
        for symbol_id in (0, 1)
    ]
    hashes = {id_hash(symbol_id, one) for symbol_id in (0, 1) for one in ids[symbol_id]}
    assert hashes == {home << (HASH_BITS - bits)}, (
        "they have even the part of the hash in common that a slot keeps"
    )
    rng = np.random.default_rng(7)
    commands: list[Command] = []
    for _ in range(8):
        for symbol_id in (0, 1):
            chosen = rng.choice(ids[symbol_id], 200, replace=False).tolist()
            commands += [new(one, BUY, 10, 1, symbol_id=symbol_id) for one in chosen]
            commands += [cancel(one, symbol_id=symbol_id) for one in rng.permutation(chosen)[:150].tolist()]
        commands.append(new(int(rng.integers(1, 1000)), SELL, 10, 20, time_in_force=1))
    events, _ = agreed_events(stamped(commands), symbol_count=2, capacity_orders=capacity_orders)
    assert (events["kind"] == EventKind.CANCELED).sum() > 2000


def test_pages_that_all_hash_to_the_last_slot() -> None:
    capacity_orders = 40
    driver = BookDriver("ladder", capacity_orders=capacity_orders, price_max_ticks=PRICE_TICKS_MAX)
    book: LadderBook = driver.state
    with np.errstate(over="ignore"):
        numbers = np.arange(1 << 24, dtype=np.uint64)  # pages of bids, side 0: its tag adds nothing
        homes = numbers * np.uint64(GOLDEN_RATIO % 2**64) >> np.uint64(word(book, NODE_HASH_SHIFT))
    chosen = numbers[homes == homes.max()]
    assert len(chosen) >= capacity_orders
    rng = np.random.default_rng(8)
    commands: list[Command] = []
    for _ in range(30):
        prices = (
            rng.choice(chosen, capacity_orders, replace=False).astype(np.int64) * (1 << PAGE_SHIFT)
            + 1
            + rng.integers(0, 1 << PAGE_SHIFT)
        ).tolist()
        commands += [new(number, BUY, price, 1) for number, price in enumerate(prices)]
        commands.append(new(-1, SELL, 1, 15, time_in_force=1))
        commands += [cancel(number) for number in rng.permutation(capacity_orders).tolist()]
    agreed_events(stamped(commands), capacity_orders=capacity_orders, price_max_ticks=PRICE_TICKS_MAX)


def linked_bytes(*settings: int) -> int:
    """How much of a book its links have to reach."""
    return place_ladder(shape_ladder(*settings)).id_slots


def test_memory_is_reserved_for_the_largest_book_that_the_settings_allow() -> None:
    settings = limits.SYMBOLS_MAX, limits.BOOK_CAPACITY_ORDERS_MAX, 1, PRICE_TICKS_MAX
    assert linked_bytes(*settings) <= LINKED_BYTES_MAX
    Ladder(*settings)


def test_more_orders_than_links_can_reach_are_refused_in_one_line() -> None:
    with pytest.raises(
        UserError, match=r"^book\.capacity_orders = 67108864: .* 32 GiB; lower .* narrow the price band$"
    ):
        Ladder(1, 1 << 26, 1, PRICE_TICKS_MAX)


def test_a_narrow_band_leaves_room_for_more_orders() -> None:
    assert linked_bytes(1, 1 << 26, 1, 1000) <= LINKED_BYTES_MAX
    Ladder(1, 1 << 26, 1, 1000)


def test_a_system_that_refuses_the_address_space_is_reported_in_one_line() -> None:
    script = (
        "import resource; from exchange.book import build_book; from exchange.book.config import LadderBookConfig;"
        "from exchange.book import ladder; from exchange.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "try: build_book(LadderBookConfig(capacity_orders=1 << 23), 1)\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.startswith("book.capacity_orders = 8388608: the system refuses ")
    assert done.stdout.count("\n") == 1


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_large_book_takes_memory_for_what_is_used_only() -> None:
    """More than 8 GiB for the worst case. Used are two hash tables, which fill all over, and little of the rest."""
    before = resident_bytes()
    ladder = BookDriver("ladder", capacity_orders=1 << 23, price_max_ticks=PRICE_TICKS_MAX)
    assert ladder.owner.arena.capacity_bytes > 8 << 30
    for number in range(3000):
        ladder.apply(new(number, BUY, 10**6 + number * 7919 % 5000, 1))
    assert ladder.live_order_count() == 3000
    assert resident_bytes() - before < 512 << 20


def test_the_same_source_runs_without_the_compiler() -> None:
    """The interpreted ladder agrees with naive, and with what the compiled one answers."""
    seed, commands, commands_per_seed = 4242, 4000, 200
    options = ["--seed", seed, "--commands", commands, "--commands-per-seed", commands_per_seed]
    done = subprocess.run(
        [sys.executable, "-m", "tests.property.campaign", *map(str, options)],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.startswith(f"{run_campaign(seed, commands, commands_per_seed)}; ")
