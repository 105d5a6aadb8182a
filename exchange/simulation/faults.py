"""The faults of the disk, as turns of the simulation: it is full for a while, or it fails a sync.

A *full* disk makes the exchange wait, and nothing else. There is no room for another segment, or not even for a write;
appends are refused, so nothing is sequenced, and nobody is told of anything that was not. The exchange says so in its
log, and says when there is room. Started on a full disk it says that and does not start.

A sync that *fails* ends the exchange: its keeper must raise that at its next turn, whatever the others did in between.
It closes its journals as far as it can, and is started anew from what the disk has.

What an exchange says in its log is heard by :class:`Announcements`, which is held against what the disk did."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from errno import ENOSPC
from typing import TYPE_CHECKING, Final

from exchange.agent_layout import JOURNAL_AGENT
from exchange.journal.mapped import MappedWriter
from exchange.journal.segmented import RETRY_NS, SegmentedJournal
from exchange.journal.words import SYNC_FAILURE, WRITE_FAILURE
from exchange.logs import LOGGER
from exchange.native import load_int64
from exchange.simulation.chance import Trace
from exchange.simulation.invariants import broken
from exchange.simulation.refusals import room_from, sync_fails, writes_cut, writes_refused
from exchange.simulation.restart import SYNC_FAILED, end_and_restart

if TYPE_CHECKING:
    from exchange.simulation.simulator import Simulation
    from exchange.simulation.venue import SteppedAgent

FRAME_BYTES_MIN: Final = 128
"""A frame of one record: fewer bytes are no frame."""

_FULL: Final = "journal-full"
_HAS_ROOM: Final = "journal-has-room"


class Announcements(logging.Handler):
    """What the exchange has said of its disk: for each stream how many of its complaints are not taken back.

    There may be two for a stream: no room for the next segment, and none for a write.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__(logging.WARNING)
        self.complaints: Final[Counter[str]] = Counter()
        self._trace: Final = trace

    def emit(self, record: logging.LogRecord) -> None:
        """A line was written to the log."""
        event = record.getMessage()
        if event in (_FULL, _HAS_ROOM):
            stream = getattr(record, "exchange_fields")["stream"]  # noqa: B009 - logging adds what it is given
            self._trace.note(event, stream)
            self.complaints[stream] += 1 if event == _FULL else -1


@contextmanager
def hearing(trace: Trace) -> Iterator[Announcements]:
    """Have the exchange write its log for us alone: ends and torn journals are nothing special here."""
    heard, before = Announcements(trace), (LOGGER.level, LOGGER.propagate)
    LOGGER.setLevel(logging.WARNING)
    LOGGER.propagate = False
    LOGGER.addHandler(heard)
    try:
        yield heard
    finally:
        LOGGER.removeHandler(heard)
        LOGGER.setLevel(before[0])
        LOGGER.propagate = before[1]


def change_room(simulation: "Simulation") -> None:
    """The disk is full from now on; if it is so already, perhaps there is room again."""
    disk = simulation.disk
    if not disk.is_full:
        disk.is_full = True
        simulation.trace.note("disk full")
    elif simulation.fault_chance.happens(0.3):
        simulation.give_room()


def fail_sync(simulation: "Simulation") -> None:
    """A sync fails that the journal's agent does for one of the streams, if there is something to sync."""
    journals = simulation.venue.streams()
    waiting = [one for one in journals if one.appended_sequence() > one.durable_sequence()]
    if simulation.failed_stream or not waiting or not simulation.may_crash():
        return
    journal = simulation.fault_chance.pick(waiting)
    simulation.failed_stream = journal.folder.name
    simulation.trace.note("sync fails", simulation.failed_stream)
    with sync_fails(journal, is_mapped=isinstance(journal.state, MappedWriter)):
        simulation.step_agent(JOURNAL_AGENT)
    assert load_int64(journal.words + SYNC_FAILURE) != 0


def hindered(simulation: "Simulation", agent: "SteppedAgent") -> AbstractContextManager[None]:
    """For a turn of an agent on a disk that is full and takes no write: part of a frame is written, or nothing."""
    journal = simulation.venue.journal_of(agent)
    if journal is None:
        return nullcontext()
    chance = simulation.fault_chance
    if chance.happens(0.3):
        return writes_cut(journal, chance.number(1, FRAME_BYTES_MIN - 1))
    return writes_refused(journal)


def keep_journals(simulation: "Simulation") -> None:
    """What the keeper does in a turn, and what it must do if the disk is full or has failed."""
    has_failed = False
    with room_from(simulation.disk.ask_for_room, simulation.now_ns):
        for journal in simulation.venue.streams():
            refusals = simulation.disk.refusals
            try:
                journal.keep()
            except OSError:
                if simulation.failed_stream != journal.folder.name:
                    raise
                has_failed = True
                break
            _check_announced(simulation, journal, is_refused=simulation.disk.refusals > refusals)
    simulation.disk.note_new_files()
    if has_failed:
        end_and_restart(simulation, SYNC_FAILED)
    elif simulation.failed_stream:
        raise broken(
            "a sync that fails ends the exchange",
            f"it goes on without {simulation.failed_stream} on its disk",
        )


def end_faults(simulation: "Simulation") -> None:
    """No faults any more: there is room, which is soon found out, and an exchange whose disk has failed ends now."""
    simulation.give_room()
    simulation.time.advance(RETRY_NS)
    if simulation.plan.has_journal:
        keep_journals(simulation)


def check_no_complaints(simulation: "Simulation") -> None:
    """When there is room everywhere the exchange has said so."""
    left = {stream: count for stream, count in simulation.announcements.complaints.items() if count}
    if left:
        raise broken("a full disk is told of", f"there is room, and the log still has complaints: {left}")


def _check_announced(simulation: "Simulation", journal: SegmentedJournal, *, is_refused: bool) -> None:
    stream = journal.folder.name
    has_no_room = is_refused or load_int64(journal.words + WRITE_FAILURE) == -ENOSPC
    if has_no_room and simulation.announcements.complaints[stream] <= 0:
        raise broken("a full disk is told of", f"{stream} has no room, and the log says nothing of it")
