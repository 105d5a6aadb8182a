"""MkDocs hook: ``::: exchange.queues.*`` stands for all modules of a package, each in a section of its own.

A module that is added to a layer is thereby in the reference without anybody thinking of it. The package's own
docstring comes first; private modules are left out.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_ALL_OF = re.compile(r"^::: (?P<package>[\w.]+)\.\*$", re.MULTILINE)


def modules_of(package: str) -> list[str]:
    """Dotted names of a package and its public modules, in alphabetical order."""
    folder = ROOT.joinpath(*package.split("."))
    names = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    if not names:
        raise LookupError(f"{package} has no modules")
    own = [package] if (folder / "__init__.py").is_file() else []
    return [*own, *(f"{package}.{name}" for name in names)]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""

    def replace(match: re.Match[str]) -> str:
        return "\n\n".join(f"::: {name}" for name in modules_of(match["package"]))

    return _ALL_OF.sub(replace, markdown)
