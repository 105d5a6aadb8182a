"""What carries a load: how a session is logged on, and the line that the compiled loop has.

Sockets need nothing before the first session (:data:`CARRIAGES`). A card is opened first, the exchange's card is asked
for by ARP, and all sessions share it (:func:`card_carriage`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.load.logins import Endpoint, Login
from exchange.load.protocol import LineMemory
from exchange.load.sessions import Session
from exchange.load.tcp_line import TcpLineMemory
from exchange.load.tcp_session import TcpSession
from exchange.load.udp_carriers import PortCarrier, Sorting
from exchange.load.udp_line import UdpLineMemory
from exchange.load.udp_session import UdpSession

if TYPE_CHECKING:
    from exchange.afxdp.card import AfxdpCard
    from exchange.dpdk.opened import OpenedCard

CLIENT_PORT: Final = 40_000
"""The UDP port of all sessions that share a card: their numbers and tokens tell them apart."""
CARDS: Final = ("afxdp", "dpdk")
"""The transports whose sessions share a card."""
LINK_SECONDS: Final = 10.0
DPDK_DEVICE: Final = "net_memif0,role=client,socket=exchange"
"""The other end of what an exchange on DPDK serves if nothing else is said."""


class Carriage(NamedTuple):
    """Who is asked for a session, and who for the line of a run: a function of the address of the load's words."""

    log_on: Callable[[Endpoint, Login], Session]
    make_line: Callable[[int], LineMemory]


CARRIAGES: Final[Mapping[str, Carriage]] = {
    "tcp": Carriage(TcpSession, TcpLineMemory),
    "udp": Carriage(UdpSession, UdpLineMemory),
}


@contextmanager
def card_carriage(transport: str, device: str, address: str, endpoint: Endpoint) -> Iterator[Carriage]:
    """A card as the carriage of all sessions, until the block ends.

    Args:
        transport: ``dpdk`` or ``afxdp``.
        device: a device as DPDK writes it, or the kernel's name of an interface.
        address: our IPv4 address on the wire.
        endpoint: the exchange's.

    Raises:
        UserError: a library is not installed, the device cannot be had, or nobody has the endpoint's address.
    """
    card = _open_card(transport, device, address)
    try:
        peer = card.find_peer(*endpoint)
        sorting = Sorting(card)
        yield Carriage(
            lambda whom, login: UdpSession(whom, login, PortCarrier(sorting, peer)),
            partial(UdpLineMemory, port=card),
        )
    finally:
        card.close()


def _open_card(transport: str, device: str, address: str) -> "AfxdpCard | OpenedCard":
    table = f"--transport {transport}"
    if transport == "afxdp":
        from exchange.afxdp.card import AfxdpCard

        return AfxdpCard(device, 0, address, CLIENT_PORT, table=table)
    from exchange.dpdk.eal import EalConfig
    from exchange.dpdk.opened import OpenedCard

    eal = EalConfig((device,))
    return OpenedCard(eal, address, CLIENT_PORT, link_timeout_s=LINK_SECONDS, table=table)
