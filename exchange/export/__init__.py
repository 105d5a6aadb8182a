"""The order book for programs that are not Python: a shared library and its header, made from the compiled core.

The library holds the same machine code that the exchange runs, made from the same source: the ladder book, and
the ring that its events go into. At run time it needs the C library and nothing else, no Python, no numba. So
the book can be linked into a C or C++ program, put into somebody else's benchmark harness, or be loaded from any
language that calls C.

* :mod:`~exchange.export.c_api` - the functions, their C types and contracts, in one table
* :mod:`~exchange.export.book_calls`, :mod:`~exchange.export.book_handle`,
  :mod:`~exchange.export.event_ring` - the kernels behind them
* :mod:`~exchange.export.header` - the header, from the definitions that the code uses
* :mod:`~exchange.export.linking` - from kernels to a shared library

Importing this package loads nothing heavy; :func:`export_library` does.
"""

import shutil
from pathlib import Path
from typing import Final, NamedTuple

from exchange.errors import UserError

LIBRARY_NAME: Final = "libexchange_book.so"
HEADER_NAME: Final = "exchange_book.h"
EXAMPLE_NAME: Final = "example.c"
EXAMPLE: Final = Path(__file__).with_name(EXAMPLE_NAME)


class ExportedLibrary(NamedTuple):
    """The files that were written."""

    library: Path
    header: Path
    example: Path


def export_library(out: Path, cpu: str = "native") -> ExportedLibrary:
    """Write library, header and an example program into the folder ``out``, which is made if it is not there.

    Args:
        out: the folder.
        cpu: the processor that the code is for: ``"native"`` is this one, ``"x86-64-v3"`` any of the last ten years,
            or any name that LLVM has.

    Raises:
        UserError: no C compiler, an unknown processor, or the folder cannot be written.
    """
    from exchange.export.c_api import FUNCTIONS
    from exchange.export.header import abi_number, header_text
    from exchange.export.linking import check_processor, find_c_compiler, link_library

    compiler = find_c_compiler()
    check_processor(cpu)
    files = ExportedLibrary(out / LIBRARY_NAME, out / HEADER_NAME, out / EXAMPLE_NAME)
    try:
        out.mkdir(parents=True, exist_ok=True)
        files.header.write_text(header_text(), encoding="utf-8")
        shutil.copyfile(EXAMPLE, files.example)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}") from error
    link_library(FUNCTIONS, {"exchange_abi": abi_number()}, cpu, files.library, compiler)
    return files
