"""Five scenarios: one model of a busy day in one share, from a price that stands still to a flash crash.

The scenarios are those of the "matching engine algorithm performance challenge" (Flash One Technologies, 2026:
``docs/METHODOLOGY.md`` and ``workload/generator.cpp`` of github.com/flash1-dev/matching-engine-benchmark). This is
an independent implementation of the model as it is published there, in integers and with another random source:
the regimes can be compared with published ones, the single orders cannot.

**The walk.** The mid-price of a share at 167.52 dollars, in ticks of half a cent, is a geometric Brownian motion of
as many steps as there are orders. It is scaled so that the standard deviation of its logarithm at the end is the
scenario's *swing*, whatever the number of orders.

**Placement.** One order at each step: the buys along the first half of the walk, the sells along the second. An
order stands ``1 + k`` ticks from the mid, on its own side; depth *k* (0 to 799) has the weight ``(k + 1)**-2.23 + 5
exp(-(k - 8)**2 / 2)``: a power law with a hump eight ticks out. Quantities are uniform from 1 to 100. Then the
sequence of all orders is shuffled, and that is where trades come from: a buy from a time when the price was high
meets a sell from a time when it was low.

**Lives.** 15 % of the orders are immediate-or-cancel. Of the others, 20 % are replaced once, after 30 to 100
microseconds: by one lot more, and four times in five also by a price one tick nearer to the other side. The id
stays, the place in the queue is lost. 95 % of them, replaced or not, are cancelled after an exponential lifetime
with a median of 0.431 ms times ``sqrt(1 + k)``. The others stay until they trade, or for good. 2 % of the cancels
are sent a second time, and so are 2 % of the replaces whose order was cancelled: too late, as the order is gone. A
cancel or a replace is also sent if its order has traded. All of these are rejected.

**The time line is serial.** In the published construction the next order arrives one microsecond after the end of
the one before: after its cancel, not after its arrival. So two fleeting orders never stand in the book at once, and
the stable sort by time, with which the published construction ends, has nothing to sort; there is none here. What
rests in the book is what the 4 % of the orders left behind that nobody cancels, and at most one order more. Lifetimes
decide the times of the commands and nothing else, and at full speed each cancel follows its order at once, while
everything that it touches is still in the first-level cache. A real market is not like this, and ``synthetic``, with
many lives at once, is closer to it. The construction is kept because figures are compared over it. What is left to be
hard: each order's price is anywhere in the walk and its id anywhere among all ids, and one command in forty names
an id that the book must look for and not find. What hardly occurs: a cancel out of the middle of a long queue of
others that come and go.

=========== ========== ===== ===========================================================================================
scenario    volatility swing what it stresses
=========== ========== ===== ===========================================================================================
static      0          0 %   many orders at few prices: the memory of resting orders; nearly no trades
normal      0.15       2 %   a few thousand orders at a few hundred prices, and many trades
swing-25    0.50       25 %  prices far apart: levels that come and go, and the search for the next best one
swing-40    0.50       40 %  the same, further apart
flash-crash 0.50       60 %  tens of thousands of ticks: whatever pays for the prices at which nobody stands
=========== ========== ===== ===========================================================================================

Volatility and swing are the published parameters; only the swing shows in the flow. How many orders rest, and at how
many prices, depends on the realisation: where the two halves of the walk do not overlap, what one leaves behind stays
out of the other's reach. The default seed was chosen, among some hundreds, for regimes like the published ones;
``python -m exchange.flow.scenario`` prints them. They also depend on the number of orders: half as many leave about
half as many behind.

``order_ids`` says what the ids look like, and nothing else depends on it:

* ``shuffled``, as published: 1 to the number of orders, given out before the shuffle, so they come in random order.
* ``arrival``: 1, 2, 3 ... as they come, as a gateway would number them.
* ``arbitrary``: any 64 bits, half of them negative, for an engine that does not rely on dense ids.

Symbol 0 is the only one. Each order belongs to one of ``sessions`` sessions, drawn evenly, from which all its commands
come (the published model has none). Times are in nanoseconds.
"""

from collections.abc import Iterable
from math import isqrt
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.flow import Flow, build_flow, scenario_book
from exchange.flow.config import SCENARIO_ORDERS_MIN, SCENARIOS, ScenarioConfig
from exchange.flow.scenario_kernel import (
    COMMANDS,
    COMMANDS_PER_ORDER_MAX,
    COUNTS,
    DEPTH_BITS,
    GUIDE_BITS,
    PLACED_DTYPE,
    STEP_FRACTION_BITS,
    STRETCH_BITS,
    Scenario,
    fill_with_words,
    place_orders,
    shuffle,
    write_lives,
)
from exchange.flow.synthetic_market import RANDOM, SHARE_BITS, TABLE_BITS
from exchange.flow.synthetic_market import WORDS as SOURCE_WORDS
from exchange.messages import COMMAND_DTYPE, CommandKind

SWING_OF: Final = {"static": 0.0, "normal": 0.02, "swing-25": 0.25, "swing-40": 0.40, "flash-crash": 0.60}
"""Standard deviation of the logarithm of the mid-price over the whole walk. With the published volatility v and step
``(swing / v)**2 / orders``, a step has the standard deviation ``swing / sqrt(orders)``: v cancels out."""

START_TICKS: Final = 33_504
LOTS_MAX: Final = 100
DEPTHS: Final = 800
DEPTH_EXPONENT: Final = 2.23
HUMP_WEIGHT: Final = 5.0
HUMP_DEPTH: Final = 8.0

IMMEDIATE_SHARE: Final = 0.15
REPLACE_SHARE: Final = 0.20
REPRICE_SHARE: Final = 0.80
CANCEL_SHARE: Final = 0.95
REPEAT_SHARE: Final = 0.02

MEDIAN_LIFETIME_NS: Final = 431_000
REPLACE_AFTER_NS, REPLACE_SPREAD_NS = 30_000, 70_000
REPEAT_AFTER_NS, REPEAT_SPREAD_NS = 1_000, 20_000
PAUSE_NS: Final = 1_000

POINTS: Final = 1 << TABLE_BITS


def scenario_flow(config: ScenarioConfig) -> Flow:
    """Make one of the five scenarios, and count what it does to a book.

    ``notes``: commands by kind (``cancels`` and ``replaces`` without the repeated ones), and what
    :func:`exchange.flow.scenario_book.play` counts.
    """
    scenario = build_scenario(config)
    placed = np.zeros(config.orders, PLACED_DTYPE)
    place_orders(scenario, placed)
    arrivals = np.arange(config.orders, dtype=np.int32)
    shuffle(scenario, arrivals)
    room = np.zeros(config.orders * COMMANDS_PER_ORDER_MAX, COMMAND_DTYPE)
    counts = np.zeros(len(COUNTS), np.int64)
    write_lives(scenario, placed, arrivals, room, counts)
    commands = room[: counts[COMMANDS]]
    notes = {"orders": config.orders} | dict(zip(COUNTS, counts.tolist(), strict=True))
    notes |= scenario_book.play(commands, config.orders)
    if config.order_ids != "shuffled":
        _rename(commands, _names(config, scenario, arrivals))
    return Flow(
        commands=commands,
        name=config.scenario,
        description=(
            f"scenario {config.scenario}: {len(commands):,} commands, {config.orders:,} orders with {config.order_ids} "
            f"ids, seed {config.seed}: {notes['trades']:,} trades, at most {notes['live_orders_max']:,} orders "
            f"resting and {notes['price_levels_max']:,} price levels"
        ),
        symbols=("SYM000",),
        notes=notes,
        expected_maker=np.zeros(len(commands), np.int64),
    )


def orders_for(commands: int) -> int:
    """So many orders that they send at least ``commands`` commands, and not many more.

    The number of commands of an order has a standard deviation of less than 0.8, and the margin is seven standard
    deviations of the number of commands of all.
    """
    kept = 1 - IMMEDIATE_SHARE
    cancels = CANCEL_SHARE * (1 + REPEAT_SHARE)
    replaces = REPLACE_SHARE * (1 + CANCEL_SHARE * REPEAT_SHARE)
    mean = 1 + kept * (cancels + replaces)
    return max(SCENARIO_ORDERS_MIN, round(commands / mean) + 2 * isqrt(commands) + 1)


def build_scenario(config: ScenarioConfig) -> Scenario:
    """The model as integers and tables, as the kernels want them."""
    ends = _depth_ends()
    guide = np.searchsorted(ends, np.arange(1 << GUIDE_BITS) << DEPTH_BITS - GUIDE_BITS, side="right")
    words = np.zeros(SOURCE_WORDS, np.int64)
    words[RANDOM] = config.seed
    return Scenario(
        step_of=_step_table(SWING_OF[config.scenario] / config.orders**0.5),
        lifetime_of=_lifetime_table(),
        stretch_of=_rounded(np.sqrt(1.0 + np.arange(DEPTHS)) * (1 << STRETCH_BITS)),
        depth_ends=ends,
        depth_guide=guide.astype(np.int64),
        words=words,
        start_ticks=START_TICKS,
        lots_max=LOTS_MAX,
        sessions=config.sessions,
        immediate_share=_fixed(IMMEDIATE_SHARE),
        replace_share=_fixed(REPLACE_SHARE),
        reprice_share=_fixed(REPRICE_SHARE),
        cancel_share=_fixed(CANCEL_SHARE),
        repeat_share=_fixed(REPEAT_SHARE),
        replace_after_ns=REPLACE_AFTER_NS,
        replace_spread_ns=REPLACE_SPREAD_NS,
        repeat_after_ns=REPEAT_AFTER_NS,
        repeat_spread_ns=REPEAT_SPREAD_NS,
        pause_ns=PAUSE_NS,
    )


def _fixed(share: float) -> int:
    """A share of 1 in 1/65,536."""
    return round(share * (1 << SHARE_BITS))


def _depth_ends() -> NDArray[np.int64]:
    """By depth, the share of orders that is not deeper; the last is everything."""
    depths = np.arange(DEPTHS)
    weights = (depths + 1.0) ** -DEPTH_EXPONENT + HUMP_WEIGHT * np.exp(-((depths - HUMP_DEPTH) ** 2) / 2)
    ends = np.cumsum(weights)
    return _rounded(ends / ends[-1] * (1 << DEPTH_BITS))


def _step_table(deviation: float) -> NDArray[np.int64]:
    """Quantiles of a normal distribution about 0, scaled so that with the straight pieces between them it
    has the standard deviation ``deviation``."""
    normal = NormalDist()
    inside = [normal.inv_cdf(point / POINTS) for point in range(1, POINTS)]
    end = normal.inv_cdf(1 - 1 / (4 * POINTS))
    steps = np.array([-end, *inside, end])
    low, high = steps[:-1], steps[1:]
    variance = float(((low * low + low * high + high * high) / 3).mean())
    return _rounded(steps * (deviation / variance**0.5 * (1 << STEP_FRACTION_BITS)))


def _lifetime_table() -> NDArray[np.int64]:
    """Quantiles of the exponential distribution with the median wanted."""
    tail = 1 - np.arange(POINTS + 1) / POINTS
    tail[-1] = 1 / (4 * POINTS)
    return _rounded(-np.log2(tail) * MEDIAN_LIFETIME_NS)


def _rounded(table: Any) -> NDArray[np.int64]:
    """A table as integers; here ends all that is not one."""
    whole: NDArray[np.int64] = np.rint(table).astype(np.int64)
    return whole


def _names(config: ScenarioConfig, scenario: Scenario, arrivals: NDArray[np.int32]) -> NDArray[np.int64]:
    """The ids that a client sees, by the order's index before the shuffle; not for ids that are left as they are."""
    names = np.zeros(config.orders, np.int64)
    if config.order_ids == "arrival":
        names[arrivals] = np.arange(1, config.orders + 1)
    else:
        fill_with_words(scenario, names)
    return names


def _rename(commands: NDArray[np.void], names: NDArray[np.int64]) -> None:
    """Give the orders their names; until here order ``i`` is called ``i + 1``."""
    commands["order_id"] = names[commands["order_id"] - 1]
    replaces = commands["kind"] == CommandKind.REPLACE
    commands["new_order_id"][replaces] = commands["order_id"][replaces]


def regimes_table(flows: Iterable[Flow]) -> str:
    """What scenarios do to a book, as a table in Markdown with a row for each."""
    rows = [
        "| scenario | commands | trades | rejects | orders resting, mean / most | price levels, mean / most | ticks |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for flow in flows:
        notes = flow.notes
        ticks = notes["price_highest_ticks"] - notes["price_lowest_ticks"] + 1
        rows.append(
            f"| `{flow.name}` | {notes['commands']:,} | {notes['trades']:,} | {notes['rejects']:,} "
            f"| {notes['live_orders_mean']:,} / {notes['live_orders_max']:,} "
            f"| {notes['price_levels_mean']:,} / {notes['price_levels_max']:,} | {ticks:,} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    print(regimes_table(build_flow(ScenarioConfig(scenario=name)) for name in SCENARIOS))
