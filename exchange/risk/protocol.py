"""What risk promises, once, for every variant: whether an order may come in, and what is told so that it can say so.

An order is judged once, by the ingress that decodes it, before a command is made of it. Nothing behind the ingress
asks again: a refusal is an answer like any other, so whoever applies the sequence later need not know the limits.

Who calls what:

* The inbound side of a session (one thread for each session) asks :func:`check_new` or :func:`check_replace`, which
  change nothing: the same message may come again, if there is no room for its answer yet. When the decision has become
  fact it says so, once, with :func:`note_entered` or :func:`note_refused`.
* The outbound side (one thread for all) says what has gone, with :func:`note_left`, and at what price a symbol traded,
  with :func:`note_trade`.
* The control plane changes limits through the owner at any time; what is decided from then on obeys them.

An order's *value* is its open lots times its price in ticks; of a market order times the reference price of the moment
when it came in. ``value_ticks``, the price that counts, goes with the order in the order table, so that both sides mean
the same number.
"""

from enum import IntEnum
from typing import Any, Final, NamedTuple

from exchange.gateway.session_memory import KILLED as SESSION_KILLED
from exchange.native import generic, inlined, load_acquire
from exchange.wire.ouch50 import RejectReason


class Refusal(IntEnum):
    """Why an order was refused."""

    NONE = 0
    KILLED = 1
    RATE = 2
    LOTS = 3
    NOTIONAL = 4
    COLLAR = 5
    MARKET = 6
    """A market order whose value is limited, in a symbol without a reference price."""
    OPEN_ORDERS = 7
    EXPOSURE = 8


REASON_OF: Final[dict[Refusal, RejectReason]] = {
    Refusal.KILLED: RejectReason.FIRM_NOT_AUTHORIZED,
    Refusal.RATE: RejectReason.RISK_PORT_MESSAGE_RATE,
    Refusal.LOTS: RejectReason.RISK_MAXIMUM_QUANTITY_EXCEEDED,
    Refusal.NOTIONAL: RejectReason.RISK_SINGLE_ORDER_NOTIONAL_EXCEEDED,
    Refusal.COLLAR: RejectReason.RISK_FAT_FINGER,
    Refusal.MARKET: RejectReason.RISK_MARKET_ORDER_NOT_ALLOWED,
    Refusal.OPEN_ORDERS: RejectReason.RISK_AGGREGATE_EXPOSURE_EXCEEDED,
    Refusal.EXPOSURE: RejectReason.RISK_AGGREGATE_EXPOSURE_EXCEEDED,
}
"""What OUCH 5.0 says of it; OUCH has no reason of its own for too many open orders."""

_REASONS: Final = (0, *(int(REASON_OF[refusal]) for refusal in Refusal if refusal != Refusal.NONE))


class Judgement(NamedTuple):
    """What was decided about an order, and what is to be noted once it is fact.

    Attributes:
        refusal: a :class:`Refusal`.
        value_ticks: the price at which the order's lots count, not negative.
        added: by how much the session's exposure grows.
        spent: what the session's bucket lacks after this order, in billionths of an order; -1: nobody counts.
    """

    refusal: int
    value_ticks: int
    added: int
    spent: int


@generic
def check_new(
    risk: Any,
    session_id: int,
    session: int,
    symbol_id: int,
    price_ticks: int,
    quantity_lots: int,
    is_market: bool,
    now_ns: int,
) -> Judgement:
    """Judge a new order, whose terms are possible; its session's memory begins at ``session``. Nothing changes."""
    raise NotImplementedError


@generic
def check_replace(
    risk: Any,
    session_id: int,
    session: int,
    order: int,
    user_reference: int,
    price_ticks: int,
    liability_lots: int,
    now_ns: int,
) -> Judgement:
    """Judge a replace of the order at ``order`` in the order table, whose number is given; nothing changes.

    ``liability_lots`` is the new total of the order and all that it replaced, as a Replace Order has it.
    """
    raise NotImplementedError


@generic
def note_entered(risk: Any, session_id: int, judgement: Judgement, orders: int, now_ns: int) -> None:
    """A judged order goes to its shard; ``orders`` is 1, or 0 if it takes the place of another."""
    raise NotImplementedError


@generic
def note_refused(risk: Any, session_id: int, judgement: Judgement, now_ns: int) -> None:
    """A judged order has been answered with its refusal."""
    raise NotImplementedError


@generic
def note_left(risk: Any, session_id: int, orders: int, value: int) -> None:
    """So many orders of a session are gone, and so much of its exposure; neither is negative.

    Whoever calls it has stored the order's new open quantity before.
    """
    raise NotImplementedError


@generic
def note_trade(risk: Any, symbol_id: int, price_ticks: int) -> None:
    """A symbol has traded at a price."""
    raise NotImplementedError


@inlined
def is_killed(session: int) -> bool:
    """Whether the operator wants nothing of the session at ``session`` any more: alike in all variants."""
    return load_acquire(session + SESSION_KILLED) != 0


@inlined
def reason_of(refusal: int) -> int:
    """The number of OUCH 5.0's reason for a refusal; 0 for none."""
    return _REASONS[refusal]
