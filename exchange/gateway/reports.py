"""From an event of the exchange to the OUCH 5.0 messages that it means to clients, compiled.

Outbound messages are those of the OUCH 5.0 specification, section 5.2 of whose tables :mod:`exchange.wire.ouch50`
holds; every offset here comes from there. A message is written straight into the log of its session
(:mod:`exchange.gateway.session_log`), from the event and from what the order table knows of the order.

=============== =================================================================================
event           messages
=============== =================================================================================
ACCEPTED        Order Accepted
EXECUTED        two Order Executed: to the order that came (R, removed liquidity) and to the one that waited (A)
CANCELED        Order Canceled
REPLACED        Order Replaced; also for a CANCELED that a replace caused, with nothing open and the order dead
REJECTED        Rejected for a new order, and for a replace in a symbol that is halted; OUCH ignores a cancel or
                replace of what is no longer there
MASS_CANCELED   none: the gateway has answered when it took the request
TRADING_STATE   none: OUCH has no message for it, the feed has
=============== =================================================================================

Each order's open quantity is kept here, so that the table learns when an order is finished. Timestamps are the moment
of writing, in nanoseconds since midnight of the exchange's time zone."""

from typing import Final, NamedTuple

from exchange.book import ladder_events as record
from exchange.gateway.offsets import offsets_of
from exchange.gateway.order_table import (
    ANSWERED,
    CAPACITY,
    CLIENT_ORDER_ID,
    CROSS_TYPE,
    DISPLAY,
    FIRM,
    NO_ORDER,
    OPEN_LOTS,
    PRICE,
    SIDE,
    SWEEP,
    SYMBOL_WORD,
    TIME_IN_FORCE,
    USER_REFERENCE_MASK,
    find_order,
    finish_order,
)
from exchange.gateway.requests import (
    ANSWER_ACCOUNT,
    ANSWER_CLIENT_ORDER_ID,
    ANSWER_FIRM,
    ANSWER_MASS_CANCEL,
    ANSWER_REASON,
    ANSWER_REJECTED,
    ANSWER_SYMBOL,
    ANSWER_USER_REFERENCE,
)
from exchange.gateway.session_log import begin_message, commit_message
from exchange.gateway.session_memory import IS_LISTED, Sessions, session_address
from exchange.messages import RECORD_BYTES, CommandKind, EventKind, Reason
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
    store_big_endian_uint48,
    store_int64,
    store_release,
    store_uint8,
)
from exchange.wire.ouch50 import (
    AccountQueryResponse,
    MassCancelResponse,
    OrderAccepted,
    OrderCanceled,
    OrderExecuted,
    OrderReplaced,
    Rejected,
    RejectReason,
    SystemEvent,
)
from exchange.wire.ouch50_options import OptionTag
from exchange.wire.ouch_codes import CancelReason, LiquidityFlag, OrderState

_ACCEPTED_EVENT: Final = int(EventKind.ACCEPTED)
_EXECUTED_EVENT: Final = int(EventKind.EXECUTED)
_CANCELED_EVENT: Final = int(EventKind.CANCELED)
_REPLACED_EVENT: Final = int(EventKind.REPLACED)
_REJECTED_EVENT: Final = int(EventKind.REJECTED)
_NEW: Final = int(CommandKind.NEW)
_REPLACE: Final = int(CommandKind.REPLACE)
_IMMEDIATE_REMAINDER: Final = int(Reason.IMMEDIATE_REMAINDER)
_BOOK_FULL: Final = int(Reason.BOOK_FULL)
_SYMBOL_HALTED: Final = int(Reason.SYMBOL_HALTED)
_COMMAND_KIND: Final = 46
_OTHER_SESSION_ID: Final = 44
_REASON: Final = 2

_LIVE: Final = ord(OrderState.LIVE)
_DEAD: Final = ord(OrderState.DEAD)
_BY_USER: Final = ord(CancelReason.USER)
_IMMEDIATE: Final = ord(CancelReason.IMMEDIATE_OR_CANCEL)
_ADDED: Final = ord(LiquidityFlag.ADDED)
_REMOVED: Final = ord(LiquidityFlag.REMOVED)
_PROCESSING_ERROR: Final = int(RejectReason.PROCESSING_ERROR)
_OTHER_REASON: Final = int(RejectReason.OTHER)
_HALTED: Final = int(RejectReason.HALTED)

ACCEPTED: Final = offsets_of(OrderAccepted)
REPLACED: Final = offsets_of(OrderReplaced)
CANCELED: Final = offsets_of(OrderCanceled)
EXECUTED: Final = offsets_of(OrderExecuted)
REJECTED: Final = offsets_of(Rejected)
MASS_CANCELED: Final = offsets_of(MassCancelResponse)
ACCOUNT: Final = offsets_of(AccountQueryResponse)
TIMESTAMP: Final = offsets_of(SystemEvent).timestamp
"""In every outbound message, behind its type."""

FIRM_OPTION: Final = int(OptionTag.FIRM)
FIRM_OPTION_BYTES: Final = 6
"""Length, tag, and four letters."""


class Reports(NamedTuple):
    """What encoding needs: the sessions, and the list of those that have something to send.

    The word at ``listed`` counts the sessions on the list, whose numbers (8 bytes each) begin at ``list_address``.
    """

    sessions: Sessions
    listed: int
    list_address: int


@inlined
def list_session(reports: Reports, session_id: int, session: int) -> None:
    """Put a session on the list of those with something to send, if it is not there."""
    if load_int64(session + IS_LISTED) == 0:
        store_int64(session + IS_LISTED, 1)
        listed = load_int64(reports.listed)
        store_int64(reports.list_address + 8 * listed, session_id)
        store_int64(reports.listed, listed + 1)


@kernel
def report_events(reports: Reports, events: int, count: int, day_ns: int) -> None:
    """Write what ``count`` events mean into the logs of the sessions that they concern."""
    for index in range(count):
        event = events + index * RECORD_BYTES
        kind = load_uint8(event + record.KIND)
        session_id = load_uint16(event + record.SESSION_ID)
        session = session_address(reports.sessions, session_id)
        user_reference = load_int64(event + record.ORDER_ID) & USER_REFERENCE_MASK
        if kind == _EXECUTED_EVENT:
            _report_executed(reports, session_id, session, user_reference, event, _REMOVED, day_ns)
            other_id = load_uint16(event + _OTHER_SESSION_ID)
            other = session_address(reports.sessions, other_id)
            other_reference = load_int64(event + record.OTHER_ORDER_ID) & USER_REFERENCE_MASK
            _report_executed(reports, other_id, other, other_reference, event, _ADDED, day_ns)
        elif kind == _ACCEPTED_EVENT:
            _report_accepted(reports, session_id, session, user_reference, event, day_ns)
        elif kind == _REPLACED_EVENT:
            open_lots = load_uint32(event + record.QUANTITY)
            _report_replaced(reports, session_id, session, user_reference, event, open_lots, day_ns)
        elif kind == _CANCELED_EVENT:
            if load_uint16(event + _COMMAND_KIND) == _REPLACE:
                _report_replaced(reports, session_id, session, user_reference, event, 0, day_ns)
            else:
                _report_canceled(reports, session_id, session, user_reference, event, day_ns)
        elif kind == _REJECTED_EVENT:
            _report_rejected(reports, session_id, session, user_reference, event, day_ns)


@inlined
def _begin(message: int, kind: int, day_ns: int) -> None:
    store_uint8(message, kind)
    store_big_endian_int64(message + TIMESTAMP, day_ns)


@inlined
def _commit(reports: Reports, session_id: int, session: int, size_bytes: int) -> None:
    commit_message(reports.sessions, session, size_bytes)
    list_session(reports, session_id, session)


@inlined
def _report_accepted(
    reports: Reports, session_id: int, session: int, user_reference: int, event: int, day_ns: int
) -> None:
    order = find_order(reports.sessions, session, user_reference)
    if order == NO_ORDER:
        return
    quantity = load_uint32(event + record.QUANTITY)
    store_int64(order + OPEN_LOTS, quantity)
    store_release(order + ANSWERED, user_reference)
    option_bytes = 0 if load_int64(order + FIRM) == 0 else FIRM_OPTION_BYTES
    message = begin_message(reports.sessions, session, ACCEPTED.options + option_bytes)
    if message == 0:
        return
    _begin(message, ACCEPTED.type_byte, day_ns)
    store_big_endian_uint32(message + ACCEPTED.user_reference_number, user_reference)
    store_uint8(message + ACCEPTED.side, load_uint8(order + SIDE))
    store_big_endian_uint32(message + ACCEPTED.quantity, quantity)
    store_big_endian_int64(message + ACCEPTED.symbol, load_int64(order + SYMBOL_WORD))
    store_big_endian_int64(message + ACCEPTED.price, load_int64(order + PRICE))
    store_uint8(message + ACCEPTED.time_in_force, load_uint8(order + TIME_IN_FORCE))
    store_uint8(message + ACCEPTED.display, load_uint8(order + DISPLAY))
    store_big_endian_int64(message + ACCEPTED.order_reference_number, load_int64(event + record.ORDER_ID))
    store_uint8(message + ACCEPTED.capacity, load_uint8(order + CAPACITY))
    store_uint8(message + ACCEPTED.intermarket_sweep_eligibility, load_uint8(order + SWEEP))
    store_uint8(message + ACCEPTED.cross_type, load_uint8(order + CROSS_TYPE))
    store_uint8(message + ACCEPTED.order_state, _LIVE)
    _write_client_order_id(message + ACCEPTED.client_order_id, order + CLIENT_ORDER_ID)
    _write_firm(message + ACCEPTED.appendage_length, order, option_bytes)
    _commit(reports, session_id, session, ACCEPTED.options + option_bytes)


@inlined
def _report_executed(
    reports: Reports,
    session_id: int,
    session: int,
    user_reference: int,
    event: int,
    liquidity: int,
    day_ns: int,
) -> None:
    order = find_order(reports.sessions, session, user_reference)
    if order == NO_ORDER:
        return
    quantity = load_uint32(event + record.QUANTITY)
    _take_lots(order, user_reference, quantity)
    message = begin_message(reports.sessions, session, EXECUTED.options)
    if message == 0:
        return
    _begin(message, EXECUTED.type_byte, day_ns)
    store_big_endian_uint32(message + EXECUTED.user_reference_number, user_reference)
    store_big_endian_uint32(message + EXECUTED.quantity, quantity)
    store_big_endian_int64(message + EXECUTED.price, load_int64(event + record.PRICE))
    store_uint8(message + EXECUTED.liquidity_flag, liquidity)
    store_big_endian_int64(message + EXECUTED.match_number, load_int64(event + record.MATCH_NUMBER))
    store_big_endian_uint16(message + EXECUTED.appendage_length, 0)
    _commit(reports, session_id, session, EXECUTED.options)


@inlined
def _take_lots(order: int, user_reference: int, quantity: int) -> None:
    """An order's open quantity has shrunk; with nothing left it is finished."""
    left = load_int64(order + OPEN_LOTS) - quantity
    store_int64(order + OPEN_LOTS, left)
    if left <= 0:
        finish_order(order, user_reference)


@inlined
def _report_canceled(
    reports: Reports, session_id: int, session: int, user_reference: int, event: int, day_ns: int
) -> None:
    order = find_order(reports.sessions, session, user_reference)
    if order == NO_ORDER:
        return
    quantity = load_uint32(event + record.QUANTITY)
    _take_lots(order, user_reference, quantity)
    message = begin_message(reports.sessions, session, CANCELED.appendage_length)
    if message == 0:
        return
    is_remainder = load_uint8(event + _REASON) == _IMMEDIATE_REMAINDER
    _begin(message, CANCELED.type_byte, day_ns)
    store_big_endian_uint32(message + CANCELED.user_reference_number, user_reference)
    store_big_endian_uint32(message + CANCELED.quantity, quantity)
    store_uint8(message + CANCELED.reason, _IMMEDIATE if is_remainder else _BY_USER)
    _commit(reports, session_id, session, CANCELED.appendage_length)


@inlined
def _report_replaced(
    reports: Reports, session_id: int, session: int, original: int, event: int, open_lots: int, day_ns: int
) -> None:
    """The old order is gone, and the new one is in the book with ``open_lots``, or dead if there are none."""
    old_order = find_order(reports.sessions, session, original)
    order_id = load_int64(event + record.OTHER_ORDER_ID)
    user_reference = order_id & USER_REFERENCE_MASK
    order = find_order(reports.sessions, session, user_reference)
    if order == NO_ORDER or old_order == NO_ORDER:
        return
    store_int64(order + OPEN_LOTS, open_lots)
    store_release(order + ANSWERED, user_reference)
    finish_order(old_order, original)
    if open_lots == 0:
        finish_order(order, user_reference)
    option_bytes = 0 if load_int64(order + FIRM) == 0 else FIRM_OPTION_BYTES
    message = begin_message(reports.sessions, session, REPLACED.options + option_bytes)
    if message == 0:
        return
    _begin(message, REPLACED.type_byte, day_ns)
    store_big_endian_uint32(message + REPLACED.original_user_reference_number, original)
    store_big_endian_uint32(message + REPLACED.user_reference_number, user_reference)
    store_uint8(message + REPLACED.side, load_uint8(order + SIDE))
    store_big_endian_uint32(message + REPLACED.quantity, open_lots)
    store_big_endian_int64(message + REPLACED.symbol, load_int64(order + SYMBOL_WORD))
    store_big_endian_int64(message + REPLACED.price, load_int64(order + PRICE))
    store_uint8(message + REPLACED.time_in_force, load_uint8(order + TIME_IN_FORCE))
    store_uint8(message + REPLACED.display, load_uint8(order + DISPLAY))
    store_big_endian_int64(message + REPLACED.order_reference_number, order_id)
    store_uint8(message + REPLACED.capacity, load_uint8(order + CAPACITY))
    store_uint8(message + REPLACED.intermarket_sweep_eligibility, load_uint8(order + SWEEP))
    store_uint8(message + REPLACED.cross_type, load_uint8(order + CROSS_TYPE))
    store_uint8(message + REPLACED.order_state, _DEAD if open_lots == 0 else _LIVE)
    _write_client_order_id(message + REPLACED.client_order_id, order + CLIENT_ORDER_ID)
    _write_firm(message + REPLACED.appendage_length, order, option_bytes)
    _commit(reports, session_id, session, REPLACED.options + option_bytes)


@inlined
def _report_rejected(
    reports: Reports, session_id: int, session: int, user_reference: int, event: int, day_ns: int
) -> None:
    """A new order, or the order that a replacement would have been, never was; the one to be replaced stays."""
    kind, why = load_uint16(event + _COMMAND_KIND), load_uint8(event + _REASON)
    if kind == _REPLACE:
        user_reference = load_int64(event + record.OTHER_ORDER_ID) & USER_REFERENCE_MASK
    order = find_order(reports.sessions, session, user_reference)
    if kind not in (_NEW, _REPLACE) or order == NO_ORDER:
        return
    is_told = (
        kind == _NEW or why == _SYMBOL_HALTED
    )  # of a replacement for an order that was gone OUCH says nothing
    message = begin_message(reports.sessions, session, REJECTED.appendage_length) if is_told else 0
    if message != 0:
        reason = _OTHER_REASON
        if why == _BOOK_FULL:
            reason = _PROCESSING_ERROR
        elif why == _SYMBOL_HALTED:
            reason = _HALTED
        _begin(message, REJECTED.type_byte, day_ns)
        store_big_endian_uint32(message + REJECTED.user_reference_number, user_reference)
        store_big_endian_uint16(message + REJECTED.reason, reason)
        _write_client_order_id(message + REJECTED.client_order_id, order + CLIENT_ORDER_ID)
        _commit(reports, session_id, session, REJECTED.appendage_length)
    finish_order(order, user_reference)


@kernel
def report_answer(reports: Reports, answer: int, day_ns: int) -> None:
    """Write one of the gateway's own answers (see :mod:`exchange.gateway.requests`) into its session's log."""
    kind, session_id = load_uint8(answer), load_uint16(answer + record.SESSION_ID)
    session = session_address(reports.sessions, session_id)
    user_reference = load_int64(answer + ANSWER_USER_REFERENCE)
    size_bytes = MASS_CANCELED.options
    if kind == ANSWER_REJECTED:
        size_bytes = REJECTED.appendage_length
    elif kind == ANSWER_ACCOUNT:
        size_bytes = ACCOUNT.appendage_length
    message = begin_message(reports.sessions, session, size_bytes)
    if message == 0:
        return
    if kind == ANSWER_REJECTED:
        _begin(message, REJECTED.type_byte, day_ns)
        store_big_endian_uint32(message + REJECTED.user_reference_number, user_reference)
        store_big_endian_uint16(message + REJECTED.reason, load_int64(answer + ANSWER_REASON))
        _write_client_order_id(message + REJECTED.client_order_id, answer + ANSWER_CLIENT_ORDER_ID)
    elif kind == ANSWER_ACCOUNT:
        _begin(message, ACCOUNT.type_byte, day_ns)
        store_big_endian_uint32(message + ACCOUNT.next_user_reference_number, user_reference)
    elif kind == ANSWER_MASS_CANCEL:
        _begin(message, MASS_CANCELED.type_byte, day_ns)
        store_big_endian_uint32(message + MASS_CANCELED.user_reference_number, user_reference)
        store_big_endian_uint32(message + MASS_CANCELED.firm, load_int64(answer + ANSWER_FIRM))
        store_big_endian_int64(message + MASS_CANCELED.symbol, load_int64(answer + ANSWER_SYMBOL))
        store_big_endian_uint16(message + MASS_CANCELED.appendage_length, 0)
    _commit(reports, session_id, session, size_bytes)


@inlined
def _write_client_order_id(target: int, source: int) -> None:
    """The fourteen characters that the order table or an answer keeps as two words."""
    store_big_endian_int64(target, load_int64(source))
    store_big_endian_uint48(target + 8, load_int64(source + 8))


@inlined
def _write_firm(appendage: int, order: int, option_bytes: int) -> None:
    """The options of an answer: the firm, where the order named one."""
    store_big_endian_uint16(appendage, option_bytes)
    if option_bytes != 0:
        store_uint8(appendage + 2, FIRM_OPTION_BYTES - 1)
        store_uint8(appendage + 3, FIRM_OPTION)
        store_big_endian_uint32(appendage + 4, load_int64(order + FIRM))
