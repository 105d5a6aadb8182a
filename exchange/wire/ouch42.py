"""OUCH 4.2: the older version of the order protocol, with every message of one fixed size.

Source: NASDAQ, "OUCH", version 4.2, chapters "Inbound Messages" and "Outbound Messages"; editions of October 2017 to
October 2025. What only older editions have (Trade Now, Trade Correction) is here, and says so.

It travels as version 5.0 does and has the same rules (:mod:`exchange.wire.ouch50`), with these differences: there are
no options; an order is named by a token of 14 characters that the client makes up, and a token that was used before
makes a request be ignored; prices have 4 bytes; time in force is a number of seconds with some numbers of its own;
firm and minimum quantity are fields.

The two directions use the same letters for different messages, so each has a table: :data:`INBOUND_MESSAGES` and
:data:`OUTBOUND_MESSAGES`."""

from typing import Annotated, Final

from exchange.wire.fields import (
    Alpha4,
    Alpha8,
    Alpha14,
    Char,
    Character,
    Code,
    NumberCode,
    Price4,
    Range,
    Timestamp64,
    UInt32,
    UInt64,
)
from exchange.wire.layout import OPTIONAL, Message, MessageTable, message
from exchange.wire.ouch_codes import (
    QUANTITY_SHARES_MAX,
    AiqStrategy,
    BboWeight,
    BrokenTradeReason,
    CancelReason,
    Capacity,
    CustomerType,
    EventCode,
    LiquidityFlag,
    OrderState,
    Side,
    TradeCorrectionReason,
)


class TimeInForce(NumberCode):
    """How long an order lives. Every other number is seconds to live."""

    IMMEDIATE_OR_CANCEL = 0
    EXTENDED_TRADING_CLOSE = 99_996
    MARKET_HOURS = 99_998
    SYSTEM_HOURS = 99_999


class Display(Code):
    """Whether the world sees an order, and some kinds of orders that go with it."""

    ATTRIBUTABLE = "A"
    ANONYMOUS = "Y"
    NON_DISPLAYED = "N"
    POST_ONLY = "P"
    IMBALANCE_ONLY = "I"
    MIDPOINT_PEG = "M"
    MIDPOINT_PEG_POST_ONLY = "W"
    POST_ONLY_ATTRIBUTABLE = "L", "post only and attributable"
    RETAIL_TYPE_1 = "O"
    RETAIL_TYPE_2 = "T"
    RETAIL_PRICE_IMPROVEMENT = "Q"
    MIDPOINT_PEG_TRADE_NOW = "m", "midpoint peg and midpoint trade now"
    NON_DISPLAYED_TRADE_NOW = "n", "non-displayed and midpoint trade now"


class IntermarketSweep(Code):
    """Whether an order is part of a sweep over several markets."""

    YES = "Y"
    NO = "N"
    TRADE_AT_SWEEP = "y"


class CrossType(Code):
    """In which market or auction an order takes part."""

    NONE = "N"
    OPENING = "O"
    CLOSING = "C"
    HALT_OR_IPO = "H", "halt or IPO"
    SUPPLEMENTAL = "S"
    RETAIL = "R"
    EXTENDED_LIFE = "E"


class OldLiquidityFlag(Code):
    """Liquidity flags that version 5.0 does not have."""

    ADDED_POST_ONLY = "W"
    RETAIL_REMOVED = "d"
    RETAIL_ADDED_NON_DISPLAYED = "f"
    GROUP_A_ADDED_DISPLAYED = "4", "added displayed, in a symbol of group A"
    GROUP_A_ADDED_NON_DISPLAYED = "5", "added non-displayed, in a symbol of group A"
    GROUP_A_REMOVED = "6", "removed, in a symbol of group A"
    GROUP_A_ADDED_MIDPOINT = "g", "added at the midpoint, in a symbol of group A"


class ReferencePriceType(Code):
    """What the reference price of an execution is."""

    INTRADAY_INDICATIVE_VALUE = "I"


class RejectReason(Code):
    """Why a request was refused. Small letters from ``a`` to ``e`` and from ``m`` on are of the risk checks."""

    TEST_MODE = "T"
    HALTED = "H"
    SHARES_ABOVE_SAFETY_THRESHOLD = "Z"
    INVALID_STOCK = "S"
    INVALID_DISPLAY = "D"
    CLOSED = "C"
    FIRM_NOT_AUTHORIZED = "L", "firm not authorized for this clearing type"
    OUTSIDE_PERMITTED_TIMES = "M", "outside the times for this clearing type"
    NOT_ALLOWED_IN_CROSS = "R", "not allowed in this cross"
    INVALID_PRICE = "X"
    INVALID_MINIMUM_QUANTITY = "N"
    OTHER = "O"
    NO_REFERENCE_PRICE = "o", "no reference price for an order for open or close"
    LATE_ORDER_TOO_AGGRESSIVE = "u", "late limit order for open or close too aggressive"
    MIDPOINT_PEG_IN_CROSSED_MARKET = "q"
    RETAIL_NOT_ALLOWED = "V"
    INVALID_MIDPOINT_POST_ONLY_PRICE = "W"
    RISK_RESTRICTED_STOCK = "a"
    RISK_SHORT_SELL_RESTRICTED = "b"
    RISK_ORDER_TYPE_RESTRICTED = "c"
    RISK_ADV_LIMIT = "d", "risk: limit of average daily volume"
    RISK_FAT_FINGER = "e"
    RISK_MAXIMUM_SHARES = "m"
    RISK_MAXIMUM_NOTIONAL = "n"
    RISK_MARKET_IMPACT = "r"
    RISK_AGGREGATE_EXPOSURE = "v"
    RISK_SYMBOL_MESSAGE_RATE = "w"
    RISK_PORT_MESSAGE_RATE = "x"
    RISK_DUPLICATE_MESSAGE_RATE = "y"


OrderToken = Annotated[Alpha14, "letters, digits, spaces; unique for the day and account"]
Shares = Annotated[UInt32, Range(1, QUANTITY_SHARES_MAX)]
TimeInForceSeconds = Annotated[UInt32, "seconds to live, or a number of TimeInForce"]


@message("O", "Enter Order")
class EnterOrder(Message, frozen=True):
    """A new order."""

    order_token: Annotated[OrderToken, "a new token"]
    buy_sell_indicator: Annotated[Char, Side]
    shares: Shares
    stock: Alpha8
    price: Annotated[Price4, "0x7FFFFFFF = market order for a cross"]
    time_in_force: TimeInForceSeconds
    firm: Annotated[Alpha4, "spaces = default firm of the account"]
    display: Annotated[Char, Display]
    capacity: Annotated[Char, Capacity]
    intermarket_sweep_eligibility: Annotated[Char, IntermarketSweep]
    minimum_quantity: Annotated[UInt32, Range(0, QUANTITY_SHARES_MAX), "0 = none"]
    cross_type: Annotated[Char, CrossType]
    customer_type: Annotated[Char, CustomerType]


@message("U", "Replace Order")
class ReplaceOrder(Message, frozen=True):
    """Another price or size for a live order, which gets a new token and loses its priority."""

    existing_order_token: OrderToken
    replacement_order_token: Annotated[OrderToken, "a new token"]
    shares: Annotated[Shares, "total of the whole chain, executions included"]
    price: Price4
    time_in_force: TimeInForceSeconds
    display: Annotated[Char, Display]
    intermarket_sweep_eligibility: Annotated[Char, IntermarketSweep]
    minimum_quantity: Annotated[UInt32, Range(0, QUANTITY_SHARES_MAX), "0 = none"]


@message("X", "Cancel Order")
class CancelOrder(Message, frozen=True):
    """Less of an order, or nothing. Its priority stays."""

    order_token: OrderToken
    shares: Annotated[
        UInt32, Range(0, QUANTITY_SHARES_MAX), "the size it shall still have; 0 = cancel all that is left"
    ]


@message("M", "Modify Order")
class ModifyOrder(Message, frozen=True):
    """Another kind of sale, or less of an order. Its priority stays."""

    order_token: OrderToken
    buy_sell_indicator: Annotated[Char, Side, "among S, T, E only"]
    shares: Annotated[Shares, "the size it shall still have; may only shrink"]


@message("N", "Trade Now")
class TradeNow(Message, frozen=True):
    """Let a resting order take what locks it. Older editions only."""

    order_token: OrderToken


INBOUND_MESSAGES: Final = MessageTable(
    "OUCH 4.2 inbound", EnterOrder, ReplaceOrder, CancelOrder, ModifyOrder, TradeNow
)
"""What a client sends, by type."""


class _Outbound(Message, frozen=True):
    """What every answer begins with."""

    timestamp: Timestamp64


class _OrderOutbound(_Outbound, frozen=True):
    """What every answer about one order begins with."""

    order_token: OrderToken


@message("S", "System Event")
class SystemEvent(_Outbound, frozen=True):
    """The first message of the day, and the last event."""

    event_code: Annotated[Char, EventCode]


@message("A", "Accepted")
class Accepted(_OrderOutbound, frozen=True):
    """The order is taken; what it says may differ from what was entered."""

    buy_sell_indicator: Annotated[Char, Side]
    shares: Annotated[UInt32, "accepted"]
    stock: Alpha8
    price: Price4
    time_in_force: TimeInForceSeconds
    firm: Alpha4
    display: Annotated[Char, Display]
    order_reference_number: Annotated[UInt64, "the number on ITCH, when displayed"]
    capacity: Annotated[Char, Capacity]
    intermarket_sweep_eligibility: Annotated[Char, IntermarketSweep]
    minimum_quantity: UInt32
    cross_type: Annotated[Char, CrossType]
    order_state: Annotated[Char, OrderState]
    bbo_weight_indicator: Annotated[Char, BboWeight]


@message("U", "Replaced")
class Replaced(_Outbound, frozen=True):
    """The old order is gone and the new one is taken."""

    replacement_order_token: OrderToken
    buy_sell_indicator: Annotated[Char, Side]
    shares: Annotated[UInt32, "outstanding"]
    stock: Alpha8
    price: Price4
    time_in_force: TimeInForceSeconds
    firm: Alpha4
    display: Annotated[Char, Display]
    order_reference_number: Annotated[UInt64, "a new number"]
    capacity: Annotated[Char, Capacity]
    intermarket_sweep_eligibility: Annotated[Char, IntermarketSweep]
    minimum_quantity: UInt32
    cross_type: Annotated[Char, CrossType]
    order_state: Annotated[Char, OrderState]
    previous_order_token: OrderToken
    bbo_weight_indicator: Annotated[Char, BboWeight]


@message("C", "Canceled")
class Canceled(_OrderOutbound, frozen=True):
    """Shares were taken off an order."""

    decrement_shares: Annotated[UInt32, "taken off now"]
    reason: Annotated[Char, CancelReason]


@message("D", "AIQ Canceled")
class AiqCanceled(_OrderOutbound, frozen=True):
    """Shares were taken off an order so that it does not trade with one of the same owner."""

    decrement_shares: Annotated[UInt32, "taken off now"]
    reason: Annotated[Char, CancelReason]
    quantity_prevented_from_trading: UInt32
    execution_price: Annotated[Price4, "of the trade that did not happen"]
    liquidity_flag: Annotated[Char, LiquidityFlag, OldLiquidityFlag, "of the trade that did not happen"]
    aiq_strategy: Annotated[str | None, Character(), AiqStrategy, OPTIONAL, "newer editions only"] = None


class _Execution(_OrderOutbound, frozen=True):
    """What the messages about one execution have."""

    executed_shares: Annotated[UInt32, "traded now"]
    execution_price: Price4
    liquidity_flag: Annotated[Char, LiquidityFlag, OldLiquidityFlag]
    match_number: Annotated[UInt64, "the same for both sides, and on ITCH"]


@message("E", "Executed")
class Executed(_Execution, frozen=True):
    """Shares of an order traded."""


@message("G", "Executed with Reference Price")
class ExecutedWithReferencePrice(_Execution, frozen=True):
    """Shares of an order traded at a price that follows another."""

    reference_price: Price4
    reference_price_type: Annotated[Char, ReferencePriceType]


@message("F", "Trade Correction")
class TradeCorrection(_Execution, frozen=True):
    """A trade counts at another price. Older editions only."""

    reason: Annotated[Char, TradeCorrectionReason]


@message("B", "Broken Trade")
class BrokenTrade(_OrderOutbound, frozen=True):
    """A trade does not count. The shares do not come back."""

    match_number: UInt64
    reason: Annotated[Char, BrokenTradeReason]


@message("J", "Rejected")
class Rejected(_OrderOutbound, frozen=True):
    """The request is refused."""

    reason: Annotated[Char, RejectReason]


@message("P", "Cancel Pending")
class CancelPending(_OrderOutbound, frozen=True):
    """A cross order will be canceled after the cross."""


@message("I", "Cancel Reject")
class CancelReject(_OrderOutbound, frozen=True):
    """A cross order cannot be canceled any more."""


@message("N", "Trade Now")
class TradeNowAnswer(_OrderOutbound, frozen=True):
    """The order takes what locks it, as asked. Older editions only."""


@message("T", "Order Priority Update")
class OrderPriorityUpdate(_OrderOutbound, frozen=True):
    """An order has another place in the queue, and another number on market data."""

    price: Price4
    display: Annotated[Char, Display]
    order_reference_number: Annotated[UInt64, "a new number"]


@message("M", "Order Modified")
class OrderModified(_OrderOutbound, frozen=True):
    """The order is modified as asked."""

    buy_sell_indicator: Annotated[Char, Side]
    shares: Annotated[UInt32, "outstanding"]


OUTBOUND_MESSAGES: Final = MessageTable(
    "OUCH 4.2 outbound",
    SystemEvent, Accepted, Replaced, Canceled, AiqCanceled, Executed, BrokenTrade, ExecutedWithReferencePrice,
    TradeCorrection, Rejected, CancelPending, CancelReject, TradeNowAnswer, OrderPriorityUpdate, OrderModified,
)  # fmt: skip
"""What the exchange answers, by type."""
