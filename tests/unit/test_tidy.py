"""The house rules, as far as a program can check them. What a review has to say twice belongs here."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "exchange"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))
FOLDERS = ("exchange", "tests", "docs", "tutorials", "profiles", "docker")
TEXTS = sorted(
    path
    for folder in FOLDERS
    for path in (REPOSITORY / folder).rglob("*")
    if path.suffix in {".py", ".md", ".toml", ".html"} and "__pycache__" not in path.parts
)

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
ESSAY_CHARACTERS_MIN = 80
FORBIDDEN_WORDS = {"px", "qty", "util", "utils", "manager", "impl", "bget"}
PRINTING = {"cli.py", "terminal.py", "flame.py"}
"""The command line, what it prints through, and the process that tells its parent when it is ready."""
SHADOWING_ALLOWED = {"statistics"}
"""Inside ``exchange.bench``, and never imported by its bare name."""

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
each_file = pytest.mark.parametrize(
    "path", MODULES + TESTS, ids=lambda path: str(path.relative_to(REPOSITORY))
)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Every name that the file itself makes up: of functions, classes, parameters, variables, attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def words(identifier: str) -> set[str]:
    """``try_pushBatch`` -> try, push, batch."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)}


@each_module
def test_a_module_opens_with_a_short_essay(path: Path) -> None:
    essay = ast.get_docstring(tree_of(path))
    assert essay, "a module says what it is for"
    if path.name != "__main__.py":
        assert len(essay) >= ESSAY_CHARACTERS_MIN, f"too short to say anything: {essay!r}"


@each_file
def test_files_and_functions_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < FILE_LINES_MAX
    for function in functions(tree_of(path)):
        assert function.end_lineno is not None
        lines = function.end_lineno - function.lineno + 1
        assert lines < FUNCTION_LINES_MAX, f"{function.name} has {lines} lines"


@each_module
def test_public_names_have_docstrings(path: Path) -> None:
    for node in tree_of(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@each_file
def test_names_are_words_of_the_field(path: Path) -> None:
    found = {name: words(name) & FORBIDDEN_WORDS for name in (path.stem, *identifiers(tree_of(path)))}
    assert {name: bad for name, bad in found.items() if bad} == {}


@each_module
def test_no_module_is_called_like_one_of_the_standard_library(path: Path) -> None:
    name = path.parent.name if path.stem == "__init__" else path.stem
    assert name not in sys.stdlib_module_names - SHADOWING_ALLOWED - {"__main__"}


@each_module
def test_only_the_command_line_prints(path: Path) -> None:
    if path.name in PRINTING or path.name.startswith("cli_"):
        return
    imported = {
        node
        for statement in tree_of(path).body
        if not is_main_guard(statement)
        for node in ast.walk(statement)
    }
    calls = [
        node.lineno
        for node in imported
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []


def is_main_guard(statement: ast.stmt) -> bool:
    """``if __name__ == "__main__":``"""
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'"


@each_module
def test_code_is_compiled_in_one_way_only(path: Path) -> None:
    """Kernels that numba compiles behind the back of ``exchange.native.cache`` could run stale from its cache."""
    if path.relative_to(PACKAGE).as_posix() == "native/cache.py":
        return
    imported = {
        alias.name
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node.module == "numba"
        for alias in node.names
    }
    assert imported & {"njit", "jit", "vectorize", "guvectorize", "cfunc"} == set()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_is_left_for_later_and_no_path_of_a_workplace_is_named(path: Path) -> None:
    if path == Path(__file__):
        return
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"\b(?:TODO|FIXME|XXX|HACK)\b", text) == []
    assert re.findall(r"(?<![\w.])/(?:work|root)/\S*", text) == []


def test_asking_for_help_loads_neither_the_compiler_nor_the_plots() -> None:
    script = "import sys, exchange.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    modules = set(loaded.stdout.split())
    assert "exchange.cli" in modules
    assert modules & {"numba", "llvmlite", "matplotlib", "numpy", "pyhwloc", "rich"} == set()
