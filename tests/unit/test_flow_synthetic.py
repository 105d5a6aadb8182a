"""The synthetic flow: the same everywhere, valid throughout, and with the statistics that it claims."""

import os
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest

from exchange.book.naive import NaiveBook
from exchange.errors import UserError
from exchange.flow import Flow, SyntheticConfig, load_flow
from exchange.messages import (
    BUY,
    COMMAND_STRUCT,
    Command,
    CommandKind,
    EventKind,
    OrderType,
    Reason,
    TimeInForce,
)

NEW, CANCEL, REPLACE = CommandKind.NEW, CommandKind.CANCEL, CommandKind.REPLACE
DIGEST_OF_SEED_1 = "7bfea00aa6a87986"
"""Of the first thousand commands with default settings: the flow is the same on every machine and stays so."""


def make(**settings) -> Flow:
    return load_flow("synthetic", synthetic=SyntheticConfig(**settings))


@pytest.fixture(scope="module")
def busy() -> Flow:
    """A flow long enough for its statistics."""
    return make(commands=400_000, seed=5)


def digest(flow: Flow) -> str:
    return sha256(flow.commands.tobytes()).hexdigest()[:16]


def test_a_seed_gives_the_same_flow_on_every_machine():
    assert digest(make(commands=1_000)) == DIGEST_OF_SEED_1


def test_a_seed_gives_the_same_flow_again_and_another_seed_another():
    assert digest(make(commands=5_000, seed=9)) == digest(make(commands=5_000, seed=9))
    assert digest(make(commands=5_000, seed=9)) != digest(make(commands=5_000, seed=10))


def test_a_longer_flow_begins_as_a_shorter_one():
    short, long = make(commands=3_000), make(commands=9_000)
    assert (short.commands == long.commands[:3_000]).all()


def test_the_interpreted_kernels_write_the_same_commands():
    program = (
        "import hashlib; from exchange.flow import *; "
        "flow = load_flow('synthetic', synthetic=SyntheticConfig(commands=1000)); "
        "print(hashlib.sha256(flow.commands.tobytes()).hexdigest()[:16])"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == DIGEST_OF_SEED_1


@pytest.mark.parametrize("commands", [0, 1, 17])
def test_a_flow_has_exactly_as_many_commands_as_asked_for(commands):
    flow = make(commands=commands)
    assert len(flow.commands) == len(flow.expected_maker) == commands
    assert flow.notes["commands"] == commands


def test_every_command_is_well_formed(busy):
    commands = busy.commands
    assert (np.diff(commands["timestamp_ns"]) >= 0).all()
    assert commands["timestamp_ns"][0] == 0
    assert set(np.unique(commands["kind"])) == {NEW, CANCEL, REPLACE}
    assert commands["symbol_id"].max() == len(busy.symbols) - 1
    assert commands["session_id"].max() == SyntheticConfig().sessions - 1
    assert (commands["quantity_lots"][commands["kind"] != CANCEL] > 0).all()
    priced = (commands["kind"] != CANCEL) & (commands["order_type"] != OrderType.MARKET)
    assert (commands["price_ticks"][priced] > 0).all()
    market = commands[commands["order_type"] == OrderType.MARKET]
    assert (market["time_in_force"] == TimeInForce.IMMEDIATE_OR_CANCEL).all()
    assert not market["price_ticks"].any()
    for field in ("sequence", "liability_lots", "tag"):
        assert not commands[field].any()


def test_order_ids_are_dense_and_unique(busy):
    commands = busy.commands
    entered = commands["order_id"][commands["kind"] == NEW]
    renamed = commands[(commands["kind"] == REPLACE) & (commands["new_order_id"] != commands["order_id"])]
    ids = np.concatenate([entered, renamed["new_order_id"]])
    assert sorted(ids.tolist()) == list(range(1, busy.notes["order_ids"] + 1))


def test_the_shares_are_those_that_were_asked_for(busy):
    config = SyntheticConfig()
    commands = busy.commands
    new = commands[commands["kind"] == NEW]
    market = (new["order_type"] == OrderType.MARKET).mean()
    immediate = (new["time_in_force"] == TimeInForce.IMMEDIATE_OR_CANCEL).mean() - market
    assert market == pytest.approx(config.market_share, rel=0.1)
    assert immediate == pytest.approx(config.immediate_or_cancel_share, rel=0.03)
    ended = busy.notes["cancels"] - busy.notes["partial_cancels"]
    assert ended / (ended + busy.notes["orders_filled"]) == pytest.approx(config.cancel_share, abs=0.02)
    assert busy.notes["partial_cancels"] / busy.notes["cancels"] == pytest.approx(0.01, rel=0.2)
    replaced = busy.notes["replaces"] / (busy.notes["replaces"] + busy.notes["cancels"])
    assert replaced == pytest.approx(config.replace_share, rel=0.05)
    assert busy.notes["stale_commands"] / len(commands) == pytest.approx(0.02, abs=0.005)
    assert 0.02 < busy.notes["trades"] / len(commands) < 0.06


def test_orders_arrive_as_a_poisson_process(busy):
    config = SyntheticConfig()
    times_ns = busy.commands["timestamp_ns"][busy.commands["kind"] == NEW]
    gaps = np.diff(times_ns)
    mean_ns = 1e9 / config.orders_per_second
    assert gaps.mean() == pytest.approx(mean_ns, rel=0.02)
    assert gaps.std() == pytest.approx(mean_ns, rel=0.03)
    assert np.median(gaps) == pytest.approx(mean_ns * np.log(2), rel=0.02)


def test_activity_follows_zipf(busy):
    new = busy.commands[busy.commands["kind"] == NEW]
    arrivals = np.bincount(new["symbol_id"])
    assert arrivals[0] / arrivals == pytest.approx(np.arange(1, 9), rel=0.05)


def lifetimes_of_bids(flow: Flow) -> tuple[np.ndarray, np.ndarray]:
    """Time from entry to cancel of the bids of a one-symbol flow whose mid-price stands still, and their depth."""
    entered: dict[int, Command] = {}
    cancelled = []
    for fields in COMMAND_STRUCT.iter_unpack(flow.commands.tobytes()):
        command = Command(*fields)
        if command.kind == NEW and command.time_in_force == TimeInForce.DAY and command.side == BUY:
            entered[command.order_id] = command
        elif command.kind == CANCEL and command.order_id in entered:
            order = entered.pop(command.order_id)
            cancelled.append((command.timestamp_ns - order.timestamp_ns, order.price_ticks))
    life_ns, price = np.array(cancelled).T
    return life_ns, price.max() - price


def test_lifetimes_have_the_median_and_the_tail_that_were_asked_for():
    still = {
        "symbols": 1,
        "move_share": 0.0,
        "replace_share": 0.0,
        "partial_cancel_share": 0.0,
        "cancel_share": 1.0,
    }
    life_ns, depth = lifetimes_of_bids(make(commands=300_000, **still))
    assert np.median(life_ns) == pytest.approx(SyntheticConfig().median_lifetime_ns, rel=0.1)
    assert np.percentile(life_ns, 99) > 20 * np.median(life_ns)
    near, deep = depth <= 3, depth >= 50
    assert np.median(life_ns[deep]) > 10 * np.median(life_ns[near])


def test_depth_falls_as_a_power_law():
    config = SyntheticConfig(commands=300_000, symbols=1, move_share=0.0, cancel_share=1.0)
    flow = load_flow("synthetic", synthetic=config)
    day = flow.commands[(flow.commands["kind"] == NEW) & (flow.commands["time_in_force"] == TimeInForce.DAY)]
    bids = day["price_ticks"][day["side"] == 0]
    depth = bids.max() - bids
    assert depth.max() <= config.depth_ticks_max
    cut = (config.depth_ticks_max + 2.0) ** -config.depth_exponent
    for ticks in (1, 3, 10, 30, 100):
        expected = ((1.0 + ticks) ** -config.depth_exponent - cut) / (1 - cut)
        assert (depth >= ticks).mean() == pytest.approx(expected, rel=0.05)


def test_the_book_neither_empties_nor_explodes(busy):
    assert 500 < busy.notes["live_orders"] < 5_000
    assert busy.notes["live_orders_max"] < 5_000


def test_the_oracle_book_sees_the_trades_and_the_rejects_that_the_model_foretells():
    flow = make(commands=60_000, seed=3, symbols=3)
    book = NaiveBook(len(flow.symbols), 100_000, 1, 2**36 - 1)
    kinds = dict.fromkeys(EventKind, 0)
    two_sided = 0
    for number, fields in enumerate(COMMAND_STRUCT.iter_unpack(flow.commands.tobytes())):
        for event in book.apply(Command(*fields)):
            kinds[EventKind(event.kind)] += 1
            if event.kind == EventKind.REJECTED:
                assert event.reason == Reason.UNKNOWN_ORDER
        if number > 5_000:
            two_sided += all(side.prices for side in book.symbols[0])
    assert kinds[EventKind.EXECUTED] == flow.notes["trades"]
    assert kinds[EventKind.REJECTED] == flow.notes["stale_commands"]
    assert len(book.orders) == flow.notes["live_orders"]
    assert two_sided == 54_999  # after the first moments the book of the busiest symbol always has two sides


def test_a_quiet_market_has_a_book_too():
    flow = make(commands=20_000, orders_per_second=50.0)
    assert flow.notes["live_orders"] > 10


def test_sides_and_sessions_are_even(busy):
    new = busy.commands[busy.commands["kind"] == NEW]
    assert new["side"].mean() == pytest.approx(0.5, abs=0.01)
    counts = np.bincount(new["session_id"], minlength=16)
    assert counts.min() > 0.9 * counts.mean()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"commands": -1}, "commands"),
        ({"seed": -1}, "seed"),
        ({"symbols": 0}, "symbols"),
        ({"symbols": 8193}, "symbols"),
        ({"sessions": 70_000}, "sessions"),
        ({"cancel_share": 1.5}, "cancel_share"),
        ({"stale_share": float("nan")}, "stale_share"),
        ({"orders_per_second": 0.0}, "orders_per_second"),
        ({"depth_ticks_max": 5_000}, "depth_ticks_max"),
        ({"lifetime_exponent": 0.0}, "lifetime_exponent"),
        ({"immediate_or_cancel_share": 0.7, "market_share": 0.7}, "immediate_or_cancel_share"),
    ],
)
def test_settings_out_of_range_are_named(settings, field):
    with pytest.raises(UserError, match=field):
        make(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"symbols": 1024, "zipf_exponent": 0.0},
        {"sessions": 65_536},
        {"orders_per_second": 1e8},
        {"orders_per_second": 1.0},
        {"cancel_share": 0.0},
        {"replace_share": 1.0, "stale_share": 1.0},
        {"immediate_or_cancel_share": 1.0, "market_share": 0.0},
        {"immediate_or_cancel_share": 0.0, "market_share": 1.0},
        {"move_share": 1.0, "depth_ticks_max": 1000},
        {"median_lifetime_ns": 10**12, "lifetime_exponent": 0.5, "depth_exponent": 0.1},
        {"median_lifetime_ns": 1_000, "lifetime_exponent": 10.0, "depth_exponent": 10.0},
        {"seed": 2**63 - 1},
    ],
)
def test_the_ends_of_the_ranges_work(settings):
    flow = make(commands=3_000, **settings)
    assert len(flow.commands) == 3_000
    assert (np.diff(flow.commands["timestamp_ns"]) >= 0).all()


def test_more_resting_orders_than_the_model_holds_is_an_error(monkeypatch):
    monkeypatch.setattr("exchange.flow.synthetic.CAPACITY_MAX", 16)
    with pytest.raises(UserError, match="more than 16 orders would rest at once"):
        make(commands=1_000)
