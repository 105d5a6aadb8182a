"""The admin interface of a served exchange over real HTTP, with clients that trade meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exchange.gateway.server import Server
from exchange.gateway.statistics import Statistics
from exchange.market_data.feed_book import FeedBook
from exchange.wire.itch50 import decode
from exchange.wire.ouch50 import (
    CancelOrder,
    ModifyOrder,
    OrderAccepted,
    OrderCanceled,
    OrderModified,
    OrderReplaced,
    Rejected,
    RejectReason,
    ReplaceOrder,
)
from exchange.wire.ouch_codes import Side
from tests.feed_driver import kept_blocks, split_blocks
from tests.gateway_driver import BareClient, eventually, order, run, serving

TOKEN = "a-token-for-tests-0123"
HALTED, OTHERS = "TSLA", ("AAPL", "QQQ")


@asynccontextmanager
async def administered(
    tmp_path: Path, *names: str, overrides: Sequence[str] = ()
) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    """A served exchange, and an HTTP client that has its token."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    settings = ["admin.kind=http", "admin.port=0", f"admin.token_file={file}", *overrides]
    async with serving(*(names or ("alice",)), overrides=settings) as server:
        assert server.admin is not None
        address, port = server.admin.address
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"http://{address}:{port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
            yield server, client


async def get(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def statistics(client: httpx.AsyncClient) -> Statistics:
    return msgspec.json.decode((await client.get("/statistics")).content, type=Statistics)


def test_without_the_token_nothing_is_told_but_health(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with administered(tmp_path) as (_server, client):
            for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
                async with httpx.AsyncClient(
                    base_url=client.base_url, headers=header, trust_env=False
                ) as other:
                    assert (await other.get("/health")).json() == {"status": "ok"}
                    for path in ("/sessions", "/limits", "/symbols", "/statistics", "/metrics"):
                        refused = await other.get(path)
                        assert refused.status_code == 401
                        assert refused.json()["error"]["field"] == "Authorization"
                    halt = await other.post("/symbols/AAPL/halt")
                    assert halt.status_code == 401
            assert (await get(client, "/symbols"))[0] == {
                "symbol": "AAPL",
                "state": "trading",
                "reason": "",
                "shard": 0,
            }

    run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field", "allowed"),
    [
        ("POST", "/symbols/NONE/halt", b"", 404, "symbol", "must be one of AAPL, MSFT"),
        ("POST", "/symbols/AAPL/halt", b'{"reason": "T1234"}', 422, "reason", "up to 4 letters"),
        ("POST", "/symbols/AAPL/halt", b'{"reason": "T 1"}', 422, "reason", "up to 4 letters"),
        ("POST", "/symbols/AAPL/halt", '{"reason": "\u00e9"}'.encode(), 422, "reason", "up to 4 letters"),
        ("POST", "/symbols/AAPL/halt", b'{"why": "T1"}', 422, "body", "a JSON object with reason"),
        ("POST", "/symbols/AAPL/resume", b"[1", 422, "body", "a JSON object with reason"),
        ("POST", "/symbols/AAPL/halt", b"\xff\xfe", 422, "body", "a JSON object"),
        ("POST", "/symbols/AAPL/halt", b" " * 5000, 413, "body", "must be 4096 bytes or fewer"),
        ("POST", "/sessions/carol/disconnect", b"", 404, "user", "must be a user of the exchange"),
        ("POST", "/sessions/carol/cancel-all", b"", 404, "user", "must be a user of the exchange"),
        ("POST", "/sessions/alice/disconnect", b"", 409, "user", "must be connected"),
        ("PUT", "/limits", b'{"name": "session.orders", "value": 1}', 422, "name", "gateway.client_timeout_ns"),
        ("PUT", "/limits", b'{"name": "gateway.heartbeat_ns", "value": 1}', 422, "gateway.heartbeat_ns", "must be"),
        ("PUT", "/limits", b'{"name": "gateway.heartbeat_ns", "value": true}', 422, "body", "a JSON object"),
        ("PUT", "/limits", b"{}", 422, "body", "name"),
        ("GET", "/nothing", b"", 404, "request", "one of the addresses"),
        ("DELETE", "/symbols", b"", 405, "request", "one of the addresses"),
    ],
)  # fmt: skip
def test_a_mistake_names_field_value_and_what_is_allowed(
    tmp_path: Path, method: str, path: str, body: bytes, status: int, field: str, allowed: str
) -> None:
    async def scenario() -> None:
        async with administered(tmp_path) as (_server, client):
            answer = await client.request(method, path, content=body)
            assert answer.status_code == status, answer.text
            error = answer.json()["error"]
            assert error["field"] == field
            assert allowed in error["allowed"]
            assert {one["state"] for one in await get(client, "/symbols")} == {"trading"}

    run(scenario())


async def log_on(server: Server, name: str) -> BareClient:
    client = await BareClient.log_on(server, name, sequence=2)
    await client.packet()
    return client


def test_a_halt_refuses_what_comes_in_and_lets_out_what_wants_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with administered(tmp_path, "alice", "bob") as (server, admin):
            alice, bob = [await log_on(server, name) for name in ("alice", "bob")]
            await alice.request(order(1, symbol=HALTED), order(2, symbol=HALTED, quantity=50))
            await alice.answers(2)
            halted = await admin.post(f"/symbols/{HALTED}/halt", json={"reason": "T1"})
            assert halted.json() == {"symbol": HALTED, "state": "halted", "reason": "T1", "shard": 0}
            assert {"symbol": HALTED, "state": "halted", "reason": "T1", "shard": 0} in await get(
                admin, "/symbols"
            )
            await bob.request(order(1, Side.SELL, symbol=HALTED), order(2, Side.SELL, symbol="AAPL"))
            refused, accepted = await bob.answers(2)
            assert isinstance(refused, Rejected)
            assert (refused.reason, refused.client_order_id) == (RejectReason.HALTED, "order 1")
            assert isinstance(accepted, OrderAccepted)
            await alice.request(
                ReplaceOrder(1, 3, 200, 90_0000, "0", "Y", "N", "order 3"),
                CancelOrder(1, 40),
                CancelOrder(2, 0),
                ModifyOrder(1, Side.BUY, 30),
            )
            refused, part, rest, modified = await alice.answers(4)
            assert isinstance(modified, OrderModified)
            assert (modified.user_reference_number, modified.quantity) == (1, 30)
            assert isinstance(refused, Rejected)
            assert (refused.user_reference_number, refused.reason, refused.client_order_id) == (
                3, RejectReason.HALTED, "order 3",
            )  # fmt: skip
            assert isinstance(part, OrderCanceled)
            assert (part.user_reference_number, part.quantity) == (1, 60)
            assert isinstance(rest, OrderCanceled)
            assert (rest.user_reference_number, rest.quantity) == (2, 50)
            resumed = await admin.post(f"/symbols/{HALTED}/resume")
            assert resumed.json() == {"symbol": HALTED, "state": "trading", "reason": "", "shard": 0}
            await alice.request(ReplaceOrder(1, 4, 70, 90_0000, "0", "Y", "N", "order 4"))
            replaced = await alice.answer()
            assert isinstance(replaced, OrderReplaced)
            assert (replaced.user_reference_number, replaced.quantity) == (4, 70)
            for client in (alice, bob):
                await client.close()

    run(scenario())


class Trader:
    """Sends orders in three symbols until it is told to stop, and keeps what it is told."""

    def __init__(self, client: BareClient, seed: int) -> None:
        self._client, self._chance = client, np.random.default_rng(seed)
        self.symbols = [""]
        self.accepted_after_resume = 0
        self.refused: list[Rejected] = []
        self.is_resumed = self.has_stopped = False

    async def send(self) -> None:
        while not self.has_stopped:
            asked: list[Any] = []
            for number in range(len(self.symbols), len(self.symbols) + 20):
                self.symbols.append(str(self._chance.choice([HALTED, *OTHERS])))
                side = Side.BUY if self._chance.random() < 0.5 else Side.SELL
                price = 100_0000 + 100 * int(self._chance.integers(-5, 6))
                asked.append(
                    order(number, side, int(self._chance.integers(1, 50)), price, symbol=self.symbols[-1])
                )
                if number > 5 and self._chance.random() < 0.4:
                    asked.append(CancelOrder(number - int(self._chance.integers(1, 5)), 0))
            await self._client.request(*asked)
            await asyncio.sleep(0.01)

    async def hear(self) -> None:
        while True:
            match await self._client.answer():
                case Rejected() as refused:
                    self.refused.append(refused)
                case OrderAccepted(symbol=symbol) if self.is_resumed and symbol == HALTED:
                    self.accepted_after_resume += 1


def test_a_halt_has_its_place_among_orders_that_flow(tmp_path: Path) -> None:
    """Everybody sees the same: the clients, the feed, and who builds a book of the feed."""

    async def scenario() -> None:
        more = ("market_data.capacity_messages=262144", "gateway.log_bytes=64MiB")
        async with administered(tmp_path, "alice", "bob", overrides=more) as (server, admin):
            traders = [Trader(await log_on(server, name), seed) for seed, name in enumerate(("alice", "bob"))]
            tasks = [asyncio.create_task(work) for one in traders for work in (one.send(), one.hear())]
            await eventually(lambda: all(len(one.symbols) > 100 for one in traders))
            assert (await admin.post(f"/symbols/{HALTED}/halt", json={"reason": "T12"})).status_code == 200
            await eventually(lambda: all(len(one.refused) > 10 for one in traders))
            assert (await admin.post(f"/symbols/{HALTED}/resume", json={"reason": "T3"})).status_code == 200
            for one in traders:
                one.is_resumed = True
            await eventually(lambda: all(one.accepted_after_resume > 10 for one in traders))
            for one in traders:
                one.has_stopped = True
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in traders:
            assert {refused.reason for refused in one.refused} == {RejectReason.HALTED}
            assert {one.symbols[refused.user_reference_number] for refused in one.refused} == {HALTED}
        assert server.feed is not None
        blocks = kept_blocks(server.feed.store)
        messages = [decode(one) for one in split_blocks(blocks)]
        number = server.settings.gateway.symbols.index(HALTED)
        about = [one for one in messages if one.stock_locate == number + 1]
        actions = [(one.trading_state, one.reason) for one in about if one.layout.message_type == "H"]
        assert actions == [("T", ""), ("H", "T12"), ("T", "T3")]
        _, _, halted, resumed = "".join(one.layout.message_type for one in about).split("H")
        assert set(halted) <= {"X", "D"}
        assert {"A", "E"} <= set(resumed)
        times = [one.timestamp for one in messages]
        assert times == sorted(times)
        book = FeedBook(capacity_orders=65_536)
        book.apply_blocks(blocks)
        assert book.counts().faults == 0
        assert book.digest(public=True) == server.exchange.digest(public=True)

    run(scenario())


def test_statistics_and_metrics_add_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with administered(tmp_path, "alice", "bob") as (server, admin):
            before = await statistics(admin)
            assert (before.gateway.sessions_total, before.gateway.sessions_connected) == (2, 0)
            assert before.shards[0].commands == before.shards[0].events == 1, "the start of the day"
            alice = await log_on(server, "alice")
            await alice.request(*(order(number) for number in range(1, 301)))
            await alice.answers(300)
            await alice.request(order(301, Side.SELL, quantity=30_000))
            await alice.answers(601)  # accepted, and both sides of 300 trades
            await alice.request(order(302, symbol="NONE"))
            await alice.answer()
            found = await statistics(admin)
            (shard,) = found.shards
            assert (shard.commands, shard.events, shard.live_orders) == (1 + 301 + 1, 1 + 601 + 1, 0)
            assert (shard.inbox.used_slots, shard.outbox.used_slots) == (0, 0)
            assert shard.inbox.capacity_slots == server.settings.queue.capacity_slots
            assert found.gateway.requests == 302
            assert found.gateway.answers - before.gateway.answers == 300 + 601 + 1
            assert found.gateway.sessions_connected == 1
            await eventually(lambda: int(server.transport.latency.counts().sum()) == shard.events)
            latency = (await statistics(admin)).latency_ns
            assert latency.p50 is not None
            assert 0 < latency.p50 <= latency.p99 <= latency.max < 60_000_000_000  # type: ignore[operator]
            feed = found.feed
            assert feed is not None
            assert before.feed is not None
            assert feed.messages - before.feed.messages == 600
            assert feed.datagrams > 0
            await assert_metrics_are(admin, found)
            await assert_sessions_are(admin)
            await alice.close()

    async def assert_metrics_are(admin: httpx.AsyncClient, found: Statistics) -> None:
        text = (await admin.get("/metrics")).text
        values = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert values["exchange_commands_total", "0"] == found.shards[0].commands
        assert values["exchange_events_total", "0"] == found.shards[0].events
        assert values["exchange_requests_total",] == found.gateway.requests
        assert values["exchange_sessions_connected",] == 1
        assert values["exchange_symbol_halted", "AAPL"] == 0
        assert values["exchange_queue_used_slots", "0", "inbox"] == 0
        assert values["exchange_feed_messages_total",] == found.feed.messages  # type: ignore[union-attr]

    async def assert_sessions_are(admin: httpx.AsyncClient) -> None:
        alice, bob = await get(admin, "/sessions")
        assert (alice["user"], alice["is_connected"], alice["address"]) == ("ALICE", True, "127.0.0.1")
        assert (alice["requests"], alice["orders_alive"], alice["last_close_reason"]) == (302, 0, "")
        assert (alice["last_user_reference"], alice["last_sequence"]) == (302, 1 + 902)
        assert alice["log_used_bytes"] > 902 * 20
        assert (bob["is_connected"], bob["since_ns"], bob["requests"]) == (False, None, 0)

    run(scenario())


def test_a_user_can_be_cancelled_and_disconnected(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with administered(tmp_path, "alice", "bob") as (server, admin):
            alice, bob = [await log_on(server, name) for name in ("alice", "bob")]
            await bob.request(order(1, price=90_0000))
            await alice.request(
                *(order(number, symbol=name) for number, name in enumerate((HALTED, *OTHERS), 1))
            )
            await alice.answers(3)
            await bob.answer()
            assert [one["orders_alive"] for one in await get(admin, "/sessions")] == [3, 1]
            done = await admin.post("/sessions/Alice/cancel-all")
            assert done.json() == {"user": "ALICE", "session": 0, "action": "cancel-all"}
            canceled = await alice.answers(3)
            assert {one.user_reference_number for one in canceled if isinstance(one, OrderCanceled)} == {
                1,
                2,
                3,
            }
            assert (await admin.post("/sessions/alice/disconnect")).status_code == 200
            assert await alice.is_closed()
            await eventually(lambda: server.control.connected == 1)
            first, second = await get(admin, "/sessions")
            assert (first["is_connected"], first["last_close_reason"], first["orders_alive"]) == (
                False,
                "asked",
                0,
            )
            assert (second["is_connected"], second["orders_alive"]) == (True, 1)
            again = await BareClient.log_on(server, "alice", sequence=2)
            await again.packet()
            assert len(await again.answers(6)) == 6, "the log has everything from before"
            for client in (again, bob):
                await client.close()

    run(scenario())


def test_limits_are_told_and_some_can_be_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with administered(tmp_path) as (server, admin):
            alice = await log_on(server, "alice")
            await alice.request(order(1))
            await alice.answer()
            limits = {one["name"]: one for one in await get(admin, "/limits")}
            config = server.settings.gateway
            assert limits["session.orders"]["used"] == 1
            assert limits["session.orders"]["capacity"] == config.capacity_orders
            assert limits["shard.0.orders"]["used"] == 1
            assert limits["feed.store_messages"]["used"] > 1
            assert limits["gateway.client_timeout_ns"]["capacity"] == config.client_timeout_ns
            assert limits["gateway.logon_timeout_ns"]["is_changeable"]
            for name, value in (
                ("gateway.heartbeat_ns", 10_000_000),
                ("gateway.logon_failures", 7),
                ("gateway.connections_per_second", 9),
                ("gateway.client_timeout_ns", 100_000_000),
            ):
                changed = await admin.put("/limits", json={"name": name, "value": value})
                found = {one["name"]: one["capacity"] for one in changed.json()}
                assert found[name] == value
            assert await alice.is_closed(), "it has said nothing for long enough now"
            await eventually(lambda: server.control.close_reasons.get(0) == "silent")

    run(scenario())


def test_the_end_waits_for_no_admin_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with administered(tmp_path) as (server, admin):
            assert server.admin is not None
            idle = await asyncio.open_connection(*server.admin.address)
            half = await asyncio.open_connection(*server.admin.address)
            half[1].write(b"POST /symbols/AAPL/halt HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n")
            half[1].write(f"Authorization: Bearer {TOKEN}\r\n\r\n{{".encode())
            await half[1].drain()
            await get(admin, "/health")
        for reader, writer in (idle, half):
            with suppress(ConnectionError):  # it may end either way, as long as it ends
                await reader.read()
            writer.close()

    run(scenario())
