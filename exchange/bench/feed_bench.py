"""How fast the bytes of an ITCH 5.0 feed become order books: ours beside the other readers that pip can install.

All variants get the same bytes in memory, whole, and begin with nothing. What each does with them:

============== ==========================================================================================
variant        what it does with every message
============== ==========================================================================================
feed-book      keeps every order and every level of all symbols (:mod:`exchange.market_data.feed_book`)
itch-book      the same, in C++ (PyPI: itch-book); without its tables, which would be more work
itchcpp-book   the same, in C++ (PyPI: itchcpp); it is told the symbols in advance
itchcpp        reads each message into an object in C++ and hands it to Python; builds no book
plain          the book of ``feed-book`` in plain Python, on the first part of the bytes
============== ==========================================================================================

The bytes are days made by :func:`~exchange.market_data.feed_file.make_day` from the synthetic flow, one with few
symbols and one with many, or a file that was named. Before anything is timed each variant reads all of it (``plain``
its part) and is asked for the best prices of every symbol; one whose answers differ from the first variant's is left
out and named.

Rules: what is told is the processor's time of the one thread that reads, so that a machine that has other things to
do slows all variants and not just the one whose turn it is. Rounds are interleaved. A book is made before the clock
starts; that its memory is touched for the first time is part of the work, for all alike.
"""

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from exchange.bench.micro import Cores, Table, check_kinds, choose_cores, finish, in_turns, run_pinned
from exchange.bench.results import BenchResult, FlowDescription
from exchange.errors import UserError
from exchange.flow import load_flow
from exchange.flow.config import SyntheticConfig
from exchange.flow.recorded import open_source
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.feed_file import make_day
from exchange.market_data.plain_feed_book import PlainFeedBook
from exchange.native import Arena

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

FEED_KINDS: Final = ("feed-book", "itch-book", "itchcpp-book", "itchcpp", "plain")
PACKAGES: Final = {"itch-book": "itch_book", "itchcpp-book": "itchcpp", "itchcpp": "itchcpp"}
"""What has to be importable for a variant; pip knows it by the same name with a hyphen."""

ITCH_BOOK_BYTES: Final = 8 << 20
"""itch-book is made to be fed so much at a time."""

type Tops = dict[str, tuple[int, int, int, int]]


class FeedBenchPlan(NamedTuple):
    """How much to measure.

    ``commands`` of the synthetic flow make the day, once for each of ``symbols``; ``plain_bytes`` of it are enough for
    plain Python. ``source``: a file instead of made days.
    """

    commands: int = 2_000_000
    plain_bytes: int = 1 << 20
    symbols: tuple[int, ...] = (8, 1_000)
    rounds: int = 7
    seed: int = 1
    source: str | None = None


class _Day(NamedTuple):
    """The bytes of a day and what is known about them."""

    name: str
    data: bytes
    symbols: tuple[str, ...]
    messages: int


class _Reader(NamedTuple):
    """A variant, ready for one pass: what is timed, and what it is asked afterwards (None: it builds no book)."""

    read: Callable[[], object]
    tops: Callable[[], Tops] | None
    messages: int


def run_feed_bench(
    kinds: Sequence[str], plan: FeedBenchPlan, command_line: str, progress: "Progress"
) -> BenchResult:
    """Measure ``kinds`` (none means all); the first is the baseline.

    Raises:
        UserError: an unknown kind, a plan that is out of range, or a file that is no ITCH 5.0.
    """
    kinds = list(kinds) or list(FEED_KINDS)
    check_kinds("feed", kinds, FEED_KINDS)
    if min(plan.commands, plan.plain_bytes, plan.rounds, *plan.symbols) < 1:
        raise UserError("bench feed: commands, rounds and symbols must be at least 1")
    progress.detail("making the day")
    days = _days(plan)
    bench = _Bench(kinds, plan)
    progress.total(len(days) * (len(kinds) + plan.rounds))
    for day in days:
        for kind in bench.table.remaining():
            progress.step(f"{day.name}: {kind}, comparing")
            bench.prepare(kind, day)
    for day in days:
        for round_index in range(plan.rounds):
            progress.step(f"{day.name}: round {round_index + 1} of {plan.rounds}")
            for kind in in_turns(bench.table.remaining(), round_index):
                bench.measure(kind, day)
    result = finish("feed", bench.table, (), command_line)
    return msgspec.structs.replace(result, flow=_describe(days, plan))


def _days(plan: FeedBenchPlan) -> list[_Day]:
    if plan.source is not None:
        return [_day(plan.source, bytes(open_source(plan.source).data))]
    days = []
    for count in plan.symbols:
        model = SyntheticConfig(commands=plan.commands, symbols=count, seed=plan.seed)
        days.append(_day(f"{count} symbols", make_day(load_flow("synthetic", synthetic=model))))
    return days


def _day(name: str, data: bytes) -> _Day:
    """Read the bytes once, to know what is in them."""
    book = FeedBook()
    book.apply_blocks(data)
    return _Day(name, data, book.symbols, book.counts().messages)


def _describe(days: Sequence[_Day], plan: FeedBenchPlan) -> FlowDescription:
    notes = tuple(
        f"{day.name}: {day.messages:,} messages, {len(day.data):,} bytes, {len(day.symbols):,} symbols"
        for day in days
    )
    if plan.source is not None:
        return FlowDescription(
            plan.source, "an ITCH 5.0 file", days[0].messages, len(days[0].symbols), None, notes
        )
    text = "the feed of the synthetic flow, played through the ladder book and the publisher"
    return FlowDescription("made day", text, plan.commands, max(plan.symbols), plan.seed, notes)


class _Bench:
    """The rows of the result, and what the variants answered."""

    def __init__(self, kinds: Sequence[str], plan: FeedBenchPlan) -> None:
        core = choose_cores().second
        self.table: Final = Table(kinds, Cores(core, core))
        self._core: Final = core
        self._plan: Final = plan
        self._expected: Final[dict[tuple[str, int], Tops]] = {}
        self._arena: Final = Arena.private(4096, huge_pages="never")
        self._stop: Final = self._arena.allocate(8)
        for kind in kinds:
            package = PACKAGES.get(kind)
            if package is not None and find_spec(package) is None:
                self.table.skip(kind, f"not installed: pip install {package.replace('_', '-')}")

    def prepare(self, kind: str, day: _Day) -> None:
        """Let a variant read the day once, untimed, and hold its books against those of the variant before it."""
        reader = _READERS[kind](day, self._plan)
        self._run(reader)
        if reader.tops is None:
            return
        expected = self._expected.setdefault((day.name, reader.messages), reader.tops())
        if reader.tops() != expected:
            self.table.skip(kind, "its best prices differ from those of the first variant")

    def measure(self, kind: str, day: _Day) -> None:
        """One round of one variant: two rows, the same figure as a time and as a rate."""
        reader = _READERS[kind](day, self._plan)
        elapsed_ns = self._run(reader)
        parameters = {"day": day.name}
        self.table.add("time of a message", kind, elapsed_ns / reader.messages, "ns", "lower", parameters)
        rate = reader.messages / elapsed_ns * 1e9
        self.table.add("throughput", kind, rate, "messages/s", "higher", parameters)

    def _run(self, reader: _Reader) -> int:
        """One pass in a thread of its own, bound to a core; the nanoseconds of processor time that it took."""

        def timed() -> int:
            started_ns = time.thread_time_ns()
            reader.read()
            return time.thread_time_ns() - started_ns

        (elapsed_ns,) = run_pinned([(self._core, timed)], self._stop)
        return int(elapsed_ns)


def _feed_book(day: _Day, plan: FeedBenchPlan) -> _Reader:
    book = FeedBook()

    def tops() -> Tops:
        return {name: book.top(number) for number, name in enumerate(book.symbols)}

    return _Reader(lambda: book.apply_blocks(day.data), tops, day.messages)


def _plain(day: _Day, plan: FeedBenchPlan) -> _Reader:
    part = day.data[: plan.plain_bytes]
    counted = FeedBook()
    counted.apply_blocks(part)
    book = PlainFeedBook()
    return _Reader(lambda: book.apply_blocks(part), None, counted.counts().messages)


def _itch_book(day: _Day, plan: FeedBenchPlan) -> _Reader:

    blocks = np.frombuffer(day.data, np.uint8)
    pieces = [blocks[at : at + ITCH_BOOK_BYTES] for at in range(0, len(blocks), ITCH_BOOK_BYTES)]
    session = import_module("itch_book._core").Session(tables=[], depth=0, symbols=[])

    def read() -> None:
        for piece in pieces:
            session.feed(piece)

    return _Reader(read, None, day.messages)


def _itchcpp_book(day: _Day, plan: FeedBenchPlan) -> _Reader:
    books = import_module("itchcpp.book").BookManager()
    for name in day.symbols:
        books.track_symbol(name)

    def tops() -> Tops:
        return {name: _top_of(books.book_for_symbol(name).bbo()) for name in day.symbols}

    return _Reader(lambda: books.process_stream(day.data), tops, day.messages)


def _top_of(bbo: Any) -> tuple[int, int, int, int]:
    """Best prices as our books tell them, from itchcpp's dollars."""
    bid = (round(bbo.bid_price * 10_000), bbo.bid_shares) if bbo.has_bid else (0, 0)
    ask = (round(bbo.ask_price * 10_000), bbo.ask_shares) if bbo.has_ask else (0, 0)
    return (*bid, *ask)


def _itchcpp(day: _Day, plan: FeedBenchPlan) -> _Reader:
    parser = import_module("itchcpp.parser").MessageParser()
    return _Reader(lambda: parser.parse_messages(day.data, lambda message: None), None, day.messages)


_READERS: Final[dict[str, Callable[[_Day, FeedBenchPlan], _Reader]]] = {
    "feed-book": _feed_book,
    "itch-book": _itch_book,
    "itchcpp-book": _itchcpp_book,
    "itchcpp": _itchcpp,
    "plain": _plain,
}
