"""The machine as plain data: sockets, NUMA nodes, caches, cores, processing units.

A :class:`Topology` is read once and never changes; the planner and the drawings work on it alone, so that a
machine that is not here (64 cores, two sockets) can be planned for, tested with and drawn exactly as the one
that is.

Words (hwloc's, https://www.open-mpi.org/projects/hwloc/):

* *processing unit*: what the operating system schedules on and calls a CPU; named here by its OS index, the
  number that ``taskset`` and ``/proc`` use.
* *core*: one or more processing units (SMT siblings, "hyper-threads") that share execution units, L1 and L2.
  Named by its place in the machine's order, counted from 0.
* *NUMA node*: a bank of memory and the cores that are near it.

Three sources: this machine, an hwloc synthetic string (``"node:2 core:4 pu:2"``), an hwloc XML file (written
by ``lstopo machine.xml`` on any machine). hwloc itself is only loaded when a topology is read.

Invariants: every processing unit belongs to exactly one core; OS indexes are unique; ``is_this_machine`` is
True only for a topology that was read from the running kernel, and only such a plan may ever be bound.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from exchange.ending import ctrl_c_postponed
from exchange.errors import UserError

if TYPE_CHECKING:
    from pyhwloc.topology import Topology as HwlocTopology

MAX_PROCESSING_UNITS: Final = 4096
"""The largest machines have about 2,000; hwloc takes quadratic time beyond that."""

NODES_MAX: Final = 1024
"""Of NUMA nodes; the kernel's own limit."""

MAX_XML_BYTES: Final = 16 * 1024 * 1024
"""A 512-way machine's file is about 1 MB."""


class ProcessingUnit(msgspec.Struct, frozen=True):
    """One logical CPU. Not allowed: outside this process's cpuset. Isolated: in the kernel's ``isolcpus``."""

    os_index: int
    core_index: int
    is_allowed: bool = True
    is_isolated: bool = False


class Core(msgspec.Struct, frozen=True):
    """One core. ``performance_rank`` is larger for faster kinds, None where all are alike or unknown."""

    index: int
    socket_index: int
    numa_node: int
    processing_units: tuple[ProcessingUnit, ...]
    performance_rank: int | None = None

    @property
    def allowed_units(self) -> tuple[ProcessingUnit, ...]:
        """The processing units of this core that the process may use."""
        return tuple(unit for unit in self.processing_units if unit.is_allowed)


class Cache(msgspec.Struct, frozen=True):
    """One cache and the processing units that share it. ``size_bytes`` is 0 where it is unknown."""

    level: int
    size_bytes: int
    processing_units: tuple[int, ...]


class NumaNode(msgspec.Struct, frozen=True):
    """One bank of memory; ``processing_units`` is empty for a node that holds memory only.

    ``memory_bytes`` is 0 for a node that has none, and where that is not known. Not allowed: this process may have no
    memory there.
    """

    os_index: int
    memory_bytes: int
    processing_units: tuple[int, ...]
    is_allowed: bool = True


class Socket(msgspec.Struct, frozen=True):
    """One processor package."""

    index: int
    processing_units: tuple[int, ...]


class Topology(msgspec.Struct, frozen=True):
    """A machine. ``notes`` tells what a reader must know of how it was read, one sentence each.

    ``node_distances`` has a row for each of ``numa_nodes`` and in it a number for each, as firmware tells them: 10 is a
    node's distance to itself, 21 twice as far and a bit. It is empty where nobody tells.
    """

    source: str
    is_this_machine: bool
    sockets: tuple[Socket, ...]
    numa_nodes: tuple[NumaNode, ...]
    caches: tuple[Cache, ...]
    cores: tuple[Core, ...]
    notes: tuple[str, ...] = ()
    node_distances: tuple[tuple[int, ...], ...] = ()

    @property
    def processing_units(self) -> tuple[ProcessingUnit, ...]:
        """All processing units, core by core."""
        return tuple(unit for core in self.cores for unit in core.processing_units)

    @property
    def usable_cores(self) -> tuple[Core, ...]:
        """The cores that have at least one allowed processing unit."""
        return tuple(core for core in self.cores if core.allowed_units)

    def core_of(self, os_index: int) -> Core:
        """The core that holds a processing unit. Raises KeyError for an index that this machine has not."""
        for core in self.cores:
            if any(unit.os_index == os_index for unit in core.processing_units):
                return core
        raise KeyError(os_index)

    def last_level_caches(self) -> dict[int, Cache]:
        """For each processing unit (OS index) the largest cache above it; no entry where none is known."""
        found: dict[int, Cache] = {}
        for cache in sorted(self.caches, key=lambda cache: cache.level):
            for os_index in cache.processing_units:
                found[os_index] = cache
        return found

    def node_distance(self, first: int, second: int) -> int | None:
        """How far a node is from another, both by their OS index; None where nobody tells. Raises KeyError."""
        row, column = self._node_position(first), self._node_position(second)
        return self.node_distances[row][column] if self.node_distances else None

    def _node_position(self, os_index: int) -> int:
        for position, node in enumerate(self.numa_nodes):
            if node.os_index == os_index:
                return position
        raise KeyError(os_index)

    def summary(self) -> str:
        """One line: how many of everything."""
        units = self.processing_units
        parts = [
            count_noun(len(self.sockets), "socket"),
            count_noun(len(self.numa_nodes), "NUMA node"),
            count_noun(len(self.cores), "core"),
            count_noun(len(units), "processing unit"),
        ]
        allowed_count = sum(unit.is_allowed for unit in units)
        if allowed_count != len(units):
            parts.append(f"of which this process may use {allowed_count}")
        return ", ".join(parts)


def load_topology(source: str | None) -> Topology:
    """Read a topology from wherever ``source`` says. Raises UserError.

    None is this machine; the path of an existing file, or anything that ends in ``.xml``, is an hwloc XML
    file; any other text is an hwloc synthetic string.
    """
    if source is None:
        return read_this_machine()
    if source.endswith(".xml") or Path(source).is_file():
        return read_xml(source)
    return read_synthetic(source)


@ctrl_c_postponed()
def read_this_machine(system_root: Path = Path("/")) -> Topology:
    """The machine we run on, with what this process may not use marked so.

    Where hwloc does not load, the kernel's own files below ``system_root`` are read instead and ``notes``
    says so. Ctrl-C waits until it is done: hwloc ends the process when it has to close what was opened by half.
    """
    isolated = frozenset(read_cpu_list(system_root / "sys/devices/system/cpu/isolated"))
    affinity = frozenset(os.sched_getaffinity(os.getpid()))
    try:
        from pyhwloc.topology import Topology as HwlocTopology
        from pyhwloc.topology import TopologyFlags

        with HwlocTopology.from_this_system().set_flags(TopologyFlags.INCLUDE_DISALLOWED) as handle:
            parts = _parts_from_hwloc(handle)
            if not handle.is_this_system():  # HWLOC_XMLFILE or HWLOC_SYNTHETIC is set
                return _assemble(parts, "the machine that hwloc's environment variables name")
            permitted = frozenset(handle.allowed_cpuset)
            notes: tuple[str, ...] = ()
    except (ImportError, OSError, AttributeError, RuntimeError, ValueError) as error:
        parts = _parts_from_kernel_files(system_root / "sys/devices/system", sorted(affinity))
        permitted = frozenset(parts.unit_indexes)
        notes = (
            f"hwloc did not load ({error}): read from the kernel's files under /sys, so that kinds of cores "
            "are not known",
        )
    closed = {node.os_index for node in parts.numa_nodes} - _nodes_of_this_process(system_root)
    nodes = tuple(
        msgspec.structs.replace(node, is_allowed=node.os_index not in closed) for node in parts.numa_nodes
    )
    allowed = _usable(affinity, permitted, isolated)
    return _assemble(
        parts._replace(numa_nodes=nodes),
        "this machine",
        is_this_machine=True,
        allowed=allowed,
        isolated=isolated,
        notes=notes,
    )


@ctrl_c_postponed()
def read_synthetic(description: str) -> Topology:
    """The imagined machine of an hwloc synthetic string such as ``"pack:2 l3:2 core:4 pu:2"``.

    Raises UserError for a string that hwloc does not understand. The syntax is in the hwloc manual,
    "Synthetic topologies"; levels go from the outermost in.
    """
    what = f"synthetic topology {description!r}"
    # Counted before hwloc sees it: hwloc would build any size, in quadratic time. Attributes do not count.
    unit_count = 1
    for number in re.findall(r"(?<!\w)\d{1,9}", re.sub(r"\([^)]*\)|\[[^]]*\]", "", description)):
        unit_count *= int(number)
    if unit_count > MAX_PROCESSING_UNITS:
        raise UserError(f"{what}: {unit_count:,} processing units; at most {MAX_PROCESSING_UNITS:,}")
    hwloc_topology = _import_hwloc(what)
    try:
        with hwloc_topology.from_synthetic(description, load=True) as handle:
            return _assemble(_parts_from_hwloc(handle), f'synthetic "{description}"')
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(
            f"{what}: hwloc does not understand it; allowed: levels from the outermost in, the last one pu, "
            'as in "pack:2 node:1 l3:1 core:8 pu:2"'
        ) from error


def read_xml(path: str | Path) -> Topology:
    """The machine of an hwloc XML file. Raises UserError for a file that cannot be read or is not one."""
    what = f"topology file {path}"
    try:
        size_bytes = Path(path).stat().st_size
        if size_bytes > MAX_XML_BYTES:
            raise UserError(f"{what}: {size_bytes:,} bytes; at most {MAX_XML_BYTES:,}")
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{what}: {error.strerror or error}") from error
    except ValueError as error:  # not UTF-8, or a NUL in the name
        raise UserError(f"{what}: not an hwloc XML file ({error})") from error
    hwloc_topology = _import_hwloc(what)
    try:
        with hwloc_topology.from_xml_buffer(text, load=True) as handle:
            return _assemble(_parts_from_hwloc(handle), f"file {path}")
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(f"{what}: not an hwloc XML file; allowed: what `lstopo FILE.xml` writes") from error


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """``"0-2,8"`` to ``(0, 1, 2, 8)``, the form that the kernel's files use. Raises ValueError."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return tuple(found)


def format_cpu_list(os_indexes: Iterable[int]) -> str:
    """``{0, 1, 2, 8}`` to ``"0-2,8"``; ``"none"`` when there is none."""
    parts: list[str] = []
    run: list[int] = []
    for index in [*sorted(os_indexes), None]:
        if run and index != run[-1] + 1:
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
        if index is not None:
            run.append(index)
    return ",".join(parts) or "none"


def read_cpu_list(path: Path) -> tuple[int, ...]:
    """A kernel file that holds a CPU list; empty where the file is missing or says something else."""
    try:
        return parse_cpu_list(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return ()


class _Parts(NamedTuple):
    """What a source tells of a machine, before it is made consistent. Groups are tuples of OS indexes."""

    unit_indexes: list[int]
    core_groups: list[tuple[int, ...]]
    socket_groups: list[tuple[int, ...]]
    numa_nodes: tuple[NumaNode, ...]
    caches: tuple[Cache, ...]
    performance_ranks: dict[int, int]
    node_distances: tuple[tuple[int, ...], ...]


def _nodes_of_this_process(system_root: Path) -> frozenset[int]:
    """The nodes where the kernel lets this process have memory: its cpuset's ``mems``."""
    found = re.search(
        r"^Mems_allowed_list:\s*(\S+)", _read_text(system_root / "proc/self/status"), re.MULTILINE
    )
    try:
        return frozenset(parse_cpu_list(found[1])) if found else frozenset(range(NODES_MAX))
    except ValueError:
        return frozenset(range(NODES_MAX))


def _usable(affinity: frozenset[int], permitted: frozenset[int], isolated: frozenset[int]) -> frozenset[int]:
    """What the process may use: its affinity within its cpuset.

    The kernel's ``isolcpus`` takes cores out of every process's default mask although a thread may bind
    itself to them, and they are the best ones to bind to: a mask that lacks exactly those has lost nothing.
    """
    if isolated and affinity == permitted - isolated:
        return permitted
    return (affinity & permitted) or affinity


def _import_hwloc(what: str) -> "type[HwlocTopology]":
    try:
        from pyhwloc.topology import Topology as HwlocTopology
    except (ImportError, OSError, AttributeError) as error:
        raise UserError(f"{what}: needs hwloc, which did not load ({error}); pip install pyhwloc") from error
    return HwlocTopology


def _parts_from_hwloc(handle: "HwlocTopology") -> _Parts:
    """Copy what we need out of hwloc's tree, which is gone when its handle closes."""
    from pyhwloc.hwobject import Cache as HwlocCache
    from pyhwloc.hwobject import Object as HwlocObject
    from pyhwloc.hwobject import ObjType

    def units_of(thing: HwlocObject) -> tuple[int, ...]:
        return tuple(thing.cpuset) if thing.cpuset is not None else ()

    # The level is told by the type: pyhwloc 3.0's `cache_depth` reads another field than it should.
    data_cache_kinds = (
        ObjType.L1CACHE,
        ObjType.L2CACHE,
        ObjType.L3CACHE,
        ObjType.L4CACHE,
        ObjType.L5CACHE,
    )
    unit_indexes = [unit.os_index for unit in handle.iter_cpus()]
    if len(unit_indexes) > MAX_PROCESSING_UNITS:
        raise UserError(f"topology: {len(unit_indexes):,} processing units; at most {MAX_PROCESSING_UNITS:,}")
    ranks: dict[int, int] = {}
    kinds = handle.get_cpukinds()
    if kinds.n_kinds() > 1:
        for kind in range(kinds.n_kinds()):
            cpuset, efficiency, _ = kinds.get_info(kind)  # despite its name, larger means faster
            if efficiency >= 0:
                ranks.update(dict.fromkeys(cpuset, efficiency))
    return _Parts(
        unit_indexes=unit_indexes,
        core_groups=[units_of(thing) for thing in handle.iter_cores()],
        socket_groups=[units_of(thing) for thing in handle.iter_objs_by_type(ObjType.PACKAGE)],
        numa_nodes=tuple(
            NumaNode(node.os_index, node.local_memory, units_of(node)) for node in handle.iter_numa_nodes()
        ),
        caches=tuple(
            Cache(level, thing.size, units_of(thing))
            for level, kind in enumerate(data_cache_kinds, start=1)
            for thing in handle.iter_objs_by_type(kind)
            if isinstance(thing, HwlocCache)
        ),
        performance_ranks=ranks,
        node_distances=_distances_from_hwloc(handle),
    )


def _distances_from_hwloc(handle: "HwlocTopology") -> tuple[tuple[int, ...], ...]:
    """The nodes' distances as firmware tells them, in the order of the nodes; empty if it does not, or not of all."""
    nodes = [node.os_index for node in handle.iter_numa_nodes()]
    for matrix in handle.get_distances():
        if matrix.name == "NUMALatency" and [one.os_index for one in matrix.objects] == nodes:
            places = range(len(nodes))
            return tuple(tuple(int(matrix[row, column]) for column in places) for row in places)
    return ()


def _parts_from_kernel_files(system: Path, fallback_units: list[int]) -> _Parts:
    """This machine from ``/sys/devices/system`` (the kernel's admin-guide/cputopology), without hwloc."""
    unit_indexes = list(read_cpu_list(system / "cpu/online")) or fallback_units
    core_groups: dict[tuple[int, ...], None] = {}
    sockets: dict[str, list[int]] = {}
    caches: dict[tuple[int, tuple[int, ...]], Cache] = {}
    for index in unit_indexes:
        folder = system / f"cpu/cpu{index}"
        core_groups[read_cpu_list(folder / "topology/thread_siblings_list") or (index,)] = None
        sockets.setdefault(_read_text(folder / "topology/physical_package_id"), []).append(index)
        for cache_folder in sorted(folder.glob("cache/index[0-9]*")):
            shared = read_cpu_list(cache_folder / "shared_cpu_list")
            level = _read_text(cache_folder / "level")
            if level.isdigit() and shared and _read_text(cache_folder / "type") != "Instruction":
                size_bytes = _parse_kernel_size(_read_text(cache_folder / "size"))
                caches[int(level), shared] = Cache(int(level), size_bytes, shared)
    nodes, distances = [], []
    for node_index in read_cpu_list(system / "node/online"):
        folder = system / f"node/node{node_index}"
        found = re.search(r"MemTotal:\s+(\d+) kB", _read_text(folder / "meminfo"))
        memory_bytes = int(found[1]) * 1024 if found else 0
        nodes.append(NumaNode(node_index, memory_bytes, read_cpu_list(folder / "cpulist")))
        distances.append(tuple(map(int, re.findall(r"\d+", _read_text(folder / "distance")))))
    are_whole = all(len(row) == len(nodes) for row in distances)
    return _Parts(
        unit_indexes=unit_indexes,
        core_groups=list(core_groups),
        socket_groups=[tuple(group) for group in sockets.values()],
        numa_nodes=tuple(nodes),
        caches=tuple(caches.values()),
        performance_ranks={},
        node_distances=tuple(distances) if are_whole else (),
    )


def _assemble(
    parts: _Parts,
    source: str,
    *,
    is_this_machine: bool = False,
    allowed: frozenset[int] | None = None,
    isolated: frozenset[int] = frozenset(),
    notes: tuple[str, ...] = (),
) -> Topology:
    """Make the parts consistent.

    A unit without a core is a core of its own; where no socket or no node is named there is one. ``allowed``
    None means that every processing unit may be used.
    """
    in_a_core = {index for group in parts.core_groups for index in group}
    groups = [*parts.core_groups, *((index,) for index in parts.unit_indexes if index not in in_a_core)]
    everything = tuple(sorted(parts.unit_indexes))
    socket_groups = parts.socket_groups or [everything]
    numa_nodes = parts.numa_nodes or (NumaNode(0, 0, everything),)
    socket_of = {index: number for number, group in enumerate(socket_groups) for index in group}
    # Reversed: where a core has two nodes (ordinary and fast memory), the first one named is the ordinary.
    node_of = {index: node.os_index for node in reversed(numa_nodes) for index in node.processing_units}
    cores = tuple(
        Core(
            index=number,
            socket_index=socket_of.get(group[0], 0),
            numa_node=node_of.get(group[0], numa_nodes[0].os_index),
            processing_units=tuple(
                ProcessingUnit(index, number, allowed is None or index in allowed, index in isolated)
                for index in group
            ),
            performance_rank=parts.performance_ranks.get(group[0]),
        )
        for number, group in enumerate(groups)
    )
    return Topology(
        source=source,
        is_this_machine=is_this_machine,
        sockets=tuple(Socket(number, group) for number, group in enumerate(socket_groups)),
        numa_nodes=numa_nodes,
        caches=parts.caches,
        cores=cores,
        notes=notes,
        node_distances=parts.node_distances if parts.numa_nodes else (),
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _parse_kernel_size(text: str) -> int:
    """``"32K"``, ``"1M"`` as the kernel writes cache sizes; 0 for anything else."""
    found = re.fullmatch(r"(\d+)([KMG]?)", text)
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]] if found else 0


def count_noun(number: int, noun: str) -> str:
    """``1 core``, ``2 cores``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
