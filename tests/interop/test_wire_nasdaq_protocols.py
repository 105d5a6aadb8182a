"""Our bytes and those of NASDAQ's own Python library are the same: SoupBinTCP packets, and OUCH of both versions."""

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.wire import ouch42, ouch50, soupbintcp
from exchange.wire.fields import Text
from exchange.wire.layout import Message
from exchange.wire.ouch50_options import Appendage
from exchange.wire.soupbintcp import CLIENT_PACKETS, SERVER_PACKETS, PacketSplitter
from tests.nasdaq_definitions import load_messages
from tests.wire_messages import messages_of

pytestmark = pytest.mark.filterwarnings("ignore:Testing an element's truth value")  # within the library

soup = pytest.importorskip("nasdaq_protocols.soup", reason="NASDAQ's library: pip install nasdaq-protocols")

quick = settings(max_examples=100, deadline=None)
few = settings(max_examples=15, deadline=None)

THEIR_PAYLOAD_BYTES_MAX = 32_766
"""The library takes ``packet_length`` for a signed number."""

words = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=6)
numbers = st.integers(0, (1 << 63) - 1)


def theirs(packet: bytes) -> Any:
    return soup.SoupMessage.from_bytes(packet)[1]


@quick
@given(user=words, password=words, session=words, number=numbers)
def test_login_request(user: str, password: str, session: str, number: int) -> None:
    ours = soupbintcp.LoginRequest(user, password, session, number)
    their = soup.LoginRequest(user, password, session, str(number))
    assert CLIENT_PACKETS.decode(their.to_bytes()[1]) == ours
    assert theirs(ours.encode()) == their
    assert len(ours.encode()) == their.to_bytes()[0]


@quick
@given(session=words, number=numbers)
def test_login_accepted(session: str, number: int) -> None:
    ours, their = soupbintcp.LoginAccepted(session, number), soup.LoginAccepted(session, number)
    assert SERVER_PACKETS.decode(their.to_bytes()[1]) == ours
    assert theirs(ours.encode()) == their


@quick
@given(message=st.binary(max_size=200))
def test_data_packets(message: bytes) -> None:
    for ours, their, table in [
        (soupbintcp.SequencedData(message), soup.SequencedData(message), SERVER_PACKETS),
        (soupbintcp.UnsequencedData(message), soup.UnSequencedData(message), CLIENT_PACKETS),
    ]:
        assert ours.encode() == their.to_bytes()[1]
        assert theirs(ours.encode()) == their
        assert table.decode(their.to_bytes()[1]) == ours


def test_the_largest_packet_that_the_library_reads() -> None:
    largest = soupbintcp.SequencedData(bytes(THEIR_PAYLOAD_BYTES_MAX)).encode()
    assert theirs(largest).to_bytes()[1] == largest


def test_the_other_packets() -> None:
    for ours, their in [
        (soupbintcp.LoginRejected("A"), soup.LoginRejected(soup.LoginRejectReason.NOT_AUTHORIZED)),
        (soupbintcp.LoginRejected("S"), soup.LoginRejected(soup.LoginRejectReason.SESSION_NOT_AVAILABLE)),
        (soupbintcp.ClientHeartbeat(), soup.ClientHeartbeat()),
        (soupbintcp.ServerHeartbeat(), soup.ServerHeartbeat()),
        (soupbintcp.LogoutRequest(), soup.LogoutRequest()),
        (soupbintcp.EndOfSession(), soup.EndOfSession()),
        (soupbintcp.Debug(b"hello"), soup.Debug("hello")),
    ]:
        assert ours.encode() == their.to_bytes()[1]
        assert theirs(ours.encode()) == their


@pytest.mark.parametrize("cut_bytes", [1, 2, 3, 7, 1000])
def test_both_cut_a_stream_into_the_same_packets(cut_bytes: int) -> None:
    stream = b"".join(
        packet.encode()
        for packet in (
            soupbintcp.LoginAccepted("S1", 1),
            soupbintcp.SequencedData(b"first"),
            soupbintcp.ServerHeartbeat(),
            soupbintcp.SequencedData(bytes(300)),
            soupbintcp.EndOfSession(),
        )
    )
    splitter = PacketSplitter(SERVER_PACKETS)
    packets = []
    for begin in range(0, len(stream), cut_bytes):
        packets += splitter.feed(stream[begin : begin + cut_bytes])
    assert splitter.garbage is None
    assert b"".join(theirs(packet).to_bytes()[1] for packet in packets[1:]) == stream[33:]
    assert [type(theirs(packet)).__name__ for packet in packets] == [
        type(SERVER_PACKETS.decode(packet)).__name__ for packet in packets
    ]


VERSIONS = {
    "ouch50": (ouch50.INBOUND_MESSAGES, ouch50.OUTBOUND_MESSAGES),
    "ouch42": (ouch42.INBOUND_MESSAGES, ouch42.OUTBOUND_MESSAGES),
}
CLASSES = [
    (version, cls)
    for version, tables in VERSIONS.items()
    for table in tables
    for cls in table.values()
    if cls is not ouch50.AccountQuery  # the library cannot write a message without fields
]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModuleType]:
    return {
        version: load_messages(tmp_path_factory.mktemp(version), version, *tables)
        for version, tables in VERSIONS.items()
    }


@pytest.mark.parametrize(
    ("version", "cls"), CLASSES, ids=[f"{version} {cls.__name__}" for version, cls in CLASSES]
)
@few
@given(data=st.data())
def test_an_ouch_message_has_the_same_bytes(
    libraries: dict[str, ModuleType], version: str, cls: type[Message], data: st.DataObject
) -> None:
    fields = [field for field in cls.layout.fields if not field.derived]
    drawn = data.draw(messages_of(cls))
    message = cls(*(None if field.optional else getattr(drawn, field.name) for field in fields))
    their_class = getattr(libraries[version], cls.__name__)
    their = their_class()
    for field in fields:
        if isinstance(field.kind, Appendage) and not field.optional:
            setattr(their, field.name, list(field.kind.write(message.options)))
        elif not field.optional:
            setattr(their, field.name, getattr(message, field.name))
    assert their.to_bytes()[1] == message.encode()
    _, read = their_class.BodyRecord.from_bytes(message.encode()[1:])
    for field in fields:
        if isinstance(field.kind, Text):
            assert getattr(read, field.name) == getattr(message, field.name).strip()
        elif not field.optional and not isinstance(field.kind, Appendage):
            assert getattr(read, field.name) == getattr(message, field.name)
