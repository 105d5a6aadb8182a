"""Between the tester's events and a book's 64-byte records: one event in, what came of it out.

The interesting part is where two exchanges mean different things by one word. The tester's words, and how
they are said to our book:

=========== =========================================================================================
event       commands
=========== =========================================================================================
new         NEW; ``IOC`` is the time in force ``IMMEDIATE_OR_CANCEL``, ``MARKET`` the order type
cancel      CANCEL of all lots
reduce      CANCEL of so many lots, which costs no priority. Ours would take "more than there is" for "all";
            the tester calls it an error, so it is refused here, by the open quantity that the book exports
replace     REPLACE under the same id. Only if our book would let the order keep its place (same price, no
            more lots) it is CANCEL and NEW: the tester's replace *always* goes to the end of the queue
clear       a MASS_CANCEL for each owner with orders in the symbol: ours belongs to one session
=========== =========================================================================================

An owner becomes a session and a symbol a symbol id, numbered as they first appear. What our exchange does not
have is rejected with a reason that begins with ``UNSUPPORTED_``; the tester's engine knows no such reason, so
it always shows as a difference and can never pass for agreement.

Rules: the only state kept here, beside those numbers, is what the book said last: its own export of each
symbol. Trades are read from the book's events, the resting orders from its export, their number from
``live_order_count``, so that three views of the book are compared and not one."""

import hashlib
import json
from typing import Any, Final, NamedTuple

from exchange.book import build_book
from exchange.book.config import BookConfig, LadderBookConfig, NaiveBookConfig
from exchange.book.protocol import apply_commands, events_bound, export_orders, live_order_count
from exchange.conformance.units import LOTS_PER_UNIT, Units
from exchange.conformance.wire import Config, MarketEvent
from exchange.limits import SESSIONS_MAX
from exchange.messages import (
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
from exchange.native import Arena, view_bytes

CAPACITY_ORDERS: Final = 1 << 16
SYMBOLS: Final = 1024
_BATCH_COMMANDS: Final = 256

BOOKS: Final[dict[str, BookConfig]] = {
    "naive": NaiveBookConfig(capacity_orders=CAPACITY_ORDERS),
    "ladder": LadderBookConfig(capacity_orders=CAPACITY_ORDERS, huge_pages="never"),
}
"""The books that can be asked for. A test book is small, so huge pages would only cost the time to clear them."""

_REASONS: Final = {
    Reason.UNKNOWN_ORDER: "ORDER_NOT_ACTIVE",
    Reason.DUPLICATE_ORDER_ID: "DUPLICATE_ORDER_ID",
}
"""The protocol's words for what its events can run into; for all else it has one word for each operation."""


class Observation(NamedTuple):
    """What came of one event: rejected with a reason, or applied (no reason), and the trades, in order."""

    reason: str | None = None
    message: str | None = None
    trades: tuple[dict[str, Any], ...] = ()


class Translator:
    """One book and its numbering of symbols and owners, for one run.

    Args:
        book_kind: a key of ``BOOKS``.
        config: the semantics that the run asks for.
        lots_per_unit: how many lots make a quantity of 1.
    """

    def __init__(self, book_kind: str, config: Config, lots_per_unit: int = LOTS_PER_UNIT) -> None:
        self.units = Units(config.tick_size, config.quantity_decimal_places, lots_per_unit)
        self._refusal = _unsupported(config)
        self._symbol_ids: dict[str, int] = {}
        self._sessions: dict[int, int] = {}
        self._owners: list[int] = []
        self._resting: list[list[Command]] = []
        self._texts: dict[str, str] = {}
        self._sequence = 0
        self._book = build_book(BOOKS[book_kind], SYMBOLS)
        events = events_bound(CAPACITY_ORDERS, _BATCH_COMMANDS)
        records = _BATCH_COMMANDS + events + CAPACITY_ORDERS
        self._arena = Arena.private((records + 8) * RECORD_BYTES, "never")
        self._commands_at = self._arena.allocate(_BATCH_COMMANDS * RECORD_BYTES)
        self._events_at = self._arena.allocate(events * RECORD_BYTES)
        self._orders_at = self._arena.allocate(CAPACITY_ORDERS * RECORD_BYTES)
        self._apply([])  # a compiled book compiles at its first call: let that be before the first event
        self._export(0)

    def apply(self, event: MarketEvent, index: int) -> Observation:
        """Apply one event to the book and say what came of it."""
        symbol = event.symbol.strip()
        if symbol not in self._symbol_ids:
            if event.op not in ("new", "clear"):
                return Observation("ORDER_NOT_ACTIVE", "no such symbol")
            if len(self._symbol_ids) == SYMBOLS:
                return Observation("UNSUPPORTED_SYMBOL", f"more than {SYMBOLS} symbols")
            self._symbol_ids[symbol] = len(self._symbol_ids)
            self._resting.append([])
            self._texts[symbol] = self._state_text(symbol)
        if self._refusal is not None:
            return self._refusal
        commands = self._translate(event, self._symbol_ids[symbol])
        if isinstance(commands, Observation):
            return commands
        timestamp_ns = index if event.timestamp_ns is None else event.timestamp_ns
        events = self._apply([command._replace(timestamp_ns=timestamp_ns) for command in commands])
        observation = self._observe(event, symbol, events)
        self._resting[self._symbol_ids[symbol]] = self._export(self._symbol_ids[symbol])
        self._texts[symbol] = self._state_text(symbol)
        return observation

    def resting_order_count(self) -> int:
        """How many orders rest, over all symbols."""
        return int(live_order_count(self._book.state))

    def state_text(self) -> str:
        """Every resting order in its place, as the compact JSON that the protocol hashes."""
        books = ",".join(self._texts[symbol] for symbol in sorted(self._texts))
        return f'{{"books":[{books}]}}'

    def state_hash(self) -> str:
        """SHA-256 of :meth:`state_text`, hexadecimal."""
        return hashlib.sha256(self.state_text().encode()).hexdigest()

    def _translate(self, event: MarketEvent, symbol_id: int) -> list[Command] | Observation:
        """The commands that say the event to our book, or a rejection of what it has no words for."""
        if event.op == "clear":
            sessions = {order.session_id for order in self._resting[symbol_id]}
            return [
                Command(CommandKind.MASS_CANCEL, symbol_id=symbol_id, session_id=session_id)
                for session_id in sorted(sessions)
            ]
        assert event.order_id is not None  # read_message has seen to it
        if event.op == "new":
            return self._new(event, symbol_id, event.order_id)
        order = next((order for order in self._resting[symbol_id] if order.order_id == event.order_id), None)
        if order is None:  # any command about it will do: the book is to say that it does not know the order
            return [Command(CommandKind.CANCEL, symbol_id=symbol_id, order_id=event.order_id)]
        if event.op == "cancel":
            return [_cancel(order)]
        if event.op == "reduce":
            return self._reduce(event, order)
        return self._replace(event, order)

    def _new(self, event: MarketEvent, symbol_id: int, order_id: int) -> list[Command] | Observation:
        if event.order_type == "FOK":
            return Observation("UNSUPPORTED_ORDER_TYPE", "the exchange has no fill-or-kill orders")
        assert event.quantity is not None
        lots = self.units.lots(event.quantity)
        if lots is None:
            return self._unsupported_quantity(event.quantity)
        if event.owner not in self._sessions:
            if len(self._owners) == SESSIONS_MAX:
                return Observation("UNSUPPORTED_OWNER", f"more than {SESSIONS_MAX} owners")
            self._sessions[event.owner] = len(self._owners)
            self._owners.append(event.owner)
        is_market = event.order_type == "MARKET"
        return [
            Command(
                CommandKind.NEW,
                side=BUY if event.side == "BUY" else SELL,
                time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL
                if event.order_type == "IOC"
                else TimeInForce.DAY,
                order_type=OrderType.MARKET if is_market else OrderType.LIMIT,
                symbol_id=symbol_id,
                session_id=self._sessions[event.owner],
                order_id=order_id,
                price_ticks=0 if is_market or event.price is None else self.units.ticks(event.price),
                quantity_lots=lots,
            )
        ]

    def _reduce(self, event: MarketEvent, order: Command) -> list[Command] | Observation:
        assert event.quantity is not None
        if event.quantity > order.quantity_lots / self.units.lots_per_unit:
            return Observation("INVALID_ORDER", "more than the order has left")
        lots = self.units.lots(event.quantity)
        return self._unsupported_quantity(event.quantity) if lots is None else [_cancel(order, lots)]

    def _replace(self, event: MarketEvent, order: Command) -> list[Command] | Observation:
        ticks = order.price_ticks if event.price is None else self.units.ticks(event.price)
        lots = order.quantity_lots if event.quantity is None else self.units.lots(event.quantity)
        if lots is None:
            return self._unsupported_quantity(event.quantity)
        if ticks == order.price_ticks and 0 < lots <= order.quantity_lots:
            return [_cancel(order), order._replace(quantity_lots=lots)]
        return [
            Command(
                CommandKind.REPLACE,
                symbol_id=order.symbol_id,
                session_id=order.session_id,
                order_id=order.order_id,
                new_order_id=order.order_id,
                price_ticks=ticks,
                quantity_lots=lots,
            )
        ]

    def _unsupported_quantity(self, quantity: float | None) -> Observation:
        return Observation(
            "UNSUPPORTED_QUANTITY",
            f"{quantity} is not a whole number of 1/{self.units.lots_per_unit}, or more than 32 bits of them",
        )

    def _observe(self, event: MarketEvent, symbol: str, events: list[Event]) -> Observation:
        """What the book's events say, in the protocol's words."""
        refused = next((answer for answer in events if answer.kind == EventKind.REJECTED), None)
        if refused is None:
            return Observation(
                trades=tuple(self._trade(symbol, said) for said in events if said.kind == EventKind.EXECUTED)
            )
        is_live = any(order.order_id == event.order_id for order in self._resting[refused.symbol_id])
        if event.op == "new" and is_live:  # of several faults of one order the protocol names this one first
            reason = _REASONS[Reason.DUPLICATE_ORDER_ID]
        else:
            other = "INVALID_REPLACEMENT" if event.op == "replace" else "INVALID_ORDER"
            reason = _REASONS.get(Reason(refused.reason), other)
        return Observation(reason, Reason(refused.reason).name)

    def _trade(self, symbol: str, executed: Event) -> dict[str, Any]:
        ids = (executed.order_id, executed.other_order_id)
        buyer, seller = ids if executed.side == BUY else reversed(ids)
        return {
            "symbol": symbol,
            "buy_order_id": buyer,
            "sell_order_id": seller,
            "price": self.units.price_text(executed.price_ticks),
            "quantity": self.units.quantity_text(executed.quantity_lots),
        }

    def _apply(self, commands: list[Command]) -> list[Event]:
        """Stamp the commands and apply them, in batches as a shard would."""
        said: list[Event] = []
        for start in range(0, max(len(commands), 1), _BATCH_COMMANDS):
            batch = commands[start : start + _BATCH_COMMANDS]
            block = b""
            for command in batch:
                self._sequence += 1
                block += COMMAND_STRUCT.pack(*command._replace(sequence=self._sequence))
            view_bytes(self._commands_at, len(block))[:] = block
            count = apply_commands(self._book.state, self._commands_at, len(batch), self._events_at)
            records = bytes(view_bytes(self._events_at, count * RECORD_BYTES))
            said += [Event(*fields) for fields in EVENT_STRUCT.iter_unpack(records)]
        return said

    def _export(self, symbol_id: int) -> list[Command]:
        """The live orders of a symbol in priority order, as the book exports them."""
        count = export_orders(self._book.state, symbol_id, self._orders_at)
        records = bytes(view_bytes(self._orders_at, count * RECORD_BYTES))
        return [Command(*fields) for fields in COMMAND_STRUCT.iter_unpack(records)]

    def _state_text(self, symbol: str) -> str:
        """One symbol's part of :meth:`state_text`: keys in alphabetical order, orders by priority."""
        sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        for order in self._resting[self._symbol_ids[symbol]]:
            sides[order.side].append(
                {
                    "order_id": order.order_id,
                    "order_type": "LIMIT",
                    "owner": self._owners[order.session_id],
                    "price": self.units.price_text(order.price_ticks),
                    "remaining_quantity": self.units.quantity_text(order.quantity_lots),
                }
            )
        book = {"asks": sides[SELL], "bids": sides[BUY], "symbol": symbol}
        return json.dumps(book, separators=(",", ":"), ensure_ascii=False)


def _unsupported(config: Config) -> Observation | None:
    """The answer to every event of a run that asks for other rules than ours; None if it asks for ours."""
    if config.matching_algorithm != "fifo":
        return Observation("UNSUPPORTED_MATCHING_ALGORITHM", "the exchange matches by price and time only")
    if config.self_trade_policy != "NONE":
        return Observation("UNSUPPORTED_SELF_TRADE_POLICY", "the exchange lets a session trade with itself")
    return None


def _cancel(order: Command, quantity_lots: int = 0) -> Command:
    """Take lots from an order, all of them by default."""
    return Command(
        CommandKind.CANCEL,
        symbol_id=order.symbol_id,
        session_id=order.session_id,
        order_id=order.order_id,
        quantity_lots=quantity_lots,
    )
