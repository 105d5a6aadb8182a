"""Griffe extension: from the markup of the docstrings to the Markdown of the site.

Docstrings are written to be read in an editor, with the few conventions that Python's own documentation has:
:class:`Name` roles, double-backtick code, ``::`` before an indented block, and simple tables. Markdown knows the second and
half of the third; this does the rest.
"""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?(?:[\w.]*\.)?(\w+)`")
_TABLE = re.compile(r"(?:^=+(?: +=+)+\n).*?(?:\n=+(?: +=+)+$)(?=\n\n|\n*\Z)", re.MULTILINE | re.DOTALL)


def to_markdown(text: str) -> str:
    """One docstring."""
    text = _TABLE.sub(lambda match: f"```text\n{match[0]}\n```", text)
    text = _ROLE.sub(r"`\1`", text)
    text = re.sub(r"^::$\n", "", text, flags=re.MULTILINE)
    return re.sub(r"::$", ":", text, flags=re.MULTILINE)


class DocstringMarkup(griffe.Extension):
    """Rewrites each docstring once, before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
