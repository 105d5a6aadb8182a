"""In the emulated machine: replication over verbs, the interface of InfiniBand and RoCE, on Soft-RoCE.

The kernel has a device there that speaks RoCE over an ordinary network card. All else is what a real one would have:
memory that is registered and locked, keys, reliable connections, writes that the other side's processor does not see.
Ten thousand orders are matched, by gate, and the books of primary and backup come to the digest that they come to
outside; then a backup revokes its memory. Both sides are processes of the one guest, so the device's packets come back
to itself. Times mean nothing there; none is looked at.

The loops are compiled outside, for the guest's processor, by the same program over libfabric's TCP; modules of Python,
too.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exchange.cache_folder import cache_root
from exchange.lab_vm.guest_kernel import find_kernel, modules_for
from exchange.lab_vm.machine import COMPILER_VARIABLES
from exchange.lab_vm.requirements import find_program
from tests.replication_driver import needs_fabric
from tests.system.test_lab_vm import EXCHANGE, REPOSITORY, environment, ready

__all__ = ["ready"]

GUEST_SECONDS = 900
"""A machine that does nothing else takes a tenth of it."""

PROGRAM = "tests.system.replication_over_verbs"
DRIVERS = ("crc32_generic", "ib_uverbs", "rdma_cm", "rdma_ucm", "rdma_rxe")
USER_DRIVER = Path("/etc/libibverbs.d/rxe.driver")
PACKETS_MIN = 1_000
"""Frames of a batch take more."""

IN_THE_GUEST = r"""
set -e
modprobe -a $DRIVERS
ip link set eth0 up
ip address add 10.0.0.1/24 dev eth0
rdma link add rxe0 type rxe netdev eth0
rdma link show >&2
"$PYTHON" -m $PROGRAM rdma-verbs replication.provider=verbs replication.address=10.0.0.1
grep . /sys/class/infiniband/rxe0/ports/1/hw_counters/*_pkts >&2
"""


def ran(command: list[object], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What a command of this folder has said."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=REPOSITORY, env=variables, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def told_by(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def has_soft_roce(ready: None) -> None:
    """Skips where the guest's kernel has no such device, or this machine no programs for it."""
    if not USER_DRIVER.exists():
        pytest.skip("sudo apt-get install ibverbs-providers")
    if find_program("rdma") is None:
        pytest.skip("sudo apt-get install iproute2")
    kernel = find_kernel(cache_root() / "lab-vm")
    try:
        modules_for(kernel, DRIVERS)
    except LookupError as error:
        pytest.skip(f"the kernel {kernel.release} has no module {error}")


@pytest.mark.slow
@pytest.mark.timeout(GUEST_SECONDS + 300)
@pytest.mark.usefixtures("has_soft_roce")
@needs_fabric
def test_replication_over_verbs_on_soft_roce(tmp_path: Path) -> None:
    variables = environment(
        **COMPILER_VARIABLES,
        PYTHONPYCACHEPREFIX=str(tmp_path / "bytecode"),
        PYTHON=sys.executable,
        PROGRAM=PROGRAM,
        DRIVERS=" ".join(DRIVERS),
    )
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    outside = ran([sys.executable, "-m", PROGRAM, "rdma-tcp", "replication.provider=tcp"], variables)
    script = tmp_path / "in-the-guest.sh"
    script.write_text(IN_THE_GUEST)
    cards = ("--card", "virtio-net", "--card", "virtio-net")
    inside = ran([*EXCHANGE, "run", *cards, "--timeout", GUEST_SECONDS, "--", "sh", script], variables)
    assert "rxe0/1 state ACTIVE" in inside.stderr
    packets = dict(re.findall(r"(\w+)_pkts:(\d+)", inside.stderr))
    assert min(int(packets["sent"]), int(packets["rcvd"])) > PACKETS_MIN, packets
    told, told_outside = told_by(inside), told_by(outside)
    assert (told.pop("delivers"), told_outside.pop("delivers")) == (False, True)
    assert told == told_outside
    assert told["orders"] >= 10_000
    assert len(set(told["digests"].values())) == 1
    assert told["records"] > 0
    assert told["is_untouched"]
