"""The placement ``numa`` on machines of every shape: threads as ``pinned`` has them, memory where it may be."""

from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.placement import NumaPlacement, PinnedPlacement, ThreadDescription, Topology, plan
from exchange.placement.numa import distance_key, places_for_memory
from tests.property.test_placement_plans import thread_lists, topologies


@st.composite
def numa_machines(draw: st.DrawFn, *, alike: bool = False) -> Topology:
    """A machine some of whose nodes have no memory or are closed, with distances or without."""
    topology = draw(topologies(alike=alike))
    replace, count = msgspec.structs.replace, len(topology.numa_nodes)
    flags = st.lists(st.sampled_from([True, True, True, False]), min_size=count, max_size=count)
    has_memory, is_allowed = draw(flags), draw(flags)
    nodes = tuple(
        replace(node, memory_bytes=node.memory_bytes * some, is_allowed=allowed)
        for node, some, allowed in zip(topology.numa_nodes, has_memory, is_allowed, strict=True)
    )
    distances: tuple[tuple[int, ...], ...] = ()
    if draw(st.booleans()):
        far = draw(st.lists(st.integers(11, 40), min_size=count * count, max_size=count * count))
        distances = tuple(
            tuple(
                10 if row == column else far[min(row, column) * count + max(row, column)]
                for column in range(count)
            )
            for row in range(count)
        )
    return replace(topology, numa_nodes=nodes, node_distances=distances)


configs = st.builds(
    NumaPlacement,
    reserve_os_core=st.booleans(),
    avoid_smt_siblings=st.booleans(),
    spread_shards=st.booleans(),
    memory=st.sampled_from(["local", "interleave", "wrong-node"]),
)


@settings(max_examples=200, deadline=None)
@given(numa_machines(), thread_lists(), configs)
def test_memory_is_where_the_kind_says_and_nowhere_else(
    topology: Topology, threads: tuple[ThreadDescription, ...], config: NumaPlacement
) -> None:
    chosen = plan(topology, threads, config)
    assert plan(topology, list(threads), config) == chosen
    places = [node.os_index for node in places_for_memory(topology)]
    assert places
    assert any("same as pinned" in one for one in chosen.warnings) == (len(places) == 1)
    for found in chosen.assignments:
        assert found.core_index is not None
        here = topology.cores[found.core_index].numa_node
        key = {node: distance_key(topology, here, node) for node in places}
        assert found.memory_node == min(places, key=key.__getitem__)
        assert (here in places) <= (found.memory_node == here), "its own node has memory and was not taken"
        if len(places) == 1:
            assert found.memory_nodes == ()
        elif config.memory == "local":
            assert found.memory_nodes == (found.memory_node,)
        elif config.memory == "interleave":
            assert found.memory_nodes == tuple(sorted(places))
        else:
            (far,) = found.memory_nodes
            assert far != found.memory_node
            assert all(key[far][0] >= key[node][0] for node in places if node != found.memory_node)
        if found.memory_nodes:
            assert "memory" in found.reason


@settings(max_examples=150, deadline=None)
@given(numa_machines(), thread_lists(), st.booleans(), st.booleans())
def test_threads_run_where_pinned_has_them_unless_shards_are_spread(
    topology: Topology,
    threads: tuple[ThreadDescription, ...],
    reserve_os_core: bool,
    avoid_smt_siblings: bool,
) -> None:
    alike = {"reserve_os_core": reserve_os_core, "avoid_smt_siblings": avoid_smt_siblings}
    pinned = plan(topology, threads, PinnedPlacement(**alike))
    chosen = plan(topology, threads, NumaPlacement(**alike))
    for first, second in zip(pinned.assignments, chosen.assignments, strict=True):
        assert (first.processing_unit, first.core_index) == (second.processing_unit, second.core_index)
        assert second.reason.startswith(first.reason)
    assert (pinned.os_core_index, pinned.notes) == (chosen.os_core_index, chosen.notes)


@settings(max_examples=150, deadline=None)
@given(numa_machines(), thread_lists(), configs)
def test_spreading_keeps_the_rules_that_come_first(
    topology: Topology, threads: tuple[ThreadDescription, ...], config: NumaPlacement
) -> None:
    chosen = plan(topology, threads, msgspec.structs.replace(config, spread_shards=True))
    allowed = [unit.os_index for unit in topology.processing_units if unit.is_allowed]
    used = [found.processing_unit for found in chosen.assignments]
    assert set(used) <= set(allowed)
    if len(threads) <= len(allowed):
        assert len(set(used)) == len(used), "two threads on one unit while another was free"
    spinning = {thread.name for thread in threads if thread.busy_spins}
    cores = [found.core_index for found in chosen.assignments if found.thread in spinning]
    if config.avoid_smt_siblings and len(threads) <= len(topology.usable_cores):
        assert len(set(cores)) == len(cores)
    if chosen.os_core_index is not None:
        assert chosen.os_core_index not in cores


@settings(max_examples=150, deadline=None)
@given(numa_machines(alike=True), st.integers(1, 12))
def test_shards_are_spread_as_evenly_as_the_cores_allow(topology: Topology, count: int) -> None:
    shards = tuple(ThreadDescription(f"shard.{index}", (f"shard.{index}",)) for index in range(count))
    shards = shards[: len(topology.usable_cores)]
    alike = msgspec.structs.replace(
        topology,
        cores=tuple(msgspec.structs.replace(core, performance_rank=None) for core in topology.cores),
    )
    chosen = plan(alike, shards, NumaPlacement(spread_shards=True, reserve_os_core=False))
    node_of = {core.index: core.numa_node for core in alike.cores}
    room = Counter(core.numa_node for core in alike.usable_cores)
    taken = Counter(node_of[found.core_index or 0] for found in chosen.assignments)
    for node, free in room.items():
        # A node has as many as any other, one less at most, or it is full.
        assert taken[node] >= max(taken.values()) - 1 or taken[node] == free
