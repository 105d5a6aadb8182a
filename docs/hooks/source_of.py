"""MkDocs hook: show a function or class of the source by its name.

A page says, inside a fenced code block::

    --8<-- "exchange/agent.py:run_agents"

and gets that definition, decorators and docstring included. Because it is found by name and not by line
number, and because a name that is gone fails the build, what a page shows is always the code that the tests
test. A name inside a class is written ``Class.method``. Everything else that ``--8<--`` can do (whole files, line
ranges, marked sections) is left to the snippets extension.
"""

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_REFERENCE = re.compile(
    r'^(?P<indent>[ \t]*)--8<-- "(?P<path>[^":]+\.py):(?P<name>[A-Za-z_][\w.]*)"[ \t]*$', re.MULTILINE
)


def definition_source(path: Path, name: str) -> str:
    """The source of the definition or assignment called ``name``. Raises LookupError if the file has none."""
    text = path.read_text(encoding="utf-8")
    body: list[ast.stmt] = ast.parse(text).body
    found: ast.stmt | None = None
    for part in name.split("."):
        found = next((statement for statement in body if part in _names(statement)), None)
        if found is None:
            raise LookupError(f"{path} defines no {name}")
        body = getattr(found, "body", [])
    assert found is not None
    decorators = getattr(found, "decorator_list", [])
    first = min([found.lineno, *(decorator.lineno for decorator in decorators)])
    return "\n".join(text.splitlines()[first - 1 : found.end_lineno])


def _names(statement: ast.stmt) -> set[str]:
    """What a statement gives a name to."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put definitions in the place of the references to them; called by MkDocs for each page."""

    def replace(match: re.Match[str]) -> str:
        path = ROOT / match["path"]
        if f"[start:{match['name']}]" in path.read_text(encoding="utf-8"):
            return match[0]  # a marked section: the snippets extension's business
        return "\n".join(
            match["indent"] + line for line in definition_source(path, match["name"]).splitlines()
        )

    return _REFERENCE.sub(replace, markdown)
