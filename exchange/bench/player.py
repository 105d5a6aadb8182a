"""One run: a fresh exchange plays commands at their intended times, and what was measured comes back.

An exchange with a backup has one: a process that is attached and in sync before the first command is due.

Each run builds its exchange anew, so that every run does the same work from the same empty books and ends
with the same digest. Compiling happens before the first command is due. The first ``warmup_commands`` are
played like the others and not measured. The main thread only sleeps and looks, so that it takes nothing away
from the threads that it measures."""

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.assembly import Exchange, expected_answers, lanes_of, plan_exchange
from exchange.bench.backup import BackupProcess, backup_of
from exchange.bench.histogram import Counts
from exchange.bench.results import ThreadCounters
from exchange.bench.touched_memory import TouchedMemory
from exchange.journal.scratch import scratch_streams
from exchange.matching.symbol_owners import spread_symbols
from exchange.placement.memory_owners import memory_as_planned
from exchange.settings import Settings
from exchange.transport.memory import (
    ANSWERS,
    EVENTS,
    LAST_NS,
    NEVER_NS,
    REJECTS,
    TRADES,
    WARM_NS,
    MemoryTransport,
)

LEAD_NS: Final = 20_000_000
"""Between starting the threads and the first intended time: enough for all of them to be in their loops."""

LOOK_SECONDS: Final = 0.01
STALLED_SECONDS: Final = 30.0
"""No answer for this long while commands are due is a fault, not slowness: plain Python answers thousands a second."""


class Played(NamedTuple):
    """What one run did and how long it took. ``measured_commands`` excludes the warm-up."""

    commands: int
    measured_commands: int
    events: int
    trades: int
    rejects: int
    elapsed_ns: int
    lateness_ns: int
    latencies: Counts
    back_pressure: dict[str, int]
    threads: tuple[ThreadCounters, ...]
    not_measured: dict[str, str]
    placement_warnings: tuple[str, ...]
    digest: str


def play(
    settings: Settings,
    commands: NDArray[Any],
    intended_ns: NDArray[np.int64],
    symbol_count: int,
    warmup_commands: int,
    progress: Callable[[str], None],
    *,
    answered: Callable[[int], None] = lambda count: None,
    backup_process: BackupProcess | None = None,
    backup_core: int | None = None,
    touched: TouchedMemory | None = None,
) -> Played:
    """Play ``commands`` through an exchange and wait for every answer.

    Args:
        settings: the profile.
        commands: shape (n,), ``COMMAND_DTYPE``, in time order.
        intended_ns: shape (n,), int64: when each is meant to be sent, from the run's start, not decreasing.
        symbol_count: symbols of the flow.
        warmup_commands: answers before measuring begins; less than n.
        progress: told what is being compiled.
        answered: told now and then how many answers have come.
        backup_process: where a backup runs; by default in a process of its own.
        backup_core: and on which core; by default on another.
        touched: what passes before have touched, which is made ready, and what this one touches is noted.

    Raises:
        UserError: a backup did not start, or was lost.
        RuntimeError: no answer came for a long time; a backup ended otherwise than we. Any error of an agent's thread.
    """
    timed = commands.copy()
    timed["timestamp_ns"] = intended_ns
    plan = plan_exchange(settings)
    with (
        memory_as_planned(plan),
        scratch_streams(settings) as journals,
        backup_of(
            settings,
            spread_symbols(settings, symbol_count),
            journals,
            backup_process,
            backup_core,
        ) as backup,
    ):
        transport = MemoryTransport(
            lanes_of(timed, settings.transport.ingress_lanes), warmup_answers=warmup_commands
        )
        replica = None if backup is None else backup.replica
        exchange = Exchange(settings, symbol_count, transport, journals=journals, plan=plan, replica=replica)
        exchange.compile(progress)
        if touched is not None:
            touched.make_ready()
        answers = expected_answers(commands, settings.shards.count)
        start_ns = NEVER_NS if backup is not None else _start_ns(intended_ns)
        transport.start_at(start_ns)
        with exchange.threads:
            if backup is not None:
                backup.attach()
                start_ns = _start_ns(intended_ns)
                transport.start_at(start_ns - NEVER_NS)
            check = (lambda: None) if backup is None else backup.check
            wait_for_answers(exchange, transport, intended_ns, start_ns, answers, answered, check)
            followed = None if backup is None else backup.finish()
        if touched is not None:
            touched.note()
        if followed is not None and followed.digest != exchange.digest():
            raise RuntimeError(f"the backup's books have digest {followed.digest}, ours {exchange.digest()}")
    return _collect(exchange, transport, timed, start_ns, warmup_commands)


def _start_ns(intended_ns: NDArray[np.int64]) -> int:
    return time.monotonic_ns() + (LEAD_NS if intended_ns[-1] > 0 else 0)


def wait_for_answers(
    exchange: Exchange,
    transport: MemoryTransport,
    intended_ns: NDArray[np.int64],
    start_ns: int,
    wanted: int,
    answered: Callable[[int], None],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Sleep and look until ``wanted`` answers have come; the exchange is running.

    Args:
        exchange: what is running.
        transport: where it sends its answers.
        intended_ns: shape (n,), int64: when commands are due, from ``start_ns``, not decreasing.
        start_ns: the run's start on the monotonic clock.
        wanted: how many answers end the wait.
        answered: told at each look how many have come.
        check: raises if what the exchange needs is gone.

    Raises:
        RuntimeError: commands were due and no answer came for a long time. Any error of an agent's thread.
    """
    seen, seen_at = 0, time.monotonic()
    while (count := transport.word(ANSWERS)) < wanted:
        exchange.threads.check()
        check()
        now = time.monotonic()
        # Between the commands of a slow run there may be minutes in which there is nothing to answer.
        is_idle = count >= int(np.searchsorted(intended_ns, time.monotonic_ns() - start_ns, side="right"))
        if count != seen or is_idle:
            seen, seen_at = count, now
            answered(count)
        elif now - seen_at > STALLED_SECONDS:
            raise RuntimeError(
                f"profile {exchange.settings.name}: {count} of {wanted} answers, then none for "
                f"{STALLED_SECONDS:.0f} s; shards: {exchange.status()}"
            )
        time.sleep(LOOK_SECONDS)
    answered(wanted)


def _collect(
    exchange: Exchange, transport: MemoryTransport, timed: NDArray[Any], start_ns: int, warmup_commands: int
) -> Played:
    intended = timed["timestamp_ns"]
    # At saturation nothing has an intended time of its own: the clock runs from the warm-up's last answer. In an
    # open-loop run it runs from the first measured command's intended time, whether or not it could be sent then.
    is_paced = bool(intended[-1] > 0)
    begin_ns = start_ns + int(intended[warmup_commands]) if is_paced else transport.word(WARM_NS) or start_ns
    threads = tuple(
        ThreadCounters(
            name=thread.name,
            agents=tuple(thread.name.split("+")),
            core=None if thread.assignment is None else thread.assignment.processing_unit,
            voluntary_switches=thread.counters["voluntary_switches"],
            involuntary_switches=thread.counters["involuntary_switches"],
            migrations=thread.counters["migrations"],
            cpu_ns=thread.counters["cpu_ns"],
            waiting_ns=thread.counters["waiting_ns"],
        )
        for thread in exchange.threads.agent_threads
    )
    reasons = {
        key: text
        for one in exchange.threads.agent_threads
        for key, text in one.counters["not_measured"].items()
    }
    return Played(
        commands=len(timed),
        measured_commands=len(timed) - warmup_commands,
        events=transport.word(EVENTS),
        trades=transport.word(TRADES),
        rejects=transport.word(REJECTS),
        elapsed_ns=max(transport.word(LAST_NS) - begin_ns, 1),
        lateness_ns=transport.word(LAST_NS) - (start_ns + int(intended[-1])),
        latencies=transport.latencies(),
        back_pressure=exchange.back_pressure(),
        threads=threads,
        not_measured=reasons,
        placement_warnings=exchange.plan.warnings,
        digest=exchange.digest(),
    )
