"""A served exchange and a bare client for the tests of the gateway: sockets on the loopback, nothing else mocked.

Every server has the same types of agents, so its loops are compiled once for all tests and then come from the cache."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Any

from exchange.client import Client
from exchange.gateway.credentials import User, Users
from exchange.gateway.server import Server
from exchange.settings import load_profile
from exchange.wire import ouch42
from exchange.wire.layout import Message
from exchange.wire.ouch50 import (
    OUTBOUND_MESSAGES,
    CrossType,
    Display,
    EnterOrder,
    OrderAccepted,
    ReplaceOrder,
    TimeInForce,
)
from exchange.wire.ouch_codes import Capacity, CustomerType, Side, YesOrNo
from exchange.wire.soupbintcp import (
    SERVER_PACKETS,
    LoginRequest,
    PacketSplitter,
    SequencedData,
    ServerHeartbeat,
    UnsequencedData,
)

PASSWORD = "secret"
SECONDS_MAX = 20.0
"""A test that waits longer than this has failed: nothing here takes a second."""

SETTINGS = (
    "transport.port=0",
    "market_data.request_port=0",
    "admin.kind=none",
    "market_data.glimpse=none",
    "book.capacity_orders=65536",
    "gateway.log_bytes=4MiB",
    "gateway.time_zone=UTC",
)


def run(scenario: Coroutine[Any, Any, None], overrides: tuple[str, ...] = ()) -> None:
    """Run a test's coroutine, for a bounded time in which nothing is compiled of an exchange with ``overrides``."""
    compile_once(overrides)

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await scenario

    asyncio.run(bounded())


@cache
def compile_once(overrides: tuple[str, ...] = ()) -> None:
    """Compile the loops of a served exchange, or find them in the cache. Other agents on a thread are another loop."""
    server = Server(load_profile("serve", [*SETTINGS, *overrides]), users(["nobody"]))
    server.exchange.compile(lambda _text: None)
    server.close()


def users(names: Sequence[str], speak_ouch42: Collection[str] = ()) -> Users:
    """Users with the same password, hashed cheaply; those named last speak OUCH 4.2."""
    return Users(
        [
            User.create(name, PASSWORD, cost=2, protocol="ouch42" if name in speak_ouch42 else "ouch50")
            for name in names
        ]
    )


@asynccontextmanager
async def serving(
    *names: str, overrides: Sequence[str] = (), profile: str = "serve", speak_ouch42: Collection[str] = ()
) -> AsyncIterator[Server]:
    """An exchange that serves users of these names; it has ended its sessions when the block is left."""
    async with running(
        Server(load_profile(profile, [*SETTINGS, *overrides]), users(names, speak_ouch42))
    ) as server:
        yield server


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    """An exchange that somebody else has built; it has ended its sessions when the block is left."""
    server.exchange.compile(lambda _text: None)
    listening = asyncio.Event()
    task = asyncio.create_task(server.serve(lambda _address, _port: listening.set()))
    waiting = asyncio.create_task(listening.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield server
    finally:
        server.request_stop()
        await task


async def connect(server: Server, name: str, **options: Any) -> Client:
    """A client of the package's own."""
    return await Client.connect(*server.address, name, PASSWORD, **options)


class BareClient:
    """Sends what it is told to and shows what came: no heartbeats, no reconnects, no opinion."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.outbound = OUTBOUND_MESSAGES
        self._splitter = PacketSplitter(SERVER_PACKETS)
        self._packets: list[bytes] = []

    @classmethod
    async def dial(cls, server: Server) -> "BareClient":
        """A connection that has said nothing yet."""
        return cls(*await asyncio.open_connection(*server.address))

    @classmethod
    async def log_on(cls, server: Server, name: str, sequence: int = 1, **changes: str) -> "BareClient":
        """A connection that has sent a Login Request."""
        client = await cls.dial(server)
        if any((user.name, user.protocol) == (name.upper(), "ouch42") for user in server.control.users.users):
            client.outbound = ouch42.OUTBOUND_MESSAGES
        await client.send(
            LoginRequest(
                name, changes.get("password", PASSWORD), changes.get("session", ""), sequence
            ).encode()
        )
        return client

    async def send(self, data: bytes) -> None:
        """Any bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def request(self, *messages: Message) -> None:
        """OUCH messages, a packet each, in one write."""
        await self.send(b"".join(UnsequencedData(message.encode()).encode() for message in messages))

    async def packet(self) -> Message:
        """The next packet, heartbeats included. EOFError if the other side has closed."""
        while not self._packets:
            try:
                data = await self.reader.read(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError("the exchange closed the connection")
            self._packets = self._splitter.feed(data)
            assert self._splitter.garbage is None
        return SERVER_PACKETS.decode(self._packets.pop(0))

    async def answer(self) -> Message:
        """The OUCH message of the next Sequenced Data packet."""
        while isinstance(packet := await self.packet(), ServerHeartbeat):
            pass
        assert isinstance(packet, SequencedData), packet
        return self.outbound.decode(packet.message)

    async def answers(self, count: int) -> list[Message]:
        """So many of them."""
        return [await self.answer() for _ in range(count)]

    async def is_closed(self) -> bool:
        """Wait until the other side closes; whatever comes before is thrown away."""
        try:
            while True:
                await self.packet()
        except EOFError:
            return True

    async def close(self) -> None:
        """Hang up without a word."""
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


def order(
    number: int, side: str = Side.BUY, quantity: int = 100, price: int = 100_0000, **changes: Any
) -> EnterOrder:
    """An order that is right unless it is changed."""
    fields: dict[str, Any] = {
        "user_reference_number": number,
        "side": side,
        "quantity": quantity,
        "symbol": "AAPL",
        "price": price,
        "time_in_force": TimeInForce.DAY,
        "display": Display.VISIBLE,
        "capacity": Capacity.AGENCY,
        "intermarket_sweep_eligibility": YesOrNo.NO,
        "cross_type": CrossType.CONTINUOUS,
        "client_order_id": f"order {number}",
    }
    return EnterOrder(**(fields | changes))


def replacement(
    original: int, number: int, quantity: int, price: int = 100_0000, **changes: Any
) -> ReplaceOrder:
    """A replace that is right unless it is changed."""
    fields: dict[str, Any] = {
        "original_user_reference_number": original,
        "user_reference_number": number,
        "quantity": quantity,
        "price": price,
        "time_in_force": TimeInForce.DAY,
        "display": Display.VISIBLE,
        "intermarket_sweep_eligibility": YesOrNo.NO,
        "client_order_id": f"order {number}",
    }
    return ReplaceOrder(**(fields | changes))


def order42(
    token: str, side: str = Side.BUY, shares: int = 100, price: int = 100_0000, **changes: Any
) -> ouch42.EnterOrder:
    """An order of OUCH 4.2 that is right unless it is changed."""
    fields: dict[str, Any] = {
        "order_token": token,
        "buy_sell_indicator": side,
        "shares": shares,
        "stock": "AAPL",
        "price": price,
        "time_in_force": ouch42.TimeInForce.MARKET_HOURS,
        "firm": "",
        "display": ouch42.Display.ANONYMOUS,
        "capacity": Capacity.AGENCY,
        "intermarket_sweep_eligibility": ouch42.IntermarketSweep.NO,
        "minimum_quantity": 0,
        "cross_type": ouch42.CrossType.NONE,
        "customer_type": CustomerType.NOT_RETAIL,
    }
    return ouch42.EnterOrder(**(fields | changes))


def replacement42(
    existing: str, token: str, shares: int, price: int = 100_0000, **changes: Any
) -> ouch42.ReplaceOrder:
    """A replace of OUCH 4.2 that is right unless it is changed."""
    fields: dict[str, Any] = {
        "existing_order_token": existing,
        "replacement_order_token": token,
        "shares": shares,
        "price": price,
        "time_in_force": ouch42.TimeInForce.MARKET_HOURS,
        "display": ouch42.Display.ANONYMOUS,
        "intermarket_sweep_eligibility": ouch42.IntermarketSweep.NO,
        "minimum_quantity": 0,
    }
    return ouch42.ReplaceOrder(**(fields | changes))


Story = Callable[[BareClient, BareClient], Awaitable[None]]


def told(story: Story, overrides: Sequence[str] = (), speak_ouch42: Collection[str] = ()) -> None:
    """Run a story of two clients, alice and bob, that have logged on and heard the start of the day."""

    async def scenario() -> None:
        async with serving("alice", "bob", overrides=overrides, speak_ouch42=speak_ouch42) as server:
            clients = [await BareClient.log_on(server, name, sequence=2) for name in ("alice", "bob")]
            for client in clients:
                await client.packet()
            await story(clients[0], clients[1])
            for client in clients:
                await client.close()

    run(scenario())


async def is_answered(client: BareClient, number: int) -> None:
    """The next thing that the client hears is about another order: nothing came before."""
    await client.request(order(number, symbol="MSFT"))
    answer = await client.answer()
    assert isinstance(answer, OrderAccepted), answer
    assert answer.user_reference_number == number


async def eventually(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        await asyncio.sleep(0.002)
