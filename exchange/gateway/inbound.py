"""What everything that takes requests shares: what a request comes to, the commands that it makes, and its own answers.

One message is one call, and says what became of it:

========== ====================================================================================
FORWARD    a command was written, to be routed to its shard
NOTHING    the message is dealt with: ignored as OUCH wants it, or answered by the gateway
WAIT       there is no room yet, for the order or for the gateway's own answer, or something that was asked before has
           to be done first; nothing changed, the same message comes again
GARBAGE    no OUCH message; the connection cannot be trusted any more
========== ====================================================================================

What needs no book (an unknown symbol, a wrong letter, a question about the session) is answered through a ring of the
gateway's own, which only the outbound agent reads: it alone writes to clients. An answer is a record of 64 bytes, with
the session where an event has it."""

from typing import Any, Final, NamedTuple

from exchange.book import ladder_events as record
from exchange.gateway.session_memory import Sessions
from exchange.gateway.symbol_table import Symbols
from exchange.native import (
    inlined,
    load_big_endian_int64,
    load_big_endian_uint48,
    store_int64,
    store_uint8,
    store_uint16,
    store_uint32,
)
from exchange.queues.protocol import try_push

FORWARD: Final = 1
NOTHING: Final = 0
WAIT: Final = -1
GARBAGE: Final = -2

ANSWER_REJECTED: Final = 101
ANSWER_ACCOUNT: Final = 102
ANSWER_MASS_CANCEL: Final = 103
ANSWER_DISABLED: Final = 104
ANSWER_ENABLED: Final = 105

# an answer
ANSWER_USER_REFERENCE: Final = 8
ANSWER_REASON: Final = 16
ANSWER_CLIENT_ORDER_ID: Final = 24
ANSWER_SYMBOL: Final = 40
ANSWER_FIRM: Final = 48
"""Four characters, as a number of 32 bits."""
ANSWER_SIDE: Final = 52
"""The side that a mass cancel named, or 0."""
ANSWER_GROUP_ID: Final = 56
"""The group that a mass cancel named, or a negative number."""


class Requests(NamedTuple):
    """What decoding needs: the sessions, the symbols, risk, the band of prices, the ring of the gateway's own answers.

    ``answer`` is room for one record, ``translated`` for one message of another version of OUCH. The word at
    ``cancels_due`` counts the sessions of the lane that have orders to be cancelled (:mod:`.firm_requests`).
    """

    sessions: Sessions
    symbols: Symbols
    risk: Any
    price_min_ticks: int
    price_max_ticks: int
    answers: Any
    answer: int
    translated: int
    cancels_due: int


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
def push_answer(requests: Requests, kind: int, session_id: int, user_reference: int) -> bool:
    """Send the answer whose other fields stand at ``requests.answer``; False if the ring is full."""
    answer = requests.answer
    store_uint8(answer, kind)
    store_uint16(answer + record.SESSION_ID, session_id)
    store_int64(answer + ANSWER_USER_REFERENCE, user_reference)
    return try_push(requests.answers, answer)


@inlined
def answer_rejected(
    requests: Requests, session_id: int, user_reference: int, reason: int, client_order_id: int
) -> bool:
    """Refuse a request, whose client's own text stands at ``client_order_id``; False if the ring is full."""
    store_int64(requests.answer + ANSWER_REASON, reason)
    keep_client_order_id(requests.answer + ANSWER_CLIENT_ORDER_ID, client_order_id)
    return push_answer(requests, ANSWER_REJECTED, session_id, user_reference)


@inlined
def keep_client_order_id(target: int, client_order_id: int) -> None:
    """Fourteen characters of a message as two words: one of eight characters, one of six."""
    store_int64(target, load_big_endian_int64(client_order_id))
    store_int64(target + 8, load_big_endian_uint48(client_order_id + 8))
