"""A place to which a feed is sent that nobody reads: for runs in which market data is made and not looked at.

A listener would take a core from those who are watched, and without a socket the kernel would answer every datagram
with an error.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def feed_sink() -> Iterator[int]:
    """Within the block there is a UDP socket on the loopback; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        yield int(sink.getsockname()[1])
