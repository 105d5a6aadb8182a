"""The picture of a failover: what was due and answered, how long it took, and what happened when.

Three panels over one another share the time from the strike. The upper one has the names of the *marks*, which are
lines through all panels; names that would overlap stand in different rows. The middle one counts requests by the time
at which they were due and answers by the time at which they came. In the lower one latency stands over the time at
which a request was *due*: what was due first in the outage has waited longest, so an outage is a slope down to its end.

The answers that come at once when clients are let in again are many times the usual rate. So that the usual rate can be
seen the middle panel is cut off above some multiple of it, and says how far up it goes.

Rules: every figure here is in the result. The drawing follows the page's colours, as in :mod:`exchange.bench.plots`.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from exchange.bench.plots import _MUTED, _PAPER, _STYLE, _svg, colour
from exchange.bench.wording import quantity, round_duration
from exchange.failover.results import (
    BEGINNINGS,
    FIRST_ACKNOWLEDGEMENT,
    LEASE_OUT,
    LISTENING,
    TOOK_OVER,
    Failover,
    Steps,
)

DUE: Final = 0
ANSWERED: Final = 3
LONGEST: Final = 1
"""Series of the page's colours: grey, blue, orange."""
STRUCK: Final = 7
MARKS: Final = {
    LEASE_OUT: (1, "{new} sees the lease run out", "lease out"),
    TOOK_OVER: (5, "{new} is primary", "{new} is primary"),
    LISTENING: (3, "{new} listens", "{new} listens"),
    FIRST_ACKNOWLEDGEMENT: (4, "first acknowledgement", "first ack"),
}
"""What is marked: its colour, and how it is called where there is room and where there is less."""
HANDED_OVER: Final = ("{new} sees the lease handed over", "handed over")
"""What the first of them is called if that was asked for."""
STRIKES: Final = {"kill": "SIGKILL to {old}", "stop": "SIGSTOP to {old}", "promote": "{old} is to hand over"}
SHOWN_RATES: Final = 4.0
"""So many times the usual rate the middle panel goes up at most."""
CHARACTER_INCHES: Final = 0.082
"""How wide a character of a mark's name is, about."""
NAME_GAP_INCHES: Final = 0.12
ROW_INCHES: Final = 0.23
LINE_ROWS_BELOW: Final = 1.3
"""So far the line of a mark goes on below its name, to meet that of the panel beneath."""


class Mark(NamedTuple):
    """A line through the panels: where, in ms from the strike, what it is called, and its colour."""

    after_ms: float
    name: str
    series: int


def marks_of(failover: Failover, *, narrow: bool) -> list[Mark]:
    """The strike, and what was seen of what is marked."""
    names = {"old": failover.old, "new": failover.new}
    marks = [Mark(0.0, STRIKES[failover.how].format(**names), STRUCK)]
    for moment, (series, *called) in MARKS.items():
        after_ns = failover.after_ns(moment)
        text = (HANDED_OVER if moment == LEASE_OUT and failover.how == "promote" else called)[narrow]
        if after_ns is not None:
            marks.append(Mark(after_ns / 1e6, f"{text.format(**names)}  {after_ns / 1e6:+.0f} ms", series))
    return marks


class Placed(NamedTuple):
    """Where the name of a mark stands: in which row, and whether to the left of its line."""

    row: int
    is_left: bool


def place_names(positions: Sequence[float], widths: Sequence[float], end: float, gap: float) -> list[Placed]:
    """Rows for names so that no two overlap, and none is crossed by the line of another one.

    The line of a mark goes up to its row, and its name stands to the right of it, or to the left where there is no
    room any more.

    Args:
        positions: of the marks.
        widths: of their names.
        end: where the panel ends; all in the same unit.
        gap: how much has to be free around a name.

    Returns:
        For each its place. Row 0 is the lowest.
    """
    is_left = [position + gap + width > end for position, width in zip(positions, widths, strict=True)]
    spans = [
        (position - gap - width, position) if left else (position, position + gap + width)
        for position, width, left in zip(positions, widths, is_left, strict=True)
    ]
    rows: list[int] = [0] * len(positions)
    done: list[int] = []
    # From the right to the left, as names stand to the right of their lines: a line goes up beside names, not through.
    for index in sorted(range(len(positions)), key=lambda index: -positions[index]):
        begin, finish = spans[index]
        taken = {
            rows[other] for other in done if begin < spans[other][1] + gap and spans[other][0] < finish + gap
        }
        rows[index] = max(taken, default=-1) + 1
        done.append(index)
    return [Placed(row, left) for row, left in zip(rows, is_left, strict=True)]


def failover_plot(failover: Failover, *, narrow: bool) -> str:
    """Draw a failover, as SVG for a page."""
    width_inches, height_inches = (4.6, 7.4) if narrow else (11.5, 7.2)
    steps = failover.steps
    begin_ms, end_ms = steps.begin_ns / 1e6, (steps.begin_ns + len(steps.due) * steps.step_ns) / 1e6
    marks = marks_of(failover, narrow=narrow)
    ms_per_inch = (end_ms - begin_ms) / (width_inches - 0.9)
    widths = [len(mark.name) * CHARACTER_INCHES * ms_per_inch for mark in marks]
    places = place_names([mark.after_ms for mark in marks], widths, end_ms, NAME_GAP_INCHES * ms_per_inch)
    rows = max(place.row for place in places) + 1
    with rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(h_pad=0.02, hspace=0.0)
        figure = Figure(figsize=(width_inches, height_inches), layout=layout)
        heights = (
            ROW_INCHES * rows,
            *(share * (height_inches - 1 - ROW_INCHES * rows) for share in (0.45, 0.55)),
        )
        names, rates, latencies = figure.subplots(3, 1, sharex=True, height_ratios=heights)
        _draw_names(names, marks, places, rows)
        _draw_rates(rates, steps, narrow)
        _draw_latencies(latencies, steps, narrow)
        for panel in (rates, latencies):
            for mark in marks:
                panel.axvline(mark.after_ms, color=colour(mark.series), linewidth=1.5, zorder=3)
            if failover.outage_ns is not None:
                panel.axvspan(0, failover.outage_ns / 1e6, color=colour(STRUCK), alpha=0.07, linewidth=0)
        latencies.set_xlim(begin_ms, end_ms)
        latencies.set_xlabel(f"milliseconds from the {BEGINNINGS[failover.how]}")
        shape = "narrow" if narrow else "wide"
        return _svg(figure, f"failover-{failover.number}-{shape}", f"Failover {failover.number}")


def _draw_names(panel: Axes, marks: Sequence[Mark], places: Sequence[Placed], rows: int) -> None:
    """The names of the marks, each at the upper end of its line."""
    for mark, place in zip(marks, places, strict=True):
        tint = colour(mark.series)
        panel.plot(
            [mark.after_ms] * 2, [-LINE_ROWS_BELOW, place.row + 0.9], color=tint, linewidth=1.5, clip_on=False
        )
        panel.annotate(
            mark.name,
            (mark.after_ms, place.row + 0.5),
            xytext=(-5 if place.is_left else 5, 0),
            textcoords="offset points",
            ha="right" if place.is_left else "left",
            va="center",
            color=tint,
            weight="bold",
            annotation_clip=False,
            bbox={
                "facecolor": _PAPER,
                "edgecolor": "none",
                "pad": 0.5,
            },  # a line that goes on up does so behind it
            in_layout=False,
        )
    panel.set_ylim(0, rows)
    panel.tick_params(axis="x", labelbottom=False)
    panel.axis("off")


def _edges_ms(steps: Steps) -> np.ndarray:
    return (steps.begin_ns + np.arange(len(steps.due) + 1) * steps.step_ns) / 1e6


def _draw_rates(panel: Axes, steps: Steps, narrow: bool) -> None:
    """What was due and what was answered, per second."""
    per_second = 1e9 / steps.step_ns
    due, answered = (np.array(counts) * per_second for counts in (steps.due, steps.answered))
    edges = _edges_ms(steps)
    usual = float(np.median(due)) or 1.0
    top = min(SHOWN_RATES * usual, 1.15 * max(due.max(), answered.max(), 1.0))
    panel.stairs(answered, edges, fill=True, color=colour(ANSWERED), alpha=0.55, label="answered")
    panel.stairs(due, edges, baseline=None, color=colour(DUE), linewidth=2, label="due")
    panel.set_ylim(0, top)
    if answered.max() > top:
        peak = int(answered.argmax())
        panel.annotate(
            f"↑ {quantity(float(answered[peak]))}/s",
            ((edges[peak] + edges[peak + 1]) / 2, top),
            xytext=(6, -3),
            textcoords="offset points",
            va="top",
            color=colour(ANSWERED),
            weight="bold",
        )
    panel.yaxis.set_major_locator(MaxNLocator(5))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value)))
    panel.set_ylabel("requests/s" if narrow else "requests per second")
    panel.legend(loc="upper left", ncols=1 if narrow else 2, handlelength=1.4, columnspacing=1.2)
    panel.tick_params(axis="x", labelbottom=False)


def _draw_latencies(panel: Axes, steps: Steps, narrow: bool) -> None:
    """How long what was due took, median and longest."""
    edges = _edges_ms(steps)
    centres = (edges[:-1] + edges[1:]) / 2
    half, longest = (
        np.array([np.nan if one is None else max(one, 1) for one in values])
        for values in (steps.latency_p50_ns, steps.latency_max_ns)
    )
    panel.plot(centres, longest, color=colour(LONGEST), linewidth=1.3, label="longest")
    panel.plot(centres, half, color=colour(ANSWERED), linewidth=2, label="median")
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(numticks=12))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: round_duration(value)))
    panel.set_ylabel("latency" if narrow else "latency of what was due then (log scale)")
    panel.yaxis.label.set_color(_MUTED)
    panel.legend(loc="upper right", ncols=1 if narrow else 2, handlelength=1.4, columnspacing=1.2)
