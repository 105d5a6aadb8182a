"""What a journal promises, once, for every variant.

A journal is a *stream* of records of 64 bytes with consecutive sequences: record ``n`` of the stream has the sequence
``n``, from 1 on. It is written by one thread in *frames*, one for each append; made durable by another thread, the
journal's own; and its progress can be read by anyone. Segments are prepared for it by a third, the keeper
(:mod:`exchange.journal.keeper`), so that the writer never opens, enlarges or waits for a file.

Who may call what:

* ``append``, ``append_and_copy``: one thread, the writer (a shard, or the egress for the stream ``merge``).
* ``sync``: one thread, that of the journal agent. It may wait for a disk, which is why it has a thread of its own.
* ``durable_sequence``: anyone, at any time.

What has been appended survives the end of the process, however it ends. What is durable survives the end of the
machine. A frame is there wholly or not at all.
"""

from typing import Any, Final, Protocol

from exchange.native import generic

ALL_DURABLE: Final = (1 << 63) - 1
"""The durable sequence of a journal that writes nothing: no event has to wait for it."""


@generic
def append(journal: Any, records_address: int, count: int, first_sequence: int) -> bool:
    """Write ``count`` consecutive records as one frame. False, and nothing changed, if there is no room now.

    ``first_sequence`` is the first record's, and the next one of the stream; ``count`` is 1 or more, and a frame of so
    many fits into a segment. After False the caller keeps the records, takes no more, and asks again at its next
    turn: that is back-pressure.
    """
    raise NotImplementedError


@generic
def append_and_copy(
    journal: Any, records_address: int, count: int, first_sequence: int, copy_address: int
) -> bool:
    """As ``append``, and the same frame once more at ``copy_address``, its header of 64 bytes included.

    There is room for it, at a multiple of 64. After False it has not been touched. A journal that writes nothing makes
    no frames and has no such operation.
    """
    raise NotImplementedError


@generic
def durable_sequence(journal: Any) -> int:
    """The highest sequence that is known to be synced; never decreases. 0 if nothing is."""
    raise NotImplementedError


@generic
def sync(journal: Any) -> int:
    """Make durable what has been appended before the call; returns how many records became so, 0 for none.

    After a failure the durable sequence stays where it is for good, for nobody knows what is on the disk; the keeper
    ends the exchange.
    """
    raise NotImplementedError


OPERATIONS = (append, durable_sequence, sync)
"""What a variant has to implement for its state."""


class Journal(Protocol):
    """The owner of a stream's journal: its memory, its files, and the state that compiled code uses."""

    @property
    def state(self) -> Any:
        """What the operations take."""

    def keep(self) -> bool:
        """Do what there is to do with files now: name, prepare, close. Called by the keeper again and again.

        Returns:
            Whether the writer will soon wait for it, so that the next call should come at once.
        """

    def appended_sequence(self) -> int:
        """The last sequence that was appended; 0 before the first one."""

    def make_ready(self) -> bool:
        """Make room at once, after an append has found none and before anybody runs that would.

        Returns:
            Whether there is room now; if not, the disk is full.

        Raises:
            OSError: the disk fails.
        """

    def set_epoch(self, epoch: int) -> None:
        """Frames that are appended from now on say that they are of this epoch. For when nobody appends."""

    def close(self) -> None:
        """Sync and close. No thread may use the state any more."""
