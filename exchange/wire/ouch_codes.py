"""The letters and numbers of OUCH and what they mean: the lists that versions 5.0 and 4.2 share.

Source: NASDAQ, "OUCH", versions 5.0 and 4.2, the notes to the fields and the appendices of reasons and liquidity flags.

A list is an enumeration, and a message's table names it for a field. Reading keeps a letter that is not on it, because
new editions add some; :meth:`~exchange.wire.layout.Message.check` refuses it. What only one version has stands in
that version's module."""

from typing import Final

from exchange.wire.fields import Code

QUANTITY_SHARES_MAX: Final = 999_999
"""The largest order, and the largest total of an order and its replacements."""

PRICE4_MAX: Final = 1_999_999_900
"""199,999.9900 dollars, the largest limit. What is above it is a market order for a cross."""


class Side(Code):
    """What the client wants to do."""

    BUY = "B"
    SELL = "S"
    SELL_SHORT = "T"
    SELL_SHORT_EXEMPT = "E"


class Capacity(Code):
    """For whom the client acts."""

    AGENCY = "A"
    PRINCIPAL = "P"
    RISKLESS = "R"
    OTHER = "O"


class OrderState(Code):
    """Whether an order that was accepted or replaced is in the book."""

    LIVE = "L"
    DEAD = "D", "dead: accepted and canceled at once, no Canceled follows"


class EventCode(Code):
    """Events of the day that concern everyone."""

    START_OF_DAY = "S"
    END_OF_DAY = "E"


class CustomerType(Code):
    """Whether an order comes from a retail customer."""

    RETAIL = "R", "retail designated"
    NOT_RETAIL = "N"
    PORT_DEFAULT = " ", "as the port is set up"


class CancelReason(Code):
    """Why shares were taken off an order."""

    USER = "U", "the user asked for it"
    IMMEDIATE_OR_CANCEL = "I"
    TIME_IN_FORCE = "T", "its time in force ran out"
    SUPERVISORY = "S"
    REGULATORY_RESTRICTION = "D"
    SELF_MATCH_PREVENTION = "Q"
    SYSTEM = "Z"
    MARKET_COLLARS = "K", "market collars: it cannot be executed"
    HALTED = "H"
    OPEN_PROTECTION = "X"
    CLOSED = "E"
    POST_ONLY_REPRICED = "F", "post only, and would be re-priced for the NBBO"
    POST_ONLY_CONTRA = "G", "post only, and an order on the other side is displayed"
    CROSS_CANCELED = "C", "cross canceled (older texts)"
    DIRECT_LISTING = "e", "direct listing: above the shares offered (newer texts of 5.0)"


class BrokenTradeReason(Code):
    """Why a trade was broken."""

    ERRONEOUS = "E"
    CONSENT = "C", "consent of both sides"
    SUPERVISORY = "S"
    EXTERNAL = "X"


class TradeCorrectionReason(Code):
    """Why a trade was corrected."""

    NET_ASSET_VALUE = "N", "adjusted to net asset value"


class AiqStrategy(Code):
    """What self-match prevention does (aiq is short for anti-internalization)."""

    CANCEL_OLDEST = "O", "by market participant id: cancel the oldest"
    CANCEL_NEWEST = "W", "by market participant id: cancel the newest"
    DECREMENT_BOTH = "D", "by market participant id: decrement both"
    DECREMENT_BOTH_SILENTLY = "Y", "by market participant id: decrement both, without details"
    ORGANISATION_CANCEL_OLDEST = "o", "by organisation: cancel the oldest"
    ORGANISATION_CANCEL_NEWEST = "w", "by organisation: cancel the newest"
    ORGANISATION_DECREMENT_BOTH = "d", "by organisation: decrement both"
    ORGANISATION_DECREMENT_BOTH_SILENTLY = "y", "by organisation: decrement both, without details"


class BboWeight(Code):
    """How an order relates to the best bid and offer when it is accepted."""

    UP_TO_0_2_PERCENT = "0", "0 to 0.2 %"
    UP_TO_1_PERCENT = "1", "0.2 to 1 %"
    UP_TO_2_PERCENT = "2", "1 to 2 %"
    ABOVE_2_PERCENT = "3", "more than 2 %"
    SETS_QBBO = "S", "sets the exchange's best price while it joins the NBBO"
    IMPROVES_NBBO = "N", "improves the NBBO"
    UNSPECIFIED = " "


class LiquidityFlag(Code):
    """What an execution did to the book: the fee depends on it. The last six are those of NASDAQ BX."""

    ADDED = "A"
    REMOVED = "R"
    OPENING_CROSS = "O"
    CLOSING_CROSS = "C"
    OPENING_CROSS_IMBALANCE_ONLY = "M"
    CLOSING_CROSS_IMBALANCE_ONLY = "L"
    HALT_OR_IPO_CROSS = "H", "halt or IPO cross"
    HALT_CROSS = "K"
    AFTER_HOURS_CLOSING_CROSS = "i"
    SUPPLEMENTAL = "0"
    ADDED_NON_DISPLAYED = "J"
    ADDED_NON_DISPLAYED_RESERVE = "u", "added non-displayed, by a reserve order"
    ADDED_MIDPOINT = "k", "added at the midpoint"
    REMOVED_MIDPOINT = "m", "removed at the midpoint"
    PASSIVE_MIDPOINT = "N"
    MIDPOINT_EXTENDED_LIFE = "n"
    RETAIL_ADDED_DISPLAYED = "e"
    ADDED_IMPROVED_NBBO = "7", "added displayed, and improved the NBBO"
    ADDED_SET_QBBO = "8", "added displayed, and set the exchange's best price while joining the NBBO"
    RPI_PROVIDED = "j", "retail price improving order provided"
    RPI_PROVIDED_WITHOUT_INDICATOR = "1", "retail price improving order provided, without indicator"
    REMOVED_PRICE_IMPROVING = "p", "removed price-improving non-displayed"
    RETAIL_REMOVED_MIDPOINT = "q", "retail removed at the midpoint"
    RETAIL_REMOVED_RPI = "r", "retail removed a retail price improving order"
    RETAIL_REMOVED_PRICE_IMPROVING = "t", "retail removed other price-improving non-displayed"


class YesOrNo(Code):
    """A yes or a no."""

    YES = "Y"
    NO = "N"
