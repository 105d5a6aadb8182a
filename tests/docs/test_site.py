"""The documentation: it builds strictly, shows only code that exists, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

from exchange.cli import cli

pytest.importorskip("mkdocs", reason="the documentation's tools are not installed: pip install '.[docs]'")
pytest.importorskip(
    "mkdocstrings", reason="the documentation's tools are not installed: pip install '.[docs]'"
)

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
HOOKS = DOCS / "hooks"

SNIPPET = re.compile(r'^[ \t]*--8<-- "(?P<path>[^":]+)(?::(?P<part>[^"]+))?"', re.MULTILINE)
FENCE = re.compile(
    r"^(?P<indent>[ \t]*)```(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")
LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src",),
    "audio": ("src",),
    "object": ("data",),
}
LOADING_LINKS = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "modulepreload",
    "preconnect",
    "dns-prefetch",
    "manifest",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from an unrelated directory, as anyone might."""
    target = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "-f",
            REPOSITORY / "mkdocs.yml",
            "-d",
            target / "site",
        ],
        cwd=target,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return target / "site"


class Loads(HTMLParser):
    """Collects what a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and LOADING_LINKS & set((values.get("rel") or "").split()):
            self.urls.append(values.get("href") or "")
        for attribute in LOADED.get(tag, ()):
            self.urls.append(values.get(attribute) or "")
        self.urls.extend(re.findall(r"url\(([^)]*)\)", values.get("style") or ""))


def test_the_site_builds_strictly_and_has_every_page(site: Path) -> None:
    expected = {page.relative_to(DOCS).with_suffix(".html") for page in PAGES}
    assert expected <= {page.relative_to(site) for page in site.rglob("*.html")}


def test_the_built_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        loads = Loads()
        loads.feed(text)
        assert loads.urls, f"{page} loads nothing at all: is it a page of the site?"
        assert [url for url in loads.urls if re.match(r"['\"]?(?:https?:)?//", url)] == [], page
        assert 'class="mermaid"' not in text, f"{page}: the theme would fetch mermaid from a server"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", sheet.read_text()), sheet


def test_every_command_and_option_is_in_the_reference(site: Path) -> None:
    text = (site / "cli.html").read_text()
    for name, command in commands(cli, "exchange"):
        assert f">{name}<" in text, name
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.opts[0] in text, f"{name} {option.opts[0]}"


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command below ``command`` with its full name."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            assert found is not None, f"{name} {sub} is listed but cannot be loaded"
            yield f"{name} {sub}", found
            yield from commands(found, f"{name} {sub}")


def test_every_module_is_in_the_python_reference(site: Path) -> None:
    text = "".join(page.read_text() for page in (site / "api").glob("*.html"))
    package = REPOSITORY / "exchange"
    modules = [
        path for path in package.rglob("*.py") if path.parent != package and not path.stem.startswith("_")
    ]
    assert len(modules) > 40
    for path in modules:
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        assert f'id="{name}"' in text, f"{name} is on no page of docs/api"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_snippets_point_to_what_exists(page: Path) -> None:
    sys.path.insert(0, str(HOOKS))
    try:
        from source_of import definition_source
    finally:
        sys.path.remove(str(HOOKS))
    for match in SNIPPET.finditer(page.read_text()):
        source = REPOSITORY / match["path"]
        assert source.is_file(), match[0]
        part = match["part"]
        if part and not part[0].isdigit() and f"[start:{part}]" not in source.read_text():
            assert definition_source(source, part), match[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_python_code_is_included_from_files_and_not_pasted(page: Path) -> None:
    for block in FENCE.finditer(page.read_text()):
        if block["info"].split()[:1] == ["python"]:
            pasted = [line for line in block["body"].splitlines() if line.strip() and not SNIPPET.match(line)]
            assert pasted == [], f"{page.name}: include this from a tested file"


def test_a_snippet_of_a_name_that_is_gone_is_an_error() -> None:
    sys.path.insert(0, str(HOOKS))
    try:
        import source_of
    finally:
        sys.path.remove(str(HOOKS))
    with pytest.raises(LookupError, match="defines no no_such_function"):
        source_of.on_page_markdown('```python\n--8<-- "exchange/agent.py:no_such_function"\n```')


def test_the_code_that_contributing_quotes_is_in_the_files_it_names() -> None:
    blocks = [
        block
        for block in FENCE.finditer((REPOSITORY / "CONTRIBUTING.md").read_text())
        if block["info"].startswith("python")
    ]
    assert len(blocks) >= 4
    for block in blocks:
        named = re.search(r'title="([^"]+)"', block["info"])
        assert named, block[0]
        assert block["body"] in (REPOSITORY / named[1]).read_text(), (
            f"{named[1]} no longer says:\n{block['body']}"
        )


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docker/README.md"])
def test_links_of_the_repository_s_own_pages_lead_somewhere(name: str) -> None:
    page = REPOSITORY / name
    for match in LINK.finditer(page.read_text()):
        if "://" not in match["target"]:
            assert (page.parent / match["target"]).exists(), match["target"]
