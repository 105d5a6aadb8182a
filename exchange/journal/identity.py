"""What a journal belongs to: the settings that its outcomes depend on, and the lock of who writes to it.

Books and sessions are a function of the journal's streams *and* of these settings. An exchange with other symbols, or
with room for fewer orders, would make something else of the same commands, so a journal is only ever read by an
exchange with equal ones; a difference is refused and named. The way in which records get from thread to thread, and
how many threads there are, are no such settings.

``identity.json`` is written once, before the first segment, and never changed. Each segment's header has its digest,
so a segment cannot stray into another journal. ``lock`` is held with flock(2) as long as an exchange writes: the
kernel lets go of it whatever way the process ends.
"""

import fcntl
import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import msgspec
from msgspec import Struct

from exchange.errors import UserError
from exchange.journal.layout import FORMAT_VERSION, stream_number
from exchange.journal.segment import StreamIdentity, write_document
from exchange.market_data.config import MoldUdp64MarketDataConfig
from exchange.matching.symbol_owners import owners_by_name, owners_by_number

if TYPE_CHECKING:
    from exchange.settings import Settings

IDENTITY_NAME: Final = "identity.json"
LOCK_NAME: Final = "lock"
SNAPSHOTS_NAME: Final = "snapshots"


class Outcomes(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The settings on which the outcome of a stream depends."""

    symbols: tuple[str, ...]
    shard_count: int
    price_min_ticks: int
    price_max_ticks: int
    book_capacity_orders: int
    session_capacity_orders: int
    session_log_bytes: int
    session_name: str
    """The name of the day's session, by which clients resume."""
    midnight_ns: int
    """Nanoseconds since 1970 at the midnight from which the timestamps of messages count."""
    opened_ns: int
    """Nanoseconds since 1970 when the journal was begun, and its day."""
    feed_messages: int
    """How many messages of the feed can be asked for again; 0 if there is no feed."""
    shard_of_symbol: tuple[int, ...] = ()
    """For each symbol the shard that owns it. Nothing where there is one shard, and nothing in journals that were begun
    before this was written down: their symbols were dealt out in turn."""


_NAMES_OF_SETTINGS: Final = {
    "symbols": "gateway.symbols",
    "shard_count": "shards.count",
    "price_min_ticks": "book.price_min_ticks",
    "price_max_ticks": "book.price_max_ticks",
    "book_capacity_orders": "book.capacity_orders",
    "session_capacity_orders": "gateway.capacity_orders",
    "session_log_bytes": "gateway.log_bytes",
    "session_name": "the session's name",
    "midnight_ns": "the midnight of timestamps",
    "opened_ns": "the opening of the day",
    "feed_messages": "market_data.capacity_messages",
}


_SHOWN_SYMBOLS: Final = 8


class Opening(Struct, frozen=True):
    """How a day is begun, unless a journal says how it was: the session's name, and two moments since 1970."""

    session_name: str
    midnight_ns: int
    opened_ns: int


def outcomes_of(settings: "Settings", opening: Opening) -> Outcomes:
    """The settings on which the outcome of a journal's streams depends."""
    feed, symbols = settings.market_data, settings.gateway.symbols
    owners = owners_by_name(symbols, settings.shards.count, settings.shards.assign)
    return Outcomes(
        symbols=symbols,
        shard_count=settings.shards.count,
        price_min_ticks=settings.book.price_min_ticks,
        price_max_ticks=settings.book.price_max_ticks,
        book_capacity_orders=settings.book.capacity_orders,
        session_capacity_orders=settings.gateway.capacity_orders,
        session_log_bytes=settings.gateway.log_bytes,
        session_name=opening.session_name,
        midnight_ns=opening.midnight_ns,
        opened_ns=opening.opened_ns,
        feed_messages=feed.capacity_messages if isinstance(feed, MoldUdp64MarketDataConfig) else 0,
        shard_of_symbol=tuple(owners) if settings.shards.count > 1 else (),
    )


def owners_of(outcomes: Outcomes) -> list[int]:
    """For each symbol of a journal the shard that owns it."""
    if outcomes.shard_of_symbol:
        return list(outcomes.shard_of_symbol)
    return owners_by_number(len(outcomes.symbols), outcomes.shard_count)


class Identity(Struct, frozen=True, forbid_unknown_fields=True):
    """What ``identity.json`` holds. ``journal_id`` is random, never 0, and fits a signed word."""

    format_version: int
    journal_id: int
    outcomes: Outcomes

    @property
    def digest(self) -> int:
        """A number for all of it, as the headers of segments have it."""
        return int.from_bytes(hashlib.sha256(msgspec.json.encode(self)).digest()[:8], "little", signed=True)

    def stream(self, name: str) -> StreamIdentity:
        """What the segments of a stream say."""
        return StreamIdentity(self.journal_id, self.digest, stream_number(name))


def read_identity(directory: Path) -> Identity:
    """What a journal says of itself.

    Raises:
        UserError: there is no journal, it cannot be read, or it has another version.
    """
    path = directory / IDENTITY_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"journal {directory}: no {IDENTITY_NAME} in it ({error.strerror})") from error
    try:
        version = msgspec.json.decode(content, type=_Versioned).format_version
        if version != FORMAT_VERSION:
            raise UserError(f"journal {path}: format version {version}; this exchange reads {FORMAT_VERSION}")
        return msgspec.json.decode(content, type=Identity)
    except msgspec.DecodeError as error:
        raise UserError(f"journal {path}: damaged: {error}") from error


class _Versioned(Struct):
    format_version: int


class JournalDirectory:
    """A journal's folder, held by this process alone. Use it in a ``with`` statement, or close it.

    Attributes:
        path: the folder.
        identity: what stands in it, as it was found or as it was just made.
        is_new: whether it was made just now.
    """

    def __init__(self, path: Path, outcomes: Outcomes) -> None:
        """Take the folder, and make it if there is none.

        Raises:
            UserError: another process holds it, it belongs to other settings (each is named), or it cannot be used.
        """
        self.path: Final = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock: int | None = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UserError(f"journal.directory = {str(path)!r}: {error.strerror}") from error
        try:
            self._take_lock(self._lock)
            self.is_new: Final = not (path / IDENTITY_NAME).exists()
            if self.is_new:
                self._refuse_strangers()
                write_document(path / IDENTITY_NAME, Identity(FORMAT_VERSION, _random_id(), outcomes))
            self.identity: Final = read_identity(path)
            _refuse_differences(path, self.identity.outcomes, outcomes)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(lock)
            raise UserError(f"journal.directory = {str(self.path)!r}: {holder} writes to it") from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def _refuse_strangers(self) -> None:
        """A folder without an identity must be empty: segments of which nobody knows whose they are, are no
        journal."""
        names = sorted(one.name for one in self.path.iterdir() if one.name != LOCK_NAME)
        if names and names != [IDENTITY_NAME + ".new"]:
            raise UserError(
                f"journal.directory = {str(self.path)!r}: it has no {IDENTITY_NAME} and is not empty ({names[0]})"
            )


def holder_of(directory: Path) -> str | None:
    """Who writes to a journal now, in words; None if nobody does."""
    try:
        lock = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(lock)
    finally:
        os.close(lock)
    return None


def _holder(lock: int) -> str:
    text = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
    return f"process {text}" if text.isdigit() else "another process"


def _random_id() -> int:
    return secrets.randbelow((1 << 63) - 1) + 1


def _refuse_differences(path: Path, found: Outcomes, asked: Outcomes) -> None:
    differing = [
        name
        for name in Outcomes.__struct_fields__
        if name != "shard_of_symbol" and getattr(found, name) != getattr(asked, name)
    ]
    reasons = [
        f"{_NAMES_OF_SETTINGS[name]} was {_short(getattr(found, name))} and is {_short(getattr(asked, name))}"
        for name in differing
    ]
    if (found.symbols, found.shard_count) == (asked.symbols, asked.shard_count):
        reasons += _moved_symbols(found, asked)
    if reasons:
        raise UserError(
            f"journal.directory = {str(path)!r}: it belongs to other settings: {'; '.join(reasons)}"
        )


def _moved_symbols(found: Outcomes, asked: Outcomes) -> list[str]:
    """Which symbols would be on another shard than in the journal, and what keeps them where they were."""
    owners = owners_of(found)
    triples = zip(found.symbols, owners, owners_of(asked), strict=True)
    moved = [f"{symbol} was on shard {old} and is on {new}" for symbol, old, new in triples if old != new]
    if not moved:
        return []
    by_name = owners_by_name(found.symbols, found.shard_count)
    named = [
        f"{symbol} = {old}"
        for symbol, old, own in zip(found.symbols, owners, by_name, strict=True)
        if old != own
    ]
    kept = (
        f"shards.assign = {{ {_first(named)} }} keeps them where they were"
        if named
        else "without shards.assign they stay"
    )
    return [f"{_first(moved)} ({kept})"]


def _first(texts: list[str]) -> str:
    return ", ".join(texts[:_SHOWN_SYMBOLS]) + (", ..." if len(texts) > _SHOWN_SYMBOLS else "")


def _short(value: object) -> str:
    if isinstance(value, tuple):
        shown = ", ".join(str(one) for one in value[:8])
        return f"[{shown}{', ...' if len(value) > 8 else ''}] ({len(value)})"
    return repr(value)
