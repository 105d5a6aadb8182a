"""The machine and its plan, drawn: as text for a terminal, as SVG for a page.

Both drawings nest boxes as the machine does (socket, NUMA node, cache, core, processing unit) and write
each thread into the processing unit that it was given. Things that cover the same processing units (a
socket with one NUMA node and one L3) are one box with several titles, so that a small machine looks
small.

The SVG stands alone (no script, no font to fetch) and is well-formed XML whatever the threads are called.
Cores are numbered in the machine's order, processing units by their OS index, as ``taskset`` does.
"""

import textwrap
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from exchange.errors import UserError
from exchange.placement import PlacementConfig, load_topology, plan
from exchange.placement.protocol import Plan, ThreadDescription
from exchange.placement.topology import Core, ProcessingUnit, Topology, format_cpu_list

TEXT_COLUMNS: Final = 100
"""Width of the text drawing."""


def topology_report(
    source: Topology | str | None, threads: Sequence[ThreadDescription], config: PlacementConfig
) -> str:
    """What ``exchange topology`` prints: the machine, the threads on it, and every reason.

    ``source`` is a topology, or whatever :func:`~exchange.placement.topology.load_topology` reads. Raises
    UserError.
    """
    topology = _topology(source)
    return draw_text(topology, plan(topology, threads, config))


def topology_record(
    source: Topology | str | None, threads: Sequence[ThreadDescription], config: PlacementConfig
) -> dict[str, Any]:
    """The same for a program to read, JSON-serialisable. Raises UserError."""
    topology = _topology(source)
    return {
        "schema_version": 1,
        "topology": msgspec.to_builtins(topology),
        "plan": msgspec.to_builtins(plan(topology, threads, config)),
    }


def write_svg(
    path: str | Path,
    source: Topology | str | None,
    threads: Sequence[ThreadDescription],
    config: PlacementConfig,
) -> None:
    """Draw the machine and the plan into an SVG file. Raises UserError, also where the file cannot be
    written."""
    topology = _topology(source)
    drawing = draw_svg(topology, plan(topology, threads, config), threads)
    try:
        Path(path).write_text(drawing, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"svg file {path}: cannot be written ({error})") from error


def _topology(source: Topology | str | None) -> Topology:
    return source if isinstance(source, Topology) else load_topology(source)


# --- the nesting that both drawings follow ---


class Title(NamedTuple):
    """What one thing that a box stands for is called."""

    kind: Literal["socket", "node", "cache"]
    text: str


class Box(NamedTuple):
    """A set of processing units with a name, and the boxes and cores directly inside it."""

    titles: tuple[Title, ...]
    boxes: "tuple[Box, ...]"
    cores: tuple[Core, ...]


def nest(topology: Topology) -> Box:
    """The machine as nested boxes. What belongs to one core alone is no box: :func:`core_caches` tells of
    it."""
    core_of = {unit.os_index: core.index for core in topology.cores for unit in core.processing_units}
    position = {unit.os_index: number for number, unit in enumerate(topology.processing_units)}
    everything = frozenset(position)
    titles: dict[frozenset[int], list[Title]] = {everything: []}

    def name(units: Sequence[int], kind: Literal["socket", "node", "cache"], text: str) -> None:
        # A NUMA node without processors (memory alone) belongs to the machine as a whole.
        titles.setdefault(frozenset(units) or everything, []).append(Title(kind, text))

    for socket in topology.sockets:
        name(socket.processing_units, "socket", f"socket {socket.index}")
    for node in topology.numa_nodes:
        memory = f",{_size_suffix(node.memory_bytes)}" if node.memory_bytes else ""
        name(node.processing_units, "node", f"NUMA node {node.os_index}{memory}")
    for cache in sorted(topology.caches, key=lambda cache: -cache.level):
        if len({core_of[index] for index in cache.processing_units}) > 1:
            name(cache.processing_units, "cache", f"L{cache.level}{_size_suffix(cache.size_bytes)}")

    def build(units: frozenset[int], inner: list[frozenset[int]]) -> Box:
        covered: set[int] = set()
        children = []
        for candidate in inner:  # largest first
            if not candidate & covered:
                covered |= candidate
                children.append(candidate)
        children.sort(key=lambda child: min(position[index] for index in child))
        cores = [core for core in topology.cores if units >= _indexes(core) and not covered & _indexes(core)]
        boxes = [build(child, [other for other in inner if other < child]) for child in children]
        return Box(tuple(titles[units]), tuple(boxes), tuple(cores))

    return build(
        everything, sorted(titles.keys() - {everything}, key=lambda units: (-len(units), min(units)))
    )


def core_caches(topology: Topology) -> dict[int, str]:
    """For each core (by its index) the caches that it has to itself, largest first: ``L2 1 MB, L1 32 KB``."""
    core_of = {unit.os_index: core.index for core in topology.cores for unit in core.processing_units}
    found: dict[int, list[str]] = {core.index: [] for core in topology.cores}
    for cache in sorted(topology.caches, key=lambda cache: -cache.level):
        owners = {core_of[index] for index in cache.processing_units}
        if len(owners) == 1:
            found[owners.pop()].append(f"L{cache.level}{_size_suffix(cache.size_bytes)}")
    return {index: ", ".join(texts) for index, texts in found.items()}


def format_bytes(size_bytes: int) -> str:
    """``32 KB``, ``4.6 GB``: powers of 1024, as processor data sheets count."""
    size = float(size_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.3g} {unit}" if size < 100 else f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.3g} TB"


def _size_suffix(size_bytes: int) -> str:
    return f" {format_bytes(size_bytes)}" if size_bytes else ""


def _indexes(core: Core) -> frozenset[int]:
    return frozenset(unit.os_index for unit in core.processing_units)


def _core_remarks(core: Core, chosen: Plan) -> list[str]:
    remarks = []
    if core.index == chosen.os_core_index:
        remarks.append("for the OS")
    if not core.allowed_units:
        remarks.append("closed")
    if any(unit.is_isolated for unit in core.processing_units):
        remarks.append("isolated")
    return remarks


# --- text ---


def draw_text(topology: Topology, chosen: Plan) -> str:
    """The machine as an indented tree, then a table of threads, each with its reason."""
    lines = [topology.source, topology.summary()]
    caches = core_caches(topology)
    alike = set(caches.values())
    if len(alike) == 1 and alike != {""}:
        lines.append(f"each core has {alike.pop()} to itself")
        caches = dict.fromkeys(caches, "")
    lines.append("")
    _draw_box_text(nest(topology), chosen, caches, 0, lines)
    lines.extend(["", f"placement: {chosen.kind}"])
    width = max((len(found.thread) for found in chosen.assignments), default=6)
    lines.append(f"  {'thread':<{width}}   PU  core  node  why")
    for found in chosen.assignments:
        places = (found.processing_unit, found.core_index, found.memory_node)
        unit, core, node = ("-" if place is None else str(place) for place in places)
        lead = f"  {found.thread:<{width}} {unit:>4} {core:>5} {node:>5}  "
        lines.extend(_wrap(found.reason, lead))
    for label, sentences in (("note", chosen.notes), ("warning", chosen.warnings)):
        for sentence in sentences:
            lines.extend(_wrap(sentence, f"{label}: "))
    return "\n".join(lines) + "\n"


def _draw_box_text(box: Box, chosen: Plan, caches: dict[int, str], depth: int, lines: list[str]) -> None:
    if box.titles:
        lines.append("  " * depth + " · ".join(title.text for title in box.titles))
        depth += 1
    for is_plain, run in groupby(box.cores, key=lambda core: _is_plain(core, chosen)):
        cores = list(run)
        if is_plain and len(cores) > 2:  # a long run of empty cores is one line
            units = sorted(index for core in cores for index in _indexes(core))
            label = f"cores {cores[0].index}-{cores[-1].index}"
            lines.append("  " * depth + f"{label:<12} PU {format_cpu_list(units)}: empty")
        else:
            lines.extend(_core_line(core, chosen, caches[core.index], depth) for core in cores)
    for inner in box.boxes:
        _draw_box_text(inner, chosen, caches, depth, lines)


def _is_plain(core: Core, chosen: Plan) -> bool:
    """Nothing on this core needs a line of its own."""
    empty = not any(chosen.threads_on(index) for index in _indexes(core))
    return empty and not _core_remarks(core, chosen)


def _core_line(core: Core, chosen: Plan, caches: str, depth: int) -> str:
    cells = []
    for unit in core.processing_units:
        threads = chosen.threads_on(unit.os_index)
        state = f"[{', '.join(threads)}]" if threads else "empty" if unit.is_allowed else "closed"
        cells.append(f"PU {unit.os_index} {state}")
    remarks = ", ".join(filter(None, [*_core_remarks(core, chosen), caches]))
    label = f"core {core.index}"
    line = "  " * depth + f"{label:<12} " + "".join(f"{cell:<24}" for cell in cells)
    return f"{line.rstrip()}   ({remarks})" if remarks else line.rstrip()


def _wrap(text: str, lead: str) -> list[str]:
    """Wrapped to the drawing's width, the first line led in, the others indented as far."""
    return textwrap.wrap(
        text,
        max(TEXT_COLUMNS, len(lead) + 40),
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )


# --- SVG ---

_PAGE_WIDTH: Final = 1400  # rows of boxes are broken so as to stay within it
_GAP: Final = 8
_LETTER: Final = 6.2  # width of a letter at 12 px, on the safe side for the common sans-serifs
_CHIP_HEIGHT: Final = 18
_UNIT_LABEL_WIDTH: Final = 44
_MAX_CHIP_LETTERS: Final = 20
_TITLE_COLORS: Final = {"socket": "#dbe2ea", "node": "#cfe8d5", "cache": "#fbe7b6"}
_OS_CORE_COLOR: Final = "#e3f4e8"
_ROLE_COLORS: Final = {
    "shard": "#1d4ed8",
    "ingress, egress": "#b45309",
    "both on one thread": "#0f766e",
    "helper": "#57534e",
}


class Block(NamedTuple):
    """A finished piece of drawing, its corner at 0, 0; sizes in pixels."""

    width: float
    height: float
    svg: str

    def at(self, x: float, y: float) -> str:
        """The piece, moved."""
        return f'<g transform="translate({x:.1f} {y:.1f})">{self.svg}</g>'


class _Pen(NamedTuple):
    """What the pieces of one drawing have in common."""

    chosen: Plan
    caches: dict[int, str]
    color_of: dict[str, str]
    chip_width: float
    chips_shown: int  # on one processing unit; the rest is told as a number


def draw_svg(topology: Topology, chosen: Plan, threads: Sequence[ThreadDescription] = ()) -> str:
    """The drawing as the text of an SVG file. ``threads`` colour the chips by what the thread does."""
    roles = {thread.name: _role(thread) for thread in threads}
    names = [found.thread for found in chosen.assignments]
    crowd = max((len(chosen.threads_on(unit.os_index)) for unit in topology.processing_units), default=1)
    pen = _Pen(
        chosen=chosen,
        caches=core_caches(topology),
        color_of={name: _ROLE_COLORS[roles.get(name, "helper")] for name in names},
        chip_width=max([64.0, *(_text_width(_cut(name)) + 14 for name in names)]),
        chips_shown=max(1, min(crowd, 6)),
    )
    machine = _draw_box(nest(topology), pen, _PAGE_WIDTH)
    width = max(machine.width, 760.0)
    title = textwrap.wrap(topology.source, int(width / 10), break_on_hyphens=False)
    heading = _stack(
        [Block(width, 22, _text(0, 18, line, 17, "#111827", bold=True)) for line in title]
        + [_paragraph(f"{topology.summary()}; placement: {chosen.kind}", width, "#4b5563")],
        0,
    )
    used_roles = [role for role in _ROLE_COLORS if role in roles.values()]
    legend = [(role, _ROLE_COLORS[role]) for role in used_roles]
    if chosen.os_core_index is not None:
        legend.append(("core kept for the OS", _OS_CORE_COLOR))
    pieces = [heading, machine, _draw_legend(legend, width), _draw_plan(pen, width)]
    total = _stack(pieces, 14)
    page_width, page_height = width + 32, total.height + 32
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{page_width:.0f}" height="{page_height:.0f}" '
        f'viewBox="0 0 {page_width:.0f} {page_height:.0f}" '
        'font-family="Helvetica, Arial, DejaVu Sans, sans-serif">'
        f"<title>{_escape(topology.source)}, placement {chosen.kind}</title>"
        '<rect width="100%" height="100%" fill="#ffffff"/>'
        f"{total.at(16, 16)}</svg>\n"
    )


def _role(thread: ThreadDescription) -> str:
    if thread.runs_shard:
        return "both on one thread" if thread.runs_gateway else "shard"
    return "ingress, egress" if thread.runs_gateway else "helper"


def _draw_box(box: Box, pen: _Pen, max_width: float) -> Block:
    """A box around its cores and inner boxes; one without a title has no frame."""
    inside = max_width - 2 * _GAP
    parts = []
    if box.cores:
        parts.append(_flow([_draw_core(core, pen) for core in box.cores], inside))
    if box.boxes:
        # Side by side or below one another: whichever makes the flatter picture.
        layouts = [
            _flow(
                [
                    _draw_box(inner, pen, (inside - (side_by_side - 1) * _GAP) / side_by_side)
                    for inner in box.boxes
                ],
                inside,
            )
            for side_by_side in (1, 2, 4)
            if side_by_side <= len(box.boxes)
        ]
        parts.append(min(layouts, key=lambda layout: layout.height))
    content = _stack(parts, _GAP)
    if not box.titles:
        return content
    pills, x = [], float(_GAP)
    for title in box.titles:
        pill_width = _text_width(title.text) * 1.06 + 16  # capitals and digits are wide
        pills.append(_rect(x, _GAP, pill_width, 20, _TITLE_COLORS[title.kind], "none", 10))
        pills.append(_text(x + 8, _GAP + 14, title.text, 12, "#111827"))
        x += pill_width + 6
    width = max(content.width + 2 * _GAP, x + _GAP - 6)
    height = content.height + 20 + 3 * _GAP
    frame = _rect(0, 0, width, height, "#f6f8fa", "#94a3b8", 8)
    return Block(width, height, frame + "".join(pills) + content.at(_GAP, 20 + 2 * _GAP))


def _draw_core(core: Core, pen: _Pen) -> Block:
    """A core: its name, its own caches, and its processing units below one another."""
    units = [_draw_unit(unit, pen) for unit in core.processing_units]
    content = _stack(units, 4)
    remarks = _core_remarks(core, pen.chosen)
    name = f"core {core.index}"
    remark = ", ".join(remarks)
    caches = pen.caches[core.index]
    remark_x = 6 + _text_width(name) + 12
    width = max(content.width, remark_x + _text_width(remark), _text_width(caches) * 0.85)
    color = "#15803d" if core.allowed_units else "#b91c1c"
    lines = [_text(6, 17, name, 12, "#111827", bold=True), _text(remark_x, 17, remark, 11, color)]
    y = 17.0
    if caches:
        y += 14
        lines.append(_text(6, y, caches, 10, "#6b7280"))
    fill = _OS_CORE_COLOR if core.index == pen.chosen.os_core_index else "#ffffff"
    height = y + 7 + content.height + 6
    frame = _rect(0, 0, width + 12, height, fill, "#cbd5e1", 5)
    return Block(width + 12, height, frame + "".join(lines) + content.at(6, y + 7))


def _draw_unit(unit: ProcessingUnit, pen: _Pen) -> Block:
    """A processing unit: its OS index, and a coloured chip for every thread on it."""
    threads = pen.chosen.threads_on(unit.os_index)
    shown = threads if len(threads) <= pen.chips_shown else threads[: pen.chips_shown - 1]
    width = _UNIT_LABEL_WIDTH + pen.chip_width + 4
    height = 8 + pen.chips_shown * (_CHIP_HEIGHT + 2) - 2
    border = "#94a3b8" if unit.is_allowed else "#fca5a5"
    parts = [
        _rect(0, 0, width, height, "#f1f5f9" if unit.is_allowed else "#fef2f2", border, 4),
        _text(6, 17, f"PU {unit.os_index}", 11, "#374151" if unit.is_allowed else "#b91c1c"),
    ]
    for row, name in enumerate(shown):
        parts.append(_chip(name, pen).at(_UNIT_LABEL_WIDTH, 4 + row * (_CHIP_HEIGHT + 2)))
    if len(shown) < len(threads):
        y = 4 + len(shown) * (_CHIP_HEIGHT + 2) + 13
        parts.append(_text(_UNIT_LABEL_WIDTH + 6, y, f"and {len(threads) - len(shown)} more", 11, "#374151"))
    return Block(width, height, "".join(parts))


def _chip(name: str, pen: _Pen) -> Block:
    body = _rect(0, 0, pen.chip_width, _CHIP_HEIGHT, pen.color_of[name], "none", 4)
    label = _text(7, 13, _cut(name), 12, "#ffffff")
    return Block(pen.chip_width, _CHIP_HEIGHT, f"<title>{_escape(name)}</title>{body}{label}")


def _draw_legend(entries: Sequence[tuple[str, str]], width: float) -> Block:
    parts, x = [], 0.0
    for label, fill in entries:
        parts.append(_rect(x, 2, 14, 14, fill, "#cbd5e1", 3))
        parts.append(_text(x + 20, 13, label, 12, "#374151"))
        x += 20 + _text_width(label) + 22
    return Block(width, 18, "".join(parts))


def _draw_plan(pen: _Pen, width: float) -> Block:
    """The table of threads and reasons, then notes and warnings."""
    columns = (pen.chip_width + 14, pen.chip_width + 64, pen.chip_width + 112, pen.chip_width + 160)
    head = zip(columns, ("PU", "core", "node", "why"), strict=True)
    heading = _text(0, 13, "thread", 12, "#6b7280")
    rows = [Block(width, 18, heading + "".join(_text(x, 13, word, 12, "#6b7280") for x, word in head))]
    for found in pen.chosen.assignments:
        places = (found.processing_unit, found.core_index, found.memory_node)
        texts = ["–" if place is None else str(place) for place in places]
        cells = "".join(_text(x, 13, text, 12, "#111827") for x, text in zip(columns, texts, strict=False))
        reason = _paragraph(found.reason, width - columns[3], "#111827")
        body = _chip(found.thread, pen).svg + cells + reason.at(columns[3], 0)
        rows.append(Block(width, max(22, reason.height + 6), body))
    for label, sentences, color in (
        ("Note: ", pen.chosen.notes, "#374151"),
        ("Warning: ", pen.chosen.warnings, "#b91c1c"),
    ):
        rows.extend(_paragraph(label + sentence, width, color) for sentence in sentences)
    return _stack(rows, 4)


def _paragraph(text: str, width: float, color: str) -> Block:
    lines = textwrap.wrap(text, max(20, int(width / _LETTER)), break_on_hyphens=False)
    body = "".join(_text(0, 13 + 16 * number, line, 12, color) for number, line in enumerate(lines))
    return Block(width, 16 * len(lines), body)


def _flow(blocks: Sequence[Block], max_width: float) -> Block:
    """Blocks side by side, in as few rows as fit, the rows equally long."""
    widest = max(block.width for block in blocks)
    per_row = max(1, int((max_width + _GAP) // (widest + _GAP)))
    row_count = -(-len(blocks) // per_row)
    per_row = -(-len(blocks) // row_count)
    rows = []
    for start in range(0, len(blocks), per_row):
        x, parts, height = 0.0, [], 0.0
        for block in blocks[start : start + per_row]:
            parts.append(block.at(x, 0))
            x += block.width + _GAP
            height = max(height, block.height)
        rows.append(Block(x - _GAP, height, "".join(parts)))
    return _stack(rows, _GAP)


def _stack(blocks: Sequence[Block], gap: float) -> Block:
    """Blocks below one another."""
    y, parts = 0.0, []
    for block in blocks:
        parts.append(block.at(0, y))
        y += block.height + gap
    return Block(max((block.width for block in blocks), default=0), max(0, y - gap), "".join(parts))


def _rect(x: float, y: float, width: float, height: float, fill: str, border: str, radius: int) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius}" '
        f'fill="{fill}" stroke="{border}"/>'
    )


def _text(x: float, y: float, text: str, size: int, color: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}"{weight}>{_escape(text)}</text>'


def _escape(text: str) -> str:
    """Safe inside XML, which allows no control characters, not even escaped."""
    return escape("".join(letter if letter.isprintable() else "?" for letter in text), quote=False)


def _text_width(text: str) -> float:
    return len(text) * _LETTER


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_CHIP_LETTERS else name[: _MAX_CHIP_LETTERS - 1] + "…"
