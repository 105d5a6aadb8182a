"""The plots of the HTML report, as inline SVG that follows the reader's light or dark theme.

Each function returns SVG text. matplotlib draws with stand-in colours; afterwards each stand-in becomes a CSS
variable of the page (``--ink``, ``--series-0`` ...), text becomes real text in the page's font, and ids get a
prefix so that many drawings can live in one document. Every plot comes in two shapes: wide, and narrow for a
telephone.

What is honest in them: a line is the median of the rounds and its band the range of the rounds; a curve ends
where fewer than ``FEWEST_SAMPLES_BEYOND`` samples remain; points where a profile fell behind are hollow and
dotted. Axes that span powers of ten are logarithmic, because profiles differ by factors.
"""

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from exchange.bench.histogram import decode, values_at_percentiles_ns
from exchange.bench.results import LoadPoint, ProfileResult
from exchange.bench.summary import (
    FEWEST_SAMPLES_BEYOND,
    MicroCurve,
    MicroFamily,
    MicroGroup,
    ProfileSummary,
    latency_at,
    offered_loads,
    points_at,
)
from exchange.bench.wording import micro_value, quantity, ratio, round_duration

SERIES_COLOURS: Final = 8
"""How many colours the page defines; further profiles start again with another marker."""

_MARKERS: Final = "osD^vP*Xh"
_INK, _MUTED, _GRID, _PAPER = "#010101", "#020202", "#030303", "#040404"
_STAND_INS: Final = {_INK: "--ink", _MUTED: "--muted", _GRID: "--grid", _PAPER: "--paper"} | {
    f"#0500{index:02x}": f"--series-{index}" for index in range(SERIES_COLOURS)
}
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _GRID,
    "axes.facecolor": "none",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 2,
    "lines.markersize": 6,
    "legend.frameon": False,
    "text.parse_math": False,
}


type _Format = Callable[[float], str]


class Bar(NamedTuple):
    """One bar: the median, the rounds behind it, and what is written at its end."""

    name: str
    median: float
    rounds: tuple[float, ...]
    label: str
    series: int


def colour(series: int) -> str:
    """Return the stand-in of a series' colour."""
    return f"#0500{series % SERIES_COLOURS:02x}"


def throughput_bars(summaries: Sequence[ProfileSummary], *, narrow: bool) -> str:
    """Draw saturation throughput, one bar for each profile that ran, a dot for each round."""
    bars = [
        Bar(
            name=one.profile.name,
            median=one.throughput.median,
            rounds=tuple(round_.commands_per_second for round_ in one.profile.saturation_rounds),
            label=f"{quantity(one.throughput.median)}/s"
            + (f"  ·  {ratio(one.to_first)}" if one.to_first is not None else ""),
            series=series,
        )
        for series, one in enumerate(summaries)
        if one.throughput is not None
    ]
    return _bars(bars, "commands per second at saturation (log scale)", quantity, "throughput", narrow)


def micro_bars(group: MicroGroup, name: str, *, narrow: bool) -> str:
    """Draw one group of a micro-benchmark; ``name`` keeps the ids of several groups apart."""
    unit = group.rows[0].result.unit
    bars = [
        Bar(
            name=row.result.variant,
            median=row.values.median,
            rounds=row.result.values,
            label=micro_value(row, row.values.median)
            + (f"  ·  {ratio(row.to_first)}" if row.to_first is not None else ""),
            series=series,
        )
        for series, row in enumerate(group.rows)
        if row.values is not None
    ]
    axis = f"{_axis_title(unit, group.rows[0].result.better)} (log scale)"
    return _bars(bars, axis, round_duration if unit == "ns" else quantity, name, narrow)


def family_curves(family: MicroFamily, name: str, *, narrow: bool) -> str:
    """Draw variants along a parameter, a line for each; ``name`` keeps the ids of several plots apart.

    The vertical axis begins and ends at a power of ten, so that a line that hardly rises does not look steep.
    """
    formatted: _Format = round_duration if family.unit == "ns" else quantity
    title = _axis_title(family.unit, family.better)
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 3.9) if narrow else (11.5, 4.2), layout="constrained")
        panel = figure.subplots()
        for series, curve in enumerate(family.curves):
            _curve_line(panel, curve, series)
        _log_axes(panel, quantity, formatted)
        panel.set_xticks(family.positions, [quantity(position) for position in family.positions])
        ends = [end for curve in family.curves for point in curve.points for end in point.row.values]
        bottom, top = np.floor(np.log10(min(ends))), np.floor(np.log10(max(ends))) + 1
        panel.set_ylim(10.0**bottom, 10.0**top)
        if top - bottom < 3:
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        panel.margins(x=0.06)
        panel.set_xlabel(f"{family.axis.replace('_', ' ')} (log scale)")
        panel.set_ylabel(f"{title} (log scale)" if not narrow else title)
        _legend(figure, panel, narrow)
        return _svg(figure, f"{name}-{'narrow' if narrow else 'wide'}", f"{family.name}: {title}")


def _axis_title(unit: str, better: str) -> str:
    """What an axis says of its values; at one of times each mark has its own unit."""
    return f"{'time' if unit == 'ns' else unit}, {better} is better"


def _curve_line(panel: Axes, curve: MicroCurve, series: int) -> None:
    positions = [point.position for point in curve.points]
    medians = [point.values.median for point in curve.points]
    low, high = ([getattr(point.values, end) for point in curve.points] for end in ("minimum", "maximum"))
    tint, marker = colour(series), _MARKERS[series % len(_MARKERS)]
    panel.plot(positions, medians, marker=marker, color=tint, label=curve.variant)
    panel.fill_between(positions, low, high, color=tint, alpha=0.14, linewidth=0)


def hockey_stick(profiles: Sequence[ProfileResult], *, narrow: bool) -> str:
    """Draw offered load against p50, p99 and p99.9, a panel each, a line for each profile."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 10.4) if narrow else (11.5, 4.6), layout="constrained")
        shape = (3, 1) if narrow else (1, 3)
        ceiling = _ceiling_ns(profiles)
        panels = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False).flatten()
        for panel, name in zip(panels, ("p50", "p99", "p99.9"), strict=True):
            for series, profile in enumerate(profiles):
                _load_line(panel, profile, series, name, ceiling)
            panel.set_title(name)
            _log_axes(panel, quantity, round_duration)
            panel.margins(0.06)
        for panel in panels if not narrow else panels[-1:]:
            panel.set_xlabel("offered load, commands per second")
        for panel in panels if narrow else panels[:1]:
            panel.set_ylabel("latency")
        _legend(figure, panels[0], narrow)
        return _svg(figure, f"hockey-{'narrow' if narrow else 'wide'}", "Offered load against latency")


def percentile_plot(profiles: Sequence[ProfileResult], load: float, *, narrow: bool) -> str:
    """Draw latency against percentile at one offered load, the tail stretched as HdrHistogram's plots do."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 4.8) if narrow else (11.5, 5.0), layout="constrained")
        panel = figure.subplots()
        furthest = 10.0
        for series, profile in enumerate(profiles):
            points = [point for point in points_at(profile, load) if point.histogram is not None]
            if not points:
                continue
            odds, median, low, high = percentile_curve(points)
            panel.plot(odds, median, color=colour(series), label=profile.name)
            panel.fill_between(odds, low, high, color=colour(series), alpha=0.16, linewidth=0)
            furthest = max(furthest, float(odds[-1]))
        _log_axes(panel, _percentile_name, round_duration)
        panel.set_xlim(1, furthest)
        panel.set_xticks([odds for odds in (2.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6) if odds <= furthest])
        panel.set_xlabel("percentile (each step to the right is ten times rarer)")
        panel.set_ylabel("latency")
        _legend(figure, panel, narrow)
        return _svg(figure, f"percentiles-{'narrow' if narrow else 'wide'}", "Latency by percentile")


def percentile_curve(points: Sequence[LoadPoint]) -> tuple[npt.NDArray[np.float64], ...]:
    """Return the percentile curve of several rounds.

    Returns:
        Four float64 arrays of one shape: ``1 / (1 - percentile)``, and at each the median, the smallest and
        the largest latency of the rounds in ns. The curve ends where the shortest round has too few samples
        beyond.
    """
    all_counts = [decode(point.histogram) for point in points if point.histogram is not None]
    fewest = min(int(counts.sum()) for counts in all_counts)
    odds = np.logspace(0, np.log10(max(fewest / FEWEST_SAMPLES_BEYOND, 2.0)), 160)
    percents = np.maximum(100.0 * (1.0 - 1.0 / odds), 1e-9)
    rounds = np.array([values_at_percentiles_ns(counts, percents.tolist()) for counts in all_counts])
    return odds, np.median(rounds, axis=0), rounds.min(axis=0), rounds.max(axis=0)


def _bars(bars: Sequence[Bar], axis: str, formatted: _Format, name: str, narrow: bool) -> str:
    with rc_context(_STYLE):
        height = (0.72 if narrow else 0.52) * len(bars) + 0.9
        figure = Figure(figsize=(4.6 if narrow else 11.5, height), layout="constrained")
        panel = figure.subplots()
        # A round in which nothing was done has no place on a logarithmic axis.
        positive = [value for bar in bars for value in bar.rounds if value > 0] or [1.0]
        smallest, largest = min(positive), max(positive)
        left = 10.0 ** (np.floor(np.log10(smallest * 0.7)))
        for row, bar in enumerate(bars):
            panel.barh(
                row, max(bar.median - left, 0.0), left=left, height=0.46, color=colour(bar.series), alpha=0.85
            )
            panel.plot(
                bar.rounds,
                [row] * len(bar.rounds),
                "o",
                markersize=4,
                color=_PAPER,
                markeredgecolor=_INK,
                markeredgewidth=0.8,
            )
            _bar_text(panel, bar, row, left, narrow)
        panel.set_xscale("log")
        panel.set_xlim(left, largest * (1.3 if narrow else (largest / left) ** 0.24))
        panel.xaxis.set_major_locator(LogLocator(numticks=12))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: formatted(value)))
        panel.set_ylim(len(bars) - 0.5, -0.75 if narrow else -0.5)
        panel.set_yticks([] if narrow else range(len(bars)), [] if narrow else [bar.name for bar in bars])
        panel.tick_params(axis="y", labelcolor=_INK)
        panel.grid(visible=False, axis="y")
        panel.spines["left"].set_visible(False)
        panel.set_xlabel(axis)
        return _svg(figure, f"{name}-{'narrow' if narrow else 'wide'}", axis)


def _bar_text(panel: Axes, bar: Bar, row: int, left: float, narrow: bool) -> None:
    if narrow:
        panel.text(left, row - 0.31, f"{bar.name}:  {bar.label}", va="bottom", ha="left")
        return
    panel.annotate(
        bar.label,
        (max(*bar.rounds, bar.median), row),
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
        weight="bold",
    )


def _ceiling_ns(profiles: Sequence[ProfileResult]) -> float:
    """Return where the points of profiles that fell behind are cut off: well above all those that kept up."""
    kept_up = [point for profile in profiles for point in profile.load_points if not point.behind]
    return 10.0 * max((point.percentiles.p99_9_ns for point in kept_up if point.percentiles), default=np.inf)


def _load_line(panel: Axes, profile: ProfileResult, series: int, name: str, ceiling_ns: float) -> None:
    """Draw one profile: solid and filled where it kept up, dotted and hollow where it fell behind."""
    loads: list[float] = []
    medians: list[float] = []
    kept_up: list[bool] = []
    ends: list[tuple[float, float]] = []
    for load in offered_loads(profile):
        summary = latency_at(profile, load)
        value = summary.percentiles_ns[name] if summary is not None else None
        if summary is None or value is None:
            continue
        kept_up.append(summary.rounds_behind == 0)
        loads.append(load)
        medians.append(value.median if kept_up[-1] else min(value.median, ceiling_ns))
        ends.append((value.minimum, value.maximum))
    if not loads:
        return
    tint, marker = colour(series), _MARKERS[series % len(_MARKERS)]
    solid = np.where(kept_up, medians, np.nan)
    hollow = np.where(kept_up, np.nan, medians)
    low, high = (np.where(kept_up, [one[side] for one in ends], np.nan) for side in (0, 1))
    panel.plot(loads, medians, ":", color=tint, linewidth=1.4)
    panel.plot(loads, hollow, marker, color=tint, markerfacecolor=_PAPER, markeredgewidth=1.6)
    panel.plot(loads, solid, marker=marker, color=tint, label=profile.name)
    panel.fill_between(loads, low, high, color=tint, alpha=0.14, linewidth=0)


def _log_axes(panel: Axes, horizontal: _Format, vertical: _Format) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    for axis, formatted in ((panel.xaxis, horizontal), (panel.yaxis, vertical)):
        axis.set_major_locator(LogLocator(numticks=12))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _, formatted=formatted: formatted(value)))


def _percentile_name(odds: float) -> str:
    return f"{100 * (1 - 1 / odds):.6g} %" if odds > 1 else "0 %"


def _legend(figure: Figure, panel: Axes, narrow: bool) -> None:
    handles, labels = panel.get_legend_handles_labels()
    columns = 3 if narrow else 8
    figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, handlelength=1.6, columnspacing=1.4
    )


def _svg(figure: Figure, name: str, title: str) -> str:
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    head, _, body = svg.partition(">")
    head = re.sub(r' (width|height|version|xmlns[:\w]*)="[^"]*"', "", head)
    svg = f'{head} role="img" aria-label="{escape(title)}">{body}'
    for stand_in, variable in _STAND_INS.items():
        svg = svg.replace(stand_in, f"var({variable})")
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    return svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
