"""What each idea is worth, as figures and as a drawing: how much longer a command takes without it.

The figure is the time ratio within each round (:func:`exchange.bench.statistics.paired_ratio`), taken of the whole
book's median time; so what slowed the machine down for a while cancels. A bar to the right is an idea that pays, one to
the left an idea that costs more than it brings, over that flow, on that machine. A grey bar's interval includes zero:
these rounds cannot tell that it does anything.

The drawing is a file of its own, for a page: it brings its colours with it, those of the HTML report, light or dark as
the reader's system is, and its own paper, so that it can be read on a page of either kind.
"""

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exchange.bench.plots import _INK, _MUTED, _STYLE, _svg, colour
from exchange.bench.results import BenchResult
from exchange.bench.statistics import RatioInterval, paired_ratio
from exchange.bench.summary import MicroGroup, micro_groups
from exchange.bench.wording import three_digits

PAYS: Final = 4
COSTS: Final = 7
UNCLEAR: Final = 0
"""Series of the report's colours: green, red, grey."""


class Worth(NamedTuple):
    """One variant beside the whole book. ``ratio`` is of times: 1.2 means a fifth slower without the idea."""

    variant: str
    ratio: RatioInterval
    extra_ns: float
    low_ns: float
    high_ns: float


class WorthGroup(NamedTuple):
    """One scenario, with or without the hand-off: the whole book's median, and what differs from it."""

    name: str
    scenario: str
    baseline_ns: float
    worths: tuple[Worth, ...]


def worth_groups(result: BenchResult) -> list[WorthGroup]:
    """What a result of the ablation says, scenario by scenario; variants that were left out are missing."""
    groups = [group for group in micro_groups(result) if "scenario" in group.parameters]
    return [group for group in map(_worth_group, groups) if group is not None]


def _worth_group(group: MicroGroup) -> WorthGroup | None:
    baseline, *others = group.rows
    if baseline.values is None:
        return None
    before, middle_ns = dict(enumerate(baseline.result.values)), baseline.values.median
    worths = []
    for row in others:
        ratio = paired_ratio(before, dict(enumerate(row.result.values)))
        if ratio is not None:
            extra, low, high = (
                ((ratio.ratio if end is None else end) - 1) * middle_ns
                for end in (ratio.ratio, ratio.low, ratio.high)
            )
            worths.append(Worth(row.result.variant, ratio, extra, low, high))
    return WorthGroup(group.name, str(group.parameters["scenario"]), middle_ns, tuple(worths))


def extra(value_ns: float) -> str:
    """A difference with its sign: "+12.3 ns"; a tenth of a nanosecond is finer than any run can tell."""
    return f"{value_ns:+.1f} ns".replace("-", "−")


def worth_svg(groups: Sequence[WorthGroup], title: str) -> str:
    """Draw a panel for each group, and return a whole SVG file."""
    with rc_context(_STYLE):
        heights = [len(group.worths) + 1.6 for group in groups]
        figure = Figure(figsize=(10.0, 0.36 * sum(heights) + 0.3), layout="constrained")
        panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights).flatten()
        for panel, group in zip(panels, groups, strict=True):
            _draw(panel, group)
        drawn = _svg(figure, "book-ideas", title)
    return _standalone(drawn)


def _draw(panel: Axes, group: WorthGroup) -> None:
    for row, worth in enumerate(group.worths):
        series = UNCLEAR if not worth.ratio.differs else PAYS if worth.extra_ns > 0 else COSTS
        panel.barh(row, worth.extra_ns, height=0.62, color=colour(series), alpha=0.85)
        panel.plot([worth.low_ns, worth.high_ns], [row, row], color=_INK, linewidth=1.2)
        label = f"{extra(worth.extra_ns)}  ·  × {three_digits(worth.ratio.ratio)}"
        where = (max(0.0, worth.extra_ns, worth.high_ns), row)
        panel.annotate(label, where, xytext=(8, 0), textcoords="offset points", va="center", color=_INK)
    panel.axvline(0, color=_MUTED, linewidth=1)
    ends = [end for worth in group.worths for end in (worth.low_ns, worth.high_ns, worth.extra_ns, 0.0)]
    width = max(ends) - min(ends) or 1.0
    panel.set_xlim(min(ends) - 0.04 * width, max(ends) + 0.32 * width)
    panel.set_ylim(len(group.worths) - 0.4, -0.6)
    panel.set_yticks(range(len(group.worths)), [worth.variant for worth in group.worths])
    panel.tick_params(axis="y", labelcolor=_INK)
    panel.grid(visible=False, axis="y")
    panel.spines["left"].set_visible(False)
    panel.set_xlabel("nanoseconds longer for a command")
    panel.set_title(
        f"{group.scenario}: {group.name}, {three_digits(group.baseline_ns)} ns with all ideas", loc="left"
    )


def _standalone(svg: str) -> str:
    """A drawing of the report as a file: with the report's colours, which a page would have supplied, and paper."""
    page: Any = files("exchange.bench").joinpath("report.html").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    style = f"<style>:root {{{light}}} @media (prefers-color-scheme: dark) {{ :root {{{dark}}} }}</style>"
    paper = '<rect width="100%" height="100%" fill="var(--paper)"/>'
    head, _, body = svg.partition(">")
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"{head.replace('<svg', f'<svg {spaces}', 1)}>{style}{paper}{body}"
