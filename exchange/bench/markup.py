"""The few pieces of HTML that the report is put together from.

Arguments that are named ``...html`` are markup already and go in as they are; every other string is escaped
here, so that a profile called ``<b>`` is shown as such and harms nobody.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape

from exchange.bench.plots import SERIES_COLOURS
from exchange.bench.statistics import RatioInterval
from exchange.bench.wording import interval, three_digits


def prose(text: str) -> str:
    """Return running text, escaped, in which no figure parts from its unit at the end of a line."""
    joined = re.sub(r"(?<=\d) (?=[^\W\d]|%)|(?<=×) (?=\d)", "\N{NO-BREAK SPACE}", escape(text))
    return re.sub(r"[\d.,]+ – [\d.,]*\d", r'<span class="whole">\g<0></span>', joined)


def table(
    head: Sequence[str],
    rows_html: Sequence[Sequence[str]],
    figures: Iterable[int] = (),
    roomy: Iterable[int] = (),
) -> str:
    """Return a table that scrolls sideways on a narrow page, where its first column stays in view.

    Args:
        head: the column titles.
        rows_html: for each row its cells, each a whole ``<td>`` or ``<th>``.
        figures: which columns hold figures; their titles stand on the right.
        roomy: which columns a telephone has no room for; their cells carry the class "roomy" too.
    """
    classes = {**dict.fromkeys(roomy, "roomy"), **dict.fromkeys(figures, "figure")}
    cells = "".join(
        f'<th class="{classes.get(index, "")}">{escape(one)}</th>' for index, one in enumerate(head)
    )
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows_html)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(wide_html: str, narrow_html: str, caption: str) -> str:
    """Return a plot in both its shapes (the style sheet shows one) with its caption."""
    return (
        f'<figure><div class="wide">{wide_html}</div><div class="narrow">{narrow_html}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def facts(pairs_html: Iterable[tuple[str, str]]) -> str:
    """Return a list of names (escaped here) and their values (markup)."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{value_html}</dd>" for name, value_html in pairs_html)
    return f'<dl class="facts">{items}</dl>'


def card(headline: str, caption: str) -> str:
    """Return a tile with one large figure."""
    return f'<div class="card"><b>{escape(headline)}</b><span>{escape(caption)}</span></div>'


def swatch(series: int) -> str:
    """Return the coloured square that stands for a profile in every table and plot."""
    return f'<span class="swatch" style="background:var(--series-{series % SERIES_COLOURS})"></span>'


def name_cell(name: str, series: int) -> str:
    """Return the first cell of a profile's row."""
    return f"<th>{swatch(series)}{escape(name)}</th>"


def figure_cell(value: str, below: str = "") -> str:
    """Return a cell with a figure and, in small print below it, its spread."""
    small = f'<span class="range">{escape(below)}</span>' if below else ""
    return f'<td class="figure">{escape(value)}{small}</td>'


def ratio_cell(value: RatioInterval | None) -> str:
    """Return a cell with a ratio and its interval."""
    if value is None:
        return figure_cell("–")
    return figure_cell(three_digits(value.ratio), interval(value) if value.low is not None else "one round")


def absent_cell(reason: str, *, columns: int = 1) -> str:
    """Return a cell, as wide as some columns, that says why there are no figures."""
    return f'<td class="absent" colspan="{columns}">{escape(reason)}</td>'
