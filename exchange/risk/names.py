"""The limits by name, with their bounds: for texts in a profile, and for what an operator changes at run time.

They are the keys of :class:`~exchange.risk.config.LimitsRiskConfig`, read off it; no bound stands twice.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from exchange.risk.config import LimitsRiskConfig, RiskConfig
from exchange.settings_schema import Key, Problem, check_value, keys_of


class LimitNames(NamedTuple):
    """The limits of one kind of thing: each as a key with its bounds, and its value when nothing is limited."""

    keys: dict[str, Key]
    off: dict[str, int]


class OwnLimit(NamedTuple):
    """A limit of one session or symbol."""

    owner: str
    name: str
    value: int


def _named(*names: str) -> LimitNames:
    keys = {name: key for name, key in keys_of(LimitsRiskConfig).items() if name in names}
    return LimitNames(keys, {name: int(str(key.default)) for name, key in keys.items()})


SESSION_LIMITS: Final = _named(
    "order_lots_max",
    "order_notional_max",
    "orders_per_second",
    "orders_burst",
    "open_orders_max",
    "exposure_max",
)
SYMBOL_LIMITS: Final = _named("order_lots_max", "order_notional_max", "collar_basis_points")


def check_limit(names: LimitNames, name: str, value: object) -> int:
    """The value of a limit. Raises Problem: there is no such limit, or the value is out of range."""
    if name not in names.keys:
        raise Problem(f"{name} is no limit; allowed: {', '.join(names.keys)}")
    number = check_value(names.keys[name], value)
    assert isinstance(number, int)
    return number


def parse_own(names: LimitNames, text: str) -> OwnLimit:
    """``OWNER:NAME=VALUE`` as a profile writes it. Raises Problem if it is something else."""
    place, equals, value = text.partition("=")
    owner, colon, name = place.rpartition(":")
    if not (owner and colon and equals and value.strip().isdecimal()):
        raise Problem(f"must be OWNER:LIMIT=NUMBER, with one of {', '.join(names.keys)}")
    return OwnLimit(owner.strip(), name.strip(), check_limit(names, name.strip(), int(value)))


def find_problem(config: RiskConfig, symbols: Iterable[str]) -> tuple[str, str] | None:
    """What is wrong with the limits of single sessions and symbols: the key and the problem."""
    if not isinstance(config, LimitsRiskConfig):
        return None
    known = set(symbols)
    lists: Sequence[tuple[str, LimitNames]] = (("sessions", SESSION_LIMITS), ("symbols", SYMBOL_LIMITS))
    for key, names in lists:
        for text in getattr(config, key):
            try:
                own = parse_own(names, text)
            except Problem as problem:
                return key, f'"{text}" {problem}'
            if key == "symbols" and own.owner not in known:
                return key, f'"{text}" names a symbol that gateway.symbols does not have'
    return None
