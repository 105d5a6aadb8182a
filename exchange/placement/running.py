"""The memory of a running exchange, seen from another process: whose it is, and on which NUMA nodes its pages lie.

Only the exchange knows which range of addresses is whose book; only the kernel knows where the pages are. So the
exchange writes down its ranges when its threads start, and who looks asks the kernel about them, in the exchange's
absence: nothing in it runs, waits or answers for that.

What is written down lies in memory behind a file descriptor (``memfd_create``) with a name of its own, so it is found
among the exchange's descriptors in ``/proc``. There is no folder to agree on, nobody can put something else in its
place, it ends with the process however that ends, and who may read it is who may look into the process anyway: the
same user, and root.

Two parts of the kernel are asked, which do not know of each other: ``move_pages``, which takes one page after the other
and says where it is, and ``/proc/PID/numa_maps``, which walks the tables of pages and tells the policy of each mapping.

Rules: what another process has written is checked before it is used. Pages come and go while they are counted."""

import errno
import os
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from exchange.errors import UserError
from exchange.limits import SHARDS_MAX
from exchange.placement.drawing import TEXT_COLUMNS, format_bytes
from exchange.placement.memory_nodes import PAGE_BYTES, count_pages
from exchange.placement.memory_owners import regions
from exchange.placement.protocol import Assignment
from exchange.placement.topology import NODES_MAX, format_cpu_list, read_cpu_list

MEMORY_NAME: Final = "exchange-memory"
DOCUMENT_BYTES_MAX: Final = 16 << 20
"""An exchange with the most sessions that there can be writes a tenth of it."""

_PROCESSES: Final = Path("/proc")
_LINK: Final = f"/memfd:{MEMORY_NAME} (deleted)"
_HEX_ADDRESS: Final = re.compile(r"[0-9a-f]{1,16}")

Address = Annotated[int, Meta(ge=0, lt=1 << 47)]


class PublishedRegion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A :class:`~exchange.placement.memory_owners.Region` as it is written down."""

    owner: str
    part: str
    address: Address
    size_bytes: Address
    nodes: Annotated[tuple[Annotated[int, Meta(ge=0, lt=NODES_MAX)], ...], Meta(max_length=NODES_MAX)]


class RunningMemory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an exchange writes down: where its threads were to run, its memory, and the processes that share it."""

    assignments: tuple[Assignment, ...]
    regions: tuple[PublishedRegion, ...]
    children: Annotated[tuple[Annotated[int, Meta(gt=0, lt=1 << 31)], ...], Meta(max_length=SHARDS_MAX)] = ()


class MemoryRow(NamedTuple):
    """Memory of one kind: all of an agent's that has one name and one place.

    ``pages`` counts by node, in pages of the processor's size; ``policies`` is what the kernel says of the mappings.
    """

    owner: str
    part: str
    size_bytes: int
    nodes: tuple[int, ...]
    pages: Counter[int]
    policies: tuple[str, ...]

    @property
    def strays(self) -> int:
        """Pages that do not lie where the memory was placed."""
        return sum(count for node, count in self.pages.items() if self.nodes and node not in self.nodes)


_descriptor: int | None = None


def publish(assignments: Iterable[Assignment], children: Iterable[int] = ()) -> None:
    """Write down, for others to find, all memory that this process has, where its threads run, and its children that
    run in their place."""
    global _descriptor
    found = [PublishedRegion(*region) for region in regions()]
    document = msgspec.json.encode(RunningMemory(tuple(assignments), tuple(found), tuple(children)))
    written = os.memfd_create(MEMORY_NAME)
    try:
        os.write(written, document)
        if _descriptor is None:
            _descriptor = os.dup(written)
        else:
            os.dup2(written, _descriptor, inheritable=False)  # at once: nobody reads half of it
    finally:
        os.close(written)


def find_running() -> list[int]:
    """The processes with exchanges that this user may look into, by their number."""
    numbers = [int(path.name) for path in _PROCESSES.iterdir() if path.name.isdigit()]
    return sorted(number for number in numbers if _find_document(number) is not None)


def read_running(process_id: int) -> RunningMemory:
    """What a running exchange has written down. Raises UserError."""
    what = f"process {process_id}"
    try:
        path = _find_document(process_id, is_strict=True)
        if path is None:
            raise UserError(
                f"{what}: no exchange runs in it; exchange topology --running finds those that do"
            )
        with path.open("rb") as file:
            content = file.read(DOCUMENT_BYTES_MAX + 1)
    except PermissionError as error:
        raise UserError(
            f"{what}: this user may not look into it; whoever started it may, and root (sudo)"
        ) from error
    except OSError as error:
        raise UserError(f"{what}: there is no such process") from error
    return decode_running(content, what)


def decode_running(content: bytes, what: str) -> RunningMemory:
    """The document of a process named ``what``. Raises UserError for anything else."""
    try:
        if len(content) > DOCUMENT_BYTES_MAX:
            raise ValueError(f"more than {DOCUMENT_BYTES_MAX:,} bytes")
        return msgspec.json.decode(content, type=RunningMemory)
    except (msgspec.DecodeError, ValueError) as error:
        raise UserError(
            f"{what}: what it has written down of its memory is not understood ({error}); it is another version's"
        ) from error


def look_at(process_id: int, running: RunningMemory) -> list[MemoryRow]:
    """Ask the kernel where the memory of a process, and of its children, is. Raises UserError."""
    try:
        policies = MappedPolicies((_PROCESSES / f"{process_id}/numa_maps").read_text())
        asked = (process_id, *running.children)
        groups: dict[tuple[str, str, tuple[int, ...]], list[PublishedRegion]] = {}
        for region in running.regions:
            groups.setdefault((region.owner, region.part, region.nodes), []).append(region)
        return [
            MemoryRow(
                owner,
                part,
                sum(one.size_bytes for one in group),
                nodes,
                sum((count_pages(one.address, one.size_bytes, asked) for one in group), Counter()),
                tuple(sorted({policies.at(one.address) for one in group})),
            )
            for (owner, part, nodes), group in groups.items()
        ]
    except OSError as error:
        raise UserError(f"process {process_id}: {_why(error)}") from error


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return (
                "the kernel does not say where its memory is; the same user may ask, and root (sudo); in a container"
                " docker run --cap-add SYS_NICE"
            )
        case errno.ENOSYS:
            return "this kernel does not know on which NUMA node memory is"
        case errno.ESRCH:
            return "it has ended"
        case errno.ENOENT:
            return "it has ended, or this kernel has no numa_maps"
    return f"the kernel does not say where its memory is ({error.strerror})"


class MappedPolicies:
    """The policies of a process's mappings, from the text of its ``numa_maps``: numa(7)."""

    def __init__(self, text: str) -> None:
        self._starts: list[tuple[int, str]] = []
        for line in text.splitlines():
            words = line.split(maxsplit=2)
            if len(words) > 1 and _HEX_ADDRESS.fullmatch(words[0]):
                self._starts.append((int(words[0], 16), words[1]))
        self._starts.sort()

    def at(self, address: int) -> str:
        """The policy of the mapping that an address lies in, as the kernel writes it: ``bind:1``, ``default``."""
        return max((one for one in self._starts if one[0] <= address), default=(0, "unknown"))[1]


def _find_document(process_id: int, *, is_strict: bool = False) -> Path | None:
    """The path of what a process has written down; None if it has not, or, unless strict, if it does not let us look.

    Raises:
        OSError: strict, and it does not let us look.
    """
    try:
        for path in (_PROCESSES / str(process_id) / "fd").iterdir():
            try:
                if os.readlink(path) == _LINK:
                    return path
            except FileNotFoundError:  # closed meanwhile
                continue
    except OSError:
        if is_strict:
            raise
    return None


def choose_running(text: str) -> int:
    """The process that a person means: a number, or nothing for the only exchange that runs. Raises UserError."""
    if text:
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise UserError(f"--running {text}: allowed is the number of a process, or nothing")
        return int(text)
    found = find_running()
    if not found:
        raise UserError(
            "--running: no exchange runs here that this user may look into; exchange serve starts one, and with sudo"
            " those of others are found"
        )
    if len(found) > 1:
        named = ", ".join(f"{number} ({command_of(number)})" for number in found)
        raise UserError(f"--running: several exchanges run; name one: {named}")
    return found[0]


def command_of(process_id: int) -> str:
    """The command line of a process, shortened; empty if it has ended."""
    try:
        words = (_PROCESSES / str(process_id) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    shown = "".join(letter if letter.isprintable() else "?" for letter in " ".join(words).strip())
    return textwrap.shorten(shown, TEXT_COLUMNS, placeholder=" ...")


def running_record(process_id: int, running: RunningMemory, rows: Sequence[MemoryRow]) -> dict[str, Any]:
    """What is shown, for a program to read, JSON-serialisable."""
    return {
        "schema_version": 1,
        "process_id": process_id,
        "command": command_of(process_id),
        "children": running.children,
        "page_bytes": PAGE_BYTES,
        "threads": msgspec.to_builtins(running.assignments),
        "memory": [
            {
                "owner": row.owner,
                "part": row.part,
                "size_bytes": row.size_bytes,
                "placed_on_nodes": row.nodes,
                "pages_by_node": {str(node): row.pages[node] for node in sorted(row.pages)},
                "stray_pages": row.strays,
                "policies": row.policies,
            }
            for row in rows
        ],
    }


def running_report(process_id: int, running: RunningMemory, rows: Sequence[MemoryRow]) -> str:
    """What ``exchange topology --running`` prints."""
    online = read_cpu_list(Path("/sys/devices/system/node/online")) or (0,)
    nodes = sorted({*online, *(node for row in rows for node in row.pages)})
    children = f", and its children {format_cpu_list(running.children)}" if running.children else ""
    lines = [f"process {process_id}{children}: {command_of(process_id)}", ""]
    lines += [*_thread_lines(running.assignments), ""]
    header = ["agent", "memory", "size", "placed on", *(f"node {node}" for node in nodes), "policy"]
    table = [header]
    table += [
        [
            row.owner or "-",
            row.part,
            format_bytes(row.size_bytes),
            format_cpu_list(row.nodes) if row.nodes else "-",
            *(f"{row.pages[node]:,}" for node in nodes),
            " ".join(row.policies),
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(header))]
    is_number = [False, False, True, True, *(True for _ in nodes), False]
    for line in table:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, is_number, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    lines += ["", f"pages of {format_bytes(PAGE_BYTES)} that are there now; {_verdict(rows, nodes)}"]
    return "\n".join(lines)


def _thread_lines(assignments: Sequence[Assignment]) -> list[str]:
    return [
        f"thread {one.thread}: "
        + (
            "left to the OS"
            if one.processing_unit is None
            else f"processing unit {one.processing_unit}, node {one.memory_node}"
        )
        for one in assignments
    ]


def _verdict(rows: Sequence[MemoryRow], nodes: Sequence[int]) -> str:
    strays = [(f"{row.owner}'s {row.part}", row.strays) for row in rows if row.strays]
    if strays:
        named = ", ".join(f"{count:,} of {name}" for name, count in strays)
        return f"not where they were placed: {named}"
    if any(row.nodes for row in rows):
        return "all memory that was placed is where it was placed"
    if len(nodes) == 1:
        return "no memory was placed, for this machine has one NUMA node"
    return "no memory was placed: each page is on the node of the thread that wrote to it first"
