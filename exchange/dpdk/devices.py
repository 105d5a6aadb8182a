"""Which device frames come through, as a person writes it: the text that DPDK takes, checked before DPDK sees it.

``net_memif0,role=server,socket=exchange`` is a driver with a number, and parameters; ``0000:03:00.0`` is a card on the
PCI bus. DPDK itself says of a mistake in either no more than that it could not probe a device.

========================  ==========================================================================================
``net_memif``             shared memory between two processes of one machine; there is no wire
``net_ring``              a ring within this process: what is sent comes back
``net_af_packet``         an interface of the kernel, through a packet socket
``net_af_xdp``            an interface of the kernel, before its network stack
``net_tap``               a new interface of the kernel
``net_pcap``              a file of captured frames in, another out
``net_vhost``             a virtual machine, or ``net_virtio_user`` in another process
``net_virtio_user``       the other side of that
========================  ==========================================================================================

Rules: nothing here touches a device. Errors name the key, what was written and what is allowed.
Sources: "Network Interface Controller Drivers" of DPDK 22.11; the parameters are those that its drivers list.
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

from exchange.datagrams.interfaces import ROUTES, check_interface, check_is_up
from exchange.errors import UserError

_INTEGER: Final = "a number"
_FLAG: Final = "0 or 1"
_TEXT: Final = "a text without commas"
_MAC: Final = "six pairs of hexadecimal digits with colons between them"
_INTERFACE: Final = "an interface of the kernel"

_PATTERNS: Final = {
    _INTEGER: r"\d{1,9}",
    _FLAG: r"[01]",
    _TEXT: r"[^,\s]+",
    _INTERFACE: r"[^,/\s]{1,15}",
    _MAC: r"(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}",
}

DRIVERS: Final[dict[str, dict[str, str]]] = {
    "net_memif": {
        "role": "server|client", "id": _INTEGER, "socket": _TEXT, "socket-abstract": "yes|no", "bsize": _INTEGER,
        "rsize": _INTEGER, "mac": _MAC, "zero-copy": "yes|no", "secret": _TEXT, "owner-uid": _INTEGER,
        "owner-gid": _INTEGER,
    },
    "net_ring": {},
    "net_af_packet": {
        "iface": _INTERFACE, "qpairs": _INTEGER, "blocksz": _INTEGER, "framesz": _INTEGER, "framecnt": _INTEGER,
        "qdisc_bypass": _FLAG,
    },
    "net_af_xdp": {
        "iface": _INTERFACE, "start_queue": _INTEGER, "queue_count": _INTEGER, "shared_umem": _INTEGER,
        "xdp_prog": _TEXT, "busy_budget": _INTEGER, "force_copy": _FLAG,
    },
    "net_tap": {"iface": _TEXT, "remote": _INTERFACE, "mac": _TEXT, "persist": _TEXT},
    "net_pcap": {
        "rx_pcap": _TEXT, "tx_pcap": _TEXT, "rx_iface": _INTERFACE, "rx_iface_in": _INTERFACE,
        "tx_iface": _INTERFACE, "iface": _INTERFACE, "phy_mac": _FLAG, "infinite_rx": _FLAG,
    },
    "net_vhost": {
        "iface": _TEXT, "queues": _INTEGER, "client": _FLAG, "iommu-support": _FLAG, "postcopy-support": _FLAG,
        "tso": _FLAG, "linear-buffer": _FLAG, "ext-buffer": _FLAG,
    },
    "net_virtio_user": {
        "path": _TEXT, "mac": _MAC, "queues": _INTEGER, "queue_size": _INTEGER, "iface": _TEXT, "server": _FLAG,
        "cq": _INTEGER, "mrg_rxbuf": _FLAG, "in_order": _FLAG, "packed_vq": _FLAG, "speed": _INTEGER,
        "vectorized": _FLAG,
    },
}  # fmt: skip
"""For each driver its parameters, and what each may be."""

_REQUIRED: Final[dict[str, tuple[str, ...]]] = {
    "net_memif": ("role",),
    "net_af_packet": ("iface",),
    "net_af_xdp": ("iface",),
    "net_vhost": ("iface",),
    "net_virtio_user": ("path",),
}
_BESIDE_THE_KERNEL: Final = ("net_af_packet", "net_af_xdp")
"""They take an interface as it is, up or down."""
_VIRTUAL: Final = re.compile(r"((?:net_)?[a-z_]+?)(\d*)")
_PCI: Final = re.compile(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")


class Device(NamedTuple):
    """A device that could be, as far as its text tells.

    Attributes:
        text: what EAL is given.
        name: by which DPDK finds the port.
        driver: one of :data:`DRIVERS`, or ``"pci"``.
        parameters: names and values in the order of the text; those of a card on the PCI bus are not looked at.
    """

    text: str
    name: str
    driver: str
    parameters: dict[str, str]

    @property
    def interfaces(self) -> tuple[str, ...]:
        """The interfaces of the kernel that it takes hold of."""
        if self.driver == "pci":
            return tuple(sorted(path.name for path in Path("/sys/bus/pci/devices", self.name).glob("net/*")))
        allowed = DRIVERS[self.driver]
        return tuple(value for name, value in self.parameters.items() if allowed[name] == _INTERFACE)


def parse_device(text: str, key: str) -> Device:
    """What a device's text says.

    Args:
        text: as in a profile.
        key: where it stands there, for the error.

    Raises:
        UserError: no device can be meant by it.
    """
    name, *words = text.split(",")
    if _PCI.fullmatch(name):
        return Device(text, name.lower(), "pci", dict(word.partition("=")[::2] for word in words))
    found = _VIRTUAL.fullmatch(name)
    driver = found[1] if found else ""
    driver = driver if driver.startswith("net_") else f"net_{driver}"
    if driver not in DRIVERS:
        raise UserError(
            f"{key} = {text!r}: {name!r} is no device; allowed are {', '.join(DRIVERS)}, each with a number behind "
            f"it, and the address of a PCI device such as 0000:03:00.0"
        )
    parameters: dict[str, str] = {}
    for word in words:
        parameter, _, value = word.partition("=")
        _check_parameter(text, key, driver, parameter, value)
        if parameter in parameters:
            raise UserError(f"{key} = {text!r}: {parameter} is there twice; once is allowed")
        parameters[parameter] = value
    for parameter in _REQUIRED.get(driver, ()):
        if parameter not in parameters:
            allowed = DRIVERS[driver][parameter]
            raise UserError(f"{key} = {text!r}: {driver} needs {parameter}=, which is {_worded(allowed)}")
    return Device(text, name, driver, parameters)


def _check_parameter(text: str, key: str, driver: str, parameter: str, value: str) -> None:
    known = DRIVERS[driver]
    if parameter not in known:
        listed = ", ".join(known) or "none"
        raise UserError(f"{key} = {text!r}: {driver} has no parameter {parameter!r}; allowed are {listed}")
    pattern = _PATTERNS.get(known[parameter], known[parameter])
    if not re.fullmatch(pattern, value):
        raise UserError(
            f"{key} = {text!r}: {parameter} = {value!r} is not allowed; it is {_worded(known[parameter])}"
        )


def _worded(allowed: str) -> str:
    return allowed.replace("|", " or ")


def check_interfaces(device: Device, key: str, *, is_forced: bool = False, routes: Path = ROUTES) -> None:
    """Refuse a device whose interface carries the default route, is not there, or is down and would stay so.

    Args:
        device: what would be taken.
        key: where it stands, for the error.
        is_forced: take it nevertheless.
        routes: as of :func:`exchange.datagrams.interfaces.check_interface`.

    Raises:
        UserError: it is that interface, or there is no such interface, or it is down.
    """
    for interface in device.interfaces:
        stated = f"{key} = {device.text!r}"
        check_interface(interface, stated, is_forced=is_forced, routes=routes)
        if device.driver in _BESIDE_THE_KERNEL:
            check_is_up(interface, stated)
