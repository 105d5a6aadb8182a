"""A server of snapshots, GLIMPSE 5.0 over SoupBinTCP: a subscriber of the feed that tells others what its book holds.

It hears the feed like everybody else, on whatever machine, and the exchange does not know of it. So building books and
telling them takes nothing from the order path, and nothing from the control plane, whose interpreter it does not share.

A client logs on and gets one spin: the day, the stocks, every displayed order, and the number at which the live feed
goes on. A spin is always made after its client has logged on, at one number, and never while messages are missing; the
clients that wait at that moment share it. Then it is the client's to log out; a while later the server closes.

**What bounds it.** Spins are made one at a time, and after each there is a pause of :data:`PAUSE_FACTOR` times as
long as it took, so that the feed is followed no matter how many come. Those that are being read have a bound together,
:data:`SPINS_BYTES_MAX`; a client that reads slowly holds its own for :data:`SPIN_SECONDS_MAX` at most, and is let go
sooner if it takes nothing for :data:`SLOW_READER_SECONDS`. There are :data:`CLIENTS_MAX` at a time; when there are, a
newcomer takes the place of the oldest of the address that has most. How often an address may come and guess is limited
as at the gateway (:mod:`exchange.gateway.admission`), by the defaults of the table [gateway], but for the burst.

Logon: user names and passwords are those of a file that ``exchange user add`` wrote, or of anybody, if the server is
given no users. Requested sequence numbers are 1 or 0: a spin is not resumed, but asked for anew.
Reject codes: ``A`` for a wrong name or password; ``S`` for another session than that of the feed, for another number,
and while there is no whole book.

Rules: one event loop, in which nothing else runs that takes long. The receiver's book keeps the messages of the day
(``keep_messages``). Sources: NASDAQ, "GLIMPSE 5.0"; SoupBinTCP 3.00, sections 1.1 and 2.
"""

import asyncio
import logging
import socket
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from exchange.gateway.admission import AdmissionLimits, Doorkeeper, Places, network_of
from exchange.gateway.config import GatewayConfig
from exchange.gateway.credentials import Users
from exchange.gateway.logon import accept_clients, read_login, reject
from exchange.gateway.password_checks import PasswordChecks, VoidCheck
from exchange.gateway.refusals import RefusalLog
from exchange.logs import log_event
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.feed_receiver import FeedReceiver
from exchange.market_data.publisher import opening_messages
from exchange.market_data.snapshot import encode_spin
from exchange.market_data.subscriber import Subscriber
from exchange.wire.moldudp64 import Packet, encode_packet
from exchange.wire.soupbintcp import (
    CLIENT_PACKETS,
    HEARTBEAT_INTERVAL_SECONDS,
    EndOfSession,
    LoginAccepted,
    LoginRejectReason,
    LogoutRequest,
    PacketSplitter,
    ServerHeartbeat,
)

CLIENTS_MAX: Final = 512
BACKLOG: Final = 512
"""Clients at a time, and connections that the kernel keeps until they have their turn."""

LOGON_SECONDS: Final = 5.0
"""How long a connection may take to send its Login Request."""

BOOK_SECONDS: Final = 3.0
"""How long a client waits for a book without gaps before it is told that there is none."""

PAUSE_FACTOR: Final = 3
"""Making spins takes a quarter of the time, at most."""

SPINS_BYTES_MAX: Final = 1 << 28
"""Beyond this no other is made until one has been read: some six million orders."""

SPIN_SECONDS_MAX: Final = 60.0
SLOW_READER_SECONDS: Final = 5.0
CHUNK_BYTES: Final = 1 << 16
"""What a client must take within :data:`SLOW_READER_SECONDS`."""

LINGER_SECONDS: Final = 5.0
"""A client that has its spin has so long to log out."""

CLIENT_BYTES_MAX: Final = 1 << 12
"""After its logon a client has nothing to say but heartbeats."""

QUIET_SECONDS: Final = 0.02
"""How long the feed may be quiet before the receiver is given its turn all the same."""


def warm_up() -> None:
    """Compile what a server calls, or find it in the cache, so that the first datagram does not wait for it."""
    book = FeedBook(capacity_orders=16, capacity_symbols=1, keep_messages=16)
    subscriber = Subscriber(lambda: book)
    messages = tuple(one.encode() for one in opening_messages(["WARM"], 0))
    subscriber.receive(encode_packet(Packet("WARM", 1, messages)), 0)
    encode_spin(book, subscriber.next_sequence)


class Spin:
    """A snapshot as it is sent. ``packets``: all of it, framed."""

    __slots__ = ("__weakref__", "packets")

    def __init__(self, packets: bytes) -> None:
        self.packets: Final = packets


class GlimpseServer:
    """Follows a feed and serves snapshots of it.

    Args:
        receiver: listens to the feed; it makes a :class:`FeedBook` that keeps the messages of the day.
        users: who may log on; None means anybody.

    Attributes:
        spins: how many snapshots were made.
        served: how many clients got one, whole.
        refused: how many logons were rejected.
    """

    def __init__(self, receiver: FeedReceiver, users: Users | None) -> None:
        self.receiver: Final = receiver
        self.spins = self.served = self.refused = 0
        self._checks: Final = None if users is None else PasswordChecks(users)
        limits = GatewayConfig(logons_per_address=CLIENTS_MAX, connections_burst=CLIENTS_MAX)
        self._limits: Final = AdmissionLimits.of(limits)
        self._doorkeeper: Final = Doorkeeper(self._limits)
        self._refusals: Final = RefusalLog()
        self._places: Final = Places(CLIENTS_MAX)
        self._waiting: Final[list[asyncio.Future[Spin]]] = []
        self._wanted: Final = asyncio.Event()
        self._alive: Final[weakref.WeakSet[Spin]] = weakref.WeakSet()

    @property
    def has_whole_book(self) -> bool:
        """Whether the book has all messages that are known to exist, of a session that goes on."""
        subscriber = self.receiver.subscriber
        return subscriber.session != "" and subscriber.is_whole

    async def serve(
        self, listener: socket.socket, stop: asyncio.Event, listening: Callable[[], None] = lambda: None
    ) -> None:
        """Serve until the feed's session ends or ``stop`` is set; who is connected then is sent End of Session.

        Args:
            listener: is bound and non-blocking; it is left open.
            stop: ends it.
            listening: called when clients can come.

        Raises:
            UserError: the book has no room for what a snapshot must hold.
        """
        loop = asyncio.get_running_loop()
        listener.listen(BACKLOG)
        listening()
        tasks = [
            loop.create_task(one)
            for one in (
                self._follow(),
                self._make_spins(),
                accept_clients(listener, self._places, self._doorkeeper, self._refusals, self._welcome),
            )
        ]
        stopping = loop.create_task(stop.wait())
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        clients = self._places.tasks
        for task in (*tasks, stopping, *clients):
            task.cancel()
        await asyncio.gather(*tasks, stopping, *clients, return_exceptions=True)
        self._refusals.flush()
        log_event("glimpse ended", spins=self.spins, served=self.served, refused=self.refused)
        for task in done:
            task.result()  # what it failed with, if it did

    async def _follow(self) -> None:
        """Take the feed until its session ends."""
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        for descriptor in self.receiver.descriptors:
            loop.add_reader(descriptor, heard.set)
        try:
            while not self.receiver.subscriber.has_ended:
                if self.receiver.turn(0) > 0:
                    await asyncio.sleep(0)
                    continue
                heard.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.receiver.wait_seconds(QUIET_SECONDS)):
                        await heard.wait()
        finally:
            for descriptor in self.receiver.descriptors:
                loop.remove_reader(descriptor)

    async def _make_spins(self) -> None:
        """Make a spin whenever somebody waits for one, and the book is whole, and there is room for it."""
        while True:
            await self._wanted.wait()
            while not self.has_whole_book or self._alive_bytes() >= SPINS_BYTES_MAX:
                await asyncio.sleep(QUIET_SECONDS)
            self._wanted.clear()
            began = time.monotonic()
            subscriber = self.receiver.subscriber
            assert isinstance(subscriber.book, FeedBook)
            spin = Spin(encode_spin(subscriber.book, subscriber.next_sequence))
            self.spins += 1
            self._alive.add(spin)
            for future in self._waiting:
                if not future.done():
                    future.set_result(spin)
            self._waiting.clear()
            del spin  # it is the clients' from here on
            await asyncio.sleep(PAUSE_FACTOR * (time.monotonic() - began))

    def _alive_bytes(self) -> int:
        return sum(len(spin.packets) for spin in self._alive)

    async def _welcome(self, connection: socket.socket, peer: str) -> None:
        """A client from its first byte to its last."""
        reason = "ended"
        try:
            async with asyncio.timeout(LOGON_SECONDS):
                request = await read_login(connection)
            session = self.receiver.subscriber.session
            if request is None:
                reason = "no login"
            elif (refusal := await self._refusal(peer, request.username, request.password)) is not None:
                reason = await self._reject(connection, refusal)
            elif request.requested_session in ("", session) and request.requested_sequence_number <= 1:
                reason = await self._tell(connection)
            else:
                reason = await self._reject(connection, LoginRejectReason.SESSION_NOT_AVAILABLE)
        except TimeoutError:
            reason = "too slow"
        except OSError as error:
            reason = error.strerror or "the line broke"
        finally:
            connection.close()
            self._refusals.note("glimpse closed", peer, reason, level=logging.INFO)

    async def _refusal(self, peer: str, username: str, password: str) -> LoginRejectReason | None:
        if self._checks is None:
            return None
        network, doorkeeper = network_of(peer), self._doorkeeper
        try:
            found = await self._checks.authenticate(
                network,
                doorkeeper.is_known(network),
                username,
                password,
                is_void=lambda: doorkeeper.must_wait(network, username),
            )
        except VoidCheck:
            return LoginRejectReason.NOT_AUTHORIZED
        if found is None:
            doorkeeper.failed(network, username)
            return LoginRejectReason.NOT_AUTHORIZED
        doorkeeper.succeeded(network, username)
        return None

    async def _reject(self, connection: socket.socket, reason: LoginRejectReason) -> str:
        self.refused += 1
        await reject(connection, reason)
        return reason.name.lower().replace("_", " ")

    async def _next_spin(self) -> Spin | None:
        """The next spin that is made; None if there is no whole book for too long."""
        future: asyncio.Future[Spin] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wanted.set()
        waited = 0.0
        while not future.done() and (self.has_whole_book or waited < BOOK_SECONDS):
            await asyncio.wait([future], timeout=QUIET_SECONDS)
            waited += QUIET_SECONDS
        return future.result() if future.done() else None

    async def _tell(self, connection: socket.socket) -> str:
        """Send the next spin, and wait for the client to leave; why it ended."""
        spin = await self._next_spin()
        if spin is None:
            return await self._reject(connection, LoginRejectReason.SESSION_NOT_AVAILABLE)
        loop = asyncio.get_running_loop()
        leaving = loop.create_task(_until_it_leaves(connection))
        sending = loop.create_task(self._send(connection, spin))
        del spin  # or a client that stays would hold it
        try:
            await asyncio.wait([leaving, sending], return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                return f"{leaving.result()} before the end"
            await sending
            self.served += 1
            return await self._linger(connection, leaving)
        finally:
            for task in (leaving, sending):
                task.cancel()
            await asyncio.gather(leaving, sending, return_exceptions=True)

    async def _linger(self, connection: socket.socket, leaving: asyncio.Task[str]) -> str:
        """The client has everything: let it log out; why it ended."""
        try:
            for _ in range(int(LINGER_SECONDS / HEARTBEAT_INTERVAL_SECONDS)):
                done, _ = await asyncio.wait([leaving], timeout=HEARTBEAT_INTERVAL_SECONDS)
                if done:
                    return leaving.result()
                connection.send(ServerHeartbeat().encode())
        except asyncio.CancelledError:
            with suppress(OSError):
                connection.send(EndOfSession().encode())
            raise
        return "stayed"

    async def _send(self, connection: socket.socket, spin: Spin) -> None:
        """Send it all in bounded time. TimeoutError: the client is too slow."""
        loop = asyncio.get_running_loop()
        accepted = LoginAccepted(session=self.receiver.subscriber.session, sequence_number=1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        packets = memoryview(spin.packets)
        async with asyncio.timeout(SPIN_SECONDS_MAX):
            await loop.sock_sendall(connection, accepted.encode())
            for at in range(0, len(packets), CHUNK_BYTES):
                async with asyncio.timeout(SLOW_READER_SECONDS):
                    await loop.sock_sendall(connection, packets[at : at + CHUNK_BYTES])


async def _until_it_leaves(connection: socket.socket) -> str:
    """Read what a client sends until it logs out, hangs up, or says what a client does not say; which it was."""
    loop, splitter = asyncio.get_running_loop(), PacketSplitter(CLIENT_PACKETS, CLIENT_BYTES_MAX)
    received = 0
    while received < CLIENT_BYTES_MAX:
        try:
            data = await loop.sock_recv(connection, CLIENT_BYTES_MAX)
        except OSError:
            return "the line broke"
        if not data:
            return "hung up"
        received += len(data)
        packets = splitter.feed(data)
        if splitter.garbage is not None:
            return "garbage"
        if LogoutRequest().encode() in packets:
            return "done"
    return "said too much"
