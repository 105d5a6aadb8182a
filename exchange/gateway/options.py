"""The options at the end of an OUCH message (OUCH 5.0, appendage): which of them this exchange can keep, compiled.

An option that asks for something the book cannot do (a peg, a hidden reserve, a minimum quantity ...) must not be
overlooked: the client would hold an order that behaves otherwise than it was asked to. So each option is either
harmless, or has the value that means nothing, or the order is rejected with the reason that fits best.

The list of elements is walked once, in bounded time: every element has a length of at least one, no tag comes twice,
and the last one ends where the message does. Anything else is no OUCH message."""

from typing import Final

from exchange.native import kernel, load_big_endian_uint16, load_big_endian_uint32, load_uint8
from exchange.wire.ouch50 import RejectReason
from exchange.wire.ouch50_options import OPTION_FIELDS, OptionTag

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
    int(OptionTag.CUSTOMER_TYPE),
    int(OptionTag.SHARES_LOCATED),
    int(OptionTag.LOCATE_BROKER),
)

TAGS: Final = max(OPTION_FIELDS) + 1
VALUE_BYTES: Final = tuple(
    (OPTION_FIELDS[tag].size_bytes or 0) if tag in OPTION_FIELDS else 0 for tag in range(TAGS)
)
"""For each tag how long its value is; 0 for a tag that no edition of the specification has."""

_SPACE: Final = ord(" ")
_LIMIT: Final = ord("L")
_NO: Final = ord("N")


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
    if tag == GROUP_ID:
        return NO_FLAW if load_big_endian_uint16(value) == 0 else OTHER
    return NO_FLAW if tag in HARMLESS else OTHER


@kernel
def read_options(address: int, size_bytes: int) -> tuple[int, int]:
    """The first flaw of the options at ``address`` (or :data:`GARBAGE_OPTION`), and the firm's four letters, 0 if
    none."""
    flaw, firm, seen = NO_FLAW, 0, 0
    here, end = address, address + size_bytes
    while here < end:
        value_bytes = load_uint8(here) - 1
        if value_bytes < 0 or here + 2 + value_bytes > end:
            return GARBAGE_OPTION, firm
        tag = load_uint8(here + 1)
        if tag >= TAGS or VALUE_BYTES[tag] == 0:
            flaw = OTHER if flaw == NO_FLAW else flaw  # of an edition that is newer than ours
        elif VALUE_BYTES[tag] != value_bytes or seen & (1 << tag) != 0:
            return GARBAGE_OPTION, firm
        else:
            seen |= 1 << tag
            if tag == FIRM:
                firm = load_big_endian_uint32(here + 2)
            if flaw == NO_FLAW:
                flaw = _flaw_of(tag, here + 2)
        here += 2 + value_bytes
    return flaw, firm
