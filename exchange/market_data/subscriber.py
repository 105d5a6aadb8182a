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

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from exchange import limits
from exchange.market_data.feed_book import BadBlock, Book
from exchange.market_data.missing import MissingMessages, Patience
from exchange.native import address_of
from exchange.wire.fields import WireError
from exchange.wire.glimpse import Snapshot
from exchange.wire.layout import LENGTH_BYTES, Buffer
from exchange.wire.moldudp64 import (
    END_OF_SESSION_COUNT,
    HEADER_BYTES,
    PacketHeader,
    check_datagram,
    decode_blocks,
    encode_blocks,
)


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
        self._counts = SubscriberCounts()

    def counts(self) -> SubscriberCounts:
        """What was met so far."""
        return self._counts

    @property
    def is_whole(self) -> bool:
        """Whether the book has all messages that are known to exist."""
        return not self.wants_snapshot and self.next_sequence >= self._end

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
            self._missing.arrived(now_ns)
        else:
            seen = min(self.next_sequence, behind) - first
            self._count(duplicates=seen)
            if behind > self.next_sequence:
                begin = self.next_sequence
                new = encode_blocks(decode_blocks(blocks, count)[seen:]) if seen else blocks
                self._deliver(new, behind - begin)
                self._progressed(begin, now_ns)
        self._look_for_gap(now_ns)
        if is_end and not self.wants_snapshot:
            self.has_ended = self.next_sequence >= first

    def poll(self, now_ns: int) -> list[bytes]:
        """The request packets that are to be sent now."""
        if self.wants_snapshot:
            return []
        requests = self._missing.requests(self.session, self.next_sequence, self._end, self._early, now_ns)
        self._count(requests=len(requests))
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
        book = self._make_book()
        blocks = encode_blocks(snapshot.messages)
        if book.apply_blocks(blocks) != len(blocks):
            raise WireError("GLIMPSE 5.0: a message of no bytes in a snapshot")
        self.book = book
        begin, self.next_sequence = self.next_sequence, snapshot.sequence_number
        self._end = max(self._end, snapshot.sequence_number)
        self.wants_snapshot = False
        self._count(snapshots=1)
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
                self._count(duplicates=1)
            elif len(self._early) < limits.FEED_WAITING_MESSAGES_MAX:
                self._early[sequence_number] = one
                self._count(early=1)
            else:
                self._count(dropped=1)

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
            self._deliver(encode_blocks(ready), len(ready))
        self._missing.progressed(self.next_sequence, self._end, now_ns)

    def _look_for_gap(self, now_ns: int) -> None:
        """Note when a gap was found first; :meth:`poll` asks for it when it has had its moment."""
        if self.wants_snapshot or self._missing.due_ns is not None or self.next_sequence >= self._end:
            return
        self._count(gaps=1)
        if min(self._early, default=self._end) - self.next_sequence > self._patience.gap_messages_max:
            self._give_up()
        else:
            self._missing.open(self.next_sequence, now_ns)

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
