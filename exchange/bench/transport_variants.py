"""The transports that ``exchange bench transport`` measures, in the order of the ladder, and what each needs.

================= ==================================================================================================
variant           between two processes there is
================= ==================================================================================================
udp-blocking      the kernel's loopback; each end sleeps in the kernel until there is something, as a textbook does it
udp               the same, and each end looks all the time
udp-veth          the kernel twice: a socket in each of two network namespaces, and a cable between them
afxdp             the same cable; rings of our own, which the kernel's driver fills before its network stack
dpdk-af_packet    the same cable; DPDK takes frames by a packet socket
dpdk-af_xdp       the same cable; DPDK takes them by AF_XDP
dpdk-vhost        memory: DPDK as a machine and as its guest
dpdk-memif        memory: a ring in each direction
================= ==================================================================================================

To add one: a line in :data:`VARIANTS`, and what it needs, if that is new, in :data:`NEEDS`.

Rules: a text of a variant may have ``{folder}``, a folder of its own, and ``{name}``, which no other process has.
"""

import socket
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from exchange.bench.cable import LEFT, RIGHT, why_no_cable
from exchange.dpdk.building import PACKAGES, is_installed

LOOPBACK: Final = ("127.0.0.1", "127.0.0.1")
ON_WIRE: Final = ("192.0.2.1", "192.0.2.2")
"""Addresses of the reflector and of the prober. The second pair is for documentation, RFC 5737: it is nobody's."""
REFLECTOR_PORT: Final = 9005
PROBER_PORT: Final = 40_000
_AF_XDP: Final = 44


class Variant(NamedTuple):
    """A transport.

    Attributes:
        transport: a key of :data:`exchange.datagrams.opening.TRANSPORTS`.
        needs: keys of :data:`NEEDS`.
        devices: of the reflector and of the prober, if they are cards.
        addresses: of both.
        has_cable: whether they stand at the ends of one.
    """

    transport: str
    needs: tuple[str, ...] = ()
    devices: tuple[str, str] = ("", "")
    addresses: tuple[str, str] = ON_WIRE
    has_cable: bool = False

    @property
    def kernel_addresses(self) -> tuple[str, str] | None:
        """The addresses that the kernel has at the ends of the cable; a card's are not the kernel's."""
        return None if self.devices[0] else self.addresses

    @property
    def ports(self) -> tuple[int, int]:
        """UDP ports of the reflector and of the prober; 0 is one that is free."""
        return (0, 0) if self.addresses == LOOPBACK else (REFLECTOR_PORT, PROBER_PORT)


_BLOCKING: Final = "udp-blocking"
POLLED: Final = "udp"
"""The one that all others are held against: the best that a program does with an ordinary socket."""

VARIANTS: Final[Mapping[str, Variant]] = {
    _BLOCKING: Variant(_BLOCKING, addresses=LOOPBACK),
    POLLED: Variant("udp", addresses=LOOPBACK),
    "udp-veth": Variant("udp", ("cable",), has_cable=True),
    "afxdp": Variant("afxdp", ("libxdp", "cable"), (LEFT, RIGHT), has_cable=True),
    "dpdk-af_packet": Variant(
        "dpdk",
        ("dpdk", "cable"),
        (f"net_af_packet0,iface={LEFT}", f"net_af_packet0,iface={RIGHT}"),
        has_cable=True,
    ),
    "dpdk-af_xdp": Variant(
        "dpdk",
        ("dpdk", "cable", "xdp"),
        (f"net_af_xdp0,iface={LEFT}", f"net_af_xdp0,iface={RIGHT}"),
        has_cable=True,
    ),
    "dpdk-vhost": Variant(
        "dpdk", ("dpdk",), ("net_vhost0,iface={folder}/vhost", "net_virtio_user0,path={folder}/vhost")
    ),
    "dpdk-memif": Variant(
        "dpdk",
        ("dpdk",),
        ("net_memif0,role=server,socket={name}", "net_memif0,role=client,socket={name}"),
    ),
}


def _why_no_dpdk() -> str | None:
    return None if is_installed() else f"no DPDK here; apt install {PACKAGES}"


def _why_no_xdp() -> str | None:
    try:
        socket.socket(_AF_XDP, socket.SOCK_RAW).close()
    except OSError as error:
        return f"no AF_XDP for us here ({error.strerror}); it takes root and a kernel with CONFIG_XDP_SOCKETS"
    return None


def _why_no_libxdp() -> str | None:
    from exchange.afxdp.libraries import find_obstacle

    return find_obstacle()


NEEDS: Final[Mapping[str, Callable[[], str | None]]] = {
    "cable": why_no_cable,
    "dpdk": _why_no_dpdk,
    "libxdp": _why_no_libxdp,
    "xdp": _why_no_xdp,
}
"""By name, who says why it is not here and what helps, or None if it is."""


def why_not(variant: Variant) -> str | None:
    """Why a variant cannot be measured on this machine, or None if it can."""
    for need in variant.needs:
        reason = NEEDS[need]()
        if reason is not None:
            return f"not measured on this machine: {reason}"
    return None
