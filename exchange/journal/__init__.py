"""The journal: what the shards sequence, written down so that an exchange that ends can go on where it was.

======= ================================== =============================================================
variant what it is                         what it trades
======= ================================== =============================================================
none    nothing                            nothing is on the path; what the exchange knows ends with it
file    a system call for each batch       a microsecond for each batch; an error is an error
mapped  a copy into a mapped file          nothing but a copy and a checksum; a failing disk is a signal
======= ================================== =============================================================

What all of them promise stands in :mod:`exchange.journal.protocol`, the bytes in :mod:`exchange.journal.layout`.

* :mod:`~exchange.journal.frames` - one frame: written, checked, found
* :mod:`~exchange.journal.segment`, :mod:`~exchange.journal.segmented` - files, and the owner of a stream's files
* :mod:`~exchange.journal.words` - what the threads of a stream share
* :mod:`~exchange.journal.keeper`, :mod:`~exchange.journal.syncing` - the two threads beside the writers
* :mod:`~exchange.journal.identity` - what a journal belongs to, and who holds it
* :mod:`~exchange.journal.reading`, :mod:`~exchange.journal.judging` - reading it again, and where it ends"""

from typing import TYPE_CHECKING, assert_never

from exchange.journal.config import FileJournalConfig, JournalConfig, MappedJournalConfig, NoneJournalConfig

if TYPE_CHECKING:
    from exchange.journal.identity import JournalDirectory
    from exchange.journal.protocol import Journal


def build_journal(
    config: JournalConfig, directory: "JournalDirectory | None", stream_name: str, next_sequence: int = 1
) -> "Journal":
    """The journal of one stream, in the chosen variant.

    Args:
        config: the [journal] table of a profile.
        directory: where, held by the caller as long as the journal is open. Of no use to ``none``.
        stream_name: ``shard-0`` ..., or ``merge``.
        next_sequence: of the first record that will be appended: 1, or what a reader has found.

    Raises:
        UserError: there is no room, or the stream's folder holds something from ``next_sequence`` on.
    """
    match config:
        case NoneJournalConfig():
            from exchange.journal.none import NoneJournal

            return NoneJournal()
        case FileJournalConfig():
            from exchange.journal.file import FileJournal

            assert directory is not None
            identity = directory.identity.stream(stream_name)
            return FileJournal(directory.path / stream_name, identity, config.segment_bytes, next_sequence)
        case MappedJournalConfig():
            from exchange.journal.mapped import MappedJournal

            assert directory is not None
            identity = directory.identity.stream(stream_name)
            return MappedJournal(directory.path / stream_name, identity, config.segment_bytes, next_sequence)
        case _:
            assert_never(config)
