"""A pair whose network is cut, and whose primary is stopped, is one exchange to its clients.

A small part of ``python -m tests.system.partition_campaign``, which says what is held against what."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network_driver import Network, Weather, inside, network, why_no_network
from tests.system.kill_processes import Starter
from tests.system.partition_campaign import FAULTS, run_day
from tests.system.partition_nodes import Options, hosts

FAULT_OF = {one.name: one for one in FAULTS}
RECEIVED = Options("received")
SILENCE_SECONDS = 1.0
"""What has not arrived within this is lost."""

pytestmark = pytest.mark.skipif(bool(why_no_network()), reason=str(why_no_network()))


@pytest.fixture(scope="module")
def pair_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Network, dict[str, Starter]]]:
    folder = tmp_path_factory.mktemp("hosts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXCHANGE_STATE", str(folder / "state"))
        with hosts(folder, RECEIVED) as found:
            yield found


def open_socket(net: Network, host: str) -> socket.socket:
    with inside(net.hosts[host]):
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.bind((net.addresses[host], 9000))
    found.settimeout(SILENCE_SECONDS)
    return found


def arrives(net: Network, sender: str, receiver: str) -> float | None:
    """How long a datagram takes from one host to another; None if it does not arrive."""
    with open_socket(net, sender) as source, open_socket(net, receiver) as target:
        began = time.monotonic()
        source.sendto(b"here", (net.addresses[receiver], 9000))
        try:
            assert target.recv(64) == b"here"
        except TimeoutError:
            return None
        return time.monotonic() - began


def test_the_wire_does_what_it_is_told() -> None:
    with network("one", "other", "third") as net:
        assert arrives(net, "one", "other") is not None
        net.cut("one", "other")
        assert arrives(net, "one", "other") is None
        assert arrives(net, "other", "one") is not None
        assert arrives(net, "one", "third") is not None
        net.heal()
        net.slow_down("one", "other", Weather(0.1, 0.0, 0.0), 1)
        net.slow_down("third", "one", Weather(0.0, 0.0, 1.0), 2)
        took = arrives(net, "one", "other")
        assert took is not None
        assert took >= 0.1  # it was held for so long; how much longer is the machine's business
        assert arrives(net, "third", "one") is None
        assert arrives(net, "one", "third") is not None
        net.heal()
        assert arrives(net, "third", "one") is not None


DAYS = {
    "received": ("primary > store", "primary | backup", "primary stopped"),
    "applied": ("primary | all but a client", "backup > primary"),
}


@pytest.mark.parametrize("gate", DAYS)
def test_there_is_one_history(
    tmp_path: Path, pair_hosts: tuple[Network, dict[str, Starter]], gate: str
) -> None:
    net, starters = pair_hosts
    faults = [FAULT_OF[name] for name in DAYS[gate]]
    day = run_day(tmp_path / gate, RECEIVED._replace(gate=gate), faults, 1, net, starters)
    assert day.violations == []
    assert day.counts["takeovers"] == sum(bool(one.moves) for one in faults)
    assert day.counts["messages"] > 0
