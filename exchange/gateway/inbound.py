"""What everything that takes requests shares: what a request comes to, the commands that it makes, and its own answers.

One message is one call, and says what became of it:

========== ====================================================================================
1 or 2     so many records were written, to be routed to their shard
NOTHING    the message is dealt with: ignored as OUCH wants it, or to be done piece by piece
WAIT       there is no room yet for the order, or something that was asked before has to be done first; nothing changed,
           the same message comes again
GARBAGE    no OUCH message; the connection cannot be trusted any more
========== ====================================================================================

A record is a command, or what stands before it for the journal (:mod:`exchange.gateway.details`), or an *answer*: what
needs no book (an unknown symbol, a wrong letter, a question about the session) is answered by the gateway itself. Its
answer goes through a shard like a command. So the shard's sequence has everything that a client is told, in the order
in which it is told, and a journal of it is all that it takes to tell it again.
"""

from typing import Any, Final, NamedTuple

from exchange.book import ladder_events as record
from exchange.gateway.session_memory import Sessions
from exchange.gateway.symbol_table import Symbols
from exchange.messages import CommandKind
from exchange.native import (
    inlined,
    load_big_endian_int64,
    load_big_endian_uint48,
    store_int64,
    store_uint8,
    store_uint16,
    store_uint32,
)

FORWARD: Final = 1
"""One record."""
NOTHING: Final = 0
WAIT: Final = -1
GARBAGE: Final = -2

REJECTED: Final = 1
ACCOUNT: Final = 2
MASS_CANCEL: Final = 3
DISABLED: Final = 4
ENABLED: Final = 5
SYSTEM_EVENT: Final = 6
KILLED: Final = 7
REVIVED: Final = 8
"""Which answer it is. From the sixth on they are the exchange's own: a System Event is said to every session; that the
operator takes no orders of a session any more, or takes them again, is said to nobody, and is there for a restart."""

# an answer; kind, symbol, session, sequence and time are where every command has them
ANSWER_KIND: Final = 1
ANSWER_USES_NUMBER: Final = 2
"""Not 0: the request has used up its number, and none up to it will be taken again."""
ANSWER_USER_REFERENCE: Final = 16
"""Of a System Event: how many sessions there are, which are all told."""
ANSWER_REASON: Final = 20
"""Of a reject: 16 bits. Of a system event: its letter."""
ANSWER_CLIENT_ORDER_ID: Final = 24
ANSWER_SYMBOL: Final = 40
"""The eight bytes of the symbol that a mass cancel named."""
ANSWER_FIRM: Final = 48
"""Four characters, as a number of 32 bits."""
ANSWER_SIDE: Final = 52
"""The side that a mass cancel named, or 0."""
ANSWER_HAS_GROUP: Final = 53
"""Not 0: it named a group."""
ANSWER_GROUP_ID: Final = 54

ANSWERED_BY_SHARD: Final = 0
"""Answers are routed as if they were about the first symbol."""

_ANSWER: Final = int(CommandKind.ANSWER)


class Requests(NamedTuple):
    """What decoding needs: the sessions, the symbols, risk, the band of prices.

    ``keeps_details`` is 1 if a journal wants to know of each order what the gateway keeps of it, else 0. ``translated``
    is room for one message of another version of OUCH. The word at ``cancels_due`` counts the sessions of the lane that
    have orders to be cancelled (:mod:`.firm_requests`).
    """

    sessions: Sessions
    symbols: Symbols
    risk: Any
    price_min_ticks: int
    price_max_ticks: int
    keeps_details: int
    translated: int
    cancels_due: int


@inlined
def records_max(requests: Requests) -> int:
    """How many records the next message may come to, for which there has to be room."""
    return FORWARD + requests.keeps_details


@inlined
def write_command(
    command: int,
    kind: int,
    symbol_id: int,
    session_id: int,
    order_id: int,
    new_order_id: int,
    price_ticks: int,
    quantity_lots: int,
    now_ns: int,
) -> None:
    """A command with every byte set, for its room has held others."""
    store_int64(command, kind)  # clears side, time in force and type
    store_uint16(command + record.SYMBOL_ID, symbol_id)
    store_uint16(command + record.SESSION_ID, session_id)
    store_int64(command + record.SEQUENCE, 0)
    store_int64(command + record.ORDER_ID, order_id)
    store_int64(command + record.OTHER_ORDER_ID, new_order_id)
    store_int64(command + record.PRICE, price_ticks)
    store_uint32(command + record.QUANTITY, quantity_lots)
    store_uint32(command + record.LIABILITY, 0)
    store_int64(command + record.MATCH_NUMBER, 0)
    store_int64(command + record.TIMESTAMP, now_ns)


@inlined
def begin_answer(
    command: int, kind: int, session_id: int, user_reference: int, uses_number: bool, now_ns: int
) -> None:
    """An answer of the gateway's own at ``command``, with every byte set that no caller sets."""
    store_int64(command, _ANSWER)
    store_uint8(command + ANSWER_KIND, kind)
    store_uint8(command + ANSWER_USES_NUMBER, uses_number)
    store_uint16(command + record.SYMBOL_ID, ANSWERED_BY_SHARD)
    store_uint16(command + record.SESSION_ID, session_id)
    store_int64(command + record.SEQUENCE, 0)
    store_int64(command + ANSWER_USER_REFERENCE, user_reference)
    for word in range(ANSWER_CLIENT_ORDER_ID, record.TIMESTAMP, 8):
        store_int64(command + word, 0)
    store_int64(command + record.TIMESTAMP, now_ns)


@inlined
def answer_rejected(
    command: int,
    session_id: int,
    user_reference: int,
    uses_number: bool,
    reason: int,
    client_order_id: int,
    now_ns: int,
) -> int:
    """Refuse a request, whose client's own text stands at ``client_order_id``: one record."""
    begin_answer(command, REJECTED, session_id, user_reference, uses_number, now_ns)
    store_uint16(command + ANSWER_REASON, reason)
    keep_client_order_id(command + ANSWER_CLIENT_ORDER_ID, client_order_id)
    return FORWARD


@inlined
def keep_client_order_id(target: int, client_order_id: int) -> None:
    """Fourteen characters of a message as two words: one of eight characters, one of six."""
    store_int64(target, load_big_endian_int64(client_order_id))
    store_int64(target + 8, load_big_endian_uint48(client_order_id + 8))
