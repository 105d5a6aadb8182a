"""A subscriber's book: best bid and ask, known from the exchange's events alone.

Whoever listens to an exchange sees its events and never its books. So the events have to say enough to build
the book again, and this module is the proof: it knows nothing of the matching engine. It is also what a
replay is judged by, for a recorded market's best prices are compared with these.

Rules:

* The events of one symbol, from an empty book on, all of them and in order: one left out and the book is
  wrong.
* The book is right *between commands*. Within one command's events (they share their ``command_sequence``) it
  passes through states that no one sees: an aggressive order is in the book from its acceptance until its
  trades have used it up, or its remainder is cancelled. Hence no event has to say which orders may rest.
* Quantities are counted up and down and never looked up, so that a mistake shows: an event that names an
  order which is not there is a KeyError.

A level is a price and the lots that wait there. The best price is the top of a heap in which prices that have
emptied stay until they come to the top ("lazy deletion"): each price is pushed and popped once for each time
that it fills."""

from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.messages import BUY, EVENT_STRUCT, SELL, Event, EventKind


class TopOfBook(NamedTuple):
    """Best prices in ticks and what waits there in lots; an empty side is 0, 0.

    The order of the fields is that of the books' ``top_of_book``.
    """

    bid_price_ticks: int
    bid_quantity_lots: int
    ask_price_ticks: int
    ask_quantity_lots: int


class _Order:
    """One live order, as the events tell of it."""

    __slots__ = ("price_ticks", "quantity_lots", "side")

    def __init__(self, side: int, price_ticks: int, quantity_lots: int) -> None:
        self.side = side
        self.price_ticks = price_ticks
        self.quantity_lots = quantity_lots


class _LevelSide:
    """The levels of one side; a key is the price, negative for bids, so that the least key is the best."""

    def __init__(self, side: int) -> None:
        self._sign: Final = -1 if side == BUY else 1
        self._lots_at: dict[int, int] = {}
        self._keys: list[int] = []

    def add(self, price_ticks: int, quantity_lots: int) -> None:
        """Let lots (or, if negative, fewer lots) wait at a price."""
        key = self._sign * price_ticks
        lots = self._lots_at.get(key)
        if lots is None:
            heappush(self._keys, key)
            lots = 0
        if lots + quantity_lots:
            self._lots_at[key] = lots + quantity_lots
        else:
            self._lots_at.pop(key, None)

    def best(self) -> tuple[int, int]:
        """The best price and its lots; 0, 0 if there are none."""
        keys = self._keys
        while keys:
            lots = self._lots_at.get(keys[0])
            if lots is not None:
                return self._sign * keys[0], lots
            heappop(keys)
        return 0, 0


class BookBuilder:
    """The book of one symbol, as far as its events tell."""

    def __init__(self) -> None:
        self._orders: dict[int, _Order] = {}
        self._sides: Final = (_LevelSide(BUY), _LevelSide(SELL))

    def apply(self, event: Event) -> None:
        """Take in the next event.

        Raises:
            KeyError: it names an order of which no event before told.
        """
        match event.kind:
            case EventKind.ACCEPTED:
                self._enter(event.order_id, event.side, event.price_ticks, event.quantity_lots)
            case EventKind.EXECUTED:
                self._reduce(event.order_id, event.quantity_lots)
                self._reduce(event.other_order_id, event.quantity_lots)
            case EventKind.CANCELED:
                self._reduce(event.order_id, event.quantity_lots)
            case EventKind.REPLACED:
                self._reduce(event.order_id, self._orders[event.order_id].quantity_lots)
                self._enter(event.other_order_id, event.side, event.price_ticks, event.quantity_lots)

    def top(self) -> TopOfBook:
        """The best prices; ask between commands."""
        return TopOfBook(*self._sides[BUY].best(), *self._sides[SELL].best())

    def live_order_count(self) -> int:
        """How many orders rest."""
        return len(self._orders)

    def _enter(self, order_id: int, side: int, price_ticks: int, quantity_lots: int) -> None:
        self._orders[order_id] = _Order(side, price_ticks, quantity_lots)
        self._sides[side].add(price_ticks, quantity_lots)

    def _reduce(self, order_id: int, quantity_lots: int) -> None:
        order = self._orders[order_id]
        self._sides[order.side].add(order.price_ticks, -quantity_lots)
        order.quantity_lots -= quantity_lots
        if order.quantity_lots == 0:
            del self._orders[order_id]


def tops_after_commands(events: NDArray[Any]) -> NDArray[np.int64]:
    """The best prices after each command, as a subscriber sees them.

    Args:
        events: shape (n,), ``EVENT_DTYPE``: all events of one symbol, in order.

    Returns:
        Shape (commands, 4), int64, a row for each distinct ``command_sequence``, with the columns of
        :class:`TopOfBook`.

    Raises:
        KeyError: the events do not begin with an empty book, or some are missing.
    """
    book = BookBuilder()
    tops: list[TopOfBook] = []
    previous_sequence = -1
    for fields in EVENT_STRUCT.iter_unpack(events.tobytes()):
        event = Event._make(fields)
        if event.command_sequence != previous_sequence and previous_sequence != -1:
            tops.append(book.top())
        previous_sequence = event.command_sequence
        book.apply(event)
    if previous_sequence != -1:
        tops.append(book.top())
    return np.array(tops, np.int64).reshape(-1, len(TopOfBook._fields))
