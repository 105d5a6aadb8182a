"""The emulated machine, booted: two nodes, cards that vfio takes and gives back, huge pages, output and exit status.

Each boot takes from seconds (KVM) to half a minute (emulation), so one boot answers for most.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exchange.cache_folder import cache_root
from exchange.errors import UserError
from exchange.lab_vm.guest_kernel import find_kernel
from exchange.lab_vm.requirements import missing_packages

REPOSITORY = Path(__file__).parents[2]
EXCHANGE = [sys.executable, "-m", "exchange", "lab-vm"]
TIMEOUT = ("--timeout", "200")

IN_THE_GUEST = r"""
set -e
show() { echo "$@" >&2; }
node_of() { cat /sys/bus/pci/devices/$1/numa_node; }
driver_of() { basename $(readlink /sys/bus/pci/devices/$1/driver); }
bind() {
    echo $1 >/sys/bus/pci/devices/$1/driver/unbind
    echo $2 >/sys/bus/pci/devices/$1/driver_override
    echo $1 >/sys/bus/pci/drivers_probe
}
cards=$(grep -l 0x020000 /sys/bus/pci/devices/*/class | xargs -n1 dirname | xargs -n1 basename)
show nodes $(cat /sys/devices/system/node/online) $(cat /sys/devices/system/node/node0/distance)
for card in $cards; do
    before=$(driver_of $card)
    bind $card vfio-pci
    during=$(driver_of $card)
    group=$(basename $(readlink /sys/bus/pci/devices/$card/iommu_group))
    [ -e /dev/vfio/$group ]
    bind $card ""
    show card $(node_of $card) $before $during $(driver_of $card)
done
for node in 0 1; do
    pages=/sys/devices/system/node/node$node/hugepages/hugepages-2048kB
    echo 16 >$pages/nr_hugepages
    show pages $(cat $pages/free_hugepages)
done
truncate -s 4M /dev/hugepages/pages && show hugetlbfs $(stat -f -c %T /dev/hugepages)
for folder in /tmp /run /dev/shm "$PWD"; do echo x >"$folder/lab-vm-was-here"; done
echo kept >"$WRITABLE/kept"
show marked $EXCHANGE_EMULATED $(id -u)
"$PYTHON" -c 'import exchange; print(exchange.__file__)'
echo 'the last line without an end' | head -c 28
exit 7
"""


@pytest.fixture(scope="module")
def ready() -> None:
    """Skips where the machine cannot be made; fetches the kernel, where there is none."""
    if missing := missing_packages():
        pytest.skip(f"sudo apt-get install {' '.join(missing)}")
    try:
        find_kernel(cache_root() / "lab-vm")
    except UserError as error:
        pytest.skip(str(error))


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPOSITORY)} | more


@pytest.mark.slow
@pytest.mark.usefixtures("ready")
def test_one_boot(tmp_path: Path) -> None:
    script = tmp_path / "in-the-guest.sh"
    script.write_text(IN_THE_GUEST)
    writable = tmp_path / "writable"
    writable.mkdir()
    done = subprocess.run(
        [*EXCHANGE, "run", *TIMEOUT, "--writable", writable, "--", "sh", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(WRITABLE=str(writable), PYTHON=sys.executable),
        check=False,
    )
    assert done.returncode == 7, done.stdout + done.stderr
    assert done.stdout == f"{REPOSITORY / 'exchange/__init__.py'}\nthe last line without an end"
    told = done.stderr.splitlines()
    assert told[0] == "nodes 0-1 10 21"
    cards = sorted(line.split()[1:] for line in told if line.startswith("card"))
    drivers = [[kind, "vfio-pci", kind] for kind in ("e1000e", "virtio-pci")]
    assert cards == [[node, *names] for node in "01" for names in drivers]
    assert told.count("pages 16") == 2
    assert "hugetlbfs hugetlbfs" in told
    assert told[-1] in ("marked tcg 0", "marked kvm 0")
    assert (writable / "kept").read_text() == "kept\n"
    for folder in (Path("/tmp"), Path("/run"), Path("/dev/shm"), tmp_path):
        assert not (folder / "lab-vm-was-here").exists()


def descendants(pid: int) -> list[int]:
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return children + [one for child in children for one in descendants(child)]


def has_ended(pid: int) -> bool:
    """Whether there is no such process, or only what its parent has not yet asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
@pytest.mark.usefixtures("ready")
def test_output_streams_and_ctrl_c_ends_the_machine(tmp_path: Path) -> None:
    command = [*EXCHANGE, "run", "--card", "none", *TIMEOUT, "--", "sh", "-c", "echo begun; sleep 1000"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=environment(TMPDIR=str(temporary)),
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        machine = descendants(running.pid)
        assert machine
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "exchange: stopped" in errors
    assert all(has_ended(pid) for pid in machine)
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("ready")
def test_a_machine_dies_with_the_command_that_started_it(tmp_path: Path) -> None:
    command = [*EXCHANGE, "run", "--accelerator", "tcg", *TIMEOUT, "--", "true"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment()
    ) as running:
        while not (machine := [pid for pid in descendants(running.pid) if is_qemu(pid)]):
            assert running.poll() is None
            time.sleep(0.01)
        running.kill()
    deadline_s = time.monotonic() + 60
    while not all(map(has_ended, machine)):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def is_qemu(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("qemu")
    except OSError:
        return False


@pytest.mark.usefixtures("ready")
def test_a_machine_that_takes_too_long_is_ended() -> None:
    done = subprocess.run(
        [*EXCHANGE, "run", "--timeout", "0.5", "--", "true"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert (done.returncode, done.stdout) == (124, "")
    assert "exchange: ended after --timeout 0.5 seconds" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--cpus", "3", "--", "true"), "--cpus 3: allowed are even numbers from 2 to 64"),
        (
            ("run", "--timeout", "-1", "--", "true"),
            "--timeout -1: allowed are 0, for none, to 1,000,000 seconds",
        ),
        (("run", "--card", "none", "--card", "e1000e", "--", "true"), "--card none: allowed only by itself"),
        (("shell",), "shell needs a terminal"),
    ],
)
def test_mistakes_are_told_on_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = subprocess.run(
        [*EXCHANGE, *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"exchange: .*\n", done.stderr)
    assert message in done.stderr
