"""A recorded market played through a whole exchange, and what came of it.

A replay is not a measurement: it answers *whether* the exchange does the right thing with real orders, where
the benchmark answers how fast. The commands of a recording go the way that every command goes (transport,
ingress, queue, shard, book, queue, egress), every event is kept, and then the books and the events are looked
at:

* the books at the end: best prices, depth, live orders, and their digest;
* the events: how many of each kind, rejects by reason, trades, whom recorded executions met, and their
  digest;
* if there is one, LOBSTER's own record of the best prices, held against those that a subscriber of the events
  would have seen (:mod:`exchange.market_data.top_of_book`).

**Two digests.** The state digest is that of :mod:`exchange.matching.digest`. The event digest is taken over
all events *in the order of the flow* (:func:`in_flow_order`): as one shard would have put them out, whatever
the number of shards and however threads took turns. Two profiles that did the same have the same digests; one
byte more or less in one event shows.

Rules: the flow is a recording's, so no command concerns all symbols at once. A run keeps all its events in
memory: some hundreds of bytes for each command of the flow.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from exchange import limits
from exchange.assembly import Exchange, expected_answers, lanes_of, plan_exchange
from exchange.bench.player import LEAD_NS, wait_for_answers
from exchange.book.protocol import export_orders, live_order_count
from exchange.errors import UserError
from exchange.flow import Flow, pacing
from exchange.journal.scratch import scratch_streams
from exchange.market_data.top_of_book import tops_after_commands
from exchange.messages import BUY, COMMAND_DTYPE, RECORD_BYTES, SELL, CommandKind, EventKind, Reason
from exchange.native import Arena, view_bytes
from exchange.placement.memory_owners import memory_as_planned
from exchange.settings import Settings, to_dict, without_backup
from exchange.transport.memory import MemoryTransport

SCHEMA_VERSION: Final = 1
DEPTH_LEVELS: Final = 5
"""How many prices of each side a report shows."""


class Level(msgspec.Struct, frozen=True):
    """One price of one side: how many lots wait there, of how many orders."""

    price_ticks: int
    quantity_lots: int
    orders: int


class SymbolReport(msgspec.Struct, frozen=True):
    """One symbol: what happened, and its book at the end (the best ``DEPTH_LEVELS`` prices of each side)."""

    name: str
    commands: int
    trades: int
    volume_lots: int
    live_orders: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class ExecutionReport(msgspec.Struct, frozen=True):
    """What became of the executions that the recording tells of.

    ``recorded`` counts the visible ones. Of those that were sent as orders (``sent``; none if executions were read as
    reductions), ``met_another_order`` traded with another order than the record names, if only in part, and
    ``not_filled`` found too little to trade with. Hidden ones are left out: what they met was never on display.
    """

    recorded: int
    sent: int
    met_another_order: int
    not_filled: int
    hidden_left_out: int
    hidden_lots_left_out: int


class LevelOneReport(msgspec.Struct, frozen=True):
    """How the best prices agree with LOBSTER's; see :class:`exchange.flow.level_one.LevelOneAgreement`."""

    file: str
    aligned: int
    equal: int
    equal_at_start: int
    aligned_prices: int
    equal_prices: int
    share: float
    share_prices: float


class ReplayReport(msgspec.Struct, frozen=True):
    """All that a replay has to tell; encoded as it stands, it is the JSON file.

    ``recording`` is what the reader of the file counted (:attr:`exchange.flow.Flow.notes`), ``profile`` the resolved
    settings. The counts by kind and reason have no zeros. ``traded_ticks`` is the sum of price times lots over all
    trades. ``speed_factor`` is None for a replay that was not paced.
    """

    schema_version: int
    flow: str
    description: str
    reading: str
    recording: Mapping[str, int]
    profile: Mapping[str, object]
    speed_factor: float | None
    elapsed_ns: int
    commands: int
    commands_by_kind: Mapping[str, int]
    events: int
    events_by_kind: Mapping[str, int]
    rejects_by_reason: Mapping[str, int]
    trades: int
    volume_lots: int
    traded_ticks: int
    executions: ExecutionReport
    live_orders: int
    symbols: tuple[SymbolReport, ...]
    level_one: LevelOneReport | None
    back_pressure: Mapping[str, int]
    state_digest: str
    event_digest: str
    warnings: tuple[str, ...]


class Watcher(NamedTuple):
    """Whom to tell how far a replay is: of each thread compiled, and now and then how many commands are answered."""

    compiling: Callable[[str], None] = lambda text: None
    answered: Callable[[int], None] = lambda count: None


class Replayed(NamedTuple):
    """A run that is over: the exchange with its final books, and its events in the flow's order.

    ``command_index`` is, for each event, the index of the command that caused it.
    """

    exchange: Exchange
    events: NDArray[Any]
    command_index: NDArray[np.int64]
    elapsed_ns: int


def run_replay(
    flow: Flow,
    settings: Settings,
    *,
    reading: str,
    speed_factor: float | None = None,
    level_one: str | None = None,
    watcher: Watcher = Watcher(),  # noqa: B008  (immutable)
) -> ReplayReport:
    """Play a flow through an exchange and report.

    Args:
        flow: a recording.
        settings: the profile.
        reading: how the recording was read, ``feed`` or ``flow``: a word of the report.
        speed_factor: send at the recorded times, this many times as fast as they happened; None: at once.
        level_one: a LOBSTER order book file to compare the best prices with.
        watcher: told how far it is.

    Raises:
        UserError: more than one symbol for ``level_one``, or that file cannot be read or is another symbol's; a
            speed factor that is not above 0.
    """
    if level_one is not None and len(flow.symbols) != 1:
        raise UserError(
            f"--level-one {level_one}: is of one symbol, and {flow.name} has orders of {len(flow.symbols)};"
            " choose one with --symbol"
        )
    replayed = play(flow, settings, speed_factor=speed_factor, watcher=watcher)
    events, exchange = replayed.events, replayed.exchange
    trades = events[events["kind"] == EventKind.EXECUTED]
    symbols = _symbol_reports(flow, exchange, trades)
    rejects = _count_names(events["reason"][events["kind"] == EventKind.REJECTED], Reason)
    return ReplayReport(
        schema_version=SCHEMA_VERSION,
        flow=flow.name,
        description=flow.description,
        reading=reading,
        recording=dict(flow.notes),
        profile=to_dict(settings),
        speed_factor=speed_factor,
        elapsed_ns=replayed.elapsed_ns,
        commands=len(flow.commands),
        commands_by_kind=_count_names(flow.commands["kind"], CommandKind),
        events=len(events),
        events_by_kind=_count_names(events["kind"], EventKind),
        rejects_by_reason=rejects,
        trades=len(trades),
        volume_lots=int(trades["quantity_lots"].sum(dtype=np.int64)),
        traded_ticks=_traded_ticks(trades),
        executions=_executions(flow, replayed),
        live_orders=sum(symbol.live_orders for symbol in symbols),
        symbols=symbols,
        level_one=None if level_one is None else _compare_level_one(events, level_one),
        back_pressure=exchange.back_pressure(),
        state_digest=exchange.digest(),
        event_digest=hashlib.blake2b(events.tobytes(), digest_size=8).hexdigest(),
        warnings=_warnings(rejects, settings),
    )


def play(
    flow: Flow,
    settings: Settings,
    *,
    speed_factor: float | None = None,
    watcher: Watcher = Watcher(),  # noqa: B008  (immutable)
) -> Replayed:
    """Play a flow through a fresh exchange and wait for every answer; arguments as of :func:`run_replay`.

    Raises:
        RuntimeError: no answer came for a long time. Any error of an agent's thread.
    """
    settings = without_backup(settings)
    schedule = pacing.saturation(flow) if speed_factor is None else pacing.recorded(flow, speed_factor)
    commands = flow.commands.copy()
    commands["timestamp_ns"] = schedule
    symbol_count, plan = max(1, len(flow.symbols)), plan_exchange(settings)
    with memory_as_planned(plan), scratch_streams(settings) as journals:
        transport = MemoryTransport(
            lanes_of(commands, settings.transport.ingress_lanes), keep_events=_events_bound(commands)
        )
        exchange = Exchange(settings, symbol_count, transport, journals=journals, plan=plan)
        exchange.compile(watcher.compiling)
        start_ns = time.monotonic_ns() + (0 if speed_factor is None else LEAD_NS)
        transport.start_at(start_ns)
        with exchange.threads:
            wanted = expected_answers(commands, settings.shards.count)
            wait_for_answers(
                exchange, transport, commands["timestamp_ns"], start_ns, wanted, watcher.answered
            )
            elapsed_ns = time.monotonic_ns() - start_ns
    return Replayed(exchange, *in_flow_order(transport.events(), flow.commands), elapsed_ns)


def in_flow_order(events: NDArray[Any], commands: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Put the events of a run in the order of the commands that caused them, as one shard would have.

    Shards number their commands and trades each for itself, and their events arrive as the threads take turns. But
    one symbol's events come in the order of its commands, and each command has at least one: so the n-th
    ``command_sequence`` among a symbol's events is that of its n-th command.

    Args:
        events: shape (n,), ``EVENT_DTYPE``, those of each symbol in order, of all commands.
        commands: shape (m,), ``COMMAND_DTYPE``, none for all symbols at once.

    Returns:
        The events in the order of the commands, with ``command_sequence`` and ``match_number`` counted over all
        symbols and the command's own ``timestamp_ns``; and for each the index of its command.

    Raises:
        ValueError: commands without an event, or events without a command.
    """
    by_symbol = events[np.argsort(events["symbol_id"], kind="stable")]
    is_next = np.ones(len(events), np.bool_)
    is_next[1:] = (by_symbol["symbol_id"][1:] != by_symbol["symbol_id"][:-1]) | (
        by_symbol["command_sequence"][1:] != by_symbol["command_sequence"][:-1]
    )
    if int(is_next.sum()) != len(commands):
        raise ValueError(f"events of {int(is_next.sum())} commands, where {len(commands)} were sent")
    caused_by = np.argsort(commands["symbol_id"], kind="stable")[np.cumsum(is_next) - 1]
    order = np.argsort(caused_by, kind="stable")
    ordered, command_index = by_symbol[order], caused_by[order]
    ordered["command_sequence"] = command_index + 1
    ordered["timestamp_ns"] = commands["timestamp_ns"][command_index]
    is_trade = ordered["kind"] == EventKind.EXECUTED
    ordered["match_number"][is_trade] = np.arange(1, int(is_trade.sum()) + 1)
    return ordered, command_index


def _events_bound(commands: NDArray[Any]) -> int:
    """The most events that commands of a recording can cause; at least 1.

    Each command has one answer. Each order that comes in (new, or replaced) ends its own trading with at most one
    trade that leaves the other order alive and at most one cancel of its remainder, and at most one trade uses it up.
    """
    entries = np.isin(commands["kind"], (CommandKind.NEW, CommandKind.REPLACE))
    return max(1, len(commands) + 3 * int(np.count_nonzero(entries)))


def _count_names(
    numbers: NDArray[Any], names: type[CommandKind] | type[EventKind] | type[Reason]
) -> dict[str, int]:
    """How often each number occurs, by its name in lower case, without those that do not."""
    counts = np.bincount(numbers, minlength=256)
    return {name.name.lower(): int(counts[name]) for name in names if counts[name]}


def _traded_ticks(trades: NDArray[Any]) -> int:
    """Price times lots over all trades, in Python's integers: the sum may be larger than 64 bits."""
    pairs = zip(trades["price_ticks"].tolist(), trades["quantity_lots"].tolist(), strict=True)
    return sum(price_ticks * quantity_lots for price_ticks, quantity_lots in pairs)


def _executions(flow: Flow, replayed: Replayed) -> ExecutionReport:
    events = replayed.events
    expected = flow.expected_maker[replayed.command_index]
    met_another = (
        (events["kind"] == EventKind.EXECUTED) & (expected != 0) & (events["other_order_id"] != expected)
    )
    not_filled = (events["reason"] == Reason.IMMEDIATE_REMAINDER) & (expected != 0)
    return ExecutionReport(
        recorded=flow.notes.get("visible_executions", 0),
        sent=int(np.count_nonzero(flow.expected_maker)),
        met_another_order=len(np.unique(replayed.command_index[met_another])),
        not_filled=int(np.count_nonzero(not_filled)),
        hidden_left_out=flow.notes.get("hidden_executions_left_out", 0),
        hidden_lots_left_out=flow.notes.get("hidden_lots_left_out", 0),
    )


def _symbol_reports(flow: Flow, exchange: Exchange, trades: NDArray[Any]) -> tuple[SymbolReport, ...]:
    count = len(flow.symbols)
    commands = np.bincount(flow.commands["symbol_id"], minlength=count)
    trade_counts = np.bincount(trades["symbol_id"], minlength=count)
    volumes = np.zeros(count, np.int64)
    np.add.at(volumes, trades["symbol_id"], trades["quantity_lots"].astype(np.int64))
    reports = []
    for symbol_id, name in enumerate(flow.symbols):
        orders = _live_orders(exchange.book_of(symbol_id), symbol_id)
        reports.append(
            SymbolReport(
                name=name,
                commands=int(commands[symbol_id]),
                trades=int(trade_counts[symbol_id]),
                volume_lots=int(volumes[symbol_id]),
                live_orders=len(orders),
                bids=_levels(orders[orders["side"] == BUY]),
                asks=_levels(orders[orders["side"] == SELL]),
            )
        )
    return tuple(reports)


def _live_orders(book: Any, symbol_id: int) -> NDArray[Any]:
    """A symbol's live orders in priority order, shape (n,), ``COMMAND_DTYPE``."""
    size_bytes = (live_order_count(book) + 1) * RECORD_BYTES
    arena = Arena.private(size_bytes, huge_pages="never")
    address = arena.allocate(size_bytes)
    count = export_orders(book, symbol_id, address)
    return np.frombuffer(bytes(view_bytes(address, count * RECORD_BYTES)), COMMAND_DTYPE)


def _levels(orders: NDArray[Any]) -> tuple[Level, ...]:
    """The best prices of one side's orders, which are in priority order."""
    prices, first = np.unique(orders["price_ticks"], return_index=True)
    best = np.argsort(first)[:DEPTH_LEVELS]
    levels = []
    for price_ticks in prices[best].tolist():
        lots = orders["quantity_lots"][orders["price_ticks"] == price_ticks]
        levels.append(Level(price_ticks, int(lots.sum(dtype=np.int64)), len(lots)))
    return tuple(levels)


def _compare_level_one(events: NDArray[Any], path: str) -> LevelOneReport:
    from exchange.flow.level_one import compare_level_one

    found = compare_level_one(tops_after_commands(events), path)
    return LevelOneReport(
        path,
        found.aligned,
        found.equal,
        found.equal_at_start,
        found.aligned_prices,
        found.equal_prices,
        found.share,
        found.share_prices,
    )


def _warnings(rejects: Mapping[str, int], settings: Settings) -> tuple[str, ...]:
    """What a reader must know before trusting the figures."""
    full = rejects.get(Reason.BOOK_FULL.name.lower(), 0)
    if full:
        capacity = settings.book.capacity_orders
        larger = min(2 * capacity, limits.BOOK_CAPACITY_ORDERS_MAX)
        return (
            f"the book was full: {full:,} new orders were refused, so it is not the recorded book;"
            f" book.capacity_orders = {capacity} is too small, try --set book.capacity_orders={larger} or more",
        )
    if rejects:
        refused = sum(rejects.values())
        return (f"{refused:,} commands were refused (see the rejects), so it is not the recorded book",)
    return ()
