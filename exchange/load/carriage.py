"""What carries a load: how a session is logged on, and the line that the compiled loop has.

Sockets need nothing before the first session (:data:`CARRIAGES`). A card is opened first, the exchange's card is asked
for by ARP, and all sessions share it (:func:`card_carriage`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final, Literal, NamedTuple

from exchange.line import Carrier
from exchange.load.logins import Endpoint, Login
from exchange.load.protocol import LineMemory
from exchange.load.resuming import Link
from exchange.load.sessions import Session
from exchange.load.tcp_line import TcpLineMemory
from exchange.load.tcp_session import TcpSession
from exchange.load.udp_carriers import PortCarrier, Sorting
from exchange.load.udp_line import UdpLineMemory
from exchange.load.udp_session import UdpSession

LoadCarrier = Carrier | Literal["dpdk"]
"""What can carry a load: a client's carriers, and a card that all sessions share."""


class Carriage(NamedTuple):
    """Who is asked for a session, and who for the line of a run: a function of the address of the load's words.

    ``link`` is that of a card, which may go down and come back; None where a broken line is the end of a session.
    """

    log_on: Callable[[Endpoint, Login], Session]
    make_line: Callable[[int], LineMemory]
    link: Link | None = None


CARRIAGES: Final[Mapping[str, Carriage]] = {
    "tcp": Carriage(TcpSession, TcpLineMemory),
    "udp": Carriage(UdpSession, UdpLineMemory),
}


@contextmanager
def card_carriage(device: str, address: str, endpoint: Endpoint) -> Iterator[Carriage]:
    """A card as the carriage of all sessions, until the block ends.

    Args:
        device: a device as DPDK writes it.
        address: our IPv4 address on the wire.
        endpoint: the exchange's.

    Raises:
        UserError: DPDK is not installed, the device cannot be had, or nobody has the endpoint's address.
    """
    from exchange.card_line import open_card

    card = open_card(device, address)
    try:
        peer = card.find_peer(*endpoint)
        sorting = Sorting(card)
        yield Carriage(
            lambda whom, login: UdpSession(whom, login, PortCarrier(sorting, peer)),
            partial(UdpLineMemory, port=card),
            Link(card, endpoint),
        )
    finally:
        card.close()
