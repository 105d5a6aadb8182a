"""Whom a receiver asks for what it has lost: one server, or the first of several that answers.

An exchange and its backup each have a re-request server, and of the two only one answers, at any time. Whoever has
answered last is asked. If nothing comes back for a moment, all are asked, until one answers: a message that comes twice
does no harm. If no server is named, requests go to where the feed came from last, so they follow a feed that another
machine goes on with.

Rules: no clock and no socket.
"""

from collections.abc import Sequence
from typing import Final

PATIENCE_NS: Final = 5_000_000
"""After so long without an answer all are asked. A network within a building carries one there and back in less."""

Address = tuple[str, int]


class RequestServers:
    """Who may be asked.

    Args:
        named: addresses and ports of re-request servers; none: the feed's own source.
    """

    def __init__(self, named: Sequence[Address]) -> None:
        self._named: Final = tuple(named)
        self._first: Address | None = self._named[0] if self._named else None
        self._asked_ns: int | None = None

    def heard(self, source: Address, *, is_answer: bool) -> None:
        """Something of the feed has come: from the live feed, or in answer to a request."""
        if is_answer:
            self._asked_ns = None
        if source in self._named if self._named else not is_answer:
            self._first = source

    def to_ask(self, now_ns: int) -> tuple[Address, ...]:
        """To whom the requests of this moment go; nobody as long as nobody is known."""
        if self._first is None:
            return ()
        if self._asked_ns is None:
            self._asked_ns = now_ns
        if len(self._named) > 1 and now_ns - self._asked_ns >= PATIENCE_NS:
            return self._named
        return (self._first,)
