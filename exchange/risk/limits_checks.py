"""Limits before matching, compiled: what a session may ask for, and what may be asked for in a symbol.

An order is held against these in turn, and the first that it breaks is the reason that its client is told. Each limit
is kept by an order that reaches it exactly, and broken by one that is above.

================ ===================================================================================================
killed           the operator wants nothing of the session any more
rate             a bucket of ``orders_burst`` orders that fills with ``orders_per_second``. Every new order and every
                 replace that has come so far takes one out, whatever is said of it then
lots             the session's ``order_lots_max``, then the symbol's; of a replace its total
notional         lots times price: the session's ``order_notional_max``, then the symbol's
collar           the price may be ``collar_basis_points`` from the symbol's reference price, up or down
market           a market order counts at the reference price; without one it has no value that could be limited, and
                 is refused where value is
open orders      those of the session that live or are on their way; a replace adds none
exposure         the value of all that these have open
================ ===================================================================================================

The *reference price* is that of the symbol's last trade, or what the operator has said since; before either there is
none, and the collar does nothing. A *replace* at the order's own price to a smaller total only takes away: it is
counted nowhere and refused by nothing but the kill switch. Cancels and modifications do not come here at all.

**Exposure is never counted too low.** A new order counts whole until its answer is known. A replace may fail, and the
order may trade before it is done, so it is counted so that the sum is right or too high whichever happens: with the
price going up all of the difference, with the price going down only the lots that are added. What was counted too much
comes off with the answer. Whether a replace is *allowed* depends on what there will be when it has been done.

Sums stay in 64 bits: a value is below 2**52, and an exposure above ``limits.RISK_NOTIONAL_MAX`` is refused always.
"""

from typing import Final

from exchange import limits
from exchange.gateway.order_table import (
    ANSWERED,
    LIABILITY,
    OPEN_LOTS,
    PRICE,
    SYMBOL_ID,
    VALUE_TICKS,
)
from exchange.native import (
    add_wrapping,
    implements,
    inlined,
    kernel,
    load_acquire,
    load_int64,
    load_uint16,
    load_uint32,
    store_int64,
    store_release,
    unlikely,
)
from exchange.risk.limits_layout import (
    COLLAR,
    ENTERED_ORDERS,
    ENTERED_VALUE,
    EXPOSURE_MAX,
    GIVEN_AT,
    GIVEN_PRICE,
    LEFT_ORDERS,
    LEFT_VALUE,
    OPEN_ORDERS_MAX,
    ORDER_LOTS_MAX,
    ORDER_NOTIONAL_MAX,
    RATE,
    REFUSED,
    SPENT,
    SPENT_NS,
    SYMBOL_LOTS_MAX,
    SYMBOL_NOTIONAL_MAX,
    TRADE_PRICE,
    TRADES,
    UNLIMITED,
    LimitsRisk,
    session_row,
    symbol_row,
)
from exchange.risk.protocol import (
    Judgement,
    Refusal,
    check_new,
    check_replace,
    is_killed,
    note_entered,
    note_left,
    note_refused,
    note_trade,
)

VALUE_TICKS_MAX: Final = (1 << 32) - 1
"""A price counts up to here, beyond anything that OUCH can say, so that a value stays below 2**52."""

_SECOND: Final = 1_000_000_000
"""Nanoseconds; and billionths of an order."""
_BURST_MAX: Final = limits.RISK_ORDERS_BURST_MAX
_WHOLE: Final = 10_000
"""Basis points in one."""
_DISTANCE_MAX: Final = 1 << 48
_BURST_MASK: Final = (1 << 32) - 1

_NONE: Final = int(Refusal.NONE)
_KILLED: Final = int(Refusal.KILLED)
_RATE: Final = int(Refusal.RATE)
_LOTS: Final = int(Refusal.LOTS)
_NOTIONAL: Final = int(Refusal.NOTIONAL)
_COLLAR: Final = int(Refusal.COLLAR)
_MARKET: Final = int(Refusal.MARKET)
_OPEN_ORDERS: Final = int(Refusal.OPEN_ORDERS)
_EXPOSURE: Final = int(Refusal.EXPOSURE)


@inlined
def value_ticks_of(price_ticks: int) -> int:
    """The price at which the lots of a limit order count."""
    return min(abs(price_ticks), VALUE_TICKS_MAX)


@inlined
def find_reference(row: int) -> tuple[bool, int]:
    """Whether the symbol at ``row`` has a reference price, and which: the newer of a trade's and the operator's."""
    trades = load_acquire(row + TRADES)
    if load_acquire(row + GIVEN_AT) == trades + 1:
        return True, load_int64(row + GIVEN_PRICE)
    return trades > 0, load_int64(row + TRADE_PRICE)


@inlined
def _take_token(row: int, now_ns: int) -> tuple[int, bool]:
    """What the session's bucket lacks when it has given an order away now, and whether it had none; -1: no limit."""
    rate_word = load_acquire(row + RATE)
    if rate_word == 0:
        return -1, False
    rate, burst = rate_word >> 32, rate_word & _BURST_MASK
    elapsed_ns = max(now_ns - load_int64(row + SPENT_NS), 0)
    seconds, rest_ns = elapsed_ns // _SECOND, elapsed_ns % _SECOND
    spent = 0
    if seconds * rate < _BURST_MAX:
        spent = max(load_int64(row + SPENT) - (seconds * rate * _SECOND + rest_ns * rate), 0)
    spent += _SECOND
    return spent, spent > burst * _SECOND


@inlined
def _flaw_of_size(row: int, symbol: int, quantity_lots: int, value: int) -> int:
    """Whether one order is too large, in lots or in value, for its session or its symbol."""
    if unlikely(
        quantity_lots > load_acquire(row + ORDER_LOTS_MAX)
        or quantity_lots > load_acquire(symbol + SYMBOL_LOTS_MAX)
    ):
        return _LOTS
    if unlikely(
        value > load_acquire(row + ORDER_NOTIONAL_MAX) or value > load_acquire(symbol + SYMBOL_NOTIONAL_MAX)
    ):
        return _NOTIONAL
    return _NONE


@inlined
def _flaw_of_price(symbol: int, price_ticks: int) -> int:
    """Whether a price is too far from the reference."""
    collar = load_acquire(symbol + COLLAR)
    if collar == 0:
        return _NONE
    is_known, reference = find_reference(symbol)
    distance = min(abs(price_ticks - reference), _DISTANCE_MAX)
    return _COLLAR if is_known and distance * _WHOLE > value_ticks_of(reference) * collar else _NONE


@inlined
def _exposure(row: int) -> int:
    """The session's exposure, or more than it: what has gone is read first."""
    left = load_acquire(row + LEFT_VALUE)
    return add_wrapping(load_int64(row + ENTERED_VALUE), -left)


@implements(check_new, LimitsRisk)
def _check_new(
    risk: LimitsRisk,
    session_id: int,
    session: int,
    symbol_id: int,
    price_ticks: int,
    quantity_lots: int,
    is_market: bool,
    now_ns: int,
) -> Judgement:
    row, symbol = session_row(risk, session_id), symbol_row(risk, symbol_id)
    spent, is_too_fast = _take_token(row, now_ns)
    value_ticks, is_valued = value_ticks_of(price_ticks), True
    if unlikely(is_market):
        is_valued, reference = find_reference(symbol)
        value_ticks = value_ticks_of(reference) if is_valued else 0
    value = value_ticks * quantity_lots
    refusal = _NONE
    if unlikely(is_killed(session)):
        refusal = _KILLED
    elif unlikely(is_too_fast):
        refusal = _RATE
    else:
        refusal = _flaw_of_size(row, symbol, quantity_lots, value)
        if refusal == _NONE and not is_market:
            refusal = _flaw_of_price(symbol, price_ticks)
        if refusal == _NONE and unlikely(not is_valued) and _limits_value(row, symbol):
            refusal = _MARKET
        if refusal == _NONE:
            refusal = _flaw_of_sum(row, value)
    return Judgement(refusal, value_ticks, value, spent)


@inlined
def _flaw_of_sum(row: int, value: int) -> int:
    """Whether the session would have too much open with one order more."""
    left_orders = load_acquire(row + LEFT_ORDERS)
    if unlikely(load_int64(row + ENTERED_ORDERS) - left_orders >= load_acquire(row + OPEN_ORDERS_MAX)):
        return _OPEN_ORDERS
    return _EXPOSURE if unlikely(_exposure(row) + value > load_acquire(row + EXPOSURE_MAX)) else _NONE


@inlined
def _limits_value(row: int, symbol: int) -> bool:
    return (
        load_acquire(row + ORDER_NOTIONAL_MAX) < UNLIMITED
        or load_acquire(symbol + SYMBOL_NOTIONAL_MAX) < UNLIMITED
        or load_acquire(row + EXPOSURE_MAX) < UNLIMITED
    )


@implements(check_replace, LimitsRisk, inline=False)
def _check_replace(
    risk: LimitsRisk,
    session_id: int,
    session: int,
    order: int,
    user_reference: int,
    price_ticks: int,
    liability_lots: int,
    now_ns: int,
) -> Judgement:
    row, symbol = session_row(risk, session_id), symbol_row(risk, load_uint16(order + SYMBOL_ID))
    spent, is_too_fast = _take_token(row, now_ns)
    value_ticks, old_value_ticks = value_ticks_of(price_ticks), load_uint32(order + VALUE_TICKS)
    old_liability = load_int64(order + LIABILITY)
    exposure = _exposure(row)  # before the order's open lots are read: these may only have shrunk since
    open_lots = _open_lots(order, user_reference)
    change, added = _change_of_value(old_liability, liability_lots, old_value_ticks, value_ticks, open_lots)
    refusal = _NONE
    if unlikely(is_killed(session)):
        refusal = _KILLED
    elif price_ticks == load_int64(order + PRICE) and liability_lots < old_liability:
        spent = -1  # it only takes away
    elif unlikely(is_too_fast):
        refusal = _RATE
    else:
        refusal = _flaw_of_size(row, symbol, liability_lots, value_ticks * liability_lots)
        if refusal == _NONE:
            refusal = _flaw_of_price(symbol, price_ticks)
        is_over = exposure + change > load_acquire(row + EXPOSURE_MAX) and change > 0
        if refusal == _NONE and (is_over or exposure + added > UNLIMITED):
            refusal = _EXPOSURE
    return Judgement(refusal, value_ticks, added, spent)


@inlined
def _open_lots(order: int, user_reference: int) -> int:
    """What an order has open at most; -1 if its answer is not known yet."""
    if load_acquire(order + ANSWERED) != user_reference:
        return -1
    return min(load_int64(order + OPEN_LOTS), load_int64(order + LIABILITY))


@kernel
def _change_of_value(
    old_liability: int, liability: int, old_ticks: int, ticks: int, open_lots: int
) -> tuple[int, int]:
    """By how much a replace changes the exposure at most, and what is added to it until the answer is known."""
    growth = (liability - old_liability) * ticks
    if ticks >= old_ticks:
        change = growth + (old_liability if open_lots < 0 else open_lots) * (ticks - old_ticks)
        return change, max(change, 0)
    return growth - max(open_lots, 0) * (old_ticks - ticks), max(growth, 0)


@implements(note_entered, LimitsRisk)
def _note_entered(risk: LimitsRisk, session_id: int, judgement: Judgement, orders: int, now_ns: int) -> None:
    row = session_row(risk, session_id)
    store_release(row + ENTERED_VALUE, add_wrapping(load_int64(row + ENTERED_VALUE), judgement.added))
    store_release(row + ENTERED_ORDERS, load_int64(row + ENTERED_ORDERS) + orders)
    _store_spent(row, judgement.spent, now_ns)


@inlined
def _store_spent(row: int, spent: int, now_ns: int) -> None:
    if spent >= 0:
        store_int64(row + SPENT, spent)
        store_int64(row + SPENT_NS, now_ns)


@implements(note_refused, LimitsRisk, inline=False)
def _note_refused(risk: LimitsRisk, session_id: int, judgement: Judgement, now_ns: int) -> None:
    row = session_row(risk, session_id)
    count = row + REFUSED + 8 * judgement.refusal
    store_release(count, load_int64(count) + 1)
    if judgement.refusal not in (_KILLED, _RATE):
        _store_spent(row, judgement.spent, now_ns)


@implements(note_left, LimitsRisk)
def _note_left(risk: LimitsRisk, session_id: int, orders: int, value: int) -> None:
    row = session_row(risk, session_id)
    store_release(row + LEFT_VALUE, add_wrapping(load_int64(row + LEFT_VALUE), value))
    store_release(row + LEFT_ORDERS, load_int64(row + LEFT_ORDERS) + orders)


@implements(note_trade, LimitsRisk)
def _note_trade(risk: LimitsRisk, symbol_id: int, price_ticks: int) -> None:
    row = symbol_row(risk, symbol_id)
    store_int64(row + TRADE_PRICE, price_ticks)
    store_release(row + TRADES, load_int64(row + TRADES) + 1)
