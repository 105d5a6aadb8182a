"""What ``test_lab_vm_numa`` runs, outside to compile and on one node, and then in the machine with two.

For each way to place memory an exchange with two shards matches a short flow. While its threads still run, everything
that can be known of where its memory lies is written down, and judged outside. Three parts of the kernel are asked:
``move_pages`` and ``get_mempolicy`` by the exchange's own code, and ``numa_maps`` here, line by line."""

import json
import mmap
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.assembly import Exchange, expected_answers, lanes_of, plan_exchange
from exchange.gateway.config import GatewayConfig
from exchange.journal.scratch import scratch_streams
from exchange.messages import COMMAND_DTYPE, CommandKind
from exchange.native import Arena
from exchange.placement import Plan
from exchange.placement.memory_nodes import count_pages, node_of_page
from exchange.placement.memory_owners import memory_as_planned, memory_of, regions
from exchange.settings import Settings, load_profile
from exchange.transport.memory import ANSWERS, MemoryTransport
from exchange.transport.tcp import TcpTransport

COMMANDS = 2_000
SYMBOLS = 8
SESSIONS = 6
PROBE_BYTES = 8 << 20
RUNS = {
    "local": "threads",
    "interleave": "threads",
    "wrong-node": "threads",
    "local in processes": "processes",
}
"""What is run: where memory lies, and as what the shards run."""
BASE = (
    "shards.count=2",
    'shards.threads=[["ingress","egress"],["shard.0"],["shard.1"]]',
    "placement.spread_shards=true",
    "idle.kind=park",
    "idle.park_ns=1000000",
    "queue.capacity_slots=4096",
    "book.capacity_orders=4096",
)


class Mapping(NamedTuple):
    """A mapping of a process: addresses, policy, and pages by node."""

    begin: int
    end: int
    policy: str
    pages: dict[str, int]


def mappings(process_ids: Sequence[int]) -> list[Mapping]:
    """Every mapping of these processes; numa_maps tells all but the end."""
    found = []
    for process_id in process_ids:
        folder = Path(f"/proc/{process_id}")
        lines = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) ", (folder / "maps").read_text(), re.MULTILINE)
        ends = {int(begin, 16): int(end, 16) for begin, end in lines}
        for line in (folder / "numa_maps").read_text().splitlines():
            address, policy = line.split()[:2]
            begin = int(address, 16)
            if begin in ends:
                found.append(Mapping(begin, ends[begin], policy, pages_of(line)))
    return found


def pages_of(line: str) -> dict[str, int]:
    """The pages by node in a line of numa_maps."""
    return {node: int(count) for node, count in re.findall(r"\bN(\d+)=(\d+)", line)}


def describe(process_ids: Sequence[int]) -> list[dict[str, Any]]:
    """All memory of an exchange, which these processes have, as the kernel knows it."""
    everything = mappings(process_ids)
    return [
        {
            "owner": one.owner,
            "part": one.part,
            "nodes": one.nodes,
            "pages": (pages := dict(count_pages(one.address, one.size_bytes, process_ids))),
            "first_page_node": node_of_page(one.address) if pages else None,
            "mappings": [
                (mapping.policy, mapping.pages)
                for mapping in everything
                if mapping.begin < one.address + one.size_bytes and one.address < mapping.end
            ],
        }
        for one in regions()
    ]


def flow() -> NDArray[Any]:
    """Buyers and sellers who now and then meet, in each symbol."""
    numbers = np.arange(COMMANDS)
    commands = np.zeros(COMMANDS, COMMAND_DTYPE)
    commands["kind"], commands["side"] = CommandKind.NEW, numbers % 3 % 2
    commands["symbol_id"], commands["order_id"] = numbers % SYMBOLS, numbers + 1
    commands["price_ticks"], commands["quantity_lots"] = 1000 + numbers * 7 % 41, 1 + numbers % 5
    return commands


def run(settings: Settings, plan: Plan, folder: Path, *, is_shown: bool) -> dict[str, Any]:
    """Match the flow; what is known of the memory while the threads run."""
    commands = flow()
    with memory_as_planned(plan):
        transport = MemoryTransport(lanes_of(commands, 1))
        exchange = Exchange(settings, SYMBOLS, transport, plan=plan)
    exchange.compile(lambda text: None)
    with exchange.threads:
        while transport.word(ANSWERS) < expected_answers(commands, settings.shards.count):
            exchange.threads.check()
            time.sleep(0.01)
        found = {
            "plan": [(one.thread, one.processing_unit, one.memory_node) for one in plan.assignments],
            "warnings": plan.warnings,
            "affinities": {
                one.name: sorted(os.sched_getaffinity(one.pid or one.native_id or 0))
                for one in exchange.threads.agent_threads
            },
            "regions": describe(
                [os.getpid(), *(one.pid for one in exchange.threads.agent_threads if one.pid)]
            ),
        }
        if is_shown:
            found["shown"] = show_running(folder)
    return found | {"digest": exchange.digest()}


def show_running(folder: Path) -> dict[str, Any]:
    """What another process says of this one."""
    path = folder / "running.json"
    asked = [sys.executable, "-m", "exchange", "topology", "--running", str(os.getpid()), "--json", str(path)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return {
        "text": done.stdout + done.stderr,
        "record": json.loads(path.read_text()) if path.exists() else None,
    }


def interleaved_probe(plan: Plan) -> dict[str, Any]:
    """Memory of a shard's that is touched from one end to the other."""
    with memory_as_planned(plan), memory_of("shard.0", "probe"):
        arena = Arena.private(PROBE_BYTES, huge_pages="never")
    arena.touch(arena.address, PROBE_BYTES)
    (probe,) = [one for one in describe([os.getpid()]) if one["part"] == "probe"]
    return probe


def sessions_of_three_lanes() -> list[dict[str, Any]]:
    """The sessions of a transport with three lanes, of which two processors of a node cannot run all; every page of
    them is touched."""
    settings = load_profile(
        "numa",
        [
            *BASE,
            "shards.count=1",
            "transport.ingress_lanes=3",
            "queue.kind=mpsc",
            'shards.threads=[["ingress.0"],["ingress.1"],["ingress.2","egress"],["shard.0"]]',
            "placement.reserve_os_core=false",
        ],
    )
    plan = plan_exchange(settings)
    config = GatewayConfig(symbols=("AAPL",), capacity_orders=64, log_bytes=1 << 16)
    with memory_as_planned(plan):
        transport = TcpTransport(config, settings.book, SESSIONS, [0], 1, 3, 64)
    arena = transport.memory.arena
    arena.touch(arena.address, arena.capacity_bytes)
    found = [one for one in describe([os.getpid()]) if one["part"] == "gateway.session_memory"]
    homes = {agent: one.memory_node for one in plan.assignments for agent in one.agents}
    transport.close()
    return [one | {"home": homes[one["owner"]]} for one in found]


def mapped_journals() -> list[tuple[str, int | None, dict[str, int]]]:
    """Of each shard's first segment, by its folder's name, the node of the shard, and the pages by node."""
    with TemporaryDirectory() as folder:
        kept = ("journal.kind=mapped", f"journal.directory={folder}/journal", "journal.segment_bytes=1MiB")
        settings = load_profile("numa", [*BASE, *kept])
        plan = plan_exchange(settings)
        with memory_as_planned(plan), scratch_streams(settings):
            lines = Path("/proc/self/numa_maps").read_text().splitlines()
    homes = {agent: one.memory_node for one in plan.assignments for agent in one.agents}
    return [
        (found[1], homes[f"shard.{found[1][-1]}"], pages_of(line))
        for line in lines
        if (found := re.search(r"file=\S*/(shard-\d+)/\S*\.segment", line))
    ]


def main(folder: Path) -> None:
    told: dict[str, Any] = {"page_bytes": mmap.PAGESIZE}
    for memory, run_as in RUNS.items():
        kept = [f"placement.memory={memory.partition(' ')[0]}", f"shards.run_as={run_as}"]
        settings = load_profile("numa", [*BASE, *kept])
        plan = plan_exchange(settings)
        told[memory] = run(settings, plan, folder, is_shown=memory.startswith("local"))
        if memory == "interleave":
            told["probe"] = interleaved_probe(plan)
        if memory == "local":
            told["journals"] = mapped_journals()
    told["sessions"] = sessions_of_three_lanes()
    (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
