"""What a line promises to the accounting of a load, once, for every carrier.

A line carries the packets of sessions: requests out, answers in. How they get across, and what has to be done so that
none is lost, is its business; the accounting sees requests that are on their way, and packets that came, in order and
each once. :mod:`~exchange.load.tcp_line` is TCP, :mod:`~exchange.load.udp_line` numbered datagrams. Another carrier is
another file beside them, and the loop is compiled for it as it is.

A turn of the loop calls :func:`send` for every session, also if nothing is due, and then :func:`receive` for those
that may have something. If that found something, :func:`next_packets` is called until nothing is left, before the next
:func:`receive` of any session.

Rules: nothing waits. A line that breaks notes why in its session (:func:`exchange.load.words.fail`). Times are
nanoseconds from the run's start; ``elapsed_ns`` is when the turn began."""

from typing import Any, Protocol

from exchange.load.requests import SessionRequests
from exchange.native import generic


@generic
def send(line: Any, session: int, due: int, elapsed_ns: int) -> int:
    """Send what has not been sent of a session's first ``due`` requests, and what the line itself has to say.

    Returns:
        How many bytes of the session's requests the line has taken so far; or -errno if it is broken.
    """
    raise NotImplementedError


@generic
def receive(line: Any, session: int, elapsed_ns: int) -> int:
    """Take what has come for a session from the kernel, with one call. 0 if there was nothing."""
    raise NotImplementedError


@generic
def next_packets(line: Any, session: int, elapsed_ns: int) -> tuple[int, int, int]:
    """The next SoupBinTCP packets of what was received last.

    Returns:
        The address of some bytes, and the indexes of the first and behind the last of the packets in them that are new:
        where in the bytes they lie is at the line's ``places``, records of
        :data:`~exchange.wire.soupbintcp_kernel.PLACE_DTYPE`. The indexes are equal if nothing is left.
    """
    raise NotImplementedError


OPERATIONS = (send, receive, next_packets)


class LineMemory(Protocol):
    """Owner of the memory behind a line; made for the address of the load's words and the number of sessions."""

    @property
    def state(self) -> Any:
        """What the operations above are given: a NamedTuple with ``words``, the load's, and ``places``."""

    @property
    def session_bytes(self) -> int:
        """How many bytes of words a session has, the line's own among them; they are 0 at first."""

    @property
    def counted(self) -> dict[str, int]:
        """Which of the load's words say how much the line resisted, by the names of a result."""

    def lay_out(self, address: int, session: Any) -> None:
        """Fill in the line's words of a session that is logged on."""

    def next_wanted(self, address: int) -> int:
        """The number of the message that a session has not got, of all that it will get."""

    def resume(self, address: int, session: Any, first: int, elapsed_ns: int) -> None:
        """A session has logged on anew: go on with its new line, while the loop stands.

        Args:
            address: of the session's words.
            session: logged on to get the message that is wanted next.
            first: the request from which all are sent (again); those before it have been answered.
            elapsed_ns: the time, from the run's start.
        """

    def give_back(self, address: int, session: Any, requests: SessionRequests) -> None:
        """When the loop has ended, let the session know how far its line has come, so that it can go on."""
