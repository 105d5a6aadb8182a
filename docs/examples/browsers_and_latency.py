"""Do browsers that look at the live page slow the exchange down? Without the page, with it, and with fifty of them.

``python docs/examples/browsers_and_latency.py`` needs two cores and the package ``websockets``. The exchange has the
first core for itself, as it would have in earnest. Everything else shares the second one: clients that send orders at
fixed times, and in two of three rounds the page, in one of these with fifty browsers that each watch a book. Asked is
the exchange: how long does an order take inside it, from its bytes received to its answer handed to the socket?

Each second has its own percentiles; printed are their median and range over the seconds of all rounds.
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = int(os.environ.get("BROWSERS", "50"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
RATE = 5000
SECONDS = 12
SECONDS_MAX = 600
PORT, ADMIN_PORT, PAGE_PORT = 19205, 19210, 18205
GROUP = "239.255.0.1:19206"
SETTINGS = (f"transport.port={PORT}", f"admin.port={ADMIN_PORT}", "market_data.port=19206",
            "market_data.request_port=19207", "market_data.glimpse=none", "idle.kind=busy-spin")  # fmt: skip
SYMBOLS = ("AAPL", "MSFT", "NVDA")
PERCENTILES = ("p50", "p99", "p99_9")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "SECRET": "hunter2"}


def command(*arguments: str) -> list[str]:
    """An ``exchange`` command."""
    return [sys.executable, "-m", "exchange", *arguments]


@contextmanager
def running(folder: Path, core: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command on one core, ended with the block."""
    process = subprocess.Popen(
        command(*arguments), cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL,
        preexec_fn=partial(os.sched_setaffinity, 0, {core}),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_for(attempt: Callable[[], None]) -> None:
    """Do something as soon as it can be done: the first start compiles."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        try:
            return attempt()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def ask(folder: Path) -> dict[str, int]:
    """The exchange's latency of the last second."""
    token = (folder / "exchange-admin-token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{ADMIN_PORT}/statistics", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request) as answer:
        latency: dict[str, int] = json.load(answer)["latency_ns"]
    return latency


async def browse(line: ClientConnection, symbol: str) -> int:
    """Watch a symbol until the line ends; how many documents came."""
    await line.send(json.dumps({"action": "watch", "symbol": symbol}))
    documents = 0
    async for _ in line:
        documents += 1
    return documents


async def watch_seconds(folder: Path, browsers: int) -> tuple[list[dict[str, int]], float]:
    """Ask the exchange each second, with so many browsers; the answers, and documents per browser and second."""
    async with AsyncExitStack() as stack:
        origin = Origin(f"http://127.0.0.1:{PAGE_PORT}")
        lines = [
            await stack.enter_async_context(
                connect(f"ws://127.0.0.1:{PAGE_PORT}/live", origin=origin, proxy=None, open_timeout=60)
            )
            for _ in range(browsers)
        ]
        tasks = [asyncio.create_task(browse(line, SYMBOLS[k % 3])) for k, line in enumerate(lines)]
        await asyncio.sleep(2)
        looks = []
        for _ in range(SECONDS):
            await asyncio.sleep(1.1)
            looks.append(await asyncio.to_thread(ask, folder))
        for line in lines:
            await line.close()
        documents = sum(await asyncio.gather(*tasks))
    return looks, documents / max(1, browsers) / (2 + 1.1 * SECONDS)


def measure(folder: Path, browsers: int | None) -> list[dict[str, int]]:
    """One round, with a page and so many browsers, or without a page."""
    # The clients never sleep, and would leave a page that stands back too little of their core.
    page = ("page", GROUP, "--admin", f"http://127.0.0.1:{ADMIN_PORT}", "--listen", f"127.0.0.1:{PAGE_PORT}",
            "--nice", "0")  # fmt: skip
    load = ("load", f"127.0.0.1:{PORT}", "--users", "alice,bob", "--password-env", "SECRET", "--rate", str(RATE),
            "--orders", "400", "--seconds", "300", "--symbols", ",".join(SYMBOLS))  # fmt: skip
    with running(folder, 1, *load):
        if browsers is None:
            return asyncio.run(watch_seconds(folder, 0))[0]
        with running(folder, 1, *page):
            wait_for(lambda: socket.create_connection(("127.0.0.1", PAGE_PORT)).close())
            looks, rate = asyncio.run(watch_seconds(folder, browsers))
            print(f"  documents told to each browser in a second: {rate:.1f}")
            return looks


def name_of(browsers: int | None) -> str:
    """What a round is called."""
    return "no page" if browsers is None else f"page with {browsers} browsers"


def main() -> None:
    """Measure in turns, and print the table."""
    os.sched_setaffinity(0, {1})
    found: dict[int | None, list[dict[str, int]]] = {None: [], 0: [], BROWSERS: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for user in ("alice", "bob"):
            add = command("user", "add", user, "--password-env", "SECRET")
            subprocess.run(add, cwd=folder, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
        sets = [part for one in SETTINGS for part in ("--set", one)]
        with running(folder, 0, "serve", "--quiet", *sets), suppress(KeyboardInterrupt):
            wait_for(lambda: socket.create_connection(("127.0.0.1", PORT)).close())
            for number in range(ROUNDS):
                for browsers in found if number % 2 == 0 else reversed(found):
                    print(f"round {number + 1} of {ROUNDS}: {name_of(browsers)}", flush=True)
                    found[browsers] += [look for look in measure(folder, browsers) if look["count"]]
    for browsers, looks in found.items():
        print(f"{name_of(browsers)}, {len(looks)} seconds, {sum(look['count'] for look in looks):,} orders")
        for percentile in PERCENTILES:
            values = sorted(look[percentile] for look in looks)
            low, middle, high = values[0], statistics.median(values), values[-1]
            print(f"  {percentile:6} {middle / 1000:8.1f} µs  ({low / 1000:.1f} to {high / 1000:.1f})")


if __name__ == "__main__":
    main()
