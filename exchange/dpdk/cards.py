"""A card on the PCI bus: where it is, and whether this process can have it; told before DPDK looks.

Of a card that it cannot have, DPDK says no more than that it found none. Why is written in ``/sys``: which driver has
the card (``vfio-pci`` for a process that wants it), whether an IOMMU stands between it and memory, and who may open its
group. Where the card is near to one NUMA node, packets have to lie there, so that neither it nor we cross over.

Rules: nothing here changes anything. Errors name the key, the card and the command that helps.
Sources: "Linux Drivers" in the guides of DPDK 22.11; Documentation/driver-api/vfio.rst of Linux.
"""

import os
import resource
from pathlib import Path
from typing import Final

from exchange.dpdk.devices import Device
from exchange.errors import UserError

_ETHERNET_CLASS: Final = "0x0200"
_FOR_PROCESSES: Final = ("vfio-pci", "uio_pci_generic", "igb_uio")
"""Drivers of the kernel's that leave a card to a process."""
_SHARED: Final = ("mlx4_core", "mlx5_core", "mana")
"""Drivers that share a card with DPDK."""
_HARMLESS: Final = ("vfio-pci", "pci-stub", "pcieport")
"""Drivers that another card of the same group may have."""
_ANY_NODE: Final = -1


def card_node(device: Device, root: Path = Path("/")) -> int:
    """The NUMA node to which a card is near, or -1: it is near to none, or no card."""
    path = _folder(device, root) / "numa_node"
    return int(path.read_text()) if device.driver == "pci" and path.exists() else _ANY_NODE


def check_card(device: Device, key: str, root: Path = Path("/")) -> None:
    """Refuse a card that this process cannot have; what is no card on the PCI bus is not looked at.

    Args:
        device: the card.
        key: where it stands, for the error.
        root: where the machine's files begin.

    Raises:
        UserError: there is no such card, the kernel has it, or there is no IOMMU or no permission.
    """
    if device.driver != "pci":
        return
    folder, told = _folder(device, root), f"{key} = {device.text!r}"
    if not folder.exists():
        there = ", ".join(_ethernet_cards(root)) or "none"
        raise UserError(f"{told}: this machine has no such card; its Ethernet cards are {there}")
    driver = _name_of(folder / "driver")
    if driver in _SHARED:
        return
    if driver not in _FOR_PROCESSES:
        _check_iommu(folder, told, root)
        holder = f"the kernel's driver {driver} has it" if driver else "no driver has it"
        raise UserError(f"{told}: {holder}; give it to vfio: sudo dpdk-devbind.py -b vfio-pci {device.name}")
    if driver == "vfio-pci":
        _check_iommu(folder, told, root)
        _check_group(folder, device.name, told, root)


def check_locked_memory(memory_mib: int, table: str) -> None:
    """Refuse more memory than this process may have locked, which all is that a card behind an IOMMU can reach.

    Raises:
        UserError: it is more than ``ulimit -l`` allows, and we are not root.
    """
    allowed_bytes, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() == 0 or allowed_bytes == resource.RLIM_INFINITY or memory_mib << 20 <= allowed_bytes:
        return
    raise UserError(
        f"{table}.memory_mib = {memory_mib}: this process may lock {allowed_bytes >> 20} MiB, and a card reaches "
        "locked memory only; raise it with 'ulimit -l unlimited', as root"
    )


def _folder(device: Device, root: Path) -> Path:
    return root / "sys/bus/pci/devices" / device.name


def _ethernet_cards(root: Path) -> list[str]:
    found = (root / "sys/bus/pci/devices").glob("*/class")
    return sorted(path.parent.name for path in found if path.read_text().startswith(_ETHERNET_CLASS))


def _name_of(link: Path) -> str:
    """What a link of the kernel's points to, or nothing."""
    return link.resolve().name if link.exists() else ""


def _check_iommu(folder: Path, told: str, root: Path) -> None:
    unsafe = root / "sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
    goes_without = unsafe.exists() and unsafe.read_text().strip() == "Y"
    if not (folder / "iommu_group").exists() and not goes_without:
        raise UserError(
            f"{told}: no IOMMU stands before it, and vfio needs one; switch it on in the firmware (VT-d, AMD-Vi) and "
            "for the kernel, with intel_iommu=on or amd_iommu=on on its command line"
        )


def _check_group(folder: Path, name: str, told: str, root: Path) -> None:
    """The cards of a group reach each other behind the IOMMU's back, so a process gets all of them or none."""
    group = _name_of(folder / "iommu_group")
    for other in sorted((folder / "iommu_group/devices").glob("*")):
        driver = _name_of(other / "driver")
        if other.name != name and driver and driver not in _HARMLESS:
            raise UserError(
                f"{told}: {other.name} is in its IOMMU group {group}, and the kernel's driver {driver} has it; give "
                f"that to vfio as well: sudo dpdk-devbind.py -b vfio-pci {other.name}"
            )
    for place in (f"dev/vfio/{group}", f"dev/vfio/noiommu-{group}"):
        if (root / place).exists():
            if not os.access(root / place, os.R_OK | os.W_OK):
                raise UserError(f"{told}: no permission for /{place}; sudo chown $USER /{place}")
            return
    raise UserError(
        f"{told}: there is no /dev/vfio/{group}; a container has to be given it: --device /dev/vfio"
    )
