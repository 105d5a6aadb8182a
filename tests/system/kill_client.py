"""A client that outlives its exchange: it trades as fast as it can, remembers every byte it was told, and holds each
next life of the exchange to it.

:class:`Trader` has one session for a day. It keeps the messages of its session by their sequence numbers and, of what
they say, which orders are alive. When the exchange was killed it logs on again (:meth:`Trader.resume`): what it has
got must be there again, byte for byte and under the same number, and what it had sent without an answer is either
there or is never heard of.

What carries its packets is a line as :mod:`exchange.line` has them: TCP, or a card.

Rules: one task at a time uses a trader. A thing that cannot be is an AssertionError that says what and where."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from exchange import line
from exchange.line import TcpLine
from exchange.simulation.dialects import Entry, Ouch42, Ouch50, Told
from exchange.wire.layout import Message
from exchange.wire.ouch_codes import EventCode, Side
from exchange.wire.soupbintcp import (
    SERVER_PACKETS,
    EndOfSession,
    LoginRejected,
    SequencedData,
    UnsequencedData,
)
from exchange.wire.soupbinudp import LoginRejected as DatagramLoginRejected
from tests.gateway_driver import PASSWORD

SYMBOLS: Final = ("AAPL", "MSFT", "NVDA")
"""Of different shards, if there are two."""
BURST: Final = 12
"""Requests of one write; the last is an order, whose answer says that all were looked at."""
BURSTS: Final = 3
"""So many bursts are under way."""
LIVE_MAX: Final = 60
"""With more orders alive a trader cancels and does not enter."""
OVERLAP_MAX: Final = 300
"""How many messages that it has got a trader asks for again, at most; or for all of them."""
BEGINNING_CHANCE: Final = 0.15
BEYOND_THE_END: Final = 1_000_000_000
"""Whoever asks for this message is told the number of the next."""
OPEN_SECONDS_MAX: Final = 30.0
"""An exchange that is not found for so long was killed meanwhile."""

OpenLine = Callable[[int], Awaitable[line.Line]]
"""Opens a line to the exchange that listens at a port."""


async def open_tcp(port: int) -> line.Line:
    """A connection."""
    return await TcpLine.open("127.0.0.1", port)


class Live(NamedTuple):
    """An order that is alive."""

    symbol: str
    side: str
    price: int
    quantity: int


class Line:
    """A line of a trader, whose end is an EOFError."""

    def __init__(self, carrier: line.Line) -> None:
        self._carrier: Final = carrier

    @classmethod
    async def open(cls, open_line: OpenLine, port: int) -> "Line":
        """A line. EOFError if nobody is there."""
        try:
            async with asyncio.timeout(OPEN_SECONDS_MAX):
                return cls(await open_line(port))
        except (ConnectionError, TimeoutError) as error:
            raise EOFError from error

    async def log_on(self, name: str, session: str, sequence: int) -> tuple[str, int]:
        """Log on: the name of the session, and the number of the message that comes next."""
        try:
            answer = await self._carrier.log_on(name, PASSWORD, session, sequence)
        except ConnectionError as error:
            raise EOFError from error
        assert not isinstance(answer, LoginRejected | DatagramLoginRejected), f"{name}: refused: {answer}"
        return answer.session, answer.sequence_number

    async def read(self) -> list[Message]:
        """The packets that have come."""
        try:
            packets = await self._carrier.receive()
        except ConnectionError as error:
            raise EOFError from error
        if not packets:
            raise EOFError
        return [SERVER_PACKETS.decode(packet) for packet in packets]

    async def write(self, packets: list[bytes]) -> None:
        """Send packets, together if they are a stream."""
        try:
            for data in [b"".join(packets)] if isinstance(self._carrier, TcpLine) else packets:
                await self._carrier.send(data)
        except ConnectionError as error:
            raise EOFError from error

    async def close(self) -> None:
        """Hang up without a word."""
        await self._carrier.close()


class Trader:
    """One user's session, over all lives of its exchange.

    Attributes:
        messages: what the session has been told; message n is at place n - 1.
        live: the orders that are alive, as far as the messages say.
        matches: match number and order of each execution.
        kept: how many messages were asked for again and found equal.
        due: orders that were alive when the line was lost, and have to be cancelled for that.
        resumed: set while the trader has resumed, or given up.
        lost: how many orders a kill has swallowed before they were sequenced.
    """

    def __init__(
        self,
        name: str,
        seed: int,
        *,
        speaks_ouch42: bool = False,
        is_ordered: bool = True,
        cancels_on_disconnect: bool = False,
        open_line: OpenLine = open_tcp,
    ) -> None:
        self.name: Final = name
        self._is_ordered: Final = is_ordered
        self._dialect: Final = Ouch42() if speaks_ouch42 else Ouch50()
        self._chance: Final = random.Random(seed)
        self.messages: Final[list[bytes]] = []
        self.live: Final[dict[int, Live]] = {}
        self.matches: Final[list[tuple[int, int]]] = []
        self.due: Final[set[int]] = set()
        self.resumed: Final = asyncio.Event()
        self._cancels_on_disconnect: Final = cancels_on_disconnect
        self._open_line: Final = open_line
        self.session = ""
        self.kept = self.lost = 0
        self.is_over = False
        self._next_number = 1
        self._known: Final[set[int]] = set()
        self._gone: Final[set[int]] = set()
        self._unanswered: Final[dict[int, bytes]] = {}
        self._bursts: list[int] = []
        self._line: Line | None = None
        self._position = 0

    async def resume(self, port: int) -> None:
        """Log on, compare what is sent again, and read to where the session's log ended at the log on.

        Raises:
            EOFError: the exchange is gone.
        """
        self.is_over = False
        end = await self._log_on(port, BEYOND_THE_END)
        await self._hang_up()
        assert end > len(self.messages), self._said(
            f"{len(self.messages)} messages are known, the next is {end}"
        )
        is_whole = self._chance.random() < BEGINNING_CHANCE
        begin = 1 if is_whole else max(1, len(self.messages) + 1 - self._chance.randrange(OVERLAP_MAX))
        begins = await self._log_on(port, begin)
        assert begins == begin, self._said(f"asked for message {begin} and got {begins}")
        while self._position < end - 1:
            await self._read()
        self._bursts = []
        if self._cancels_on_disconnect:
            self.due.update(self.live)
        await self._settle_unanswered()
        self.resumed.set()

    async def _log_on(self, port: int, sequence: int) -> int:
        self._line = await Line.open(self._open_line, port)
        session, begin = await self._line.log_on(self.name, self.session, sequence)
        assert self.session in ("", session), self._said(f"the session is called {session} now")
        self.session = session
        if sequence != BEYOND_THE_END:
            self._position = begin - 1
        return begin

    async def _settle_unanswered(self) -> None:
        """All that was taken before the kill is known now. What is not among it never happened; some of it is sent
        again."""
        lost = list(self._unanswered.items())
        self._unanswered.clear()
        self.lost += len(lost)
        if self._chance.random() < 0.5:
            self._unanswered.update(lost)
            await self._write([one for _, one in lost])
        else:
            self._gone.update(number for number, _ in lost)

    async def trade(self) -> None:
        """Ask and listen until the exchange is gone, or has ended the session."""
        try:
            while not self.is_over:
                while len(self._bursts) < BURSTS:
                    await self._send_burst()
                await self._read()
        except EOFError:
            await self._hang_up()

    async def listen(self) -> None:
        """Listen until the session ends."""
        while not self.is_over:
            await self._read()
        await self._hang_up()

    async def _send_burst(self) -> None:
        requests = [self._request() for _ in range(BURST - 1)]
        requests.append(self._entry())
        self._bursts.append(self._next_number - 1)
        await self._write(requests)

    def _request(self) -> bytes:
        kind = self._chance.random()
        alive = self._chance.choice(list(self.live)) if self.live else 0
        if alive and (len(self.live) > LIVE_MAX or kind < 0.2):
            return self._dialect.cancel(alive, self._chance.choice([0, 0, 10]))
        if alive and kind < 0.4:
            return self._replacement(alive)
        return self._entry()

    def _entry(self) -> bytes:
        number, chance = self._take_number(), self._chance
        side, quantity = chance.choice([Side.BUY, Side.SELL]), chance.randrange(10, 200)
        price, symbol = 100_0000 + 100 * chance.randrange(-5, 6), chance.choice(SYMBOLS)
        self._unanswered[number] = self._dialect.enter(Entry(number, side, quantity, symbol, price))
        return self._unanswered[number]

    def _replacement(self, alive: int) -> bytes:
        """It may be that nobody answers it, for the order may be gone by then; so nobody waits for an answer."""
        number, chance = self._take_number(), self._chance
        quantity, price = chance.randrange(50, 300), 100_0000 + 100 * chance.randrange(-5, 6)
        return self._dialect.replace(alive, number, quantity, price)

    def _take_number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    async def _read(self) -> None:
        assert self._line is not None
        self._take_all(await self._line.read())

    def _take_all(self, packets: list[Message]) -> None:
        for packet in packets:
            if isinstance(packet, SequencedData):
                self._take(packet.message)
            elif isinstance(packet, EndOfSession):
                self.is_over = True

    def _take(self, payload: bytes) -> None:
        """The next message of the session: known, or new."""
        place = self._position
        self._position += 1
        if place < len(self.messages):
            assert payload == self.messages[place], self._said(
                f"message {place + 1} was {self.messages[place].hex()} and is {payload.hex()}"
            )
            self.kept += 1
            return
        self.messages.append(payload)
        self._learn(self._dialect.told(payload))

    def _learn(self, told: Told) -> None:
        """What a new message says of orders."""
        if told.letter in ("A", "U", "J"):
            self._begin(told.number, told.letter)
        if told.letter == "U":
            assert self.live.pop(told.original, None), self._said(f"{told} of an order that is not alive")
        if told.letter in ("A", "U") and told.quantity > 0:
            self.live[told.number] = Live(told.symbol, told.side, told.price, told.quantity)
        elif told.letter in ("C", "E"):
            self._reduce(told)

    def _begin(self, number: int, name: str) -> None:
        assert number not in self._known, self._said(f"order {number} was answered twice: {name}")
        assert number not in self._gone, self._said(
            f"order {number} was not there after a kill, and now: {name}"
        )
        self._known.add(number)
        if self._is_ordered and number in self._unanswered:
            self._check_order(number)
        self._unanswered.pop(number, None)
        if number in self._bursts:
            self._bursts = self._bursts[self._bursts.index(number) + 1 :]

    def _check_order(self, number: int) -> None:
        """One shard answers in the order in which it was asked."""
        first = next(iter(self._unanswered))
        assert number == first, self._said(f"order {number} was answered before {first}")

    def _reduce(self, told: Told) -> None:
        order = self.live.get(told.number)
        assert order is not None, self._said(f"{told} of an order that is not alive")
        if told.letter == "E":
            self.matches.append((told.match_number, told.number))
        left = order.quantity - told.quantity
        assert left >= 0, self._said(f"{told} takes more than the {order.quantity} that were left")
        if left:
            self.live[told.number] = order._replace(quantity=left)
        else:
            del self.live[told.number]

    async def _write(self, requests: list[bytes]) -> None:
        assert self._line is not None
        await self._line.write([UnsequencedData(one).encode() for one in requests])

    async def _hang_up(self) -> None:
        if self._line is not None:
            await self._line.close()
        self._line = None

    def ended_in_order(self) -> bool:
        """Whether the last message tells the end of the day."""
        last = self._dialect.told(self.messages[-1])
        return last.letter == "S" and last.reason == EventCode.END_OF_DAY

    def _said(self, text: str) -> str:
        return f"{self.name}: {text}"
