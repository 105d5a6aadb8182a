"""One run after the other against an exchange on the network, and what was measured as a result of ``exchange bench``.

A run logs its sessions on, makes all requests (:mod:`exchange.load.requests`), lets the compiled loop have the sockets
(:mod:`exchange.load.loops`) on a thread of its own that is bound to a core, cancels what still rests, and logs out. The
main thread sleeps meanwhile, so Ctrl-C is heard at once. Each run begins with a warm-up: requests that are sent and
answered like all others, and not measured.

Rules: memory, time and counts have bounds (:mod:`exchange.limits`). Whatever happens, sessions are logged out."""

import errno
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from resource import RUSAGE_SELF, getrusage
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange import limits
from exchange.bench.histogram import Counts, empty_counts, encode, latency_percentiles
from exchange.bench.host import describe_host
from exchange.bench.micro import choose_cores, run_pinned
from exchange.bench.results import BenchResult, FlowDescription, LoadPoint, ProfileResult, SaturationRound
from exchange.bench.runner import BEHIND_FRACTION, BEHIND_NS_MIN, Progress
from exchange.card_line import CARDS
from exchange.errors import UserError
from exchange.line import Carrier
from exchange.load import loops, words
from exchange.load.carriage import CARRIAGES, Carriage, LoadCarrier, card_carriage
from exchange.load.logins import Endpoint, Login
from exchange.load.loops import Account, Load, run_load
from exchange.load.requests import SessionRequests, session_requests
from exchange.load.resuming import Resuming
from exchange.load.sessions import CONNECT_SECONDS, Session, log_out
from exchange.native import (
    EPOLL_ADD,
    EPOLL_EVENT_BYTES,
    READABLE,
    Arena,
    address_of,
    epoll_control,
    load_int64,
    store_int64,
    write_epoll_event,
)
from exchange.wire.soupbintcp import SILENCE_SECONDS_MAX

Arrivals = Literal["poisson", "constant"]

LEAD_NS: Final = 20_000_000
"""Between starting the thread and the first intended time."""

DRAIN_NS: Final = 2_000_000_000
"""How long answers are waited for after the last request was due."""

ROUND_TRIPS_PER_SECOND_MAX: Final = 200_000
"""The kernel alone takes more than 5 microseconds to carry a request there and its answer back."""
CARD_ROUND_TRIPS_PER_SECOND_MAX: Final = 1_500_000
"""Without it, a request and its answer are some cache lines from core to core and back."""

SENDING: Final = "sending"
LEAVING: Final = "logging out"
"""What a run says it is doing, before it measures and after."""

NOT_SEEN: Final = "not seen from a client"
"""What stands for a digest of the books: a client knows its own orders only."""


class LoadPlan(NamedTuple):
    """What to do. ``rates`` are requests per second of all sessions together; None is "as many as are answered".

    ``window`` bounds what a session has unanswered at such a rate; ``orders`` is how many a session keeps in the book.
    ``transport`` is what carries the packets: SoupBinTCP, or the same in the exchange's own datagrams, by sockets or by
    a card of which ``device`` is DPDK's or the kernel's name and ``address`` our IPv4 address, with packets in
    ``huge_pages`` or not. ``keeps_orders`` leaves in the book what rests at the end. ``patience_s`` is how long the
    exchange may take at least, to be found, to let a user in, and to answer at the end. ``sleeps`` leaves the core to
    others while nothing is to be done, at the price of the kernel's waking in each latency."""

    endpoint: Endpoint
    logins: tuple[Login, ...]
    rates: tuple[float | None, ...]
    seconds: float = 5.0
    warmup_seconds: float = 1.0
    arrivals: Arrivals = "poisson"
    window: int = 32
    orders: int = 16
    symbols: tuple[str, ...] = ("AAPL",)
    middle_ticks: int = 100_0000
    rounds: int = 1
    seed: int = 1
    transport: LoadCarrier = "tcp"
    sleeps: bool = False
    device: str = ""
    address: str = ""
    huge_pages: bool = False
    keeps_orders: bool = False
    patience_s: float = 0.0


class Measured(NamedTuple):
    """One run. All counts but ``measured`` include the warm-up; ``elapsed_ns`` is that of what was measured.

    ``latencies`` are of all requests, ``order_latencies`` of new orders alone. ``user_ns`` and ``system_ns`` are what
    this process took of a processor meanwhile, warm-up included, outside the kernel and in it. ``back_pressure`` is how
    often the line was full, and what it had to repeat.
    """

    counts: dict[str, int]
    measured: int
    elapsed_ns: int
    lateness_ns: int
    back_pressure: dict[str, int]
    latencies: Counts
    order_latencies: Counts
    user_ns: int
    system_ns: int


def run_load_plan(plan: LoadPlan, command_line: str, progress: Progress) -> BenchResult:
    """Measure as the plan says.

    Raises:
        UserError: the plan is beyond a limit, a login was refused, nobody listens, or the exchange hung up.
    """
    check_plan(plan)
    progress.total(plan.rounds * len(plan.rates))
    points: list[LoadPoint] = []
    saturation: list[SaturationRound] = []
    with carriage_of(plan) as carriage:
        progress.detail("compiling")
        compile_loop(carriage)
        for round_index in range(plan.rounds):
            for rate in plan.rates:
                offered = "as many as are answered" if rate is None else f"{rate:,.0f} requests/s"
                progress.step(f"{plan.endpoint}: {offered}, round {round_index + 1} of {plan.rounds}")
                measured = run_once(plan, rate, round_index, progress.detail, carriage)
                if rate is None:
                    saturation.append(_saturation_round(measured, round_index))
                else:
                    points.append(_load_point(measured, rate, round_index))
    profile = ProfileResult(
        name=str(plan.endpoint),
        description=f"{len(plan.logins)} sessions over {plan.transport.upper()}, one thread",
        settings={"load": _settings(plan)},
        digest=None,
        saturation_rounds=tuple(saturation),
        load_points=tuple(points),
    )
    longest = max((request_count(plan, rate) for rate in plan.rates), default=0)
    return BenchResult(
        kind="load",
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        command_line=command_line,
        host=describe_host(),
        flow=FlowDescription(
            "makers and takers",
            "Each session keeps orders in the book and works through them (Enter, Replace, Cancel); one request in "
            "ten is an Immediate-or-Cancel order that trades.",
            longest,
            len(plan.symbols),
            plan.seed,
        ),
        profiles=(profile,),
        warnings=_warnings([*(one.counts for one in points), *(one.counts for one in saturation)]),
    )


@contextmanager
def carriage_of(plan: LoadPlan) -> Iterator[Carriage]:
    """What carries a plan's packets; a card is open as long as the block lasts."""
    if plan.transport == "afxdp" or plan.transport == "dpdk":
        with card_carriage(
            plan.transport,
            plan.device,
            plan.address,
            plan.endpoint,
            huge_pages=plan.huge_pages,
            patience_s=plan.patience_s,
        ) as carriage:
            yield carriage
    else:
        yield CARRIAGES[plan.transport]


def check_plan(plan: LoadPlan) -> None:
    """UserError for a plan beyond a limit, before anybody is asked for anything."""
    if not plan.rates or not plan.logins or not plan.symbols:
        raise UserError("load: a rate, a user and a symbol are the least")
    for what, value, least, most in (
        ("--sessions", len(plan.logins), 1, limits.LOAD_SESSIONS_MAX),
        ("--seconds", plan.seconds, limits.LOAD_SECONDS_MIN, limits.LOAD_SECONDS_MAX),
        ("--warm-up", plan.warmup_seconds, 0, limits.LOAD_SECONDS_MAX),
        ("--patience", plan.patience_s, 0, limits.LOAD_SECONDS_MAX),
    ):
        if not least <= value <= most:
            raise UserError(f"{what} {value:g}: allowed is {least:g} to {most:g}")
    for symbol in plan.symbols:
        if not 1 <= len(symbol) <= 8 or not symbol.isascii() or not symbol.isprintable():
            raise UserError(f"--symbols {symbol!r}: allowed are 1 to 8 letters, digits and signs")
    for rate in plan.rates:
        count = 0 if rate is None else request_count(plan, rate)
        if count > limits.LOAD_REQUESTS_MAX:
            raise UserError(
                f"--rate {rate:g}: {count:,} requests in all; allowed are {limits.LOAD_REQUESTS_MAX:,}, so ask for "
                "fewer --seconds"
            )


def request_count(plan: LoadPlan, rate: float | None) -> int:
    """How many requests are made for a run; at no given rate, more than can be answered in time."""
    seconds = plan.warmup_seconds + plan.seconds
    if rate is None:
        most = CARD_ROUND_TRIPS_PER_SECOND_MAX if plan.transport in CARDS else ROUND_TRIPS_PER_SECOND_MAX
        per_second = len(plan.logins) * plan.window * most
        return int(
            min(limits.LOAD_REQUESTS_MAX, seconds * min(per_second, limits.LOAD_REQUESTS_PER_SECOND_MAX))
        )
    return max(int(rate * seconds), 1)


def compile_loop(carriage: "Carriage | Carrier" = "tcp") -> None:
    """Compile the loop, or find it in the cache: it takes longer than an exchange waits for a client that is silent."""
    memory = np.zeros(words.LOAD_BYTES // 8, np.int64)
    chosen = CARRIAGES[carriage] if isinstance(carriage, str) else carriage
    line = chosen.make_line(address_of(memory))
    run_load(Load(line.state, Account(0, 0, 0, 0), address_of(memory), 0, 0, 0, 0, 0, 0, 0, 0, 0))


def run_once(
    plan: LoadPlan,
    rate: float | None,
    round_index: int,
    detail: Callable[[str], None],
    carriage: "Carriage | None" = None,
) -> Measured:
    """Log on, send, read, log out; ``carriage`` is the plan's, if that has to be opened."""
    by = carriage or CARRIAGES[plan.transport]
    sessions: list[Session] = []
    resting: list[list[int]] = []
    detail("logging on")
    try:
        for login in plan.logins:
            sessions.append(by.log_on(plan.endpoint, login, max(CONNECT_SECONDS, plan.patience_s)))
            resting.append([])
        run = _Run(plan, rate, round_index, sessions, by)
        detail(SENDING)
        try:
            return run.measure()
        finally:
            detail(LEAVING)
            resting = [[] for _ in sessions] if plan.keeps_orders else run.resting_numbers()
            run.give_back()
    finally:
        log_out(sessions, resting)


class _Run:
    """The memory of one run, and the run."""

    def __init__(
        self,
        plan: LoadPlan,
        rate: float | None,
        round_index: int,
        sessions: Sequence[Session],
        carriage: "Carriage | None" = None,
    ) -> None:
        self._sessions: Final = sessions
        self._rate: Final = rate
        self._sleeps: Final = plan.sleeps and rate is not None
        self._warmup_ns: Final = int(plan.warmup_seconds * 1e9)
        self._sending_ns: Final = self._warmup_ns + int(plan.seconds * 1e9)
        times = _intended_ns(plan, rate, round_index)
        self._drain_ns: Final = max(DRAIN_NS, int(plan.patience_s * 1e9))
        self._last_intended_ns: Final = int(times[-1])
        self._requests: Final[list[SessionRequests]] = [
            session_requests(
                times[index :: len(sessions)],
                session.next_number,
                plan.symbols,
                plan.middle_ticks,
                plan.orders,
                (plan.seed + round_index, index),
            )
            for index, session in enumerate(sessions)
        ]
        self._window: Final = plan.window if rate is None else 0
        self._latencies: Final = empty_counts()
        self._order_latencies: Final = empty_counts()
        self._events: Final = np.zeros(loops.EVENTS_MAX * EPOLL_EVENT_BYTES, np.uint8)
        self._epoll: Final = select.epoll()
        self._load_memory: Final = Arena.private(words.LOAD_BYTES, huge_pages="never")
        self._words: Final = self._load_memory.allocate(words.LOAD_BYTES)
        by = carriage or CARRIAGES[plan.transport]
        self._line: Final = by.make_line(self._words)
        self._link: Final = by.link
        session_bytes = self._line.session_bytes * len(sessions)
        self._session_memory: Final = Arena.private(session_bytes + 4096, huge_pages="never")
        self._base: Final = self._session_memory.allocate(session_bytes)
        for index, (session, requests) in enumerate(zip(sessions, self._requests, strict=True)):
            self._lay_out(index, session, requests)

    def _lay_out(self, index: int, session: Session, requests: SessionRequests) -> None:
        address = self._address(index)
        for offset, value in (
            (words.DESCRIPTOR, -1 if session.descriptor is None else session.descriptor),
            (words.RECORDS, address_of(requests.records)),
            (words.COUNT, len(requests.records)),
            (words.PACKETS, address_of(requests.packets)),
            (words.CREATORS, address_of(requests.creators)),
            (words.NUMBERS, len(requests.creators)),
            (words.FIRST_NUMBER, session.next_number),
        ):
            store_int64(address + offset, value)
        self._line.lay_out(address, session)
        if session.descriptor is not None:
            write_epoll_event(address_of(self._events), READABLE, index)
            epoll_control(self._epoll.fileno(), EPOLL_ADD, session.descriptor, address_of(self._events))

    def _address(self, index: int) -> int:
        return self._base + index * self._line.session_bytes

    def _load(self) -> Load:
        """The loop's state; its clock starts a moment from now."""
        deadline_ns = max(self._sending_ns, self._last_intended_ns) + self._drain_ns
        account = Account(
            self._words, address_of(self._latencies), address_of(self._order_latencies), self._warmup_ns
        )
        return Load(
            self._line.state, account, self._words, self._base, len(self._sessions), self._line.session_bytes,
            self._watched(), address_of(self._events),
            time.monotonic_ns() + LEAD_NS, self._sending_ns, deadline_ns, self._window, int(self._sleeps),
        )  # fmt: skip

    def _watched(self) -> int:
        """The epoll of all sessions' sockets, or :data:`~exchange.load.loops.NO_EPOLL`."""
        has_sockets = all(session.descriptor is not None for session in self._sessions)
        return self._epoll.fileno() if has_sockets else loops.NO_EPOLL

    def measure(self) -> Measured:
        """Let the loop run to its end."""
        load = self._load()
        seconds = (load.deadline_ns + LEAD_NS) / 1e9 + 1
        before = getrusage(RUSAGE_SELF)
        try:
            with self._link.watched(self._words) if self._link else nullcontext():
                core, run = choose_cores().second, self._runner()
                run_pinned([(core, lambda: run(load))], self._words + words.STOP, seconds)
        finally:
            self._epoll.close()
        after = getrusage(RUSAGE_SELF)
        self._check_sessions()
        word = self._word
        sent, answered, rejected, lapsed = (
            word(offset) for offset in (words.SENT, words.ANSWERED, words.REJECTED, words.LAPSED)
        )
        counts = {
            "sent": sent,
            "answered": answered,
            "rejected": rejected,
            "lapsed": lapsed,
            "unanswered": sent - answered - rejected - lapsed,
            "executions": word(words.EXECUTIONS),
            "other messages": word(words.OTHERS),
            "not sent": (0 if self._window else sum(len(one.records) for one in self._requests) - sent),
        }
        return Measured(
            counts=counts,
            measured=word(words.MEASURED),
            elapsed_ns=max(word(words.LAST_NS) - self._warmup_ns, 1),
            lateness_ns=word(words.LAST_NS) - self._last_intended_ns,
            back_pressure={name: word(offset) for name, offset in self._line.counted.items()},
            latencies=self._latencies,
            order_latencies=self._order_latencies,
            user_ns=int((after.ru_utime - before.ru_utime) * 1e9),
            system_ns=int((after.ru_stime - before.ru_stime) * 1e9),
        )

    def _runner(self) -> Callable[[Load], None]:
        """What lets the loop run: over a card, through every loss of its link."""
        if self._link is None:
            return run_load
        line: Any = self._line
        sessions: list[Any] = [
            (session, requests, self._address(index))
            for index, (session, requests) in enumerate(zip(self._sessions, self._requests, strict=True))
        ]
        return Resuming(self._link, line, sessions).run

    def _word(self, offset: int) -> int:
        return load_int64(self._words + offset)

    def _check_sessions(self) -> None:
        """UserError for a session that the exchange ended."""
        closed = "the exchange closed the connection; its own log says why (if full: gateway.log_bytes)"
        reasons = {
            words.CLOSED: closed,
            -errno.ECONNRESET: closed,
            -errno.EPIPE: closed,
            words.ENDED: "the exchange ended the session",
            words.NOT_SOUPBINTCP: "what it sends is not SoupBinTCP",
            words.NO_LINK: "the link is down, and the exchange did not come back in time",
            words.SILENT: f"the exchange has said nothing for {SILENCE_SECONDS_MAX} s",
            -errno.ECONNREFUSED: "nobody listens there any more",
        }
        for index, session in enumerate(self._sessions):
            address = self._address(index)
            failure = load_int64(address + words.FAILURE)
            if failure != 0:
                settled = load_int64(address + words.SETTLED)
                raise UserError(
                    f"session of {session.name}, after {settled:,} answers: "
                    f"{reasons.get(failure, f'the line is broken (errno {-failure})')}"
                )

    def resting_numbers(self) -> list[list[int]]:
        """For each session the orders that may still rest in the book."""
        return [_resting(requests.records) for requests in self._requests]

    def give_back(self) -> None:
        """Let the sessions have their lines again; the loop must have ended."""
        for index, (session, requests) in enumerate(zip(self._sessions, self._requests, strict=True)):
            self._line.give_back(self._address(index), session, requests)


def _resting(records: NDArray[Any]) -> list[int]:
    is_unanswered = records["state"] == 1
    rests = (records["number"] != 0) & (is_unanswered | (records["open_shares"] > 0))
    numbers: list[int] = records["number"][rests].tolist()
    return numbers


def _intended_ns(plan: LoadPlan, rate: float | None, round_index: int) -> NDArray[np.int64]:
    """When each request of the run is due, shape (n,); zeros where that is for the answers to say."""
    count = request_count(plan, rate)
    if rate is None:
        return np.zeros(count, np.int64)
    if plan.arrivals == "constant":
        return np.rint(np.arange(count) * (1e9 / rate)).astype(np.int64)
    gaps_ns = np.random.default_rng((plan.seed, round_index)).exponential(1e9 / rate, count)
    return np.rint(np.cumsum(gaps_ns)).astype(np.int64)


def _load_point(measured: Measured, rate: float, round_index: int) -> LoadPoint:
    latencies = measured.latencies
    has_gaps = measured.counts["unanswered"] + measured.counts["not sent"] > 0
    return LoadPoint(
        round_index=round_index,
        offered_per_second=rate,
        achieved_per_second=measured.measured / measured.elapsed_ns * 1e9,
        commands=measured.measured,
        elapsed_ns=measured.elapsed_ns,
        sample_count=int(latencies.sum()),
        histogram=encode(latencies) if latencies.any() else None,
        percentiles=latency_percentiles(latencies),
        back_pressure=measured.back_pressure,
        threads=(),
        behind=has_gaps or measured.lateness_ns > max(BEHIND_NS_MIN, BEHIND_FRACTION * measured.elapsed_ns),
        counts=measured.counts,
    )


def _saturation_round(measured: Measured, round_index: int) -> SaturationRound:
    return SaturationRound(
        round_index=round_index,
        commands=measured.measured,
        events=measured.counts["answered"] + measured.counts["rejected"] + measured.counts["executions"],
        elapsed_ns=measured.elapsed_ns,
        commands_per_second=measured.measured / measured.elapsed_ns * 1e9,
        back_pressure=measured.back_pressure,
        threads=(),
        digest=NOT_SEEN,
        trades=measured.counts["executions"],
        rejects=measured.counts["rejected"],
        counts=measured.counts,
    )


def _settings(plan: LoadPlan) -> dict[str, Any]:
    left_out = ("endpoint", "logins", "rates", *(() if plan.device else ("device", "address")))
    values = {key: value for key, value in plan._asdict().items() if key not in left_out}
    return values | {"sessions": len(plan.logins), "symbols": list(plan.symbols)}


def _warnings(counts: Sequence[dict[str, int]]) -> tuple[str, ...]:
    """What a reader of the figures must know."""
    found = []
    for key, text in (
        ("unanswered", "requests had no answer in time"),
        ("not sent", "requests were due and could not be sent"),
    ):
        total = sum(one[key] for one in counts)
        if total:
            found.append(f"{total:,} {text}.")
    return tuple(found)
