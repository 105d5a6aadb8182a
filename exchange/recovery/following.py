"""An exchange that is brought to where its journal is: by a restart in one go, by a backup step by step as frames come.

A :class:`Following` is made for an exchange that was just built. It begins with the snapshot, if there is one, and what
the journal's folder holds; :meth:`Following.push` adds frames that have come from elsewhere, :meth:`Following.follow`
applies all that there is. :meth:`Following.finish` is what makes an exchange of it that can serve, and is short however
long the journal is: what the end of the streams leaves open is put right, orders whose command was never sequenced are
taken out of the sessions' tables, a mass cancel that was under way is gone on with, and orders of sessions that asked
for cancel on disconnect are cancelled, for every connection has ended. So a promotion is the end of a restart whose
beginning was long ago.

Rules: no thread of the exchange runs that handles orders. Frames that were pushed stay where they are until they have
been applied; they come without a gap, and those of the merge stream before those of shards that were written later
(:mod:`exchange.recovery.replayer`)."""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.gateway.config import GatewayConfig
from exchange.gateway.details import forget_unanswered
from exchange.gateway.session_memory import SessionMemory
from exchange.journal.identity import Identity
from exchange.journal.reading import StreamReader
from exchange.recovery.opening import START, close_readers, open_readers
from exchange.recovery.replayer import Position, Replayer
from exchange.recovery.replaying import LogSink
from exchange.snapshot.parts import Parts, left_events, restore_parts
from exchange.snapshot.sections import SectionFile
from exchange.transport.network import NetworkTransport
from exchange.transport.tee import Tee

if TYPE_CHECKING:
    from exchange.assembly import Exchange
    from exchange.market_data.feed_server import FeedServer

Places = NDArray[np.void]
"""Rows of ``FRAME_PLACE_DTYPE``."""


class FollowedStream:
    """A stream: what its folder holds, then what is pushed."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader: Final = reader
        self._is_read = False
        self._pushed: Final[deque[tuple[Places, object]]] = deque()
        self._memory: object = None

    @property
    def folder(self) -> Path:
        """Of the stream."""
        return self._reader.folder

    def push(self, places: Places, memory: object = None) -> None:
        """These frames come next. ``memory`` is what has to be kept as long as they are."""
        self._pushed.append((places, memory))

    def batches(self) -> Iterator[Places]:
        """The frames that there are now; see :class:`~exchange.recovery.replayer.FrameSource`."""
        if not self._is_read:
            yield from self._reader.batches()
            self._is_read = True
        while self._pushed:
            places, self._memory = self._pushed.popleft()
            yield places


class Following:
    """An exchange on its way to the end of its streams.

    Args:
        exchange: just built.
        transport: its clients' sessions.
        feed: its market data, if there is some.
        users: for each session its user's name.

    Attributes:
        begin: the position from which records are replayed.
        live_orders: how many orders live, once it is finished.
    """

    def __init__(
        self,
        exchange: "Exchange",
        transport: NetworkTransport,
        feed: "FeedServer | None",
        users: Sequence[str],
    ) -> None:
        self._exchange, self._transport, self._feed = exchange, transport, feed
        self._users: Final = tuple(users)
        self.begin = START
        self.live_orders = 0
        self._streams: list[FollowedStream] = []
        self._close_readers: Any = None
        self._replayer: Replayer | None = None

    def open(
        self,
        directory: Path,
        identity: Identity,
        snapshot: SectionFile | None,
        begin: Position,
        opened_ns: int,
    ) -> None:
        """Put the snapshot back, and begin behind it.

        Args:
            directory: the journal's folder.
            identity: the journal's.
            snapshot: None to begin with the first record.
            begin: its position.
            opened_ns: when the day was opened, from midnight; for a feed without a snapshot.

        Raises:
            UserError: the snapshot or the journal is of another exchange.
        """
        exchange, shards = self._exchange, len(self._exchange.shards)
        requests, reports = self._transport.replica()
        sink: Any = LogSink(reports)
        publisher = None if self._feed is None else self._feed.publisher
        if publisher is not None:
            sink = Tee(sink, publisher.state)
        left = []
        if snapshot is not None:
            memory, risk = self._transport.memory, self._transport.risk
            restore_parts(snapshot, Parts(exchange.shards, memory, self._users, publisher, risk=risk))
            left = left_events(snapshot, shards)
        elif publisher is not None:
            publisher.open_day(opened_ns)
        self.begin = begin
        readers, merge = open_readers(directory, identity, shards, begin)
        self._close_readers = lambda: close_readers(readers, merge)
        self._streams = [FollowedStream(reader) for reader in (*readers, *([merge] if merge else []))]
        of_merge = self._streams[shards] if merge is not None else None
        self._replayer = Replayer(
            exchange.shards, requests, sink, self._streams[:shards], of_merge, begin=begin
        )
        self._replayer.compile()
        self._replayer.put_left(left)

    @property
    def replayer(self) -> Replayer:
        """What applies the records."""
        assert self._replayer is not None, "it was not opened"
        return self._replayer

    def push(self, stream: int, places: Places, memory: object = None) -> None:
        """Frames of a stream come next, in the order of :func:`~exchange.journal.streams.stream_names`.

        ``memory`` is kept until they have been applied.
        """
        self._streams[stream].push(places, memory)

    def follow(self) -> None:
        """Apply all that there is and that has its place. Raises UserError for what no such exchange has written."""
        self.replayer.follow()

    def applied_sequence(self, stream: int) -> int:
        """The last record of a stream that is done with: applied, and of the merge stream, in the sessions' logs."""
        if stream < len(self._exchange.shards):
            return self.replayer.sequence(stream)
        return self.replayer.position().merge

    def compile(self) -> None:
        """Compile what :meth:`finish` calls, so that it does not wait for a compiler; nothing is changed by it."""
        nobody = SessionMemory(GatewayConfig(capacity_orders=64, log_bytes=4096), 1)
        forget_unanswered(nobody.sessions, 0)

    def finish(self) -> None:
        """No more frames will come: make the exchange ready to serve.

        Raises:
            UserError: a record that this exchange cannot have written, or no room to write a correction.
        """
        replayer = self.replayer
        replayer.finish()
        self.close()
        self._exchange.go_on(replayer.corrections)
        sessions = self._transport.memory.sessions
        self.live_orders = sum(
            int(forget_unanswered(sessions, session_id)) for session_id in range(len(self._users))
        )
        self._transport.go_on(sum(replayer.position().shards), replayer.events)
        if self._feed is not None:
            self._feed.go_on()

    def close(self) -> None:
        """Let go of the journal's files; no frame of theirs may be wanted any more."""
        if self._close_readers is not None:
            self._close_readers()
