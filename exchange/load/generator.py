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
from typing import Any, Final

import numpy as np

from exchange.bench.histogram import empty_counts
from exchange.bench.host import describe_host
from exchange.bench.micro import choose_cores, run_pinned
from exchange.bench.results import BenchResult, FlowDescription, LoadPoint, ProfileResult, SaturationRound
from exchange.bench.runner import Progress
from exchange.errors import UserError
from exchange.line import Carrier
from exchange.load import loops, words
from exchange.load.carriage import CARRIAGES, Carriage, card_carriage
from exchange.load.logins import Login
from exchange.load.loops import Account, Load, run_load
from exchange.load.losses import Loss
from exchange.load.measured import Measured, load_point, saturation_round, warnings_of
from exchange.load.moving import Moving
from exchange.load.plan import LoadPlan, check_plan, intended_ns_of, request_count, settings_of
from exchange.load.requests import FIRST_NUMBER, SessionRequests, renumber, resting_numbers, session_requests
from exchange.load.resuming import Resuming
from exchange.load.seeking import Moved
from exchange.load.sessions import CONNECT_SECONDS, NotReached, Session, log_out
from exchange.load.timeline import RunClock, RunTimeline, Silence, longest_silence, run_timeline
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
from exchange.wire.soupbintcp import LOGIN_SECONDS_MAX, SILENCE_SECONDS_MAX

LEAD_NS: Final = 20_000_000
"""Between starting the thread and the first intended time."""
WATCHED_LEAD_NS: Final = 100_000_000
"""The same if a thread that watches the lines is started before."""

DRAIN_NS: Final = 2_000_000_000
"""How long answers are waited for after the last request was due."""
MOVE_NS: Final = 20_000_000_000
"""The same if the exchange has somewhere to move to."""
BACKUP_LOGON_SECONDS: Final = 2.0
"""How long a place may take to let somebody in before another one is tried."""
TRY_AGAIN_SECONDS: Final = 0.1
"""Who is patient with an exchange that is not there asks for it again after so long."""

SENDING: Final = "sending"
LEAVING: Final = "logging out"
"""What a run says it is doing, before it measures and after."""


def run_load_plan(
    plan: LoadPlan,
    command_line: str,
    progress: Progress,
    take: Callable[[Measured], object] = lambda measured: None,
) -> BenchResult:
    """Measure as the plan says; ``take`` is given each run when it is over.

    Raises:
        UserError: the plan is beyond a limit, a login was refused, nobody listens, or the exchange hung up.
    """
    check_plan(plan)
    places = ",".join(str(one) for one in plan.endpoints)
    progress.total(plan.rounds * len(plan.rates))
    points: list[LoadPoint] = []
    saturation: list[SaturationRound] = []
    runs: list[Measured] = []
    with carriage_of(plan) as carriage:
        progress.detail("compiling")
        compile_loop(carriage)
        for round_index in range(plan.rounds):
            for rate in plan.rates:
                offered = "as many as are answered" if rate is None else f"{rate:,.0f} requests/s"
                progress.step(f"{places}: {offered}, round {round_index + 1} of {plan.rounds}")
                measured = run_once(plan, rate, round_index, progress.detail, carriage)
                runs.append(measured)
                take(measured)
                if rate is None:
                    saturation.append(saturation_round(measured, round_index))
                else:
                    points.append(load_point(measured, rate, round_index))
    profile = ProfileResult(
        name=places,
        description=f"{len(plan.logins)} sessions over {plan.transport.upper()}, one thread",
        settings={"load": settings_of(plan)},
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
        warnings=warnings_of(runs),
    )


@contextmanager
def carriage_of(plan: LoadPlan) -> Iterator[Carriage]:
    """What carries a plan's packets; a card is open as long as the block lasts."""
    if plan.transport == "afxdp" or plan.transport == "dpdk":
        with card_carriage(
            plan.transport,
            plan.device,
            plan.address,
            plan.endpoints,
            huge_pages=plan.huge_pages,
            patience_s=plan.patience_s,
        ) as carriage:
            yield carriage
    else:
        yield CARRIAGES[plan.transport]


def compile_loop(carriage: "Carriage | Carrier" = "tcp") -> None:
    """Compile the loop, or find it in the cache: it takes longer than an exchange waits for a client that is silent."""
    memory = np.zeros(words.LOAD_BYTES // 8, np.int64)
    chosen = CARRIAGES[carriage] if isinstance(carriage, str) else carriage
    line = chosen.make_line(address_of(memory))
    run_load(Load(line.state, Account(0, 0, 0, 0), address_of(memory), 0, 0, 0, 0, 0, 0, 0, 0, 0))


def _log_on(plan: LoadPlan, by: Carriage, login: Login, place: int) -> tuple[Session, int]:
    """Log somebody on at a place, or at another one if it does not let them in; and where that is."""
    seconds = max(CONNECT_SECONDS, plan.patience_s)
    most = max(float(LOGIN_SECONDS_MAX), plan.patience_s)
    if plan.backups:
        seconds = most = BACKUP_LOGON_SECONDS
    refusals: list[NotReached] = []
    for one in dict.fromkeys((place, *range(len(plan.endpoints)))):
        try:
            return by.log_on(plan.endpoints[one], login, seconds, most), one
        except NotReached as refusal:
            refusals.append(refusal)
    raise refusals[0]


def _log_on_all(plan: LoadPlan, by: Carriage, sessions: list[Session]) -> list[int]:
    """Log everybody on, each where the one before was let in; and where each is. A plan may be patient with it."""
    places, give_up_at = [0], time.monotonic() + plan.patience_s
    while len(sessions) < len(plan.logins):
        try:
            session, place = _log_on(plan, by, plan.logins[len(sessions)], places[-1])
        except NotReached:
            if time.monotonic() >= give_up_at:
                raise
            time.sleep(TRY_AGAIN_SECONDS)
            continue
        sessions.append(session)
        places.append(place)
    return places[1:]


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
    # Before anybody logs on: on a busy machine it takes longer than an exchange bears a client's silence.
    detail("making requests")
    requests = _make_requests(plan, rate, round_index, len(plan.logins))
    detail("logging on")
    try:
        places = _log_on_all(plan, by, sessions)
        run = _Run(plan, rate, round_index, sessions, by, places, requests)
        detail(SENDING)
        try:
            return run.measure()
        finally:
            detail(LEAVING)
            resting = [] if plan.keeps_orders else run.resting_numbers()
            run.give_back()
    finally:
        log_out(sessions, resting or [[] for _ in sessions])


def _make_requests(
    plan: LoadPlan, rate: float | None, round_index: int, session_count: int
) -> list[SessionRequests]:
    """For each session what it will send, numbered as if it were the first that it sends."""
    times = intended_ns_of(plan, rate, round_index)
    return [
        session_requests(
            times[index::session_count],
            FIRST_NUMBER,
            plan.symbols,
            plan.middle_ticks,
            plan.orders,
            (plan.seed + round_index, index),
        )
        for index in range(session_count)
    ]


class _Run:
    """The memory of one run, and the run."""

    def __init__(
        self,
        plan: LoadPlan,
        rate: float | None,
        round_index: int,
        sessions: Sequence[Session],
        carriage: "Carriage | None" = None,
        places: Sequence[int] = (),
        made: Sequence[SessionRequests] = (),
    ) -> None:
        self._sessions: Final = sessions
        self._plan: Final = plan
        self._rate: Final = rate
        self._round_index: Final = round_index
        self._sleeps: Final = plan.sleeps and rate is not None
        self._warmup_ns: Final = int(plan.warmup_seconds * 1e9)
        self._sending_ns: Final = self._warmup_ns + int(plan.seconds * 1e9)
        least_ns = MOVE_NS if plan.backups else DRAIN_NS
        self._drain_ns: Final = max(least_ns, int(plan.patience_s * 1e9))
        self._requests: Final = made or _make_requests(plan, rate, round_index, len(sessions))
        self._last_intended_ns: Final = max(
            int(one.records["intended_ns"][-1]) for one in self._requests if len(one.records)
        )
        for session, own in zip(sessions, self._requests, strict=True):
            renumber(own, session.next_number)
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
        self._mover: Final = self._make_mover(places)

    def _make_mover(self, places: Sequence[int]) -> Moving | Resuming | None:
        """What lets the sessions go where the exchange goes, or come back over a card; None if nothing does."""
        plan, limits = self._plan, (self._plan.silence_s, self._plan.answer_s)
        sessions: list[Any] = [
            Moved(session, requests, self._address(index))
            for index, (session, requests) in enumerate(zip(self._sessions, self._requests, strict=True))
        ]
        line: Any = self._line
        if self._link is not None:
            return Resuming(self._link, places[0], line, sessions, limits)
        if not plan.backups:
            return None
        return Moving(plan.endpoints, places, line, sessions, limits, self._watch_socket)

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
        self._watch_socket(index)

    def _watch_socket(self, index: int) -> None:
        """Have epoll say when something comes to a session's own socket."""
        session = self._sessions[index]
        if session.descriptor is not None:
            write_epoll_event(address_of(self._events), READABLE, index)
            epoll_control(self._epoll.fileno(), EPOLL_ADD, session.descriptor, address_of(self._events))

    def _address(self, index: int) -> int:
        return self._base + index * self._line.session_bytes

    def _load(self) -> Load:
        """The loop's state; its clock starts a moment from now."""
        lead_ns = WATCHED_LEAD_NS if self._mover else LEAD_NS
        deadline_ns = max(self._sending_ns, self._last_intended_ns) + self._drain_ns
        account = Account(
            self._words, address_of(self._latencies), address_of(self._order_latencies), self._warmup_ns
        )
        return Load(
            self._line.state, account, self._words, self._base, len(self._sessions), self._line.session_bytes,
            self._watched(), address_of(self._events),
            time.monotonic_ns() + lead_ns, self._sending_ns, deadline_ns, self._window, int(self._sleeps),
        )  # fmt: skip

    def _watched(self) -> int:
        """The epoll of all sessions' sockets, or :data:`~exchange.load.loops.NO_EPOLL`."""
        has_sockets = all(session.descriptor is not None for session in self._sessions)
        return self._epoll.fileno() if has_sockets else loops.NO_EPOLL

    def measure(self) -> Measured:
        """Let the loop run to its end."""
        load = self._load()
        seconds = (load.deadline_ns + WATCHED_LEAD_NS) / 1e9 + 1
        before = getrusage(RUSAGE_SELF)
        try:
            with self._mover.watching(load) if self._mover else nullcontext():
                core, run = choose_cores().second, self._mover.run if self._mover else run_load
                run_pinned([(core, lambda: run(load))], self._words + words.STOP, seconds)
        finally:
            self._epoll.close()
        after = getrusage(RUSAGE_SELF)
        self._check_sessions()
        word, losses = self._word, tuple(self._mover.losses) if self._mover else ()
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
            losses=losses,
            silence=longest_silence(self._requests) if losses else Silence(0, 0),
            timeline=self._timeline(load, losses) if self._plan.bucket_ns else None,
            requests=tuple(self._requests) if self._plan.keeps_requests else (),
        )

    def _timeline(self, load: Load, losses: tuple[Loss, ...]) -> RunTimeline:
        return run_timeline(
            self._requests,
            RunClock.at(load.start_ns),
            rate=self._rate,
            round_index=self._round_index,
            warmup_ns=self._warmup_ns,
            bucket_ns=self._plan.bucket_ns,
            sent_again=self._word(words.SENT_AGAIN),
            losses=losses,
        )

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
            words.NOT_BACK: "its line was lost, and nobody let it in again in time",
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
        return [resting_numbers(requests) for requests in self._requests]

    def give_back(self) -> None:
        """Let the sessions have their lines again; the loop must have ended."""
        for index, (session, requests) in enumerate(zip(self._sessions, self._requests, strict=True)):
            self._line.give_back(self._address(index), session, requests)
