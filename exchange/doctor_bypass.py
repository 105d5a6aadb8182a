"""What the doctor says about going past the kernel: huge pages, vfio, and which network interfaces are safe to take.

A card that a process takes is gone from the kernel, and with it every address and route that it had. So an interface
counts as safe only if nothing says that the kernel needs it. What is read are the kernel's own files; they tell all
interfaces of this network namespace, and addresses as long as their interface is up.

Rules: as in :mod:`exchange.findings`. Nothing is bound, mounted or set aside here; the finding names the command.
Sources: the kernel's Documentation/driver-api/vfio.rst, admin-guide/mm/hugetlbpage.rst and ABI/testing/sysfs-class-net.
"""

import os
import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final, NamedTuple

from exchange.bench.host import read_word
from exchange.datagrams.interfaces import default_route_interfaces
from exchange.findings import Finding

_PCI_ADDRESS: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_CARD_CLASS: Final = "0x02"
"""How the class of a network controller begins (PCI Code and ID Assignment)."""

_BRIDGE_CLASS: Final = "0x06"
_USER_DRIVERS: Final = ("vfio-pci", "uio_pci_generic", "igb_uio")
_ARPHRD_ETHER: Final = "1"
_WANTED_MIB: Final = 512
_EXAMPLE_PAGE_KIB: Final = 2048


# --- huge pages ---


class HugePagePool(NamedTuple):
    """The huge pages of one size that the kernel has set aside, on one node; ``node`` is -1 if it does not tell."""

    node: int
    page_kib: int
    pages: int
    free_pages: int
    path: Path


def read_huge_page_pools(root: Path) -> list[HugePagePool]:
    """Every size on every node, also those of which there are none."""
    nodes = sorted(root.glob("sys/devices/system/node/node[0-9]*"), key=lambda path: int(path.name[4:]))
    folders = [(int(path.name[4:]), path / "hugepages") for path in nodes]
    pools = []
    for node, folder in folders or [(-1, root / "sys/kernel/mm/hugepages")]:
        for size in sorted(folder.glob("hugepages-*kB")):
            count, free = (int(read_word(size / f"{name}_hugepages") or 0) for name in ("nr", "free"))
            page_kib = int(size.name.removeprefix("hugepages-").removesuffix("kB"))
            pools.append(HugePagePool(node, page_kib, count, free, size / "nr_hugepages"))
    return pools


def check_huge_page_pool(root: Path) -> Iterator[Finding]:
    """What is set aside, where, and what of it a process that uses files may open."""
    pools = read_huge_page_pools(root)
    if not pools:
        detail = "this kernel has none; DPDK runs without, at the price of more TLB misses"
        yield Finding("machine", "huge pages, reserved", "limited", detail)
        return
    filled = [pool for pool in pools if pool.pages]
    if not filled:
        small = min(pools, key=lambda pool: (pool.page_kib != _EXAMPLE_PAGE_KIB, pool.page_kib, pool.node))
        pages = max(1, _WANTED_MIB * 1024 // small.page_kib)
        detail = "none set aside; no profile needs them, transport.huge_pages = true takes them for DPDK"
        remedy = f"echo {pages} | sudo tee {small.path}"
        yield Finding("machine", "huge pages, reserved", "limited", detail, remedy)
    else:
        detail = "; ".join(
            f"{pool.pages} of {_size(pool.page_kib)}{_on_node(pool.node)}, {pool.free_pages} free"
            for pool in filled
        )
        yield Finding("machine", "huge pages, reserved", "ok", detail)
    yield _huge_page_files(root)


def _huge_page_files(root: Path) -> Finding:
    mounts = [line.split() for line in _lines(root / "proc/mounts")]
    folders = [words[1] for words in mounts if len(words) > 2 and words[2] == "hugetlbfs"]
    ours = "the exchange keeps its own without a file"
    if not folders:
        remedy = "sudo mkdir -p /dev/hugepages && sudo mount -t hugetlbfs hugetlbfs /dev/hugepages"
        detail = f"no hugetlbfs is mounted, which other programs of DPDK's ask for; {ours}"
        return Finding("machine", "huge pages, files", "limited", detail, remedy)
    closed = [folder for folder in folders if not os.access(root / folder.lstrip("/"), os.W_OK)]
    if closed:
        detail = (
            f"hugetlbfs at {', '.join(folders)}, and this user may not write to {', '.join(closed)}; {ours}"
        )
        remedy = f"sudo mount -o remount,uid=$(id -u),gid=$(id -g),mode=0770 {closed[0]}"
        return Finding("machine", "huge pages, files", "limited", detail, remedy)
    return Finding(
        "machine", "huge pages, files", "ok", f"hugetlbfs at {', '.join(folders)}, open to this user"
    )


def _size(page_kib: int) -> str:
    return f"{page_kib // 1024 // 1024} GiB" if page_kib >= 1024 * 1024 else f"{page_kib // 1024} MiB"


def _on_node(node: int) -> str:
    return f" on NUMA node {node}" if node >= 0 else ""


# --- vfio ---


def check_vfio(root: Path) -> Iterator[Finding]:
    """Whether a card on the PCI bus can be given to a process: an IOMMU, the driver, and the right to open a group."""
    groups = list(root.glob("sys/kernel/iommu_groups/[0-9]*"))
    units = sorted(path.name for path in root.glob("sys/class/iommu/*"))
    unsafe = read_word(root / "sys/module/vfio/parameters/enable_unsafe_noiommu_mode") in ("Y", "1")
    if groups:
        named = f"{', '.join(units[:3])}{' …' if len(units) > 3 else ''}; " if units else ""
        detail = f"{named}{len(groups)} groups: a card that a process has reaches that process's memory only"
        yield Finding("vfio", "IOMMU", "ok", detail)
    elif unsafe:
        detail = "none, and vfio is told to do without: a card that a process has can write to all memory"
        yield Finding("vfio", "IOMMU", "limited", detail)
    else:
        detail = "none that the kernel uses: vfio gives no card to a process. Virtual devices (memif, tap) need none"
        remedy = "turn on VT-d or AMD-Vi in the firmware and boot with intel_iommu=on, or use exchange lab-vm"
        yield Finding("vfio", "IOMMU", "missing", detail, remedy)
    if (root / "sys/bus/pci/drivers/vfio-pci").is_dir():
        yield Finding("vfio", "vfio-pci", "ok", "the driver is loaded")
    elif _has_module(root, "vfio-pci"):
        detail = "the driver is there and not loaded"
        yield Finding("vfio", "vfio-pci", "limited", detail, "sudo modprobe vfio-pci")
    else:
        detail = "this kernel has no such driver, so no card of the PCI bus can be taken"
        yield Finding(
            "vfio", "vfio-pci", "missing", detail, "a kernel with CONFIG_VFIO_PCI, or exchange lab-vm"
        )
    yield from _check_vfio_groups(root)


def _has_module(root: Path, name: str) -> bool:
    folder = root / "lib/modules" / (read_word(root / "proc/sys/kernel/osrelease") or "unknown")
    pattern = re.compile(rf"/{name.replace('-', '[-_]')}\.ko")
    return any(
        pattern.search(line) for file in ("modules.dep", "modules.builtin") for line in _lines(folder / file)
    )


def _check_vfio_groups(root: Path) -> Iterator[Finding]:
    """The groups of which vfio has all devices have a file each, whose owner may take them."""
    files = sorted(path for path in root.glob("dev/vfio/*") if path.name.removeprefix("noiommu-").isdigit())
    if not files:
        return
    closed = [path for path in files if not os.access(path, os.R_OK | os.W_OK)]
    listed = ", ".join(path.name for path in files)
    if closed:
        detail = f"groups {listed}; this user may not open {', '.join(path.name for path in closed)}"
        remedy = f"sudo chown $(id -u) {closed[0]}, and a memlock limit (ulimit -l) above the memory of DPDK"
        yield Finding("vfio", "groups", "limited", detail, remedy)
    else:
        yield Finding("vfio", "groups", "ok", f"{listed}, which this user may open")


# --- interfaces ---


class Interface(NamedTuple):
    """A network interface, or a card that no longer is one.

    Attributes:
        name: the kernel's, or the PCI address of a card that the kernel does not drive.
        driver: empty if there is none, as for a virtual interface.
        pci_address: empty for one that is not on the PCI bus.
        numa_node: -1 if the machine does not tell.
        state: ``up``, ``down`` or whatever else the kernel calls it.
        kind: ``card``, or the kind of virtual interface, ``virtual`` if that is not told.
        needs: why it must be left alone, in words; empty for one that is safe to take.
        neighbours: what else is in its IOMMU group, which can only be taken as a whole.
    """

    name: str
    driver: str
    pci_address: str
    numa_node: int
    state: str
    kind: str
    needs: tuple[str, ...]
    neighbours: tuple[str, ...]


def read_interfaces(root: Path) -> list[Interface]:
    """Ethernet interfaces of the kernel by name, then cards on the PCI bus that a process has or could have."""
    default = default_route_interfaces(root / "proc/net")
    addresses = _addresses(root)
    found = [
        _read_interface(root, path, path.name in default, addresses.get(path.name, []))
        for path in sorted(root.glob("sys/class/net/*"))
        if read_word(path / "type") == _ARPHRD_ETHER
    ]
    driven = {one.pci_address for one in found}
    for path in sorted(root.glob("sys/bus/pci/devices/*")):
        is_card = (read_word(path / "class") or "").startswith(_CARD_CLASS)
        if is_card and path.name not in driven:
            node, neighbours = int(read_word(path / "numa_node") or -1), _neighbours(path)
            driver = _link_name(path / "driver")
            found.append(Interface(path.name, driver, path.name, node, "", "card", (), neighbours))
    return found


def _read_interface(root: Path, path: Path, is_default: bool, addresses: list[str]) -> Interface:
    device = (path / "device").resolve()
    on_bus = [part for part in device.parts if _PCI_ADDRESS.fullmatch(part)]
    pci_address = on_bus[-1] if (path / "device").exists() and on_bus else ""
    pci = root / "sys/bus/pci/devices" / pci_address
    needs = ["carries the default route"] if is_default else []
    needs += [f"has the address {' and '.join(addresses)}"] if addresses else []
    master = _link_name(path / "master")
    above = sorted({one.name.removeprefix("upper_") for one in path.glob("upper_*")} - {master})
    needs += [f"is part of {master}"] if master else []
    needs += [f"is below {name}" for name in above]
    joined = [*path.glob("brif/*"), *path.glob("bonding/slaves")]
    needs += ["joins other interfaces"] if joined else []
    kind = "card"
    if not (path / "device").exists():
        told = [line.partition("=")[2] for line in _lines(path / "uevent") if line.startswith("DEVTYPE=")]
        kind = "tap" if (path / "tun_flags").exists() else (*told, "virtual")[0]
        kind = "veth" if kind == "virtual" and _has_peer(path) else kind
    return Interface(
        name=path.name,
        driver=_link_name(path / "device" / "driver"),
        pci_address=pci_address,
        numa_node=int(read_word(pci / "numa_node") or -1) if pci_address else -1,
        state=read_word(path / "operstate") or "in an unknown state",
        kind=kind,
        needs=tuple(needs),
        neighbours=_neighbours(pci) if pci_address else (),
    )


def _has_peer(path: Path) -> bool:
    """A virtual interface whose link is another one: of the kinds without a name, that is veth."""
    link = read_word(path / "iflink")
    return link is not None and link != read_word(path / "ifindex")


def _neighbours(pci: Path) -> tuple[str, ...]:
    """The other devices of a card's IOMMU group; bridges are no part of what has to be taken."""
    members = sorted((pci / "iommu_group" / "devices").glob("*"))
    return tuple(
        member.name
        for member in members
        if member.name != pci.name and not (read_word(member / "class") or "").startswith(_BRIDGE_CLASS)
    )


def _addresses(root: Path) -> dict[str, list[str]]:
    """The addresses of each interface, without those that every interface gives itself (fe80::).

    The kernel's table of IPv4 addresses names no interface, so each is looked up among the networks that an interface
    is on; the longest mask says which.
    """
    networks: list[tuple[IPv4Network, str]] = []
    for line in _lines(root / "proc/net/route")[1:]:
        words = line.split()
        if words[2] == "00000000" and words[1] != "00000000":
            network, mask = (IPv4Address(int.from_bytes(bytes.fromhex(words[at]), "little")) for at in (1, 7))
            networks.append((IPv4Network(f"{network}/{mask}", strict=False), words[0]))
    found: dict[str, list[str]] = {}
    before = ""
    for line in _lines(root / "proc/net/fib_trie"):
        if line.endswith("/32 host LOCAL"):
            address = IPv4Address(before.split()[-1])
            matching = [(network.prefixlen, name) for network, name in networks if address in network]
            if matching and str(address) not in found.setdefault(max(matching)[1], []):
                found[max(matching)[1]].append(str(address))
        before = line
    for line in _lines(root / "proc/net/if_inet6"):
        words = line.split()
        if not words[0].startswith("fe80"):
            found.setdefault(words[5], []).append(":".join(re.findall("....", words[0])))
    return found


def check_interfaces(root: Path) -> Iterator[Finding]:
    """Each interface: what it is, and whether a process may have it."""
    for one in read_interfaces(root):
        yield _advise(one)


def _advise(one: Interface) -> Finding:
    what = [one.kind if one.kind != "card" else f"driver {one.driver}" if one.driver else "no driver"]
    what += [f"PCI {one.pci_address}"] if one.pci_address and one.pci_address != one.name else []
    what += [f"NUMA node {one.numa_node}"] if one.numa_node >= 0 else []
    what += [f"link {one.state}"] if one.state else []
    described = ", ".join(what)
    if one.needs:
        detail = f"{described}: not safe to take, it {' and '.join(one.needs)}"
        return Finding("interfaces", one.name, "limited", detail)
    if one.neighbours:
        described += f"; its IOMMU group has {', '.join(one.neighbours)} too, and is taken as a whole"
    if one.pci_address and one.driver in _USER_DRIVERS:
        remedy = f"--set transport.device={one.pci_address}"
        return Finding("interfaces", one.name, "ok", f"{described}: ready for a process", remedy)
    device = one.pci_address or f"net_af_packet0,iface={one.name}"
    setting = f"--set transport.device={device}"
    if one.pci_address:
        remedy = f"sudo dpdk-devbind.py --bind=vfio-pci {device}, then {setting}"
        return Finding("interfaces", one.name, "ok", f"{described}: safe to take", remedy)
    remedy = setting if one.state == "up" else f"sudo ip link set {one.name} up, then {setting}"
    detail = f"{described}: safe to take, through af_packet or af_xdp, so that the kernel still does the work"
    return Finding("interfaces", one.name, "ok", detail, remedy)


def _link_name(path: Path) -> str:
    return path.resolve().name if path.exists() else ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
