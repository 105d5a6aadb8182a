"""The package's own client: it resumes by itself, repeats what was lost, and says so when it cannot."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from exchange.client import Client, LoginRefused, Side, TimeInForce
from exchange.wire.ouch50 import OrderAccepted, OrderCanceled, OrderExecuted, OrderReplaced, SystemEvent
from exchange.wire.ouch_codes import EventCode
from tests.gateway_driver import PASSWORD, connect, eventually, run, serving

MANY = 4000
"""Orders: their packets are more than the kernel and asyncio keep for a socket that takes nothing."""
ROOMY = ("gateway.log_bytes=8MiB",)


class Cuts:
    """A stretch of the line that can be cut: clients connect here instead of to the exchange."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._lines: list[asyncio.StreamWriter] = []
        self.is_down = False
        self.drops_requests = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_down:
            writer.close()
            return
        there, back = await asyncio.open_connection(*self._address)
        self._lines += [writer, back]
        await asyncio.gather(self._copy(reader, back, True), self._copy(there, writer, False))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: bool) -> None:
        try:
            while data := await reader.read(1 << 16):
                if not (requests and self.drops_requests):
                    writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def cut(self) -> None:
        """Every line that there is, without a word."""
        for line in self._lines:
            line.transport.abort()
        self._lines.clear()


@asynccontextmanager
async def cuttable(address: tuple[str, int]) -> AsyncIterator[tuple[Cuts, int]]:
    cuts = Cuts(address)
    server = await asyncio.start_server(cuts.carry, "127.0.0.1", 0)
    yield cuts, server.sockets[0].getsockname()[1]
    cuts.cut()
    server.close()


def test_lines_that_break_leave_no_gap_and_no_repetition() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob") as server, cuttable(server.address) as (cuts, port):
            alice = await Client.connect("127.0.0.1", port, "alice", PASSWORD, sequence=1)
            bob = await connect(server, "bob")
            for turn in range(20):
                await alice.place("AAPL", Side.BUY, 10, price_ticks=100_0000 + turn)
                await bob.place("AAPL", Side.SELL, 10, price_ticks=100_0000, time_in_force=TimeInForce.DAY)
                if turn % 4 == 3:
                    cuts.cut()
            heard = []
            while sum(isinstance(one, OrderExecuted) for one in heard) < 20:
                heard.append(await alice.next_answer())
            accepted = [one.user_reference_number for one in heard if isinstance(one, OrderAccepted)]
            assert accepted == list(range(1, 21))
            assert sum(one.quantity for one in heard if isinstance(one, OrderExecuted)) == 200
            assert alice.reconnections >= 1
            await alice.close()
            await bob.close()

    run(scenario())


def test_requests_that_were_lost_with_the_line_are_sent_again() -> None:
    async def scenario() -> None:
        async with serving("alice") as server, cuttable(server.address) as (cuts, port):
            client = await Client.connect("127.0.0.1", port, "alice", PASSWORD)
            first = await client.place("AAPL", Side.BUY, 10, price_ticks=100_0000)
            await client.next_answer()
            await client.next_answer()
            cuts.drops_requests = True
            second = await client.place("AAPL", Side.BUY, 20, price_ticks=100_0000)
            await client.cancel(first)
            third = await client.replace(second, 30, price_ticks=100_0100)
            await asyncio.sleep(0.01)
            cuts.drops_requests = False
            cuts.cut()
            answers = [await client.next_answer() for _ in range(3)]
            assert [type(one) for one in answers] == [OrderAccepted, OrderCanceled, OrderReplaced]
            assert isinstance(answers[2], OrderReplaced)
            assert answers[2].user_reference_number == third
            await client.close()

    run(scenario())


def test_no_order_overtakes_those_that_are_sent_again() -> None:
    """Too many for a socket, so that sending them again takes its time; and others are placed meanwhile."""

    async def scenario() -> None:
        async with serving("alice", overrides=ROOMY) as server, cuttable(server.address) as (cuts, port):
            client = await Client.connect("127.0.0.1", port, "alice", PASSWORD, sequence=0)
            cuts.is_down = True
            cuts.cut()
            await eventually(lambda: server.control.connected == 0)
            for turn in range(MANY):
                await client.place("AAPL", Side.BUY, 10, price_ticks=100_0000 - 100 * (turn % 50))
            cuts.is_down = False
            while client.reconnections == 0:
                await asyncio.sleep(0)
            for turn in range(MANY):
                await client.place("AAPL", Side.BUY, 10, price_ticks=100_0000 - 100 * (turn % 50))
                if turn % 20 == 0:
                    await asyncio.sleep(0)
            accepted = []
            while len(accepted) < 2 * MANY:
                if isinstance(one := await client.next_answer(), OrderAccepted):
                    accepted.append(one.user_reference_number)
            assert accepted == list(range(1, 2 * MANY + 1))
            await client.close()

    run(scenario(), ROOMY)


def test_what_is_asked_while_the_line_is_down_goes_out_when_it_is_back() -> None:
    async def scenario() -> None:
        async with serving("alice") as server, cuttable(server.address) as (cuts, port):
            client = await Client.connect("127.0.0.1", port, "alice", PASSWORD, sequence=0)
            cuts.is_down = True
            cuts.cut()
            await eventually(lambda: server.control.connected == 0)
            number = await client.place("AAPL", Side.BUY, 10, price_ticks=100_0000)
            cuts.is_down = False
            while not isinstance(answer := await client.next_answer(), OrderAccepted):
                pass
            assert answer.user_reference_number == number
            await client.close()

    run(scenario())


def test_a_line_that_stays_down_is_an_error() -> None:
    async def scenario() -> None:
        async with serving("alice") as server, cuttable(server.address) as (cuts, port):
            client = await Client.connect("127.0.0.1", port, "alice", PASSWORD, reconnect_seconds=0.1)
            cuts.is_down = True
            cuts.cut()
            with pytest.raises(ConnectionError, match="the line to the exchange is lost"):
                async for _ in client:
                    pass
            await client.close()

    run(scenario())


def test_the_session_ends_the_iteration() -> None:
    async def scenario() -> None:
        async with serving("alice") as server:
            client = await connect(server, "alice")
        heard = [answer async for answer in client]
        assert [one.event_code for one in heard if isinstance(one, SystemEvent)] == [
            EventCode.START_OF_DAY,
            EventCode.END_OF_DAY,
        ]
        await client.close()

    run(scenario())


def test_a_client_that_comes_back_goes_on_counting() -> None:
    async def scenario() -> None:
        async with serving("alice") as server:
            async with await connect(server, "alice") as client:
                assert await client.place("AAPL", Side.BUY, 10, price_ticks=100_0000) == 1
                await client.next_answer()
                await client.next_answer()
            async with await connect(server, "alice", sequence=client.next_sequence) as client:
                assert await client.place("AAPL", Side.BUY, 10, price_ticks=100_0000) == 2
                answer = await client.next_answer()
                assert isinstance(answer, OrderAccepted)
                assert answer.user_reference_number == 2

    run(scenario())


def test_a_client_that_hears_the_whole_day_again_does_not_take_an_old_answer_for_its_own() -> None:
    async def scenario() -> None:
        async with serving("alice") as server:
            for turn in range(1, 4):
                async with await connect(server, "alice", sequence=1) as client:
                    assert await client.place("AAPL", Side.BUY, 10, price_ticks=100_0000) == turn
                    heard = []
                    while heard.count(turn) == 0:
                        if isinstance(answer := await client.next_answer(), OrderAccepted):
                            heard.append(answer.user_reference_number)
                    assert heard == list(range(1, turn + 1))
                    assert client.reconnections == 0

    run(scenario())


def test_a_day_is_heard_again_that_is_longer_than_the_queue_of_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("exchange.client.ANSWERS_MAX", 4)

    async def scenario() -> None:
        async with serving("alice") as server:
            first = await connect(server, "alice")
            for _ in range(20):
                await first.place("AAPL", Side.BUY, 10, price_ticks=100_0000)
                while not isinstance(await first.next_answer(), OrderAccepted):
                    pass
            await first.close()
            again = await connect(server, "alice", sequence=1)
            assert again.next_user_reference == 21
            heard = [await again.next_answer() for _ in range(22)]
            assert [type(one).__name__ for one in heard[:2]] == ["SystemEvent", "AccountQueryResponse"]
            assert [one.user_reference_number for one in heard[2:] if isinstance(one, OrderAccepted)] == [
                *range(1, 21)
            ]
            number = await again.place("AAPL", Side.BUY, 10, price_ticks=100_0000)
            answer = await again.next_answer()
            assert isinstance(answer, OrderAccepted), "the answer to its own question is not among the others"
            assert answer.user_reference_number == number
            await again.close()

    run(scenario())


def test_who_is_not_let_in_is_told() -> None:
    async def scenario() -> None:
        async with serving("alice") as server:
            with pytest.raises(LoginRefused, match="refused: A"):
                await Client.connect(*server.address, "alice", "wrong")
            address = server.address
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(*address, "alice", PASSWORD)

    run(scenario())
