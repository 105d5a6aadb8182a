"""A served exchange and its journal: from the folder to where the exchange was.

:class:`KeptJournal` goes along with a start. First it takes the folder: what stands there decides who the sessions
belong to, what the session is called and from which midnight times count, for clients must find again what they left.
Then it says where the streams go on, so that the exchange can be built. At last it replays them into the exchange that
was built (:mod:`exchange.recovery.following`): to their end, or, in a backup, as far as they go now.

**Sessions** are numbered by the place of their user. The journal's records have these numbers, so the folder remembers
whose they are, in ``sessions.json``: a user that is new in the users' file gets the next number, whatever its place
there; one that is missing is an error, because its orders are in the books.

Rules: the folder is held until :meth:`KeptJournal.close`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from exchange.errors import UserError
from exchange.gateway.credentials import Users
from exchange.journal.config import NoneJournalConfig
from exchange.journal.identity import (
    IDENTITY_NAME,
    JournalDirectory,
    Opening,
    outcomes_of,
    read_identity,
)
from exchange.journal.segment import write_document
from exchange.journal.streams import JournalStreams
from exchange.logs import log_event
from exchange.recovery.following import Following
from exchange.recovery.opening import START, find_ends
from exchange.recovery.snapshots import open_newest, position_of
from exchange.settings import Settings
from exchange.transport.network import NetworkTransport

if TYPE_CHECKING:
    from exchange.assembly import Exchange
    from exchange.market_data.feed_server import FeedServer

SESSIONS_NAME: Final = "sessions.json"


class Session(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose a session is, and what it speaks."""

    user: str
    protocol: str


class KeptJournal:
    """A journal's folder, held, and what it decides.

    Args:
        settings: whose journal is kept.
        users: who may log on.
        opening: how the day begins if the journal does.

    Attributes:
        opening: how the day of the journal began.
        users: the same users, each at the place that its session has.

    Raises:
        UserError: another process holds the folder; it belongs to other settings or users; it is damaged.
    """

    def __init__(self, settings: Settings, users: Users, opening: Opening) -> None:
        config = settings.journal
        assert not isinstance(config, NoneJournalConfig)
        self._began_seconds: Final = time.monotonic()
        self._settings: Final = settings
        path = Path(config.directory)
        if (path / IDENTITY_NAME).exists():
            found = read_identity(path).outcomes
            opening = Opening(found.session_name, found.midnight_ns, found.opened_ns)
        self.opening: Final = opening
        self.directory: Final = JournalDirectory(path, outcomes_of(settings, opening))
        try:
            self.users: Final = keep_sessions(path / SESSIONS_NAME, users)
            shards, identity = settings.shards.count, self.directory.identity
            self._snapshot: Final = open_newest(path, identity)
            self._begin: Final = START if self._snapshot is None else position_of(self._snapshot, shards)
            self._ends: Final = find_ends(self.directory, shards, self._begin)
        except BaseException:
            self.directory.close()
            raise

    @property
    def is_new(self) -> bool:
        """Whether nothing has happened in it yet."""
        return all(following == 1 for following in self._ends.next_sequences)

    def open_streams(self) -> JournalStreams:
        """The journals, to be appended to from where the streams end."""
        shards = self._settings.shards.count
        return JournalStreams(self._settings.journal, self.directory, shards, self._ends.next_sequences)

    @property
    def next_sequences(self) -> list[int]:
        """For each stream with which sequence it went on at the start."""
        return self._ends.next_sequences

    def follow(
        self, exchange: "Exchange", transport: NetworkTransport, feed: "FeedServer | None"
    ) -> Following:
        """Bring an exchange that was just built to where the journal is, and let it be brought further.

        Raises:
            UserError: a record that this exchange cannot have written.
        """
        following = Following(exchange, transport, feed, [user.name for user in self.users.users])
        opened_ns = self.opening.opened_ns - self.opening.midnight_ns
        following.open(self.directory.path, self.directory.identity, self._snapshot, self._begin, opened_ns)
        try:
            following.follow()
        except BaseException:
            following.close()
            raise
        return following

    def recover(self, exchange: "Exchange", transport: NetworkTransport, feed: "FeedServer | None") -> None:
        """Replay the journal into an exchange that was just built; its threads must not run.

        Raises:
            UserError: a record that this exchange cannot have written.
        """
        following = self.follow(exchange, transport, feed)
        try:
            following.finish()
        finally:
            following.close()
        log_event(
            "recovered",
            cut_bytes=self._ends.cut_bytes,
            snapshot_commands=sum(self._begin.shards),
            replayed_commands=following.replayer.commands,
            live_orders=following.live_orders,
            seconds=round(time.monotonic() - self._began_seconds, 3),
            digest=exchange.digest(),
        )

    def close(self) -> None:
        """Let others have the folder."""
        if self._snapshot is not None:
            self._snapshot.close()
        self.directory.close()


def keep_sessions(path: Path, users: Users) -> Users:
    """The users in the order of their sessions, which the file remembers; new ones are added to it.

    Raises:
        UserError: a user is missing or speaks another protocol now, or the file cannot be read or written.
    """
    known = read_sessions(path)
    ordered = []
    for session in known:
        number = users.number_of(session.user)
        if number is None:
            raise UserError(
                f"{path}: the user {session.user} has a session in this journal and is no user any more"
            )
        user = users.users[number]
        if user.protocol != session.protocol:
            raise UserError(
                f"{path}: the user {user.name} has spoken {session.protocol} in this journal and is to speak"
                f" {user.protocol}"
            )
        ordered.append(user)
    ordered += [user for user in users.users if user not in ordered]
    if len(ordered) > len(known):
        write_document(path, [Session(user.name, user.protocol) for user in ordered])
    return Users(ordered)


def read_sessions(path: Path) -> list[Session]:
    """Whose the sessions of a journal are, in their order; none if there is no such file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Session])
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"journal {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise UserError(f"journal {path}: damaged: {error}") from error
