"""A datagram or an ARP packet in, a frame out.

A payload is put into a frame first, at :data:`~exchange.ethernet.layout.HEADERS_BYTES`; then its headers are written
in front of it, which takes the checksum. A frame has at least 60 bytes: what is missing is zeros.

Rules: a frame has room for :data:`~exchange.ethernet.layout.FRAME_BYTES_MAX` bytes. A peer is 16 bytes as
:func:`~exchange.ethernet.parsing.note_peer` writes them.
"""

from exchange.ethernet.checksum import checksum_of, sum_of
from exchange.ethernet.layout import (
    ARP_BYTES,
    ARP_ETHERNET_IPV4,
    ARP_KINDS,
    ARP_OPERATION,
    ARP_REPLY,
    ARP_REQUEST,
    ARP_SENDER_ADDRESS,
    ARP_SENDER_MAC,
    ARP_TARGET_ADDRESS,
    ARP_TARGET_MAC,
    BROADCAST,
    DESTINATION,
    DO_NOT_FRAGMENT,
    ETHER_TYPE,
    ETHERNET_BYTES,
    FRAME_BYTES_MIN,
    HEADERS_BYTES,
    IPV4_BYTES,
    IPV4_CHECKSUM,
    IPV4_DESTINATION,
    IPV4_SOURCE,
    IPV4_TIME_TO_LIVE,
    IPV4_TOTAL_LENGTH,
    IPV4_VERSION_AND_LENGTH,
    PEER_ADDRESS,
    PEER_MAC,
    PEER_PORT,
    PROTOCOL_UDP,
    SOURCE,
    TYPE_ARP,
    TYPE_IPV4,
    UDP_BYTES,
    UDP_CHECKSUM,
    UDP_DESTINATION_PORT,
    UDP_LENGTH,
    UDP_SOURCE_PORT,
    Local,
)
from exchange.native import (
    inlined,
    load_big_endian_uint16,
    load_big_endian_uint32,
    load_big_endian_uint48,
    store_big_endian_uint16,
    store_big_endian_uint32,
    store_big_endian_uint48,
    store_uint8,
)

_VERSION_4_WITHOUT_OPTIONS = 0x4500
_TIME_TO_LIVE_AND_PROTOCOL = 64 << 8 | PROTOCOL_UDP
_SAME_IN_ALL_HEADERS = _VERSION_4_WITHOUT_OPTIONS + DO_NOT_FRAGMENT + _TIME_TO_LIVE_AND_PROTOCOL


@inlined
def frame_bytes_of(payload_bytes: int) -> int:
    """How long the frame of a datagram is."""
    return max(HEADERS_BYTES + payload_bytes, FRAME_BYTES_MIN)


@inlined
def write_datagram_headers(frame: int, local: Local, local_port: int, peer: int, payload_bytes: int) -> int:
    """Write the headers in front of a payload that lies in a frame already, and zeros behind it up to 60 bytes.

    Returns:
        The length of the frame.
    """
    ipv4, udp = frame + ETHERNET_BYTES, frame + ETHERNET_BYTES + IPV4_BYTES
    udp_bytes = UDP_BYTES + payload_bytes
    address, port = load_big_endian_uint32(peer + PEER_ADDRESS), load_big_endian_uint16(peer + PEER_PORT)
    _write_ethernet(frame, load_big_endian_uint48(peer + PEER_MAC), local.mac, TYPE_IPV4)
    # The checksums are taken from the numbers: reading back what was just written in other widths would wait for it.
    store_big_endian_uint16(ipv4 + IPV4_VERSION_AND_LENGTH, _VERSION_4_WITHOUT_OPTIONS)
    store_big_endian_uint16(ipv4 + IPV4_TOTAL_LENGTH, IPV4_BYTES + udp_bytes)
    # No identification: it tells fragments apart, and there are none (RFC 6864).
    store_big_endian_uint32(ipv4 + IPV4_TOTAL_LENGTH + 2, DO_NOT_FRAGMENT)
    store_big_endian_uint16(ipv4 + IPV4_TIME_TO_LIVE, _TIME_TO_LIVE_AND_PROTOCOL)
    store_big_endian_uint32(ipv4 + IPV4_SOURCE, local.address)
    store_big_endian_uint32(ipv4 + IPV4_DESTINATION, address)
    addresses = local.address + address
    store_big_endian_uint16(
        ipv4 + IPV4_CHECKSUM, checksum_of(_SAME_IN_ALL_HEADERS + IPV4_BYTES + udp_bytes + addresses)
    )
    store_big_endian_uint16(udp + UDP_SOURCE_PORT, local_port)
    store_big_endian_uint16(udp + UDP_DESTINATION_PORT, port)
    store_big_endian_uint16(udp + UDP_LENGTH, udp_bytes)
    pseudo_header = addresses + PROTOCOL_UDP + udp_bytes
    checksum = checksum_of(
        pseudo_header + local_port + port + udp_bytes + sum_of(frame + HEADERS_BYTES, payload_bytes)
    )
    # 0 would say that there is none; its complement is the same number.
    store_big_endian_uint16(udp + UDP_CHECKSUM, checksum if checksum != 0 else 0xFFFF)
    return _pad(frame, HEADERS_BYTES + payload_bytes)


@inlined
def write_arp_reply(frame: int, request: int, local: Local) -> int:
    """Answer the ARP request in the frame ``request``, which asks for our address; returns the frame's length.

    ``frame`` may be the same as ``request``.
    """
    asker = request + ETHERNET_BYTES
    mac, address = (
        load_big_endian_uint48(asker + ARP_SENDER_MAC),
        load_big_endian_uint32(asker + ARP_SENDER_ADDRESS),
    )
    _write_ethernet(frame, mac, local.mac, TYPE_ARP)
    return _write_arp(frame, ARP_REPLY, local, mac, address)


@inlined
def write_arp_request(frame: int, local: Local, address: int) -> int:
    """Ask which card has ``address``; returns the frame's length."""
    _write_ethernet(frame, BROADCAST, local.mac, TYPE_ARP)
    return _write_arp(frame, ARP_REQUEST, local, 0, address)


@inlined
def _write_ethernet(frame: int, destination: int, source: int, ether_type: int) -> None:
    store_big_endian_uint48(frame + DESTINATION, destination)
    store_big_endian_uint48(frame + SOURCE, source)
    store_big_endian_uint16(frame + ETHER_TYPE, ether_type)


@inlined
def _write_arp(frame: int, operation: int, local: Local, target_mac: int, target_address: int) -> int:
    arp = frame + ETHERNET_BYTES
    store_big_endian_uint48(arp + ARP_KINDS, ARP_ETHERNET_IPV4)
    store_big_endian_uint16(arp + ARP_OPERATION, operation)
    store_big_endian_uint48(arp + ARP_SENDER_MAC, local.mac)
    store_big_endian_uint32(arp + ARP_SENDER_ADDRESS, local.address)
    store_big_endian_uint48(arp + ARP_TARGET_MAC, target_mac)
    store_big_endian_uint32(arp + ARP_TARGET_ADDRESS, target_address)
    return _pad(frame, ETHERNET_BYTES + ARP_BYTES)


@inlined
def _pad(frame: int, size_bytes: int) -> int:
    for offset in range(size_bytes, FRAME_BYTES_MIN):
        store_uint8(frame + offset, 0)
    return max(size_bytes, FRAME_BYTES_MIN)
