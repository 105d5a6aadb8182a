"""The exported library as tests see it: built once, called through ctypes, linked into C programs."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from exchange.export import ExportedLibrary
from exchange.export.book_handle import CONFIG_DTYPE
from exchange.export.c_api import FUNCTIONS
from exchange.export.linking import COMPILERS, INSTALL_COMPILER
from exchange.messages import EVENT_DTYPE
from exchange.native import address_of

COMPILER: Final = next(filter(None, map(shutil.which, COMPILERS)), None)
NEEDS: Final = [
    pytest.mark.skipif(COMPILER is None, reason=f"no C compiler: {INSTALL_COMPILER}"),
    pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled"),
]

WARNINGS: Final = ("-O2", "-Wall", "-Wextra", "-Werror")
REPOSITORY: Final = Path(__file__).parents[1]
ADAPTER: Final = REPOSITORY / "tests" / "examples" / "harness_adapter.c"
ONE_THREAD: Final = REPOSITORY / "tests" / "examples" / "one_thread.c"
PRICE_MAX: Final = 2**36 - 1
CAPACITY_ORDERS: Final = 20_000

C_TYPES: Final[dict[str, Any]] = {
    "void": None,
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "size_t": ctypes.c_size_t,
}


def build(source: Path, exported: ExportedLibrary) -> Path:
    """Compile a C program against the library, as its documentation says, with every warning an error."""
    assert COMPILER is not None
    folder = exported.library.parent
    program = folder / source.stem
    command = [COMPILER, *WARNINGS, source, f"-I{folder}", f"-L{folder}", "-lexchange_book", "-pthread"]
    done = subprocess.run(
        [*command, "-Wl,-rpath,$ORIGIN", "-o", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return program


def run(program: Path, *arguments: object) -> dict[str, str]:
    """Run a program in an empty environment; what it printed, by the words before the last one of a line."""
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return dict(line.rpartition(" ")[::2] for line in done.stdout.splitlines())


class Library:
    """The library as ctypes sees it, with the types that the table of functions states."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path), use_errno=True)
        self.exchange_abi = library.exchange_abi
        self.exchange_abi.restype = ctypes.c_uint32
        for function in FUNCTIONS:
            found = getattr(library, function.name)
            found.restype = self._type(function.result)
            found.argtypes = [self._type(kind) for kind, _ in function.parameters]
            self.__dict__[function.name.removeprefix("exchange_")] = found

    @staticmethod
    def _type(kind: str) -> Any:
        return ctypes.c_void_p if kind.endswith("*") else C_TYPES[kind]

    def create(self, **fields: int) -> int | None:
        """A book, or None; ``fields`` differ from those of a small market."""
        values = {
            "symbol_count": 1, "capacity_orders": 64, "price_min_ticks": 1, "price_max_ticks": 1000,
            "publish_every": 0, "flags": 0,
        } | fields  # fmt: skip
        config = np.zeros(1, CONFIG_DTYPE)
        for name, value in values.items():
            config[name] = value
        ctypes.set_errno(0)
        return self.book_create(address_of(config))  # type: ignore[no-any-return]

    def apply_to_buffer(self, book: int, commands: NDArray[Any], batch: int = 256) -> bytes:
        """Apply an array, batch by batch; the bytes of all events."""
        blocks = []
        for start in range(0, len(commands), batch):
            part = commands[start : start + batch].copy()
            events = np.zeros(self.book_events_bound(book, len(part)), EVENT_DTYPE)
            count = self.book_apply_to_buffer(book, address_of(part), len(part), address_of(events))
            blocks.append(events[:count].tobytes())
        return b"".join(blocks)


def fnv1a(block: bytes) -> int:
    digest = 0xCBF29CE484222325
    for byte in block:
        digest = ((digest ^ byte) * 0x100000001B3) & (2**64 - 1)
    return digest
