"""The options of OUCH 5.0: what follows the fixed part of a message, in any order and as much as is needed.

Source: NASDAQ, "OUCH", version 5.0, the appendix of optional fields ("appendage").

The appendage is a 2-byte length, then elements of ``length`` (1 byte; counts tag and value), ``tag`` (1 byte) and
value. Most orders need none, and the fixed part stays short. In the program an appendage is a tuple of
:class:`Option`, in the order of the bytes, so that what is written equals what was read.

Rules: no tag twice. A known tag has the size of its table. A tag that is not in the table is kept as bytes and written
back as it came, because new editions add tags; :meth:`~exchange.wire.layout.Message.check` refuses it, and
a known one that its message does not have."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Final, NamedTuple

from exchange.wire.fields import (
    Alpha2,
    Alpha4,
    Char,
    Code,
    Price4Long,
    Range,
    SignedPrice4,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    WireError,
    shown,
)
from exchange.wire.layout import Field, check_value, field_of, read_value, write_value
from exchange.wire.ouch_codes import (
    PRICE4_MAX,
    QUANTITY_SHARES_MAX,
    AiqStrategy,
    BboWeight,
    CustomerType,
    Side,
    YesOrNo,
)

SECONDS_OF_A_DAY: Final = 86_400


class PriceType(Code):
    """What an order's price follows."""

    LIMIT = "L", "limit (the default)"
    MARKET_PEG = "P"
    MIDPOINT_PEG = "M"
    PRIMARY_PEG = "R"
    MARKET_MAKER_PEG = "Q"
    MIDPOINT = "m"


class DiscretionPriceType(Code):
    """What an order's discretionary price follows."""

    LIMIT = "L"
    MARKET_PEG = "P"
    MIDPOINT_PEG = "M"
    PRIMARY_PEG = "R"


class PostOnly(Code):
    """Whether an order may only add to the book."""

    POST_ONLY = "P"
    NO = "N", "no (the default)"


class TradeNow(Code):
    """Whether a resting order takes what locks it."""

    YES = "Y"
    NO = "N"
    PORT_DEFAULT = " ", "as the port is set up"


class HandlingInstruction(Code):
    """Special treatment; each goes with some cross types only."""

    IMBALANCE_ONLY = "I", "imbalance only (cross types O and C)"
    RETAIL_TYPE_1 = "O", "retail type 1 (cross type R)"
    RETAIL_TYPE_2 = "T", "retail type 2 (cross type R)"
    RETAIL_PRICE_IMPROVEMENT = "Q", "retail price improvement (cross type R)"
    EXTENDED_LIFE = "B", "extended life and continuous (cross type E)"
    DIRECT_LISTING = "D", "direct listing capital raise (cross type H)"
    NONE = " "


class OptionTag(IntEnum):
    """What an option is. Tags 8 and 21 are not assigned."""

    SECONDARY_ORDER_REFERENCE_NUMBER = 1
    FIRM = 2
    MINIMUM_QUANTITY = 3
    CUSTOMER_TYPE = 4
    MAXIMUM_FLOOR = 5
    PRICE_TYPE = 6
    PEG_OFFSET = 7
    DISCRETION_PRICE = 9
    DISCRETION_PRICE_TYPE = 10
    DISCRETION_PEG_OFFSET = 11
    POST_ONLY = 12
    RANDOM_RESERVES = 13
    ROUTE = 14
    EXPIRE_TIME = 15
    TRADE_NOW = 16
    HANDLING_INSTRUCTION = 17
    BBO_WEIGHT_INDICATOR = 18
    REFERENCE_PRICE = 19
    REFERENCE_PRICE_TYPE = 20
    DISPLAY_QUANTITY = 22
    DISPLAY_PRICE = 23
    GROUP_ID = 24
    SHARES_LOCATED = 25
    LOCATE_BROKER = 26
    SIDE = 27
    USER_REFERENCE_INDEX = 28
    AIQ_STRATEGY = 29
    AIQ_GROUP_ID = 30


_SHARES = Range(0, QUANTITY_SHARES_MAX)
_PRICES = Range(0, PRICE4_MAX)

_KINDS: Final[dict[OptionTag, Any]] = {
    OptionTag.SECONDARY_ORDER_REFERENCE_NUMBER: Annotated[UInt64, "the order's number on market data"],
    OptionTag.FIRM: Annotated[Alpha4, "absent or spaces = default firm of the port"],
    OptionTag.MINIMUM_QUANTITY: Annotated[UInt32, _SHARES],
    OptionTag.CUSTOMER_TYPE: Annotated[Char, CustomerType],
    OptionTag.MAXIMUM_FLOOR: Annotated[UInt32, _SHARES, "displayed part of a reserve order"],
    OptionTag.PRICE_TYPE: Annotated[Char, PriceType],
    OptionTag.PEG_OFFSET: SignedPrice4,
    OptionTag.DISCRETION_PRICE: Annotated[Price4Long, _PRICES],
    OptionTag.DISCRETION_PRICE_TYPE: Annotated[Char, DiscretionPriceType],
    OptionTag.DISCRETION_PEG_OFFSET: SignedPrice4,
    OptionTag.POST_ONLY: Annotated[Char, PostOnly],
    OptionTag.RANDOM_RESERVES: Annotated[UInt32, _SHARES, "shares"],
    OptionTag.ROUTE: Alpha4,
    OptionTag.EXPIRE_TIME: Annotated[
        UInt32, Range(0, SECONDS_OF_A_DAY - 1), "seconds to live; needed with time in force 6"
    ],
    OptionTag.TRADE_NOW: Annotated[Char, TradeNow],
    OptionTag.HANDLING_INSTRUCTION: Annotated[Char, HandlingInstruction],
    OptionTag.BBO_WEIGHT_INDICATOR: Annotated[Char, BboWeight],
    OptionTag.REFERENCE_PRICE: Annotated[Price4Long, "text of 2023 only, on Executed"],
    OptionTag.REFERENCE_PRICE_TYPE: Annotated[Char, "text of 2023 only, on Executed"],
    OptionTag.DISPLAY_QUANTITY: Annotated[UInt32, "on Restated"],
    OptionTag.DISPLAY_PRICE: Annotated[Price4Long, "on Restated"],
    OptionTag.GROUP_ID: Annotated[
        UInt16, "entity within the firm; of a mass cancel, 0 = orders without a group"
    ],
    OptionTag.SHARES_LOCATED: Annotated[Char, YesOrNo, "of a short sale"],
    OptionTag.LOCATE_BROKER: Annotated[Alpha4, "source of the locate"],
    OptionTag.SIDE: Annotated[Char, Side],
    OptionTag.USER_REFERENCE_INDEX: Annotated[
        UInt8, "channel within the port, with numbers of its own; absent = channel 0"
    ],
    OptionTag.AIQ_STRATEGY: Annotated[Char, AiqStrategy, "newer texts only"],
    OptionTag.AIQ_GROUP_ID: Annotated[Alpha2, "newer texts only"],
}

OPTION_FIELDS: Final[dict[int, Field]] = {
    int(tag): field_of("option", tag.name.lower(), kind) for tag, kind in _KINDS.items()
}
"""The row of each tag, as a message's table has it."""

assert len(OPTION_FIELDS) == len(OptionTag)

_VALUE_BYTES_MAX: Final = 254
_ELEMENT_HEADER_BYTES: Final = 2


class Option(NamedTuple):
    """One element of an appendage. The value of a tag that is not in :class:`OptionTag` is bytes."""

    tag: int
    value: int | str | bytes


Options = tuple[Option, ...]


def find_option(options: Options | None, tag: OptionTag) -> int | str | bytes | None:
    """The value of an option; None if the message does not have it."""
    return next((option.value for option in options or () if option.tag == tag), None)


@dataclass(frozen=True)
class Appendage:
    """The kind of an appendage; ``tags`` are those that the message may have."""

    tags: tuple[int, ...]
    label: str = "options"
    length_name: str = "appendage_length"

    def read(self, rest: bytes) -> Options:
        """The elements, which fill ``rest`` exactly."""
        options: list[Option] = []
        position = 0
        while position < len(rest):
            length = rest[position]
            end = position + 1 + length
            if length == 0 or end > len(rest):
                left = len(rest) - position - 1
                raise WireError(f"element of length {length} at byte {position}, allowed is 1 to {left}")
            tag = rest[position + 1]
            options.append(Option(tag, _value(tag, rest[position + _ELEMENT_HEADER_BYTES : end])))
            position = end
        _refuse_twins(options)
        return tuple(options)

    def write(self, value: Any) -> bytes:
        """The elements, one after the other."""
        if not isinstance(value, tuple) or not all(isinstance(option, Option) for option in value):
            raise WireError(f"is {shown(value)}, allowed is a tuple of Option")
        _refuse_twins(value)
        return b"".join(_element(option) for option in value)

    def check(self, value: Any) -> None:
        """Only the tags of the message, and their codes and ranges."""
        for tag, content in value:
            if tag not in self.tags:
                raise WireError(f"has tag {tag}, allowed are {', '.join(map(str, self.tags))}")
            try:
                check_value(OPTION_FIELDS[tag], content)
            except WireError as error:
                raise _named(tag, error) from None


def _named(tag: int, error: WireError) -> WireError:
    name = f" ({OPTION_FIELDS[tag].name})" if tag in OPTION_FIELDS else ""
    return WireError(f"tag {tag}{name} {error}")


def _value(tag: int, raw: bytes) -> int | str | bytes:
    field = OPTION_FIELDS.get(tag)
    if field is None:
        return raw
    try:
        value: int | str = read_value(field, raw)
    except WireError as error:
        raise _named(tag, error) from None
    return value


def _element(option: Option) -> bytes:
    tag, value = option
    if not isinstance(tag, int) or not 0 <= tag <= 255:
        raise WireError(f"tag is {shown(tag)}, allowed is 0 to 255")
    try:
        if tag in OPTION_FIELDS:
            raw = write_value(OPTION_FIELDS[tag], value)
        elif isinstance(value, bytes) and len(value) <= _VALUE_BYTES_MAX:
            raw = value
        else:
            raise WireError(f"is {shown(value)}, allowed are at most {_VALUE_BYTES_MAX} bytes")
    except WireError as error:
        raise _named(tag, error) from None
    return bytes([1 + len(raw), tag]) + raw


def _refuse_twins(options: list[Option] | Options) -> None:
    tags = [option.tag for option in options]
    if len(set(tags)) != len(tags):
        twice = next(tag for tag in tags if tags.count(tag) > 1)
        raise WireError(f"has tag {twice} twice, allowed is once")
