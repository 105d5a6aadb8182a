"""A reader of captured packets, just large enough for the golden captures: classic pcap files of Ethernet and IPv4.

Gives the payload of each UDP datagram or TCP segment. The lengths of IP decide where a payload ends: what a capturing
device appended behind it is left out."""

import struct
from collections.abc import Iterator
from pathlib import Path

MAGICS = {
    b"\xd4\xc3\xb2\xa1": "<",
    b"\xa1\xb2\xc3\xd4": ">",
    b"\x4d\x3c\xb2\xa1": "<",
    b"\xa1\xb2\x3c\x4d": ">",
}
FILE_HEADER_BYTES = 24
PACKET_HEADER_BYTES = 16
ETHERNET_ADDRESSES_BYTES = 12
VLAN, IPV4 = 0x8100, 0x0800
TCP, UDP = 6, 17
UDP_HEADER_BYTES = 8


def payloads(path: Path) -> Iterator[bytes]:
    """What each packet of a file carries above UDP or TCP."""
    data = path.read_bytes()
    order = MAGICS[data[:4]]
    position = FILE_HEADER_BYTES
    while position < len(data):
        captured_bytes, original_bytes = struct.unpack_from(order + "II", data, position + 8)
        position += PACKET_HEADER_BYTES
        assert captured_bytes == original_bytes, f"{path.name}: a packet was cut while it was captured"
        yield _payload(data[position : position + captured_bytes])
        position += captured_bytes


def _payload(frame: bytes) -> bytes:
    position = ETHERNET_ADDRESSES_BYTES
    while (ether_type := int.from_bytes(frame[position : position + 2], "big")) == VLAN:
        position += 4
    assert ether_type == IPV4, f"ether type {ether_type:#06x}"
    packet = frame[position + 2 :]
    header_bytes = 4 * (packet[0] & 0x0F)
    content = packet[header_bytes : int.from_bytes(packet[2:4], "big")]
    if packet[9] == UDP:
        return content[UDP_HEADER_BYTES:]
    assert packet[9] == TCP, f"IP protocol {packet[9]}"
    return content[4 * (content[12] >> 4) :]
