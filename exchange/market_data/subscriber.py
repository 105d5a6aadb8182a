"""The receiving end of a MoldUDP64 feed: every message once and in order, whatever the network did to the datagrams.

A :class:`Subscriber` is a state machine without sockets and without a clock. Whoever has the sockets gives it every
datagram that arrives, from feed A, feed B or the re-request server alike, and the time; now and then asks it with
:meth:`poll` what to send to the re-request server; and brings it a snapshot when it wants one. So the same calls
give the same book, and a test can lose, double and reorder at will.

What it does with a datagram:

* Messages that were seen before are dropped. It makes no difference from which feed the first copy came.
* Messages that come next are applied to the book, straight from the datagram.
* Messages that come too early are kept. The *gap* before them is given a moment, for the other feed or a late
  datagram may fill it; then it is asked for, and asked for again after pauses that double each time.
* What was asked for in vain too often is given up: the subscriber wants a snapshot, and goes on keeping what it
  gets.

A subscriber that joins late wants a snapshot from the start. After :meth:`load_snapshot` it drops what the snapshot
has in it already, applies what it kept, and is live.

Rules: one thread. What is kept is bounded; messages beyond the bound are dropped, and asked for when their turn
comes.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from exchange import limits
from exchange.market_data.feed_book import BadBlock, Book
from exchange.native import address_of
from exchange.wire.fields import WireError
from exchange.wire.glimpse import Snapshot
from exchange.wire.layout import LENGTH_BYTES, Buffer
from exchange.wire.moldudp64 import (
    END_OF_SESSION_COUNT,
    HEADER_BYTES,
    MESSAGES_MAX,
    PacketHeader,
    Request,
    check_datagram,
    decode_blocks,
    encode_blocks,
)


class Patience(NamedTuple):
    """How long a subscriber waits for what.

    Attributes:
        gap_ns: from finding a gap to asking for it.
        retry_ns: from the first request to the second; twice as long to the third, and so on.
        retry_ns_max: the longest pause between two requests.
        requests_max: so many requests without any progress, and a snapshot is wanted.
    """

    gap_ns: int = 1_000_000
    retry_ns: int = 10_000_000
    retry_ns_max: int = 1_000_000_000
    requests_max: int = 8


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
        self._is_in_gap = False
        self._ask_at_ns = 0
        self._requests_made = 0
        self._counts = SubscriberCounts()

    def counts(self) -> SubscriberCounts:
        """What was met so far."""
        return self._counts

    def receive(self, datagram: Buffer, now_ns: int) -> None:
        """Take a datagram; whatever its bytes are, nothing is raised."""
        self._count(datagrams=1)
        header = _header_of(datagram)
        if (
            header is None
            or header.sequence_number == 0
            or header.session != (self.session or header.session)
        ):
            self._count(bad_datagrams=1)
            return
        self.session = header.session
        is_end = header.message_count == END_OF_SESSION_COUNT
        blocks, count = bytes(datagram[HEADER_BYTES:]), 0 if is_end else header.message_count
        first, behind = header.sequence_number, header.sequence_number + count
        self._end = max(self._end, behind)
        if self.wants_snapshot or first > self.next_sequence:
            self._keep(first, decode_blocks(blocks, count))
        else:
            seen = min(self.next_sequence, behind) - first
            self._count(duplicates=seen)
            if behind > self.next_sequence:
                new = encode_blocks(decode_blocks(blocks, count)[seen:]) if seen else blocks
                self._deliver(new, behind - self.next_sequence)
                self._progressed()
        self._look_for_gap(now_ns)
        if is_end and not self.wants_snapshot:
            self.has_ended = self.next_sequence >= first

    def poll(self, now_ns: int) -> list[bytes]:
        """The request packets that are to be sent now: none or one."""
        if not self._is_in_gap or self.wants_snapshot or now_ns < self._ask_at_ns:
            return []
        if self._requests_made == self._patience.requests_max:
            self.wants_snapshot = True
            return []
        behind_gap = min(self._early, default=self._end)
        wanted = min(behind_gap - self.next_sequence, MESSAGES_MAX)
        pause_ns = min(self._patience.retry_ns << self._requests_made, self._patience.retry_ns_max)
        self._ask_at_ns = now_ns + pause_ns
        self._requests_made += 1
        self._count(requests=1)
        return [Request(self.session, self.next_sequence, wanted).encode()]

    def next_request_ns(self) -> int | None:
        """When :meth:`poll` will have something to do, on the caller's clock; None while no message is missing."""
        return self._ask_at_ns if self._is_in_gap and not self.wants_snapshot else None

    def load_snapshot(self, snapshot: Snapshot, now_ns: int) -> None:
        """Begin anew with a snapshot, and go on with what was kept.

        Raises:
            WireError: it holds something that is no ITCH 5.0 message; nothing has changed.
        """
        book = self._make_book()
        for one in snapshot.messages:
            book.apply(one)
        self.book = book
        self.next_sequence = snapshot.sequence_number
        self._end = max(self._end, snapshot.sequence_number)
        self.wants_snapshot = False
        self._count(snapshots=1)
        self._progressed()
        self._look_for_gap(now_ns)

    def _keep(self, first: int, messages: tuple[bytes, ...]) -> None:
        """Keep messages that came before their turn."""
        for sequence_number, one in enumerate(messages, first):
            if sequence_number in self._early:
                self._count(duplicates=1)
            elif len(self._early) < limits.FEED_WAITING_MESSAGES_MAX:
                self._early[sequence_number] = one
                self._count(early=1)
            else:
                self._count(dropped=1)

    def _progressed(self) -> None:
        """The next message has come: apply what was kept behind it, and begin to be patient anew."""
        for sequence_number in [one for one in self._early if one < self.next_sequence]:
            del self._early[sequence_number]
        ready: list[bytes] = []
        while (one := self._early.pop(self.next_sequence + len(ready), None)) is not None:
            ready.append(one)
        if ready:
            self._deliver(encode_blocks(ready), len(ready))
        self._is_in_gap = False
        self._requests_made = 0

    def _look_for_gap(self, now_ns: int) -> None:
        """Note when a gap was found first; :meth:`poll` asks for it when it has had its moment."""
        if self._is_in_gap or self.wants_snapshot or self.next_sequence >= self._end:
            return
        self._is_in_gap = True
        self._ask_at_ns = now_ns + self._patience.gap_ns
        self._count(gaps=1)

    def _deliver(self, blocks: bytes, count: int) -> None:
        """Apply the next ``count`` messages; pass over what is no ITCH 5.0 message."""
        at = 0
        while at < len(blocks):
            try:
                at += self.book.apply_blocks(memoryview(blocks)[at:])
                if at < len(blocks):  # a message of no bytes, which would end a file
                    at += LENGTH_BYTES
                    self._count(bad_messages=1)
            except BadBlock as error:
                at += error.offset_bytes
                at += LENGTH_BYTES + int.from_bytes(blocks[at : at + LENGTH_BYTES], "big")
                self._count(bad_messages=1)
        if self._tap is not None:
            self._tap(self.next_sequence, blocks)
        self.next_sequence += count

    def _count(self, **more: int) -> None:
        added = {name: getattr(self._counts, name) + number for name, number in more.items()}
        self._counts = self._counts._replace(**added)


def _header_of(datagram: Buffer) -> PacketHeader | None:
    """The header of a datagram whose blocks fill it exactly; None for anything else."""
    block = np.frombuffer(datagram, np.uint8)
    if check_datagram(address_of(block), len(block)) < 0:
        return None
    try:
        return PacketHeader.decode(datagram[:HEADER_BYTES])
    except WireError:
        return None
