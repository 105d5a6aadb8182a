"""What the gateway knows of each order of a session: what the client will want to hear again in every answer.

The engine carries 64 bytes for each command and event; a client's own texts and letters (its order id, display,
capacity, the four kinds of side) do not travel through it. The inbound agent writes them here before it pushes the
command, the outbound agent reads them when events come back: the release of the queue's tail and the acquire on
the other side make one visible to the other.

**Where an order is.** A client's UserRefNums only ever grow, by any steps. So the table is what a processor's cache is:
set-associative. A number belongs to one set (its remainder), and in that set to any of eight ways. To look it up is
to compare the eight numbers of one cache line; nothing is ever moved or rehashed, and memory is bounded. For a client
that counts 1, 2, 3 the ways of a set fill evenly; a client whose live orders crowd into one set is refused the next
order in that set, as if its limit were reached.

**Who frees.** Inbound writes the number into the set, outbound writes the same number into the order's ``FINISHED``
when its last event has passed. An order is alive while the two differ: two words, each with one writer. Numbers are
never used twice, so neither can be mistaken.

Orders that are on their way to the book, or whose answer is on its way back, are in the table too. A set that is full
of orders that live is a reject; one that is full because the exchange is busy only makes the client wait."""

from typing import Final

from exchange.gateway.session_memory import (
    INPUT,
    INPUT_BYTES,
    ORDER_BYTES,
    SET_BYTES,
    WAYS,
    Sessions,
)
from exchange.native import (
    inlined,
    load_acquire,
    load_int64,
    store_int64,
    store_release,
    store_uint32,
)

# inbound's part of an order
SYMBOL_WORD: Final = 0
CLIENT_ORDER_ID: Final = 8
"""Fourteen characters: a word of eight, then a word that holds six."""
PRICE: Final = 24
LIABILITY: Final = 32
"""The most that may be executed over the whole chain of replaces, executions so far included."""
GROUP_ID: Final = 40
"""Entity within the firm (16 bits), or 0."""
LAST_SIDE: Final = 42
"""The side that was asked for last; the one that the order was entered with stays in ``SIDE``."""
VALUE_TICKS: Final = 44
"""The price at which the order's lots count in the session's exposure (32 bits); see :mod:`exchange.risk.protocol`."""
FIRM: Final = 48
"""Four characters (32 bits), or 0 for the session's own."""
MODIFIES: Final = 52
"""How many modifications were asked for (32 bits), over all orders that were here."""
SYMBOL_ID: Final = 56
SIDE: Final = 58
TIME_IN_FORCE: Final = 59
DISPLAY: Final = 60
CAPACITY: Final = 61
SWEEP: Final = 62
CROSS_TYPE: Final = 63

# outbound's part
FINISHED: Final = 64
OPEN_LOTS: Final = 72
ANSWERED: Final = 80
"""The number again, once the order has been accepted."""
MODIFIED: Final = 88
"""How many modifications were answered. One that is on its way makes the next one wait."""

VALUE_ADDED: Final = 96
"""Of a replacement: what it added to the session's exposure. Inbound writes it while the order is not known outside."""

NO_ORDER: Final = 0
NOT_YET: Final = 1
"""No room now, but an order of the set is on its way through the exchange: when it comes back there may be."""

MODIFIED_MASK: Final = (1 << 32) - 1

SESSION_SHIFT: Final = 32
USER_REFERENCE_MASK: Final = (1 << SESSION_SHIFT) - 1


@inlined
def engine_order_id(session_id: int, user_reference: int) -> int:
    """The order's id in the engine: session and UserRefNum side by side, so that no two sessions can collide."""
    return (session_id << SESSION_SHIFT) | user_reference


@inlined
def _set_of(sessions: Sessions, session: int, user_reference: int) -> int:
    return session + INPUT + INPUT_BYTES + (user_reference & (sessions.sets - 1)) * SET_BYTES


@inlined
def _order_of(sessions: Sessions, session: int, user_reference: int, way: int) -> int:
    # Way by way, so that a session with few orders at a time stays in few pages.
    place = way * sessions.sets + (user_reference & (sessions.sets - 1))
    return session + sessions.orders_offset + place * ORDER_BYTES


@inlined
def find_order(sessions: Sessions, session: int, user_reference: int) -> int:
    """The address of the live order of that number in the session at ``session``, or :data:`NO_ORDER`."""
    numbers = _set_of(sessions, session, user_reference)
    for way in range(WAYS):
        if load_int64(numbers + 8 * way) == user_reference:
            order = _order_of(sessions, session, user_reference, way)
            return NO_ORDER if load_acquire(order + FINISHED) == user_reference else order
    return NO_ORDER


@inlined
def take_order(sessions: Sessions, session: int, user_reference: int) -> int:
    """Room for a new order (inbound only); :data:`NO_ORDER` or :data:`NOT_YET` if its set is full."""
    numbers = _set_of(sessions, session, user_reference)
    room = NO_ORDER
    for way in range(WAYS):
        order = _order_of(sessions, session, user_reference, way)
        number = load_int64(numbers + 8 * way)
        if number == load_acquire(order + FINISHED):
            store_int64(numbers + 8 * way, user_reference)
            store_uint32(order + MODIFIES, load_int64(order + MODIFIED))
            return order
        if number != load_acquire(order + ANSWERED):
            room = NOT_YET
    return room


@inlined
def order_at(sessions: Sessions, session: int, place: int) -> tuple[int, int]:
    """Number and address of the live order at a place of the table; 0 and :data:`NO_ORDER` if there is none.

    Places are numbered from 0 to the capacity.
    """
    way, number_of_set = place // sessions.sets, place & (sessions.sets - 1)
    number = load_int64(_set_of(sessions, session, number_of_set) + 8 * way)
    order = _order_of(sessions, session, number_of_set, way)
    if number == 0 or number == load_acquire(order + FINISHED):
        return 0, NO_ORDER
    return number, order


@inlined
def finish_order(order: int, user_reference: int) -> None:
    """The order's last event has passed (outbound only): its room may be used again."""
    store_release(order + FINISHED, user_reference)


@inlined
def remove_order(sessions: Sessions, session: int, place: int) -> None:
    """Empty a place of the table, as if its order had never been, so that its number may come again.

    No agent may be running. An order that is *finished* cannot come again under its number.
    """
    way, number_of_set = place // sessions.sets, place & (sessions.sets - 1)
    store_int64(_set_of(sessions, session, number_of_set) + 8 * way, 0)
    store_int64(_order_of(sessions, session, number_of_set, way) + FINISHED, 0)
