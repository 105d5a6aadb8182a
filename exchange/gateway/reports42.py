"""What OUCH 4.2 says of an order: the messages of section 6.2 of its specification that this exchange sends, compiled.

Every offset comes from the tables of :mod:`exchange.wire.ouch42`. The functions are those of
:mod:`exchange.gateway.reports50`, with the order's token in the place of its number, which the order table keeps as the
client's own text. What OUCH 5.0 says with options has a field here: the firm, and a minimum quantity, which is always
none. Reasons of a reject are letters; a reason that has none in this version is "other"."""

from typing import Final

from exchange.book import ladder_events as record
from exchange.gateway.offsets import offsets_of
from exchange.gateway.options import NO_FIRM
from exchange.gateway.order_table import (
    CAPACITY,
    CLIENT_ORDER_ID,
    CROSS_TYPE,
    DISPLAY,
    FIRM,
    LAST_SIDE,
    OPEN_LOTS,
    PRICE,
    SIDE,
    SWEEP,
    SYMBOL_WORD,
    TIME_IN_FORCE,
)
from exchange.gateway.outbound import (
    Reports,
    begin_report,
    cancel_reason,
    commit_report,
    write_client_order_id,
)
from exchange.native import (
    inlined,
    kernel,
    load_int64,
    load_uint8,
    load_uint32,
    store_big_endian_int64,
    store_big_endian_uint32,
    store_uint8,
)
from exchange.wire import ouch42, ouch50
from exchange.wire.ouch42 import RejectReason
from exchange.wire.ouch50 import RejectReason as Reason50
from exchange.wire.ouch_codes import BboWeight, OrderState

ACCEPTED: Final = offsets_of(ouch42.Accepted)
REPLACED: Final = offsets_of(ouch42.Replaced)
CANCELED: Final = offsets_of(ouch42.Canceled)
EXECUTED: Final = offsets_of(ouch42.Executed)
MODIFIED: Final = offsets_of(ouch42.OrderModified)
REJECTED: Final = offsets_of(ouch42.Rejected)
ACCEPTED_BYTES: Final = ouch42.Accepted.layout.size_bytes
REPLACED_BYTES: Final = ouch42.Replaced.layout.size_bytes
CANCELED_BYTES: Final = ouch42.Canceled.layout.size_bytes
EXECUTED_BYTES: Final = ouch42.Executed.layout.size_bytes
MODIFIED_BYTES: Final = ouch42.OrderModified.layout.size_bytes
REJECTED_BYTES: Final = ouch42.Rejected.layout.size_bytes

_LIVE: Final = ord(OrderState.LIVE)
_DEAD: Final = ord(OrderState.DEAD)
_UNSPECIFIED: Final = ord(BboWeight.UNSPECIFIED)
_IMMEDIATE_LETTER: Final = ord(ouch50.TimeInForce.IMMEDIATE_OR_CANCEL)
_DAY_LETTER: Final = ord(ouch50.TimeInForce.DAY)
_IMMEDIATE: Final = int(ouch42.TimeInForce.IMMEDIATE_OR_CANCEL)
_MARKET_HOURS: Final = int(ouch42.TimeInForce.MARKET_HOURS)
_SYSTEM_HOURS: Final = int(ouch42.TimeInForce.SYSTEM_HOURS)

_LETTER_OF_REASON: Final[dict[int, RejectReason]] = {
    Reason50.TEST: RejectReason.TEST_MODE,
    Reason50.HALTED: RejectReason.HALTED,
    Reason50.SHARES_EXCEED_THRESHOLD: RejectReason.SHARES_ABOVE_SAFETY_THRESHOLD,
    Reason50.INVALID_QUANTITY: RejectReason.SHARES_ABOVE_SAFETY_THRESHOLD,
    Reason50.INVALID_SYMBOL: RejectReason.INVALID_STOCK,
    Reason50.INVALID_DISPLAY: RejectReason.INVALID_DISPLAY,
    Reason50.DESTINATION_CLOSED: RejectReason.CLOSED,
    Reason50.FIRM_NOT_AUTHORIZED: RejectReason.FIRM_NOT_AUTHORIZED,
    Reason50.INVALID_CROSS_ORDER: RejectReason.NOT_ALLOWED_IN_CROSS,
    Reason50.INVALID_PRICE: RejectReason.INVALID_PRICE,
    Reason50.INVALID_MINIMUM_QUANTITY: RejectReason.INVALID_MINIMUM_QUANTITY,
    Reason50.NO_CLOSING_REFERENCE_PRICE: RejectReason.NO_REFERENCE_PRICE,
    Reason50.LATE_LOC_TOO_AGGRESSIVE: RejectReason.LATE_ORDER_TOO_AGGRESSIVE,
    Reason50.CROSSED_MARKET: RejectReason.MIDPOINT_PEG_IN_CROSSED_MARKET,
    Reason50.RETAIL_NOT_ALLOWED: RejectReason.RETAIL_NOT_ALLOWED,
    Reason50.INVALID_MIDPOINT_POST_ONLY_PRICE: RejectReason.INVALID_MIDPOINT_POST_ONLY_PRICE,
    Reason50.FAT_FINGER: RejectReason.RISK_FAT_FINGER,
    Reason50.RISK_RESTRICTED_STOCK: RejectReason.RISK_RESTRICTED_STOCK,
    Reason50.RISK_SHORT_SELL_RESTRICTED: RejectReason.RISK_SHORT_SELL_RESTRICTED,
    Reason50.RISK_SHORT_SELL_NOT_ALLOWED: RejectReason.RISK_SHORT_SELL_RESTRICTED,
    Reason50.RISK_MARKET_ORDER_NOT_ALLOWED: RejectReason.RISK_ORDER_TYPE_RESTRICTED,
    Reason50.RISK_ISO_NOT_ALLOWED: RejectReason.RISK_ORDER_TYPE_RESTRICTED,
    Reason50.RISK_EXCEEDS_ADV_LIMIT: RejectReason.RISK_ADV_LIMIT,
    Reason50.RISK_FAT_FINGER: RejectReason.RISK_FAT_FINGER,
    Reason50.RISK_MAXIMUM_QUANTITY_EXCEEDED: RejectReason.RISK_MAXIMUM_SHARES,
    Reason50.RISK_SINGLE_ORDER_NOTIONAL_EXCEEDED: RejectReason.RISK_MAXIMUM_NOTIONAL,
    Reason50.EXCEEDS_MAXIMUM_NOTIONAL_VALUE: RejectReason.RISK_MAXIMUM_NOTIONAL,
    Reason50.RISK_MARKET_IMPACT: RejectReason.RISK_MARKET_IMPACT,
    Reason50.RISK_AGGREGATE_EXPOSURE_EXCEEDED: RejectReason.RISK_AGGREGATE_EXPOSURE,
    Reason50.RISK_SYMBOL_MESSAGE_RATE: RejectReason.RISK_SYMBOL_MESSAGE_RATE,
    Reason50.RISK_PORT_MESSAGE_RATE: RejectReason.RISK_PORT_MESSAGE_RATE,
    Reason50.RISK_DUPLICATE_MESSAGE_RATE: RejectReason.RISK_DUPLICATE_MESSAGE_RATE,
}
REJECT_LETTERS: Final = tuple(
    ord(_LETTER_OF_REASON.get(reason, RejectReason.OTHER)) for reason in range(max(Reason50) + 1)
)
"""For each reason of OUCH 5.0, by its number, the letter that says it in OUCH 4.2."""


@inlined
def _seconds_to_live(order: int) -> int:
    """The order's time in force, as its client has said it."""
    letter = load_uint8(order + TIME_IN_FORCE)
    if letter == _DAY_LETTER:
        return _MARKET_HOURS
    return _IMMEDIATE if letter == _IMMEDIATE_LETTER else _SYSTEM_HOURS


@inlined
def _firm_of(order: int) -> int:
    firm = load_uint32(order + FIRM)
    return NO_FIRM if firm == 0 else firm


@kernel
def say_accepted(
    reports: Reports, session_id: int, session: int, order: int, event: int, day_ns: int
) -> None:
    """Accepted."""
    message = begin_report(reports, session, ACCEPTED.type_byte, ACCEPTED_BYTES, day_ns)
    if message == 0:
        return
    write_client_order_id(message + ACCEPTED.order_token, order + CLIENT_ORDER_ID)
    store_uint8(message + ACCEPTED.buy_sell_indicator, load_uint8(order + SIDE))
    store_big_endian_uint32(message + ACCEPTED.shares, load_uint32(event + record.QUANTITY))
    store_big_endian_int64(message + ACCEPTED.stock, load_int64(order + SYMBOL_WORD))
    store_big_endian_uint32(message + ACCEPTED.price, load_int64(order + PRICE))
    store_big_endian_uint32(message + ACCEPTED.time_in_force, _seconds_to_live(order))
    store_big_endian_uint32(message + ACCEPTED.firm, _firm_of(order))
    store_uint8(message + ACCEPTED.display, load_uint8(order + DISPLAY))
    store_big_endian_int64(message + ACCEPTED.order_reference_number, load_int64(event + record.ORDER_ID))
    store_uint8(message + ACCEPTED.capacity, load_uint8(order + CAPACITY))
    store_uint8(message + ACCEPTED.intermarket_sweep_eligibility, load_uint8(order + SWEEP))
    store_big_endian_uint32(message + ACCEPTED.minimum_quantity, 0)
    store_uint8(message + ACCEPTED.cross_type, load_uint8(order + CROSS_TYPE))
    store_uint8(message + ACCEPTED.order_state, _LIVE)
    store_uint8(message + ACCEPTED.bbo_weight_indicator, _UNSPECIFIED)
    commit_report(reports, session_id, session, ACCEPTED_BYTES)


@kernel
def say_replaced(
    reports: Reports,
    session_id: int,
    session: int,
    order: int,
    old_order: int,
    event: int,
    day_ns: int,
) -> None:
    """Replaced: ``order`` is in the book in the place of ``old_order``, or dead."""
    open_lots = load_int64(order + OPEN_LOTS)
    message = begin_report(reports, session, REPLACED.type_byte, REPLACED_BYTES, day_ns)
    if message == 0:
        return
    write_client_order_id(message + REPLACED.replacement_order_token, order + CLIENT_ORDER_ID)
    store_uint8(message + REPLACED.buy_sell_indicator, load_uint8(order + SIDE))
    store_big_endian_uint32(message + REPLACED.shares, open_lots)
    store_big_endian_int64(message + REPLACED.stock, load_int64(order + SYMBOL_WORD))
    store_big_endian_uint32(message + REPLACED.price, load_int64(order + PRICE))
    store_big_endian_uint32(message + REPLACED.time_in_force, _seconds_to_live(order))
    store_big_endian_uint32(message + REPLACED.firm, _firm_of(order))
    store_uint8(message + REPLACED.display, load_uint8(order + DISPLAY))
    order_id = load_int64(event + record.OTHER_ORDER_ID)
    store_big_endian_int64(message + REPLACED.order_reference_number, order_id)
    store_uint8(message + REPLACED.capacity, load_uint8(order + CAPACITY))
    store_uint8(message + REPLACED.intermarket_sweep_eligibility, load_uint8(order + SWEEP))
    store_big_endian_uint32(message + REPLACED.minimum_quantity, 0)
    store_uint8(message + REPLACED.cross_type, load_uint8(order + CROSS_TYPE))
    store_uint8(message + REPLACED.order_state, _DEAD if open_lots == 0 else _LIVE)
    write_client_order_id(message + REPLACED.previous_order_token, old_order + CLIENT_ORDER_ID)
    store_uint8(message + REPLACED.bbo_weight_indicator, _UNSPECIFIED)
    commit_report(reports, session_id, session, REPLACED_BYTES)


@kernel
def say_executed(
    reports: Reports,
    session_id: int,
    session: int,
    order: int,
    event: int,
    liquidity: int,
    match_number: int,
    day_ns: int,
) -> None:
    """Executed."""
    message = begin_report(reports, session, EXECUTED.type_byte, EXECUTED_BYTES, day_ns)
    if message == 0:
        return
    write_client_order_id(message + EXECUTED.order_token, order + CLIENT_ORDER_ID)
    store_big_endian_uint32(message + EXECUTED.executed_shares, load_uint32(event + record.QUANTITY))
    store_big_endian_uint32(message + EXECUTED.execution_price, load_int64(event + record.PRICE))
    store_uint8(message + EXECUTED.liquidity_flag, liquidity)
    store_big_endian_int64(message + EXECUTED.match_number, match_number)
    commit_report(reports, session_id, session, EXECUTED_BYTES)


@kernel
def say_canceled(
    reports: Reports, session_id: int, session: int, order: int, event: int, day_ns: int
) -> None:
    """Canceled."""
    message = begin_report(reports, session, CANCELED.type_byte, CANCELED_BYTES, day_ns)
    if message == 0:
        return
    write_client_order_id(message + CANCELED.order_token, order + CLIENT_ORDER_ID)
    store_big_endian_uint32(message + CANCELED.decrement_shares, load_uint32(event + record.QUANTITY))
    store_uint8(message + CANCELED.reason, cancel_reason(event))
    commit_report(reports, session_id, session, CANCELED_BYTES)


@kernel
def say_modified(reports: Reports, session_id: int, session: int, order: int, day_ns: int) -> None:
    """Order Modified: the side that was asked for last, and what is open now."""
    message = begin_report(reports, session, MODIFIED.type_byte, MODIFIED_BYTES, day_ns)
    if message == 0:
        return
    write_client_order_id(message + MODIFIED.order_token, order + CLIENT_ORDER_ID)
    store_uint8(message + MODIFIED.buy_sell_indicator, load_uint8(order + LAST_SIDE))
    store_big_endian_uint32(message + MODIFIED.shares, load_int64(order + OPEN_LOTS))
    commit_report(reports, session_id, session, MODIFIED_BYTES)


@kernel
def say_rejected(
    reports: Reports, session_id: int, session: int, token: int, reason: int, day_ns: int
) -> None:
    """Rejected, for a reason of OUCH 5.0; the token stands at ``token``, as the order table keeps it."""
    message = begin_report(reports, session, REJECTED.type_byte, REJECTED_BYTES, day_ns)
    if message == 0:
        return
    write_client_order_id(message + REJECTED.order_token, token)
    store_uint8(message + REJECTED.reason, REJECT_LETTERS[reason])
    commit_report(reports, session_id, session, REJECTED_BYTES)
