"""The options at the end of an OUCH message (OUCH 5.0, appendage): which of them this exchange can keep, compiled.

An option that asks for something the book cannot do (a peg, a hidden reserve, a minimum quantity ...) must not be
overlooked: the client would hold an order that behaves otherwise than it was asked to. So each option is either
harmless, or has the value that means nothing, or the order is rejected with the reason that fits best.

What a request may say besides (the firm, the group within it, a side, the channel) is handed on to whoever takes it.

The list of elements is walked once, in bounded time: every element has a length of at least one, no tag comes twice,
and the last one ends where the message does. Anything else is no OUCH message."""

from typing import Final, NamedTuple

from exchange.native import inlined, kernel, load_big_endian_uint16, load_big_endian_uint32, load_uint8
from exchange.wire.ouch50 import RejectReason
from exchange.wire.ouch50_options import OPTION_FIELDS, OptionTag

APPENDAGE_BYTES: Final = 2
"""The length in front of the options."""

GARBAGE_OPTION: Final = -1
NO_FLAW: Final = 0

INVALID_MAXIMUM_FLOOR: Final = int(RejectReason.INVALID_MAXIMUM_FLOOR)
INVALID_PEG_TYPE: Final = int(RejectReason.INVALID_PEG_TYPE)
INVALID_MINIMUM_QUANTITY: Final = int(RejectReason.INVALID_MINIMUM_QUANTITY)
OTHER: Final = int(RejectReason.OTHER)
PEGGING_NOT_ALLOWED: Final = int(RejectReason.PEGGING_NOT_ALLOWED)
ROUTING_NOT_ALLOWED: Final = int(RejectReason.ROUTING_NOT_ALLOWED)
INVALID_AIQ: Final = int(RejectReason.INVALID_AIQ)

FIRM: Final = int(OptionTag.FIRM)
PRICE_TYPE: Final = int(OptionTag.PRICE_TYPE)
MINIMUM_QUANTITY: Final = int(OptionTag.MINIMUM_QUANTITY)
ROUTE: Final = int(OptionTag.ROUTE)
POST_ONLY: Final = int(OptionTag.POST_ONLY)
TRADE_NOW: Final = int(OptionTag.TRADE_NOW)
HANDLING_INSTRUCTION: Final = int(OptionTag.HANDLING_INSTRUCTION)
USER_REFERENCE_INDEX: Final = int(OptionTag.USER_REFERENCE_INDEX)
GROUP_ID: Final = int(OptionTag.GROUP_ID)
SIDE: Final = int(OptionTag.SIDE)

RESERVES: Final = (int(OptionTag.MAXIMUM_FLOOR), int(OptionTag.RANDOM_RESERVES))
PEGS: Final = (
    int(OptionTag.PEG_OFFSET),
    int(OptionTag.DISCRETION_PRICE),
    int(OptionTag.DISCRETION_PRICE_TYPE),
    int(OptionTag.DISCRETION_PEG_OFFSET),
)
SELF_MATCH: Final = (int(OptionTag.AIQ_STRATEGY), int(OptionTag.AIQ_GROUP_ID))
HARMLESS: Final = (
    FIRM,
    GROUP_ID,
    SIDE,
    int(OptionTag.CUSTOMER_TYPE),
    int(OptionTag.SHARES_LOCATED),
    int(OptionTag.LOCATE_BROKER),
)

TAGS: Final = max(OPTION_FIELDS) + 1
VALUE_BYTES: Final = tuple(
    (OPTION_FIELDS[tag].size_bytes or 0) if tag in OPTION_FIELDS else 0 for tag in range(TAGS)
)
"""For each tag how long its value is; 0 for a tag that no edition of the specification has."""

NO_GROUP: Final = -1
NO_FIRM: Final = int.from_bytes(b"    ", "big")
"""Four spaces: the session's own firm."""

_SPACE: Final = ord(" ")
_LIMIT: Final = ord("L")
_NO: Final = ord("N")


class ReadOptions(NamedTuple):
    """What the options of a message come to.

    ``flaw`` is why the request cannot be taken, or :data:`NO_FLAW`; ``firm`` four letters as a number, 0 for the
    session's own; ``group_id`` a number, or :data:`NO_GROUP` if none was named; ``side`` a letter, or 0; ``channel``
    the user reference index, 0 if there is none.
    """

    flaw: int
    firm: int
    group_id: int
    side: int
    channel: int


@kernel
def _flaw_of(tag: int, value: int) -> int:
    """Why an order with this option cannot be taken, or :data:`NO_FLAW`; ``value`` is an address."""
    letter = load_uint8(value)
    if tag == PRICE_TYPE:
        return NO_FLAW if letter == _LIMIT else INVALID_PEG_TYPE
    if tag == MINIMUM_QUANTITY:
        return NO_FLAW if load_big_endian_uint32(value) == 0 else INVALID_MINIMUM_QUANTITY
    if tag in RESERVES:
        return NO_FLAW if load_big_endian_uint32(value) == 0 else INVALID_MAXIMUM_FLOOR
    if tag in PEGS:
        return PEGGING_NOT_ALLOWED
    if tag == ROUTE:
        return ROUTING_NOT_ALLOWED
    if tag in SELF_MATCH:
        return INVALID_AIQ
    if tag == POST_ONLY:
        return NO_FLAW if letter == _NO else OTHER
    if tag == TRADE_NOW:
        return NO_FLAW if letter in (_SPACE, _NO) else OTHER
    if tag == HANDLING_INSTRUCTION:
        return NO_FLAW if letter == _SPACE else OTHER
    if tag == USER_REFERENCE_INDEX:
        return NO_FLAW if letter == 0 else OTHER
    return NO_FLAW if tag in HARMLESS else OTHER


@kernel
def read_options(address: int, size_bytes: int) -> ReadOptions:
    """The options at ``address``; a flaw of :data:`GARBAGE_OPTION` says that they are none."""
    flaw, firm, group_id, side, channel, seen = NO_FLAW, 0, NO_GROUP, 0, 0, 0
    here, end = address, address + size_bytes
    while here < end:
        value_bytes = load_uint8(here) - 1
        if value_bytes < 0 or here + 2 + value_bytes > end:
            return ReadOptions(GARBAGE_OPTION, firm, group_id, side, channel)
        tag = load_uint8(here + 1)
        if tag >= TAGS or VALUE_BYTES[tag] == 0:
            flaw = OTHER if flaw == NO_FLAW else flaw  # of an edition that is newer than ours
        elif VALUE_BYTES[tag] != value_bytes or seen & (1 << tag) != 0:
            return ReadOptions(GARBAGE_OPTION, firm, group_id, side, channel)
        else:
            seen |= 1 << tag
            if tag == FIRM:
                firm = load_big_endian_uint32(here + 2)
            elif tag == GROUP_ID:
                group_id = load_big_endian_uint16(here + 2)
            elif tag == SIDE:
                side = load_uint8(here + 2)
            elif tag == USER_REFERENCE_INDEX:
                channel = load_uint8(here + 2)
            if flaw == NO_FLAW:
                flaw = _flaw_of(tag, here + 2)
        here += 2 + value_bytes
    return ReadOptions(flaw, 0 if firm == NO_FIRM else firm, group_id, side, channel)


@inlined
def options_of(message: int, fixed_bytes: int, size_bytes: int) -> ReadOptions:
    """The options behind a message's fixed part; a length that does not fit is garbage."""
    option_bytes = size_bytes - fixed_bytes - APPENDAGE_BYTES
    if option_bytes < 0 or load_big_endian_uint16(message + fixed_bytes) != option_bytes:
        return ReadOptions(GARBAGE_OPTION, 0, NO_GROUP, 0, 0)
    if option_bytes == 0:
        return ReadOptions(NO_FLAW, 0, NO_GROUP, 0, 0)
    return read_options(message + fixed_bytes + APPENDAGE_BYTES, option_bytes)


@inlined
def options_if_any(message: int, fixed_bytes: int, size_bytes: int) -> ReadOptions:
    """The options of a message that may leave them out altogether."""
    if size_bytes == fixed_bytes:
        return ReadOptions(NO_FLAW, 0, NO_GROUP, 0, 0)
    return options_of(message, fixed_bytes, size_bytes)
