"""The risk layer: what a client may ask for before the exchange says no.

========== ============================================== ======================================================
variant    what it is                                     what it trades
========== ============================================== ======================================================
none       nothing is checked and nothing counted         nothing on the path of an order
limits     limits of sessions and symbols, a kill switch  some words of two rows for each order and each answer
========== ============================================== ======================================================

What both promise stands in :mod:`exchange.risk.protocol`; the settings in :mod:`exchange.risk.config`, the limits by
name in :mod:`exchange.risk.names`; what happens to the counters at a restart in :mod:`exchange.risk.recount`."""

from collections.abc import Sequence
from typing import Any, Protocol, assert_never

from exchange.errors import UserError
from exchange.risk.config import LimitsRiskConfig, NoneRiskConfig, RiskConfig


class RiskMemory(Protocol):
    """The owner of a variant's memory; it must outlive all use of its state."""

    @property
    def state(self) -> Any:
        """What the agents take."""


def build_risk(config: RiskConfig, users: Sequence[str], symbols: Sequence[str]) -> RiskMemory:
    """The chosen variant for sessions of these users, in their order, and for these symbols.

    Raises:
        UserError: the settings name a user that there is not.
    """
    match config:
        case NoneRiskConfig():
            from exchange.risk.none import NoneMemory

            return NoneMemory()
        case LimitsRiskConfig():
            return _build_limits(config, users, symbols)
        case _:
            assert_never(config)


def _build_limits(config: LimitsRiskConfig, users: Sequence[str], symbols: Sequence[str]) -> RiskMemory:
    from exchange.risk.limits import LimitsMemory
    from exchange.risk.names import SESSION_LIMITS, SYMBOL_LIMITS, parse_own

    memory = LimitsMemory(len(users), len(symbols))
    for name in SESSION_LIMITS.keys:
        for session_id in range(len(users)):
            memory.limit_session(session_id, name, getattr(config, name))
    for symbol_id in range(len(symbols)):
        memory.limit_symbol(symbol_id, "collar_basis_points", config.collar_basis_points)
    for text in config.symbols:
        own = parse_own(SYMBOL_LIMITS, text)
        memory.limit_symbol(symbols.index(own.owner), own.name, own.value)
    for text in config.sessions:
        own = parse_own(SESSION_LIMITS, text)
        if own.owner.upper() not in users:
            raise UserError(f'risk.sessions: "{text}" names a user that the users file does not have')
        memory.limit_session(users.index(own.owner.upper()), own.name, own.value)
    return memory
