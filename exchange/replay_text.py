"""A replay's report on the terminal: the book at the end, what happened, and whether it is right.

What is not a terminal gets 100 columns and no escape codes, so that a pipe or a log file loses nothing; names
from files are printed as plain text, never as markup. Prices are printed in dollars, since both recorded
formats count 1/10,000 dollar; quantities are shares."""

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exchange.replay import ExecutionReport, Level, LevelOneReport, ReplayReport, SymbolReport

PIPED_WIDTH: Final = 100
BOOKS_SHOWN: Final = 3
"""With more symbols than this, each gets a line of a table instead of its book."""
SYMBOLS_SHOWN: Final = 20

_TICKS_PER_DOLLAR: Final = 10_000
_SECOND_NS: Final = 1_000_000_000


def print_report(report: ReplayReport, console: Console | None = None) -> None:
    """Print the whole report."""
    out = console or _console()
    pace = "" if report.speed_factor is None else f" at {report.speed_factor:g} times the recorded speed"
    out.print(
        Text(
            f"Replay of {report.flow} as {report.reading}, profile {report.profile['name']}{pace}",
            style="bold",
        )
    )
    out.print(Text(report.description, style="dim"))
    out.print()
    if not report.symbols:
        out.print(Text("No symbol has an order in this file: there is no book to show.\n"))
    elif len(report.symbols) <= BOOKS_SHOWN:
        for symbol in report.symbols:
            out.print(_book_table(symbol))
    else:
        out.print(_symbols_table(report.symbols))
        if len(report.symbols) > SYMBOLS_SHOWN:
            out.print(Text(f"and {len(report.symbols) - SYMBOLS_SHOWN:,} more; all of them with --json\n"))
    out.print(_counts_table(report))
    for paragraph in _sentences(report):
        out.print(Text(paragraph))
    for warning in report.warnings:
        out.print(Text(f"Warning: {warning}", style="bold yellow"))


def dollars(price_ticks: int) -> str:
    """A price with two decimals, or four where they are needed: 585.33, 0.0001."""
    whole, rest = divmod(price_ticks, _TICKS_PER_DOLLAR)
    decimals = f"{rest:04d}"
    return f"{whole:,}.{decimals.removesuffix('00')}"


def time_of_day(nanoseconds: int) -> str:
    """Nanoseconds after midnight to the millisecond: 09:30:00.004."""
    seconds, rest = divmod(nanoseconds, _SECOND_NS)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest // 1_000_000:03d}"


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH, no_color=True)


def _table(title: str) -> Table:
    return Table(
        title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )


def _book_table(symbol: SymbolReport) -> Table:
    table = _table(
        f"The book of {symbol.name} at the end: {symbol.live_orders:,} live orders, the best prices"
    )
    for heading in ("bid orders", "shares", "bid", "ask"):
        table.add_column(heading, justify="right")
    table.add_column("shares")
    table.add_column("ask orders")
    for bid, ask in zip_longest(symbol.bids, symbol.asks):
        table.add_row(*reversed(_level_cells(bid)), *_level_cells(ask))
    if not symbol.bids and not symbol.asks:
        table.add_row("", "", "none", "none")
    return table


def _level_cells(level: Level | None) -> tuple[str, str, str]:
    if level is None:
        return "", "", ""
    return dollars(level.price_ticks), f"{level.quantity_lots:,}", f"{level.orders:,}"


def _symbols_table(symbols: Iterable[SymbolReport]) -> Table:
    busiest = sorted(symbols, key=lambda symbol: -symbol.commands)[:SYMBOLS_SHOWN]
    table = _table("The books at the end, the busiest symbols first")
    table.add_column("symbol", no_wrap=True)
    for heading in ("commands", "trades", "volume", "live orders", "shares", "bid", "ask", "shares"):
        table.add_column(heading, justify="right")
    for symbol in busiest:
        counts = (symbol.commands, symbol.trades, symbol.volume_lots, symbol.live_orders)
        bid_price, bid_lots, _ = _level_cells(symbol.bids[0] if symbol.bids else None)
        ask_price, ask_lots, _ = _level_cells(symbol.asks[0] if symbol.asks else None)
        cells = (*(f"{count:,}" for count in counts), bid_lots, bid_price, ask_price, ask_lots)
        table.add_row(Text(symbol.name), *cells)
    return table


def _counts_table(report: ReplayReport) -> Table:
    """Three lists beside each other: what the file holds, what was sent, what came of it."""
    recorded = dict(report.recording)
    # Not counts of the file: the times have a line of their own, and what executions met is observed, not predicted.
    for key in ("first_record_ns", "last_record_ns", "executions_of_another_order"):
        recorded.pop(key, None)
    events = dict(report.events_by_kind)
    events |= {f"rejected: {reason}": count for reason, count in report.rejects_by_reason.items()}
    lists = (
        _rows(recorded),
        [*_rows(report.commands_by_kind), ("all commands", report.commands)],
        [*_rows(events), ("all events", report.events)],
    )
    table = _table("What happened")
    for heading in ("in the recording", "commands sent", "events"):
        table.add_column(heading, no_wrap=True)
        table.add_column("", justify="right")
    for rows in zip_longest(*lists):
        cells: list[str] = []
        for row in rows:
            cells += ("", "") if row is None else (row[0], f"{row[1]:,}")
        table.add_row(*map(Text, cells))
    return table


def _rows(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(name.replace("_", " "), count) for name, count in counts.items()]


def _sentences(report: ReplayReport) -> list[str]:
    lines = []
    if report.recording.get("last_record_ns"):
        first, last = report.recording["first_record_ns"], report.recording["last_record_ns"]
        lines.append(f"Recorded: {time_of_day(first)} to {time_of_day(last)}.")
    lines.append(f"Replayed: {report.commands:,} commands in {report.elapsed_ns / _SECOND_NS:.2f} s.")
    lines.append(_trades(report))
    lines += _executions(report.executions)
    if report.level_one is not None:
        lines += _level_one(report.level_one)
    refused = ", ".join(f"{name} {count:,}" for name, count in report.back_pressure.items() if count)
    lines.append(f"Pushes that found a queue full: {refused or 'none'}.")
    lines.append(
        f"Digest of the final state: {report.state_digest}. Digest of all events: {report.event_digest}."
    )
    return lines


def _trades(report: ReplayReport) -> str:
    if report.trades == 0:
        return "Trades: none."
    mean = dollars(round(report.traded_ticks / report.volume_lots))
    return f"Trades: {report.trades:,}; volume {report.volume_lots:,} shares at {mean} dollars on average."


def _executions(executions: ExecutionReport) -> list[str]:
    lines = []
    if executions.sent:
        others, rest = executions.met_another_order, executions.not_filled
        lines.append(
            f"Visible executions: {executions.recorded:,} recorded, {executions.sent:,} sent as orders;"
            f" {others:,} met another order than the record names, {rest:,} were not filled."
        )
    elif executions.recorded:
        lines.append(
            f"Visible executions: {executions.recorded:,} recorded, each taken from the order that the record names."
        )
    if executions.hidden_left_out:
        lines.append(
            f"Hidden executions: {executions.hidden_left_out:,} left out"
            f" ({executions.hidden_lots_left_out:,} shares): the orders that they met were never displayed."
        )
    return lines


def _level_one(found: LevelOneReport) -> list[str]:
    if found.aligned == 0:
        return [f"Best prices: no state in common with {found.file}."]
    return [
        f"Best prices and sizes: {found.equal:,} of {found.aligned:,} states as in LOBSTER's level-1 file"
        f" ({100 * found.share:.2f} %), the first {found.equal_at_start:,} of them without exception.",
        f"Best prices alone: {found.equal_prices:,} of {found.aligned_prices:,} ({100 * found.share_prices:.2f} %).",
    ]
