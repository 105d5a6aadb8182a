"""The keeper: the thread that does for the journals what must not hold up anybody who handles orders.

It makes files, zeros them, renames and closes them, and readies the pages ahead of a mapped journal
(:meth:`~exchange.journal.segmented.SegmentedJournal.keep`), for all streams of an exchange, every few milliseconds. It
is a plain Python thread, a member of the exchange's :class:`~exchange.agent.ThreadGroup` beside the threads of the
agents: if a disk fails, it ends with :class:`DiskFailure`, and the group with it.
"""

from collections.abc import Sequence
from threading import Event
from typing import Final

from exchange.agent import GroupThread
from exchange.errors import UserError
from exchange.journal.protocol import Journal

KEEP_EVERY_S: Final = 0.002
"""How long the keeper sleeps between two looks, unless somebody will soon wait for it. In that time a mapped journal
writes a megabyte or two at the most."""


class DiskFailure(UserError):
    """A disk does no more what a journal needs of it. The exchange ends, and whoever runs it has to see to the disk.

    Args:
        error: what the kernel says, and mostly of which file or folder.
    """

    def __init__(self, error: OSError) -> None:
        place = f"journal {error.filename}" if error.filename else "journal"
        super().__init__(f"{place}: {error.strerror or error}")


class JournalKeeper(GroupThread):
    """The thread that keeps some journals, as long as it runs."""

    def __init__(self, journals: Sequence[Journal], name: str = "journal-keeper") -> None:
        super().__init__(name)
        self._journals: Final = tuple(journals)
        self._is_stopped: Final = Event()

    def request_stop(self) -> None:
        """End at the next turn."""
        self._is_stopped.set()

    def work(self) -> None:
        """Look after each journal, round and round.

        Raises:
            DiskFailure: a disk fails.
        """
        is_late = False
        while not self._is_stopped.wait(0 if is_late else KEEP_EVERY_S):
            is_late = False
            for journal in self._journals:
                try:
                    is_late |= journal.keep()
                except OSError as error:
                    raise DiskFailure(error) from error
