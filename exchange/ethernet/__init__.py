"""Ethernet, ARP, IPv4 and UDP without a kernel: what a transport must do by itself that takes frames from a card.

A socket hides all this. Whoever goes around the kernel, by DPDK or by AF_XDP, gets *frames* and has to find out for
each whether it is a datagram for us, whole and undamaged; has to answer when somebody asks by ARP which card has our
address; and has to put headers in front of what it sends.

* :mod:`~exchange.ethernet.layout`: the bytes, and what can be wrong with them;
* :mod:`~exchange.ethernet.parsing`: a frame in, a datagram or the reason to drop it out;
* :mod:`~exchange.ethernet.building`: a datagram or an ARP packet in, a frame out.

Rules: addresses are plain numbers, as they would be read aloud (``192.0.2.1`` is ``0xC0000201``). Nothing here waits,
allocates or keeps anything; what a frame says is never believed further than the frame is long.
"""

from exchange.ethernet.building import (
    frame_bytes_of,
    write_arp_reply,
    write_arp_request,
    write_datagram_headers,
)
from exchange.ethernet.layout import (
    HEADERS_BYTES,
    PAYLOAD_BYTES_MAX,
    FrameKind,
    Local,
    format_mac,
    parse_mac,
)
from exchange.ethernet.parsing import note_peer, parse_frame

__all__ = [
    "HEADERS_BYTES",
    "PAYLOAD_BYTES_MAX",
    "FrameKind",
    "Local",
    "format_mac",
    "frame_bytes_of",
    "note_peer",
    "parse_frame",
    "parse_mac",
    "write_arp_reply",
    "write_arp_request",
    "write_datagram_headers",
]
