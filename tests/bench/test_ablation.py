"""The ablation: a book without an idea does the same work as the whole one, and no idea has been lost on the way.

The main test is the first one. Everything that the ablation measures is a difference between two books, and means
nothing unless both give the same events.
"""

import ast
import os
import re
import subprocess
import sys
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from xml.etree import ElementTree

import pytest

from exchange.bench import ablation, variant_book
from exchange.bench.ablation import ALONE, HAND_OFF, AblationPlan, run_ablation
from exchange.bench.ablation_page import PAGE, REPOSITORY, write_page
from exchange.bench.ablation_plot import worth_groups
from exchange.bench.ablations import ABLATIONS, Idea
from exchange.bench.micro import choose_cores
from exchange.bench.results import BenchResult, MicroResult, from_json, to_json
from exchange.bench.runner import Progress
from exchange.bench.variant_book import (
    LOOPS,
    VariantBook,
    copied_source,
    core_modules,
    definitions,
    idea_of,
    load_variant,
    source_of_ablation,
)
from exchange.errors import UserError
from tests.bench.ablation_equivalence import BOOK_ABLATIONS

WORD: Final = "one word to the other core and back"


def test_a_book_without_an_idea_gives_the_same_events() -> None:
    """Interpreted: what is compared is what the sources say, and compiling a dozen books takes minutes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.ablation_equivalence", "--markets", "16", "--commands", "600"],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == list(BOOK_ABLATIONS)


def test_every_module_of_the_package_is_an_ablation_with_a_name_of_its_own() -> None:
    folder = source_of_ablation("any").parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(ABLATIONS)
    ideas = [idea_of(name) for name in ABLATIONS]
    assert len({idea.variant for idea in ideas}) == len({idea.title for idea in ideas}) == len(ABLATIONS)
    assert all(any(idea.replaces.values()) and idea.measured for idea in ideas)


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_copies_have_every_new_definition_last_and_nothing_of_the_core(name: str) -> None:
    replaces = idea_of(name).replaces
    for module in (*core_modules(), LOOPS):
        text = copied_source(module, name, "copies")
        own = source_of_ablation(name).read_text(encoding="utf-8")
        for new in replaces.get(module, ()):
            assert last_definition(text, new) == last_definition(own, new), new
        if module not in replaces:
            assert text.partition("\n")[2] == copied_source(module, None, "copies").partition("\n")[2]
        imported = {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
        assert not imported & {f"exchange.book.{core}" for core in core_modules()}
        assert "exchange.book" not in imported


def last_definition(text: str, name: str) -> str:
    """The source of the definition of ``name`` that counts: the last one."""
    found = [statement for statement in ast.parse(text).body if name in names_of(statement)]
    assert found, name
    return ast.unparse(found[-1])


def names_of(statement: ast.stmt) -> set[str]:
    """What a statement defines."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


@pytest.mark.parametrize(
    ("replaces", "text", "message"),
    [
        (
            {"price_tree": ("gone",)},
            "def gone(): ...",
            "price_tree has no gone any more that it could replace",
        ),
        ({"no_module": ("gone",)}, "def gone(): ...", "the core has no module no_module any more"),
        (
            {"price_tree": ("bit",)},
            "",
            "price_tree: the ablation says that it replaces bit, and does not define it",
        ),
        (
            {"price_tree": ("bit",)},
            "def bit(place): ...",
            "price_tree: bit is now a function of (position: int)",
        ),
        (
            {"price_tree": ("bit",)},
            "def bit(position: int): highest()\ndef highest(): ...",
            "its highest would hide another highest of price_tree",
        ),
        (
            {"ladder_matching": ("side_of_row",)},
            "from exchange.book.ladder_events import ORDER_ID\ndef side_of_row(row: int): ORDER_ID",
            "its ORDER_ID would hide another ORDER_ID of ladder_matching",
        ),
        (
            {"ladder_memory": ("SIDE_SHIFT",)},
            "SIDE_SHIFT: int = 7",
            "OPPOSITE of ladder_memory is worked out from SIDE_SHIFT; define it anew as well",
        ),
    ],
)
def test_an_ablation_that_does_not_fit_the_core_is_refused(
    replaces: dict[str, tuple[str, ...]],
    text: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "bad.py").write_text(text)
    monkeypatch.setattr(variant_book, "source_of_ablation", lambda name: tmp_path / f"{name}.py")
    monkeypatch.setattr(variant_book, "idea_of", lambda name: Idea("An idea", "without it", replaces))
    modules = [*core_modules(), LOOPS]
    with pytest.raises(LookupError, match=rf"^ablation bad: {re.escape(message)}$"):
        list(map(copied_source, modules, repeat("bad"), repeat("copies")))


TINY: Final = AblationPlan(
    scenarios=("flash-crash",), orders=1000, rounds=2, ablations=("no_huge_pages", "no_batching")
)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # thirteen books are compiled, where that has not been done before
def test_every_variant_has_a_figure_for_each_scenario_and_round() -> None:
    result = from_json(
        to_json(run_ablation("book", TINY, "exchange bench --ablate book", Progress())), "a run"
    )
    assert result.kind == "ablation"
    rows = {(row.name, row.variant): row for row in result.micro if row.name != WORD}
    alone = ["all ideas", "without huge pages"]
    expected = [(ALONE, variant) for variant in alone]
    if not choose_cores().must_yield:
        expected += [(HAND_OFF, variant) for variant in (*alone, "without batches over the ring")]
    assert list(rows) == expected
    for row in rows.values():
        assert (row.unit, row.better, row.skipped, len(row.values)) == ("ns", "lower", None, 2)
        assert min(row.values) > 0
        assert row.parameters["scenario"] == "flash-crash"
    assert len(worth_groups(result)[0].worths) == 1


@pytest.mark.slow
def test_a_variant_that_does_other_work_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_wrong(name: str | None) -> VariantBook:
        code = load_variant(name)
        if name is None:
            return code
        ladder: Any = SimpleNamespace(
            Ladder=lambda symbols, _capacity, low, high: code.ladder.Ladder(symbols, 1, low, high)
        )
        return code._replace(ladder=ladder)

    monkeypatch.setattr(ablation, "load_variant", load_wrong)
    result = run_ablation("book", TINY._replace(ablations=("no_huge_pages",)), "", Progress())
    rows = [row for row in result.micro if row.variant == "without huge pages"]
    assert rows
    assert {row.skipped for row in rows} == {"the events of flash-crash are not those of the whole book"}
    assert all(worth_group.worths == () for worth_group in worth_groups(result))


@pytest.mark.parametrize(
    ("layer", "plan", "message"),
    [
        ("queue", TINY, "ablation of 'queue': must be one of book"),
        ("book", TINY._replace(scenarios=()), "scenarios: must name at least one, and none twice"),
        ("book", TINY._replace(scenarios=("calm",)), "scenarios: 'calm'; must be one of static, normal, .*"),
        ("book", TINY._replace(ablations=("no_idea",)), "ablations: 'no_idea'; must be one of no_compact_.*"),
        ("book", TINY._replace(orders=999), "orders = 999: must be 1000 to 2000000"),
        ("book", TINY._replace(rounds=0), "rounds = 0: must be at least 1"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(layer: str, plan: AblationPlan, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        run_ablation(layer, plan, "", Progress())


def small_result() -> BenchResult:
    """Three rounds of one scenario: an idea that pays 10 ns, one that costs 5, and one that was left out."""
    values = {
        "all ideas": (50.0, 51.0, 52.0),
        "without the bitmaps": (60.0, 61.2, 62.4),
        "without branch hints": (45.0, 45.9, 46.8),
        "without prefetching": (),
    }
    rows = tuple(
        MicroResult(ALONE, variant, "ns", "lower", ns, {"scenario": "static"}, None if ns else "it failed")
        for variant, ns in values.items()
    )
    host = {"cpu_model": "A processor", "versions": {"python": "3.13", "numba": "0.61"}}
    return BenchResult("ablation", "2026-01-02T03:04:05+00:00", "exchange bench", host, micro=rows)


def test_a_worth_is_the_ratio_within_rounds_of_the_whole_book_s_median() -> None:
    (group,) = worth_groups(small_result())
    assert (group.scenario, group.baseline_ns) == ("static", 51.0)
    by_variant = {worth.variant: worth for worth in group.worths}
    assert set(by_variant) == {"without the bitmaps", "without branch hints"}
    assert by_variant["without the bitmaps"].ratio.ratio == pytest.approx(1.2)
    assert by_variant["without the bitmaps"].extra_ns == pytest.approx(10.2)
    assert by_variant["without branch hints"].extra_ns == pytest.approx(-5.1)


def test_the_page_has_a_section_for_each_idea_with_its_figure_and_code(tmp_path: Path) -> None:
    page, drawing = write_page(small_result(), tmp_path)
    text = page.read_text(encoding="utf-8")
    for name in ABLATIONS:
        assert f"\n## {idea_of(name).title}\n" in text
        assert f'--8<-- "exchange/bench/ablations/{name}.py:{definitions(name)[0]}"' in text
    assert "| static | 51.0 ns | +10.2 ns | × 1.20 (1.20 – 1.20) |" in text
    assert "| static | 51.0 ns | −5.1 ns | × 0.900 (0.900 – 0.900) |" in text
    assert text.count("This run has no figure for it.") == len(ABLATIONS) - 2
    assert "Measured on 2026-01-02 on A processor; Python 3.13, numba 0.61." in text
    root = ElementTree.parse(drawing).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    drawn = drawing.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in drawn
    assert all(words in drawn for words in ("without the bitmaps", "+10.2 ns", "−5.1 ns"))
    assert set(re.findall(r"var\((--[\w-]+)\)", drawn)) <= set(re.findall(r"(--[\w-]+):", drawn))


def test_code_that_the_page_includes_is_there(tmp_path: Path) -> None:
    text = write_page(small_result(), tmp_path)[0].read_text(encoding="utf-8")
    references = re.findall(r'--8<-- "([^":]+):([^"]+)"', text)
    assert len(references) > 2 * len(ABLATIONS)
    for path, name in references:
        body = ast.parse((REPOSITORY / path).read_text(encoding="utf-8")).body
        for part in name.split("."):
            found = [one for one in body if part in names_of(one) or getattr(one, "name", None) == part]
            assert found, f"{path} has no {name}"
            body = getattr(found[0], "body", [])


def test_a_result_of_another_benchmark_makes_no_page(tmp_path: Path) -> None:
    result = BenchResult("book", "2026-01-02T03:04:05+00:00", "exchange bench book", {})
    with pytest.raises(UserError, match="kind 'book' and has no ablation"):
        write_page(result, tmp_path)


def test_the_page_of_the_documentation_is_about_these_ideas() -> None:
    text = (REPOSITORY / "docs" / PAGE).read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [idea_of(name).title for name in ABLATIONS]
