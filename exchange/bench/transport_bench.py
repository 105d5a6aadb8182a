"""``exchange bench transport``: what a datagram costs between two processes, by every transport that is here.

No exchange is in between: a *reflector* (``exchange reflect``) sends every datagram back, and a *prober* asks it. Both
poll, unless the transport is one that sleeps, each on a core of its own. The variants are those of
:mod:`exchange.bench.transport_variants`; a datagram has :data:`PAYLOAD_BYTES` bytes, which makes an Ethernet frame of
64 bytes, the smallest there is.

*Round trip*: one datagram at a time, from before it is handed over until it is back, timed in a compiled loop; the time
contains two readings of the clock. Median, p99 and p99.9 of a round.

*Echoes*: up to ``window`` datagrams are on their way, in bursts, and it is counted how many come back in a second.

*System calls*: in a run of its own, of the prober alone, counted by strace: those that did something, for each datagram
that went out and came back. What looked and found nothing is not in that number, for tracing makes it any number. The
calls of the benchmark itself are subtracted.

Each round begins with another variant, and before each it is measured how far apart the two cores are: one word there
and back. In a virtual machine nobody tells where the two are, and the host moves them: that alone makes a factor of
four of what is shared memory, and much less of what is mostly the kernel's work.

Rules: what this machine cannot run is in the result, with the reason and with what helps. Memory (``dpdk-memif``,
``dpdk-vhost``) has no wire; a cable between namespaces (``veth``) has none either, but the kernel's work of one.
"""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.bench.micro import Cores, Machine, Table, check_kinds, choose_cores, finish, in_turns
from exchange.bench.results import BenchResult
from exchange.bench.system_calls import count_system_calls, why_not_counted
from exchange.bench.transport_prober import LOST_MAX, Found, Order
from exchange.bench.transport_processes import Pair, connected
from exchange.bench.transport_variants import POLLED, VARIANTS, why_not
from exchange.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.bench.runner import Progress

FRAME_BYTES: Final = 64
PAYLOAD_BYTES: Final = 18
"""With 42 bytes of headers, and 4 of the frame's checksum that a card adds."""

RATIO: Final = f"round trip, median: so many times shorter than {POLLED}'s"
ATTEMPTS: Final = 5
"""Of one measurement in which nothing came back, on a machine that has other things to do."""
CALLS_ALONE: Final = "system calls for a datagram, one at a time"
CALLS_MANY: Final = "system calls for a datagram, many on their way"


class TransportBenchPlan(NamedTuple):
    """How much to measure: round trips and seconds of echoes in a round, how many datagrams are on their way then."""

    round_trips: int = 50_000
    echo_seconds: float = 0.5
    window: int = 256
    traced_round_trips: int = 1_000
    traced_echo_seconds: float = 0.5
    rounds: int = 7

    @classmethod
    def quick(cls) -> "TransportBenchPlan":
        """Enough to see that it works."""
        return cls(round_trips=5_000, echo_seconds=0.1, traced_round_trips=200, traced_echo_seconds=0.1)


def run_transport_bench(
    names: "Sequence[str]", plan: TransportBenchPlan, command_line: str, progress: "Progress"
) -> BenchResult:
    """Measure the variants of those names, or all.

    Raises:
        UserError: there is no such variant, none could be measured, or there is but one core.
    """
    check_kinds("transport", names, tuple(VARIANTS))
    chosen = [name for name in VARIANTS if name in (names or VARIANTS)]
    cores = choose_cores()
    if cores.must_yield:
        raise UserError("transport: both ends poll, so it takes two cores, and only one may be used")
    table = Table(tuple(chosen), cores)
    machine = Machine(table, cores)
    progress.total(2 * len(chosen) + plan.rounds)
    pairs: dict[str, Pair] = {}
    with ExitStack() as stack:
        try:
            _start(pairs, stack, chosen, cores, plan, table, progress)
            run = _Run(plan, table, pairs)
            for round_index in range(plan.rounds):
                progress.step(f"round {round_index + 1} of {plan.rounds}")
                machine.measure()
                run.round(round_index)
            uncounted = run.count_calls(progress)
        finally:
            for pair in pairs.values():
                pair.ask_to_end()
    warnings = (*machine.warnings(), *(() if uncounted is None else (uncounted,)))
    return finish("transport", table, warnings, command_line)


def _start(
    pairs: dict[str, Pair],
    stack: ExitStack,
    names: "Sequence[str]",
    cores: Cores,
    plan: TransportBenchPlan,
    table: Table,
    progress: "Progress",
) -> None:
    for name in names:
        progress.step(f"starting {name}")
        reason = why_not(VARIANTS[name])
        if reason is not None:
            table.skip(name, reason)
            continue
        try:
            pairs[name] = stack.enter_context(
                connected(name, VARIANTS[name], cores, PAYLOAD_BYTES, plan.window)
            )
        except UserError as error:
            table.skip(name, f"not measured on this machine: {error}")


class _Run:
    """The rounds."""

    def __init__(self, plan: TransportBenchPlan, table: Table, pairs: dict[str, Pair]) -> None:
        self._plan: Final = plan
        self._table: Final = table
        self._pairs: Final = pairs

    def round(self, index: int) -> None:
        """Each variant once, and how it compares."""
        plan, medians_ns = self._plan, dict[str, float]()
        for name in in_turns(self._table.remaining(), index):
            trips = self._measured(name, Order("round trips", round_trips=plan.round_trips))
            echoes = self._measured(name, Order("echoes", duration_ns=int(plan.echo_seconds * 1e9)))
            if trips is None or echoes is None:
                self._table.skip(name, "nobody sent anything back; the machine has other things to do")
                continue
            medians_ns[name] = trips.p50_ns
            self._add(name, trips, echoes)
        for name, median_ns in medians_ns.items():
            if name != POLLED and POLLED in medians_ns:
                self._table.add(RATIO, name, medians_ns[POLLED] / median_ns, "times", "higher")

    def _measured(self, name: str, order: Order) -> Found | None:
        """What was found; None if again and again the reflector had no turn of its core."""
        for _ in range(ATTEMPTS):
            found = self._pairs[name].measure(order)
            if found.messages > 0 and (order.what == "echoes" or found.lost <= LOST_MAX):
                return found
        return None

    def _add(self, name: str, trips: Found, echoes: Found) -> None:
        add, shape = self._table.add, {"frame_bytes": FRAME_BYTES}
        add("round trip, median", name, trips.p50_ns, "ns", "lower", shape)
        add("round trip, p99", name, trips.p99_ns, "ns", "lower", shape)
        add("round trip, p99.9", name, trips.p99_9_ns, "ns", "lower", shape)
        rate = echoes.messages / echoes.elapsed_ns * 1e9
        add("echoes", name, rate, "1/s", "higher", shape | {"window": self._plan.window})

    def count_calls(self, progress: "Progress") -> str | None:
        """Count system calls; why that is not possible, or None."""
        reason = why_not_counted()
        if reason is not None:
            return f"System calls were not measured on this machine: {reason}."
        for name in self._table.remaining():
            progress.step(f"counting system calls of {name}")
            pair = self._pairs[name]
            own, _ = _counted(pair, Order("round trips"))
            alone = Order("round trips", round_trips=self._plan.traced_round_trips)
            many = Order("echoes", duration_ns=int(self._plan.traced_echo_seconds * 1e9))
            for row, order in ((CALLS_ALONE, alone), (CALLS_MANY, many)):
                calls, found = _counted(pair, order)
                if found.messages > 0:
                    per_message = max(calls - own, 0) / found.messages
                    self._table.add(row, name, per_message, "calls", "lower")
        return None


def _counted(pair: Pair, order: Order) -> tuple[int, Found]:
    """The calls of the prober that did something, and what it found."""
    found: list[Found] = []
    calls = count_system_calls(pair.prober_id, lambda: found.append(pair.measure(order)))
    return calls.done, found[0]
