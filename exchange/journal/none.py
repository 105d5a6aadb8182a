"""No journal: every append succeeds, nothing is kept, and everything counts as durable at once.

So the loops that append and wait for durability are the same with and without a journal, and without one they cost
nothing: the compiler sees constants."""

from typing import NamedTuple

from exchange.journal.protocol import ALL_DURABLE, append, durable_sequence, sync
from exchange.journal.segmented import unsynced_segments
from exchange.native import implements


class NoneWriter(NamedTuple):
    """Nothing; compiled code wants one field."""

    durable: int = ALL_DURABLE


class NoneJournal:
    """The owner of nothing."""

    def __init__(self) -> None:
        self.state = NoneWriter()

    def keep(self) -> bool:
        """Nothing to do."""
        return False

    def appended_sequence(self) -> int:
        """Nothing has been kept."""
        return 0

    def make_ready(self) -> bool:
        """There is always room."""
        return True

    def set_epoch(self, epoch: int) -> None:
        """Nobody writes it down."""

    def close(self) -> None:
        """Nothing to close."""


@implements(append, NoneWriter)
def _append(journal: NoneWriter, records_address: int, count: int, first_sequence: int) -> bool:
    return True


@implements(durable_sequence, NoneWriter)
def _durable_sequence(journal: NoneWriter) -> int:
    return ALL_DURABLE


@implements(sync, NoneWriter)
def _sync(journal: NoneWriter) -> int:
    return 0


@implements(unsynced_segments, NoneWriter)
def _unsynced_segments(journal: NoneWriter) -> int:
    return 0
