"""Where ``numa`` puts memory, and shards, on machines small enough to check by eye."""

import msgspec
import pytest

from exchange.placement import NumaPlacement, PinnedPlacement, Plan, ThreadDescription, Topology, plan
from exchange.placement.drawing import draw_text
from exchange.placement.topology import NumaNode, read_synthetic

CLIENTS = ThreadDescription("clients", ("ingress", "egress"))
SHARDS = tuple(ThreadDescription(f"shard.{index}", (f"shard.{index}",)) for index in range(8))
TWO_SOCKETS = "pack:2 [numa(memory=64GiB)] l3:1 core:4 pu:2"
SUB_NUMA = "pack:2 node:2 l3:1 core:4 pu:1"
DISTANCES = ((10, 12, 21, 22), (12, 10, 22, 21), (21, 22, 10, 12), (22, 21, 12, 10))


def numa(machine: str | Topology, *threads: ThreadDescription, **settings: object) -> Plan:
    topology = read_synthetic(machine) if isinstance(machine, str) else machine
    return plan(topology, threads, NumaPlacement(**settings))  # type: ignore[arg-type]


def memory(chosen: Plan) -> dict[str, tuple[int, ...]]:
    return {one.thread: one.memory_nodes for one in chosen.assignments}


def nodes(topology: Topology, chosen: Plan) -> dict[str, int]:
    """The node that each thread runs on."""
    return {one.thread: topology.core_of(one.processing_unit or 0).numa_node for one in chosen.assignments}


def with_nodes(topology: Topology, **changes: dict[str, object]) -> Topology:
    """The topology with some of its nodes changed: ``n0={"memory_bytes": 0}``."""
    replace = msgspec.structs.replace
    changed = tuple(replace(node, **changes.get(f"n{node.os_index}", {})) for node in topology.numa_nodes)
    return replace(topology, numa_nodes=changed)


def test_local_memory_is_on_the_threads_own_node() -> None:
    topology = read_synthetic(TWO_SOCKETS)
    chosen = numa(topology, CLIENTS, *SHARDS[:2], spread_shards=True)
    assert memory(chosen) == {name: (node,) for name, node in nodes(topology, chosen).items()}
    assert set(nodes(topology, chosen).values()) == {0, 1}
    assert "memory on node 1, its own" in chosen.assignment_of("shard.0").reason


def test_interleaved_memory_is_on_all_nodes() -> None:
    chosen = numa(TWO_SOCKETS, CLIENTS, SHARDS[0], memory="interleave")
    assert set(memory(chosen).values()) == {(0, 1)}
    assert "page by page over nodes 0-1" in chosen.assignment_of("shard.0").reason
    assert any("placement.memory = interleave" in warning for warning in chosen.warnings)


def test_the_wrong_node_is_the_farthest_that_firmware_tells_of() -> None:
    topology = msgspec.structs.replace(read_synthetic(SUB_NUMA), node_distances=DISTANCES)
    chosen = numa(topology, CLIENTS, *SHARDS[:7], spread_shards=True, memory="wrong-node")
    farthest = {0: 3, 1: 2, 2: 1, 3: 0}
    assert memory(chosen) == {name: (farthest[node],) for name, node in nodes(topology, chosen).items()}
    assert "the farthest, 22 away where 10 is near" in chosen.assignment_of("shard.0").reason


def test_without_distances_the_other_socket_is_the_farthest() -> None:
    topology = read_synthetic(SUB_NUMA)
    chosen = numa(topology, CLIENTS, *SHARDS[:3], spread_shards=True, memory="wrong-node")
    for name, (far,) in memory(chosen).items():
        assert {far // 2, nodes(topology, chosen)[name] // 2} == {0, 1}


def test_sub_numa_clusters_are_nodes_like_others() -> None:
    topology = read_synthetic(SUB_NUMA)
    chosen = numa(topology, CLIENTS, *SHARDS[:4], spread_shards=True)
    assert sorted(nodes(topology, chosen)[shard.name] for shard in SHARDS[:4]) == [0, 1, 2, 3]
    together = numa(topology, CLIENTS, *SHARDS[:3])
    assert len(set(nodes(topology, together).values())) == 1


def test_more_shards_than_nodes_are_dealt_out_evenly() -> None:
    topology = read_synthetic(TWO_SOCKETS)
    chosen = numa(topology, *SHARDS[:6], spread_shards=True)
    places = [nodes(topology, chosen)[shard.name] for shard in SHARDS[:6]]
    assert sorted(places) == [0, 0, 0, 1, 1, 1]
    crowded = numa(topology, CLIENTS, *SHARDS, spread_shards=True)
    assert len(memory(crowded)) == 9
    assert all(memory(crowded).values())


def test_clients_stay_together_and_beside_a_shard_where_shards_are_spread() -> None:
    ingress, egress = (ThreadDescription(name, (name,)) for name in ("ingress", "egress"))
    topology = read_synthetic(TWO_SOCKETS)
    chosen = numa(topology, ingress, egress, *SHARDS[:2], spread_shards=True)
    where = nodes(topology, chosen)
    assert where["ingress"] == where["egress"]
    assert {where["shard.0"], where["shard.1"]} == {0, 1}


def test_siblings_stay_empty_and_fast_cores_come_first() -> None:
    topology = read_synthetic("pack:2 [numa] core:4 pu:2")
    replace = msgspec.structs.replace
    slow = tuple(replace(core, performance_rank=int(core.index % 4 < 2)) for core in topology.cores)
    topology = replace(topology, cores=slow)
    chosen = numa(topology, CLIENTS, *SHARDS[:2], spread_shards=True, reserve_os_core=False)
    used = [topology.core_of(one.processing_unit or 0) for one in chosen.assignments]
    assert len({core.index for core in used}) == 3
    assert all(core.performance_rank == 1 for core in used)
    assert {core.numa_node for core in used} == {0, 1}


def test_with_one_node_it_is_pinned_and_says_so() -> None:
    machine = "pack:1 [numa(memory=8GiB)] core:4 pu:1"
    pinned = plan(read_synthetic(machine), (CLIENTS, *SHARDS[:2]), PinnedPlacement())
    for kind in ("local", "interleave", "wrong-node"):
        chosen = numa(machine, CLIENTS, *SHARDS[:2], memory=kind)
        assert set(memory(chosen).values()) == {()}
        assert [one.reason for one in chosen.assignments] == [one.reason for one in pinned.assignments]
        assert [one.processing_unit for one in chosen.assignments] == [
            one.processing_unit for one in pinned.assignments
        ]
        assert any("numa is the same as pinned here" in warning for warning in chosen.warnings)


def test_a_node_without_memory_takes_the_nearest_that_has_some() -> None:
    topology = msgspec.structs.replace(read_synthetic(SUB_NUMA), node_distances=DISTANCES)
    topology = with_nodes(topology, n1={"memory_bytes": 0})
    chosen = numa(topology, CLIENTS, *SHARDS[:7], spread_shards=True)
    for name, node in nodes(topology, chosen).items():
        assert memory(chosen)[name] == (0 if node == 1 else node,)
        assert chosen.assignment_of(name).memory_node == memory(chosen)[name][0]
    poor = [name for name, node in nodes(topology, chosen).items() if node == 1]
    assert poor
    assert "memory on node 0, the nearest with memory to node 1" in chosen.assignment_of(poor[0]).reason


def test_a_container_with_one_node_of_two_places_nothing() -> None:
    topology = with_nodes(read_synthetic(TWO_SOCKETS), n1={"is_allowed": False})
    chosen = numa(topology, CLIENTS, *SHARDS[:2], spread_shards=True)
    assert set(memory(chosen).values()) == {()}
    assert any("numa is the same as pinned here" in warning for warning in chosen.warnings)
    far = next(name for name, node in nodes(topology, chosen).items() if node == 1)
    assert "memory on node 0, the nearest with memory to node 1" in chosen.assignment_of(far).reason


def test_memory_behind_no_core_is_no_place_for_a_book() -> None:
    topology = read_synthetic(TWO_SOCKETS)
    expander = NumaNode(2, 1 << 40, ())
    topology = msgspec.structs.replace(topology, numa_nodes=(*topology.numa_nodes, expander))
    for kind in ("local", "interleave", "wrong-node"):
        assert all(
            2 not in found for found in memory(numa(topology, CLIENTS, SHARDS[0], memory=kind)).values()
        )
    single = read_synthetic("pack:1 [numa] core:4 pu:1")
    single = msgspec.structs.replace(single, numa_nodes=(*single.numa_nodes, NumaNode(1, 1 << 40, ())))
    assert set(memory(numa(single, CLIENTS, SHARDS[0])).values()) == {(0,)}
    assert set(memory(numa(single, CLIENTS, SHARDS[0], memory="wrong-node")).values()) == {(1,)}


def test_two_cores_of_a_large_machine_are_enough() -> None:
    topology = read_synthetic(TWO_SOCKETS)
    replace = msgspec.structs.replace
    few = tuple(
        replace(
            core,
            processing_units=tuple(
                replace(unit, is_allowed=core.index in (3, 4)) for unit in core.processing_units
            ),
        )
        for core in topology.cores
    )
    topology = replace(topology, cores=few)
    chosen = numa(topology, CLIENTS, *SHARDS[:2], spread_shards=True)
    assert {one.core_index for one in chosen.assignments} == {3, 4}
    assert memory(chosen) == {name: (node,) for name, node in nodes(topology, chosen).items()}


def test_the_plan_is_drawn_with_the_place_of_memory() -> None:
    topology = read_synthetic(TWO_SOCKETS)
    text = draw_text(topology, numa(topology, CLIENTS, SHARDS[0], memory="wrong-node"))
    assert "placement: numa" in text
    assert "memory on node" in text


@pytest.mark.parametrize("kind", ["", "far", "bind"])
def test_other_words_are_refused(kind: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": "numa", "memory": kind}, PinnedPlacement | NumaPlacement)
