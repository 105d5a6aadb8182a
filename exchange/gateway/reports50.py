"""What OUCH 5.0 says of an order: the messages of section 5.2 of its specification that this exchange sends, compiled.

Every offset comes from the tables of :mod:`exchange.wire.ouch50`. Each function writes one message into the log of a
session, from an event, an order of the table or an answer of the gateway; it decides nothing and changes no order."""

from typing import Final

from exchange.book import ladder_events as record
from exchange.gateway.inbound import (
    ACCOUNT,
    ANSWER_FIRM,
    ANSWER_GROUP_ID,
    ANSWER_HAS_GROUP,
    ANSWER_SIDE,
    ANSWER_SYMBOL,
    ANSWER_USER_REFERENCE,
    DISABLED,
)
from exchange.gateway.offsets import offsets_of
from exchange.gateway.order_table import (
    CAPACITY,
    CLIENT_ORDER_ID,
    CROSS_TYPE,
    DISPLAY,
    FIRM,
    GROUP_ID,
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
    load_uint16,
    load_uint32,
    store_big_endian_int64,
    store_big_endian_uint16,
    store_big_endian_uint32,
    store_uint8,
)
from exchange.wire.ouch50 import (
    AccountQueryResponse,
    DisableOrderEntryResponse,
    EnableOrderEntryResponse,
    MassCancelResponse,
    OrderAccepted,
    OrderCanceled,
    OrderExecuted,
    OrderModified,
    OrderReplaced,
    Rejected,
)
from exchange.wire.ouch50_options import OptionTag
from exchange.wire.ouch_codes import OrderState

ACCEPTED: Final = offsets_of(OrderAccepted)
REPLACED: Final = offsets_of(OrderReplaced)
CANCELED: Final = offsets_of(OrderCanceled)
EXECUTED: Final = offsets_of(OrderExecuted)
MODIFIED: Final = offsets_of(OrderModified)
REJECTED: Final = offsets_of(Rejected)
MASS_CANCELED: Final = offsets_of(MassCancelResponse)
DISABLED_RESPONSE: Final = offsets_of(DisableOrderEntryResponse)
ENABLED_RESPONSE: Final = offsets_of(EnableOrderEntryResponse)
ACCOUNT_RESPONSE: Final = offsets_of(AccountQueryResponse)

_LIVE: Final = ord(OrderState.LIVE)
_DEAD: Final = ord(OrderState.DEAD)
_FIRM_OPTION: Final = int(OptionTag.FIRM)
_GROUP_OPTION: Final = int(OptionTag.GROUP_ID)
_SIDE_OPTION: Final = int(OptionTag.SIDE)
_FIRM_BYTES: Final = 6
_GROUP_BYTES: Final = 4
_SIDE_BYTES: Final = 3
"""Length, tag, and the value."""


@inlined
def say_accepted(
    reports: Reports, session_id: int, session: int, order: int, number: int, event: int, day_ns: int
) -> None:
    """Order Accepted."""
    firm_bytes = 0 if load_uint32(order + FIRM) == 0 else _FIRM_BYTES
    size_bytes = ACCEPTED.options + firm_bytes
    size_bytes += 0 if load_uint16(order + GROUP_ID) == 0 else _GROUP_BYTES
    message = begin_report(reports, session, ACCEPTED.type_byte, size_bytes, day_ns)
    if message == 0:
        return
    store_big_endian_uint32(message + ACCEPTED.user_reference_number, number)
    store_uint8(message + ACCEPTED.side, load_uint8(order + SIDE))
    store_big_endian_uint32(message + ACCEPTED.quantity, load_uint32(event + record.QUANTITY))
    store_big_endian_int64(message + ACCEPTED.symbol, load_int64(order + SYMBOL_WORD))
    store_big_endian_int64(message + ACCEPTED.price, load_int64(order + PRICE))
    store_uint8(message + ACCEPTED.time_in_force, load_uint8(order + TIME_IN_FORCE))
    store_uint8(message + ACCEPTED.display, load_uint8(order + DISPLAY))
    store_big_endian_int64(message + ACCEPTED.order_reference_number, load_int64(event + record.ORDER_ID))
    store_uint8(message + ACCEPTED.capacity, load_uint8(order + CAPACITY))
    store_uint8(message + ACCEPTED.intermarket_sweep_eligibility, load_uint8(order + SWEEP))
    store_uint8(message + ACCEPTED.cross_type, load_uint8(order + CROSS_TYPE))
    store_uint8(message + ACCEPTED.order_state, _LIVE)
    write_client_order_id(message + ACCEPTED.client_order_id, order + CLIENT_ORDER_ID)
    store_big_endian_uint16(message + ACCEPTED.appendage_length, size_bytes - ACCEPTED.options)
    _write_firm(message + ACCEPTED.options, order, firm_bytes)
    if size_bytes > ACCEPTED.options + firm_bytes:
        _write_group(message + ACCEPTED.options + firm_bytes, load_uint16(order + GROUP_ID))
    commit_report(reports, session_id, session, size_bytes)


@inlined
def say_replaced(
    reports: Reports,
    session_id: int,
    session: int,
    order: int,
    number: int,
    original: int,
    event: int,
    day_ns: int,
) -> None:
    """Order Replaced: ``order`` is in the book in the place of the one with the number ``original``, or dead."""
    firm_bytes = 0 if load_uint32(order + FIRM) == 0 else _FIRM_BYTES
    open_lots = load_int64(order + OPEN_LOTS)
    message = begin_report(reports, session, REPLACED.type_byte, REPLACED.options + firm_bytes, day_ns)
    if message == 0:
        return
    store_big_endian_uint32(message + REPLACED.original_user_reference_number, original)
    store_big_endian_uint32(message + REPLACED.user_reference_number, number)
    store_uint8(message + REPLACED.side, load_uint8(order + SIDE))
    store_big_endian_uint32(message + REPLACED.quantity, open_lots)
    store_big_endian_int64(message + REPLACED.symbol, load_int64(order + SYMBOL_WORD))
    store_big_endian_int64(message + REPLACED.price, load_int64(order + PRICE))
    store_uint8(message + REPLACED.time_in_force, load_uint8(order + TIME_IN_FORCE))
    store_uint8(message + REPLACED.display, load_uint8(order + DISPLAY))
    order_id = load_int64(event + record.OTHER_ORDER_ID)
    store_big_endian_int64(message + REPLACED.order_reference_number, order_id)
    store_uint8(message + REPLACED.capacity, load_uint8(order + CAPACITY))
    store_uint8(message + REPLACED.intermarket_sweep_eligibility, load_uint8(order + SWEEP))
    store_uint8(message + REPLACED.cross_type, load_uint8(order + CROSS_TYPE))
    store_uint8(message + REPLACED.order_state, _DEAD if open_lots == 0 else _LIVE)
    write_client_order_id(message + REPLACED.client_order_id, order + CLIENT_ORDER_ID)
    store_big_endian_uint16(message + REPLACED.appendage_length, firm_bytes)
    _write_firm(message + REPLACED.options, order, firm_bytes)
    commit_report(reports, session_id, session, REPLACED.options + firm_bytes)


@inlined
def say_executed(
    reports: Reports,
    session_id: int,
    session: int,
    number: int,
    event: int,
    liquidity: int,
    match_number: int,
    day_ns: int,
) -> None:
    """Order Executed."""
    message = begin_report(reports, session, EXECUTED.type_byte, EXECUTED.options, day_ns)
    if message == 0:
        return
    store_big_endian_uint32(message + EXECUTED.user_reference_number, number)
    store_big_endian_uint32(message + EXECUTED.quantity, load_uint32(event + record.QUANTITY))
    store_big_endian_int64(message + EXECUTED.price, load_int64(event + record.PRICE))
    store_uint8(message + EXECUTED.liquidity_flag, liquidity)
    store_big_endian_int64(message + EXECUTED.match_number, match_number)
    store_big_endian_uint16(message + EXECUTED.appendage_length, 0)
    commit_report(reports, session_id, session, EXECUTED.options)


@inlined
def say_canceled(
    reports: Reports, session_id: int, session: int, number: int, event: int, day_ns: int
) -> None:
    """Order Canceled."""
    message = begin_report(reports, session, CANCELED.type_byte, CANCELED.appendage_length, day_ns)
    if message == 0:
        return
    store_big_endian_uint32(message + CANCELED.user_reference_number, number)
    store_big_endian_uint32(message + CANCELED.quantity, load_uint32(event + record.QUANTITY))
    store_uint8(message + CANCELED.reason, cancel_reason(event))
    commit_report(reports, session_id, session, CANCELED.appendage_length)


@inlined
def say_modified(
    reports: Reports, session_id: int, session: int, order: int, number: int, day_ns: int
) -> None:
    """Order Modified: the side that was asked for last, and what is open now."""
    message = begin_report(reports, session, MODIFIED.type_byte, MODIFIED.appendage_length, day_ns)
    if message == 0:
        return
    store_big_endian_uint32(message + MODIFIED.user_reference_number, number)
    store_uint8(message + MODIFIED.side, load_uint8(order + LAST_SIDE))
    store_big_endian_uint32(message + MODIFIED.quantity, load_int64(order + OPEN_LOTS))
    commit_report(reports, session_id, session, MODIFIED.appendage_length)


@inlined
def say_rejected(
    reports: Reports,
    session_id: int,
    session: int,
    number: int,
    client_order_id: int,
    reason: int,
    day_ns: int,
) -> None:
    """Rejected; the client's own text stands at ``client_order_id``, as the order table keeps it."""
    message = begin_report(reports, session, REJECTED.type_byte, REJECTED.appendage_length, day_ns)
    if message == 0:
        return
    store_big_endian_uint32(message + REJECTED.user_reference_number, number)
    store_big_endian_uint16(message + REJECTED.reason, reason)
    write_client_order_id(message + REJECTED.client_order_id, client_order_id)
    commit_report(reports, session_id, session, REJECTED.appendage_length)


@kernel
def say_mass_canceled(reports: Reports, session_id: int, session: int, answer: int, day_ns: int) -> None:
    """Mass Cancel Response: the request, echoed with its options."""
    side, has_group = load_uint8(answer + ANSWER_SIDE), load_uint8(answer + ANSWER_HAS_GROUP) != 0
    side_bytes = 0 if side == 0 else _SIDE_BYTES
    option_bytes = side_bytes + (_GROUP_BYTES if has_group else 0)
    size_bytes = MASS_CANCELED.options + option_bytes
    message = begin_report(reports, session, MASS_CANCELED.type_byte, size_bytes, day_ns)
    if message == 0:
        return
    number = load_uint32(answer + ANSWER_USER_REFERENCE)
    store_big_endian_uint32(message + MASS_CANCELED.user_reference_number, number)
    store_big_endian_uint32(message + MASS_CANCELED.firm, load_uint32(answer + ANSWER_FIRM))
    store_big_endian_int64(message + MASS_CANCELED.symbol, load_int64(answer + ANSWER_SYMBOL))
    store_big_endian_uint16(message + MASS_CANCELED.appendage_length, option_bytes)
    option = message + MASS_CANCELED.options
    if side_bytes > 0:
        store_uint8(option, _SIDE_BYTES - 1)
        store_uint8(option + 1, _SIDE_OPTION)
        store_uint8(option + 2, side)
    if has_group:
        _write_group(option + side_bytes, load_uint16(answer + ANSWER_GROUP_ID))
    commit_report(reports, session_id, session, size_bytes)


@kernel
def say_of_session(
    reports: Reports, session_id: int, session: int, kind: int, answer: int, day_ns: int
) -> None:
    """Account Query Response, or Disable or Enable Order Entry Response: whichever kind of answer it is."""
    number = load_uint32(answer + ANSWER_USER_REFERENCE)
    if kind == ACCOUNT:
        message = begin_report(
            reports, session, ACCOUNT_RESPONSE.type_byte, ACCOUNT_RESPONSE.appendage_length, day_ns
        )
        if message != 0:
            store_big_endian_uint32(message + ACCOUNT_RESPONSE.next_user_reference_number, number)
            commit_report(reports, session_id, session, ACCOUNT_RESPONSE.appendage_length)
        return
    letter = DISABLED_RESPONSE.type_byte if kind == DISABLED else ENABLED_RESPONSE.type_byte
    message = begin_report(reports, session, letter, DISABLED_RESPONSE.options, day_ns)
    if message == 0:
        return
    store_big_endian_uint32(message + DISABLED_RESPONSE.user_reference_number, number)
    store_big_endian_uint32(message + DISABLED_RESPONSE.firm, load_uint32(answer + ANSWER_FIRM))
    store_big_endian_uint16(message + DISABLED_RESPONSE.appendage_length, 0)
    commit_report(reports, session_id, session, DISABLED_RESPONSE.options)


@inlined
def _write_firm(option: int, order: int, firm_bytes: int) -> None:
    """The firm of an order that names one."""
    if firm_bytes != 0:
        store_uint8(option, _FIRM_BYTES - 1)
        store_uint8(option + 1, _FIRM_OPTION)
        store_big_endian_uint32(option + 2, load_uint32(order + FIRM))


@inlined
def _write_group(option: int, group_id: int) -> None:
    store_uint8(option, _GROUP_BYTES - 1)
    store_uint8(option + 1, _GROUP_OPTION)
    store_big_endian_uint16(option + 2, group_id)
