"""MkDocs hook: the reference of the command line, made from the commands themselves while the site is built.

The line ``<!-- commands -->`` of a page becomes a section for each command: usage, help text and options, as
``exchange COMMAND --help`` prints them. So there is no second copy of them that could be out of date.
"""

import html
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from exchange.cli import cli

_MARKER = "<!-- commands -->"


def reference(command: click.Command, name: str) -> Iterator[str]:
    """Markdown lines about ``command``, and about all commands below it."""
    context = click.Context(command, info_name=name)
    if name != "exchange":
        yield from (
            f"## {name}",
            "",
            f"```text\n{' '.join([name, *command.collect_usage_pieces(context)])}\n```",
            "",
        )
        yield from (_paragraphs(command.help or ""), "")
        yield from _options(command, context)
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            assert found is not None, sub
            yield from reference(found, f"{name} {sub}")


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    yield from ("| option | what it does |", "|---|---|")
    for names, text in records:
        yield f"| <code>{_cell(names)}</code> | {_cell(text)} |"
    yield ""


def _paragraphs(text: str) -> str:
    """A docstring's text without its indentation; quoted commands become code."""
    return "\n".join(line.strip() for line in text.splitlines()).strip()


def _cell(text: str) -> str:
    """Text that is safe in a Markdown table, in or out of code."""
    return html.escape(text, quote=False).replace("|", "&#124;").replace("\n", " ")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""
    if _MARKER not in markdown:
        return markdown
    return markdown.replace(_MARKER, "\n".join(reference(cli, "exchange")))
