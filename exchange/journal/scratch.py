"""A journal for an exchange whose clients are in the same memory: written like any other, and gone afterwards.

A benchmark asks what writing costs, and a replay is over when its last answer has come; neither wants to go on where
another has ended. So their journal lies in a fresh folder beside the one that the settings name, on the same disk, and
is removed in the end."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exchange.errors import UserError
from exchange.journal.config import NoneJournalConfig
from exchange.journal.identity import JournalDirectory, Opening, outcomes_of
from exchange.journal.streams import JournalStreams
from exchange.settings import Settings


@contextmanager
def scratch_streams(settings: Settings) -> Iterator[JournalStreams | None]:
    """The streams that an exchange with these settings takes, until the block ends; None if it keeps no journal.

    The threads of the exchange must have ended then.

    Raises:
        UserError: the folder cannot be made, or there is no room.
    """
    if isinstance(settings.journal, NoneJournalConfig):
        yield None
        return
    beside = Path(settings.journal.directory).absolute().parent
    try:
        scratch = tempfile.TemporaryDirectory(prefix="exchange-journal-", dir=beside)
    except OSError as error:
        raise UserError(
            f"journal.directory = {settings.journal.directory!r}: no folder can be made beside it: {error.strerror}"
        ) from error
    # Nobody reads such a journal, but its segments say whose they are like any other's.
    outcomes = outcomes_of(settings, Opening(session_name="scratch", midnight_ns=0, opened_ns=0))
    with scratch as folder, JournalDirectory(Path(folder), outcomes) as directory:
        apart = settings.shards.run_as == "processes"
        streams = JournalStreams(settings.journal, directory, settings.shards.count, apart=apart)
        try:
            yield streams
        finally:
            streams.close()
