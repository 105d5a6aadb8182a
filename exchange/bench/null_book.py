"""A book that keeps nothing: it decodes each command and writes one event. What is left of a real book's time
beside it is what matching costs.

Every engine pays for reading 64 bytes and writing 64 bytes, however clever it is, and how much that is depends on
the machine. ``exchange bench core`` therefore measures this null book in the same run as the real one, through the
same loops, and a ratio between the two says more about a book than nanoseconds do.

It is honest work, not an empty loop: every field that a book reads is read in its own width, the kind and the symbol
are checked as the rules of :mod:`exchange.book.protocol` ask for, and the event is one that a client could have got:
the answer to a command on an empty exchange that believes whatever it is told. ``tag`` and ``reserved`` are the
sender's and no book reads them.

Rules: only what a benchmark needs is implemented (:func:`apply_commands`, :func:`live_order_count`); this is no
variant of the book layer and no profile can name it.
"""

from typing import Final, NamedTuple

from exchange.book.ladder_events import (
    KIND,
    MATCH_NUMBER,
    ORDER_ID,
    ORDER_TYPE,
    OTHER_ORDER_ID,
    PRICE,
    QUANTITY,
    SEQUENCE,
    SESSION_ID,
    SIDE,
    SYMBOL_ID,
    TIME_IN_FORCE,
    TIMESTAMP,
    cause_word,
)
from exchange.book.protocol import apply_commands, live_order_count
from exchange.messages import RECORD_BYTES, CommandKind, EventKind, OrderType, Reason
from exchange.native import (
    implements,
    inlined,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    prefetch_for_read,
    store_int64,
    unlikely,
)

_NEW, _REPLACE, _MASS_CANCEL = int(CommandKind.NEW), int(CommandKind.REPLACE), int(CommandKind.MASS_CANCEL)
_REJECTED, _MARKET = int(EventKind.REJECTED), int(OrderType.MARKET)
_UNKNOWN_COMMAND, _UNKNOWN_SYMBOL = int(Reason.UNKNOWN_COMMAND), int(Reason.UNKNOWN_SYMBOL)

_ANSWER_BITS: Final = 8
_ANSWERS: Final = sum(
    (answer | reason << 4) << (_ANSWER_BITS * command)
    for command, answer, reason in (
        (CommandKind.NEW, EventKind.ACCEPTED, Reason.NONE),
        (CommandKind.CANCEL, EventKind.CANCELED, Reason.BY_CLIENT),
        (CommandKind.REPLACE, EventKind.REPLACED, Reason.NONE),
        (CommandKind.MASS_CANCEL, EventKind.MASS_CANCELED, Reason.NONE),
    )
)
"""By kind of command, the kind of the answer and its reason: a table in a word, because a processor guesses a branch on
the kind wrong every other time, and that would be half of all the time that a null book takes."""


READ_AHEAD_BYTES: Final = 2048
"""How far ahead commands are asked for, as the ladder does it: what memory costs is nobody's merit."""


class NullBook(NamedTuple):
    """A book without memory; all it knows is how many symbols there are."""

    symbol_count: int


@implements(apply_commands, NullBook, inline=False)
def _apply_commands(book: NullBook, commands_address: int, count: int, events_address: int) -> int:
    for index in range(count):
        command = commands_address + index * RECORD_BYTES
        prefetch_for_read(command + READ_AHEAD_BYTES)
        _answer(book, command, events_address + index * RECORD_BYTES)
    return count


@implements(live_order_count, NullBook)
def _live_order_count(book: NullBook) -> int:
    return 0


@inlined
def _answer(book: NullBook, command: int, event: int) -> None:
    """Write the event that answers a command."""
    kind, side = load_uint8(command + KIND), load_uint8(command + SIDE)
    time_in_force, order_type = load_uint8(command + TIME_IN_FORCE), load_uint8(command + ORDER_TYPE)
    symbol_id, session_id = load_uint16(command + SYMBOL_ID), load_uint16(command + SESSION_ID)
    price_ticks, quantity_lots = load_int64(command + PRICE), load_uint32(command + QUANTITY)
    new_order_id = load_int64(command + OTHER_ORDER_ID)
    known = _ANSWERS >> (_ANSWER_BITS * (kind & 7))
    answer, reason = known & 15, known >> 4 & 15
    if unlikely(kind < _NEW or kind > _MASS_CANCEL):
        answer, reason = _REJECTED, _UNKNOWN_COMMAND
    elif unlikely(symbol_id >= book.symbol_count and kind != _MASS_CANCEL):
        answer, reason = _REJECTED, _UNKNOWN_SYMBOL
    if kind != _REPLACE:
        new_order_id = 0
    if order_type == _MARKET:
        price_ticks = 0
    head = answer | side << 8 | reason << 16 | time_in_force << 24 | symbol_id << 32 | session_id << 48
    store_int64(event, head)
    store_int64(event + SEQUENCE, load_int64(command + SEQUENCE))
    store_int64(event + ORDER_ID, load_int64(command + ORDER_ID))
    store_int64(event + OTHER_ORDER_ID, new_order_id)
    store_int64(event + PRICE, price_ticks)
    store_int64(event + QUANTITY, quantity_lots | cause_word(0, kind) << 32)
    store_int64(event + MATCH_NUMBER, 0)
    store_int64(event + TIMESTAMP, load_int64(command + TIMESTAMP))
