"""The settings of the shards: how many there are, which symbols are whose, and what runs them.

These are the [shards] table of a profile. Rules: importing this module loads nothing of any layer.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta, Struct

from exchange import limits
from exchange.book.config import NaiveBookConfig
from exchange.profile_files import show_value
from exchange.queues.config import PythonQueueConfig, UserQueueConfig
from exchange.replication.config import RdmaReplicationConfig, TcpReplicationConfig
from exchange.transport.config import AfxdpTransportConfig, DpdkTransportConfig

if TYPE_CHECKING:
    from exchange.settings import Settings

ThreadLayout = tuple[tuple[str, ...], ...]
"""One tuple of agent names per thread."""


class ShardsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How many shards share the symbols out among them, and which threads run the agents."""

    count: Annotated[
        int, Meta(ge=1, le=limits.SHARDS_MAX, description="shards; each owns its share of the symbols alone")
    ] = 1
    threads: Annotated[
        Literal["auto"] | ThreadLayout,
        Meta(
            description="agent names, a list per thread; auto: one for the clients' side, the rest for shards"
        ),
    ] = "auto"
    run_as: Annotated[
        Literal["threads", "processes"],
        Meta(
            description="what runs the shards' lists of threads: threads of the exchange, or processes beside it"
            " with the same queues in shared memory"
        ),
    ] = "threads"
    batch_commands: Annotated[
        int,
        Meta(
            ge=1,
            le=limits.BATCH_COMMANDS_MAX,
            description="commands that a shard takes from its inbox before it hands events on",
        ),
    ] = 256
    assign: Annotated[
        dict[str, Annotated[int, Meta(ge=0, le=limits.SHARDS_MAX - 1)]],
        Meta(
            description="shards of single symbols, by name; all others are shared out by a digest of their names"
        ),
    ] = {}


def find_owner_problem(shards: ShardsConfig, symbols: Sequence[str]) -> str | None:
    """What is wrong with the owners of single symbols, in an exchange with these symbols; None if nothing is."""
    for symbol, shard in shards.assign.items():
        if symbol not in symbols:
            return f"{show_value(symbol)} is none of gateway.symbols, which has {show_value(symbols)}"
        if shard >= shards.count:
            count = shards.count
            return f"{symbol} is on shard {shard}, and shards.count = {count}: shards are 0 to {count - 1}"
    return None


_WITHOUT_PROCESSES: Final[tuple[tuple[str, tuple[type[Struct], ...], str], ...]] = (
    (
        "queue",
        (PythonQueueConfig, UserQueueConfig),
        "its memory is one process's alone; locked, spsc, mpsc and disruptor are between processes too",
    ),
    ("book", (NaiveBookConfig,), "it is Python objects; ladder is memory"),
    (
        "transport",
        (AfxdpTransportConfig, DpdkTransportConfig),
        "memory that a card writes to is not to be forked; memory, tcp and udp can be",
    ),
    (
        "replication",
        (TcpReplicationConfig, RdmaReplicationConfig),
        "the rings for the backup are the memory of the process that has the link",
    ),
)
"""Tables and their kinds that do not go with shards in processes of their own, and why."""


def find_process_problem(settings: "Settings") -> tuple[str, str] | None:
    """What keeps the shards from being processes, if they are to be: a key that takes part, and the problem."""
    if settings.shards.run_as == "threads":
        return None
    for names in settings.shards.threads if settings.shards.threads != "auto" else ():
        if len({name.startswith("shard.") for name in names}) > 1:
            return "shards.threads", (
                f"{show_value(names)} has shards and others in one list, and only shards are in processes of their"
                ' own; give them lists of their own, or threads = "auto"'
            )
    for table, kinds, reason in _WITHOUT_PROCESSES:
        chosen = getattr(settings, table)
        if isinstance(chosen, kinds):
            kind = f"{table}.kind = {show_value(type(chosen).__struct_config__.tag)}"
            return f"{table}.kind", f"processes do not go with {kind}: {reason}"
    return None
