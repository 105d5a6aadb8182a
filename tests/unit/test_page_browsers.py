"""A browser's sending end and the charts' points, without a network."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exchange.gateway.statistics import (
    GatewayStatistics,
    LatencyStatistics,
    QueueStatistics,
    ShardStatistics,
    Statistics,
)
from exchange.page.browsers import Browser, Room
from exchange.page.documents import BookView
from exchange.page.market import Sheet
from exchange.page.statistics_reader import POINTS_KEPT, Sampler, StatisticsReader


class SlowSocket:
    """Takes documents only while it is let."""

    def __init__(self) -> None:
        self.took: list[dict[str, Any]] = []
        self.may_take = asyncio.Event()
        self._gone = asyncio.Event()

    async def send_bytes(self, data: bytes) -> None:
        await self.may_take.wait()
        self.took.append(json.loads(data))

    async def receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "websocket.disconnect"}

    def hang_up(self) -> None:
        self._gone.set()

    def books(self) -> list[int]:
        return [one["traded_lots"] for one in self.took if one["type"] == "book"]


class StillMarket:
    """A market with one book, which the test changes."""

    def __init__(self) -> None:
        self.overview, self.books, self.symbols = Sheet(), {"AAPL": Sheet()}, ("AAPL",)

    def change(self, lots: int) -> None:
        self.books["AAPL"].put(BookView("AAPL", "T", [], [], [], lots))


def test_a_slow_browser_misses_states_and_has_no_backlog() -> None:
    async def scenario() -> None:
        market, socket = StillMarket(), SlowSocket()
        room = Room(market, Sampler(), ())  # type: ignore[arg-type]
        browser = Browser(socket, room)  # type: ignore[arg-type]
        browser.symbol = "AAPL"
        serving = asyncio.create_task(browser.serve())
        for lots in range(1, 1001):
            market.change(lots)
            room.wake()
            await asyncio.sleep(0)
        assert socket.took == []
        socket.may_take.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert socket.books()[-1] == 1000
        assert len(socket.books()) <= 2  # the one that it was about to take, and how things are now
        socket.hang_up()
        await serving
        assert room.browsers == set()

    asyncio.run(scenario())


def test_a_sheet_that_says_the_same_has_not_changed() -> None:
    market = StillMarket()
    for lots in (1, 1, 2, 2, 1):
        market.change(lots)
    assert market.books["AAPL"].version == 3


def statistics(seconds: int, requests: int) -> Statistics:
    inbox, outbox = QueueStatistics(3, 64, 0), QueueStatistics(None, 64, 0)
    return Statistics(
        time_ns=seconds * 10**9,
        uptime_seconds=3.0,
        shards=[ShardStatistics(0, 20, 30, 10, 100, inbox, outbox)],
        gateway=GatewayStatistics(requests, requests, 2, 2),
        latency_ns=LatencyStatistics(1.0, 7, 5_000, 6_000, 9_000, 9_500, 9_900),
        feed=None,
        symbols=[],
    )


def test_points_are_rates_between_two_looks() -> None:
    sampler = Sampler()
    sampler.sample(100, statistics(1, 1000), 10.0)
    sampler.sample(150, statistics(3, 1500), 10.5)
    sampler.sample(150, None, 11.0)
    sampler.sample(40, statistics(5, 10), 11.5)  # another exchange has begun to count
    sampler.sample(40, statistics(6, 10), 12.0)
    points = list(sampler.points)
    assert [one.feed_per_second for one in points] == [0.0, 100.0, 0.0, 0.0, 0.0]
    assert [one.requests_per_second for one in points] == [None, 250.0, None, None, 0.0]
    assert (points[1].latency_p50_ns, points[2].latency_p50_ns) == (5_000, None)
    assert points[1].queues[0].inbox_used == 3
    assert points[1].queues[0].outbox_used is None
    assert [one.number for one in sampler.since(3)] == [4, 5]
    for _ in range(2 * POINTS_KEPT):
        sampler.sample(0, None, 0.0)
    assert len(sampler.points) == POINTS_KEPT


class Answering(BaseHTTPRequestHandler):
    """An admin interface that knows one token."""

    body = b""

    def do_GET(self) -> None:
        is_right = self.headers["Authorization"] == "Bearer right-token-0123456789"
        if self.path == "/moved/statistics":
            self.send_response(302)
            self.send_header("Location", "/statistics")
            self.end_headers()
            return
        self.send_response(200 if is_right and self.path == "/statistics" else 401)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def admin_interface(body: bytes) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Answering,), {"body": body}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def read(url: str, token: Path) -> Statistics | str:
    return asyncio.run(StatisticsReader(url, str(token)).read())


def test_statistics_come_with_the_token_and_trouble_comes_in_words(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for path in (right, wrong):
        path.touch(mode=0o600)
        path.write_text(f"{path.name}-token-0123456789\n")
    document = msgspec.to_builtins(statistics(1, 7)) | {"unheard_of": 1}
    with admin_interface(json.dumps(document).encode()) as url:
        assert read(url, right) == statistics(1, 7)
        assert "answered 401" in str(read(url, wrong))
        assert "answered 302" in str(read(f"{url}/moved", right))
        assert "No such file" in str(read(url, tmp_path / "none"))
    for body in (b'{"time_ns": "soon"}', b"[]", b"not JSON"):
        with admin_interface(body) as url:
            assert f"{url}" in (told := str(read(url, right)))
            assert "answered with" in told
    assert "no admin interface at" in str(read(url, right))
    assert "--admin" in str(read("", right))


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXCHANGE_ADMIN_TOKEN", raising=False)
