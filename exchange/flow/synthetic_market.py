"""The synthetic market's own state: a random source, a book that matches by price and time, a timer wheel.

What its participants do is :mod:`exchange.flow.synthetic_kernel`'s; this file is what they do it with.

* The *book* is bounded: prices stay in a band of ``LEVELS`` ticks for each symbol, and a price is an index
  into it.
* The *wheel* has buckets as wide as the typical distance of two commands: setting a timer costs a few
  nanoseconds where a heap would cost tens. A timer that is due in a later turn of the wheel stays in its
  bucket. Callers never set one that is due before the next bucket.
* *Random words* come from one SplitMix64 stream; distributions are tables of integers. A library's ``log`` or
  ``pow`` may differ in the last bit from one machine to the next, and with it the whole flow.

Rules: all arrays are the caller's and of fixed size; nothing is checked. One thread.

Sources: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014
(SplitMix64); G. Varghese, T. Lauck, "Hashed and hierarchical timing wheels", SOSP 1987 (scheme 6).
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.messages import BUY
from exchange.native import add_wrapping, inlined, kernel, multiply_wrapping, shift_right_logical

LEVELS: Final = 4096
"""Ticks in each symbol's price band, a power of two: 40.96 dollars; wide enough for the deepest order on
either side of a mid-price that wanders hundreds of ticks."""

NONE: Final = -1

SHARE_BITS: Final = 16
TABLE_BITS: Final = 12
FRACTION_BITS: Final = 20
SHARE_MASK, TABLE_MASK, FRACTION_MASK = ((1 << bits) - 1 for bits in (SHARE_BITS, TABLE_BITS, FRACTION_BITS))
"""Random words are cut into fields: 16 bits decide a share or a symbol, 12 choose a point of a table, and 20
a place between two points."""

# SplitMix64's three constants, as signed words.
_WEYL: Final = -7046029254386353131
_MIX_1: Final = -4658895280553007687
_MIX_2: Final = -7723592293110705685

LEVEL_DTYPE: Final = np.dtype([("first", "<i4"), ("last", "<i4")])
"""The queue of one price of one side: slots of ``orders``."""

SIDE_DTYPE: Final = np.dtype([("best", "<i8"), ("standing", "<i8")])
"""One side of one symbol: price index of its best level (if it has any), how many orders stand there."""

ORDER_DTYPE: Final = np.dtype(
    [
        ("order_id", "<i8"),
        ("due_ns", "<i8"),
        ("price_index", "<i4"),
        ("lots", "<i4"),
        ("next_in_level", "<i4"),
        ("previous_in_level", "<i4"),
        ("next_in_bucket", "<i4"),
        ("symbol_id", "<u2"),
        ("session_id", "<u2"),
        ("side", "u1"),
        ("is_live", "u1"),
        ("is_patient", "u1"),
        ("is_stale", "u1"),
    ]
)
"""A resting order, or (``is_live`` 0) a dead one whose timer still stands in the wheel."""

COUNTS: Final = (
    "commands", "order_ids", "day_orders", "immediate_or_cancel_orders", "market_orders", "cancels",
    "partial_cancels", "replaces", "stale_commands", "trades", "orders_filled", "live_orders",
    "live_orders_max",
)  # fmt: skip
"""What is counted, in this order."""
(
    COMMANDS, ORDER_IDS, DAY_ORDERS, IMMEDIATE_ORDERS, MARKET_ORDERS, CANCELS, PARTIAL_CANCELS, REPLACES,
    STALE, TRADES, FILLED, LIVE, LIVE_MAX,
) = range(len(COUNTS))  # fmt: skip
RANDOM: Final = len(COUNTS)
FREE: Final = len(COUNTS) + 1
WORDS: Final = len(COUNTS) + 2
"""The counts, then the state of the random source and how many slots are free."""


class Market(NamedTuple):
    """The state of the simulated market.

    Shapes: ``orders``, ``free`` (slots not in use) and ``due`` (this bucket's timers in order): (capacity,);
    ``levels``: (symbols * 2 * LEVELS,); ``sides``: (symbols * 2,); ``mid`` (symbols,): price index of the
    reference bid; ``buckets``: a power of two; ``words``: (WORDS,).
    """

    orders: NDArray[Any]
    free: NDArray[np.int32]
    due: NDArray[np.int32]
    levels: NDArray[Any]
    sides: NDArray[Any]
    mid: NDArray[np.int64]
    buckets: NDArray[np.int32]
    words: NDArray[np.int64]


def uncounted[F: Callable[..., Any]](function: F) -> F:
    """Switch numba's reference counting off in a compiled function, which must not allocate.

    It would count every array of ``Market`` up and down at each call of a helper: five sixths of the run
    time.
    """
    if hasattr(function, "targetoptions"):  # not under NUMBA_DISABLE_JIT=1
        function.targetoptions["_nrt"] = False
    return function


@uncounted
@inlined
def draw_word(market: Any) -> Any:
    """64 random bits."""
    state = add_wrapping(int(market.words[RANDOM]), _WEYL)
    market.words[RANDOM] = state
    mixed = multiply_wrapping(state ^ shift_right_logical(state, 30), _MIX_1)
    mixed = multiply_wrapping(mixed ^ shift_right_logical(mixed, 27), _MIX_2)
    return mixed ^ shift_right_logical(mixed, 31)


@uncounted
@inlined
def interpolate(table: Any, draw: int) -> Any:
    """A quantile of the distribution that ``table`` holds, straight between its points; uses the low 32
    bits."""
    point = draw & TABLE_MASK
    fraction = draw >> TABLE_BITS & FRACTION_MASK
    low = table[point]
    return low + ((table[point + 1] - low) * fraction >> FRACTION_BITS)


@uncounted
@inlined
def enter_book(market: Any, slot: int) -> None:
    """Let an order trade as far as its price allows; what is left stands last in its price's queue."""
    order = market.orders[slot]
    symbol, side = np.int64(order["symbol_id"]), np.int64(order["side"])
    index = np.int64(order["price_index"])
    lots = match_order(market, symbol, side, index, np.int64(order["lots"]))
    order["lots"] = lots
    order["is_live"] = lots > 0
    if lots == 0:
        market.words[FILLED] += 1
        return
    book_side = 2 * symbol + side
    level = book_side * LEVELS + index
    order["next_in_level"] = NONE
    order["previous_in_level"] = market.levels[level]["last"]
    if market.levels[level]["last"] == NONE:
        market.levels[level]["first"] = slot
    else:
        market.orders[market.levels[level]["last"]]["next_in_level"] = slot
    market.levels[level]["last"] = slot
    best = market.sides[book_side]["best"]
    if market.sides[book_side]["standing"] == 0 or (index > best if side == BUY else index < best):
        market.sides[book_side]["best"] = index
    market.sides[book_side]["standing"] += 1
    market.words[LIVE] += 1
    market.words[LIVE_MAX] = max(market.words[LIVE_MAX], market.words[LIVE])


@uncounted
@kernel
def match_order(market: Any, symbol: Any, side: Any, limit: Any, lots: Any) -> Any:
    """Trade ``lots`` against the other side, up to the price index ``limit``; how many are left."""
    other_side = 2 * symbol + 1 - side
    while lots > 0 and market.sides[other_side]["standing"] > 0:
        best = market.sides[other_side]["best"]
        if best > limit if side == BUY else best < limit:
            break
        slot = market.levels[other_side * LEVELS + best]["first"]
        maker = market.orders[slot]
        traded = min(lots, np.int64(maker["lots"]))
        market.words[TRADES] += 1
        lots -= traded
        maker["lots"] -= traded
        if maker["lots"] == 0:
            market.words[FILLED] += 1
            leave_book(market, slot)
    return lots


@uncounted
@kernel
def leave_book(market: Any, slot: int) -> None:
    """Take an order out of its price's queue; the price stops standing when it was the last."""
    order = market.orders[slot]
    book_side = 2 * np.int64(order["symbol_id"]) + np.int64(order["side"])
    index = np.int64(order["price_index"])
    level = book_side * LEVELS + index
    before, after = order["previous_in_level"], order["next_in_level"]
    if before == NONE:
        market.levels[level]["first"] = after
    else:
        market.orders[before]["next_in_level"] = after
    if after == NONE:
        market.levels[level]["last"] = before
    else:
        market.orders[after]["previous_in_level"] = before
    order["is_live"] = 0
    market.sides[book_side]["standing"] -= 1
    market.words[LIVE] -= 1
    if (
        market.levels[level]["first"] == NONE
        and market.sides[book_side]["best"] == index
        and market.sides[book_side]["standing"] > 0
    ):
        step = -1 if order["side"] == BUY else 1
        while market.levels[book_side * LEVELS + index]["first"] == NONE:
            index += step
        market.sides[book_side]["best"] = index


@uncounted
@inlined
def set_timer(market: Any, slot: int, due_ns: int, bucket_shift: int) -> None:
    """Wake the order at ``due_ns``, which lies beyond the present bucket."""
    bucket = due_ns >> bucket_shift & (len(market.buckets) - 1)
    market.orders[slot]["due_ns"] = due_ns
    market.orders[slot]["next_in_bucket"] = market.buckets[bucket]
    market.buckets[bucket] = slot


@uncounted
@inlined
def collect_due(market: Any, bucket_number: int, end_ns: int) -> Any:
    """Take the timers that are due before ``end_ns`` out of their bucket, earliest first; how many they
    are."""
    bucket = bucket_number & (len(market.buckets) - 1)
    slot = market.buckets[bucket]
    later = NONE
    count = 0
    while slot != NONE:
        order = market.orders[slot]
        following = order["next_in_bucket"]
        if order["due_ns"] >= end_ns:  # in a later turn of the wheel
            order["next_in_bucket"] = later
            later = slot
        else:
            place = count
            while place > 0 and market.orders[market.due[place - 1]]["due_ns"] > order["due_ns"]:
                market.due[place] = market.due[place - 1]
                place -= 1
            market.due[place] = slot
            count += 1
        slot = following
    market.buckets[bucket] = later
    return count
