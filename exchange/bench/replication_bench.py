"""``exchange bench replication``: what it costs that a second machine has every command before its answer leaves.

======== ===========================================================================================================
variant  how the backup is reached
======== ===========================================================================================================
none     there is none
tcp      the kernel's sockets
rdma-shm one-sided writes through libfabric, over shared memory
rdma-tcp the same code over libfabric's TCP
======== ===========================================================================================================

A synthetic flow goes through an exchange in memory, one thread from the command to its answer (run to completion), with
a journal in a mapped file in every variant, ``none`` among them. The backup is a process on the other core: it keeps a
journal of its own and applies every command to books of its own, which must be the primary's in the end. The two run on
one machine, for want of a second; so the wire between them is missing in all variants alike.

* *Throughput*: all commands at once. A shard's batch is a frame, and many frames are one copy.
* *An answer*: commands one by one, :data:`RATE` a second, so that each is a frame and a copy of its own. From the
  moment
  at which it was due until its answer leaves.

Both for the gates ``received`` (the backup's memory has the command) and ``applied`` (it has journaled and applied it).
What a variant adds to the median is the difference to ``none`` in the same round.

The pages that a pass will write to are there before its clock runs, here and on the backup
(:mod:`exchange.bench.touched_memory`). Journals lie in fresh folders below :data:`JOURNAL_PARENT`, in memory, so that
no disk is measured, and are removed in the end. The variants of a round are measured in turns, each round beginning
with another one."""

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from exchange.bench.backup import BackupProcess
from exchange.bench.histogram import latency_percentiles
from exchange.bench.micro import Cores, Table, choose_cores, finish, in_turns, on_core
from exchange.bench.player import Played, play
from exchange.bench.results import BenchResult
from exchange.bench.touched_memory import TouchedMemory
from exchange.errors import UserError
from exchange.flow import Flow, SyntheticConfig, load_flow
from exchange.journal.layout import SEGMENT_HEADER_BYTES
from exchange.messages import RECORD_BYTES
from exchange.replication.config import FABRIC_PACKAGES
from exchange.replication.fabric import SHIM
from exchange.settings import load_profile

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

NONE: Final = "none"
VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    NONE: (),
    "tcp": ("replication.kind=tcp",),
    "rdma-shm": ("replication.kind=rdma", "replication.provider=shm"),
    "rdma-tcp": ("replication.kind=rdma", "replication.provider=tcp"),
}
GATES: Final = ("received", "applied")
CORE_PROFILE: Final = "lockfree"
JOURNAL_PARENT: Final = "/dev/shm"
CORE_SETTINGS: Final = (
    "shards.count=1",
    'shards.threads=[["ingress","shard.0","egress"],["journal"]]',
    "journal.kind=mapped",
    "journal.gate=written",
    f"journal.directory={JOURNAL_PARENT}/exchange-bench-journal",
)
PATIENCE: Final = "replication.backup_timeout_ns=5s"
"""A benchmark gives nobody up because the machine is busy."""
RATE: Final = 10_000
SEGMENT_BYTES_LEAST: Final = 1 << 20
WARM_PART: Final = 10
"""One of so many commands is played before anything is measured."""


class ReplicationBenchPlan(NamedTuple):
    """How much to measure: commands at once, and commands one by one."""

    commands: int = 2_000_000
    single_commands: int = 20_000
    seed: int = 1
    rounds: int = 7

    @classmethod
    def quick(cls) -> "ReplicationBenchPlan":
        """Enough to see that it works."""
        return cls(commands=300_000, single_commands=5_000)


def run_replication_bench(plan: ReplicationBenchPlan, command_line: str, progress: "Progress") -> BenchResult:
    """Measure all variants.

    Raises:
        UserError: a backup did not start or was lost, or passes did not do the same work.
    """
    cores = choose_cores()
    table = Table(tuple(VARIANTS), cores)
    if not SHIM.is_installed():
        for name in VARIANTS:
            if name.startswith("rdma"):
                table.skip(name, f"libfabric is not installed: sudo apt-get install {FABRIC_PACKAGES}")
    progress.total(2 + plan.rounds)
    progress.step("making the flow")
    with BackupProcess() as process:
        passes = _Passes(plan, cores, table, process, progress)
        progress.step("compiling")
        for name in table.remaining():
            passes.warm(name)
        for round_index in range(plan.rounds):
            progress.step(f"round {round_index + 1} of {plan.rounds}")
            passes.measure(in_turns(table.remaining(), round_index))
    return finish("replication", table, (), command_line)


class _Passes:
    """The flow, and the digest that every pass over it must come to."""

    def __init__(
        self,
        plan: ReplicationBenchPlan,
        cores: Cores,
        table: Table,
        process: BackupProcess,
        progress: "Progress",
    ) -> None:
        self._plan: Final = plan
        self._cores: Final = cores
        self._table: Final = table
        self._process: Final = process
        self._progress: Final = progress
        config = SyntheticConfig(commands=max(plan.commands, plan.single_commands), seed=plan.seed)
        self._flow: Final[Flow] = load_flow("synthetic", synthetic=config)
        self._digests: Final[dict[int, str]] = {}
        self._touched: Final = TouchedMemory()

    def warm(self, name: str) -> None:
        """Compile a variant, and let everything be touched once."""
        self._play(name, GATES[0], 1_000, 0)
        self._play(name, GATES[0], self._plan.commands, 0)

    def measure(self, names: list[str]) -> None:
        """One round of all variants and gates; ``none`` waits for no gate and is measured once for both."""
        plan = self._plan
        at_once: dict[tuple[str, str], float] = {}
        medians: dict[tuple[str, str], float] = {}
        for name in names:
            for gate in GATES if name != NONE else GATES[:1]:
                played = self._play(name, gate, plan.commands, 0)
                rate = played.measured_commands / played.elapsed_ns * 1e9
                percentiles = latency_percentiles(
                    self._play(name, gate, plan.single_commands, RATE).latencies
                )
                if percentiles is None:
                    raise UserError(f"{name}: no answer was measured")
                for one in (gate,) if name != NONE else GATES:
                    at_once[name, one] = rate
                    medians[name, one] = percentiles.p50_ns / 1000
                    waits = {"gate": one}
                    self._table.add("commands at once", name, rate, "1/s", "higher", waits)
                    self._table.add(
                        "an answer, median", name, percentiles.p50_ns / 1000, "µs", "lower", waits
                    )
                    self._table.add("an answer, p99", name, percentiles.p99_ns / 1000, "µs", "lower", waits)
        for (name, gate), median in medians.items():
            if name != NONE and NONE in names:
                added = median - medians[NONE, gate]
                part = at_once[name, gate] / at_once[NONE, gate]
                self._table.add("added to the median", name, added, "µs", "lower", {"gate": gate})
                self._table.add("part of the throughput without", name, part, "", "higher", {"gate": gate})

    def _play(self, name: str, gate: str, count: int, rate: int) -> Played:
        own = (*VARIANTS[name], f"replication.gate={gate}", PATIENCE) if VARIANTS[name] else ()
        # A segment that holds all of a pass, each command in a frame of its own: none is made while the clock runs.
        needed = max(count * 2 * RECORD_BYTES + SEGMENT_HEADER_BYTES, SEGMENT_BYTES_LEAST)
        room = f"journal.segment_bytes={1 << (needed - 1).bit_length()}"
        settings = load_profile(CORE_PROFILE, (*CORE_SETTINGS, room, *own))
        commands = self._flow.commands[:count]
        intended_ns = np.zeros(count, np.int64)
        if rate > 0:
            intended_ns = (np.arange(count) * (1e9 / rate)).astype(np.int64)
        with on_core(self._cores.first):
            played = play(
                settings, commands, intended_ns, len(self._flow.symbols), count // WARM_PART,
                self._progress.detail, backup_process=self._process, backup_core=self._cores.second,
                touched=self._touched,
            )  # fmt: skip
        if self._digests.setdefault(count, played.digest) != played.digest:
            raise UserError(f"{name}: a pass ended with digest {played.digest}, not {self._digests[count]}")
        return played
