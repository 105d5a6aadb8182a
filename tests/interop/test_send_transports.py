"""The same orders over every transport leave the same books: in memory, over TCP, over UDP, and over DPDK.

The transport in memory is the replay, which ``exchange send`` runs itself and holds the feed's book against. Here its
digest is also one and the same for all; and so is the digest of all state, which a journal's replay by the textbook's
books tells. In two sizes: a made flow, and the first minutes of a real hour where EXCHANGE_DATA names the folder that
has it; EXCHANGE_TEST_WHOLE_HOUR=1 sends the whole. (``test_send_real_data.py`` sends it over TCP and over UDP.)
"""

import gzip
import json
import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.dpdk_driver import needs_dpdk
from tests.interop.test_send_real_data import FOLDER, LOBSTER
from tests.system.test_send import free_port
from tests.system.test_serve_command import PASSWORD, ROOT, exchange, write_cheap_user

START_SECONDS = 240
TRANSPORTS = ("tcp", "udp", "dpdk")
ROWS = 100_000 if "EXCHANGE_TEST_WHOLE_HOUR" in os.environ else 15_000


def made_flow(path: Path) -> Path:
    """A few thousand orders on both sides, some of which trade and some of which are cancelled, as LOBSTER has them."""
    lines, alive = [], []
    for number in range(1, 3001):
        step, side = number * 7919 % 23, 1 if number % 2 else -1
        price = 99_0000 + (100 * step if side == 1 else 3000 - 100 * step)
        size = 10 + number % 17
        lines.append(f"{34200 + number / 1000:.3f},1,{number},{size},{price},{side}")
        alive.append((number, size, price, side))
        if number % 3 == 0:
            gone, size, price, side = alive.pop(number * 31 % len(alive))
            lines.append(f"{34200 + number / 1000:.3f},3,{gone},{size},{price},{side}")
    path.write_text("\n".join(lines) + "\n")
    return path


def sent_over(transport: str, recording: Path, symbol: str, folder: Path) -> tuple[dict[str, Any], str]:
    """The report of a recording that was sent to an exchange of its own, and the digest of that exchange's journal."""
    folder.mkdir(parents=True)
    users, feed = folder / "users", free_port()
    write_cheap_user(users, "alice")
    socket = f"socket=exchange-send-{os.getpid()}"
    settings = [
        f"transport.kind={transport}", "market_data.address=127.0.0.1", f"market_data.port={feed}",
        "market_data.request_port=0", "market_data.glimpse=none", "admin.kind=none", "gateway.log_bytes=64MiB",
        f'gateway.symbols=["{symbol}"]', f"journal.directory={folder / 'journal'}", "idle.kind=park",
    ]  # fmt: skip
    is_dpdk = transport == "dpdk"
    settings.append(f"transport.device=net_memif0,role=server,{socket}" if is_dpdk else "transport.port=0")
    sets = [part for one in settings for part in ("--set", one)]
    server = subprocess.Popen(
        exchange("serve", "journaled", "--quiet", "--users", str(users), *sets),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        listening = re.search(r"listening on (\S+) port (\d+)", server.stdout.readline())
        assert listening, server.communicate()[1]
        done = subprocess.run(
            exchange("send", str(recording), f"{listening[1]}:{listening[2]}", "--users", "alice",
                     "--password-env", "SECRET", "--feed", f"127.0.0.1:{feed}", "--transport", transport,
                     "--device", f"net_memif0,role=client,{socket}", "--json", str(folder / "sent.json")),
            cwd=ROOT, env=os.environ | {"SECRET": PASSWORD}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        server.terminate()
        _, log = server.communicate(timeout=30)
        assert server.returncode == 0, log
    finally:
        server.kill()
        server.communicate()
    told = subprocess.run(
        [sys.executable, "-m", "exchange", "journal", "replay", "--from-start", str(folder / "journal")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"^digest (\S+)$", told.stdout, re.MULTILINE)
    assert found
    return json.loads((folder / "sent.json").read_text()), found[1]


def check(recording: Path, symbol: str, folder: Path) -> dict[str, Any]:
    """Send it over all transports; what was reported of the last."""
    sent = {
        transport: sent_over(transport, recording, symbol, folder / transport) for transport in TRANSPORTS
    }
    reports = [report for report, _ in sent.values()]
    assert len({digest for _, digest in sent.values()}) == 1, sent
    # The replay's is the digest of the transport in memory.
    assert len({report[key] for report in reports for key in ("feed_digest", "replay_digest")}) == 1, sent
    for report in reports:
        assert report["feed_faults"] == report["rejected"] == 0
        assert report["accepted"] == report["orders"]
    assert len({report["executions"] for report in reports}) == 1
    return reports[-1]


@needs_dpdk
@pytest.mark.skipif(FOLDER is not None, reason="a real market does the same, and more")
def test_a_made_flow_leaves_the_same_books_over_every_transport(tmp_path: Path) -> None:
    report = check(made_flow(tmp_path / "XYZ_message.csv"), "XYZ", tmp_path / "days")
    assert report["orders"] == 3000
    assert report["executions"] > 100
    assert report["live_orders"] > 100


def first_rows(recording: Path, folder: Path) -> Path:
    """As many rows of a recording as are to be sent, under its name."""
    folder.mkdir()
    with gzip.open(recording, "rt") as whole, gzip.open(folder / recording.name, "wt") as part:
        part.writelines(islice(whole, ROWS))
    return folder / recording.name


@needs_dpdk
@pytest.mark.real_data
@pytest.mark.skipif(FOLDER is None, reason="EXCHANGE_DATA does not name the folder of recorded market data")
def test_a_real_market_leaves_the_same_books_over_every_transport(tmp_path: Path) -> None:
    recording = first_rows(Path(FOLDER or "") / LOBSTER, tmp_path / "recorded")
    report = check(recording, "AAPL", tmp_path / "days")
    is_whole = ROWS > 15_000
    assert report["orders"] > (44_000 if is_whole else 6_000)
    assert report["executions"] > (8_000 if is_whole else 1_000)
