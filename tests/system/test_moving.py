"""Clients whose exchange goes to another address: nothing is lost, nothing comes twice, and the end is the end."""

import asyncio
import re
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from exchange.bench.runner import Progress
from exchange.client import Client, LoginRefused, Side
from exchange.errors import UserError
from exchange.load.generator import compile_loop, run_load_plan
from exchange.load.logins import Endpoint, Login
from exchange.load.measured import Measured
from exchange.load.plan import LoadPlan
from exchange.page.requests import Place
from exchange.page.trader import Trader
from exchange.wire.layout import Message
from exchange.wire.ouch50 import (
    AccountQueryResponse,
    OrderAccepted,
    OrderCanceled,
    OrderExecuted,
    OrderReplaced,
    Rejected,
)
from exchange.wire.ouch_codes import CancelReason
from tests.gateway_driver import PASSWORD, run, serving
from tests.moving_exchange import LOOPBACK, NAMES, MovingExchange, free_ports, moving_exchange
from tests.system.kill_processes import Starter

SECONDS_MAX = 120.0
"""For a machine with other things to do; it is a few seconds."""
ANSWER_SECONDS = 0.4
"""So soon a client gives up an exchange that was stopped."""
LOG_ROOM = "gateway.log_bytes=32MiB"


@contextmanager
def silent_listener() -> Iterator[tuple[str, int]]:
    """An address where the kernel takes connections, and nobody ever says anything."""
    with socket.create_server((LOOPBACK, 0), backlog=64) as listener:
        yield listener.getsockname()


@contextmanager
def dead_host() -> Iterator[tuple[str, int]]:
    """An address that does not even take connections, as that of a machine without power."""
    with socket.create_server((LOOPBACK, 0), backlog=0) as listener, ExitStack() as stack:
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()


class Trading:
    """A client that trades until it is told to stop, and remembers what it has heard."""

    def __init__(self, client: Client, side: Side) -> None:
        self.client, self.side = client, side
        self.heard: list[Message] = []
        self.numbers: list[int] = []
        self.is_over = False

    async def listen(self) -> None:
        async for answer in self.client:
            self.heard.append(answer)

    async def trade(self) -> None:
        while not self.is_over:
            price = 100_0000 + 100 * (len(self.numbers) % 5)
            self.numbers.append(await self.client.place("AAPL", self.side, 10, price_ticks=price))
            if len(self.numbers) % 7 == 0:
                await self.client.cancel(self.numbers[-3])
            await asyncio.sleep(0.001)

    def accepted(self) -> list[int]:
        return [one.user_reference_number for one in self.heard if isinstance(one, OrderAccepted)]


async def trade_while_it_moves(exchange: MovingExchange, transport: Any, hows: tuple[str, ...]) -> None:
    await exchange.listens()
    first, *others = exchange.endpoints
    tradings = [
        Trading(
            await Client.connect(
                *first, name, PASSWORD, backups=others, answer_seconds=ANSWER_SECONDS, transport=transport
            ),
            Side.BUY if name == "alice" else Side.SELL,
        )
        for name in NAMES
    ]
    listening = [asyncio.create_task(one.listen()) for one in tradings]
    trading = [asyncio.create_task(one.trade()) for one in tradings]
    for how in hows:
        counts = [len(one.accepted()) for one in tradings]
        while any(len(one.accepted()) < count + 50 for one, count in zip(tradings, counts, strict=True)):
            await asyncio.sleep(0.01)
        await exchange.move(how)
    await exchange.listens()
    for one in tradings:
        one.is_over = True
    await asyncio.gather(*trading)
    for one in tradings:
        await one.client.synchronize()
    await exchange.end()
    await asyncio.gather(*listening)  # End of Session: nobody looks for another exchange
    told = exchange.told()
    for name, one in zip(NAMES, tradings, strict=True):
        assert one.heard == [answer for answer in told[name] if not isinstance(answer, AccountQueryResponse)]
        assert one.accepted() == one.numbers == list(range(1, len(one.numbers) + 1))
        assert one.client.reconnections >= len(hows)
        assert one.client.address == exchange.endpoints[exchange.place]
        assert one.client.taken_back == 0
        await one.client.close()
    assert sum(isinstance(answer, OrderExecuted) for one in tradings for answer in one.heard) > 100


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_clients_follow_an_exchange_that_is_killed_and_one_that_is_stopped(
    tmp_path: Path, starter: Starter, transport: str
) -> None:
    with moving_exchange(tmp_path, starter, transport, LOG_ROOM) as exchange:
        scenario = trade_while_it_moves(exchange, transport, ("killed", "stopped", "killed"))
        asyncio.run(asyncio.wait_for(scenario, SECONDS_MAX))


def test_a_client_is_let_in_though_other_addresses_are_silent_or_dead_or_refuse() -> None:
    async def scenario() -> None:
        with silent_listener() as silent, dead_host() as dead:
            async with serving("alice") as server:
                (refusing,) = free_ports(1)
                addresses = [dead, (LOOPBACK, refusing), tuple(server.address)]
                began = time.monotonic()
                client = await Client.connect(*silent, "alice", PASSWORD, backups=addresses)
                assert client.address == server.address
                number = await client.place("AAPL", Side.BUY, 10, price_ticks=100_0000)
                while not isinstance(answer := await client.next_answer(), OrderAccepted):
                    pass
                assert answer.user_reference_number == number
                assert time.monotonic() - began < 10  # the silent one alone may take ten
            rest = [answer async for answer in client]  # the exchange has ended in order
            assert len(rest) == 1
            assert client.reconnections == 0
            await client.close()

    run(scenario())


def test_a_wrong_password_is_told_at_once_and_an_unknown_session_in_the_end() -> None:
    async def scenario() -> None:
        (refusing,) = free_ports(1)
        async with serving("alice") as server:
            backups = [server.address]
            with pytest.raises(LoginRefused):
                await Client.connect(LOOPBACK, refusing, "alice", "wrong", backups=backups)
            with pytest.raises(ConnectionRefusedError, match="login of alice refused: S"):
                await Client.connect(LOOPBACK, refusing, "alice", PASSWORD, session="OTHER", backups=backups)

    run(scenario())


def test_a_person_at_the_page_follows_but_does_not_take_a_session_back(
    tmp_path: Path, starter: Starter
) -> None:
    async def scenario(exchange: MovingExchange) -> None:
        await exchange.listens()
        trader = await Trader.log_on(exchange.endpoints, "alice", PASSWORD, lambda: None)
        for number in (1, 2):
            await trader.place(Place("AAPL", "B", 10, "100.00"))
            while len(trader.account.view().orders) < number:
                await asyncio.sleep(0.005)
            if number == 1:
                await exchange.move()
        assert trader.is_connected
        other = await Client.connect(*exchange.endpoints[1], "alice", PASSWORD)
        await asyncio.sleep(0.3)  # long enough to come back many times
        assert other.reconnections == 0
        await other.close()
        await trader.close()
        await exchange.end()

    with moving_exchange(tmp_path, starter) as exchange:
        asyncio.run(asyncio.wait_for(scenario(exchange), SECONDS_MAX))


def test_an_exchange_that_has_forgotten_messages_is_told_of(tmp_path: Path, starter: Starter) -> None:
    """What asynchronous replication may do: the exchange that goes on does not know the last moments."""

    async def scenario(exchange: MovingExchange) -> None:
        await exchange.listens()
        client = await Client.connect(
            *exchange.endpoints[0], "alice", PASSWORD, backups=exchange.endpoints[1:]
        )

        async def accepted(number: int) -> None:
            while not isinstance(one := await client.next_answer(), OrderAccepted):
                pass
            assert one.user_reference_number == number

        await accepted(await client.place("AAPL", Side.BUY, 10, price_ticks=100_0000))
        shutil.copytree(exchange.journal, exchange.folder / "early")
        for _ in range(3):
            await accepted(await client.place("AAPL", Side.BUY, 10, price_ticks=100_0000))
        shutil.rmtree(exchange.journal)
        (exchange.folder / "early").rename(exchange.journal)
        await exchange.move()
        await accepted(await client.place("AAPL", Side.BUY, 10, price_ticks=100_0000))
        assert client.taken_back == 3
        await client.close()
        await exchange.end()

    with moving_exchange(tmp_path, starter) as exchange:
        asyncio.run(asyncio.wait_for(scenario(exchange), SECONDS_MAX))


def load_while_it_moves(exchange: MovingExchange, plan: LoadPlan, how: str) -> Measured:
    """Run a load, and move its exchange when it has begun."""
    runs: list[Measured] = []

    def move() -> None:
        time.sleep(0.5)
        asyncio.run(exchange.move(how))

    asyncio.run(asyncio.wait_for(exchange.listens(), SECONDS_MAX))
    compile_loop(plan.transport)
    mover = threading.Thread(target=move)
    mover.start()
    try:
        result = run_load_plan(plan, "exchange load", Progress(), runs.append)
    finally:
        mover.join()
    (text,) = result.warnings
    assert "3 sessions lost their line" in text
    assert re.search(rf"went on at .*{exchange.endpoints[1]}", text)
    return runs[0]


@pytest.mark.parametrize(("transport", "how"), [("tcp", "killed"), ("udp", "stopped"), ("udp", "killed")])
def test_a_load_goes_on_where_its_exchange_goes(
    tmp_path: Path, starter: Starter, transport: Any, how: str
) -> None:
    logins = tuple(Login(name.upper(), PASSWORD) for name in NAMES)
    with moving_exchange(tmp_path, starter, transport, LOG_ROOM) as exchange:
        first, *backups = exchange.endpoints
        plan = LoadPlan(
            first, logins, (1500.0,), 1.0, 0.2, orders=4, transport=transport, keeps_orders=True,
            backups=tuple(backups), answer_s=ANSWER_SECONDS, bucket_ns=10_000_000,
        )  # fmt: skip
        measured = load_while_it_moves(exchange, plan, how)
        asyncio.run(exchange.end())
        told = exchange.told()
    counts = measured.counts
    assert counts["sent"] == counts["answered"] + counts["lapsed"] == 1800
    assert counts["rejected"] == counts["unanswered"] == counts["not sent"] == 0
    _check_told([one for messages in told.values() for one in messages], counts)
    for messages in told.values():
        numbers = [
            one.user_reference_number for one in messages if isinstance(one, OrderAccepted | OrderReplaced)
        ]
        assert len(set(numbers)) == len(numbers)
    for login in logins:  # on a busy machine an exchange may be so slow that it is given up for that as well
        losses = [one for one in measured.losses if one.session == login.name]
        assert (losses[0].left, losses[-1].found) == (first, backups[0])
        assert all(0 < one.lost_ns < one.back_ns and one.taken_back == 0 for one in losses)
    assert sum(one.sent_again for one in measured.losses) <= measured.back_pressure["sent again"]
    _check_timeline(measured)


def _check_told(messages: list[Message], counts: dict[str, int]) -> None:
    """What the exchange has said, once for each, is what the load has counted."""
    kinds = Counter(type(one) for one in messages)
    cancels = sum(isinstance(one, OrderCanceled) and one.reason == CancelReason.USER for one in messages)
    assert kinds[OrderAccepted] + kinds[OrderReplaced] + cancels == counts["answered"]
    assert kinds[Rejected] == counts["rejected"]
    assert 0 <= kinds[OrderExecuted] - counts["executions"] <= 10  # behind the last answer nothing is read


def _check_timeline(measured: Measured) -> None:
    """The outage can be seen: nothing was answered in it, and what was due first has waited longest."""
    timeline, silence = measured.timeline, measured.silence
    assert timeline is not None
    assert sum(timeline.due) == measured.counts["sent"]
    assert sum(timeline.answered) == measured.counts["answered"]
    assert sum(timeline.unanswered) == 0
    first, last = silence.begin_ns // timeline.bucket_ns + 1, silence.end_ns // timeline.bucket_ns
    assert last > first
    assert sum(timeline.answered[first:last]) == 0
    assert max(loss.back_ns for loss in measured.losses) > silence.begin_ns
    assert min(loss.back_ns for loss in measured.losses) < silence.end_ns
    longest_ns = max(one for one in timeline.latency_max_ns if one is not None)
    assert longest_ns >= 0.8 * silence.length_ns
    assert timeline.sent_again == measured.back_pressure["sent again"]
    assert {one.reason for one in timeline.lost_lines} <= {"closed", "reset", "refused", "silent"}


def test_a_load_whose_exchange_does_not_come_back_says_so(
    tmp_path: Path, starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.load.generator.MOVE_NS", 500_000_000)
    with moving_exchange(tmp_path, starter) as exchange:
        asyncio.run(asyncio.wait_for(exchange.listens(), SECONDS_MAX))
        plan = LoadPlan(
            exchange.endpoints[0], (Login("ALICE", PASSWORD),), (500.0,), 0.5, 0.0,
            backups=tuple(exchange.endpoints[1:]),
        )  # fmt: skip
        killer = threading.Timer(0.3, lambda: asyncio.run(exchange.kill()))
        killer.start()
        with pytest.raises(
            UserError, match=r"ALICE.*: its line was lost, and nobody let it in again in time"
        ):
            run_load_plan(plan, "exchange load", Progress())
        killer.join()


def test_a_load_begins_where_it_is_let_in_and_ends_with_the_session() -> None:
    async def scenario() -> None:
        with silent_listener() as silent:
            async with serving("alice", "bob") as server:
                plan = LoadPlan(
                    Endpoint(*silent), (Login("ALICE", PASSWORD), Login("BOB", PASSWORD)), (500.0,), 3.0, 0.0,
                    backups=(Endpoint(*server.address),),
                )  # fmt: skip
                asyncio.get_running_loop().call_later(4.0, server.request_stop)
                with pytest.raises(UserError, match="the exchange ended the session"):
                    await asyncio.to_thread(run_load_plan, plan, "exchange load", Progress())

    compile_loop()
    run(scenario())
