"""Wireshark's dissectors of SoupBinTCP and OUCH 4.2 see our packets as we do: every field at its place."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from exchange.wire import ouch42, soupbintcp
from exchange.wire.layout import Message
from tests.pcap import SERVER, payloads, write_conversation
from tests.wire_messages import random_message

TSHARK = shutil.which("tshark")
pytestmark = pytest.mark.skipif(TSHARK is None, reason="tshark is not installed: apt install tshark")

DISSECTED = [
    cls
    for table in (ouch42.INBOUND_MESSAGES, ouch42.OUTBOUND_MESSAGES)
    for letter, cls in table.items()
    if letter != "N"  # the dissector does not know Trade Now
]


class Seen(NamedTuple):
    """The bytes of each field that the dissector found: of one SoupBinTCP packet, and of the OUCH message in it."""

    packet: list[bytes]
    message: list[bytes]


def dissect(path: Path) -> list[Seen]:
    """The packets of a capture, in its order. Fails if anything is malformed."""
    assert TSHARK is not None
    done = subprocess.run(
        [TSHARK, "-r", path, "-d", f"tcp.port=={SERVER[1]},soupbintcp", "-T", "pdml"],
        capture_output=True,
        text=True,
        check=True,
    )
    protocols = list(ElementTree.fromstring(done.stdout).iter("proto"))
    names = {protocol.get("name") for protocol in protocols}
    assert names >= {"tcp", "soupbintcp"}
    assert "_ws.malformed" not in names
    packets: list[Seen] = []
    for protocol in protocols:
        if protocol.get("name") == "soupbintcp":
            packets.append(Seen(raw_fields(protocol), []))
        elif protocol.get("name") == "ouch":
            packets[-1].message.extend(raw_fields(protocol))
    return packets


def raw_fields(protocol: ElementTree.Element) -> list[bytes]:
    """The fields of a protocol, without those that the dissector reckons out."""
    fields = [field for field in protocol.iter("field") if field.get("size") != "0"]
    return [bytes.fromhex(field.get("value", "")) for field in fields]


def our_fields(message: Message) -> list[bytes]:
    encoded = message.encode()
    return [
        encoded[field.offset : field.offset + (field.size_bytes or 0)]
        for field in message.layout.fields
        if field.size_bytes is not None and field.offset + field.size_bytes <= len(encoded)
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
