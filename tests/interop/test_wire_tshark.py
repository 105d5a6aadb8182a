"""Wireshark's dissectors of SoupBinTCP and OUCH 4.2 see our packets as we do: every field at its place."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.wire import ouch42, soupbintcp
from exchange.wire.layout import Message
from tests.pcap import payloads, write_conversation
from tests.tshark import TSHARK, dissect, our_fields
from tests.wire_messages import random_message

pytestmark = pytest.mark.skipif(TSHARK is None, reason="tshark is not installed: apt install tshark")

DISSECTED = [
    cls
    for table in (ouch42.INBOUND_MESSAGES, ouch42.OUTBOUND_MESSAGES)
    for letter, cls in table.items()
    if letter != "N"  # the dissector does not know Trade Now
]


def wrapped(message: Message) -> tuple[bool, Message]:
    """Whether the client sends it, and the packet that carries it."""
    if type(message) in ouch42.INBOUND_MESSAGES.values():
        return True, soupbintcp.UnsequencedData(message.encode())
    return False, soupbintcp.SequencedData(message.encode())


def conversation(chance: random.Random) -> Iterator[tuple[bool, Message]]:
    yield True, soupbintcp.LoginRequest("trader", "secret", "", 1)
    yield False, soupbintcp.LoginAccepted("S000000007", 1)
    for cls in DISSECTED:
        message = random_message(chance, cls)
        if cls is ouch42.AiqCanceled:  # the dissector knows the shorter form
            message = cls.decode(message.encode()[: cls.layout.size_bytes])
        yield wrapped(message)
    yield True, soupbintcp.ClientHeartbeat()
    yield False, soupbintcp.ServerHeartbeat()
    yield False, soupbintcp.Debug(b"a word")
    yield True, soupbintcp.LogoutRequest()
    yield False, soupbintcp.EndOfSession()


@pytest.mark.parametrize("seed", range(5))
def test_every_field_lies_where_the_dissector_sees_it(tmp_path: Path, seed: int) -> None:
    packets = list(conversation(random.Random(seed)))
    path = tmp_path / "conversation.pcap"
    write_conversation(path, [(by_client, packet.encode()) for by_client, packet in packets])
    assert list(payloads(path)) == [packet.encode() for _, packet in packets]
    dissected = dissect(path)
    assert len(dissected) == len(packets)
    for (by_client, packet), seen in zip(packets, dissected, strict=True):
        expected_head = [packet.encode()[:2], packet.encode()[2:3]]
        assert seen.packet[:2] == expected_head
        if isinstance(packet, soupbintcp.UnsequencedData | soupbintcp.SequencedData):
            table = ouch42.INBOUND_MESSAGES if by_client else ouch42.OUTBOUND_MESSAGES
            message = table.decode(packet.message)
            assert seen.message == our_fields(message), message
        else:
            assert b"".join(seen.packet) == packet.encode()


def test_packets_that_tcp_has_cut_and_joined_are_put_together(tmp_path: Path) -> None:
    chance = random.Random(1)
    packets = [random_message(chance, ouch42.Executed) for _ in range(40)]
    stream = b"".join(soupbintcp.SequencedData(message.encode()).encode() for message in packets)
    segments = []
    position = 0
    while position < len(stream):
        end = position + chance.randint(1, 120)
        segments.append((False, stream[position:end]))
        position = end
    path = tmp_path / "cut.pcap"
    write_conversation(path, segments)
    assert [seen.message for seen in dissect(path)] == [our_fields(message) for message in packets]


def test_the_dissector_would_notice(tmp_path: Path) -> None:
    message = ouch42.Executed(1, "token", 5, 6, "A", 7)
    path = tmp_path / "wrong.pcap"
    write_conversation(path, [(False, soupbintcp.SequencedData(message.encode() + b"?").encode())])
    (seen,) = dissect(path)
    assert seen.message != our_fields(message)
