"""The bytes of a frame, and what can be wrong with them.

::

    +0    to whom (6), from whom (6), type (2)                   Ethernet II
    +14   version and length of this header, total length,       IPv4, 20 bytes and up to 40 of options
          identification, flags and fragment offset,
          time to live, protocol, checksum, source, destination
    +34   source port, destination port, length, checksum        UDP (without options)
    +42   payload                                                up to 1472 bytes
          zeros up to 60 bytes in all

Sources: RFC 894 (IP over Ethernet), RFC 826 (ARP), RFC 791 (IPv4), RFC 768 (UDP), RFC 1071 (the checksum of both).
"""

from enum import IntEnum
from typing import Final, NamedTuple

# Ethernet
DESTINATION: Final = 0
SOURCE: Final = 6
ETHER_TYPE: Final = 12
ETHERNET_BYTES: Final = 14
TYPE_IPV4: Final = 0x0800
TYPE_ARP: Final = 0x0806
BROADCAST: Final = 0xFFFF_FFFF_FFFF
FRAME_BYTES_MIN: Final = 60
"""Without the checksum of the frame, which is the card's."""
FRAME_BYTES_MAX: Final = 1514

# ARP, from the end of the Ethernet header on
ARP_KINDS: Final = 0
"""Kind of hardware and of protocol and their lengths: eight bytes that are always the same."""
ARP_ETHERNET_IPV4: Final = 0x0001_0800_0604
"""The first six of them."""
ARP_OPERATION: Final = 6
ARP_SENDER_MAC: Final = 8
ARP_SENDER_ADDRESS: Final = 14
ARP_TARGET_MAC: Final = 18
ARP_TARGET_ADDRESS: Final = 24
ARP_BYTES: Final = 28
ARP_REQUEST: Final = 1
ARP_REPLY: Final = 2

# IPv4, from the end of the Ethernet header on
IPV4_VERSION_AND_LENGTH: Final = 0
IPV4_TOTAL_LENGTH: Final = 2
IPV4_FRAGMENT: Final = 6
IPV4_TIME_TO_LIVE: Final = 8
IPV4_PROTOCOL: Final = 9
IPV4_CHECKSUM: Final = 10
IPV4_SOURCE: Final = 12
IPV4_DESTINATION: Final = 16
IPV4_BYTES: Final = 20
IS_FRAGMENT: Final = 0x3FFF
"""More fragments follow, or this one is not the first; the bit above them says "do not fragment"."""
DO_NOT_FRAGMENT: Final = 0x4000
PROTOCOL_UDP: Final = 17

# UDP, from the end of the IPv4 header on
UDP_SOURCE_PORT: Final = 0
UDP_DESTINATION_PORT: Final = 2
UDP_LENGTH: Final = 4
UDP_CHECKSUM: Final = 6
UDP_BYTES: Final = 8

HEADERS_BYTES: Final = ETHERNET_BYTES + IPV4_BYTES + UDP_BYTES
PAYLOAD_BYTES_MAX: Final = FRAME_BYTES_MAX - HEADERS_BYTES

# a peer: the kernel's struct sockaddr_in, ip(7), and in the eight bytes that are unused there, where its card is
PEER_FAMILY: Final = 0
PEER_PORT: Final = 2
PEER_ADDRESS: Final = 4
PEER_MAC: Final = 8
PEER_BYTES: Final = 16
AF_INET: Final = 2


class FrameKind(IntEnum):
    """What a frame is. From :attr:`SHORT` on it is dropped, and this is why."""

    DATAGRAM = 0
    ARP_REQUEST = 1
    """Somebody asks which card has our address."""
    ARP_REPLY = 2
    """Somebody says which card has theirs."""
    SHORT = 3
    """It ends within a header."""
    OTHER_CARD = 4
    OTHER_TYPE = 5
    """Neither IPv4 nor ARP."""
    BAD_ARP = 6
    """Not about Ethernet and IPv4, or an operation that there is not."""
    BAD_IPV4 = 7
    """Another version, or a length that cannot be."""
    BAD_IPV4_CHECKSUM = 8
    OTHER_ADDRESS = 9
    FRAGMENT = 10
    """A part of a datagram. Nobody who speaks our protocols sends any: they would be larger than a frame."""
    OTHER_PROTOCOL = 11
    """IPv4, and not UDP."""
    BAD_UDP = 12
    """A length that cannot be."""
    BAD_UDP_CHECKSUM = 13
    OTHER_PORT = 14


class Local(NamedTuple):
    """Who we are: our card, our address, and the ``port_count`` ports from ``port_first`` on."""

    mac: int
    address: int
    port_first: int
    port_count: int


def parse_mac(text: str) -> int:
    """``"02:00:00:00:00:01"`` as a number.

    Raises:
        ValueError: it is no such address.
    """
    parts = text.split(":")
    if len(parts) != 6 or any(len(part) != 2 for part in parts):
        raise ValueError(f"{text!r} is not six pairs of hexadecimal digits with colons between them")
    return int.from_bytes(bytes.fromhex("".join(parts)), "big")


def format_mac(mac: int) -> str:
    """What :func:`parse_mac` was given."""
    return mac.to_bytes(6, "big").hex(":")
