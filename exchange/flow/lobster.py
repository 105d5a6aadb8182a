"""LOBSTER message files: the order flow of one NASDAQ symbol as researchers get it (https://lobsterdata.com).

One line for each event, six fields: time in seconds after midnight with up to nine decimals, type, order id,
size, price times 10,000, direction (1: the order buys, -1: it sells). Types: 1 submission, 2 partial cancel,
3 deletion, 4 execution of a displayed order, 5 execution of a hidden order, 6 cross trade, 7 trading halt.
For an execution the direction and price are those of the resting order. (LOBSTER, "Sample files readme",
2013; help pages, "event type 6".)

Rules:

* Times are parsed as integers, digit by digit: 34200.000000001 has no exact float. Trailing zeros of the
  nanoseconds are missing in the files, so ``.00426064`` is 4,260,640 ns; digits after the ninth (a line of
  the AAPL sample has twelve, the trace of a float in its making) are checked and cut off.
* Every field of every line is checked. Anything else than the above is a :class:`~exchange.errors.UserError`
  with line number and byte offset. A last line without a line end counts if its fields are complete.
* Types 5, 6 and 7 do not touch the displayed book: they are left out and counted.

**Orders whose submission is missing.** A file starts at 09:30 and holds the best levels only, so it names
orders that were submitted before, or further away from the touch than it reaches. Each of them is submitted
here, with the lots that its records account for (partial cancels, executions and deletion together), at the
place that its id implies, since NASDAQ numbers orders in the order of their arrival:

* before the first submission of the file that has a larger id, with that submission's time; several of them
  in the order of their ids;
* but never after the first record that names it, and then with that record's time;
* an id smaller than the file's first submission's: before everything else, at the last nanosecond before the
  second in which the file begins (for a file from 09:30 on: 09:29:59.999999999).
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.flow.recorded import RECORD_DTYPE, Recording, RecordKind, Source
from exchange.limits import QUANTITY_LOTS_MAX
from exchange.messages import BUY, SELL
from exchange.native import inlined, kernel

FIELDS: Final = ("time", "type", "order id", "size", "price", "direction")
TIME, TYPE, ORDER_ID, SIZE, PRICE, DIRECTION = range(6)

SUBMISSION, PARTIAL_CANCEL, DELETION, EXECUTION, HIDDEN_EXECUTION, CROSS_TRADE, HALT = range(1, 8)
_KINDS: Final = {
    SUBMISSION: RecordKind.ADD,
    PARTIAL_CANCEL: RecordKind.CANCEL,
    DELETION: RecordKind.DELETE,
    EXECUTION: RecordKind.EXECUTE,
}
PRICE_MAX: Final = (1 << 32) - 1
"""ITCH, from which LOBSTER's files are made, writes a price in 32 bits."""

_SECOND_NS: Final = 1_000_000_000
_NEWLINE, _RETURN, _COMMA, _POINT, _MINUS, _ZERO, _NINE = (ord(letter) for letter in "\n\r,.-09")
_DIGITS_MAX: Final = 18  # what surely fits an int64
_DECIMALS: Final = 9
_SECONDS_MAX: Final = 1 << 20  # a day has 86,400

# What can be wrong with a line, by number.
_FINE, _NOT_A_NUMBER, _TOO_LONG, _TOO_FEW, _TOO_MANY, _TIME_BACK, _OUT_OF_RANGE = range(7)


def read_lobster(source: Source, *, symbol: str | None = None, allow_truncated: bool = False) -> Recording:
    """Read a message file.

    Args:
        source: the file's bytes.
        symbol: its name, which the file does not hold; by default the file name up to the first underscore.
        allow_truncated: ignore a last line that is cut.

    Raises:
        UserError: a line that is not a LOBSTER message.
    """
    rows, offsets = parse_rows(source, allow_truncated=allow_truncated)
    _check_ranges(source, rows, offsets)
    kinds = np.zeros(HALT + 1, np.uint8)
    for event_type, kind in _KINDS.items():
        kinds[event_type] = kind
    records = np.zeros(len(rows), RECORD_DTYPE)
    records["kind"] = kinds[rows[:, TYPE]]
    records["timestamp_ns"] = rows[:, TIME]
    on_display = records["kind"] != 0
    records["order_id"][on_display] = rows[on_display, ORDER_ID]
    records["quantity_lots"][on_display] = rows[on_display, SIZE]
    records["price_ticks"][on_display] = rows[on_display, PRICE]
    records["side"] = np.where(rows[:, DIRECTION] < 0, SELL, BUY)
    records = records[on_display]
    missing, places = _missing_submissions(source, records, offsets[on_display])
    hidden = rows[:, TYPE] == HIDDEN_EXECUTION
    by_type = np.bincount(rows[:, TYPE], minlength=HALT + 1)
    notes = {
        "records": len(rows),
        "submissions": int(by_type[SUBMISSION]),
        "submissions_reconstructed": len(missing),
        "partial_cancels": int(by_type[PARTIAL_CANCEL]),
        "deletions": int(by_type[DELETION]),
        "replaces": 0,
        "visible_executions": int(by_type[EXECUTION]),
        "hidden_executions_left_out": int(by_type[HIDDEN_EXECUTION]),
        "hidden_lots_left_out": int(rows[hidden, SIZE].sum()),
        "cross_trades_left_out": int(by_type[CROSS_TRADE]),
        "halts_left_out": int(by_type[HALT]),
        "first_record_ns": int(rows[0, TIME]) if len(rows) else 0,
        "last_record_ns": int(rows[-1, TIME]) if len(rows) else 0,
    }
    ticker = symbol or Path(source.name).name.split("_")[0].split(".")[0] or "UNNAMED"
    return Recording("LOBSTER", np.insert(records, places, missing), (ticker,), notes)


def parse_rows(
    source: Source, *, allow_truncated: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every line's six fields as integers (times in nanoseconds), and where each line begins.

    Returns:
        Shape (n, 6) and shape (n,), int64.

    Raises:
        UserError: a line is not six numbers, or its time is before that of the line above.
    """
    lines = int(np.count_nonzero(source.data == _NEWLINE)) + 1
    rows = np.zeros((lines, len(FIELDS)), np.int64)
    offsets = np.zeros(lines, np.int64)
    count, trouble, offset, field = _parse(source.data, rows, offsets)
    is_cut = trouble not in (_FINE, _TIME_BACK) and not (source.data[offset:] == _NEWLINE).any()
    if trouble != _FINE and not (is_cut and allow_truncated):
        name = FIELDS[min(field, len(FIELDS) - 1)]
        reason = {
            _NOT_A_NUMBER: f"the {name} is not a number",
            _TOO_LONG: f"the {name} is larger than any {name}" + ("" if field else " (an order book file?)"),
            _TOO_FEW: f"the line ends after {field + 1} of {len(FIELDS)} fields (an order book file?)",
            _TOO_MANY: f"the line goes on after the {len(FIELDS)} fields of a message",
            _TIME_BACK: "the time is before that of the line above",
        }[trouble]
        cut = "; the file seems to be cut off" if is_cut else ""
        raise source.error(offset, f"line {count + 1}: {reason}{cut}")
    return rows[:count], offsets[:count]


def _check_ranges(source: Source, rows: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
    """Refuse a field that no message can have; only the time and the type count for crosses and halts."""
    event_type, size, price = rows[:, TYPE], rows[:, SIZE], rows[:, PRICE]
    on_display = (event_type >= SUBMISSION) & (event_type <= EXECUTION)
    traded = on_display | (event_type == HIDDEN_EXECUTION)
    for is_wrong, field, allowed in (
        ((event_type < SUBMISSION) | (event_type > HALT), TYPE, f"{SUBMISSION} to {HALT}"),
        (on_display & (rows[:, ORDER_ID] < 1), ORDER_ID, "1 or more"),
        (traded & ((size < 1) | (size > QUANTITY_LOTS_MAX)), SIZE, f"1 to {QUANTITY_LOTS_MAX}"),
        (traded & ((price < 1) | (price > PRICE_MAX)), PRICE, f"1 to {PRICE_MAX}"),
        (traded & (abs(rows[:, DIRECTION]) != 1), DIRECTION, "1 (buy) or -1 (sell)"),
    ):
        if is_wrong.any():
            line = int(np.argmax(is_wrong))
            value = rows[line, field]
            text = f"line {line + 1}: the {FIELDS[field]} is {value}, allowed is {allowed}"
            raise source.error(int(offsets[line]), text)


def _missing_submissions(
    source: Source, records: NDArray[Any], offsets: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The submissions that the file lacks, and the index of the record before which each belongs."""
    is_submission = records["kind"] == RecordKind.ADD
    submitted = records["order_id"][is_submission]
    orphans = np.flatnonzero(~is_submission & ~np.isin(records["order_id"], submitted))
    ids, first, of_orphan = np.unique(
        records["order_id"][orphans], return_index=True, return_inverse=True
    )  # ids ascending: the order in which several at one place are inserted
    lots = np.zeros(len(ids), np.int64)
    np.add.at(lots, of_orphan, records["quantity_lots"][orphans].astype(np.int64))
    first_record = orphans[first]
    if (lots > QUANTITY_LOTS_MAX).any():
        which = int(np.argmax(lots > QUANTITY_LOTS_MAX))
        text = f"order {ids[which]} loses {lots[which]} lots in all, an order has at most {QUANTITY_LOTS_MAX}"
        raise source.error(int(offsets[first_record[which]]), text)
    largest_so_far = np.maximum.accumulate(submitted) if len(submitted) else submitted
    following = np.searchsorted(largest_so_far, ids, side="right")
    places = np.append(np.flatnonzero(is_submission), len(records))[following]
    places = np.minimum(places, first_record)
    places[following == 0] = 0
    missing = records[first_record].copy()
    missing["kind"] = RecordKind.ADD
    missing["quantity_lots"] = lots
    missing["timestamp_ns"] = records["timestamp_ns"][places] if len(ids) else 0
    if len(ids):
        begin_ns = int(records["timestamp_ns"][0])
        missing["timestamp_ns"][following == 0] = begin_ns - begin_ns % _SECOND_NS - 1
    return missing, places


@kernel
def _parse(data: Any, rows: Any, offsets: Any) -> tuple[int, int, int, int]:
    """Parse line after line; the count of whole lines, what is wrong with the next, where, in which field."""
    position = 0
    count = 0
    latest_ns = 0
    while position < len(data):
        offsets[count] = position
        for field in range(6):
            position, value, trouble = (
                _parse_time(data, position) if field == 0 else _parse_integer(data, position)
            )
            if trouble != _FINE:
                return count, trouble, offsets[count], field
            rows[count, field] = value
            at_end = position == len(data) or data[position] == _NEWLINE or data[position] == _RETURN
            if field < 5:
                if at_end:
                    return count, _TOO_FEW, offsets[count], field
                if data[position] != _COMMA:
                    return count, _NOT_A_NUMBER, offsets[count], field
                position += 1
            elif not at_end:
                wrong = _TOO_MANY if data[position] == _COMMA else _NOT_A_NUMBER
                return count, wrong, offsets[count], field
        if position < len(data) and data[position] == _RETURN:
            position += 1
        if position < len(data):
            if data[position] != _NEWLINE:
                return count, _TOO_MANY, offsets[count], 5
            position += 1
        if rows[count, 0] < latest_ns:
            return count, _TIME_BACK, offsets[count], 0
        latest_ns = rows[count, 0]
        count += 1
    return count, _FINE, position, 0


@inlined
def _parse_digits(data: Any, position: int) -> tuple[int, int, int]:
    """Position after the digits, their value, how many there were (their value stops at 18)."""
    value: Any = 0
    digits = 0
    while position < len(data) and _ZERO <= data[position] <= _NINE:
        if digits < _DIGITS_MAX:
            value = 10 * value + np.int64(data[position]) - _ZERO
        digits += 1
        position += 1
    return position, value, digits


@kernel
def _parse_integer(data: Any, position: int) -> tuple[int, int, int]:
    is_negative = position < len(data) and data[position] == _MINUS
    if is_negative:
        position += 1
    position, value, digits = _parse_digits(data, position)
    trouble = _FINE
    if digits == 0:
        trouble = _NOT_A_NUMBER
    elif digits > _DIGITS_MAX:
        trouble = _TOO_LONG
    return position, -value if is_negative else value, trouble


@kernel
def _parse_time(data: Any, position: int) -> tuple[int, int, int]:
    """Seconds with decimals, as nanoseconds."""
    position, seconds, digits = _parse_digits(data, position)
    if digits == 0:
        return position, 0, _NOT_A_NUMBER
    if digits > _DIGITS_MAX or seconds > _SECONDS_MAX:
        return position, 0, _TOO_LONG
    decimals = 0
    fraction = 0
    if position < len(data) and data[position] == _POINT:
        position, fraction, decimals = _parse_digits(data, position + 1)
    if decimals > _DIGITS_MAX:
        return position, 0, _TOO_LONG
    for _ in range(_DECIMALS - decimals):
        fraction *= 10
    for _ in range(decimals - _DECIMALS):
        fraction //= 10
    return position, seconds * _SECOND_NS + fraction, _FINE
