"""Events as the ladder book writes them: eight words, straight to memory.

An event's words stand where ``EVENT_DTYPE`` says; a command's stand at the same offsets. So an event begins as a
copy of its command, two vector loads and stores, and what differs is put over it. Each function writes one event at
``event`` and returns the address of the next."""

from typing import Final

from exchange.messages import RECORD_BYTES, CommandKind, EventKind, Reason
from exchange.native import (
    copy_record,
    inlined,
    kernel,
    load_uint8,
    load_uint32,
    store_int64,
    store_uint32,
)

# offsets, in commands and events alike
KIND: Final = 0
SIDE: Final = 1
TIME_IN_FORCE: Final = 2
ORDER_TYPE: Final = 3
SYMBOL_ID: Final = 4
SESSION_ID: Final = 6
SEQUENCE: Final = 8
ORDER_ID: Final = 16
OTHER_ORDER_ID: Final = 24
PRICE: Final = 32
QUANTITY: Final = 40
MATCH_NUMBER: Final = 48
TIMESTAMP: Final = 56

NEW: Final = int(CommandKind.NEW)
REPLACE: Final = int(CommandKind.REPLACE)
MASS_CANCEL: Final = int(CommandKind.MASS_CANCEL)
ACCEPTED: Final = int(EventKind.ACCEPTED)
EXECUTED: Final = int(EventKind.EXECUTED)
CANCELED: Final = int(EventKind.CANCELED)
REPLACED: Final = int(EventKind.REPLACED)
REJECTED: Final = int(EventKind.REJECTED)
MASS_CANCELED: Final = int(EventKind.MASS_CANCELED)
NO_REASON: Final = int(Reason.NONE)


CAUSE: Final = 44
"""In an event: the session of the other order, then the kind of the command."""
LIABILITY: Final = 44
"""In a command: what a REPLACE's quantity is measured against, or 0."""
SIDE_MASK: Final = 0xFF00
TIME_IN_FORCE_MASK: Final = 0xFF0000
"""Of a command; in an event this byte is the reason, and the time in force is the next one."""


@inlined
def _answer(event: int, command: int, kind: int, cause: int) -> None:
    """The command, copied, and over it bytes 0 to 3, the cause, and no match number, as every event has them."""
    copy_record(event, command)
    store_uint32(event + KIND, kind)
    store_uint32(event + CAUSE, cause)
    store_int64(event + MATCH_NUMBER, 0)


@inlined
def _kind_word(kind: int, side: int, reason: int) -> int:
    """Bytes 0 to 3 of an event about an order of that side."""
    return kind | (side << 8) | (reason << 16)


@inlined
def _kind_word_of_command(command: int, kind: int, reason: int) -> int:
    """Bytes 0 to 3 of an event that has side and time in force from its command."""
    word = load_uint32(command + KIND)
    return kind | (word & SIDE_MASK) | (reason << 16) | ((word & TIME_IN_FORCE_MASK) << 8)


@inlined
def cause_word(other_session_id: int, command_kind: int) -> int:
    """Bytes 44 to 47 of an event."""
    return other_session_id | (command_kind << 16)


@inlined
def write_accepted(event: int, command: int) -> int:
    """A new order has passed all checks."""
    _answer(event, command, _kind_word_of_command(command, ACCEPTED, NO_REASON), cause_word(0, NEW))
    store_int64(event + OTHER_ORDER_ID, 0)
    return event + RECORD_BYTES


@inlined
def write_replaced(event: int, command: int, side: int, quantity_lots: int) -> int:
    """An order of that side has the command's id and price and this quantity now."""
    _answer(event, command, _kind_word(REPLACED, side, NO_REASON), cause_word(0, REPLACE))
    store_uint32(event + QUANTITY, quantity_lots)
    return event + RECORD_BYTES


@kernel
def write_rejected(event: int, command: int, reason: int) -> int:
    """The command's own fields, and why it was refused."""
    cause = cause_word(0, load_uint8(command + KIND))
    _answer(event, command, _kind_word_of_command(command, REJECTED, reason), cause)
    return event + RECORD_BYTES


@inlined
def write_canceled(
    event: int,
    command: int,
    side: int,
    reason: int,
    order_id: int,
    price_ticks: int,
    quantity_lots: int,
    command_kind: int,
) -> int:
    """So many lots of an order were taken away."""
    _answer(event, command, _kind_word(CANCELED, side, reason), cause_word(0, command_kind))
    store_int64(event + ORDER_ID, order_id)
    store_int64(event + OTHER_ORDER_ID, 0)
    store_int64(event + PRICE, price_ticks)
    store_uint32(event + QUANTITY, quantity_lots)
    return event + RECORD_BYTES


@inlined
def write_mass_canceled(event: int, command: int, orders: int) -> int:
    """So many orders were taken away, an event for each before this one."""
    _answer(event, command, _kind_word(MASS_CANCELED, 0, NO_REASON), cause_word(0, MASS_CANCEL))
    store_int64(event + ORDER_ID, 0)
    store_int64(event + OTHER_ORDER_ID, 0)
    store_int64(event + PRICE, 0)
    store_uint32(event + QUANTITY, orders)
    return event + RECORD_BYTES


@inlined
def write_executed(
    event: int,
    command: int,
    side: int,
    order_id: int,
    maker_id: int,
    price_ticks: int,
    quantity_lots: int,
    cause: int,
    match_number: int,
) -> int:
    """An order of that side has traded with one that was waiting; ``cause`` has the session of the latter."""
    _answer(event, command, _kind_word(EXECUTED, side, NO_REASON), cause)
    store_int64(event + ORDER_ID, order_id)
    store_int64(event + OTHER_ORDER_ID, maker_id)
    store_int64(event + PRICE, price_ticks)
    store_uint32(event + QUANTITY, quantity_lots)
    store_int64(event + MATCH_NUMBER, match_number)
    return event + RECORD_BYTES
