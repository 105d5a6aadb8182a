"""A subscriber with sockets: what listens to a feed on the network and asks for what it has lost.

:class:`FeedReceiver` gives :class:`~exchange.market_data.subscriber.Subscriber` what it does not have, datagrams and a
clock, and sends its requests. Requests go to where the feed comes from, unless another place is named, and from a
socket of their own, because one that is bound to a multicast group hears nothing but the group.

Rules: one thread. Nothing waits longer than it is told to.
"""

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

from exchange.errors import UserError
from exchange.market_data.feed_book import Book
from exchange.market_data.feed_server import is_multicast
from exchange.market_data.subscriber import Patience, Subscriber

DATAGRAMS_PER_TURN: Final = 256
DATAGRAM_BYTES_LARGEST: Final = 65_535
BUFFER_BYTES: Final = 1 << 22
"""What the kernel is asked to keep for a receiver that is busy; it gives what its own limit allows."""

ONE_FEED_PATIENCE: Final = Patience(gap_ns=100_000)
"""There is no other feed that might fill a gap, so there is little to wait for."""


class FeedReceiver:
    """Listens to a feed and builds its books. Use it in a ``with`` statement.

    Args:
        address: where the feed goes, a numeric IPv4 address: a multicast group, or one of this machine.
        port: and the UDP port; 0 takes one that is free.
        make_book: makes an empty book.
        interface: for a group, the address of this machine on whose network it is joined; empty: the system's choice.
        requests: address and port of the re-request server; None means where the feed comes from.

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
        requests: tuple[str, int] | None = None,
    ) -> None:
        self.subscriber: Final = Subscriber(make_book, patience=ONE_FEED_PATIENCE)
        self._requests = requests
        self._feed: Final = _listen(address, port, interface)
        self._asking: Final = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._asking.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        self._feed.close()
        self._asking.close()

    @property
    def port(self) -> int:
        """The UDP port where it listens."""
        return int(self._feed.getsockname()[1])

    def turn(self, wait_seconds: float) -> int:
        """Take what has arrived and ask for what is missing; how many datagrams came.

        Waits for a datagram for ``wait_seconds`` at most, and less if a request is due before.
        """
        due_ns = self.subscriber.next_request_ns()
        if due_ns is not None:
            wait_seconds = min(wait_seconds, max(0, due_ns - time.monotonic_ns()) / 1e9)
        ready, _, _ = select.select((self._feed, self._asking), (), (), wait_seconds)
        taken = sum(self._take(one) for one in ready)
        for request in self.subscriber.poll(time.monotonic_ns()):
            if self._requests is not None:
                with suppress(OSError):  # it is as if it were lost
                    self._asking.sendto(request, self._requests)
        return taken

    def _take(self, receiver: socket.socket) -> int:
        for taken in range(DATAGRAMS_PER_TURN):
            try:
                datagram, source = receiver.recvfrom(DATAGRAM_BYTES_LARGEST)
            except OSError:  # none is left
                return taken
            bad = self.subscriber.counts().bad_datagrams
            self.subscriber.receive(datagram, time.monotonic_ns())
            if self._requests is None and self.subscriber.counts().bad_datagrams == bad:
                self._requests = source
        return DATAGRAMS_PER_TURN


def _listen(address: str, port: int, interface: str) -> socket.socket:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        receiver.setblocking(False)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        if is_multicast(address):
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # many on one machine may listen
            membership = socket.inet_aton(address) + socket.inet_aton(interface or "0.0.0.0")
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        receiver.bind((address, port))
    except (OSError, ValueError) as error:
        receiver.close()
        why = error.strerror or error if isinstance(error, OSError) else "it must be a numeric IPv4 address"
        raise UserError(f"cannot listen to a feed on {address}, port {port}: {why}") from error
    return receiver
