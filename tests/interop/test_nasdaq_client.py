"""NASDAQ's own Python client (``nasdaq-protocols``, SoupBinTCP) against our gateway: it is the judge of the sessions.

It brings no OUCH messages of its own (those are made from a definition that NASDAQ does not publish with it), so the
orders are the bytes of :mod:`exchange.wire.ouch50`, and what comes back is read with it."""

from collections.abc import Callable

import pytest

soup = pytest.importorskip("nasdaq_protocols.soup")

from exchange.gateway.server import Server  # noqa: E402
from exchange.wire import ouch42  # noqa: E402
from exchange.wire.layout import Message  # noqa: E402
from exchange.wire.ouch50 import (  # noqa: E402
    OUTBOUND_MESSAGES,
    CancelOrder,
    OrderAccepted,
    OrderCanceled,
    OrderExecuted,
    SystemEvent,
)
from exchange.wire.ouch_codes import Side  # noqa: E402
from tests.gateway_driver import (  # noqa: E402
    PASSWORD,
    BareClient,
    eventually,
    order,
    order42,
    run,
    serving,
)


class NasdaqClient:
    """A session of NASDAQ's client that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.outbound = OUTBOUND_MESSAGES
        self.session: soup.SoupClientSession

    @classmethod
    async def log_on(
        cls, server: Server, password: str = PASSWORD, sequence: int = 1, session: str = ""
    ) -> "NasdaqClient":
        client = cls()

        async def hear(message: object) -> None:
            if isinstance(message, soup.SequencedData):
                client.heard.append(client.outbound.decode(message.data))

        client.session = await soup.connect_async(
            server.address,
            "alice",
            password,
            session,
            sequence=sequence,
            on_msg_coro=hear,
            client_heartbeat_interval=1,
            server_heartbeat_interval=5,
        )
        return client

    def request(self, *messages: Message) -> None:
        for message in messages:
            self.session.send_unseq_data(message.encode())

    async def hears(self, condition: Callable[[list[Message]], bool]) -> list[Message]:
        await eventually(lambda: condition(self.heard))
        return self.heard


def test_it_logs_in_trades_drops_and_resumes_where_it_was() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob") as server:
            client = await NasdaqClient.log_on(server)
            client.request(order(1, quantity=300))
            start, accepted = await client.hears(lambda heard: len(heard) == 2)
            assert isinstance(start, SystemEvent)
            assert isinstance(accepted, OrderAccepted)
            assert (accepted.quantity, accepted.symbol, accepted.client_order_id) == (300, "AAPL", "order 1")
            name, following = client.session.session_id.session.strip(), len(client.heard) + 1
            client.session._transport.abort()  # the line drops, mid-stream
            await eventually(lambda: server.control.connected == 0)

            bob = await BareClient.log_on(server, "bob")
            await bob.packet()
            await bob.request(order(1, Side.SELL, 100), order(2, Side.SELL, 50))
            await bob.answers(5)

            again = await NasdaqClient.log_on(server, sequence=following, session=name)
            missed = await again.hears(lambda heard: len(heard) == 2)
            assert [type(one) for one in missed] == [OrderExecuted, OrderExecuted]
            assert [one.quantity for one in missed] == [100, 50]  # type: ignore[attr-defined]
            again.request(order(1, quantity=300), CancelOrder(1, 0))  # the first is a repetition: ignored
            *_, canceled = await again.hears(lambda heard: len(heard) == 3)
            assert isinstance(canceled, OrderCanceled)
            assert canceled.quantity == 150
            await again.session.close()
            await bob.close()

    run(scenario())


def test_a_wrong_password_is_refused() -> None:
    async def scenario() -> None:
        async with serving("alice") as server:
            with pytest.raises(ConnectionRefusedError):
                await NasdaqClient.log_on(server, password="wrong")
            client = await NasdaqClient.log_on(server)
            await client.hears(lambda heard: len(heard) == 1)
            await client.session.close()

    run(scenario())


def test_it_is_told_of_the_end() -> None:
    async def scenario() -> None:
        async with serving("alice") as server:
            client = await NasdaqClient.log_on(server)
            await client.hears(lambda heard: len(heard) == 1)
        heard = await client.hears(lambda heard: len(heard) == 2)
        assert [type(one) for one in heard] == [SystemEvent, SystemEvent]
        await eventually(client.session.is_closed)

    run(scenario())


def test_it_trades_in_ouch_4_2_with_a_client_of_5_0() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob", speak_ouch42=("alice",)) as server:
            client = await NasdaqClient.log_on(server)
            client.outbound = ouch42.OUTBOUND_MESSAGES
            bob = await BareClient.log_on(server, "bob", sequence=2)
            await bob.packet()
            await bob.request(order(1, Side.SELL, 70))
            await bob.answer()
            client.request(order42("one", Side.BUY, 100), ouch42.CancelOrder("one", 0))
            _start, accepted, bought, canceled = await client.hears(lambda heard: len(heard) == 4)
            sold = await bob.answer()
            assert isinstance(accepted, ouch42.Accepted)
            assert isinstance(bought, ouch42.Executed)
            assert isinstance(canceled, ouch42.Canceled)
            assert isinstance(sold, OrderExecuted)
            assert (bought.order_token, bought.executed_shares, bought.execution_price) == (
                "one",
                70,
                100_0000,
            )
            assert (bought.match_number, canceled.decrement_shares) == (sold.match_number, 30)
            await client.session.close()
            await bob.close()

    run(scenario())
