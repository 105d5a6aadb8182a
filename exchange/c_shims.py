"""Shims: a few lines of C between compiled loops and a C library, compiled where they run.

Much of what a poll loop calls in such a library is ``static inline`` in its headers, so there is nothing to call by
name, and what the headers say depends on the version that is installed. Therefore a shim is compiled on first use,
against the library that ``pkg-config`` finds, and kept beside the other compiled code
(:func:`exchange.cache_folder.cache_root`).

Rules: every function of a shim takes and returns numbers of 64 bits, addresses among them. The name of the compiled
library says what it was made from: the sources, the compiler, the version of the C library and its options. It is
written under another name and renamed, so two processes that start at once both find a whole one. It is loaded for the
whole process before any kernel is compiled that calls it: an unknown symbol ends the process.
"""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from signal import valid_signals
from typing import Any, Final, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils

from exchange.cache_folder import cache_root
from exchange.errors import UserError
from exchange.export.linking import find_c_compiler
from exchange.native.lowering import INT64, Emit

_OPTIONS: Final = ("-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall")
_SIGACTION_BYTES: Final = 256
"""More than any ``struct sigaction`` has."""

HEADERS: Final = (Path(__file__).with_name("c_shims.h"),)
"""What the sources of all shims may include."""


class Shim(NamedTuple):
    """One shim.

    Attributes:
        title: what people call the C library.
        name: of the folder that keeps it, and how its functions begin: ``exchange_NAME_``.
        library: what ``pkg-config`` calls the C library.
        packages: what has to be installed.
        source: the C.
        links: what the linker is told beside what ``pkg-config`` says.
        variables: of the environment, set before the C library is loaded unless the user has set them.
    """

    title: str
    name: str
    library: str
    packages: str
    source: Path
    links: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    def missing(self, what: str) -> UserError:
        """What a user reads whose machine lacks something."""
        return UserError(f"{self.title}: {what}; install it: sudo apt-get install {self.packages}")

    def load(self) -> Any:
        """The shim as a ``ctypes`` library, compiled if it has to be; kernels know its symbols from now on.

        Raises:
            UserError: the library, pkg-config or a C compiler is missing, naming the packages.
        """
        return _load(self)

    def build(self, folder: Path) -> Path:
        """The shim's library in ``folder``, compiled if it is not there yet.

        Raises:
            UserError: as :meth:`load`.
        """
        version = self._pkg_config("--modversion")
        options = [*shlex.split(self._pkg_config("--cflags")), *shlex.split(self._pkg_config("--libs"))]
        try:
            compiler = find_c_compiler()
        except UserError as error:
            raise self.missing(str(error)) from error
        told = self._run((*compiler, "--version"))
        sources = [path.read_bytes() for path in (self.source, *HEADERS)]
        key = hashlib.sha256(repr((sources, compiler, told, version, options, _OPTIONS, self.links)).encode())
        library = folder / f"shim-{version}-{key.hexdigest()[:16]}.so"
        if not library.exists():
            folder.mkdir(parents=True, exist_ok=True)
            being_written = library.with_suffix(f".{os.getpid()}")
            into = ("-I", str(HEADERS[0].parent), "-o", str(being_written))
            try:
                self._run(
                    (*compiler, *_OPTIONS, *into, str(self.source), "-Wl,--as-needed", *options, *self.links)
                )
                being_written.replace(library)
            finally:
                being_written.unlink(missing_ok=True)
        return library

    def is_installed(self) -> bool:
        """Whether this machine has what the shim takes, as far as can be told without compiling."""
        try:
            self._pkg_config("--modversion")
            find_c_compiler()
        except UserError:
            return False
        return True

    def call(self, name: str, *arguments: int) -> int:
        """Call a function of the shim from Python; a result below 0 is -errno."""
        function = getattr(self.load(), f"exchange_{self.name}_{name}")
        function.restype = ctypes.c_int64
        return int(function(*map(ctypes.c_int64, arguments)))

    def emit(self, name: str) -> Emit:
        """What a kernel does to call a function of the shim."""

        def emit(builder: Any, *operands: Any) -> Any:
            function_type = ir.FunctionType(INT64, [INT64] * len(operands))
            symbol = f"exchange_{self.name}_{name}"
            return builder.call(
                cgutils.get_or_insert_function(builder.module, function_type, symbol), operands
            )

        return emit

    def _pkg_config(self, option: str) -> str:
        if shutil.which("pkg-config") is None:
            raise self.missing("no pkg-config was found")
        return self._run(("pkg-config", option, self.library))

    def _run(self, command: Sequence[str]) -> str:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            last = (ran.stderr.strip().splitlines() or [f"status {ran.returncode}"])[-1]
            raise self.missing(f"{command[0]} {' '.join(command[-2:])}: {last}")
        return ran.stdout.strip()


@cache
def _load(shim: Shim) -> Any:
    path = shim.build(cache_root() / shim.name)
    for name, value in shim.variables:
        os.environ.setdefault(name, value)
    try:
        # libfabric brings a library of which the constructor has every fault of this process end it without a word.
        with kept_signal_handlers():
            llvm.load_library_permanently(str(path))
            return ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_GLOBAL)
    except (OSError, RuntimeError) as error:
        raise shim.missing(f"{path} cannot be loaded ({error})") from error


@contextmanager
def kept_signal_handlers() -> Iterator[None]:
    """What a C library has made of the handlers of signals within the block is undone at its end."""
    libc = ctypes.CDLL(None)
    handlers = {number: ctypes.create_string_buffer(_SIGACTION_BYTES) for number in valid_signals()}
    for number, kept in handlers.items():
        libc.sigaction(int(number), None, kept)
    try:
        yield
    finally:
        for number, kept in handlers.items():
            libc.sigaction(int(number), kept, None)
