"""A shard that was saved and put back answers from then on as the one that was not, byte for byte.

Random flows run up to a point; the shard is saved and put back, into the same variant of the book and into the other
one; then all go on with the same commands. Small capacities make BOOK_FULL frequent, so that a book that lost or gained
room would show; halts lie on both sides of the point.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exchange.book.config import BookConfig, LadderBookConfig, NaiveBookConfig
from exchange.book.protocol import match_count
from exchange.errors import UserError
from exchange.matching.digest import state_digest
from exchange.messages import (
    BUY,
    EVENT_DTYPE,
    SELL,
    CommandKind,
    EventKind,
    Reason,
    SymbolState,
)
from exchange.snapshot.sections import BadSnapshot, SectionFile
from exchange.snapshot.shards import STATE_DTYPE, restore_shard, save_shard
from tests.book_driver import cancel, new, stamped
from tests.property.book_flows import Regime, aim_at_live_orders, random_flow
from tests.property.ladder_audit import audit_ladder
from tests.property.test_trading_states import trading_state
from tests.shard_driver import ShardDriver
from tests.snapshot_driver import written

VARIANTS = {"naive": NaiveBookConfig, "ladder": LadderBookConfig}
BLOCK = 150


def shard(kind: str, regime: Regime, **changes: int) -> ShardDriver:
    limits = {
        "capacity_orders": regime.capacity_orders,
        "price_min_ticks": regime.price_min_ticks,
        "price_max_ticks": regime.price_max_ticks,
    }
    config: BookConfig = VARIANTS[kind](**(limits | changes))
    return ShardDriver(config, regime.symbol_count, regime.batch_commands)


def live_orders(driver: ShardDriver, regime: Regime) -> NDArray[np.int64]:
    """Symbol, session, id and price of each live order of a textbook book."""
    orders = [
        (order.symbol_id, order.session_id, order.order_id, order.price_ticks)
        for symbol_id in range(regime.symbol_count)
        for order in driver.book.orders_by_priority(symbol_id)
    ]
    return np.array(orders, np.int64).reshape(-1, 4)


def with_halts(seed: int, commands: NDArray[Any]) -> None:
    random = np.random.default_rng([seed, 9])
    states = np.flatnonzero(random.random(len(commands)) < 0.02)
    commands["kind"][states] = CommandKind.TRADING_STATE
    commands["quantity_lots"][states] = random.choice([1, 1, 1, 2, 0], len(states))
    commands["order_id"][states] = random.integers(0, 1 << 32, len(states))


def digest(driver: ShardDriver, regime: Regime) -> str:
    return state_digest([driver.book.state], [0] * regime.symbol_count)


def saved(path: Path, driver: ShardDriver) -> SectionFile:
    return written(path, lambda writer: save_shard(writer, 3, driver.shard))


def restored(file: SectionFile, kind: str, regime: Regime) -> ShardDriver:
    driver = shard(kind, regime)
    restore_shard(file, 3, driver.shard)
    if kind == "ladder":
        audit_ladder(driver.book)
    return driver


def prepared(seed: int, blocks: int) -> tuple[Regime, list[NDArray[Any]]]:
    """Commands in blocks, of which many name orders that live by then."""
    regime, commands = random_flow(seed, blocks * BLOCK)
    with_halts(seed, commands)
    random, scout = np.random.default_rng([seed, 8]), shard("naive", regime)
    parts = np.split(commands, blocks)
    for part in parts:
        aim_at_live_orders(random, part, live_orders(scout, regime))
        scout.play(part)
    return regime, parts


@pytest.mark.parametrize("seed", range(24))
def test_what_follows_is_the_same(tmp_path: Path, seed: int) -> None:
    regime, parts = prepared(seed, 10)
    originals = {kind: shard(kind, regime) for kind in VARIANTS}
    for part in parts[:6]:
        assert originals["naive"].play(part) == originals["ladder"].play(part)
    files = {kind: saved(tmp_path / kind, driver) for kind, driver in originals.items()}
    contents = [path.read_bytes() for path in (tmp_path / "naive", tmp_path / "ladder")]
    assert contents[0] == contents[1], "the variants are saved alike"
    copies = [restored(file, kind, regime) for file in files.values() for kind in VARIANTS]
    for driver in copies:
        assert digest(driver, regime) == digest(originals["naive"], regime)
        assert driver.memory.read_status()[:3] == originals["ladder"].memory.read_status()[:3]  # type: ignore[index]
        for symbol_id in range(regime.symbol_count):
            assert driver.memory.trading_state(symbol_id) == originals["naive"].memory.trading_state(
                symbol_id
            )
    for part in parts[6:]:
        expected = originals["naive"].play(part)
        assert originals["ladder"].play(part) == expected
        for driver in copies:
            assert driver.play(part) == expected
    again = [saved(tmp_path / f"again-{number}", driver) for number, driver in enumerate(copies)]
    assert len({one.path.read_bytes() for one in again}) == 1
    for file in (*files.values(), *again):
        file.close()


def test_the_flows_meet_what_matters() -> None:
    """A full book, a halt, trades and replaces, behind the point at which shards are saved."""
    met: set[tuple[int, int]] = set()
    for seed in range(24):
        regime, parts = prepared(seed, 10)
        driver = shard("ladder", regime)
        for index, part in enumerate(parts):
            told = np.frombuffer(driver.play(part), EVENT_DTYPE)
            met |= (
                set(zip(told["kind"].tolist(), told["reason"].tolist(), strict=True)) if index >= 6 else set()
            )
    assert {reason for kind, reason in met if kind == EventKind.REJECTED} >= {
        Reason.BOOK_FULL, Reason.SYMBOL_HALTED, Reason.DUPLICATE_ORDER_ID, Reason.NOT_YOUR_ORDER,
    }  # fmt: skip
    assert {kind for kind, _ in met} == set(EventKind)


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_worn_book_and_its_copy_are_full_at_the_same_order(tmp_path: Path, kind: str) -> None:
    """Each order alone on its page, after much coming and going: what could run out is in pieces all over memory."""
    regime = Regime(2, 1, 64, 1, 2**36 - 1, 1, 1, 1, True, 0, False, 0.5, 0.0, 0.0, 256)
    driver, random = shard(kind, regime), np.random.default_rng(5)
    for begin in range(0, 3000, 50):
        orders = [
            new(begin + number, SELL, (1 << 24) * int(random.integers(1, 4000)), 5, symbol_id=number % 2)
            for number in range(50)
        ]
        driver.apply(*orders)
        for number in random.permutation(50)[: int(random.integers(30, 50))].tolist():
            driver.apply(cancel(begin + number, symbol_id=number % 2))
    with saved(tmp_path / "snapshot", driver) as file:
        copy = restored(file, kind, regime)
    assert driver.book.state is not copy.book.state
    more = [new(10_000 + number, BUY, 1 + number, 1) for number in range(65)]
    told = driver.apply(*more)
    assert copy.apply(*more) == told
    refused = [event.order_id for event in told if event.reason == Reason.BOOK_FULL]
    assert refused
    assert refused == list(range(refused[0], 10_065))


def test_settings_that_are_others_are_refused(tmp_path: Path) -> None:
    regime = Regime(2, 1, 64, 1, 1000, 1, 1, 1, True, 0, False, 0.5, 0.0, 0.0, 256)
    driver = shard("ladder", regime)
    driver.apply(*[new(number, BUY, 900 + number, 1) for number in range(10)])
    with saved(tmp_path / "snapshot", driver) as file:
        for changes, told in (
            (
                {"capacity_orders": 9},
                r"the book refuses order 0 of symbol 0 \(book_full\); book.capacity_orders",
            ),
            ({"price_max_ticks": 905}, r"the book refuses order 9 of symbol 0 \(price_out_of_band\)"),
        ):
            other = shard("ladder", regime, **changes)
            with pytest.raises(UserError, match=told):
                restore_shard(file, 3, other.shard)
        wide = ShardDriver(LadderBookConfig(capacity_orders=64), 5, 16)
        with pytest.raises(UserError, match="is of 2 symbols, and the settings have 5"):
            restore_shard(file, 3, wide.shard)
        with pytest.raises(BadSnapshot, match="has no section 'shard-0/state'"):
            restore_shard(file, 0, wide.shard)


def test_sections_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    regime = Regime(1, 1, 64, 1, 1000, 1, 1, 1, True, 0, False, 0.5, 0.0, 0.0, 256)
    trading = np.zeros((1, 4), np.int64)
    trading[0, 0] = SymbolState.TRADING
    for orders, count, told in (
        (
            [new(1, BUY, 10, 5), new(2, SELL, 9, 5)],
            2,
            "order 1 of symbol 0 trades|order 2 of symbol 0 trades",
        ),
        ([new(1, BUY, 10, 5)], 2, "has 1 orders, and 'shard-3/state' says 2"),
        ([new(1, BUY, 10, 5), new(1, BUY, 10, 5)], 2, "refuses order 1 of symbol 0 .duplicate_order_id"),
    ):
        state = np.array([(7, 9, 0, count, 1)], STATE_DTYPE)
        with written(tmp_path / "forged", lambda writer, orders=orders, state=state: [  # type: ignore[misc]
            writer.write("shard-3/state", state),
            writer.write("shard-3/trading", trading),
            writer.write("shard-3/orders", stamped(orders)),
        ]) as file:  # fmt: skip
            driver = shard("ladder", regime)
            with pytest.raises(UserError, match=told):
                restore_shard(file, 3, driver.shard)


def test_the_match_number_goes_on(tmp_path: Path) -> None:
    regime = Regime(1, 1, 64, 1, 1000, 1, 1, 1, True, 0, False, 0.5, 0.0, 0.0, 256)
    driver = shard("ladder", regime)
    driver.apply(
        new(1, BUY, 10, 5), new(2, SELL, 10, 1), new(3, SELL, 10, 1), trading_state(SymbolState.HALTED)
    )
    with saved(tmp_path / "snapshot", driver) as file:
        copy = restored(file, "naive", regime)
    assert match_count(copy.book.state) == 2
    (_, _, traded) = copy.apply(trading_state(SymbolState.TRADING), new(4, SELL, 10, 1))
    assert (traded.match_number, traded.command_sequence) == (3, 6)
