"""Clients that mean no good, to be let loose on an exchange: for benchmark and tests.

============== ========================================================================================================
connects       opens a thousand connections a second, and hangs up
half frames    says half a Login Request on as many connections as it gets, and waits
random bytes   says what comes to mind
guesses        tries passwords for somebody else's name
never reads    logs on, asks and asks, and takes no answer
trickles       the same, and takes a little now and then
floods         logs on and sends orders at ten times the rate that it may
============== ========================================================================================================

Each comes from an address of its own of 127.0.0.0/8, so that the exchange sees different clients. It runs as a process
of its own (``python -m exchange.load.hostile``), which stands back for all others (nice 19): its plan comes as a line
on standard input, then ``go`` and ``stop`` in turns, and after each ``stop`` it prints what it has done since. So no
password is ever on a command line, and it ends with whoever started it.

Rules: rates and numbers of connections are bounded, and what is random comes from a seed. It says what it has *opened*;
what became of all that is in the log of the exchange."""

import asyncio
import os
import random
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import msgspec

from exchange.wire.layout import LENGTH_BYTES
from exchange.wire.ouch50 import AccountQuery, CrossType, Display, EnterOrder, TimeInForce
from exchange.wire.ouch_codes import Capacity, Side, YesOrNo
from exchange.wire.soupbintcp import LoginRequest, UnsequencedData

ORDERS: Final = "orders"
NICENESS: Final = 19
TICK_SECONDS: Final = 0.01
HELD_MAX: Final = 100
"""Connections that one kind holds open."""
PATIENCE_SECONDS: Final = 2.0
"""How long one waits for the exchange to hang up before it does so itself."""
HALF_SECONDS: Final = 60.0
"""And one that has said half of what it had to say."""
ANSWERS_BYTES: Final = 1 << 16
TRICKLE_BYTES: Final = 2048
QUERIES_AT_A_TIME: Final = 4096
FLOODED_PRICE_TICKS: Final = 1_0000
"""A dollar: nothing trades there."""
_LOGIN_ANSWER_BYTES: Final = LENGTH_BYTES + 31


class HostilePlan(msgspec.Struct, frozen=True):
    """What to do, to whom, and how much of it.

    ``victim`` is the user whose password is guessed. ``users`` log on with ``password``, and never read, trickle and
    flood. Rates are per second.
    """

    host: str
    port: int
    victim: str
    users: tuple[str, str, str]
    password: str
    connects_per_second: int = 1000
    logons_per_second: int = 50
    orders_per_second: int = 10_000
    seed: int = 1

    def __repr__(self) -> str:
        """Without the password, wherever it ends up."""
        return f"HostilePlan({self.host!r}, {self.port}, {self.users}, password not shown)"


class Hostile:
    """All of them.

    Attributes:
        counts: connections that were opened, by kind; and under :data:`ORDERS` those that were sent.
    """

    def __init__(self, plan: HostilePlan) -> None:
        self.plan: Final = plan
        self.counts: Final[Counter[str]] = Counter()
        self._random: Final = random.Random(plan.seed)
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    def start(self) -> None:
        """Let them loose, in the running event loop."""
        loops: tuple[Callable[[str], Awaitable[None]], ...] = (
            self._connects,
            self._half_frames,
            self._random_bytes,
            self._guesses,
            self._never_reads,
            self._trickles,
            self._floods,
        )
        for number, loop in enumerate(loops):
            self._spawn(self._again_and_again(loop, f"127.0.0.{66 + number}"))

    async def stop(self) -> None:
        """Call them back."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _again_and_again(self, loop: Callable[[str], Awaitable[None]], source: str) -> None:
        while True:
            with suppress(OSError):
                await loop(source)
            await asyncio.sleep(0.1)

    async def _open(self, kind: str, source: str, receive_bytes: int = 0) -> socket.socket:
        """A connection from an address; the caller closes it."""
        connection = socket.socket()
        try:
            connection.setblocking(False)
            if receive_bytes:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
            connection.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(connection, (self.plan.host, self.plan.port))
        except BaseException as error:
            if isinstance(error, ConnectionResetError) or _is_connected(connection):
                # It was hung up on, or called back, in the moment in which it was open.
                self.counts[kind] += 1
            connection.close()
            raise
        self.counts[kind] += 1
        return connection

    async def _paced(self, per_second: float, work: Callable[[], Awaitable[None]]) -> None:
        """Begin so many pieces of work a second, each a task of its own; at most :data:`HELD_MAX` at a time."""
        due, running = 0.0, set[asyncio.Task[None]]()
        while True:
            due = min(due + per_second * TICK_SECONDS, per_second)
            while due >= 1 and len(running) < HELD_MAX:
                due -= 1
                task = asyncio.ensure_future(work())
                for known in (running, self._tasks):
                    known.add(task)
                    task.add_done_callback(known.discard)
            await asyncio.sleep(TICK_SECONDS)

    async def _connects(self, source: str) -> None:
        async def work() -> None:
            with suppress(OSError):
                (await self._open("connects", source)).close()

        await self._paced(self.plan.connects_per_second, work)

    async def _half_frames(self, source: str) -> None:
        request = LoginRequest(self.plan.victim, "halfafrm", "", 1).encode()

        async def work() -> None:
            said = request[: self._random.randrange(len(request))]
            await self._say("half frames", source, said, HALF_SECONDS)

        await self._paced(self.plan.logons_per_second, work)

    async def _random_bytes(self, source: str) -> None:
        async def work() -> None:
            said = self._random.randbytes(self._random.randrange(1, 2048))
            await self._say("random bytes", source, said)

        await self._paced(self.plan.logons_per_second, work)

    async def _guesses(self, source: str) -> None:
        async def work() -> None:
            guess = f"{self._random.randrange(1 << 32):08x}"
            await self._say("guesses", source, LoginRequest(self.plan.victim, guess, "", 0).encode())

        await self._paced(self.plan.logons_per_second, work)

    async def _say(
        self, kind: str, source: str, said: bytes, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Say something on a new connection, and wait a while for the exchange to hang up."""
        with suppress(OSError, TimeoutError):
            connection = await self._open(kind, source)
            with connection:
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(patience_seconds):
                    await loop.sock_sendall(connection, said)
                    while await loop.sock_recv(connection, ANSWERS_BYTES):
                        pass

    async def _log_on(self, kind: str, source: str, user: str, receive_bytes: int = 0) -> socket.socket:
        """A session, from its next message on. OSError if it is refused."""
        connection = await self._open(kind, source, receive_bytes)
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connection, LoginRequest(user, self.plan.password, "", 0).encode())
            async with asyncio.timeout(30):
                answer = await loop.sock_recv(connection, _LOGIN_ANSWER_BYTES + 1)
            if answer[LENGTH_BYTES : LENGTH_BYTES + 1] != b"A":
                raise ConnectionRefusedError(f"{user} was not let in")
        except BaseException:
            connection.close()
            raise
        return connection

    async def _never_reads(self, source: str) -> None:
        with await self._log_on("never reads", source, self.plan.users[0], 4096) as connection:
            await self._ask(connection)

    async def _trickles(self, source: str) -> None:
        loop = asyncio.get_running_loop()
        with await self._log_on("trickles", source, self.plan.users[1], 4096) as connection:
            asking = asyncio.ensure_future(self._ask(connection))
            try:
                while not asking.done() and await loop.sock_recv(connection, TRICKLE_BYTES):
                    await asyncio.sleep(0.2)
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

    async def _ask(self, connection: socket.socket) -> None:
        """Ask, until it is hung up on."""
        loop = asyncio.get_running_loop()
        queries = UnsequencedData(AccountQuery().encode()).encode() * QUERIES_AT_A_TIME
        while True:
            await loop.sock_sendall(connection, queries)
            await asyncio.sleep(5 * TICK_SECONDS)

    async def _floods(self, source: str) -> None:
        loop, order = asyncio.get_running_loop(), flooded_order()
        with await self._log_on("floods", source, self.plan.users[2]) as connection:
            reading = asyncio.ensure_future(_read_all(connection))
            number, due = self.counts[ORDERS], 0.0
            try:
                while not reading.done():
                    due = min(due + self.plan.orders_per_second * TICK_SECONDS, self.plan.orders_per_second)
                    count, due = int(due), due % 1
                    packets = b"".join(order(number + one + 1) for one in range(count))
                    await loop.sock_sendall(connection, packets)
                    number += count
                    self.counts[ORDERS] = number
                    await asyncio.sleep(TICK_SECONDS)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


def flooded_order() -> Callable[[int], bytes]:
    """Makes the packet of an order that is valid and is cancelled at once, from its UserRefNum."""
    order = EnterOrder(
        user_reference_number=1,
        side=Side.BUY,
        quantity=1,
        symbol="AAPL",
        price=FLOODED_PRICE_TICKS,
        time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL,
        display=Display.VISIBLE,
        capacity=Capacity.AGENCY,
        intermarket_sweep_eligibility=YesOrNo.NO,
        cross_type=CrossType.CONTINUOUS,
        client_order_id="flood",
    )
    packet = UnsequencedData(order.encode()).encode()
    at = LENGTH_BYTES + 2  # the number follows the packet's type and the message's
    return lambda number: packet[:at] + number.to_bytes(4, "big") + packet[at + 4 :]


def _is_connected(connection: socket.socket) -> bool:
    with suppress(OSError):
        return bool(connection.getpeername())
    return False


async def _read_all(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(connection, ANSWERS_BYTES):
        pass


async def _serve() -> None:
    """The process: see the top."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    hostile = Hostile(msgspec.json.decode(await reader.readline(), type=HostilePlan))
    while word := (await reader.readline()).strip():
        if word == b"go":
            hostile.start()
        else:
            await hostile.stop()
            os.write(sys.stdout.fileno(), msgspec.json.encode(hostile.counts) + b"\n")
    await hostile.stop()


if __name__ == "__main__":
    os.nice(NICENESS)
    asyncio.run(_serve())
