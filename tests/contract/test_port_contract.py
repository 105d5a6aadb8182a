"""Every port keeps the contract: a socket here; a card in a process of its own, since EAL starts once in a process."""

import socket
from collections.abc import Iterator

import pytest

from exchange.datagrams.kernel_socket import KernelSocket
from exchange.native.datagram_headers import socket_address
from tests.dpdk_driver import needs_afxdp, needs_dpdk, needs_namespaces, needs_xdp, run_case
from tests.port_contract import CHECKS, End

TOO_LONG_BYTES = 70_000


@pytest.fixture
def sockets() -> Iterator[tuple[End, End]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as left,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as right,
    ):
        ends = []
        for one in (left, right):
            one.bind(("127.0.0.1", 0))
            one.setblocking(False)
            ends.append(End(KernelSocket(one.fileno()), socket_address(*one.getsockname()), TOO_LONG_BYTES))
        yield ends[0], ends[1]


@pytest.mark.parametrize("check", CHECKS)
def test_a_socket_keeps_the_contract(check: str, sockets: tuple[End, End]) -> None:
    CHECKS[check](*sockets)


@needs_dpdk
def test_a_ring_keeps_the_contract() -> None:
    assert run_case("contract", "net_ring0") == {"leaked": 0}


@needs_dpdk
def test_a_ring_keeps_the_contract_without_a_compiler() -> None:
    assert run_case("contract", "net_ring0", environment={"NUMBA_DISABLE_JIT": "1"}) == {"leaked": 0}


@needs_dpdk
def test_shared_memory_keeps_the_contract() -> None:
    name = "exchange-test-{process}"
    devices = (f"net_memif0,role=server,socket={name}", f"net_memif1,role=client,socket={name}")
    assert run_case("contract", *devices) == {"leaked": 0}


@needs_dpdk
@needs_namespaces
def test_a_packet_socket_keeps_the_contract() -> None:
    devices = ("net_af_packet0,iface=left", "net_af_packet1,iface=right")
    assert run_case("contract", *devices, in_namespace=True) == {"leaked": 0}


@needs_dpdk
@needs_namespaces
@needs_xdp
def test_af_xdp_keeps_the_contract() -> None:
    devices = ("net_af_xdp0,iface=left", "net_af_xdp1,iface=right")
    # What the kernel has sent is taken back with the next thing to send, so a few are always away.
    assert 0 <= run_case("contract", *devices, in_namespace=True)["leaked"] < 64


@needs_afxdp
@pytest.mark.parametrize("mode", ["native", "skb"])
def test_rings_shared_with_the_kernel_keep_the_contract(mode: str) -> None:
    told = run_case("contract", mode, module="tests.afxdp_cases", in_namespace=True)
    assert told == {"is_zero_copy": False, "is_called": True, "receive_calls": 0, "invalid": 0}


@needs_afxdp
def test_rings_shared_with_the_kernel_keep_the_contract_without_a_compiler() -> None:
    environment = {"NUMBA_DISABLE_JIT": "1"}
    told = run_case(
        "contract", "auto", module="tests.afxdp_cases", in_namespace=True, environment=environment
    )
    assert told["is_called"]
