"""The drawings: what stands in the text and in the SVG, and that both stay readable for odd machines and
names."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import msgspec
import pytest

from exchange.errors import UserError
from exchange.placement import NonePlacement, PinnedPlacement, ThreadDescription, load_topology, plan
from exchange.placement.drawing import (
    TEXT_COLUMNS,
    draw_svg,
    draw_text,
    format_bytes,
    nest,
    topology_record,
    topology_report,
    write_svg,
)
from exchange.placement.topology import NumaNode

THREADS = (
    ThreadDescription("ingress", ("ingress",)),
    ThreadDescription("shard.0", ("shard.0",)),
    ThreadDescription("egress", ("egress",)),
    ThreadDescription("load generator"),
)
SMALL = "pack:1 [numa(memory=4GiB)] l3:1(size=8MiB) l2:4(size=1MiB) core:1 pu:2"
LARGE = "pack:2 [numa(memory=64GiB)] l3:1(size=32MiB) l2:16(size=1MiB) core:1 pu:2"
SMALL_DRAWING = """\
synthetic "pack:1 [numa(memory=4GiB)] l3:1(size=8MiB) l2:4(size=1MiB) core:1 pu:2"
1 socket, 1 NUMA node, 4 cores, 8 processing units
each core has L2 1 MB to itself

socket 0 · NUMA node 0, 4 GB · L3 8 MB
  core 0       PU 0 empty              PU 1 empty   (for the OS)
  core 1       PU 2 [ingress]          PU 3 empty
  core 2       PU 4 [egress]           PU 5 empty
  core 3       PU 6 [shard.0]          PU 7 empty

placement: pinned
  thread    PU  core  node  why
  ingress    2     1     0  a core of its own; SMT sibling 3 stays empty; shares L3 with shard.0
  shard.0    6     3     0  a core of its own; SMT sibling 7 stays empty; shares L3 with ingress and
                            egress
  egress     4     2     0  a core of its own; SMT sibling 5 stays empty; shares L3 with shard.0
note: planned for a machine that is not this one: nothing will be bound
note: core 0 (processing unit 0-1) is kept for the OS, its interrupts and the exchange's own Python
      threads
"""


def svg_texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_text_is_this_for_a_small_machine() -> None:
    assert topology_report(SMALL, THREADS[:3], PinnedPlacement()) == SMALL_DRAWING


def test_long_runs_of_empty_cores_are_folded() -> None:
    text = topology_report(LARGE, THREADS, PinnedPlacement())
    assert "cores 5-15   PU 10-31: empty" in text
    assert "cores 16-31  PU 32-63: empty" in text
    assert max(map(len, text.splitlines())) <= TEXT_COLUMNS


def test_threads_that_are_left_to_the_os_have_dashes() -> None:
    text = topology_report(SMALL, THREADS, NonePlacement())
    assert "placement: none" in text
    assert (
        sum(line.split()[1:4] == ["-", "-", "-"] for line in text.splitlines()) == 3
    )  # "load generator" is two words
    assert "  load generator    -     -     -  left to the OS" in text


def test_the_svg_shows_every_core_unit_and_thread() -> None:
    topology = load_topology(LARGE)
    texts = svg_texts(draw_svg(topology, plan(topology, THREADS, PinnedPlacement()), THREADS))
    for index in range(32):
        assert texts.count(f"core {index}") == 1
    for index in range(64):
        assert texts.count(f"PU {index}") == 1
    for thread in THREADS:
        assert texts.count(thread.name) == 2  # on its unit and in the table
    for title in ("socket 0", "socket 1", "NUMA node 1, 64 GB", "L2 1 MB", "for the OS", "shard", "helper"):
        assert title in texts
    assert texts.count("L3 32 MB") == 2


def test_the_svg_keeps_to_its_page_and_its_boxes_inside_one_another() -> None:
    topology = load_topology(LARGE)
    root = ElementTree.fromstring(draw_svg(topology, plan(topology, THREADS, PinnedPlacement()), THREADS))
    page = float(root.attrib["width"]), float(root.attrib["height"])
    corners: list[tuple[float, float]] = []

    def walk(node: ElementTree.Element, x: float, y: float) -> None:
        if "transform" in node.attrib:
            dx, dy = node.attrib["transform"].removeprefix("translate(").removesuffix(")").split()
            x, y = x + float(dx), y + float(dy)
        if node.tag.endswith("rect") and node.attrib["width"] != "100%":
            left, top = x + float(node.attrib["x"]), y + float(node.attrib["y"])
            corners.append((left, top))
            corners.append((left + float(node.attrib["width"]), top + float(node.attrib["height"])))
        for child in node:
            walk(child, x, y)

    walk(root, 0, 0)
    assert len(corners) > 2 * (64 + 32 + 2)
    assert all(0 <= x <= page[0] and 0 <= y <= page[1] for x, y in corners)


def test_crowded_units_tell_how_many_more_there_are() -> None:
    crowd = tuple(ThreadDescription(f"shard.{index}", (f"shard.{index}",)) for index in range(9))
    topology = load_topology("pu:1")
    texts = svg_texts(draw_svg(topology, plan(topology, crowd, PinnedPlacement()), crowd))
    assert "and 4 more" in texts
    assert texts.count("shard.4") == 2
    assert texts.count("shard.5") == 1


def test_any_thread_name_makes_well_formed_xml() -> None:
    hostile = (ThreadDescription("<a & 'b'>\"\x01\x00\n", ("shard.0",)), ThreadDescription("x" * 300))
    topology = load_topology("pu:2")
    texts = svg_texts(draw_svg(topology, plan(topology, hostile, PinnedPlacement()), hostile))
    assert "<a & 'b'>\"???" in texts
    assert "x" * 19 + "…" in texts


def test_closed_and_isolated_cores_are_marked() -> None:
    replace = msgspec.structs.replace
    topology = load_topology("node:1 core:3 pu:1")
    changed = tuple(
        replace(
            core,
            processing_units=tuple(
                replace(unit, is_allowed=unit.os_index != 1, is_isolated=unit.os_index == 2)
                for unit in core.processing_units
            ),
        )
        for core in topology.cores
    )
    topology = replace(topology, cores=changed)
    chosen = plan(topology, THREADS[:1], PinnedPlacement())
    text = draw_text(topology, chosen)
    assert "core 1       PU 1 closed   (closed)" in text
    assert "core 2       PU 2 [ingress]   (isolated)" in text
    texts = svg_texts(draw_svg(topology, chosen))
    assert "closed" in texts
    assert "isolated" in texts


def test_memory_without_processors_belongs_to_the_machine() -> None:
    topology = load_topology("pack:2 [numa] core:2 pu:1")
    topology = msgspec.structs.replace(topology, numa_nodes=(*topology.numa_nodes, NumaNode(9, 1 << 40, ())))
    box = nest(topology)
    assert [title.text for title in box.titles] == ["NUMA node 9, 1 TB"]
    assert [[title.text for title in inner.titles] for inner in box.boxes] == [
        ["socket 0", "NUMA node 0, 1 GB"],
        ["socket 1", "NUMA node 1, 1 GB"],
    ]


def test_write_svg_writes_and_says_where_it_cannot(tmp_path: Path) -> None:
    path = tmp_path / "machine.svg"
    write_svg(path, SMALL, THREADS, PinnedPlacement())
    assert "ingress" in svg_texts(path.read_text(encoding="utf-8"))
    with pytest.raises(UserError, match=r"svg file .*/absent/x\.svg: cannot be written"):
        write_svg(tmp_path / "absent/x.svg", SMALL, THREADS, PinnedPlacement())
    with pytest.raises(UserError, match="hwloc does not understand"):
        write_svg(path, "nonsense", THREADS, PinnedPlacement())


def test_the_record_for_programs_is_json() -> None:
    record = topology_record(SMALL, THREADS, PinnedPlacement())
    assert json.loads(json.dumps(record)) == json.loads(msgspec.json.encode(record))
    assert record["schema_version"] == 1
    assert len(record["topology"]["cores"]) == 4
    assert record["plan"]["assignments"][1]["thread"] == "shard.0"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (32 << 10, "32 KB"),
        (1536 << 20, "1.5 GB"),
        (200 << 30, "200 GB"),
        (3 << 40, "3 TB"),
    ],
)
def test_sizes_are_told_in_powers_of_1024(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text
