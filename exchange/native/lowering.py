"""How a plain Python function gets a second body made of machine instructions.

Everything in this folder is an ordinary Python function that does its work through ``ctypes``: it can be
called, stepped through and tested without a compiler. :func:`lowers_to` adds what numba shall emit instead
when it meets a call of that function inside a kernel. So the interpreted and the compiled exchange share
every source line, and ``NUMBA_DISABLE_JIT=1`` runs the same kernels under a debugger.

Source: numba manual, "Extending Numba, low-level API" (``type_callable``, ``lower_builtin``).
"""

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, type_callable

INT1, INT8, INT16, INT32, INT64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
VOID = ir.VoidType()

Emit = Callable[..., ir.Value]
"""``emit(builder, *operands) -> value``: writes instructions; operands are LLVM values in the signature's order."""


def lowers_to[F: Callable[..., Any]](signature: Any, emit: Emit) -> Callable[[F], F]:
    """Decorate the Python twin of an instruction.

    Args:
        signature: its numba signature, such as ``types.int64(types.int64)``; arguments are converted to it.
        emit: writes the LLVM instructions. A function that returns nothing returns the dummy value by itself.
    """

    def register(function: F) -> F:
        @type_callable(function)
        def _typing(context: Any) -> Callable[..., Any]:
            def typer(*_arguments: Any) -> Any:
                return signature

            # numba folds a call's arguments by the typer's Python signature, so it must be the function's own.
            typer.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
            return typer

        @lower_builtin(function, *signature.args)
        def _lowering(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
            value = emit(builder, *operands)
            return context.get_dummy_value() if signature.return_type is types.void else value

        return function

    return register


def pointer(builder: Any, address: Any, pointee: ir.Type) -> Any:
    """The int64 ``address`` as an LLVM pointer to ``pointee``."""
    return builder.inttoptr(address, pointee.as_pointer())
