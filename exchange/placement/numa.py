"""Threads bound as ``pinned`` binds them, and the memory of each on a NUMA node that is named.

Where a machine has several nodes, ``pinned`` gets most of this by luck: a thread that is bound before it touches its
book has the book near. What others touch first is elsewhere. The queues, the sessions and the book's tables are laid
out by the thread that builds the exchange, which sits anywhere, and what it wrote to stays where it was then. Here
memory is placed before anybody writes to it.

Three ways to place it, of which two are for the lesson:

* ``local``: on the node of the thread whose memory it is.
* ``interleave``: page by page over all nodes in turn, so that everybody is near to some and far from the rest. It is
  what one does with memory that all nodes use alike.
* ``wrong-node``: on the node that is farthest from the thread, so that every miss of its caches crosses the machine.

Which nodes count: those with memory that this process may use. If two or more of them have cores, only those do, for
what hangs on a node without cores (memory behind CXL, a graphics card's) is no place for a book. A thread on a node
without memory of its own gets the nearest that has some. With one node left there is nothing to choose: no memory is
placed, and the plan says so.

Pure and deterministic, as the planner is. Sources: numa(7), numactl(8); Drepper, "What Every Programmer Should Know
About Memory" (2007), section 5."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from exchange.placement.pinned import plan_pinned
from exchange.placement.protocol import Assignment, Plan, ThreadDescription
from exchange.placement.topology import NumaNode, Topology, format_cpu_list

type MemoryChoice = Literal["local", "interleave", "wrong-node"]


class _Where(NamedTuple):
    """Where a thread's memory is placed, and why."""

    nodes: tuple[int, ...]
    reason: str


def plan_numa(
    topology: Topology,
    threads: Sequence[ThreadDescription],
    *,
    reserve_os_core: bool,
    avoid_smt_siblings: bool,
    spread_shards: bool,
    memory: MemoryChoice,
) -> Plan:
    """A processing unit for every thread and nodes for its memory. Raises ValueError where two have one name."""
    pinned = plan_pinned(
        topology,
        threads,
        reserve_os_core=reserve_os_core,
        avoid_smt_siblings=avoid_smt_siblings,
        spread_shards=spread_shards,
    )
    nodes = places_for_memory(topology)
    assignments = tuple(_with_memory(topology, nodes, one, memory) for one in pinned.assignments)
    notes, warnings = pinned.notes, pinned.warnings
    if len(nodes) < 2:
        warnings += (
            f"all memory that this process may use is on one NUMA node ({nodes[0].os_index}): nothing is placed, and"
            " numa is the same as pinned here",
        )
    elif memory != "local":
        warnings += (
            f"placement.memory = {memory}: no thread has its memory on its own node alone; for comparison with local",
        )
    return msgspec.structs.replace(
        pinned, kind="numa", assignments=assignments, notes=notes, warnings=warnings
    )


def places_for_memory(topology: Topology) -> tuple[NumaNode, ...]:
    """The nodes that memory may be placed on, at least one."""
    allowed = [node for node in topology.numa_nodes if node.is_allowed] or list(topology.numa_nodes)
    # Where nobody tells how much memory the nodes have, all of them have some.
    filled = [node for node in allowed if node.memory_bytes > 0] or allowed
    with_cores = [node for node in filled if node.processing_units]
    return tuple(with_cores if len(with_cores) > 1 else filled)


def distance_key(topology: Topology, first: int, second: int) -> tuple[int, int]:
    """How far two nodes are apart, to be compared: the firmware's number, else the same node, socket or machine."""
    told = topology.node_distance(first, second)
    if told is not None:
        return told, second
    sockets = [_sockets_of(topology, node) for node in (first, second)]
    return 0 if first == second else 1 if sockets[0] & sockets[1] else 2, second


def _sockets_of(topology: Topology, os_index: int) -> set[int]:
    """The sockets that a node's cores are in."""
    return {core.socket_index for core in topology.cores if core.numa_node == os_index}


def _with_memory(
    topology: Topology, nodes: Sequence[NumaNode], pinned: Assignment, memory: MemoryChoice
) -> Assignment:
    """An assignment of ``pinned`` with the place of the thread's memory."""
    assert pinned.core_index is not None
    here = topology.cores[pinned.core_index].numa_node
    home = min((node.os_index for node in nodes), key=lambda node: distance_key(topology, here, node))
    where = _choose(topology, [node.os_index for node in nodes], here, home, memory)
    return msgspec.structs.replace(
        pinned,
        memory_node=home,
        memory_nodes=where.nodes,
        reason="; ".join(filter(None, (pinned.reason, where.reason))),
    )


def _choose(topology: Topology, nodes: list[int], here: int, home: int, memory: MemoryChoice) -> _Where:
    near = "" if home == here else f"the nearest with memory to node {here}, which has none for us"
    if len(nodes) < 2:
        return _Where((), near and f"memory on node {home}, {near}")
    match memory:
        case "local":
            return _Where((home,), f"memory on node {home}, {near or 'its own'}")
        case "interleave":
            spread = tuple(sorted(nodes))
            return _Where(spread, f"memory page by page over nodes {format_cpu_list(spread)}")
        case "wrong-node":
            far = max(
                (node for node in nodes if node != home), key=lambda node: distance_key(topology, here, node)
            )
            told = topology.node_distance(here, far)
            distance = f", {told} away where {topology.node_distance(here, home)} is near" if told else ""
            return _Where((far,), f"memory on node {far}, the farthest{distance}")
