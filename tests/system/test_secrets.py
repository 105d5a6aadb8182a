"""No secret is ever printed, logged, or on a command line: an exchange with all that it has, asked rightly and wrongly.

The test collects everything that every process writes, and the command lines and that of each child as `ps` shows them,
and looks for every secret there was: passwords that are right and that are not, their hashes, tokens, in any case and
also as base64."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from exchange.client import Client, LoginRefused
from exchange.gateway.credentials import read_users
from exchange.load.hostile import HostilePlan
from exchange.load.logins import Login
from exchange.page.requests import parse_request
from exchange.wire import soupbintcp, soupbinudp
from exchange.wire.fields import WireError
from tests.gateway_driver import SETTINGS, compile_once
from tests.market_data_driver import free_port
from tests.page_driver import compile_tape

ROOT = Path(__file__).resolve().parents[2]
RIGHT, WRONG = "Zq7xKv3Pw9", "Hb2mTr8Yd4"
WRONG_TOKEN = "not-the-token-Lx5Wc9Vf2Ns7"
GROUP = "239.255.42.9"


class Collected:
    """All that was said, and by whom."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def add(self, name: str, text: str) -> None:
        self.texts.append((name, text))

    def assert_without(self, secrets: dict[str, str]) -> None:
        assert all(len(secret) >= 10 for secret in secrets.values())
        for name, text in self.texts:
            for what, secret in secrets.items():
                for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("=")):
                    assert form.lower() not in text.lower(), f"{what} in what {name} said"


def run_command(
    said: Collected, folder: Path, *arguments: str, status: int, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "exchange", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done
    said.add(" ".join(arguments[:2]), done.stdout + done.stderr)
    return done


def family(process_id: int) -> list[int]:
    """A process and all its children."""
    found = [process_id]
    for task in Path(f"/proc/{process_id}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


@contextmanager
def served(folder: Path, said: Collected, admin_port: int, page_port: int) -> Iterator[int]:
    """An exchange with a page, a GLIMPSE server and an admin interface; its port."""
    compile_once()
    compile_tape()
    settings = [one for one in SETTINGS if not one.startswith(("admin.", "market_data.glimpse"))]
    settings += ["admin.kind=http", f"admin.port={admin_port}", "market_data.glimpse_port=0"]
    settings += [f"market_data.address={GROUP}", f"market_data.port={free_port()}"]
    sets = [part for one in settings for part in ("--set", one)]
    command = [sys.executable, "-m", "exchange", "serve", "--users", "users", *sets]
    process = subprocess.Popen(
        [*command, "--page", f"127.0.0.1:{page_port}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port, page = 0, False
        while not (port and page):
            line = process.stdout.readline()
            assert line, process.communicate()
            said.add("serve", line)
            port = int(line.split()[-1]) if line.startswith("listening on") else port
            page = page or line.startswith("page on")
        for one in family(process.pid):
            said.add("ps", Path(f"/proc/{one}/cmdline").read_text().replace("\0", " "))
        assert len(family(process.pid)) >= 3, "the page and the GLIMPSE server"
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    said.add("serve", output + errors)
    assert "login user=ALICE" in errors.replace("user=alice", "user=ALICE")
    assert "login rejected" in errors
    assert "admin refused" in errors


def ask_over_http(said: Collected, port: int, token: str) -> None:
    url = f"http://127.0.0.1:{port}"
    for given in (token, WRONG_TOKEN):
        headers = {"Authorization": f"Bearer {given}", "Cookie": f"session={given}"}
        with httpx.Client(headers=headers, trust_env=False) as client:
            for answer in (
                client.get(f"{url}/statistics?token={given}"),
                client.get(f"{url}/nothing?password={RIGHT}"),
                client.put(f"{url}/limits", json={"name": "gateway.heartbeat_ns", "value": "soon"}),
                client.post(f"{url}/symbols/AAPL/halt", content=b"\xff"),
            ):
                said.add("admin", answer.text + str(dict(answer.headers)))


def log_on_over_the_page(said: Collected, port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    for password in (WRONG, RIGHT):
        with connect(f"ws://127.0.0.1:{port}/live", origin=Origin(url), proxy=None) as line:
            line.send(json.dumps({"action": "log-on", "user": "bob", "password": password}))
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                text = line.recv(timeout=20)
                said.add("page", text if isinstance(text, str) else text.decode())
                if json.loads(text)["type"] in ("problem", "done"):
                    break
            else:
                raise AssertionError("no answer to a logon")


async def log_on(port: int) -> None:
    for password in (WRONG, RIGHT):
        if password == RIGHT:
            client = await Client.connect("127.0.0.1", port, "alice", password)
            await client.close()
        else:
            with pytest.raises(LoginRefused) as refused:
                await Client.connect("127.0.0.1", port, "alice", password)
            assert WRONG not in str(refused.value)


def test_nothing_that_is_said_has_a_secret_in_it(tmp_path: Path) -> None:
    said, admin_port, page_port = Collected(), free_port(), free_port()
    for name in ("alice", "bob"):
        arguments = ("user", "add", name, "--users", "users", "--password-env", "SECRET")
        run_command(said, tmp_path, *arguments, status=0, SECRET=RIGHT)
    with served(tmp_path, said, admin_port, page_port) as port:
        token = (tmp_path / "exchange-admin-token").read_text().strip()
        asyncio.run(log_on(port))
        ask_over_http(said, admin_port, token)
        log_on_over_the_page(said, page_port)
        url = ("admin", "--url", f"http://127.0.0.1:{admin_port}")
        run_command(said, tmp_path, *url, "--json", "sessions", status=0)
        run_command(said, tmp_path, *url, "limits", status=2, EXCHANGE_ADMIN_TOKEN=WRONG_TOKEN)
        load = ("load", f"127.0.0.1:{port}", "--users", "alice", "--password-env", "SECRET")
        load += (
            "--rate",
            "100",
            "--seconds",
            "0.2",
            "--warm-up",
            "0",
            "--html",
            "report.html",
            "--json",
            "load.json",
        )
        run_command(said, tmp_path, *load, status=0, SECRET=RIGHT)
        run_command(said, tmp_path, *load, status=2, SECRET=WRONG)
        run_command(said, tmp_path, *load, status=2, SECRET=RIGHT + WRONG)
        for name in ("report.html", "load.json"):
            said.add(name, (tmp_path / name).read_text())
    hashes = {
        f"a {part} of {user.name}": base64.b64encode(getattr(user, part)).decode()
        for user in read_users(tmp_path / "users").users
        for part in ("salt", "digest")
    }
    passwords = {"the password": RIGHT, "a wrong password": WRONG}
    said.assert_without({**passwords, "the token": token, "a wrong token": WRONG_TOKEN, **hashes})


@pytest.mark.parametrize(
    "thing",
    [
        Login("ALICE", RIGHT),
        soupbintcp.LoginRequest("alice", RIGHT, "", 1),
        soupbinudp.LoginRequest(1, "alice", RIGHT, "", 1),
        parse_request(json.dumps({"action": "log-on", "user": "bob", "password": RIGHT}).encode()),
        HostilePlan("127.0.0.1", 1, "GOOD", ("A", "B", "C"), RIGHT),
    ],
)
def test_nothing_that_holds_a_password_shows_it(thing: object) -> None:
    for text in (repr(thing), str(thing), f"{thing}", f"{[thing]}"):
        assert RIGHT not in text


def test_an_error_about_a_password_does_not_show_it() -> None:
    with pytest.raises(WireError) as error:
        soupbintcp.LoginRequest("alice", RIGHT + WRONG, "", 1).encode()
    assert RIGHT not in str(error.value)
