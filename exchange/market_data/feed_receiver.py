"""A subscriber with sockets: what listens to a feed on the network and asks for what it has lost.

:class:`FeedReceiver` gives :class:`~exchange.market_data.subscriber.Subscriber` what it does not have, datagrams and a
clock, and sends its requests (:mod:`exchange.market_data.request_servers`). Requests go to where the feed comes from,
unless other places are named, and from a socket of their own, because one that is bound to a multicast group hears
nothing but the group. It makes no difference from which machine the feed comes: a datagram belongs to it if it says the
session's name, so a backup goes on where the exchange that it takes the place of has stopped.

If it knows GLIMPSE servers, it gets a snapshot there (:mod:`exchange.market_data.glimpse_client`) when the subscriber
wants one: what is missing is not kept by the re-request server any more, or it is so much that a snapshot is the
shorter way, :data:`GAP_MESSAGES_MAX`, as for who joins late. It goes on listening meanwhile.

Rules: one thread. Nothing waits longer than it is told to.
"""

import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Self

from exchange.errors import UserError
from exchange.market_data.feed_book import Book
from exchange.market_data.feed_server import is_multicast
from exchange.market_data.glimpse_client import GlimpseLogin, SnapshotSeeker
from exchange.market_data.missing import Patience
from exchange.market_data.request_servers import RequestServers
from exchange.market_data.subscriber import DATAGRAM_BYTES_LARGEST, Subscriber
from exchange.wire.fields import WireError

ANY_NETWORK: Final = "0.0.0.0"
LOOPBACK: Final = "127.0.0.1"
DATAGRAMS_PER_TURN: Final = 256
BUFFER_BYTES: Final = 1 << 25
"""What the kernel is asked to keep for a receiver that is busy: some 14,000 datagrams, however short they are."""
_RCVBUFFORCE: Final = 33
"""``SO_RCVBUFFORCE`` of Linux, which Python has no name for: beyond the limit for all, for who has the capability."""

ONE_FEED_PATIENCE: Final = Patience(gap_ns=100_000)
"""There is no other feed that might fill a gap, so there is little to wait for."""

GAP_MESSAGES_MAX: Final = 1 << 14
"""Some 600 datagrams. A book has seldom more orders than that times the number of its symbols."""

GLIMPSE_PATIENCE: Final = ONE_FEED_PATIENCE._replace(requests_max=5, gap_messages_max=GAP_MESSAGES_MAX)
"""Where there are snapshots, what does not come within a third of a second is given up for one."""

SEEKING_SECONDS: Final = 0.01
"""How long a turn waits at most while a snapshot is on its way."""


class FeedReceiver:
    """Listens to a feed and builds its books. Use it in a ``with`` statement.

    Args:
        address: where the feed goes, a numeric IPv4 address: a multicast group, or one of this machine.
        port: and the UDP port; 0 takes one that is free.
        make_book: makes an empty book.
        interface: for a group, the address of this machine on whose network it is joined; empty means the system's
            choice and the loopback.
        requests: addresses and ports of re-request servers; none means where the feed comes from.
        glimpse: where snapshots are served; none means nowhere.
        session: the session to follow; empty means that of the first datagram.

    Raises:
        UserError: the address is none, or cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        port: int,
        make_book: Callable[[], Book],
        *,
        interface: str = "",
        requests: Sequence[tuple[str, int]] = (),
        glimpse: Sequence[GlimpseLogin] = (),
        session: str = "",
    ) -> None:
        patience = GLIMPSE_PATIENCE if glimpse else ONE_FEED_PATIENCE
        self.subscriber: Final = Subscriber(make_book, session, patience=patience)
        self._servers: Final = RequestServers(requests)
        self._glimpse: tuple[GlimpseLogin, ...] = tuple(glimpse)
        self._seeker: SnapshotSeeker | None = None
        self._feed: Final = _listen(address, port, interface)
        self._asking: Final = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._asking.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        if self._seeker is not None:
            self._seeker.close()
        self._feed.close()
        self._asking.close()

    @property
    def port(self) -> int:
        """The UDP port where it listens."""
        return int(self._feed.getsockname()[1])

    @property
    def descriptors(self) -> tuple[int, int]:
        """Of the sockets on which datagrams come: for who waits for them by other means than :meth:`turn`."""
        return self._feed.fileno(), self._asking.fileno()

    @property
    def is_lost(self) -> bool:
        """Whether only a snapshot would help, and nobody is known who has one."""
        return self.subscriber.wants_snapshot and not self._glimpse

    def wait_seconds(self, longest: float) -> float:
        """How long to wait for the next datagram: at most ``longest``, and less if there is something to do before."""
        if self._seeker is not None:
            longest = min(longest, SEEKING_SECONDS)
        due_ns = self.subscriber.next_request_ns()
        return longest if due_ns is None else min(longest, max(0, due_ns - time.monotonic_ns()) / 1e9)

    def turn(self, wait_seconds: float) -> int:
        """Take what has arrived and ask for what is missing; how many datagrams came.

        Waits for a datagram for ``wait_seconds`` at most, and less if a request is due before.

        Raises:
            UserError: a snapshot is wanted, and the GLIMPSE server does not give one.
        """
        seeking = self._seeker.socket if self._seeker is not None else None
        sockets = (self._feed, self._asking, *((seeking,) if seeking is not None else ()))
        ready, _, _ = select.select(sockets, (), (), self.wait_seconds(wait_seconds))
        taken = sum(self._take(one) for one in ready if one is not seeking)
        now_ns = time.monotonic_ns()
        if requests := self.subscriber.poll(now_ns):
            for server in self._servers.to_ask(now_ns):
                for request in requests:
                    with suppress(OSError):  # it is as if it were lost
                        self._asking.sendto(request, server)
        if self.subscriber.wants_snapshot and self._glimpse and self.subscriber.session:
            self._seek_snapshot()
        return taken

    def _seek_snapshot(self) -> None:
        if self._seeker is None:
            self._seeker = SnapshotSeeker(self._glimpse, self.subscriber.session)
        now_ns = time.monotonic_ns()
        snapshot = self._seeker.turn(now_ns)
        if snapshot is not None:
            server, self._seeker = self._seeker.login, None
            self._glimpse = (server, *(one for one in self._glimpse if one != server))
            try:
                self.subscriber.load_snapshot(snapshot, now_ns)
            except WireError as error:
                raise UserError(f"the snapshot from {server.host}, port {server.port}: {error}") from error

    def _take(self, receiver: socket.socket) -> int:
        for taken in range(DATAGRAMS_PER_TURN):
            try:
                datagram, source = receiver.recvfrom(DATAGRAM_BYTES_LARGEST)
            except OSError:  # none is left
                return taken
            if self.subscriber.receive(datagram, time.monotonic_ns()):
                self._servers.heard(source, is_answer=receiver is self._asking)
        return DATAGRAMS_PER_TURN


def _listen(address: str, port: int, interface: str) -> socket.socket:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        receiver.setblocking(False)
        _ask_for_room(receiver)
        if is_multicast(address):
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # many on one machine may listen
            _join(receiver, address, interface)
        receiver.bind((address, port))
    except (OSError, ValueError) as error:
        receiver.close()
        why = error.strerror or error if isinstance(error, OSError) else "it must be a numeric IPv4 address"
        raise UserError(f"cannot listen to a feed on {address}, port {port}: {why}") from error
    return receiver


def _ask_for_room(receiver: socket.socket) -> None:
    """Have the kernel keep what comes while we are busy: as much as we want if we may say so, else as it allows."""
    try:
        receiver.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, BUFFER_BYTES)
    except OSError:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)


def _join(receiver: socket.socket, group: str, interface: str) -> None:
    """Join a group on the network of one interface, or on the system's choice and the loopback, if there are both."""
    problems: list[OSError] = []
    networks = (interface,) if interface else (ANY_NETWORK, LOOPBACK)
    for network in networks:
        membership = socket.inet_aton(group) + socket.inet_aton(network)
        try:
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        except OSError as error:
            problems.append(error)
    if len(problems) == len(networks):
        raise problems[0]
