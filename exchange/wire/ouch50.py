"""OUCH 5.0: what a client asks of the exchange, and every answer to it.

Source: NASDAQ, "OUCH", version 5.0, chapters "Inbound Messages" and "Outbound Messages"; editions of April 2023 and
October 2025. Where they differ, both are read, and the shorter form of 2023 is written unless the caller says more.

An order is named by the client, with a number (UserRefNum) that starts at 1 and grows with each request; a number that
does not is taken for a repetition and ignored without an answer, so a client that lost its line may send everything
again. Executions and cancels are told as increments, never as totals. Options of a message stand in the appendage
behind it (:mod:`exchange.wire.ouch50_options`).

The two directions use the same letters for different messages, so each has a table: :data:`INBOUND_MESSAGES` (client to
exchange, in SoupBinTCP Unsequenced Data) and :data:`OUTBOUND_MESSAGES` (exchange to client, in Sequenced Data).

Rules for whoever answers, in short: Accepted comes before every other message about an order. ``quantity`` of a cancel
is the size that the order shall still have, earlier executions included, and 0 cancels the rest. ``quantity`` of a
replace is the total of the whole chain. A cancel that changes nothing, or names no live order, is ignored."""

from typing import Annotated, Final

from exchange.wire.fields import (
    Alpha4,
    Alpha8,
    Alpha14,
    Char,
    Character,
    Code,
    NumberCode,
    Price4Long,
    Range,
    Timestamp64,
    UInt16,
    UInt32,
    UInt64,
)
from exchange.wire.layout import OPTIONAL, Message, MessageTable, message
from exchange.wire.ouch50_options import Appendage, Options
from exchange.wire.ouch_codes import (
    QUANTITY_SHARES_MAX,
    AiqStrategy,
    BrokenTradeReason,
    CancelReason,
    Capacity,
    EventCode,
    LiquidityFlag,
    OrderState,
    Side,
    TradeCorrectionReason,
    YesOrNo,
)


class TimeInForce(Code):
    """How long an order lives."""

    DAY = "0", "day (market hours)"
    IMMEDIATE_OR_CANCEL = "3"
    EXTENDED_HOURS = "5", "extended hours (GTX)"
    GOOD_TILL_TIME = "6", "for the seconds of option 15 (GTT)"
    AFTER_HOURS = "E"


class Display(Code):
    """Whether the world sees an order."""

    VISIBLE = "Y"
    NON_DISPLAYED = "N"
    ATTRIBUTABLE = "A"


class DisplayOutbound(Code):
    """Outbound only."""

    CONFORMANT = "Z"


class CrossType(Code):
    """In which market or auction an order takes part."""

    CONTINUOUS = "N", "continuous market"
    OPENING = "O"
    CLOSING = "C"
    HALT_OR_IPO = "H", "halt or IPO"
    SUPPLEMENTAL = "S"
    RETAIL = "R", "retail (NASDAQ BX)"
    EXTENDED_LIFE = "E"
    AFTER_HOURS_CLOSE = "A"


class RestatedReason(Code):
    """Why an order was restated."""

    REFRESH = "R", "the displayed part of a reserve order was refreshed"
    DISPLAYED_PRICE = "P", "the displayed price changed"


class RejectReason(NumberCode):
    """Why a request was refused. Codes above 0x001F are of the newer editions."""

    QUOTE_UNAVAILABLE = 0x0001
    DESTINATION_CLOSED = 0x0002
    INVALID_DISPLAY = 0x0003
    INVALID_MAXIMUM_FLOOR = 0x0004
    INVALID_PEG_TYPE = 0x0005
    FAT_FINGER = 0x0006
    HALTED = 0x0007
    ISO_NOT_ALLOWED = 0x0008
    INVALID_SIDE = 0x0009
    PROCESSING_ERROR = 0x000A
    CANCEL_PENDING = 0x000B
    FIRM_NOT_AUTHORIZED = 0x000C
    INVALID_MINIMUM_QUANTITY = 0x000D
    NO_CLOSING_REFERENCE_PRICE = 0x000E
    OTHER = 0x000F
    CANCEL_NOT_ALLOWED = 0x0010
    PEGGING_NOT_ALLOWED = 0x0011
    CROSSED_MARKET = 0x0012
    INVALID_QUANTITY = 0x0013
    INVALID_CROSS_ORDER = 0x0014
    REPLACE_NOT_ALLOWED = 0x0015
    ROUTING_NOT_ALLOWED = 0x0016
    INVALID_SYMBOL = 0x0017
    TEST = 0x0018
    LATE_LOC_TOO_AGGRESSIVE = 0x0019
    RETAIL_NOT_ALLOWED = 0x001A
    INVALID_MIDPOINT_POST_ONLY_PRICE = 0x001B
    INVALID_DESTINATION = 0x001C
    INVALID_PRICE = 0x001D
    SHARES_EXCEED_THRESHOLD = 0x001E
    EXCEEDS_MAXIMUM_NOTIONAL_VALUE = 0x001F
    RISK_AGGREGATE_EXPOSURE_EXCEEDED = 0x0020
    RISK_MARKET_IMPACT = 0x0021
    RISK_RESTRICTED_STOCK = 0x0022
    RISK_SHORT_SELL_RESTRICTED = 0x0023
    RISK_ISO_NOT_ALLOWED = 0x0024
    RISK_EXCEEDS_ADV_LIMIT = 0x0025
    RISK_FAT_FINGER = 0x0026
    RISK_LOCATE_REQUIRED = 0x0027
    RISK_SYMBOL_MESSAGE_RATE = 0x0028
    RISK_PORT_MESSAGE_RATE = 0x0029
    RISK_DUPLICATE_MESSAGE_RATE = 0x002A
    RISK_SHORT_SELL_NOT_ALLOWED = 0x002B
    RISK_MARKET_ORDER_NOT_ALLOWED = 0x002C
    RISK_PRE_MARKET_NOT_ALLOWED = 0x002D
    RISK_POST_MARKET_NOT_ALLOWED = 0x002E
    RISK_SHORT_SELL_EXEMPT_NOT_ALLOWED = 0x002F
    RISK_SINGLE_ORDER_NOTIONAL_EXCEEDED = 0x0030
    RISK_MAXIMUM_QUANTITY_EXCEEDED = 0x0031
    REG_SHO_STATE_NOT_AVAILABLE = 0x0032
    RISK_IPO_MARKET_BUY_NOT_ALLOWED = 0x0033
    INVALID_AIQ = 0x0040


UserReferenceNumber = Annotated[UInt32, Range(1, (1 << 32) - 1), "UserRefNum"]
Quantity = Annotated[UInt32, Range(1, QUANTITY_SHARES_MAX)]
NewSize = Annotated[UInt32, Range(0, QUANTITY_SHARES_MAX)]

_CHANNEL: Final = Appendage((28,))
_MODIFY: Final = Appendage((25, 26, 28))
_MASS_CANCEL: Final = Appendage((24, 27, 28))
_ENTER: Final = Appendage((2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 24, 25, 26, 28, 29, 30))
_REPLACE: Final = Appendage((3, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16, 17, 25, 26, 27, 28, 29, 30))
_ACCEPTED: Final = Appendage((2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 25, 28, 29, 30))
_REPLACED: Final = Appendage((2, 3, 5, 6, 12, 15, 16, 17, 18, 28, 29, 30))
_EXECUTED: Final = Appendage((19, 20, 28))
_RESTATED: Final = Appendage((1, 22, 23, 28))


@message("O", "Enter Order Request")
class EnterOrder(Message, frozen=True):
    """A new order."""

    user_reference_number: Annotated[UserReferenceNumber, "a new number"]
    side: Annotated[Char, Side]
    quantity: Quantity
    symbol: Alpha8
    price: Annotated[Price4Long, "0x7FFFFFFF = market order for a cross"]
    time_in_force: Annotated[Char, TimeInForce]
    display: Annotated[Char, Display]
    capacity: Annotated[Char, Capacity]
    intermarket_sweep_eligibility: Annotated[Char, YesOrNo]
    cross_type: Annotated[Char, CrossType]
    client_order_id: Annotated[Alpha14, "ClOrdID; the client's own, not checked for uniqueness"]
    options: Annotated[Options, _ENTER] = ()


@message("U", "Replace Order Request")
class ReplaceOrder(Message, frozen=True):
    """Another price or size for a live order, which gets a new number and loses its priority."""

    original_user_reference_number: Annotated[UserReferenceNumber, "the live order"]
    user_reference_number: Annotated[UserReferenceNumber, "a new number"]
    quantity: Annotated[Quantity, "total of the whole chain, executions included"]
    price: Price4Long
    time_in_force: Annotated[Char, TimeInForce]
    display: Annotated[Char, Display]
    intermarket_sweep_eligibility: Annotated[Char, YesOrNo]
    client_order_id: Alpha14
    options: Annotated[Options, _REPLACE] = ()


@message("X", "Cancel Order Request")
class CancelOrder(Message, frozen=True):
    """Less of an order, or nothing. Its priority stays."""

    user_reference_number: Annotated[UserReferenceNumber, "the order"]
    quantity: Annotated[NewSize, "the size it shall still have; 0 = cancel all that is left"]
    options: Annotated[Options | None, _CHANNEL, OPTIONAL] = None


@message("M", "Modify Order Request")
class ModifyOrder(Message, frozen=True):
    """Another kind of sale, or less of an order. Its priority stays."""

    user_reference_number: Annotated[UserReferenceNumber, "the order"]
    side: Annotated[Char, Side, "among S, T, E only"]
    quantity: Annotated[Quantity, "the size it shall still have; may only shrink"]
    options: Annotated[Options | None, _MODIFY, OPTIONAL] = None


@message("C", "Mass Cancel Request")
class MassCancel(Message, frozen=True):
    """Cancel all orders of a firm, or those of a symbol, side or group."""

    user_reference_number: Annotated[UserReferenceNumber, "a new number"]
    firm: Alpha4
    symbol: Annotated[Alpha8, "spaces = every symbol"]
    options: Annotated[Options, _MASS_CANCEL] = ()


class _FirmRequest(Message, frozen=True):
    """What the two requests about a firm have."""

    user_reference_number: Annotated[UserReferenceNumber, "a new number"]
    firm: Alpha4
    options: Annotated[Options, _CHANNEL] = ()


@message("D", "Disable Order Entry Request")
class DisableOrderEntry(_FirmRequest, frozen=True):
    """Take no new orders of a firm."""


@message("E", "Enable Order Entry Request")
class EnableOrderEntry(_FirmRequest, frozen=True):
    """Take new orders of a firm again."""


@message("Q", "Account Query Request")
class AccountQuery(Message, frozen=True):
    """Which number is the next? Asked by a client that has lost its memory."""

    options: Annotated[Options | None, _CHANNEL, OPTIONAL] = None


INBOUND_MESSAGES: Final = MessageTable(
    "OUCH 5.0 inbound",
    EnterOrder, ReplaceOrder, CancelOrder, ModifyOrder, MassCancel, DisableOrderEntry, EnableOrderEntry,
    AccountQuery,
)  # fmt: skip
"""What a client sends, by type."""


class _Outbound(Message, frozen=True):
    """What every answer begins with."""

    timestamp: Timestamp64


class _OrderOutbound(_Outbound, frozen=True):
    """What every answer about one order begins with."""

    user_reference_number: UserReferenceNumber


@message("S", "System Event")
class SystemEvent(_Outbound, frozen=True):
    """The first message of the day, and the last event."""

    event_code: Annotated[Char, EventCode]


@message("A", "Order Accepted")
class OrderAccepted(_OrderOutbound, frozen=True):
    """The order is taken; what it says may differ from what was entered."""

    side: Annotated[Char, Side]
    quantity: Annotated[UInt32, "shares accepted"]
    symbol: Alpha8
    price: Annotated[Price4Long, "may be better than entered"]
    time_in_force: Annotated[Char, TimeInForce]
    display: Annotated[Char, Display, DisplayOutbound, "as accepted"]
    order_reference_number: Annotated[UInt64, "the number on ITCH, when displayed"]
    capacity: Annotated[Char, Capacity]
    intermarket_sweep_eligibility: Annotated[Char, YesOrNo]
    cross_type: Annotated[Char, CrossType]
    order_state: Annotated[Char, OrderState]
    client_order_id: Alpha14
    options: Annotated[Options, _ACCEPTED] = ()


@message("U", "Order Replaced")
class OrderReplaced(_Outbound, frozen=True):
    """The old order is gone and the new one is taken."""

    original_user_reference_number: UserReferenceNumber
    user_reference_number: UserReferenceNumber
    side: Annotated[Char, Side]
    quantity: Annotated[UInt32, "shares outstanding"]
    symbol: Alpha8
    price: Price4Long
    time_in_force: Annotated[Char, TimeInForce]
    display: Annotated[Char, Display, DisplayOutbound]
    order_reference_number: Annotated[UInt64, "a new number"]
    capacity: Annotated[Char, Capacity]
    intermarket_sweep_eligibility: Annotated[Char, YesOrNo]
    cross_type: Annotated[Char, CrossType]
    order_state: Annotated[Char, OrderState]
    client_order_id: Alpha14
    options: Annotated[Options, _REPLACED] = ()


@message("C", "Order Canceled")
class OrderCanceled(_OrderOutbound, frozen=True):
    """Shares were taken off an order."""

    quantity: Annotated[UInt32, "taken off now"]
    reason: Annotated[Char, CancelReason]
    options: Annotated[Options | None, _CHANNEL, OPTIONAL] = None


@message("D", "AIQ Canceled")
class AiqCanceled(_OrderOutbound, frozen=True):
    """Shares were taken off an order so that it does not trade with one of the same owner."""

    decrement_shares: Annotated[UInt32, "taken off now"]
    reason: Annotated[Char, CancelReason]
    quantity_prevented_from_trading: UInt32
    execution_price: Annotated[Price4Long, "of the trade that did not happen"]
    liquidity_flag: Annotated[Char, LiquidityFlag, "of the trade that did not happen"]
    aiq_strategy: Annotated[str | None, Character(), AiqStrategy, OPTIONAL, "newer editions only"] = None
    options: Annotated[Options | None, _CHANNEL, OPTIONAL] = None


@message("E", "Order Executed")
class OrderExecuted(_OrderOutbound, frozen=True):
    """Shares of an order traded."""

    quantity: Annotated[UInt32, "traded now"]
    price: Price4Long
    liquidity_flag: Annotated[Char, LiquidityFlag]
    match_number: Annotated[UInt64, "the same for both sides, and on ITCH"]
    options: Annotated[Options, _EXECUTED] = ()


@message("B", "Broken Trade")
class BrokenTrade(_OrderOutbound, frozen=True):
    """A trade does not count. The shares do not come back."""

    match_number: UInt64
    reason: Annotated[Char, BrokenTradeReason]
    client_order_id: Alpha14
    options: Annotated[Options | None, _CHANNEL, OPTIONAL] = None


@message("F", "Trade Correction")
class TradeCorrection(_OrderOutbound, frozen=True):
    """A trade counts at another price. Edition of April 2023 only."""

    quantity: UInt32
    price: Annotated[Price4Long, "corrected"]
    liquidity_flag: Annotated[Char, LiquidityFlag]
    match_number: UInt64
    reason: Annotated[Char, TradeCorrectionReason]
    client_order_id: Alpha14


@message("J", "Rejected")
class Rejected(_OrderOutbound, frozen=True):
    """The request is refused."""

    reason: Annotated[UInt16, RejectReason]
    client_order_id: Alpha14
    options: Annotated[Options | None, _CHANNEL, OPTIONAL] = None


class _CrossCancelAnswer(_OrderOutbound, frozen=True):
    """What the two answers to the cancel of a cross order have."""

    options: Annotated[Options | None, _CHANNEL, OPTIONAL] = None


@message("P", "Cancel Pending")
class CancelPending(_CrossCancelAnswer, frozen=True):
    """A cross order will be canceled after the cross."""


@message("I", "Cancel Reject")
class CancelReject(_CrossCancelAnswer, frozen=True):
    """A cross order cannot be canceled any more."""


@message("T", "Order Priority Update")
class OrderPriorityUpdate(_OrderOutbound, frozen=True):
    """An order has another place in the queue, and another number on market data."""

    price: Price4Long
    display: Annotated[Char, Display, DisplayOutbound]
    order_reference_number: Annotated[UInt64, "a new number"]
    options: Annotated[Options | None, _CHANNEL, OPTIONAL] = None


@message("M", "Order Modified")
class OrderModified(_OrderOutbound, frozen=True):
    """The order is modified as asked."""

    side: Annotated[Char, Side]
    quantity: Annotated[UInt32, "shares outstanding"]
    options: Annotated[Options | None, _MODIFY, OPTIONAL] = None


@message("R", "Order Restated")
class OrderRestated(_OrderOutbound, frozen=True):
    """The exchange changed how an order is displayed."""

    reason: Annotated[Char, RestatedReason]
    options: Annotated[Options, _RESTATED] = ()


@message("X", "Mass Cancel Response")
class MassCancelResponse(_OrderOutbound, frozen=True):
    """The request, echoed. Each order gets an Order Canceled of its own."""

    firm: Alpha4
    symbol: Alpha8
    options: Annotated[Options, _MASS_CANCEL] = ()


class _FirmResponse(_OrderOutbound, frozen=True):
    """What the two answers about a firm have."""

    firm: Alpha4
    options: Annotated[Options, _CHANNEL] = ()


@message("G", "Disable Order Entry Response")
class DisableOrderEntryResponse(_FirmResponse, frozen=True):
    """The request, echoed."""


@message("K", "Enable Order Entry Response")
class EnableOrderEntryResponse(_FirmResponse, frozen=True):
    """The request, echoed."""


@message("Q", "Account Query Response")
class AccountQueryResponse(_Outbound, frozen=True):
    """The next number that the client may use."""

    next_user_reference_number: UserReferenceNumber
    options: Annotated[Options | None, _CHANNEL, OPTIONAL] = None


OUTBOUND_MESSAGES: Final = MessageTable(
    "OUCH 5.0 outbound",
    SystemEvent, OrderAccepted, OrderReplaced, OrderCanceled, AiqCanceled, OrderExecuted, BrokenTrade,
    TradeCorrection, Rejected, CancelPending, CancelReject, OrderPriorityUpdate, OrderModified, OrderRestated,
    MassCancelResponse, DisableOrderEntryResponse, EnableOrderEntryResponse, AccountQueryResponse,
)  # fmt: skip
"""What the exchange answers, by type."""
