"""The textbook order book: a dict of price levels, each a deque of orders, first come first served.

This is the oracle. It is written to be checked by reading it against the rules in ``protocol.py``, and every
other book must produce the same events, byte for byte. It is also the baseline whose speed the others are
compared with: ordinary Python, no trick and no deliberate slowness."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from ctypes import memmove, string_at
from dataclasses import dataclass, field
from struct import pack_into

from exchange.book.protocol import (
    apply_commands,
    export_orders,
    live_order_count,
    match_count,
    restore_match_count,
    top_of_book,
)
from exchange.limits import QUANTITY_LOTS_MAX
from exchange.messages import (
    ALL_SYMBOLS,
    BUY,
    COMMAND_STRUCT,
    EVENT_STRUCT,
    RECORD_BYTES,
    SELL,
    Command,
    CommandKind,
    Event,
    EventKind,
    OrderType,
    Reason,
    TimeInForce,
)
from exchange.native import implements, view_bytes


@dataclass(slots=True, eq=False)
class RestingOrder:
    """An order that waits in the book; two orders are the same only if they are the same object."""

    order_id: int
    session_id: int
    symbol_id: int
    side: int
    price_ticks: int
    quantity_lots: int


@dataclass(slots=True)
class BookSide:
    """One side of one symbol: orders by price, and the prices in ascending order."""

    side: int
    levels: dict[int, deque[RestingOrder]] = field(default_factory=dict)
    prices: list[int] = field(default_factory=list)

    def best_price(self) -> int | None:
        """The highest bid or the lowest ask; None if the side is empty."""
        if not self.prices:
            return None
        return self.prices[-1] if self.side == BUY else self.prices[0]

    def best_first(self) -> Iterator[int]:
        """All prices, best first."""
        return reversed(self.prices) if self.side == BUY else iter(self.prices)

    def add(self, order: RestingOrder) -> None:
        """Put the order behind the others of its price."""
        if order.price_ticks not in self.levels:
            self.levels[order.price_ticks] = deque()
            insort(self.prices, order.price_ticks)
        self.levels[order.price_ticks].append(order)

    def remove(self, order: RestingOrder) -> None:
        """Take the order out, and its level with it if it was the last."""
        level = self.levels[order.price_ticks]
        level.remove(order)
        if not level:
            del self.levels[order.price_ticks]
            del self.prices[bisect_left(self.prices, order.price_ticks)]


class NaiveBook:
    """The books of a shard's symbols, in plain Python.

    Args:
        symbol_count: symbols are numbered from 0.
        capacity_orders: how many orders may rest at once, over all symbols.
        price_min_ticks: lowest price of the band.
        price_max_ticks: highest price of the band.
    """

    def __init__(
        self, symbol_count: int, capacity_orders: int, price_min_ticks: int, price_max_ticks: int
    ) -> None:
        self.capacity_orders = capacity_orders
        self.price_min_ticks = price_min_ticks
        self.price_max_ticks = price_max_ticks
        self.symbols = [(BookSide(BUY), BookSide(SELL)) for _ in range(symbol_count)]
        self.orders: dict[tuple[int, int], RestingOrder] = {}
        self.match_number = 0

    @property
    def state(self) -> "NaiveBook":
        """What the operations of the layer take: the book itself."""
        return self

    def apply(self, command: Command) -> list[Event]:
        """Apply one command and tell what happened."""
        match command.kind:
            case CommandKind.NEW | CommandKind.CANCEL | CommandKind.REPLACE if command.symbol_id >= len(
                self.symbols
            ):
                return [rejected(command, Reason.UNKNOWN_SYMBOL)]
            case CommandKind.NEW:
                return self._new(command)
            case CommandKind.CANCEL:
                return self._cancel(command)
            case CommandKind.REPLACE:
                return self._replace(command)
            case CommandKind.MASS_CANCEL:
                return self._mass_cancel(command)
        return [rejected(command, Reason.UNKNOWN_COMMAND)]

    def _new(self, command: Command) -> list[Event]:
        is_market = command.order_type == OrderType.MARKET
        may_rest = not is_market and command.time_in_force == TimeInForce.DAY
        if command.side > SELL or command.time_in_force > 1 or command.order_type > 1:
            return [rejected(command, Reason.INVALID_FIELD)]
        if command.quantity_lots == 0:
            return [rejected(command, Reason.INVALID_QUANTITY)]
        if not is_market and not self._in_band(command.price_ticks):
            return [rejected(command, Reason.PRICE_OUT_OF_BAND)]
        if (command.symbol_id, command.order_id) in self.orders:
            return [rejected(command, Reason.DUPLICATE_ORDER_ID)]
        if may_rest and len(self.orders) >= self.capacity_orders:
            return [rejected(command, Reason.BOOK_FULL)]
        accepted = _event(
            command,
            EventKind.ACCEPTED,
            side=command.side,
            time_in_force=command.time_in_force,
            session_id=command.session_id,
            order_id=command.order_id,
            price_ticks=command.price_ticks,
            quantity_lots=command.quantity_lots,
        )
        order = RestingOrder(
            command.order_id,
            command.session_id,
            command.symbol_id,
            command.side,
            command.price_ticks,
            command.quantity_lots,
        )
        trades = self._trade(command, order, None if is_market else command.price_ticks)
        if order.quantity_lots == 0:
            return [accepted, *trades]
        if may_rest:
            self._rest(order)
            return [accepted, *trades]
        return [accepted, *trades, _canceled(command, order, order.quantity_lots, Reason.IMMEDIATE_REMAINDER)]

    def _cancel(self, command: Command) -> list[Event]:
        order = self.orders.get((command.symbol_id, command.order_id))
        if order is None:
            return [rejected(command, Reason.UNKNOWN_ORDER)]
        if order.session_id != command.session_id:
            return [rejected(command, Reason.NOT_YOUR_ORDER)]
        if 0 < command.quantity_lots < order.quantity_lots:
            order.quantity_lots -= command.quantity_lots
            return [_canceled(command, order, command.quantity_lots, Reason.BY_CLIENT)]
        self._remove(order)
        return [_canceled(command, order, order.quantity_lots, Reason.BY_CLIENT)]

    def _replace(self, command: Command) -> list[Event]:
        order = self.orders.get((command.symbol_id, command.order_id))
        if order is None:
            return [rejected(command, Reason.UNKNOWN_ORDER)]
        if order.session_id != command.session_id:
            return [rejected(command, Reason.NOT_YOUR_ORDER)]
        if command.quantity_lots == 0:
            return [rejected(command, Reason.INVALID_QUANTITY)]
        quantity_lots = command.quantity_lots
        if command.liability_lots != 0:
            quantity_lots += order.quantity_lots - command.liability_lots
        if quantity_lots > QUANTITY_LOTS_MAX:
            return [rejected(command, Reason.INVALID_QUANTITY)]
        if not self._in_band(command.price_ticks):
            return [rejected(command, Reason.PRICE_OUT_OF_BAND)]
        new_key = (command.symbol_id, command.new_order_id)
        if command.new_order_id != command.order_id and new_key in self.orders:
            return [rejected(command, Reason.DUPLICATE_ORDER_ID)]
        if quantity_lots <= 0:
            self._remove(order)
            canceled = _canceled(command, order, order.quantity_lots, Reason.BY_CLIENT)
            return [canceled._replace(other_order_id=command.new_order_id)]
        replaced = _event(
            command,
            EventKind.REPLACED,
            side=order.side,
            session_id=order.session_id,
            order_id=command.order_id,
            other_order_id=command.new_order_id,
            price_ticks=command.price_ticks,
            quantity_lots=quantity_lots,
        )
        if command.price_ticks == order.price_ticks and quantity_lots <= order.quantity_lots:
            del self.orders[(order.symbol_id, order.order_id)]
            order.order_id, order.quantity_lots = command.new_order_id, quantity_lots
            self.orders[new_key] = order
            return [replaced]
        self._remove(order)
        order.order_id = command.new_order_id
        order.price_ticks = command.price_ticks
        order.quantity_lots = quantity_lots
        trades = self._trade(command, order, command.price_ticks)
        if order.quantity_lots > 0:
            self._rest(order)
        return [replaced, *trades]

    def _mass_cancel(self, command: Command) -> list[Event]:
        if command.symbol_id != ALL_SYMBOLS and command.symbol_id >= len(self.symbols):
            return [rejected(command, Reason.UNKNOWN_SYMBOL)]
        symbol_ids = range(len(self.symbols)) if command.symbol_id == ALL_SYMBOLS else [command.symbol_id]
        doomed = [
            order
            for symbol_id in symbol_ids
            for order in self.orders_by_priority(symbol_id)
            if order.session_id == command.session_id
        ]
        for order in doomed:
            self._remove(order)
        is_by_operator = command.quantity_lots == Reason.BY_OPERATOR
        reason = Reason.BY_OPERATOR if is_by_operator else Reason.MASS_CANCEL
        events = [_canceled(command, order, order.quantity_lots, reason) for order in doomed]
        end = _event(
            command, EventKind.MASS_CANCELED, session_id=command.session_id, quantity_lots=len(doomed)
        )
        return [*events, end]

    def _trade(self, command: Command, taker: RestingOrder, limit_ticks: int | None) -> list[Event]:
        """Let ``taker`` trade while the other side's best price is within its limit (None: any price)."""
        opposite = self.symbols[taker.symbol_id][SELL if taker.side == BUY else BUY]
        events = []
        while taker.quantity_lots > 0:
            price = opposite.best_price()
            if price is None:
                break
            if limit_ticks is not None and (
                price > limit_ticks if taker.side == BUY else price < limit_ticks
            ):
                break
            maker = opposite.levels[price][0]
            quantity = min(maker.quantity_lots, taker.quantity_lots)
            maker.quantity_lots -= quantity
            taker.quantity_lots -= quantity
            self.match_number += 1
            events.append(
                _event(
                    command,
                    EventKind.EXECUTED,
                    side=taker.side,
                    session_id=taker.session_id,
                    order_id=taker.order_id,
                    other_order_id=maker.order_id,
                    price_ticks=price,
                    quantity_lots=quantity,
                    other_session_id=maker.session_id,
                    match_number=self.match_number,
                )
            )
            if maker.quantity_lots == 0:
                self._remove(maker)
        return events

    def _rest(self, order: RestingOrder) -> None:
        self.symbols[order.symbol_id][order.side].add(order)
        self.orders[(order.symbol_id, order.order_id)] = order

    def _remove(self, order: RestingOrder) -> None:
        self.symbols[order.symbol_id][order.side].remove(order)
        del self.orders[(order.symbol_id, order.order_id)]

    def _in_band(self, price_ticks: int) -> bool:
        return self.price_min_ticks <= price_ticks <= self.price_max_ticks

    def orders_by_priority(self, symbol_id: int) -> list[RestingOrder]:
        """The symbol's live orders: bids best first, then asks best first, at one price the earliest first."""
        return [
            order
            for side in self.symbols[symbol_id]
            for price in side.best_first()
            for order in side.levels[price]
        ]


def _event(
    command: Command,
    kind: EventKind,
    *,
    side: int = 0,
    reason: int = Reason.NONE,
    time_in_force: int = 0,
    symbol_id: int = -1,
    session_id: int = 0,
    order_id: int = 0,
    other_order_id: int = 0,
    price_ticks: int = 0,
    quantity_lots: int = 0,
    other_session_id: int = 0,
    match_number: int = 0,
) -> Event:
    return Event(
        kind,
        side,
        reason,
        time_in_force,
        command.symbol_id if symbol_id < 0 else symbol_id,
        session_id,
        command.sequence,
        order_id,
        other_order_id,
        price_ticks,
        quantity_lots,
        other_session_id,
        command.kind,
        match_number,
        command.timestamp_ns,
    )


def rejected(command: Command, reason: Reason) -> Event:
    """The event that refuses a command: it repeats the command's fields."""
    return _event(
        command,
        EventKind.REJECTED,
        side=command.side,
        reason=reason,
        time_in_force=command.time_in_force,
        session_id=command.session_id,
        order_id=command.order_id,
        other_order_id=command.new_order_id,
        price_ticks=command.price_ticks,
        quantity_lots=command.quantity_lots,
    )


def _canceled(command: Command, order: RestingOrder, quantity_lots: int, reason: Reason) -> Event:
    return _event(
        command,
        EventKind.CANCELED,
        side=order.side,
        reason=reason,
        symbol_id=order.symbol_id,
        session_id=order.session_id,
        order_id=order.order_id,
        price_ticks=order.price_ticks,
        quantity_lots=quantity_lots,
    )


@implements(apply_commands, NaiveBook)
def _apply_commands(book: NaiveBook, commands_address: int, count: int, events_address: int) -> int:
    block = string_at(commands_address, count * RECORD_BYTES)
    events = [event for fields in COMMAND_STRUCT.iter_unpack(block) for event in book.apply(Command(*fields))]
    memmove(
        events_address, b"".join([EVENT_STRUCT.pack(*event) for event in events]), len(events) * RECORD_BYTES
    )
    return len(events)


@implements(live_order_count, NaiveBook)
def _live_order_count(book: NaiveBook) -> int:
    return len(book.orders)


@implements(top_of_book, NaiveBook)
def _top_of_book(book: NaiveBook, symbol_id: int, out_address: int) -> int:
    words = [0, 0, 0, 0]
    present = 0
    for side in book.symbols[symbol_id]:
        price = side.best_price()
        if price is not None:
            present |= 1 << side.side
            words[2 * side.side] = price
            words[2 * side.side + 1] = sum(order.quantity_lots for order in side.levels[price])
    pack_into("<4q", view_bytes(out_address, 32), 0, *words)
    return present


@implements(export_orders, NaiveBook)
def _export_orders(book: NaiveBook, symbol_id: int, out_address: int) -> int:
    orders = book.orders_by_priority(symbol_id)
    for index, order in enumerate(orders):
        command = Command(
            CommandKind.NEW,
            side=order.side,
            symbol_id=symbol_id,
            session_id=order.session_id,
            order_id=order.order_id,
            price_ticks=order.price_ticks,
            quantity_lots=order.quantity_lots,
        )
        memmove(out_address + index * RECORD_BYTES, COMMAND_STRUCT.pack(*command), RECORD_BYTES)
    return len(orders)


@implements(match_count, NaiveBook)
def _match_count(book: NaiveBook) -> int:
    return book.match_number


@implements(restore_match_count, NaiveBook)
def _restore_match_count(book: NaiveBook, matches: int) -> None:
    book.match_number = matches
