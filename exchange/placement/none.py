"""No placement: every thread is left to the operating system.

The baseline that ``pinned`` is compared with, and the right choice for a machine that does other work as
well. The kernel's scheduler then moves a thread whenever it thinks fit; each move costs the thread its
warm L1 and L2 and shows as a *core migration* in the benchmark's report.
"""

from collections.abc import Sequence

from exchange.placement.protocol import (
    Assignment,
    Plan,
    ThreadDescription,
    check_names,
    common_notes,
    crowding_warning,
)
from exchange.placement.topology import Topology


def plan_none(topology: Topology, threads: Sequence[ThreadDescription]) -> Plan:
    """Leave all of them alone. Raises ValueError where two threads have one name."""
    check_names(threads)
    allowed = sum(unit.is_allowed for unit in topology.processing_units)
    warning = crowding_warning(topology, threads)
    return Plan(
        kind="none",
        topology_source=topology.source,
        is_this_machine=topology.is_this_machine,
        assignments=tuple(
            Assignment(
                thread=thread.name,
                processing_unit=None,
                core_index=None,
                memory_node=None,
                reason=f"left to the OS, which may move it between {allowed} processing units at any time",
                is_this_machine=topology.is_this_machine,
                agents=thread.agents,
            )
            for thread in threads
        ),
        notes=common_notes(topology),
        warnings=(warning,) if warning else (),
    )
