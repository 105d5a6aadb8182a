"""tshark, the packet analyser, takes our MoldUDP64 datagrams apart: no malformed frame, and the fields are ours."""

import shutil
import subprocess
from pathlib import Path

import pytest

from exchange.flow import load_flow
from exchange.flow.config import SyntheticConfig
from exchange.market_data.datagram_store import DatagramStore
from exchange.wire.moldudp64 import Request, decode_packet
from tests.feed_driver import PublishedMarket, commands_of
from tests.pcap import SERVER, write_datagrams

pytestmark = pytest.mark.skipif(
    shutil.which("tshark") is None, reason="tshark is not installed (Debian: tshark)"
)


def dissected(path: Path, *fields: str) -> list[list[str]]:
    """The named fields of each packet, as tshark sees them."""
    command = [
        "tshark",
        "-r",
        str(path),
        "-d",
        f"udp.port=={SERVER[1]},moldudp64",
        "-T",
        "fields",
        "-E",
        "separator=;",
    ]
    for name in fields:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [line.split(";") for line in done.stdout.splitlines()]


@pytest.fixture
def datagrams() -> list[bytes]:
    """A feed, a heartbeat, an answer to a request, and the end of the session."""
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=2000, symbols=3))
    market = PublishedMarket("ladder", flow.symbols, plain=False)
    market.play(commands_of(flow))
    store = DatagramStore("TSHARK", 1 << 12)
    at, blocks = 0, bytes(market.blocks)
    sent = []
    while at < len(blocks):
        length = int.from_bytes(blocks[at : at + 2], "big")
        store.append(blocks[at + 2 : at + 2 + length])
        at += 2 + length
        if store.next_sequence % 30 == 0:
            sent += store.take_datagrams()
    sent += store.take_datagrams()
    answer = store.answer(Request("TSHARK", 5, 3).encode())
    assert answer is not None
    return [*sent, store.heartbeat(), answer, store.end_of_session()]


def test_tshark_finds_the_fields_that_we_wrote(datagrams: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "feed.pcap"
    write_datagrams(path, datagrams)
    names = (
        "moldudp64.session",
        "moldudp64.sequence",
        "moldudp64.count",
        "moldudp64.msglen",
        "_ws.malformed",
    )
    rows = dissected(path, *names)
    assert len(rows) == len(datagrams) > 20
    for row, datagram in zip(rows, datagrams, strict=True):
        packet = decode_packet(datagram)
        session, sequence, count, lengths, malformed = row
        assert malformed == ""
        assert session.strip() == packet.session
        assert int(sequence) == packet.sequence_number
        assert int(count) == (65_535 if packet.is_end_of_session else len(packet.messages))
        assert [int(one) for one in lengths.split(",") if one] == [len(one) for one in packet.messages]
