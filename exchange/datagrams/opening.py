"""A port opened from what is said of it: the one place for an exchange, its clients, a load and a reflector.

What there is to say of a port stands in a transport's table of a profile (:mod:`exchange.transport.config`). Who has
the options of a command instead makes such a table of them, by the name of the transport (:func:`choose`):

=============== ====================================================================================================
transport       the port
=============== ====================================================================================================
``udp``         a socket that is looked at all the time (:mod:`exchange.datagrams.kernel_socket`)
``udp-blocking`` the same, with a thread that sleeps until something comes (:mod:`exchange.datagrams.blocking_socket`)
``afxdp``       an interface, before the kernel's network stack (:mod:`exchange.afxdp`)
``dpdk``        a card, or what stands for one, polled without the kernel (:mod:`exchange.dpdk`)
=============== ====================================================================================================

To add one: its table, a branch in :func:`open_port` or :func:`open_card`, and a line in :data:`TRANSPORTS`.

Rules: what a transport needs is imported when it is opened, so none has to be installed for another one's sake.
"""

import os
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from exchange.datagrams.port import Card, Port
from exchange.errors import UserError
from exchange.transport.config import (
    AfxdpTransportConfig,
    DatagramTransportConfig,
    DpdkTransportConfig,
    UdpTransportConfig,
)

_BLOCKING: Final = "udp-blocking"


class PortChoice(Struct, frozen=True):
    """Which port, and for whom.

    Attributes:
        config: the transport's table.
        table: what that is called in errors.
        core: the processing unit of the thread that will poll, which the transport's own threads keep off; None if it
            has none for itself.
        link_timeout_s: how long to wait for somebody at the other end of a card's wire; 0 does not.
        sleeps: whether a thread that receives from a socket sleeps until something comes.
    """

    config: DatagramTransportConfig
    table: str = "transport"
    core: int | None = None
    link_timeout_s: float = 0.0
    sleeps: bool = False


def choose(
    transport: str,
    address: str,
    udp_port: int,
    device: str = "",
    *,
    huge_pages: bool = False,
    core: int | None = None,
    link_timeout_s: float = 0.0,
) -> PortChoice:
    """The choice of somebody who has a command's options; its errors name the option.

    Args:
        transport: a key of :data:`TRANSPORTS`.
        address: our numeric IPv4 address.
        udp_port: our UDP port.
        device: of a card, as DPDK writes it; or the interface of AF_XDP.
        huge_pages: a card's memory for packets is from huge pages.
        core: as of :class:`PortChoice`.
        link_timeout_s: as of :class:`PortChoice`.

    Raises:
        UserError: there is no such transport.
    """
    made = TRANSPORTS.get(transport)
    if made is None:
        raise UserError(f"--transport {transport}: allowed are {', '.join(TRANSPORTS)}")
    config = made(address, udp_port, device)
    if isinstance(config, DpdkTransportConfig):
        config = replace(config, huge_pages=huge_pages)
    return PortChoice(config, f"--transport {transport}", core, link_timeout_s, transport == _BLOCKING)


def open_port(choice: PortChoice) -> Port:
    """Open a port.

    Raises:
        UserError: it cannot be had.
    """
    config = choice.config
    if not isinstance(config, UdpTransportConfig):
        return open_card(choice)
    from exchange.datagrams.blocking_socket import BlockingSocketPort
    from exchange.datagrams.kernel_socket import SocketPort
    from exchange.gateway.logon import bind_listener

    made = BlockingSocketPort if choice.sleeps else SocketPort
    return made(bind_listener(config.address, config.port, is_udp=True))


def open_card(choice: PortChoice) -> Card:
    """Open a port that is a card or an interface.

    Raises:
        UserError: a library is not installed, the device cannot be had, or nobody is at its other end.
    """
    config = choice.config
    if isinstance(config, AfxdpTransportConfig):
        from exchange.afxdp.card import AfxdpCard

        return AfxdpCard(
            config.interface, config.queue, config.card_address, config.port, mode=config.mode, force=config.force,
            table=choice.table,
        )  # fmt: skip
    assert isinstance(config, DpdkTransportConfig)
    from exchange.dpdk.eal import EalConfig
    from exchange.dpdk.opened import OpenedCard

    eal = EalConfig(
        devices=(config.device,), memory_mib=config.memory_mib, huge_pages=config.huge_pages,
        log_level=config.log_level, control_cores=_all_but(choice.core), force=config.force,
    )  # fmt: skip
    return OpenedCard(
        eal, config.card_address, config.port, queues=config.ingress_lanes,
        link_timeout_s=choice.link_timeout_s, table=choice.table,
    )  # fmt: skip


def _all_but(core: int | None) -> tuple[int, ...]:
    """The processing units that we may run on, but for one."""
    return tuple(sorted(os.sched_getaffinity(0) - {core}))


def _socket(address: str, udp_port: int, device: str) -> DatagramTransportConfig:
    return UdpTransportConfig(address=address, port=udp_port)


def _interface(address: str, udp_port: int, device: str) -> DatagramTransportConfig:
    return AfxdpTransportConfig(card_address=address, port=udp_port, interface=device)


def _card(address: str, udp_port: int, device: str) -> DatagramTransportConfig:
    return DpdkTransportConfig(card_address=address, port=udp_port, device=device)


TRANSPORTS: Final[Mapping[str, Callable[[str, int, str], DatagramTransportConfig]]] = {
    "udp": _socket,
    _BLOCKING: _socket,
    "afxdp": _interface,
    "dpdk": _card,
}
"""By name, what makes the table of each, of our address, our UDP port and the device."""
