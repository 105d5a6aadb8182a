"""The shim: the few lines of C between compiled loops and DPDK, compiled where they run.

Most of what a poll loop calls in DPDK is ``static inline`` in its headers, so there is nothing to call by name, and
what the headers say depends on the version that is installed. Therefore ``shim.c`` is compiled on first use, against
the libdpdk that ``pkg-config`` finds, and kept beside the other compiled code
(:func:`exchange.cache_folder.cache_root`).

Rules: the name of the library says what it was made from: the source, the compiler, the version of DPDK and its
options. It is written under another name and renamed, so two processes that start at once both find a whole one. It is
loaded for the whole process before any kernel is compiled that calls it: an unknown symbol ends the process.
"""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import llvmlite.binding as llvm

from exchange.cache_folder import cache_root
from exchange.errors import UserError
from exchange.export.linking import find_c_compiler

PACKAGES: Final = "libdpdk-dev dpdk pkg-config gcc"
SOURCE: Final = Path(__file__).with_name("shim.c")
_OPTIONS: Final = ("-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall")


def missing(what: str) -> UserError:
    """What a user reads whose machine has no DPDK."""
    return UserError(f"DPDK: {what}; install it: sudo apt-get install {PACKAGES}")


@cache
def load_shim() -> Any:
    """The shim as a ``ctypes`` library, compiled if it has to be; its symbols are known to kernels from now on.

    Raises:
        UserError: DPDK, pkg-config or a C compiler is missing, naming the packages.
    """
    path = build_shim(cache_root() / "dpdk")
    try:
        llvm.load_library_permanently(str(path))
        return ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_GLOBAL)
    except (OSError, RuntimeError) as error:
        raise missing(f"{path} cannot be loaded ({error})") from error


def build_shim(folder: Path) -> Path:
    """The shim's library in ``folder``, compiled if it is not there yet.

    Raises:
        UserError: as :func:`load_shim`.
    """
    version = _pkg_config("--modversion")
    options = [*shlex.split(_pkg_config("--cflags")), *shlex.split(_pkg_config("--libs"))]
    try:
        compiler = find_c_compiler()
    except UserError as error:
        raise missing(str(error)) from error
    told = _run((*compiler, "--version"))
    key = hashlib.sha256(repr((SOURCE.read_bytes(), compiler, told, version, options, _OPTIONS)).encode())
    library = folder / f"shim-{version}-{key.hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        being_written = library.with_suffix(f".{os.getpid()}")
        command = (*compiler, *_OPTIONS, "-o", str(being_written), str(SOURCE), "-Wl,--as-needed", *options)
        try:
            _run(command)
            being_written.replace(library)
        finally:
            being_written.unlink(missing_ok=True)
    return library


def is_installed() -> bool:
    """Whether this machine has what DPDK takes, as far as can be told without compiling."""
    try:
        _pkg_config("--modversion")
        find_c_compiler()
    except UserError:
        return False
    return True


def _pkg_config(option: str) -> str:
    if shutil.which("pkg-config") is None:
        raise missing("no pkg-config was found")
    return _run(("pkg-config", option, "libdpdk"))


def _run(command: Sequence[str]) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        last = (ran.stderr.strip().splitlines() or [f"status {ran.returncode}"])[-1]
        raise missing(f"{command[0]} {' '.join(command[-2:])}: {last}")
    return ran.stdout.strip()
