"""The receiving end of a MoldUDP64 feed: every message once and in order, whatever the network did to the datagrams.

A :class:`Subscriber` is a state machine without sockets and without a clock. Whoever has the sockets gives it every
datagram that arrives, from feed A, feed B or the re-request server alike, and the time; now and then asks it with
:meth:`poll` what to send to the re-request server; and brings it a snapshot when it wants one. So the same calls
give the same book, and a test can lose, double and reorder at will.

What it does with a datagram:

* Messages that were seen before are dropped. It makes no difference from which feed the first copy came.
* Messages that come next are applied to the book, straight from the datagram.
* Messages that come too early are kept. The *gap* before them is given a moment, for the other feed or a late
  datagram may fill it; then what is missing is asked for (:mod:`exchange.market_data.missing`).
* What was asked for in vain too often is given up: the subscriber wants a snapshot, and goes on keeping what it
  gets. A gap that is larger than the patience says is not asked for in the first place.

A subscriber that joins late wants a snapshot from the start. After :meth:`load_snapshot` it drops what the snapshot
has in it already, applies what it kept, and is live.

Rules: one thread. What is kept is bounded; messages beyond the bound are dropped, and asked for when their turn
comes.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from exchange import limits
from exchange.market_data.feed_book import BadBlock, Book
from exchange.market_data.missing import MissingMessages, Patience
from exchange.native import address_of, view_bytes
from exchange.wire.fields import WireError
from exchange.wire.glimpse import Snapshot
from exchange.wire.layout import LENGTH_BYTES, Buffer
from exchange.wire.moldudp64 import (
    COUNT,
    END_OF_SESSION_COUNT,
    HEADER_BYTES,
    SESSION_BYTES,
    PacketHeader,
    check_datagram,
    decode_blocks,
    encode_blocks,
)

DATAGRAM_BYTES_LARGEST: Final = 65_535

_HEADER: Final = struct.Struct(f"!{SESSION_BYTES}sQH")
"""The fields of the header, for who has checked it and is in a hurry."""
assert _HEADER.size == HEADER_BYTES


class SubscriberCounts(NamedTuple):
    """What a subscriber has met.

    Attributes:
        datagrams: how many came, of all kinds.
        bad_datagrams: not MoldUDP64, or of another session.
        bad_messages: in good datagrams, but no ITCH 5.0 messages; they were passed over.
        duplicates: messages that had come before.
        early: messages that came before their turn and were kept.
        dropped: messages that came before their turn when there was no room to keep them.
        gaps: how often the feed went on with a message that was not the next one.
        requests: how many request packets were made.
        snapshots: how many snapshots were loaded.
    """

    datagrams: int = 0
    bad_datagrams: int = 0
    bad_messages: int = 0
    duplicates: int = 0
    early: int = 0
    dropped: int = 0
    gaps: int = 0
    requests: int = 0
    snapshots: int = 0


class Subscriber:
    """Receives a feed and builds its books.

    Args:
        make_book: makes an empty book; called at the start and for each snapshot.
        session: the session's name; empty means that of the first datagram.
        join_late: want a snapshot at once, instead of all messages from number 1 on.
        patience: how long to wait for what.
        tap: called with the number of the first message and the blocks of messages, whenever some have been applied.
    """

    def __init__(
        self,
        make_book: Callable[[], Book],
        session: str = "",
        *,
        join_late: bool = False,
        patience: Patience | None = None,
        tap: Callable[[int, bytes], None] | None = None,
    ) -> None:
        self.book: Book = make_book()
        self.session = session
        self.next_sequence = 1
        self.wants_snapshot = join_late
        self.has_ended = False
        self._make_book: Final = make_book
        self._patience: Final = patience or Patience()
        self._tap: Final = tap
        self._early: Final[dict[int, bytes]] = {}
        self._end = 1  # the number behind the last message that is known to exist
        self._missing: Final = MissingMessages(self._patience)
        self._met: Final = dict.fromkeys(SubscriberCounts._fields, 0)
        self._datagram: Final = np.zeros(DATAGRAM_BYTES_LARGEST, np.uint8)
        self._view: Final = memoryview(self._datagram)
        self._address: Final = address_of(self._datagram)
        self._session_bytes = b""

    def counts(self) -> SubscriberCounts:
        """What was met so far."""
        return SubscriberCounts(**self._met)

    @property
    def is_whole(self) -> bool:
        """Whether the book has all messages that are known to exist."""
        return not self.wants_snapshot and self.next_sequence >= self._end

    def receive(self, datagram: Buffer, now_ns: int) -> bool:
        """Take a datagram; whatever its bytes are, nothing is raised. Whether it was one of the session."""
        self._met["datagrams"] += 1
        size = len(datagram)
        if size <= DATAGRAM_BYTES_LARGEST:
            self._view[:size] = datagram
        if (
            size > DATAGRAM_BYTES_LARGEST
            or check_datagram(self._address, size) < 0
            or not self._is_of_session()
        ):
            self._met["bad_datagrams"] += 1
            return False
        _, first, count = _HEADER.unpack_from(self._view)
        is_end = count == END_OF_SESSION_COUNT
        behind = first + (0 if is_end else count)
        self._end = max(self._end, behind)
        if first == self.next_sequence < behind and not self.wants_snapshot:
            self._deliver(self._address + HEADER_BYTES, size - HEADER_BYTES, behind - first)
            if self._early or self._missing.due_ns is not None:
                self._progressed(first, now_ns)
        elif not is_end:
            self._take_aside(first, decode_blocks(bytes(self._view[HEADER_BYTES:size]), count), now_ns)
        if self.next_sequence < self._end:
            self._look_for_gap(now_ns)
        if is_end and not self.wants_snapshot:
            self.has_ended = self.next_sequence >= first
        return True

    def _is_of_session(self) -> bool:
        """Whether the datagram that is looked at belongs to the session; the first one says which that is."""
        if self._session_bytes and self.session:
            return self._view[:SESSION_BYTES] == self._session_bytes and any(self._view[SESSION_BYTES:COUNT])
        try:
            header = PacketHeader.decode(self._view[:HEADER_BYTES])
        except WireError:
            return False
        if header.sequence_number == 0 or header.session != (self.session or header.session):
            return False
        self.session = header.session
        self._session_bytes = bytes(self._view[:SESSION_BYTES])
        return True

    def _take_aside(self, first: int, messages: tuple[bytes, ...], now_ns: int) -> None:
        """Take messages of which the first is not the next one: some may be new, and some too early."""
        if self.wants_snapshot or first > self.next_sequence:
            self._keep(first, messages)
            self._missing.arrived(now_ns)
            return
        begin = self.next_sequence
        seen = min(begin - first, len(messages))
        self._met["duplicates"] += seen
        if seen < len(messages):
            self._deliver_messages(messages[seen:])
            self._progressed(begin, now_ns)

    def poll(self, now_ns: int) -> list[bytes]:
        """The request packets that are to be sent now."""
        if self.wants_snapshot:
            return []
        requests = self._missing.requests(self.session, self.next_sequence, self._end, self._early, now_ns)
        self._met["requests"] += len(requests)
        if self._missing.is_hopeless:
            self._give_up()
            return []
        return requests

    def next_request_ns(self) -> int | None:
        """When :meth:`poll` will have something to do, on the caller's clock; None while no message is missing."""
        return None if self.wants_snapshot else self._missing.due_ns

    def load_snapshot(self, snapshot: Snapshot, now_ns: int) -> None:
        """Begin anew with a snapshot, and go on with what was kept.

        Raises:
            WireError: it holds something that is no ITCH 5.0 message; nothing has changed.
        """
        self.load_blocks(encode_blocks(snapshot.messages), snapshot.sequence_number, now_ns)

    def load_blocks(self, blocks: bytes, next_sequence: int, now_ns: int) -> None:
        """The same with the messages of a snapshot in blocks, behind which the feed goes on with ``next_sequence``."""
        book = self._make_book()
        if book.apply_blocks(blocks) != len(blocks):
            raise WireError("GLIMPSE 5.0: a message of no bytes in a snapshot")
        self.book = book
        begin, self.next_sequence = self.next_sequence, next_sequence
        self._end = max(self._end, next_sequence)
        self.wants_snapshot = False
        self._met["snapshots"] += 1
        self._missing.close()
        self._progressed(begin, now_ns)
        self._look_for_gap(now_ns)

    def _give_up(self) -> None:
        """Stop asking; only a snapshot helps."""
        self._missing.close()
        self.wants_snapshot = True

    def _keep(self, first: int, messages: tuple[bytes, ...]) -> None:
        """Keep messages that came before their turn."""
        for sequence_number, one in enumerate(messages, first):
            if sequence_number in self._early:
                self._met["duplicates"] += 1
            elif len(self._early) < limits.FEED_WAITING_MESSAGES_MAX:
                self._early[sequence_number] = one
                self._met["early"] += 1
            else:
                self._met["dropped"] += 1

    def _progressed(self, begin: int, now_ns: int) -> None:
        """The messages from ``begin`` on have come: apply what was kept behind them."""
        if self.next_sequence - begin < len(self._early):
            for sequence_number in range(begin, self.next_sequence):
                self._early.pop(sequence_number, None)
        else:
            for sequence_number in [one for one in self._early if one < self.next_sequence]:
                del self._early[sequence_number]
        ready: list[bytes] = []
        while (one := self._early.pop(self.next_sequence + len(ready), None)) is not None:
            ready.append(one)
        if ready:
            self._deliver_messages(ready)
        self._missing.progressed(self.next_sequence, self._end, now_ns)

    def _look_for_gap(self, now_ns: int) -> None:
        """Note when a gap was found first; :meth:`poll` asks for it when it has had its moment."""
        if self.wants_snapshot or self._missing.due_ns is not None or self.next_sequence >= self._end:
            return
        self._met["gaps"] += 1
        if min(self._early, default=self._end) - self.next_sequence > self._patience.gap_messages_max:
            self._give_up()
        else:
            self._missing.open(self.next_sequence, now_ns)

    def _deliver_messages(self, messages: Sequence[bytes]) -> None:
        blocks = np.frombuffer(encode_blocks(messages), np.uint8)
        self._deliver(address_of(blocks), len(blocks), len(messages))

    def _deliver(self, address: int, size_bytes: int, count: int) -> None:
        """Apply the next ``count`` messages, whose blocks lie there; pass over what is no ITCH 5.0 message."""
        at = 0
        while at < size_bytes:
            try:
                at += self.book.apply_blocks_at(address + at, size_bytes - at)
                if at < size_bytes:  # a message of no bytes, which would end a file
                    at += LENGTH_BYTES
                    self._met["bad_messages"] += 1
            except BadBlock as error:
                at += error.offset_bytes
                at += LENGTH_BYTES + int.from_bytes(view_bytes(address + at, LENGTH_BYTES), "big")
                self._met["bad_messages"] += 1
        if self._tap is not None:
            self._tap(self.next_sequence, bytes(view_bytes(address, size_bytes)))
        self.next_sequence += count
