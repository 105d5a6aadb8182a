"""What the shards should have made of their stream: a textbook book for each shard, and what its events mean.

A shard's stream is what it has numbered, record by record. The simulation reads it as the shard steps, and gives it to
the twin here: a :class:`~exchange.book.naive.NaiveBook` with the trading states around it, in plain Python. The twin's
events must be the shard's byte for byte, and its books the shard's books at any moment.

After a crash the twin goes back to the last record that the recovered exchange has, by applying what is left of the
stream from the beginning."""

from collections.abc import Iterator
from typing import Final

from exchange.book.naive import NaiveBook, rejected
from exchange.messages import (
    COMMAND_STRUCT,
    EVENT_STRUCT,
    RECORD_BYTES,
    Command,
    CommandKind,
    Event,
    EventKind,
    Reason,
    SymbolState,
)


class ShardTwin:
    """One shard in plain Python.

    Args:
        symbol_count: as the shard's.
        capacity_orders: as the shard's.
        price_min_ticks: as the shard's.
        price_max_ticks: as the shard's.

    Attributes:
        stream: every record that was sequenced.
        book: the books.
    """

    def __init__(
        self, symbol_count: int, capacity_orders: int, price_min_ticks: int, price_max_ticks: int
    ) -> None:
        self._arguments: Final = (symbol_count, capacity_orders, price_min_ticks, price_max_ticks)
        self.stream: Final = bytearray()
        self.book = NaiveBook(*self._arguments)
        self._halted: set[int] = set()

    @property
    def sequence(self) -> int:
        """The number of the last record."""
        return len(self.stream) // RECORD_BYTES

    def apply(self, records: bytes) -> bytes:
        """Sequence records; the events that they make."""
        self.stream.extend(records)
        return b"".join(self._events_of(records))

    def go_back(self, sequence: int) -> bytes:
        """Forget everything behind record ``sequence``; the events of all that is left."""
        left = bytes(self.stream[: sequence * RECORD_BYTES])
        self.stream.clear()
        self.book = NaiveBook(*self._arguments)
        self._halted.clear()
        return self.apply(left)

    def is_crossed(self) -> bool:
        """Whether somebody would pay more than somebody else asks for, in some symbol, and they do not trade."""
        for bids, asks in self.book.symbols:
            bid, ask = bids.best_price(), asks.best_price()
            if bid is not None and ask is not None and bid >= ask:
                return True
        return False

    def _events_of(self, records: bytes) -> Iterator[bytes]:
        for place, fields in enumerate(COMMAND_STRUCT.iter_unpack(records)):
            command = Command(*fields)
            if command.kind == CommandKind.TRADING_STATE:
                yield EVENT_STRUCT.pack(*self._change_state(command))
            elif self._is_halted(command):
                yield EVENT_STRUCT.pack(*rejected(command, Reason.SYMBOL_HALTED))
            elif command.kind == CommandKind.ANSWER:
                record = records[place * RECORD_BYTES : (place + 1) * RECORD_BYTES]
                yield bytes([EventKind.ANSWER]) + record[1:]
            elif command.kind != CommandKind.DETAILS:
                for event in self.book.apply(command):
                    yield EVENT_STRUCT.pack(*event)

    def _is_halted(self, command: Command) -> bool:
        if command.kind not in (CommandKind.NEW, CommandKind.REPLACE):
            return False
        is_modification = (
            command.kind == CommandKind.REPLACE
            and command.order_id == command.new_order_id
            and command.quantity_lots <= command.liability_lots
        )
        return command.symbol_id in self._halted and not is_modification

    def _change_state(self, command: Command) -> Event:
        if command.symbol_id >= len(self.book.symbols):
            return rejected(command, Reason.UNKNOWN_SYMBOL)
        if command.quantity_lots not in (SymbolState.HALTED, SymbolState.TRADING):
            return rejected(command, Reason.INVALID_FIELD)
        change = self._halted.add if command.quantity_lots == SymbolState.HALTED else self._halted.discard
        change(command.symbol_id)
        return Event(
            EventKind.TRADING_STATE,
            symbol_id=command.symbol_id,
            session_id=command.session_id,
            command_sequence=command.sequence,
            order_id=command.order_id,
            quantity_lots=command.quantity_lots,
            command_kind=command.kind,
            timestamp_ns=command.timestamp_ns,
        )
