"""``exchange send`` against a served exchange in another process: the feed's book is the replay's, or it is said."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from struct import pack

import numpy as np
import pytest

from exchange.errors import UserError
from exchange.flow import Flow, load_flow
from exchange.load import recording
from exchange.load.logins import Endpoint, Login
from exchange.load.recording import Destination, send_recording, without_replaces
from exchange.messages import BUY, SELL, CommandKind
from exchange.settings import load_profile
from tests.moving_exchange import free_ports
from tests.system.test_serve_command import PASSWORD, ROOT, exchange, served, write_cheap_user

EXAMPLE = ROOT / "docs" / "examples" / "XYZ_message_5.csv"
NAMES = ("alice", "bob", "carol")
SYMBOLS = ("FILE", "FLOW", "FEED", "HIGH", "TWICE", "SLOW")
"""Books stay as a test leaves them, so each test has its own."""


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("send") / "users"
    for name in NAMES:
        write_cheap_user(path, name)
    return path


@pytest.fixture(scope="module")
def served_at(users: Path) -> Iterator[tuple[str, str]]:
    """An exchange with a symbol for each test, and nothing above 120 dollars: where it listens, where its feed goes."""
    feed = free_port()
    settings = (
        "market_data.address=127.0.0.1",
        f"market_data.port={feed}",
        "market_data.heartbeat_ns=20ms",
        f"gateway.symbols={json.dumps(SYMBOLS)}",
        "book.price_max_ticks=1200000",
    )
    with served(users, "--quiet", *(part for one in settings for part in ("--set", one))) as (_process, port):
        yield f"127.0.0.1:{port}", f"127.0.0.1:{feed}"


def destination(served_at: tuple[str, str], *names: str) -> Destination:
    at, feed = served_at
    logins = tuple(Login(name, PASSWORD) for name in names)
    return Destination(
        Endpoint("127.0.0.1", int(at.split(":")[1])), logins, "127.0.0.1", int(feed.split(":")[1])
    )


def command(served_at: tuple[str, str], *arguments: str) -> list[str]:
    at, feed = served_at
    users = ("--users", ",".join(NAMES), "--password-env", "SECRET")
    return exchange("send", *arguments[:1], at, *users, "--feed", feed, *arguments[1:])


def run(served_at: tuple[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(served_at, *arguments),
        cwd=ROOT,
        env=os.environ | {"SECRET": PASSWORD},
        capture_output=True,
        text=True,
        check=False,
    )


def itch(*messages: bytes) -> bytes:
    return b"".join(pack(">H", len(message)) + message for message in messages)


def recorded_day(path: Path) -> Path:
    """Two orders, one of which is replaced twice, the second time by a smaller one at its price; and a trade."""

    def add(number: int, side: bytes, shares: int, price: int) -> bytes:
        return pack(">cHH6sQcI8sI", b"A", 1, 0, b"\0" * 6, number, side, shares, b"XYZ     ", price)

    def replaced(number: int, new: int, shares: int, price: int) -> bytes:
        return pack(">cHH6sQQII", b"U", 1, 0, b"\0" * 6, number, new, shares, price)

    path.write_bytes(
        itch(
            b"R" + pack(">HH6s8s", 1, 0, b"\0" * 6, b"XYZ     ") + b"Q" + b"N" + pack(">I", 100) + b"N" + b"C"
            + b"Z " + b"P" + b"N" + b"N" + b"1" + b"N" + pack(">I", 0) + b"N",
            add(1, b"S", 100, 101_0000),
            add(2, b"B", 70, 99_0000),
            replaced(1, 3, 90, 102_0000),
            add(4, b"S", 60, 102_0000),
            replaced(3, 5, 50, 102_0000),
            pack(">cHH6sQIQ", b"E", 1, 0, b"\0" * 6, 4, 10, 7),
        )
    )  # fmt: skip
    return path


def replaces(flow: Flow) -> int:
    return int(np.count_nonzero(flow.commands["kind"] == CommandKind.REPLACE))


def test_the_feeds_book_is_the_replays(served_at: tuple[str, str], tmp_path: Path) -> None:
    """Sent to two addresses, of which nobody listens at the first: the exchange may be at either."""
    (at, feed), (refusing,) = served_at, free_ports(1)
    copy = shutil.copy(EXAMPLE, tmp_path / "FILE_message.csv")
    done = run((f"127.0.0.1:{refusing},{at}", feed), str(copy), "--json", str(tmp_path / "sent.json"))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "sent.json").read_text())
    assert report["feed_digest"] == report["replay_digest"]
    assert f"Digest of the feed's book {report['feed_digest']}" in done.stdout
    assert report["clients"] == 3
    assert report["orders"] == report["accepted"] > 5
    assert report["live_orders"] > 0
    assert PASSWORD not in done.stdout + (tmp_path / "sent.json").read_text()


@pytest.mark.parametrize("reading", ["flow", "feed"])
def test_replaces_are_sent_as_what_they_are(served_at: tuple[str, str], tmp_path: Path, reading: str) -> None:
    day = str(recorded_day(tmp_path / "day.itch"))
    flow = replace(
        load_flow(day, reading="flow" if reading == "flow" else "feed"), symbols=(reading.upper(),)
    )
    report = send_recording(flow, destination(served_at, "alice", "bob"), load_profile("compiled"))
    assert report.is_equal
    assert report.requests == len(flow.commands) + replaces(flow) > 7
    assert report.live_orders == 3
    assert report.executions == (2 if reading == "flow" else 0)


def test_a_replace_becomes_a_cancel_and_an_order_with_the_side_of_the_first(tmp_path: Path) -> None:
    flow = load_flow(str(recorded_day(tmp_path / "day.itch")), reading="feed")
    made = without_replaces(flow)
    assert len(made.commands) == len(made.expected_maker) == len(flow.commands) + replaces(flow) > 7
    assert not np.isin(made.commands["kind"], (CommandKind.REPLACE,)).any()
    news = made.commands[made.commands["kind"] == CommandKind.NEW]
    assert news["order_id"].tolist() == [1, 2, 3, 4, 5]
    assert news["side"].tolist() == [SELL, BUY, SELL, SELL, SELL]
    cancels = made.commands[made.commands["kind"] == CommandKind.CANCEL]
    assert cancels["order_id"].tolist() == [1, 3, 4]
    assert without_replaces(made) is made


def test_a_book_that_differs_is_said_and_exit_status_1(served_at: tuple[str, str], tmp_path: Path) -> None:
    """A buyer at a price that the exchange's band does not have: the replay, which has a wider one, takes it."""
    recording_path = tmp_path / "HIGH_message.csv"
    recording_path.write_text("34200.1,1,1,100,990000,1\n34200.2,1,2,100,1300000,1\n")
    done = run(served_at, str(recording_path))
    assert done.returncode == 1, done.stderr
    assert "accepted 1, rejected 1" in done.stdout
    assert "DIFFERENT." in done.stdout


def test_a_book_that_is_not_empty_is_refused(served_at: tuple[str, str]) -> None:
    flow = replace(load_flow(str(EXAMPLE)), symbols=("TWICE",))
    assert send_recording(flow, destination(served_at, "alice"), load_profile("compiled")).is_equal
    with pytest.raises(UserError, match=r"TWICE: \d+ orders rest there already"):
        send_recording(flow, destination(served_at, "alice"), load_profile("compiled"))


def test_a_symbol_that_is_not_traded_is_named(served_at: tuple[str, str]) -> None:
    flow = load_flow(str(EXAMPLE))
    with pytest.raises(
        UserError, match=r"ABC: not traded at this exchange; its gateway.symbols must have ABC"
    ):
        send_recording(
            recording.replace(flow, symbols=("ABC",)),
            destination(served_at, "alice"),
            load_profile("compiled"),
        )


def test_a_feed_that_does_not_come_is_said(
    served_at: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "ANSWER_SECONDS", 0.2)
    nowhere = destination(served_at, "alice")._replace(feed_port=free_port())
    with pytest.raises(UserError, match="--feed: nothing comes there"):
        send_recording(load_flow(str(EXAMPLE)), nowhere, load_profile("compiled"))


def test_the_recorded_times_are_kept_and_ctrl_c_ends_it(served_at: tuple[str, str], tmp_path: Path) -> None:
    """There is an hour between the two orders."""
    slow = tmp_path / "SLOW_message.csv"
    slow.write_text("34200.1,1,1,100,990000,1\n37800.1,1,2,100,980000,1\n")
    process = subprocess.Popen(
        command(served_at, str(slow), "--speed", "1"),
        cwd=ROOT,
        env=os.environ | {"SECRET": PASSWORD},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(3)
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert (process.returncode, told.strip()) == (130, "exchange: stopped")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("no-such-file", "h:1", "--users", "alice", "--feed", "f:1"), "no password for alice"),
        (("f", "h:1", "--users", "alice", "--feed", "f:1", "--speed", "-1"), "--speed -1: 0 (all at once)"),
        (("f", "h", "--users", "alice", "--feed", "f:1"), "h: not HOST:PORT"),
        (("f", "h:1", "--users", "alice", "--feed", "nowhere"), "nowhere: not HOST:PORT"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(arguments: tuple[str, ...], told: str) -> None:
    done = subprocess.run(exchange("send", *arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert told in line
    assert (done.returncode, done.stdout) == (2, "")
