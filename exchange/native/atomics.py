"""Atomic operations with named memory orders, on 8-byte words at 8-byte-aligned addresses; and two on 4-byte words.

What the orders promise (C++20, 31.4; Boehm and Adve 2008, "Foundations of the C++ concurrency memory model"):

* *relaxed*: the word itself is never torn, nothing is said about other words.
* *release* store / *acquire* load: whoever loads the stored value with acquire also sees everything that the
  storing thread wrote before it. This pair is what a ring is made of: write the record, release the counter;
  acquire the counter, read the record.
* *acq_rel* on a read-modify-write: both at once.
* *sequentially consistent* fence: additionally, all threads agree on one order of such fences; needed only
  where a thread must not read before its own earlier write is visible.

On x86 an acquire load and a release store are a plain ``mov``; the orders are written for the compiler, and
for ARM. A plain ``load_int64`` in a polling loop would be hoisted out of it and the loop would never end.

The 4-byte ones are for counters that the kernel shares with us, whose width it has chosen.

The Python twins are atomic as far as single loads and stores go (one 8-byte access under the interpreter
lock); the read-modify-writes are not, so variants that need those are only ever run compiled."""

import ctypes
from typing import Any

from numba import types

from exchange.native.lowering import INT32, INT64, Emit, lowers_to, pointer

_LOAD = types.int64(types.int64)
_STORE = types.void(types.int64, types.int64)
_UPDATE = types.int64(types.int64, types.int64)


def _emit_load(ordering: str) -> Emit:
    def emit(builder: Any, address: Any) -> Any:
        return builder.load_atomic(pointer(builder, address, INT64), ordering, 8, typ=INT64)

    return emit


def _emit_store(ordering: str) -> Emit:
    def emit(builder: Any, address: Any, value: Any) -> Any:
        return builder.store_atomic(value, pointer(builder, address, INT64), ordering, 8)

    return emit


def _emit_update(operation: str) -> Emit:
    def emit(builder: Any, address: Any, operand: Any) -> Any:
        return builder.atomic_rmw(operation, pointer(builder, address, INT64), operand, "acq_rel")

    return emit


@lowers_to(_LOAD, _emit_load("monotonic"))
def load_relaxed(address: int) -> int:
    """Load a word that only this thread writes, or whose exact moment does not matter."""
    return ctypes.c_int64.from_address(address).value


@lowers_to(_LOAD, _emit_load("acquire"))
def load_acquire(address: int) -> int:
    """Load a word and see everything that its writer released with it."""
    return ctypes.c_int64.from_address(address).value


@lowers_to(_STORE, _emit_store("monotonic"))
def store_relaxed(address: int, value: int) -> None:
    """Store a word without publishing anything else."""
    ctypes.c_int64.from_address(address).value = value


@lowers_to(_STORE, _emit_store("release"))
def store_release(address: int, value: int) -> None:
    """Store a word and publish everything written before it."""
    ctypes.c_int64.from_address(address).value = value


def _emit_load_acquire_uint32(builder: Any, address: Any) -> Any:
    value = builder.load_atomic(pointer(builder, address, INT32), "acquire", 4, typ=INT32)
    return builder.zext(value, INT64)


@lowers_to(_LOAD, _emit_load_acquire_uint32)
def load_acquire_uint32(address: int) -> int:
    """The 4 bytes at ``address``, unsigned, as :func:`load_acquire` loads eight."""
    return ctypes.c_uint32.from_address(address).value


def _emit_store_release_uint32(builder: Any, address: Any, value: Any) -> Any:
    narrow = builder.trunc(value, INT32)
    return builder.store_atomic(narrow, pointer(builder, address, INT32), "release", 4)


@lowers_to(_STORE, _emit_store_release_uint32)
def store_release_uint32(address: int, value: int) -> None:
    """Store the lower 4 bytes of ``value`` as :func:`store_release` stores eight."""
    ctypes.c_uint32.from_address(address).value = value


@lowers_to(_UPDATE, _emit_update("add"))
def fetch_add(address: int, increment: int) -> int:
    """Add to a word in one indivisible step; returns what stood there before."""
    word = ctypes.c_int64.from_address(address)
    before = word.value
    word.value = before + increment
    return before


@lowers_to(_UPDATE, _emit_update("xchg"))
def exchange_word(address: int, value: int) -> int:
    """Put ``value`` there in one indivisible step; returns what stood there before."""
    word = ctypes.c_int64.from_address(address)
    before = word.value
    word.value = value
    return before


def _emit_compare_exchange(builder: Any, address: Any, expected: Any, desired: Any) -> Any:
    result = builder.cmpxchg(pointer(builder, address, INT64), expected, desired, "acq_rel", "acquire")
    return builder.extract_value(result, 1)


@lowers_to(types.boolean(types.int64, types.int64, types.int64), _emit_compare_exchange)
def compare_exchange(address: int, expected: int, desired: int) -> bool:
    """If the word equals ``expected``, make it ``desired`` and return True; otherwise change nothing."""
    word = ctypes.c_int64.from_address(address)
    if word.value != expected:
        return False
    word.value = desired
    return True


def _emit_fence(ordering: str) -> Emit:
    def emit(builder: Any) -> Any:
        return builder.fence(ordering)

    return emit


@lowers_to(types.void(), _emit_fence("acquire"))
def fence_acquire() -> None:
    """No later read or write moves before an earlier read."""


@lowers_to(types.void(), _emit_fence("release"))
def fence_release() -> None:
    """No earlier read or write moves behind a later write."""


@lowers_to(types.void(), _emit_fence("seq_cst"))
def fence_sequential() -> None:
    """All earlier writes are visible to everyone before any later read happens."""
