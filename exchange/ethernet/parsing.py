"""A frame in, a datagram or the reason to drop it out.

The order of the checks is that of the headers, and the first thing that is wrong is what is reported. All that is read
lies within ``size_bytes`` from ``frame`` on; lengths that a frame states are held against that before they are used.

Rules: a frame may hold any bytes. Options of IPv4 are skipped. A UDP checksum of 0 means that there is none. Frames for
all cards (broadcast) are taken only if they are ARP.
"""

from typing import Final

from exchange.ethernet.checksum import fold, sum_of
from exchange.ethernet.layout import (
    AF_INET,
    ARP_BYTES,
    ARP_ETHERNET_IPV4,
    ARP_KINDS,
    ARP_OPERATION,
    ARP_REPLY,
    ARP_REQUEST,
    ARP_TARGET_ADDRESS,
    BROADCAST,
    DESTINATION,
    ETHER_TYPE,
    ETHERNET_BYTES,
    IPV4_BYTES,
    IPV4_DESTINATION,
    IPV4_FRAGMENT,
    IPV4_PROTOCOL,
    IPV4_SOURCE,
    IPV4_TOTAL_LENGTH,
    IPV4_VERSION_AND_LENGTH,
    IS_FRAGMENT,
    PEER_ADDRESS,
    PEER_FAMILY,
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
    FrameKind,
    Local,
)
from exchange.native import (
    inlined,
    load_big_endian_uint16,
    load_big_endian_uint32,
    load_big_endian_uint48,
    load_uint8,
    store_big_endian_uint16,
    store_big_endian_uint32,
    store_big_endian_uint48,
    store_uint16,
    unlikely,
)

(
    _DATAGRAM, _ARP_REQUEST, _ARP_REPLY, _SHORT, _OTHER_CARD, _OTHER_TYPE, _BAD_ARP, _BAD_IPV4, _BAD_IPV4_CHECKSUM,
    _OTHER_ADDRESS, _FRAGMENT, _OTHER_PROTOCOL, _BAD_UDP, _BAD_UDP_CHECKSUM, _OTHER_PORT,
) = map(int, FrameKind)  # fmt: skip

_ALL_ONES: Final = 0xFFFF


@inlined
def parse_frame(frame: int, size_bytes: int, local: Local) -> tuple[int, int, int]:
    """What the ``size_bytes`` bytes at ``frame`` are to us.

    Returns:
        A :class:`~exchange.ethernet.layout.FrameKind`, and for a datagram the address of its payload and how many
        bytes that has.
    """
    if unlikely(size_bytes < ETHERNET_BYTES):
        return _SHORT, 0, 0
    destination, ether_type = (
        load_big_endian_uint48(frame + DESTINATION),
        load_big_endian_uint16(frame + ETHER_TYPE),
    )
    if unlikely(ether_type != TYPE_IPV4):
        if destination != local.mac and destination != BROADCAST:
            return _OTHER_CARD, 0, 0
        kind = _arp_kind(frame, size_bytes, local) if ether_type == TYPE_ARP else _OTHER_TYPE
        return kind, 0, 0
    if unlikely(destination != local.mac):
        return _OTHER_CARD, 0, 0
    return _parse_ipv4(frame + ETHERNET_BYTES, size_bytes - ETHERNET_BYTES, local)


@inlined
def _arp_kind(frame: int, size_bytes: int, local: Local) -> int:
    if size_bytes < ETHERNET_BYTES + ARP_BYTES:
        return _SHORT
    arp = frame + ETHERNET_BYTES
    operation = load_big_endian_uint16(arp + ARP_OPERATION)
    is_known = operation in (ARP_REQUEST, ARP_REPLY)
    if load_big_endian_uint48(arp + ARP_KINDS) != ARP_ETHERNET_IPV4 or not is_known:
        return _BAD_ARP
    if load_big_endian_uint32(arp + ARP_TARGET_ADDRESS) != local.address:
        return _OTHER_ADDRESS
    return _ARP_REQUEST if operation == ARP_REQUEST else _ARP_REPLY


@inlined
def _parse_ipv4(ipv4: int, room_bytes: int, local: Local) -> tuple[int, int, int]:
    if unlikely(room_bytes < IPV4_BYTES):
        return _SHORT, 0, 0
    version_and_length = load_uint8(ipv4 + IPV4_VERSION_AND_LENGTH)
    header_bytes, total_bytes = (
        (version_and_length & 15) << 2,
        load_big_endian_uint16(ipv4 + IPV4_TOTAL_LENGTH),
    )
    # What is behind the total length pads the frame.
    if unlikely(
        version_and_length >> 4 != 4
        or header_bytes < IPV4_BYTES
        or not header_bytes <= total_bytes <= room_bytes
    ):
        return _BAD_IPV4, 0, 0
    if unlikely(fold(sum_of(ipv4, header_bytes)) != _ALL_ONES):
        return _BAD_IPV4_CHECKSUM, 0, 0
    if unlikely(load_big_endian_uint32(ipv4 + IPV4_DESTINATION) != local.address):
        return _OTHER_ADDRESS, 0, 0
    if unlikely(load_big_endian_uint16(ipv4 + IPV4_FRAGMENT) & IS_FRAGMENT != 0):
        return _FRAGMENT, 0, 0
    if unlikely(load_uint8(ipv4 + IPV4_PROTOCOL) != PROTOCOL_UDP):
        return _OTHER_PROTOCOL, 0, 0
    return _parse_udp(ipv4, header_bytes, total_bytes - header_bytes, local)


@inlined
def _parse_udp(ipv4: int, header_bytes: int, room_bytes: int, local: Local) -> tuple[int, int, int]:
    udp = ipv4 + header_bytes
    if unlikely(room_bytes < UDP_BYTES):
        return _SHORT, 0, 0
    udp_bytes = load_big_endian_uint16(udp + UDP_LENGTH)
    if unlikely(not UDP_BYTES <= udp_bytes <= room_bytes):
        return _BAD_UDP, 0, 0
    port = load_big_endian_uint16(udp + UDP_DESTINATION_PORT) - local.port_first
    if unlikely(not 0 <= port < local.port_count):
        return _OTHER_PORT, 0, 0
    if load_big_endian_uint16(udp + UDP_CHECKSUM) != 0:
        total = pseudo_header_sum(ipv4, udp_bytes) + sum_of(udp, udp_bytes)
        if unlikely(fold(total) != _ALL_ONES):
            return _BAD_UDP_CHECKSUM, 0, 0
    return _DATAGRAM, udp + UDP_BYTES, udp_bytes - UDP_BYTES


@inlined
def pseudo_header_sum(ipv4: int, udp_bytes: int) -> int:
    """What a UDP checksum takes from the IPv4 header: both addresses, the protocol and the length (RFC 768)."""
    return sum_of(ipv4 + IPV4_SOURCE, 8) + PROTOCOL_UDP + udp_bytes


@inlined
def note_peer(frame: int, payload: int, peer: int) -> None:
    """Write who sent a datagram to the 16 bytes at ``peer``: family, port, address as in ``sockaddr_in``, and its card.

    ``frame`` and ``payload`` are a datagram's as :func:`parse_frame` has found them.
    """
    store_uint16(peer + PEER_FAMILY, AF_INET)
    store_big_endian_uint16(peer + PEER_PORT, load_big_endian_uint16(payload - UDP_BYTES + UDP_SOURCE_PORT))
    store_big_endian_uint32(peer + PEER_ADDRESS, load_big_endian_uint32(frame + ETHERNET_BYTES + IPV4_SOURCE))
    store_big_endian_uint48(peer + PEER_MAC, load_big_endian_uint48(frame + SOURCE))
    store_uint16(peer + PEER_MAC + 6, 0)
