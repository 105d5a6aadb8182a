"""What DPDK is started with is a function of the settings, and what is not allowed is told before DPDK sees it."""

from pathlib import Path

import pytest

from exchange.dpdk.devices import check_interfaces, parse_device
from exchange.dpdk.eal import EalConfig, eal_arguments
from exchange.errors import UserError

USABLE = frozenset({0, 1, 5})


def arguments(*devices: str, **changes: object) -> list[str]:
    return eal_arguments(EalConfig(devices=devices, **changes), 77, USABLE, "transport.dpdk")  # type: ignore[arg-type]


def refusal(*devices: str, **changes: object) -> str:
    with pytest.raises(UserError) as caught:
        arguments(*devices, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_virtual_device_needs_neither_huge_pages_nor_the_bus() -> None:
    assert arguments("net_memif0,role=server,socket=lobby") == [
        "--lcores=0@(0,1,5)", "--file-prefix=exchange-77", "--no-telemetry", "--log-level=error", "--no-huge",
        "--no-shconf", "-m", "128", "--vdev=net_memif0,role=server,socket=lobby", "--no-pci", "--iova-mode=va",
    ]  # fmt: skip


@pytest.mark.parametrize("huge_pages", [False, True])
def test_packet_buffers_that_the_peer_sees_are_in_files_that_can_be_handed_over(huge_pages: bool) -> None:
    device = "net_memif0,role=client,socket=lobby"
    more = set(arguments(f"{device},zero-copy=yes", huge_pages=huge_pages))
    assert more - set(arguments(device, huge_pages=huge_pages)) == {
        "--single-file-segments", f"--vdev={device},zero-copy=yes"
    }  # fmt: skip


def test_a_card_on_the_bus_is_allowed_and_no_other() -> None:
    assert arguments(
        "0000:03:00.0", memory_mib=512, huge_pages=True, numa_node=1, log_level="debug", file_prefix="mine",
        control_cores=(5,),
    ) == [
        "--lcores=0@(5)", "--file-prefix=mine", "--no-telemetry", "--log-level=debug", "--in-memory",
        "--socket-mem=0,512", "--allow=0000:03:00.0",
    ]  # fmt: skip
    assert "-m" in arguments("net_ring0", huge_pages=True)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("", "'' is no device; allowed are net_memif, net_ring"),
        ("net_mlx5", "'net_mlx5' is no device"),
        ("eth0", "'eth0' is no device"),
        ("3:0.0", "is no device"),
        ("net_memif0", "net_memif needs role=, which is server or client"),
        ("net_memif0,role=master", "role = 'master' is not allowed; it is server or client"),
        ("net_memif0,role=server,id=-1", "id = '-1' is not allowed; it is a number"),
        ("net_memif0,role=server,port=1", "net_memif has no parameter 'port'; allowed are role, id, socket"),
        ("net_memif0,role=server,role=client", "role is there twice"),
        ("net_memif0,role=server,mac=1:2", "mac = '1:2' is not allowed; it is six pairs"),
        ("net_ring0,x=1", "net_ring has no parameter 'x'; allowed are none"),
        ("net_af_packet0", "net_af_packet needs iface=, which is an interface of the kernel"),
        ("net_af_packet0,iface=../x", "iface = '../x' is not allowed"),
        ("net_af_packet0,iface=x,qdisc_bypass=2", "qdisc_bypass = '2' is not allowed; it is 0 or 1"),
        ("net_virtio_user0", "net_virtio_user needs path="),
    ],
)
def test_a_device_that_cannot_be_is_refused_by_key_and_value(device: str, words: str) -> None:
    told = refusal(device)
    assert told.startswith(f"transport.dpdk.device = {device!r}: ")
    assert words in told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory_mib": 63}, "transport.dpdk.memory_mib = 63: allowed are 64 to 65536"),
        ({"log_level": "loud"}, "transport.dpdk.log_level = 'loud': allowed are emergency, alert"),
        ({"file_prefix": "a/b"}, "transport.dpdk.file_prefix = 'a/b': allowed are up to 64 letters"),
        ({"control_cores": (0, 2)}, "transport.dpdk.control_cores = [0, 2]: allowed are 0, 1, 5"),
        ({"numa_node": 64}, "transport.dpdk.numa_node = 64: allowed are -1 (any) to 63"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(changes: dict[str, object], words: str) -> None:
    assert refusal("net_ring0", **changes).startswith(words)


def test_devices_have_names_of_their_own() -> None:
    assert "net_ring0 is there twice" in refusal("net_ring0", "net_ring0")
    assert "0 devices; allowed are 1 to 32" in refusal()
    assert sum(word.startswith("--vdev") for word in arguments("net_ring0", "net_ring1")) == 2


def test_the_interface_with_the_default_route_is_not_taken_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
        "other\t00000A0A\t00000000\t0001\t0\t0\t0\t0000FFFF\n"
        "lo\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\n"
    )
    device = parse_device("net_af_packet0,iface=lo", "key")
    with pytest.raises(UserError, match="lo carries this machine's default route"):
        check_interfaces(device, "key", routes=tmp_path)
    check_interfaces(device, "key", is_forced=True, routes=tmp_path)
    (tmp_path / "route").write_text("Iface\n")
    check_interfaces(device, "key", routes=tmp_path)
    zeros = "0" * 32
    (tmp_path / "ipv6_route").write_text(f"{zeros} 00 {zeros} 00 {zeros} 400 1 0 3 left\n")
    with pytest.raises(UserError, match="left carries this machine's default route"):
        check_interfaces(parse_device("net_pcap0,iface=left", "key"), "key", routes=tmp_path)
    with pytest.raises(UserError, match=r"there is no interface nothing; there are .*lo"):
        check_interfaces(parse_device("net_af_xdp0,iface=nothing", "key"), "key")
