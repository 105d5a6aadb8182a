"""The machine and its plan, drawn: as text for a terminal, as SVG for a page.

Both drawings nest boxes as the machine does (socket, NUMA node, cache, core, processing unit) and write each thread
into the processing unit that it was given. Things that cover the same processing units (a socket with one NUMA node
and one L3) are one box with several titles, so that a small machine looks small.

The SVG stands alone (no scripts, no fonts to fetch) and is well-formed XML whatever the threads are called. Cores are
numbered in the machine's order, processing units by their OS index, as ``taskset`` does.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape

import msgspec

from exchange.errors import UserError
from exchange.placement import PlacementConfig, load_topology, plan
from exchange.placement.protocol import Assignment, Plan, ThreadDescription
from exchange.placement.topology import Core, Topology, format_cpu_list

TEXT_COLUMNS: Final = 100
"""Width of the text drawing; reasons are wrapped to it."""


class Box(NamedTuple):
    """A set of processing units that has a name, and the boxes and cores directly inside it."""

    titles: tuple[str, ...]
    units: frozenset[int]
    boxes: "tuple[Box, ...]"
    cores: tuple[Core, ...]


def topology_report(
    source: Topology | str | None, threads: Sequence[ThreadDescription], config: PlacementConfig
) -> str:
    """What ``exchange topology`` prints: the machine, the threads on it, and every reason.

    ``source`` is a topology or what :func:`~exchange.placement.topology.load_topology` reads. Raises UserError.
    """
    topology = source if isinstance(source, Topology) else load_topology(source)
    chosen = plan(topology, threads, config)
    return draw_text(topology, chosen)


def topology_record(
    source: Topology | str | None, threads: Sequence[ThreadDescription], config: PlacementConfig
) -> dict[str, Any]:
    """The same for a program to read, JSON-serialisable: ``{"schema_version", "topology", "plan"}``."""
    topology = source if isinstance(source, Topology) else load_topology(source)
    chosen = plan(topology, threads, config)
    return {
        "schema_version": 1,
        "topology": msgspec.to_builtins(topology),
        "plan": msgspec.to_builtins(chosen),
    }


def write_svg(
    path: str | Path,
    source: Topology | str | None,
    threads: Sequence[ThreadDescription],
    config: PlacementConfig,
) -> None:
    """Draw the machine and the plan into an SVG file. Raises UserError where the file cannot be written."""
    topology = source if isinstance(source, Topology) else load_topology(source)
    drawing = draw_svg(topology, plan(topology, threads, config))
    try:
        Path(path).write_text(drawing, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"--svg {path}: cannot be written ({error})") from error


def format_bytes(size_bytes: int) -> str:
    """``32 KB``, ``1.5 GB``: powers of 1024, as processor data sheets count."""
    size = float(size_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TB"


def nest(topology: Topology) -> Box:
    """The machine as nested boxes. Caches and nodes of a single core are not boxes: :func:`core_caches` has them."""
    named: dict[frozenset[int], list[str]] = {}
    for socket in topology.sockets:
        named.setdefault(frozenset(socket.processing_units), []).append(f"socket {socket.index}")
    for node in topology.numa_nodes:
        memory = f" · {format_bytes(node.memory_bytes)}" if node.memory_bytes else ""
        named.setdefault(frozenset(node.processing_units), []).append(f"NUMA node {node.os_index}{memory}")
    for cache in sorted(topology.caches, key=lambda cache: -cache.level):
        if len({topology.core_of(index).index for index in cache.processing_units}) > 1:
            title = f"L{cache.level} {format_bytes(cache.size_bytes)}" if cache.size_bytes else f"L{cache.level}"
            named.setdefault(frozenset(cache.processing_units), []).append(title)
    everything = frozenset(unit.os_index for unit in topology.processing_units)
    named.setdefault(everything, [])
    memory_only = named.pop(frozenset(), [])
    named[everything].extend(memory_only)
    # A set that overlaps another without being inside it cannot be drawn as a nested box; hwloc never makes one.
    order = {unit.os_index: number for number, unit in enumerate(topology.processing_units)}
    sets = sorted(named, key=lambda units: (-len(units), min(order[index] for index in units)))

    def build(units: frozenset[int], inner: list[frozenset[int]]) -> Box:
        children: list[Box] = []
        covered: set[int] = set()
        for candidate in inner:
            if candidate < units and not candidate & covered:
                covered |= candidate
                children.append(build(candidate, [other for other in inner if other < candidate]))
        children.sort(key=lambda box: min(order[index] for index in box.units))
        own = tuple(
            core
            for core in topology.cores
            if core.processing_units[0].os_index in units and core.processing_units[0].os_index not in covered
        )
        return Box(tuple(named[units]), units, tuple(children), own)

    return build(everything, sets[1:])
