"""``exchange page`` as a person starts it, by itself and beside an exchange: addresses, ends, mistakes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.gateway_driver import SETTINGS, compile_once
from tests.market_data_driver import free_port
from tests.page_driver import compile_tape

ROOT = Path(__file__).resolve().parents[2]
GROUP = "239.255.42.7"
END_SECONDS_MAX = 15.0
"""It is below a second on a machine that has nothing else to do, which a machine that runs tests may not be."""


def exchange(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "exchange", *arguments]


@contextmanager
def started(*arguments: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        exchange(*arguments),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def address_in(process: subprocess.Popen[str]) -> str:
    """Where the page says it is."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.fullmatch(r"page on (http://\S+) \(nice \d+\)\n", line):
            return found[1]
    raise AssertionError(process.communicate())


def health(url: str) -> str:
    with urllib.request.urlopen(f"{url}/health", timeout=20) as response:
        return str(response.read().decode())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (None, 0)])
def test_it_ends_at_a_signal_and_with_its_parent(
    tmp_path: Path, number: signal.Signals | None, status: int
) -> None:
    compile_tape()
    arguments = ("page", f"{GROUP}:19406", "--listen", "127.0.0.1:0", "--with-parent")
    with started(*arguments, folder=tmp_path) as process:
        assert health(address_in(process)) == "ok 0 browsers\n"
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(
            19, os.getpriority(os.PRIO_PROCESS, 0) + 10
        )
        began = time.monotonic()
        if number is not None:
            process.send_signal(number)
        else:
            assert process.stdin is not None
            process.stdin.close()  # as the kernel does when the parent is gone
            process.stdin = None
        assert process.wait(END_SECONDS_MAX) == status
        assert time.monotonic() - began < END_SECONDS_MAX
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@contextmanager
def served_with_page(folder: Path, *settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An exchange with a page, and where the page is."""
    compile_once()
    compile_tape()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SECRET": "hunter2"}
    add = exchange("user", "add", "alice", "--password-env", "SECRET")
    subprocess.run(add, cwd=folder, env=environment, check=True, capture_output=True)
    feed = (f"market_data.address={GROUP}", f"market_data.port={free_port()}")
    sets = [part for one in (*SETTINGS, *feed, *settings) for part in ("--set", one)]
    with started("serve", "--quiet", *sets, "--page", "127.0.0.1:0", folder=folder) as process:
        yield process, address_in(process)


def test_the_page_of_an_exchange_shows_its_statistics_and_its_halts(tmp_path: Path) -> None:
    port = free_port()
    token = ("--url", f"http://127.0.0.1:{port}", "--token-file", "exchange-admin-token")
    with (
        served_with_page(tmp_path, "admin.kind=http", f"admin.port={port}") as (_process, url),
        connect(f"{url.replace('http', 'ws')}/live", origin=Origin(url), proxy=None) as line,
    ):
        last: dict[str, dict[str, Any]] = {}

        def until(kind: str, holds: Callable[[dict[str, Any]], bool]) -> None:
            # A state that has not changed is not told again, so the one that we wait for may have come before.
            while kind not in last or not holds(last[kind]):
                document = json.loads(line.recv(timeout=20))
                last[document["type"]] = document

        until("history", lambda one: one["trouble"] == "" and any(point["queues"] for point in one["points"]))
        until("overview", lambda one: ["AAPL", "T"] in [row[:2] for row in one["symbols"]])
        halt = exchange("admin", *token, "halt", "AAPL", "--reason", "T1")
        subprocess.run(halt, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
        until("overview", lambda one: ["AAPL", "H"] in [row[:2] for row in one["symbols"]])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_page_of_an_exchange_ends_with_it(tmp_path: Path, number: signal.Signals) -> None:
    with served_with_page(tmp_path) as (process, url):
        assert health(url).startswith("ok")
        process.send_signal(number)
        process.wait(END_SECONDS_MAX)
        deadline = time.monotonic() + END_SECONDS_MAX
        while time.monotonic() < deadline:
            try:
                health(url)
            except OSError:
                return
            time.sleep(0.02)
        raise AssertionError("the page outlives its exchange")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("page", "nowhere"), "ADDRESS:PORT 'nowhere': must be"),
        (("page", "239.255.0.1:9006", "--listen", "8080"), "--listen '8080': must be HOST:PORT"),
        (("page", "239.255.0.1:9006", "--listen", "192.0.2.1:8080"), "cannot listen on 192.0.2.1, port 8080"),
        (("page", "239.255.0.1:9006", "--exchange", "here:x"), "--exchange 'here:x'"),
        (("page", "239.255.0.1:9006", "--admin", "localhost"), "must be the URL of an admin interface"),
        (("page", "192.0.2.1:9006", "--listen", "127.0.0.1:0"), "cannot listen to a feed on 192.0.2.1"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_status_2(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = subprocess.run(
        exchange(*arguments),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert told in line
    assert (done.returncode, done.stdout) == (2, "")
