"""MoldUDP64 and GLIMPSE: plain and compiled sides against each other, full datagrams, what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.native import address_of, kernel, load_int64
from exchange.wire import glimpse, moldudp64
from exchange.wire.fields import WireError
from exchange.wire.glimpse import EndOfSnapshot, Snapshot, decode_snapshot, encode_snapshot
from exchange.wire.itch50 import AddOrder, OrderDelete, SystemEvent
from exchange.wire.moldudp64 import (
    DATAGRAM_BYTES_MAX,
    DatagramBuffer,
    Packet,
    PacketHeader,
    Request,
    begin_datagram,
    block_behind,
    check_datagram,
    decode_packet,
    encode_packet,
    end_session,
    message_length,
    try_append_message,
)
from tests.wire_messages import messages_of, mutated

quick = settings(max_examples=200, deadline=None)
SESSION = np.frombuffer(b"SESSION   ", np.uint8)
MESSAGES = st.lists(st.binary(max_size=60), max_size=30).map(tuple)


@kernel
def fill(
    address: int,
    capacity: int,
    length: int,
    session: int,
    sequence: int,
    messages: int,
    ends: int,
    count: int,
) -> int:
    """Append messages that lie one behind the other, as many as there is room for; how many went in."""
    buffer = DatagramBuffer(address, capacity, length)
    begin_datagram(buffer, session, sequence)
    begin = 0
    for index in range(count):
        end = load_int64(ends + 8 * index)
        if not try_append_message(buffer, messages + begin, end - begin):
            return index
        begin = end
    return count


@kernel
def finish(address: int, capacity: int, length: int, session: int, sequence: int) -> None:
    """The datagram that ends a session."""
    buffer = DatagramBuffer(address, capacity, length)
    begin_datagram(buffer, session, sequence)
    end_session(buffer)


@kernel
def walk(address: int, count: int, out: int) -> int:
    """The lengths of so many messages, summed up, and where the last block ends."""
    block, total = address + 20, 0
    for _ in range(count):
        total += message_length(block)
        block = block_behind(block)
    return total * 100_000 + block - address


def compiled_packet(sequence: int, messages: tuple[bytes, ...], capacity: int = 4000) -> tuple[int, bytes]:
    out, length = np.zeros(capacity, np.uint8), np.zeros(1, np.int64)
    data = np.frombuffer(b"".join(messages) + b"\0", np.uint8)
    ends = np.cumsum([len(one) for one in messages] or [0]).astype(np.int64)
    count = fill(
        address_of(out), capacity, address_of(length), address_of(SESSION), sequence,
        address_of(data), address_of(ends), len(messages),
    )  # fmt: skip
    return count, out[: length[0]].tobytes()


def checked(data: bytes) -> int:
    block = np.frombuffer(data + b"\0", np.uint8)
    return int(check_datagram(address_of(block), len(data)))


@quick
@given(st.integers(1, 2**63 - 1), MESSAGES)
def test_both_sides_write_the_same_datagram_and_read_it_again(
    sequence: int, messages: tuple[bytes, ...]
) -> None:
    packet = Packet("SESSION", sequence, messages)
    encoded = encode_packet(packet)
    assert compiled_packet(sequence, messages) == (len(messages), encoded)
    assert decode_packet(encoded) == packet
    assert checked(encoded) == len(messages)
    block = np.frombuffer(encoded, np.uint8)
    expected = sum(map(len, messages)) * 100_000 + len(encoded)
    assert walk(address_of(block), len(messages), 0) == expected


@quick
@given(
    st.builds(mutated, st.randoms(), MESSAGES.map(lambda messages: encode_packet(Packet("S", 1, messages))))
    | st.binary(max_size=99)
)
def test_both_sides_accept_the_same_bytes(data: bytes) -> None:
    try:
        packet = decode_packet(data)
    except WireError:
        packet = None
    if packet is not None:
        assert checked(data) == len(packet.messages)
        assert encode_packet(packet)[20:] == data[20:]
    elif data[:10].isascii() and data[:10].decode().isprintable():
        assert checked(data) == -1


def test_a_full_datagram_refuses_and_stays_as_it_is() -> None:
    messages = tuple(bytes([index]) * 36 for index in range(100))
    count, data = compiled_packet(7, messages, DATAGRAM_BYTES_MAX)
    assert count == (DATAGRAM_BYTES_MAX - 20) // 38 == 38
    assert data == encode_packet(Packet("SESSION", 7, messages[:38]))
    assert compiled_packet(7, (b"x" * 10,), 32) == (1, encode_packet(Packet("SESSION", 7, (b"x" * 10,))))
    assert compiled_packet(7, (b"x" * 11,), 32) == (0, encode_packet(Packet("SESSION", 7)))


def test_heartbeat_and_end_of_session() -> None:
    heartbeat = encode_packet(Packet("SESSION", 9))
    assert heartbeat == b"SESSION   " + (9).to_bytes(8, "big") + b"\0\0"
    assert compiled_packet(9, ()) == (0, heartbeat)
    end = encode_packet(Packet("SESSION", 9, is_end_of_session=True))
    assert end == heartbeat[:18] + b"\xff\xff"
    assert decode_packet(end) == Packet("SESSION", 9, (), True)
    assert checked(end) == 0
    out, length = np.zeros(20, np.uint8), np.zeros(1, np.int64)
    finish(address_of(out), 20, address_of(length), address_of(SESSION), 9)
    assert out.tobytes() == end


def test_requests() -> None:
    request = Request("SESSION", 5, 65_535)
    assert request.encode() == b"SESSION   " + (5).to_bytes(8, "big") + b"\xff\xff"
    assert Request.decode(request.encode()) == request
    assert Request.layout.size_bytes == PacketHeader.layout.size_bytes == 20


@pytest.mark.parametrize(
    ("packet", "complaint"),
    [
        (Packet("S", 1, (b"",) * 65_535), "65,535 messages, allowed are 65,534"),
        (Packet("S", 1, (b"x",), True), "1 messages at the end of the session, allowed are none"),
        (Packet("S", 1, (bytes(65_536),)), "65,536 bytes, allowed are 65,535"),
        (Packet("ELEVENCHARS", 1), "session is 'ELEVENCHARS'"),
    ],
)
def test_what_no_datagram_can_hold_is_refused(packet: Packet, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        encode_packet(packet)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"short", "Downstream packet header: 5 bytes, allowed are 20"),
        (encode_packet(Packet("S", 1, (b"abc",)))[:-1], "block 0 of 1 is cut"),
        (encode_packet(Packet("S", 1, (b"abc",))) + b"x", "1 bytes behind the last block"),
        (encode_packet(Packet("S", 1))[:18] + b"\0\1", "block 0 of 1 is cut"),
    ],
)
def test_what_is_no_datagram_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        decode_packet(data)
    assert checked(data) == -1


ADD = AddOrder(1, 0, 5, 7, "B", 100, "ABC", 10_000).encode()
START = SystemEvent(0, 0, 1, "O").encode()


def test_a_snapshot_there_and_back() -> None:
    snapshot = Snapshot((START, ADD), 12_345)
    spin = encode_snapshot(snapshot)
    assert spin[-1] == b"G" + b"12345".rjust(20)
    assert decode_snapshot(spin) == snapshot
    assert decode_snapshot([START, ADD, b"G" + b"12345".ljust(20)]) == snapshot


@quick
@given(messages_of(EndOfSnapshot))
def test_the_end_of_a_snapshot_has_21_bytes(end: EndOfSnapshot) -> None:
    assert len(end.encode()) == 21
    assert glimpse.MESSAGES.decode(end.encode()) == end


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([START], "1 messages and no End of Snapshot"),
        ([*encode_snapshot(Snapshot((), 1)), START], "a message after End of Snapshot"),
        ([OrderDelete(1, 0, 5, 7).encode()], "message_type is b'D', allowed is one of S, R, H"),
        ([b"G" + b" " * 20], "sequence_number is"),
    ],
)
def test_what_is_no_snapshot_is_refused(messages: list[bytes], complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        decode_snapshot(messages)


def test_the_greatest_datagram_is_a_frame_of_ethernet() -> None:
    assert moldudp64.DATAGRAM_BYTES_MAX == 1500 - 20 - 8
