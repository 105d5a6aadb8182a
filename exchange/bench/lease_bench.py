"""``exchange bench lease``: how long nobody is primary after a kill, and how close a lease comes to its end by itself.

With a short lease it is noticed sooner that its holder is gone. It also runs out sooner when the holder is there and
was only held up, by its machine, the network or the store; then no event leaves until the next renewal, and if that
takes longer, a backup takes over from a primary that is well. So for each length of a lease there are two figures that
pull in opposite directions:

* **From the kill to the new lease**: a primary is killed with SIGKILL, and a watcher that is in sync takes over. It is
  detection alone; what a backup has to do before it serves comes on top.
* **Used of a lease**: the longest time from the sending of a renewal until the next one was known, in per cent of the
  time for which a renewal is good. Above 100 no event could leave for a while.

And what both stand on, the time of **a renewal**, from its sending to the store's answer, a sync of the disk included.

The variants: *quiet*, nothing else in the primary's process; *busy*, a compiled thread that never rests for each core
that may be used, in that process. The store and the watcher run on the same cores.

Rules: rounds are interleaved over all of it. The store keeps its files in a fresh folder below the current directory,
which is removed in the end; a renewal is every fifth of a lease.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from exchange.bench.lease_prober import BACKUP, Held, HolderPlan
from exchange.bench.micro import Table, choose_cores, finish, in_turns
from exchange.bench.results import BenchResult, along_axis
from exchange.child_command import child_environment
from exchange.errors import UserError
from exchange.replication.config import TcpReplicationConfig
from exchange.replication.lease import LeaseWatcher, lease_clock_ns
from exchange.replication.store_process import StoreProcess

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

QUIET: Final = "quiet"
BUSY: Final = "busy"
AXIS: Final = "lease_ms"
TAKEOVER: Final = "from the kill to the new lease"
USED: Final = "used of a lease, at most"
RENEWAL: Final = "a renewal"
RENEWALS_OF_A_LEASE: Final = 5
PATIENCE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.001


class LeaseBenchPlan(NamedTuple):
    """How much to measure: lengths of leases, and for how long each is held before its holder is killed."""

    leases_ms: tuple[int, ...] = (50, 100, 150, 250, 500)
    seconds: float = 3.0
    rounds: int = 7

    @classmethod
    def quick(cls) -> "LeaseBenchPlan":
        """Enough to see that it works."""
        return cls(leases_ms=(100, 300), seconds=0.5)


def run_lease_bench(plan: LeaseBenchPlan, command_line: str, progress: "Progress") -> BenchResult:
    """Measure each length of a lease, quiet and busy.

    Raises:
        UserError: the store does not start, a package is missing, or a holder failed.
    """
    table = Table((QUIET, BUSY), choose_cores())
    progress.total(1 + plan.rounds * len(plan.leases_ms))
    progress.step("starting the store")
    lengths = [str(lease_ms) for lease_ms in plan.leases_ms]
    with _store() as store:
        run = _Run(plan, table, store)
        for round_index in range(plan.rounds):
            for lease_ms in in_turns(lengths, round_index):
                progress.step(f"a lease of {lease_ms} ms, round {round_index + 1} of {plan.rounds}")
                for variant in in_turns([QUIET, BUSY], round_index):
                    run.measure(int(lease_ms), variant)
    return along_axis(finish("lease", table, (), command_line), AXIS)


@contextmanager
def _store() -> Iterator[StoreProcess]:
    folder = Path(tempfile.mkdtemp(prefix="exchange-lease-", dir=Path.cwd()))
    try:
        store = StoreProcess(folder, "127.0.0.1", 0)
        try:
            store.start()
            yield store
        finally:
            store.close()
    finally:
        shutil.rmtree(folder)


class _Run:
    """The rounds: each with a primary of its own."""

    def __init__(self, plan: LeaseBenchPlan, table: Table, store: StoreProcess) -> None:
        self._plan: Final = plan
        self._table: Final = table
        self._url: Final = f"nats://{store.address}:{store.port}"
        self._count = 0

    def measure(self, lease_ms: int, variant: str) -> None:
        """Have a lease held for a while, and its holder killed; a value for each row."""
        self._count += 1
        lease_ns = lease_ms * 1_000_000
        config = TcpReplicationConfig(
            group=f"bench-{self._count}",
            lease_store=self._url,
            lease_ns=lease_ns,
            renew_every_ns=lease_ns // RENEWALS_OF_A_LEASE,
        )
        threads = len(os.sched_getaffinity(0)) if variant == BUSY else 0
        with _holder(HolderPlan(config, self._plan.seconds, threads)) as holder:
            held = _held(holder)
            takeover_ns = _kill_and_take_over(holder, config)
        parameters, add = {AXIS: lease_ms}, self._table.add
        add(TAKEOVER, variant, takeover_ns, "ns", "lower", parameters)
        add(USED, variant, 100 * held.used_part, "%", "lower", parameters)
        add(f"{RENEWAL}, median", variant, held.p50_ns, "ns", "lower", parameters)
        add(f"{RENEWAL}, p99", variant, held.p99_ns, "ns", "lower", parameters)


@contextmanager
def _holder(plan: HolderPlan) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "exchange.bench.lease_prober"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # Ctrl-C is for us
        env=child_environment(),
    )
    try:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(msgspec.json.encode(plan).decode() + "\n")
            process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.communicate()


def _held(process: "subprocess.Popen[str]") -> Held:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        _, message = process.communicate()
        raise UserError(f"lease: the process that held it has failed: {message.strip()}")
    return msgspec.json.decode(line, type=Held)


def _kill_and_take_over(process: "subprocess.Popen[str]", config: TcpReplicationConfig) -> int:
    """How long it takes from the kill, at any moment between two renewals, until the watcher has the lease."""
    with LeaseWatcher(config, BACKUP) as watcher:
        first = watcher.record()
        while watcher.record() == first:
            time.sleep(LOOK_SECONDS)
        time.sleep(random.uniform(0, config.renew_every_ns / 1e9))
        killed_ns = lease_clock_ns()
        process.kill()
        while watcher.wait(PATIENCE_SECONDS):
            if watcher.try_take_over() is not None:
                return lease_clock_ns() - killed_ns
    raise UserError("lease: the watcher could not take it over")
