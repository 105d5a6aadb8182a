"""The compiled reader and writer of frames, their plain twins and an oracle say the same of any bytes."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.ethernet import PAYLOAD_BYTES_MAX, FrameKind, format_mac, parse_mac
from exchange.ethernet.layout import BROADCAST
from exchange.native import address_of
from exchange.native.datagram_headers import address_and_port
from tests.ethernet_driver import peer_of, read, write, written_reply, written_request
from tests.ethernet_oracle import CHANGES, THEM, US, arp, datagram, judge, random_frame

few = settings(max_examples=200, deadline=None)
payloads = st.binary(max_size=200) | st.sampled_from((b"", b"x", bytes(PAYLOAD_BYTES_MAX)))


@few
@given(payload=payloads)
def test_what_is_written_is_read(payload: bytes) -> None:
    frame = datagram(payload, THEM, US)
    assert read(frame, US) == (FrameKind.DATAGRAM, payload)
    answer = write(payload, US, peer_of(frame, US))
    assert answer == write(payload, US, peer_of(frame, US), is_plain=True)
    assert answer == datagram(payload, US, THEM)
    assert read(answer, THEM) == (FrameKind.DATAGRAM, payload)


@few
@given(seed=st.integers(0, 2**32 - 1))
def test_reader_twin_and_oracle_agree(seed: int) -> None:
    frame = random_frame(random.Random(seed))
    assert read(frame, US) == read(frame, US, is_plain=True) == judge(frame, US)


def test_every_kind_of_frame_is_among_them() -> None:
    frames = [random_frame(random.Random(seed)) for seed in range(20_000)]
    assert {judge(frame, US)[0] for frame in frames} == set(FrameKind)
    for frame in frames:
        assert read(frame, US) == judge(frame, US)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"destination_mac": THEM.mac}, FrameKind.OTHER_CARD),
        ({"destination_mac": BROADCAST}, FrameKind.OTHER_CARD),
        ({"kind": 0x86DD}, FrameKind.OTHER_TYPE),
        ({"version": 6}, FrameKind.BAD_IPV4),
        ({"total_bytes": 1500}, FrameKind.BAD_IPV4),
        ({"fragment": 0x2000}, FrameKind.FRAGMENT),
        ({"protocol": 6}, FrameKind.OTHER_PROTOCOL),
        ({"destination": THEM.address}, FrameKind.OTHER_ADDRESS),
        ({"udp_bytes": 7}, FrameKind.BAD_UDP),
        ({"port": 9007}, FrameKind.OTHER_PORT),
        ({"port": 9006}, FrameKind.DATAGRAM),
        ({"has_checksum": 0}, FrameKind.DATAGRAM),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, int], kind: FrameKind) -> None:
    assert set(changes) <= set(CHANGES)
    assert read(datagram(b"twenty bytes of text", THEM, US, **changes), US)[0] == kind


@given(place=st.integers(14, 61), bit=st.integers(0, 7))
def test_no_flipped_bit_above_ethernet_goes_unnoticed(place: int, bit: int) -> None:
    frame = bytearray(datagram(b"twenty bytes of text", THEM, US))
    frame[place] ^= 1 << bit
    kind, payload = read(bytes(frame), US)
    # An address or a port may turn into another valid one, and then the checksum is wrong.
    assert kind != FrameKind.DATAGRAM, payload


def test_a_peer_is_an_address_as_the_kernel_has_it() -> None:
    peer = peer_of(datagram(b"", THEM, US), US)
    assert address_and_port(peer) == ("192.0.2.2", 40_000)
    assert peer[8:14] == THEM.mac.to_bytes(6, "big")


def test_arp() -> None:
    request = arp(1, THEM, 0, US.address, BROADCAST)
    memory = np.zeros(64, np.uint8)
    size_bytes = written_request(address_of(memory), THEM, US.address)
    assert memory[:size_bytes].tobytes() == request
    assert read(request, US) == (FrameKind.ARP_REQUEST, b"")
    size_bytes = written_reply(address_of(memory), address_of(memory), US)
    reply = memory[:size_bytes].tobytes()
    assert reply == arp(2, US, THEM.mac, THEM.address, THEM.mac)
    assert read(reply, THEM) == (FrameKind.ARP_REPLY, b"")


def test_addresses_of_cards() -> None:
    assert parse_mac("02:00:00:00:00:01") == US.mac
    assert format_mac(US.mac) == "02:00:00:00:00:01"
    for text in ("", "02:00:00:00:00", "02-00-00-00-00-01", "2:0:0:0:0:1", "02:00:00:00:00:0g"):
        with pytest.raises(ValueError, match="hexadecimal"):
            parse_mac(text)
