"""Through what a load's sessions over UDP send and receive: a socket each, or one port that all of them share.

A kernel gives each session a socket of its own and sorts what comes. A port without a kernel
(:mod:`exchange.datagrams`) is one for all: the sessions stand behind the same address, and each takes out of a batch
what says its number. So a batch is received once in a turn, for the first session of the turn, and stays for all.

Rules: as of :mod:`exchange.datagrams.protocol`; one thread.
"""

from typing import Any, NamedTuple

from exchange.datagrams.kernel_socket import KernelSocket
from exchange.datagrams.protocol import attend, receive_many, send_many
from exchange.load.words import DESCRIPTOR
from exchange.native import generic, implements, load_int64


@generic
def receive_for(ports: Any, session: int, headers: int, count: int, before: int) -> int:
    """Receive up to ``count`` datagrams in which there may be some for a session: how many, or -errno.

    ``before`` is how many there are from the last time; they may be the answer. Others' datagrams may be among them.
    """
    raise NotImplementedError


@generic
def send_for(ports: Any, session: int, headers: int, count: int) -> int:
    """Send a session's datagrams: how many were taken, or -errno."""
    raise NotImplementedError


@generic
def peer_of(ports: Any, session_peer: int) -> int:
    """What stands in a header as the receiver's address: where the session's peer is, or 0 if its socket knows it."""
    raise NotImplementedError


@generic
def is_own(ports: Any) -> bool:
    """Whether what is received for a session can only be for that session."""
    raise NotImplementedError


class SessionSockets(NamedTuple):
    """A connected socket for each session, whose descriptor is among its words; ``epoll`` is not used."""

    epoll: int


class SharedPort(NamedTuple):
    """One port. ``first`` is where the address of the turn's first session stands."""

    port: Any
    first: int


@implements(receive_for, SessionSockets)
def _receive_for_socket(ports: SessionSockets, session: int, headers: int, count: int, before: int) -> int:
    return receive_many(KernelSocket(load_int64(session + DESCRIPTOR)), headers, count)


@implements(send_for, SessionSockets)
def _send_for_socket(ports: SessionSockets, session: int, headers: int, count: int) -> int:
    return send_many(KernelSocket(load_int64(session + DESCRIPTOR)), headers, count)


@implements(peer_of, SessionSockets)
def _peer_of_socket(ports: SessionSockets, session_peer: int) -> int:
    return 0


@implements(is_own, SessionSockets)
def _is_own_socket(ports: SessionSockets) -> bool:
    return True


@implements(receive_for, SharedPort)
def _receive_for_port(ports: SharedPort, session: int, headers: int, count: int, before: int) -> int:
    if session != load_int64(ports.first):
        return before
    attend(ports.port)
    return receive_many(ports.port, headers, count)


@implements(send_for, SharedPort)
def _send_for_port(ports: SharedPort, session: int, headers: int, count: int) -> int:
    return send_many(ports.port, headers, count)


@implements(peer_of, SharedPort)
def _peer_of_port(ports: SharedPort, session_peer: int) -> int:
    return session_peer


@implements(is_own, SharedPort)
def _is_own_port(ports: SharedPort) -> bool:
    return False
