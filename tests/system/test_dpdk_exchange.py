"""An exchange whose clients come over a card: the real one, served, under the load of another process.

Over memif, which is shared memory, and over a cable between two network namespaces. Every request is answered, the
sessions end in order, and both processes end when they are told to.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.dpdk_driver import needs_dpdk, needs_namespaces, needs_tap, needs_xdp
from tests.market_data_driver import free_port
from tests.system.test_dpdk import KERNEL_CLIENT, wire
from tests.system.test_serve_command import PASSWORD, write_cheap_user

__all__ = ["wire"]

pytestmark = needs_dpdk

START_SECONDS = 240
INTERRUPTED = 130
"""The status of a command that was ended by Ctrl-C."""
USERS = ("alice", "bob")
SETTINGS = ("market_data.kind=none", "admin.kind=none")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "exchange", *arguments]


@contextmanager
def served(
    users: Path,
    *settings: str,
    inside: Sequence[str] = (),
    names: Sequence[str] = USERS,
    ends_by: signal.Signals = signal.SIGTERM,
    address: str = "10.0.0.1",
) -> Iterator[subprocess.Popen[str]]:
    """An exchange on a card, until the block ends; it has to end in order then, unless the block has ended it."""
    for name in names:
        write_cheap_user(users, name)
    sets = [
        part for one in (*SETTINGS, f"transport.card_address={address}", *settings) for part in ("--set", one)
    ]
    process = subprocess.Popen(
        [*inside, *command("serve", "serve", "--quiet", "--users", str(users), *sets)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if f"listening on {address} port 9005" not in process.stdout.readline():
            raise AssertionError(process.communicate()[1])
        yield process
        if process.poll() is None:
            process.send_signal(ends_by)
            output = process.communicate(timeout=30)
            assert process.returncode == (INTERRUPTED if ends_by == signal.SIGINT else 0), output
            assert "Traceback" not in output[1]
    finally:
        process.kill()
        process.communicate()


def on_dpdk(device: str) -> tuple[str, str]:
    return "transport.kind=dpdk", f"transport.device={device}"


def start_load(
    folder: Path,
    device: str,
    rate: int | str,
    seconds: float,
    inside: Sequence[str] = (),
    users: Sequence[str] = USERS,
    transport: str = "dpdk",
    endpoint: str = "10.0.0.1:9005",
    more: Sequence[str] = (),
) -> subprocess.Popen[str]:
    """A load over a card; over the kernel's own UDP, if there is no card."""
    line = ("--transport", transport, "--device", device) if device else ("--transport", "udp")
    return subprocess.Popen(
        [*inside, *command("load", endpoint, "--users", ",".join(users), "--password-env", "SECRET",
         *line, *more, "--rate", str(rate), "--seconds", str(seconds), "--warm-up", "0.2",
         "--json", str(folder / "load.json"), "--html", str(folder / "load.html"))],
        env=os.environ | {"SECRET": PASSWORD}, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def load(
    folder: Path,
    device: str,
    inside: Sequence[str] = (),
    users: Sequence[str] = USERS,
    transport: str = "dpdk",
) -> dict[str, Any]:
    """What a short load over a card was answered; over the kernel's own UDP, if there is no card."""
    return finish_load(start_load(folder, device, 500, 1, inside, users, transport), folder)


def finish_load(process: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    """Wait for a load; what it was answered."""
    path = folder / "load.json"
    try:
        _, errors = process.communicate(timeout=START_SECONDS)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    (profile,) = json.loads(path.read_text())["profiles"]
    found: dict[str, Any] = profile["load_points"][0]["counts"]
    return found


def check(counts: dict[str, Any]) -> None:
    assert counts["sent"] == 600
    assert counts["unanswered"] == counts["rejected"] == counts["not sent"] == 0
    assert counts["answered"] + counts["lapsed"] == counts["sent"]
    assert counts["executions"] > 0


def test_over_shared_memory(tmp_path: Path) -> None:
    socket, port, token = f"socket=exchange-served-{os.getpid()}", free_port(), tmp_path / "token"
    admin = ("admin.kind=http", f"admin.port={port}", f"admin.token_file={token}")
    with served(tmp_path / "users", *on_dpdk(f"net_memif0,role=server,{socket}"), *admin):
        check(load(tmp_path, f"net_memif0,role=client,{socket}"))
        asked = command(
            "admin", "--json", "--url", f"http://127.0.0.1:{port}", "--token-file", str(token), "statistics"
        )
        told = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    counted = told["port"]
    # All requests, and what logs on, acknowledges and logs out.
    assert counted["frames_datagram"] > 100
    assert counted["frames_arp_request"] >= 1
    assert counted["frames_sent"] > 100
    assert counted["frames_bad_udp_checksum"] == counted["frames_other_type"] == 0
    assert "rx_good_packets" in counted, "the driver's own counts are there as well"


@needs_namespaces
@pytest.mark.parametrize("driver", ["net_af_packet0", pytest.param("net_af_xdp0", marks=needs_xdp)])
def test_over_a_cable_between_two_namespaces(tmp_path: Path, wire: Any, driver: str) -> None:
    left, right = wire
    with served(tmp_path / "users", *on_dpdk(f"{driver},iface=left"), inside=left):
        check(load(tmp_path, f"{driver},iface=right", right))


@needs_namespaces
@pytest.mark.parametrize(
    "device", [pytest.param("net_tap0,iface=card", marks=needs_tap), "net_af_packet0,iface=left,qpairs=2"]
)
def test_clients_are_dealt_out_to_two_queues_and_each_is_served_by_its_lane(
    tmp_path: Path, wire: Any, device: str
) -> None:
    """The kernel's clients choose a queue by their ports, so that of sixteen some come to each."""
    left, right = wire
    inside, interface = (left, "card") if device.startswith("net_tap") else (right, "right")
    users, port, token = [f"user{one}" for one in range(16)], free_port(), tmp_path / "token"
    settings = (
        "transport.ingress_lanes=2", "queue.kind=mpsc", "idle.kind=park",
        'shards.threads=[["ingress.0"],["ingress.1","egress"],["shard.0"]]',
        "admin.kind=http", f"admin.port={port}", f"admin.token_file={token}",
    )  # fmt: skip
    with served(tmp_path / "users", *on_dpdk(device), *settings, inside=left, names=users):
        subprocess.run([*inside, "ip", "address", "add", "10.0.0.2/24", "dev", interface], check=True)
        subprocess.run([*left, "ip", "link", "set", "dev", "lo", "up"], check=True)
        subprocess.run([*inside, sys.executable, str(KERNEL_CLIENT), interface], check=True)
        check(load(tmp_path, "", inside, users))
        asked = command(
            "admin", "--json", "--url", f"http://127.0.0.1:{port}", "--token-file", str(token), "statistics"
        )
        told = json.loads(subprocess.run([*left, *asked], capture_output=True, text=True, check=True).stdout)
    for queue in (0, 1):
        assert told["port"][f"rx_q{queue}_packets"] > 20
        assert told["port"][f"tx_q{queue}_packets"] > 20, "who is heard on a queue is answered on it"


@needs_namespaces
def test_more_lanes_than_the_device_has_queues_are_refused(tmp_path: Path, wire: Any) -> None:
    inside, _ = wire
    write_cheap_user(tmp_path / "users", "alice")
    settings = (
        "transport.kind=dpdk", "transport.device=net_af_packet0,iface=left", "transport.ingress_lanes=3",
        "queue.kind=mpsc", "shards.threads=auto",
    )  # fmt: skip
    sets = [part for one in settings for part in ("--set", one)]
    done = subprocess.run(
        [*inside, *command("serve", "serve", "--users", str(tmp_path / "users"), *sets)],
        capture_output=True, text=True, check=False, timeout=START_SECONDS,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert (
        "exchange: transport.ingress_lanes = 3: each takes a receiving queue, and net_af_packet0 has 1 receiving "
        "queue; allowed are 1 to 1" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_an_exchange_without_its_device_says_so(tmp_path: Path) -> None:
    write_cheap_user(tmp_path / "users", "alice")
    done = subprocess.run(
        command("serve", "serve", "--users", str(tmp_path / "users"), "--set", "transport.kind=dpdk",
                "--set", "transport.device=net_af_packet0,iface=nowhere"),
        capture_output=True, text=True, check=False, timeout=START_SECONDS,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert "exchange: transport.device = " in done.stderr
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
