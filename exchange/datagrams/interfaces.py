"""Interfaces of the kernel that a card's port takes hold of: which there are, and which must not be taken.

Who takes the interface that carries the default route may cut the machine off, and himself with it. So nothing takes it
without being forced.

Rules: nothing here touches an interface. Sources: the tables of routes in proc(5); netdevice(7).
"""

import fcntl
import socket
import struct
from pathlib import Path
from typing import Final

from exchange.errors import UserError

ROUTES: Final = Path("/proc/net")
"""The folder in which the kernel lists its routes."""
_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 1


def check_interface(interface: str, stated: str, *, is_forced: bool = False, routes: Path = ROUTES) -> None:
    """Refuse an interface that carries the default route, or is not there.

    Args:
        interface: what would be taken.
        stated: the key and its value, for the error.
        is_forced: take it nevertheless.
        routes: where to look.

    Raises:
        UserError: it is that interface, or there is no such interface.
    """
    there = [name for _, name in socket.if_nameindex()]
    if not interface:
        raise UserError(f"{stated}: which interface it is has to be said; there are {', '.join(there)}")
    if not is_forced and interface in default_route_interfaces(routes):
        raise UserError(
            f"{stated}: {interface} carries this machine's default route and would be lost to it; allowed is any "
            f"other interface, or this one by force"
        )
    if interface not in there:
        raise UserError(f"{stated}: there is no interface {interface}; there are {', '.join(there)}")


def check_is_up(interface: str, stated: str) -> None:
    """Refuse an interface that is down: nothing comes from it, what is sent is lost, and nobody says so.

    Args:
        interface: is there.
        stated: the key and its value, for the error.

    Raises:
        UserError: it is down.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        told = fcntl.ioctl(asking, _SIOCGIFFLAGS, struct.pack("16s24x", interface.encode()))
    (flags,) = struct.unpack_from("=H", told, 16)
    if not flags & _IFF_UP:
        raise UserError(f"{stated}: it is down; 'ip link set {interface} up' brings it up")


def default_route_interfaces(routes: Path) -> set[str]:
    """The interfaces that carry a default route.

    Args:
        routes: the folder with route(8)'s tables, in which that is an address of zeros with a mask of zeros, in IPv4
            and in IPv6.
    """
    found = set()
    for line in _lines(routes / "route")[1:]:
        words = line.split()
        if words[1] == words[7] == "00000000":
            found.add(words[0])
    for line in _lines(routes / "ipv6_route"):
        words = line.split()
        if words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo":
            found.add(words[9])
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []
