"""DPDK as a port: between two processes, to the kernel as a peer, from one captured file to another; its manners."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exchange.ethernet import FrameKind
from tests import pcap
from tests.dpdk_driver import Case, needs_dpdk, needs_namespaces, needs_tap, run_case, running
from tests.ethernet_oracle import THEM, US, datagram, judge

pytestmark = needs_dpdk

KERNEL_CLIENT = Path(__file__).parents[1] / "kernel_client.py"
ROUNDS = "2000"
DURATION_MS = "200"
WINDOW = "256"
BEFORE_SECONDS = 1.5
"""A client that was started so long ago has looked for its server, unless the machine is busy."""


@pytest.fixture
def wire() -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Two network namespaces with a cable between ``left`` in one and ``right`` in the other: how to run in each."""
    names = (f"exchange-left-{os.getpid()}", f"exchange-right-{os.getpid()}")
    made: list[str] = []
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            made.append(name)
        inside = ("ip", "-n", names[0])
        cable = ("link", "add", "left", "type", "veth", "peer", "name", "right", "netns", names[1])
        subprocess.run([*inside, *cable], check=True)
        for name, end in zip(names, ("left", "right"), strict=True):
            subprocess.run(["ip", "-n", name, "link", "set", end, "up"], check=True)
        yield (("ip", "netns", "exec", names[0]), ("ip", "netns", "exec", names[1]))
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=True)


def check_round_trips(server: Case, client: dict[str, float], held: int = 0) -> None:
    """``held``: how many packet buffers the client's driver may keep until it sends the next."""
    assert 0 <= client["leaked"] <= held
    assert client["lost"] < int(ROUNDS) // 2, "a busy machine may be late now and then"
    assert client["echoes"] > 0
    assert client["is_counted"]
    reflected = server.end()
    assert reflected["leaked"] == 0
    assert reflected["frames"]["ARP_REQUEST"] > 0
    assert reflected["frames"]["DATAGRAM"] >= client["echoes"] + int(ROUNDS)


@pytest.mark.parametrize(("more", "held"), [("", 0), (",zero-copy=yes", 2048)])
def test_two_processes_over_shared_memory(more: str, held: int) -> None:
    socket = f"socket=exchange-pair-{os.getpid()}"
    with running("reflector", f"net_memif0,role=server,{socket}") as server:
        client = run_case("client", f"net_memif0,role=client,{socket}{more}", ROUNDS, DURATION_MS, WINDOW)
        check_round_trips(server, client, held)


def test_two_processes_as_a_machine_and_its_guest(tmp_path: Path) -> None:
    with running("reflector", f"net_vhost0,iface={tmp_path}/vhost") as server:
        device = f"net_virtio_user0,path={tmp_path}/vhost"
        check_round_trips(server, run_case("client", device, ROUNDS, DURATION_MS, WINDOW), held=256)


def test_a_client_waits_for_its_server_and_for_one_that_was_killed(tmp_path: Path) -> None:
    socket = f"socket={tmp_path}/memif,socket-abstract=no"
    client = Case("comes_and_goes", f"net_memif0,role=client,{socket}")
    try:
        time.sleep(BEFORE_SECONDS)
        for times in range(3):
            # The second finds the file of the first's socket, which nobody listens to any more.
            with running("reflector", f"net_memif0,role=server,{socket}") as server:
                if times == 0:
                    client.wait_until_ready()
                assert client.process.stdin is not None
                client.process.stdin.write("again\n")
                client.process.stdin.flush()
                client.wait_until_ready()
                server.kill()
        assert client.end() == {"answers": 3}
    finally:
        if client.process.poll() is None:
            client.kill()


@needs_namespaces
def test_two_network_namespaces_over_packet_sockets(wire: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    left, right = wire
    with running("reflector", "net_af_packet0,iface=left", prefix=left) as server:
        client = run_case("client", "net_af_packet0,iface=right", ROUNDS, DURATION_MS, "32", prefix=right)
        check_round_trips(server, client)


@needs_namespaces
def test_the_kernel_finds_us_and_understands_us(wire: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    left, right = wire
    with running("reflector", "net_af_packet0,iface=left", prefix=left) as server:
        reflected = check_kernel_is_answered(server, right, "right")
    check_frames_of_the_kernel(reflected)


@needs_namespaces
@needs_tap
def test_the_kernel_reaches_us_through_an_interface_of_our_making(
    wire: tuple[tuple[str, ...], tuple[str, ...]],
) -> None:
    left, _ = wire
    with running("reflector", "net_tap0,iface=ours", prefix=left) as server:
        reflected = check_kernel_is_answered(server, left, "ours")
    check_frames_of_the_kernel(reflected)


def check_frames_of_the_kernel(reflected: dict[str, Any]) -> None:
    assert reflected["leaked"] == 0
    assert reflected["frames"]["DATAGRAM"] >= 50
    assert reflected["frames"]["ARP_REQUEST"] > 0


def check_kernel_is_answered(server: Case, inside: tuple[str, ...], interface: str) -> Any:
    """Ask a reflector through the kernel; what it returned."""
    subprocess.run([*inside, "ip", "address", "add", "192.0.2.9/24", "dev", interface], check=True)
    subprocess.run([*inside, "ip", "link", "set", interface, "up"], check=True)
    told = subprocess.run(
        [*inside, sys.executable, str(KERNEL_CLIENT), interface, "192.0.2.1", "9005"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert json.loads(told.stdout) == {"answered": 50}
    return server.end()


def test_wrong_frames_are_counted_and_dropped_and_arp_is_answered() -> None:
    got = run_case("wrong_frames")
    assert got.pop("kinds") == len(FrameKind), "every kind was there"
    assert got == {
        "payloads": ["right", ""], "is_as_expected": True, "answered": [1, 0], "replies": 1, "leaked": 0,
    }  # fmt: skip


def test_a_captured_file_goes_in_and_the_answers_come_out_in_another(tmp_path: Path) -> None:
    payloads = [b"%d is the number" % index for index in range(200)]
    frames = [datagram(payload, THEM, US) for payload in payloads]
    frames[100:100] = [datagram(b"for another", THEM, THEM), b"junk" * 20, datagram(b"x", THEM, US, port=1)]
    pcap.write_frames(tmp_path / "in.pcap", frames)
    got = run_case("capture", str(tmp_path / "in.pcap"), str(tmp_path / "out.pcap"))
    assert [bytes.fromhex(payload) for payload in got["payloads"]] == payloads
    answers = [judge(frame, THEM) for frame in pcap.frames(tmp_path / "out.pcap")]
    assert answers == [(FrameKind.DATAGRAM, payload[::-1]) for payload in payloads]


def test_starting_leaves_threads_and_signals_as_they_were() -> None:
    assert run_case("kept_as_it_was") == {
        "is_kept": True, "threads": True, "stray": [], "is_same": True, "is_refused": True, "litter": [],
    }  # fmt: skip


def test_threads_that_end_leave_their_place() -> None:
    assert run_case("threads_come_and_go", "300") == {"got": 300, "leaked": 0}


def test_packet_buffers_that_run_out_come_back() -> None:
    assert run_case("small_pool") == {"is_refused": True, "is_whole": True, "leaked": 0, "is_counted": True}


@needs_namespaces
def test_a_card_with_two_queues_deals_its_clients_out() -> None:
    devices = ("net_af_packet0,iface=left,qpairs=2", "net_af_packet1,iface=right")
    assert run_case("several_queues", *devices, in_namespace=True) == {
        "flows": 32, "split": [], "used": [0, 1], "is_found": True,
    }  # fmt: skip


def test_each_queue_of_a_machine_answers_that_of_its_guest(tmp_path: Path) -> None:
    with running("two_queues_reflector", f"net_vhost0,iface={tmp_path}/vhost,queues=2") as server:
        told = run_case("two_queues_client", f"net_virtio_user0,path={tmp_path}/vhost,queues=2")
        assert told == {"answered": [[50, 0], [0, 50]]}
        assert server.end() == {"came": [50, 50]}


def test_a_client_that_was_killed_is_followed_by_another() -> None:
    socket = f"socket=exchange-killed-{os.getpid()}"
    device = f"net_memif0,role=client,{socket}"
    with running("reflector", f"net_memif0,role=server,{socket}") as server:
        for _ in range(3):
            with running("flooding_client", device) as client:
                client.kill()
        check_round_trips(server, run_case("client", device, ROUNDS, DURATION_MS, WINDOW))


def test_what_cannot_be_had_is_refused_in_one_line() -> None:
    socket = f"exchange-nobody-{os.getpid()}"
    told = run_case("refused", socket)
    memif = f"dpdk.device = 'net_memif0,role=client,socket={socket}'"
    assert told["nobody serves"].startswith(
        f"{memif}: DPDK could not start; is there somebody at the other end?"
    )
    assert told["unknown"].endswith("EAL was started without it; allowed are net_memif0, net_ring0")
    assert told["buffers"] == "dpdk.buffers = 10: allowed are 1024 to 1048576"
    assert told["memory"].startswith("dpdk.buffers = 1048576: not in memory")
    assert told["queues"] == (
        "dpdk.ingress_lanes = 17: each takes a receiving queue, and net_ring0 has 16 receiving queues; "
        "allowed are 1 to 16"
    )
    assert told["nobody answers"].startswith("load.address = 192.0.2.2: nobody on ")
    assert not any("\n" in text for text in told.values())


@needs_namespaces
def test_an_interface_that_is_down_is_refused() -> None:
    device = "net_af_packet0,iface=lo"
    told = run_case("not_started", device, prefix=("unshare", "--net"))
    assert told == f"dpdk.device = {device!r}: it is down; 'ip link set lo up' brings it up"


def test_a_device_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    device = f"net_pcap0,rx_pcap={tmp_path}/nothing.pcap"
    assert run_case("not_started", device).startswith(f"dpdk.device = {device!r}: DPDK could not make it")
