"""Griffe extension: from the markup of the docstrings to the Markdown of the site.

Docstrings are written to be read in an editor, with the few conventions that Python's own documentation has:
:class:`Name` roles, double-backtick code, ``::`` before an indented block, and simple tables. Markdown knows
the second and half of the third; this does the rest. In an ``Args:``, ``Attributes:`` or ``Raises:`` section a
line without ``name:`` goes on with the line above it, as a reader takes it, however far it is indented.
"""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?(?:[\w.]*\.)?(\w+)`")
_TABLE = re.compile(r"(?:^=+(?: +=+)+\n).*?(?:\n=+(?: +=+)+$)(?=\n\n|\n*\Z)", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^(?P<head>(?:Args|Attributes|Raises):\n)(?P<items>(?:[ ]{4}.*\n?)+)", re.MULTILINE)
_GOES_ON = re.compile(r"^ {4}(?! )(?!\*{0,2}[\w.]+(?: \(.*?\))?:)", re.MULTILINE)


def to_markdown(text: str) -> str:
    """One docstring."""
    text = _TABLE.sub(lambda match: _table(match[0].splitlines()), text)
    text = _ROLE.sub(r"`\1`", text)
    text = _SECTION.sub(lambda match: match["head"] + _GOES_ON.sub(" " * 8, match["items"]), text)
    text = re.sub(r"^::$\n", "", text, flags=re.MULTILINE)
    return re.sub(r"::$", ":", text, flags=re.MULTILINE)


def _table(lines: list[str]) -> str:
    """A simple table as Markdown has it. Its columns begin where the ruler's groups of ``=`` begin."""
    starts = [match.start() for match in re.finditer("=+", lines[0])]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    header, *rows = [
        "| " + " | ".join(line[start:end].strip().replace("|", "&#124;") for start, end in spans) + " |"
        for line in lines
        if not line.startswith("=")
    ]
    return "\n".join([header, "|" + "---|" * len(spans), *rows])


class DocstringMarkup(griffe.Extension):
    """Rewrites each docstring once, before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
