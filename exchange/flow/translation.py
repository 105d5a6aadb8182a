"""From the records of a feed to the commands that caused them.

Most records name one command: an add was a new order, a cancel was a cancel. Only an execution needs thought,
for the feed names the order that was resting, not the one that came in. There are two readings:

* ``feed``: the execution takes its quantity from the named order, as a cancel would. The engine is then a book
  builder.
* ``flow``: the execution becomes what it was, an immediate-or-cancel order on the other side, at the named order's
  price, for the executed quantity. Whom it meets is for the engine to decide, by price and time.

A recorded market does not keep strict time priority: in the AAPL hour that the tests read, 24 of 4,067
visible executions name an order that others of its price stand before. There the engine trades with another
order, and from then on the two disagree about who has what left. If nothing were done, a later cancel of the
order that the engine has already traded would come to nothing, while the order that it should have traded
would stay for ever, perhaps as a false best price. So the flow reading keeps a *twin* of the engine's queues:
for each order how many lots the record leaves it and how many the engine does. Wherever a recorded cancel
takes more than the engine's order still has, the rest is taken from orders of the same price that have too
much. Hence the invariant on which all of this rests:

    at every price, the engine and the record have the same number of lots, after every record.

So the best prices and sizes of both readings are equal after each record, an aggressive order never finds a
better price than the one it was recorded at (unless the recorded book was crossed), and the two differ in
nothing but who traded. How often they do is counted (``executions_of_another_order``): 29 times in that hour. With
one command for each record and no twin it would be 66 times, since one misplaced order leads to the next.

Order ids of recorded orders are the recording's own, all positive. An aggressive order gets ``-1``, ``-2``,
... in order of appearance, so it can clash with none. Recorded orders are sent by session 1, aggressive
orders by session 2: the recordings name no members.

A replace (ITCH ``U``) stays a replace, except where the engine and the feed mean different things by it:
NASDAQ puts a replaced order behind the others even if price and size allow it to keep its place (our book
keeps it), and an order of which the engine has another quantity left than the record cannot be moved whole.
Those become a cancel and a new order.

A record that names an order which is not there (never added, already gone), or adds one that is, has no
meaning: it is left out and counted (``records_at_odds``). One that takes more lots than the order has takes
what it has, and is counted too.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.flow.config import Reading
from exchange.flow.recorded import RecordKind
from exchange.messages import COMMAND_DTYPE, CommandKind, TimeInForce
from exchange.native import inlined, kernel, multiply_wrapping, shift_right_logical

RECORDED_SESSION: Final = 1
AGGRESSOR_SESSION: Final = 2

# numba freezes globals, but only plain integers: one name for each enum member that a kernel reads.
_ADD, _CANCEL, _DELETE = int(RecordKind.ADD), int(RecordKind.CANCEL), int(RecordKind.DELETE)
_EXECUTE, _REPLACE = int(RecordKind.EXECUTE), int(RecordKind.REPLACE)
_SEND_NEW, _SEND_CANCEL, _SEND_REPLACE = (
    int(CommandKind.NEW),
    int(CommandKind.CANCEL),
    int(CommandKind.REPLACE),
)
_DAY, _IMMEDIATE = int(TimeInForce.DAY), int(TimeInForce.IMMEDIATE_OR_CANCEL)

_NONE: Final = -1
_GOLDEN_RATIO: Final = -7046029254386353131  # 2**64 / golden ratio, odd: Knuth's multiplicative hash

_ORDER_DTYPE: Final = np.dtype(
    [
        ("order_id", "<i8"),
        ("symbol_id", "<i8"),
        ("side", "<i8"),
        ("price_ticks", "<i8"),
        ("recorded_lots", "<i8"),
        ("engine_lots", "<i8"),
        ("level", "<i8"),
        ("next", "<i8"),
        ("previous", "<i8"),
    ]
)
"""An order as the record has it (``recorded_lots``) and as the engine will (``engine_lots``, and its
place)."""

_LEVEL_DTYPE: Final = np.dtype([("key", "<i8"), ("first", "<i8"), ("last", "<i8")])
"""The engine's queue at one price of one side of one symbol; the key holds all three."""

# Counters, by index.
_COMMANDS, _EXECUTIONS, _ORDERS, _LEVELS, _AT_ODDS, _OTHER_MAKER, _OTHER_CANCEL = range(7)
_COUNTERS: Final = 7


class _Twin(NamedTuple):
    """All orders so far, found by id, and the engine's queues, found by price."""

    orders: NDArray[Any]
    orders_by_id: NDArray[np.int64]
    levels: NDArray[Any]
    levels_by_key: NDArray[np.int64]
    counts: NDArray[np.int64]


class _Output(NamedTuple):
    """The commands, and for each the order that the record names as its maker (or 0)."""

    commands: NDArray[Any]
    expected_maker: NDArray[np.int64]


def translate(
    records: NDArray[Any], reading: Reading
) -> tuple[NDArray[Any], NDArray[np.int64], dict[str, int]]:
    """Turn records into commands.

    Args:
        records: shape (n,), ``RECORD_DTYPE``, in time order.
        reading: what an execution becomes.

    Returns:
        The commands (``timestamp_ns`` from the first one on), the expected makers (same length, int64), the
        counts.
    """
    entries = int(np.count_nonzero((records["kind"] == _ADD) | (records["kind"] == _REPLACE)))
    buckets = 1 << max(3, (2 * entries).bit_length())
    twin = _Twin(
        orders=np.zeros(entries, _ORDER_DTYPE),
        orders_by_id=np.full(buckets, _NONE),
        levels=np.zeros(entries, _LEVEL_DTYPE),
        levels_by_key=np.full(buckets, _NONE),
        counts=np.zeros(_COUNTERS, np.int64),
    )
    # Room: a record sends at most two commands, and cancels of other orders. Each of the latter uses up the
    # surplus that an execution gave, or is the last of its record: at most one per execution and one per
    # cancel or replace.
    output = _Output(np.zeros(3 * len(records), COMMAND_DTYPE), np.zeros(3 * len(records), np.int64))
    _translate(records, reading == "flow", twin, output)
    count = int(twin.counts[_COMMANDS])
    commands, expected_maker = output.commands[:count].copy(), output.expected_maker[:count].copy()
    if count:
        commands["timestamp_ns"] -= commands["timestamp_ns"][0]
    counts = {"records_at_odds": int(twin.counts[_AT_ODDS])}
    if reading == "flow":
        counts["executions_of_another_order"] = int(twin.counts[_OTHER_MAKER])
        counts["cancels_of_another_order"] = int(twin.counts[_OTHER_CANCEL])
    return commands, expected_maker, counts


@kernel
def _translate(records: Any, is_flow: bool, twin: Any, output: Any) -> None:
    for index in range(len(records)):
        record = records[index]
        kind = record["kind"]
        if kind == _ADD:
            _translate_add(record, twin, output)
            continue
        row = _find_order(twin, record["order_id"])
        if row == _NONE or twin.orders[row]["recorded_lots"] == 0:
            twin.counts[_AT_ODDS] += 1
        elif kind == _EXECUTE:
            if is_flow:
                _translate_execution(record, row, twin, output)
            else:
                _translate_cancel(record, row, twin, output)
        elif kind == _REPLACE:
            _translate_replace(record, row, twin, output)
        else:
            _translate_cancel(record, row, twin, output)


@inlined
def _translate_add(record: Any, twin: Any, output: Any) -> None:
    row = _enter_order(twin, record["order_id"])
    order = twin.orders[row]
    if order["recorded_lots"] != 0 or order["engine_lots"] != 0:
        twin.counts[_AT_ODDS] += 1
        return
    order["symbol_id"] = record["symbol_id"]
    order["side"] = record["side"]
    _stand_in_line(record, row, twin)
    _send_new(record, row, twin, output)


@kernel
def _translate_cancel(record: Any, row: int, twin: Any, output: Any) -> None:
    """A cancel or delete in both readings, and an execution in the feed reading."""
    order = twin.orders[row]
    lots = order["recorded_lots"]
    if record["kind"] != _DELETE:
        if record["quantity_lots"] > lots:
            twin.counts[_AT_ODDS] += 1
        lots = min(lots, np.int64(record["quantity_lots"]))
    _withdraw(record, row, lots, twin, output)


@kernel
def _translate_execution(record: Any, row: int, twin: Any, output: Any) -> None:
    order = twin.orders[row]
    lots = min(order["recorded_lots"], np.int64(record["quantity_lots"]))
    if record["quantity_lots"] > lots:
        twin.counts[_AT_ODDS] += 1
    order["recorded_lots"] -= lots
    twin.counts[_EXECUTIONS] += 1
    output.expected_maker[twin.counts[_COMMANDS]] = record["order_id"]
    command = output.commands[_send(record, _SEND_NEW, twin, output)]
    command["side"] = 1 - order["side"]
    command["time_in_force"] = _IMMEDIATE
    command["symbol_id"] = order["symbol_id"]
    command["session_id"] = AGGRESSOR_SESSION
    command["order_id"] = -twin.counts[_EXECUTIONS]
    command["price_ticks"] = order["price_ticks"]
    command["quantity_lots"] = lots
    met_another = False
    while lots > 0:
        maker_row = twin.levels[order["level"]]["first"]
        maker = twin.orders[maker_row]
        met_another |= maker_row != row
        traded = min(lots, maker["engine_lots"])
        lots -= traded
        maker["engine_lots"] -= traded
        if maker["engine_lots"] == 0:
            _leave_line(maker_row, twin)
    twin.counts[_OTHER_MAKER] += met_another


@kernel
def _translate_replace(record: Any, row: int, twin: Any, output: Any) -> None:
    order = twin.orders[row]
    new_row = _find_order(twin, record["new_order_id"])
    if new_row != _NONE:
        entered = twin.orders[new_row]
        if entered["recorded_lots"] != 0 or entered["engine_lots"] != 0:
            twin.counts[_AT_ODDS] += 1
            return
    keeps_place = (
        record["price_ticks"] == order["price_ticks"] and record["quantity_lots"] <= order["recorded_lots"]
    )
    moves_whole = order["engine_lots"] == order["recorded_lots"] and not keeps_place
    if moves_whole:
        command = output.commands[_send(record, _SEND_REPLACE, twin, output)]
        command["symbol_id"] = order["symbol_id"]
        command["session_id"] = RECORDED_SESSION
        command["order_id"] = record["order_id"]
        command["new_order_id"] = record["new_order_id"]
        command["price_ticks"] = record["price_ticks"]
        command["quantity_lots"] = record["quantity_lots"]
        order["recorded_lots"] = 0
        order["engine_lots"] = 0
        _leave_line(row, twin)
    else:
        _withdraw(record, row, order["recorded_lots"], twin, output)
    new_row = _enter_order(twin, record["new_order_id"])
    twin.orders[new_row]["symbol_id"] = order["symbol_id"]
    twin.orders[new_row]["side"] = order["side"]
    _stand_in_line(record, new_row, twin)
    if not moves_whole:
        _send_new(record, new_row, twin, output)


@kernel
def _withdraw(record: Any, row: int, lots: int, twin: Any, output: Any) -> None:
    """Take ``lots`` from the order; what the engine's has not, from those of its price that have too much."""
    order = twin.orders[row]
    order["recorded_lots"] -= lots
    level = order["level"]
    own = min(lots, order["engine_lots"])
    if own > 0:
        _send_cancel(record, row, own, twin, output)
    missing = lots - own
    other_row = twin.levels[level]["first"]
    while missing > 0:
        other = twin.orders[other_row]
        next_row = other["next"]
        surplus = min(missing, other["engine_lots"] - other["recorded_lots"])
        if surplus > 0:
            _send_cancel(record, other_row, surplus, twin, output)
            twin.counts[_OTHER_CANCEL] += 1
            missing -= surplus
        other_row = next_row


@inlined
def _send_cancel(record: Any, row: int, lots: int, twin: Any, output: Any) -> None:
    order = twin.orders[row]
    command = output.commands[_send(record, _SEND_CANCEL, twin, output)]
    command["symbol_id"] = order["symbol_id"]
    command["session_id"] = RECORDED_SESSION
    command["order_id"] = order["order_id"]
    order["engine_lots"] -= lots
    if order["engine_lots"] == 0:
        _leave_line(row, twin)
    if order["engine_lots"] > 0 or record["kind"] != _DELETE:  # a delete says "all", as the records do
        command["quantity_lots"] = lots


@inlined
def _send_new(record: Any, row: int, twin: Any, output: Any) -> None:
    order = twin.orders[row]
    command = output.commands[_send(record, _SEND_NEW, twin, output)]
    command["side"] = order["side"]
    command["time_in_force"] = _DAY
    command["symbol_id"] = order["symbol_id"]
    command["session_id"] = RECORDED_SESSION
    command["order_id"] = order["order_id"]
    command["price_ticks"] = order["price_ticks"]
    command["quantity_lots"] = order["recorded_lots"]


@inlined
def _send(record: Any, kind: int, twin: Any, output: Any) -> Any:
    """Begin the next command; its index, for a record that a compiled function returns is a copy."""
    index = twin.counts[_COMMANDS]
    twin.counts[_COMMANDS] += 1
    output.commands[index]["kind"] = kind
    output.commands[index]["timestamp_ns"] = record["timestamp_ns"]
    return index


@inlined
def _stand_in_line(record: Any, row: int, twin: Any) -> None:
    """Give the order the record's price and quantity, and the last place of that price's queue."""
    order = twin.orders[row]
    order["price_ticks"] = record["price_ticks"]
    order["recorded_lots"] = record["quantity_lots"]
    order["engine_lots"] = record["quantity_lots"]
    order["level"] = _enter_level(twin, order["symbol_id"] | order["side"] << 16 | order["price_ticks"] << 17)
    level = twin.levels[order["level"]]
    order["next"] = _NONE
    order["previous"] = level["last"]
    if level["last"] == _NONE:
        level["first"] = row
    else:
        twin.orders[level["last"]]["next"] = row
    level["last"] = row


@kernel
def _leave_line(row: int, twin: Any) -> None:
    order = twin.orders[row]
    level = twin.levels[order["level"]]
    if order["previous"] == _NONE:
        level["first"] = order["next"]
    else:
        twin.orders[order["previous"]]["next"] = order["next"]
    if order["next"] == _NONE:
        level["last"] = order["previous"]
    else:
        twin.orders[order["next"]]["previous"] = order["previous"]


@inlined
def _bucket_of(key: int, buckets: int) -> Any:
    return shift_right_logical(multiply_wrapping(int(key), _GOLDEN_RATIO), 32) & (buckets - 1)


@kernel
def _find_order(twin: Any, order_id: int) -> Any:
    """The row of an order, or ``_NONE``. Orders stay for good: ids are unique for the day."""
    bucket = _bucket_of(order_id, len(twin.orders_by_id))
    while twin.orders_by_id[bucket] != _NONE:
        if twin.orders[twin.orders_by_id[bucket]]["order_id"] == order_id:
            return twin.orders_by_id[bucket]
        bucket = (bucket + 1) & (len(twin.orders_by_id) - 1)
    return _NONE


@kernel
def _enter_order(twin: Any, order_id: int) -> Any:
    """The row of an order, a fresh one if its id is new."""
    row = _find_order(twin, order_id)
    if row != _NONE:
        return row
    bucket = _bucket_of(order_id, len(twin.orders_by_id))
    while twin.orders_by_id[bucket] != _NONE:
        bucket = (bucket + 1) & (len(twin.orders_by_id) - 1)
    row = twin.counts[_ORDERS]
    twin.counts[_ORDERS] += 1
    twin.orders_by_id[bucket] = row
    twin.orders[row]["order_id"] = order_id
    return row


@kernel
def _enter_level(twin: Any, key: int) -> Any:
    """The index of a price's queue, a fresh and empty one if the price is new."""
    bucket = _bucket_of(key, len(twin.levels_by_key))
    while twin.levels_by_key[bucket] != _NONE:
        if twin.levels[twin.levels_by_key[bucket]]["key"] == key:
            return twin.levels_by_key[bucket]
        bucket = (bucket + 1) & (len(twin.levels_by_key) - 1)
    index = twin.counts[_LEVELS]
    twin.counts[_LEVELS] += 1
    twin.levels_by_key[bucket] = index
    twin.levels[index]["key"] = key
    twin.levels[index]["first"] = _NONE
    twin.levels[index]["last"] = _NONE
    return index
