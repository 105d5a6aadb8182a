"""In the emulated machine: two PCI cards that vfio has, the exchange on one, its clients on the other.

The whole path of a real card runs: vfio and the IOMMU, DPDK's poll-mode drivers, huge pages on the card's node. Ten
thousand orders go over the wire, each is answered, and the books that the exchange had at its end are those that its
journal comes to outside, with the compiled book and with the textbook's. Times mean nothing there; none is looked at.

The loops are compiled outside, for the guest's processor, by the same exchange over shared memory; modules of Python,
too. The guest takes minutes still, so both kinds of cards are in one boot and joined to each other, the exchange having
the one whose link comes some time after its start. EXCHANGE_TEST_CARDS names other pairs, a boot for each and the
exchange's first, as ``virtio-net:e1000e`` or ``e1000e:e1000e,virtio-net:virtio-net``.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from exchange.gateway.credentials import User, write_user
from exchange.lab_vm.machine import COMPILER_VARIABLES
from tests.dpdk_driver import needs_dpdk
from tests.system.test_dpdk_exchange import USERS, command, on_dpdk
from tests.system.test_dpdk_exchange import load as load_over_memif
from tests.system.test_dpdk_exchange import served as served_over_memif
from tests.system.test_lab_vm import EXCHANGE, environment, ready
from tests.system.test_serve_command import PASSWORD

__all__ = ["ready"]

ORDERS = 10_000
GUEST_SECONDS = 1100
"""A machine that does nothing else takes a tenth of it."""

PAIRS = os.environ.get("EXCHANGE_TEST_CARDS", "e1000e:virtio-net").split(",")
CLIENT, SERVER = "0000:41:00.0", "0000:81:00.0"
"""Where the first two cards of the machine are: on node 0 and on node 1."""
IDLE = ("idle.kind=park", "idle.park_ns=2000000")
"""A thread that spins would have all of a real core, and the other processes of the guest are slow enough."""

UNCOUNTED_MAX = 16
"""Orders that the last request of all may fill."""

IN_THE_GUEST = r"""
set -e
bind() {
    echo $1 >/sys/bus/pci/devices/$1/driver/unbind
    echo $2 >/sys/bus/pci/devices/$1/driver_override
    echo $1 >/sys/bus/pci/drivers_probe
}
driver_of() { basename $(readlink /sys/bus/pci/devices/$1/driver); }
wait_for() {
    until grep -q "$2" "$3"; do
        kill -0 $1 || exit 1
        sleep 0.5
    done
}
# A segment is filled block by block there, for the files of the machine outside cannot be asked for room.
sets="--set market_data.kind=none --set admin.kind=none --set journal.kind=file --set journal.directory=journal
    --set journal.segment_bytes=4MiB
    --set gateway.slow_reader_ns=60000000000 $IDLE --set transport.huge_pages=true --set transport.device=$SERVER"
"$PYTHON" check.py $SERVER >refused
bind $SERVER vfio-pci
"$PYTHON" check.py $SERVER >taken
bind $CLIENT vfio-pci
pages=/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages
echo 70 >$pages
"$PYTHON" -m exchange serve bypass --users users $sets >serve.out 2>serve.err &
serving=$!
# Both start at once, which takes them minutes; whoever is first waits for the other.
"$PYTHON" -m exchange load 10.0.0.1:9005 --users $USERS --password-env SECRET --transport dpdk --device $CLIENT \
    --rate $RATE --seconds $SECONDS_MEASURED --warm-up 1 --patience $PATIENCE --keep-orders \
    --json load.json --html load.html >load.out &
loading=$!
wait_for $serving listening serve.out
wait_for $loading figures: load.out
# What is left to it is a report that nobody reads, and in which an emulated processor takes a minute.
kill -TERM $loading
wait $loading || true
kill -TERM $serving
wait $serving || status=$?
echo status ${status:-0}
for card in $SERVER $CLIENT; do
    bind $card ""
    echo driver $(driver_of $card)
done
echo free $(cat ${pages%nr_hugepages}free_hugepages)
"""


CHECK = """
import sys
from exchange.dpdk.cards import check_card
from exchange.dpdk.devices import parse_device
from exchange.errors import UserError
try:
    check_card(parse_device(sys.argv[1], "transport.device"), "transport.device")
except UserError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def compiled(ready: None, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment in which the guest finds its loops compiled, which is done here."""
    folder = tmp_path_factory.mktemp("compiled")
    socket = f"socket=exchange-lab-vm-{os.getpid()}"
    kept = ("journal.kind=file", f"journal.directory={folder / 'journal'}", *IDLE)
    variables = {**COMPILER_VARIABLES, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        with served_over_memif(folder / "users", *on_dpdk(f"net_memif0,role=server,{socket}"), *kept):
            load_over_memif(folder, f"net_memif0,role=client,{socket}")
    return variables


def replayed(journal: Path, book: str) -> str:
    """What a journal comes to with a kind of book."""
    asked = command("journal", "replay", str(journal), "--book", book)
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def number_before(words: str, text: str) -> int:
    found = re.search(rf"([\d,]+) {words}", text)
    assert found, text
    return int(found[1].replace(",", ""))


@pytest.mark.slow
@pytest.mark.timeout(GUEST_SECONDS + 600)
@needs_dpdk
@pytest.mark.parametrize("pair", PAIRS)
def test_an_exchange_and_its_clients_on_two_cards(
    pair: str, compiled: Mapping[str, str], tmp_path: Path
) -> None:
    # Passwords that are cheap to check, and dear enough there.
    for name in USERS:
        write_user(tmp_path / "users", User.create(name, PASSWORD, cost=2))
    server_kind, client_kind = pair.split(":")
    cards = ("--card", client_kind, "--card", server_kind)
    script = tmp_path / "in-the-guest.sh"
    script.write_text(IN_THE_GUEST)
    (tmp_path / "check.py").write_text(CHECK)
    variables = {
        "SERVER": SERVER,
        "CLIENT": CLIENT,
        "USERS": ",".join(USERS),
        "SECRET": PASSWORD,
        "PATIENCE": "400",
    }
    variables["IDLE"] = " ".join(f"--set {one}" for one in IDLE)
    rate = {"RATE": "500", "SECONDS_MEASURED": str(ORDERS / 500)}
    done = subprocess.run(
        [*EXCHANGE, "run", *cards, "--timeout", str(GUEST_SECONDS), "--writable", tmp_path, "--", "sh", script],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env=environment(**variables, **rate, **compiled, PYTHON=sys.executable),
    )  # fmt: skip
    log = (tmp_path / "serve.err").read_text() if (tmp_path / "serve.err").exists() else ""
    assert done.returncode == 0, done.stdout + done.stderr + log
    check_refusal((tmp_path / "refused").read_text(), SERVER)
    assert (tmp_path / "taken").read_text() == ""
    told = done.stdout.splitlines()
    assert told[-4] == "status 0", log
    assert "vfio" not in (drivers := " ".join(told[-3:-1])), drivers
    assert told[-1] == "free 70", "huge pages were not given back"
    assert "Traceback" not in log + done.stderr
    opened = next(line for line in log.splitlines() if "card opened" in line)
    assert f"device={SERVER}" in opened
    assert opened.endswith("numa_node=1 buffers_numa_node=1 link=up")
    check_books(tmp_path, log)


def check_refusal(told: str, card: str) -> None:
    """While the kernel had the card."""
    assert told.startswith(f"transport.device = '{card}': the kernel's driver ")
    assert told.endswith(f" has it; give it to vfio: sudo dpdk-devbind.py -b vfio-pci {card}\n")


def check_books(folder: Path, log: str) -> None:
    """Every order answered, every report received, and the books those of the journal."""
    (profile,) = json.loads((folder / "load.json").read_text())["profiles"]
    counts = profile["load_points"][0]["counts"]
    assert counts["sent"] >= ORDERS
    assert counts["unanswered"] == counts["rejected"] == counts["not sent"] == 0
    assert counts["answered"] + counts["lapsed"] == counts["sent"]
    compiled_book, textbook = (replayed(folder / "journal", book) for book in ("ladder", "naive"))
    assert compiled_book == textbook
    assert f"digest={compiled_book.split()[-1]}" in log.splitlines()[-1]
    assert number_before("live orders", compiled_book) > 0
    # An exchange says goodbye to who has acknowledged all that it was sent; behind that comes the end of the day only.
    messages = number_before("messages to clients", compiled_book)
    closed = re.findall(r"closed user=\w+ session=\d sequence=(\d+) reason=logout", log)
    assert len(closed) == len(USERS), log
    assert sum(map(int, closed)) == messages - len(USERS)
    # Not counted are the beginning of the day and the next number, and what is filled behind the very last answer.
    received = counts["answered"] + counts["executions"] + counts["other messages"]
    assert 0 <= sum(map(int, closed)) - received - 2 * len(USERS) <= UNCOUNTED_MAX
