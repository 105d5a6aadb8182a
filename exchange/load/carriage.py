"""What carries a load: how a session is logged on, and the line that the compiled loop has.

Sockets need nothing before the first session (:data:`CARRIAGES`). A card is opened first, all sessions share it, and
the first of them asks by ARP for the exchange's card (:func:`card_carriage`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, Literal, NamedTuple

from exchange.card_line import open_card
from exchange.errors import UserError
from exchange.line import Carrier
from exchange.load.logins import Endpoint, Login
from exchange.load.protocol import LineMemory
from exchange.load.resuming import Link
from exchange.load.sessions import NotReached, Session
from exchange.load.tcp_line import TcpLineMemory
from exchange.load.tcp_session import TcpSession
from exchange.load.udp_carriers import PortCarrier, Sorting
from exchange.load.udp_line import UdpLineMemory
from exchange.load.udp_session import UdpSession

LoadCarrier = Carrier | Literal["afxdp", "dpdk"]
"""What can carry a load: a client's carriers, and a card that all sessions share."""


class Carriage(NamedTuple):
    """Who is asked for a session, in how many seconds it has to be reached, and in how many to answer; and who for the
    line of a run: a function of the address of the load's words.

    ``link`` is that of a card, which all sessions share and which may go down and come back; None if each has a socket.
    """

    log_on: Callable[[Endpoint, Login, float, float], Session]
    make_line: Callable[[int], LineMemory]
    link: Link | None = None


CARRIAGES: Final[Mapping[str, Carriage]] = {
    "tcp": Carriage(TcpSession, TcpLineMemory),
    "udp": Carriage(UdpSession, UdpLineMemory),
}


@contextmanager
def card_carriage(
    transport: str,
    device: str,
    address: str,
    endpoints: Sequence[Endpoint],
    *,
    huge_pages: bool = False,
    patience_s: float = 0.0,
) -> Iterator[Carriage]:
    """A card as the carriage of all sessions, until the block ends.

    Args:
        transport: ``dpdk`` or ``afxdp``.
        device: a device as DPDK writes it, or the kernel's name of an interface.
        address: our IPv4 address on the wire.
        endpoints: where the exchange may be. Its card is asked for when the first session logs on there.
        huge_pages: take the memory for packets from huge pages.
        patience_s: wait at least so long for the link and for the exchange's card.

    Raises:
        UserError: a library is not installed, or the device cannot be had.
    """
    card = open_card(transport, device, address, huge_pages=huge_pages, patience_s=patience_s)
    try:
        sorting, peers = Sorting(card), dict[Endpoint, bytes]()

        def log_on(endpoint: Endpoint, login: Login, seconds: float, logon_seconds: float) -> Session:
            if endpoint not in peers:
                try:
                    peers[endpoint] = card.find_peer(*endpoint, timeout_s=seconds)
                except UserError as error:
                    raise NotReached(str(error)) from error
            return UdpSession(endpoint, login, seconds, logon_seconds, PortCarrier(sorting, peers[endpoint]))

        yield Carriage(log_on, partial(UdpLineMemory, port=card), Link(card, endpoints))
    finally:
        card.close()
