"""From an OUCH 5.0 message to a command of the exchange, compiled.

Inbound messages are those of the OUCH 5.0 specification, section 5.1 of whose tables :mod:`exchange.wire.ouch50` holds;
every offset here comes from there. What a call can come to is in :mod:`exchange.gateway.inbound`. Requests that concern
a whole firm are in :mod:`exchange.gateway.firm_requests`, and those of OUCH 4.2 are translated into these by
:mod:`exchange.gateway.requests42`.

How OUCH's rules are kept:

* *UserRefNum* grows. A number that is not above the last one taken is a retransmission and is ignored.
* *Cancel* names the most that may be executed in total. The table knows the order's liability as it will be when
  everything sent before has been applied, so "take away the difference" is right whatever has been executed meanwhile.
* *Replace* names the liability of the whole chain. What is open after it depends on executions that the gateway may not
  have seen yet, so the command carries both liabilities and the book, which knows what is open, does the sum.
* A *Replace* with impossible details cancels the order and does not use its new number up. One that breaks a limit
  (:mod:`exchange.risk`) is rejected with that number, and the order stays.
* *Modify* changes the letter of a sale, or names a smaller total, as a cancel does, and keeps the order's place. It is
  a replace of the order by itself at its price: so its answer comes in its turn, and says what is open.
* An order is named by channel and number. There is one channel, 0, and no order in any other."""

from typing import Final

from exchange.book import ladder_events as record
from exchange.gateway.details import MODIFIED_SIDE, keep_details
from exchange.gateway.firm_requests import (
    is_disabled,
    take_firm_request,
    take_mass_cancel,
    write_cancel,
)
from exchange.gateway.inbound import (
    ACCOUNT,
    FORWARD,
    GARBAGE,
    NOTHING,
    WAIT,
    Requests,
    answer_rejected,
    begin_answer,
    keep_client_order_id,
    write_command,
)
from exchange.gateway.offsets import offsets_of
from exchange.gateway.options import GARBAGE_OPTION, NO_FLAW, OTHER, options_if_any, options_of
from exchange.gateway.order_table import (
    CAPACITY,
    CLIENT_ORDER_ID,
    CROSS_TYPE,
    DISPLAY,
    FIRM,
    GROUP_ID,
    LAST_SIDE,
    LIABILITY,
    MODIFIED,
    MODIFIES,
    NO_ORDER,
    NOT_YET,
    PRICE,
    SIDE,
    SWEEP,
    SYMBOL_ID,
    SYMBOL_WORD,
    TIME_IN_FORCE,
    VALUE_ADDED,
    VALUE_TICKS,
    engine_order_id,
    find_order,
    take_order,
)
from exchange.gateway.session_memory import LAST_USER_REFERENCE
from exchange.gateway.symbol_table import UNKNOWN, find_symbol
from exchange.messages import BUY, RECORD_BYTES, SELL, CommandKind, OrderType
from exchange.messages import TimeInForce as EngineTimeInForce
from exchange.native import (
    inlined,
    kernel,
    likely,
    load_acquire,
    load_big_endian_int64,
    load_big_endian_uint32,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    store_int64,
    store_uint8,
    store_uint16,
    store_uint32,
    unlikely,
)
from exchange.risk.protocol import (
    Judgement,
    Refusal,
    check_new,
    check_replace,
    note_entered,
    note_refused,
    reason_of,
)
from exchange.wire.ouch50 import (
    AccountQuery,
    CancelOrder,
    CrossType,
    DisableOrderEntry,
    Display,
    EnableOrderEntry,
    EnterOrder,
    MassCancel,
    ModifyOrder,
    RejectReason,
    ReplaceOrder,
    TimeInForce,
)
from exchange.wire.ouch_codes import PRICE4_MAX, QUANTITY_SHARES_MAX, Capacity, Side, YesOrNo

_MARKET_PRICES: Final = (0x7FFFFFFF, 2_000_000_000, -1)
"""What is taken as a market order: 0x7FFFFFFF, 200,000.0000, and the largest integer of the field."""

ENTER: Final = offsets_of(EnterOrder)
REPLACE: Final = offsets_of(ReplaceOrder)
CANCEL: Final = offsets_of(CancelOrder)
MODIFY: Final = offsets_of(ModifyOrder)
QUERY: Final = offsets_of(AccountQuery)
MASS_CANCEL: Final = offsets_of(MassCancel)
DISABLE: Final = offsets_of(DisableOrderEntry)
ENABLE: Final = offsets_of(EnableOrderEntry)

_NEW: Final = int(CommandKind.NEW)
_REPLACE_COMMAND: Final = int(CommandKind.REPLACE)
_DAY: Final = int(EngineTimeInForce.DAY)
_IMMEDIATE: Final = int(EngineTimeInForce.IMMEDIATE_OR_CANCEL)
_LIMIT: Final = int(OrderType.LIMIT)
_MARKET: Final = int(OrderType.MARKET)

_NOT_REFUSED: Final = int(Refusal.NONE)

_INVALID_DISPLAY: Final = int(RejectReason.INVALID_DISPLAY)
_SWEEP_NOT_ALLOWED: Final = int(RejectReason.ISO_NOT_ALLOWED)
_INVALID_SIDE: Final = int(RejectReason.INVALID_SIDE)
_PROCESSING_ERROR: Final = int(RejectReason.PROCESSING_ERROR)
_INVALID_QUANTITY: Final = int(RejectReason.INVALID_QUANTITY)
_INVALID_CROSS: Final = int(RejectReason.INVALID_CROSS_ORDER)
_INVALID_SYMBOL: Final = int(RejectReason.INVALID_SYMBOL)
_INVALID_PRICE: Final = int(RejectReason.INVALID_PRICE)
_FIRM_NOT_AUTHORIZED: Final = int(RejectReason.FIRM_NOT_AUTHORIZED)

_BUYS: Final = ord(Side.BUY)
_SIDES: Final = tuple(ord(side) for side in Side)
_SALES: Final = tuple(ord(side) for side in Side if side != Side.BUY)
_CAPACITIES: Final = tuple(ord(capacity) for capacity in Capacity)
_DISPLAYS: Final = (ord(Display.VISIBLE), ord(Display.ATTRIBUTABLE))
_DAY_LETTERS: Final = (ord(TimeInForce.DAY), ord(TimeInForce.EXTENDED_HOURS))
"""Day, and extended hours: this exchange has no hours, so both stay until they are cancelled."""
_IMMEDIATE_LETTER: Final = ord(TimeInForce.IMMEDIATE_OR_CANCEL)
_CONTINUOUS: Final = ord(CrossType.CONTINUOUS)
_NO_SWEEP: Final = ord(YesOrNo.NO)


@kernel
def take_request50(
    requests: Requests,
    session_id: int,
    session: int,
    message: int,
    size_bytes: int,
    now_ns: int,
    command: int,
) -> int:
    """What one OUCH 5.0 message of ``size_bytes`` comes to; a command, if there is one, is written at ``command``."""
    kind = load_uint8(message)
    if kind == ENTER.type_byte and size_bytes >= ENTER.appendage_length:
        return _enter(requests, session_id, session, message, size_bytes, now_ns, command)
    if kind == CANCEL.type_byte and size_bytes >= CANCEL.appendage_length:
        return _cancel(requests, session_id, session, message, size_bytes, now_ns, command)
    if kind == REPLACE.type_byte and size_bytes >= REPLACE.appendage_length:
        return _replace(requests, session_id, session, message, size_bytes, now_ns, command)
    if kind == MODIFY.type_byte and size_bytes >= MODIFY.appendage_length:
        return _modify(requests, session_id, session, message, size_bytes, now_ns, command)
    if kind == MASS_CANCEL.type_byte and size_bytes >= MASS_CANCEL.appendage_length:
        return take_mass_cancel(requests, session_id, session, message, size_bytes, now_ns, command)
    if kind in (DISABLE.type_byte, ENABLE.type_byte) and size_bytes >= DISABLE.appendage_length:
        disables = kind == DISABLE.type_byte
        return take_firm_request(session_id, session, message, size_bytes, disables, now_ns, command)
    if kind == QUERY.type_byte:
        return _query_account(session_id, session, message, size_bytes, now_ns, command)
    return GARBAGE


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
    options = options_of(message, ENTER.appendage_length, size_bytes)
    flaw = options.flaw
    if unlikely(flaw == GARBAGE_OPTION):
        return GARBAGE
    user_reference = load_big_endian_uint32(message + ENTER.user_reference_number)
    if unlikely(user_reference <= load_int64(session + LAST_USER_REFERENCE)):
        return NOTHING
    symbol_id = find_symbol(requests.symbols, load_big_endian_int64(message + ENTER.symbol))
    if flaw == NO_FLAW:
        flaw = _INVALID_SYMBOL if symbol_id == UNKNOWN else _flaw_of_order(requests, message)
    if unlikely(flaw == NO_FLAW and options.side != 0):
        flaw = OTHER  # an option of other messages
    if unlikely(flaw == NO_FLAW and is_disabled(session, options.firm)):
        flaw = _FIRM_NOT_AUTHORIZED
    quantity = load_big_endian_uint32(message + ENTER.quantity)
    price = load_big_endian_int64(message + ENTER.price)
    is_market, judgement = price in _MARKET_PRICES, Judgement(_NOT_REFUSED, 0, 0, -1)
    if likely(flaw == NO_FLAW):
        judgement = check_new(
            requests.risk, session_id, session, symbol_id, price, quantity, is_market, now_ns
        )
        flaw = reason_of(judgement.refusal)
    order = take_order(requests.sessions, session, user_reference) if flaw == NO_FLAW else NO_ORDER
    if unlikely(order == NOT_YET):
        return WAIT
    if unlikely(order == NO_ORDER):
        reason = _PROCESSING_ERROR if flaw == NO_FLAW else flaw
        if judgement.refusal != _NOT_REFUSED:
            note_refused(requests.risk, session_id, judgement, now_ns)
        store_int64(session + LAST_USER_REFERENCE, user_reference)
        text = message + ENTER.client_order_id
        return answer_rejected(command, session_id, user_reference, True, reason, text, now_ns)
    store_int64(session + LAST_USER_REFERENCE, user_reference)
    note_entered(requests.risk, session_id, judgement, 1, now_ns)
    side, time_in_force = load_uint8(message + ENTER.side), load_uint8(message + ENTER.time_in_force)
    store_int64(order + SYMBOL_WORD, load_big_endian_int64(message + ENTER.symbol))
    keep_client_order_id(order + CLIENT_ORDER_ID, message + ENTER.client_order_id)
    store_int64(order + PRICE, price)
    store_int64(order + LIABILITY, quantity)
    store_uint32(order + FIRM, options.firm)
    store_uint16(order + GROUP_ID, max(options.group_id, 0))
    store_uint32(order + VALUE_TICKS, judgement.value_ticks)
    store_uint16(order + SYMBOL_ID, symbol_id)
    store_uint8(order + SIDE, side)
    store_uint8(order + LAST_SIDE, side)
    store_uint8(order + TIME_IN_FORCE, time_in_force)
    store_uint8(order + DISPLAY, load_uint8(message + ENTER.display))
    store_uint8(order + CAPACITY, load_uint8(message + ENTER.capacity))
    store_uint8(order + SWEEP, load_uint8(message + ENTER.intermarket_sweep_eligibility))
    store_uint8(order + CROSS_TYPE, load_uint8(message + ENTER.cross_type))
    order_id = engine_order_id(session_id, user_reference)
    records = keep_details(requests, command, session_id, user_reference, order, now_ns)
    command += (records - 1) * RECORD_BYTES
    write_command(command, _NEW, symbol_id, session_id, order_id, 0, price, quantity, now_ns)
    store_uint8(command + record.SIDE, BUY if side == _BUYS else SELL)
    store_uint8(command + record.TIME_IN_FORCE, _IMMEDIATE if time_in_force == _IMMEDIATE_LETTER else _DAY)
    store_uint8(command + record.ORDER_TYPE, _MARKET if is_market else _LIMIT)
    return records


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
    options = options_if_any(message, CANCEL.appendage_length, size_bytes)
    if unlikely(options.flaw == GARBAGE_OPTION):
        return GARBAGE
    user_reference = load_big_endian_uint32(message + CANCEL.user_reference_number)
    order = find_order(requests.sessions, session, user_reference)
    if unlikely(order == NO_ORDER or options.channel != 0):
        return NOTHING
    intended, liability = load_big_endian_uint32(message + CANCEL.quantity), load_int64(order + LIABILITY)
    if unlikely(intended >= liability):
        return NOTHING  # no reduction, or what was already asked for
    store_int64(order + LIABILITY, intended)
    taken = 0 if intended == 0 else liability - intended  # 0 is "all" in a command
    write_cancel(session_id, order, user_reference, taken, now_ns, command)
    return FORWARD


@inlined
def _modify(
    requests: Requests,
    session_id: int,
    session: int,
    message: int,
    size_bytes: int,
    now_ns: int,
    command: int,
) -> int:
    options = options_if_any(message, MODIFY.appendage_length, size_bytes)
    if options.flaw == GARBAGE_OPTION:
        return GARBAGE
    user_reference = load_big_endian_uint32(message + MODIFY.user_reference_number)
    order = find_order(requests.sessions, session, user_reference)
    if order == NO_ORDER or options.channel != 0:
        return NOTHING
    quantity, side = load_big_endian_uint32(message + MODIFY.quantity), load_uint8(message + MODIFY.side)
    liability, last_side = load_int64(order + LIABILITY), load_uint8(order + LAST_SIDE)
    changes_nothing = quantity == liability and side == last_side
    if not 0 < quantity <= liability or changes_nothing or not _may_become(last_side, side):
        return NOTHING
    modifies = load_uint32(order + MODIFIES)
    if modifies != load_acquire(order + MODIFIED):
        return WAIT
    store_uint32(order + MODIFIES, modifies + 1)
    store_uint8(order + LAST_SIDE, side)
    store_int64(order + LIABILITY, quantity)
    order_id, symbol_id = engine_order_id(session_id, user_reference), load_uint16(order + SYMBOL_ID)
    price = load_int64(order + PRICE)
    write_command(
        command, _REPLACE_COMMAND, symbol_id, session_id, order_id, order_id, price, quantity, now_ns
    )
    store_uint32(command + record.LIABILITY, liability)
    store_int64(command + MODIFIED_SIDE, side)
    return FORWARD


@inlined
def _may_become(side: int, other: int) -> bool:
    """Whether an order of that side may become one of the other: sales change among themselves."""
    return side == other or (side in _SALES and other in _SALES)


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
    options = options_of(message, REPLACE.appendage_length, size_bytes)
    flaw = options.flaw
    if unlikely(flaw == GARBAGE_OPTION):
        return GARBAGE
    original = load_big_endian_uint32(message + REPLACE.original_user_reference_number)
    user_reference = load_big_endian_uint32(message + REPLACE.user_reference_number)
    order = find_order(requests.sessions, session, original)
    if unlikely(order == NO_ORDER or user_reference <= load_int64(session + LAST_USER_REFERENCE)):
        return NOTHING
    quantity = load_big_endian_uint32(message + REPLACE.quantity)
    price = load_big_endian_int64(message + REPLACE.price)
    time_in_force = load_uint8(message + REPLACE.time_in_force)
    display = load_uint8(message + REPLACE.display)
    sweep = load_uint8(message + REPLACE.intermarket_sweep_eligibility)
    last_side = load_uint8(order + LAST_SIDE)
    side = last_side if options.side == 0 else options.side
    if flaw == NO_FLAW:
        flaw = _flaw_of_terms(requests, quantity, price, time_in_force, display, sweep)
    is_possible = flaw == NO_FLAW and price not in _MARKET_PRICES and _may_become(last_side, side)
    judgement = Judgement(_NOT_REFUSED, 0, 0, -1)
    if likely(is_possible):
        judgement = check_replace(
            requests.risk, session_id, session, order, original, price, quantity, now_ns
        )
        if unlikely(judgement.refusal != _NOT_REFUSED):
            return _refuse_replace(
                requests, session_id, session, message, user_reference, judgement, now_ns, command
            )
    new_order = take_order(requests.sessions, session, user_reference) if is_possible else NO_ORDER
    if unlikely(new_order == NOT_YET):
        return WAIT
    if unlikely(new_order == NO_ORDER):
        store_int64(order + LIABILITY, 0)
        write_cancel(session_id, order, original, 0, now_ns, command)
        return FORWARD
    store_int64(session + LAST_USER_REFERENCE, user_reference)
    note_entered(requests.risk, session_id, judgement, 0, now_ns)
    for word in (SYMBOL_WORD, GROUP_ID, SYMBOL_ID):  # what is inherited, whole words
        store_int64(new_order + word, load_int64(order + word))
    store_uint32(new_order + FIRM, load_uint32(order + FIRM))
    store_uint32(new_order + VALUE_TICKS, judgement.value_ticks)
    store_int64(new_order + VALUE_ADDED, judgement.added)
    keep_client_order_id(new_order + CLIENT_ORDER_ID, message + REPLACE.client_order_id)
    store_int64(new_order + PRICE, price)
    store_int64(new_order + LIABILITY, quantity)
    store_uint8(new_order + SIDE, side)
    store_uint8(new_order + LAST_SIDE, side)
    store_uint8(new_order + TIME_IN_FORCE, time_in_force)
    store_uint8(new_order + DISPLAY, display)
    store_uint8(new_order + SWEEP, sweep)
    old_id, new_id = engine_order_id(session_id, original), engine_order_id(session_id, user_reference)
    symbol_id = load_uint16(order + SYMBOL_ID)
    records = keep_details(requests, command, session_id, user_reference, new_order, now_ns)
    command += (records - 1) * RECORD_BYTES
    write_command(command, _REPLACE_COMMAND, symbol_id, session_id, old_id, new_id, price, quantity, now_ns)
    store_uint32(command + record.LIABILITY, load_int64(order + LIABILITY))
    return records


@kernel
def _refuse_replace(
    requests: Requests,
    session_id: int,
    session: int,
    message: int,
    user_reference: int,
    judgement: Judgement,
    now_ns: int,
    command: int,
) -> int:
    """A replace that breaks a limit is answered with its own number, which is used up; the order stays as it was."""
    note_refused(requests.risk, session_id, judgement, now_ns)
    store_int64(session + LAST_USER_REFERENCE, user_reference)
    reason, text = reason_of(judgement.refusal), message + REPLACE.client_order_id
    return answer_rejected(command, session_id, user_reference, True, reason, text, now_ns)


@inlined
def _query_account(
    session_id: int, session: int, message: int, size_bytes: int, now_ns: int, command: int
) -> int:
    if options_if_any(message, QUERY.appendage_length, size_bytes).flaw == GARBAGE_OPTION:
        return GARBAGE
    following = load_int64(session + LAST_USER_REFERENCE) + 1
    begin_answer(command, ACCOUNT, session_id, following, False, now_ns)
    return FORWARD
