"""Seeded random flows for comparing books: each seed is a market of its own, from sane to absurd.

A seed picks a regime (how many symbols, prices, ids and orders; how far apart the prices lie; what share of the
commands is nonsense) and then the commands. Ids and prices come from small sets, so that hits, collisions and crosses
are frequent. The books are compared on what they answer, so a flow need not make sense, only reach every corner.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.messages import ALL_SYMBOLS, COMMAND_DTYPE, CommandKind, Reason

PRICE_TICKS_MAX: Final = 2**36 - 1
SPACINGS_TICKS: Final = (1, 1, 1, 3, 63, 64, 65, 4095, 4096, 1 << 18, 1 << 24, 1 << 30)


@dataclass(frozen=True)
class Regime:
    """What kind of market a seed stands for."""

    symbol_count: int
    session_count: int
    capacity_orders: int
    price_min_ticks: int
    price_max_ticks: int
    price_count: int
    spacing_ticks: int
    id_count: int
    counted_ids: bool
    spread_steps: int
    drift: bool
    new_share: float
    immediate_share: float
    nonsense_share: float
    batch_commands: int


def regime_of_seed(random: np.random.Generator) -> Regime:
    """A market, drawn."""
    spacing_ticks = int(random.choice(SPACINGS_TICKS))
    price_count = int(random.choice([1, 2, 5, 20, 200]))
    spread_steps = int(random.choice([0, price_count // 2, price_count - 1, price_count, price_count]))
    width = min(
        (price_count + spread_steps) * spacing_ticks + int(random.integers(0, 70)), PRICE_TICKS_MAX - 1
    )
    price_min_ticks = int(random.choice([1, 1 + int(random.integers(0, 1000)), PRICE_TICKS_MAX - width]))
    narrow = random.random() < 0.5
    return Regime(
        symbol_count=int(random.integers(1, 5)),
        session_count=int(random.integers(1, 5)),
        capacity_orders=int(random.choice([2, 20, 100, 400, 3000, 3000])),
        price_min_ticks=price_min_ticks if narrow else 1,
        price_max_ticks=min(price_min_ticks + width, PRICE_TICKS_MAX) if narrow else PRICE_TICKS_MAX,
        price_count=price_count,
        spacing_ticks=spacing_ticks,
        id_count=int(random.choice([6, 100, 1000, 3000, 10_000])),
        counted_ids=bool(random.random() < 0.5),
        spread_steps=spread_steps,
        drift=bool(random.random() < 0.3),
        new_share=float(random.choice([0.4, 0.5, 0.6])),
        immediate_share=float(random.choice([0.0, 0.05, 0.3])),
        nonsense_share=float(random.choice([0.0, 0.01, 0.1])),
        batch_commands=int(random.choice([1, 3, 16, 256, 1000])),
    )


def random_flow(seed: int, command_count: int) -> tuple[Regime, NDArray[Any]]:
    """The regime of ``seed`` and ``command_count`` commands of it, stamped."""
    random = np.random.default_rng(seed)
    regime = regime_of_seed(random)
    commands = np.zeros(command_count, COMMAND_DTYPE)
    other = (1 - regime.new_share) / 2
    kinds = [CommandKind.NEW, CommandKind.CANCEL, CommandKind.REPLACE, CommandKind.MASS_CANCEL]
    mass_share = float(random.choice([0.0002, 0.0002, 0.01]))
    shares = [regime.new_share - mass_share, other, other, mass_share]
    commands["kind"] = random.choice([int(kind) for kind in kinds], command_count, p=shares)
    commands["side"] = random.integers(0, 2, command_count)
    commands["time_in_force"] = random.random(command_count) < regime.immediate_share
    commands["order_type"] = random.random(command_count) < regime.immediate_share / 3
    commands["symbol_id"] = random.integers(0, regime.symbol_count, command_count)
    commands["session_id"] = random.integers(0, regime.session_count, command_count)
    commands["price_ticks"] = _prices(random, regime, commands["side"])
    commands["quantity_lots"] = random.integers(1, 50, command_count)
    by_operator = (commands["kind"] == CommandKind.MASS_CANCEL) & (commands["quantity_lots"] % 2 == 0)
    commands["quantity_lots"][by_operator] = Reason.BY_OPERATOR
    partial = random.random(command_count) < 0.5
    commands["quantity_lots"][(commands["kind"] == CommandKind.CANCEL) & partial] = 0
    _draw_ids(random, regime, commands)
    _add_nonsense(random, regime, commands)
    commands["sequence"] = np.arange(1, command_count + 1)
    commands["timestamp_ns"] = np.arange(command_count) * 1000
    return regime, commands


def _prices(random: np.random.Generator, regime: Regime, sides: NDArray[Any]) -> NDArray[np.int64]:
    count = len(sides)
    steps = random.integers(0, regime.price_count, count) + sides * regime.spread_steps
    if regime.drift:  # the market walks about
        steps = steps + np.abs(np.cumsum(random.integers(-1, 2, count)))
    jitter = random.integers(0, 2, count)
    width = regime.price_max_ticks - regime.price_min_ticks + 1
    prices: NDArray[np.int64] = regime.price_min_ticks + (steps * regime.spacing_ticks + jitter) % width
    return prices


def _draw_ids(random: np.random.Generator, regime: Regime, commands: NDArray[Any]) -> None:
    count = len(commands)
    if regime.counted_ids:  # a new id for each order; cancels and replaces name a recent one
        commands["order_id"] = commands["new_order_id"] = np.arange(count)
        not_new = commands["kind"] != CommandKind.NEW
        commands["order_id"][not_new] -= random.geometric(1 / regime.id_count, count)[not_new]
    else:
        ids = random.integers(-(2**63), 2**63, regime.id_count)
        commands["order_id"] = random.choice(ids, count)
        commands["new_order_id"] = random.choice(ids, count)
    same = random.random(count) < 0.4
    commands["new_order_id"][same] = commands["order_id"][same]


def aim_at_live_orders(random: np.random.Generator, commands: NDArray[Any], live: NDArray[np.int64]) -> None:
    """Let most cancels and replaces name an order that lives, and its owner: left to chance they nearly all miss.

    Args:
        random: where chance comes from.
        commands: the next commands, which are changed.
        live: shape (n, 4): symbol, session, id and price of each live order.
    """
    aimed = np.flatnonzero(np.isin(commands["kind"], [CommandKind.CANCEL, CommandKind.REPLACE]))
    aimed = aimed[random.random(len(aimed)) < 0.8]
    if not len(live) or not len(aimed):
        return
    targets = live[random.integers(0, len(live), len(aimed))]
    commands["symbol_id"][aimed], commands["session_id"][aimed] = targets[:, 0], targets[:, 1]
    commands["order_id"][aimed] = targets[:, 2]
    keep_price, keep_id = random.random((2, len(aimed))) < 0.3
    commands["price_ticks"][aimed[keep_price]] = targets[keep_price, 3]
    commands["new_order_id"][aimed[keep_id]] = targets[keep_id, 2]


def _add_nonsense(random: np.random.Generator, regime: Regime, commands: NDArray[Any]) -> None:
    """Let a share of the commands have one or several fields that are wrong, extreme or not theirs."""
    count = len(commands)
    for field, values in {
        "kind": list(range(256)),
        "side": list(range(256)),
        "time_in_force": [2, 7, 128, 255],
        "order_type": [2, 7, 128, 255],
        "symbol_id": [regime.symbol_count, 0xFFFE, ALL_SYMBOLS],
        "quantity_lots": [0, 0, 1, 2**31, 2**32 - 1],
        "price_ticks": [0, -1, -(2**63), 2**63 - 1, regime.price_min_ticks - 1, regime.price_max_ticks + 1],
        "order_id": [0, -1, -(2**63), 2**63 - 1],
        "liability_lots": [1, 3, 10, 100, 2**32 - 1],
        "tag": [-1, 5],
    }.items():
        wrong = random.random(count) < regime.nonsense_share / 4
        commands[field][wrong] = random.choice(np.array(values, commands.dtype[field]), int(wrong.sum()))
    everywhere = (commands["kind"] == CommandKind.MASS_CANCEL) & (random.random(count) < 0.3)
    commands["symbol_id"][everywhere] = ALL_SYMBOLS
