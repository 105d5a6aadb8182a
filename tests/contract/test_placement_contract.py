"""What every placement promises: the rules of ``exchange.placement.protocol``, on every variant and many
machines."""

import os
import threading
from collections.abc import Callable

import msgspec
import pytest

from exchange.errors import UserError
from exchange.placement import (
    Assignment,
    NonePlacement,
    NumaPlacement,
    PinnedPlacement,
    PlacementConfig,
    Plan,
    ThreadDescription,
    apply_to_current_thread,
    build_placement,
    load_topology,
    plan,
    restore,
)

VARIANTS: dict[str, PlacementConfig] = {
    "none": NonePlacement(),
    "pinned": PinnedPlacement(),
    "pinned-dense": PinnedPlacement(reserve_os_core=False, avoid_smt_siblings=False),
    "numa": NumaPlacement(),
    "numa-spread": NumaPlacement(spread_shards=True, memory="interleave"),
    "numa-wrong-node": NumaPlacement(memory="wrong-node"),
}
MACHINES = (
    "node:1 core:1 pu:1",
    "node:1 core:2 pu:1",
    "node:2 core:4 pu:2",
    "pu:3",
    "pack:2 [numa] l3:2 core:4 pu:2(indexes=core:pu)",
)
THREADS = (
    ThreadDescription("ingress", ("ingress.0", "ingress.1")),
    ThreadDescription("shards", ("shard.0", "shard.1")),
    ThreadDescription("shard.2", ("shard.2",)),
    ThreadDescription("egress", ("egress",), busy_spins=False),
    ThreadDescription("load generator", busy_spins=False),
)


@pytest.fixture(params=VARIANTS)
def config(request: pytest.FixtureRequest) -> PlacementConfig:
    return VARIANTS[request.param]


def in_a_thread(work: Callable[[], object]) -> object:
    """Run ``work`` in a thread of its own, so that the test's own binding is never touched."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("count", range(len(THREADS) + 1))
def test_every_thread_gets_one_assignment_in_order_with_a_reason(
    config: PlacementConfig, machine: str, count: int
) -> None:
    chosen = plan(load_topology(machine), THREADS[:count], config)
    assert [found.thread for found in chosen.assignments] == [thread.name for thread in THREADS[:count]]
    assert all(found.reason for found in chosen.assignments)
    assert [found.agents for found in chosen.assignments] == [thread.agents for thread in THREADS[:count]]


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_assigned_exists_and_belongs_together(config: PlacementConfig, machine: str) -> None:
    topology = load_topology(machine)
    known = {unit.os_index: topology.cores[unit.core_index] for unit in topology.processing_units}
    for found in plan(topology, THREADS, config).assignments:
        if found.processing_unit is None:
            assert (found.core_index, found.memory_node) == (None, None)
        else:
            core = known[found.processing_unit]
            assert (found.core_index, found.memory_node) == (core.index, core.numa_node)
        assert set(found.memory_nodes) <= {node.os_index for node in topology.numa_nodes}


def test_the_same_question_has_the_same_answer(config: PlacementConfig) -> None:
    answers = [plan(load_topology("node:2 core:4 pu:2"), THREADS, config) for _ in range(3)]
    assert (
        answers[0]
        == answers[1]
        == answers[2]
        == build_placement(config)(load_topology("node:2 core:4 pu:2"), THREADS)
    )


def test_more_spinning_threads_than_cores_is_a_warning_that_names_them(config: PlacementConfig) -> None:
    chosen = plan(load_topology("node:1 core:2 pu:1"), THREADS[:3], config)
    assert "3 busy-spinning threads (ingress, shards, shard.2) on 2 cores" in "\n".join(chosen.warnings)


def test_two_threads_of_one_name_are_refused(config: PlacementConfig) -> None:
    with pytest.raises(ValueError, match="two threads are named 'ingress'"):
        plan(load_topology("pu:2"), (THREADS[0], THREADS[0]), config)


def test_the_plan_says_which_machine_it_is_for(config: PlacementConfig) -> None:
    imagined = plan(load_topology("pu:2"), THREADS, config)
    assert not imagined.is_this_machine
    assert not any(found.is_this_machine for found in imagined.assignments)
    assert any("a machine that is not this one" in note for note in imagined.notes)
    real = plan(load_topology(None), THREADS, config)
    assert real.is_this_machine
    assert all(found.is_this_machine for found in real.assignments)


def test_a_plan_can_be_applied_and_undone_by_each_thread(config: PlacementConfig) -> None:
    chosen = plan(load_topology(None), THREADS, config)
    for found in chosen.assignments:

        def bind(found: Assignment = found) -> tuple[set[int], set[int], set[int]]:
            start = os.sched_getaffinity(0)
            before = apply_to_current_thread(found)
            bound = os.sched_getaffinity(0)
            restore(before)
            return start, bound, os.sched_getaffinity(0)

        start, bound, after = in_a_thread(bind)  # type: ignore[misc]
        assert bound == (start if found.processing_unit is None else {found.processing_unit})
        assert after == start


def test_binding_one_thread_leaves_the_others_alone() -> None:
    mine = os.sched_getaffinity(0)
    unit = min(mine)
    assignment = Assignment("probe", unit, 0, 0, "a test", is_this_machine=True)
    in_a_thread(lambda: apply_to_current_thread(assignment))
    assert os.sched_getaffinity(0) == mine


def test_a_plan_for_another_machine_is_never_bound() -> None:
    unit = min(os.sched_getaffinity(0))
    chosen = plan(load_topology("pu:1"), THREADS[:1], PinnedPlacement())
    imagined = msgspec.structs.replace(chosen.assignments[0], processing_unit=unit)
    mine = os.sched_getaffinity(0)
    with pytest.raises(UserError, match="'ingress' was planned for another machine"):
        apply_to_current_thread(imagined)
    assert os.sched_getaffinity(0) == mine


@pytest.mark.parametrize("unit", [4095, 10**7, 10**30, -1])
def test_a_refusal_of_the_kernel_is_one_clear_line(unit: int) -> None:
    impossible = Assignment("shard.0", unit, 0, 0, "a test", is_this_machine=True)
    with pytest.raises(UserError, match=r"refused to bind thread 'shard\.0' to processing unit") as caught:
        apply_to_current_thread(impossible)
    assert "\n" not in str(caught.value)
    assert "this thread may use" in str(caught.value)


def test_settings_refuse_what_they_do_not_know() -> None:
    decode = msgspec.json.Decoder(NonePlacement | PinnedPlacement | NumaPlacement).decode
    assert decode(b'{"kind": "none"}') == NonePlacement()
    assert decode(b'{"kind": "numa", "memory": "interleave"}') == NumaPlacement(memory="interleave")
    assert decode(b'{"kind": "pinned", "reserve_os_core": false}') == PinnedPlacement(reserve_os_core=False)
    for text in (
        b'{"kind": "numa", "memory": "far"}',
        b'{"kind": "pinned", "spread_shards": true}',
        b'{"kind": "none", "reserve_os_core": true}',
        b'{"kind": "pinned", "core": 1}',
    ):
        with pytest.raises(msgspec.ValidationError):
            decode(text)


def test_a_plan_is_looked_up_by_thread_and_by_unit_and_survives_json() -> None:
    chosen = plan(load_topology("node:1 core:4 pu:1"), THREADS[:2], PinnedPlacement())
    unit = chosen.assignment_of("shards").processing_unit
    assert unit is not None
    assert chosen.threads_on(unit) == ("shards",)
    assert chosen.threads_on(0) == ()
    with pytest.raises(KeyError):
        chosen.assignment_of("nobody")
    assert msgspec.json.decode(msgspec.json.encode(chosen), type=Plan) == chosen
