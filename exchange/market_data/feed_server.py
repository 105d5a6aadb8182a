"""The feed of a served exchange: publisher, store and socket, from the day's first message to its last.

One UDP socket does everything. The egress sends the live feed from it (:mod:`exchange.market_data.feed_sender`), and
request packets that come to it are answered from the event loop of the control plane: the store may be read by any
thread while another appends, so an answer takes nothing from the order path but memory bandwidth. As the feed comes
from the address that answers requests, a subscriber has to know the feed's address only.

The day: :meth:`FeedServer.open` tells its first stages and the directory before the exchange's threads start;
:meth:`FeedServer.end`, when they have stopped, tells the last stages, sends what waits, and says for
:data:`END_SECONDS` that the session is over. Requests are answered until then.

Rules: the order of calls is open, answer_requests, end or leave, close. An answer goes to whoever asks, and is up to 70
times as long as the request, so ``source_address`` belongs on a network where senders' addresses are not made up; what
one requester can cause is limited (:mod:`exchange.market_data.request_limits`).
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from exchange import limits
from exchange.errors import UserError
from exchange.logs import log_event
from exchange.market_data.config import MoldUdp64MarketDataConfig
from exchange.market_data.datagram_store import REQUEST_BYTES, DatagramStore
from exchange.market_data.feed_sender import (
    BEGIN,
    END,
    HEARTBEAT_DUE_NS,
    REFUSED,
    SENT,
    PublishingSink,
    SenderMemory,
    send_due,
)
from exchange.market_data.publisher import Publisher, opening_messages
from exchange.market_data.request_limits import RequestLimits
from exchange.native import load_int64, store_int64

NEVER_NS: Final = (1 << 63) - 1

END_SECONDS: Final = 0.1
END_DATAGRAMS: Final = 5
"""How long, and how often in that time, the end of the session is told."""

FLUSH_SECONDS: Final = 0.2
"""How long the end waits for a socket that takes nothing."""

REQUESTS_PER_WAKE: Final = 64
"""Requests that are answered in one go; then others have their turn in the event loop."""


class FeedServer:
    """The feed of an exchange: its memory and its socket.

    Attributes:
        answers: how many requests have been answered.
        goes_on: whether the day was opened before a restart.
        limits: what each requester may have, and how many requests were refused for that.

    Args:
        config: where to, and from where.
        symbols: what is traded; the index is the ``symbol_id``.
        session: the session's name, up to ten characters.
        capacity_orders: how many orders may rest in all books together.
        shard_of_symbol: for each symbol the shard that owns it.
        midnight_ns: the time of events at midnight.

    Raises:
        UserError: an address is no IPv4 address, the source address cannot be used, or too few messages are kept.
    """

    def __init__(
        self,
        config: MoldUdp64MarketDataConfig,
        symbols: Sequence[str],
        session: str,
        *,
        capacity_orders: int,
        shard_of_symbol: Sequence[int],
        midnight_ns: int,
    ) -> None:
        opening = len(opening_messages(symbols, 0))
        if opening >= config.capacity_messages:
            raise UserError(
                f"market_data.capacity_messages = {config.capacity_messages}: the day of {len(symbols)} symbols"
                f" opens with {opening} messages; more than that must be kept"
            )
        self.socket: Final = _open_socket(config)
        self.store: Final = DatagramStore(session, config.capacity_messages)
        self.publisher: Final = Publisher(
            symbols,
            self.store,
            capacity_orders=min(capacity_orders, limits.BOOK_CAPACITY_ORDERS_MAX),
            shard_of_symbol=shard_of_symbol,
            midnight_ns=midnight_ns,
        )
        self.limits: Final = RequestLimits(config.request_bytes_per_second)
        self.answers = 0
        self._receiver: Final = (config.address, config.port)
        self._memory: Final = SenderMemory(
            self.store.state, self.socket.fileno(), *self._receiver, config.heartbeat_ns
        )
        self.answered_requests = 0
        self.goes_on = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def source(self) -> tuple[str, int]:
        """Where the feed comes from and requests are to be sent: address and port."""
        address, port = self.socket.getsockname()
        return str(address), int(port)

    @property
    def sent_datagrams(self) -> int:
        """How many datagrams of the live feed the kernel took, heartbeats included."""
        return int(load_int64(self._memory.state.words + SENT))

    @property
    def refused_datagrams(self) -> int:
        """How many datagrams the kernel would not send."""
        return int(load_int64(self._memory.state.words + REFUSED))

    def sink(self, first: object) -> PublishingSink:
        """A sink that gives events to ``first`` and then publishes them."""
        return PublishingSink(first, self.publisher.state, self._memory.state)

    def go_on(self) -> None:
        """The publisher has been put back after a restart, so the day is open; to be said before :meth:`open`.

        What was published until now was sent before the restart; who lacks some of it asks for it again.
        """
        self.goes_on = True
        self.store.skip_to_end()

    def open(self, timestamp_ns: int) -> None:
        """Tell the day's first stages and the directory, unless the day goes on; no agent may be running.

        What the end and the first request will call is compiled here, so that neither waits for a compiler.
        """
        if not self.goes_on:
            self.publisher.open_day(timestamp_ns)
        self.store.answer(bytes(REQUEST_BYTES))
        send_due(self._memory.state)

    def compile(self) -> None:
        """Compile what :meth:`open` and the first request call, and send nothing; for a feed that opens much later."""
        words = self._memory.state.words
        store_int64(words + HEARTBEAT_DUE_NS, NEVER_NS)
        self.store.answer(bytes(REQUEST_BYTES))
        send_due(self._memory.state)
        store_int64(words + HEARTBEAT_DUE_NS, 0)

    def answer_requests(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer requests from now on, in the event loop of the calling thread."""
        self._loop = loop
        loop.add_reader(self.socket.fileno(), self._answer)

    def _answer(self) -> None:
        for _ in range(REQUESTS_PER_WAKE):
            try:
                request, asker = self.socket.recvfrom(REQUEST_BYTES + 1)
            except OSError:  # none is left
                return
            if not self.limits.allows(asker, time.monotonic_ns()):
                continue
            answer = self.store.answer(request)
            self.limits.pay(asker, len(request) + len(answer or b""))
            if answer is not None:
                self.answers += 1
                with suppress(OSError):  # it is as if it were lost: the asker asks again
                    self.socket.sendto(answer, asker)
                    self.answered_requests += 1

    async def end(self) -> None:
        """Tell the end of the day, send what waits, tell the end of the session; no agent may be running any more."""
        if not self.publisher.is_closed:
            self.publisher.close_day()
        deadline = time.monotonic() + FLUSH_SECONDS
        while self._is_behind() and time.monotonic() < deadline:
            if send_due(self._memory.state) == 0:
                await asyncio.sleep(0.001)
        for _ in range(END_DATAGRAMS):
            with suppress(OSError):  # nobody can be told
                self.socket.sendto(self.store.end_of_session(), self._receiver)
            await asyncio.sleep(END_SECONDS / END_DATAGRAMS)
        self.leave()
        log_event(
            "feed ended",
            messages=self.store.next_sequence - 1,
            answers=self.answers,
            refused_requests=self.limits.refused,
            refused_datagrams=self.refused_datagrams,
        )

    def leave(self) -> None:
        """Answer no requests any more, and say nothing: the feed goes on, or ends, from elsewhere."""
        if self._loop is not None:
            self._loop.remove_reader(self.socket.fileno())
            self._loop = None

    def _is_behind(self) -> bool:
        words = self._memory.state.words
        return self.store.unsent_messages > 0 or load_int64(words + BEGIN) != load_int64(words + END)

    def close(self) -> None:
        """Close the socket; the agents must not run any more."""
        self.socket.close()


def is_multicast(address: str) -> bool:
    """Whether a numeric IPv4 address is that of a group. Raises ValueError if it is no such address."""
    return ipaddress.IPv4Address(address).is_multicast


def _open_socket(config: MoldUdp64MarketDataConfig) -> socket.socket:
    for key, address in (("address", config.address), ("source_address", config.source_address)):
        try:
            ipaddress.IPv4Address(address)
        except ValueError:
            raise UserError(
                f"market_data.{key} = {address!r}: must be a numeric IPv4 address such as 127.0.0.1"
            ) from None
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sender.setblocking(False)
        if is_multicast(config.address):
            _use_network(sender, config)
        sender.bind((config.source_address, config.request_port))
    except OSError as error:
        sender.close()
        raise UserError(
            f"cannot publish market data from {config.source_address}, port {config.request_port}"
            f" (market_data.source_address, market_data.request_port): {error.strerror or error}"
        ) from error
    return sender


def _use_network(sender: socket.socket, config: MoldUdp64MarketDataConfig) -> None:
    """Send to the group by the network of the source address; UserError if that takes no multicast."""
    source = socket.inet_aton(config.source_address)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            for one in (sender, probe):
                one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, source)
            probe.connect((config.address, config.port))  # finds a route, and sends nothing
    except OSError as error:
        sender.close()
        raise UserError(
            f"market_data.address = {config.address!r}: the network of market_data.source_address ="
            f" {config.source_address!r} takes no multicast ({error.strerror or error});"
            " --set market_data.address=127.0.0.1 --set market_data.glimpse=none publishes to one receiver here"
        ) from error
