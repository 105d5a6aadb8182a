"""The lists of codes of TotalView-ITCH 5.0: which letters a field may hold, and what they mean.

They stand apart from the messages (:mod:`exchange.wire.itch50`) because they are long and change with every edition of
the specification, while the layouts do not. Reading keeps a letter that is not here; only
:meth:`~exchange.wire.layout.Message.check` refuses it.

Source: NASDAQ TotalView-ITCH 5.0 specification, section 4, with the codes that later editions added (up to 2026).
"""

from exchange.wire.fields import Code


class SystemEventCode(Code):
    """System Event, section 4.1."""

    START_OF_MESSAGES = "O"
    START_OF_SYSTEM_HOURS = "S"
    START_OF_MARKET_HOURS = "Q"
    END_OF_MARKET_HOURS = "M"
    END_OF_SYSTEM_HOURS = "E"
    END_OF_MESSAGES = "C"


class MarketCategory(Code):
    """Where a stock is listed, section 4.2.1."""

    NASDAQ_GLOBAL_SELECT = "Q"
    NASDAQ_GLOBAL = "G"
    NASDAQ_CAPITAL = "S"
    NYSE = "N"
    NYSE_AMERICAN = "A"
    NYSE_ARCA = "P"
    CBOE_BZX = "Z"
    IEX = "V"
    NYSE_TEXAS = "M"
    NOT_AVAILABLE = " "


class FinancialStatus(Code):
    """Financial status indicator, section 4.2.1."""

    NORMAL = "N"
    DEFICIENT = "D"
    DELINQUENT = "E"
    BANKRUPT = "Q"
    SUSPENDED = "S"
    DEFICIENT_AND_BANKRUPT = "G"
    DEFICIENT_AND_DELINQUENT = "H"
    DELINQUENT_AND_BANKRUPT = "J"
    DEFICIENT_DELINQUENT_AND_BANKRUPT = "K"
    CREATIONS_SUSPENDED = "C", "creations or redemptions suspended"
    NOT_AVAILABLE = " "


class YesNo(Code):
    """Yes or no."""

    YES = "Y"
    NO = "N"


class YesNoUnknown(Code):
    """Yes, no, or not available."""

    YES = "Y"
    NO = "N"
    NOT_AVAILABLE = " "


class IssueClassification(Code):
    """What kind of security it is, appendix."""

    AMERICAN_DEPOSITARY_SHARE = "A"
    BOND = "B"
    COMMON_STOCK = "C"
    DEPOSITORY_RECEIPT = "F"
    RULE_144A = "I"
    LIMITED_PARTNERSHIP = "L"
    NOTES = "N"
    ORDINARY_SHARE = "O"
    PREFERRED = "P"
    OTHER = "Q"
    RIGHT = "R"
    SHARES_OF_BENEFICIAL_INTEREST = "S"
    CONVERTIBLE_DEBENTURE = "T"
    UNIT = "U"
    UNITS_OF_BENEFICIAL_INTEREST = "V"
    WARRANT = "W"


class IssueSubType(Code):
    """The kind more closely, appendix; one or two letters."""

    PREFERRED_TRUST_SECURITIES = "A"
    ALPHA_INDEX_ETN = "AI"
    INDEX_BASED_DERIVATIVE = "B"
    COMMON_SHARES = "C"
    COMMODITY_BASED_TRUST_SHARES = "CB"
    COMMODITY_FUTURES_TRUST_SHARES = "CF"
    COMMODITY_LINKED = "CL"
    COMMODITY_INDEX_TRUST_SHARES = "CM"
    COLLATERALIZED_MORTGAGE_OBLIGATION = "CO"
    CURRENCY_TRUST_SHARES = "CT"
    COMMODITY_CURRENCY_LINKED = "CU"
    CURRENCY_WARRANTS = "CW"
    GLOBAL_DEPOSITARY_SHARES = "D"
    ETF_PORTFOLIO_DEPOSITARY_RECEIPT = "E"
    EQUITY_GOLD_SHARES = "EG"
    ETN_EQUITY_INDEX_LINKED = "EI"
    EXCHANGE_TRADED_MANAGED_FUND = "EM"
    EXCHANGE_TRADED_NOTES = "EN"
    EQUITY_UNITS = "EU"
    HOLDRS = "F"
    ETN_FIXED_INCOME_LINKED = "FI"
    ETN_FUTURES_LINKED = "FL"
    GLOBAL_SHARES = "G"
    ETF_INDEX_FUND_SHARES = "I"
    INTEREST_RATE = "IR"
    INDEX_WARRANT = "IW"
    INDEX_LINKED_EXCHANGEABLE_NOTES = "IX"
    CORPORATE_BACKED_TRUST = "J"
    CONTINGENT_LITIGATION_RIGHT = "L"
    LIMITED_LIABILITY_COMPANY = "LL"
    EQUITY_BASED_DERIVATIVE = "M"
    MANAGED_FUND_SHARES = "MF"
    ETN_MULTI_FACTOR_INDEX_LINKED = "ML"
    MANAGED_TRUST = "MT"
    NY_REGISTRY_SHARES = "N"
    OPEN_ENDED_MUTUAL_FUND = "O"
    PRIVATELY_HELD = "P"
    POISON_PILL = "PP"
    PARTNERSHIP_UNITS = "PU"
    CLOSED_END_FUND = "Q"
    REG_S = "R"
    COMMODITY_REDEEMABLE_COMMODITY_LINKED = "RC"
    ETN_REDEEMABLE_FUTURES_LINKED = "RF"
    REIT = "RT"
    COMMODITY_REDEEMABLE_CURRENCY_LINKED = "RU"
    SEED = "S"
    SPOT_RATE_CLOSING = "SC"
    SPOT_RATE_INTRADAY = "SI"
    TRACKING_STOCK = "T"
    TRUST_CERTIFICATES = "TC"
    TRUST_UNITS = "TU"
    PORTAL = "U"
    CONTINGENT_VALUE_RIGHT = "V"
    TRUST_ISSUED_RECEIPTS = "W"
    WORLD_CURRENCY_OPTION = "WC"
    TRUST = "X"
    OTHER = "Y"
    NOT_APPLICABLE = "Z"


class Authenticity(Code):
    """Whether a stock is real, section 4.2.1."""

    PRODUCTION = "P"
    TEST = "T"


class IpoFlag(Code):
    """Whether a stock is set up for its first public offering, section 4.2.1."""

    SET_UP = "Y"
    NOT_SET_UP = "N"
    NEW_LISTING_WITHOUT_IPO = "Z"
    NOT_AVAILABLE = " "


class ReferencePriceTier(Code):
    """Limit-up / limit-down tier, section 4.2.1."""

    TIER_1 = "1"
    TIER_2 = "2"
    NOT_APPLICABLE = " "


class TradingState(Code):
    """Stock Trading Action, section 4.2.2."""

    HALTED = "H"
    PAUSED = "P"
    QUOTATION_ONLY = "Q"
    TRADING = "T"


class TradingActionReason(Code):
    """Why trading is halted or goes on, appendix; up to four characters."""

    NEWS_PENDING = "T1"
    NEWS_DISSEMINATED = "T2"
    NEWS_AND_RESUMPTION_TIMES = "T3"
    SINGLE_STOCK_PAUSE = "T5"
    EXTRAORDINARY_MARKET_ACTIVITY = "T6"
    QUOTATION_ONLY_PERIOD = "T7"
    ETF_HALT = "T8"
    INFORMATION_REQUESTED = "T12"
    NON_COMPLIANCE = "H4"
    FILINGS_NOT_CURRENT = "H9"
    SEC_SUSPENSION = "H10"
    REGULATORY_CONCERN = "H11"
    OPERATIONS_HALT = "O1"
    VOLATILITY_PAUSE = "LUDP"
    VOLATILITY_PAUSE_STRADDLE = "LUDS"
    MARKET_WIDE_LEVEL_1 = "MWC1"
    MARKET_WIDE_LEVEL_2 = "MWC2"
    MARKET_WIDE_LEVEL_3 = "MWC3"
    MARKET_WIDE_CARRIED_OVER = "MWC0"
    MARKET_WIDE_RESUMPTION = "MWCQ"
    IPO_NOT_YET_TRADING = "IPO1"
    IPO_RELEASED_FOR_QUOTATION = "IPOQ"
    IPO_POSITIONING_WINDOW_EXTENDED = "IPOE"
    CORPORATE_ACTION = "M1"
    QUOTATION_NOT_AVAILABLE = "M2"
    QUALIFICATION_ISSUES_RESOLVED = "R4"
    FILINGS_SATISFIED = "R9"
    NEWS_NOT_FORTHCOMING = "C3"
    QUALIFICATION_HALT_OVER_MAINTENANCE_MET = "C4"
    QUALIFICATION_HALT_OVER_FILINGS_MET = "C9"
    HALT_ENDED_BY_ANOTHER_REGULATOR = "C11"
    NEW_ISSUE_AVAILABLE = "R1"
    ISSUE_AVAILABLE = "R2"
    NONE = ""


class RegShoAction(Code):
    """Short sale price test, section 4.2.3."""

    NO_TEST = "0"
    IN_EFFECT_AFTER_DROP = "1"
    REMAINS_IN_EFFECT = "2"


class MarketMakerMode(Code):
    """Market Participant Position, section 4.2.4."""

    NORMAL = "N"
    PASSIVE = "P"
    SYNDICATE = "S"
    PRE_SYNDICATE = "R"
    PENALTY = "L"


class MarketParticipantState(Code):
    """Market Participant Position, section 4.2.4."""

    ACTIVE = "A"
    EXCUSED = "E"
    WITHDRAWN = "W"
    SUSPENDED = "S"
    DELETED = "D"


class BreachedLevel(Code):
    """Market-wide circuit breaker, section 4.2.5.2."""

    LEVEL_1 = "1"
    LEVEL_2 = "2"
    LEVEL_3 = "3"


class IpoReleaseQualifier(Code):
    """IPO Quoting Period Update, section 4.2.6."""

    ANTICIPATED = "A"
    CANCELED_OR_POSTPONED = "C"


class MarketCode(Code):
    """Operational Halt, section 4.2.8."""

    NASDAQ = "Q"
    BX = "B"
    PSX = "X"


class OperationalHaltAction(Code):
    """Operational Halt, section 4.2.8."""

    HALTED = "H"
    RESUMED = "T"


class OrderSide(Code):
    """Buy/sell indicator; short sales show as sales."""

    BUY = "B"
    SELL = "S"


class CrossType(Code):
    """Which auction; section 4.5.2."""

    OPENING = "O"
    CLOSING = "C"
    HALT_OR_IPO = "H"
    CROSS_NETWORK = "I", "cross network (until 2017)"
    EXTENDED_TRADING_CLOSE = "A"


class ImbalanceDirection(Code):
    """Net Order Imbalance Indicator, section 4.6."""

    BUY = "B"
    SELL = "S"
    NONE = "N"
    INSUFFICIENT_ORDERS = "O"
    PAUSED = "P"


class PriceVariation(Code):
    """How far the near price is from the reference price, section 4.6."""

    LESS_THAN_1_PERCENT = "L"
    FROM_1_PERCENT = "1"
    FROM_2_PERCENT = "2"
    FROM_3_PERCENT = "3"
    FROM_4_PERCENT = "4"
    FROM_5_PERCENT = "5"
    FROM_6_PERCENT = "6"
    FROM_7_PERCENT = "7"
    FROM_8_PERCENT = "8"
    FROM_9_PERCENT = "9"
    FROM_10_PERCENT = "A"
    FROM_20_PERCENT = "B"
    FROM_30_PERCENT = "C"
    NOT_COMPUTABLE = " "


class InterestFlag(Code):
    """Retail Price Improvement Indicator, section 4.7."""

    BUY_SIDE = "B"
    SELL_SIDE = "S"
    BOTH_SIDES = "A"
    NONE = "N"
