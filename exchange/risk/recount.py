"""Counters that a restart makes anew, and what of.

What risk keeps is of three kinds:

* *Limits* are the operator's. A restart takes them from the profile; what was changed at run time is in the log of the
  exchange, and has to be said again.
* *The kill switch* of a session is in the stream, as an answer that nobody is told, and a snapshot has to keep it
  (:meth:`~exchange.risk.limits.LimitsMemory.killed_sessions`).
* *Derived* from what the stream of the exchange holds anyway: a session's open orders and its exposure, from its order
  table (:func:`recount_session`); the reference price of a symbol, which is that of its last EXECUTED event, from
  letting the outbound side report the events again.
* *Forgotten*: what buckets lack (a restart takes longer than they need to fill), counts of refusals, and a reference
  price that the operator has given.

The recount needs no more of an order than what the order table has had all along, so a table that was written by an
exchange without limits will do."""

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
    session_row,
)


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
