"""The feed in a snapshot: what the publisher displays, and the messages that may be asked for again.

============= ========================== ===========================================================================
section       records                    what
============= ========================== ===========================================================================
feed/state    one                        the session's name, numbers, times, and how many records the others have
feed/symbols  one for each symbol        the last trading action, and the order that has come in and may still trade
feed/orders   one for each order         ``COMMAND_DTYPE``, by symbol in priority order, ``tag``: its number in the feed
feed/messages one for each message       64 bytes: two of length, the message; the oldest first
============= ========================== ===========================================================================

A publisher is a function of the events, so what it has told goes on in the same numbers and with the same words. Its
book is put back by the same code that displays an order, without telling of it again.

Messages that were put back count as sent. If they were not, or were lost on their way, a subscriber finds that the feed
goes on with a later number and asks for them, as ever. A store with fewer slots keeps the newest.

Rules: see :mod:`exchange.snapshot`. The day is not opened again."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.market_data.datagram_store import SLOT_BYTES
from exchange.market_data.displayed import export_displayed, restore_displayed
from exchange.market_data.publisher import Publisher
from exchange.market_data.publisher_memory import (
    ACTION_SHIFT,
    ARRIVED_SHIFT,
    IS_CLOSED,
    MIDNIGHT_NS,
    NOT_DISPLAYED,
    OPENED_NS,
    TIMESTAMP_NS,
)
from exchange.messages import COMMAND_DTYPE, RECORD_BYTES
from exchange.native import Arena, address_of, load_int64, store_int64, view_bytes
from exchange.snapshot.sections import BadSnapshot, SectionFile, SectionWriter

WORDS: Final = {
    "timestamp_ns": TIMESTAMP_NS,
    "midnight_ns": MIDNIGHT_NS,
    "not_displayed": NOT_DISPLAYED,
    "opened_ns": OPENED_NS,
    "is_closed": IS_CLOSED,
}
"""The publisher's words that are saved."""

STATE_DTYPE: Final = np.dtype(
    [
        ("session", "S16"),
        ("symbols", "<i8"),
        ("orders", "<i8"),
        ("oldest_message", "<i8"),
        ("messages", "<i8"),
        *((name, "<i8") for name in WORDS),
    ]
)
SYMBOL_DTYPE: Final = np.dtype(
    [("action", "u1", (1 << ACTION_SHIFT,)), ("arrived", "u1", (1 << ARRIVED_SHIFT,))]
)
SLOT_DTYPE: Final = np.dtype(("u1", (SLOT_BYTES,)))
BATCH_ORDERS: Final = 4096
"""So many orders are put back at a time."""


def save_feed(writer: SectionWriter, publisher: Publisher) -> None:
    """Write a feed that nobody publishes to at the moment."""
    store, symbol_count = publisher.store, len(publisher.symbols)
    oldest, pieces = store.kept_slots()
    state = np.zeros(1, STATE_DTYPE)
    for name, offset in WORDS.items():
        state[name] = load_int64(publisher.state.words + offset)
    state["session"], state["symbols"], state["orders"] = store.session, symbol_count, publisher.live_orders()
    state["oldest_message"], state["messages"] = oldest, sum(map(len, pieces))
    writer.write("feed/state", state)
    symbols = np.zeros(symbol_count, SYMBOL_DTYPE)
    symbols["action"], symbols["arrived"] = _tables(publisher)
    writer.write("feed/symbols", symbols)
    writer.begin("feed/orders")
    size_bytes = (publisher.live_orders() + 1) * RECORD_BYTES
    arena = Arena.private(size_bytes)
    out = arena.allocate(size_bytes)
    for symbol_id in range(symbol_count):
        count = export_displayed(publisher.state, symbol_id, out)
        if count:
            writer.append(np.frombuffer(view_bytes(out, count * RECORD_BYTES), COMMAND_DTYPE))
    writer.write("feed/messages", *pieces)


def restore_feed(file: SectionFile, publisher: Publisher) -> None:
    """Put a feed back.

    Args:
        file: the snapshot.
        publisher: as it was made, with the same symbols and a store of the same session; its day is not open.

    Raises:
        BadSnapshot: the sections contradict each other.
        UserError: the settings are others than those of the exchange that was saved.
    """
    store, state = publisher.store, file.record("feed/state", STATE_DTYPE)
    session = state["session"].decode("ascii")
    if session != store.session:
        raise UserError(f"{file.path}: is of the session {session}, and the feed's is {store.session}")
    if state["symbols"] != len(publisher.symbols):
        raise UserError(
            f"{file.path}: is of {state['symbols']} symbols, and the settings have {len(publisher.symbols)}"
        )
    symbols = file.records("feed/symbols", SYMBOL_DTYPE)
    if len(symbols) != len(publisher.symbols):
        raise BadSnapshot(f"{file.path}: section 'feed/symbols' has {len(symbols)} records")
    for table, name in zip(_tables(publisher), ("action", "arrived"), strict=True):
        table[:] = symbols[name]
    for orders in file.chunks("feed/orders", COMMAND_DTYPE, BATCH_ORDERS):
        if restore_displayed(publisher.state, address_of(orders), len(orders)) != len(orders):
            raise UserError(
                f"{file.path}: section 'feed/orders': the feed has no room for {state['orders']} orders;"
                " book.capacity_orders must be that of the exchange that was saved"
            )
    if publisher.live_orders() != state["orders"]:
        raise BadSnapshot(f"{file.path}: section 'feed/orders' has {publisher.live_orders()} orders")
    for name, offset in WORDS.items():
        store_int64(publisher.state.words + offset, int(state[name]))
    messages: NDArray[Any] = file.records("feed/messages", SLOT_DTYPE)
    if len(messages) != state["messages"] or state["oldest_message"] < 1:
        raise BadSnapshot(f"{file.path}: section 'feed/messages' has {len(messages)} messages")
    store.restore(int(state["oldest_message"]), messages)


def _tables(publisher: Publisher) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Last trading actions and orders that may still trade, where they lie, each of shape (symbols, 32)."""
    state = publisher.state
    return (
        _rows(state.actions, state.symbol_count, 1 << ACTION_SHIFT),
        _rows(state.arrived, state.symbol_count, 1 << ARRIVED_SHIFT),
    )


def _rows(address: int, count: int, size_bytes: int) -> NDArray[np.uint8]:
    return np.frombuffer(view_bytes(address, count * size_bytes), np.uint8).reshape(count, size_bytes)
