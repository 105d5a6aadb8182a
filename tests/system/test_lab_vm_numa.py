"""In the emulated machine: an exchange with two shards on two NUMA nodes, and where the kernel says its memory is.

Local is local, interleaved is spread, and wrong is wrong, for every arena of both shards: by ``move_pages`` page by
page, by ``get_mempolicy``, and by ``numa_maps``. The same program runs here first, which compiles its loops and shows
what it comes to on a machine with one node. One boot answers for everything."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from exchange.lab_vm.machine import COMPILER_VARIABLES
from exchange.placement.topology import read_this_machine
from tests.system.numa_program import PROBE_BYTES, RUNS, SESSIONS
from tests.system.test_lab_vm import EXCHANGE, environment, ready

__all__ = ["ready"]

PROGRAM = Path(__file__).parent / "numa_program.py"
GUEST_SECONDS = 1000


def told_by(command: list[object], folder: Path, **more: str) -> dict[str, Any]:
    """What the program writes down at the end of a command that runs it."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=folder, check=False,
        env=environment(**COMPILER_VARIABLES, **more),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return told


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The program's findings on this machine; its loops are compiled for the guest's processor thereby."""
    folder = tmp_path_factory.mktemp("outside")
    return told_by([sys.executable, PROGRAM, folder], folder)


@pytest.fixture(scope="module")
def inside(ready: None, outside: object, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Its findings in the machine with two nodes."""
    folder = tmp_path_factory.mktemp("inside")
    machine = ["--timeout", str(GUEST_SECONDS), "--card", "none", "--writable", folder]
    return told_by([*EXCHANGE, "run", *machine, "--", sys.executable, PROGRAM, folder], folder)


def of_shard(told: Mapping[str, Any], shard: int) -> list[dict[str, Any]]:
    return [one for one in told["regions"] if one["owner"] == f"shard.{shard}"]


def homes(told: Mapping[str, Any]) -> dict[str, int]:
    """The node of each thread."""
    return {thread: node for thread, _, node in told["plan"]}


def check_on(regions: list[dict[str, Any]], node: int) -> None:
    """All pages of these regions are on one node, by everything that can be asked."""
    assert {one["part"] for one in regions} >= {"inbox", "book", "outbox", "shard"}
    for one in regions:
        assert one["nodes"] == [node], one
        assert set(one["pages"]) <= {str(node)}, one
        assert one["first_page_node"] in (node, None), one
        assert one["mappings"], one
        for policy, counts in one["mappings"]:
            assert policy == f"bind:{node}", one
            assert set(counts) <= {str(node)}, one
    for part in ("inbox", "book", "outbox", "shard"):
        used = [one for one in regions if one["part"] == part and one["pages"]]
        assert used, f"nobody has written to the {part}"
        assert all(one["first_page_node"] == node for one in used)


@pytest.mark.slow
@pytest.mark.timeout(GUEST_SECONDS + 300)
class TestTwoNodes:
    """What the program finds in the machine with two nodes."""

    def test_each_shard_runs_on_a_node_of_its_own(self, inside: Mapping[str, Any]) -> None:
        told = inside["local"]
        assert {homes(told)["shard.0"], homes(told)["shard.1"]} == {0, 1}
        for thread, unit, node in told["plan"]:
            assert told["affinities"][thread] == [unit]
            assert node == unit // 2  # as the machine is made: two processors on each node
        assert not any("same as pinned" in one for one in told["warnings"])

    @pytest.mark.parametrize("shard", [0, 1])
    def test_local_is_the_shards_own_node(self, inside: Mapping[str, Any], shard: int) -> None:
        told = inside["local"]
        check_on(of_shard(told, shard), homes(told)[f"shard.{shard}"])

    @pytest.mark.parametrize("shard", [0, 1])
    def test_a_shard_that_is_a_process_has_its_memory_there_too(
        self, inside: Mapping[str, Any], shard: int
    ) -> None:
        told = inside["local in processes"]
        check_on(of_shard(told, shard), homes(told)[f"shard.{shard}"])
        for thread, unit, _ in told["plan"]:
            assert told["affinities"][thread] == [unit]

    @pytest.mark.parametrize("shard", [0, 1])
    def test_wrong_is_the_other_node(self, inside: Mapping[str, Any], shard: int) -> None:
        told = inside["wrong-node"]
        check_on(of_shard(told, shard), 1 - homes(told)[f"shard.{shard}"])

    def test_what_is_not_a_shards_lies_with_the_clients_side(self, inside: Mapping[str, Any]) -> None:
        told = inside["local"]
        node = homes(told)["ingress+egress"]
        others = [one for one in told["regions"] if one["owner"] in ("ingress", "egress")]
        assert {one["part"] for one in others} >= {"commands", "answers", "ingress", "egress"}
        for one in others:
            assert set(one["pages"]) <= {str(node)}, one

    def test_interleaved_memory_is_spread(self, inside: Mapping[str, Any]) -> None:
        for shard in (0, 1):
            for one in of_shard(inside["interleave"], shard):
                assert one["nodes"] == [0, 1]
                assert {policy for policy, _ in one["mappings"]} == {"interleave:0-1"}
        pages = PROBE_BYTES // inside["page_bytes"]
        assert inside["probe"]["pages"] == {"0": pages // 2, "1": pages // 2}
        (mapping,) = inside["probe"]["mappings"]
        assert mapping[0] == "interleave:0-1"
        assert all(mapping[1][node] >= pages // 2 for node in "01")

    def test_sessions_lie_with_their_lanes(self, inside: Mapping[str, Any]) -> None:
        found = inside["sessions"]
        assert {one["home"] for one in found} == {0, 1}
        assert sum(one["owner"] == "ingress.1" for one in found) == SESSIONS // 3
        for one in found:
            assert set(one["pages"]) == {str(one["home"])}, one
            assert {policy for policy, _ in one["mappings"]} == {f"bind:{one['home']}"}

    def test_a_mapped_journal_lies_with_its_shard(self, inside: Mapping[str, Any]) -> None:
        assert sorted(stream for stream, _, _ in inside["journals"]) == ["shard-0", "shard-1"]
        assert {home for _, home, _ in inside["journals"]} == {0, 1}
        for stream, home, pages in inside["journals"]:
            assert set(pages) == {str(home)}, stream

    @pytest.mark.parametrize("ran", ["local", "local in processes"])
    def test_another_process_sees_the_same(self, inside: Mapping[str, Any], ran: str) -> None:
        shown, told = inside[ran]["shown"], inside[ran]
        assert len(shown["record"]["children"]) == (2 if ran == "local in processes" else 0)
        assert "all memory that was placed is where it was placed" in shown["text"]
        rows = {(one["owner"], one["part"]): one for one in shown["record"]["memory"]}
        for shard in (0, 1):
            node = homes(told)[f"shard.{shard}"]
            row = rows[f"shard.{shard}", "book"]
            assert (row["placed_on_nodes"], row["policies"]) == ([node], [f"bind:{node}"])
            assert row["pages_by_node"].keys() == {str(node)}
            (book,) = [one for one in of_shard(told, shard) if one["part"] == "book"]
            assert row["pages_by_node"][str(node)] >= book["pages"][str(node)]
            assert row["stray_pages"] == 0

    def test_where_memory_lies_changes_no_book(
        self, inside: Mapping[str, Any], outside: Mapping[str, Any]
    ) -> None:
        digests = {told[ran]["digest"] for told in (inside, outside) for ran in RUNS}
        assert len(digests) == 1


def test_on_one_node_nothing_is_placed_and_it_is_said(outside: Mapping[str, Any]) -> None:
    if len(read_this_machine().numa_nodes) > 1:
        pytest.skip("this machine has several NUMA nodes")
    for told in (outside[ran] for ran in RUNS):
        assert all(one["nodes"] == [] for one in told["regions"])
        assert any("numa is the same as pinned here" in one for one in told["warnings"])
        assert all(set(one["pages"]) <= {"0"} for one in told["regions"])
    assert "no memory was placed, for this machine has one NUMA node" in outside["local"]["shown"]["text"]
