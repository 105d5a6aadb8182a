"""The sender of a feed: everything once and in order, however much there is, and no stop where nothing can be sent."""

import socket
from collections.abc import Iterator

import pytest

from exchange.market_data.datagram_store import DatagramStore
from exchange.market_data.feed_sender import BATCH_DATAGRAMS, REFUSED, SenderMemory, send_due
from exchange.native import load_int64
from exchange.wire.moldudp64 import decode_packet

LOOPBACK = "127.0.0.1"
HOUR_NS = 3_600_000_000_000


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """One that sends and one that hears."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sends,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hears,
    ):
        hears.bind((LOOPBACK, 0))
        hears.settimeout(5)
        yield sends, hears


def test_more_than_a_batch_goes_out_in_order(sockets: tuple[socket.socket, socket.socket]) -> None:
    sends, hears = sockets
    store = DatagramStore("TEST", 1 << 12)
    sender = SenderMemory(store.state, sends.fileno(), *hears.getsockname(), HOUR_NS)
    messages = [number.to_bytes(2, "big") * 20 for number in range(2_000)]
    for one in messages:
        store.append(one)
    heard: list[bytes] = []
    while (done := send_due(sender.state)) > 0:
        assert done <= BATCH_DATAGRAMS
        for _ in range(done):
            packet = decode_packet(hears.recv(2048))
            assert packet.sequence_number == len(heard) + 1
            heard += packet.messages
    assert heard == messages
    assert store.unsent_messages == 0


def test_a_heartbeat_is_due_only_where_nothing_else_was_sent(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    sends, hears = sockets
    store = DatagramStore("TEST", 1 << 12)
    lively = SenderMemory(store.state, sends.fileno(), *hears.getsockname(), 0)
    patient = SenderMemory(store.state, sends.fileno(), *hears.getsockname(), HOUR_NS)
    store.append(b"one")
    assert [send_due(patient.state), send_due(patient.state)] == [1, 0]
    assert [send_due(lively.state), send_due(lively.state)] == [1, 1]
    packets = [decode_packet(hears.recv(2048)) for _ in range(3)]
    assert [(one.sequence_number, one.messages) for one in packets] == [(1, (b"one",)), (2, ()), (2, ())]


def test_what_the_kernel_refuses_is_counted_and_passed_over(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    sends, _ = sockets
    store = DatagramStore("TEST", 1 << 12)
    sender = SenderMemory(
        store.state, sends.fileno(), "255.255.255.255", 9, HOUR_NS
    )  # a broadcast: not allowed
    store.append(b"one")
    assert [send_due(sender.state), send_due(sender.state)] == [1, 0]
    assert load_int64(sender.state.words + REFUSED) == 1
