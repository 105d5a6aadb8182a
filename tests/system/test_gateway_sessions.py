"""Sessions over a real socket: logging on, cuts, garbage, replay, heartbeats, slow readers, full logs, the end."""

import asyncio
import random
import socket
from contextlib import suppress

import pytest

from exchange.gateway.session_memory import LOG_MESSAGES, RECEIVED_NS
from exchange.wire.ouch50 import (
    AccountQuery,
    AccountQueryResponse,
    OrderAccepted,
    OrderCanceled,
    OrderExecuted,
    SystemEvent,
)
from exchange.wire.ouch_codes import EventCode, Side
from exchange.wire.soupbintcp import (
    ClientHeartbeat,
    Debug,
    EndOfSession,
    LoginAccepted,
    LoginRejected,
    LoginRequest,
    LogoutRequest,
    ServerHeartbeat,
    UnsequencedData,
)
from tests.gateway_driver import PASSWORD, BareClient, connect, eventually, order, run, serving


def test_two_clients_trade_and_each_hears_its_side() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob") as server:
            alice, bob = await connect(server, "alice"), await connect(server, "bob")
            bid = await alice.place("AAPL", Side.BUY, 100, price_ticks=100_0000, client_order_id="mine")
            await eventually(lambda: alice.next_sequence == 4)  # start of day, the account's answer, accepted
            await bob.place("AAPL", Side.SELL_SHORT, 60, price_ticks=99_0000)
            heard = [await alice.next_answer() for _ in range(3)]
            start, accepted, executed = heard
            assert isinstance(start, SystemEvent)
            assert isinstance(accepted, OrderAccepted)
            assert (accepted.user_reference_number, accepted.client_order_id, accepted.side) == (
                bid,
                "mine",
                "B",
            )
            assert isinstance(executed, OrderExecuted)
            assert (executed.quantity, executed.price, executed.liquidity_flag) == (60, 100_0000, "A")
            _, taken, sold = [await bob.next_answer() for _ in range(3)]
            assert isinstance(taken, OrderAccepted)
            assert taken.side == "T"
            assert isinstance(sold, OrderExecuted)
            assert (sold.quantity, sold.price, sold.liquidity_flag) == (60, 100_0000, "R")
            assert sold.match_number == executed.match_number
            await alice.close()
            await bob.close()

    run(scenario())


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("alice", {"password": "wrong"}, "A"),
        ("nobody", {}, "A"),
        ("alice", {"session": "YESTERDAY"}, "S"),
    ],
)
def test_a_login_that_is_not_right_is_rejected_and_closed(
    name: str, changes: dict[str, str], code: str
) -> None:
    async def scenario() -> None:
        async with serving("alice") as server:
            client = await BareClient.log_on(server, name, **changes)
            assert await client.packet() == LoginRejected(code)
            assert await client.is_closed()
            good = await BareClient.log_on(server, "ALICE", password=PASSWORD.upper())
            assert await good.packet() == LoginAccepted(server.control.session_name, 1)
            await good.close()

    run(scenario())


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\0",
        ClientHeartbeat().encode(),
        UnsequencedData(order(1).encode()).encode(),
        b"\0\x2fL" + b"\xff" * 46,
    ],
)
def test_whoever_does_not_log_in_first_is_closed(data: bytes) -> None:
    async def scenario() -> None:
        async with serving("alice") as server:
            client = await BareClient.dial(server)
            await client.send(data)
            assert await client.is_closed()
            assert server.control.connected == 0

    run(scenario())


def test_a_connection_that_says_nothing_is_closed() -> None:
    async def scenario() -> None:
        async with serving("alice", overrides=["gateway.logon_timeout_ns=50ms"]) as server:
            client = await BareClient.dial(server)
            await client.send(b"\0")
            assert await client.is_closed()

    run(scenario())


def test_bytes_may_be_cut_anywhere() -> None:
    stream = b"".join(UnsequencedData(order(number).encode()).encode() for number in (1, 2))
    stream += ClientHeartbeat().encode() + Debug(b"hello").encode()

    async def scenario() -> None:
        async with serving("alice") as server:
            received = server.transport.memory.address(0) + RECEIVED_NS
            login = LoginRequest("alice", PASSWORD, "", 1).encode()
            client = await BareClient.dial(server)
            for position in range(len(login)):
                await client.send(login[position : position + 1])
            assert isinstance(await client.packet(), LoginAccepted)
            await client.answer()
            assert received > 0
            for cut in range(1, len(stream)):
                numbers = (2 * cut - 1, 2 * cut)
                whole = b"".join(UnsequencedData(order(number).encode()).encode() for number in numbers)
                whole += stream[len(whole) :]
                await client.send(whole[:cut])
                await asyncio.sleep(0.001)
                await client.send(whole[cut:])
                answers = await client.answers(2)
                assert tuple(answer.user_reference_number for answer in answers) == numbers  # type: ignore[attr-defined]
            await client.close()

    run(scenario())


GARBAGE = [
    b"\0\0",
    b"\xff\xff",
    b"\0\1X",
    b"\0\1U",
    b"\0\2Uo",
    b"\0\5U\0\0\0\0",
    b"\0\3UOO",
    UnsequencedData(order(1).encode()[:-1]).encode(),
    UnsequencedData(order(1).encode()[:-2] + b"\0\5").encode(),
    UnsequencedData(order(1).encode()[:-2] + b"\0\1\0").encode(),
    UnsequencedData(order(1).encode()[:-2] + b"\0\2\1\2").encode(),
    LoginRequest("alice", PASSWORD, "", 1).encode(),
]


def test_garbage_ends_that_connection_and_no_other() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob") as server:
            bob = await BareClient.log_on(server, "bob")
            await bob.packet()
            await bob.answer()
            noise = random.Random(4)
            for turn, garbage in enumerate([*GARBAGE, *(noise.randbytes(200) for _ in range(30))]):
                alice = await BareClient.log_on(server, "alice", sequence=0)
                assert isinstance(await alice.packet(), LoginAccepted)
                await alice.send(garbage)
                assert await alice.is_closed(), garbage
                await bob.request(order(turn + 1))
                accepted = await bob.answer()
                assert isinstance(accepted, OrderAccepted)
                assert accepted.user_reference_number == turn + 1
            await bob.close()

    run(scenario())


def test_a_reconnect_brings_exactly_what_is_asked_for() -> None:
    async def scenario() -> None:
        async with serving("alice") as server:
            client = await BareClient.log_on(server, "alice")
            await client.packet()
            await client.request(*(order(number) for number in range(1, 31)))
            day = await client.answers(31)
            await client.close()
            for first in (1, 2, 17, 31):
                again = await BareClient.log_on(server, "alice", sequence=first)
                assert await again.packet() == LoginAccepted(server.control.session_name, first)
                assert await again.answers(32 - first) == day[first - 1 :]
                await again.close()
            newest = await BareClient.log_on(server, "alice", sequence=0)
            assert await newest.packet() == LoginAccepted(server.control.session_name, 31)
            assert await newest.answer() == day[-1]
            await newest.close()
            beyond = await BareClient.log_on(server, "alice", sequence=1000)
            assert await beyond.packet() == LoginAccepted(server.control.session_name, 32)
            await beyond.request(order(31))
            assert (await beyond.answer()).user_reference_number == 31  # type: ignore[attr-defined]
            await beyond.close()

    run(scenario())


def test_what_happens_while_a_client_is_away_is_there_when_it_comes_back() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob") as server:
            alice = await BareClient.log_on(server, "alice")
            await alice.packet()
            await alice.request(order(1, quantity=300))
            await alice.answers(2)
            await alice.close()
            bob = await BareClient.log_on(server, "bob")
            await bob.packet()
            await bob.request(*(order(number, Side.SELL, 100) for number in (1, 2, 3)))
            await bob.answers(7)
            alice = await BareClient.log_on(server, "alice", sequence=3)
            await alice.packet()
            executed = await alice.answers(3)
            assert all(isinstance(answer, OrderExecuted) for answer in executed)
            await alice.close()
            await bob.close()

    run(scenario())


def test_a_second_login_takes_the_place_of_the_first() -> None:
    async def scenario() -> None:
        async with serving("alice") as server:
            first = await BareClient.log_on(server, "alice")
            assert isinstance(await first.packet(), LoginAccepted)
            second = await BareClient.log_on(server, "alice")
            assert isinstance(await second.packet(), LoginAccepted)
            assert await first.is_closed()
            await second.request(order(1))
            assert isinstance((await second.answers(2))[1], OrderAccepted)
            assert server.control.connected == 1
            await second.close()

    run(scenario())


def test_logout_closes_and_the_session_goes_on() -> None:
    async def scenario() -> None:
        async with serving("alice") as server:
            client = await BareClient.log_on(server, "alice")
            await client.packet()
            await client.request(order(1))
            await client.answers(2)
            await client.send(LogoutRequest().encode())
            assert await client.is_closed()
            again = await BareClient.log_on(server, "alice", sequence=3)
            assert await again.packet() == LoginAccepted(server.control.session_name, 3)
            await again.close()

    run(scenario())


@pytest.mark.parametrize("farewell", [b"", LogoutRequest().encode(), b"garbage"])
def test_orders_are_cancelled_with_the_connection_where_the_user_asked_for_it(farewell: bytes) -> None:
    async def scenario() -> None:
        async with serving("alice", "bob") as server:
            server.transport.cancel_on_disconnect(0)
            clients = [await BareClient.log_on(server, name) for name in ("alice", "bob")]
            for client in clients:
                await client.packet()
                await client.request(order(1), order(2, symbol="MSFT"))
                await client.answers(3)
                await client.send(farewell)
                await client.close()
            await eventually(lambda: server.control.connected == 0)
            alice = await BareClient.log_on(server, "alice", sequence=4)
            await alice.packet()
            await alice.request(order(3))
            canceled = await alice.answers(3)
            assert [one.user_reference_number for one in canceled] == [1, 2, 3]  # type: ignore[attr-defined]
            assert [type(one) for one in canceled] == [OrderCanceled, OrderCanceled, OrderAccepted]
            bob = await BareClient.log_on(server, "bob", sequence=4)
            await bob.packet()
            await bob.request(order(3))
            assert isinstance(await bob.answer(), OrderAccepted)
            await alice.close()
            await bob.close()

    run(scenario())


def test_heartbeats_both_ways() -> None:
    overrides = ["gateway.heartbeat_ns=100ms", "gateway.client_timeout_ns=1s"]

    async def scenario() -> None:
        async with serving("alice", "bob", overrides=overrides) as server:
            lively = await BareClient.log_on(server, "alice", sequence=2)
            silent = await BareClient.log_on(server, "bob", sequence=2)
            for client in (lively, silent):
                assert isinstance(await client.packet(), LoginAccepted)
            for _ in range(15):
                assert await lively.packet() == ServerHeartbeat()
                await lively.send(ClientHeartbeat().encode())
            assert await silent.is_closed()
            assert server.control.connected == 1
            await lively.close()

    run(scenario())


def test_a_slow_reader_is_let_go_and_holds_nobody_up() -> None:
    overrides = ["gateway.slow_reader_ns=200ms", "gateway.log_bytes=64MiB"]

    async def scenario() -> None:
        async with serving("alice", "bob", overrides=overrides) as server:
            bob = await BareClient.log_on(server, "bob")
            await bob.packet()
            await bob.answer()
            loop, slow = asyncio.get_running_loop(), socket.socket()
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            await loop.sock_connect(slow, server.address)
            await loop.sock_sendall(slow, LoginRequest("alice", PASSWORD, "", 1).encode())
            await eventually(lambda: server.control.connected == 2)
            queries, number = UnsequencedData(AccountQuery().encode()).encode() * 4096, 0
            while server.control.connected == 2:
                number += 1
                try:
                    await loop.sock_sendall(slow, queries)
                except OSError:
                    break
                await bob.request(order(number))
                accepted = await bob.answer()
                assert isinstance(accepted, OrderAccepted)
            await eventually(lambda: server.control.connected == 1)
            slow.close()
            messages = int(server.transport.memory.column(LOG_MESSAGES)[0])
            assert messages > 10_000
            back = await BareClient.log_on(server, "alice", sequence=messages - 99)
            assert isinstance(await back.packet(), LoginAccepted)
            assert all(isinstance(answer, AccountQueryResponse) for answer in await back.answers(100))
            await back.close()
            await bob.close()

    run(scenario())


def test_a_reader_that_takes_a_little_now_and_then_is_let_go_too() -> None:
    overrides = ["gateway.slow_reader_ns=400ms", "gateway.log_bytes=64MiB"]

    async def scenario() -> None:
        async with serving("alice", "bob", overrides=overrides) as server:
            loop, slow = asyncio.get_running_loop(), socket.socket()
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            await loop.sock_connect(slow, server.address)
            await loop.sock_sendall(slow, LoginRequest("alice", PASSWORD, "", 1).encode())
            await eventually(lambda: server.control.connected == 1)
            queries = UnsequencedData(AccountQuery().encode()).encode() * 4096

            async def ask() -> None:
                with suppress(OSError):
                    for _ in range(150):  # more than the kernel keeps, and less than the log
                        await loop.sock_sendall(slow, queries)

            asking, taken = asyncio.create_task(ask()), 0
            while server.control.connected == 1:
                with suppress(BlockingIOError, ConnectionError):
                    taken += len(slow.recv(2048))
                await asyncio.sleep(0.05)
            assert server.control.close_reasons[0] == "slow reader"
            assert taken > 2048, "it did take something"
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            slow.close()

    run(scenario())


def test_a_full_log_ends_that_session_and_no_other() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob", overrides=["gateway.log_bytes=4096"]) as server:
            alice, bob = await BareClient.log_on(server, "alice"), await BareClient.log_on(server, "bob")
            await alice.packet()
            await bob.packet()
            await bob.answer()
            for number in range(1, 1000):
                try:
                    await alice.request(order(number))
                except ConnectionError:
                    break
                if server.control.connected == 1:
                    break
                await asyncio.sleep(0.001)
            assert await alice.is_closed()
            await bob.request(order(1, symbol="MSFT"))
            assert isinstance(await bob.answer(), OrderAccepted)
            again = await BareClient.log_on(server, "alice", sequence=1)
            assert isinstance(await again.packet(), LoginAccepted)
            heard = [
                await again.answer() for _ in range(int(server.transport.memory.column(LOG_MESSAGES)[0]))
            ]
            assert [one.user_reference_number for one in heard[1:]] == list(range(1, len(heard)))  # type: ignore[attr-defined]
            await bob.close()

    run(scenario())


def test_the_end_reaches_everybody() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob") as server:
            clients = [await BareClient.log_on(server, name) for name in ("alice", "bob")]
            for client in clients:
                await client.packet()
                await client.request(order(1))
                await client.answers(2)
        for client in clients:
            end = await client.answer()
            assert isinstance(end, SystemEvent)
            assert end.event_code == EventCode.END_OF_DAY
            assert await client.packet() == EndOfSession()
            assert await client.is_closed()
            await client.close()

    run(scenario())


def test_five_hundred_sessions_are_served_at_once() -> None:
    names = [f"u{number:03d}" for number in range(500)]
    overrides = ["gateway.log_bytes=64KiB", "gateway.capacity_orders=64"]
    overrides += ["gateway.connections_burst=500", "gateway.logons_per_address=512"]

    async def scenario() -> None:
        async with serving(*names, overrides=overrides) as server:
            clients = await asyncio.gather(*(BareClient.log_on(server, name) for name in names))
            await asyncio.gather(*(client.packet() for client in clients))
            await eventually(lambda: server.control.connected == 500)
            for turn in (1, 2, 3):
                side = Side.BUY if turn % 2 else Side.SELL
                await asyncio.gather(*(client.request(order(turn, side)) for client in clients))
            expected = 1 + 3 + 2  # start of day; three accepted; two executions, or one and one waiting
            heard = await asyncio.gather(*(client.answers(expected - 1) for client in clients))
            assert all(sum(isinstance(one, OrderAccepted) for one in mine) >= 2 for mine in heard)
            await asyncio.gather(*(client.close() for client in clients))
            await eventually(lambda: server.control.connected == 0)

    run(scenario())
