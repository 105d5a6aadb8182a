"""What everything that writes messages to clients shares: where a message goes, and what an event is made of.

A message is written straight into the log of its session (:mod:`exchange.gateway.session_log`). Its first fields are
the same in both versions of OUCH: the type, and the time of the command that caused it, in nanoseconds since midnight
of the exchange's time zone. A System Event is the same in both altogether."""

from typing import Any, Final, NamedTuple

from exchange.gateway.offsets import offsets_of
from exchange.gateway.session_log import begin_message, commit_message
from exchange.gateway.session_memory import IS_LISTED, Sessions, session_address
from exchange.messages import Reason
from exchange.native import (
    inlined,
    kernel,
    load_int64,
    load_uint8,
    store_big_endian_int64,
    store_big_endian_uint48,
    store_int64,
    store_uint8,
)
from exchange.wire.ouch50 import SystemEvent
from exchange.wire.ouch_codes import CancelReason

SYSTEM: Final = offsets_of(SystemEvent)
TIMESTAMP: Final = SYSTEM.timestamp
"""In every outbound message of both versions, behind its type."""

DAY_NS: Final = 86_400_000_000_000

EVENT_REASON: Final = 2
EVENT_OTHER_SESSION_ID: Final = 44
EVENT_COMMAND_KIND: Final = 46

_SYSTEM_BYTES: Final = SystemEvent.layout.size_bytes
_IMMEDIATE_REMAINDER: Final = int(Reason.IMMEDIATE_REMAINDER)
_BY_OPERATOR_REASON: Final = int(Reason.BY_OPERATOR)
_BY_USER: Final = ord(CancelReason.USER)
_BY_OPERATOR: Final = ord(CancelReason.SUPERVISORY)
_IMMEDIATE: Final = ord(CancelReason.IMMEDIATE_OR_CANCEL)


class Reports(NamedTuple):
    """What encoding needs: the sessions, risk, the list of those that have something to send, whose shard a symbol is.

    The word at ``listed`` counts the sessions on the list, whose numbers (8 bytes each) begin at ``list_address``. At
    ``shard_of_symbol`` there is a byte for each symbol. ``midnight_ns`` is what has to be added to the exchange's time
    to get, modulo a day, the time since midnight.
    """

    sessions: Sessions
    risk: Any
    listed: int
    list_address: int
    shard_of_symbol: int
    shard_count: int
    midnight_ns: int


@inlined
def since_midnight_ns(midnight_ns: int, time_ns: int) -> int:
    """The time of day of a moment on the exchange's clock."""
    return (time_ns + midnight_ns) % DAY_NS


@inlined
def list_session(reports: Reports, session_id: int, session: int) -> None:
    """Put a session on the list of those with something to send, if it is not there."""
    if load_int64(session + IS_LISTED) == 0:
        store_int64(session + IS_LISTED, 1)
        listed = load_int64(reports.listed)
        store_int64(reports.list_address + 8 * listed, session_id)
        store_int64(reports.listed, listed + 1)


@inlined
def begin_report(reports: Reports, session: int, kind: int, size_bytes: int, day_ns: int) -> int:
    """Where to write the rest of the session's next message, of that type and size; 0 if the log is full."""
    message = begin_message(reports.sessions, session, size_bytes)
    if message != 0:
        store_uint8(message, kind)
        store_big_endian_int64(message + TIMESTAMP, day_ns)
    return message


@inlined
def commit_report(reports: Reports, session_id: int, session: int, size_bytes: int) -> None:
    """The message is written: the session has something to send."""
    commit_message(reports.sessions, session, size_bytes)
    list_session(reports, session_id, session)


@kernel
def say_system_event(reports: Reports, session_id: int, letter: int, day_ns: int) -> None:
    """System Event: the day begins or ends."""
    session = session_address(reports.sessions, session_id)
    message = begin_report(reports, session, SYSTEM.type_byte, _SYSTEM_BYTES, day_ns)
    if message != 0:
        store_uint8(message + SYSTEM.event_code, letter)
        commit_report(reports, session_id, session, _SYSTEM_BYTES)


@inlined
def cancel_reason(event: int) -> int:
    """Why an order was canceled, as both versions say it."""
    reason = load_uint8(event + EVENT_REASON)
    if reason == _IMMEDIATE_REMAINDER:
        return _IMMEDIATE
    return _BY_OPERATOR if reason == _BY_OPERATOR_REASON else _BY_USER


@inlined
def write_client_order_id(target: int, source: int) -> None:
    """The fourteen characters that the order table or an answer keeps as two words."""
    store_big_endian_int64(target, load_int64(source))
    store_big_endian_uint48(target + 8, load_int64(source + 8))
