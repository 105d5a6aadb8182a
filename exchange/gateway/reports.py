"""From an event of the exchange to what it means to clients, compiled: which orders it changes, and who hears of it.

=============== =================================================================================
event           messages
=============== =================================================================================
ACCEPTED        Order Accepted
EXECUTED        two Order Executed: to the order that came (R, removed liquidity) and to the one that waited (A)
CANCELED        Order Canceled
REPLACED        Order Replaced; also for a CANCELED that a replace caused, with nothing open and the order dead
REPLACED        by itself: Order Modified; and Order Canceled for a CANCELED that this caused
REJECTED        Rejected for a new order, and for a replace in a symbol that is halted; OUCH ignores a cancel,
                replace or modification of what is no longer there
MASS_CANCELED   none: the gateway has answered when it took the request
TRADING_STATE   none: OUCH has no message for it, the feed has
ANSWER          what the gateway has to say itself: Rejected, Account Query Response and others; to all, System Event
=============== =================================================================================

How it is said is another matter: in OUCH 5.0 (:mod:`exchange.gateway.reports50`), or in OUCH 4.2 to a session that has
order tokens (:mod:`exchange.gateway.reports42`).

Each order's open quantity is kept here, so that the table learns when an order is finished. It is finished last, when
all has been said about it: its room may be used again at once. A trade has the same number here and in the feed
(:mod:`exchange.matching.match_numbers`)."""

from typing import Final

from exchange.book import ladder_events as record
from exchange.gateway import reports42, reports50
from exchange.gateway.inbound import (
    ANSWER_CLIENT_ORDER_ID,
    ANSWER_KIND,
    ANSWER_REASON,
    ANSWER_USER_REFERENCE,
    KILLED,
    MASS_CANCEL,
    REJECTED,
    REVIVED,
    SYSTEM_EVENT,
)
from exchange.gateway.order_table import (
    ANSWERED,
    CLIENT_ORDER_ID,
    MODIFIED,
    MODIFIED_MASK,
    NO_ORDER,
    OPEN_LOTS,
    USER_REFERENCE_MASK,
    VALUE_ADDED,
    VALUE_TICKS,
    find_order,
    finish_order,
)
from exchange.gateway.outbound import (
    EVENT_COMMAND_KIND,
    EVENT_OTHER_SESSION_ID,
    EVENT_REASON,
    Reports,
    say_system_event,
    since_midnight_ns,
)
from exchange.gateway.session_memory import TOKENS, session_address
from exchange.matching.match_numbers import public_match_number
from exchange.messages import RECORD_BYTES, CommandKind, EventKind, Reason
from exchange.native import (
    inlined,
    kernel,
    likely,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    store_int64,
    store_release,
)
from exchange.risk.protocol import note_left, note_trade
from exchange.wire.ouch50 import RejectReason
from exchange.wire.ouch_codes import LiquidityFlag

_ACCEPTED_EVENT: Final = int(EventKind.ACCEPTED)
_EXECUTED_EVENT: Final = int(EventKind.EXECUTED)
_CANCELED_EVENT: Final = int(EventKind.CANCELED)
_REPLACED_EVENT: Final = int(EventKind.REPLACED)
_REJECTED_EVENT: Final = int(EventKind.REJECTED)
_ANSWER_EVENT: Final = int(EventKind.ANSWER)
_NEW: Final = int(CommandKind.NEW)
_REPLACE: Final = int(CommandKind.REPLACE)
_BOOK_FULL: Final = int(Reason.BOOK_FULL)
_SYMBOL_HALTED: Final = int(Reason.SYMBOL_HALTED)

_ADDED: Final = ord(LiquidityFlag.ADDED)
_REMOVED: Final = ord(LiquidityFlag.REMOVED)
_PROCESSING_ERROR: Final = int(RejectReason.PROCESSING_ERROR)
_OTHER_REASON: Final = int(RejectReason.OTHER)
_HALTED: Final = int(RejectReason.HALTED)


@inlined
def _speaks_ouch50(session: int) -> bool:
    return likely(load_int64(session + TOKENS) == 0)


@kernel
def report_events(reports: Reports, events: int, count: int) -> None:
    """Write what ``count`` events mean into the logs of the sessions that they concern."""
    for index in range(count):
        event = events + index * RECORD_BYTES
        day_ns = since_midnight_ns(reports.midnight_ns, load_int64(event + record.TIMESTAMP))
        kind = load_uint8(event + record.KIND)
        session_id = load_uint16(event + record.SESSION_ID)
        session = session_address(reports.sessions, session_id)
        number = load_int64(event + record.ORDER_ID) & USER_REFERENCE_MASK
        if kind == _EXECUTED_EVENT:
            symbol_id = load_uint16(event + record.SYMBOL_ID)
            note_trade(reports.risk, symbol_id, load_int64(event + record.PRICE))
            shard = load_uint8(reports.shard_of_symbol + symbol_id)
            match_number = public_match_number(
                load_int64(event + record.MATCH_NUMBER), shard, reports.shard_count
            )
            _report_executed(reports, session_id, session, number, event, _REMOVED, match_number, day_ns)
            other_id = load_uint16(event + EVENT_OTHER_SESSION_ID)
            other = session_address(reports.sessions, other_id)
            other_number = load_int64(event + record.OTHER_ORDER_ID) & USER_REFERENCE_MASK
            _report_executed(reports, other_id, other, other_number, event, _ADDED, match_number, day_ns)
        elif kind == _ACCEPTED_EVENT:
            _report_accepted(reports, session_id, session, number, event, day_ns)
        elif kind == _REPLACED_EVENT:
            open_lots = load_uint32(event + record.QUANTITY)
            if load_int64(event + record.OTHER_ORDER_ID) == load_int64(event + record.ORDER_ID):
                _report_modified(reports, session_id, session, number, open_lots, day_ns)
            else:
                _report_replaced(reports, session_id, session, number, event, open_lots, day_ns)
        elif kind == _CANCELED_EVENT:
            is_by_replace = load_uint16(event + EVENT_COMMAND_KIND) == _REPLACE
            if is_by_replace and load_int64(event + record.OTHER_ORDER_ID) != load_int64(
                event + record.ORDER_ID
            ):
                _report_replaced(reports, session_id, session, number, event, 0, day_ns)
            else:
                _report_canceled(reports, session_id, session, number, event, day_ns)
        elif kind == _REJECTED_EVENT:
            _report_rejected(reports, session_id, session, number, event, day_ns)
        elif kind == _ANSWER_EVENT:
            _report_answer(reports, session_id, session, event, day_ns)


@inlined
def _report_accepted(
    reports: Reports, session_id: int, session: int, number: int, event: int, day_ns: int
) -> None:
    order = find_order(reports.sessions, session, number)
    if order == NO_ORDER:
        return
    store_int64(order + OPEN_LOTS, load_uint32(event + record.QUANTITY))
    if _speaks_ouch50(session):
        reports50.say_accepted(reports, session_id, session, order, number, event, day_ns)
    else:
        reports42.say_accepted(reports, session_id, session, order, event, day_ns)
    store_release(order + ANSWERED, number)


@inlined
def _report_executed(
    reports: Reports,
    session_id: int,
    session: int,
    number: int,
    event: int,
    liquidity: int,
    match_number: int,
    day_ns: int,
) -> None:
    order = find_order(reports.sessions, session, number)
    if order == NO_ORDER:
        return
    if _speaks_ouch50(session):
        reports50.say_executed(reports, session_id, session, number, event, liquidity, match_number, day_ns)
    else:
        reports42.say_executed(reports, session_id, session, order, event, liquidity, match_number, day_ns)
    _take_lots(reports, session_id, order, number, load_uint32(event + record.QUANTITY))


@inlined
def _take_lots(reports: Reports, session_id: int, order: int, number: int, quantity: int) -> None:
    """An order's open quantity has shrunk; with nothing left it is finished."""
    left = load_int64(order + OPEN_LOTS) - quantity
    store_int64(order + OPEN_LOTS, left)
    note_left(reports.risk, session_id, int(left <= 0), quantity * load_uint32(order + VALUE_TICKS))
    if left <= 0:
        finish_order(order, number)


@inlined
def _report_canceled(
    reports: Reports, session_id: int, session: int, number: int, event: int, day_ns: int
) -> None:
    order = find_order(reports.sessions, session, number)
    if order == NO_ORDER:
        return
    if _speaks_ouch50(session):
        reports50.say_canceled(reports, session_id, session, number, event, day_ns)
    else:
        reports42.say_canceled(reports, session_id, session, order, event, day_ns)
    _take_lots(reports, session_id, order, number, load_uint32(event + record.QUANTITY))


@inlined
def _report_replaced(
    reports: Reports, session_id: int, session: int, original: int, event: int, open_lots: int, day_ns: int
) -> None:
    """The old order is gone, and the new one is in the book with ``open_lots``, or dead if there are none."""
    old_order = find_order(reports.sessions, session, original)
    number = load_int64(event + record.OTHER_ORDER_ID) & USER_REFERENCE_MASK
    order = find_order(reports.sessions, session, number)
    if order == NO_ORDER or old_order == NO_ORDER:
        return
    store_int64(order + OPEN_LOTS, open_lots)
    if _speaks_ouch50(session):
        reports50.say_replaced(reports, session_id, session, order, number, original, event, day_ns)
    else:
        reports42.say_replaced(reports, session_id, session, order, old_order, event, day_ns)
    value = load_int64(order + VALUE_ADDED) + _open_value(old_order) - _open_value(order)
    note_left(reports.risk, session_id, int(open_lots == 0), value)
    store_release(order + ANSWERED, number)
    finish_order(old_order, original)
    if open_lots == 0:
        finish_order(order, number)


@inlined
def _open_value(order: int) -> int:
    """What is open of an order, times the price at which it counts."""
    return load_int64(order + OPEN_LOTS) * load_uint32(order + VALUE_TICKS)


@inlined
def _report_modified(
    reports: Reports, session_id: int, session: int, number: int, open_lots: int, day_ns: int
) -> None:
    order = find_order(reports.sessions, session, number)
    if order == NO_ORDER:
        return
    before = _open_value(order)
    store_int64(order + OPEN_LOTS, open_lots)
    note_left(reports.risk, session_id, 0, before - _open_value(order))
    if _speaks_ouch50(session):
        reports50.say_modified(reports, session_id, session, order, number, day_ns)
    else:
        reports42.say_modified(reports, session_id, session, order, day_ns)
    store_release(order + MODIFIED, (load_int64(order + MODIFIED) + 1) & MODIFIED_MASK)


@inlined
def _report_rejected(
    reports: Reports, session_id: int, session: int, number: int, event: int, day_ns: int
) -> None:
    """A new order, or the order that a replacement would have been, never was; the one to be replaced stays."""
    kind, why = load_uint16(event + EVENT_COMMAND_KIND), load_uint8(event + EVENT_REASON)
    if kind == _REPLACE:
        number = load_int64(event + record.OTHER_ORDER_ID) & USER_REFERENCE_MASK
    order = find_order(reports.sessions, session, number)
    if kind not in (_NEW, _REPLACE) or order == NO_ORDER:
        return
    if kind == _NEW or why == _SYMBOL_HALTED:  # of a replacement for an order that was gone OUCH says nothing
        reason = _OTHER_REASON
        if why == _BOOK_FULL:
            reason = _PROCESSING_ERROR
        elif why == _SYMBOL_HALTED:
            reason = _HALTED
        _say_rejected(reports, session_id, session, number, order + CLIENT_ORDER_ID, reason, day_ns)
    if kind == _NEW:
        value = load_uint32(event + record.QUANTITY) * load_uint32(order + VALUE_TICKS)
        note_left(reports.risk, session_id, 1, value)
    else:
        note_left(reports.risk, session_id, 0, load_int64(order + VALUE_ADDED))
    finish_order(order, number)


@inlined
def _say_rejected(
    reports: Reports,
    session_id: int,
    session: int,
    number: int,
    client_order_id: int,
    reason: int,
    day_ns: int,
) -> None:
    if _speaks_ouch50(session):
        reports50.say_rejected(reports, session_id, session, number, client_order_id, reason, day_ns)
    else:
        reports42.say_rejected(reports, session_id, session, client_order_id, reason, day_ns)


@kernel
def _report_answer(reports: Reports, session_id: int, session: int, answer: int, day_ns: int) -> None:
    """Write one of the gateway's own answers (see :mod:`exchange.gateway.inbound`) into its session's log."""
    kind, number = load_uint8(answer + ANSWER_KIND), load_uint32(answer + ANSWER_USER_REFERENCE)
    if kind == REJECTED:
        client_order_id, reason = answer + ANSWER_CLIENT_ORDER_ID, load_uint16(answer + ANSWER_REASON)
        _say_rejected(reports, session_id, session, number, client_order_id, reason, day_ns)
    elif kind == MASS_CANCEL:
        reports50.say_mass_canceled(reports, session_id, session, answer, day_ns)
    elif kind == SYSTEM_EVENT:
        for one in range(min(number, reports.sessions.session_count)):
            say_system_event(reports, one, load_uint16(answer + ANSWER_REASON), day_ns)
    elif kind not in (KILLED, REVIVED):
        reports50.say_of_session(reports, session_id, session, kind, answer, day_ns)
