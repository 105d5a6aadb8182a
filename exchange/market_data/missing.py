"""What a subscriber lacks, and when it asks for what: several requests on their way at a time.

A request packet is answered with one datagram. Who asks for the next one when the answer is there gets a datagram for
each round trip, and over a long line that is next to nothing. So what is missing is cut into pieces that surely fit a
datagram each, :data:`PIECE_MESSAGES`, and up to a *window* of them are asked for before the first answer is there.
A piece that does not come is asked for again, after pauses that double each time.

How large the window may be, nobody can say beforehand: the line, the receiver's buffer and the limit of the
re-request server all drop what is too much. So it is found as TCP finds it: an answered piece lets it grow by
one, and one that did not come halves it (AIMD; Chiu and Jain, 1989).

Rules: one thread, no clock and no socket; the numbers of a feed only grow. ``early`` are the messages that came before
their turn.
"""

from collections.abc import Container
from typing import Final, NamedTuple

from exchange.wire.itch50 import MESSAGE_BYTES_MAX
from exchange.wire.layout import LENGTH_BYTES
from exchange.wire.moldudp64 import DATAGRAM_BYTES_MAX, HEADER_BYTES, Request

PIECE_MESSAGES: Final = (DATAGRAM_BYTES_MAX - HEADER_BYTES) // (LENGTH_BYTES + MESSAGE_BYTES_MAX)
"""So many of the longest messages fit a datagram."""

WINDOW_FIRST: Final = 4


class Patience(NamedTuple):
    """How long a subscriber waits for what.

    Attributes:
        gap_ns: from finding a gap to asking for it.
        retry_ns: from the first request to the second; twice as long to the third, and so on.
        retry_ns_max: the longest pause between two requests.
        requests_max: so many requests for the same messages in vain, and a snapshot is wanted.
        window_max: requests that may be without an answer at a time.
        gap_messages_max: a gap of more messages is not asked for; a snapshot is wanted.
    """

    gap_ns: int = 1_000_000
    retry_ns: int = 10_000_000
    retry_ns_max: int = 1_000_000_000
    requests_max: int = 8
    window_max: int = 32
    gap_messages_max: int = 1 << 62


class _Piece:
    """Messages that were asked for together: ``first`` to ``behind`` less one."""

    __slots__ = ("behind", "due_ns", "first", "requests")

    def __init__(self, first: int, behind: int) -> None:
        self.first, self.behind = first, behind
        self.requests = 0
        self.due_ns = 0


class MissingMessages:
    """A gap, from its discovery until nothing is missing any more.

    Attributes:
        due_ns: when there may be something to ask for; None while nothing is missing.
        is_hopeless: the oldest missing message was asked for as often as the patience allows.
    """

    def __init__(self, patience: Patience) -> None:
        self.due_ns: int | None = None
        self.is_hopeless = False
        self._patience: Final = patience
        self._pieces: list[_Piece] = []
        self._asked_to = 1
        self._known_end = (
            1  # what is missing below it is one gap, whether it has been asked for already or not
        )
        self._window = float(WINDOW_FIRST)

    def open(self, next_sequence: int, now_ns: int) -> None:
        """Message ``next_sequence`` is missing; it is given a moment."""
        self.due_ns = now_ns + self._patience.gap_ns
        self._asked_to = self._known_end = next_sequence

    def close(self) -> None:
        """Nothing is missing any more, or it has been given up."""
        self.due_ns = None
        self.is_hopeless = False
        self._pieces.clear()

    def arrived(self, now_ns: int) -> None:
        """Something came that may have been asked for."""
        if self._pieces:
            self.due_ns = now_ns

    def progressed(self, next_sequence: int, end: int, now_ns: int) -> None:
        """All messages below ``next_sequence`` are there, of those below ``end`` that exist: be patient anew."""
        if next_sequence >= min(end, self._known_end):
            self._grow(len(self._pieces))
            self.close()
            return
        for piece in self._pieces:
            piece.requests = min(piece.requests, 1)
        self.due_ns = now_ns

    def requests(
        self, session: str, next_sequence: int, end: int, early: Container[int], now_ns: int
    ) -> list[bytes]:
        """The request packets that are to be sent now, the oldest messages first; see :attr:`is_hopeless` then."""
        if self.due_ns is None or now_ns < self.due_ns:
            return []
        self._known_end = end
        self._drop_answered(next_sequence, early)
        wanted = self._overdue(now_ns)
        while len(self._pieces) < int(self._window):
            piece = self._next_piece(max(self._asked_to, next_sequence), end, early)
            if piece is None:
                break
            self._pieces.append(piece)
            wanted.append(piece)
        if self.is_hopeless:
            return []
        for piece in wanted:
            pause_ns = min(self._patience.retry_ns << piece.requests, self._patience.retry_ns_max)
            piece.due_ns = now_ns + pause_ns
            piece.requests += 1
        self.due_ns = min(piece.due_ns for piece in self._pieces) if self._pieces else now_ns
        return [Request(session, piece.first, piece.behind - piece.first).encode() for piece in wanted]

    def _overdue(self, now_ns: int) -> list[_Piece]:
        """The pieces that are to be asked for again."""
        late = [piece for piece in self._pieces if now_ns >= piece.due_ns]
        if late:
            self._window = max(1.0, self._window / 2)
        if late and late[0] is self._pieces[0] and late[0].requests >= self._patience.requests_max:
            self.is_hopeless = True
        return late

    def _drop_answered(self, next_sequence: int, early: Container[int]) -> None:
        """Forget what has come, in part or whole."""
        left: list[_Piece] = []
        for piece in self._pieces:
            first = max(piece.first, next_sequence)
            while first < piece.behind and first in early:
                first += 1
            piece.first = first
            if first < piece.behind:
                left.append(piece)
        self._grow(len(self._pieces) - len(left))
        self._pieces = left

    def _grow(self, answered: int) -> None:
        self._window = min(float(self._patience.window_max), self._window + answered)

    def _next_piece(self, first: int, end: int, early: Container[int]) -> _Piece | None:
        """The next messages that nobody has asked for yet; None if there are none."""
        while first < end and first in early:
            first += 1
        self._asked_to = first
        if first >= end:
            return None
        behind = first + 1
        while behind < min(end, first + PIECE_MESSAGES) and behind not in early:
            behind += 1
        self._asked_to = behind
        return _Piece(first, behind)
