"""A pair whose network is cut, and whose primary is stopped, is one exchange to its clients.

A small part of ``python -m tests.system.partition_campaign``, which says what is held against what."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network_driver import Network, why_no_network
from tests.system.kill_processes import Starter
from tests.system.partition_campaign import FAULTS, run_day
from tests.system.partition_nodes import Options, hosts

FAULT_OF = {one.name: one for one in FAULTS}
RECEIVED = Options("received")

pytestmark = pytest.mark.skipif(bool(why_no_network()), reason=str(why_no_network()))


@pytest.fixture(scope="module")
def pair_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Network, dict[str, Starter]]]:
    folder = tmp_path_factory.mktemp("hosts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXCHANGE_STATE", str(folder / "state"))
        with hosts(folder, RECEIVED) as found:
            yield found


DAYS = {
    "received": ("primary > store", "primary | backup", "primary stopped"),
    "applied": ("primary | backup and store", "backup > primary"),
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
