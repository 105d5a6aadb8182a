"""Captured packets, read and written, as far as the tests need it: classic pcap files of Ethernet and IPv4.

Reading gives the payload of each UDP datagram or TCP segment. The lengths of IP decide where a payload ends: what a
capturing device appended behind it is left out. Writing makes up a TCP conversation, or datagrams, for a dissector to
look at; checksums are left zero, which dissectors do not mind."""

import struct
from collections.abc import Iterable, Iterator
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

CLIENT, SERVER = (b"\x0a\0\0\1", 40_000), (b"\x0a\0\0\2", 9_000)
"""IP address and port of the two sides of a conversation."""


def payloads(path: Path) -> Iterator[bytes]:
    """What each packet of a file carries above UDP or TCP."""
    return map(_payload, frames(path))


def frames(path: Path) -> Iterator[bytes]:
    """The frames of a file, whole."""
    data = path.read_bytes()
    order = MAGICS[data[:4]]
    position = FILE_HEADER_BYTES
    while position < len(data):
        captured_bytes, original_bytes = struct.unpack_from(order + "II", data, position + 8)
        position += PACKET_HEADER_BYTES
        assert captured_bytes == original_bytes, f"{path.name}: a packet was cut while it was captured"
        yield data[position : position + captured_bytes]
        position += captured_bytes


def write_conversation(path: Path, segments: Iterable[tuple[bool, bytes]]) -> None:
    """Write TCP segments, each with whether the client sent it, as a conversation from port 40,000 to 9,000."""
    sent = {True: 1, False: 1}
    packets = []
    for by_client, payload in segments:
        source, target = (CLIENT, SERVER) if by_client else (SERVER, CLIENT)
        push_and_acknowledge = 0x5018
        header = struct.pack(
            ">HHIIHHHH",
            source[1], target[1], sent[by_client], sent[not by_client], push_and_acknowledge, 0xFFFF, 0, 0,
        )  # fmt: skip
        sent[by_client] += len(payload)
        packets.append(_packet(TCP, source[0], target[0], header + payload))
    write_frames(path, packets)


def write_datagrams(path: Path, datagrams: Iterable[bytes]) -> None:
    """Write UDP payloads from the server to port 40,000."""
    packets = []
    for payload in datagrams:
        header = struct.pack(">HHHH", SERVER[1], CLIENT[1], UDP_HEADER_BYTES + len(payload), 0)
        packets.append(_packet(UDP, SERVER[0], CLIENT[0], header + payload))
    write_frames(path, packets)


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


def _packet(protocol: int, source: bytes, target: bytes, content: bytes) -> bytes:
    """An Ethernet frame around an IP packet."""
    ethernet = b"\2\0\0\0\0\1" + b"\2\0\0\0\0\2" + IPV4.to_bytes(2, "big")
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(content), 0, 0, 64, protocol, 0)
    return ethernet + header + source + target + content


def write_frames(path: Path, content: Iterable[bytes]) -> None:
    """Write whole frames, of any sort."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0xFFFF, 1)]
    for number, frame in enumerate(content):
        parts.append(struct.pack("<IIII", 0, number, len(frame), len(frame)) + frame)
    path.write_bytes(b"".join(parts))
