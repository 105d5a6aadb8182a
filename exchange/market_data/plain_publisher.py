"""The publisher of a feed in plain Python: what :mod:`exchange.market_data.publisher_kernel` is tested against.

It reads events one by one, keeps the displayed orders in the sides and levels of the textbook book, and collects the
messages as objects. Event by event it makes the same messages as the compiled publisher, byte for byte.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from exchange.book.naive import BookSide, RestingOrder
from exchange.gateway.inbound import SYSTEM_EVENT
from exchange.market_data.publisher_day import CLOSING, OPENING
from exchange.market_data.publisher_kernel import PRICE_MAX_TICKS, PRICE_MIN_TICKS
from exchange.matching.match_numbers import public_match_number
from exchange.messages import BUY, SELL, Event, EventKind, SymbolState, TimeInForce, reason_text
from exchange.wire.itch50 import (
    AddOrder,
    ItchMessage,
    OrderCancel,
    OrderDelete,
    OrderExecuted,
    OrderReplace,
    StockTradingAction,
    SystemEvent,
    Trade,
)
from exchange.wire.itch50_codes import TradingState
from exchange.wire.ouch_codes import EventCode

_WORD: Final = 1 << 64


class _Arrived(NamedTuple):
    """What is left of an order that has come in and is still trading."""

    order_id: int
    side: int
    price_ticks: int
    shares: int


class PlainPublisher:
    """Makes the messages of a feed from events; they collect in ``messages``.

    Args:
        symbols: their names; the index is the ``symbol_id``.
        shard_of_symbol: for each symbol the shard that trades it; none means one shard.
        midnight_ns: what is subtracted from the times of events.
    """

    def __init__(
        self, symbols: Sequence[str], *, shard_of_symbol: Sequence[int] = (), midnight_ns: int = 0
    ) -> None:
        self.messages: list[ItchMessage] = []
        self._symbols = tuple(symbols)
        self._shards = list(shard_of_symbol) or [0] * len(symbols)
        self._midnight_ns = midnight_ns
        self._sides = [(BookSide(BUY), BookSide(SELL)) for _ in symbols]
        self._orders: dict[tuple[int, int], RestingOrder] = {}
        self._references: dict[tuple[int, int], int] = {}
        self._arrived: dict[int, _Arrived] = {}
        self._timestamp_ns = 0
        self._is_closed = False

    def publish(self, event: Event) -> None:
        """Write the messages that an event gives rise to."""
        if event.symbol_id >= len(self._symbols):
            return
        self._timestamp_ns = max(self._timestamp_ns, event.timestamp_ns - self._midnight_ns)
        match event.kind:
            case EventKind.ACCEPTED:
                self._arrived.pop(event.symbol_id, None)
                if event.time_in_force == TimeInForce.DAY:
                    self._arrive(event, event.order_id)
            case EventKind.CANCELED:
                order = self._orders.get((event.symbol_id, event.order_id))
                if order is not None:
                    self._take_away(order, event.quantity_lots)
                else:
                    self._trade_arrived(event)
            case EventKind.EXECUTED:
                self._executed(event)
            case EventKind.REPLACED:
                self._arrived.pop(event.symbol_id, None)
                self._replaced(event)
            case EventKind.TRADING_STATE:
                self._trading_state(event)
            case EventKind.ANSWER if event.side == SYSTEM_EVENT:
                self._day(chr(event.order_id >> 32))

    def _day(self, letter: str) -> None:
        if self._is_closed == (letter == EventCode.END_OF_DAY):
            return
        self._is_closed = not self._is_closed
        for code in CLOSING if self._is_closed else OPENING:
            self.messages.append(SystemEvent(0, 0, self._timestamp_ns, code))

    def _trading_state(self, event: Event) -> None:
        halted = event.quantity_lots == SymbolState.HALTED
        self.messages.append(
            StockTradingAction(
                event.symbol_id + 1,
                0,
                self._timestamp_ns,
                self._symbols[event.symbol_id],
                TradingState.HALTED if halted else TradingState.TRADING,
                " ",
                reason_text(event.order_id),
            )
        )

    def _arrive(self, event: Event, order_id: int) -> None:
        if not PRICE_MIN_TICKS <= event.price_ticks <= PRICE_MAX_TICKS:
            return
        arrived = _Arrived(order_id, event.side, event.price_ticks, event.quantity_lots)
        if self._reaches_other_side(event.symbol_id, event.side, event.price_ticks):
            self._arrived[event.symbol_id] = arrived
        else:
            self._display(event.symbol_id, arrived)

    def _reaches_other_side(self, symbol_id: int, side: int, price_ticks: int) -> bool:
        best = self._sides[symbol_id][1 - side].best_price()
        if best is None:
            return False
        return price_ticks >= best if side == BUY else price_ticks <= best

    def _display(self, symbol_id: int, new: _Arrived) -> None:
        if (symbol_id, new.order_id) in self._orders:
            return
        self._rest(symbol_id, new, new.order_id)
        self.messages.append(
            AddOrder(
                symbol_id + 1,
                0,
                self._timestamp_ns,
                new.order_id % _WORD,
                "S" if new.side == SELL else "B",
                new.shares,
                self._symbols[symbol_id],
                new.price_ticks,
            )
        )

    def _rest(self, symbol_id: int, new: _Arrived, reference: int) -> None:
        order = RestingOrder(new.order_id, 0, symbol_id, new.side, new.price_ticks, new.shares)
        self._sides[symbol_id][new.side].add(order)
        self._orders[symbol_id, new.order_id] = order
        self._references[symbol_id, new.order_id] = reference % _WORD

    def _remove(self, order: RestingOrder) -> int:
        """Take an order out; the number by which the feed knew it."""
        self._sides[order.symbol_id][order.side].remove(order)
        del self._orders[order.symbol_id, order.order_id]
        return self._references.pop((order.symbol_id, order.order_id))

    def _take_away(self, order: RestingOrder, shares: int) -> None:
        locate = order.symbol_id + 1
        if shares < order.quantity_lots:
            order.quantity_lots -= shares
            reference = self._references[order.symbol_id, order.order_id]
            self.messages.append(OrderCancel(locate, 0, self._timestamp_ns, reference, shares))
        else:
            self.messages.append(OrderDelete(locate, 0, self._timestamp_ns, self._remove(order)))

    def _executed(self, event: Event) -> None:
        self._trade_maker(event)
        if not self._trade_arrived(event):
            taker = self._orders.get((event.symbol_id, event.order_id))
            if taker is not None:
                self._take_away(taker, event.quantity_lots)

    def _trade_maker(self, event: Event) -> None:
        locate, shares = event.symbol_id + 1, event.quantity_lots
        match_number = public_match_number(
            event.match_number, self._shards[event.symbol_id], max(self._shards) + 1
        )
        maker = self._orders.get((event.symbol_id, event.other_order_id))
        if maker is not None:
            reference = self._references[event.symbol_id, maker.order_id]
            if shares < maker.quantity_lots:
                maker.quantity_lots -= shares
            else:
                self._remove(maker)
            self.messages.append(
                OrderExecuted(locate, 0, self._timestamp_ns, reference, shares, match_number)
            )
        elif PRICE_MIN_TICKS <= event.price_ticks <= PRICE_MAX_TICKS:
            stock = self._symbols[event.symbol_id]
            self.messages.append(
                Trade(locate, 0, self._timestamp_ns, 0, "B", shares, stock, event.price_ticks, match_number)
            )

    def _trade_arrived(self, event: Event) -> bool:
        arrived = self._arrived.get(event.symbol_id)
        if arrived is None or arrived.order_id != event.order_id:
            return False
        left = arrived._replace(shares=arrived.shares - event.quantity_lots)
        if left.shares == 0:
            del self._arrived[event.symbol_id]
        elif self._reaches_other_side(event.symbol_id, left.side, left.price_ticks):
            self._arrived[event.symbol_id] = left
        else:
            del self._arrived[event.symbol_id]
            self._display(event.symbol_id, left)
        return True

    def _replaced(self, event: Event) -> None:
        symbol_id, new_id = event.symbol_id, event.other_order_id
        order = self._orders.get((symbol_id, event.order_id))
        if order is None:
            self._arrive(event, new_id)
            return
        if event.price_ticks == order.price_ticks and event.quantity_lots <= order.quantity_lots:
            if event.quantity_lots < order.quantity_lots:
                self._take_away(order, order.quantity_lots - event.quantity_lots)
            del self._orders[symbol_id, order.order_id]
            self._references[symbol_id, new_id] = self._references.pop((symbol_id, order.order_id))
            order.order_id = new_id
            self._orders[symbol_id, new_id] = order
            return
        rests = PRICE_MIN_TICKS <= event.price_ticks <= PRICE_MAX_TICKS and not self._reaches_other_side(
            symbol_id, event.side, event.price_ticks
        )
        if new_id == order.order_id or not rests:
            self._take_away(order, order.quantity_lots)
            self._arrive(event, new_id)
            return
        reference = self._remove(order)
        new = _Arrived(new_id, event.side, event.price_ticks, event.quantity_lots)
        self._rest(symbol_id, new, new_id)
        self.messages.append(
            OrderReplace(
                symbol_id + 1,
                0,
                self._timestamp_ns,
                reference,
                new_id % _WORD,
                event.quantity_lots,
                event.price_ticks,
            )
        )
