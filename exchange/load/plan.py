"""What a load is to do: a :class:`LoadPlan`, how many requests that takes, and when each is due.

Rules: a plan beyond a limit (:mod:`exchange.limits`) is told before anybody is asked for anything (:func:`check_plan`).
"""

from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange import limits
from exchange.card_line import CARDS
from exchange.errors import UserError
from exchange.liveness import ANSWER_SECONDS, check_limits
from exchange.load.carriage import LoadCarrier
from exchange.load.logins import Endpoint, Login
from exchange.wire.soupbintcp import SILENCE_SECONDS_MAX

Arrivals = Literal["poisson", "constant"]

ROUND_TRIPS_PER_SECOND_MAX: Final = 200_000
"""The kernel alone takes more than 5 microseconds to carry a request there and its answer back."""
CARD_ROUND_TRIPS_PER_SECOND_MAX: Final = 1_500_000
"""Without it, a request and its answer are some cache lines from core to core and back."""


class LoadPlan(NamedTuple):
    """What to do. ``rates`` are requests per second of all sessions together; None is "as many as are answered".

    ``window`` bounds what a session has unanswered at such a rate; ``orders`` is how many a session keeps in the book.
    ``transport`` is what carries the packets: SoupBinTCP, or the same in the exchange's own datagrams, by sockets or by
    a card of which ``device`` is DPDK's or the kernel's name and ``address`` our IPv4 address, with packets in
    ``huge_pages`` or not. ``keeps_orders`` leaves in the book what rests at the end. ``patience_s`` is how long the
    exchange may take at least, to be there, to let a user in, and to answer at the end. ``sleeps`` leaves the core to
    others while nothing is to be done, at the price of the kernel's waking in each latency.

    ``backups`` are other places where the exchange may be, now or later. Sessions that lose their line go where they
    are let in, also when it has been silent for ``silence_s``, or for ``answer_s`` while a request is unanswered. With
    ``bucket_ns`` a timeline is kept, in steps of that length; ``keeps_requests`` keeps all requests, as they ended."""

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
    backups: tuple[Endpoint, ...] = ()
    silence_s: float = SILENCE_SECONDS_MAX
    answer_s: float = ANSWER_SECONDS
    bucket_ns: int = 0
    keeps_requests: bool = False

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Wherever the exchange may be."""
        return (self.endpoint, *self.backups)


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
    check_limits(("--silence", "--answer-timeout"), plan.silence_s, plan.answer_s)
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


def intended_ns_of(plan: LoadPlan, rate: float | None, round_index: int) -> NDArray[np.int64]:
    """When each request of the run is due, shape (n,); zeros where that is for the answers to say."""
    count = request_count(plan, rate)
    if rate is None:
        return np.zeros(count, np.int64)
    if plan.arrivals == "constant":
        return np.rint(np.arange(count) * (1e9 / rate)).astype(np.int64)
    gaps_ns = np.random.default_rng((plan.seed, round_index)).exponential(1e9 / rate, count)
    return np.rint(np.cumsum(gaps_ns)).astype(np.int64)


def settings_of(plan: LoadPlan) -> dict[str, Any]:
    """A plan as a result shows it: without passwords, and without what does not concern it."""
    left_out = ["endpoint", "logins", "rates", "backups", "bucket_ns", "keeps_requests"]
    left_out += [] if plan.device else ["device", "address"]
    left_out += [] if plan.backups else ["silence_s", "answer_s"]
    values = {key: value for key, value in plan._asdict().items() if key not in left_out}
    return values | {"sessions": len(plan.logins), "symbols": list(plan.symbols)}
