"""The structures with which many datagrams are handed to the kernel, or taken from it, in one call.

``sendmmsg`` and ``recvmmsg`` want an array of ``struct mmsghdr``, each with the peer's address and with one or more
``struct iovec``, which say where the bytes are. They are written once, when memory is made; afterwards compiled code
changes single words in them: the length of a vector before a datagram is sent, or it reads the length of what came.

Rules: the layouts are those of 64-bit Linux, which :data:`MESSAGE_HEADER_BYTES` and the others are held against.
Sources: sendmmsg(2), recvmmsg(2), readv(2), ip(7).
"""

import socket
import struct
from typing import Final

from exchange.native.arena import view_bytes

_HEADER = struct.Struct("@PI4xPNPNi4xI4x")
"""``struct mmsghdr``: address and its length; vectors and their number; control data and their length; flags; size."""
_ADDRESS = struct.Struct("@H2s4s8x")
"""``struct sockaddr_in``: the family, and port and address in network order."""

MESSAGE_HEADER_BYTES: Final = 64
PEER_ADDRESS: Final = 0
"""Where in a header the address of the peer's address stands."""
VECTORS_ADDRESS: Final = 16
"""Where in a header the address of its vectors stands, and behind it their number."""
VECTOR_COUNT: Final = 24
SIZE_BYTES: Final = 56
"""Where in a header the kernel writes how many bytes came (4 bytes)."""
VECTOR_ADDRESS: Final = 0
"""Where in a vector (:func:`exchange.native.write_vector`) the address of the bytes stands."""
VECTOR_LENGTH: Final = 8
SOCKET_ADDRESS_BYTES: Final = 16

assert _HEADER.size == MESSAGE_HEADER_BYTES
assert _ADDRESS.size == SOCKET_ADDRESS_BYTES


def write_message_header(header: int, peer: int, vectors: int, vector_count: int = 1) -> None:
    """Make the :data:`MESSAGE_HEADER_BYTES` at ``header`` a datagram to or from the address that lies at ``peer``."""
    view_bytes(header, MESSAGE_HEADER_BYTES)[:] = _HEADER.pack(
        peer, SOCKET_ADDRESS_BYTES, vectors, vector_count, 0, 0, 0, 0
    )


def socket_address(address: str, port: int) -> bytes:
    """A numeric IPv4 address and a port as the kernel wants them; OSError if the address is none."""
    return _ADDRESS.pack(socket.AF_INET, port.to_bytes(2, "big"), socket.inet_aton(address))


def address_and_port(packed: bytes) -> tuple[str, int]:
    """What :func:`socket_address` was given."""
    _family, port, address = _ADDRESS.unpack(packed)
    return socket.inet_ntoa(address), int.from_bytes(port, "big")
