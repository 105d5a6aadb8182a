"""Single instructions that numba has no name for: hints to the processor, bit counts, the cycle counter.

None of them changes what a program computes; each changes when. The Python twins of the hints do nothing.
"""

import platform
import time
from typing import Any, Final

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils

from exchange.native.lowering import INT1, INT8, INT32, INT64, VOID, Emit, lowers_to, pointer

IS_X86_64: Final = platform.machine() in ("x86_64", "AMD64")

# Without an assembly parser LLVM aborts the whole process at the first inline assembly, and numba does not load it.
llvmlite.binding.initialize_native_asmparser()

_WORD = types.int64(types.int64)
_ADDRESS_HINT = types.void(types.int64)
_FLAG = types.boolean(types.boolean)
_TWO_WORDS = types.int64(types.int64, types.int64)
_MASK_64 = (1 << 64) - 1


def _call(builder: Any, name: str, result: Any, *operands: Any) -> Any:
    function_type = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), operands)


def _emit_pause(builder: Any) -> Any:
    if IS_X86_64:
        return _call(builder, "llvm.x86.sse2.pause", VOID)
    return builder.asm(ir.FunctionType(VOID, []), "yield", "~{memory}", [], True)


@lowers_to(types.void(), _emit_pause)
def pause() -> None:
    """Tell the core that this is a spin loop: it saves power, and leaves the loop without a pipeline flush."""


def _emit_prefetch(for_write: int) -> Emit:
    def emit(builder: Any, address: Any) -> Any:
        where = pointer(builder, address, INT8)
        return _call(builder, "llvm.prefetch.p0", VOID, where, INT32(for_write), INT32(3), INT32(1))

    return emit


@lowers_to(_ADDRESS_HINT, _emit_prefetch(0))
def prefetch_for_read(address: int) -> None:
    """Start to bring a cache line nearer; any address is allowed, a wrong one costs only the time."""


@lowers_to(_ADDRESS_HINT, _emit_prefetch(1))
def prefetch_for_write(address: int) -> None:
    """As :func:`prefetch_for_read`, and ask to own the line."""


def _emit_expect(expected: int) -> Emit:
    def emit(builder: Any, condition: Any) -> Any:
        return _call(builder, "llvm.expect.i1", INT1, condition, INT1(expected))

    return emit


@lowers_to(_FLAG, _emit_expect(1))
def likely(condition: bool) -> bool:
    """The condition, laid out by the compiler as if it usually holds."""
    return condition


@lowers_to(_FLAG, _emit_expect(0))
def unlikely(condition: bool) -> bool:
    """The condition, with its branch moved out of the hot path."""
    return condition


def _emit_choose(builder: Any, condition: Any, if_true: Any, if_false: Any) -> Any:
    chosen = builder.select(condition, if_true, if_false)
    chosen.set_metadata("unpredictable", builder.module.add_metadata([]))
    return chosen


@lowers_to(types.int64(types.boolean, types.int64, types.int64), _emit_choose)
def choose(condition: bool, if_true: int, if_false: int) -> int:
    """One of two words without a branch, for a condition that a processor would guess wrong too often.

    Written as an ordinary expression the compiler may turn the choice into a branch; here it is told not to.
    """
    return if_true if condition else if_false


def _emit_count_leading_zeros(builder: Any, value: Any) -> Any:
    return _call(builder, "llvm.ctlz.i64", INT64, value, INT1(0))


@lowers_to(_WORD, _emit_count_leading_zeros)
def count_leading_zeros(value: int) -> int:
    """How many of the 64 bits above the highest set bit are zero; 64 for zero."""
    return 64 - (value & _MASK_64).bit_length()


def _emit_count_trailing_zeros(builder: Any, value: Any) -> Any:
    return _call(builder, "llvm.cttz.i64", INT64, value, INT1(0))


@lowers_to(_WORD, _emit_count_trailing_zeros)
def count_trailing_zeros(value: int) -> int:
    """How many of the 64 bits below the lowest set bit are zero; 64 for zero."""
    bits = value & _MASK_64
    return (bits & -bits).bit_length() - 1 if bits else 64


def _emit_shift_right_logical(builder: Any, value: Any, count: Any) -> Any:
    return builder.lshr(value, count)


@lowers_to(_TWO_WORDS, _emit_shift_right_logical)
def shift_right_logical(value: int, count: int) -> int:
    """The 64-bit pattern moved right by 0 to 63 places, zeros coming in (``>>`` would bring in the sign)."""
    return _signed((value & _MASK_64) >> count)


def _emit_multiply_wrapping(builder: Any, left: Any, right: Any) -> Any:
    return builder.mul(left, right)


@lowers_to(_TWO_WORDS, _emit_multiply_wrapping)
def multiply_wrapping(left: int, right: int) -> int:
    """The low 64 bits of the product, as a signed word: the mixing step of every hash here."""
    return _signed(left * right)


def _emit_add_wrapping(builder: Any, left: Any, right: Any) -> Any:
    return builder.add(left, right)


@lowers_to(_TWO_WORDS, _emit_add_wrapping)
def add_wrapping(left: int, right: int) -> int:
    """The low 64 bits of the sum, as a signed word."""
    return _signed(left + right)


def _emit_shift_left_wrapping(builder: Any, value: Any, count: Any) -> Any:
    return builder.shl(value, count)


@lowers_to(_TWO_WORDS, _emit_shift_left_wrapping)
def shift_left_wrapping(value: int, count: int) -> int:
    """The 64-bit pattern moved left by 0 to 63 places, as a signed word."""
    return _signed(value << count)


def _signed(word: int) -> int:
    word &= _MASK_64
    return word - (1 << 64) if word >> 63 else word


def _emit_cycle_counter(builder: Any) -> Any:
    if IS_X86_64:
        text = "rdtsc\nshlq $$32, %rdx\norq %rdx, %rax"
        return builder.asm(ir.FunctionType(INT64, []), text, "={rax},~{rdx},~{cc},~{memory}", [], True)
    return builder.asm(ir.FunctionType(INT64, []), "mrs $0, cntvct_el0", "=r,~{memory}", [], True)


@lowers_to(types.int64(), _emit_cycle_counter)
def cycle_counter() -> int:
    """The processor's own clock: a few nanoseconds to read, constant rate on today's machines, no defined unit.

    Interpreted, it is the monotonic clock in nanoseconds.
    """
    return time.perf_counter_ns()
