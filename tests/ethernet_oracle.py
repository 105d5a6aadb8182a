"""A second reader and writer of frames, from the RFCs and with ``struct``, for the compiled ones to agree with.

:func:`judge` is the whole of what a frame may be; :func:`datagram` and :func:`arp` write frames, right ones or, by
``changes``, wrong ones with right checksums, so that it is not always the checksum that gives them away.
"""

import random
import struct

from exchange.ethernet import FrameKind, Local

US = Local(mac=0x02_00_00_00_00_01, address=0xC000_0201, port_first=9005, port_count=2)
THEM = Local(mac=0x02_00_00_00_00_02, address=0xC000_0202, port_first=40_000, port_count=1)


def checksum(content: bytes) -> int:
    """RFC 1071, word by word."""
    total = 0
    for word in struct.unpack(f">{(len(content) + 1) // 2}H", content + b"\0" * (len(content) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def judge(frame: bytes, us: Local) -> tuple[FrameKind, bytes]:
    """What a frame is, and the payload if it is a datagram."""
    if len(frame) < 14:
        return FrameKind.SHORT, b""
    destination, kind = int.from_bytes(frame[:6], "big"), int.from_bytes(frame[12:14], "big")
    if destination != us.mac and (kind == 0x0800 or destination != 0xFFFF_FFFF_FFFF):
        return FrameKind.OTHER_CARD, b""
    if kind == 0x0806:
        return judge_arp(frame[14:], us), b""
    return judge_ipv4(frame[14:], us) if kind == 0x0800 else (FrameKind.OTHER_TYPE, b"")


def judge_arp(packet: bytes, us: Local) -> FrameKind:
    """What an ARP packet is."""
    if len(packet) < 28:
        return FrameKind.SHORT
    *kinds, operation = struct.unpack_from(">HHBBH", packet)
    if kinds != [1, 0x0800, 6, 4] or operation not in (1, 2):
        return FrameKind.BAD_ARP
    if int.from_bytes(packet[24:28], "big") != us.address:
        return FrameKind.OTHER_ADDRESS
    return FrameKind.ARP_REQUEST if operation == 1 else FrameKind.ARP_REPLY


def judge_ipv4(packet: bytes, us: Local) -> tuple[FrameKind, bytes]:
    """What an IPv4 packet is; it may be followed by padding."""
    if len(packet) < 20:
        return FrameKind.SHORT, b""
    header_bytes, total_bytes = 4 * (packet[0] & 15), int.from_bytes(packet[2:4], "big")
    if packet[0] >> 4 != 4 or not 20 <= header_bytes <= total_bytes <= len(packet):
        return FrameKind.BAD_IPV4, b""
    header, content = packet[:header_bytes], packet[header_bytes:total_bytes]
    if checksum(header) != 0:
        return FrameKind.BAD_IPV4_CHECKSUM, b""
    if int.from_bytes(header[16:20], "big") != us.address:
        return FrameKind.OTHER_ADDRESS, b""
    if int.from_bytes(header[6:8], "big") & 0x3FFF:
        return FrameKind.FRAGMENT, b""
    if header[9] != 17:
        return FrameKind.OTHER_PROTOCOL, b""
    if len(content) < 8:
        return FrameKind.SHORT, b""
    _source_port, port, length, sum_ = struct.unpack_from(">4H", content)
    if not 8 <= length <= len(content):
        return FrameKind.BAD_UDP, b""
    if not us.port_first <= port < us.port_first + us.port_count:
        return FrameKind.OTHER_PORT, b""
    pseudo = header[12:20] + struct.pack(">BBH", 0, 17, length)
    if sum_ and checksum(pseudo + content[:length]) != 0:
        return FrameKind.BAD_UDP_CHECKSUM, b""
    return FrameKind.DATAGRAM, content[8:length]


def datagram(
    payload: bytes, source: Local, target: Local, *, options: bytes = b"", pad: bytes = b"", **changes: int
) -> bytes:
    """A frame with a datagram, padded; ``changes`` replace fields before checksums are taken."""
    udp_bytes = 8 + len(payload)
    header_bytes = 20 + len(options)
    field = {
        "destination_mac": target.mac, "kind": 0x0800, "version": 4, "words": header_bytes // 4,
        "total_bytes": header_bytes + udp_bytes, "fragment": 0x4000, "protocol": 17,
        "destination": target.address, "port": target.port_first, "udp_bytes": udp_bytes, "has_checksum": 1,
    } | changes  # fmt: skip
    addresses = struct.pack(">II", source.address, field["destination"])
    pseudo = addresses + struct.pack(">BBH", 0, 17, field["udp_bytes"])
    ports = struct.pack(">HHH", source.port_first, field["port"], field["udp_bytes"])
    sum_ = (checksum(pseudo + ports + b"\0\0" + payload) or 0xFFFF) if field["has_checksum"] else 0
    before = struct.pack(
        ">BBHHHBB", field["version"] << 4 | field["words"], 0, field["total_bytes"], 0, field["fragment"], 64,
        field["protocol"],
    )  # fmt: skip
    header = (
        before + struct.pack(">H", checksum(before + b"\0\0" + addresses + options)) + addresses + options
    )
    ethernet = field["destination_mac"].to_bytes(6, "big") + source.mac.to_bytes(6, "big")
    frame = ethernet + struct.pack(">H", field["kind"]) + header + ports + struct.pack(">H", sum_) + payload
    return frame.ljust(60, b"\0") + pad


def arp(operation: int, source: Local, target_mac: int, target_address: int, destination: int) -> bytes:
    """A frame with an ARP packet."""
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation) + source.mac.to_bytes(6, "big")
    body += (
        source.address.to_bytes(4, "big") + target_mac.to_bytes(6, "big") + target_address.to_bytes(4, "big")
    )
    frame = destination.to_bytes(6, "big") + source.mac.to_bytes(6, "big") + b"\x08\x06" + body
    return frame.ljust(60, b"\0")


CHANGES = {
    "destination_mac": (THEM.mac, 0xFFFF_FFFF_FFFF, 0x0100_5E00_0001),
    "kind": (0x86DD, 0x8100, 0x0806),
    "version": (6, 0),
    "words": (0, 4, 6, 15),
    "total_bytes": (0, 19, 20, 27, 29, 1500, 0xFFFF),
    "fragment": (0x2000, 0x0001, 0x6000, 0x1FFF),
    "protocol": (1, 6),
    "destination": (THEM.address, 0xFFFF_FFFF, 0xE000_0001),
    "port": (9004, 9006, 9007, 0),
    "udp_bytes": (0, 7, 8, 9, 0xFFFF),
    "has_checksum": (0,),
}
"""For each field values that are wrong, or unusual."""


def random_frame(chance: random.Random) -> bytes:
    """A frame of any sort: right, wrong in a field, damaged, cut, or not one at all."""
    payload = chance.randbytes(chance.choice((0, 1, 2, 17, 18, 19, 64, 333, 1400)))
    sort = chance.randrange(8)
    if sort == 0:
        return chance.randbytes(chance.choice((0, 1, 13, 14, 33, 41, 60, 200, 1514)))
    if sort == 1:
        target = chance.choice((US.address, THEM.address))
        frame = arp(chance.choice((1, 2, 3)), THEM, 0, target, chance.choice((US.mac, 0xFFFF_FFFF_FFFF)))
    else:
        changes = {}
        if sort <= 4:
            name = chance.choice(list(CHANGES))
            changes = {name: chance.choice(CHANGES[name])}
        options = bytes(4 * chance.choice((0, 0, 0, 1, 10)))
        frame = datagram(payload, THEM, US, options=options, pad=bytes(chance.choice((0, 0, 3))), **changes)
    if sort == 5:
        flipped = bytearray(frame)
        flipped[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
        return bytes(flipped)
    return frame[: chance.randrange(len(frame))] if sort == 6 else frame
