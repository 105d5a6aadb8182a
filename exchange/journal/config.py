"""The settings of the journal: whether what the shards sequence is written down, how, and what waits for it.

These are the [journal] table of a profile. Rules: importing this module loads nothing of the layer; what two settings
together rule out is checked in :mod:`exchange.settings`.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from exchange import limits

Gate = Literal["none", "written", "synced"]

_Directory = Annotated[
    str,
    Meta(
        description="folder of the journal; one exchange at a time writes to it, from one start to the next"
    ),
]
_Gate = Annotated[
    Gate,
    Meta(
        description="when events may leave: at once, when their commands are written (outlives the process),"
        " or when they are synced (outlives the machine)"
    ),
]
_SegmentBytes = Annotated[
    int,
    Meta(
        ge=limits.SEGMENT_BYTES_MIN,
        le=limits.SEGMENT_BYTES_MAX,
        description="size of one file of a journal, laid out before it is needed",
        extra={"power_of_two": True},
    ),
]
_SyncEvery = Annotated[
    int,
    Meta(
        ge=limits.SYNC_EVERY_NS_MIN,
        le=limits.SYNC_EVERY_NS_MAX,
        description="how often the journal is synced where no event waits for it (gate = synced syncs at once)",
    ),
]

_SnapshotEvery = Annotated[
    int,
    Meta(
        ge=0,
        le=limits.SNAPSHOT_EVERY_NS_MAX,
        description="how often a process beside a served exchange makes a snapshot of its journal; 0 is never",
    ),
]

SEGMENT_BYTES_DEFAULT = 64 << 20
SYNC_EVERY_NS_DEFAULT = 100_000_000


class NoneJournalConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Nothing is written down: what the exchange knows is gone when it ends."""


class FileJournalConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="file"):
    """Each batch is written to a file with one system call."""

    directory: _Directory = "exchange-journal"
    gate: _Gate = "written"
    segment_bytes: _SegmentBytes = SEGMENT_BYTES_DEFAULT
    sync_every_ns: _SyncEvery = SYNC_EVERY_NS_DEFAULT
    snapshot_every_ns: _SnapshotEvery = 0


class MappedJournalConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="mapped"):
    """Each batch is copied into a file that is mapped into memory: no system call."""

    directory: _Directory = "exchange-journal"
    gate: _Gate = "written"
    segment_bytes: _SegmentBytes = SEGMENT_BYTES_DEFAULT
    sync_every_ns: _SyncEvery = SYNC_EVERY_NS_DEFAULT
    snapshot_every_ns: _SnapshotEvery = 0


JournalConfig = NoneJournalConfig | FileJournalConfig | MappedJournalConfig
