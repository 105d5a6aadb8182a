"""A real hour through an exchange on the network: the published feed's book is the one that a replay builds.

AAPL, 21 June 2012, 09:30 to 10:30 ("LOBSTER", Humboldt University of Berlin, https://lobsterdata.com, free sample),
sent as OUCH orders by several clients at once, each of which has some of the orders.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.system.test_send import NAMES, free_port
from tests.system.test_serve_command import PASSWORD, ROOT, exchange, served, write_cheap_user

FOLDER = os.environ.get("EXCHANGE_DATA")
LOBSTER = "AAPL_2012-06-21_34200000_37800000_message_50.csv.gz"
ITCH = "AAPL_2012-06-21_0930-1030.lobster.itch50.gz"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        FOLDER is None, reason="EXCHANGE_DATA does not name the folder of the recorded market data"
    ),
]


@pytest.mark.parametrize(
    ("name", "clients", "reading", "transport"),
    [(LOBSTER, 3, "flow", "tcp"), (LOBSTER, 3, "flow", "udp"), (ITCH, 1, "feed", "tcp")],
)
def test_the_feeds_book_is_the_replays(
    tmp_path: Path, name: str, clients: int, reading: str, transport: str
) -> None:
    users, feed = tmp_path / "users", free_port()
    for user in NAMES[:clients]:
        write_cheap_user(users, user)
    settings = (
        f"transport.kind={transport}",
        "market_data.address=127.0.0.1",
        f"market_data.port={feed}",
        "gateway.log_bytes=64MiB",
    )
    with served(users, "--quiet", *(part for one in settings for part in ("--set", one))) as (_process, port):
        done = subprocess.run(
            exchange(
                "send", str(Path(FOLDER or "") / name), f"127.0.0.1:{port}", "--users", ",".join(NAMES[:clients]),
                "--password-env", "SECRET", "--feed", f"127.0.0.1:{feed}", "--as", reading,
                "--transport", transport, "--json", str(tmp_path / "sent.json"),
            ),
            cwd=ROOT, env=os.environ | {"SECRET": PASSWORD}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads((tmp_path / "sent.json").read_text())
    assert report["feed_digest"] == report["replay_digest"]
    assert report["feed_faults"] == report["rejected"] == 0
    assert report["accepted"] == report["orders"] > 44_000
    assert report["executions"] == 0 if reading == "feed" else report["executions"] > 8_000
