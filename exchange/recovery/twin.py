"""A second one of the exchange that writes a journal, made of the journal alone: to look into, compare, and save.

A :class:`Twin` has the books, sessions and feed that the journal's settings say, and no network, no threads and no
journal of its own. It begins with the newest snapshot, or at the first record, and goes as far as it is told. It only
reads, so the exchange may be running and writing meanwhile. It is what ``exchange journal replay`` shows, and what
snapshots are made of: :func:`make_snapshot` is run by a process beside the exchange, which thereby does again and again
what a restart would do.

**How far a snapshot goes.** Up to what the frames themselves say is synced. A snapshot is synced before it counts; so
after a power cut it must not know more than the journal does.

With another kind of book the same records must come to the same: ``kind="naive"`` replays them in the textbook's
dictionaries."""

from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

from exchange.assembly import Exchange
from exchange.book.config import LadderBookConfig, NaiveBookConfig
from exchange.book.protocol import live_order_count
from exchange.errors import UserError
from exchange.gateway.config import GatewayConfig
from exchange.gateway.credentials import OUCH42
from exchange.gateway.outbound import DAY_NS
from exchange.gateway.session_log import HEADER_BYTES
from exchange.gateway.session_memory import LOG_END, LOG_MESSAGES
from exchange.journal.identity import Identity, owners_of, read_identity
from exchange.journal.judging import Tear, judge_end_now
from exchange.journal.layout import first_sequence_of
from exchange.journal.reading import StreamReader
from exchange.journal.segment import segment_paths
from exchange.journal.streams import stream_names
from exchange.market_data.datagram_store import DatagramStore
from exchange.market_data.publisher import Publisher
from exchange.matching.config import ShardsConfig
from exchange.native import load_int64, view_bytes
from exchange.queues.config import SpscQueueConfig
from exchange.recovery.kept import SESSIONS_NAME, read_sessions
from exchange.recovery.opening import START, close_readers, first_sequences, open_readers
from exchange.recovery.replayer import END, Events, Position, Replayer
from exchange.recovery.replaying import LogSink
from exchange.recovery.snapshots import (
    delete_all_but,
    hold_snapshots,
    open_newest,
    position_of,
    save_snapshot,
)
from exchange.risk.limits import LimitsMemory
from exchange.settings import Settings
from exchange.snapshot.parts import Parts, left_events, restore_parts
from exchange.transport.config import TcpTransportConfig
from exchange.transport.network import NetworkOptions
from exchange.transport.tcp import TcpTransport
from exchange.transport.tee import Tee
from exchange.wire.soupbintcp import SERVER_PACKETS, PacketSplitter

SNAPSHOTS_KEPT: Final = 2
"""The newest may turn out to be damaged; then the one before and its tail of the journal are still there."""


class Twin:
    """What a journal's exchange was at some point. Use it in a ``with`` statement, or close it.

    Args:
        directory: the journal's folder.
        book: the kind of book, ``ladder`` or ``naive``.
        from_snapshot: whether to begin with the newest snapshot; not doing so needs all segments.

    Attributes:
        exchange: the books.
        transport: the sessions.
        publisher: the feed; None if there is none.
        begin: the position from which it was replayed.
        position: where it is now.
        tears: the streams that were replayed to their end and are torn there, or are just being written to.

    Raises:
        UserError: there is no journal, or a snapshot that contradicts itself.
    """

    def __init__(self, directory: Path, *, book: str = "ladder", from_snapshot: bool = True) -> None:
        self.directory: Final = directory
        self.identity: Final = read_identity(directory)
        outcomes = self.identity.outcomes
        sessions = read_sessions(directory / SESSIONS_NAME)
        if not sessions:
            raise UserError(f"journal {directory}: no {SESSIONS_NAME} in it")
        self.settings: Final = settings_of(self.identity, book)
        owners = owners_of(outcomes)
        self.transport: Final = TcpTransport(
            self.settings.gateway, self.settings.book, len(sessions), owners, outcomes.shard_count, 1,
            self.settings.shards.batch_commands,
            NetworkOptions(
                midnight_ns=-outcomes.midnight_ns % DAY_NS,
                risk=LimitsMemory(len(sessions), len(outcomes.symbols)),  # knows reference prices, limits nobody
            ),
        )  # fmt: skip
        for session_id, session in enumerate(sessions):
            if session.protocol == OUCH42:
                self.transport.speak_ouch42(session_id)
        self.publisher: Final = self._build_publisher(owners) if outcomes.feed_messages > 0 else None
        self.exchange: Final = Exchange(self.settings, len(outcomes.symbols), self.transport)
        self._users: Final = [one.user for one in sessions]
        self._left: list[Events] = []
        self.tears: Final[list[Tear]] = []
        self.begin: Final = self._restore() if from_snapshot else START
        if self.begin == START and self.publisher is not None:
            self.publisher.open_day(outcomes.opened_ns - outcomes.midnight_ns)
        self.position = self.begin

    def _build_publisher(self, owners: list[int]) -> Publisher:
        outcomes = self.identity.outcomes
        return Publisher(
            outcomes.symbols,
            DatagramStore(outcomes.session_name, outcomes.feed_messages),
            capacity_orders=outcomes.shard_count * outcomes.book_capacity_orders,
            shard_of_symbol=owners,
            midnight_ns=outcomes.midnight_ns,
        )

    def _parts(self) -> Parts:
        return Parts(
            self.exchange.shards,
            self.transport.memory,
            self._users,
            self.publisher,
            tuple(self._left),
            self.transport.risk,
        )

    def _restore(self) -> Position:
        file = open_newest(self.directory, self.identity)
        if file is None:
            return START
        with file:
            restore_parts(file, self._parts())
            self._left = left_events(file, len(self.exchange.shards))
            return position_of(file, len(self.exchange.shards))

    def replay(self, last: Position = END, *, only_ordered: bool = False) -> Replayer:
        """Go on to the end of the streams, or to some position. Once for each twin.

        Args:
            last: where to stop.
            only_ordered: stop where the merge stream ends, though shards may have gone on.

        Raises:
            JournalDamage: damage before that point.
            UserError: a record that this exchange cannot have written.
        """
        requests, reports = self.transport.replica()
        sink: Any = LogSink(reports)
        if self.publisher is not None:
            sink = Tee(sink, self.publisher.state)
        shards = self.identity.outcomes.shard_count
        readers, merge = open_readers(self.directory, self.identity, shards, self.begin)
        try:
            replayer = Replayer(self.exchange.shards, requests, sink, readers, merge, last, self.begin)
            replayer.put_left(self._left)
            (replayer.follow if only_ordered else replayer.run)()
            self.position, self._left = replayer.position(), replayer.left()
            if not only_ordered:
                self._judge_ends(readers, merge, last)
        finally:
            close_readers(readers, merge)
        return replayer

    def _judge_ends(self, readers: list[StreamReader], merge: StreamReader | None, last: Position) -> None:
        """Refuse to take damage for the end of a stream."""
        for shard, reader in enumerate(readers):
            if not last.shards or self.position.shards[shard] < last.shards[shard]:
                self.tears.extend(filter(None, [judge_end_now(reader)]))
        if merge is not None and not last.shards:
            self.tears.extend(filter(None, [judge_end_now(merge)]))

    def live_orders(self) -> list[int]:
        """How many orders live in each shard's book."""
        return [int(live_order_count(shard.book)) for shard in self.exchange.shards]

    def message_count(self) -> int:
        """How many messages the logs of all sessions have."""
        return int(self.transport.memory.column(LOG_MESSAGES).sum())

    def told(self) -> list[list[bytes]]:
        """For each session the messages in its log, from the first on: all that its client was ever told."""
        memory, told = self.transport.memory, []
        for session_id in range(memory.sessions.session_count):
            session = memory.address(session_id)
            log = view_bytes(session + memory.sessions.log_offset, load_int64(session + LOG_END))
            told.append([packet[HEADER_BYTES:] for packet in PacketSplitter(SERVER_PACKETS).feed(log)])
        return told

    def save(self) -> Path:
        """Write a snapshot of what there is now into the journal's folder."""
        return save_snapshot(self.directory, self.identity, self._parts(), self.position)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what it has open."""
        self.transport.close()


def settings_of(identity: Identity, book: str = "ladder") -> Settings:
    """The settings of a journal's exchange, as far as outcomes depend on them."""
    outcomes = identity.outcomes
    kind = NaiveBookConfig if book == "naive" else LadderBookConfig
    return Settings(
        name="journal",
        transport=TcpTransportConfig(),
        gateway=GatewayConfig(
            symbols=outcomes.symbols,
            capacity_orders=outcomes.session_capacity_orders,
            log_bytes=outcomes.session_log_bytes,
        ),
        book=kind(
            capacity_orders=outcomes.book_capacity_orders,
            price_min_ticks=outcomes.price_min_ticks,
            price_max_ticks=outcomes.price_max_ticks,
        ),
        # Nothing goes through its queues; but a plain-Python one would have the shards replay interpreted.
        queue=SpscQueueConfig(capacity_slots=2, huge_pages="never"),
        shards=ShardsConfig(
            count=outcomes.shard_count, assign=dict(zip(outcomes.symbols, owners_of(outcomes), strict=True))
        ),
    )


def durable_position(directory: Path, identity: Identity, begin: Position = START) -> Position:
    """For each stream the last sequence that its frames say is synced.

    Raises:
        JournalDamage: something that was synced is not there.
    """
    shards = identity.outcomes.shard_count
    found = []
    for name, first in zip(stream_names(shards), first_sequences(shards, begin), strict=True):
        with StreamReader(directory / name, identity.stream(name), first) as reader:
            judge_end_now(reader)
            found.append(max(reader.durable_sequence, first - 1))
    return Position(tuple(found[:shards]), *found[shards:])


def make_snapshot(directory: Path) -> Path | None:
    """Save what a journal's exchange was at its last synced record, and let go of what nobody needs for a restart.

    Returns:
        The snapshot; None if the newest one is as new as it can be.

    Raises:
        UserError: the journal cannot be replayed, or the snapshot cannot be written.
    """
    identity = read_identity(directory)
    with hold_snapshots(directory):
        with Twin(directory) as twin:
            last = durable_position(directory, identity, twin.begin)
            if sum(last.shards) <= sum(twin.begin.shards):
                return None
            twin.replay(last, only_ordered=True)
            if sum(twin.position.shards) <= sum(twin.begin.shards):
                return None
            path = twin.save()
        try:
            _let_go(directory, identity)
        except OSError as error:
            raise UserError(f"cannot delete {error.filename or directory}: {error.strerror}") from error
    return path


def _let_go(directory: Path, identity: Identity) -> None:
    """Delete old snapshots, and the segments that lie before the oldest one that is kept."""
    shards, begin = identity.outcomes.shard_count, delete_all_but(SNAPSHOTS_KEPT, directory, identity)
    if begin is None:
        return
    for name, first in zip(stream_names(shards), first_sequences(shards, begin), strict=True):
        for path in _segments_before(directory / name, first):
            path.unlink()


def _segments_before(folder: Path, sequence: int) -> list[Path]:
    """The segments of a stream that have no record from that sequence on."""
    named = [(path, first_sequence_of(path.name)) for path in segment_paths(folder)]
    return [
        path
        for (path, _), (_, following) in pairwise(named)
        if following is not None and following <= sequence
    ]
