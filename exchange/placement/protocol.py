"""What a placement is: the contract that every variant keeps, and the words it is told in.

A variant is a *pure* function ``(topology, threads) -> Plan``. It reads nothing but its arguments, so
that the same question always has the same answer and a machine that nobody owns can be asked about.
Nothing is bound by planning: each thread binds itself, at its start, with
:func:`exchange.placement.apply_to_current_thread`.

Promises of every variant (``tests/contract/test_placement_contract.py``):

* one assignment for each thread, in the order given, whatever the machine: few cores are a warning, not
  an error;
* a processing unit that is assigned exists and is allowed; None leaves the thread to the operating system;
* every assignment says why, in words that a student can read.
"""

from collections.abc import Callable, Sequence

import msgspec

from exchange.placement.topology import Topology, count_noun


def has_shard(agents: Sequence[str]) -> bool:
    """Whether a shard is among the agents of those names."""
    return any(agent == "shard" or agent.startswith("shard.") for agent in agents)


class ThreadDescription(msgspec.Struct, frozen=True):
    """What a plan must know of a thread.

    ``agents`` are the names of the agents that it runs (``"ingress"``, ``"shard.0"``, ``"egress"``),
    empty for helpers such as a load generator. ``busy_spins``: it never sleeps, so that it uses all of a
    core whether or not there is work (idle kinds ``busy-spin`` and ``spin-then-yield``).
    """

    name: str
    agents: tuple[str, ...] = ()
    busy_spins: bool = True

    @property
    def runs_shard(self) -> bool:
        """Whether an order book lives on this thread."""
        return has_shard(self.agents)

    @property
    def runs_gateway(self) -> bool:
        """Whether the commands come in, or the events go out, on this thread."""
        return any(agent.partition(".")[0] in ("ingress", "egress") for agent in self.agents)


class Assignment(msgspec.Struct, frozen=True):
    """Where one thread runs, and why.

    ``processing_unit`` is an OS index, ``core_index`` an index into ``Topology.cores``, ``memory_node``
    the OS index of the NUMA node where the thread's queues and books belong; all None where the choice is
    left to the operating system. ``is_this_machine`` False forbids binding.

    ``agents`` are those of the thread. ``memory_nodes`` is where their memory is placed: one node, or several of
    which each gives pages in turn; none where every page goes to the node of whoever writes it first.
    """

    thread: str
    processing_unit: int | None
    core_index: int | None
    memory_node: int | None
    reason: str
    is_this_machine: bool
    agents: tuple[str, ...] = ()
    memory_nodes: tuple[int, ...] = ()

    @property
    def runs_shard(self) -> bool:
        """Whether an order book lives on its thread."""
        return has_shard(self.agents)


class Plan(msgspec.Struct, frozen=True):
    """All assignments, in the order of the threads.

    ``os_core_index`` is the core that no busy-spinning thread was put on, None where none could be kept.
    ``notes`` explain the plan; ``warnings`` are what will make it slow.
    """

    kind: str
    topology_source: str
    is_this_machine: bool
    assignments: tuple[Assignment, ...]
    os_core_index: int | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def assignment_of(self, thread: str) -> Assignment:
        """The assignment of a thread by its name. Raises KeyError."""
        for assignment in self.assignments:
            if assignment.thread == thread:
                return assignment
        raise KeyError(thread)

    def threads_on(self, os_index: int) -> tuple[str, ...]:
        """The names of the threads that were put on a processing unit."""
        return tuple(found.thread for found in self.assignments if found.processing_unit == os_index)


type Placement = Callable[[Topology, Sequence[ThreadDescription]], Plan]
"""A variant with its settings already in it. Raises ValueError where two threads have one name."""


def check_names(threads: Sequence[ThreadDescription]) -> None:
    """Refuse two threads of one name: an assignment is looked up by it. Raises ValueError."""
    names = [thread.name for thread in threads]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two threads are named {name!r}")


def common_notes(topology: Topology) -> tuple[str, ...]:
    """What is to be said of any plan on this topology."""
    units = topology.processing_units
    notes = list(topology.notes)
    if not topology.is_this_machine:
        notes.append("planned for a machine that is not this one: nothing will be bound")
    forbidden = sum(not unit.is_allowed for unit in units)
    if forbidden:
        notes.append(
            f"{forbidden} of {len(units)} processing units are closed to this process and stay unused"
        )
    return tuple(notes)


def crowding_warning(topology: Topology, threads: Sequence[ThreadDescription]) -> str | None:
    """What to say where more threads spin than there are cores, None where they do not."""
    spinning = [thread.name for thread in threads if thread.busy_spins]
    core_count = len(topology.usable_cores)
    if len(spinning) <= core_count:
        return None
    unit_count = sum(len(core.allowed_units) for core in topology.usable_cores)
    if len(spinning) <= unit_count:
        what = "some are SMT siblings, and each slows the other down"
    else:
        what = "they take turns, and whoever waits for its turn waits milliseconds"
    return (
        f"{len(spinning)} busy-spinning threads ({', '.join(spinning)}) on {count_noun(core_count, 'core')}: "
        f"{what}. Put more agents on one thread ([shards] threads) or let them sleep "
        '([idle] kind = "park")'
    )
