"""Either side of a card is killed with SIGKILL and started again: the other carries on, and sessions resume by number.

Nothing is lost and nothing comes twice: what a client has got is held, message by message, against the journal.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exchange.recovery.inspecting import survey_journal
from exchange.recovery.twin import Twin
from exchange.wire.ouch50 import OUTBOUND_MESSAGES, SystemEvent
from tests.dpdk_driver import needs_dpdk, needs_namespaces
from tests.system.remembering_client import NAME, accepted_number, read_messages
from tests.system.test_dpdk import wire
from tests.system.test_dpdk_exchange import START_SECONDS, finish_load, on_dpdk, served, start_load
from tests.system.test_serve_command import ROOT

__all__ = ["wire"]

pytestmark = needs_dpdk

ORDERS = 1500
KILLS = 3
END_SECONDS_MAX = 20.0
"""It is below a second on a machine that has nothing else to do, which one that runs tests may not be."""
ELSEWHERE = "10.0.0.3"
LOAD_SECONDS = 12
PATIENCE = ("--patience", "48")
"""An exchange has to be back so long after the last order was due, also on a machine that is busy."""
SETTINGS = (
    "journal.kind=mapped", "journal.gate=written", 'shards.threads=[["ingress","shard.0","egress"],["journal"]]',
    "idle.kind=park", "gateway.log_bytes=4MiB", "book.capacity_orders=65536",
)  # fmt: skip


def test_an_exchange_that_is_killed_loses_nothing_over_a_card() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.kill_campaign", "--transport", "dpdk", "--kills", "4"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {
        name: int(count.replace(",", ""))
        for count, name in re.findall(r"^ *([\d,]+)  (.+)$", done.stdout, re.M)
    }
    assert counts["days"] == 1
    assert counts["trades"] > 0
    assert counts["messages sent again and equal"] > 0


def run_and_kill(folder: Path, device: str, inside: Sequence[str]) -> None:
    """Start a client again and again, and kill it while it trades; the last one comes to its end."""
    for kill in range(KILLS + 1):
        process = subprocess.Popen(
            [*inside, sys.executable, "-m", "tests.system.remembering_client", str(folder), device, "10.0.0.2",
             str(ORDERS)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        known = len(read_messages(folder))
        try:
            assert process.stdout is not None
            assert process.stdout.readline().split() == ["resumed", str(known)], process.communicate()
            if kill < KILLS:
                said = process.stdout.readline().split()
                assert said[:1] == ["answers"], process.communicate()
                assert int(said[1]) < ORDERS, "it is to be killed before it is done"
            else:
                output, errors = process.communicate()
                assert (process.returncode, output.splitlines()[-1:]) == (0, ["done"]), errors
        finally:
            process.kill()
            process.communicate()


def check(folder: Path, journal: Path) -> None:
    """What the client has got is what its session was told, and all orders were taken, each once."""
    messages, digests = read_messages(folder), set()
    for book in ("ladder", "naive"):
        with Twin(journal, book=book, from_snapshot=False) as twin:
            twin.replay()
            told = twin.told()[0]
            digests.add(twin.exchange.digest())
    assert told[: len(messages)] == messages
    assert [type(OUTBOUND_MESSAGES.decode(one)) for one in told[len(messages) :]] == [SystemEvent]
    assert [number for one in told if (number := accepted_number(one))] == list(range(1, ORDERS + 1))
    assert len(digests) == 1


def restarted_client(
    tmp_path: Path, devices: tuple[str, str], inside: tuple[Sequence[str], Sequence[str]]
) -> None:
    folder, journal = tmp_path / NAME, tmp_path / "journal"
    folder.mkdir()
    with served(
        tmp_path / "users",
        *on_dpdk(devices[0]),
        *SETTINGS,
        f"journal.directory={journal}",
        inside=inside[0],
    ):
        run_and_kill(folder, devices[1], inside[1])
    check(folder, journal)


def test_a_client_that_is_killed_goes_on_over_shared_memory(tmp_path: Path) -> None:
    socket = f"socket=exchange-restart-{os.getpid()}"
    devices = (f"net_memif0,role=server,{socket}", f"net_memif0,role=client,{socket}")
    restarted_client(tmp_path, devices, ((), ()))


@needs_namespaces
def test_a_client_that_is_killed_goes_on_over_a_cable(tmp_path: Path, wire: Any) -> None:
    restarted_client(tmp_path, ("net_af_packet0,iface=left", "net_af_packet0,iface=right"), wire)


def test_ctrl_c_ends_both_sides_under_full_load(tmp_path: Path) -> None:
    """First a load, which logs out; then the exchange under the next load, which says that the session has ended."""
    socket, journal = f"socket=exchange-stop-{os.getpid()}", tmp_path / "journal"
    more = (f"journal.directory={journal}", "gateway.log_bytes=256MiB")
    server = (*on_dpdk(f"net_memif0,role=server,{socket}"), *SETTINGS, *more)
    client = f"net_memif0,role=client,{socket}"
    with served(tmp_path / "users", *server) as exchange:
        process = start_load(tmp_path, client, "max", 60)
        wait_for_records(journal, 2000, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=END_SECONDS_MAX)
        assert process.returncode == 130, errors
        assert errors.splitlines()[-1] == "exchange: stopped"
        known = sum(stream.records for stream in survey_journal(journal).streams)
        process = start_load(tmp_path, client, "max", 60)
        wait_for_records(journal, known + 2000, process)
        exchange.send_signal(signal.SIGINT)
        _, errors = exchange.communicate(timeout=END_SECONDS_MAX)
        assert exchange.returncode == 130, errors
        assert "Traceback" not in errors
        _, errors = process.communicate(timeout=START_SECONDS)
        assert process.returncode == 2, errors
        assert "exchange: session of ALICE, after " in errors
        assert "Traceback" not in errors


def wait_for_records(journal: Path, count: int, load: subprocess.Popen[str]) -> None:
    """Until a journal has so many records in all."""
    deadline = time.monotonic() + START_SECONDS
    while sum(stream.records for stream in survey_journal(journal).streams) < count:
        assert load.poll() is None, load.communicate()
        assert time.monotonic() < deadline, "the load does not come"
        time.sleep(0.02)


def test_a_load_goes_on_when_its_exchange_was_killed_and_is_back(tmp_path: Path) -> None:
    """It is one run of the load: what was due meanwhile is sent when the exchange is back, at another address."""
    socket, journal = f"socket=exchange-again-{os.getpid()}", tmp_path / "journal"
    server = (*on_dpdk(f"net_memif0,role=server,{socket}"), *SETTINGS, f"journal.directory={journal}")
    with served(tmp_path / "users", *server) as first:
        process = start_load(
            tmp_path,
            f"net_memif0,role=client,{socket}",
            50,
            LOAD_SECONDS,
            endpoint=f"10.0.0.1:9005,{ELSEWHERE}:9005",
            more=PATIENCE,
        )
        wait_for_records(journal, 200, process)
        first.kill()
        first.wait()
    with served(tmp_path / "users", *server, address=ELSEWHERE):
        counts = finish_load(process, tmp_path)
    (text,) = json.loads((tmp_path / "load.json").read_text())["warnings"]
    assert f"2 sessions lost their line (no link) and went on at {ELSEWHERE}:9005" in text
    assert counts["sent"] == 50 * LOAD_SECONDS + 10
    assert counts["unanswered"] == counts["rejected"] == counts["not sent"] == 0
    assert counts["answered"] + counts["lapsed"] == counts["sent"]
    digests = set()
    for book in ("ladder", "naive"):
        with Twin(journal, book=book, from_snapshot=False) as twin:
            twin.replay()
            digests.add(twin.exchange.digest())
            assert sum(twin.live_orders()) == 0, "the load has cancelled what rested"
    assert len(digests) == 1
