"""``exchange admin`` beside ``exchange serve``, each a process: what a person sees, and what the log keeps."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exchange.client import Client
from exchange.wire.ouch_codes import Side
from tests.gateway_driver import SETTINGS, compile_once

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "hunter2"
END_SECONDS_MAX = 10.0
"""It is well below one second on a machine that has nothing else to do, which a machine that runs tests may not be."""


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "EXCHANGE_ADMIN_TOKEN"} | {
        "PYTHONPATH": str(ROOT),
        "SECRET": PASSWORD,
    }


def exchange(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exchange", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def admin(folder: Path, port: int, *arguments: str) -> str:
    done = exchange(folder, "admin", "--url", f"http://127.0.0.1:{port}", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Served:
    """A server in another process whose log, in JSON, is kept in a file."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder, self.process = folder, process

    def log(self) -> list[dict[str, object]]:
        """The lines so far, without what is told before there is a log."""
        lines = (self.folder / "log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def line(self, event: str) -> dict[str, object]:
        """The first line about that; waits for it."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for found in self.log():
                if found["event"] == event:
                    return found
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.02)
        raise AssertionError(f"no line about {event!r}")

    def port(self, event: str) -> int:
        """Where it listens, as its log tells."""
        port = self.line(event)["port"]
        assert isinstance(port, int)
        return port


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    compile_once()
    assert (
        exchange(folder, "user", "add", "alice", "--users", "users", "--password-env", "SECRET").returncode
        == 0
    )
    sets = [part for one in (*SETTINGS, "admin.kind=http", "admin.port=0") for part in ("--set", one)]
    command = [sys.executable, "-m", "exchange", "serve", "--users", "users", "--log-format", "json", *sets]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=log
        )
        try:
            yield Served(folder, process)
        finally:
            process.kill()
            process.wait()


def test_a_day_of_an_operator(tmp_path: Path) -> None:
    async def trade(port: int) -> Client:
        client = await Client.connect("127.0.0.1", port, "alice", PASSWORD)
        await client.place("AAPL", Side.BUY, 100, price_ticks=100_0000)
        for _ in range(2):
            await client.next_answer()
        return client

    async def scenario(server: Served) -> None:
        port = await asyncio.to_thread(server.port, "admin listening")
        client = await trade(await asyncio.to_thread(server.port, "listening"))
        await asyncio.to_thread(look_around, port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        server.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert await asyncio.to_thread(server.process.wait, 30) == 130
        assert time.monotonic() - began < END_SECONDS_MAX
        await reader.read()
        writer.close()
        await client.close()

    def look_around(port: int) -> None:
        assert "ALICE  yes        127.0.0.1" in admin(tmp_path, port, "sessions")
        halted = admin(tmp_path, port, "halt", "AAPL", "--reason", "T1")
        assert halted.splitlines()[1].split() == ["AAPL", "halted", "T1", "0"]  # and its shard
        assert "AAPL    halted   T1" in admin(tmp_path, port, "symbols")
        assert "symbol_halted" not in admin(tmp_path, port, "limits")
        document = json.loads(admin(tmp_path, port, "--json", "statistics"))
        assert document["gateway"]["requests"] == 2, "the client asked for its account, and placed an order"
        assert "gateway.requests" in admin(tmp_path, port, "statistics")
        admin(tmp_path, port, "resume", "AAPL")
        assert "2000000000" in admin(tmp_path, port, "set-limit", "gateway.heartbeat_ns", "2000000000")
        admin(tmp_path, port, "cancel-all", "alice")
        limited = admin(tmp_path, port, "limit-session", "alice", "exposure_max", "700")
        assert limited.splitlines()[1].split()[-2:] == ["orders_burst=100", "exposure_max=700"]
        assert "collar_basis_points=50" in admin(
            tmp_path, port, "limit-symbol", "MSFT", "collar_basis_points", "50"
        )
        admin(tmp_path, port, "reference-price", "MSFT", "1000000")
        risk = json.loads(admin(tmp_path, port, "--json", "risk"))
        assert (risk["sessions"][0]["limits"]["exposure_max"], risk["sessions"][0]["exposure"]) == (700, 0)
        assert risk["symbols"][1]["reference_price_ticks"] == 1_000_000
        assert admin(tmp_path, port, "kill", "alice").splitlines()[1].split() == ["ALICE", "0", "kill"]
        assert admin(tmp_path, port, "revive", "alice").splitlines()[1].split() == ["ALICE", "0", "revive"]
        refused = exchange(tmp_path, "admin", "--url", f"http://127.0.0.1:{port}", "halt", "NONE")
        assert refused.returncode == 2
        assert refused.stderr == (
            "exchange: symbol = 'NONE': must be one of AAPL, MSFT, NVDA, AMZN, INTC, CSCO, TSLA, QQQ\n"
        )
        (tmp_path / "wrong").write_text("another-token-of-mine")
        (tmp_path / "wrong").chmod(0o600)
        url = f"http://127.0.0.1:{port}"
        refused = exchange(tmp_path, "admin", "--url", url, "--token-file", "wrong", "symbols")
        assert (refused.returncode, refused.stderr) == (
            2,
            "exchange: Authorization: must be 'Bearer TOKEN', with the token of the token file\n",
        )

    with served(tmp_path) as server:
        asyncio.run(asyncio.wait_for(scenario(server), 240))
        check_log(server)


def check_log(server: Served) -> None:
    text = (server.folder / "log").read_text()
    token = (server.folder / "exchange-admin-token").read_text().strip()
    assert (server.folder / "exchange-admin-token").stat().st_mode & 0o777 == 0o600
    for secret in (PASSWORD, token, "another-token-of-mine", "Traceback"):
        assert secret not in text
    login = server.line("login")
    assert (login["user"], login["session"], login["sequence"], login["peer"]) == ("alice", 0, 1, "127.0.0.1")
    closed = server.line("closed")
    assert (closed["user"], closed["session"]) == ("ALICE", 0)
    assert closed["sequence"] >= 2  # type: ignore[operator]
    made = server.line("admin token made")
    assert made["file"] == "exchange-admin-token"
    states = [
        (one["symbol"], one["state"], one["reason"])
        for one in server.log()
        if one["event"] == "trading state"
    ]
    assert states == [("AAPL", "halted", "T1"), ("AAPL", "trading", "")]
    actions = [one for one in server.log() if one["event"] == "admin"]
    assert [one["action"] for one in actions] == ["cancel-all", "kill", "revive"]
    assert {(one["user"], one["session"], one["asked_by"]) for one in actions} == {("ALICE", 0, "127.0.0.1")}
    changed = server.line("risk limit changed")
    assert {key: changed[key] for key in ("user", "limit", "old", "new", "asked_by")} == {
        "user": "ALICE", "limit": "exposure_max", "old": 0, "new": 700, "asked_by": "127.0.0.1",
    }  # fmt: skip
    assert server.line("reference price given")["new"] == 1_000_000
    assert server.line("admin refused")["path"] == "/symbols"
    assert server.line("limit changed")["value"] == 2_000_000_000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("admin", "symbols"), "token file exchange-admin-token: No such file or directory; 'exchange serve' makes it"),
        (("admin", "--token-file", "open", "symbols"), "token file open: others can read it"),
        (("admin", "--token-file", "closed", "--url", "x", "symbols"), "--url x: must be like http://127.0.0.1:9010"),
        (("admin", "--token-file", "closed", "--url", "http://127.0.0.1:1", "symbols"), "no admin interface at"),
        (("serve", "--users", "users", "--set", "admin.address=nowhere", "--port", "0"), "cannot listen on nowhere"),
        (
            ("serve", "--users", "users", "--port", "0", "--set", "admin.port=0", "--set", "admin.token_file=open"),
            "token file open: others can read it",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_status_2(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    for name, mode in (("open", 0o644), ("closed", 0o600)):
        (tmp_path / name).write_text("a-token-for-tests-0123")
        (tmp_path / name).chmod(mode)
    exchange(tmp_path, "user", "add", "alice", "--users", "users", "--password-env", "SECRET")
    done = exchange(
        tmp_path, *arguments, *(("--set", "market_data.request_port=0") if arguments[0] == "serve" else ())
    )
    (line,) = done.stderr.splitlines()
    assert told in line
    assert (done.returncode, done.stdout) == (2, "")
