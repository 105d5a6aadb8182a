"""Cutting a TCP stream into packets: the plain splitter and the compiled one, however the stream arrives."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.native import address_of
from exchange.wire.layout import MessageTable
from exchange.wire.soupbintcp import (
    CLIENT_PACKETS,
    SERVER_PACKETS,
    PacketSplitter,
    SequencedData,
    UnsequencedData,
)
from exchange.wire.soupbintcp_kernel import PLACE_DTYPE, PacketRuleTable, Trouble, find_packets
from tests.wire_messages import messages

quick = settings(max_examples=150, deadline=None)
each_side = pytest.mark.parametrize("table", [CLIENT_PACKETS, SERVER_PACKETS], ids=["client", "server"])

GARBAGE = st.sampled_from(
    [
        b"\0\0",
        b"\0\0S",
        b"\0\5?----",
        b"\0\1L",
        b"\0\2Hx",
        b"\0\3J--",
        b"\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\x30L",
    ]
)


@st.composite
def streams(draw: st.DrawFn, table: MessageTable) -> bytes:
    """Whole packets, then perhaps garbage or part of a packet."""
    packets = [message.encode() for message in draw(st.lists(messages(table), max_size=8))]
    rest = draw(st.one_of(st.just(b""), GARBAGE, messages(table).map(lambda message: message.encode()[:-1])))
    return b"".join(packets) + rest


def found_at_once(
    table: MessageTable, stream: bytes, places_max: int = 100
) -> tuple[list[bytes], int, Trouble]:
    rules = PacketRuleTable(table)
    places = np.zeros(places_max, PLACE_DTYPE)
    received = np.frombuffer(stream + b"\0", np.uint8)
    arguments = (address_of(received), len(stream), rules.state, address_of(places), places_max)
    interpreted = getattr(find_packets, "py_func", find_packets)
    expected, expected_places = interpreted(*arguments), places.copy()
    places[:] = 0
    count, consumed, trouble = find_packets(*arguments)
    assert ((count, consumed, trouble), places.tolist()) == (expected, expected_places.tolist())
    packets = [stream[offset : offset + length] for offset, length in places[:count].tolist()]
    return packets, consumed, Trouble(trouble)


@each_side
@quick
@given(data=st.data())
def test_any_cut_of_a_stream_gives_the_same_packets(table: MessageTable, data: st.DataObject) -> None:
    stream = data.draw(streams(table))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    splitter = PacketSplitter(table)
    packets: list[bytes] = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        packets += splitter.feed(stream[begin:end])
    found, consumed, trouble = found_at_once(table, stream)
    assert packets == found
    assert consumed == len(b"".join(packets))
    assert (splitter.garbage is not None) == (trouble != Trouble.NONE)
    if splitter.garbage is None:
        assert splitter.pending_bytes == len(stream) - consumed


@each_side
@quick
@given(data=st.data())
def test_the_kernel_finds_as_many_as_there_is_room_for_and_then_the_rest(
    table: MessageTable, data: st.DataObject
) -> None:
    stream = data.draw(streams(table))
    places_max = data.draw(st.integers(1, 3))
    expected, _, expected_trouble = found_at_once(table, stream)
    found: list[bytes] = []
    position = 0
    while True:
        packets, consumed, trouble = found_at_once(table, stream[position:], places_max)
        found += packets
        position += consumed
        if len(packets) < places_max:
            break
    assert (found, trouble) == (expected, expected_trouble)


def test_byte_by_byte_nothing_is_lost_and_garbage_is_seen_at_the_first_byte_that_shows_it() -> None:
    stream = SequencedData(b"first").encode() + SequencedData(b"").encode() + b"\0\4?..."
    splitter = PacketSplitter(SERVER_PACKETS)
    packets = []
    for index in range(len(stream)):
        packets += splitter.feed(stream[index : index + 1])
        shows = index >= len(stream) - 4
        assert (splitter.garbage is not None) == shows
    assert packets == [b"\0\6Sfirst", b"\0\1S"]
    assert "packet type is b'?', allowed is one of A, J, S, H, Z, +" in str(splitter.garbage)
    assert splitter.feed(SequencedData(b"more").encode()) == []
    assert splitter.pending_bytes == 0


def test_packets_before_garbage_are_given_whichever_way_they_arrive() -> None:
    stream = UnsequencedData(b"order").encode() + b"\0\0"
    splitter = PacketSplitter(CLIENT_PACKETS)
    assert splitter.feed(stream) == [b"\0\6Uorder"]
    assert str(splitter.garbage) == "SoupBinTCP client: packet_length is 0, allowed is 1 to 65,535"


@pytest.mark.parametrize(
    ("stream", "text", "trouble"),
    [
        (b"\0\0", "packet_length is 0, allowed is 1 to 200", Trouble.BAD_LENGTH),
        (b"\0\xc9", "packet_length is 201, allowed is 1 to 200", Trouble.BAD_LENGTH),
        (b"\0\5X", "packet type is b'X', allowed is one of L, U, R, O, +", Trouble.UNKNOWN_TYPE),
        (b"\0\x2eL", "packet_length is 46 of type b'L', allowed is 47 to 52", Trouble.LENGTH_OF_TYPE),
        (b"\0\2R", "packet_length is 2 of type b'R', allowed is 1", Trouble.LENGTH_OF_TYPE),
    ],
)
def test_garbage_is_named_before_its_packet_is_whole(stream: bytes, text: str, trouble: Trouble) -> None:
    splitter = PacketSplitter(CLIENT_PACKETS, 200)
    assert splitter.feed(stream) == []
    assert str(splitter.garbage) == f"SoupBinTCP client: {text}"
    rules = PacketRuleTable(CLIENT_PACKETS, 200)
    received = np.frombuffer(stream, np.uint8)
    places = np.zeros(1, PLACE_DTYPE)
    found = find_packets(address_of(received), len(stream), rules.state, address_of(places), 1)
    assert found == (0, 0, trouble)


def test_what_is_kept_is_never_more_than_a_packet() -> None:
    chance = random.Random(5)
    splitter = PacketSplitter(SERVER_PACKETS, 300)
    stream = b"".join(SequencedData(chance.randbytes(chance.randrange(300))).encode() for _ in range(2_000))
    given = 0
    position = 0
    while position < len(stream):
        end = position + chance.randrange(1, 2_000)
        given += len(b"".join(splitter.feed(stream[position:end])))
        position = end
        assert splitter.pending_bytes < 302
    assert (given, splitter.garbage) == (len(stream), None)


def test_the_largest_packet_passes() -> None:
    largest = SequencedData(bytes(65_534)).encode()
    assert PacketSplitter(SERVER_PACKETS).feed(largest + largest) == [largest, largest]
    assert found_at_once(SERVER_PACKETS, largest + largest) == ([largest] * 2, 2 * 65_537, Trouble.NONE)
