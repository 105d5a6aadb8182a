"""``python -m exchange.bench.ablation_page``: the page of the documentation that shows what each idea is worth.

It measures (or reads, with ``--from``, what ``exchange bench --ablate book --json FILE`` has written) and writes
``book-ideas.md`` and its drawing. The page is put together from what exists: the text about an idea is the docstring of
its ablation, the code is included by name from the core and from the ablation when the site is built, and figures come
from the result. So there is nothing on the page to be edited by hand.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from exchange.bench.ablation import ALONE, HAND_OFF, KIND, AblationPlan, run_ablation
from exchange.bench.ablation_plot import Worth, WorthGroup, extra, worth_groups, worth_svg
from exchange.bench.ablations import ABLATIONS, Idea
from exchange.bench.results import BenchResult, read_result
from exchange.bench.runner import Progress
from exchange.bench.variant_book import definitions, idea_of, source_of_ablation, source_of_module
from exchange.bench.wording import binary_size, interval, interval_note, three_digits
from exchange.errors import UserError

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PAGE: Final = "book-ideas.md"
DRAWING: Final = "images/book-ideas.svg"

_HEAD: Final = """\
# What each idea of the book is worth

The [ladder book](layers/book.md) is quick by a dozen ideas, and each of them makes it harder to read. This page takes
them away one at a time: the same orders go through the whole book and through books without one idea, and what such a
book takes longer is what the idea is worth. An idea may be worth little on one machine and much on another, or pay in
one market and cost in the next; two ideas may do the same work, so that either could go but not both. So the figures do
not add up, and they are no one's but this machine's. To have your own:

```sh
exchange bench --ablate book
```
"""

_HOW: Final = """\
Green pays, red costs more than it brings, grey is what these rounds cannot tell from nothing; the thin lines are the
intervals. *static* has tens of thousands of resting orders at few prices and hardly a trade; *flash-crash* has few
orders at many prices, and trades. [Order flow](layers/flow.md) says more about them.

The core has no switches for this. A variant is a copy of its sources in which a few definitions are replaced
(`exchange/bench/variant_book.py`), and a test holds the events of every variant against those of the book itself.
"""


def write_page(result: BenchResult, folder: Path) -> tuple[Path, Path]:
    """Write the page and its drawing below ``folder``; returns their paths.

    Raises:
        UserError: the result is of another benchmark or has no figures, or a file cannot be written.
    """
    groups = worth_groups(result) if result.kind == KIND else []
    if not groups:
        raise UserError(
            f"the result is of kind {result.kind!r} and has no ablation: exchange bench --ablate book"
        )
    page, drawing = folder / PAGE, folder / DRAWING
    try:
        drawing.parent.mkdir(parents=True, exist_ok=True)
        drawing.write_text(worth_svg(groups, "What each idea of the book is worth") + "\n", encoding="utf-8")
        page.write_text(render_page(result, groups), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from error
    return page, drawing


def render_page(result: BenchResult, groups: Sequence[WorthGroup]) -> str:
    """The page as Markdown."""
    parts = [_HEAD, "\n".join(_conditions(result, groups)), f"![What each idea is worth]({DRAWING})", _HOW]
    parts += [section(ablation, groups) for ablation in ABLATIONS]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _conditions(result: BenchResult, groups: Sequence[WorthGroup]) -> Iterator[str]:
    """Where, when and how the figures were measured."""
    host: dict[str, Any] = result.host
    versions = host.get("versions") or {}
    caches = host.get("caches_bytes") or {}
    machine = [
        str(host.get("cpu_model") or host.get("architecture") or "a processor that does not tell its name"),
        str(host.get("topology") or ""),
        ", ".join(f"{name} {binary_size(size)}" for name, size in caches.items() if size),
        f"a virtual machine ({host['hypervisor']})" if host.get("hypervisor") else "",
        f"Linux {host.get('kernel')}" if host.get("kernel") else "",
        f"Python {versions.get('python')}, numba {versions.get('numba')}" if versions else "",
    ]
    ratios = [worth.ratio for group in groups for worth in group.worths]
    yield f"Measured on {result.created_utc[:10]} on {'; '.join(part for part in machine if part)}."
    if result.flow is not None:
        yield f"{result.flow.commands:,} commands: {result.flow.description}."
    yield interval_note(ratios)
    yield from (f"\n**{warning}**" for warning in result.warnings)
    yield "\nThis page is written by `python -m exchange.bench.ablation_page`."


def section(ablation: str, groups: Sequence[WorthGroup]) -> str:
    """What an idea is, its figures, its code, and the code without it."""
    idea = idea_of(ablation)
    text = ast.get_docstring(ast.parse(source_of_ablation(ablation).read_text(encoding="utf-8")))
    assert text is not None, ablation
    without = _path(source_of_ablation(ablation))
    return "\n\n".join(
        [
            f"## {idea.title}",
            text.replace("``", "`"),
            _figures(idea, groups),
            "In the book:",
            _code(idea.shown or _replaced(idea)),
            f"{idea.variant[0].upper()}{idea.variant[1:]}:",
            _code([f"{without}:{name}" for name in definitions(ablation)]),
        ]
    )


def _replaced(idea: Idea) -> list[str]:
    return [
        f"{_path(source_of_module(module))}:{name}"
        for module, names in idea.replaces.items()
        for name in names
    ]


def _figures(idea: Idea, groups: Sequence[WorthGroup]) -> str:
    rows = [
        f"| {group.scenario}{_way(group)} | {three_digits(group.baseline_ns)} ns | {_worth_cells(worth)} |"
        for group in groups
        for worth in group.worths
        if worth.variant == idea.variant
    ]
    if not rows:
        return "This run has no figure for it."
    head = f"| flow | all ideas | {idea.variant} | × time (interval) |\n|---|---:|---:|---:|"
    return "\n".join([head, *rows])


def _way(group: WorthGroup) -> str:
    return {ALONE: "", HAND_OFF: ", to another core"}.get(group.name, f", {group.name}")


def _worth_cells(worth: Worth) -> str:
    unclear = "" if worth.ratio.differs else ", unclear"
    return f"{extra(worth.extra_ns)} | × {three_digits(worth.ratio.ratio)} ({interval(worth.ratio)}{unclear})"


def _code(references: Sequence[str]) -> str:
    """Definitions by name, functions with space around them as in the files that they stand in."""
    lines = [f'--8<-- "{reference}"' for reference in references]
    constants = all(reference.rpartition(":")[2].isupper() for reference in references)
    return "```python\n" + ("\n" if constants else "\n\n\n").join(lines) + "\n```"


def _path(source: Path) -> str:
    return source.relative_to(REPOSITORY).as_posix()


@click.command()
@click.option("--quick", is_flag=True, help="A short flow and few rounds.")
@click.option(
    "--from",
    "result_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Instead of measuring, what 'exchange bench --ablate book --json' has written.",
)
@click.option(
    "--docs",
    type=click.Path(file_okay=False, path_type=Path),
    default=REPOSITORY / "docs",
    help="The folder to write into [default: docs].",
)
def main(quick: bool, result_path: Path | None, docs: Path) -> None:
    """Write the page about the ideas of the book, and its drawing."""
    if result_path is not None:
        result = read_result(result_path)
    else:
        plan = AblationPlan.quick() if quick else AblationPlan()
        progress = Progress(step=lambda text: click.echo(text, err=True))
        command = "exchange bench --ablate book" + (" --quick" if quick else "")
        result = run_ablation("book", plan, command, progress)
    for path in write_page(result, docs):
        click.echo(path)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except UserError as error:
        print(f"ablation_page: {error}", file=sys.stderr)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
