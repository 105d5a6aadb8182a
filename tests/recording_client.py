"""A client that follows an exchange over several addresses and writes down what it sends and is told, for the history
checker (:mod:`tests.history_checker`).

It enters, replaces and cancels orders as fast as it is answered, some at a time. A line that has ended, or on which
nothing is told for a while though something is unanswered, is given up; then it goes to the next address, asks for the
messages behind those that it has, and for some of those again, and sends again what was not answered: an exchange
ignores a number that it has seen. It judges nothing, so that the checker has something to find.

Rules: one event loop. :meth:`RecordingClient.run` ends with the session, or when it is cancelled."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from exchange.line import TcpLine
from exchange.simulation.dialects import Entry, Ouch50
from exchange.wire.fields import WireError
from exchange.wire.ouch_codes import Side
from exchange.wire.soupbintcp import (
    SERVER_PACKETS,
    EndOfSession,
    LoginAccepted,
    SequencedData,
    UnsequencedData,
)
from tests.gateway_driver import PASSWORD
from tests.history_checker import ACCEPTED, ANSWERS, Heard, LoggedOn, Noted, Sent

SYMBOLS: Final = ("AAPL", "MSFT", "NVDA")
UNDER_WAY_MAX: Final = 4
"""So many orders wait for an answer at the most."""
OVERLAP_MAX: Final = 20
"""So many messages that it has got a client asks for again, at the most; now and then for all of them."""
BEGINNING_CHANCE: Final = 0.1
OPEN_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 0.05
BREATH_SECONDS: Final = 0.02

Address = tuple[str, int]


class RecordingClient:
    """One user's session, wherever it is let in.

    Args:
        name: of the user.
        addresses: of the exchanges, and for each what tells the name of the process that is there now.
        seed: what is asked for follows from it, and from what is answered.

    Attributes:
        noted: what it has sent and heard.
        answered: how many orders were answered.
        is_over: whether the exchange has ended the session.
    """

    def __init__(self, name: str, addresses: Sequence[tuple[Address, Callable[[], str]]], seed: int) -> None:
        self.name: Final = name
        self.noted: Final[list[Noted]] = []
        self.answered = 0
        self.is_over = False
        self._addresses: Final = addresses
        self._chance: Final = random.Random(seed)
        self._dialect: Final = Ouch50()
        self._session = ""
        self._known = 0
        self._position = 0
        self._place = 0
        self._next_number = 1
        self._process = ""
        self._unanswered: Final[dict[int, bytes]] = {}
        self._alive: Final[list[int]] = []
        self._told_at = 0.0

    async def run(self) -> None:
        """Trade until the session ends."""
        while not self.is_over:
            with suppress(OSError, WireError, EOFError):  # a TimeoutError is an OSError
                await self._follow()
            if not self.is_over:
                self._place = (self._place + 1) % len(self._addresses)
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        """Trade over one connection, until it is of no use any more."""
        address, name_process = self._addresses[self._place]
        async with asyncio.timeout(OPEN_SECONDS):
            line = await TcpLine.open(*address)
        try:
            self._process = name_process()
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._log_on(line)
            await self._send(line, list(self._unanswered.items()))
            self._told_at = time.monotonic()
            while not self.is_over:
                await self._send(line, self._requests())
                async with asyncio.timeout_at(self._gives_up_at()):
                    packets = await line.receive()
                if not packets:
                    raise EOFError
                self._take_all(packets)
                await asyncio.sleep(BREATH_SECONDS)
        finally:
            await line.close()

    def _gives_up_at(self) -> float:
        """On the loop's clock, which is the monotonic one."""
        return self._told_at + ANSWER_SECONDS

    async def _log_on(self, line: TcpLine) -> None:
        is_whole = self._chance.random() < BEGINNING_CHANCE
        asked = 1 if is_whole else max(1, self._known + 1 - self._chance.randrange(OVERLAP_MAX))
        answer = await line.log_on(self.name, PASSWORD, self._session, asked)
        if not isinstance(answer, LoginAccepted):
            raise ConnectionRefusedError(str(answer))
        self._session = answer.session
        self._position = answer.sequence_number - 1
        begin = answer.sequence_number
        self.noted.append(LoggedOn(time.monotonic_ns(), self._process, answer.session, asked, begin))

    async def _send(self, line: TcpLine, requests: Sequence[tuple[int, bytes]]) -> None:
        """Send requests; those with a number are noted."""
        if not requests:
            return
        now_ns = time.monotonic_ns()
        self.noted += [Sent(now_ns, self._process, number) for number, _ in requests if number]
        async with asyncio.timeout(ANSWER_SECONDS):
            await line.send(b"".join(UnsequencedData(one).encode() for _, one in requests))

    def _requests(self) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        while len(self._unanswered) < UNDER_WAY_MAX:
            kind = self._chance.random()
            if self._alive and kind < 0.3:
                number = self._alive.pop(self._chance.randrange(len(self._alive)))
                found.append((0, self._dialect.cancel(number, 0)))
            elif self._alive and kind < 0.4:
                found.append(self._replacement())
            else:
                found.append(self._entry())
        return found

    def _replacement(self) -> tuple[int, bytes]:
        """The order may be gone by then, and nobody answers; so nobody waits for an answer."""
        number, chance = self._next_number, self._chance
        self._next_number += 1
        original = self._alive.pop(chance.randrange(len(self._alive)))
        quantity, price = chance.randrange(50, 300), 100_0000 + 100 * chance.randrange(-5, 6)
        return number, self._dialect.replace(original, number, quantity, price)

    def _entry(self) -> tuple[int, bytes]:
        number, chance = self._next_number, self._chance
        self._next_number += 1
        entry = Entry(
            number, chance.choice([Side.BUY, Side.SELL]), chance.randrange(10, 200), chance.choice(SYMBOLS),
            100_0000 + 100 * chance.randrange(-5, 6),
        )  # fmt: skip
        self._unanswered[number] = self._dialect.enter(entry)
        return number, self._unanswered[number]

    def _take_all(self, packets: Sequence[bytes]) -> None:
        now_ns = time.monotonic_ns()
        for packet in map(SERVER_PACKETS.decode, packets):
            if isinstance(packet, EndOfSession):
                self.is_over = True
            elif isinstance(packet, SequencedData):
                self._told_at = now_ns / 1e9
                self.noted.append(Heard(now_ns, self._process, packet.message))
                self._position += 1
                if self._position > self._known:
                    self._known = self._position
                    self._learn(packet.message)

    def _learn(self, payload: bytes) -> None:
        told = self._dialect.told(payload)
        if told.letter in ANSWERS:
            self.answered += 1
            self._unanswered.pop(told.number, None)
        if told.letter in ACCEPTED and len(self._alive) < 50:
            self._alive.append(told.number)
