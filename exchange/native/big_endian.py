"""Loads and stores of numbers in network order, the most significant byte first: what wire formats are made of.

As in :mod:`exchange.native.raw_memory` an address is a plain int64 and nothing is checked. Two things differ. The bytes
are turned round, which is one instruction (``bswap`` or ``movbe`` on x86-64, ``rev`` on ARM). And a field may begin at
any byte, because messages are packed: the compiler is told so, where plain loads promise alignment.

All values are int64 in the program; narrow loads zero-extend, and 48 bits are ITCH's timestamps."""

import ctypes
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from exchange.native.lowering import INT16, INT32, INT64, Emit, lowers_to, pointer

_LOAD = types.int64(types.int64)
_STORE = types.void(types.int64, types.int64)
_INT48 = ir.IntType(48)


def _swap(builder: Any, value: Any) -> Any:
    function_type = ir.FunctionType(value.type, [value.type])
    name = f"llvm.bswap.i{value.type.width}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), [value])


def _emit_load(integer: Any) -> Emit:
    def emit(builder: Any, address: Any) -> Any:
        value = _swap(builder, builder.load(pointer(builder, address, integer), align=1, typ=integer))
        return value if integer.width == 64 else builder.zext(value, INT64)

    return emit


def _emit_store(integer: Any) -> Emit:
    def emit(builder: Any, address: Any, value: Any) -> Any:
        narrow = value if integer.width == 64 else builder.trunc(value, integer)
        return builder.store(_swap(builder, narrow), pointer(builder, address, integer), align=1)

    return emit


def _load(address: int, size_bytes: int) -> int:
    return int.from_bytes(ctypes.string_at(address, size_bytes), "big")


def _store(address: int, value: int, size_bytes: int) -> None:
    low = value & (1 << 8 * size_bytes) - 1
    ctypes.memmove(address, low.to_bytes(size_bytes, "big"), size_bytes)


@lowers_to(_LOAD, _emit_load(INT16))
def load_big_endian_uint16(address: int) -> int:
    """The 2 bytes at ``address``, unsigned."""
    return _load(address, 2)


@lowers_to(_LOAD, _emit_load(INT32))
def load_big_endian_uint32(address: int) -> int:
    """The 4 bytes at ``address``, unsigned."""
    return _load(address, 4)


@lowers_to(_LOAD, _emit_load(_INT48))
def load_big_endian_uint48(address: int) -> int:
    """The 6 bytes at ``address``, unsigned."""
    return _load(address, 6)


@lowers_to(_LOAD, _emit_load(INT64))
def load_big_endian_int64(address: int) -> int:
    """The 8 bytes at ``address``, as a signed word: an unsigned number of 2**63 and more comes out negative."""
    return int.from_bytes(ctypes.string_at(address, 8), "big", signed=True)


@lowers_to(_STORE, _emit_store(INT16))
def store_big_endian_uint16(address: int, value: int) -> None:
    """Write the low 2 bytes of ``value`` at ``address``."""
    _store(address, value, 2)


@lowers_to(_STORE, _emit_store(INT32))
def store_big_endian_uint32(address: int, value: int) -> None:
    """Write the low 4 bytes of ``value`` at ``address``."""
    _store(address, value, 4)


@lowers_to(_STORE, _emit_store(_INT48))
def store_big_endian_uint48(address: int, value: int) -> None:
    """Write the low 6 bytes of ``value`` at ``address``."""
    _store(address, value, 6)


@lowers_to(_STORE, _emit_store(INT64))
def store_big_endian_int64(address: int, value: int) -> None:
    """Write the 8 bytes of ``value`` at ``address``."""
    _store(address, value, 8)
