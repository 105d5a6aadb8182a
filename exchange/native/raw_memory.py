"""Plain loads and stores at an address: the whole data plane is built on these.

An address is an int64 that points into an :class:`~exchange.native.arena.Arena` which somebody keeps alive.
Nothing is checked: a wrong address is a crash, as in C. That is the price of having no reference counts, no
bounds checks and no array headers on the path of a message (8 to 12 ns each time, measured). Callers compute
addresses from offsets that the top of their own file names.

All values are int64 in the program, whatever their width in memory, because numba turns int64 mixed with
uint64 into a float. ``load_uint32`` zero-extends."""

import ctypes
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from exchange.native.lowering import INT1, INT8, INT16, INT32, INT64, VOID, Emit, lowers_to, pointer

_LOAD = types.int64(types.int64)
_STORE = types.void(types.int64, types.int64)
_LINE = ir.VectorType(INT64, 8)


def _emit_load(integer: Any) -> Emit:
    def emit(builder: Any, address: Any) -> Any:
        value = builder.load(pointer(builder, address, integer), align=integer.width // 8, typ=integer)
        return value if integer.width == 64 else builder.zext(value, INT64)

    return emit


def _emit_store(integer: Any) -> Emit:
    def emit(builder: Any, address: Any, value: Any) -> Any:
        narrow = value if integer.width == 64 else builder.trunc(value, integer)
        return builder.store(narrow, pointer(builder, address, integer), align=integer.width // 8)

    return emit


@lowers_to(_LOAD, _emit_load(INT64))
def load_int64(address: int) -> int:
    """The 8 bytes at ``address``, signed."""
    return ctypes.c_int64.from_address(address).value


@lowers_to(_LOAD, _emit_load(INT32))
def load_uint32(address: int) -> int:
    """The 4 bytes at ``address``, unsigned."""
    return ctypes.c_uint32.from_address(address).value


@lowers_to(_LOAD, _emit_load(INT16))
def load_uint16(address: int) -> int:
    """The 2 bytes at ``address``, unsigned."""
    return ctypes.c_uint16.from_address(address).value


@lowers_to(_LOAD, _emit_load(INT8))
def load_uint8(address: int) -> int:
    """The byte at ``address``, unsigned."""
    return ctypes.c_uint8.from_address(address).value


@lowers_to(_STORE, _emit_store(INT64))
def store_int64(address: int, value: int) -> None:
    """Write 8 bytes at ``address``."""
    ctypes.c_int64.from_address(address).value = value


@lowers_to(_STORE, _emit_store(INT32))
def store_uint32(address: int, value: int) -> None:
    """Write the low 4 bytes of ``value`` at ``address``."""
    ctypes.c_uint32.from_address(address).value = value


@lowers_to(_STORE, _emit_store(INT16))
def store_uint16(address: int, value: int) -> None:
    """Write the low 2 bytes of ``value`` at ``address``."""
    ctypes.c_uint16.from_address(address).value = value


@lowers_to(_STORE, _emit_store(INT8))
def store_uint8(address: int, value: int) -> None:
    """Write the low byte of ``value`` at ``address``."""
    ctypes.c_uint8.from_address(address).value = value


def _emit_copy_record(builder: Any, target: Any, source: Any) -> Any:
    line = builder.load(pointer(builder, source, _LINE), align=8, typ=_LINE)
    return builder.store(line, pointer(builder, target, _LINE), align=8)


@lowers_to(types.void(types.int64, types.int64), _emit_copy_record)
def copy_record(target: int, source: int) -> None:
    """Copy one 64-byte record, in one vector load and store where the CPU can.

    Records lie on multiples of 64, where that is one cache line. The compiler is not told so: a record in a numpy
    array, which lies anywhere, is then copied a little slower instead of ending the process.
    """
    ctypes.memmove(target, source, 64)


def _emit_copy_bytes(builder: Any, target: Any, source: Any, size_bytes: Any) -> Any:
    places = [pointer(builder, address, INT8) for address in (target, source)]
    function_type = ir.FunctionType(VOID, [place.type for place in places] + [INT64, INT1])
    name = "llvm.memcpy.p0.p0.i64"
    copy = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(copy, [*places, size_bytes, INT1(0)])


@lowers_to(types.void(types.int64, types.int64, types.int64), _emit_copy_bytes)
def copy_bytes(target: int, source: int, size_bytes: int) -> None:
    """Copy bytes that lie anywhere to where they do not overlap. A constant size becomes a few plain moves."""
    ctypes.memmove(target, source, size_bytes)


def address_of(array: Any) -> int:
    """The address of the first byte of a numpy array. Call it outside kernels and pass the int64 in."""
    return int(array.ctypes.data)
