"""The mailbox: what is posted is delivered in order, once, from any slot; what finds no room is not posted."""

import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from exchange.datagrams import port as port_module
from exchange.datagrams.kernel_socket import SocketPort
from exchange.datagrams.port import DATAGRAM_BYTES_MAX, PortByHand
from exchange.datagrams.posting import SLOTS, Mailbox, Post, deliver
from exchange.datagrams.protocol import attend, receive_many, send_many
from exchange.native import implements, kernel
from exchange.native.datagram_headers import address_and_port, socket_address

LOOPBACK = "127.0.0.1"


@kernel
def delivered(post: Post, port: Any) -> int:
    return deliver(post, port)


@pytest.fixture(params=["plain", "compiled"])
def deliver_all(request: pytest.FixtureRequest) -> Any:
    return delivered if request.param == "compiled" else getattr(delivered, "py_func", delivered)


def bound() -> socket.socket:
    """A socket that does not wait."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((LOOPBACK, 0))
    made.setblocking(False)
    return made


@pytest.fixture
def port() -> Iterator[SocketPort]:
    made = SocketPort(bound())
    yield made
    made.close()


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with bound() as made:
        yield made


def test_what_is_posted_is_delivered_in_order_and_once(
    port: SocketPort, client: socket.socket, deliver_all: Any
) -> None:
    mailbox, peer = Mailbox(), socket_address(*client.getsockname())
    assert deliver_all(mailbox.post, port.state) == 0
    said = 0
    for burst in (1, 2, 100, SLOTS, SLOTS - 1, 3):
        for number in range(said, said + burst):
            assert mailbox.put(peer, f"datagram {number}".encode())
        left = burst
        while left:  # a burst that goes around the end of the ring is delivered in two
            count = deliver_all(mailbox.post, port.state)
            heard = [client.recvfrom(2048) for _ in range(count)]
            assert heard == [(f"datagram {said + index}".encode(), port.address) for index in range(count)]
            said, left = said + count, left - count
        assert deliver_all(mailbox.post, port.state) == 0
    with pytest.raises(BlockingIOError):
        client.recv(1)


def test_a_full_mailbox_takes_nothing_more(port: SocketPort, client: socket.socket) -> None:
    mailbox, peer = Mailbox(), socket_address(*client.getsockname())
    assert all(mailbox.put(peer, bytes(DATAGRAM_BYTES_MAX)) for _ in range(SLOTS))
    assert not mailbox.put(peer, b"one too many")
    while delivered(mailbox.post, port.state):
        pass
    assert mailbox.put(peer, b"again")


def test_what_has_no_way_is_lost_and_the_others_go(
    port: SocketPort, client: socket.socket, deliver_all: Any
) -> None:
    mailbox = Mailbox()
    mailbox.put(socket_address("0.0.0.0", 0), b"to nobody")
    mailbox.put(socket_address(*client.getsockname()), b"to somebody")
    assert deliver_all(mailbox.post, port.state) == 1
    assert deliver_all(mailbox.post, port.state) == 1
    assert client.recv(100) == b"to somebody"


def test_a_port_by_hand(port: SocketPort, client: socket.socket) -> None:
    client.sendto(b"early", port.address)
    by_hand = PortByHand(port.state)
    assert by_hand.receive() == (socket_address(*client.getsockname()), b"early")
    assert by_hand.receive() is None
    for said in (b"hello", b"", bytes(1400)):
        client.sendto(said, port.address)
        received = by_hand.receive()
        assert received is not None
        peer, data = received
        assert (address_and_port(peer), data) == (client.getsockname(), said)
        assert by_hand.send(peer, data[::-1])
        assert client.recv(2048) == said[::-1]
    assert not by_hand.send(socket_address("0.0.0.0", 0), b"to nobody")


class Unused(NamedTuple):
    """A port that nothing has been compiled for yet."""

    number: int


@implements(receive_many, Unused)
def _receive_many(port: Unused, headers_address: int, count: int) -> int:
    return 0


@implements(send_many, Unused)
def _send_many(port: Unused, headers_address: int, count: int) -> int:
    return count


@implements(attend, Unused)
def _attend(port: Unused) -> int:
    return 0


def test_what_a_port_by_hand_does_is_compiled_before_anybody_waits_for_it() -> None:
    def compiled() -> list[int]:
        steps = (port_module._send, port_module._receive)
        return [len(step.signatures) for step in steps if hasattr(step, "signatures")]

    before = compiled()
    by_hand = PortByHand(Unused(1))
    made = compiled()
    assert made == [count + 1 for count in before]
    assert by_hand.receive() is None
    assert by_hand.send(socket_address(LOOPBACK, 1), b"datagram")
    assert compiled() == made
