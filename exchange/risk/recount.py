"""Counters that a restart makes anew, and what of.

What risk keeps is of three kinds:

* *Limits* are the operator's. A restart takes them from the profile; what was changed at run time is in the log of the
  exchange, and has to be said again. The kill switch is another matter: it is a word of the session, and in the stream.
* *Derived* from what stream and snapshots hold anyway: a session's open orders and its exposure, from its order table
  (:func:`recount`); the reference price of a symbol, from its EXECUTED events, of which a snapshot keeps what the last
  one said (:func:`references`).
* *Forgotten*: what buckets lack (a restart takes longer than they need to fill), counts of refusals, and a reference
  price that the operator has given.

The recount needs no more of an order than what the order table has had all along, so a table that was written by an
exchange without limits will do."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from exchange.gateway.order_table import NO_ORDER, OPEN_LOTS, PRICE, VALUE_TICKS, order_at
from exchange.gateway.session_memory import WAYS, SessionMemory, Sessions
from exchange.native import (
    add_wrapping,
    kernel,
    load_int64,
    load_uint32,
    store_int64,
    store_uint32,
)
from exchange.risk.limits import LimitsMemory
from exchange.risk.limits_checks import value_ticks_of
from exchange.risk.limits_layout import (
    ENTERED_ORDERS,
    ENTERED_VALUE,
    LEFT_ORDERS,
    LEFT_VALUE,
    TRADE_PRICE,
    TRADES,
    session_row,
    symbol_row,
)

REFERENCE_DTYPE: Final = np.dtype([("trades", "<i8"), ("price_ticks", "<i8")])


@kernel
def count_open(sessions: Sessions, session: int) -> tuple[int, int]:
    """How many orders of the session at ``session`` live, and their value, by its order table.

    No order may be on its way through the exchange.
    """
    orders, value = 0, 0
    for place in range(sessions.sets * WAYS):
        _number, order = order_at(sessions, session, place)
        if order != NO_ORDER:
            orders += 1
            value += load_int64(order + OPEN_LOTS) * load_uint32(order + VALUE_TICKS)
    return orders, value


@kernel
def value_orders(sessions: Sessions, session: int) -> None:
    """Write into each live order of the session at what price it counts; all are limit orders, for they rest."""
    for place in range(sessions.sets * WAYS):
        _number, order = order_at(sessions, session, place)
        if order != NO_ORDER:
            store_uint32(order + VALUE_TICKS, value_ticks_of(load_int64(order + PRICE)))


def recount_session(memory: LimitsMemory, sessions: SessionMemory, session_id: int) -> None:
    """Make a session's open orders and exposure what its order table says; no agent may be running."""
    session, row = sessions.address(session_id), session_row(memory.state, session_id)
    value_orders(sessions.sessions, session)
    orders, value = count_open(sessions.sessions, session)
    store_int64(row + ENTERED_ORDERS, load_int64(row + LEFT_ORDERS) + orders)
    store_int64(row + ENTERED_VALUE, add_wrapping(load_int64(row + LEFT_VALUE), value))


def recount(risk: object, sessions: SessionMemory) -> None:
    """Recount all sessions, if anybody counts; no agent may be running."""
    if isinstance(risk, LimitsMemory):
        for session_id in range(sessions.sessions.session_count):
            recount_session(risk, sessions, session_id)


def references(risk: object, symbol_count: int) -> NDArray[np.void]:
    """For each symbol how often it has traded and at which price last, for a snapshot; shape (symbols,)."""
    found = np.zeros(symbol_count, REFERENCE_DTYPE)
    if isinstance(risk, LimitsMemory):
        for symbol_id in range(symbol_count):
            row = symbol_row(risk.state, symbol_id)
            found[symbol_id] = load_int64(row + TRADES), load_int64(row + TRADE_PRICE)
    return found


def put_references(risk: object, found: NDArray[np.void]) -> None:
    """What :func:`references` has found, into an exchange that does not run yet."""
    if isinstance(risk, LimitsMemory):
        for symbol_id, (trades, price_ticks) in enumerate(found.tolist()):
            row = symbol_row(risk.state, symbol_id)
            store_int64(row + TRADES, trades)
            store_int64(row + TRADE_PRICE, price_ticks)
