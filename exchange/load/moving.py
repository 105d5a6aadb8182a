"""A load whose exchange moves: each session that has lost its line finds another by itself, and the run goes on.

The loop stands when a session's line is broken. The session is then *away*: the loop begins again and leaves it alone,
though what becomes due of its requests is due. Beside the loop a thread looks for an address that lets it in
(:mod:`exchange.load.seeking`), with the number of the message that it has not got: the exchange then sends what it
missed. When it is back, the loop stands for a moment once more, and the line goes back to the first request that has no
answer. Those are sent again; the exchange ignores what it had taken. The clock of the run goes on all the time, so the
time that a request had to wait is in its latency.

The same thread sees lines that are silent, which nothing has broken: those of an exchange that was stopped, or whose
machine is gone. What is kept of every loss is a :class:`~exchange.load.losses.Loss`.

Rules: :meth:`Moving.run` is on the thread that has the loop; :meth:`Moving.watching` is entered before, on another. End
of Session is the end of a run, and so is a line that does not speak SoupBinTCP. A session that is still away at the
end, with requests that have no answer, fails the run.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from exchange.load.logins import Endpoint
from exchange.load.loops import Load, run_load
from exchange.load.losses import Loss
from exchange.load.protocol import LineMemory
from exchange.load.requests import first_unanswered
from exchange.load.seeking import Found, Moved, Seeker
from exchange.load.words import (
    AWAY,
    CLOSED,
    DESCRIPTOR,
    DUE,
    FAILED,
    FAILURE,
    LOST,
    NEXT,
    NOT_BACK,
    SETTLED,
    SILENT,
    STOP,
    add,
    end_of,
    fail,
)
from exchange.native import load_acquire, load_int64, store_int64, store_release

WAIT_SECONDS: Final = 0.02
"""While no session has a line, it is looked so often whether the run is to end."""


class Moving:
    """The sessions of a run, as they move.

    Args:
        endpoints: where the exchange may be.
        places: for each session, at which of them it is when the run begins.
        line: the memory of the sessions' line.
        sessions: all of them.
        limits: how many seconds a line may be silent, and how many while a request is unanswered.
        attach: called with the index of a session that has a new socket.

    Attributes:
        losses: the lines that were lost, in the order in which that was noticed.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        places: Sequence[int],
        line: LineMemory,
        sessions: Sequence[Moved],
        limits: tuple[float, float],
        attach: Callable[[int], None],
    ) -> None:
        self._endpoints: Final = endpoints
        self._places: Final = list(places)
        self._line: Final = line
        self._sessions: Final = sessions
        self._attach: Final = attach
        self._seeker: Final = Seeker(endpoints, sessions, limits)
        self._away: Final[dict[int, int]] = {}
        self.losses: Final[list[Loss]] = []
        # What a move calls is compiled, or found in the cache, before anybody waits for it.
        add(sessions[0].address + FAILURE, 0)
        end_of(sessions[0].address, 0)

    @contextmanager
    def watching(self, load: Load) -> Iterator[None]:
        """Within the block lines that are silent are noticed, and sessions that are away look for another."""
        with self._seeker.running(load.words, load.start_ns):
            yield

    def run(self, load: Load) -> None:
        """Let the loop run to its end, wherever the exchange goes.

        Raises:
            UserError: the exchange does not let a session in any more.
        """
        run_load(load)
        while self._has_news(load):
            store_release(load.words + LOST, 0)  # what comes from here on ends the loop again
            self._seeker.news.clear()
            self._note_losses(load)
            while self._seeker.found:
                self._take_over(load, self._seeker.found.popleft())
            if self._seeker.errors:
                raise self._seeker.errors.popleft()
            while len(self._away) == len(self._sessions) and not _is_over(load):
                if self._seeker.news.wait(WAIT_SECONDS):
                    break
            run_load(load)
        for index in self._away:
            address = self._sessions[index].address
            if load_int64(address + SETTLED) < load_int64(address + DUE):
                fail(load.words, address, NOT_BACK)

    def _has_news(self, load: Load) -> bool:
        """Whether the loop has ended for something that a new line can mend, or did."""
        reasons = (load_int64(one.address + FAILURE) for one in self._sessions)
        if _is_over(load) or any(reason > 0 and reason not in (CLOSED, SILENT) for reason in reasons):
            return False
        return load_acquire(load.words + LOST) != 0 or load_int64(load.words + FAILED) != 0

    def _note_losses(self, load: Load) -> None:
        now_ns = time.monotonic_ns() - load.start_ns
        for index, one in enumerate(self._sessions):
            reason = load_int64(one.address + FAILURE)
            if reason != 0:
                store_int64(one.address + FAILURE, 0)
                add(load.words + FAILED, -1)
                self._leave(index, reason, now_ns)
        while self._seeker.silent:
            index = self._seeker.silent.popleft()
            if index not in self._away:
                self._leave(index, SILENT, now_ns)

    def _leave(self, index: int, reason: int, now_ns: int) -> None:
        one, left = self._sessions[index], self._endpoints[self._places[index]]
        store_int64(one.address + AWAY, 1)
        store_int64(one.address + DESCRIPTOR, -1)
        one.session.close()
        self._away[index] = len(self.losses)
        self.losses.append(Loss(one.session.name, reason, left, left, now_ns))
        suspect = self._places[index] if reason == SILENT else None
        self._seeker.seek(index, self._line.next_wanted(one.address), suspect)

    def _take_over(self, load: Load, found: Found) -> None:
        one, number = self._sessions[found.session_index], self._away.pop(found.session_index)
        wanted, sent = self._line.next_wanted(one.address), load_int64(one.address + NEXT)
        begins = one.session.move(found.answer)
        first = first_unanswered(one.requests, sent, sent - load_int64(one.address + SETTLED))
        now_ns = time.monotonic_ns() - load.start_ns
        self._line.resume(one.address, one.session, first, now_ns)
        self._attach(found.session_index)
        self._places[found.session_index] = found.place
        self.losses[number] = self.losses[number]._replace(
            found=self._endpoints[found.place],
            back_ns=now_ns,
            sent_again=sent - first,
            taken_back=max(wanted - begins, 0),
        )
        store_int64(one.address + AWAY, 0)


def _is_over(load: Load) -> bool:
    is_late = time.monotonic_ns() - load.start_ns > load.deadline_ns
    return is_late or load_acquire(load.words + STOP) != 0
