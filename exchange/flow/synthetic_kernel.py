"""The moving parts of the synthetic market: a random source, a timer wheel, and the model's own book.

The model (what happens, and why) is described in :mod:`exchange.flow.synthetic`; this file is how. It runs
one simulated market forward in time and writes each command that its participants send:

* *Arrivals* come at Poisson times. An arrival first moves its symbol's mid-price, rarely, then places a new
  order.
* A *timer* ends the life of each resting order. When it fires, the order is cancelled or replaced, and a
  replaced order gets a new timer. Timers stand in a wheel of buckets, each as wide as the typical distance of
  two commands: adding one costs a few nanoseconds where a heap would cost tens. A timer is never due before
  the next bucket.
* The *book* matches by price and time as the exchange will. Participants see their fills, so the model must
  know them: nobody cancels an order that has traded, except in the share of cases where the message was
  already under way. It is a bounded one: prices stay in a band of ``LEVELS`` ticks for each symbol.

Rules: all sizes are fixed before the run; the arrays are the caller's; nothing here looks at a clock. All
random draws come from one SplitMix64 stream and all distributions from tables of integers, so the same
arguments give the same bytes on every machine (a library's ``log`` or ``pow`` may differ in the last bit).

Sources: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014
(SplitMix64); G. Varghese, T. Lauck, "Hashed and hierarchical timing wheels", SOSP 1987 (scheme 6). """

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.messages import BUY, SELL, CommandKind, OrderType, TimeInForce
from exchange.native import add_wrapping, inlined, kernel, multiply_wrapping, shift_right_logical

LEVELS: Final = 4096
"""Ticks in each symbol's price band, a power of two: 40.96 dollars; wide enough for the deepest order on
either side of a mid-price that wanders hundreds of ticks."""

SHARE_BITS: Final = 16
TABLE_BITS: Final = 12
FRACTION_BITS: Final = 20
SHARE_MASK, TABLE_MASK, FRACTION_MASK = ((1 << bits) - 1 for bits in (SHARE_BITS, TABLE_BITS, FRACTION_BITS))
"""Random words are cut into fields: 16 bits decide a share or a symbol, 12 choose a point of a table, and 20
a place between two points."""

CLOCK_FRACTION_BITS: Final = 8
"""The arrivals' clock counts 1/256 ns, so that gaps shorter than a nanosecond do not round to nothing."""

PATIENCE_FACTOR: Final = 64
PATIENCE_ARRIVALS: Final = 2048
"""An order that is meant to trade waits at the touch so many times longer than others, and in addition the
time in which so many new orders come, so that a market with little to do has a book, too."""

SIZE_UP_LOTS: Final = 100
NONE: Final = -1

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

_SEND_NEW, _SEND_CANCEL, _SEND_REPLACE = (
    int(CommandKind.NEW),
    int(CommandKind.CANCEL),
    int(CommandKind.REPLACE),
)
_DAY, _IMMEDIATE = int(TimeInForce.DAY), int(TimeInForce.IMMEDIATE_OR_CANCEL)
_LIMIT, _MARKET = int(OrderType.LIMIT), int(OrderType.MARKET)

# SplitMix64's three constants, as signed words.
_WEYL: Final = -7046029254386353131
_MIX_1: Final = -4658895280553007687
_MIX_2: Final = -7723592293110705685

COUNTS: Final = (
    "commands", "order_ids", "day_orders", "immediate_or_cancel_orders", "market_orders", "cancels",
    "partial_cancels", "replaces", "stale_commands", "trades", "orders_filled", "live_orders", "live_orders_max",
)  # fmt: skip
"""What is counted, in this order."""
(
    COMMANDS, ORDER_IDS, DAY_ORDERS, IMMEDIATE_ORDERS, MARKET_ORDERS, CANCELS, PARTIAL_CANCELS, REPLACES, STALE,
    TRADES, FILLED, LIVE, LIVE_MAX,
) = range(len(COUNTS))  # fmt: skip
RANDOM: Final = len(COUNTS)
FREE: Final = len(COUNTS) + 1
WORDS: Final = len(COUNTS) + 2
"""The counts, then the state of the random source and how many slots are free."""


class Model(NamedTuple):
    """The model's numbers. Shares are in 1/65,536; a table maps the 2**k values of k random bits."""

    symbol_of: NDArray[np.int64]
    gap_of: NDArray[np.int64]
    lifetime_of: NDArray[np.int64]
    depth_of: NDArray[np.int64]
    lots_of: NDArray[np.int64]
    price_base_ticks: NDArray[np.int64]
    sessions: int
    immediate_share: int
    aimed_share: int
    market_share: int
    cancel_share: int
    partial_share: int
    replace_share: int
    stale_share: int
    move_share: int
    depth_max: int
    patience_ns: int
    bucket_shift: int


class Market(NamedTuple):
    """The state of the simulated market.

    Shapes: ``orders``, ``free`` (slots not in use) and ``due`` (this bucket's timers in order): (capacity,);
    ``levels``: (symbols * 2 * LEVELS,); ``sides``: (symbols * 2,); ``mid`` (symbols,): price index of the
    reference bid; ``buckets``: a power of two; ``words``: (WORDS,). """

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
    time. """
    if hasattr(function, "targetoptions"):  # not under NUMBA_DISABLE_JIT=1
        function.targetoptions["_nrt"] = False
    return function


@uncounted
@kernel
def run_market(model: Model, market: Market, commands: NDArray[Any]) -> bool:
    """Fill ``commands``; False if more orders live at once than the market has room for."""
    bucket_ns = 1 << model.bucket_shift
    arrival = 0  # in 1/256 ns
    bucket_end_ns = bucket_ns  # the first bucket is empty
    due_count = 0
    next_due = 0
    words = market.words
    while words[COMMANDS] < len(commands):
        arrival_ns = arrival >> CLOCK_FRACTION_BITS
        if next_due < due_count and market.orders[market.due[next_due]]["due_ns"] <= arrival_ns:
            slot = market.due[next_due]
            next_due += 1
            _timer_fires(model, market, commands, slot, bucket_end_ns)
        elif arrival_ns < bucket_end_ns:
            if market.words[FREE] == 0:
                return False
            _order_arrives(model, market, commands, arrival_ns, bucket_end_ns)
            arrival += _interpolate(model.gap_of, _draw(market))
        else:
            due_count = _collect_due(market, bucket_end_ns >> model.bucket_shift, bucket_end_ns + bucket_ns)
            next_due = 0
            bucket_end_ns += bucket_ns
    return True


@uncounted
@inlined
def _draw(market: Any) -> int:
    """64 random bits."""
    state = add_wrapping(market.words[RANDOM], _WEYL)
    market.words[RANDOM] = state
    mixed = multiply_wrapping(state ^ shift_right_logical(state, 30), _MIX_1)
    mixed = multiply_wrapping(mixed ^ shift_right_logical(mixed, 27), _MIX_2)
    return mixed ^ shift_right_logical(mixed, 31)


@uncounted
@inlined
def _interpolate(table: Any, draw: int) -> int:
    """A quantile of the distribution that ``table`` holds, straight between its points; uses the low 32
    bits."""
    point = draw & TABLE_MASK
    fraction = draw >> TABLE_BITS & FRACTION_MASK
    low = table[point]
    return low + ((table[point + 1] - low) * fraction >> FRACTION_BITS)


@uncounted
@inlined
def _order_arrives(model: Any, market: Any, commands: Any, now_ns: int, bucket_end_ns: int) -> None:
    draw = _draw(market)
    symbol = model.symbol_of[(draw & SHARE_MASK)]
    side = draw >> 16 & 1
    if (draw >> 18 & SHARE_MASK) < model.move_share:
        _move_mid(model, market, symbol, 2 * (draw >> 17 & 1) - 1)
    choice = draw >> 34 & SHARE_MASK
    detail = _draw(market)
    session = (detail & SHARE_MASK) * model.sessions >> 16
    lots = model.lots_of[(detail >> 16 & TABLE_MASK)]
    if choice < model.market_share + model.immediate_share:
        price = 0
        if choice >= model.market_share:
            is_aimed = (detail >> 28 & SHARE_MASK) < model.aimed_share
            index = market.mid[symbol] + (is_aimed if side == BUY else 1 - is_aimed)
            price = model.price_base_ticks[symbol] + index
        _send_aggressor(model, market, commands, now_ns, symbol, session, side, price, lots)
    else:
        is_patient = (detail >> 28 & SHARE_MASK) >= model.cancel_share
        depth = 0 if is_patient else model.depth_of[(detail >> 44 & TABLE_MASK)]
        _send_day_order(
            model, market, commands, now_ns, bucket_end_ns, symbol, session, side, depth, lots, is_patient
        )


@uncounted
@inlined
def _move_mid(model: Any, market: Any, symbol: int, step: int) -> None:
    """One tick up or down; at the end of the band, back."""
    mid = market.mid[symbol] + step
    if model.depth_max < mid < LEVELS - model.depth_max - 2:
        market.mid[symbol] = mid
    else:
        market.mid[symbol] -= step


@uncounted
@inlined
def _send_aggressor(
    model: Any,
    market: Any,
    commands: Any,
    now_ns: int,
    symbol: int,
    session: int,
    side: int,
    price: int,
    lots: int,
) -> None:
    """An immediate-or-cancel order at ``price``, or with price 0 a market order."""
    is_market = price == 0
    command = commands[_send(market, _SEND_NEW, now_ns, commands)]
    command["side"] = side
    command["time_in_force"] = _IMMEDIATE
    command["order_type"] = _MARKET if is_market else _LIMIT
    command["symbol_id"] = symbol
    command["session_id"] = session
    market.words[ORDER_IDS] += 1
    command["order_id"] = market.words[ORDER_IDS]
    command["price_ticks"] = price
    command["quantity_lots"] = lots
    market.words[MARKET_ORDERS if is_market else IMMEDIATE_ORDERS] += 1
    limit = price - model.price_base_ticks[symbol]
    if is_market:
        limit = LEVELS if side == BUY else NONE
    _match(market, symbol, side, limit, lots)


@uncounted
@inlined
def _send_day_order(
    model: Any,
    market: Any,
    commands: Any,
    now_ns: int,
    bucket_end_ns: int,
    symbol: int,
    session: int,
    side: int,
    depth: int,
    lots: int,
    is_patient: bool,
) -> None:
    market.words[FREE] -= 1
    slot = market.free[market.words[FREE]]
    order = market.orders[slot]
    market.words[ORDER_IDS] += 1
    order["order_id"] = market.words[ORDER_IDS]
    order["price_index"] = market.mid[symbol] - depth if side == BUY else market.mid[symbol] + 1 + depth
    order["lots"] = lots
    order["symbol_id"] = symbol
    order["session_id"] = session
    order["side"] = side
    order["is_patient"] = is_patient
    order["is_stale"] = 0
    command = commands[_send(market, _SEND_NEW, now_ns, commands)]
    command["side"] = side
    command["time_in_force"] = _DAY
    command["symbol_id"] = symbol
    command["session_id"] = session
    command["order_id"] = order["order_id"]
    command["price_ticks"] = model.price_base_ticks[symbol] + order["price_index"]
    command["quantity_lots"] = lots
    market.words[DAY_ORDERS] += 1
    _enter_book(market, slot)
    _set_timer(model, market, slot, now_ns, bucket_end_ns)


@uncounted
@inlined
def _timer_fires(model: Any, market: Any, commands: Any, slot: int, bucket_end_ns: int) -> None:
    order = market.orders[slot]
    now_ns = order["due_ns"]
    draw = _draw(market)
    if order["is_live"]:
        if (draw & SHARE_MASK) < model.replace_share:
            _replace(model, market, commands, slot, draw)
            _set_timer(model, market, slot, now_ns, bucket_end_ns)
            return
        command = commands[_send_about(market, _SEND_CANCEL, now_ns, commands, slot)]
        market.words[CANCELS] += 1
        if (draw >> 16 & SHARE_MASK) < model.partial_share and order["lots"] > 1:
            half = order["lots"] >> 1
            command["quantity_lots"] = half
            order["lots"] -= half
            market.words[PARTIAL_CANCELS] += 1
            _set_timer(model, market, slot, now_ns, bucket_end_ns)
            return
        _leave_book(market, slot)
    elif order["is_stale"]:
        _send_stale(model, market, commands, slot, draw)
        market.free[market.words[FREE]] = slot
        market.words[FREE] += 1
        return
    # The order is gone, by this cancel or by an earlier trade. Now and then one more message is under way.
    if (draw >> 32 & SHARE_MASK) < model.stale_share:
        order["is_stale"] = 1
        order["is_patient"] = 0
        _set_timer(model, market, slot, now_ns, bucket_end_ns)
    else:
        market.free[market.words[FREE]] = slot
        market.words[FREE] += 1


@uncounted
@inlined
def _replace(model: Any, market: Any, commands: Any, slot: int, draw: int) -> None:
    """Half of all replaces move the price by a tick, a quarter each ask for more or for less."""
    order = market.orders[slot]
    index, lots = np.int64(order["price_index"]), np.int64(order["lots"])
    what = draw >> 16 & 3
    if what < 2:
        index += 2 * what - 1
    elif what == 2 or lots == 1:
        lots += SIZE_UP_LOTS
    else:
        lots -= lots >> 1
    if index < 0 or index >= LEVELS:
        index = np.int64(
            order["price_index"]
        )  # at the end of the band it stays as it is, which is a replace, too
    command = commands[_send_about(market, _SEND_REPLACE, order["due_ns"], commands, slot)]
    market.words[REPLACES] += 1
    keeps_place = index == order["price_index"] and lots <= order["lots"]
    if keeps_place:
        order["lots"] = lots
    else:
        _leave_book(market, slot)
        market.words[ORDER_IDS] += 1
        order["order_id"] = market.words[ORDER_IDS]
        order["price_index"] = index
        order["lots"] = lots
        _enter_book(market, slot)
    command["new_order_id"] = order["order_id"]
    command["price_ticks"] = model.price_base_ticks[order["symbol_id"]] + index
    command["quantity_lots"] = lots


@uncounted
@inlined
def _send_stale(model: Any, market: Any, commands: Any, slot: int, draw: int) -> None:
    """A command that comes too late for its order: two cancels for each replace."""
    order = market.orders[slot]
    kind = _SEND_REPLACE if (draw & SHARE_MASK) * 3 < 1 << SHARE_BITS else _SEND_CANCEL
    command = commands[_send_about(market, kind, order["due_ns"], commands, slot)]
    market.words[STALE] += 1
    if kind == _SEND_REPLACE:
        market.words[ORDER_IDS] += 1
        command["new_order_id"] = market.words[ORDER_IDS]
        command["price_ticks"] = model.price_base_ticks[order["symbol_id"]] + order["price_index"]
        command["quantity_lots"] = SIZE_UP_LOTS


@uncounted
@inlined
def _send(market: Any, kind: int, now_ns: int, commands: Any) -> int:
    """Begin the next command; its index, for a record that a compiled function returns is a copy."""
    index = market.words[COMMANDS]
    market.words[COMMANDS] += 1
    commands[index]["kind"] = kind
    commands[index]["timestamp_ns"] = now_ns
    return index


@uncounted
@inlined
def _send_about(market: Any, kind: int, now_ns: int, commands: Any, slot: int) -> int:
    """Begin a command that names an order."""
    index = _send(market, kind, now_ns, commands)
    commands[index]["symbol_id"] = market.orders[slot]["symbol_id"]
    commands[index]["session_id"] = market.orders[slot]["session_id"]
    commands[index]["order_id"] = market.orders[slot]["order_id"]
    return index


# The book.


@uncounted
@inlined
def _enter_book(market: Any, slot: int) -> None:
    """Let an order trade as far as its price allows; what is left stands last in its price's queue."""
    order = market.orders[slot]
    symbol, side = np.int64(order["symbol_id"]), np.int64(order["side"])
    index = np.int64(order["price_index"])
    lots = _match(market, symbol, side, index, np.int64(order["lots"]))
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
def _match(market: Any, symbol: int, side: int, limit: int, lots: int) -> int:
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
            _leave_book(market, slot)
    return lots


@uncounted
@kernel
def _leave_book(market: Any, slot: int) -> None:
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


# The timer wheel.


@uncounted
@inlined
def _set_timer(model: Any, market: Any, slot: int, now_ns: int, bucket_end_ns: int) -> None:
    """Draw how long the order will stand (the deeper, the longer), and wake it then."""
    order = market.orders[slot]
    index, mid = np.int64(order["price_index"]), market.mid[order["symbol_id"]]
    depth = mid - index if order["side"] == BUY else index - mid - 1
    life_ns = _interpolate(model.lifetime_of, _draw(market)) * (1 + max(depth, 0))
    if order["is_patient"]:
        life_ns = life_ns * PATIENCE_FACTOR + model.patience_ns
    order["due_ns"] = max(now_ns + life_ns, bucket_end_ns)
    bucket = order["due_ns"] >> model.bucket_shift & (len(market.buckets) - 1)
    order["next_in_bucket"] = market.buckets[bucket]
    market.buckets[bucket] = slot


@uncounted
@inlined
def _collect_due(market: Any, bucket_number: int, end_ns: int) -> int:
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


assert BUY == 0
assert SELL == 1
