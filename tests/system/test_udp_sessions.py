"""Sessions over UDP on the loopback: the same promises as over TCP, with datagrams lost, doubled, late, forged."""

import asyncio
import random

import numpy as np
import pytest

from exchange.client import Client, LoginRefused
from exchange.gateway.server import Server
from exchange.gateway.session_memory import IN_NEXT, LOG_END, LOG_MESSAGES
from exchange.native import load_int64, view_bytes
from exchange.transport import udp_receiving
from exchange.wire.layout import Message
from exchange.wire.ouch50 import (
    OUTBOUND_MESSAGES,
    AccountQueryResponse,
    OrderAccepted,
    OrderExecuted,
    SystemEvent,
)
from exchange.wire.ouch_codes import EventCode, Side
from exchange.wire.soupbintcp import SERVER_PACKETS, PacketSplitter, UnsequencedData
from exchange.wire.soupbinudp import (
    ConnectionClosed,
    LoginAccepted,
    LoginRejected,
    LogoutRequest,
    RetransmissionRequest,
    SequencedData,
)
from tests.gateway_driver import compile_once, eventually, order, serving
from tests.gateway_driver import run as run_any
from tests.udp_driver import UDP, BareDatagrams, connect_udp, relayed, udp_socket


def run(scenario) -> None:  # type: ignore[no-untyped-def]
    compile_once(UDP)
    run_any(scenario)


def log_of(server: Server, session_id: int) -> list[Message]:
    """All that was ever said in a session, without the answers that a client keeps to itself."""
    sessions, session = server.transport.memory.sessions, server.transport.memory.address(session_id)
    log = bytes(view_bytes(session + sessions.log_offset, load_int64(session + LOG_END)))
    packets = PacketSplitter(SERVER_PACKETS).feed(log)
    messages = [OUTBOUND_MESSAGES.decode(packet[3:]) for packet in packets]
    return [one for one in messages if not isinstance(one, AccountQueryResponse)]


async def everything(client: Client) -> list[Message]:
    return [answer async for answer in client]


def test_two_clients_trade_and_hear_everything_to_the_end() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob", overrides=UDP) as server:
            alice, bob = await connect_udp(server, "alice"), await connect_udp(server, "bob")
            for _ in range(200):
                await alice.place("AAPL", Side.BUY, 10, price_ticks=100_0000)
                await bob.place("AAPL", Side.SELL, 10, price_ticks=100_0000)
            hearing = [asyncio.create_task(everything(one)) for one in (alice, bob)]
            await eventually(lambda: server.transport.memory.column(LOG_MESSAGES).tolist() == [402, 402])
        for heard in await asyncio.gather(*hearing):
            assert sum(isinstance(one, OrderAccepted) for one in heard) == 200
            assert sum(isinstance(one, OrderExecuted) for one in heard) == 200
            events = [one.event_code for one in heard if isinstance(one, SystemEvent)]
            assert events == [EventCode.START_OF_DAY, EventCode.END_OF_DAY]
        for one in (alice, bob):
            await one.close()

    run(scenario())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_lossy_line_loses_nothing_and_repeats_nothing(seed: int) -> None:
    """A fifth of all datagrams lost, a fifth doubled, a fifth late, both ways: every request is answered once."""

    async def scenario() -> None:
        async with (
            serving("alice", "bob", overrides=UDP) as server,
            relayed(server, seed) as (relay, address),
        ):
            alice = await connect_udp(server, "alice", address=address)
            bob = await connect_udp(server, "bob", address=address)
            chance = np.random.default_rng(seed)
            for _ in range(150):
                for client, side in ((alice, Side.BUY), (bob, Side.SELL)):
                    price = 100_0000 + 100 * int(chance.integers(-3, 4))
                    await client.place("AAPL", side, int(chance.integers(1, 50)), price_ticks=price)
                await asyncio.sleep(0.0005)
            last = [await one.place("MSFT", Side.BUY, 1, price_ticks=1_0000) for one in (alice, bob)]
            heard: list[list[Message]] = [[], []]
            for client, number, messages in zip((alice, bob), last, heard, strict=True):
                while not _is_accepted(messages, number):
                    messages.append(await client.next_answer())
            for messages in heard:
                accepted = [one.user_reference_number for one in messages if isinstance(one, OrderAccepted)]
                assert accepted == list(range(1, 152))
            assert min(relay.counts.values()) > 20
            assert (alice.reconnections, bob.reconnections) == (0, 0)
            relay.trouble = 0.0
            ending = [asyncio.create_task(everything(one)) for one in (alice, bob)]
            server.request_stop()
            for messages, rest in zip(heard, await asyncio.gather(*ending), strict=True):
                messages += rest
            assert heard == [log_of(server, session_id) for session_id in (0, 1)]
            for one in (alice, bob):
                await one.close()

    run(scenario())


def _is_accepted(messages: list[Message], number: int) -> bool:
    return bool(messages) and getattr(messages[-1], "user_reference_number", None) == number


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("alice", {"password": "wrong"}, "A"),
        ("nobody", {}, "A"),
        ("alice", {"session": "YESTERDAY"}, "S"),
    ],
)
def test_a_login_that_is_not_right_is_rejected(name: str, changes: dict[str, str], code: str) -> None:
    async def scenario() -> None:
        async with serving("alice", overrides=UDP) as server:
            client = BareDatagrams(server)
            assert await client.log_on(name, **changes) == LoginRejected(7, code)
            assert server.control.connected == 0
            client.close()
            with pytest.raises(LoginRefused):
                await Client.connect(*server.address, "alice", "wrong", transport="udp")

    run(scenario())


def test_a_login_that_is_repeated_is_one_login() -> None:
    async def scenario() -> None:
        async with serving("alice", overrides=UDP) as server:
            client = BareDatagrams(server)
            first = await client.log_on("alice", number=5)
            assert isinstance(first, LoginAccepted)
            for _ in range(3):
                assert await client.log_on("alice", number=5) == first
            second = await client.log_on("alice", number=6)
            assert isinstance(second, LoginAccepted)
            assert second.token != first.token
            client.close()

    run(scenario())


def test_nobody_is_believed_without_token_and_address() -> None:
    """Noise, forged tokens, and the right token from elsewhere: nothing changes, and the session goes on."""

    async def scenario() -> None:
        async with serving("alice", "bob", overrides=UDP) as server:
            alice = BareDatagrams(server)
            accepted = await alice.log_on("alice")
            assert isinstance(accepted, LoginAccepted)
            number, token = accepted.session_number, accepted.token
            strange = server.transport.source(0).words + udp_receiving.STRANGE
            packet = UnsequencedData(order(1).encode()).encode()
            noise = random.Random(5)
            forged = [
                SequencedData(number, noise.getrandbits(64), 1, 1, 1, packet).encode() for _ in range(50)
            ]
            forged += [SequencedData(number, token ^ 1 << bit, 1, 1, 1, packet).encode() for bit in range(64)]
            forged += [SequencedData(other, token, 1, 1, 1, packet).encode() for other in (1, 2, 65_535)]
            forged += [LogoutRequest(number, token ^ 1, 1, 1, 0).encode(), b"", b"S", b"L" * 30]
            forged += [noise.randbytes(noise.randrange(100)) for _ in range(100)]
            for data in forged:
                alice.send(data)
            with udp_socket() as thief:
                good = SequencedData(number, token, 1, 1, 1, packet)
                for data in (good.encode(), LogoutRequest(number, token, 1, 1, 0).encode()):
                    thief.sendto(data, server.address)
                await eventually(lambda: load_int64(strange) >= len(forged) + 2)
                assert load_int64(server.transport.memory.address(number) + IN_NEXT) == 1
                alice.request(order(1))
                answers = await alice.answers(2)
                assert isinstance(answers[1], OrderAccepted)
                with pytest.raises(BlockingIOError):
                    thief.recv(2048)
            alice.close()

    run(scenario())


def test_garbage_with_the_token_ends_that_connection_and_no_other() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob", overrides=UDP) as server:
            bob = BareDatagrams(server)
            await bob.log_on("bob")
            await bob.answers(1)
            whole = UnsequencedData(order(1).encode()).encode()
            for turn, (count, body) in enumerate(
                [(1, b"x"), (2, whole), (0xFFFF, whole), (1, whole + b"\0"), (1, b"\0\2U?"), (1, b"\0\1O")]
            ):
                alice = BareDatagrams(server)
                accepted = await alice.log_on("alice", sequence=0, number=turn)
                assert isinstance(accepted, LoginAccepted)
                number, token = accepted.session_number, accepted.token
                alice.send(SequencedData(number, token, 1, 1, count, body).encode())
                while not isinstance(await alice.datagram(), ConnectionClosed):
                    pass
                bob.request(order(turn + 1))
                (answer,) = await bob.answers(1)
                assert isinstance(answer, OrderAccepted)
                alice.close()
            bob.close()

    run(scenario())


def test_a_gap_is_asked_for_and_what_comes_twice_is_taken_once() -> None:
    async def scenario() -> None:
        async with serving("alice", overrides=UDP) as server:
            alice = BareDatagrams(server)
            accepted = await alice.log_on("alice")
            assert isinstance(accepted, LoginAccepted)

            def say(first: int, *numbers: int) -> None:
                packets = b"".join(UnsequencedData(order(number).encode()).encode() for number in numbers)
                alice.send(
                    SequencedData(
                        accepted.session_number, accepted.token, first, 1, len(numbers), packets
                    ).encode()
                )

            say(3, 3, 4)
            while not isinstance(asked := await alice.datagram(), RetransmissionRequest):
                pass
            assert asked.next_wanted == 1
            say(1, 1, 2, 3)
            say(1, 1, 2)
            say(2, 2, 3, 4, 5)
            answers = await alice.answers(6)
            assert [one.user_reference_number for one in answers if isinstance(one, OrderAccepted)] == [
                1, 2, 3, 4, 5,
            ]  # fmt: skip
            alice.close()

    run(scenario())


def test_a_reconnect_brings_exactly_what_is_asked_for() -> None:
    async def scenario() -> None:
        async with serving("alice", overrides=UDP) as server:
            client = BareDatagrams(server)
            await client.log_on("alice")
            client.request(*(order(number) for number in range(1, 101)))
            day = await client.answers(101)
            for turn, first in enumerate((1, 2, 57, 101)):
                again = BareDatagrams(server)
                accepted = await again.log_on("alice", sequence=first, number=turn)
                assert isinstance(accepted, LoginAccepted)
                assert accepted.sequence_number == first
                assert await again.answers(102 - first) == day[first - 1 :]
                again.close()
            while not isinstance(await client.datagram(), ConnectionClosed):
                pass
            client.close()

    run(scenario())


def test_who_acknowledges_nothing_is_let_go_and_costs_nobody_anything() -> None:
    async def scenario() -> None:
        more = (*UDP, "gateway.slow_reader_ns=300ms")
        async with serving("alice", "bob", overrides=more) as server:
            alice, bob = BareDatagrams(server), await connect_udp(server, "bob")
            await alice.log_on("alice")
            while not isinstance(await alice.datagram(), ConnectionClosed):
                await bob.place("AAPL", Side.BUY, 1, price_ticks=100_0000)
                while not isinstance(await bob.next_answer(), OrderAccepted):
                    pass
            assert server.control.connected == 1
            await bob.close()
            alice.close()

    run(scenario())


def test_who_says_nothing_is_let_go_and_who_logs_out_as_well() -> None:
    async def scenario() -> None:
        more = (*UDP, "gateway.client_timeout_ns=200ms")
        async with serving("alice", "bob", overrides=more) as server:
            alice, bob = BareDatagrams(server), await connect_udp(server, "bob")
            await alice.log_on("alice")
            await bob.close()
            while not isinstance(await alice.datagram(), ConnectionClosed):
                pass
            await eventually(lambda: server.control.connected == 0)
            alice.close()

    run(scenario())


def test_a_client_goes_on_where_the_line_broke() -> None:
    """The exchange lets the client go, as after a long silence; the client is back by itself and misses nothing."""

    async def scenario() -> None:
        async with serving("alice", overrides=UDP) as server:
            alice = await connect_udp(server, "alice")
            numbers = []
            for turn in range(30):
                numbers.append(await alice.place("AAPL", Side.BUY, 1, price_ticks=100_0000))
                if turn % 10 == 9:
                    server.transport.disconnect(0)
                    await eventually(lambda turn=turn: alice.reconnections == turn // 10 + 1)  # type: ignore[misc]
            heard: list[int] = []
            while len(heard) < 30:
                answer = await alice.next_answer()
                heard += [answer.user_reference_number] if isinstance(answer, OrderAccepted) else []
            assert heard == numbers
            await alice.close()

    run(scenario())
