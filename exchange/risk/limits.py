"""The variant ``limits``: its owner, through which the control plane changes limits and reads what is used up.

What is checked is told in :mod:`exchange.risk.limits_checks`, where it stands in :mod:`exchange.risk.limits_layout`.
Each method may be called at any time while the exchange runs, on the thread of the control plane.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.native import Arena, load_acquire, load_int64, store_int64, store_release, view_bytes
from exchange.risk.limits_checks import find_reference
from exchange.risk.limits_layout import (
    COLLAR,
    ENTERED_ORDERS,
    ENTERED_VALUE,
    EXPOSURE_MAX,
    GIVEN_AT,
    GIVEN_PRICE,
    LEFT_ORDERS,
    LEFT_VALUE,
    OPEN_ORDERS_MAX,
    ORDER_LOTS_MAX,
    ORDER_NOTIONAL_MAX,
    RATE,
    REFUSED,
    SESSION_ROW_BYTES,
    SYMBOL_LOTS_MAX,
    SYMBOL_NOTIONAL_MAX,
    SYMBOL_ROW_BYTES,
    TRADES,
    UNLIMITED,
    LimitsRisk,
    session_row,
    symbol_row,
)
from exchange.risk.names import SESSION_LIMITS, SYMBOL_LIMITS
from exchange.risk.protocol import Refusal

_WORDS_OF_SESSION: Final = {
    "order_lots_max": ORDER_LOTS_MAX,
    "order_notional_max": ORDER_NOTIONAL_MAX,
    "open_orders_max": OPEN_ORDERS_MAX,
    "exposure_max": EXPOSURE_MAX,
}
_WORDS_OF_SYMBOL: Final = {"order_lots_max": SYMBOL_LOTS_MAX, "order_notional_max": SYMBOL_NOTIONAL_MAX}
_RATE_NAMES: Final = ("orders_per_second", "orders_burst")


class SessionRisk(NamedTuple):
    """What a session has used up, as Python sees it. ``refused`` counts by reason, those that are not 0."""

    open_orders: int
    exposure: int
    refused: dict[str, int]


class LimitsMemory:
    """Owner of the rows: the control plane changes limits and reads counters here. Nothing is limited at first.

    Attributes:
        state: what the agents take.
    """

    def __init__(self, session_count: int, symbol_count: int) -> None:
        size_bytes = session_count * SESSION_ROW_BYTES + symbol_count * SYMBOL_ROW_BYTES
        self._arena: Final = Arena.private(size_bytes + 4096, huge_pages="never")
        self.state: Final = LimitsRisk(
            self._arena.allocate(session_count * SESSION_ROW_BYTES, alignment=128),
            self._arena.allocate(symbol_count * SYMBOL_ROW_BYTES, alignment=128),
        )
        rows = view_bytes(self.state.sessions, session_count * SESSION_ROW_BYTES)
        self._words: Final = np.frombuffer(rows, np.int64).reshape(session_count, SESSION_ROW_BYTES // 8)
        self._sessions: Final[list[dict[str, int]]] = [dict(SESSION_LIMITS.off) for _ in range(session_count)]
        self._symbols: Final[list[dict[str, int]]] = [dict(SYMBOL_LIMITS.off) for _ in range(symbol_count)]
        for session_id in range(session_count):
            for name, value in SESSION_LIMITS.off.items():
                self.limit_session(session_id, name, value)
        for symbol_id in range(symbol_count):
            for name, value in SYMBOL_LIMITS.off.items():
                self.limit_symbol(symbol_id, name, value)

    def limit_session(self, session_id: int, name: str, value: int) -> None:
        """Set one of a session's limits, within its bounds; what is decided from now on obeys it."""
        held, row = self._sessions[session_id], session_row(self.state, session_id)
        held[name] = value
        if name in _RATE_NAMES:
            rate, burst = (held[one] for one in _RATE_NAMES)
            store_release(row + RATE, 0 if rate == 0 else (rate << 32) | burst)
        else:
            store_release(row + _WORDS_OF_SESSION[name], value or UNLIMITED)

    def limit_symbol(self, symbol_id: int, name: str, value: int) -> None:
        """Set one of a symbol's limits, within its bounds; what is decided from now on obeys it."""
        self._symbols[symbol_id][name] = value
        row = symbol_row(self.state, symbol_id)
        if name == "collar_basis_points":
            store_release(row + COLLAR, value)
        else:
            store_release(row + _WORDS_OF_SYMBOL[name], value or UNLIMITED)

    def session_limits(self, session_id: int) -> Mapping[str, int]:
        """A session's limits as they are, by name; 0 is none."""
        return self._sessions[session_id]

    def symbol_limits(self, symbol_id: int) -> Mapping[str, int]:
        """A symbol's limits as they are, by name; 0 is none."""
        return self._symbols[symbol_id]

    def busy_sessions(self) -> list[int]:
        """The sessions that have orders, or had some refused; takes microseconds for thousands of them."""
        refused = self._words[:, REFUSED // 8 : REFUSED // 8 + len(Refusal)].any(axis=1)
        has_orders = self._column(ENTERED_ORDERS) != self._column(LEFT_ORDERS)
        return [int(one) for one in (refused | has_orders).nonzero()[0]]

    def _column(self, offset: int) -> NDArray[np.int64]:
        """One word of every session, as it is now."""
        return self._words[:, offset // 8]

    def give_price(self, symbol_id: int, price_ticks: int) -> None:
        """Make a price the symbol's reference until its next trade."""
        row = symbol_row(self.state, symbol_id)
        store_int64(row + GIVEN_PRICE, price_ticks)
        store_release(row + GIVEN_AT, load_acquire(row + TRADES) + 1)

    def reference_price(self, symbol_id: int) -> int | None:
        """A symbol's reference price; None if it has neither traded nor been given one."""
        is_known, price_ticks = find_reference(symbol_row(self.state, symbol_id))
        return int(price_ticks) if is_known else None

    def read_session(self, session_id: int) -> SessionRisk:
        """What a session has used up, at any time."""
        row = session_row(self.state, session_id)
        left_orders, left_value = load_acquire(row + LEFT_ORDERS), load_acquire(row + LEFT_VALUE)
        refused = {one.name.lower(): load_int64(row + REFUSED + 8 * one) for one in Refusal}
        return SessionRisk(
            load_acquire(row + ENTERED_ORDERS) - left_orders,
            (load_acquire(row + ENTERED_VALUE) - left_value) & ((1 << 64) - 1),
            {name: count for name, count in refused.items() if count},
        )
