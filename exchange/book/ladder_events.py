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


SYMBOL_AND_SESSION: Final = -(1 << 32)
"""The upper half of a record's first word, which an event has from its command."""
SIDE_MASK: Final = 0xFF00
TIME_IN_FORCE_MASK: Final = 0xFF0000
"""Of a command; in an event this byte is the reason, and the time in force is the next one."""


@inlined
def answer_head(command_head: int, kind: int, reason: int) -> int:
    """The first word of an event that answers a command with that command's own fields."""
    kept = command_head & (SYMBOL_AND_SESSION | SIDE_MASK)
    return kept | kind | (reason << 16) | ((command_head & TIME_IN_FORCE_MASK) << 8)


@inlined
def head_word(command_head: int, kind: int, side: int, reason: int) -> int:
    """The first word of an event about an order of that side, in the symbol and session of its command."""
    return (command_head & SYMBOL_AND_SESSION) | kind | (side << 8) | (reason << 16)


@inlined
def quantity_word(quantity_lots: int, other_session_id: int, command_kind: int) -> int:
    """Bytes 40 to 47 of an event."""
    return quantity_lots | (other_session_id << 32) | (command_kind << 48)


@inlined
def write_event(
    event: int,
    command: int,
    head: int,
    order_id: int,
    other_order_id: int,
    price_ticks: int,
    quantity: int,
    match_number: int,
) -> int:
    """Write one event that ``command`` caused; ``head`` and ``quantity`` are packed words."""
    store_int64(event, head)
    store_int64(event + SEQUENCE, load_int64(command + SEQUENCE))
    store_int64(event + ORDER_ID, order_id)
    store_int64(event + OTHER_ORDER_ID, other_order_id)
    store_int64(event + PRICE, price_ticks)
    store_int64(event + QUANTITY, quantity)
    store_int64(event + MATCH_NUMBER, match_number)
    store_int64(event + TIMESTAMP, load_int64(command + TIMESTAMP))
    return event + RECORD_BYTES


@inlined
def write_accepted(event: int, command: int) -> int:
    """A new order has passed all checks."""
    quantity = quantity_word(load_uint32(command + QUANTITY), 0, NEW)
    order_id, price_ticks = load_int64(command + ORDER_ID), load_int64(command + PRICE)
    head = answer_head(load_int64(command), ACCEPTED, NO_REASON)
    return write_event(event, command, head, order_id, 0, price_ticks, quantity, 0)


@kernel
def write_rejected(event: int, command: int, reason: int) -> int:
    """The command's own fields, and why it was refused."""
    head = answer_head(load_int64(command), REJECTED, reason)
    quantity = quantity_word(load_uint32(command + QUANTITY), 0, load_uint8(command + KIND))
    order_id, other_order_id = load_int64(command + ORDER_ID), load_int64(command + OTHER_ORDER_ID)
    return write_event(
        event, command, head, order_id, other_order_id, load_int64(command + PRICE), quantity, 0
    )


@inlined
def write_canceled(
    event: int,
    command: int,
    head: int,
    order_id: int,
    price_ticks: int,
    quantity_lots: int,
    command_kind: int,
) -> int:
    """So many lots of an order were taken away."""
    quantity = quantity_word(quantity_lots, 0, command_kind)
    return write_event(event, command, head, order_id, 0, price_ticks, quantity, 0)
