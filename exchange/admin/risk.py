"""Risk as its operator sees it: what sessions have used up of their limits, and what can be changed while orders flow.

A limit that is changed holds for every order that is decoded from then on; orders that are in the book stay. What was
changed is logged, with who asked and what was before, and holds until the exchange ends.

Whatever is wrong with what was asked is a :class:`Refusal` that names field, value and what is allowed.
"""

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from exchange import limits
from exchange.admin.refusal import Refusal
from exchange.logs import log_event
from exchange.risk.limits import LimitsMemory
from exchange.risk.names import SESSION_LIMITS, SYMBOL_LIMITS, LimitNames, check_limit
from exchange.settings_schema import Problem

if TYPE_CHECKING:
    from exchange.gateway.server import Server


class SessionRiskDocument(Struct, frozen=True):
    """A session: its limits by name (0 is none), what it has open now, and how often it was refused, by reason."""

    user: str
    session: int
    open_orders: int
    exposure: int
    limits: dict[str, int]
    refused: dict[str, int]


class SymbolRiskDocument(Struct, frozen=True):
    """A symbol: its limits by name (0 is none), and the price that its collar is laid around, None if there is none."""

    symbol: str
    reference_price_ticks: int | None
    limits: dict[str, int]


class RiskDocument(Struct, frozen=True):
    """All sessions in the order of the users' file, and all symbols."""

    sessions: list[SessionRiskDocument]
    symbols: list[SymbolRiskDocument]


class RiskDesk:
    """Risk of one served exchange; all but :meth:`document` is to be called in its event loop.

    Each method that takes ``asked_by`` logs it: where the request came from.

    Raises (all of them):
        Refusal: the profile has no risk, or there is no such user, symbol, limit or value.
    """

    def __init__(self, server: "Server") -> None:
        self._server: Final = server

    def document(self) -> RiskDocument:
        """All limits and what is used up of them; may be called on any thread."""
        memory = self._memory()
        symbols = self._server.settings.gateway.symbols
        return RiskDocument(
            [self.session(session_id) for session_id in range(len(self._server.control.users.users))],
            [
                SymbolRiskDocument(name, memory.reference_price(number), dict(memory.symbol_limits(number)))
                for number, name in enumerate(symbols)
            ],
        )

    def session(self, session_id: int) -> SessionRiskDocument:
        """One session."""
        memory = self._memory()
        used = memory.read_session(session_id)
        return SessionRiskDocument(
            self._server.control.users.users[session_id].name,
            session_id,
            used.open_orders,
            used.exposure,
            dict(memory.session_limits(session_id)),
            used.refused,
        )

    def limit_session(self, session_id: int, name: str, value: object, asked_by: str) -> None:
        """Change a limit of a session."""
        memory, user = self._memory(), self._server.control.users.users[session_id].name
        new = _checked(SESSION_LIMITS, name, value)
        old = memory.session_limits(session_id)[name]
        memory.limit_session(session_id, name, new)
        log_event("risk limit changed", user=user, limit=name, old=old, new=new, asked_by=asked_by)

    def limit_symbol(self, symbol_id: int, name: str, value: object, asked_by: str) -> None:
        """Change a limit of a symbol."""
        memory, symbol = self._memory(), self._server.settings.gateway.symbols[symbol_id]
        new = _checked(SYMBOL_LIMITS, name, value)
        old = memory.symbol_limits(symbol_id)[name]
        memory.limit_symbol(symbol_id, name, new)
        log_event("risk limit changed", symbol=symbol, limit=name, old=old, new=new, asked_by=asked_by)

    def give_price(self, symbol_id: int, price_ticks: object, asked_by: str) -> None:
        """Make a price a symbol's reference until its next trade."""
        memory, symbol = self._memory(), self._server.settings.gateway.symbols[symbol_id]
        book = self._server.settings.book
        least, most = book.price_min_ticks, min(book.price_max_ticks, limits.PRICE_TICKS_HIGHEST)
        if (
            not isinstance(price_ticks, int)
            or isinstance(price_ticks, bool)
            or not least <= price_ticks <= most
        ):
            raise Refusal(422, "price_ticks", price_ticks, f"must be a price of the book, {least} to {most}")
        old = memory.reference_price(symbol_id)
        memory.give_price(symbol_id, price_ticks)
        log_event("reference price given", symbol=symbol, old=old, new=price_ticks, asked_by=asked_by)

    def _memory(self) -> LimitsMemory:
        memory = self._server.transport.risk
        if not isinstance(memory, LimitsMemory):
            raise Refusal(409, "risk.kind", "none", "must be limits in the exchange's profile")
        return memory


def _checked(names: LimitNames, name: str, value: object) -> int:
    try:
        return check_limit(names, name, value)
    except Problem as problem:
        if name in names.keys:
            raise Refusal(422, name, value, str(problem)) from problem
        raise Refusal(422, "limit", name, f"must be one of {', '.join(names.keys)}") from problem
