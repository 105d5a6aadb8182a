"""NASDAQ TotalView-ITCH 5.0 files: the exchange's own recording of a day, all symbols in one stream.

A file is a sequence of blocks, each a 2-byte big-endian length and one message; a block of length 0 marks the
end. Every message begins with its type (one letter), stock locate (the day's number of the symbol), tracking
number and the nanoseconds since midnight in 48 bits; integers are big-endian, prices have four implied
decimals. (NASDAQ TotalView-ITCH 5.0, sections 1 and 4; the day files use NASDAQ's BinaryFILE framing.)

What the messages become:

========== ================================================= ================================================
message    meaning                                           record
========== ================================================= ================================================
A, F       order added, without or with its member's name    ADD
X, D       order cancelled in part, deleted                  CANCEL, DELETE
E, C       order executed, at its own or another price       EXECUTE, at the order's own price in both cases
U          order replaced under a new number                 REPLACE
P, Q       hidden order executed, cross                      left out, counted
all others directory, halts, imbalances, system events       left out, counted
========== ================================================= ================================================

Rules: the length of every message is the specification's, its type is known, times never go back, and the
fields used here are in their range; anything else is a :class:`~exchange.errors.UserError` with the offset of
the block. Two passes: the first checks the framing and finds the symbols, the second decodes the wanted ones,
so that one symbol of a large day file needs little memory.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.flow.recorded import RECORD_DTYPE, Recording, RecordKind, Source
from exchange.messages import BUY, SELL
from exchange.native import inlined, kernel
from exchange.wire.itch50 import (
    ADD_PRICE,
    ADD_SHARES,
    ADD_SIDE,
    ADD_STOCK,
    LOCATE,
    MESSAGE_BYTES,
    NEW_PRICE,
    NEW_REFERENCE,
    NEW_SHARES,
    REFERENCE,
    STOCK,
    STOCK_BYTES,
    TAKEN_SHARES,
    TIMESTAMP,
    TRADE_SHARES,
)
from exchange.wire.layout import LENGTH_BYTES

LOCATES: Final = 1 << 16

_A, _F, _E, _C, _X, _D, _U, _P, _Q, _R, _H = (ord(letter) for letter in "AFECXDUPQRH")
_B, _S = ord("B"), ord("S")
_ADD, _CANCEL, _DELETE = int(RecordKind.ADD), int(RecordKind.CANCEL), int(RecordKind.DELETE)
_EXECUTE, _REPLACE = int(RecordKind.EXECUTE), int(RecordKind.REPLACE)

# What can be wrong with a block, by number.
(
    _FINE, _CUT, _UNKNOWN_TYPE, _WRONG_LENGTH, _TIME_BACK, _AFTER_END, _NO_LOCATE, _BAD_ORDER, _BAD_SIDE,
    _BAD_SHARES, _BAD_PRICE,
) = range(11)  # fmt: skip

# Tallies, by index.
_HIDDEN, _HIDDEN_LOTS, _CROSSES, _ACTIONS = range(4)


class _Survey(NamedTuple):
    """What the first pass finds.

    By type: how many messages. By stock locate: new orders, book messages, where its name stands. The first
    and the last time.
    """

    by_type: NDArray[np.int64]
    orders: NDArray[np.int64]
    book_messages: NDArray[np.int64]
    name_at: NDArray[np.int64]
    times_ns: NDArray[np.int64]


def read_itch(source: Source, *, symbol: str | None = None, allow_truncated: bool = False) -> Recording:
    """Read an ITCH 5.0 file.

    Args:
        source: the file's bytes.
        symbol: read only this symbol; None reads every symbol that has orders.
        allow_truncated: ignore a last message that is cut.

    Raises:
        UserError: cut or corrupt; no such symbol.
    """
    lengths = np.zeros(256, np.int64)
    for letter, length in MESSAGE_BYTES.items():
        lengths[ord(letter)] = length
    survey = _Survey(*(np.zeros(size, np.int64) for size in (256, LOCATES, LOCATES, LOCATES, 2)))
    end, trouble = _survey(source.data, lengths, survey)
    if trouble != _FINE and not (trouble == _CUT and allow_truncated):
        raise source.error(end, _describe(source.data, end, trouble))
    names = {
        int(locate): _name(source.data, survey, int(locate)) for locate in np.flatnonzero(survey.name_at)
    }
    wanted = np.full(LOCATES, symbol is None)
    if symbol is not None:
        wanted[[locate for locate, name in names.items() if name == symbol]] = True
        if not wanted.any():
            known = ", ".join(sorted(names.values())[:5]) or "none"
            raise UserError(f"{source.name}: no symbol {symbol!r} among its {len(names)} ({known}, ...)")
    traded = np.flatnonzero(wanted & (survey.orders > 0))
    symbol_ids = np.zeros(LOCATES, np.int64)
    symbol_ids[traded] = np.arange(len(traded))
    records = np.zeros(int(survey.book_messages[wanted].sum()), RECORD_DTYPE)
    tallies = np.zeros(4, np.int64)
    offset, trouble = _decode(source.data, end, wanted, symbol_ids, records, tallies)
    if trouble != _FINE:
        raise source.error(offset, _describe(source.data, offset, trouble))
    symbols = tuple(names[int(locate)] for locate in traded) or ((symbol,) if symbol else ())
    return Recording("ITCH 5.0", records, symbols, _notes(survey, records, tallies))


def _notes(survey: _Survey, records: NDArray[Any], tallies: NDArray[np.int64]) -> dict[str, int]:
    by_kind = np.bincount(records["kind"], minlength=_REPLACE + 1)
    notes = {
        "records": int(survey.by_type.sum()),
        "submissions": int(by_kind[_ADD]),
        "partial_cancels": int(by_kind[_CANCEL]),
        "deletions": int(by_kind[_DELETE]),
        "replaces": int(by_kind[_REPLACE]),
        "visible_executions": int(by_kind[_EXECUTE]),
        "hidden_executions_left_out": int(tallies[_HIDDEN]),
        "hidden_lots_left_out": int(tallies[_HIDDEN_LOTS]),
        "cross_trades_left_out": int(tallies[_CROSSES]),
        "trading_actions_left_out": int(tallies[_ACTIONS]),
        "first_record_ns": int(survey.times_ns[0]),
        "last_record_ns": int(survey.times_ns[1]),
    }
    for letter in MESSAGE_BYTES:
        if survey.by_type[ord(letter)]:
            notes[f"itch_messages_{letter}"] = int(survey.by_type[ord(letter)])
    return notes


def _name(data: NDArray[np.uint8], survey: _Survey, locate: int) -> str:
    begin = int(survey.name_at[locate])
    return bytes(data[begin : begin + STOCK_BYTES]).decode("ascii", "replace").rstrip()


def _describe(data: NDArray[np.uint8], offset: int, trouble: int) -> str:
    """What is wrong with the block at ``offset``, in words."""
    block = bytes(data[offset : offset + LENGTH_BYTES + 1])
    length = int.from_bytes(block[:LENGTH_BYTES], "big")
    letter = chr(block[LENGTH_BYTES]) if len(block) > LENGTH_BYTES else ""
    rest = max(0, len(data) - offset - LENGTH_BYTES)
    return {
        _CUT: f"the file ends within a message (of {length} bytes, {rest} are there)",
        _UNKNOWN_TYPE: f"{letter!r} is no ITCH 5.0 message type",
        _WRONG_LENGTH: f"message {letter!r} of {length} bytes, it should have {MESSAGE_BYTES.get(letter)}",
        _TIME_BACK: f"message {letter!r}: its time is before that of the message before it",
        _AFTER_END: f"{rest} bytes follow the end mark (a block of length 0)",
        _NO_LOCATE: f"message {letter!r}: stock locate 0, allowed is 1 to {LOCATES - 1}",
        _BAD_ORDER: f"message {letter!r}: order reference number outside 1 to 2**63 - 1",
        _BAD_SIDE: f"message {letter!r}: buy/sell indicator is neither 'B' nor 'S'",
        _BAD_SHARES: f"message {letter!r}: 0 shares",
        _BAD_PRICE: f"message {letter!r}: price 0",
    }[trouble]


@inlined
def _big_endian(data: Any, position: Any, width: int) -> Any:
    """An unsigned integer of ``width`` bytes; 8 bytes from 2**63 on come out negative."""
    value: Any = 0
    for index in range(position, position + width):
        value = value << 8 | np.int64(data[index])
    return value


@kernel
def _survey(data: Any, lengths: Any, survey: Any) -> tuple[int, int]:
    """Check the framing of the whole file; the offset of the first block that is not whole, and why."""
    position = 0
    latest_ns = 0
    while position < len(data):
        if position + LENGTH_BYTES > len(data):
            return position, _CUT
        length = _big_endian(data, position, LENGTH_BYTES)
        message = position + LENGTH_BYTES
        if length == 0:
            return position, _FINE if message == len(data) else _AFTER_END
        if message == len(data):
            return position, _CUT
        kind = data[message]
        if lengths[kind] == 0:
            return position, _UNKNOWN_TYPE
        if length != lengths[kind]:
            return position, _WRONG_LENGTH
        if message + length > len(data):
            return position, _CUT
        locate = _big_endian(data, message + LOCATE, 2)
        timestamp_ns = _big_endian(data, message + TIMESTAMP, 6)
        if timestamp_ns < latest_ns:
            return position, _TIME_BACK
        if position == 0:
            survey.times_ns[0] = timestamp_ns
        latest_ns = timestamp_ns
        survey.times_ns[1] = timestamp_ns
        survey.by_type[kind] += 1
        if kind == _R:
            survey.name_at[locate] = message + STOCK
        elif kind in (_A, _F):
            if locate == 0:
                return position, _NO_LOCATE
            survey.orders[locate] += 1
            survey.book_messages[locate] += 1
            if survey.name_at[locate] == 0:  # a file without this symbol's directory message
                survey.name_at[locate] = message + ADD_STOCK
        elif kind in (_E, _C, _X, _D, _U):
            survey.book_messages[locate] += 1
        position = message + length
    return position, _FINE


@kernel
def _decode(data: Any, end: int, wanted: Any, symbol_ids: Any, records: Any, tallies: Any) -> tuple[int, int]:
    """Write a record for each book message of a wanted symbol; the offset where a field is wrong, and why."""
    position = 0
    count = 0
    while position < end:
        message = position + LENGTH_BYTES
        locate = _big_endian(data, message + LOCATE, 2)
        if wanted[locate]:
            kind = data[message]
            if kind == _P:
                tallies[_HIDDEN] += 1
                tallies[_HIDDEN_LOTS] += _big_endian(data, message + TRADE_SHARES, 4)
            elif kind == _Q:
                tallies[_CROSSES] += 1
            elif kind == _H:
                tallies[_ACTIONS] += 1
            elif kind in (_A, _F, _E, _C, _X, _D, _U):
                trouble = _decode_book_message(data, message, kind, records, count)
                if trouble != _FINE:
                    return position, trouble
                records[count]["timestamp_ns"] = _big_endian(data, message + TIMESTAMP, 6)
                records[count]["symbol_id"] = symbol_ids[locate]
                count += 1
        position = message + _big_endian(data, position, LENGTH_BYTES)
    return position, _FINE


@kernel
def _decode_book_message(data: Any, message: int, kind: int, records: Any, index: int) -> Any:
    record = records[index]
    order_id = _big_endian(data, message + REFERENCE, 8)
    record["order_id"] = order_id
    if order_id <= 0:
        return _BAD_ORDER
    if kind == _D:
        record["kind"] = _DELETE
        return _FINE
    price = 1
    if kind in (_A, _F):
        record["kind"] = _ADD
        side = data[message + ADD_SIDE]
        if side != _B and side != _S:
            return _BAD_SIDE
        record["side"] = BUY if side == _B else SELL
        shares = _big_endian(data, message + ADD_SHARES, 4)
        price = _big_endian(data, message + ADD_PRICE, 4)
        record["price_ticks"] = price
    elif kind == _U:
        record["kind"] = _REPLACE
        new_order_id = _big_endian(data, message + NEW_REFERENCE, 8)
        if new_order_id <= 0:
            return _BAD_ORDER
        record["new_order_id"] = new_order_id
        shares = _big_endian(data, message + NEW_SHARES, 4)
        price = _big_endian(data, message + NEW_PRICE, 4)
        record["price_ticks"] = price
    else:
        record["kind"] = _CANCEL if kind == _X else _EXECUTE
        shares = _big_endian(data, message + TAKEN_SHARES, 4)
    record["quantity_lots"] = shares
    if shares == 0:
        return _BAD_SHARES
    if price == 0:
        return _BAD_PRICE
    return _FINE
