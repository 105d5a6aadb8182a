"""A shard in a snapshot: how far it is, its live orders, and which of its symbols trade.

========================= ======================= =====================================================================
section                   records                 what
========================= ======================= =====================================================================
shard-K/state             one                     last sequence, events so far, match number, and how much of the rest
shard-K/trading           one for each symbol     trading state, reason, how often a state was told
shard-K/orders            one for each live order ``COMMAND_DTYPE``: by symbol, in priority order
========================= ======================= =====================================================================

**Why this is all.** A book's answers depend on its live orders in their priority, on the count of its trades (the next
match number), and on the settings that it was built from. Whether a new order finds room depends on how many live, and
not on where they lie: every pool of the compiled book has room for the worst case of its capacity. So orders that are
applied as NEW commands to an empty book, best price first, make a book that answers as the old one would. They do not
trade while they are put back, for no two of them cross.

That makes a snapshot of one variant of the book good for any other.

Rules: see :mod:`exchange.snapshot`. A shard that still holds events for its outbox is not at rest and cannot be saved:
what they say has not been heard, and could be in no other part."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.book.protocol import (
    apply_commands,
    events_bound,
    export_orders,
    live_order_count,
    match_count,
    restore_match_count,
    top_of_book,
)
from exchange.errors import UserError
from exchange.latest_value.protocol import publish
from exchange.matching.shard import EVENTS, HELD, PENDING, SEQUENCE, STATUS, Shard
from exchange.matching.trading_states import (
    CHANGES,
    HALTED_COUNT,
    REASON,
    ROW_SHIFT,
    STATE,
    TradingStates,
    row_address,
)
from exchange.messages import COMMAND_DTYPE, EVENT_DTYPE, RECORD_BYTES, EventKind, Reason, SymbolState
from exchange.native import Arena, load_int64, store_int64, view_bytes
from exchange.snapshot.sections import BadSnapshot, SectionFile, SectionWriter

STATE_DTYPE: Final = np.dtype(
    [("sequence", "<i8"), ("events", "<i8"), ("matches", "<i8"), ("live_orders", "<i8"), ("symbols", "<i8")]
)
"""How far a shard is, and how many records its other sections have."""

TRADING_DTYPE: Final = np.dtype(
    {
        "names": ["state", "reason", "changes"],
        "formats": ["<i8", "<i8", "<i8"],
        "offsets": [STATE, REASON, CHANGES],
        "itemsize": 1 << ROW_SHIFT,
    }
)
"""A symbol's trading state, as the shard keeps it."""

BATCH_ORDERS: Final = 4096
"""So many orders are put back at a time: their commands and events stay in the cache."""


def save_shard(writer: SectionWriter, number: int, shard: Shard) -> None:
    """Write shard ``number``, which is at rest."""
    assert load_int64(shard.words + PENDING) == 0, "the shard has events that nobody has taken"
    assert load_int64(shard.words + HELD) == 0, "the shard has records that are in no journal"
    book, symbol_count = shard.book, shard.trading.symbol_count
    state = np.zeros(1, STATE_DTYPE)
    state["sequence"], state["events"] = (
        load_int64(shard.words + SEQUENCE),
        load_int64(shard.words + EVENTS),
    )
    state["matches"], state["live_orders"] = match_count(book), live_order_count(book)
    state["symbols"] = symbol_count
    writer.write(f"shard-{number}/state", state)
    trading = np.zeros(symbol_count, TRADING_DTYPE)
    trading[:] = _trading_rows(shard.trading)
    writer.write(f"shard-{number}/trading", trading)
    writer.begin(f"shard-{number}/orders")
    size_bytes = (live_order_count(book) + 1) * RECORD_BYTES
    arena = Arena.private(size_bytes)  # touched as far as the symbol with the most orders reaches
    out = arena.allocate(size_bytes)
    for symbol_id in range(symbol_count):
        count = export_orders(book, symbol_id, out)
        if count:
            writer.append(np.frombuffer(view_bytes(out, count * RECORD_BYTES), COMMAND_DTYPE))


def restore_shard(file: SectionFile, number: int, shard: Shard) -> None:
    """Put shard ``number`` back into one that is as it was built, with a book of any variant.

    Raises:
        BadSnapshot: the sections contradict each other.
        UserError: the settings are others than those of the exchange that was saved.
    """
    book, symbol_count = shard.book, shard.trading.symbol_count
    assert live_order_count(book) == 0
    state = file.record(f"shard-{number}/state", STATE_DTYPE)
    if state["symbols"] != symbol_count:
        raise UserError(
            f"{file.path}: is of {state['symbols']} symbols, and the settings have {symbol_count}"
        )
    _restore_trading(file, number, shard.trading)
    _restore_orders(file, number, book)
    if live_order_count(book) != state["live_orders"]:
        raise BadSnapshot(
            f"{file.path}: section 'shard-{number}/orders' has {live_order_count(book)} orders,"
            f" and 'shard-{number}/state' says {state['live_orders']}"
        )
    restore_match_count(book, int(state["matches"]))
    words = shard.words
    store_int64(words + SEQUENCE, int(state["sequence"]))
    store_int64(words + EVENTS, int(state["events"]))
    for place, value in enumerate((state["sequence"], state["events"], state["live_orders"], 0)):
        store_int64(words + STATUS + 8 * place, int(value))
    top_of_book(book, 0, words + STATUS + 32)
    publish(shard.status, words + STATUS)


def _trading_rows(states: TradingStates) -> NDArray[Any]:
    """The rows of all symbols where they lie, shape (symbols,), ``TRADING_DTYPE``."""
    size_bytes = states.symbol_count << ROW_SHIFT
    return np.frombuffer(view_bytes(row_address(states, 0), size_bytes), TRADING_DTYPE)


def _restore_trading(file: SectionFile, number: int, states: TradingStates) -> None:
    name = f"shard-{number}/trading"
    saved = file.records(name, TRADING_DTYPE)
    if len(saved) != states.symbol_count or not np.isin(saved["state"], list(SymbolState)).all():
        raise BadSnapshot(
            f"{file.path}: section {name!r} is no list of the states of {states.symbol_count} symbols"
        )
    _trading_rows(states)[:] = saved
    halted = int(np.count_nonzero(saved["state"] == SymbolState.HALTED))
    store_int64(states.base + HALTED_COUNT, halted)


def _restore_orders(file: SectionFile, number: int, book: Any) -> None:
    """Apply the orders to an empty book; each must be accepted, and none may trade."""
    name = f"shard-{number}/orders"
    room = events_bound(file.section(name).length // RECORD_BYTES, BATCH_ORDERS)
    arena = Arena.private((BATCH_ORDERS + room) * RECORD_BYTES)
    batch, events = arena.allocate(BATCH_ORDERS * RECORD_BYTES), arena.allocate(room * RECORD_BYTES)
    length, done = file.section(name).length, 0
    if length % RECORD_BYTES:
        raise BadSnapshot(f"{file.path}: section {name!r}: {length} bytes are not records of {RECORD_BYTES}")
    while done < length:
        size_bytes = min(BATCH_ORDERS * RECORD_BYTES, length - done)
        file.read_into(name, done, batch, size_bytes)
        count = apply_commands(book, batch, size_bytes // RECORD_BYTES, events)
        told = np.frombuffer(view_bytes(events, count * RECORD_BYTES), EVENT_DTYPE)
        if count != size_bytes // RECORD_BYTES or (told["kind"] != EventKind.ACCEPTED).any():
            raise _refused(file, name, told)
        done += size_bytes


def _refused(file: SectionFile, name: str, told: NDArray[Any]) -> UserError:
    event = told[told["kind"] != EventKind.ACCEPTED][0]
    what = f"order {event['order_id']} of symbol {event['symbol_id']}"
    if event["kind"] != EventKind.REJECTED:
        return BadSnapshot(f"{file.path}: section {name!r}: {what} trades with another one")
    reason = Reason(event["reason"]).name.lower()
    return UserError(
        f"{file.path}: section {name!r}: the book refuses {what} ({reason}); book.capacity_orders and the price band"
        " must be those of the exchange that was saved"
    )
