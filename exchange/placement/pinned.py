"""Every thread bound to one processing unit, chosen by the planner.

What it buys: no migrations, caches that stay warm, and no two busy-spinning threads on the two halves of
one core. What it costs: the kernel can no longer get out of the way. A pinned thread whose core is wanted
by something else waits, where an unpinned one would have moved; that is why a core is kept for the OS.
"""

from collections.abc import Sequence

from exchange.placement.planner import assign_units, explain, explain_plan
from exchange.placement.protocol import Assignment, Plan, ThreadDescription, check_names
from exchange.placement.topology import Topology


def plan_pinned(
    topology: Topology,
    threads: Sequence[ThreadDescription],
    *,
    reserve_os_core: bool,
    avoid_smt_siblings: bool,
    spread_shards: bool = False,
) -> Plan:
    """A processing unit for every thread. Raises ValueError where two threads have one name."""
    check_names(threads)
    seating = assign_units(topology, threads, reserve_os_core, avoid_smt_siblings, spread_shards)
    assignments = []
    for thread in threads:
        core = seating.core_of(thread)
        assignments.append(
            Assignment(
                thread=thread.name,
                processing_unit=seating.unit_of[thread.name],
                core_index=core.index,
                memory_node=core.numa_node,
                reason=explain(seating, thread),
                is_this_machine=topology.is_this_machine,
                agents=thread.agents,
            )
        )
    notes, warnings = explain_plan(seating, reserve_os_core)
    return Plan(
        kind="pinned",
        topology_source=topology.source,
        is_this_machine=topology.is_this_machine,
        assignments=tuple(assignments),
        os_core_index=seating.os_core.index if seating.os_core else None,
        notes=notes,
        warnings=warnings,
    )
