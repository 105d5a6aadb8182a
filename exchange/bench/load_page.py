"""The sections of a load's HTML report: the tables of :mod:`exchange.bench.load_rows`, and how latency grows with load.

:mod:`exchange.bench.report` puts them into the document, with the machine below them, as for every other benchmark."""

from collections.abc import Sequence

from exchange.bench.load_rows import COUNT_HEADINGS, COUNTS_NOTE, SPEED_HEADINGS, load_rows
from exchange.bench.markup import figure_cell, table
from exchange.bench.results import BenchResult


def load_sections(result: BenchResult, curves_html: str) -> list[tuple[str, str, str]]:
    """Return name, title and HTML of each section.

    Args:
        result: of ``exchange load``.
        curves_html: the drawing of latency over load; empty if no load was offered.
    """
    rows = load_rows(result)
    speed = _table(SPEED_HEADINGS, [row.speed for row in rows])
    counts = _table(COUNT_HEADINGS, [row.counts for row in rows]) + f'<p class="note">{COUNTS_NOTE}</p>'
    sections = [("throughput", "How fast requests are answered", speed)]
    if curves_html:
        sections.append(("load", "How latency grows with load", curves_html))
    sections.append(("counts", "What became of the requests", counts))
    return sections


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    cells = [[figure_cell(text) for text in line] for line in lines]
    return table(headings, cells, figures=range(len(headings)))
