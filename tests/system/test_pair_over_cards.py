"""A pair whose clients come past the kernel: one node polls a card through DPDK, the other a queue through AF_XDP.

Each is killed as the primary, and the client, which has a socket of the kernel's, goes on at the other one. All are on
one bridge in a network namespace of its own."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.client import Client
from exchange.recovery.twin import Twin
from exchange.wire.ouch_codes import Side
from tests.dpdk_driver import needs_afxdp, needs_dpdk
from tests.gateway_driver import PASSWORD
from tests.kernel_client import compute_checksums
from tests.network_driver import Namespace, inside
from tests.system.failover_campaign import PairDay
from tests.system.kill_processes import Starter, starting
from tests.system.test_replication_failover import RECEIVED, heard_orders

pytestmark = [needs_dpdk, needs_afxdp]

SECONDS_MAX = 500.0
"""A first run compiles two ways past the kernel; another takes some ten seconds."""
BRIDGE = "switch"
ADDRESSES = {"a": "10.0.0.1", "b": "10.0.0.2"}
WAYS = {
    "a": ("transport.kind=dpdk", "transport.device=net_af_packet0,iface=card-a"),
    "b": ("transport.kind=afxdp", "transport.interface=card-b"),
}


@pytest.fixture
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Starter]:
    """Of processes in a namespace where a bridge connects ``card-a``, ``card-b`` and the kernel."""
    monkeypatch.setenv("EXCHANGE_STATE", str(tmp_path / "state"))
    with Namespace() as namespace, inside(namespace):
        namespace.run("ip", "link", "add", BRIDGE, "type", "bridge")
        for name in ADDRESSES:
            # Without ARP the kernel does not answer there for the address that it has on the bridge.
            namespace.run(
                "ip",
                "link",
                "add",
                f"card-{name}",
                "arp",
                "off",
                "type",
                "veth",
                "peer",
                "name",
                f"plug-{name}",
            )
            namespace.run("ip", "link", "set", f"plug-{name}", "up", "master", BRIDGE)
            namespace.run("ip", "link", "set", f"card-{name}", "up")
        namespace.run("ip", "address", "add", "10.0.0.9/24", "dev", BRIDGE)
        namespace.run("ip", "link", "set", BRIDGE, "up")
        compute_checksums(BRIDGE)
        (tmp_path / "log").mkdir()
        with starting(tmp_path / "log") as one:
            yield one


def test_a_client_goes_on_at_the_other_card(tmp_path: Path, starter: Starter) -> None:
    day = PairDay(tmp_path / f"cards-{os.getpid()}", RECEIVED, 1, starter)
    for node in (day.primary, day.backup):
        node.extra = (*WAYS[node.name], f"transport.card_address={ADDRESSES[node.name]}")

    async def scenario() -> None:
        day.primary.start(forked=False)
        day.backup.start(day.primary, forked=False)
        await day.primary.listens()
        while "standing by" not in day.backup.log():  # it may have to compile
            assert day.backup.process is not None
            assert not day.backup.process.has_ended(), day.backup.log()
            await asyncio.sleep(0.01)
        places = [(ADDRESSES[node.name], node.clients_port) for node in (day.primary, day.backup)]
        client = await Client.connect(
            *places[0], "alice", PASSWORD, backups=places[1:], answer_seconds=1.0, transport="udp"
        )
        for price in (99_0000, 98_0000):
            await day.primary.says("backup in sync")
            await client.place("AAPL", Side.BUY, 100, price_ticks=price)
            await heard_orders(client, 1)
            await client.place("AAPL", Side.BUY, 100, price_ticks=price)  # under way when it dies
            await day.primary.kill()
            day.primary, day.backup = day.backup, day.primary
            await day.primary.listens()
            await client.place("AAPL", Side.SELL, 50, price_ticks=price)
            await heard_orders(client, 2)
            if day.primary.name == "b":
                day.backup.start(day.primary, forked=False)
        assert client.reconnections >= 2, "more, if a busy machine has not answered in time"
        assert client.taken_back == 0
        assert day.primary.process is not None
        day.primary.process.signal(signal.SIGTERM)
        await day.primary.process.end()
        await client.close()
        digests = set()
        for book in ("ladder", "naive"):
            with Twin(day.primary.journal, book=book) as twin:
                twin.replay()
                digests.add(twin.exchange.digest())
                assert twin.live_orders() == [3], "each order once, but for those that were sold to"
        assert len(digests) == 1

    asyncio.run(asyncio.wait_for(scenario(), SECONDS_MAX))
