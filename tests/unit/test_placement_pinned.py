"""The planner's rules, one by one, on machines small enough to check by eye."""

import msgspec
import pytest

from exchange.placement import PinnedPlacement, Plan, ThreadDescription, Topology, plan
from exchange.placement.topology import Cache, read_synthetic

INGRESS = ThreadDescription("ingress", ("ingress",))
EGRESS = ThreadDescription("egress", ("egress",))
SHARDS = tuple(ThreadDescription(f"shard.{index}", (f"shard.{index}",)) for index in range(12))
LOAD = ThreadDescription("load generator")
PIPELINE = (INGRESS, SHARDS[0], SHARDS[1], EGRESS)


def asleep(thread: ThreadDescription) -> ThreadDescription:
    return msgspec.structs.replace(thread, busy_spins=False)


def pinned(machine: str | Topology, threads: tuple[ThreadDescription, ...], **settings: bool) -> Plan:
    topology = read_synthetic(machine) if isinstance(machine, str) else machine
    return plan(topology, threads, PinnedPlacement(**settings))


def units(chosen: Plan) -> dict[str, int | None]:
    return {found.thread: found.processing_unit for found in chosen.assignments}


def cores(chosen: Plan) -> dict[str, int | None]:
    return {found.thread: found.core_index for found in chosen.assignments}


def with_units(topology: Topology, indexes: set[int], **change: bool) -> Topology:
    """The topology with some of its processing units (OS indexes) changed."""
    replace = msgspec.structs.replace
    return replace(
        topology,
        cores=tuple(
            replace(
                core,
                processing_units=tuple(
                    replace(unit, **change) if unit.os_index in indexes else unit
                    for unit in core.processing_units
                ),
            )
            for core in topology.cores
        ),
    )


def with_fast_cores(topology: Topology, fast: set[int]) -> Topology:
    replace = msgspec.structs.replace
    return replace(
        topology,
        cores=tuple(replace(core, performance_rank=int(core.index in fast)) for core in topology.cores),
    )


def test_core_0_is_kept_for_the_os_and_siblings_stay_empty() -> None:
    chosen = pinned("pack:1 l3:1 core:8 pu:2", PIPELINE)
    assert chosen.os_core_index == 0
    assert units(chosen) == {"ingress": 2, "egress": 4, "shard.0": 6, "shard.1": 8}
    assert chosen.warnings == ()
    assert any("core 0 (processing unit 0-1) is kept for the OS" in note for note in chosen.notes)
    assert "SMT sibling 3 stays empty" in chosen.assignment_of("ingress").reason


def test_the_core_for_the_os_is_given_up_when_every_core_is_needed() -> None:
    chosen = pinned("node:1 core:4 pu:1", PIPELINE)
    assert chosen.os_core_index is None
    assert sorted(cores(chosen).values()) == [0, 1, 2, 3]
    assert any(
        "no core could be kept for the OS: 4 busy-spinning threads, 4 cores" in w for w in chosen.warnings
    )


def test_no_core_is_kept_and_none_missed_when_that_is_turned_off() -> None:
    chosen = pinned("node:1 core:4 pu:1", PIPELINE[:2], reserve_os_core=False)
    assert chosen.os_core_index is None
    assert chosen.warnings == ()
    assert set(cores(chosen).values()) == {0, 1}


def test_two_cores_and_two_spinning_threads_fill_the_machine_and_say_so() -> None:
    everything = ThreadDescription("exchange", ("ingress", "shard.0", "egress"))
    chosen = pinned("node:1 core:2 pu:1", (everything, LOAD))
    assert set(units(chosen).values()) == {0, 1}
    assert any("no core could be kept for the OS" in warning for warning in chosen.warnings)


def test_one_spinning_thread_on_two_cores_leaves_core_0_alone() -> None:
    assert units(pinned("node:1 core:2 pu:1", (SHARDS[0],))) == {"shard.0": 1}


def test_more_spinning_threads_than_cores_are_spread_and_the_warning_names_them() -> None:
    chosen = pinned("node:1 core:2 pu:1", (*PIPELINE, LOAD))
    loads = [len(chosen.threads_on(unit)) for unit in (0, 1)]
    assert sorted(loads) == [2, 3]
    assert chosen.assignment_of("shard.0").processing_unit != chosen.assignment_of("shard.1").processing_unit
    text = "\n".join(chosen.warnings)
    assert "5 busy-spinning threads (ingress, shard.0, shard.1, egress, load generator) on 2 cores" in text
    assert "they take turns" in text
    assert "share processing unit 0" in text
    assert "share processing unit 1" in text


def test_siblings_are_used_before_a_unit_is_shared_and_a_shard_is_spared() -> None:
    chosen = pinned("node:1 core:2 pu:2", (INGRESS, SHARDS[0], EGRESS))
    assert len(set(units(chosen).values())) == 3
    assert cores(chosen)["ingress"] == cores(chosen)["egress"] != cores(chosen)["shard.0"]
    assert any("ingress and egress spin on SMT siblings" in warning for warning in chosen.warnings)
    assert not any("share processing unit" in warning for warning in chosen.warnings)


def test_siblings_count_as_cores_when_that_is_asked_for() -> None:
    chosen = pinned("pack:1 l3:1 core:4 pu:2", PIPELINE, avoid_smt_siblings=False)
    assert chosen.os_core_index == 0
    assert set(units(chosen).values()) == {2, 3, 4, 5}
    assert sum("spin on SMT siblings" in warning for warning in chosen.warnings) == 2


def test_threads_stay_under_the_first_cache_that_holds_them_all() -> None:
    chosen = pinned(
        "pack:2 l3:2 core:4 pu:1", PIPELINE
    )  # the first cache has three cores left beside the OS's
    assert set(cores(chosen).values()) == {4, 5, 6, 7}
    assert "shares L3 with ingress and egress" in chosen.assignment_of("shard.0").reason


def test_a_small_cache_group_in_a_small_node_beats_a_large_node() -> None:
    # Node 0 has caches of 3 + 3 usable cores, node 1 has 4 + 0: only there do four threads share one cache.
    topology = with_units(
        read_synthetic("pack:2 [numa] l3:2 core:4 pu:1"), {0, 4, 12, 13, 14, 15}, is_allowed=False
    )
    chosen = pinned(topology, PIPELINE, reserve_os_core=False)
    assert set(cores(chosen).values()) == {8, 9, 10, 11}


def test_one_small_node_beats_two_nodes_of_a_large_socket() -> None:
    # Socket 0 has nodes of 3 + 3 usable cores, socket 1 has 4 + 0; no cache holds four.
    topology = with_units(
        read_synthetic("pack:2 node:2 l3:2 core:2 pu:1"), {0, 4, 12, 13, 14, 15}, is_allowed=False
    )
    chosen = pinned(topology, PIPELINE, reserve_os_core=False)
    assert {found.memory_node for found in chosen.assignments} == {2}


def test_threads_that_need_two_caches_stay_in_one_numa_node() -> None:
    chosen = pinned("pack:2 [numa] l3:2 core:4 pu:1", (INGRESS, EGRESS, *SHARDS[:4]))
    assert {found.memory_node for found in chosen.assignments} == {0}
    assert {cores(chosen)["ingress"], cores(chosen)["egress"]} <= {4, 5, 6, 7}
    assert "same NUMA node as" in chosen.assignment_of("shard.3").reason


def test_threads_that_need_both_numa_nodes_are_warned_about() -> None:
    chosen = pinned("pack:2 [numa] core:4 pu:1", (INGRESS, EGRESS, *SHARDS[:5]))
    assert [cores(chosen)[name] for name in ("ingress", "egress")] == [
        4,
        5,
    ]  # the larger group: four free cores
    assert {found.memory_node for found in chosen.assignments} == {0, 1}
    assert any("the threads span NUMA nodes 0-1" in warning for warning in chosen.warnings)
    far = [
        found for found in chosen.assignments if found.thread.startswith("shard") and found.memory_node == 0
    ]
    assert far
    assert all("far from ingress (NUMA node 1)" in found.reason for found in far)


def test_memory_belongs_to_the_node_of_the_core() -> None:
    topology = read_synthetic("pack:2 [numa] core:2 pu:2")
    chosen = plan(topology, (*PIPELINE, LOAD), PinnedPlacement())
    for found in chosen.assignments:
        assert found.processing_unit is not None
        assert found.memory_node == topology.core_of(found.processing_unit).numa_node


def test_isolated_cores_come_first_and_the_os_gets_another() -> None:
    topology = with_units(read_synthetic("pack:1 core:6 pu:1"), {0, 4, 5}, is_isolated=True)
    chosen = pinned(topology, (SHARDS[0], INGRESS, EGRESS))
    assert chosen.os_core_index == 1
    assert set(units(chosen).values()) == {0, 4, 5}
    assert "isolated from the kernel's scheduler" in chosen.assignment_of("shard.0").reason


def test_fast_cores_go_to_the_shards() -> None:
    topology = with_fast_cores(read_synthetic("pack:1 l3:1 core:6 pu:1"), {4, 5})
    chosen = pinned(topology, PIPELINE)
    assert {cores(chosen)["shard.0"], cores(chosen)["shard.1"]} == {4, 5}
    assert "a fast core" in chosen.assignment_of("shard.0").reason
    assert "a slow core" in chosen.assignment_of("ingress").reason


def test_fast_cores_alone_are_used_where_they_suffice() -> None:
    topology = with_fast_cores(read_synthetic("pack:1 l3:1 core:8 pu:1"), {4, 5, 6, 7})
    assert set(cores(pinned(topology, PIPELINE)).values()) == {4, 5, 6, 7}


def test_fast_cores_under_two_caches_beat_slow_ones_under_one() -> None:
    topology = with_fast_cores(read_synthetic("pack:1 l3:3 core:4 pu:1"), {1, 2, 5, 6})
    assert set(cores(pinned(topology, PIPELINE)).values()) == {1, 2, 5, 6}


def test_a_thread_without_a_place_joins_a_gateway_and_not_a_shard_even_on_a_better_core() -> None:
    topology = with_fast_cores(read_synthetic("node:1 core:2 pu:2"), {0})
    chosen = pinned(topology, (INGRESS, SHARDS[0], EGRESS))
    assert cores(chosen) == {"shard.0": 0, "ingress": 1, "egress": 1}


def test_a_thread_that_must_share_a_unit_shares_it_with_no_shard() -> None:
    chosen = pinned("node:1 core:2 pu:2", (*PIPELINE, LOAD))
    shared = chosen.assignment_of("load generator").processing_unit
    assert shared is not None
    assert chosen.threads_on(shared) in (("ingress", "load generator"), ("egress", "load generator"))


def test_closed_processing_units_are_not_used() -> None:
    topology = with_units(read_synthetic("pack:1 core:4 pu:2"), {0, 1, 2, 4, 5}, is_allowed=False)
    chosen = pinned(topology, (SHARDS[0], INGRESS))
    assert set(units(chosen).values()) == {3, 6}
    assert chosen.os_core_index is None
    assert any("5 of 8 processing units are closed to this process" in note for note in chosen.notes)


def test_threads_that_sleep_gather_where_no_thread_spins() -> None:
    chosen = pinned("node:1 core:3 pu:1", (SHARDS[0], SHARDS[1], asleep(INGRESS), asleep(EGRESS)))
    assert chosen.os_core_index == 0
    assert chosen.threads_on(0) == ("ingress", "egress")
    assert chosen.warnings == ()
    assert "it sleeps when idle" in chosen.assignment_of("ingress").reason
    assert "the OS's core" in chosen.assignment_of("ingress").reason
    assert any("there too, asleep when idle: ingress and egress" in note for note in chosen.notes)


def test_sleeping_threads_pile_up_rather_than_disturb_a_spinning_one() -> None:
    chosen = pinned("node:1 core:2 pu:1", (SHARDS[0], asleep(INGRESS), asleep(EGRESS), asleep(LOAD)))
    assert chosen.threads_on(1) == ("shard.0",)


def test_a_sleeping_thread_avoids_the_sibling_of_a_spinning_one() -> None:
    topology = with_units(read_synthetic("node:1 core:2 pu:2"), {0, 1}, is_isolated=True)
    chosen = pinned(topology, (LOAD, asleep(INGRESS), asleep(EGRESS)))
    assert units(chosen) == {"load generator": 0, "ingress": 2, "egress": 3}


def test_siblings_of_spinning_threads_are_filled_evenly() -> None:
    chosen = pinned("node:1 core:2 pu:4", (SHARDS[0], SHARDS[1], asleep(INGRESS), asleep(EGRESS)))
    assert cores(chosen)["ingress"] != cores(chosen)["egress"]


def test_a_sleeping_thread_beside_a_spinning_one_is_warned_about() -> None:
    chosen = pinned("node:1 core:1 pu:1", (SHARDS[0], asleep(INGRESS)))
    assert any("shard.0 and ingress share processing unit 0" in warning for warning in chosen.warnings)


def test_a_shared_cache_of_another_level_is_named() -> None:
    topology = read_synthetic("pack:1 core:3 pu:1")
    topology = msgspec.structs.replace(topology, caches=(Cache(2, 1 << 20, (1, 2)),))
    chosen = pinned(topology, (SHARDS[0], INGRESS))
    assert "shares L2 with ingress" in chosen.assignment_of("shard.0").reason


def test_no_threads_are_a_plan_too() -> None:
    chosen = pinned("node:1 core:2 pu:1", ())
    assert chosen.assignments == ()
    assert chosen.warnings == ()


@pytest.mark.parametrize("count", [1, 5, 12])
def test_long_lists_of_names_are_cut(count: int) -> None:
    chosen = pinned("node:1 core:1 pu:1", SHARDS[:count])
    reason = chosen.assignment_of("shard.0").reason
    assert ("more" in reason) == (count > 5)
