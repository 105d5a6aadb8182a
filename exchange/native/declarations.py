"""Compiling takes less time: numba does not optimize functions of which a module has only the declaration.

Before numba optimizes a module, it optimizes each function of it by itself, and for each it builds LLVM's whole
pipeline of passes anew. Nine of ten of those functions have no body: they are what the module calls, declared for the
linker. A pass has nothing to do in them, but to build the pipeline takes a millisecond, and that is a twentieth of the
time in which an exchange is compiled. The code that comes out is the same.

Rules: :func:`pass_over_declarations` is called before anything is compiled; more than once does no harm. It changes a
method of numba's that is no part of its interface. A numba that has none of this name is left as it is."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from numba.core.codegen import CPUCodeLibrary


class _Module:
    """A module as numba's loop over its functions sees it: those that have a body."""

    def __init__(self, module: Any) -> None:
        self._module = module

    @property
    def functions(self) -> Iterator[Any]:
        return (one for one in self._module.functions if not one.is_declaration)

    @property
    def data_layout(self) -> Any:
        return self._module.data_layout

    @data_layout.setter
    def data_layout(self, layout: Any) -> None:
        self._module.data_layout = layout


@cache
def pass_over_declarations() -> None:
    """From now on, optimize only functions that have a body."""
    whole = getattr(CPUCodeLibrary, "_optimize_functions", None)
    if whole is None:
        return

    def optimize_functions(library: Any, module: Any) -> None:
        whole(library, _Module(module))

    CPUCodeLibrary._optimize_functions = optimize_functions
