"""The HTML report: one file that can be mailed, opened without a network, and still be understood in ten
years.

:func:`render_report` turns a result into one page: verdict, tables, plots (inline SVG), the machine, the
resolved profiles as differences, a glossary, and the result itself as a download. The page refers to nothing
outside itself, and adapts to a dark theme and to a telephone. The page's frame is :mod:`exchange.bench.document`'s, the
glossary is in ``words.html``.

Rules: every string that came from outside (names, descriptions, host facts) passes :func:`html.escape` before
it is put into the page; a figure that is ``None`` is written as the reason for its absence; a void comparison
shows no ratios.
"""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final

from exchange.bench.document import host_facts, render_document, repeated_by
from exchange.bench.load_page import load_sections
from exchange.bench.load_rows import load_verdict
from exchange.bench.markup import (
    absent_cell,
    card,
    facts,
    figure,
    figure_cell,
    name_cell,
    prose,
    ratio_cell,
    swatch,
    table,
)
from exchange.bench.plots import family_curves, hockey_stick, micro_bars, percentile_plot, throughput_bars
from exchange.bench.results import BenchResult, ProfileResult, to_json
from exchange.bench.statistics import Spread
from exchange.bench.summary import (
    FEWEST_SAMPLES_BEYOND,
    CommonLoad,
    DigestState,
    LatencySummary,
    MicroCurve,
    MicroFamily,
    MicroGroup,
    ProfileSummary,
    SettingChange,
    ThreadSummary,
    common_load,
    digest_states,
    flatten,
    latency_at,
    median_back_pressure,
    micro_families,
    micro_groups,
    summarize_profiles,
    summarize_threads,
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
    rate,
    ratio,
    setting,
    short_digest,
    technique,
    three_digits,
    trend_note,
    value_of_unit,
    value_range,
    verdict,
)
from exchange.errors import UserError

_SHOWN_PERCENTILES: Final = ("p50", "p90", "p99", "p99.9", "p99.99", "max")
_COUNTERS: Final = {
    "voluntary_switches": "gave its core up",
    "involuntary_switches": "lost its core",
    "migrations": "moved to another core",
    "waiting_ns": "waited for a core",
}
"""The counters of a thread, and what they are called."""


def write_report(result: BenchResult, path: Path) -> None:
    """Write the report.

    Raises:
        UserError: the file cannot be written, or a histogram in the result is corrupt.
    """
    try:
        path.write_text(render_report(result), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot write the report: {error.strerror}") from error


def render_report(result: BenchResult) -> str:
    """Return the report as one HTML document.

    Raises:
        UserError: a histogram in the result is corrupt.
    """
    return render_document(
        title=_title(result),
        subtitle=_subtitle(result),
        banner_html=_banner(result),
        cards_html=_cards(result) if result.kind == "profiles" and result.comparison_void is None else "",
        sections_html=[*_sections(result), ("machine", "Machine and run", _machine(result))],
        words_html=files("exchange.bench").joinpath("words.html").read_text(encoding="utf-8"),
        download=to_json(result),
        download_name=f"exchange-{result.kind}.json",
    )


def _sections(result: BenchResult) -> list[tuple[str, str, str]]:
    if result.kind == "load":
        return load_sections(result, "" if common_load(result) is None else _load_curves(result))
    return _profile_sections(result) if result.profiles else _micro_sections(result)


def _title(result: BenchResult) -> str:
    if result.kind == "load":
        return "Answers over the network"
    if result.profiles:
        return "What each technique is worth on this machine"
    return f"{result.kind.replace('-', ' ').capitalize()} benchmark"


def _subtitle(result: BenchResult) -> str:
    parts = [result.created_utc.replace("T", " ")[:16] + " UTC"]
    if result.flow is not None:
        flow = result.flow
        symbols = "1 symbol" if flow.symbols == 1 else f"{flow.symbols} symbols"
        parts.append(f"flow {flow.name}: {quantity(flow.commands)} commands, {symbols}")
    return " · ".join(parts)


def _banner(result: BenchResult) -> str:
    sentences = "".join(
        f"<p>{prose(one)}</p>" for one in (load_verdict if result.kind == "load" else verdict)(result)
    )
    kind = "verdict" if result.profiles else "verdict level"
    text = f'<div class="{kind}">{sentences}</div>'
    if result.comparison_void is not None:
        text = f'<div class="void" role="alert">{sentences}</div>'
    if result.warnings:
        text += (
            '<ul class="warnings">' + "".join(f"<li>{escape(one)}</li>" for one in result.warnings) + "</ul>"
        )
    return text


def _cards(result: BenchResult) -> str:
    summaries = [one for one in summarize_profiles(result) if one.throughput is not None]
    if not summaries:
        return ""
    best = max(summaries, key=lambda one: one.throughput.median if one.throughput is not None else 0.0)
    cards = []
    name, first = best.profile.name, summaries[0].profile.name
    if best.throughput is not None:
        cards.append((f"{quantity(best.throughput.median)}/s", f"commands at saturation: {name}"))
    if best.to_first is not None:
        cards.append((ratio(best.to_first), f"the throughput of {first} ({interval(best.to_first)})"))
    load = common_load(result)
    latency = latency_at(best.profile, load.offered_per_second) if load is not None else None
    tail = latency.percentiles_ns["p99"] if latency is not None else None
    if load is not None and tail is not None:
        cards.append((duration(tail.median), f"p99 of {name} at {rate(load.offered_per_second)}"))
    cards.append(("✓ equal", f"the final books of all profiles (digest {short_digest(best.profile.digest)})"))
    return '<div class="cards">' + "".join(card(*one) for one in cards) + "</div>"


def _profile_sections(result: BenchResult) -> list[tuple[str, str, str]]:
    summaries = summarize_profiles(result)
    sections = [("throughput", "How much each profile can do", _throughput(result, summaries))]
    load = common_load(result)
    if load is not None:
        sections.append(("load", "How latency grows with load", _load_curves(result)))
        sections.append(("latency", "How long a command takes", _latency(result, load)))
    sections.append(("why", "What the queues and the kernel had to do", _costs(result, load)))
    sections.append(("profiles", "What the profiles are", _profiles(summaries)))
    return sections


def _throughput(result: BenchResult, summaries: Sequence[ProfileSummary]) -> str:
    states = digest_states(result)
    rows = [_throughput_row(one, series, states[one.profile.name]) for series, one in enumerate(summaries)]
    head = ["profile", "what it changes", "M commands/s", "× first", "× before it", "digest"]
    text = table(head, rows, figures=(2, 3, 4), roomy=(1,))
    notes = "Median of the rounds; below it the smallest and largest round, or the interval of a ratio. "
    notes += interval_note([one.to_first for one in summaries])
    text += f'<p class="note">{escape(notes)}</p>'
    if any(one.throughput is not None for one in summaries):
        wide, narrow = (throughput_bars(summaries, narrow=shape) for shape in (False, True))
        text += figure(
            wide,
            narrow,
            "Bars: medians; dots: the rounds. The axis is logarithmic, each grid line ten times the one "
            "before: compare where bars end, not how long they are.",
        )
    return text


def _throughput_row(one: ProfileSummary, series: int, state: DigestState) -> list[str]:
    name = name_cell(one.profile.name, series)
    if one.throughput is None:
        reason = f"not run: {one.profile.skipped or 'no saturation round'}"
        return [
            name,
            f'<td class="roomy absent">{escape(technique(one))}</td>',
            absent_cell(reason, columns=4),
        ]
    middle, ends = three_digits(one.throughput.median / 1e6), value_range(one.throughput, 1e6)
    digest = f'<span class="mono">{short_digest(one.profile.digest)}</span>'
    mark = "✓" if state == "equal" else "✗ MISMATCH"
    return [
        name,
        f'<td class="roomy">{escape(technique(one))}</td>',
        figure_cell(middle, ends if one.throughput.rounds > 1 else "one round"),
        ratio_cell(one.to_first),
        ratio_cell(one.to_previous),
        f'<td class="{"good" if state == "equal" else "bad"}">{mark} {digest}</td>',
    ]


def _load_curves(result: BenchResult) -> str:
    wide, narrow = (hockey_stick(result.profiles, narrow=shape) for shape in (False, True))
    return figure(
        wide,
        narrow,
        "Open loop: commands are sent at fixed times, and latency counts from the time a command should have "
        "been sent. Lines are medians of the rounds, bands their range. Hollow points on dotted lines: the "
        "profile fell behind, so its latency grows for as long as the run lasts; how far up the point is "
        "says nothing. A line ends where the load was not offered, or where fewer than "
        f"{FEWEST_SAMPLES_BEYOND} commands lie beyond the percentile.",
    )


def _latency(result: BenchResult, load: CommonLoad) -> str:
    wide, narrow = (
        percentile_plot(result.profiles, load.offered_per_second, narrow=shape) for shape in (False, True)
    )
    rows = []
    for series, profile in enumerate(result.profiles):
        summary = latency_at(profile, load.offered_per_second)
        if summary is not None:
            rows.append(_latency_row(profile.name, series, summary))
    head = ["profile", *_SHOWN_PERCENTILES, "answered/s", "kept up"]
    return (
        f"<p>{prose(common_load_note(load))}</p>"
        + figure(
            wide,
            narrow,
            "Each grid line to the right is ten times rarer. A steady climb is a tail that keeps growing; a "
            "step is something that happens to one command in so many, such as an interrupt or a full queue. "
            "Lines: medians of the rounds; bands: their range.",
        )
        + table(head, rows, figures=range(1, 8))
        + f'<p class="note">Medians of the rounds. “Too few”: fewer than {FEWEST_SAMPLES_BEYOND} commands of '
        "a round lie beyond that percentile. The maximum is one command's story; on a shared machine it is "
        "often the machine's, not the program's.</p>"
    )


def _latency_row(name: str, series: int, summary: LatencySummary) -> list[str]:
    kept = '<td class="good">yes</td>'
    if summary.rounds_behind:
        kept = f'<td class="bad">no, {summary.rounds_behind} of {summary.rounds} rounds fell behind</td>'
    return [
        name_cell(name, series),
        *(_latency_cell(summary.percentiles_ns[one]) for one in _SHOWN_PERCENTILES),
        figure_cell(quantity(summary.achieved_per_second.median)),
        kept,
    ]


def _latency_cell(value: Spread | None) -> str:
    if value is None:
        return '<td class="figure absent">too few</td>'
    return figure_cell(duration(value.median))


def _costs(result: BenchResult, load: CommonLoad | None) -> str:
    head = ["profile", "at saturation"]
    if load is not None:
        head.append(f"at {rate(load.offered_per_second)}")
    ran = [(series, one) for series, one in enumerate(result.profiles) if one.saturation_rounds]
    return (
        "<h3>Back-pressure</h3>"
        '<p class="note">How often a push found a queue full, for each 1,000 commands. The fullest queue stands '
        "in front of the slowest stage.</p>"
        + table(head, [_pressure_row(profile, series, load) for series, profile in ran])
        + "<h3>Context switches</h3>"
        '<p class="note">Of each thread while it played the flow once at saturation, medians of the rounds. A '
        "busy-spinning thread never gives its core up; a mutex or a sleep makes it do so.</p>"
        + _threads(result, ran)
    )


def _threads(result: BenchResult, ran: Sequence[tuple[int, ProfileResult]]) -> str:
    by_profile = [(series, one.name, summarize_threads(one.saturation_rounds)) for series, one in ran]
    counted = [
        field
        for field in _COUNTERS
        if any(getattr(one, field) is not None for *_, all_ in by_profile for one in all_)
    ]
    rows = [
        _thread_row(name if index == 0 else "", series, thread, counted)
        for series, name, threads in by_profile
        for index, thread in enumerate(threads)
    ]
    missing = [
        f'<p class="note">{escape(title)}: {escape(not_measured(result, field))}</p>'
        for field, title in _COUNTERS.items()
        if field not in counted
    ]
    head = ["profile", "thread", "core", *(_COUNTERS[field] for field in counted)]
    body = table(head, rows, figures=range(3, 3 + len(counted)))
    return f'<div class="dense">{body}</div>' + "".join(missing)


def _pressure_row(profile: ProfileResult, series: int, load: CommonLoad | None) -> list[str]:
    cells = [_pressure_cell(median_back_pressure(profile.saturation_rounds))]
    if load is not None:
        summary = latency_at(profile, load.offered_per_second)
        cells.append(_pressure_cell(summary.back_pressure) if summary else absent_cell("not offered"))
    return [name_cell(profile.name, series), *cells]


def _pressure_cell(pressure: dict[str, float]) -> str:
    full = sorted(((count, name) for name, count in pressure.items() if count), reverse=True)
    if not full:
        return "<td>none</td>"
    lines = (f'<span class="mono">{escape(name)}</span> {quantity(count)}' for count, name in full)
    return f"<td>{'<br>'.join(lines)}</td>"


def _thread_row(profile: str, series: int, thread: ThreadSummary, counted: Sequence[str]) -> list[str]:
    agents = ", ".join(thread.agents)
    detail = (
        ""
        if thread.name in (agents, "+".join(thread.agents))
        else f' <span class="absent">{escape(agents)}</span>'
    )
    return [
        name_cell(profile, series) if profile else "<th></th>",
        f'<td class="name">{escape(thread.name)}{detail}</td>',
        f"<td>{'any' if thread.core is None else thread.core}</td>",
        *(_counter_cell(field, getattr(thread, field)) for field in counted),
    ]


def _counter_cell(field: str, count: float | None) -> str:
    if count is None:
        return figure_cell("–")
    return figure_cell(duration(count) if field.endswith("_ns") else quantity(count))


def _profiles(summaries: Sequence[ProfileSummary]) -> str:
    parts = ['<p class="note">Each profile is shown as its difference from the one before it that ran.</p>']
    for series, one in enumerate(summaries):
        parts.append(f"<h3>{swatch(series)}{escape(one.profile.name)}</h3>")
        if one.profile.description:
            parts.append(f"<p>{escape(one.profile.description)}</p>")
        if one.previous is not None:
            lines = "".join(_change(change) for change in one.changes)
            same = f'<p class="note">The same settings as {escape(one.previous)}.</p>'
            parts.append(f'<ul class="changes">{lines}</ul>' if lines else same)
        resolved = facts(
            (key, escape(setting(value)))
            for key, value in flatten(one.profile.settings)
            if key not in ("name", "description")
        )
        parts.append(f"<details><summary>all resolved settings</summary>{resolved}</details>")
    return "".join(parts)


def _change(change: SettingChange) -> str:
    before, after = escape(setting(change.before)), escape(setting(change.after))
    return f"<li><code>{escape(change.key)}</code> <del>{before}</del> → <ins>{after}</ins></li>"


def _micro_sections(result: BenchResult) -> list[tuple[str, str, str]]:
    families = [
        (f"family-{index}", family_title(family), _family(family, f"curves-{index}"))
        for index, family in enumerate(micro_families(result))
    ]
    groups = [
        (f"group-{index}", micro_title(group), _micro_group(group, f"micro-{index}"))
        for index, group in enumerate(micro_groups(result))
    ]
    return families + groups


def _family(family: MicroFamily, name: str) -> str:
    wide, narrow = (family_curves(family, name, narrow=shape) for shape in (False, True))
    rows = [
        [
            f"<th>{escape(quantity(position))}</th>",
            *(_point_cell(family, curve, position) for curve in family.curves),
        ]
        for position in family.positions
    ]
    rows.append(["<th>last / first</th>", *(ratio_cell(curve.change) for curve in family.curves)])
    variants = [curve.variant for curve in family.curves]
    values = table([family.axis.replace("_", " "), *variants], rows, range(1, 1 + len(variants)))
    ratios = interval_note([curve.change for curve in family.curves])
    note = f"{family.better.capitalize()} is better. {trend_note(family)} {ratios}"
    caption = "Lines: medians of the rounds; bands: their range. Both axes are logarithmic."
    return figure(wide, narrow, caption) + values + f'<p class="note">{escape(note)}</p>'


def _point_cell(family: MicroFamily, curve: MicroCurve, position: float) -> str:
    found = next((point for point in curve.points if point.position == position), None)
    if found is None:
        return figure_cell("–")
    return figure_cell(
        value_of_unit(found.values.median, family.unit), range_of_unit(found.values, family.unit)
    )


def _micro_group(group: MicroGroup, name: str) -> str:
    rows = []
    for series, row in enumerate(group.rows):
        if row.values is None:
            reason = f"not run: {row.result.skipped or 'no reason given'}"
            rows.append([name_cell(row.result.variant, series), absent_cell(reason, columns=3)])
            continue
        rows.append(
            [
                name_cell(row.result.variant, series),
                figure_cell(micro_value(row, row.values.median), micro_range(row, row.values)),
                ratio_cell(row.to_first),
                ratio_cell(row.to_previous),
            ]
        )
    values = table(
        ["variant", "median of rounds", "speed-up over the first", "over the one before"], rows, (1, 2, 3)
    )
    ratios = [row.to_first for row in group.rows]
    note = f"{group.rows[0].result.better.capitalize()} is better."
    if any(ratios):
        note += f" A speed-up above 1 is an improvement. {interval_note(ratios)}"
    if all(row.values is None for row in group.rows):
        return values
    wide, narrow = (micro_bars(group, name, narrow=shape) for shape in (False, True))
    caption = "Bars: medians; dots: the rounds. Each grid line is ten times the one before."
    return figure(wide, narrow, caption) + values + f'<p class="note">{escape(note)}</p>'


def _machine(result: BenchResult) -> str:
    text = host_facts(result.host, lambda key: not_measured(result, key))
    if result.flow is not None:
        flow = result.flow
        text += "<h3>The flow</h3><p>" + escape(flow.description) + "</p>"
        seed = "none" if flow.seed is None else str(flow.seed)
        text += facts(
            [("commands", f"{flow.commands:,}"), ("symbols", f"{flow.symbols:,}"), ("seed", escape(seed))]
        )
        text += "".join(f'<p class="note">{escape(note)}</p>' for note in flow.notes)
    return text + repeated_by(result.command_line)
