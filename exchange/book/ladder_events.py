"""Events as the ladder book writes them: eight words, straight to memory.

An event's words stand where ``EVENT_DTYPE`` says; a command's stand at the same offsets, so that most of an
answer is copied from its command. Each function writes one event at ``event`` and returns the address of the
next."""

from typing import Final

from exchange.messages import RECORD_BYTES, EventKind, Reason
from exchange.native import (
    inlined,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    shift_left_wrapping,
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

ACCEPTED: Final = int(EventKind.ACCEPTED)
EXECUTED: Final = int(EventKind.EXECUTED)
CANCELED: Final = int(EventKind.CANCELED)
REPLACED: Final = int(EventKind.REPLACED)
REJECTED: Final = int(EventKind.REJECTED)
MASS_CANCELED: Final = int(EventKind.MASS_CANCELED)
NO_REASON: Final = int(Reason.NONE)


@inlined
def head_word(kind: int, side: int, reason: int, time_in_force: int, symbol_id: int, session_id: int) -> int:
    """The first eight bytes of an event."""
    low = kind | (side << 8) | (reason << 16) | (time_in_force << 24) | (symbol_id << 32)
    return low | shift_left_wrapping(session_id, 48)


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
def write_rejected(event: int, command: int, reason: int) -> int:
    """The command's own fields, and why it was refused."""
    head = head_word(
        REJECTED,
        load_uint8(command + SIDE),
        reason,
        load_uint8(command + TIME_IN_FORCE),
        load_uint16(command + SYMBOL_ID),
        load_uint16(command + SESSION_ID),
    )
    quantity = quantity_word(load_uint32(command + QUANTITY), 0, load_uint8(command + KIND))
    order_id, other_order_id = load_int64(command + ORDER_ID), load_int64(command + OTHER_ORDER_ID)
    return write_event(
        event, command, head, order_id, other_order_id, load_int64(command + PRICE), quantity, 0
    )


@inlined
def write_canceled(
    event: int,
    command: int,
    side: int,
    reason: int,
    symbol_id: int,
    session_id: int,
    order_id: int,
    price_ticks: int,
    quantity_lots: int,
) -> int:
    """So many lots of an order were taken away."""
    head = head_word(CANCELED, side, reason, 0, symbol_id, session_id)
    quantity = quantity_word(quantity_lots, 0, load_uint8(command + KIND))
    return write_event(event, command, head, order_id, 0, price_ticks, quantity, 0)
