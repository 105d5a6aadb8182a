"""No limits: whoever is not killed may ask for anything, nothing is counted, and little is left of the calls."""

from typing import Final, NamedTuple

from exchange.native import implements
from exchange.risk.protocol import (
    Judgement,
    Refusal,
    check_new,
    check_replace,
    is_killed,
    note_entered,
    note_left,
    note_refused,
    note_trade,
)

_NONE: Final = int(Refusal.NONE)
_KILLED: Final = int(Refusal.KILLED)


class NoneRisk(NamedTuple):
    """There is nothing to know."""

    nothing: int = 0


class NoneMemory:
    """Owner of nothing."""

    state: Final = NoneRisk()


@implements(check_new, NoneRisk)
def _check_new(
    risk: NoneRisk,
    session_id: int,
    session: int,
    symbol_id: int,
    price_ticks: int,
    quantity_lots: int,
    is_market: bool,
    now_ns: int,
) -> Judgement:
    return Judgement(_KILLED if is_killed(session) else _NONE, 0, 0, -1)


@implements(check_replace, NoneRisk)
def _check_replace(
    risk: NoneRisk,
    session_id: int,
    session: int,
    order: int,
    user_reference: int,
    price_ticks: int,
    liability_lots: int,
    now_ns: int,
) -> Judgement:
    return Judgement(_KILLED if is_killed(session) else _NONE, 0, 0, -1)


@implements(note_entered, NoneRisk)
def _note_entered(risk: NoneRisk, session_id: int, judgement: Judgement, orders: int, now_ns: int) -> None:
    return


@implements(note_refused, NoneRisk)
def _note_refused(risk: NoneRisk, session_id: int, judgement: Judgement, now_ns: int) -> None:
    return


@implements(note_left, NoneRisk)
def _note_left(risk: NoneRisk, session_id: int, orders: int, value: int) -> None:
    return


@implements(note_trade, NoneRisk)
def _note_trade(risk: NoneRisk, symbol_id: int, price_ticks: int) -> None:
    return
