"""The planner on machines of every shape: nothing that it must never do, whatever the threads."""

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exchange.placement import NonePlacement, PinnedPlacement, Plan, ThreadDescription, Topology, plan
from exchange.placement.drawing import draw_svg, draw_text, nest
from exchange.placement.topology import read_synthetic

few = st.sampled_from([1, 1, 1, 2, 3])  # mostly small machines, where places run out


@st.composite
def topologies(draw: st.DrawFn, *, alike: bool = False) -> Topology:
    """A machine of one core or of many, some of them closed or isolated, some cores faster than
    others."""
    sockets, nodes, caches = draw(few), draw(few), draw(few)
    cores, units = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 2, 4]))
    unit_count = sockets * nodes * caches * cores * units
    assume(unit_count <= 64)
    numbering = (
        draw(st.sampled_from(["", "(indexes=core:pu)", "(indexes=pu:core)"])) if units * cores > 1 else ""
    )
    topology = read_synthetic(f"pack:{sockets} node:{nodes} l3:{caches} core:{cores} pu:{units}{numbering}")
    everything = [unit.os_index for unit in topology.processing_units]
    closed = set(draw(st.lists(st.sampled_from(everything), max_size=3)))
    assume(len(closed) < len(everything))
    count = 0 if alike else 3
    isolated = set(draw(st.lists(st.sampled_from(everything), max_size=count)))
    slow = set(draw(st.lists(st.integers(0, len(topology.cores) - 1), max_size=count)))
    replace = msgspec.structs.replace
    changed = []
    for core in topology.cores:
        marked = tuple(
            replace(unit, is_allowed=unit.os_index not in closed, is_isolated=unit.os_index in isolated)
            for unit in core.processing_units
        )
        changed.append(replace(core, processing_units=marked, performance_rank=int(core.index not in slow)))
    return replace(topology, cores=tuple(changed))


@st.composite
def thread_lists(draw: st.DrawFn) -> tuple[ThreadDescription, ...]:
    agents = st.lists(
        st.sampled_from(["ingress", "ingress.1", "shard.0", "shard.1", "egress"]), max_size=3, unique=True
    )
    count = draw(st.integers(0, 12))
    described = draw(st.lists(st.tuples(agents, st.booleans()), min_size=count, max_size=count))
    return tuple(
        ThreadDescription(f"thread {number}", tuple(names), spins)
        for number, (names, spins) in enumerate(described)
    )


configs = st.builds(PinnedPlacement, reserve_os_core=st.booleans(), avoid_smt_siblings=st.booleans())


def spinning_on(chosen: Plan, threads: tuple[ThreadDescription, ...]) -> list[tuple[int, int]]:
    """Processing unit and core of every busy-spinning thread."""
    names = {thread.name for thread in threads if thread.busy_spins}
    return [
        (found.processing_unit, found.core_index)
        for found in chosen.assignments
        if found.thread in names and found.processing_unit is not None and found.core_index is not None
    ]


@settings(max_examples=300, deadline=None)
@given(topologies(), thread_lists(), configs)
def test_rules_that_hold_on_every_machine(
    topology: Topology, threads: tuple[ThreadDescription, ...], config: PinnedPlacement
) -> None:
    chosen = plan(topology, threads, config)
    allowed = {
        unit.os_index: topology.cores[unit.core_index]
        for unit in topology.processing_units
        if unit.is_allowed
    }
    used = [found.processing_unit for found in chosen.assignments]
    assert all(unit in allowed for unit in used)
    if len(threads) <= len(allowed):
        assert len(set(used)) == len(used), "two threads on one unit while another was free"
    counts = [used.count(unit) for unit in allowed]
    spinning = spinning_on(chosen, threads)
    if len(spinning) == len(threads):
        assert max(counts) - min(counts) <= 1 or len(threads) <= len(allowed), "unevenly spread"
    core_count = len(topology.usable_cores)
    if config.avoid_smt_siblings and len(threads) <= core_count:
        assert len({found.core_index for found in chosen.assignments}) == len(threads), "siblings shared"
    if config.avoid_smt_siblings and len(spinning) <= core_count:
        assert len({core for _, core in spinning}) == len(spinning), "spinning siblings"


@settings(max_examples=300, deadline=None)
@given(topologies(), thread_lists(), configs)
def test_the_core_for_the_os_is_kept_whenever_there_is_one_to_spare(
    topology: Topology, threads: tuple[ThreadDescription, ...], config: PinnedPlacement
) -> None:
    chosen = plan(topology, threads, config)
    spinning = spinning_on(chosen, threads)
    if chosen.os_core_index is not None:
        assert config.reserve_os_core
        assert chosen.os_core_index not in {core for _, core in spinning}
    to_spare = len(topology.usable_cores) > max(1, len(spinning))
    assert (chosen.os_core_index is not None) >= (config.reserve_os_core and to_spare)
    if not config.reserve_os_core:
        assert chosen.os_core_index is None


@settings(max_examples=200, deadline=None)
@given(topologies(alike=True), thread_lists(), st.booleans())
def test_a_plan_stays_under_one_cache_or_in_one_node_where_it_can(
    topology: Topology, threads: tuple[ThreadDescription, ...], reserve_os_core: bool
) -> None:
    threads = threads[: len(topology.usable_cores) - reserve_os_core]
    chosen = plan(topology, threads, PinnedPlacement(reserve_os_core=reserve_os_core))
    free = [core for core in topology.usable_cores if core.index != chosen.os_core_index]
    caches = topology.last_level_caches()
    cache_of = {
        core.index: caches[core.processing_units[0].os_index].processing_units for core in topology.cores
    }
    node_of = {core.index: core.numa_node for core in topology.cores}
    for group_of in (cache_of, node_of):
        groups = [group_of[core.index] for core in free]
        if any(groups.count(group) >= len(threads) for group in set(groups)):
            used = {found.core_index for found in chosen.assignments}
            assert len({group_of[core] for core in used if core is not None}) <= 1


@settings(max_examples=150, deadline=None)
@given(topologies(), thread_lists(), configs)
def test_sharing_is_warned_about_exactly_when_a_spinning_thread_shares(
    topology: Topology, threads: tuple[ThreadDescription, ...], config: PinnedPlacement
) -> None:
    chosen = plan(topology, threads, config)
    spinning = spinning_on(chosen, threads)
    used = [found.processing_unit for found in chosen.assignments]
    shared = [unit for unit, _ in spinning if used.count(unit) > 1]
    assert bool(shared) == any("share processing unit" in warning for warning in chosen.warnings)
    cores = [core for _, core in {(unit, core) for unit, core in spinning}]
    assert (len(set(cores)) < len(cores)) == any("SMT siblings of core" in w for w in chosen.warnings)


@settings(max_examples=100, deadline=None)
@given(topologies(), thread_lists(), configs | st.just(NonePlacement()))
def test_plans_do_not_depend_on_anything_else_and_every_one_can_be_drawn(
    topology: Topology, threads: tuple[ThreadDescription, ...], config: PinnedPlacement | NonePlacement
) -> None:
    import xml.etree.ElementTree as ElementTree

    chosen = plan(topology, threads, config)
    assert plan(topology, list(threads), config) == chosen
    text = draw_text(topology, chosen)
    for found in chosen.assignments:
        assert found.thread in text
    ElementTree.fromstring(draw_svg(topology, chosen, threads))
    boxes, cores = [nest(topology)], []
    while boxes:
        box = boxes.pop()
        boxes.extend(box.boxes)
        cores.extend(core.index for core in box.cores)
    assert sorted(cores) == [core.index for core in topology.cores], "each core is drawn once"
