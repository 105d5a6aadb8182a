"""Drives a book of any variant from a test: commands in, events out, and a look at what rests.

One :class:`BookDriver` owns one book and the memory for its commands and events. Commands are stamped with a sequence
(1, 2, 3 ...) and, if they have none, with a time, so that the events can be held against them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.book import build_book
from exchange.book.config import BookConfig, LadderBookConfig, NaiveBookConfig
from exchange.book.protocol import apply_commands, events_bound, export_orders, live_order_count, top_of_book
from exchange.messages import (
    COMMAND_DTYPE,
    COMMAND_STRUCT,
    EVENT_DTYPE,
    EVENT_STRUCT,
    RECORD_BYTES,
    Command,
    CommandKind,
    Event,
    EventKind,
    Reason,
)
from exchange.native import Arena, view_bytes

VARIANTS: Final[dict[str, type[BookConfig]]] = {"naive": NaiveBookConfig, "ladder": LadderBookConfig}
BATCH_COMMANDS_MAX: Final = 4096
BOOK_EVENTS: Final = [kind for kind in EventKind if kind < EventKind.TRADING_STATE]
BOOK_REASONS: Final = [reason for reason in Reason if reason != Reason.SYMBOL_HALTED]
"""What a book can say; a halt is its shard's business, an answer the gateway's."""


def new(order_id: int, side: int, price_ticks: int, quantity_lots: int, **fields: int) -> Command:
    """A new order; a day limit order of session 0 in symbol 0 unless ``fields`` say otherwise."""
    return Command(
        CommandKind.NEW,
        order_id=order_id,
        side=side,
        price_ticks=price_ticks,
        quantity_lots=quantity_lots,
        **fields,
    )


def cancel(order_id: int, quantity_lots: int = 0, **fields: int) -> Command:
    """Take lots away from an order, all of them by default."""
    return Command(CommandKind.CANCEL, order_id=order_id, quantity_lots=quantity_lots, **fields)


def replace(order_id: int, new_order_id: int, price_ticks: int, quantity_lots: int, **fields: int) -> Command:
    """Give an order a new id, price and open quantity."""
    return Command(
        CommandKind.REPLACE,
        order_id=order_id,
        new_order_id=new_order_id,
        price_ticks=price_ticks,
        quantity_lots=quantity_lots,
        **fields,
    )


def mass_cancel(symbol_id: int = 0, **fields: int) -> Command:
    """Take away all orders of a session."""
    return Command(CommandKind.MASS_CANCEL, symbol_id=symbol_id, **fields)


class BookDriver:
    """One book, with room for batches of up to :data:`BATCH_COMMANDS_MAX` commands."""

    def __init__(
        self,
        kind: str,
        *,
        symbol_count: int = 1,
        capacity_orders: int = 64,
        price_min_ticks: int = 1,
        price_max_ticks: int = 1000,
    ) -> None:
        config = VARIANTS[kind](
            capacity_orders=capacity_orders, price_min_ticks=price_min_ticks, price_max_ticks=price_max_ticks
        )
        self.owner: Any = build_book(config, symbol_count)
        self.state: Any = self.owner.state
        self.symbol_count = symbol_count
        self.capacity_orders = capacity_orders
        self.sequence = 0
        events = events_bound(capacity_orders, BATCH_COMMANDS_MAX)
        self._arena = Arena.private((BATCH_COMMANDS_MAX + events + capacity_orders) * RECORD_BYTES + 4096)
        self._commands = self._arena.allocate(BATCH_COMMANDS_MAX * RECORD_BYTES)
        self._events = self._arena.allocate(events * RECORD_BYTES)
        self._orders = self._arena.allocate(capacity_orders * RECORD_BYTES)
        self._top = self._arena.allocate(32)

    def apply_bytes(self, block: bytes) -> bytes:
        """Apply one batch of records as they are; return the bytes of its events."""
        assert len(block) <= BATCH_COMMANDS_MAX * RECORD_BYTES
        view_bytes(self._commands, len(block))[:] = block
        count = apply_commands(self.state, self._commands, len(block) // RECORD_BYTES, self._events)
        return bytes(view_bytes(self._events, count * RECORD_BYTES))

    def apply(self, *commands: Command) -> list[Event]:
        """Stamp commands and apply them as one batch."""
        block = b""
        for command in commands:
            self.sequence += 1
            timestamp_ns = command.timestamp_ns or 1000 * self.sequence
            block += COMMAND_STRUCT.pack(*command._replace(sequence=self.sequence, timestamp_ns=timestamp_ns))
        return [Event(*fields) for fields in EVENT_STRUCT.iter_unpack(self.apply_bytes(block))]

    def play(self, commands: NDArray[Any], batch_commands: int = 256) -> bytes:
        """Apply an array of ``COMMAND_DTYPE`` as it is, batch by batch; return the bytes of all events."""
        starts = range(0, len(commands), batch_commands)
        return b"".join([self.apply_bytes(commands[at : at + batch_commands].tobytes()) for at in starts])

    def orders(self, symbol_id: int = 0) -> list[Command]:
        """The live orders of a symbol in priority order, as the book exports them."""
        count = export_orders(self.state, symbol_id, self._orders)
        block = bytes(view_bytes(self._orders, count * RECORD_BYTES))
        return [Command(*fields) for fields in COMMAND_STRUCT.iter_unpack(block)]

    def ids(self, symbol_id: int = 0) -> list[int]:
        """The ids of the live orders of a symbol in priority order."""
        return [order.order_id for order in self.orders(symbol_id)]

    def top(self, symbol_id: int = 0) -> tuple[int, list[int]]:
        """Which sides have orders, and best bid price and quantity, best ask price and quantity."""
        present = top_of_book(self.state, symbol_id, self._top)
        return present, np.frombuffer(view_bytes(self._top, 32), np.int64).tolist()

    def live_order_count(self) -> int:
        """How many orders rest over all symbols."""
        return int(live_order_count(self.state))


MakeBook = Callable[..., BookDriver]
"""What the fixture ``make_book`` of the contract tests gives: a driver of one variant, with these settings."""


def stamped(commands: Sequence[Command]) -> NDArray[Any]:
    """Commands as an array, with sequences and times that count from 1."""
    block = b"".join([COMMAND_STRUCT.pack(*command) for command in commands])
    records = np.frombuffer(bytearray(block), COMMAND_DTYPE)
    records["sequence"] = records["timestamp_ns"] = np.arange(1, len(commands) + 1)
    return records


def first_difference(commands: NDArray[Any], left: bytes | bytearray, right: bytes | bytearray) -> str:
    """What to print when two books disagree: the first event that differs and the command that caused it."""
    for at in range(0, max(len(left), len(right)), RECORD_BYTES):
        one, other = left[at : at + RECORD_BYTES], right[at : at + RECORD_BYTES]
        if one != other:
            events = [np.frombuffer(block, EVENT_DTYPE) for block in (one, other)]
            sequence = int(next(event for event in events if len(event))[0]["command_sequence"])
            command = Command(*(field.item() for field in commands[commands["sequence"] == sequence][0]))
            texts = [
                str(Event(*(field.item() for field in event[0]))) if len(event) else "nothing"
                for event in events
            ]
            return f"event {at // RECORD_BYTES}: {texts[0]} against {texts[1]}, caused by {command}"
    return "no difference"
