"""The C library called from compiled code: clocks, sleeping, the POSIX mutex, and any system call by number.

The symbols are those of the C library that every Python process has loaded, so nothing is linked or built. A
function that fails returns what C returns (usually -1); nothing here raises.
"""

import ctypes
import os
import time
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils

from exchange.native.lowering import INT32, INT64, Emit, lowers_to

_libc: Final = ctypes.CDLL(None, use_errno=True)
_TIMESPEC = ir.ArrayType(INT64, 2)

MUTEX_BYTES: Final = 64
"""Room for a ``pthread_mutex_t`` (40 bytes in glibc on x86-64, 48 on ARM) on a cache line of its own."""

_PTHREAD_PROCESS_SHARED: Final = 1


def _emit_libc(name: str, arity: int) -> Emit:
    def emit(builder: Any, *operands: Any) -> Any:
        function_type = ir.FunctionType(INT32, [INT64] * arity)
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        return builder.sext(builder.call(function, operands), INT64)

    return emit


def emit_call_with_errno(name: str, result: Any, parameters: tuple[Any, ...]) -> Emit:
    """A call of a C function that returns -1 on failure, and ``-errno`` in place of that."""

    def emit(builder: Any, *operands: Any) -> Any:
        converted = [
            operand if parameter.width == 64 else builder.trunc(operand, parameter)
            for operand, parameter in zip(operands, parameters, strict=True)
        ]
        function_type = ir.FunctionType(result, parameters)
        returned = builder.call(
            cgutils.get_or_insert_function(builder.module, function_type, name), converted
        )
        wide = returned if result.width == 64 else builder.sext(returned, INT64)
        # Where this thread's errno is never changes and costs nothing to ask; its value is used only after a failure.
        errno_type = ir.FunctionType(INT32.as_pointer(), [])
        location = builder.call(
            cgutils.get_or_insert_function(builder.module, errno_type, "__errno_location"), []
        )
        failure = builder.neg(builder.sext(builder.load(location, typ=INT32), INT64))
        return builder.select(builder.icmp_signed("<", wide, INT64(0)), failure, wide)

    return emit


def with_errno(returned: int) -> int:
    """What the Python twin of such a call returns: what ctypes returned, or ``-errno``."""
    return -ctypes.get_errno() if returned < 0 else returned


@lowers_to(types.int64(types.int64), _emit_libc("pthread_mutex_lock", 1))
def mutex_lock(address: int) -> int:
    """Wait for, and take, the mutex at ``address``. Sleeps in the kernel when another thread holds it."""
    return int(_libc.pthread_mutex_lock(ctypes.c_void_p(address)))


@lowers_to(types.int64(types.int64), _emit_libc("pthread_mutex_unlock", 1))
def mutex_unlock(address: int) -> int:
    """Give the mutex at ``address`` back, waking one sleeper."""
    return int(_libc.pthread_mutex_unlock(ctypes.c_void_p(address)))


@lowers_to(types.int64(), _emit_libc("sched_yield", 0))
def yield_core() -> int:
    """Let another runnable thread have the core for a while."""
    os.sched_yield()
    return 0


def _emit_sleep(builder: Any, duration_ns: Any) -> Any:
    timespec = cgutils.alloca_once(builder, _TIMESPEC)
    billion = INT64(1_000_000_000)
    value = builder.insert_value(ir.Constant(_TIMESPEC, ir.Undefined), builder.sdiv(duration_ns, billion), 0)
    builder.store(builder.insert_value(value, builder.srem(duration_ns, billion), 1), timespec)
    function_type = ir.FunctionType(INT32, [_TIMESPEC.as_pointer(), INT64])
    function = cgutils.get_or_insert_function(builder.module, function_type, "nanosleep")
    return builder.call(function, [timespec, INT64(0)])


@lowers_to(types.void(types.int64), _emit_sleep)
def sleep_ns(duration_ns: int) -> None:
    """Sleep in the kernel for about ``duration_ns`` (the kernel adds some 50 microseconds of its own)."""
    time.sleep(duration_ns / 1e9)


def _emit_clock(clock: int) -> Emit:
    def emit(builder: Any) -> Any:
        timespec = cgutils.alloca_once(builder, _TIMESPEC)
        function_type = ir.FunctionType(INT32, [INT32, _TIMESPEC.as_pointer()])
        function = cgutils.get_or_insert_function(builder.module, function_type, "clock_gettime")
        builder.call(function, [INT32(clock), timespec])
        value = builder.load(timespec, typ=_TIMESPEC)
        seconds_ns = builder.mul(builder.extract_value(value, 0), INT64(1_000_000_000))
        return builder.add(seconds_ns, builder.extract_value(value, 1))

    return emit


@lowers_to(types.int64(), _emit_clock(time.CLOCK_MONOTONIC))
def monotonic_ns() -> int:
    """CLOCK_MONOTONIC in nanoseconds, the same clock as :func:`time.monotonic_ns`; no kernel entry (vDSO)."""
    return time.monotonic_ns()


@lowers_to(types.int64(), _emit_clock(time.CLOCK_BOOTTIME))
def boottime_ns() -> int:
    """CLOCK_BOOTTIME in nanoseconds: the monotonic clock, which also goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@lowers_to(types.int64(), _emit_clock(time.CLOCK_THREAD_CPUTIME_ID))
def thread_cpu_ns() -> int:
    """How long this thread has had a core, in nanoseconds, as :func:`time.thread_time_ns`; enters the kernel."""
    return time.thread_time_ns()


def _emit_system_call(builder: Any, *operands: Any) -> Any:
    function_type = ir.FunctionType(INT64, [INT64] * 7)
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, "syscall"), operands)


@lowers_to(types.int64(*[types.int64] * 7), _emit_system_call)
def system_call(number: int, a: int, b: int, c: int, d: int, e: int, f: int) -> int:
    """Enter the kernel: ``syscall(number, a, b, c, d, e, f)``; unused arguments are 0. Returns -1 on failure."""
    _libc.syscall.restype = ctypes.c_long
    return int(_libc.syscall(*(ctypes.c_long(word) for word in (number, a, b, c, d, e, f))))


def initialise_mutex(address: int) -> None:
    """Make the :data:`MUTEX_BYTES` at ``address`` an unlocked mutex that also works between processes."""
    attributes = ctypes.create_string_buffer(64)
    _libc.pthread_mutexattr_init(attributes)
    _libc.pthread_mutexattr_setpshared(attributes, _PTHREAD_PROCESS_SHARED)
    if _libc.pthread_mutex_init(ctypes.c_void_p(address), attributes) != 0:
        raise OSError(ctypes.get_errno(), "pthread_mutex_init")
    _libc.pthread_mutexattr_destroy(attributes)
