"""Which thread goes on which core: the rules of ``pinned``, in the order in which they give way.

1. A busy-spinning thread has a processing unit to itself, then a whole core to itself (its SMT sibling
   stays empty).
2. One core stays free of busy-spinning threads, for interrupts, the kernel and this process's own Python
   threads: the one with processing unit 0 where it may be used, since that is where Linux sends most
   interrupts.
3. Isolated cores (``isolcpus``) come before others, fast kinds of cores before slow ones.
4. All threads sit under one last-level cache, else in one NUMA node, else in one socket: a record
   passed from core to core costs least within a cache, several times more between sockets. With
   ``spread_shards``, shards are dealt out over the NUMA nodes instead, one here, one there, so that each
   has as much of a node's memory bandwidth and cache as can be; only the others sit together.

What gives way when cores are few: 4 first, then 2, then 1. Who loses first: threads that sleep when idle,
then helpers, then ingress and egress; a shard, whose book fills a core's cache, is the last to share. A
sleeping thread without a core goes where no thread spins, if there is such a place.

Pure and deterministic: no clock, no randomness, no dependence on hash order. The caller has made sure
that thread names are unique.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import groupby

from exchange.placement.protocol import ThreadDescription, common_notes, crowding_warning
from exchange.placement.topology import Core, ProcessingUnit, Topology, count_noun, format_cpu_list

type Quality = tuple[bool, int]
"""Smaller is better: (not isolated, minus the kind's rank)."""


class Seating:
    """Who sits where, while a plan is being made and explained."""

    def __init__(self, topology: Topology, threads: Sequence[ThreadDescription]) -> None:
        self.topology = topology
        self.threads = tuple(threads)
        self.os_core: Core | None = None
        self.unit_of: dict[str, int] = {}
        self.cores = {unit.os_index: core for core in topology.cores for unit in core.processing_units}
        self.cache_of = topology.last_level_caches()
        self._on_unit: dict[int, list[ThreadDescription]] = {}

    def seat(self, thread: ThreadDescription, unit: ProcessingUnit) -> None:
        """Put a thread on a processing unit."""
        self.unit_of[thread.name] = unit.os_index
        self._on_unit.setdefault(unit.os_index, []).append(thread)

    def core_of(self, thread: ThreadDescription) -> Core:
        """The core that a seated thread sits on."""
        return self.cores[self.unit_of[thread.name]]

    def on_unit(self, os_index: int) -> list[ThreadDescription]:
        """The threads on a processing unit, in the order in which they were seated."""
        return self._on_unit.get(os_index, [])

    def on_core(self, core: Core) -> list[ThreadDescription]:
        """The threads on all processing units of a core."""
        return [thread for unit in core.processing_units for thread in self.on_unit(unit.os_index)]

    def cache_domain(self, os_index: int) -> Hashable:
        """Equal for processing units that share both a NUMA node and a last-level cache."""
        cache = self.cache_of.get(os_index)
        return (self.cores[os_index].numa_node, cache.processing_units if cache else None)

    def quality(self, unit: ProcessingUnit) -> Quality:
        """How good a place a processing unit is, the machine's other threads aside."""
        return (not unit.is_isolated, -(self.cores[unit.os_index].performance_rank or 0))


def assign_units(
    topology: Topology,
    threads: Sequence[ThreadDescription],
    reserve_os_core: bool,
    avoid_smt_siblings: bool,
    spread_shards: bool = False,
) -> Seating:
    """Seat every thread on an allowed processing unit."""
    seating = Seating(topology, threads)
    cores = topology.usable_cores
    spinning_count = sum(thread.busy_spins for thread in threads)

    def places_of(some: Iterable[Core]) -> list[ProcessingUnit]:
        return [unit for core in some for unit in core.allowed_units[: 1 if avoid_smt_siblings else None]]

    if reserve_os_core and len(cores) > 1:
        # An isolated core would be wasted on the OS, which leaves it alone.
        candidate = min(cores, key=lambda core: min((u.is_isolated, u.os_index) for u in core.allowed_units))
        if spinning_count <= len(places_of(core for core in cores if core is not candidate)):
            seating.os_core = candidate
    places = places_of(core for core in cores if core is not seating.os_core)
    by_importance = sorted(threads, key=_importance)
    apart, crowded = by_importance[: len(places)], by_importance[len(places) :]
    if spread_shards:
        shards = [thread for thread in apart if thread.runs_shard]
        for thread, unit in zip(shards, _spread_places(seating, places, len(shards)), strict=True):
            seating.seat(thread, unit)
        apart = [thread for thread in apart if not thread.runs_shard]
        places = [unit for unit in places if not seating.on_unit(unit.os_index)]
    _seat_apart(seating, apart, places)
    for thread in crowded:
        _seat_where_it_harms_least(seating, thread)
    return seating


def _importance(thread: ThreadDescription) -> tuple[bool, int]:
    """Smaller keeps a core of its own for longer."""
    return (not thread.busy_spins, 0 if thread.runs_shard else 1 if thread.runs_gateway else 2)


def _flow_order(thread: ThreadDescription) -> int:
    """Gateways first: every shard talks to them and not to one another, so they belong in the largest
    group."""
    return 0 if thread.runs_gateway else 1 if thread.runs_shard else 2


def _seat_apart(seating: Seating, threads: Sequence[ThreadDescription], places: list[ProcessingUnit]) -> None:
    """A place of its own for each thread, the more important on the better kind, all as close as can be."""
    chosen = _closest_places(seating, places, len(threads))
    waiting = list(threads)
    for _, run in groupby(chosen, key=seating.quality):
        alike = list(run)
        taken, waiting = waiting[: len(alike)], waiting[len(alike) :]
        for thread, unit in zip(sorted(taken, key=_flow_order), alike, strict=True):
            seating.seat(thread, unit)


def _closest_places(seating: Seating, places: list[ProcessingUnit], count: int) -> list[ProcessingUnit]:
    """The ``count`` places to use, best kind first and, within a kind, group by group.

    The smallest domain (cache, NUMA node, socket, machine) with enough places of good enough kinds is
    taken; where several are equally good, the first.
    """
    if count == 0:
        return []
    candidates: list[ProcessingUnit] = []
    for _, kind in groupby(sorted(places, key=seating.quality), key=seating.quality):
        candidates.extend(kind)
        if len(candidates) >= count:
            break
    position = {unit.os_index: number for number, unit in enumerate(places)}
    candidates.sort(key=lambda unit: position[unit.os_index])

    def cache_domain(unit: ProcessingUnit) -> Hashable:
        return seating.cache_domain(unit.os_index)

    def numa_domain(unit: ProcessingUnit) -> Hashable:
        return seating.cores[unit.os_index].numa_node

    def socket_domain(unit: ProcessingUnit) -> Hashable:
        return seating.cores[unit.os_index].socket_index

    for domain in (cache_domain, numa_domain, socket_domain):
        large_enough = [group for group in _groups(candidates, domain) if len(group) >= count]
        if large_enough:
            candidates = min(large_enough, key=lambda group: sorted(map(seating.quality, group))[:count])
            break
    # Larger groups first, so that as few groups as possible are opened.
    node_rank = _rank_by_size(candidates, numa_domain)
    cache_rank = _rank_by_size(candidates, cache_domain)
    return sorted(
        candidates,
        key=lambda unit: (
            seating.quality(unit),
            node_rank[numa_domain(unit)],
            cache_rank[cache_domain(unit)],
            position[unit.os_index],
        ),
    )[:count]


def _spread_places(seating: Seating, places: list[ProcessingUnit], count: int) -> list[ProcessingUnit]:
    """The ``count`` places to use, best kind first and, within a kind, from each NUMA node in turn."""
    nodes = _groups(places, lambda unit: seating.cores[unit.os_index].numa_node)
    nodes.sort(key=len, reverse=True)
    dealt = [
        (seating.quality(unit), round_, number, unit)
        for number, node in enumerate(nodes)
        for _, kind in groupby(sorted(node, key=seating.quality), key=seating.quality)
        for round_, unit in enumerate(kind)
    ]
    return [unit for *_, unit in sorted(dealt, key=lambda row: row[:3])[:count]]


def _groups(
    units: Iterable[ProcessingUnit], domain: Callable[[ProcessingUnit], Hashable]
) -> list[list[ProcessingUnit]]:
    """The units, grouped, groups in the order of their first unit."""
    groups: dict[Hashable, list[ProcessingUnit]] = {}
    for unit in units:
        groups.setdefault(domain(unit), []).append(unit)
    return list(groups.values())


def _rank_by_size(
    units: Iterable[ProcessingUnit], domain: Callable[[ProcessingUnit], Hashable]
) -> dict[Hashable, int]:
    """0 for the domain with the most units, and so on; equals in the order of their first unit."""
    largest_first = sorted(_groups(units, domain), key=len, reverse=True)
    return {domain(group[0]): rank for rank, group in enumerate(largest_first)}


def _seat_where_it_harms_least(seating: Seating, thread: ThreadDescription) -> None:
    """A place for a thread for which no place is left: an empty unit before a shared one, quiet before
    busy."""

    def harm(unit: ProcessingUnit) -> tuple[int, int, bool, int, int, bool, Quality]:
        on_unit = seating.on_unit(unit.os_index)
        on_core = seating.on_core(seating.cores[unit.os_index])
        return (
            sum(other.busy_spins for other in on_unit),
            len(on_unit),
            any(other.runs_shard for other in on_unit),
            sum(other.busy_spins for other in on_core),
            len(on_core),
            any(other.runs_shard for other in on_core),
            seating.quality(unit),
        )

    allowed = [unit for unit in seating.topology.processing_units if unit.is_allowed]
    seating.seat(thread, min(allowed, key=harm))


def explain(seating: Seating, thread: ThreadDescription) -> str:
    """Why a thread sits where it sits, in words."""
    core = seating.core_of(thread)
    unit = next(u for u in core.processing_units if u.os_index == seating.unit_of[thread.name])
    same_unit = [other.name for other in seating.on_unit(unit.os_index) if other is not thread]
    same_core = [other.name for other in seating.on_core(core) if other is not thread]
    siblings = [u.os_index for u in core.processing_units if u is not unit]
    if same_unit:
        sleeps = not any(other.busy_spins for other in seating.on_unit(unit.os_index))
        why = "it sleeps when idle, as they do" if sleeps else "none was free"
        parts = [f"shares processing unit {unit.os_index} with {_names(same_unit)}: {why}"]
    elif same_core:
        parts = [f"shares core {core.index} with {_names(same_core)} on its SMT sibling"]
    elif siblings:
        parts = [f"a core of its own; SMT sibling {format_cpu_list(siblings)} stays empty"]
    else:
        parts = ["a core of its own"]
    if core is seating.os_core:
        parts.append("the OS's core, where no thread spins")
    if unit.is_isolated:
        parts.append("isolated from the kernel's scheduler")
    ranks = {other.performance_rank for other in seating.topology.cores}
    if len(ranks) > 1:
        fastest = max(rank or 0 for rank in ranks)
        parts.append("a fast core" if core.performance_rank == fastest else "a slow core")
    parts.extend(_explain_neighbours(seating, thread, core, unit.os_index))
    return "; ".join(parts)


def _explain_neighbours(
    seating: Seating, thread: ThreadDescription, core: Core, os_index: int
) -> Iterable[str]:
    """How far it is to the threads that this one exchanges records with, nearest first."""
    cache = seating.cache_of.get(os_index)
    same_cache = f"shares L{cache.level} with" if cache else ""
    near: dict[str, list[str]] = {same_cache: [], "same NUMA node as": [], "far from": []}
    for other in seating.threads:
        talks = other.runs_gateway if not thread.runs_gateway else not other.runs_gateway
        if other is thread or not talks:
            continue
        other_core = seating.core_of(other)
        if other_core is core:
            continue  # said already
        if other_core.numa_node != core.numa_node:
            near["far from"].append(f"{other.name} (NUMA node {other_core.numa_node})")
        elif cache and seating.unit_of[other.name] in cache.processing_units:
            near[same_cache].append(other.name)
        else:
            near["same NUMA node as"].append(other.name)
    return [f"{words} {_names(names)}" for words, names in near.items() if names]


def explain_plan(seating: Seating, reserve_os_core: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes and warnings on the plan as a whole."""
    notes = list(common_notes(seating.topology))
    warnings: list[str] = []
    spinning = [thread for thread in seating.threads if thread.busy_spins]
    crowded = crowding_warning(seating.topology, seating.threads)
    if crowded:
        warnings.append(crowded)
    if seating.os_core is not None:
        units = format_cpu_list(unit.os_index for unit in seating.os_core.processing_units)
        guests = [thread.name for thread in seating.on_core(seating.os_core)]
        notes.append(
            f"core {seating.os_core.index} (processing unit {units}) is kept for the OS, its interrupts and "
            "the exchange's own Python threads"
            + (f"; there too, asleep when idle: {_names(guests)}" if guests else "")
        )
    elif reserve_os_core and spinning:
        spinners = count_noun(len(spinning), "busy-spinning thread")
        cores = count_noun(len(seating.topology.usable_cores), "core")
        warnings.append(
            f"no core could be kept for the OS: {spinners}, {cores}; the kernel and Python's own threads "
            "will interrupt the pinned ones"
        )
    warnings.extend(_sharing_warnings(seating))
    nodes = sorted({seating.core_of(thread).numa_node for thread in seating.threads})
    if len(nodes) > 1:
        warnings.append(
            f"the threads span NUMA nodes {format_cpu_list(nodes)}: a record that crosses costs several "
            "times more"
        )
    return tuple(notes), tuple(warnings)


def _sharing_warnings(seating: Seating) -> Iterable[str]:
    """One warning for each processing unit, and each core, that a busy-spinning thread must share."""
    for core in seating.topology.cores:
        for unit in core.processing_units:
            together = seating.on_unit(unit.os_index)
            if len(together) > 1 and any(thread.busy_spins for thread in together):
                yield (
                    f"{_names([thread.name for thread in together])} share processing unit {unit.os_index}: "
                    "while one runs the others wait"
                )
        halves = [seating.on_unit(unit.os_index) for unit in core.processing_units]
        spinning = [half for half in halves if any(thread.busy_spins for thread in half)]
        if len(spinning) > 1:
            names = [thread.name for half in spinning for thread in half]
            yield f"{_names(names)} spin on SMT siblings of core {core.index}: each slows the other down"


def _names(names: Sequence[str]) -> str:
    """``a, b and c``; long lists are cut."""
    shown = list(names[:4]) + ([f"{len(names) - 4} more"] if len(names) > 4 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
