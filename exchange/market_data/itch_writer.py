"""Writing ITCH 5.0 messages from compiled code, straight to where they will be sent from.

Each function writes one message at an address and returns its length. The layouts are those of
:mod:`exchange.wire.itch50`, whose classes are the plain twins. Here are the messages that follow from an exchange's
events; the others (directory, trading actions, system events) are few, and are made with those classes.

Rules: the caller has room for a message of 64 bytes, and values that their fields can hold.
"""

from typing import Final

from exchange.native import (
    copy_bytes,
    inlined,
    store_big_endian_int64,
    store_big_endian_uint16,
    store_big_endian_uint32,
    store_big_endian_uint48,
    store_uint8,
    store_uint32,
)
from exchange.wire.itch50 import (
    ACTION_REASON,
    ACTION_RESERVED,
    ADD_PRICE,
    ADD_SHARES,
    ADD_SIDE,
    ADD_STOCK,
    EVENT_CODE,
    LOCATE,
    MATCH,
    MESSAGE_BYTES,
    NEW_PRICE,
    NEW_REFERENCE,
    NEW_SHARES,
    REFERENCE,
    STOCK,
    STOCK_BYTES,
    TAKEN_SHARES,
    TIMESTAMP,
    TRACKING,
    TRADE_MATCH,
    TRADE_PRICE,
    TRADE_SHARES,
    TRADING_STATE,
)

_A, _D, _E, _H, _P, _S, _U, _X = (ord(letter) for letter in "ADEHPSUX")
_A_BYTES, _D_BYTES, _E_BYTES, _H_BYTES, _P_BYTES, _S_BYTES, _U_BYTES, _X_BYTES = (
    MESSAGE_BYTES[letter] for letter in "ADEHPSUX"
)
_SPACE: Final = ord(" ")
_BUYS: Final = ord("B")
_BUYS_TO_SELLS: Final = ord("S") - _BUYS


@inlined
def _write_header(message: int, kind: int, locate: int, timestamp_ns: int) -> None:
    store_uint8(message, kind)
    store_big_endian_uint16(message + LOCATE, locate)
    store_big_endian_uint16(message + TRACKING, 0)
    store_big_endian_uint48(message + TIMESTAMP, timestamp_ns)


@inlined
def write_add(
    message: int,
    locate: int,
    timestamp_ns: int,
    reference: int,
    side: int,
    shares: int,
    stock_address: int,
    price_ticks: int,
) -> int:
    """A: a new displayed order. ``side`` is 0 for a buy; the stock's eight bytes are at ``stock_address``."""
    _write_header(message, _A, locate, timestamp_ns)
    store_big_endian_int64(message + REFERENCE, reference)
    store_uint8(message + ADD_SIDE, _BUYS + _BUYS_TO_SELLS * side)
    store_big_endian_uint32(message + ADD_SHARES, shares)
    copy_bytes(message + ADD_STOCK, stock_address, STOCK_BYTES)
    store_big_endian_uint32(message + ADD_PRICE, price_ticks)
    return _A_BYTES


@inlined
def write_executed(
    message: int, locate: int, timestamp_ns: int, reference: int, shares: int, match_number: int
) -> int:
    """E: shares of a displayed order traded at its price."""
    _write_header(message, _E, locate, timestamp_ns)
    store_big_endian_int64(message + REFERENCE, reference)
    store_big_endian_uint32(message + TAKEN_SHARES, shares)
    store_big_endian_int64(message + MATCH, match_number)
    return _E_BYTES


@inlined
def write_canceled(message: int, locate: int, timestamp_ns: int, reference: int, shares: int) -> int:
    """X: shares of a displayed order were taken away, others stay."""
    _write_header(message, _X, locate, timestamp_ns)
    store_big_endian_int64(message + REFERENCE, reference)
    store_big_endian_uint32(message + TAKEN_SHARES, shares)
    return _X_BYTES


@inlined
def write_deleted(message: int, locate: int, timestamp_ns: int, reference: int) -> int:
    """D: a displayed order is gone."""
    _write_header(message, _D, locate, timestamp_ns)
    store_big_endian_int64(message + REFERENCE, reference)
    return _D_BYTES


@inlined
def write_replaced(
    message: int,
    locate: int,
    timestamp_ns: int,
    reference: int,
    new_reference: int,
    shares: int,
    price_ticks: int,
) -> int:
    """U: a displayed order has another number, size and price, and the last place."""
    _write_header(message, _U, locate, timestamp_ns)
    store_big_endian_int64(message + REFERENCE, reference)
    store_big_endian_int64(message + NEW_REFERENCE, new_reference)
    store_big_endian_uint32(message + NEW_SHARES, shares)
    store_big_endian_uint32(message + NEW_PRICE, price_ticks)
    return _U_BYTES


@inlined
def write_trade(
    message: int,
    locate: int,
    timestamp_ns: int,
    shares: int,
    stock_address: int,
    price_ticks: int,
    match_number: int,
) -> int:
    """P: an order that was not displayed traded. Its side is not told (always B), and its number is 0."""
    _write_header(message, _P, locate, timestamp_ns)
    store_big_endian_int64(message + REFERENCE, 0)
    store_uint8(message + ADD_SIDE, _BUYS)
    store_big_endian_uint32(message + TRADE_SHARES, shares)
    copy_bytes(message + ADD_STOCK, stock_address, STOCK_BYTES)
    store_big_endian_uint32(message + TRADE_PRICE, price_ticks)
    store_big_endian_int64(message + TRADE_MATCH, match_number)
    return _P_BYTES


@inlined
def write_system_event(message: int, timestamp_ns: int, letter: int) -> int:
    """S: a stage of the day."""
    _write_header(message, _S, 0, timestamp_ns)
    store_uint8(message + EVENT_CODE, letter)
    return _S_BYTES


@inlined
def write_trading_action(
    message: int, locate: int, timestamp_ns: int, stock_address: int, state: int, reason_word: int
) -> int:
    """H: a symbol's trading state; ``reason_word`` is its four letters, see :func:`exchange.messages.reason_word`."""
    _write_header(message, _H, locate, timestamp_ns)
    copy_bytes(message + STOCK, stock_address, STOCK_BYTES)
    store_uint8(message + TRADING_STATE, state)
    store_uint8(message + ACTION_RESERVED, _SPACE)
    store_uint32(message + ACTION_REASON, reason_word)
    return _H_BYTES
