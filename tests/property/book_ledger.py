"""Keeps the books from the events alone, and holds every event against the rules.

A client or a market-data reader sees nothing but events, so these must add up to the book by themselves. The ledger
knows of each resting order what the events have told, checks that no lot appears or disappears, that each trade meets
the very order whose turn it is, and can be compared with what a book exports. It shares no code with any book.
"""

from dataclasses import dataclass

from exchange.messages import (
    ALL_SYMBOLS,
    BUY,
    Command,
    CommandKind,
    Event,
    EventKind,
    OrderType,
    Reason,
    TimeInForce,
)


@dataclass
class Entry:
    """A resting order as the events tell it; ``arrival`` orders those of one price."""

    order_id: int
    session_id: int
    side: int
    price_ticks: int
    open_lots: int
    arrival: int

    def rank(self) -> tuple[int, int, int]:
        """Sorts the orders of a symbol by side, then by priority."""
        return self.side, -self.price_ticks if self.side == BUY else self.price_ticks, self.arrival


class Ledger:
    """The resting orders of all symbols, by symbol and id."""

    def __init__(self, symbol_count: int) -> None:
        self.symbols: list[dict[int, Entry]] = [{} for _ in range(symbol_count)]
        self.arrivals = 0
        self.match_number = 0

    def follow(self, command: Command, events: list[Event]) -> None:
        """Take in the events of one command; an AssertionError says which of them cannot be."""
        assert all(event.command_kind == command.kind for event in events)
        assert all(event.command_sequence == command.sequence for event in events)
        answer, *rest = events
        if answer.kind == EventKind.REJECTED:
            assert answer.reason >= Reason.UNKNOWN_COMMAND
            assert not rest
            return
        match command.kind:
            case CommandKind.NEW:
                assert answer.kind == EventKind.ACCEPTED
                assert answer.order_id not in self.symbols[command.symbol_id]
                taker = Entry(
                    answer.order_id,
                    answer.session_id,
                    answer.side,
                    answer.price_ticks,
                    answer.quantity_lots,
                    0,
                )
                may_rest = command.order_type == OrderType.LIMIT and command.time_in_force == TimeInForce.DAY
                self._enter(command, taker, rest, may_rest)
            case CommandKind.CANCEL:
                assert not rest
                self._cancel(answer, Reason.BY_CLIENT)
            case CommandKind.REPLACE:
                self._replace(command, answer, rest)
            case CommandKind.MASS_CANCEL:
                self._mass_cancel(command, events)
            case _:
                raise AssertionError(f"a command of kind {command.kind} was not refused")

    def _enter(self, command: Command, taker: Entry, events: list[Event], may_rest: bool) -> None:
        opposite = self.symbols[command.symbol_id]
        limited = command.kind == CommandKind.REPLACE or command.order_type == OrderType.LIMIT
        for event in events:
            if event.kind == EventKind.CANCELED:
                assert event.reason == Reason.IMMEDIATE_REMAINDER
                assert not may_rest
                assert event is events[-1]
                assert event.quantity_lots == taker.open_lots > 0
                taker.open_lots = 0
                break
            assert event.kind == EventKind.EXECUTED
            maker = min((entry for entry in opposite.values() if entry.side != taker.side), key=Entry.rank)
            assert (event.other_order_id, event.other_session_id) == (maker.order_id, maker.session_id)
            assert (event.order_id, event.session_id, event.side) == (
                taker.order_id,
                taker.session_id,
                taker.side,
            )
            assert event.price_ticks == maker.price_ticks
            better = taker.price_ticks - maker.price_ticks
            assert not limited or (better if taker.side == BUY else -better) >= 0
            assert event.quantity_lots == min(maker.open_lots, taker.open_lots) > 0
            self.match_number += 1
            assert event.match_number == self.match_number
            self._take(event.symbol_id, maker, event.quantity_lots)
            taker.open_lots -= event.quantity_lots
        if taker.open_lots:
            assert may_rest
            self.arrivals += 1
            taker.arrival = self.arrivals
            self.symbols[command.symbol_id][taker.order_id] = taker

    def _replace(self, command: Command, answer: Event, rest: list[Event]) -> None:
        open_lots = self.symbols[command.symbol_id][answer.order_id].open_lots
        expected_lots = command.quantity_lots
        if command.liability_lots:
            expected_lots += open_lots - command.liability_lots
        if expected_lots <= 0:
            assert (answer.quantity_lots, answer.other_order_id) == (open_lots, command.new_order_id)
            assert not rest
            self._cancel(answer, Reason.BY_CLIENT)
            return
        assert (answer.kind, answer.quantity_lots) == (EventKind.REPLACED, expected_lots)
        entry = self.symbols[command.symbol_id].pop(answer.order_id)
        assert (answer.side, answer.session_id) == (entry.side, entry.session_id)
        assert answer.other_order_id not in self.symbols[command.symbol_id]
        keeps_place = answer.price_ticks == entry.price_ticks and answer.quantity_lots <= entry.open_lots
        entry.order_id, entry.price_ticks = answer.other_order_id, answer.price_ticks
        entry.open_lots = answer.quantity_lots
        if keeps_place:
            assert not rest
            self.symbols[command.symbol_id][entry.order_id] = entry
        else:
            self._enter(command, entry, rest, may_rest=True)

    def _mass_cancel(self, command: Command, events: list[Event]) -> None:
        *cancelled, end = events
        assert (end.kind, end.quantity_lots) == (EventKind.MASS_CANCELED, len(cancelled))
        symbol_ids = range(len(self.symbols)) if command.symbol_id == ALL_SYMBOLS else [command.symbol_id]
        expected = [
            (symbol_id, entry.order_id)
            for symbol_id in symbol_ids
            for entry in self.by_priority(symbol_id)
            if entry.session_id == command.session_id
        ]
        assert [(event.symbol_id, event.order_id) for event in cancelled] == expected
        is_by_operator = command.quantity_lots == Reason.BY_OPERATOR
        for event in cancelled:
            self._cancel(event, Reason.BY_OPERATOR if is_by_operator else Reason.MASS_CANCEL)

    def _cancel(self, event: Event, reason: Reason) -> None:
        entry = self.symbols[event.symbol_id][event.order_id]
        assert (event.kind, event.reason) == (EventKind.CANCELED, reason)
        assert (event.side, event.session_id, event.price_ticks) == (
            entry.side,
            entry.session_id,
            entry.price_ticks,
        )
        self._take(event.symbol_id, entry, event.quantity_lots)

    def _take(self, symbol_id: int, entry: Entry, quantity_lots: int) -> None:
        assert 0 < quantity_lots <= entry.open_lots
        entry.open_lots -= quantity_lots
        if entry.open_lots == 0:
            del self.symbols[symbol_id][entry.order_id]

    def by_priority(self, symbol_id: int) -> list[Entry]:
        """Bids best first, then asks best first, at one price the earliest first."""
        return sorted(self.symbols[symbol_id].values(), key=Entry.rank)

    def check_book(self, symbol_id: int, orders: list[Command], top: tuple[int, list[int]]) -> None:
        """What a book exports is what its events have told; and the book is not crossed."""
        entries = self.by_priority(symbol_id)
        assert [
            (order.side, order.price_ticks, order.order_id, order.quantity_lots, order.session_id)
            for order in orders
        ] == [
            (entry.side, entry.price_ticks, entry.order_id, entry.open_lots, entry.session_id)
            for entry in entries
        ]
        present, words = 0, [0, 0, 0, 0]
        for side in (0, 1):
            prices = [entry.price_ticks for entry in entries if entry.side == side]
            if prices:
                present |= 1 << side
                lots = sum(e.open_lots for e in entries if e.side == side and e.price_ticks == prices[0])
                words[2 * side : 2 * side + 2] = [prices[0], lots]
        assert top == (present, words)
        assert present != 3 or words[0] < words[2], "crossed"
