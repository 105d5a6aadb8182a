"""Passwords are dear to check, so who is checked next is not who asked first but whose turn it is.

A check takes a core for tens of milliseconds, on purpose: guessing shall be dear. That makes a flood of logons a weapon
against everybody else's, if they stand in one line. Here every address has a line of its own, and the lines take turns.
There are two circles of lines, of addresses from which somebody has logged on before and of strangers, and the circles
take turns as well. So a client at an address that is known waits for two checks at most, however many strangers wait.

Checks run on threads that stand back (a higher nice value): where there is no core to spare, orders go first.

Rules: one event loop. A check that has begun is ended, whether or not anybody still waits for it, and has its place
until then."""

import asyncio
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from exchange.gateway.credentials import Users

CHECKS_AT_A_TIME: Final = 2
"""Each takes a core for tens of milliseconds, and 16 MiB."""

NICENESS: Final = 10

_Line = OrderedDict[str, deque[asyncio.Future[None]]]


class VoidCheck(Exception):
    """A password was not looked at."""


class PasswordChecks:
    """Checks passwords of users, a few at a time, in turns of addresses.

    Args:
        users: whose passwords.
    """

    def __init__(self, users: Users) -> None:
        self._users: Final = users
        self._threads: Final = ThreadPoolExecutor(CHECKS_AT_A_TIME, "password", initializer=_stand_back)
        self._running = 0
        self._circles: Final[deque[_Line]] = deque([OrderedDict(), OrderedDict()])
        self._known: Final = self._circles[0]
        self._strangers: Final = self._circles[1]

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(len(line) for circle in self._circles for line in circle.values())

    async def authenticate(
        self, network: str, is_known: bool, name: str, password: str, is_void: Callable[[], bool]
    ) -> int | None:
        """The number of the user with this name and password, or None, when it is the address's turn.

        Args:
            network: the address.
            is_known: whether somebody has logged on from there.
            name: of the user.
            password: as it was sent.
            is_void: asked when the turn has come: whether the password is not to be looked at after all.

        Raises:
            VoidCheck: it was not.
        """
        await self._turn(network, self._known if is_known else self._strangers)
        if is_void():
            self._next()
            raise VoidCheck
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._users.authenticate, name, password)
        work.add_done_callback(lambda _done: self._next())
        return await asyncio.shield(work)

    def close(self) -> None:
        """Begin no further check; does not wait for those that run."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, network: str, circle: _Line) -> None:
        if self._running < CHECKS_AT_A_TIME:
            self._running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        circle.setdefault(network, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()  # it was given the turn at the moment at which it left
            raise

    def _next(self) -> None:
        """A place is free: whose turn is it?"""
        for _ in range(len(self._circles)):
            circle = self._circles[0]
            self._circles.rotate(-1)
            while circle:
                network, line = next(iter(circle.items()))
                turn = line.popleft()
                if line:
                    circle.move_to_end(network)
                else:
                    del circle[network]
                if not turn.done():
                    turn.set_result(None)
                    return
        self._running -= 1


def _stand_back() -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
