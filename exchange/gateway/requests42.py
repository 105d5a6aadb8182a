"""From an OUCH 4.2 message to the OUCH 5.0 message that asks for the same, compiled.

The rules of both versions are the same, and are kept in one place (:mod:`exchange.gateway.requests`). What differs is
how things are said, and that ends here: a request is written down once more, as OUCH 5.0 has it, and taken as such.
Its offsets come from section 6.1 of the OUCH 4.2 specification, whose tables :mod:`exchange.wire.ouch42` holds.

=================== ===================================================================================
OUCH 4.2            OUCH 5.0
=================== ===================================================================================
order token         the next UserRefNum (:mod:`exchange.gateway.token_index`), and the token as ClOrdID
price, 4 bytes      8 bytes; the largest number stays the largest
time in force       0: ``3``; 99,998: ``0`` day; 99,999: ``5`` extended hours; others: no letter, and refused
firm                option 2, unless it is spaces
minimum quantity    option 3, unless it is 0
display, capacity, sweep, cross type, side: the same letters for what this exchange takes; others are refused
Trade Now           nothing: an order that locks another one trades at once
=================== ===================================================================================

A token that was used before is a repetition, and ignored. A replacement of an order that is gone is ignored as well;
its new token is used up only if the order went while the request was on its way."""

from typing import Final

from exchange.gateway.inbound import GARBAGE, NOTHING, Requests, answer_rejected
from exchange.gateway.offsets import offsets_of
from exchange.gateway.options import FIRM, MINIMUM_QUANTITY, NO_FIRM, OTHER
from exchange.gateway.requests import CANCEL, ENTER, MODIFY, REPLACE, take_request50
from exchange.gateway.session_memory import LAST_USER_REFERENCE, TOKENS
from exchange.gateway.token_index import NO_SLOT, TOKEN_CHARACTERS, find_token, keep_token
from exchange.native import (
    copy_bytes,
    inlined,
    kernel,
    load_big_endian_uint32,
    load_int64,
    load_uint8,
    store_big_endian_int64,
    store_big_endian_uint16,
    store_big_endian_uint32,
    store_uint8,
)
from exchange.wire import ouch42, ouch50

ENTER42: Final = offsets_of(ouch42.EnterOrder)
REPLACE42: Final = offsets_of(ouch42.ReplaceOrder)
CANCEL42: Final = offsets_of(ouch42.CancelOrder)
MODIFY42: Final = offsets_of(ouch42.ModifyOrder)
TRADE_NOW42: Final = offsets_of(ouch42.TradeNow)
ENTER42_BYTES: Final = ouch42.EnterOrder.layout.size_bytes
REPLACE42_BYTES: Final = ouch42.ReplaceOrder.layout.size_bytes
CANCEL42_BYTES: Final = ouch42.CancelOrder.layout.size_bytes
MODIFY42_BYTES: Final = ouch42.ModifyOrder.layout.size_bytes
TRADE_NOW42_BYTES: Final = ouch42.TradeNow.layout.size_bytes

TRANSLATED_BYTES: Final = 128
"""Room for the longest translation: an Enter Order with two options."""

_OPTION_BYTES: Final = 6
"""Length, tag, and four bytes."""
_LARGEST: Final = (1 << 32) - 1
_IMMEDIATE: Final = int(ouch42.TimeInForce.IMMEDIATE_OR_CANCEL)
_MARKET_HOURS: Final = int(ouch42.TimeInForce.MARKET_HOURS)
_SYSTEM_HOURS: Final = int(ouch42.TimeInForce.SYSTEM_HOURS)
_IMMEDIATE_LETTER: Final = ord(ouch50.TimeInForce.IMMEDIATE_OR_CANCEL)
_DAY_LETTER: Final = ord(ouch50.TimeInForce.DAY)
_EXTENDED_LETTER: Final = ord(ouch50.TimeInForce.EXTENDED_HOURS)
_NO_LETTER: Final = 0


@kernel
def take_request42(
    requests: Requests,
    session_id: int,
    session: int,
    message: int,
    size_bytes: int,
    now_ns: int,
    command: int,
) -> int:
    """What one OUCH 4.2 message of ``size_bytes`` comes to; a command, if there is one, is written at ``command``."""
    kind = load_uint8(message)
    if kind == ENTER42.type_byte and size_bytes == ENTER42_BYTES:
        return _enter(requests, session_id, session, message, now_ns, command)
    if kind == REPLACE42.type_byte and size_bytes == REPLACE42_BYTES:
        return _replace(requests, session_id, session, message, now_ns, command)
    tokens, translated = load_int64(session + TOKENS), requests.translated
    if kind == CANCEL42.type_byte and size_bytes == CANCEL42_BYTES:
        number, _slot = find_token(tokens, message + CANCEL42.order_token)
        store_uint8(translated, CANCEL.type_byte)
        store_big_endian_uint32(translated + CANCEL.user_reference_number, number)
        store_big_endian_uint32(
            translated + CANCEL.quantity, load_big_endian_uint32(message + CANCEL42.shares)
        )
        size_bytes = CANCEL.appendage_length
    elif kind == MODIFY42.type_byte and size_bytes == MODIFY42_BYTES:
        number, _slot = find_token(tokens, message + MODIFY42.order_token)
        store_uint8(translated, MODIFY.type_byte)
        store_big_endian_uint32(translated + MODIFY.user_reference_number, number)
        store_uint8(translated + MODIFY.side, load_uint8(message + MODIFY42.buy_sell_indicator))
        store_big_endian_uint32(
            translated + MODIFY.quantity, load_big_endian_uint32(message + MODIFY42.shares)
        )
        size_bytes = MODIFY.appendage_length
    else:
        is_trade_now = kind == TRADE_NOW42.type_byte and size_bytes == TRADE_NOW42_BYTES
        return NOTHING if is_trade_now else GARBAGE
    if number == 0:
        return NOTHING
    return take_request50(requests, session_id, session, translated, size_bytes, now_ns, command)


@kernel
def _enter(requests: Requests, session_id: int, session: int, message: int, now_ns: int, command: int) -> int:
    translated, token = requests.translated, message + ENTER42.order_token
    known, slot = find_token(load_int64(session + TOKENS), token)
    if known != 0:
        return NOTHING
    number = load_int64(session + LAST_USER_REFERENCE) + 1
    if slot == NO_SLOT:
        return answer_rejected(command, session_id, number, False, OTHER, token, now_ns)
    store_uint8(translated, ENTER.type_byte)
    store_big_endian_uint32(translated + ENTER.user_reference_number, number)
    store_uint8(translated + ENTER.side, load_uint8(message + ENTER42.buy_sell_indicator))
    store_big_endian_uint32(translated + ENTER.quantity, load_big_endian_uint32(message + ENTER42.shares))
    copy_bytes(translated + ENTER.symbol, message + ENTER42.stock, 8)
    _write_price(translated + ENTER.price, message + ENTER42.price)
    _write_time_in_force(translated + ENTER.time_in_force, message + ENTER42.time_in_force)
    store_uint8(translated + ENTER.display, load_uint8(message + ENTER42.display))
    store_uint8(translated + ENTER.capacity, load_uint8(message + ENTER42.capacity))
    store_uint8(
        translated + ENTER.intermarket_sweep_eligibility,
        load_uint8(message + ENTER42.intermarket_sweep_eligibility),
    )
    store_uint8(translated + ENTER.cross_type, load_uint8(message + ENTER42.cross_type))
    copy_bytes(translated + ENTER.client_order_id, token, TOKEN_CHARACTERS)
    options = translated + ENTER.options
    end = _write_option(options, FIRM, load_big_endian_uint32(message + ENTER42.firm), NO_FIRM)
    end = _write_option(end, MINIMUM_QUANTITY, load_big_endian_uint32(message + ENTER42.minimum_quantity), 0)
    store_big_endian_uint16(translated + ENTER.appendage_length, end - options)
    outcome = take_request50(requests, session_id, session, translated, end - translated, now_ns, command)
    if load_int64(session + LAST_USER_REFERENCE) == number:
        keep_token(slot, token, number)
    return outcome


@kernel
def _replace(
    requests: Requests, session_id: int, session: int, message: int, now_ns: int, command: int
) -> int:
    translated, token = requests.translated, message + REPLACE42.replacement_order_token
    tokens = load_int64(session + TOKENS)
    original, _slot = find_token(tokens, message + REPLACE42.existing_order_token)
    known, slot = find_token(tokens, token)
    if original == 0 or known != 0 or slot == NO_SLOT:
        return NOTHING
    number = load_int64(session + LAST_USER_REFERENCE) + 1
    store_uint8(translated, REPLACE.type_byte)
    store_big_endian_uint32(translated + REPLACE.original_user_reference_number, original)
    store_big_endian_uint32(translated + REPLACE.user_reference_number, number)
    store_big_endian_uint32(translated + REPLACE.quantity, load_big_endian_uint32(message + REPLACE42.shares))
    _write_price(translated + REPLACE.price, message + REPLACE42.price)
    _write_time_in_force(translated + REPLACE.time_in_force, message + REPLACE42.time_in_force)
    store_uint8(translated + REPLACE.display, load_uint8(message + REPLACE42.display))
    store_uint8(
        translated + REPLACE.intermarket_sweep_eligibility,
        load_uint8(message + REPLACE42.intermarket_sweep_eligibility),
    )
    copy_bytes(translated + REPLACE.client_order_id, token, TOKEN_CHARACTERS)
    options = translated + REPLACE.options
    minimum_quantity = load_big_endian_uint32(message + REPLACE42.minimum_quantity)
    end = _write_option(options, MINIMUM_QUANTITY, minimum_quantity, 0)
    store_big_endian_uint16(translated + REPLACE.appendage_length, end - options)
    outcome = take_request50(requests, session_id, session, translated, end - translated, now_ns, command)
    if load_int64(session + LAST_USER_REFERENCE) == number:
        keep_token(slot, token, number)
    return outcome


@inlined
def _write_price(target: int, source: int) -> None:
    price = load_big_endian_uint32(source)
    store_big_endian_int64(target, -1 if price == _LARGEST else price)


@inlined
def _write_time_in_force(target: int, source: int) -> None:
    time_in_force, letter = load_big_endian_uint32(source), _NO_LETTER
    if time_in_force == _MARKET_HOURS:
        letter = _DAY_LETTER
    elif time_in_force == _IMMEDIATE:
        letter = _IMMEDIATE_LETTER
    elif time_in_force == _SYSTEM_HOURS:
        letter = _EXTENDED_LETTER
    store_uint8(target, letter)


@inlined
def _write_option(option: int, tag: int, value: int, absent: int) -> int:
    """An option of four bytes, unless its value says that there is none; where the next one goes."""
    if value == absent:
        return option
    store_uint8(option, _OPTION_BYTES - 1)
    store_uint8(option + 1, tag)
    store_big_endian_uint32(option + 2, value)
    return option + _OPTION_BYTES
