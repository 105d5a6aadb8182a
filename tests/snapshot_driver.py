"""What tests of snapshots share: a header, and parts that go through a file."""

from collections.abc import Callable
from pathlib import Path

from exchange.snapshot.sections import (
    SectionFile,
    SectionWriter,
    SnapshotHeader,
    write_sections,
)

HEADER = SnapshotHeader(-0x7EDC_BA98_7654_3210, -3, (17, 4, 21), 1_700_000_000_000_000_001)


def written(path: Path, save: Callable[[SectionWriter], object]) -> SectionFile:
    """A snapshot of what ``save`` writes, verified and open."""
    with write_sections(path, HEADER) as writer:
        save(writer)
    return SectionFile(path)
