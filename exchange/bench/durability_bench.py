"""``exchange bench durability``: what it costs that nothing acknowledged is lost, for clients and for the core.

============== =====================================================================================================
variant        what must have happened before an answer leaves
============== =====================================================================================================
none           nothing: there is no journal
mapped-written its command is copied into a mapped file: outlives the process
file-written   its command is written with a system call: outlives the process
mapped-synced  and the disk has it: outlives the machine
file-synced    the same
============== =====================================================================================================

*The core*: a synthetic flow through an exchange in memory, thread to thread, as ``exchange bench lockfree`` plays it,
in commands per second. No event waits for a disk here but in the last two variants, so the first three say what writing
takes of the shard. A *burst* fits into segments that are there when it begins, as most of a day does; in a *flood* of
several segments for each stream the next ones are made, zeroed and synced meanwhile, as fast as they fill. What the
pass before has left to be written to the disk is written before the next one begins, and the pages that a pass will
write to are there (:mod:`exchange.bench.touched_memory`). Every pass must end with the same digest.

*Served*: ``exchange serve`` over TCP on the loopback, as ``exchange bench gateway`` measures it: the round trip of a
single session, which with a synced gate contains a sync, and the rate of eight with many requests under way, for which
one sync serves all. The threads of an exchange, the one that syncs among them, share one core and give it away when
they find nothing to do; the clients have another. Sessions, books and feeds are equal in all variants.

The variants of a round are measured in turns, each round beginning with another one; journals lie in fresh folders
below the current directory, whose file system the result names, and are removed in the end."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from exchange.bench.gateway_bench import (
    GatewayBenchPlan,
    Served,
    measure_exchange,
    served_exchange,
    warnings_about,
)
from exchange.bench.micro import Cores, Table, choose_cores, finish, in_turns
from exchange.bench.player import play
from exchange.bench.results import BenchResult
from exchange.bench.touched_memory import TouchedMemory
from exchange.errors import UserError
from exchange.flow import Flow, SyntheticConfig, load_flow
from exchange.load.generator import compile_loop
from exchange.settings import load_profile

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

NONE: Final = "none"
VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    NONE: (),
    "mapped-written": ("journal.kind=mapped", "journal.gate=written"),
    "file-written": ("journal.kind=file", "journal.gate=written"),
    "mapped-synced": ("journal.kind=mapped", "journal.gate=synced"),
    "file-synced": ("journal.kind=file", "journal.gate=synced"),
}
CORE_PROFILE: Final = "lockfree"
BURST_SETTINGS: Final = ("journal.segment_bytes=256MiB",)
SERVED_SETTINGS: Final = ("market_data.kind=none", "gateway.log_bytes=1GiB")
JOURNAL_THREADS: Final = 'shards.threads=[["ingress","shard.0","egress"],["journal"]]'
WARM_PART: Final = 10
"""One of so many commands is played before the clock runs."""


class DurabilityBenchPlan(NamedTuple):
    """How much to measure: commands of a burst and of a flood through the core, and each served measurement."""

    commands: int = 2_000_000
    flood_commands: int = 6_000_000
    seed: int = 1
    served: GatewayBenchPlan = GatewayBenchPlan()
    rounds: int = 7

    @classmethod
    def quick(cls) -> "DurabilityBenchPlan":
        """Enough to see that it works."""
        return cls(
            commands=300_000, flood_commands=300_000, served=GatewayBenchPlan(seconds=0.3, warmup_seconds=0.1)
        )


def run_durability_bench(plan: DurabilityBenchPlan, command_line: str, progress: "Progress") -> BenchResult:
    """Measure all variants.

    Raises:
        UserError: a server did not start, or passes through the core did not do the same work.
    """
    cores = choose_cores()
    table = Table(tuple(VARIANTS), cores)
    progress.total(len(VARIANTS) + 2 + 3 * plan.rounds)
    for row, commands, overrides in (
        ("core, a burst", plan.commands, BURST_SETTINGS),
        ("core, a flood", plan.flood_commands, ()),
    ):
        progress.step("making the flow, compiling")
        core = _Core(row, commands, plan.seed, overrides, table, progress)
        for name in VARIANTS:
            core.measure(name, is_warming=True)
        for round_index in range(plan.rounds):
            progress.step(f"{row}, round {round_index + 1} of {plan.rounds}")
            for name in in_turns(table.remaining(), round_index):
                core.measure(name)
    compile_loop("tcp")
    with ExitStack() as stack:
        runs = _start_all(stack, table, cores, plan, progress)
        for round_index in range(plan.rounds):
            progress.step(f"served, round {round_index + 1} of {plan.rounds}")
            for name in in_turns(table.remaining(), round_index):
                runs[name]()
    return finish("durability", table, (*warnings_about(cores), _SHARED), command_line)


_SHARED: Final = (
    "Served: the thread that syncs shares a core with the one that serves, and the clients have another. With cores to"
    " spare a sync does not take time from the order path."
)


class _Core:
    """The exchange in memory: its flow, and the digest that every pass must come to."""

    def __init__(
        self, row: str, commands: int, seed: int, overrides: Sequence[str], table: Table, progress: "Progress"
    ) -> None:
        self._row: Final = row
        self._overrides: Final = tuple(overrides)
        self._table: Final = table
        self._progress: Final = progress
        self._flow: Final[Flow] = load_flow(
            "synthetic", synthetic=SyntheticConfig(commands=commands, seed=seed)
        )
        self._at_once: Final = np.zeros(len(self._flow.commands), np.int64)
        self._touched: Final = TouchedMemory()
        self._digest = ""

    def measure(self, name: str, *, is_warming: bool = False) -> None:
        """One pass; a row's value unless it is the first of its variant, which compiles."""
        commands = self._flow.commands
        settings = load_profile(CORE_PROFILE, (*VARIANTS[name], *(self._overrides if VARIANTS[name] else ())))
        os.sync()
        played = play(
            settings, commands, self._at_once, len(self._flow.symbols), len(commands) // WARM_PART,
            self._progress.detail, touched=self._touched,
        )  # fmt: skip
        if played.digest != (self._digest or played.digest):
            raise UserError(f"{name}: a pass ended with digest {played.digest}, others with {self._digest}")
        self._digest = played.digest
        if not is_warming:
            rate = played.measured_commands / played.elapsed_ns * 1e9
            parameters = {"commands": len(commands)}
            self._table.add(self._row, name, rate, "1/s", "higher", parameters)


def _start_all(
    stack: ExitStack, table: Table, cores: Cores, plan: DurabilityBenchPlan, progress: "Progress"
) -> dict[str, Callable[[], None]]:
    """Start an exchange of each variant, stopped; what measures each once."""
    folder = Path(tempfile.mkdtemp(prefix="exchange-durability-", dir=Path.cwd()))
    stack.callback(shutil.rmtree, folder)
    runs: dict[str, Callable[[], None]] = {}
    for name, journal in VARIANTS.items():
        progress.step(f"starting exchange {name}")
        own = (*journal, JOURNAL_THREADS, f"journal.directory={folder / name}") if journal else ()
        served: Served = stack.enter_context(served_exchange(name, (*SERVED_SETTINGS, *own), cores.first))
        runs[name] = partial(measure_exchange, table, name, served, plan.served)
    return runs
