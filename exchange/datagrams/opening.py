"""A port opened by its name: what ``exchange reflect`` and ``exchange bench transport`` can be told to use.

=============== ====================================================================================================
transport       the port
=============== ====================================================================================================
``udp``         a socket that is looked at all the time (:mod:`exchange.datagrams.kernel_socket`)
``udp-blocking`` the same, with a thread that sleeps until something comes (:mod:`exchange.datagrams.blocking_socket`)
``afxdp``       an interface, before the kernel's network stack (:mod:`exchange.afxdp`)
``dpdk``        a card, or what stands for one, polled without the kernel (:mod:`exchange.dpdk`)
=============== ====================================================================================================

To add one: a function that opens it from a :class:`PortChoice`, and a line in :data:`TRANSPORTS`.

Rules: what a transport needs is imported when it is opened, so none has to be installed for another one's sake.
"""

import os
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from exchange.datagrams.port import Port
from exchange.errors import UserError


class PortChoice(Struct, frozen=True):
    """Which port, and where it is.

    Attributes:
        transport: a key of :data:`TRANSPORTS`.
        address: our numeric IPv4 address.
        udp_port: our UDP port.
        device: of a card, as DPDK writes it; or the interface of AF_XDP.
        core: the processing unit of the thread that will poll, which the transport's own threads keep off; None if it
            has none for itself.
        link_timeout_s: how long to wait for somebody at the other end of a card's wire; 0 does not.
    """

    transport: str
    address: str
    udp_port: int
    device: str = ""
    core: int | None = None
    link_timeout_s: float = 0.0


def open_port(choice: PortChoice) -> Port:
    """Open a port.

    Raises:
        UserError: there is no such transport, or it cannot be had.
    """
    opened = TRANSPORTS.get(choice.transport)
    if opened is None:
        raise UserError(f"--transport {choice.transport}: allowed are {', '.join(TRANSPORTS)}")
    return opened(choice)


def _open_socket(choice: PortChoice) -> Port:
    from exchange.datagrams.kernel_socket import SocketPort
    from exchange.gateway.logon import bind_listener

    return SocketPort(bind_listener(choice.address, choice.udp_port, is_udp=True))


def _open_blocking_socket(choice: PortChoice) -> Port:
    from exchange.datagrams.blocking_socket import BlockingSocketPort
    from exchange.gateway.logon import bind_listener

    return BlockingSocketPort(bind_listener(choice.address, choice.udp_port, is_udp=True))


def _open_card(choice: PortChoice) -> Port:
    from exchange.dpdk.eal import EalConfig
    from exchange.dpdk.opened import OpenedCard

    others = os.sched_getaffinity(0) - {choice.core}
    config = EalConfig((choice.device,), control_cores=tuple(sorted(others)), log_level="error")
    return OpenedCard(
        config,
        choice.address,
        choice.udp_port,
        link_timeout_s=choice.link_timeout_s,
        table="--transport dpdk",
    )


def _open_interface(choice: PortChoice) -> Port:
    from exchange.afxdp.card import AfxdpCard

    return AfxdpCard(choice.device, 0, choice.address, choice.udp_port, table="--transport afxdp")


TRANSPORTS: Final[Mapping[str, Callable[[PortChoice], Port]]] = {
    "udp": _open_socket,
    "udp-blocking": _open_blocking_socket,
    "afxdp": _open_interface,
    "dpdk": _open_card,
}
"""By name, what opens each."""
