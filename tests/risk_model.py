"""Risk in plain Python, for the tests: what the compiled checks have to decide, and what they have to count.

The model knows orders as the gateway does: what a client has asked for it learns from requests, what became of it from
events. It keeps one number where the exchange keeps two words, integers of any size where the exchange has 64 bits, and
takes its time. What it is told about a request is only what the exchange decided on other grounds than risk.
"""

from dataclasses import dataclass, field

from exchange.gateway.order_table import USER_REFERENCE_MASK
from exchange.messages import CommandKind, Event, EventKind
from exchange.risk.names import SESSION_LIMITS, SYMBOL_LIMITS
from exchange.risk.protocol import Refusal

SECOND = 10**9
UNLIMITED = 1 << 62


@dataclass
class ModelOrder:
    """An order that lives as far as its client has been told, or is on its way."""

    symbol: int
    price: int
    value_ticks: int
    liability: int
    open_lots: int
    """As far as events have told; of an order without an answer what was asked for."""
    added: int = 0
    """Of a replacement: what it counts for until its answer."""
    is_answered: bool = False


@dataclass
class ModelSession:
    """What a session may, and what it has."""

    limits: dict[str, int] = field(default_factory=lambda: dict(SESSION_LIMITS.off))
    is_killed: bool = False
    orders: dict[int, ModelOrder] = field(default_factory=dict)
    lacking: int = 0
    """Of the bucket, in billionths of an order, at ``filled_ns``."""
    filled_ns: int = 0
    open_orders: int = 0
    exposure: int = 0
    refused: dict[str, int] = field(default_factory=dict)


@dataclass
class ModelSymbol:
    """What may be asked for in a symbol, and around what."""

    limits: dict[str, int] = field(default_factory=lambda: dict(SYMBOL_LIMITS.off))
    reference: int | None = None


def is_above(limit: int, used: int) -> bool:
    """Whether a limit, 0 for none, is broken."""
    return limit != 0 and used > limit


class RiskModel:
    """Sessions and symbols, numbered from 0."""

    def __init__(self, sessions: int, symbols: int) -> None:
        self.sessions = [ModelSession() for _ in range(sessions)]
        self.symbols = [ModelSymbol() for _ in range(symbols)]

    def enter(
        self, session_id: int, number: int, symbol_id: int, price: int | None, quantity: int, now_ns: int
    ) -> Refusal:
        """A new order; ``price`` is None for a market order."""
        session, symbol = self.sessions[session_id], self.symbols[symbol_id]
        ticks = price if price is not None else symbol.reference
        value_ticks = 0 if ticks is None else abs(ticks)
        value = quantity * value_ticks
        refusal = self._judge(session, symbol, quantity, value, price, now_ns)
        if refusal == Refusal.NONE and ticks is None:
            limited = (session.limits["order_notional_max"], symbol.limits["order_notional_max"])
            if any((*limited, session.limits["exposure_max"])):
                refusal = Refusal.MARKET
        if refusal == Refusal.NONE and is_above(session.limits["open_orders_max"], session.open_orders + 1):
            refusal = Refusal.OPEN_ORDERS
        if refusal == Refusal.NONE and is_above(
            session.limits["exposure_max"] or UNLIMITED, session.exposure + value
        ):
            refusal = Refusal.EXPOSURE
        if self._decide(session, refusal, now_ns):
            price = -1 if price is None else price
            session.orders[number] = ModelOrder(symbol_id, price, value_ticks, quantity, quantity)
            session.open_orders += 1
            session.exposure += value
        return refusal

    def replace(
        self, session_id: int, original: int, number: int, price: int, total: int, now_ns: int
    ) -> Refusal:
        """A replace of an order that the session has."""
        session = self.sessions[session_id]
        old = session.orders[original]
        change, added = self._change(old, total, abs(price))
        if price == old.price and total < old.liability:
            refusal = Refusal.KILLED if session.is_killed else Refusal.NONE
            if refusal != Refusal.NONE:
                self._decide(session, refusal, now_ns)
                return refusal
        else:
            symbol = self.symbols[old.symbol]
            refusal = self._judge(session, symbol, total, total * abs(price), price, now_ns)
            if refusal == Refusal.NONE and (
                (change > 0 and is_above(session.limits["exposure_max"], session.exposure + change))
                or session.exposure + added > UNLIMITED
            ):
                refusal = Refusal.EXPOSURE
            if not self._decide(session, refusal, now_ns):
                return refusal
        session.orders[number] = ModelOrder(old.symbol, price, abs(price), total, total, added)
        session.exposure += added
        return refusal

    @staticmethod
    def _change(old: ModelOrder, total: int, ticks: int) -> tuple[int, int]:
        """By how much a replace changes the exposure at most, and what is counted until it is known.

        What the order has open when it is replaced lies between nothing and what is known of it. What is added has to
        do for all of that; whether it is allowed depends on the most that there can be afterwards.
        """
        most = min(old.liability, old.open_lots) if old.is_answered else old.liability
        known = most if old.is_answered else 0
        growth = total - old.liability
        outcomes = [(growth + left) * ticks - left * old.value_ticks for left in (0, most)]
        added = max(0, *outcomes)
        if ticks >= old.value_ticks:
            return outcomes[1], added
        return growth * ticks - known * (old.value_ticks - ticks), added

    def _judge(
        self,
        session: ModelSession,
        symbol: ModelSymbol,
        quantity: int,
        value: int,
        price: int | None,
        now_ns: int,
    ) -> Refusal:
        if session.is_killed:
            return Refusal.KILLED
        rate, burst = session.limits["orders_per_second"], session.limits["orders_burst"]
        if rate and self._lacking(session, now_ns) + SECOND > burst * SECOND:
            return Refusal.RATE
        if any(is_above(one.limits["order_lots_max"], quantity) for one in (session, symbol)):
            return Refusal.LOTS
        if any(is_above(one.limits["order_notional_max"], value) for one in (session, symbol)):
            return Refusal.NOTIONAL
        collar, reference = symbol.limits["collar_basis_points"], symbol.reference
        if collar and reference is not None and price is not None:
            return (
                Refusal.COLLAR if abs(price - reference) * 10_000 > abs(reference) * collar else Refusal.NONE
            )
        return Refusal.NONE

    @staticmethod
    def _lacking(session: ModelSession, now_ns: int) -> int:
        elapsed_ns = max(now_ns - session.filled_ns, 0)
        return max(0, session.lacking - elapsed_ns * session.limits["orders_per_second"])

    def _decide(self, session: ModelSession, refusal: Refusal, now_ns: int) -> bool:
        """Count what has been decided; whether the order comes in."""
        if refusal not in (Refusal.KILLED, Refusal.RATE) and session.limits["orders_per_second"]:
            session.lacking = self._lacking(session, now_ns) + SECOND
            session.filled_ns = now_ns
        if refusal != Refusal.NONE:
            name = refusal.name.lower()
            session.refused[name] = session.refused.get(name, 0) + 1
        return refusal == Refusal.NONE

    def reduce(self, session_id: int, number: int, total: int) -> None:
        """A cancel or a modification names a smaller total."""
        self.sessions[session_id].orders[number].liability = total

    def hear(self, event: Event) -> None:
        """What has happened, in its order."""
        session = self.sessions[event.session_id]
        number = event.order_id & USER_REFERENCE_MASK
        other = event.other_order_id & USER_REFERENCE_MASK
        is_of_replace = event.command_kind == CommandKind.REPLACE and other != number
        match event.kind:
            case EventKind.ACCEPTED:
                session.orders[number].is_answered = True
            case EventKind.EXECUTED:
                self.symbols[event.symbol_id].reference = event.price_ticks
                self._shrink(session, number, event.quantity_lots)
                self._shrink(self.sessions[event.other_session_id], other, event.quantity_lots)
            case EventKind.CANCELED if is_of_replace:
                self._replaced(session, number, other, 0)
            case EventKind.CANCELED:
                self._shrink(session, number, event.quantity_lots)
            case EventKind.REPLACED if is_of_replace:
                self._replaced(session, number, other, event.quantity_lots)
            case EventKind.REPLACED:
                self._shrink(session, number, session.orders[number].open_lots - event.quantity_lots)
            case EventKind.REJECTED if event.command_kind == CommandKind.NEW:
                self._shrink(session, number, event.quantity_lots)
            case EventKind.REJECTED if is_of_replace:
                session.exposure -= session.orders.pop(other).added

    @staticmethod
    def _shrink(session: ModelSession, number: int, lots: int) -> None:
        order = session.orders[number]
        order.open_lots -= lots
        session.exposure -= lots * order.value_ticks
        if order.open_lots == 0:
            del session.orders[number]
            session.open_orders -= 1

    @staticmethod
    def _replaced(session: ModelSession, original: int, number: int, open_lots: int) -> None:
        old, order = session.orders.pop(original), session.orders[number]
        session.exposure += open_lots * order.value_ticks - old.open_lots * old.value_ticks - order.added
        order.open_lots, order.is_answered = open_lots, True
        if open_lots == 0:
            del session.orders[number]
            session.open_orders -= 1
