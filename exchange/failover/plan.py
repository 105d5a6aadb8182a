"""What a demonstration of a failover is to do, and with which settings both exchanges run.

The two, their store and the clients share one machine, which may have two cores. So nobody spins: threads that have
nothing to do sleep (``idle.kind = "park"``), and the clients do. The feed goes to where nobody reads it, admin
interface and GLIMPSE are left out, and a backup that is slow for a moment is not given up. Everything else is the
profile's: the gate, the lease, the journal, the cost of a password.

Rules: what a node must have of its own (ports, names, folders) is not for a person to set; :func:`check_plan` refuses
it, and whatever else cannot work, before anything is started.
"""

from typing import Any, Final, Literal, NamedTuple

from exchange.errors import UserError
from exchange.market_data.config import MoldUdp64MarketDataConfig
from exchange.replication.config import ActiveReplicationConfig, NoneReplicationConfig
from exchange.settings import Settings, load_profile
from exchange.transport.config import TcpTransportConfig

How = Literal["kill", "stop", "promote"]

PAIR_SETTINGS: Final = (
    "idle.kind=park",
    "admin.kind=none",
    "transport.address=127.0.0.1",
    "replication.address=127.0.0.1",
    "replication.backup_timeout_ns=5000000000",
)
"""What both have unless a person says otherwise."""
FEED_SETTINGS: Final = (
    "market_data.address=127.0.0.1",
    "market_data.request_port=0",
    "market_data.glimpse=none",
)
"""And if there is a feed."""
OWN_KEYS: Final = (
    "transport.port", "transport.address", "replication.port", "replication.address", "replication.node",
    "replication.group", "replication.secret_file", "journal.directory", "gateway.users_file",
)  # fmt: skip
"""What is chosen for each node."""

SESSIONS_MAX: Final = 64
KILLS_MAX: Final = 100
RATE_MAX: Final = 100_000
WARM_SECONDS: Final = 1.0
"""How long the clients trade before the strike."""
AFTER_SECONDS: Final = 1.2
"""And how long at least when a new primary should be there."""
LEASES_UNTIL_SERVED: Final = 3
"""So many leases after the strike it should be there: detection takes one and a tenth."""
ANSWER_SECONDS: Final = 0.3
"""How long a client waits for an answer of a primary that was stopped: its line is not broken, only silent."""


class FailoverPlan(NamedTuple):
    """What to do.

    Attributes:
        profile: of both exchanges.
        overrides: what a person has set in it.
        kills: how many failovers.
        how: what is done to the primary: SIGKILL, SIGSTOP past its lease and SIGCONT, or an order to hand over.
        rate: requests per second of all clients together.
        sessions: how many clients.
        seed: of the requests, and of the moment of the strike.
    """

    profile: str = "replicated-tcp"
    overrides: tuple[str, ...] = ()
    kills: int = 1
    how: How = "kill"
    rate: float = 2000.0
    sessions: int = 4
    seed: int = 1

    def both(self, feed_port: int | None = None) -> tuple[str, ...]:
        """What is set in the profile of both.

        Args:
            feed_port: where the feed goes, if there is one.

        Raises:
            UserError: what a person has set is wrong.
        """
        said = load_profile(self.profile, self.overrides)
        has_feed = isinstance(said.market_data, MoldUdp64MarketDataConfig)
        feed = FEED_SETTINGS if has_feed else ()
        port = (f"market_data.port={feed_port}",) if has_feed and feed_port is not None else ()
        return (*PAIR_SETTINGS, *feed, *port, *self.overrides)

    def load_seconds(self, config: ActiveReplicationConfig) -> float:
        """How long the clients trade in each failover."""
        silent_s = ANSWER_SECONDS if self.how == "stop" else 0.0
        return WARM_SECONDS + LEASES_UNTIL_SERVED * config.lease_ns / 1e9 + silent_s + AFTER_SECONDS


def check_plan(plan: FailoverPlan) -> tuple[Settings, ActiveReplicationConfig]:
    """The settings of both exchanges.

    Raises:
        UserError: they are wrong, or no pair can be made of them on one machine.
    """
    for one in plan.overrides:
        key = one.partition("=")[0].strip()
        if key in OWN_KEYS:
            raise UserError(f"--set {one}: failover-demo chooses {key} for each of the two exchanges itself")
    said = load_profile(plan.profile, plan.overrides)
    if isinstance(said.replication, NoneReplicationConfig):
        raise UserError(
            f"profile {said.name}: replication.kind = none: it is no pair; replicated-tcp and rdma are"
        )
    settings = load_profile(plan.profile, plan.both())
    if not isinstance(settings.transport, TcpTransportConfig):
        raise UserError(
            f"profile {settings.name}: transport.kind must be tcp for failover-demo, whose clients speak SoupBinTCP"
        )
    for option, value, most in (
        ("--kills", plan.kills, KILLS_MAX),
        ("--sessions", plan.sessions, SESSIONS_MAX),
        ("--rate", plan.rate, RATE_MAX),
    ):
        if not 1 <= value <= most:
            raise UserError(f"{option} {value:g}: allowed is 1 to {most}")
    assert not isinstance(settings.replication, NoneReplicationConfig)
    return settings, settings.replication


def shown_settings(settings: Settings, config: ActiveReplicationConfig) -> dict[str, Any]:
    """The settings on which a failover depends."""
    return {
        "replication.kind": type(config).__struct_config__.tag,
        "replication.gate": config.gate,
        "replication.lease_ns": config.lease_ns,
        "replication.renew_every_ns": config.renew_every_ns,
        "replication.backup_timeout_ns": config.backup_timeout_ns,
        "journal.kind": type(settings.journal).__struct_config__.tag,
        "journal.gate": getattr(settings.journal, "gate", None),
        "shards.count": settings.shards.count,
        "idle.kind": type(settings.idle).__struct_config__.tag,
        "market_data.kind": type(settings.market_data).__struct_config__.tag,
    }
