"""Where compiled code is kept between runs, and the two decorators that compile.

numba can keep machine code on disk, but it decides whether a stored function is stale by looking at the one
file that defines it. A kernel here is inlined into loops of other files, so an edit of ``queues/spsc.py``
would leave the old ring inside the cached shard loop. Therefore the cache *directory* is named by a digest of
every source file that compiled code can come from (:func:`compiled_sources`): edit one of them, and the next run
compiles into a fresh directory; edit the command line or a web page, and it does not. A user's own layer file is added
to the digest by :func:`include_source` before it is compiled.

Rules: this module is imported before numba anywhere (``exchange.native`` does it); kernels are written with
:func:`kernel` or :func:`inlined` and with nothing else, so that :func:`include_source` can find them all.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from exchange.cache_folder import cache_root

PACKAGE: Final = Path(__file__).resolve().parent.parent
KEPT_DIRECTORIES: Final = 32
"""How many digests' worth of machine code stay on disk; the least recently used ones are deleted."""

_COMPILES: Final = re.compile(
    rb"^@(?:kernel|inlined|implements|lowers_to|generic|overload|intrinsic)\b", re.MULTILINE
)
_IMPORT: Final = re.compile(
    rb"^[ \t]*(?:from|import)[ \t]+(exchange(?:\.\w+)*)(?:[ \t]+import[ \t]+(\([^)]*\)|[^\n]*))?",
    re.MULTILINE,
)
_NAME: Final = re.compile(rb"\w+")

_included: dict[Path, bytes] = {}
_dispatchers: list[Any] = []
_package_directory: Path | None = None


def compiled_sources(package: Path) -> dict[Path, bytes]:
    """The files of a package that have a part in compiled code, with their content.

    These are the files in which something is compiled, and all that they import, at whatever remove: a kernel can see a
    constant, a type or a function of another file only if it is imported.
    """
    sources = {_module_of(path, package): (path, path.read_bytes()) for path in package.rglob("*.py")}
    found: dict[Path, bytes] = {}
    waiting = {module for module, (_, content) in sources.items() if _COMPILES.search(content)}
    seen = set(waiting)
    while waiting:
        path, content = sources[waiting.pop()]
        found[path] = content
        imported = {module for module in _imported(content) if module in sources} - seen
        seen |= imported
        waiting |= imported
    return found


def _module_of(path: Path, package: Path) -> bytes:
    """By which name a file of the package is imported."""
    parts = path.relative_to(package).with_suffix("").parts
    return b".".join((b"exchange", *(part.encode() for part in parts if part != "__init__")))


def _imported(content: bytes) -> Iterator[bytes]:
    """The modules that the import statements of a file may mean; not all need to exist. Each start asks it of each."""
    for module, names in _IMPORT.findall(content):
        yield module
        parts = module.split(b".")
        for count in range(1, len(parts)):
            yield b".".join(parts[:count])
        for name in _NAME.findall(names):
            yield module + b"." + name


@cache
def _package_sources() -> bytes:
    hasher = hashlib.sha256()
    for path, content in sorted(compiled_sources(PACKAGE).items()):
        hasher.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + content + b"\0")
    hasher.update(str(PACKAGE).encode())
    return hasher.digest()


def source_digest() -> str:
    """Hexadecimal digest of every source that compiled code can come from, of the package and of the user's files."""
    hasher = hashlib.sha256(_package_sources())
    for path in sorted(_included):
        hasher.update(str(path).encode() + b"\0" + _included[path])
    return hasher.hexdigest()[:16]


def use_cache_directory() -> Path:
    """Point numba at the directory of the present digest, and forget the oldest directories."""
    directory = cache_root() / "kernels" / source_digest()
    if not directory.exists() and _package_directory is not None and _package_directory.exists():
        # What does not depend on the user's file need not be compiled again. Links, not copies: numba replaces
        # a file whole and never writes into one. If another process changes the folder meanwhile, what could not
        # be linked is compiled.
        with suppress(OSError):
            shutil.copytree(_package_directory, directory, copy_function=os.link)
    directory.mkdir(parents=True, exist_ok=True)
    os.utime(directory)
    os.environ["NUMBA_CACHE_DIR"] = str(directory)
    from numba import config

    config.CACHE_DIR = str(directory)
    by_age = sorted(directory.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for stale in by_age[KEPT_DIRECTORIES:]:
        shutil.rmtree(stale, ignore_errors=True)
    return directory


def include_source(path: Path, content: bytes) -> None:
    """Let a user's layer file take part in the digest, as it is now."""
    global _package_directory
    place, digest = path.resolve(), hashlib.sha256(content).digest()
    if _included.get(place) == digest:
        return
    if not _included:
        _package_directory = cache_root() / "kernels" / source_digest()
    _included[place] = digest
    move_caches()


def move_caches() -> None:
    """Move every kernel's cache to the directory of the present digest."""
    use_cache_directory()
    from exchange.native.cache_file import keep_apart

    for dispatcher in _dispatchers:
        dispatcher.enable_caching()
        keep_apart(dispatcher)


def kernel[F: Callable[..., Any]](function: F) -> F:
    """Compile ``function`` to run without the interpreter lock, kept on disk. Divisions never raise.

    A kernel that is called from Python returns numbers or a plain tuple, never a ``NamedTuple``: numba runs Python code
    to make one, does not look whether that has failed, and if Ctrl-C was pressed in the meantime, it has.
    """
    return _compile(function, forceinline=False)


def inlined[F: Callable[..., Any]](function: F) -> F:
    """As :func:`kernel`, and always merged into its caller by LLVM: for the small steps of a hot path."""
    return _compile(function, forceinline=True)


def _compile[F: Callable[..., Any]](function: F, *, forceinline: bool) -> F:
    from numba import njit

    dispatcher: Any = njit(
        nogil=True, cache=True, error_model="numpy", forceinline=forceinline, no_cfunc_wrapper=True
    )(function)
    if hasattr(dispatcher, "enable_caching"):  # under NUMBA_DISABLE_JIT=1 it is the plain function
        from exchange.native.cache_file import keep_apart
        from exchange.native.declarations import pass_over_declarations

        pass_over_declarations()
        _dispatchers.append(dispatcher)
        keep_apart(dispatcher)
    return dispatcher  # type: ignore[no-any-return]
