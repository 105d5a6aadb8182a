"""The scenarios: the same everywhere, with the shares and the regimes that they claim, and the same to every book."""

import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from exchange.cli_bench import FlowChoice, _load_flow, _model, bench
from exchange.errors import UserError
from exchange.flow import Flow, ScenarioConfig, SyntheticConfig, build_flow, load_flow
from exchange.flow.config import SCENARIOS
from exchange.flow.scenario import (
    HUMP_DEPTH,
    MEDIAN_LIFETIME_NS,
    PLACED_DTYPE,
    SWING_OF,
    build_scenario,
    orders_for,
    regimes_table,
)
from exchange.flow.scenario_kernel import place_orders
from exchange.flow.synthetic_market import RANDOM
from exchange.messages import (
    BUY,
    COMMAND_DTYPE,
    COMMAND_STRUCT,
    EVENT_DTYPE,
    Command,
    CommandKind,
    EventKind,
    OrderType,
    Reason,
    TimeInForce,
)
from tests.book_driver import BookDriver, first_difference

NEW, CANCEL, REPLACE = CommandKind.NEW, CommandKind.CANCEL, CommandKind.REPLACE
IMMEDIATE = TimeInForce.IMMEDIATE_OR_CANCEL
FLOW_PAGE = Path(__file__).parents[2] / "docs" / "layers" / "flow.md"

DIGESTS = {
    "static": "62f2e67360272e59",
    "normal": "20fb66f9ddf32d10",
    "swing-25": "1cb30b413bb0601d",
    "swing-40": "0607c8093f029f0b",
    "flash-crash": "9ab464165b227df7",
}
"""Of each scenario with two thousand orders: it is the same on every machine and stays so."""

each_scenario = pytest.mark.parametrize("name", SCENARIOS)


def make(name: str = "normal", **settings) -> Flow:
    return load_flow("synthetic", scenario=ScenarioConfig(scenario=name, **settings))


@pytest.fixture(scope="module")
def whole() -> dict[str, Flow]:
    """All five with default settings."""
    return {name: make(name) for name in SCENARIOS}


@pytest.fixture(scope="module")
def normal(whole) -> Flow:
    return whole["normal"]


def digest(flow: Flow) -> str:
    return sha256(flow.commands.tobytes()).hexdigest()[:16]


def records(flow: Flow) -> list[Command]:
    return [Command(*fields) for fields in COMMAND_STRUCT.iter_unpack(flow.commands.tobytes())]


def lives(flow: Flow) -> dict[int, list[Command]]:
    """The commands of each order in the order in which they were sent."""
    commands: dict[int, list[Command]] = {}
    for command in records(flow):
        commands.setdefault(command.order_id, []).append(command)
    return commands


def play(kind: str, flow: Flow) -> tuple[BookDriver, bytes]:
    """Apply a flow to a book of our own; the book and the bytes of its events."""
    commands = flow.commands.copy()
    commands["sequence"] = np.arange(1, len(commands) + 1)
    driver = BookDriver(kind, capacity_orders=65_536, price_max_ticks=(1 << 21) - 1)
    return driver, driver.play(commands, batch_commands=1024)


def decoded(events: bytes) -> np.ndarray:
    return np.frombuffer(events, EVENT_DTYPE)


@each_scenario
def test_a_seed_gives_the_same_commands_on_every_machine(name):
    assert digest(make(name, orders=2_000)) == DIGESTS[name]


def test_another_seed_gives_other_commands():
    assert digest(make(orders=1_000, seed=9)) == digest(make(orders=1_000, seed=9))
    assert digest(make(orders=1_000, seed=9)) != digest(make(orders=1_000, seed=10))


def test_the_interpreted_kernels_write_and_count_the_same():
    program = (
        "import hashlib; from exchange.flow import *; "
        "flow = build_flow(ScenarioConfig(scenario='swing-25', orders=2000)); "
        "print(hashlib.sha256(flow.commands.tobytes()).hexdigest()[:16], sorted(flow.notes.items()))"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    notes = sorted(make("swing-25", orders=2_000).notes.items())
    assert done.stdout.strip() == f"{DIGESTS['swing-25']} {notes}"


def test_the_scenarios_of_a_seed_differ_in_their_prices_only(whole):
    static = whole["static"].commands.copy()
    static["price_ticks"] = 0
    for name in SCENARIOS[1:]:
        other = whole[name].commands.copy()
        assert (other["price_ticks"] != whole["static"].commands["price_ticks"]).mean() > 0.4
        other["price_ticks"] = 0
        assert other.tobytes() == static.tobytes()


def test_every_command_is_well_formed(whole):
    for flow in whole.values():
        commands = flow.commands
        assert commands.dtype == COMMAND_DTYPE
        assert len(flow.expected_maker) == len(commands) == flow.notes["commands"]
        assert commands["timestamp_ns"][0] == 0
        assert (np.diff(commands["timestamp_ns"]) >= 0).all()
        assert set(np.unique(commands["kind"])) == {NEW, CANCEL, REPLACE}
        assert (commands["order_type"] == OrderType.LIMIT).all()
        cancels = commands["kind"] == CANCEL
        assert (commands["price_ticks"][~cancels] > 0).all()
        assert not commands["price_ticks"][cancels].any()
        assert not commands["quantity_lots"][cancels].any()
        assert not commands["time_in_force"][commands["kind"] != NEW].any()
        replaces = commands["kind"] == REPLACE
        assert (commands["new_order_id"] == np.where(replaces, commands["order_id"], 0)).all()
        for field in ("sequence", "liability_lots", "tag", "symbol_id"):
            assert not commands[field].any()
    assert len(flow.symbols) == 1


def test_every_command_names_an_order_that_was_sent_from_its_session_and_side():
    flow = make("swing-40", orders=60_000)
    shapes = set()
    for order_id, commands in lives(flow).items():
        first = commands[0]
        assert first.kind == NEW
        assert {(command.session_id, command.side) for command in commands} == {
            (first.session_id, first.side)
        }
        assert first.side == (order_id > 30_000)
        toward = 1 if first.side == BUY else -1
        replaces = [command for command in commands if command.kind == REPLACE]
        for command in replaces:
            assert command.quantity_lots == first.quantity_lots + 1
            assert command.price_ticks - first.price_ticks in (0, toward)
        assert len({(command.price_ticks, command.quantity_lots) for command in replaces}) <= 1
        letters = "".join(CommandKind(command.kind).name[0] for command in commands)
        shapes.add("I" + letters[1:] if first.time_in_force == IMMEDIATE else letters)
    assert shapes == {"I", "N", "NC", "NCC", "NR", "NRC", "NRCC", "NRCR", "NRCCR"}


def test_the_lives_follow_each_other(normal):
    """What the essay says of the time line: an order arrives when the one before it has ended."""
    commands = normal.commands
    changes = np.flatnonzero(np.diff(commands["order_id"])) + 1
    assert (commands["kind"][changes] == NEW).all()
    assert (np.diff(commands["timestamp_ns"])[changes - 1] == 1_000).all()
    assert len(changes) + 1 == normal.notes["orders"]


def test_the_shares_are_those_of_the_model(normal):
    commands, notes = normal.commands, normal.notes
    orders = notes["orders"]
    day = orders - notes["immediate_or_cancel_orders"]
    assert notes["immediate_or_cancel_orders"] / orders == pytest.approx(0.15, abs=0.002)
    assert notes["cancels"] / day == pytest.approx(0.95, abs=0.001)
    assert notes["replaces"] / day == pytest.approx(0.20, abs=0.002)
    assert notes["duplicate_cancels"] / notes["cancels"] == pytest.approx(0.02, abs=0.001)
    assert notes["stale_replaces"] / (0.95 * notes["replaces"]) == pytest.approx(0.02, abs=0.002)
    assert notes["commands"] / orders == pytest.approx(2.0, abs=0.01)
    kinds = np.bincount(commands["kind"])
    assert kinds[NEW] == orders == (np.sort(commands["order_id"][commands["kind"] == NEW])[-1])
    assert kinds[CANCEL] == notes["cancels"] + notes["duplicate_cancels"]
    assert kinds[REPLACE] == notes["replaces"] + notes["stale_replaces"]
    new = commands[commands["kind"] == NEW]
    assert (new["time_in_force"] == IMMEDIATE).sum() == notes["immediate_or_cancel_orders"]
    assert new["side"].mean() == 0.5
    lots = np.bincount(new["quantity_lots"], minlength=101)
    assert lots[0] == 0
    assert len(lots) == 101
    assert lots[1:] / orders == pytest.approx(0.01, rel=0.06)
    sessions = np.bincount(new["session_id"])
    assert len(sessions) == 16
    assert sessions / orders == pytest.approx(1 / 16, rel=0.02)


def test_four_replaces_in_five_move_the_price(normal):
    commands = normal.commands
    entered = np.zeros(normal.notes["orders"] + 1, np.int64)
    new, replaced = (commands[commands["kind"] == kind] for kind in (NEW, REPLACE))
    entered[new["order_id"]] = new["price_ticks"]
    moved = replaced["price_ticks"] != entered[replaced["order_id"]]
    assert moved.mean() == pytest.approx(0.8, abs=0.005)


def test_times_within_a_life(normal):
    commands = normal.commands
    after_ns = np.diff(commands["timestamp_ns"])
    before, kind = commands["kind"][:-1], commands["kind"][1:]
    same = commands["order_id"][:-1] == commands["order_id"][1:]
    replace_ns = after_ns[same & (before == NEW) & (kind == REPLACE)]
    repeat_ns = after_ns[same & (before == CANCEL)]
    for times_ns, least_ns, spread_ns in ((replace_ns, 30_000, 70_000), (repeat_ns, 1_000, 20_000)):
        assert times_ns.min() >= least_ns
        assert times_ns.max() < least_ns + spread_ns
        assert times_ns.mean() == pytest.approx(least_ns + spread_ns / 2, rel=0.02)


def test_lifetimes_are_exponential_and_grow_with_the_depth(whole):
    commands = whole["static"].commands
    is_cancel_of_new = (commands["kind"][1:] == CANCEL) & (commands["kind"][:-1] == NEW)
    new = commands[:-1][is_cancel_of_new]
    life_ns = np.diff(commands["timestamp_ns"])[is_cancel_of_new]
    depth = np.abs(new["price_ticks"] - 33_504) - 1
    for ticks in (0, 6, 8, 10):
        lives_ns = life_ns[depth == ticks]
        median_ns = MEDIAN_LIFETIME_NS * (1 + ticks) ** 0.5
        assert np.median(lives_ns) == pytest.approx(median_ns, rel=0.03)
        assert lives_ns.mean() == pytest.approx(median_ns / np.log(2), rel=0.03)
        assert lives_ns.std() == pytest.approx(median_ns / np.log(2), rel=0.03)


def test_depths_have_the_power_law_and_the_hump(whole):
    commands = whole["static"].commands
    new = commands[commands["kind"] == NEW]
    signed = np.where(new["side"] == BUY, 33_504 - new["price_ticks"], new["price_ticks"] - 33_504)
    share = np.bincount(signed - 1, minlength=800) / len(new)
    assert signed.min() == 1
    assert len(share) == 800
    depths = np.arange(800)
    expected = (depths + 1.0) ** -2.23 + 5 * np.exp(-((depths - HUMP_DEPTH) ** 2) / 2)
    expected /= expected.sum()
    assert share[:13] == pytest.approx(expected[:13], rel=0.05)
    for ticks in (20, 50, 100):
        assert share[ticks:].sum() == pytest.approx(expected[ticks:].sum(), rel=0.15)


@each_scenario
def test_the_walk_ends_as_far_away_as_the_swing_says(name):
    scenario, swing = build_scenario(ScenarioConfig(scenario=name, orders=1_000)), SWING_OF[name]
    placed, ends = np.zeros(1_000, PLACED_DTYPE), []
    for seed in range(2_000):
        scenario.words[RANDOM] = seed
        place_orders(scenario, placed)
        ends.append(np.log((placed["price_ticks"][-1] - placed["depth"][-1] - 1) / 33_504))
    assert np.std(ends) == pytest.approx(swing, rel=0.05)
    assert np.mean(ends) == pytest.approx(-(swing**2) / 2, abs=3 * swing / 2_000**0.5)


def test_buys_come_from_the_first_half_of_the_walk():
    placed = np.zeros(10_000, PLACED_DTYPE)
    place_orders(build_scenario(ScenarioConfig(scenario="swing-25", orders=10_000)), placed)
    distance = 1 + placed["depth"].astype(np.int64)
    mid = placed["price_ticks"] + np.where(np.arange(10_000) < 5_000, distance, -distance)
    assert np.abs(np.diff(mid)).max() < 5 * 0.0025 * mid.max()  # no jump where the sides change


def test_a_walk_that_would_leave_the_range_is_held(monkeypatch):
    monkeypatch.setitem(SWING_OF, "flash-crash", 3.0)
    for seed in range(20):
        flow = make("flash-crash", orders=1_000, seed=seed)
        assert flow.notes["price_lowest_ticks"] >= 1
        assert flow.notes["price_highest_ticks"] <= (1 << 20) + 801


def test_the_arrivals_are_shuffled(normal):
    new = normal.commands[normal.commands["kind"] == NEW]
    ids = new["order_id"]
    assert (np.sort(ids) == np.arange(1, len(ids) + 1)).all()
    position = np.arange(len(ids))
    assert abs(np.corrcoef(position, ids)[0, 1]) < 0.005
    assert abs(np.corrcoef(ids[:-1], ids[1:])[0, 1]) < 0.005
    quarters = new["side"].reshape(4, -1).mean(axis=1)
    assert quarters == pytest.approx(0.5, abs=0.005)


def test_the_regimes_are_those_that_the_scenarios_are_named_for(whole):
    notes = {name: flow.notes for name, flow in whole.items()}
    ticks = {name: note["price_highest_ticks"] - note["price_lowest_ticks"] for name, note in notes.items()}
    assert 20_000 <= notes["static"]["live_orders_mean"] < notes["static"]["live_orders_max"] <= 44_000
    assert 55 <= notes["static"]["price_levels_mean"] < notes["static"]["price_levels_max"] <= 95
    assert notes["static"]["trades"] < 1_500
    assert 2_500 <= notes["normal"]["live_orders_mean"] < notes["normal"]["live_orders_max"] <= 6_500
    assert 270 <= notes["normal"]["price_levels_mean"] < notes["normal"]["price_levels_max"] <= 400
    assert 1_000 <= notes["flash-crash"]["price_levels_max"] <= 1_800
    assert ticks["flash-crash"] > 20_000
    assert ticks["static"] < ticks["normal"] < ticks["swing-25"] < ticks["swing-40"] < ticks["flash-crash"]
    deep = [note["live_orders_max"] for note in notes.values()]
    assert deep == sorted(deep, reverse=True)
    assert all(60_000 < notes[name]["trades"] < 75_000 for name in SCENARIOS[1:])


@each_scenario
def test_the_ladder_does_with_a_whole_scenario_what_the_notes_foretell(whole, name):
    flow = whole[name]
    driver, events = play("ladder", flow)
    kinds = np.bincount(decoded(events)["kind"], minlength=7)
    assert kinds[EventKind.EXECUTED] == flow.notes["trades"]
    assert kinds[EventKind.REJECTED] == flow.notes["rejects"]
    refused = decoded(events)[decoded(events)["kind"] == EventKind.REJECTED]
    assert (refused["reason"] == Reason.UNKNOWN_ORDER).all()
    assert driver.live_order_count() == flow.notes["live_orders"]
    assert len(driver.orders()) == flow.notes["live_orders"]


@each_scenario
def test_the_naive_book_and_the_ladder_agree(name):
    flow = make(name, orders=5_000, order_ids="arbitrary")
    (_, naive), (_, ladder) = play("naive", flow), play("ladder", flow)
    commands = flow.commands.copy()
    commands["sequence"] = np.arange(1, len(commands) + 1)
    assert naive == ladder, first_difference(commands, naive, ladder)


@each_scenario
def test_what_the_notes_say_of_the_book_is_what_the_naive_book_holds(name):
    flow = make(name, orders=2_000)
    driver = BookDriver("naive", capacity_orders=4_096, price_max_ticks=(1 << 21) - 1)
    resting, bid_levels, ask_levels = [], [], []
    for command in records(flow):
        driver.apply(command)
        levels = {(order.side, order.price_ticks) for order in driver.orders()}
        resting.append(driver.live_order_count())
        bid_levels.append(sum(side == BUY for side, _ in levels))
        ask_levels.append(len(levels) - bid_levels[-1])
    levels = np.add(bid_levels, ask_levels)
    notes = flow.notes
    assert (notes["live_orders"], notes["live_orders_max"]) == (resting[-1], max(resting))
    assert (notes["bid_levels_max"], notes["ask_levels_max"]) == (max(bid_levels), max(ask_levels))
    assert notes["price_levels_max"] == levels.max()
    assert notes["live_orders_mean"] == sum(resting) // len(resting)
    assert notes["price_levels_mean"] == int(levels.sum()) // len(levels)


@pytest.mark.parametrize("order_ids", ["arrival", "arbitrary"])
def test_other_ids_are_a_renaming(order_ids):
    one, other = make("swing-25", orders=20_000), make("swing-25", orders=20_000, order_ids=order_ids)
    pairs = set(zip(one.commands["order_id"].tolist(), other.commands["order_id"].tolist(), strict=True))
    names = dict(pairs)
    assert len(pairs) == len(names) == len(set(names.values())) == 20_000
    assert one.notes == other.notes
    (_, left), (_, right) = play("ladder", one), play("ladder", other)
    expected = decoded(left).copy()
    for field in ("order_id", "other_order_id"):
        expected[field] = [names.get(order_id, 0) for order_id in expected[field].tolist()]
    assert (expected == decoded(right)).all()


def test_ids_as_they_arrive_and_ids_of_any_pattern():
    arrival, arbitrary = (make(orders=5_000, order_ids=kind).commands for kind in ("arrival", "arbitrary"))
    assert arrival["order_id"][arrival["kind"] == NEW].tolist() == list(range(1, 5_001))
    ids = arbitrary["order_id"][arbitrary["kind"] == NEW]
    assert (ids < 0).mean() == pytest.approx(0.5, abs=0.03)
    bits = (ids[:, None] >> np.arange(64) & 1).mean(axis=0)
    assert bits == pytest.approx(0.5, abs=0.04)


def test_the_page_shows_the_regimes_as_they_are(whole):
    assert regimes_table(whole.values()) in FLOW_PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"scenario": "calm"}, "scenario"),
        ({"orders": 999}, "orders"),
        ({"orders": 2**25}, "orders"),
        ({"seed": -1}, "seed"),
        ({"order_ids": "dense"}, "order_ids"),
        ({"sessions": 0}, "sessions"),
        ({"sessions": 65_537}, "sessions"),
    ],
)
def test_settings_out_of_range_are_named(settings, field):
    with pytest.raises(UserError, match=rf"^scenario flow: [^\n]*{field}[^\n]*$"):
        build_flow(ScenarioConfig(**settings))


@pytest.mark.parametrize(
    "settings", [{"seed": 2**63 - 1}, {"seed": 0}, {"sessions": 1}, {"sessions": 65_536}, {"orders": 1_001}]
)
def test_the_ends_of_the_ranges_work(settings):
    flow = make("flash-crash", **({"orders": 1_000} | settings))
    assert (np.diff(flow.commands["timestamp_ns"]) >= 0).all()
    assert flow.commands["session_id"].max() < settings.get("sessions", 16)


def test_a_scenario_stands_alone():
    for source, synthetic in (("synthetic", SyntheticConfig()), ("day.itch", None)):
        with pytest.raises(UserError, match="scenario normal"):
            load_flow(source, scenario=ScenarioConfig(), synthetic=synthetic)


@pytest.mark.parametrize("commands", [2, 100, 5_000, 250_001])
def test_a_scenario_is_sized_for_a_number_of_commands(commands):
    for seed in range(20):
        flow = make(orders=orders_for(commands), seed=seed)
        assert commands <= len(flow.commands) < 1.01 * commands + 10 * commands**0.5 + 2_100


def test_the_command_line_makes_and_cuts_a_scenario():
    choice = FlowChoice(scenario="swing-40", commands=6_000)
    model = _model(choice, 6_000, 500_000)
    assert model == ScenarioConfig(scenario="swing-40", orders=orders_for(6_000))
    assert len(_load_flow(choice, model, 6_000).commands) == 6_000
    assert _model(FlowChoice(scenario="static", seed=5), None, 500_000) == ScenarioConfig("static", seed=5)
    assert _model(FlowChoice(), None, 500_000) == SyntheticConfig(commands=500_000)
    assert _model(FlowChoice(seed=3, symbols=2), 4_000, 500_000) == SyntheticConfig(4_000, 3, 2)
    assert _model(FlowChoice(source="day.itch"), None, 500_000) is None


def test_the_command_line_offers_every_scenario():
    [option] = [option for option in bench.params if option.name == "scenario"]
    assert tuple(option.type.choices) == SCENARIOS


@pytest.mark.parametrize("more", [["--flow", "day.itch"], ["--symbols", "3"]])
def test_the_command_line_refuses_a_second_flow(more):
    done = CliRunner().invoke(bench, ["lockfree", "--scenario", "static", *more])
    assert isinstance(done.exception, UserError)
    assert re.match(rf"{more[0]} {more[1]}: not together with --scenario static[^\n]*$", str(done.exception))
