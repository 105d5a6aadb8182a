"""A result on the terminal: a few tables that fit 100 columns, and sentences that say what they mean.

Colour only repeats what the text says, so that a pipe, a log file or a colour-blind reader loses nothing.
Output that is not a terminal gets 100 columns and no escape codes. All names and descriptions come from files
that users write: they are printed as plain text, never as markup.

A void comparison is said first, loudly, and its ratios are not shown at all.
"""

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from exchange.bench.compare import Comparison, MetricChange
from exchange.bench.load_rows import (
    COUNT_HEADINGS,
    COUNTS_NOTE,
    SPEED_HEADINGS,
    load_rows,
    load_verdict,
)
from exchange.bench.results import BenchResult, ProfileResult
from exchange.bench.statistics import RatioInterval, Spread
from exchange.bench.summary import (
    CommonLoad,
    DigestState,
    LatencySummary,
    MicroCurve,
    MicroFamily,
    MicroGroup,
    MicroRow,
    ProfileSummary,
    common_load,
    digest_states,
    latency_at,
    median_back_pressure,
    micro_families,
    micro_groups,
    summarize_profiles,
    summarize_threads,
    total_switches,
)
from exchange.bench.wording import (
    common_load_note,
    duration,
    family_title,
    interval,
    interval_note,
    micro_range,
    micro_title,
    micro_value,
    not_measured,
    quantity,
    range_of_unit,
    short_digest,
    technique,
    three_digits,
    value_of_unit,
    value_range,
    verdict,
)

PIPED_WIDTH: Final = 100
SHOWN_PERCENTILES: Final = ("p50", "p99", "p99.9", "p99.99", "max")


def print_result(result: BenchResult, console: Console | None = None) -> None:
    """Print the tables and the verdict of a run."""
    out = console or _console()
    if result.comparison_void is not None:
        out.print(_void_panel(result.comparison_void))
    if result.flow is not None:
        out.print(Text(f"Flow: {result.flow.name}, {quantity(result.flow.commands)} commands", style="dim"))
    for part in _tables(result):
        out.print(part)
    for warning in result.warnings:
        out.print(Text(f"Warning: {warning}", style="yellow"))
    sentences = load_verdict(result) if result.kind == "load" else verdict(result)
    for index, sentence in enumerate(sentences):
        out.print(Text(sentence, style="bold" if index == 0 else ""))


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print what changed between two result files."""
    out = console or _console()
    if comparison.void is not None:
        out.print(_void_panel(comparison.void))
    table = _table(f"{comparison.before} (before) against {comparison.after} (after)")
    table.add_column("profile", no_wrap=True)
    table.add_column("figure")
    for heading in ("before", "after", "after / before"):
        table.add_column(heading, justify="right")
    table.add_column("finding", no_wrap=True)
    previous = ""
    for change in comparison.changes:
        if previous not in ("", change.subject):
            table.add_section()
        table.add_row(*_change_cells(change, void=comparison.void is not None))
        previous = change.subject
    out.print(table)
    if comparison.void is None:
        out.print(Text(interval_note([change.ratio for change in comparison.changes], interleaved=False)))
    for warning in comparison.warnings:
        out.print(Text(f"Warning: {warning}", style="yellow"))


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH, no_color=True)


def _void_panel(reason: str) -> Panel:
    text = Text(f"{reason}.\nNo ratios are shown. Find the cause first.", style="bold red")
    return Panel(text, title="THE COMPARISON IS VOID", border_style="bold red", box=box.DOUBLE)


def _table(title: str) -> Table:
    return Table(
        title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )


def _tables(result: BenchResult) -> list[RenderableType]:
    if result.kind == "load":
        return _load_tables(result)
    return _profile_tables(result) if result.profiles else _micro_tables(result)


def _load_tables(result: BenchResult) -> list[RenderableType]:
    speed = _table("Answers over the network, from the time a request was due (median of rounds)")
    counts = _table("What became of the requests (all rounds together)")
    for heading in SPEED_HEADINGS:
        speed.add_column(heading, justify="right")
    for heading in COUNT_HEADINGS:
        counts.add_column(heading, justify="right")
    for row in load_rows(result):
        speed.add_row(*row.speed)
        counts.add_row(*row.counts)
    return [speed, counts, Text(COUNTS_NOTE, style="dim")]


def _profile_tables(result: BenchResult) -> list[RenderableType]:
    summaries = summarize_profiles(result)
    parts: list[RenderableType] = [
        _saturation_table(summaries, digest_states(result)),
        Text(interval_note([one.to_first for one in summaries]), style="dim"),
    ]
    load = common_load(result)
    if load is not None:
        parts += ["", _latency_table(result, load), Text(common_load_note(load), style="dim")]
    parts += ["", _cost_table(result), _missing_counters(result)]
    return parts


def _saturation_table(summaries: Sequence[ProfileSummary], states: dict[str, DigestState]) -> Table:
    table = _table(
        "Saturation throughput: the most that each profile can do (median, smallest – largest round)"
    )
    table.add_column("profile", no_wrap=True)
    table.add_column("what it changes", ratio=1)
    for heading in ("M commands/s", "× first", "× before it"):
        table.add_column(heading, justify="right")
    table.add_column("digest", no_wrap=True)
    for one in summaries:
        table.add_row(
            Text(one.profile.name, style="bold"),
            Text(technique(one)) if one.throughput is not None else _skipped(one.profile),
            Text("–", style="dim") if one.throughput is None else _stacked(one.throughput, 1e6),
            _ratio_cell(one.to_first),
            _ratio_cell(one.to_previous, with_interval=False),
            _digest_cell(one.profile, states[one.profile.name]),
        )
    return table


def _latency_table(result: BenchResult, load: CommonLoad) -> Table:
    table = _table(f"Latency at {quantity(load.offered_per_second)} commands/s offered (median of rounds)")
    table.add_column("profile", no_wrap=True)
    for heading in (*SHOWN_PERCENTILES, "answered/s"):
        table.add_column(heading, justify="right")
    table.add_column("kept up", no_wrap=True)
    for profile in result.profiles:
        summary = latency_at(profile, load.offered_per_second)
        if summary is not None:
            cells = [_latency_cell(summary, name) for name in SHOWN_PERCENTILES]
            answered = Text(quantity(summary.achieved_per_second.median))
            table.add_row(Text(profile.name, style="bold"), *cells, answered, _kept_up(summary))
    return table


def _cost_table(result: BenchResult) -> Table:
    table = _table("At saturation: what the queues and the kernel had to do (medians of the rounds)")
    table.add_column("profile", no_wrap=True)
    table.add_column("queues found full, per 1,000 commands", ratio=1)
    for heading in ("in a pass: gave up core", "lost core", "moved"):
        table.add_column(heading, justify="right")
    for profile in result.profiles:
        if not profile.saturation_rounds:
            continue
        threads = summarize_threads(profile.saturation_rounds)
        voluntary, involuntary = total_switches(threads)
        moves = [thread.migrations for thread in threads]
        migrations = None if None in moves else sum(move for move in moves if move is not None)
        pressure = median_back_pressure(profile.saturation_rounds)
        full = ", ".join(f"{name} {quantity(count)}" for name, count in pressure.items() if count)
        table.add_row(
            Text(profile.name, style="bold"),
            Text(full or "none"),
            *(
                Text("–" if count is None else quantity(count))
                for count in (voluntary, involuntary, migrations)
            ),
        )
    return table


def _missing_counters(result: BenchResult) -> RenderableType:
    fields = [field for field in ("voluntary_switches", "migrations") if field in result.not_measured]
    lines = [f"– {field.replace('_', ' ')}: {not_measured(result, field)}" for field in fields]
    return Text("\n".join(lines), style="dim")


def _micro_tables(result: BenchResult) -> list[RenderableType]:
    families, groups = micro_families(result), micro_groups(result)
    parts: list[RenderableType] = [_family_table(family) for family in families]
    parts += [_micro_table(group) for group in groups]
    ratios = [row.to_first for group in groups for row in group.rows]
    ratios += [curve.change for family in families for curve in family.curves]
    parts.append(Text(interval_note(ratios), style="dim"))
    return parts


def _family_table(family: MicroFamily) -> Table:
    """A line for each position on the axis, a column for each variant; what the size does in the last line."""
    table = _table(f"{family_title(family)}: {family.better} is better")
    table.add_column(family.axis.replace("_", " "), no_wrap=True, min_width=16)
    for curve in family.curves:
        table.add_column(Text(curve.variant), justify="right", min_width=20)
    for position in family.positions:
        table.add_row(
            Text(quantity(position), style="bold"),
            *(_point_cell(family, curve, position) for curve in family.curves),
        )
    table.add_section()
    table.add_row(Text("last / first", style="dim"), *(_ratio_cell(curve.change) for curve in family.curves))
    return table


def _point_cell(family: MicroFamily, curve: MicroCurve, position: float) -> Text:
    found = next((point for point in curve.points if point.position == position), None)
    if found is None:
        return Text("–", style="dim")
    median = value_of_unit(found.values.median, family.unit)
    return Text.assemble(median, "\n", (range_of_unit(found.values, family.unit), "dim"))


def _micro_table(group: MicroGroup) -> Table:
    table = _table(f"{micro_title(group)}: {group.rows[0].result.better} is better")
    table.add_column("variant", no_wrap=True, min_width=16)
    for heading in ("median of rounds", "speed-up over first", "over the one before"):
        table.add_column(heading, justify="right", min_width=20)
    for row in group.rows:
        table.add_row(*_micro_cells(row))
    return table


def _micro_cells(row: MicroRow) -> tuple[Text, ...]:
    name = Text(row.result.variant, style="bold")
    if row.values is None:
        return name, Text(f"not run: {row.result.skipped or 'no reason given'}", style="dim")
    median = micro_value(row, row.values.median)
    return (
        name,
        Text.assemble(median, "\n", (micro_range(row, row.values), "dim")),
        _ratio_cell(row.to_first),
        _ratio_cell(row.to_previous),
    )


def _change_cells(change: MetricChange, *, void: bool) -> tuple[Text, ...]:
    colour = {"better": "green", "worse": "red", "no clear change": "dim"}[change.finding]
    return (
        Text(change.subject, style="bold"),
        Text(change.metric),
        Text(_value(change, change.before.median)),
        Text(_value(change, change.after.median)),
        Text("–") if void else _ratio_cell(change.ratio),
        Text("void", style="red") if void else Text(change.finding, style=colour),
    )


def _value(change: MetricChange, value: float) -> str:
    if change.unit == "ns":
        return duration(value)
    return f"{quantity(value)}{'/s' if change.unit.endswith('/s') else ' ' + change.unit}"


def _stacked(values: Spread, scale: float) -> Text:
    ends = value_range(values, scale) if values.rounds > 1 else "one round"
    return Text.assemble(three_digits(values.median / scale), "\n", (ends, "dim"))


def _ratio_cell(value: RatioInterval | None, *, with_interval: bool = True) -> Text:
    if value is None:
        return Text("–", style="dim")
    if not with_interval:
        return Text(three_digits(value.ratio))
    shown = f"[{interval(value)}]" if value.low is not None else "one round"
    return Text.assemble(three_digits(value.ratio), "\n", (shown, "dim"))


def _latency_cell(summary: LatencySummary, name: str) -> Text:
    value = summary.percentiles_ns[name]
    return Text("too few", style="dim") if value is None else Text(duration(value.median))


def _kept_up(summary: LatencySummary) -> Text:
    if summary.rounds_behind == 0:
        return Text("yes", style="green")
    return Text(f"NO, {summary.rounds_behind} of {summary.rounds}", style="bold red")


def _digest_cell(profile: ProfileResult, state: DigestState) -> Text:
    if state == "none":
        return Text("–", style="dim")
    if state == "equal":
        return Text(f"✓ {short_digest(profile.digest)}", style="green")
    return Text(f"✗ MISMATCH\n{short_digest(profile.digest)}", style="bold red")


def _skipped(profile: ProfileResult) -> Text:
    return Text(f"not run: {profile.skipped or 'no saturation round'}", style="dim")
