"""``exchange serve`` and ``exchange user`` as a person starts them: another process, signals, exit codes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exchange.client import Client, LoginRefused, Side
from exchange.gateway.credentials import User, read_users, write_user
from exchange.line import Carrier
from exchange.wire.ouch50 import OrderAccepted, SystemEvent
from tests.gateway_driver import SETTINGS, compile_once

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "hunter2"
END_SECONDS_MAX = 10.0
"""It is well below one second on a machine that has nothing else to do, which a machine that runs tests may not be."""


def exchange(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "exchange", *arguments]


def add_user(users: Path, name: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        exchange("user", "add", name, "--users", str(users), "--password-env", "SECRET"),
        cwd=ROOT,
        env=os.environ | {"SECRET": password},
        capture_output=True,
        text=True,
        check=False,
    )


def write_cheap_user(users: Path, name: str) -> None:
    """The same for a test of something else: at once, and with a hash that takes an exchange no time to check."""
    write_user(users, User.create(name, PASSWORD, cost=2))


@contextmanager
def served(users: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server in another process, and the port where it listens."""
    compile_once()
    sets = [part for one in SETTINGS for part in ("--set", one)]
    process = subprocess.Popen(
        exchange("serve", "--users", str(users), *sets, *options),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:4] == ["listening", "on", "127.0.0.1", "port"], process.communicate()
        yield process, int(words[-1])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "status", "transport"),
    [(signal.SIGTERM, 0, "tcp"), (signal.SIGINT, 130, "tcp"), (signal.SIGINT, 130, "udp")],
)
def test_a_signal_ends_it_in_order_and_at_once(
    tmp_path: Path, number: signal.Signals, status: int, transport: Carrier
) -> None:
    users = tmp_path / "users"
    assert add_user(users, "alice").stdout == f"added ALICE in {users}\n"

    async def scenario(process: subprocess.Popen[str], port: int) -> None:
        with pytest.raises(LoginRefused):
            await Client.connect("127.0.0.1", port, "alice", "wrong", transport=transport)
        client = await Client.connect("127.0.0.1", port, "alice", PASSWORD, transport=transport)
        await client.place("AAPL", Side.BUY, 100, price_ticks=100_0000)
        heard = [await client.next_answer() for _ in range(2)]
        process.send_signal(number)
        heard += [answer async for answer in client]
        assert [type(one) for one in heard] == [SystemEvent, OrderAccepted, SystemEvent]
        await client.close()

    with served(users, "--set", f"transport.kind={transport}") as (process, port):
        asyncio.run(asyncio.wait_for(scenario(process, port), 20))
        began = time.monotonic()
        _, logged = process.communicate(timeout=20)
        assert time.monotonic() - began < END_SECONDS_MAX
        assert process.returncode == status
        assert "login user=alice session=0" in logged
        assert "login rejected" in logged
        assert PASSWORD not in logged
        assert "Traceback" not in logged


def test_user_add_writes_hashes_that_nobody_else_reads(tmp_path: Path) -> None:
    users = tmp_path / "users"
    for name in ("alice", "bob"):
        assert add_user(users, name).returncode == 0
    assert add_user(users, "ALICE", "another1").stdout == f"changed ALICE in {users}\n"
    assert users.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in users.read_text()
    found = read_users(users)
    assert [user.name for user in found.users] == ["ALICE", "BOB"]
    assert found.authenticate("alice", "ANOTHER1") == 0
    assert found.authenticate("alice", PASSWORD) is None
    assert found.authenticate("bob", PASSWORD) == 1
    assert found.authenticate("carol", PASSWORD) is None
    options = (
        "--users",
        str(users),
        "--password-env",
        "SECRET",
        "--cancel-on-disconnect",
        "--protocol=ouch42",
    )
    environment = os.environ | {"SECRET": PASSWORD}
    subprocess.run(exchange("user", "add", "bob", *options), cwd=ROOT, env=environment, check=True)
    flags = [(user.cancels_on_disconnect, user.protocol) for user in read_users(users).users]
    assert flags == [(False, "ouch50"), (True, "ouch42")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("serve", "--users", "no-such-file"), "no-such-file: no such file; 'exchange user add NAME"),
        (
            ("serve", "lockfree", "--users", "users"),
            "transport.kind must be tcp, udp, afxdp or dpdk to be served",
        ),
        (
            ("serve", "--users", "users", "--set", "queue.kind=python"),
            "queue.kind = 'python' is plain Python",
        ),
        (
            ("serve", "--users", "users", "--port", "70000"),
            "out of range; must be an integer from 0 to 65535",
        ),
        (("serve", "--users", "users", "--set", "transport.address=nowhere"), "cannot listen on nowhere"),
        (("serve", "--users", "users", "--set", 'gateway.symbols=["TOO LONG A NAME"]'), "is no symbol"),
        (("serve", "--users", "users", "--set", "gateway.time_zone=Mars/Base"), "knows no such zone"),
        (("serve", "--users", "broken"), "broken:1: no user; a line is NAME:scrypt"),
        (("user", "add", "far-too-long"), "allowed are 1 to 6 letters and digits"),
        (
            ("user", "add", "carol", "--password-env", "NO_SUCH_VARIABLE"),
            "there is no such environment variable",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    (tmp_path / "broken").write_text("alice:secret\n")
    write_cheap_user(tmp_path / "users", "alice")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        exchange(*arguments), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    (line,) = done.stderr.splitlines()
    assert told in line
    assert done.returncode == 2
    assert done.stdout == ""
