"""Where limits and counters stand: a row for each session and one for each symbol, in flat memory.

::

    a session's row                                              written by
    +0     its limits                                            control plane
    +128   orders and value let in, the bucket, refusals         inbound agent of the session
    +256   orders and value gone again                           outbound agent

    a symbol's row
    +0     its limits, the operator's reference price            control plane
    +128   trades, and the price of the last one                 outbound agent

Each group has one writer and lies two cache lines from the next. A counter that two threads have to move is two words
that only grow, one for each; their difference is what is there now. Whoever reads takes what has gone *first*: then
it can only have seen too little of that, and what it believes to be open is at least what is open. The words for value
wrap around at 64 bits; their difference does not, for no session's exposure may be above ``limits.RISK_NOTIONAL_MAX``.

A limit that is not set is the largest number there is for it, so that one comparison says all."""

from typing import Final, NamedTuple

from exchange import limits
from exchange.native import inlined
from exchange.risk.protocol import Refusal

# a session's row: control's
ORDER_LOTS_MAX: Final = 0
ORDER_NOTIONAL_MAX: Final = 8
RATE: Final = 16
"""Orders per second, above 32 bits of how many may come at once, so that both change together; 0: no limit."""
OPEN_ORDERS_MAX: Final = 24
EXPOSURE_MAX: Final = 32

# inbound's
ENTERED_ORDERS: Final = 128
ENTERED_VALUE: Final = 136
SPENT: Final = 144
"""What the bucket lacked at ``SPENT_NS``, in billionths of an order. Fresh memory is a full bucket."""
SPENT_NS: Final = 152
REFUSED: Final = 160
"""A count for each :class:`~exchange.risk.protocol.Refusal`."""

# outbound's
LEFT_ORDERS: Final = 256
LEFT_VALUE: Final = 264

SESSION_ROW_BYTES: Final = 384

# a symbol's row: control's
SYMBOL_LOTS_MAX: Final = 0
SYMBOL_NOTIONAL_MAX: Final = 8
COLLAR: Final = 16
"""In basis points; 0: no limit."""
GIVEN_PRICE: Final = 24
GIVEN_AT: Final = 32
"""One more than how many trades there were when the operator gave the price: it holds until the next one. 0: never."""

# outbound's
TRADES: Final = 128
TRADE_PRICE: Final = 136

SYMBOL_ROW_BYTES: Final = 256

UNLIMITED: Final = limits.RISK_NOTIONAL_MAX

assert REFUSED + 8 * len(Refusal) <= LEFT_ORDERS


class LimitsRisk(NamedTuple):
    """Where the rows begin, of sessions 0, 1, 2 ... and of symbols 0, 1, 2 ..."""

    sessions: int
    symbols: int


@inlined
def session_row(risk: LimitsRisk, session_id: int) -> int:
    """Where a session's row is."""
    return risk.sessions + session_id * SESSION_ROW_BYTES


@inlined
def symbol_row(risk: LimitsRisk, symbol_id: int) -> int:
    """Where a symbol's row is."""
    return risk.symbols + symbol_id * SYMBOL_ROW_BYTES
