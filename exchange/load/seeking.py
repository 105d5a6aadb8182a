"""The thread beside a load's loop: it sees lines that are silent, and looks for others for sessions that have none.

It is an event loop, so that any number of sessions look at a time, each at every address
(:mod:`exchange.address_search`). Of many sessions that are away at once one looks first; where it was let in the others
then go together. So they do not all knock at closed doors, and take no time from an exchange that is getting ready.

What it has found lies in queues for the loop's thread. A word of the load says that there is something: the loop ends,
and whoever has started it looks into them.

Rules: of the words it only reads, but for LOST. :meth:`Seeker.seek` may be called by any thread within
:meth:`Seeker.running`.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from exchange.address_search import AddressSearch, LogonTurns, find
from exchange.load.logins import Endpoint
from exchange.load.requests import SessionRequests
from exchange.load.sessions import Session
from exchange.load.watching import LineWatch
from exchange.load.words import LOST
from exchange.native import store_release

LOOK_SECONDS: Final = 0.01
"""So often it is looked whether lines are silent."""
FIRST_SECONDS: Final = 1.0
"""After so long the others do not wait any more for the one that looks first."""


class Moved(NamedTuple):
    """One session of a run: with its requests, and the address of its words."""

    session: Session
    requests: SessionRequests
    address: int


class Found(NamedTuple):
    """What came of a search: which session it was for, the place, and what was answered there."""

    session_index: int
    place: int
    answer: Any


class Seeker:
    """Looks for lines of a run's sessions.

    Args:
        endpoints: where the exchange may be.
        sessions: of the run.
        limits: how many seconds a line may be silent, and how many while a request is unanswered.

    Attributes:
        found: where sessions were let in.
        silent: the indexes of sessions whose lines are to be given up.
        errors: why a search has ended without success; for the loop's thread to raise.
        news: set when one of these has become longer.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], sessions: Sequence[Moved], limits: tuple[float, float]
    ) -> None:
        self._endpoints: Final = endpoints
        self._sessions: Final = sessions
        self._limits: Final = limits
        self.found: Final[deque[Found]] = deque()
        self.silent: Final[deque[int]] = deque()
        self.errors: Final[deque[BaseException]] = deque()
        self.news: Final = threading.Event()
        self._words = 0
        self._start_ns = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._searches: Final[set[asyncio.Task[None]]] = set()
        self._first: asyncio.Lock = asyncio.Lock()
        self._let_in_at = float("-inf")

    @contextmanager
    def running(self, words: int, start_ns: int) -> Iterator[None]:
        """Within the block the thread runs.

        Args:
            words: the address of the load's words.
            start_ns: when the run starts, on the monotonic clock.
        """
        self._words, self._start_ns = words, start_ns
        ready, is_over = threading.Event(), asyncio.Event()
        thread = threading.Thread(
            target=lambda: asyncio.run(self._main(ready, is_over)), name="seeker", daemon=True
        )
        thread.start()
        ready.wait()
        assert self._loop is not None
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(is_over.set)
            thread.join()
            for one in self.found:
                one.answer.close()

    def seek(self, index: int, sequence: int, suspect: int | None) -> None:
        """Begin to look for a line for a session.

        Args:
            index: the session's.
            sequence: the number of the message that is wanted first.
            suspect: the place that has fallen silent, if one has.
        """
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._begin, index, sequence, suspect)

    async def _main(self, ready: threading.Event, is_over: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
        watch = asyncio.create_task(self._watch())
        ready.set()
        await is_over.wait()
        tasks = (watch, *self._searches)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, index: int, sequence: int, suspect: int | None) -> None:
        task = asyncio.create_task(self._seek(index, sequence, suspect))
        self._searches.add(task)
        task.add_done_callback(self._searches.discard)

    async def _seek(self, index: int, sequence: int, suspect: int | None) -> None:
        loop = asyncio.get_running_loop()
        lost_at = loop.time()
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                await self._first.acquire()
            is_first = True
        except TimeoutError:
            is_first = False
        if is_first and self._let_in_at >= lost_at:
            self._first.release()
            is_first = False
        try:
            place, answer = await self._search(index, sequence, suspect)
            self._let_in_at = loop.time()
            self.found.append(Found(index, place, answer))
        except Exception as error:
            self.errors.append(error)
        finally:
            if is_first:
                self._first.release()
        self._tell()

    async def _search(self, index: int, sequence: int, suspect: int | None) -> tuple[int, Any]:
        session, turns = self._sessions[index].session, LogonTurns()
        search = AddressSearch(len(self._endpoints), asyncio.get_running_loop().time(), suspect)
        return await find(
            search,
            lambda place: session.ask(self._endpoints[place], sequence, turns),
            _close,
            float("inf"),
        )

    def _tell(self) -> None:
        store_release(self._words + LOST, 1)
        self.news.set()

    async def _watch(self) -> None:
        """Tell of lines that are silent."""
        watch = LineWatch([one.address for one in self._sessions], self._limits)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if silent := watch.silent(self._start_ns):
                self.silent.extend(silent)
                self._tell()


async def _close(answer: Any) -> None:
    answer.close()
