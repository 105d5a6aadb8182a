"""Who of several addresses lets us in: the search of a client whose exchange may have moved to another machine.

An exchange with a backup has two addresses. At the backup's nobody listens until it is promoted; a machine that is gone
says nothing at all; an exchange that was stopped takes connections, by its kernel, and answers no logon. So every
address is asked on its own, side by side, and whoever answers first is the one: a silent address holds nobody up.

:class:`AddressSearch` says which address is due, without a clock and without a socket. An address that has failed is
asked again after a pause, which is a tenth of how long the search has taken so far: the search adds little to any
outage, and a long one is not a storm of questions. Pauses are cut short by chance, so that many clients that have lost
the same exchange do not ask in step. :func:`find` runs a search on an event loop.

Two addresses may lead to one exchange, which gives a session to whoever logs on last, so two logons at a time would
take it from each other. :class:`LogonTurns` has them take turns, as long as they are answered.

Rules: times are seconds of any clock that only goes forward. An attempt that fails raises OSError (a TimeoutError is
one); whatever else it raises ends the search.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

PAUSE_SECONDS_FIRST: Final = 0.02
PAUSE_SECONDS_MAX: Final = 1.0
PAUSE_PART: Final = 0.1
"""The pause after an attempt, as a part of how long the search has taken."""
PAUSE_CUT: Final = 0.5
"""By so much of it a pause is cut short, at most."""
SUSPECT_SECONDS: Final = 0.1
"""An address that has fallen silent is asked so much later than the others."""
CONNECT_SECONDS: Final = 2.0
"""How long an address may take to be reached; a machine that is gone says nothing."""
LOGON_SECONDS: Final = 10.0
"""How long it may take in all until somebody is logged on there."""
TURN_SECONDS: Final = 0.25
"""How long whoever logs on has the others wait: longer than an exchange looks at a password."""


class AddressSearch:
    """Which addresses are to be asked now.

    Args:
        count: how many addresses there are; they are numbered from 0.
        now: when the search begins.
        suspect: the address that has fallen silent, if one has: the others have a start before it.
        avoided: one that is not asked at all.
        chance: what cuts pauses short.
    """

    def __init__(
        self,
        count: int,
        now: float,
        suspect: int | None = None,
        *,
        avoided: int | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._began: Final = now
        self._chance: Final = chance or random.Random()
        self._due_at: Final[dict[int, float]] = {
            index: now + (SUSPECT_SECONDS if index == suspect and count > 1 else 0.0)
            for index in range(count)
            if index != avoided
        }
        self._has_failed: Final = dict.fromkeys(self._due_at, False)

    @property
    def has_failed_everywhere(self) -> bool:
        """Whether every address has been asked in vain at least once."""
        return all(self._has_failed.values())

    @property
    def next_at(self) -> float:
        """When the next address is due; infinity while all are being asked."""
        return min(self._due_at.values(), default=float("inf"))

    def due(self, now: float) -> list[int]:
        """The addresses to ask now; each counts as being asked until it is said to have :meth:`failed`."""
        found = [index for index, at in self._due_at.items() if at <= now]
        for index in found:
            del self._due_at[index]
        return found

    def failed(self, index: int, now: float) -> None:
        """An address was asked in vain: it has its turn again after a pause."""
        self._has_failed[index] = True
        pause = min(max(PAUSE_PART * (now - self._began), PAUSE_SECONDS_FIRST), PAUSE_SECONDS_MAX)
        self._due_at[index] = now + pause * (1.0 - PAUSE_CUT * self._chance.random())


class LogonTurns:
    """One logon at a time; the next begins when it is over, or has gone without an answer for :data:`TURN_SECONDS`."""

    def __init__(self) -> None:
        self._lock: Final = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the block ends."""
        await self._lock.acquire()
        loop, is_over = asyncio.get_running_loop(), False

        def end() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                self._lock.release()

        timer = loop.call_later(TURN_SECONDS, end)
        try:
            yield
        finally:
            timer.cancel()
            end()


async def find[T](
    search: AddressSearch,
    attempt: Callable[[int], Awaitable[T]],
    discard: Callable[[T], Awaitable[None]],
    give_up_at: float | None,
) -> tuple[int, T]:
    """Ask until somebody answers.

    Args:
        search: begun on the clock of the event loop.
        attempt: asks an address, in bounded time, and lets go of everything if it fails or is cancelled.
        discard: lets go of what a second address has answered, in the same moment as the first.
        give_up_at: when to give up; None: when every address has been asked in vain once.

    Returns:
        The address, and what came of the attempt there.

    Raises:
        OSError: given up; that of the last attempt that failed, a TimeoutError if there is none.
        Exception: what an attempt raised that was no OSError.
    """
    loop = asyncio.get_running_loop()
    asking: dict[asyncio.Future[T], int] = {}
    why: OSError = TimeoutError("nobody answers")
    try:
        while not (search.has_failed_everywhere if give_up_at is None else loop.time() >= give_up_at):
            for index in search.due(loop.time()):
                asking[asyncio.ensure_future(attempt(index))] = index
            until = min(search.next_at, float("inf") if give_up_at is None else give_up_at)
            done = await _first_done(set(asking), until)
            for one in sorted(done, key=asking.__getitem__):
                index = asking.pop(one)
                error = one.exception()
                if error is None:
                    return index, one.result()
                if not isinstance(error, OSError):
                    raise error
                why = error
                search.failed(index, loop.time())
    finally:
        await _let_go(asking, discard)
    raise why


async def _first_done[T](asking: set[asyncio.Future[T]], until: float) -> set[asyncio.Future[T]]:
    """Wait until an attempt is over, or a time has come."""
    seconds = max(until - asyncio.get_running_loop().time(), 0.0)
    if not asking:
        await asyncio.sleep(seconds)
        return set()
    timeout = None if seconds == float("inf") else seconds
    done, _ = await asyncio.wait(asking, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    return done


async def _let_go[T](asking: dict[asyncio.Future[T], int], discard: Callable[[T], Awaitable[None]]) -> None:
    for one in asking:
        one.cancel()
    for answer in await asyncio.gather(*asking, return_exceptions=True):
        if not isinstance(answer, BaseException):
            await discard(answer)
