"""A feed without an exchange, and a GLIMPSE server and clients of it: what tests of snapshots share."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from exchange.gateway.credentials import Users
from exchange.gateway.logon import bind_listener
from exchange.market_data.datagram_store import DatagramStore
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.feed_receiver import FeedReceiver
from exchange.market_data.glimpse_client import GlimpseLogin, SnapshotSeeker
from exchange.market_data.glimpse_server import GlimpseServer
from exchange.wire.glimpse import Snapshot, decode_snapshot
from exchange.wire.layout import Message
from exchange.wire.soupbintcp import SERVER_PACKETS, LoginRequest, PacketSplitter, SequencedData
from tests.market_data_driver import LOOPBACK

SESSION = "GLIMPSE"


def snapshot_book() -> FeedBook:
    """A book that can be told as a snapshot."""
    return FeedBook(capacity_orders=4096, capacity_symbols=16, keep_messages=256)


class Feed:
    """A feed to one receiver; requests are answered when :meth:`answer` is called."""

    def __init__(self, port: int) -> None:
        self.store = DatagramStore(SESSION, 1 << 12)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((LOOPBACK, 0))
        self.socket.setblocking(False)
        self._receiver = (LOOPBACK, port)

    def publish(self, messages: Sequence[bytes]) -> None:
        """Send messages, or a heartbeat."""
        for one in messages:
            self.store.append(one)
        for datagram in list(self.store.take_datagrams()) or [self.store.heartbeat()]:
            self.socket.sendto(datagram, self._receiver)

    def end(self) -> None:
        """Tell the end of the session."""
        self.socket.sendto(self.store.end_of_session(), self._receiver)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class Served:
    """A GLIMPSE server in this event loop, its feed, and where it listens."""

    def __init__(self, server: GlimpseServer, feed: Feed, listener: socket.socket) -> None:
        self.server, self.feed = server, feed
        self.address: tuple[str, int] = listener.getsockname()[:2]
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(server.serve(listener, self.stop))

    @property
    def next_sequence(self) -> int:
        """How far the server's book is."""
        return self.server.receiver.subscriber.next_sequence

    async def followed(self) -> None:
        """Wait until the server has all that was published."""
        while self.next_sequence < self.feed.store.next_sequence:
            await asyncio.sleep(0.001)


@asynccontextmanager
async def glimpse_serving(users: Users | None = None) -> AsyncIterator[Served]:
    """A feed and a server that follows it."""
    with (
        FeedReceiver(LOOPBACK, 0, snapshot_book) as receiver,
        bind_listener(LOOPBACK, 0) as listener,
    ):
        feed = Feed(receiver.port)
        served = Served(GlimpseServer(receiver, users), feed, listener)
        await asyncio.sleep(0)  # now it listens
        try:
            yield served
        finally:
            served.stop.set()
            await served.task
            feed.close()


class GlimpseClient:
    """A bare client: sends what it is told to, and shows what came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def dial(cls, address: tuple[str, int]) -> Self:
        """A connection that has said nothing yet."""
        return cls(*await asyncio.open_connection(*address))

    @classmethod
    async def log_on(
        cls,
        address: tuple[str, int],
        name: str = "",
        password: str = "",
        session: str = "",
        sequence: int = 1,
    ) -> Self:
        """A connection that has sent a Login Request."""
        client = await cls.dial(address)
        client.writer.write(LoginRequest(name, password, session, sequence).encode())
        return client

    async def everything(self) -> list[Message]:
        """All packets until the server closes."""
        splitter = PacketSplitter(SERVER_PACKETS)
        packets = splitter.feed(await self.reader.read(-1))
        assert splitter.garbage is None
        return [SERVER_PACKETS.decode(one) for one in packets]

    async def spin(self) -> tuple[Message, Snapshot]:
        """What the server says first, and the spin behind it, up to its last message; then log out."""
        splitter, packets = PacketSplitter(SERVER_PACKETS), list[Message]()
        while not (packets and isinstance(packets[-1], SequencedData) and packets[-1].message[:1] == b"G"):
            data = await self.reader.read(1 << 16)
            assert data
            packets += [SERVER_PACKETS.decode(one) for one in splitter.feed(data)]
        self.writer.close()
        return packets[0], decode_snapshot(
            one.message for one in packets[1:] if isinstance(one, SequencedData)
        )


async def seek(
    address: tuple[str, int], name: str = "", password: str = "", session: str = SESSION
) -> Snapshot:
    """A snapshot, by the package's own client."""
    seeker = SnapshotSeeker([GlimpseLogin(*address, name, password)], session)
    try:
        while (found := seeker.turn(time.monotonic_ns())) is None:
            await asyncio.sleep(0.001)
    finally:
        seeker.close()
    return found
