"""Where threads run and memory lives.

A plan is made first and bound second. Making it is pure (``plan(topology, threads, config)``: a machine
and a list of threads in, a processing unit and a reason for each thread out), so that plans are tested,
printed and drawn for machines that are not here. Binding is one call that each thread makes for itself
when it starts.

The variants: ``none`` leaves everything to the operating system, ``pinned`` gives every thread a
processing unit, and ``numa`` places its memory as well. Memory is placed when it is made, by
:mod:`exchange.placement.memory_owners`, which knows for whom; where it then lies, the kernel says
(:mod:`exchange.placement.memory_nodes`), of a running exchange too (:mod:`exchange.placement.running`).

Importing this package is cheap: hwloc is loaded when a topology is first read.
"""

import os
import threading
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct

from exchange.errors import UserError
from exchange.placement.protocol import Assignment, Placement, Plan, ThreadDescription
from exchange.placement.topology import Topology, format_cpu_list, load_topology

__all__ = [
    "Assignment",
    "NonePlacement",
    "NumaPlacement",
    "PinnedPlacement",
    "Placement",
    "PlacementConfig",
    "Plan",
    "ThreadDescription",
    "Topology",
    "apply_to_current_thread",
    "build_placement",
    "load_topology",
    "plan",
    "restore",
]


class NonePlacement(Struct, frozen=True, tag_field="kind", tag="none", forbid_unknown_fields=True):
    """Every thread is left to the operating system, which may move it at any time."""


ReserveOsCore = Annotated[
    bool, Meta(description="keep one core free of busy-spinning threads where there is one to spare")
]
AvoidSmtSiblings = Annotated[
    bool, Meta(description="give each thread a whole core as far as the cores go; false fills both halves")
]


class PinnedPlacement(Struct, frozen=True, tag_field="kind", tag="pinned", forbid_unknown_fields=True):
    """Every thread is bound to one processing unit, chosen from the machine's topology."""

    reserve_os_core: ReserveOsCore = True
    avoid_smt_siblings: AvoidSmtSiblings = True


class NumaPlacement(Struct, frozen=True, tag_field="kind", tag="numa", forbid_unknown_fields=True):
    """Every thread is bound as by ``pinned``, and its memory is placed on a NUMA node."""

    reserve_os_core: ReserveOsCore = True
    avoid_smt_siblings: AvoidSmtSiblings = True
    spread_shards: Annotated[
        bool,
        Meta(
            description="deal the shards out over the NUMA nodes; false keeps all threads as close as can be"
        ),
    ] = False
    memory: Annotated[
        Literal["local", "interleave", "wrong-node"],
        Meta(
            description="of each thread on its own node, over all nodes page by page, or on the farthest one;"
            " the last two are for comparison"
        ),
    ] = "local"


type PlacementConfig = NonePlacement | PinnedPlacement | NumaPlacement


def build_placement(config: PlacementConfig) -> Placement:
    """The planner of the chosen variant."""
    match config:
        case NonePlacement():
            from exchange.placement.none import plan_none

            return plan_none
        case PinnedPlacement():
            from exchange.placement.pinned import plan_pinned

            return partial(
                plan_pinned,
                reserve_os_core=config.reserve_os_core,
                avoid_smt_siblings=config.avoid_smt_siblings,
            )
        case NumaPlacement():
            from exchange.placement.numa import plan_numa

            return partial(
                plan_numa,
                reserve_os_core=config.reserve_os_core,
                avoid_smt_siblings=config.avoid_smt_siblings,
                spread_shards=config.spread_shards,
                memory=config.memory,
            )
        case _:
            assert_never(config)


def plan(topology: Topology, threads: Sequence[ThreadDescription], config: PlacementConfig) -> Plan:
    """Decide where each thread runs; nothing is bound. Raises ValueError where two threads have one name."""
    return build_placement(config)(topology, threads)


def apply_to_current_thread(assignment: Assignment) -> frozenset[int] | None:
    """Bind the calling thread as its assignment says; a thread calls this itself, first thing.

    Returns the processing units that the thread could use before, for :func:`restore`, or None where
    nothing was bound because the assignment leaves the thread to the OS. Threads started by a bound
    thread inherit its binding: start them from one that is not bound.

    Raises UserError where the plan was made for another machine, or where the kernel refuses.
    """
    unit = assignment.processing_unit
    if unit is None:
        return None
    if not assignment.is_this_machine:
        raise UserError(
            f"placement: thread {assignment.thread!r} was planned for another machine; only a plan made from "
            "this machine's topology can be bound"
        )
    native_id = threading.get_native_id()
    before = frozenset(os.sched_getaffinity(native_id))
    try:
        os.sched_setaffinity(native_id, {unit})
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"placement: the kernel refused to bind thread {assignment.thread!r} to processing unit {unit} "
            f"({error}); this thread may use {format_cpu_list(before)}: widen the container's cpuset, or set "
            '[placement] kind = "none"'
        ) from error
    return before


def restore(before: frozenset[int] | None) -> None:
    """Give the calling thread back what :func:`apply_to_current_thread` returned; None does nothing."""
    if before is not None:
        os.sched_setaffinity(threading.get_native_id(), before)
