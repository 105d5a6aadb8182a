"""Events as the ladder book writes them: eight words, straight to memory.

An event's words stand where ``EVENT_DTYPE`` says; a command's stand at the same offsets, so that most of an
answer is copied from its command. Each function writes one event at ``event`` and returns the address of the
next."""

from typing import Final

from exchange.messages import RECORD_BYTES, CommandKind, EventKind, Reason
from exchange.native import (
    inlined,
    kernel,
    load_int64,
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
def answer_word(command_word: int, kind: int, reason: int) -> int:
    """Bytes 0 to 3 of an event that answers a command with that command's own fields."""
    return (command_word & SIDE_MASK) | kind | (reason << 16) | ((command_word & TIME_IN_FORCE_MASK) << 8)


@inlined
def kind_word(kind: int, side: int, reason: int) -> int:
    """Bytes 0 to 3 of an event about an order of that side."""
    return kind | (side << 8) | (reason << 16)


@inlined
def cause_word(other_session_id: int, command_kind: int) -> int:
    """Bytes 44 to 47 of an event."""
    return other_session_id | (command_kind << 16)


@inlined
def write_event(
    event: int,
    command: int,
    kind: int,
    order_id: int,
    other_order_id: int,
    price_ticks: int,
    quantity_lots: int,
    cause: int,
    match_number: int,
) -> int:
    """Write one event that ``command`` caused, in its symbol and session; ``kind`` and ``cause`` are packed words.

    The halves of a word that come from different places are written one by one: to put them together first would be
    more work than a second store.
    """
    store_uint32(event + KIND, kind)
    store_uint32(event + SYMBOL_ID, load_uint32(command + SYMBOL_ID))  # and the session behind it
    store_int64(event + SEQUENCE, load_int64(command + SEQUENCE))
    store_int64(event + ORDER_ID, order_id)
    store_int64(event + OTHER_ORDER_ID, other_order_id)
    store_int64(event + PRICE, price_ticks)
    store_uint32(event + QUANTITY, quantity_lots)
    store_uint32(event + CAUSE, cause)
    store_int64(event + MATCH_NUMBER, match_number)
    store_int64(event + TIMESTAMP, load_int64(command + TIMESTAMP))
    return event + RECORD_BYTES


@inlined
def write_accepted(event: int, command: int) -> int:
    """A new order has passed all checks."""
    kind = answer_word(load_uint32(command + KIND), ACCEPTED, NO_REASON)
    order_id, price_ticks = load_int64(command + ORDER_ID), load_int64(command + PRICE)
    quantity_lots = load_uint32(command + QUANTITY)
    return write_event(event, command, kind, order_id, 0, price_ticks, quantity_lots, cause_word(0, NEW), 0)


@kernel
def write_rejected(event: int, command: int, reason: int) -> int:
    """The command's own fields, and why it was refused."""
    kind = answer_word(load_uint32(command + KIND), REJECTED, reason)
    order_id, other_order_id = load_int64(command + ORDER_ID), load_int64(command + OTHER_ORDER_ID)
    price_ticks, quantity_lots = load_int64(command + PRICE), load_uint32(command + QUANTITY)
    cause = cause_word(0, load_uint8(command + KIND))
    return write_event(event, command, kind, order_id, other_order_id, price_ticks, quantity_lots, cause, 0)


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
    kind, cause = kind_word(CANCELED, side, reason), cause_word(0, command_kind)
    return write_event(event, command, kind, order_id, 0, price_ticks, quantity_lots, cause, 0)
