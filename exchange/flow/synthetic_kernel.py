"""What happens in the synthetic market: orders arrive, timers fire, commands are sent.

The model (what, and why) is described in :mod:`exchange.flow.synthetic`; this file is how. It runs one
simulated market forward in time and writes each command that its participants send:

* *Arrivals* come at Poisson times. An arrival first moves its symbol's mid-price, rarely, then places a new
  order.
* A *timer* ends the life of each resting order. When it fires, the order is cancelled or replaced, and a
  replaced order gets a new timer.
* The *book* (:mod:`~exchange.flow.synthetic_market`) matches as the exchange will. Participants see their
  fills, so the model must know them: nobody cancels an order that has traded, except in the share of cases
  where the message was under way already.

Rules: all sizes are fixed before the run, nothing here looks at a clock, and each step sends at most one
command, so that a flow has exactly as many as were asked for.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.flow.synthetic_market import (
    CANCELS,
    COMMANDS,
    DAY_ORDERS,
    FREE,
    IMMEDIATE_ORDERS,
    LEVELS,
    MARKET_ORDERS,
    NONE,
    ORDER_IDS,
    PARTIAL_CANCELS,
    REPLACES,
    SHARE_BITS,
    SHARE_MASK,
    STALE,
    TABLE_MASK,
    Market,
    collect_due,
    draw_word,
    enter_book,
    interpolate,
    leave_book,
    match_order,
    set_timer,
    uncounted,
)
from exchange.messages import BUY, SELL, CommandKind, OrderType, TimeInForce
from exchange.native import inlined, kernel

CLOCK_FRACTION_BITS: Final = 8
"""The arrivals' clock counts 1/256 ns, so that gaps shorter than a nanosecond do not round to nothing."""

PATIENCE_FACTOR: Final = 64
PATIENCE_ARRIVALS: Final = 2048
"""An order that is meant to trade waits at the touch so many times longer than others, and in addition the
time in which so many new orders come, so that a market with little to do has a book, too."""

SIZE_UP_LOTS: Final = 100

_SEND_NEW, _SEND_CANCEL, _SEND_REPLACE = (
    int(CommandKind.NEW),
    int(CommandKind.CANCEL),
    int(CommandKind.REPLACE),
)
_DAY, _IMMEDIATE = int(TimeInForce.DAY), int(TimeInForce.IMMEDIATE_OR_CANCEL)
_LIMIT, _MARKET = int(OrderType.LIMIT), int(OrderType.MARKET)


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
            if words[FREE] == 0:
                return False
            _order_arrives(model, market, commands, arrival_ns, bucket_end_ns)
            arrival += interpolate(model.gap_of, draw_word(market))
        else:
            due_count = collect_due(market, bucket_end_ns >> model.bucket_shift, bucket_end_ns + bucket_ns)
            next_due = 0
            bucket_end_ns += bucket_ns
    return True


@uncounted
@inlined
def _order_arrives(model: Any, market: Any, commands: Any, now_ns: int, bucket_end_ns: int) -> None:
    """A participant sends a new order; two random words say which."""
    draw, detail = draw_word(market), draw_word(market)
    symbol = model.symbol_of[draw & SHARE_MASK]
    if (draw >> 18 & SHARE_MASK) < model.move_share:
        _move_mid(model, market, symbol, 2 * (draw >> 17 & 1) - 1)
    command = commands[_send(market, _SEND_NEW, now_ns, commands)]
    market.words[ORDER_IDS] += 1
    command["order_id"] = market.words[ORDER_IDS]
    command["symbol_id"] = symbol
    command["session_id"] = (detail & SHARE_MASK) * model.sessions >> SHARE_BITS
    command["side"] = draw >> 16 & 1
    command["quantity_lots"] = model.lots_of[detail >> 16 & TABLE_MASK]
    choice = draw >> 34 & SHARE_MASK
    shape = detail >> 28
    if choice < model.market_share:
        _take_at_market(market, command)
    elif choice < model.market_share + model.immediate_share:
        _take_at_limit(model, market, command, shape)
    else:
        _rest(model, market, command, shape, now_ns, bucket_end_ns)


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
def _take_at_market(market: Any, command: Any) -> None:
    command["time_in_force"] = _IMMEDIATE
    command["order_type"] = _MARKET
    market.words[MARKET_ORDERS] += 1
    side = np.int64(command["side"])
    limit = LEVELS if side == BUY else NONE
    match_order(market, np.int64(command["symbol_id"]), side, limit, np.int64(command["quantity_lots"]))


@uncounted
@inlined
def _take_at_limit(model: Any, market: Any, command: Any, shape: int) -> None:
    """Immediate or cancel: aimed at the other side's reference price, or at the own to probe."""
    command["time_in_force"] = _IMMEDIATE
    market.words[IMMEDIATE_ORDERS] += 1
    symbol, side = np.int64(command["symbol_id"]), np.int64(command["side"])
    is_aimed = (shape & SHARE_MASK) < model.aimed_share
    limit = market.mid[symbol] + (is_aimed if side == BUY else 1 - is_aimed)
    command["price_ticks"] = model.price_base_ticks[symbol] + limit
    match_order(market, symbol, side, limit, np.int64(command["quantity_lots"]))


@uncounted
@inlined
def _rest(model: Any, market: Any, command: Any, shape: int, now_ns: int, bucket_end_ns: int) -> None:
    """A day order: near the touch or deeper, fleeting or patient."""
    symbol = command["symbol_id"]
    is_patient = (shape & SHARE_MASK) >= model.cancel_share
    depth = 0 if is_patient else model.depth_of[shape >> SHARE_BITS & TABLE_MASK]
    index = market.mid[symbol] - depth if command["side"] == BUY else market.mid[symbol] + 1 + depth
    command["time_in_force"] = _DAY
    command["price_ticks"] = model.price_base_ticks[symbol] + index
    market.words[DAY_ORDERS] += 1
    market.words[FREE] -= 1
    slot = market.free[market.words[FREE]]
    order = market.orders[slot]
    order["order_id"] = command["order_id"]
    order["price_index"] = index
    order["lots"] = command["quantity_lots"]
    order["symbol_id"] = symbol
    order["session_id"] = command["session_id"]
    order["side"] = command["side"]
    order["is_patient"] = is_patient
    order["is_stale"] = 0
    enter_book(market, slot)
    _plan_end(model, market, slot, now_ns, bucket_end_ns)


@uncounted
@inlined
def _timer_fires(model: Any, market: Any, commands: Any, slot: int, bucket_end_ns: int) -> None:
    """The life of an order ends, or begins anew."""
    order = market.orders[slot]
    now_ns = order["due_ns"]
    draw = draw_word(market)
    is_repeated = (draw >> 32 & SHARE_MASK) < model.stale_share
    if order["is_live"]:
        if (draw & SHARE_MASK) < model.replace_share:
            _replace(model, market, commands, slot, draw)
            _plan_end(model, market, slot, now_ns, bucket_end_ns)
            return
        command = commands[_send_about(market, _SEND_CANCEL, now_ns, commands, slot)]
        market.words[CANCELS] += 1
        if (draw >> 16 & SHARE_MASK) < model.partial_share and order["lots"] > 1:
            half = order["lots"] >> 1
            command["quantity_lots"] = half
            order["lots"] -= half
            market.words[PARTIAL_CANCELS] += 1
            _plan_end(model, market, slot, now_ns, bucket_end_ns)
            return
        leave_book(market, slot)
        if is_repeated:
            order["is_stale"] = 1
            set_timer(market, slot, bucket_end_ns, model.bucket_shift)
            return
    elif (
        order["is_stale"] or is_repeated
    ):  # a repetition, or a cancel that crossed with the order's last trade
        _send_stale(model, market, commands, slot, draw)
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
        index = np.int64(order["price_index"])  # the band ends: nothing changes, which is a replace, too
    command = commands[_send_about(market, _SEND_REPLACE, order["due_ns"], commands, slot)]
    market.words[REPLACES] += 1
    keeps_place = index == order["price_index"] and lots <= order["lots"]
    if keeps_place:
        order["lots"] = lots
    else:
        leave_book(market, slot)
        market.words[ORDER_IDS] += 1
        order["order_id"] = market.words[ORDER_IDS]
        order["price_index"] = index
        order["lots"] = lots
        enter_book(market, slot)
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
def _send(market: Any, kind: int, now_ns: int, commands: Any) -> Any:
    """Begin the next command; its index, for a record that a compiled function returns is a copy."""
    index = market.words[COMMANDS]
    market.words[COMMANDS] += 1
    commands[index]["kind"] = kind
    commands[index]["timestamp_ns"] = now_ns
    return index


@uncounted
@inlined
def _send_about(market: Any, kind: int, now_ns: int, commands: Any, slot: int) -> Any:
    """Begin a command that names an order."""
    index = _send(market, kind, now_ns, commands)
    commands[index]["symbol_id"] = market.orders[slot]["symbol_id"]
    commands[index]["session_id"] = market.orders[slot]["session_id"]
    commands[index]["order_id"] = market.orders[slot]["order_id"]
    return index


@uncounted
@inlined
def _plan_end(model: Any, market: Any, slot: int, now_ns: int, bucket_end_ns: int) -> None:
    """Draw how long the order will stand (the deeper, the longer), and set its timer."""
    order = market.orders[slot]
    index, mid = np.int64(order["price_index"]), market.mid[order["symbol_id"]]
    depth = mid - index if order["side"] == BUY else index - mid - 1
    life_ns = interpolate(model.lifetime_of, draw_word(market)) * (1 + max(depth, 0))
    if order["is_patient"]:
        life_ns = life_ns * PATIENCE_FACTOR + model.patience_ns
    set_timer(market, slot, max(now_ns + life_ns, bucket_end_ns), model.bucket_shift)


assert BUY == 0
assert SELL == 1
