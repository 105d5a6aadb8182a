"""Reading machines: synthetic strings, XML files, the kernel's own files, and every way in which they are
bad."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from exchange.errors import UserError
from exchange.placement.topology import (
    MAX_PROCESSING_UNITS,
    Topology,
    format_cpu_list,
    load_topology,
    parse_cpu_list,
    read_synthetic,
    read_this_machine,
    read_xml,
)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def sys_tree(tmp_path: Path) -> Path:
    """A kernel's view of one socket with two cores of two processing units each, numbered 0,2 and 1,3."""
    system = tmp_path / "sys/devices/system"
    write(system / "cpu/online", "0-3\n")
    write(system / "cpu/isolated", "1,3\n")
    for index in range(4):
        folder = system / f"cpu/cpu{index}"
        siblings = f"{index % 2},{index % 2 + 2}\n"
        write(folder / "topology/thread_siblings_list", siblings)
        write(folder / "topology/physical_package_id", "0\n")
        caches = (
            ("1", "Data", "32K", siblings),
            ("1", "Instruction", "32K", siblings),
            ("3", "Unified", "8M", "0-3"),
        )
        for number, (level, kind, size, shared) in enumerate(caches):
            for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
                write(folder / f"cache/index{number}/{name}", text)
    write(system / "node/online", "0\n")
    write(system / "node/node0/cpulist", "0-3\n")
    write(system / "node/node0/meminfo", "Node 0 MemTotal:       1024 kB\nNode 0 MemFree: 5 kB\n")
    return tmp_path


def without_hwloc(monkeypatch: pytest.MonkeyPatch, affinity: set[int]) -> None:
    monkeypatch.setitem(sys.modules, "pyhwloc.topology", None)  # makes the import fail
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: affinity)


def test_a_synthetic_string_gives_nodes_cores_and_siblings() -> None:
    topology = load_topology("node:2 core:4 pu:2")
    assert not topology.is_this_machine
    assert [node.os_index for node in topology.numa_nodes] == [0, 1]
    assert [core.numa_node for core in topology.cores] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [unit.os_index for unit in topology.cores[5].processing_units] == [10, 11]
    assert topology.summary() == "1 socket, 2 NUMA nodes, 8 cores, 16 processing units"


def test_caches_carry_level_size_and_sharing() -> None:
    topology = read_synthetic("pack:1 l3:2(size=32MiB) l2:2(size=1MiB) l1d:1(size=48KiB) core:1 pu:2")
    found = {(cache.level, cache.size_bytes, cache.processing_units) for cache in topology.caches}
    assert (3, 32 << 20, (4, 5, 6, 7)) in found
    assert (2, 1 << 20, (2, 3)) in found
    assert (1, 48 << 10, (6, 7)) in found
    assert len(found) == 2 + 4 + 4
    assert topology.last_level_caches()[5].level == 3


def test_os_indexes_follow_the_machine_and_not_the_drawing() -> None:
    topology = read_synthetic("pack:2 core:2 pu:2(indexes=core:pu)")
    assert [[unit.os_index for unit in core.processing_units] for core in topology.cores] == [
        [0, 4],
        [1, 5],
        [2, 6],
        [3, 7],
    ]
    assert topology.core_of(6).index == 2
    with pytest.raises(KeyError):
        topology.core_of(8)


def test_a_machine_without_cores_gets_one_for_each_processing_unit() -> None:
    assert [core.processing_units[0].os_index for core in read_synthetic("pu:3").cores] == [0, 1, 2]


def test_a_core_with_two_memories_is_near_the_first() -> None:
    topology = read_synthetic("pack:1 [numa(memory=64GiB)] [numa(memory=16GiB)] core:2 pu:1")
    assert [node.processing_units for node in topology.numa_nodes] == [(0, 1), (0, 1)]
    assert [core.numa_node for core in topology.cores] == [0, 0]


@pytest.mark.parametrize(
    "text", ["", "x", "core:2", "pu:0", "node:2 core:-1 pu:2", "core:2 pu:2 pu:2", "pack:2 pu"]
)
def test_a_bad_synthetic_string_is_told_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"hwloc does not understand it; allowed: levels") as caught:
        read_synthetic(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["core:100000 pu:2", "100000 2", "pack:99 node:99 pu:1", "core:99999999999999999 pu:1"]
)
def test_an_absurdly_large_machine_is_refused_before_it_is_built(text: str) -> None:
    with pytest.raises(UserError, match=f"at most {MAX_PROCESSING_UNITS:,}"):
        read_synthetic(text)


def test_numbers_in_attributes_do_not_count_as_cores() -> None:
    assert len(read_synthetic("pack:2 [numa(memory=64000000000)] l3:1(size=99999999) core:2 pu:1").cores) == 4


def test_an_xml_file_gives_the_machine_that_it_was_written_from(tmp_path: Path) -> None:
    from pyhwloc.topology import Topology as HwlocTopology

    path = tmp_path / "machine.xml"
    text = "pack:2 l3:2 core:2 pu:2"
    with HwlocTopology.from_synthetic(text, load=True) as handle:
        path.write_text(handle.export_xml_buffer(0))
    from_file = load_topology(str(path))
    assert from_file.source == f"file {path}"
    assert not from_file.is_this_machine
    assert from_file.cores == read_synthetic(text).cores
    assert from_file.caches == read_synthetic(text).caches


def test_bad_xml_files_are_told_in_one_line(tmp_path: Path) -> None:
    broken, binary = tmp_path / "broken.xml", tmp_path / "binary.xml"
    broken.write_text("<topology><object type=")
    binary.write_bytes(b"\xff\xfe\x00\x01")
    for path, message in (
        (broken, "not an hwloc XML file; allowed"),
        (binary, "not an hwloc XML file"),
        (tmp_path / "absent.xml", "No such file"),
        (tmp_path, "Is a directory"),
        ("a\0b.xml", "null"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            read_xml(path)
        assert "\n" not in str(caught.value)


def test_this_machine_is_marked_as_such_and_has_what_we_may_use() -> None:
    topology = read_this_machine()
    assert topology.is_this_machine
    allowed = {unit.os_index for unit in topology.processing_units if unit.is_allowed}
    assert os.sched_getaffinity(os.getpid()) <= allowed
    indexes = [unit.os_index for unit in topology.processing_units]
    assert len(set(indexes)) == len(indexes)


def test_taskset_closes_processing_units_and_they_stay_visible() -> None:
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        pytest.skip("needs two processing units")
    code = (
        f"import os; os.sched_setaffinity(0, {{{mine[0]}}})\n"
        "from exchange.placement.topology import read_this_machine\n"
        "units = read_this_machine().processing_units\n"
        "print(sorted(unit.os_index for unit in units if unit.is_allowed), len(units))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n")[0] == f"[{mine[0]}] {len(read_this_machine().processing_units)}"


def test_a_machine_that_hwlocs_environment_invents_is_not_this_machine() -> None:
    code = (
        "from exchange.placement.topology import read_this_machine\n"
        "topology = read_this_machine()\n"
        "print(topology.is_this_machine, len(topology.cores))\n"
    )
    environment = os.environ | {"HWLOC_SYNTHETIC": "node:1 core:6 pu:1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environment,
    )
    assert done.stdout.split() == ["False", "6"]


def test_without_hwloc_the_kernels_files_are_read_and_it_is_said(
    sys_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_hwloc(monkeypatch, {0, 1, 2, 3})
    topology = read_this_machine(sys_tree)
    assert [[unit.os_index for unit in core.processing_units] for core in topology.cores] == [[0, 2], [1, 3]]
    assert [node.memory_bytes for node in topology.numa_nodes] == [1024 * 1024]
    assert {(cache.level, cache.size_bytes) for cache in topology.caches} == {(1, 32 << 10), (3, 8 << 20)}
    assert len(topology.caches) == 3
    assert "hwloc did not load" in topology.notes[0]
    with pytest.raises(UserError, match="needs hwloc, which did not load"):
        read_synthetic("pu:2")
    with pytest.raises(UserError, match="needs hwloc"):
        read_xml(__file__)


def test_two_nodes_of_the_kernels_files_have_distances_and_may_be_closed(
    sys_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_hwloc(monkeypatch, {0, 1, 2, 3})
    nodes = sys_tree / "sys/devices/system/node"
    (nodes / "online").write_text("0-1\n")
    for index, distances in enumerate(("10 21\n", "21 10\n")):
        (nodes / f"node{index}").mkdir(exist_ok=True)
        (nodes / f"node{index}/distance").write_text(distances)
        (nodes / f"node{index}/cpulist").write_text(f"{2 * index}-{2 * index + 1}\n")
    topology = read_this_machine(sys_tree)
    assert (topology.node_distance(0, 1), topology.node_distance(1, 1)) == (21, 10)
    assert [node.is_allowed for node in topology.numa_nodes] == [True, True]
    (sys_tree / "proc/self").mkdir(parents=True)
    (sys_tree / "proc/self/status").write_text("Name:\tpython\nMems_allowed:\t2\nMems_allowed_list:\t1\n")
    assert [node.is_allowed for node in read_this_machine(sys_tree).numa_nodes] == [False, True]
    (sys_tree / "proc/self/status").write_text("Mems_allowed_list:\tall\n")
    assert [node.is_allowed for node in read_this_machine(sys_tree).numa_nodes] == [True, True]
    (nodes / "node1/distance").write_text("21\n")
    assert read_this_machine(sys_tree).node_distance(0, 1) is None
    with pytest.raises(KeyError):
        topology.node_distance(0, 2)


def test_distances_come_with_an_xml_file(tmp_path: Path) -> None:
    from pyhwloc.topology import Topology as HwlocTopology

    with HwlocTopology.from_synthetic("pack:2 [numa] core:2 pu:1", load=True) as handle:
        text = handle.export_xml_buffer(0)
    matrix = (
        '<distances2 type="NUMANode" nbobjs="2" kind="5" name="NUMALatency" indexing="os">'
        '<indexes length="4">0 1 </indexes><u64values length="12">10 21 21 10 </u64values></distances2>'
    )
    path = tmp_path / "machine.xml"
    path.write_text(text.rstrip("\0").replace("</topology>", f"{matrix}</topology>"))
    topology = read_xml(path)
    assert topology.node_distances == ((10, 21), (21, 10))
    assert msgspec.json.decode(msgspec.json.encode(topology), type=type(topology)) == topology


def test_without_any_files_each_allowed_processing_unit_is_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_hwloc(monkeypatch, {3, 7})
    topology = read_this_machine(tmp_path)
    assert [unit.os_index for unit in topology.processing_units] == [3, 7]
    assert topology.summary() == "1 socket, 1 NUMA node, 2 cores, 2 processing units"


@pytest.mark.parametrize(
    ("affinity", "expected"),
    [
        (
            {0, 2},
            {0, 1, 2, 3},
        ),  # the default mask of a kernel with isolcpus=1,3: the isolated ones are ours to bind
        ({0}, {0}),  # somebody chose: obey
        ({1, 2}, {1, 2}),
        ({0, 1, 2, 3}, {0, 1, 2, 3}),
    ],
)
def test_isolated_units_are_ours_unless_somebody_chose(
    sys_tree: Path, monkeypatch: pytest.MonkeyPatch, affinity: set[int], expected: set[int]
) -> None:
    without_hwloc(monkeypatch, affinity)
    units = read_this_machine(sys_tree).processing_units
    assert {unit.os_index for unit in units if unit.is_allowed} == expected
    assert {unit.os_index for unit in units if unit.is_isolated} == {1, 3}


@pytest.mark.parametrize(
    ("text", "indexes"), [("", ()), ("0", (0,)), ("0-2,8\n", (0, 1, 2, 8)), ("1,3", (1, 3))]
)
def test_cpu_lists_are_read(text: str, indexes: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == indexes
    assert format_cpu_list(indexes) == (text.strip() or "none")


def test_a_topology_survives_json() -> None:
    import msgspec

    topology = read_synthetic("pack:2 core:2 pu:2")
    assert msgspec.json.decode(msgspec.json.encode(topology), type=Topology) == topology
