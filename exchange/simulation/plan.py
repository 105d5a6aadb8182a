"""What a seed decides before anything happens: the exchange, its clients, and what may go wrong.

Every seed leaves something out: a kind of request that no client makes, a fault that does not occur, an agent that
hardly gets its turn. Runs in which everything happens a little all look alike; one in which nobody cancels and the
egress sleeps fills queues that never fill otherwise. So each weight here is drawn, and often it is zero.

What the command line has set (``--set``) is not drawn. All sizes are small: a queue with room for two commands wraps
at every other one, and a book for sixteen orders is full."""

import functools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from msgspec import structs

from exchange.agent_layout import agent_names
from exchange.errors import UserError
from exchange.gateway.credentials import User, Users
from exchange.journal.config import (
    FileJournalConfig,
    Gate,
    JournalConfig,
    MappedJournalConfig,
    NoneJournalConfig,
)
from exchange.journal.layout import SEGMENT_HEADER_BYTES, frame_bytes
from exchange.market_data.config import NoneMarketDataConfig
from exchange.risk.config import LimitsRiskConfig, NoneRiskConfig, RiskConfig
from exchange.settings import Resolved, Settings, resolve, without_backup
from exchange.simulation.chance import Chance, Weights
from exchange.simulation.client import PASSWORD, Habits
from exchange.simulation.dialects import Dialect, Ouch42, Ouch50
from exchange.transport.config import TcpTransportConfig

PROFILE: Final = "serve"
SYMBOLS: Final = ("AAPL", "MSFT", "NVDA")
ACTIONS_DEFAULT: Final = 400
PASSWORD_COST: Final = 2
SEGMENTS_BYTES: Final = (1 << 13, 1 << 14)
"""Full after some dozen records, or after some hundred. The second has room for a batch of 64 with details."""

_OVERRIDES: Final = ("market_data.kind=none", "admin.kind=none", "placement.kind=none", "shards.threads=auto")

_SIZES: Final[dict[str, tuple[Any, ...]]] = {
    "queue.capacity_slots": (2, 4, 16, 64),
    "shards.batch_commands": (2, 4, 16, 64),
    "shards.count": (1, 1, 2),
    "book.capacity_orders": (16, 64, 1024),
    "gateway.capacity_orders": (16, 64, 256),
    "gateway.symbols": (SYMBOLS[:1], SYMBOLS[:2], SYMBOLS),
    "gateway.client_timeout_ns": (200_000_000, 15_000_000_000),
    "gateway.slow_reader_ns": (100_000_000, 5_000_000_000),
    "gateway.heartbeat_ns": (50_000_000, 1_000_000_000),
}
"""What is drawn, and from what."""

_FIXED: Final[dict[str, Any]] = {
    "gateway.log_bytes": 1 << 19,
    "gateway.time_zone": "UTC",
    "queue.huge_pages": "never",
    "book.huge_pages": "never",
}

_LIMITS: Final = {
    "order_lots_max": (0, 0, 250),
    "open_orders_max": (0, 3, 12),
    "exposure_max": (0, 300_000_000, 2_000_000_000),
    "orders_per_second": (0, 0, 200),
    "collar_basis_points": (0, 0, 2),
}

_ACTIONS: Final = {
    "enter": 40.0,
    "replace": 12.0,
    "cancel": 10.0,
    "modify": 4.0,
    "mass_cancel": 2.0,
    "change_firm": 1.5,
    "query": 1.0,
    "repeat": 3.0,
    "beat": 2.0,
    "log_out": 0.7,
    "log_on_twice": 0.3,
    "garble": 0.5,
    "break_off": 0.7,
    "hang_up": 1.0,
    "pull_cable": 1.0,
    "stop_reading": 1.0,
}
"""What a client does, and how often in a seed that leaves nothing out."""

_ALWAYS: Final = {"enter"}


class Plan(NamedTuple):
    """What a seed decides.

    ``turns`` are the weights of who gets the next turn: "client", "up", "down", "door", "time", "cut", "command" or an
    agent's name. ``bytes_max`` is how much a step of the network carries at most, ``time_ns`` how far a step of the
    clock goes at most. ``refuses_writes`` says whether a full disk takes no write at all, not even one in place;
    ``hangs_up_first`` whether clients have gone before the exchange is killed at the end.
    """

    settings: Settings
    users: Users
    dialects: tuple[Dialect, ...]
    habits: tuple[Habits, ...]
    turns: Weights[str]
    actions: int
    bytes_max: int
    time_ns: int
    has_journal: bool
    refuses_writes: bool
    hangs_up_first: bool


@functools.cache
def base_settings(profile: str, overrides: tuple[str, ...]) -> Resolved:
    """The profile that is simulated, before anything is drawn. Raises UserError."""
    resolved = resolve(profile, [*_OVERRIDES, *overrides])
    if not isinstance(resolved.settings.transport, TcpTransportConfig):
        raise UserError(
            f"profile {resolved.settings.name}: transport.kind must be tcp to be simulated; 'serve' is such a profile"
        )
    if not isinstance(resolved.settings.market_data, NoneMarketDataConfig):
        raise UserError(
            f"profile {resolved.settings.name}: market_data.kind must be none to be simulated, as it is without --set"
        )
    return resolved


def draw_plan(seed: int, profile: str = PROFILE, overrides: Sequence[str] = (), actions: int = 0) -> Plan:
    """The plan of a seed. ``actions`` is how often clients act; 0 is the usual. Raises UserError."""
    chance = Chance.of(seed, "plan")
    settings = _draw_settings(chance, base_settings(profile, tuple(overrides)))
    has_journal = not isinstance(settings.journal, NoneJournalConfig)
    count = chance.number(2, 6)
    dialects = tuple(Ouch42() if chance.happens(0.25) else Ouch50() for _ in range(count))
    users = _users(tuple((dialect.protocol, chance.happens(0.4)) for dialect in dialects))
    habits = tuple(
        Habits(_thin_out(chance, _ACTIONS, _ALWAYS), chance.pick((0, 3, 30)), chance.pick((0.05, 0.5)))
        for _ in dialects
    )
    agents = {name: chance.pick((1.0, 4.0, 12.0)) for name in agent_names(settings)}
    turns = {
        "client": chance.pick((1.0, 4.0)),
        "up": chance.pick((2.0, 8.0)),
        "down": chance.pick((2.0, 8.0)),
        "door": 1.0,
        "time": chance.pick((0.2, 1.0)),
        "cut": chance.pick((0.0, 0.0, 0.01, 0.03)),
        "command": chance.pick((0.0, 0.05, 0.2)),
        "keeper": chance.pick((0.05, 1.0)) if has_journal else 0.0,
        "snapshot": chance.pick((0.0, 0.01, 0.05)) if has_journal else 0.0,
        "crash": chance.pick((0.0, 0.01, 0.05)) if has_journal else 0.0,
        "room": chance.pick((0.0, 0.02, 0.1)) if has_journal else 0.0,
        "failure": chance.pick((0.0, 0.0, 0.02, 0.1)) if has_journal else 0.0,
    }
    return Plan(
        settings,
        users,
        dialects,
        habits,
        Weights(turns | agents),
        actions or ACTIONS_DEFAULT,
        chance.pick((7, 60, 500, 1 << 14)),
        chance.pick((1_000_000, 30_000_000)),
        has_journal,
        refuses_writes=isinstance(settings.journal, FileJournalConfig) and chance.happens(0.5),
        hangs_up_first=chance.happens(0.5),
    )


def _draw_settings(chance: Chance, resolved: Resolved) -> Settings:
    drawn = {key: chance.pick(among) for key, among in _SIZES.items()} | _FIXED
    tables: dict[str, dict[str, Any]] = {}
    for key, value in drawn.items():
        table, _, name = key.partition(".")
        has_key = hasattr(getattr(resolved.settings, table), name)
        if has_key and resolved.origins.get(key) != "--set":
            tables.setdefault(table, {})[name] = value
    changed = {
        table: structs.replace(getattr(resolved.settings, table), **values)
        for table, values in tables.items()
    }
    risk = _draw_risk(chance, resolved)
    settings = structs.replace(without_backup(resolved.settings), risk=risk, **changed)
    settings = structs.replace(settings, journal=_draw_journal(chance, resolved, settings))
    shards = structs.replace(settings.shards, threads=(agent_names(settings),))
    return structs.replace(settings, shards=shards)


def _draw_journal(chance: Chance, resolved: Resolved, settings: Settings) -> JournalConfig:
    """A journal for four seeds of five, unless the profile or ``--set`` names one; synced when it gets its turn."""
    kinds: tuple[JournalConfig, ...] = (
        NoneJournalConfig(),
        MappedJournalConfig(),
        MappedJournalConfig(),
        FileJournalConfig(),
        FileJournalConfig(),
    )
    drawn = chance.pick(kinds)
    gate: Gate = chance.pick(("written", "synced"))
    journal: JournalConfig = (
        drawn if resolved.origins.get("journal.kind") == "default" else resolved.settings.journal
    )
    if isinstance(journal, NoneJournalConfig):
        return journal
    gate = gate if resolved.origins.get("journal.gate", "default") == "default" else journal.gate
    needed = SEGMENT_HEADER_BYTES + frame_bytes(2 * settings.shards.batch_commands)
    sizes = [size for size in SEGMENTS_BYTES if size >= needed]
    return structs.replace(journal, gate=gate, segment_bytes=chance.pick(sizes), sync_every_ns=0)


def _draw_risk(chance: Chance, resolved: Resolved) -> RiskConfig:
    """Limits for every other seed, unless the profile or ``--set`` says something of them: some are in the way."""
    kinds: tuple[RiskConfig, ...] = (NoneRiskConfig(), LimitsRiskConfig())
    drawn = chance.pick(kinds)
    is_said = resolved.origins.get("risk.kind") != "default"
    risk: RiskConfig = resolved.settings.risk if is_said else drawn
    drawn_limits: Any = {name: chance.pick(among) for name, among in _LIMITS.items()}
    return LimitsRiskConfig(**drawn_limits) if risk == LimitsRiskConfig() else risk


@functools.cache
def _users(kinds: tuple[tuple[str, bool], ...]) -> Users:
    return Users(
        [
            User.create(
                f"user{number}",
                PASSWORD,
                PASSWORD_COST,
                cancels_on_disconnect=cancels_on_disconnect,
                protocol=protocol,
            )
            for number, (protocol, cancels_on_disconnect) in enumerate(kinds)
        ]
    )


def _thin_out(chance: Chance, weights: dict[str, float], always: set[str]) -> Weights[str]:
    """Leave some of the outcomes out, and make others more likely."""
    return Weights(
        {
            name: weight * chance.pick((1.0, 1.0, 3.0)) if name in always or chance.happens(0.6) else 0.0
            for name, weight in weights.items()
        }
    )
