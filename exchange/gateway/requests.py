"""From an OUCH 5.0 message to a command of the exchange, compiled.

Inbound messages are those of the OUCH 5.0 specification, section 5.1 of whose tables :mod:`exchange.wire.ouch50` holds;
every offset here comes from there. One function takes one message and says what became of it:

========== ====================================================================================
FORWARD    a command was written, to be routed to its shard
NOTHING    the message is dealt with: ignored as OUCH wants it, or answered by the gateway
WAIT       there is no room yet, for the order or for the gateway's own answer; nothing changed, the same
           message comes again
GARBAGE    no OUCH message; the connection cannot be trusted any more
========== ====================================================================================

How OUCH's rules are kept:

* *UserRefNum* grows. A number that is not above the last one taken is a retransmission and is ignored.
* *Cancel* names the most that may be executed in total. The table knows the order's liability as it will be when
  everything sent before has been applied, so "take away the difference" is right whatever has been executed meanwhile.
* *Replace* names the liability of the whole chain. What is open after it depends on executions that the gateway may not
  have seen yet, so the command carries both liabilities and the book, which knows what is open, does the sum.
* A *Replace* with impossible details cancels the order and does not use its new number up.

Rejections that need no book (an unknown symbol, a wrong letter) are answered through a ring of the gateway's own, which
only the outbound agent reads: it alone writes to clients."""

from typing import Any, Final, NamedTuple

from exchange.book import ladder_events as record
from exchange.gateway.offsets import offsets_of
from exchange.gateway.options import GARBAGE_OPTION, NO_FLAW, OTHER, read_options
from exchange.gateway.order_table import (
    CAPACITY,
    CLIENT_ORDER_ID,
    CROSS_TYPE,
    DISPLAY,
    FIRM,
    LIABILITY,
    NO_ORDER,
    NOT_YET,
    PRICE,
    SIDE,
    SWEEP,
    SYMBOL_ID,
    SYMBOL_WORD,
    TIME_IN_FORCE,
    engine_order_id,
    find_order,
    take_order,
)
from exchange.gateway.session_memory import LAST_USER_REFERENCE, Sessions
from exchange.gateway.symbol_table import UNKNOWN, Symbols, find_symbol, symbol_word
from exchange.messages import ALL_SYMBOLS, BUY, SELL, CommandKind, OrderType
from exchange.messages import TimeInForce as EngineTimeInForce
from exchange.native import (
    inlined,
    kernel,
    load_big_endian_int64,
    load_big_endian_uint16,
    load_big_endian_uint32,
    load_big_endian_uint48,
    load_int64,
    load_uint8,
    load_uint16,
    store_int64,
    store_uint8,
    store_uint16,
    store_uint32,
    unlikely,
)
from exchange.queues.protocol import try_push
from exchange.wire.ouch50 import (
    AccountQuery,
    CancelOrder,
    CrossType,
    Display,
    EnterOrder,
    MassCancel,
    RejectReason,
    ReplaceOrder,
    TimeInForce,
)
from exchange.wire.ouch_codes import PRICE4_MAX, QUANTITY_SHARES_MAX, Capacity, Side, YesOrNo

FORWARD: Final = 1
NOTHING: Final = 0
WAIT: Final = -1
GARBAGE: Final = -2

# The gateway's own answers: records of 64 bytes with the session where an event has it.
ANSWER_REJECTED: Final = 101
ANSWER_ACCOUNT: Final = 102
ANSWER_MASS_CANCEL: Final = 103
ANSWER_USER_REFERENCE: Final = 8
ANSWER_REASON: Final = 16
ANSWER_CLIENT_ORDER_ID: Final = 24
ANSWER_SYMBOL: Final = 40
ANSWER_FIRM: Final = 48

_MARKET_PRICES: Final = (0x7FFFFFFF, 2_000_000_000, -1)
"""What is taken as a market order: 0x7FFFFFFF, 200,000.0000, and the largest integer of the field."""

_SPACES: Final = symbol_word("")

ENTER: Final = offsets_of(EnterOrder)
REPLACE: Final = offsets_of(ReplaceOrder)
CANCEL: Final = offsets_of(CancelOrder)
MASS_CANCEL: Final = offsets_of(MassCancel)
QUERY: Final = offsets_of(AccountQuery)

APPENDAGE_BYTES: Final = 2
"""The length in front of the options."""

_NEW: Final = int(CommandKind.NEW)
_CANCEL_COMMAND: Final = int(CommandKind.CANCEL)
_REPLACE_COMMAND: Final = int(CommandKind.REPLACE)
_MASS_CANCEL_COMMAND: Final = int(CommandKind.MASS_CANCEL)
_DAY: Final = int(EngineTimeInForce.DAY)
_IMMEDIATE: Final = int(EngineTimeInForce.IMMEDIATE_OR_CANCEL)
_LIMIT: Final = int(OrderType.LIMIT)
_MARKET: Final = int(OrderType.MARKET)

_INVALID_DISPLAY: Final = int(RejectReason.INVALID_DISPLAY)
_SWEEP_NOT_ALLOWED: Final = int(RejectReason.ISO_NOT_ALLOWED)
_INVALID_SIDE: Final = int(RejectReason.INVALID_SIDE)
_PROCESSING_ERROR: Final = int(RejectReason.PROCESSING_ERROR)
_INVALID_QUANTITY: Final = int(RejectReason.INVALID_QUANTITY)
_INVALID_CROSS: Final = int(RejectReason.INVALID_CROSS_ORDER)
_INVALID_SYMBOL: Final = int(RejectReason.INVALID_SYMBOL)
_INVALID_PRICE: Final = int(RejectReason.INVALID_PRICE)

_BUYS: Final = ord(Side.BUY)
_SIDES: Final = tuple(ord(side) for side in Side)
_CAPACITIES: Final = tuple(ord(capacity) for capacity in Capacity)
_DISPLAYS: Final = (ord(Display.VISIBLE), ord(Display.ATTRIBUTABLE))
_DAY_LETTERS: Final = (ord(TimeInForce.DAY), ord(TimeInForce.EXTENDED_HOURS))
"""Day, and extended hours: this exchange has no hours, so both stay until they are cancelled."""
_IMMEDIATE_LETTER: Final = ord(TimeInForce.IMMEDIATE_OR_CANCEL)
_CONTINUOUS: Final = ord(CrossType.CONTINUOUS)
_NO_SWEEP: Final = ord(YesOrNo.NO)


class Requests(NamedTuple):
    """What decoding needs: the sessions, the symbols, the band of prices, the ring of the gateway's own answers.

    ``answer`` is room for one record.
    """

    sessions: Sessions
    symbols: Symbols
    price_min_ticks: int
    price_max_ticks: int
    answers: Any
    answer: int


@kernel
def take_request(
    requests: Requests,
    session_id: int,
    session: int,
    message: int,
    size_bytes: int,
    now_ns: int,
    command: int,
) -> int:
    """What one OUCH message of ``size_bytes`` comes to; a command, if there is one, is written at ``command``."""
    kind = load_uint8(message)
    if kind == ENTER.type_byte and size_bytes >= ENTER.appendage_length:
        return _enter(requests, session_id, session, message, size_bytes, now_ns, command)
    if kind == CANCEL.type_byte and size_bytes >= CANCEL.appendage_length:
        return _cancel(requests, session_id, session, message, size_bytes, now_ns, command)
    if kind == REPLACE.type_byte and size_bytes >= REPLACE.appendage_length:
        return _replace(requests, session_id, session, message, size_bytes, now_ns, command)
    if kind == MASS_CANCEL.type_byte and size_bytes >= MASS_CANCEL.appendage_length:
        return _mass_cancel(requests, session_id, session, message, size_bytes, now_ns, command)
    if kind == QUERY.type_byte:
        return _query_account(requests, session_id, session, message, size_bytes)
    return GARBAGE


@inlined
def _options_of(message: int, fixed_bytes: int, size_bytes: int) -> tuple[int, int]:
    """Flaw and firm of the options behind a message's fixed part; a length that does not fit is garbage."""
    option_bytes = size_bytes - fixed_bytes - APPENDAGE_BYTES
    if option_bytes < 0 or load_big_endian_uint16(message + fixed_bytes) != option_bytes:
        return GARBAGE_OPTION, 0
    if option_bytes == 0:
        return NO_FLAW, 0
    return read_options(message + fixed_bytes + APPENDAGE_BYTES, option_bytes)


@inlined
def _has_garbage(message: int, fixed_bytes: int, size_bytes: int) -> bool:
    """Whether the options of a message that may leave them out are no options; what they say makes no difference."""
    return size_bytes > fixed_bytes and _options_of(message, fixed_bytes, size_bytes)[0] == GARBAGE_OPTION


@inlined
def _enter(
    requests: Requests,
    session_id: int,
    session: int,
    message: int,
    size_bytes: int,
    now_ns: int,
    command: int,
) -> int:
    flaw, firm = _options_of(message, ENTER.appendage_length, size_bytes)
    if unlikely(flaw == GARBAGE_OPTION):
        return GARBAGE
    user_reference = load_big_endian_uint32(message + ENTER.user_reference_number)
    if unlikely(user_reference <= load_int64(session + LAST_USER_REFERENCE)):
        return NOTHING
    symbol_id = find_symbol(requests.symbols, load_big_endian_int64(message + ENTER.symbol))
    if flaw == NO_FLAW:
        flaw = _INVALID_SYMBOL if symbol_id == UNKNOWN else _flaw_of_order(requests, message)
    order = take_order(requests.sessions, session, user_reference) if flaw == NO_FLAW else NO_ORDER
    if unlikely(order == NOT_YET):
        return WAIT
    if unlikely(order == NO_ORDER):
        reason = _PROCESSING_ERROR if flaw == NO_FLAW else flaw
        if not _answer_rejected(
            requests, session_id, user_reference, reason, message + ENTER.client_order_id
        ):
            return WAIT
        store_int64(session + LAST_USER_REFERENCE, user_reference)
        return NOTHING
    store_int64(session + LAST_USER_REFERENCE, user_reference)
    quantity, price = (
        load_big_endian_uint32(message + ENTER.quantity),
        load_big_endian_int64(message + ENTER.price),
    )
    side, time_in_force = load_uint8(message + ENTER.side), load_uint8(message + ENTER.time_in_force)
    store_int64(order + SYMBOL_WORD, load_big_endian_int64(message + ENTER.symbol))
    _keep_client_order_id(order, message + ENTER.client_order_id)
    store_int64(order + PRICE, price)
    store_int64(order + LIABILITY, quantity)
    store_int64(order + FIRM, firm)
    store_uint16(order + SYMBOL_ID, symbol_id)
    store_uint8(order + SIDE, side)
    store_uint8(order + TIME_IN_FORCE, time_in_force)
    store_uint8(order + DISPLAY, load_uint8(message + ENTER.display))
    store_uint8(order + CAPACITY, load_uint8(message + ENTER.capacity))
    store_uint8(order + SWEEP, load_uint8(message + ENTER.intermarket_sweep_eligibility))
    store_uint8(order + CROSS_TYPE, load_uint8(message + ENTER.cross_type))
    order_id = engine_order_id(session_id, user_reference)
    _write_command(command, _NEW, symbol_id, session_id, order_id, 0, price, quantity, now_ns)
    store_uint8(command + record.SIDE, BUY if side == _BUYS else SELL)
    store_uint8(command + record.TIME_IN_FORCE, _IMMEDIATE if time_in_force == _IMMEDIATE_LETTER else _DAY)
    store_uint8(command + record.ORDER_TYPE, _MARKET if price in _MARKET_PRICES else _LIMIT)
    return FORWARD


@inlined
def _flaw_of_order(requests: Requests, message: int) -> int:
    """Why an Enter Order cannot be taken whatever the book holds, or ``NO_FLAW``."""
    if unlikely(load_uint8(message + ENTER.side) not in _SIDES):
        return _INVALID_SIDE
    if unlikely(load_uint8(message + ENTER.capacity) not in _CAPACITIES):
        return OTHER
    if unlikely(load_uint8(message + ENTER.cross_type) != _CONTINUOUS):
        return _INVALID_CROSS
    price = load_big_endian_int64(message + ENTER.price)
    return _flaw_of_terms(
        requests,
        load_big_endian_uint32(message + ENTER.quantity),
        price,
        load_uint8(message + ENTER.time_in_force),
        load_uint8(message + ENTER.display),
        load_uint8(message + ENTER.intermarket_sweep_eligibility),
    )


@inlined
def _flaw_of_terms(
    requests: Requests, quantity: int, price: int, time_in_force: int, display: int, sweep: int
) -> int:
    """Why these terms are impossible, for new orders and replacements alike, or ``NO_FLAW``."""
    if unlikely(not 0 < quantity <= QUANTITY_SHARES_MAX):
        return _INVALID_QUANTITY
    if unlikely(display not in _DISPLAYS):
        return _INVALID_DISPLAY
    if unlikely(sweep != _NO_SWEEP):
        return _SWEEP_NOT_ALLOWED
    if unlikely(time_in_force not in _DAY_LETTERS and time_in_force != _IMMEDIATE_LETTER):
        return OTHER
    if unlikely(price in _MARKET_PRICES):
        return NO_FLAW
    highest = min(requests.price_max_ticks, PRICE4_MAX)
    return NO_FLAW if requests.price_min_ticks <= price <= highest else _INVALID_PRICE


@inlined
def _cancel(
    requests: Requests,
    session_id: int,
    session: int,
    message: int,
    size_bytes: int,
    now_ns: int,
    command: int,
) -> int:
    if _has_garbage(message, CANCEL.appendage_length, size_bytes):
        return GARBAGE
    user_reference = load_big_endian_uint32(message + CANCEL.user_reference_number)
    order = find_order(requests.sessions, session, user_reference)
    if unlikely(order == NO_ORDER):
        return NOTHING
    intended, liability = load_big_endian_uint32(message + CANCEL.quantity), load_int64(order + LIABILITY)
    if unlikely(intended >= liability):
        return NOTHING  # no reduction, or what was already asked for
    store_int64(order + LIABILITY, intended)
    taken = 0 if intended == 0 else liability - intended  # 0 is "all" in a command
    _write_cancel(session_id, order, user_reference, taken, now_ns, command)
    return FORWARD


@inlined
def _write_cancel(
    session_id: int, order: int, user_reference: int, quantity: int, now_ns: int, command: int
) -> None:
    order_id = engine_order_id(session_id, user_reference)
    symbol_id = load_uint16(order + SYMBOL_ID)
    _write_command(command, _CANCEL_COMMAND, symbol_id, session_id, order_id, 0, 0, quantity, now_ns)


@inlined
def _replace(
    requests: Requests,
    session_id: int,
    session: int,
    message: int,
    size_bytes: int,
    now_ns: int,
    command: int,
) -> int:
    flaw, _firm = _options_of(message, REPLACE.appendage_length, size_bytes)
    if unlikely(flaw == GARBAGE_OPTION):
        return GARBAGE
    original = load_big_endian_uint32(message + REPLACE.original_user_reference_number)
    user_reference = load_big_endian_uint32(message + REPLACE.user_reference_number)
    order = find_order(requests.sessions, session, original)
    if unlikely(order == NO_ORDER or user_reference <= load_int64(session + LAST_USER_REFERENCE)):
        return NOTHING
    quantity, price = (
        load_big_endian_uint32(message + REPLACE.quantity),
        load_big_endian_int64(message + REPLACE.price),
    )
    time_in_force, display = (
        load_uint8(message + REPLACE.time_in_force),
        load_uint8(message + REPLACE.display),
    )
    sweep = load_uint8(message + REPLACE.intermarket_sweep_eligibility)
    if flaw == NO_FLAW:
        flaw = _flaw_of_terms(requests, quantity, price, time_in_force, display, sweep)
    is_possible = flaw == NO_FLAW and price not in _MARKET_PRICES
    new_order = take_order(requests.sessions, session, user_reference) if is_possible else NO_ORDER
    if unlikely(new_order == NOT_YET):
        return WAIT
    if unlikely(new_order == NO_ORDER):
        store_int64(order + LIABILITY, 0)
        _write_cancel(session_id, order, original, 0, now_ns, command)
        return FORWARD
    store_int64(session + LAST_USER_REFERENCE, user_reference)
    for word in (SYMBOL_WORD, FIRM, SYMBOL_ID):  # what is inherited, whole words
        store_int64(new_order + word, load_int64(order + word))
    _keep_client_order_id(new_order, message + REPLACE.client_order_id)
    store_int64(new_order + PRICE, price)
    store_int64(new_order + LIABILITY, quantity)
    store_uint8(new_order + TIME_IN_FORCE, time_in_force)
    store_uint8(new_order + DISPLAY, display)
    store_uint8(new_order + SWEEP, sweep)
    old_id, new_id = engine_order_id(session_id, original), engine_order_id(session_id, user_reference)
    symbol_id = load_uint16(order + SYMBOL_ID)
    _write_command(command, _REPLACE_COMMAND, symbol_id, session_id, old_id, new_id, price, quantity, now_ns)
    store_uint32(command + record.LIABILITY, load_int64(order + LIABILITY))
    return FORWARD


@inlined
def _mass_cancel(
    requests: Requests,
    session_id: int,
    session: int,
    message: int,
    size_bytes: int,
    now_ns: int,
    command: int,
) -> int:
    flaw, _firm = _options_of(message, MASS_CANCEL.appendage_length, size_bytes)
    if unlikely(flaw == GARBAGE_OPTION):
        return GARBAGE
    user_reference = load_big_endian_uint32(message + MASS_CANCEL.user_reference_number)
    if unlikely(user_reference <= load_int64(session + LAST_USER_REFERENCE)):
        return NOTHING
    symbol = load_big_endian_int64(message + MASS_CANCEL.symbol)
    symbol_id = ALL_SYMBOLS if symbol == _SPACES else find_symbol(requests.symbols, symbol)
    answer = requests.answer
    store_uint8(answer, ANSWER_MASS_CANCEL)
    store_uint16(answer + record.SESSION_ID, session_id)
    store_int64(answer + ANSWER_USER_REFERENCE, user_reference)
    store_int64(answer + ANSWER_FIRM, load_big_endian_uint32(message + MASS_CANCEL.firm))
    store_int64(answer + ANSWER_SYMBOL, symbol)
    if not try_push(requests.answers, answer):
        return WAIT
    store_int64(session + LAST_USER_REFERENCE, user_reference)
    if symbol_id == UNKNOWN or flaw != NO_FLAW:
        return NOTHING  # there can be no such order
    write_mass_cancel(symbol_id, session_id, now_ns, command)
    return FORWARD


@inlined
def write_mass_cancel(symbol_id: int, session_id: int, now_ns: int, command: int) -> None:
    """The command that cancels all orders of a session, in one symbol or in ``ALL_SYMBOLS``."""
    _write_command(command, _MASS_CANCEL_COMMAND, symbol_id, session_id, 0, 0, 0, 0, now_ns)


@inlined
def _query_account(requests: Requests, session_id: int, session: int, message: int, size_bytes: int) -> int:
    if _has_garbage(message, QUERY.appendage_length, size_bytes):
        return GARBAGE
    answer = requests.answer
    store_uint8(answer, ANSWER_ACCOUNT)
    store_uint16(answer + record.SESSION_ID, session_id)
    store_int64(answer + ANSWER_USER_REFERENCE, load_int64(session + LAST_USER_REFERENCE) + 1)
    return NOTHING if try_push(requests.answers, answer) else WAIT


@inlined
def _answer_rejected(
    requests: Requests, session_id: int, user_reference: int, reason: int, client_order_id: int
) -> bool:
    answer = requests.answer
    store_uint8(answer, ANSWER_REJECTED)
    store_uint16(answer + record.SESSION_ID, session_id)
    store_int64(answer + ANSWER_USER_REFERENCE, user_reference)
    store_int64(answer + ANSWER_REASON, reason)
    store_int64(answer + ANSWER_CLIENT_ORDER_ID, load_big_endian_int64(client_order_id))
    store_int64(answer + ANSWER_CLIENT_ORDER_ID + 8, load_big_endian_uint48(client_order_id + 8))
    return try_push(requests.answers, answer)


@inlined
def _keep_client_order_id(order: int, client_order_id: int) -> None:
    store_int64(order + CLIENT_ORDER_ID, load_big_endian_int64(client_order_id))
    store_int64(order + CLIENT_ORDER_ID + 8, load_big_endian_uint48(client_order_id + 8))


@inlined
def _write_command(
    command: int,
    kind: int,
    symbol_id: int,
    session_id: int,
    order_id: int,
    new_order_id: int,
    price_ticks: int,
    quantity_lots: int,
    now_ns: int,
) -> None:
    """A command with every byte set, for its room has held others."""
    store_int64(command, kind)  # clears side, time in force and type
    store_uint16(command + record.SYMBOL_ID, symbol_id)
    store_uint16(command + record.SESSION_ID, session_id)
    store_int64(command + record.SEQUENCE, 0)
    store_int64(command + record.ORDER_ID, order_id)
    store_int64(command + record.OTHER_ORDER_ID, new_order_id)
    store_int64(command + record.PRICE, price_ticks)
    store_uint32(command + record.QUANTITY, quantity_lots)
    store_uint32(command + record.LIABILITY, 0)
    store_int64(command + record.MATCH_NUMBER, 0)
    store_int64(command + record.TIMESTAMP, now_ns)
