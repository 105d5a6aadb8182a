"""Who wants to send first has to know the receiver's card: ARP, from the asking side.

A server learns where its clients' cards are from their frames. A client knows its server's address only, so before its
first datagram it asks who has that address, again and again until somebody answers. While it waits it answers others
who ask for ours: the two may be looking for each other.

Rules: for one thread, which both receives and sends; datagrams that come in the meantime are lost, as datagrams may be.
The address is one on the same wire, that of the server or of a router that leads to it.
Source: RFC 826.
"""

import ipaddress
import time
from typing import Any, Final

from exchange.datagrams.frames import REPLY_ADDRESS, REPLY_MAC, ask
from exchange.datagrams.protocol import attend, receive_many
from exchange.errors import UserError
from exchange.ethernet import PAYLOAD_BYTES_MAX, format_mac
from exchange.ethernet.layout import PEER_BYTES
from exchange.native import VECTOR_BYTES, Arena, load_acquire, store_release, write_vector
from exchange.native.datagram_headers import MESSAGE_HEADER_BYTES, socket_address, write_message_header

RESOLVE_SECONDS: Final = 5.0
_ASK_AGAIN_SECONDS: Final = 0.1


def resolve(port: Any, address: int, timeout_s: float, key: str = "address") -> int:
    """The card that has an IPv4 address, as a number.

    Args:
        port: a port of frames (:mod:`exchange.datagrams.frames`); receives and sends here.
        address: as a number.
        timeout_s: how long to ask.
        key: where the address is from, for the error.

    Raises:
        UserError: nobody has answered.
    """
    arena = Arena.private(4096, huge_pages="never")
    header, vector = arena.allocate(MESSAGE_HEADER_BYTES), arena.allocate(VECTOR_BYTES)
    write_vector(vector, arena.allocate(PAYLOAD_BYTES_MAX), PAYLOAD_BYTES_MAX)
    write_message_header(header, 0, vector)
    forget_answer(port)
    ask_again = deadline = 0.0
    while (now := time.monotonic()) < deadline or deadline == 0:
        if now >= ask_again:
            ask(port, address)
            ask_again = now + _ASK_AGAIN_SECONDS
        receive_many(port, header, 1)
        attend(port)
        # The first turn may have had to compile all this, which is nobody's fault.
        deadline = deadline or time.monotonic() + timeout_s
        if (mac := answer_about(port, address)) is not None:
            return mac
    raise UserError(
        f"{key} = {ipaddress.IPv4Address(address)}: nobody on {format_mac(port.local.mac)}'s wire has said within "
        f"{timeout_s:g} s that it is theirs; allowed is an address that somebody has"
    )


def forget_answer(port: Any) -> None:
    """Before asking (:func:`exchange.datagrams.frames.ask`): what was answered before may not be true any more."""
    store_release(port.words + REPLY_ADDRESS, 0)


def answer_about(port: Any, address: int) -> int | None:
    """The card that has an IPv4 address, if that is what was answered last; the port must be received from."""
    if load_acquire(port.words + REPLY_ADDRESS) != address:
        return None
    return load_acquire(port.words + REPLY_MAC)


def find_peer(port: Any, address: str, udp_port: int, key: str, timeout_s: float = RESOLVE_SECONDS) -> bytes:
    """The 16 bytes of somebody on the wire, of whom the address is known and the card is asked for.

    Args:
        port: as of :func:`resolve`.
        address: as text.
        udp_port: the other's.
        key: where the address is from, for the error.
        timeout_s: how long to ask.

    Raises:
        UserError: it is no address, or nobody has it.
    """
    number = number_of(address, key)
    return peer_of(number, udp_port, resolve(port, number, timeout_s, key))


def peer_of(address: int, udp_port: int, mac: int) -> bytes:
    """The :data:`~exchange.ethernet.layout.PEER_BYTES` bytes of a peer: a ``sockaddr_in`` with its card behind it."""
    plain = socket_address(str(ipaddress.IPv4Address(address)), udp_port)
    return plain[: PEER_BYTES - 8] + mac.to_bytes(6, "big") + bytes(2)


def number_of(address: str, key: str) -> int:
    """An IPv4 address as a number.

    Raises:
        UserError: it is none; ``key`` is where it stands.
    """
    try:
        return int(ipaddress.IPv4Address(address))
    except ValueError as error:
        raise UserError(f"{key} = {address!r}: not a numeric IPv4 address") from error
