"""A card that a process cannot have is refused with the reason and the command that helps, out of the files in sys."""

import os
import resource
from math import inf
from pathlib import Path

import pytest

from exchange.dpdk.cards import card_node, check_card, check_locked_memory
from exchange.dpdk.device import DpdkDevice
from exchange.dpdk.devices import parse_device
from exchange.dpdk.eal import EalConfig, check_huge_pages
from exchange.dpdk.opened import OpenedCard
from exchange.errors import UserError

CARD = "0000:41:00.0"
KEY = "transport.device"


def add_card(root: Path, address: str = CARD, driver: str = "", group: int | None = 7, node: int = 1) -> None:
    """Files as the kernel has them for an Ethernet card."""
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    (folder / "class").write_text("0x020000\n")
    (folder / "numa_node").write_text(f"{node}\n")
    if driver:
        (root / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(root / "drivers" / driver)
    if group is not None:
        members = root / f"sys/kernel/iommu_groups/{group}"
        (members / "devices").mkdir(parents=True, exist_ok=True)
        (members / "devices" / address).symlink_to(folder)
        (folder / "iommu_group").symlink_to(members)


def add_group_file(root: Path, group: str = "7") -> Path:
    path = root / "dev/vfio" / group
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def refusal(root: Path, device: str = CARD) -> str:
    with pytest.raises(UserError) as caught:
        check_card(parse_device(device, KEY), KEY, root)
    told = str(caught.value)
    assert "\n" not in told
    assert told.startswith(f"{KEY} = {device!r}: ")
    return told.removeprefix(f"{KEY} = {device!r}: ")


def test_a_card_that_vfio_has_is_had(tmp_path: Path) -> None:
    add_card(tmp_path, driver="vfio-pci")
    add_card(tmp_path, "0000:42:00.0", driver="vfio-pci")
    add_group_file(tmp_path)
    check_card(parse_device(CARD, KEY), KEY, tmp_path)
    assert card_node(parse_device(CARD, KEY), tmp_path) == 1


@pytest.mark.parametrize("driver", ["mlx5_core", "uio_pci_generic"])
def test_a_card_that_needs_no_vfio_is_had(tmp_path: Path, driver: str) -> None:
    add_card(tmp_path, driver=driver, group=None)
    check_card(parse_device(CARD, KEY), KEY, tmp_path)


def test_what_is_not_on_the_bus_is_not_looked_at(tmp_path: Path) -> None:
    device = parse_device("net_ring0", KEY)
    check_card(device, KEY, tmp_path)
    assert card_node(device, tmp_path) == -1


def test_a_card_that_is_not_there_and_those_that_are(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "this machine has no such card; its Ethernet cards are none"
    add_card(tmp_path, "0000:42:00.0")
    assert refusal(tmp_path) == "this machine has no such card; its Ethernet cards are 0000:42:00.0"


def test_a_card_that_the_kernel_has_is_to_be_given_to_vfio(tmp_path: Path) -> None:
    add_card(tmp_path, driver="e1000e")
    assert refusal(tmp_path) == (
        f"the kernel's driver e1000e has it; give it to vfio: sudo dpdk-devbind.py -b vfio-pci {CARD}"
    )


def test_a_card_that_nobody_has_is_to_be_given_to_vfio(tmp_path: Path) -> None:
    add_card(tmp_path)
    assert refusal(tmp_path).startswith("no driver has it; give it to vfio: sudo dpdk-devbind.py")


def test_without_an_iommu_it_says_how_to_switch_it_on(tmp_path: Path) -> None:
    add_card(tmp_path, driver="e1000e", group=None)
    assert "no IOMMU stands before it" in (told := refusal(tmp_path))
    assert "intel_iommu=on" in told
    unsafe = tmp_path / "sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
    unsafe.parent.mkdir(parents=True)
    unsafe.write_text("Y\n")
    assert "dpdk-devbind.py" in refusal(tmp_path)


def test_a_group_is_had_whole_or_not_at_all(tmp_path: Path) -> None:
    add_card(tmp_path, driver="vfio-pci")
    add_card(tmp_path, "0000:41:00.1", driver="e1000e")
    add_group_file(tmp_path)
    assert refusal(tmp_path) == (
        "0000:41:00.1 is in its IOMMU group 7, and the kernel's driver e1000e has it; give that to vfio as well: "
        "sudo dpdk-devbind.py -b vfio-pci 0000:41:00.1"
    )


def test_a_group_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_card(tmp_path, driver="vfio-pci")
    assert refusal(tmp_path) == "there is no /dev/vfio/7; a container has to be given it: --device /dev/vfio"
    add_group_file(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert refusal(tmp_path) == "no permission for /dev/vfio/7; sudo chown $USER /dev/vfio/7"


def test_memory_that_may_not_be_locked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (8 << 20, 8 << 20))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    check_locked_memory(8, "transport")
    with pytest.raises(UserError, match=r"transport\.memory_mib = 128: this process may lock 8 MiB"):
        check_locked_memory(128, "transport")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    check_locked_memory(128, "transport")


def test_huge_pages_are_wanted_on_the_node_of_the_card(tmp_path: Path) -> None:
    for place, free in (("kernel/mm", 100), ("devices/system/node/node1", 36)):
        folder = tmp_path / "sys" / place / "hugepages/hugepages-2048kB"
        folder.mkdir(parents=True)
        (folder / "free_hugepages").write_text(f"{free}\n")
    config = EalConfig(devices=("net_ring0",), huge_pages=True)
    check_huge_pages(config, "transport", tmp_path)
    with pytest.raises(UserError) as caught:
        check_huge_pages(EalConfig(devices=(CARD,), huge_pages=True, numa_node=1), "transport", tmp_path)
    command = f"echo 64 >{tmp_path}/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
    assert str(caught.value) == (
        "transport.memory_mib = 128: NUMA node 1, which the card is near to, has 72 MiB of free huge pages; set them "
        f"aside as root with '{command}', or leave transport.huge_pages = false"
    )


class _Wired(DpdkDevice):
    """A card that has been opened, and whose link comes when it has been looked at so often."""

    def __init__(self, looks: float) -> None:
        self.name, self.mac, self.numa_node, self.has_wire = "0000:03:00.0", 0x0200_0000_0001, -1, True
        self._key, self._is_client, self._handshake_s = "transport.device = '0000:03:00.0'", False, 0.5
        self._looks = looks

    @property
    def is_link_up(self) -> bool:
        self._looks -= 1
        return self._looks <= 0

    def buffers_node(self) -> int:
        return -1


def test_a_link_is_waited_for_and_one_that_does_not_come_is_told() -> None:
    assert _Wired(looks=3).has_link_within(60)
    assert not _Wired(looks=inf).has_link_within(0.02)
    _Wired(looks=3).wait_for_link(60)
    with pytest.raises(
        UserError, match=r"0000:03:00.0': no link; is its cable in, and up at the other end\?"
    ):
        _Wired(looks=inf).wait_for_link(0.02)


@pytest.mark.parametrize(("looks", "told"), [(0, ["card opened"]), (inf, ["card opened", "no link"])])
def test_a_card_that_has_no_link_is_warned_of(
    caplog: pytest.LogCaptureFixture, looks: float, told: list[str]
) -> None:
    caplog.set_level("INFO")
    card = OpenedCard.__new__(OpenedCard)
    card._device = _Wired(looks)  # type: ignore[misc]
    card._log()
    assert [record.getMessage() for record in caplog.records] == told
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"][: len(told)]
