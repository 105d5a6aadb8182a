"""What the doctor says about huge pages, vfio and interfaces, on machines that are described by files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange import doctor_bypass
from exchange.doctor_bypass import check_huge_page_pool, check_interfaces, check_vfio, read_interfaces
from exchange.findings import Check, Finding

ROUTE_HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.0.0.0
        /24 link UNICAST
     |-- 10.0.0.7
        /32 host LOCAL
     |-- 10.0.0.255
        /32 link BROADCAST
Local:
     |-- 10.0.0.7
        /32 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
"""
V6 = "fe8000000000000000fc00fffe000001 04 40 20 80 {name}\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def find(findings: Iterator[Finding], variant: str) -> Finding:
    (found,) = [finding for finding in findings if finding.variant == variant]
    return found


def on(check: Check, root: Path, variant: str) -> Finding:
    return find(iter(check(root)), variant)


class FakeMachine:
    """Files of a machine's interfaces and cards, in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.links = root / "sys/class/net"
        self.bus = root / "sys/bus/pci/devices"

    def card(self, address: str, driver: str = "", group: str = "", card_class: str = "0x020000") -> Path:
        device = self.root / "sys/devices/pci0000:00" / address
        write(device / "class", f"{card_class}\n")
        write(device / "numa_node", "1\n")
        link(self.bus / address, device)
        if driver:
            link(device / "driver", self.root / "sys/bus/drivers" / driver)
        if group:
            folder = self.root / "sys/kernel/iommu_groups" / group
            link(folder / "devices" / address, device)
            link(device / "iommu_group", folder)
        return device

    def interface(self, name: str, device: Path | None = None, kind: str = "1") -> Path:
        folder = self.root / "sys/devices" / (device.name if device else "virtual") / "net" / name
        write(folder / "type", f"{kind}\n")
        write(folder / "operstate", "up\n")
        write(folder / "ifindex", "7\n")
        write(folder / "iflink", "7\n")
        if device is not None:
            link(folder / "device", device)
        link(self.links / name, folder)
        return folder


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def test_a_card_that_nothing_needs_is_safe_and_the_command_is_named(machine: FakeMachine) -> None:
    machine.interface("lan0", machine.card("0000:03:00.0", "e1000e", group="12"))
    write(machine.root / "proc/net/if_inet6", V6.format(name="lan0"))
    found = on(check_interfaces, machine.root, "lan0")
    assert found.status == "ok"
    assert "driver e1000e, PCI 0000:03:00.0, NUMA node 1, link up: safe to take" in found.detail
    assert "dpdk-devbind.py --bind=vfio-pci 0000:03:00.0" in str(found.remedy)


def test_a_virtio_card_is_found_by_its_parent_on_the_bus(machine: FakeMachine) -> None:
    card = machine.card("0000:00:03.0", "virtio-pci")
    (card / "virtio2").mkdir()
    link(card / "virtio2" / "driver", machine.root / "sys/bus/virtio/drivers/virtio_net")
    machine.interface("eth0", card / "virtio2")
    (found,) = read_interfaces(machine.root)
    assert (found.name, found.driver, found.pci_address) == ("eth0", "virtio_net", "0000:00:03.0")


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        (
            "route",
            ROUTE_HEAD + "lan0 00000000 0100000A 3 0 0 0 00000000 0 0 0\n",
            "carries the default route",
        ),
        ("ipv6_route", f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} 0 0 0 0 lan0\n", "carries the default route"),
        ("if_inet6", f"fd{'0' * 29}2 04 40 00 82 lan0\n", "has the address fd00:0000"),
    ],
)
def test_what_the_kernel_needs_is_not_safe(machine: FakeMachine, file: str, text: str, told: str) -> None:
    machine.interface("lan0", machine.card("0000:03:00.0", "e1000e"))
    write(machine.root / "proc/net" / file, text)
    found = on(check_interfaces, machine.root, "lan0")
    assert (found.status, found.remedy) == ("limited", None)
    assert f"not safe to take, it {told}" in found.detail


def test_an_address_belongs_to_the_interface_whose_network_it_is_in(machine: FakeMachine) -> None:
    machine.interface("lan0", machine.card("0000:03:00.0"))
    machine.interface("lan1", machine.card("0000:04:00.0"))
    routes = "lan1 0000000A 00000000 1 0 0 0 000000FF 0 0 0\nlan0 0000000A 00000000 1 0 0 0 00FFFFFF 0 0 0\n"
    write(machine.root / "proc/net/route", ROUTE_HEAD + routes)
    write(machine.root / "proc/net/fib_trie", TRIE)
    needs = {one.name: one.needs for one in read_interfaces(machine.root)}
    assert needs == {"lan0": ("has the address 10.0.0.7",), "lan1": ()}


def test_what_is_part_of_a_bridge_or_joins_others_is_not_safe(machine: FakeMachine) -> None:
    bridge = machine.interface("bridge0")
    write(bridge / "uevent", "DEVTYPE=bridge\nINTERFACE=bridge0\n")
    port = machine.interface("lan0", machine.card("0000:03:00.0"))
    (port / "master").symlink_to(bridge)
    (port / "upper_bridge0").symlink_to(bridge)
    (port / "upper_vlan5").symlink_to(machine.interface("vlan5"))
    link(bridge / "brif" / "lan0", port)
    found = {one.name: one for one in read_interfaces(machine.root)}
    assert found["lan0"].needs == ("is part of bridge0", "is below vlan5")
    assert (found["bridge0"].kind, found["bridge0"].needs) == ("bridge", ("joins other interfaces",))


def test_virtual_interfaces_are_taken_through_the_kernel(machine: FakeMachine) -> None:
    write(machine.interface("left") / "iflink", "8\n")
    write(machine.interface("tap0") / "tun_flags", "0x1002\n")
    write(machine.interface("tap0x") / "operstate", "down\n")
    machine.interface("lo", kind="772")
    assert [(one.name, one.kind) for one in read_interfaces(machine.root)] == [
        ("left", "veth"),
        ("tap0", "tap"),
        ("tap0x", "virtual"),
    ]
    assert "the kernel still does the work" in on(check_interfaces, machine.root, "left").detail
    assert on(check_interfaces, machine.root, "left").remedy == (
        "--set transport.device=net_af_packet0,iface=left"
    )
    assert "ip link set tap0x up" in str(on(check_interfaces, machine.root, "tap0x").remedy)


def test_a_card_that_a_process_may_have_is_listed_by_its_address(machine: FakeMachine) -> None:
    machine.card("0000:41:00.0", "vfio-pci", group="5")
    machine.card("0000:42:00.0")
    machine.card("0000:43:00.0", card_class="0x010802")
    assert [one.name for one in read_interfaces(machine.root)] == ["0000:41:00.0", "0000:42:00.0"]
    found = on(check_interfaces, machine.root, "0000:41:00.0")
    assert found.detail == "driver vfio-pci, NUMA node 1: ready for a process"
    assert found.remedy == "--set transport.device=0000:41:00.0"
    assert "no driver" in on(check_interfaces, machine.root, "0000:42:00.0").detail


def test_what_shares_a_group_is_named_but_bridges_are_not(machine: FakeMachine) -> None:
    machine.card("0000:03:00.0", "e1000e", group="12")
    machine.card("0000:03:00.1", group="12", card_class="0x010802")
    machine.card("0000:02:00.0", group="12", card_class="0x060400")
    detail = on(check_interfaces, machine.root, "0000:03:00.0").detail
    assert "its IOMMU group has 0000:03:00.1 too" in detail


def test_an_iommu_is_groups_and_without_one_vfio_says_no_or_is_unsafe(tmp_path: Path) -> None:
    assert on(check_vfio, tmp_path, "IOMMU").status == "missing"
    write(tmp_path / "sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n")
    found = on(check_vfio, tmp_path, "IOMMU")
    assert (found.status, "can write to all memory" in found.detail) == ("limited", True)
    for group in ("0", "1"):
        (tmp_path / "sys/kernel/iommu_groups" / group).mkdir(parents=True)
    write(tmp_path / "sys/class/iommu/dmar0/x", "")
    found = on(check_vfio, tmp_path, "IOMMU")
    assert (found.status, found.detail.startswith("dmar0; 2 groups")) == ("ok", True)


def test_the_driver_is_loaded_or_can_be_or_is_not_there(tmp_path: Path) -> None:
    assert on(check_vfio, tmp_path, "vfio-pci").status == "missing"
    write(tmp_path / "proc/sys/kernel/osrelease", "6.1.0\n")
    modules = tmp_path / "lib/modules/6.1.0/modules.dep"
    write(modules, "kernel/drivers/vfio/pci/vfio-pci-core.ko:\n")
    assert on(check_vfio, tmp_path, "vfio-pci").status == "missing"
    write(modules, "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz\n")
    assert on(check_vfio, tmp_path, "vfio-pci").remedy == "sudo modprobe vfio-pci"
    (tmp_path / "sys/bus/pci/drivers/vfio-pci").mkdir(parents=True)
    assert on(check_vfio, tmp_path, "vfio-pci").status == "ok"


def test_a_group_is_open_to_whom_its_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "dev/vfio/vfio", "")
    assert not [one for one in check_vfio(tmp_path) if one.variant == "groups"]
    write(tmp_path / "dev/vfio/12", "")
    assert on(check_vfio, tmp_path, "groups").status == "ok"
    monkeypatch.setattr(doctor_bypass.os, "access", lambda path, mode: False)
    found = on(check_vfio, tmp_path, "groups")
    assert (found.status, "chown" in str(found.remedy)) == ("limited", True)


def huge_pages(root: Path, node: int, page_kib: int, pages: int, free: int) -> None:
    folder = root / f"sys/devices/system/node/node{node}/hugepages/hugepages-{page_kib}kB"
    write(folder / "nr_hugepages", f"{pages}\n")
    write(folder / "free_hugepages", f"{free}\n")


def test_huge_pages_are_told_by_size_and_node(tmp_path: Path) -> None:
    variant = "huge pages, reserved"
    assert on(check_huge_page_pool, tmp_path, variant).remedy is None
    huge_pages(tmp_path, 0, 1_048_576, 0, 0)
    huge_pages(tmp_path, 0, 2048, 0, 0)
    huge_pages(tmp_path, 1, 2048, 0, 0)
    found = on(check_huge_page_pool, tmp_path, variant)
    assert found.status == "limited"
    assert str(found.remedy).startswith("echo 256 | sudo tee ")
    assert str(found.remedy).endswith("/node0/hugepages/hugepages-2048kB/nr_hugepages")
    huge_pages(tmp_path, 0, 1_048_576, 2, 1)
    huge_pages(tmp_path, 1, 2048, 64, 60)
    found = on(check_huge_page_pool, tmp_path, variant)
    assert found.detail == "2 of 1 GiB on NUMA node 0, 1 free; 64 of 2 MiB on NUMA node 1, 60 free"


def test_a_kernel_without_numa_tells_huge_pages_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "8\n")
    assert on(check_huge_page_pool, tmp_path, "huge pages, reserved").detail == "8 of 2 MiB, 0 free"


def test_files_of_huge_pages_need_a_mount_and_the_right_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge_pages(tmp_path, 0, 2048, 8, 8)
    assert "mount -t hugetlbfs" in str(on(check_huge_page_pool, tmp_path, "huge pages, files").remedy)
    write(tmp_path / "proc/mounts", "hugetlbfs /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n")
    (tmp_path / "dev/hugepages").mkdir(parents=True)
    assert on(check_huge_page_pool, tmp_path, "huge pages, files").status == "ok"
    monkeypatch.setattr(doctor_bypass.os, "access", lambda path, mode: False)
    found = on(check_huge_page_pool, tmp_path, "huge pages, files")
    assert (found.status, "remount" in str(found.remedy)) == ("limited", True)
