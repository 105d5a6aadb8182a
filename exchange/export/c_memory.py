"""Memory from the kernel, for code that runs without Python: the C library's ``mmap`` and its company.

:class:`exchange.native.Arena` does the same in Python, and owns what it got. Here nobody owns anything: what is
mapped is unmapped by whoever remembers its address and size. All functions have Python twins, as those of
:mod:`exchange.native` have.
"""

import ctypes
import mmap
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils

from exchange.native.lowering import INT32, INT64, lowers_to, pointer

MAP_FAILED: Final = -1

_libc: Final = ctypes.CDLL(None, use_errno=True)
_PROTECTION: Final = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_NORESERVE: Final = 0x4000  # in Python's mmap since 3.13 only
_FLAGS: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE


def _call(builder: Any, name: str, result: Any, *operands: Any) -> Any:
    function_type = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), operands)


def _emit_map(builder: Any, size_bytes: Any) -> Any:
    return _call(
        builder, "mmap", INT64, INT64(0), size_bytes, INT32(_PROTECTION), INT32(_FLAGS), INT32(-1), INT64(0)
    )


@lowers_to(types.int64(types.int64), _emit_map)
def map_memory(size_bytes: int) -> int:
    """The address of fresh, zero memory; pages appear when they are touched. ``MAP_FAILED`` if there is none."""
    _libc.mmap.restype = ctypes.c_int64
    size, offset = ctypes.c_int64(size_bytes), ctypes.c_int64(0)
    return int(_libc.mmap(None, size, _PROTECTION, _FLAGS, -1, offset))


def _emit_unmap(builder: Any, address: Any, size_bytes: Any) -> Any:
    return builder.sext(_call(builder, "munmap", INT32, address, size_bytes), INT64)


@lowers_to(types.int64(types.int64, types.int64), _emit_unmap)
def unmap_memory(address: int, size_bytes: int) -> int:
    """Give memory back; 0 if that was possible."""
    return int(_libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size_bytes)))


def _emit_advise(builder: Any, address: Any, size_bytes: Any, advice: Any) -> Any:
    result = _call(builder, "madvise", INT32, address, size_bytes, builder.trunc(advice, INT32))
    return builder.sext(result, INT64)


@lowers_to(types.int64(types.int64, types.int64, types.int64), _emit_advise)
def advise_memory(address: int, size_bytes: int, advice: int) -> int:
    """Tell the kernel how memory is going to be used (``mmap.MADV_...``). It may decline; nothing depends on it."""
    return int(_libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), int(advice)))


def _emit_set_errno(builder: Any, number: Any) -> Any:
    where = _call(builder, "__errno_location", INT64)
    return builder.store(builder.trunc(number, INT32), pointer(builder, where, INT32))


@lowers_to(types.void(types.int64), _emit_set_errno)
def set_errno(number: int) -> None:
    """Say why a function fails, as the C library does: ``errno`` of this thread."""
    ctypes.set_errno(number)
