"""The settings of replication: whether a second machine has what this one acknowledges, by which way, and who leads.

These are the [replication] table of a profile, alike on both machines but for ``node`` and ``address``. Importing this
module loads nothing of the layer; what two settings together rule out is checked in :mod:`exchange.settings`, by
:func:`find_replication_problem`.
"""

import re
import socket
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from exchange import limits
from exchange.errors import UserError

ReplicationGate = Literal["async", "received", "applied"]
Provider = Literal["auto", "shm", "tcp", "verbs"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What may stand in a key of the lease store."""

_Gate = Annotated[
    ReplicationGate,
    Meta(
        description="when events may leave while a backup is in sync: at once, when the backup's memory has their"
        " commands, or when the backup has journaled and applied them"
    ),
]
_Address = Annotated[
    str, Meta(description="numeric address of this machine at which the other one of the pair reaches it")
]
_Port = Annotated[
    int,
    Meta(
        ge=0,
        le=limits.PORT_MAX,
        description="TCP port that a primary listens on for its backup; 0 takes one that is free",
    ),
]
_RingBytes = Annotated[
    int,
    Meta(
        ge=limits.REPLICA_RING_BYTES_MIN,
        le=limits.REPLICA_RING_BYTES_MAX,
        description="memory for the frames of one stream that the backup has not applied, on both machines",
        extra={"power_of_two": True},
    ),
]
_Node = Annotated[
    str, Meta(description="name of this one of the pair in the lease; empty for the machine's host name")
]
_Group = Annotated[str, Meta(description="name of the pair in the lease store, the same for both")]
_SecretFile = Annotated[
    str,
    Meta(
        description="holds what the two of a pair share; made by the primary's first start, readable by its owner only,"
        " to be copied to the backup"
    ),
]
_LeaseStore = Annotated[
    str,
    Meta(
        description="where the lease is kept: embedded, a NATS server of our own on this machine, or nats://HOST:PORT"
    ),
]
_Lease = Annotated[
    int,
    Meta(
        ge=limits.LEASE_NS_MIN,
        le=limits.LEASE_NS_MAX,
        description="how long a primary may lead after a renewal of its lease, and a backup waits before it takes over",
    ),
]
_RenewEvery = Annotated[
    int,
    Meta(
        ge=limits.LEASE_RENEW_NS_MIN,
        le=limits.LEASE_NS_MAX,
        description="how often a primary renews its lease",
    ),
]
_BackupTimeout = Annotated[
    int,
    Meta(
        ge=limits.BACKUP_TIMEOUT_NS_MIN,
        le=limits.BACKUP_TIMEOUT_NS_MAX,
        description="a backup that is silent for so long is given up, and the primary goes on alone",
    ),
]
_Provider = Annotated[
    Provider,
    Meta(
        description="libfabric's provider: shm (both on one machine), tcp (any network), verbs (InfiniBand, RoCE);"
        " auto chooses and says why"
    ),
]

FABRIC_PACKAGES: Final = "libfabric-dev pkg-config gcc"
"""What ``rdma`` needs."""
RING_BYTES_DEFAULT: Final = 4 << 20
LEASE_NS_DEFAULT: Final = 150_000_000
RENEW_EVERY_NS_DEFAULT: Final = 30_000_000
BACKUP_TIMEOUT_NS_DEFAULT: Final = 500_000_000
EMBEDDED_STORE: Final = "embedded"
RING_FRAMES_MIN: Final = 4
"""How many of the largest frames a ring holds at least."""


class NoneReplicationConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Nobody else has what this exchange has acknowledged."""


class TcpReplicationConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tcp"):
    """Frames are sent to the backup over the kernel's sockets: the way to compare with."""

    gate: _Gate = "received"
    address: _Address = "127.0.0.1"
    port: _Port = 9010
    ring_bytes: _RingBytes = RING_BYTES_DEFAULT
    node: _Node = ""
    group: _Group = "exchange"
    secret_file: _SecretFile = "exchange-replication-secret"
    lease_store: _LeaseStore = EMBEDDED_STORE
    lease_ns: _Lease = LEASE_NS_DEFAULT
    renew_every_ns: _RenewEvery = RENEW_EVERY_NS_DEFAULT
    backup_timeout_ns: _BackupTimeout = BACKUP_TIMEOUT_NS_DEFAULT


class RdmaReplicationConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="rdma"):
    """Frames are written into the backup's memory with one-sided writes, through libfabric."""

    gate: _Gate = "received"
    address: _Address = "127.0.0.1"
    port: _Port = 9010
    ring_bytes: _RingBytes = RING_BYTES_DEFAULT
    node: _Node = ""
    group: _Group = "exchange"
    secret_file: _SecretFile = "exchange-replication-secret"
    lease_store: _LeaseStore = EMBEDDED_STORE
    lease_ns: _Lease = LEASE_NS_DEFAULT
    renew_every_ns: _RenewEvery = RENEW_EVERY_NS_DEFAULT
    backup_timeout_ns: _BackupTimeout = BACKUP_TIMEOUT_NS_DEFAULT
    provider: _Provider = "auto"


ReplicationConfig = NoneReplicationConfig | TcpReplicationConfig | RdmaReplicationConfig
ActiveReplicationConfig = TcpReplicationConfig | RdmaReplicationConfig


def node_name(config: ActiveReplicationConfig) -> str:
    """What this one of the pair is called: as the settings say, or as its machine."""
    return config.node or re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:64]


def check_name_of_primary(config: ActiveReplicationConfig, found: str, address: tuple[str, int]) -> None:
    """Refuse to be the backup of a primary with our own name: in the lease the two would be one.

    Args:
        config: our settings.
        found: what the primary is called.
        address: where it was found.

    Raises:
        UserError: it has our name.
    """
    ours = node_name(config)
    if found == ours:
        meaning = "" if config.node else f", for which the machine's name {ours!r} stands"
        raise UserError(
            f"replication.node = {config.node!r}{meaning}: the primary at {address[0]}:{address[1]} is called {found!r}"
            f" too; the two of a pair need names of their own, such as --set replication.node={ours[:62]}-b"
        )


def find_replication_problem(
    config: ReplicationConfig, largest_frame_bytes: int
) -> tuple[tuple[str, ...], str] | None:
    """What is wrong with the table taken by itself: the keys that take part, and what. None if nothing is.

    Args:
        config: the [replication] table of a profile.
        largest_frame_bytes: what the largest frame of a stream takes.
    """
    if isinstance(config, NoneReplicationConfig):
        return None
    for key, name in (("node", config.node or "host"), ("group", config.group)):
        if _NAME.fullmatch(name) is None:
            return (key,), "must be 1 to 64 letters, digits, '-' and '_'"
    if config.renew_every_ns * 2 > config.lease_ns:
        return (
            ("lease_ns", "renew_every_ns"),
            f"renew_every_ns = {config.renew_every_ns} is more than half of lease_ns = {config.lease_ns}:"
            " one renewal that fails would end the lease",
        )
    if config.lease_store != EMBEDDED_STORE and not config.lease_store.startswith(("nats://", "tls://")):
        return ("lease_store",), f'must be "{EMBEDDED_STORE}" or nats://HOST:PORT'
    # A frame lies in one piece, so up to its size can be left over at the end of the ring.
    if RING_FRAMES_MIN * largest_frame_bytes > config.ring_bytes:
        return (
            ("ring_bytes",),
            f"a batch's frame takes up to {largest_frame_bytes} bytes, and the ring must hold four of them",
        )
    return None
