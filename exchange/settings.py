"""Settings: what a profile says, as frozen structs, and how a profile becomes them.

A *profile* is a TOML file that names one technique per layer and extends another profile;
:func:`load_profile` turns it (with the ``--set`` options of a command line) into one :class:`Settings`, the
only thing that the assembly of an exchange reads. The structs of a layer lie in that layer's folder; those of the idle
strategies and the benchmark lie here.

Rules:

* What no profile says is the textbook's choice: every technique has to be named to be used.
* A :class:`Settings` from this module is valid: each value in its range and all of them together possible.
  One that is built by hand in a test is not checked.
* Every mistake in a profile is a :class:`~exchange.errors.UserError` of one line with file, key, value and
  what is allowed. A set of values that is possible but unwise is no error: :func:`warnings` names it.
"""

import functools
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from exchange import limits
from exchange.admin.config import AdminConfig, NoneAdminConfig
from exchange.agent_layout import JOURNAL_AGENT, OPTIONAL_AGENTS, agent_names, thread_layout
from exchange.book.config import BookConfig, NaiveBookConfig
from exchange.errors import UserError
from exchange.gateway.config import GatewayConfig
from exchange.journal.config import JournalConfig, NoneJournalConfig
from exchange.market_data.config import MarketDataConfig, NoneMarketDataConfig
from exchange.matching.config import ShardsConfig, find_owner_problem, find_process_problem
from exchange.placement import NonePlacement, NumaPlacement, PinnedPlacement, PlacementConfig
from exchange.profile_files import builtin_names, did_you_mean, override_layer, read_chain, show_value
from exchange.profile_merge import Entry, MergedTable, merge_layers
from exchange.queues.config import (
    DisruptorQueueConfig,
    PythonQueueConfig,
    QueueConfig,
    SpscQueueConfig,
    UserQueueConfig,
)
from exchange.replication.config import NoneReplicationConfig, ReplicationConfig, find_replication_problem
from exchange.risk.config import NoneRiskConfig, RiskConfig
from exchange.risk.names import find_problem
from exchange.settings_schema import Table, tables_of
from exchange.transport.config import (
    AfxdpTransportConfig,
    DpdkTransportConfig,
    MemoryTransportConfig,
    TransportConfig,
    UdpTransportConfig,
)

Spins = Annotated[
    int,
    Meta(
        ge=0, le=limits.IDLE_SPINS_MAX, description="polls without work before the thread gives its core away"
    ),
]


class BusySpinIdle(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="busy-spin"):
    """Poll again at once: the shortest wake-up, and a whole core for each thread."""


class SpinThenYieldIdle(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="spin-then-yield"
):
    """Poll for a while, then offer the core to other threads between polls."""

    spins: Spins = 200


class ParkIdle(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="park"):
    """Poll for a while, then sleep between polls."""

    spins: Spins = 200
    park_ns: Annotated[
        int, Meta(ge=limits.PARK_NS_MIN, le=limits.PARK_NS_MAX, description="how long one sleep lasts")
    ] = 50_000


class BlockIdle(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="block"):
    """Poll for a while, then sleep in the kernel until a client has said something: for an exchange on one thread."""

    spins: Spins = 200
    wake_ns: Annotated[
        int,
        Meta(
            ge=limits.WAKE_NS_MIN,
            le=limits.PARK_NS_MAX,
            description="how long one sleep lasts if nobody says anything; heartbeats and the like wait for it",
        ),
    ] = 5_000_000


IdleConfig = BusySpinIdle | SpinThenYieldIdle | ParkIdle | BlockIdle

LoadFraction = Annotated[float, Meta(ge=limits.BENCH_LOAD_FRACTION_MIN, le=limits.BENCH_LOAD_FRACTION_MAX)]


class BenchConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How a benchmark measures: in each round a run at saturation, then a point per offered load.

    Where profiles are compared, this table of the first one counts for all.
    """

    rounds: Annotated[
        int, Meta(ge=1, le=limits.BENCH_ROUNDS_MAX, description="times that all profiles take their turn")
    ] = 5
    warmup_commands: Annotated[
        int,
        Meta(ge=0, le=limits.BENCH_COMMANDS_MAX, description="commands before each measurement, not counted"),
    ] = 20_000
    saturation_commands: Annotated[
        int,
        Meta(
            ge=limits.BENCH_SATURATION_COMMANDS_MIN,
            le=limits.BENCH_COMMANDS_MAX,
            description="commands sent as fast as they are taken, to find the saturation throughput",
        ),
    ] = 500_000
    offered_load_fractions: Annotated[
        tuple[LoadFraction, ...],
        Meta(
            min_length=1,
            max_length=limits.BENCH_POINTS_MAX,
            description="the points of the latency curve, as parts of the saturation throughput, ascending",
        ),
    ] = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
    point_duration_ns: Annotated[
        int,
        Meta(
            ge=limits.BENCH_POINT_NS_MIN,
            le=limits.BENCH_POINT_NS_MAX,
            description="how long one point of the curve is measured",
        ),
    ] = 1_000_000_000


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a profile decides. ``name`` is the file's, ``description`` the profile's own (not
    inherited)."""

    name: str
    description: str = ""
    transport: TransportConfig = MemoryTransportConfig()
    gateway: GatewayConfig = GatewayConfig()
    risk: RiskConfig = NoneRiskConfig()
    market_data: MarketDataConfig = NoneMarketDataConfig()
    admin: AdminConfig = NoneAdminConfig()
    queue: QueueConfig = PythonQueueConfig()
    book: BookConfig = NaiveBookConfig()
    shards: ShardsConfig = ShardsConfig()
    placement: PlacementConfig = NonePlacement()
    idle: IdleConfig = SpinThenYieldIdle()
    bench: BenchConfig = BenchConfig()
    journal: JournalConfig = NoneJournalConfig()
    replication: ReplicationConfig = NoneReplicationConfig()


class Resolved(NamedTuple):
    """Settings and where they came from.

    ``chain`` holds the names of the profiles, the resolved one first, the root last. ``origins`` maps each
    key ("queue.capacity_slots") to ``FILE:LINE``, ``default`` or ``--set``.
    """

    settings: Settings
    chain: tuple[str, ...]
    origins: dict[str, str]


class Difference(NamedTuple):
    """One key that two settings disagree about; None where a kind does not have the key."""

    key: str
    first: object
    second: object


class _Complaint(NamedTuple):
    """An impossible combination: the keys that take part and what is wrong."""

    keys: tuple[str, ...]
    problem: str


@functools.cache
def tables() -> dict[str, Table]:
    """The tables of a profile with their variants and keys, read off :class:`Settings`."""
    return tables_of(Settings)


def load_profile(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """The settings of a profile, given by name or by the path of its file.

    ``overrides`` are TABLE.KEY=VALUE texts, as ``--set`` takes them. Raises UserError for any mistake in
    them, in the file or in a file that it extends.
    """
    return resolve(name_or_path, overrides).settings


def resolve(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Resolved:
    """As :func:`load_profile`, and where each value came from."""
    chain = read_chain(name_or_path)
    layers = [*reversed(chain), *([override_layer(overrides)] if overrides else [])]
    merged = merge_layers(layers, tables())
    description = chain[0].document.get("description", "")
    document = {name: table.values() for name, table in merged.items()}
    settings = msgspec.convert({"name": chain[0].name, "description": description} | document, Settings)
    complaint = _impossible(settings)
    if complaint is not None:
        raise UserError(_blame(complaint, merged, chain[0].place()))
    origins = dict.fromkeys(flatten(settings), "default")
    for name, table in merged.items():
        origins |= {f"{name}.{key}": entry.origin for key, entry in table.entries.items()}
    return Resolved(settings, tuple(layer.name for layer in chain), origins)


def without_backup(settings: Settings) -> Settings:
    """The same for an exchange that is alone, whatever the profile says: a replay, or one that is simulated."""
    return msgspec.structs.replace(settings, replication=NoneReplicationConfig())


def list_profiles() -> tuple[str, ...]:
    """Names of the profiles that come with the exchange, each after the one that it extends.

    A file that is broken is named too, at the end: loading it says what is wrong.
    """

    def stair(name: str) -> tuple[int, str]:
        try:
            return len(read_chain(name)), name
        except UserError:
            return limits.PROFILE_CHAIN_MAX + 1, name

    return tuple(sorted(builtin_names(), key=stair))


def to_dict(settings: Settings) -> dict[str, object]:
    """``settings`` as plain dictionaries, lists and numbers for a JSON file, shaped as a profile is.

    A user's own layer has its kind as a profile writes it, ``file:PATH:NAME``, with the absolute path.
    """
    document: dict[str, object] = msgspec.to_builtins(settings)
    queue = document["queue"]
    if isinstance(settings.queue, UserQueueConfig) and isinstance(queue, dict):
        kind = f"file:{queue.pop('path')}:{queue.pop('name')}"
        document["queue"] = {"kind": kind} | {key: value for key, value in queue.items() if key != "kind"}
    return document


def flatten(settings: Settings) -> dict[str, object]:
    """The values of all tables by dotted key, ``{"queue.kind": "spsc", ...}``, without name and
    description."""
    flat: dict[str, object] = {}
    for table, content in to_dict(settings).items():
        if isinstance(content, dict):
            flat |= {f"{table}.{key}": value for key, value in content.items()}
    return flat


def diff(first: Settings, second: Settings) -> tuple[Difference, ...]:
    """The keys in which two settings differ; names and descriptions are not compared."""
    left, right = flatten(first), flatten(second)
    keys = [*left, *(key for key in right if key not in left)]
    order = {table: position for position, table in enumerate(tables())}
    keys.sort(key=lambda key: order[key.partition(".")[0]])
    return tuple(
        Difference(key, left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)
    )


def warnings(settings: Settings, cores: int, numa_nodes: int = 0) -> tuple[str, ...]:
    """What is possible but unwise on a machine with so many cores and nodes for us (0: not known), a line each."""
    found = []
    if isinstance(settings.placement, NumaPlacement) and numa_nodes == 1:
        found.append(
            "placement.kind = numa with one NUMA node is the same as pinned: there is nothing to choose"
        )
    threads = sum(names != (JOURNAL_AGENT,) for names in thread_layout(settings, cores))
    if threads <= cores:
        return tuple(found)
    count = f"{threads} threads on {cores} {'core' if cores == 1 else 'cores'}"
    if isinstance(settings.idle, BusySpinIdle):
        found.append(
            f"idle.kind = busy-spin with {count}: a thread that spins keeps its core from the one that has"
            " the work; use spin-then-yield, or put more agents on one thread (shards.threads)"
        )
    if isinstance(settings.placement, PinnedPlacement | NumaPlacement):
        kind = type(settings.placement).__struct_config__.tag
        found.append(f"placement.kind = {kind} with {count}: two that share a core cannot part")
    return tuple(found)


def _impossible(settings: Settings) -> _Complaint | None:
    """The first combination of values that no exchange can have, if there is one."""
    book = settings.book
    if book.price_min_ticks > book.price_max_ticks:
        return _Complaint(
            ("book.price_min_ticks", "book.price_max_ticks"),
            f"price_min_ticks = {book.price_min_ticks} is above price_max_ticks = {book.price_max_ticks}:"
            " no price would be accepted",
        )
    fractions = settings.bench.offered_load_fractions
    if any(low >= high for low, high in pairwise(fractions)):
        return _Complaint(("bench.offered_load_fractions",), "must ascend, each number once")
    is_datagrams = isinstance(settings.transport, UdpTransportConfig | AfxdpTransportConfig)
    if is_datagrams and settings.transport.ingress_lanes > 1:
        return _Complaint(
            ("transport.kind", "transport.ingress_lanes"),
            f"all sessions of udp and afxdp share one port, which one ingress reads, and there are"
            f" {settings.transport.ingress_lanes} ingress lanes; several take tcp, and dpdk with as many receiving"
            " queues",
        )
    problem = find_problem(settings.risk, settings.gateway.symbols)
    if problem is not None:
        return _Complaint((f"risk.{problem[0]}",), problem[1])
    misplaced = find_owner_problem(settings.shards, settings.gateway.symbols)
    if misplaced is not None:
        return _Complaint(("shards.assign", "shards.count", "gateway.symbols"), misplaced)
    unfit = find_process_problem(settings)
    if unfit is not None:
        return _Complaint(("shards.run_as", unfit[0]), unfit[1])
    return (
        _impossible_threads(settings)
        or _impossible_waiting(settings)
        or _impossible_queues(settings)
        or _impossible_journal(settings)
        or _impossible_replication(settings)
    )


def _impossible_threads(settings: Settings) -> _Complaint | None:
    if settings.shards.threads == "auto":
        return None
    agents = agent_names(settings)
    named = [agent for thread in settings.shards.threads for agent in thread]
    expected = f"each of {', '.join(agents)} must be in exactly one list"
    keys = ("shards.threads", "shards.count", "transport.ingress_lanes")
    for agent in named:
        if agent not in (*agents, *OPTIONAL_AGENTS):
            hint = did_you_mean(agent, agents)
            return _Complaint(keys, f"threads name an unknown agent {show_value(agent)}{hint}; {expected}")
        if named.count(agent) > 1:
            return _Complaint(keys, f"threads name {agent} twice; {expected}")
    for agent in agents:
        if agent not in (*named, *OPTIONAL_AGENTS):
            return _Complaint(keys, f"threads leave out {agent}; {expected}")
    if not all(settings.shards.threads):
        return _Complaint(keys, "threads have an empty list: a thread without an agent")
    return None


def _impossible_waiting(settings: Settings) -> _Complaint | None:
    if not isinstance(settings.idle, BlockIdle):
        return None
    keys = ("idle.kind", "transport.kind", "transport.ingress_lanes", "shards.threads")
    if isinstance(settings.transport, MemoryTransportConfig):
        return _Complaint(
            keys, "block sleeps until a socket has something, and transport.kind = memory has none"
        )
    if isinstance(settings.transport, DpdkTransportConfig):
        return _Complaint(
            keys, "block sleeps until a socket has something, and a card that is polled tells nobody"
        )
    if not isinstance(settings.replication, NoneReplicationConfig):
        return _Complaint(
            (*keys, "replication.kind"),
            "block sleeps until a client says something, and would sleep through what its backup says; take park",
        )
    layout = settings.shards.threads
    if layout == "auto" or sum(names != (JOURNAL_AGENT,) for names in layout) > 1:
        return _Complaint(
            keys,
            "block sleeps until a client says something, which is right where one thread runs all agents;"
            ' shards.threads = [["ingress", "shard.0", "egress"]] is such a layout, and others take park',
        )
    if settings.transport.ingress_lanes > 1:
        return _Complaint(keys, "block watches one ingress lane; transport.ingress_lanes must be 1")
    return None


def _impossible_queues(settings: Settings) -> _Complaint | None:
    from exchange.messages import RECORD_BYTES  # brings numpy, which asking for help need not load

    if isinstance(settings.queue, DisruptorQueueConfig) and settings.transport.ingress_lanes > 1:
        return _Complaint(
            ("queue.kind", "transport.ingress_lanes"),
            f"a disruptor has one producer, and there are {settings.transport.ingress_lanes} ingress lanes;"
            " several take spsc, mpsc or locked",
        )
    if (
        isinstance(settings.transport, DpdkTransportConfig)
        and isinstance(settings.queue, SpscQueueConfig)
        and settings.transport.ingress_lanes > 1
    ):
        return _Complaint(
            ("queue.kind", "transport.ingress_lanes"),
            "a client of dpdk that comes back may come to another ingress lane, and spsc has a ring for each lane, in"
            " which newer requests could overtake older ones; several lanes of dpdk take mpsc or locked",
        )
    lanes = settings.transport.ingress_lanes if isinstance(settings.queue, SpscQueueConfig) else 1
    rings = settings.shards.count * (lanes + 1)
    needed = rings * settings.queue.capacity_slots * RECORD_BYTES
    if needed <= limits.QUEUE_MEMORY_BYTES_MAX:
        return None
    return _Complaint(
        ("queue.capacity_slots", "shards.count", "transport.ingress_lanes"),
        f"{rings} queues of {settings.queue.capacity_slots} slots need {needed >> 30} GiB;"
        f" at most {limits.QUEUE_MEMORY_BYTES_MAX >> 30} GiB are allowed",
    )


def _impossible_journal(settings: Settings) -> _Complaint | None:
    if isinstance(settings.journal, NoneJournalConfig):
        return None
    from exchange.journal.layout import SEGMENT_HEADER_BYTES, frame_bytes  # brings numpy

    # A batch is one frame and lies in one segment. Before each command may stand its DETAILS.
    needed = SEGMENT_HEADER_BYTES + frame_bytes(2 * settings.shards.batch_commands)
    if needed <= settings.journal.segment_bytes:
        return None
    return _Complaint(
        ("journal.segment_bytes", "shards.batch_commands"),
        f"a batch of {settings.shards.batch_commands} commands with their details needs {needed} bytes,"
        f" and a segment has {settings.journal.segment_bytes}",
    )


def _impossible_replication(settings: Settings) -> _Complaint | None:
    if isinstance(settings.replication, NoneReplicationConfig):
        return None
    if isinstance(settings.journal, NoneJournalConfig):
        return _Complaint(
            ("replication.kind", "journal.kind"),
            "a backup that comes late or falls behind reads the primary's journal, so there must be one:"
            " journal.kind = file or mapped",
        )
    from exchange.journal.layout import frame_bytes  # brings numpy

    problem = find_replication_problem(settings.replication, frame_bytes(2 * settings.shards.batch_commands))
    return (
        None if problem is None else _Complaint(tuple(f"replication.{key}" for key in problem[0]), problem[1])
    )


def _blame(complaint: _Complaint, merged: dict[str, MergedTable], place: str) -> str:
    """The complaint as a message about the key that was written last, for the layers below it were
    possible."""
    written: list[tuple[Entry, str]] = []
    for key in complaint.keys:
        table, _, name = key.partition(".")
        if table in merged and name in merged[table].entries:
            written.append((merged[table].entries[name], key))
    if not written:
        return f"{place}: {complaint.keys[0]}: {complaint.problem}"
    entry, key = max(written, key=lambda pair: pair[0].depth)
    return f"{entry.place}: {key} = {show_value(entry.value)}: {complaint.problem}"
