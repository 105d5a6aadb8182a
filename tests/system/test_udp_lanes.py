"""The real exchange with two ingress lanes over datagrams, each with its thread and its receiving queue.

The queues are sockets here, so that this runs on every machine and a client chooses its queue by the address it writes
to. What a card does with two queues is in ``test_dpdk_exchange.py``; what a lane does turn by turn, in the unit tests.
"""

from typing import Any

import pytest

from exchange.gateway import server as gateway_server
from exchange.gateway.server import Server
from exchange.native import load_acquire
from exchange.transport.network_agents import CONSUMED
from exchange.wire.layout import Message
from exchange.wire.ouch50 import OrderAccepted, OrderCanceled, OrderExecuted
from exchange.wire.ouch_codes import Side
from exchange.wire.soupbinudp import LoginAccepted
from tests.gateway_driver import order, run, serving
from tests.system.test_udp_sessions import log_of
from tests.udp_driver import BareDatagrams, QueuedSockets

LANES = (
    "transport.kind=dpdk",
    "transport.port=9005",
    "transport.ingress_lanes=2",
    "queue.kind=mpsc",
    "idle.kind=park",
    'shards.threads=[["ingress.0"],["ingress.1","egress"],["shard.0"]]',
)
ORDERS = 400
AT_A_TIME = 20


@pytest.fixture(autouse=True)
def sockets_for_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gateway_server, "open_port", lambda choice: QueuedSockets(choice.config.ingress_lanes)
    )


async def client_of(
    server: Server, lane: int, name: str, sequence: int = 1, number: int = 1
) -> BareDatagrams:
    """Somebody who has logged on through a lane's queue."""
    port: Any = server.transport
    client = BareDatagrams(server)
    client.address = port.port.address_of(lane)
    assert isinstance(await client.log_on(name, sequence, number), LoginAccepted)
    return client


def consumed(server: Server) -> list[int]:
    return [load_acquire(server.transport.source(lane).words + CONSUMED) for lane in range(2)]


def accepted(messages: list[Message]) -> list[int]:
    return [one.user_reference_number for one in messages if isinstance(one, OrderAccepted)]


def test_two_clients_on_two_queues_trade_with_each_other() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob", overrides=LANES) as server:
            alice, bob = await client_of(server, 0, "alice"), await client_of(server, 1, "bob")
            heard: dict[str, list[Message]] = {"alice": [], "bob": []}
            for first in range(1, ORDERS + 1, AT_A_TIME):
                numbers = range(first, first + AT_A_TIME)
                alice.request(*(order(one, side=Side.BUY, quantity=10) for one in numbers))
                bob.request(*(order(one, side=Side.SELL, quantity=10) for one in numbers))
                for name, client in (("alice", alice), ("bob", bob)):
                    missing = 1 + 2 * (first + AT_A_TIME - 1) - len(heard[name])
                    heard[name] += await client.answers(missing)
            for name, session_id in (("alice", 0), ("bob", 1)):
                assert accepted(heard[name]) == list(range(1, ORDERS + 1))
                assert sum(isinstance(one, OrderExecuted) for one in heard[name]) == ORDERS
                assert heard[name] == log_of(server, session_id)
            assert min(consumed(server)) >= ORDERS
            alice.close()
            bob.close()

    run(scenario(), LANES)


def test_a_session_that_moves_between_lanes_loses_nothing_and_repeats_nothing() -> None:
    """It comes back through the other queue while its requests are still on their way, and says again what is open."""

    async def scenario() -> None:
        async with serving("alice", "bob", overrides=LANES) as server:
            heard: list[Message] = []
            connections = 0
            while len(accepted(heard)) < ORDERS:
                connections += 1
                lane = connections % 2
                alice = await client_of(server, lane, "alice", len(heard) + 1, connections)
                following = len(accepted(heard)) + 1
                alice.request(*map(order, range(following, min(following + AT_A_TIME, ORDERS + 1))))
                heard += await alice.answers(1)
                alice.close()
            assert accepted(heard) == list(range(1, ORDERS + 1))
            assert heard == log_of(server, 0)
            assert connections > 2
            assert min(consumed(server)) > 0

    run(scenario(), LANES)


def test_what_a_lost_connection_leaves_is_cancelled_before_the_other_lane_takes_more() -> None:
    async def scenario() -> None:
        async with serving("alice", "bob", overrides=LANES) as server:
            server.transport.cancel_on_disconnect(0)
            heard: list[Message] = []
            for connection in range(10):
                alice = await client_of(server, connection % 2, "alice", len(heard) + 1, connection + 1)
                first = 1 + connection * AT_A_TIME
                alice.request(*map(order, range(first, first + AT_A_TIME)))
                expected = AT_A_TIME + (
                    AT_A_TIME if connection else 1
                )  # what was left before, or the start of the day
                came = await alice.answers(expected)
                cancelled = [one.user_reference_number for one in came if isinstance(one, OrderCanceled)]
                assert sorted(cancelled) == list(range(first - AT_A_TIME, first) if connection else [])
                assert accepted(came) == list(range(first, first + AT_A_TIME))
                assert all(isinstance(one, OrderAccepted) for one in came[-AT_A_TIME:])
                heard += came
                alice.close()
            assert heard == log_of(server, 0)

    run(scenario(), LANES)
