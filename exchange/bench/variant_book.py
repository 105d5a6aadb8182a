"""A ladder book without one of its ideas, built from the sources of the core and never by a switch in it.

The core has no settings for its ideas: a switch would cost what it is there to measure, and nobody could read the code.
Instead the modules of the core, and the loops that drive a book, are copied into a folder. In the module that owns
a name which an ablation (:mod:`exchange.bench.ablations`) defines anew, the new definition is put at the end. numba
looks names up when a function is compiled, which is after the module has been read, so the last definition is the one
that counts; and the other copies, which import the name, get the new one too.

The copies are files, in the folder of the compiled code (:mod:`exchange.native.cache`), because numba's cache knows a
function by its file and its line and by nothing else that would tell two variants apart. The folder is named by a
digest over all sources, so copies are never older than what they are copies of.

What would go wrong silently is refused by :func:`copied_source` with a ``LookupError``: a name that the core does not
have any more, a helper or an import that would hide a name of the core, a constant of the core that was worked out
from one that is replaced. The baseline of a measurement is a variant in which nothing is replaced.
"""

import ast
import importlib
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

import exchange.book.ladder  # noqa: F401 - the core itself comes first, so that its state keeps the plain name
from exchange.bench.ablations import Idea
from exchange.native import use_cache_directory

ENTRY: Final = "ladder"
"""The module of the core that imports all others."""

LOOPS: Final = "core_loops"
"""The loops that drive a book, a module of ``exchange.bench``. A variant has its own copy because the cache of compiled
code lists, for each loop, the types that it was compiled for: a process that has not loaded the classes of all
variants could not read the list of a loop that they share."""

SHARED: Final = {"protocol"}
"""What a variant has in common with the core: the operations, of which it supplies its own implementation."""

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_BOOK: Final = "exchange.book"

type _Origin = tuple[str | None, str]


class VariantBook(NamedTuple):
    """A variant, loaded: the copies of ``exchange.book.ladder`` and ``exchange.bench.core_loops``."""

    ladder: ModuleType
    loops: ModuleType


def idea_of(ablation: str) -> Idea:
    """What a module of :mod:`exchange.bench.ablations` takes away."""
    idea: Idea = importlib.import_module(f"exchange.bench.ablations.{ablation}").IDEA
    return idea


def source_of_module(module: str) -> Path:
    """Where a module that is copied stands in the package."""
    return _PACKAGE / ("bench" if module == LOOPS else "book") / f"{module}.py"


def source_of_ablation(ablation: str) -> Path:
    """Where an ablation stands."""
    return _PACKAGE / "bench" / "ablations" / f"{ablation}.py"


@cache
def core_modules() -> tuple[str, ...]:
    """The modules of the core: ``ladder`` and all that it needs from ``exchange.book``, in alphabetical order."""
    found, unread = set(), [ENTRY]
    while unread:
        module = unread.pop()
        if module in found:
            continue
        found.add(module)
        for statement in _statements(source_of_module(module)):
            if isinstance(statement, ast.ImportFrom) and statement.module == _BOOK:
                unread += [alias.name for alias in statement.names]
            elif isinstance(statement, ast.ImportFrom) and str(statement.module).startswith(f"{_BOOK}."):
                unread.append(str(statement.module).removeprefix(f"{_BOOK}."))
        unread = [name for name in unread if name not in SHARED]
    return tuple(sorted(found))


@cache
def load_variant(ablation: str | None) -> VariantBook:
    """The book without an idea (a name of ``exchange.bench.ablations.ABLATIONS``), or the whole one for ``None``.

    Raises:
        LookupError: the ablation does not fit the core any more; see :func:`copied_source`.
    """
    package = f"exchange_book_{ablation or 'with_all_ideas'}"
    folder = use_cache_directory() / "ablation" / (ablation or "with_all_ideas")
    folder.mkdir(parents=True, exist_ok=True)
    for module in (*core_modules(), LOOPS):
        _write(folder / f"{module}.py", copied_source(module, ablation, package))
    importlib.invalidate_caches()
    parent = ModuleType(package, f"Copies of the core for the ablation {ablation}.")
    parent.__path__ = [str(folder)]
    sys.modules[package] = parent
    return VariantBook(
        importlib.import_module(f"{package}.{ENTRY}"), importlib.import_module(f"{package}.{LOOPS}")
    )


def copied_source(module: str, ablation: str | None, package: str) -> str:
    """The text of the copy of a module: imports among the copies, and the ablation's definitions at the end.

    Raises:
        LookupError: naming the ablation and the name that does not fit.
    """
    path = source_of_module(module)
    names = "|".join(core_modules())
    among_copies = re.compile(
        rf"^from exchange\.book(?=\.(?:{names}) import | import (?:{names})\b)", re.MULTILINE
    )
    head = f"# A copy of {path.relative_to(_PACKAGE.parent)}, for the ablation {ablation}.\n"
    added = "" if ablation is None else _addition(module, ablation)
    return head + among_copies.sub(f"from {package}", path.read_text(encoding="utf-8") + added)


def definitions(ablation: str) -> tuple[str, ...]:
    """The names that an ablation defines, those of the core and its own helpers, in the order of its file."""
    statements = _statements(source_of_ablation(ablation))
    return tuple(name for statement in statements for name in _defined(statement) if name != "IDEA")


def _addition(module: str, ablation: str) -> str:
    """What an ablation adds at the end of the copy of a module; nothing if it replaces no name of it."""
    replaces = idea_of(ablation).replaces
    for owner in replaces:
        if owner not in (*core_modules(), LOOPS):
            raise LookupError(f"ablation {ablation}: the core has no module {owner} any more")
    if module not in replaces:
        return ""
    path, names = source_of_ablation(ablation), replaces[module]
    defined = {name: one for one in _statements(path) for name in _defined(one)}
    core = _statements(source_of_module(module))
    own = f"exchange.bench.{module}" if module == LOOPS else f"{_BOOK}.{module}"
    bound = dict(binding for statement in core for binding in _bindings(statement, own))
    for name in names:
        _check_replaced(name, defined.get(name), bound, core, f"ablation {ablation}: {module}")
    _check_constants(core, set(names), ablation, module)
    elsewhere = {name for owner in replaces for name in replaces[owner]}
    needed, unread = set(names), list(names)
    while unread:  # and the helpers that these definitions need, and those that the helpers need
        used = _used(defined[unread.pop()])
        unread += [name for name in sorted(used & defined.keys()) if name not in needed | elsewhere]
        needed |= used
    lines = path.read_text(encoding="utf-8").splitlines()
    added: list[str] = []
    for statement in _statements(path):
        if isinstance(statement, ast.ImportFrom) and statement.module != own:
            kept = [one for one in _bindings(statement, own) if one[0] in needed]
            added += [_import_line(alias, *origin) for alias, origin in kept]
        else:
            kept = [(name, (None, "")) for name in _defined(statement) if name in needed - set(names)]
            if needed.intersection(_defined(statement)) - (elsewhere - set(names)):
                added.append("\n\n" + _text_of(statement, lines))
        for alias, origin in kept:
            if bound.get(alias, origin) != origin and alias not in elsewhere:
                raise LookupError(f"ablation {ablation}: its {alias} would hide another {alias} of {module}")
    return "\n\n# What the ablation defines anew.\n" + "\n".join(added) + "\n"


def _import_line(alias: str, module: str | None, name: str) -> str:
    return f"from {module} import {name}" + (f" as {alias}" if alias != name else "")


def _check_replaced(
    name: str, new: ast.stmt | None, bound: dict[str, _Origin], core: list[ast.stmt], where: str
) -> None:
    """A replaced name must be there, on both sides, and a function must take the same parameters as before."""
    if name not in bound:
        raise LookupError(f"{where} has no {name} any more that it could replace")
    if new is None:
        raise LookupError(f"{where}: the ablation says that it replaces {name}, and does not define it")
    old = next((statement for statement in core if name in _defined(statement)), None)
    if isinstance(old, ast.FunctionDef) and (
        not isinstance(new, ast.FunctionDef) or ast.dump(old.args) != ast.dump(new.args)
    ):
        raise LookupError(f"{where}: {name} is now a function of ({ast.unparse(old.args)})")


def _check_constants(core: list[ast.stmt], names: set[str], ablation: str, module: str) -> None:
    """A constant that was worked out from a replaced one would keep the old value."""
    for statement in core:
        defined = set(_defined(statement))
        if isinstance(statement, ast.Assign | ast.AnnAssign) and not defined & names:
            for name in sorted(_used(statement) & names):
                raise LookupError(
                    f"ablation {ablation}: {', '.join(defined)} of {module} is worked out from {name}; "
                    "define it anew as well"
                )


@cache
def _parsed(text: str) -> list[ast.stmt]:
    return ast.parse(text).body


def _statements(path: Path) -> list[ast.stmt]:
    return _parsed(path.read_text(encoding="utf-8"))


def _used(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _defined(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Assign(targets=targets):
            yield from (
                node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
            )


def _bindings(statement: ast.stmt, own: str) -> Iterator[tuple[str, _Origin]]:
    """The names that a statement binds, each with the module and the name it comes from."""
    if isinstance(statement, ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name, (statement.module, alias.name)
    for name in _defined(statement):
        yield name, (own, name)


def _text_of(statement: ast.stmt, lines: list[str]) -> str:
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
    return "\n".join(lines[first - 1 : statement.end_lineno])


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all, and only if it says something else: numba asks when it was written."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
