"""Clients over UDP for the tests: a relay that mistreats datagrams, and a connection that says what it is told to."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import numpy as np

from exchange.client import Client
from exchange.datagrams.kernel_socket import KernelSocket
from exchange.gateway.server import Server
from exchange.wire.layout import Message
from exchange.wire.ouch50 import OUTBOUND_MESSAGES
from exchange.wire.soupbintcp import UnsequencedData
from exchange.wire.soupbinudp import SERVER_DATAGRAMS, LoginAccepted, LoginRequest
from exchange.wire.soupbinudp_connection import DatagramConnection
from tests.gateway_driver import PASSWORD

UDP = ("transport.kind=udp",)
LOOPBACK = "127.0.0.1"


async def connect_udp(server: Server, name: str, **options: Any) -> Client:
    """A client of the package's own, over UDP."""
    address = options.pop("address", server.address)
    return await Client.connect(*address, name, PASSWORD, transport="udp", **options)


def udp_socket() -> socket.socket:
    """Bound to a port of its own, and not waiting."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((LOOPBACK, 0))
    made.setblocking(False)
    return made


class QueuedSockets:
    """A port with several receiving queues, each a socket of its own: who sends chooses the queue by the address."""

    def __init__(self, count: int) -> None:
        self.sockets = [udp_socket() for _ in range(count)]

    @property
    def state(self) -> KernelSocket:
        return self.queues[0]

    @property
    def queues(self) -> tuple[KernelSocket, ...]:
        return tuple(KernelSocket(one.fileno()) for one in self.sockets)

    @property
    def address(self) -> tuple[str, int]:
        return self.address_of(0)

    def address_of(self, queue: int) -> tuple[str, int]:
        """Where a queue is found."""
        address, port = self.sockets[queue].getsockname()
        return address, port

    def readiness(self) -> None:
        """Nobody says when something has come, as of a card."""

    def counters(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        for one in self.sockets:
            one.close()


class _Far(asyncio.DatagramProtocol):
    """The relay's socket on the exchange's side, one for each client."""

    def __init__(self, deliver: Callable[[bytes], None]) -> None:
        self.deliver = deliver

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.deliver(data)


class Relay(asyncio.DatagramProtocol):
    """Loses, doubles and delays datagrams, each with the chance ``trouble``, in both directions."""

    def __init__(self, exchange: tuple[str, int], seed: int, trouble: float) -> None:
        self.exchange, self.trouble = exchange, trouble
        self.chance = np.random.default_rng(seed)
        self.counts = {"lost": 0, "doubled": 0, "delayed": 0}
        self.waiting: dict[tuple[str, int], list[bytes]] = {}
        self.far: dict[tuple[str, int], asyncio.Task[asyncio.DatagramTransport]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr not in self.far:
            self.far[addr] = asyncio.get_running_loop().create_task(self._dial(addr))
        self.far[addr].add_done_callback(lambda task: self.mistreat(data, task.result().sendto))

    async def _dial(self, client: tuple[str, int]) -> asyncio.DatagramTransport:
        def back(data: bytes) -> None:
            self.mistreat(data, lambda piece: self.transport.sendto(piece, client))

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Far(back), remote_addr=self.exchange)
        return transport

    def mistreat(self, data: bytes, deliver: Callable[[bytes], None]) -> None:
        """Let a datagram go on its way, or not."""
        lost, doubled, delayed = (self.chance.random(3) < self.trouble).tolist()
        self.counts["lost"] += lost
        if lost:
            return
        self.counts["doubled"] += doubled
        self.counts["delayed"] += delayed
        for _ in range(1 + doubled):
            if delayed:  # others overtake it
                loop = asyncio.get_running_loop()
                loop.call_later(float(self.chance.uniform(0, 0.004)), deliver, data)
            else:
                deliver(data)

    def close(self) -> None:
        self.transport.close()
        for task in self.far.values():
            task.result().close()


@asynccontextmanager
async def relaying(
    exchange: tuple[str, int], seed: int = 1, trouble: float = 0.2
) -> AsyncIterator[tuple[Relay, tuple[str, int]]]:
    """A relay to an address, and where clients find it."""
    transport, relay = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Relay(exchange, seed, trouble), local_addr=(LOOPBACK, 0)
    )
    yield relay, transport.get_extra_info("sockname")
    relay.close()


def relayed(
    server: Server, seed: int = 1, trouble: float = 0.2
) -> AbstractAsyncContextManager[tuple[Relay, tuple[str, int]]]:
    """A relay to a server, and where clients find it."""
    return relaying(server.address, seed, trouble)


class BareDatagrams:
    """Datagrams as they come, from a socket of its own: no heartbeats and no acknowledgements by itself."""

    def __init__(self, server: Server) -> None:
        self.address = server.address
        self.socket = udp_socket()
        self.connection: DatagramConnection | None = None
        self.outbound = OUTBOUND_MESSAGES

    async def log_on(self, name: str, sequence: int = 1, number: int = 7, **changes: str) -> Message:
        """Send a Login Request until it is answered."""
        request = LoginRequest(
            number, name, changes.get("password", PASSWORD), changes.get("session", ""), sequence
        )
        while True:
            self.send(request.encode())
            async with asyncio.timeout(5):
                while (answer := await self.datagram()).layout.message_type not in "AJ":
                    pass
            if isinstance(answer, LoginAccepted):
                number, token = answer.session_number, answer.token
                self.connection = DatagramConnection(number, token, answer.sequence_number, 0.0)
            return answer

    def send(self, data: bytes) -> None:
        """Any bytes, to the exchange."""
        self.socket.sendto(data, self.address)

    async def datagram(self) -> Message:
        """The next datagram from the exchange."""
        return SERVER_DATAGRAMS.decode(await asyncio.get_running_loop().sock_recv(self.socket, 2048))

    def request(self, *messages: Message) -> None:
        """OUCH messages, as the client's next packets."""
        assert self.connection is not None
        for message in messages:
            self.connection.put(UnsequencedData(message.encode()).encode())
        for data in self.connection.due(0.0):
            self.send(data)

    async def answers(self, count: int) -> list[Message]:
        """So many OUCH messages; what came is acknowledged."""
        assert self.connection is not None
        found: list[Message] = []
        while len(found) < count:
            data = await asyncio.get_running_loop().sock_recv(self.socket, 2048)
            packets = self.connection.receive(data, 0.0)
            found += [self.outbound.decode(packet[3:]) for packet in packets]
            for one in self.connection.due(0.0):
                self.send(one)
        return found

    def close(self) -> None:
        self.socket.close()
