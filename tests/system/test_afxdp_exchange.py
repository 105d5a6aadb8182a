"""An exchange whose clients come through AF_XDP: the real one, served, over a cable between two network namespaces."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.dpdk_driver import needs_afxdp, run_case
from tests.market_data_driver import free_port
from tests.system.test_dpdk import wire
from tests.system.test_dpdk_exchange import START_SECONDS, check, command, load, served
from tests.system.test_serve_command import write_cheap_user

__all__ = ["wire"]

pytestmark = needs_afxdp

ON_LEFT = ("transport.kind=afxdp", "transport.interface=left")


def _statistics(inside: tuple[str, ...], port: int, token: Path) -> dict[str, Any]:
    asked = command(
        "admin", "--json", "--url", f"http://127.0.0.1:{port}", "--token-file", str(token), "statistics"
    )
    told = subprocess.run([*inside, *asked], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(told.stdout)["port"]
    return found


@pytest.mark.parametrize("ends_by", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_over_a_cable_between_two_namespaces(
    tmp_path: Path, wire: tuple[tuple[str, ...], tuple[str, ...]], ends_by: signal.Signals
) -> None:
    left, right = wire
    subprocess.run([*left, "ip", "link", "set", "lo", "up"], check=True)
    port, token = free_port(), tmp_path / "token"
    admin = ("admin.kind=http", f"admin.port={port}", f"admin.token_file={token}")
    with served(tmp_path / "users", *ON_LEFT, *admin, inside=left, ends_by=ends_by):
        check(load(tmp_path, "right", right, transport="afxdp"))
        counted = _statistics(left, port, token)
        assert run_case("program_on", "left", prefix=left, module="tests.afxdp_cases")
    # All requests, and what logs on, acknowledges and logs out.
    assert counted["frames_datagram"] > 100
    assert counted["frames_arp_request"] >= 1
    assert counted["frames_bad_udp_checksum"] == counted["frames_other_type"] == 0
    assert 0 < counted["system_calls_send"] <= counted["frames_sent"]
    assert counted["system_calls_receive"] == 0
    assert counted["rx_dropped"] == 0
    assert not run_case("program_on", "left", prefix=left, module="tests.afxdp_cases")


def test_an_exchange_that_sleeps_until_a_frame_comes(
    tmp_path: Path, wire: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    left, right = wire
    block = ("idle.kind=block", 'shards.threads=[["ingress","shard.0","egress"]]')
    with served(tmp_path / "users", *ON_LEFT, *block, inside=left):
        check(load(tmp_path, "right", right, transport="afxdp"))


def test_an_exchange_without_its_interface_says_so(tmp_path: Path) -> None:
    write_cheap_user(tmp_path / "users", "alice")
    done = subprocess.run(
        command("serve", "serve", "--users", str(tmp_path / "users"), "--set", "transport.kind=afxdp",
                "--set", "transport.interface=nowhere"),
        capture_output=True, text=True, check=False, timeout=START_SECONDS,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert "exchange: transport.interface = 'nowhere': there is no interface nowhere" in done.stderr
    assert "Traceback" not in done.stderr
