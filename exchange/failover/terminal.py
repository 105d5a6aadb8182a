"""A demonstration's end on the terminal: one short table and what was found.

Colour only repeats what the text says. Output that is not a terminal gets plain text of a fixed width.
"""

from rich.console import Console
from rich.text import Text

from exchange.bench.terminal import _console, _table
from exchange.failover.results import FailoverResult
from exchange.failover.summary import HEADINGS, TABLE_NOTE, findings, row


def print_failovers(result: FailoverResult, console: Console | None = None) -> None:
    """Print the table and the findings."""
    out = console or _console()
    table = _table("What the clients felt")
    for index, heading in enumerate(HEADINGS):
        table.add_column(heading.replace(" ", "\n"), justify="left" if index == 0 else "right", no_wrap=True)
    for one in result.failovers:
        table.add_row(*row(one))
    out.print(table)
    out.print(Text(TABLE_NOTE, style="dim"))
    for warning in result.warnings:
        out.print(Text(f"Warning: {warning}", style="yellow"))
    for index, sentence in enumerate(findings(result)):
        style = "" if index else "bold" if result.is_whole else "bold red"
        out.print(Text(sentence, style=style))
