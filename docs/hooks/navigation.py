"""MkDocs hook: ``layers/*`` in the navigation stands for all pages of that folder, in alphabetical order.

A page that is added to a folder is thereby found without anybody editing ``mkdocs.yml``. An ``index.md`` comes first.
The line ``<!-- pages -->`` of an ``index.md`` becomes a list of the other pages of its folder, by their titles.
"""

from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
_MARKER = "<!-- pages -->"


def pages_of(folder: str) -> list[str]:
    """Paths below ``docs/`` of the pages of a folder. Raises LookupError if it has none."""
    names = sorted(
        (path.name for path in (DOCS / folder).glob("*.md")), key=lambda name: (name != "index.md", name)
    )
    if not names:
        raise LookupError(f"docs/{folder} has no pages")
    return [f"{folder}/{name}" for name in names]


def title_of(page: Path) -> str:
    """The first heading of a page."""
    return next(
        line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("# ")
    ).removeprefix("# ")


def expand(entry: Any) -> Any:
    """An entry of the navigation with every ``folder/*`` replaced by its pages."""
    if isinstance(entry, list):
        return [expand(item) for item in entry]
    if isinstance(entry, dict):
        return {title: expand(value) for title, value in entry.items()}
    return pages_of(entry.removesuffix("/*")) if entry.endswith("/*") else entry


def on_config(config: Any, **_: Any) -> Any:
    """Called by MkDocs once, before it reads the pages."""
    config["nav"] = expand(config["nav"])
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs for each page."""
    if _MARKER not in markdown:
        return markdown
    folder = Path(page.file.src_path).parent
    others = [path for path in sorted((DOCS / folder).glob("*.md")) if path.name != "index.md"]
    return markdown.replace(_MARKER, "\n".join(f"- [{title_of(path)}]({path.name})" for path in others))
