"""In the emulated machine: replication over verbs, the interface of InfiniBand and RoCE, on Soft-RoCE.

The kernel has a device there that speaks RoCE over an ordinary network card. All else is what a real one would have:
memory that is registered and locked, keys, reliable connections, writes that the other side's processor does not see.
Ten thousand records and more go through, and what arrives is compared; then the backup revokes its memory. Times mean
nothing there; none is looked at.

The loops are compiled outside, for the guest's processor, by the same program over libfabric's TCP.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from exchange.lab_vm.machine import COMPILER_VARIABLES
from tests.replication_driver import needs_fabric
from tests.system.test_lab_vm import EXCHANGE, REPOSITORY, environment, ready

__all__ = ["ready"]

GUEST_SECONDS = 900
PROGRAM = [sys.executable, "-m", "tests.system.replication_over_verbs"]
NEEDED = {
    Path("/etc/libibverbs.d/rxe.driver"): "ibverbs-providers",
    Path("/usr/bin/rdma"): "iproute2",
}

IN_THE_GUEST = r"""
set -e
modprobe -a crc32_generic ib_uverbs rdma_cm rdma_ucm rdma_rxe
for path in /sys/class/net/*; do
    card=$(basename $path)
    [ $card = lo ] || break
done
ip link set $card up
ip address add 10.0.0.1/24 dev $card
rdma link add rxe0 type rxe netdev $card
rdma link show >&2
exec "$PYTHON" -m tests.system.replication_over_verbs rdma-verbs
"""


@pytest.mark.slow
@pytest.mark.timeout(GUEST_SECONDS + 300)
@pytest.mark.usefixtures("ready")
@needs_fabric
def test_replication_over_verbs_on_soft_roce(tmp_path: Path) -> None:
    if lacking := [package for path, package in NEEDED.items() if not path.exists()]:
        pytest.skip(f"sudo apt-get install {' '.join(lacking)}")
    compiled = environment(**COMPILER_VARIABLES)
    outside = subprocess.run(
        [*PROGRAM, "rdma-tcp"], capture_output=True, text=True, cwd=REPOSITORY, env=compiled, check=False
    )
    assert outside.returncode == 0, outside.stdout + outside.stderr
    script = tmp_path / "in-the-guest.sh"
    script.write_text(IN_THE_GUEST)
    done = subprocess.run(
        [*EXCHANGE, "run", "--timeout", str(GUEST_SECONDS), "--", "sh", script],
        capture_output=True, text=True, cwd=REPOSITORY, check=False,
        env=compiled | {"PYTHON": sys.executable, "FI_UNIVERSE_SIZE": "8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rxe0/1 state ACTIVE" in done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == json.loads(outside.stdout.splitlines()[-1])
    assert found["records"] > 10_000
    assert found["rounds"] > 30
    assert found["is_equal"]
    assert found["is_revoked"]
    assert found["failure"] == ""
