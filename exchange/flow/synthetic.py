"""The synthetic flow: a seeded model of a busy market, of any length, the same on every machine.

A matching engine is fast or slow depending on what it is given. Uniformly random orders would be too easy in
one way (no order is ever cancelled before the cache has forgotten it) and too hard in another (the book fills
without end). So the model follows what has been measured in real markets; every number is a field of
:class:`~exchange.flow.config.SyntheticConfig`.

**Arrivals.** New orders come as a Poisson process. The k-th symbol's share of them falls as ``1 /
k**zipf_exponent`` (Zipf's law): some shards are busy, others are not. Buy and sell are equally likely.

**Mid-price.** Each symbol has a reference bid, and one tick above it a reference ask. It makes a random walk:
a new order moves it by one tick with probability ``move_share``, before it is placed. Orders that were near
the touch are then on the wrong side of it, and the next orders trade with them: they are picked off.

**Depth.** A resting order is placed d ticks behind its side's reference price; the share placed deeper than d
falls as ``(1 + d)**-depth_exponent``, up to ``depth_ticks_max``. Bouchaud, Mézard and Potters found a power
law around the current price with so small an exponent (0.6) that its mean diverges, in Paris; Zovko and
Farmer an exponent of about 1.5, from a few ticks to two thousand, in London.

**Lifetimes.** Nearly all orders are cancelled, most at once ("fleeting orders": Hasbrouck and Saar). A share
``cancel_share`` of the resting orders gets a lifetime with the median ``median_lifetime_ns`` and a heavy
tail, the share of those that live longer than t falling as ``t**-lifetime_exponent`` (Eisler, Kertész, Lillo
and Mantegna measured densities that fall with exponents 1.9 to 2.4, which is 0.9 to 1.4 for the share): a
Lomax distribution, multiplied by ``1 + d`` so that deeper orders live longer. The others are placed at the
touch and wait there to trade, many times as long. At the end of its time an order is cancelled, now and then
only half of it, or replaced (``replace_share``): half of the replaces move the price by one tick under a new
id, a quarter each ask for 100 lots more (new id, place in the queue lost) or for half as many (same id, place
kept). A replaced order starts again.

**Takers.** Some orders are immediate-or-cancel; ``aimed_share`` of them are priced at the other side's
reference and usually trade, the others at their own, probing for orders that are not displayed, and usually
do not. A few are market orders.

**Mistakes.** After the end of an order, traded or cancelled, one more command that names it may come
(``stale_share``), because it was under way already: two duplicate cancels for each late replace. With the
defaults that is about one command in fifty, all of them rejected.

**Sizes.** Half of the orders have 100 lots, most others less or small multiples, few are large, roughly as in
a recorded hour of a liquid NASDAQ stock.

The model keeps a book of its own, so that its participants know their fills. That also says what is to be
expected from the engine: ``notes`` counts trades and the orders that rest at the end, exactly.

Prices are in cents: symbol k's band begins at 10 + 25 k dollars and is 40.96 dollars wide. Order ids are 1,
2, 3 ... in the order of their first use, over all symbols. The same settings and seed give the same bytes.

Sources: J.-P. Bouchaud, M. Mézard, M. Potters, "Statistical properties of stock order books: empirical
results and models", Quantitative Finance 2 (2002) 251-256. I. Zovko, J. D. Farmer, "The power of patience: a
behavioral regularity in limit-order placement", Quantitative Finance 2 (2002) 387-392. Z. Eisler, J. Kertész,
F. Lillo, R. Mantegna, "Diffusive behavior and the modeling of characteristic times in limit order
executions", 2007 (doi 10.2139/ssrn.960521). J. Hasbrouck, G. Saar, "Technology and liquidity provision: the
blurring of traditional definitions", Journal of Financial Markets 12 (2009) 143-172. The form of the model,
order flows of fixed rates around a reference price, is the "zero-intelligence" one of the first two and of J.
D. Farmer, P. Patelli, I. Zovko, PNAS 102 (2005) 2254-2259.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.flow import Flow
from exchange.flow.config import SyntheticConfig
from exchange.flow.synthetic_kernel import (
    CLOCK_FRACTION_BITS,
    PATIENCE_ARRIVALS,
    PATIENCE_FACTOR,
    Model,
    run_market,
)
from exchange.flow.synthetic_market import (
    COUNTS,
    FREE,
    LEVEL_DTYPE,
    LEVELS,
    LIVE,
    NONE,
    ORDER_DTYPE,
    RANDOM,
    SHARE_BITS,
    SIDE_DTYPE,
    TABLE_BITS,
    WORDS,
    Market,
)
from exchange.messages import COMMAND_DTYPE

POINTS: Final = 1 << TABLE_BITS
PRICE_BASE_TICKS: Final = 1_000
PRICE_STEP_TICKS: Final = 2_500

LOTS_SHARES: Final = (
    (1, 0.03), (5, 0.03), (10, 0.06), (18, 0.11), (20, 0.05), (25, 0.05), (50, 0.02), (100, 0.53),
    (200, 0.07), (300, 0.005), (400, 0.005), (500, 0.005), (900, 0.005), (1_000, 0.029), (5_000, 0.001),
)  # fmt: skip
"""Order sizes and how often each occurs."""

CAPACITY_MIN: Final = 1 << 16
CAPACITY_MAX: Final = 1 << 24
"""Orders that the model itself can hold at once; far more than any book is configured for."""

COMMANDS_PER_ORDER: Final = 2.1
"""With the default shares; only the width of the timer wheel's buckets hangs on it, that is speed."""


def synthetic_flow(config: SyntheticConfig) -> Flow:
    """Run the model until it has sent ``config.commands`` commands.

    Raises:
        UserError: shares that add up to more than 1; so many orders would rest at once that the model has no room.
    """
    if config.immediate_or_cancel_share + config.market_share > 1:
        raise UserError(
            "synthetic flow: immediate_or_cancel_share and market_share together must not exceed 1"
        )
    model = build_model(config)
    commands = np.zeros(config.commands, COMMAND_DTYPE)
    market = _build_market(config, model)
    if not run_market(model, market, commands):
        raise UserError(
            f"synthetic flow: more than {len(market.orders)} orders would rest at once; "
            "orders_per_second or median_lifetime_ns must be lower, or lifetime_exponent higher"
        )
    counts = dict(zip(COUNTS, (int(word) for word in market.words), strict=False))
    return Flow(
        commands=commands,
        name="synthetic",
        description=(
            f"synthetic flow of {config.commands:,} commands, {config.symbols} symbols, seed {config.seed}: "
            f"{counts['trades']:,} trades, at most {counts['live_orders_max']:,} orders resting"
        ),
        symbols=tuple(f"SYM{index:03d}" for index in range(config.symbols)),
        notes=counts,
        expected_maker=np.zeros(config.commands, np.int64),
    )


def build_model(config: SyntheticConfig) -> Model:
    """The settings as integers and tables, as the kernel wants them."""
    depths = _depth_table(config)
    lifetimes = _lifetime_table(config, depths)
    gap_ns = 1e9 / config.orders_per_second
    bucket_ns = max(1.0, min(gap_ns / COMMANDS_PER_ORDER, config.median_lifetime_ns / 64))
    return Model(
        symbol_of=_symbol_table(config),
        gap_of=_gap_table(gap_ns),
        lifetime_of=lifetimes,
        depth_of=depths,
        lots_of=_by_share([lots for lots, _ in LOTS_SHARES], [share for _, share in LOTS_SHARES], POINTS),
        price_base_ticks=PRICE_BASE_TICKS + PRICE_STEP_TICKS * np.arange(config.symbols),
        sessions=config.sessions,
        immediate_share=_fixed(config.immediate_or_cancel_share),
        aimed_share=_fixed(config.aimed_share),
        market_share=_fixed(config.market_share),
        cancel_share=_fixed(config.cancel_share),
        partial_share=_fixed(config.partial_cancel_share),
        replace_share=_fixed(config.replace_share),
        stale_share=_fixed(config.stale_share),
        move_share=_fixed(config.move_share),
        depth_max=config.depth_ticks_max,
        patience_ns=int(PATIENCE_ARRIVALS * gap_ns),
        bucket_shift=int(np.log2(bucket_ns)),
    )


def _build_market(config: SyntheticConfig, model: Model) -> Market:
    """An empty market: every symbol's mid-price in the middle of its band."""
    deep_life_ns = float(np.mean(model.lifetime_of)) * float(np.mean(1 + model.depth_of))
    patient_life_ns = float(np.mean(model.lifetime_of)) * PATIENCE_FACTOR + model.patience_ns
    mean_life_ns = config.cancel_share * deep_life_ns + (1 - config.cancel_share) * patient_life_ns
    resting = config.orders_per_second * mean_life_ns / 1e9 / max(1 - config.replace_share, 0.01)
    capacity = min(max(CAPACITY_MIN, int(4 * resting)), CAPACITY_MAX, max(config.commands, 1))
    buckets = 1 << min(18, max(10, int(4 * mean_life_ns) >> model.bucket_shift).bit_length())
    sides = 2 * config.symbols
    words = np.zeros(WORDS, np.int64)
    words[RANDOM], words[FREE] = config.seed, capacity
    return Market(
        orders=np.zeros(capacity, ORDER_DTYPE),
        free=np.arange(capacity - 1, -1, -1, dtype=np.int32),
        due=np.zeros(capacity, np.int32),
        levels=np.full(2 * sides * LEVELS, NONE, np.int32).view(LEVEL_DTYPE),
        sides=np.zeros(sides, SIDE_DTYPE),
        mid=np.full(config.symbols, LEVELS // 2),
        buckets=np.full(buckets, NONE, np.int32),
        words=words,
    )


def _fixed(share: float) -> int:
    """A share of 1 in 1/65,536."""
    return round(share * (1 << SHARE_BITS))


def _by_share(values: Sequence[int], shares: Sequence[float], size: int) -> NDArray[np.int64]:
    """A table of ``size`` entries in which each value has its share of the entries."""
    ends = np.cumsum(shares) / np.sum(shares)
    return np.asarray(values, np.int64)[np.searchsorted(ends, (np.arange(size) + 0.5) / size)]


def _symbol_table(config: SyntheticConfig) -> NDArray[np.int64]:
    ranks = np.arange(1, config.symbols + 1)
    return _by_share(list(range(config.symbols)), list(ranks**-config.zipf_exponent), 1 << SHARE_BITS)


def _tail_of_points() -> NDArray[np.float64]:
    """What share of a distribution lies above each point of an interpolated table; the last point cuts the
    tail."""
    tail = 1 - np.arange(POINTS + 1) / POINTS
    tail[-1] = 1 / (2 * POINTS)
    return tail


def _gap_table(gap_ns: float) -> NDArray[np.int64]:
    """Exponential gaps; scaled so that the mean is right in spite of the cut tail and the straight pieces."""
    gaps = -np.log(_tail_of_points())
    mean = (gaps[1:] + gaps[:-1]).mean() / 2
    return np.rint(gaps / mean * gap_ns * (1 << CLOCK_FRACTION_BITS)).astype(np.int64)


def _depth_table(config: SyntheticConfig) -> NDArray[np.int64]:
    """Ticks behind the reference price, cut at ``depth_ticks_max``."""
    cut = (config.depth_ticks_max + 2.0) ** -config.depth_exponent
    tail = 1 - (1 - cut) * (np.arange(POINTS) + 0.5) / POINTS
    depths: NDArray[np.float64] = tail ** (-1 / config.depth_exponent) - 1
    return np.minimum(depths, config.depth_ticks_max).astype(np.int64)


def _lifetime_table(config: SyntheticConfig, depths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lifetimes of an order at the reference price, such that all depths together have the wanted median."""
    stretch, weight = np.unique(1 + depths, return_counts=True)
    low, high = 0.0, 1e12
    for _ in range(100):  # find the median of a Lomax distribution times the stretch, by bisection
        middle = (low + high) / 2
        share_below = np.average(1 - (1 + middle / stretch) ** -config.lifetime_exponent, weights=weight)
        low, high = (middle, high) if share_below < 0.5 else (low, middle)
    lifetimes = _tail_of_points() ** (-1 / config.lifetime_exponent) - 1
    return np.rint(lifetimes * config.median_lifetime_ns / high).astype(np.int64)


assert COUNTS[LIVE] == "live_orders"
