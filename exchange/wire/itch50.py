"""NASDAQ TotalView-ITCH 5.0: what an exchange tells everyone about its books, every message type of it.

Section numbers are those of the specification of 6 March 2015; messages J, h and O, and some codes, come from later
editions. Every message begins with the same 11 bytes (section 4): its type, the stock locate (a number that the
exchange gives each symbol for the day, from 1; 0 where no symbol is concerned), a tracking number that means nothing
outside NASDAQ, and the time.

How a book follows from the messages:

* A and F put an order behind the others of its price. E, C and X take shares from it, and an order without shares is
  gone. D takes it out. U takes it out and puts a new one behind the queue of its price; side, symbol and member stay.
* E trades at the order's own price, C at another one. P is a trade with an order that was never displayed, Q an
  auction; neither touches the book, nor does B, which takes a trade back.

In a file of a day each message has its length in front of it, in two bytes, and a length of 0 ends the file
(NASDAQ's BinaryFILE). On the network the same blocks travel in MoldUDP64 datagrams (:mod:`exchange.wire.moldudp64`).

Rules: these classes are for reading and writing a message at a time, and for tests. What handles a whole feed
(:mod:`exchange.flow.itch`, :mod:`exchange.market_data`) is compiled and takes its offsets and lengths from here.
"""

from typing import Annotated, Final

from exchange.wire.fields import (
    Alpha2,
    Alpha4,
    Alpha8,
    Char,
    Price4,
    Price8,
    Timestamp48,
    UInt16,
    UInt32,
    UInt64,
)
from exchange.wire.itch50_codes import (
    Authenticity,
    BreachedLevel,
    CrossType,
    FinancialStatus,
    ImbalanceDirection,
    InterestFlag,
    IpoFlag,
    IpoReleaseQualifier,
    IssueClassification,
    IssueSubType,
    MarketCategory,
    MarketCode,
    MarketMakerMode,
    MarketParticipantState,
    OperationalHaltAction,
    OrderSide,
    PriceVariation,
    ReferencePriceTier,
    RegShoAction,
    SystemEventCode,
    TradingActionReason,
    TradingState,
    YesNo,
    YesNoUnknown,
)
from exchange.wire.layout import Message, MessageTable, message


class ItchMessage(Message, frozen=True):
    """What stands at the beginning of every message, section 4."""

    stock_locate: Annotated[UInt16, "the symbol's number for the day, from 1; 0 = no symbol"]
    tracking_number: Annotated[UInt16, "NASDAQ-internal"]
    timestamp: Timestamp48


@message("S", "System Event")
class SystemEvent(ItchMessage, frozen=True):
    """The day's stages, section 4.1; stock locate 0."""

    event_code: Annotated[Char, SystemEventCode]


@message("R", "Stock Directory")
class StockDirectory(ItchMessage, frozen=True):
    """One for each symbol before trading begins, section 4.2.1."""

    stock: Alpha8
    market_category: Annotated[Char, MarketCategory]
    financial_status_indicator: Annotated[Char, FinancialStatus]
    round_lot_size: Annotated[UInt32, "shares in a round lot"]
    round_lots_only: Annotated[Char, YesNo]
    issue_classification: Annotated[Char, IssueClassification]
    issue_sub_type: Annotated[Alpha2, IssueSubType]
    authenticity: Annotated[Char, Authenticity]
    short_sale_threshold_indicator: Annotated[Char, YesNoUnknown]
    ipo_flag: Annotated[Char, IpoFlag]
    luld_reference_price_tier: Annotated[Char, ReferencePriceTier]
    etp_flag: Annotated[Char, YesNoUnknown]
    etp_leverage_factor: Annotated[UInt32, "1 = not leveraged"]
    inverse_indicator: Annotated[Char, YesNo]


@message("H", "Stock Trading Action")
class StockTradingAction(ItchMessage, frozen=True):
    """Halt, pause, quotation, trading; section 4.2.2. A symbol without one counts as halted."""

    stock: Alpha8
    trading_state: Annotated[Char, TradingState]
    reserved: Annotated[Char, "a space"]
    reason: Annotated[Alpha4, TradingActionReason]


@message("Y", "Reg SHO Restriction")
class RegShoRestriction(ItchMessage, frozen=True):
    """Short sale price test, section 4.2.3."""

    stock: Alpha8
    reg_sho_action: Annotated[Char, RegShoAction]


@message("L", "Market Participant Position")
class MarketParticipantPosition(ItchMessage, frozen=True):
    """A market maker in a stock, section 4.2.4."""

    market_participant_id: Alpha4
    stock: Alpha8
    primary_market_maker: Annotated[Char, YesNo]
    market_maker_mode: Annotated[Char, MarketMakerMode]
    market_participant_state: Annotated[Char, MarketParticipantState]


@message("V", "Market-Wide Circuit Breaker Decline Level")
class CircuitBreakerDeclineLevel(ItchMessage, frozen=True):
    """The index levels of the day that halt everything, section 4.2.5.1; stock locate 0."""

    level_1: Price8
    level_2: Price8
    level_3: Price8


@message("W", "Market-Wide Circuit Breaker Status")
class CircuitBreakerStatus(ItchMessage, frozen=True):
    """A level has been breached, section 4.2.5.2; stock locate 0."""

    breached_level: Annotated[Char, BreachedLevel]


@message("K", "IPO Quoting Period Update")
class IpoQuotingPeriodUpdate(ItchMessage, frozen=True):
    """When quoting of a new stock begins, section 4.2.6."""

    stock: Alpha8
    ipo_quotation_release_time: Annotated[UInt32, "seconds since midnight; 0 when canceled or postponed"]
    ipo_quotation_release_qualifier: Annotated[Char, IpoReleaseQualifier]
    ipo_price: Annotated[Price4, "0 when canceled or postponed"]


@message("J", "Limit-Up/Limit-Down Auction Collar")
class AuctionCollar(ItchMessage, frozen=True):
    """Between which prices a paused stock may reopen, section 4.2.7 (from 2017 on)."""

    stock: Alpha8
    auction_collar_reference_price: Price4
    upper_auction_collar_price: Price4
    lower_auction_collar_price: Price4
    auction_collar_extension: Annotated[UInt32, "how often the reopening was extended"]


@message("h", "Operational Halt")
class OperationalHalt(ItchMessage, frozen=True):
    """One market has stopped a stock for reasons of its own, section 4.2.8 (later editions)."""

    stock: Alpha8
    market_code: Annotated[Char, MarketCode]
    operational_halt_action: Annotated[Char, OperationalHaltAction]


@message("A", "Add Order")
class AddOrder(ItchMessage, frozen=True):
    """A new displayed order, section 4.3.1."""

    order_reference_number: Annotated[UInt64, "unique for the day"]
    buy_sell_indicator: Annotated[Char, OrderSide]
    shares: Annotated[UInt32, "displayed shares"]
    stock: Alpha8
    price: Price4


@message("F", "Add Order with Attribution")
class AddOrderAttributed(ItchMessage, frozen=True):
    """A new displayed order and whose it is, section 4.3.2."""

    order_reference_number: Annotated[UInt64, "unique for the day"]
    buy_sell_indicator: Annotated[Char, OrderSide]
    shares: Annotated[UInt32, "displayed shares"]
    stock: Alpha8
    price: Price4
    attribution: Annotated[Alpha4, "market participant"]


@message("E", "Order Executed")
class OrderExecuted(ItchMessage, frozen=True):
    """A resting order traded at its own price, section 4.4.1."""

    order_reference_number: UInt64
    executed_shares: Annotated[UInt32, "to be subtracted from the order"]
    match_number: Annotated[UInt64, "unique for the day"]


@message("C", "Order Executed With Price")
class OrderExecutedWithPrice(ItchMessage, frozen=True):
    """A resting order traded at another price than its own, section 4.4.2."""

    order_reference_number: UInt64
    executed_shares: Annotated[UInt32, "to be subtracted from the order"]
    match_number: Annotated[UInt64, "unique for the day"]
    printable: Annotated[Char, YesNo, "N = part of a bulk print that comes later"]
    execution_price: Price4


@message("X", "Order Cancel")
class OrderCancel(ItchMessage, frozen=True):
    """A part of an order was cancelled, section 4.4.3; it keeps its place."""

    order_reference_number: UInt64
    canceled_shares: Annotated[UInt32, "to be subtracted from the order"]


@message("D", "Order Delete")
class OrderDelete(ItchMessage, frozen=True):
    """An order is gone, section 4.4.4."""

    order_reference_number: UInt64


@message("U", "Order Replace")
class OrderReplace(ItchMessage, frozen=True):
    """An order got another number, size and price, and a place behind all others; section 4.4.5."""

    original_order_reference_number: Annotated[UInt64, "gone"]
    new_order_reference_number: Annotated[UInt64, "side, stock and attribution are inherited"]
    shares: Annotated[UInt32, "the new displayed total"]
    price: Price4


@message("P", "Trade (Non-Cross)")
class Trade(ItchMessage, frozen=True):
    """An order that was not displayed traded, section 4.5.1."""

    order_reference_number: Annotated[UInt64, "0 since December 2010"]
    buy_sell_indicator: Annotated[Char, OrderSide, "always B since July 2014"]
    shares: UInt32
    stock: Alpha8
    price: Price4
    match_number: UInt64


@message("Q", "Cross Trade")
class CrossTrade(ItchMessage, frozen=True):
    """What an auction traded, section 4.5.2."""

    cross_shares: Annotated[UInt64, "may be 0"]
    stock: Alpha8
    cross_price: Price4
    match_number: UInt64
    cross_type: Annotated[Char, CrossType]


@message("B", "Broken Trade")
class BrokenTrade(ItchMessage, frozen=True):
    """A trade does not count any more, section 4.5.3; the book stays as it is."""

    match_number: Annotated[UInt64, "of an earlier E, C, P or Q"]


@message("I", "Net Order Imbalance Indicator")
class NetOrderImbalance(ItchMessage, frozen=True):
    """How an auction would come out now, section 4.6."""

    paired_shares: UInt64
    imbalance_shares: UInt64
    imbalance_direction: Annotated[Char, ImbalanceDirection]
    stock: Alpha8
    far_price: Annotated[Price4, "of the auction's orders alone"]
    near_price: Annotated[Price4, "of the auction's orders and the book's"]
    current_reference_price: Price4
    cross_type: Annotated[Char, CrossType]
    price_variation_indicator: Annotated[Char, PriceVariation]


@message("N", "Retail Price Improvement Indicator")
class RetailPriceImprovement(ItchMessage, frozen=True):
    """There is retail interest, section 4.7."""

    stock: Alpha8
    interest_flag: Annotated[Char, InterestFlag]


@message("O", "Direct Listing with Capital Raise")
class DirectListing(ItchMessage, frozen=True):
    """How the price of a direct listing is being found, section 4.8 (later editions)."""

    stock: Alpha8
    open_eligibility_status: Annotated[Char, YesNo]
    minimum_allowable_price: Price4
    maximum_allowable_price: Price4
    near_execution_price: Price4
    near_execution_time: Annotated[UInt64, "nanoseconds since midnight"]
    lower_price_range_collar: Price4
    upper_price_range_collar: Price4


MESSAGES: Final = MessageTable(
    "ITCH 5.0",
    SystemEvent,
    StockDirectory,
    StockTradingAction,
    RegShoRestriction,
    MarketParticipantPosition,
    CircuitBreakerDeclineLevel,
    CircuitBreakerStatus,
    IpoQuotingPeriodUpdate,
    AuctionCollar,
    OperationalHalt,
    AddOrder,
    AddOrderAttributed,
    OrderExecuted,
    OrderExecutedWithPrice,
    OrderCancel,
    OrderDelete,
    OrderReplace,
    Trade,
    CrossTrade,
    BrokenTrade,
    NetOrderImbalance,
    RetailPriceImprovement,
    DirectListing,
)
"""Every message of the protocol by its type."""

MESSAGE_BYTES: Final = {letter: cls.layout.size_bytes for letter, cls in MESSAGES.items()}
"""Length of each message type, without the two length bytes in front."""

MESSAGE_BYTES_MAX: Final = max(MESSAGE_BYTES.values())

HEADER_BYTES: Final = SystemEvent.layout.offset("event_code")
"""What all messages have in common; the shortest ones have one byte more."""

# What compiled readers and writers need of the tables: where the fields stand, counted from the message's first byte.
LOCATE: Final = AddOrder.layout.offset("stock_locate")
TRACKING: Final = AddOrder.layout.offset("tracking_number")
TIMESTAMP: Final = AddOrder.layout.offset("timestamp")
REFERENCE: Final = AddOrder.layout.offset("order_reference_number")
"""In every message about an order; of a replace it is the original one."""
ADD_SIDE: Final = AddOrder.layout.offset("buy_sell_indicator")
ADD_SHARES: Final = AddOrder.layout.offset("shares")
ADD_STOCK: Final = AddOrder.layout.offset("stock")
ADD_PRICE: Final = AddOrder.layout.offset("price")
TAKEN_SHARES: Final = OrderExecuted.layout.offset("executed_shares")
"""In E, C and X."""
MATCH: Final = OrderExecuted.layout.offset("match_number")
"""In E and C."""
NEW_REFERENCE: Final = OrderReplace.layout.offset("new_order_reference_number")
NEW_SHARES: Final = OrderReplace.layout.offset("shares")
NEW_PRICE: Final = OrderReplace.layout.offset("price")
TRADE_SHARES: Final = Trade.layout.offset("shares")
TRADE_PRICE: Final = Trade.layout.offset("price")
TRADE_MATCH: Final = Trade.layout.offset("match_number")
STOCK: Final = StockDirectory.layout.offset("stock")
"""In R and H."""
TRADING_STATE: Final = StockTradingAction.layout.offset("trading_state")
ACTION_RESERVED: Final = StockTradingAction.layout.offset("reserved")
ACTION_REASON: Final = StockTradingAction.layout.offset("reason")
EVENT_CODE: Final = SystemEvent.layout.offset("event_code")

STOCK_BYTES: Final = 8


def decode(data: bytes | bytearray | memoryview) -> ItchMessage:
    """The message that fills ``data`` exactly. Raises WireError."""
    found = MESSAGES.decode(data)
    assert isinstance(found, ItchMessage)
    return found
