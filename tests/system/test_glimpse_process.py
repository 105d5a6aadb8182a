"""``exchange serve`` with its GLIMPSE server beside it, and ``exchange feed`` that joins by it, as one starts them."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from exchange.client import Client, Side
from exchange.gateway.credentials import User, write_user
from exchange.market_data.glimpse_server import warm_up
from tests.gateway_driver import PASSWORD, SETTINGS, compile_once, eventually
from tests.glimpse_driver import seek
from tests.market_data_driver import GROUP, LOOPBACK, free_port, has_multicast

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 60.0

pytestmark = pytest.mark.skipif(not has_multicast(), reason="no multicast over this machine's loopback")


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """What the processes here would compile is in the cache before anybody looks at a clock."""
    compile_once()
    warm_up()


def exchange(*arguments: str, **pipes: int) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "SECRET": PASSWORD, "WRONG": "wrong"}
    return subprocess.Popen(
        [sys.executable, "-m", "exchange", *arguments], cwd=ROOT, env=environment, text=True,
        stdout=pipes.get("stdout", subprocess.PIPE), stderr=pipes.get("stderr", subprocess.PIPE),
    )  # fmt: skip


class Serving(NamedTuple):
    """An exchange in another process."""

    process: subprocess.Popen[str]
    port: int
    feed: str
    glimpse: tuple[str, int]


@contextmanager
def served(folder: Path, *more: str, log_format: str = "text") -> Iterator[Serving]:
    """An exchange, its GLIMPSE server and one user, alice."""
    users, log = folder / "users", folder / "log"
    write_user(users, User.create("alice", PASSWORD, cost=2))
    feed_port = free_port()
    settings = (
        *SETTINGS,
        f"market_data.address={GROUP}",
        f"market_data.port={feed_port}",
        "market_data.glimpse=process",
    )
    settings += ("market_data.glimpse_port=0", "market_data.heartbeat_ns=10ms", *more)
    sets = [part for one in settings for part in ("--set", one)]
    with log.open("w") as logging:
        process = exchange(
            "serve", "--users", str(users), "--log-format", log_format, *sets, stderr=logging.fileno()
        )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:4] == ["listening", "on", LOOPBACK, "port"], log.read_text()
        told = re.search(r"glimpse listening\W+address\W+([\d.]+)\W+port\W+(\d+)", log.read_text())
        assert told is not None
        address = told[1], int(told[2])
        yield Serving(process, int(words[4]), f"{GROUP}:{feed_port}", address)
    finally:
        process.kill()
        process.communicate()


def children(process_id: int) -> list[int]:
    """The processes that a process has started and not yet buried."""
    path = Path(f"/proc/{process_id}/task/{process_id}/children")
    return [int(one) for one in path.read_text().split()] if path.exists() else []


def is_running(process_id: int) -> bool:
    """Whether a process is there, and not only waiting to be buried."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def run(scenario: object) -> None:
    asyncio.run(asyncio.wait_for(scenario, SECONDS_MAX))  # type: ignore[arg-type]


async def trade(port: int, orders: int) -> None:
    """Orders that rest."""
    async with await Client.connect(LOOPBACK, port, "alice", PASSWORD) as client:
        for number in range(orders):
            await client.place("AAPL", Side.BUY, 100, price_ticks=100_0000 + number)
        for _ in range(orders + 1):
            await client.next_answer()


def test_the_child_is_replaced_when_it_dies_and_dies_with_its_parent(tmp_path: Path) -> None:
    async def scenario() -> None:
        with served(tmp_path) as serving:
            (first,) = children(serving.process.pid)
            await trade(serving.port, 5)
            assert len((await seek(serving.glimpse, "alice", PASSWORD, session="")).messages) > 5
            os.kill(first, signal.SIGKILL)
            await eventually(lambda: children(serving.process.pid) not in ([], [first]))
            (second,) = children(serving.process.pid)
            snapshot = await seek(serving.glimpse, "alice", PASSWORD, session="")
            assert [one[:1] for one in snapshot.messages].count(b"A") == 5
            serving.process.kill()
            await eventually(lambda: not is_running(second))

    run(scenario())


@pytest.mark.parametrize(
    ("number", "status", "log_format"), [(signal.SIGTERM, 0, "text"), (signal.SIGINT, 130, "json")]
)
def test_a_signal_ends_both_in_order(
    tmp_path: Path, number: signal.Signals, status: int, log_format: str
) -> None:
    with served(tmp_path, log_format=log_format) as serving:
        (child,) = children(serving.process.pid)
        serving.process.send_signal(number)
        assert serving.process.wait(SECONDS_MAX) == status
        assert not is_running(child)
    log = (tmp_path / "log").read_text()
    assert "glimpse ended" in log
    assert "feed ended" in log
    assert "Traceback" not in log
    assert "process ended" not in log  # nobody took its end for a failure
    lines = [line for line in log.split("\n") if line and not line.startswith(("compiling", "exchange:"))]
    assert all(line.startswith("{") == (log_format == "json") for line in lines), lines


def test_the_feed_command_joins_late_by_a_snapshot(tmp_path: Path) -> None:
    async def scenario() -> None:
        with served(tmp_path, "market_data.capacity_messages=1024") as serving:
            await trade(serving.port, 1_100)
            glimpse = ("--glimpse", f"{serving.glimpse[0]}:{serving.glimpse[1]}", "--user", "alice")
            refused = exchange("feed", serving.feed, "--plain", *glimpse, "--password-env", "WRONG")
            _, told = await asyncio.to_thread(refused.communicate)
            assert refused.returncode == 2
            assert told.splitlines()[-1].endswith("wrong user name or password")
            without = exchange("feed", serving.feed, "--plain")
            _, told = await asyncio.to_thread(without.communicate)
            assert without.returncode == 2
            assert "are lost: no answer from the re-request server" in told
            feed = exchange("feed", serving.feed, "--plain", *glimpse, "--password-env", "SECRET")
            assert feed.stdout is not None
            line = await asyncio.to_thread(feed.stdout.readline)
            while "AAPL" not in line:
                line = await asyncio.to_thread(feed.stdout.readline)
            assert line.split()[2:] == ["100", "x", "100.1099", "|", "-", "x", "-"]
            serving.process.send_signal(signal.SIGTERM)
            _, told = await asyncio.to_thread(feed.communicate)
            assert feed.returncode == 0
            assert re.search(
                r"end of session \d{10}: \d+ messages, \d+ gaps, \d+ requests, 1 snapshots", told
            )

    run(scenario())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
@pytest.mark.parametrize("command", [("feed", "--plain"), ("glimpse", "--port", "0")])
def test_a_signal_ends_a_listener_with_its_output_written(
    command: tuple[str, ...], number: signal.Signals, status: int
) -> None:
    name, *options = command
    process = exchange(name, f"{GROUP}:{free_port()}", *options)
    said = process.stderr if name == "feed" else process.stdout
    assert said is not None
    assert "listening" in said.readline()
    process.send_signal(number)
    _, told = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == status
    assert "Traceback" not in told
    assert told.endswith("exchange: stopped\n") == (number == signal.SIGINT)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("market_data.address=127.0.0.1",), "one receiver, and the GLIMPSE server is another"),
        (("market_data.glimpse_address=192.0.2.1",), "cannot listen on 192.0.2.1, port 0"),
    ],
)
def test_a_profile_that_cannot_have_one_is_refused(
    tmp_path: Path, settings: tuple[str, ...], told: str
) -> None:
    write_user(tmp_path / "users", User.create("alice", PASSWORD, cost=2))
    every = (*SETTINGS, "market_data.glimpse=process", "market_data.glimpse_port=0", *settings)
    process = exchange(
        "serve", "--users", str(tmp_path / "users"), *[part for one in every for part in ("--set", one)]
    )
    _, complaint = process.communicate(timeout=SECONDS_MAX)
    (line,) = complaint.splitlines()
    assert told in line
    assert process.returncode == 2
