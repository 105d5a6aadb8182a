"""Wireshark's dissectors of SoupBinTCP and OUCH 4.2, for the tests that let them look at our packets."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from exchange.wire.layout import Message
from tests.pcap import SERVER

TSHARK = shutil.which("tshark")


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
