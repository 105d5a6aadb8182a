"""CRC32C, eight bytes at a time: what tells a record that was written from one that only looks like it.

The polynomial is Castagnoli's (0x1EDC6F41, mirrored), as in iSCSI (RFC 3720, appendix B.4), ext4 and most journals,
because processors have an instruction for it: three cycles for eight bytes on x86-64 with SSE 4.2, as much on ARM with
the CRC extension. Where there is none, the same step is eight look-ups in a table that is compiled in.

Rules:

* :func:`crc32c` takes a multiple of 8 bytes, at an address that is a multiple of 8. What has another length
  goes through :func:`crc32c_of`, which is for whole files and sections and not for a hot path.
* A checksum continues: ``crc32c(crc32c(0, a, n), a + n, m) == crc32c(0, a, n + m)``.
* A checksum is an int of 32 bits, never negative.

Source of the check value: 0xE3069283 for the nine bytes ``123456789``."""

import platform
from typing import Any, Final

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from exchange.native.cache import inlined, kernel
from exchange.native.lowering import INT32, INT64, lowers_to
from exchange.native.raw_memory import load_int64

_POLYNOMIAL: Final = 0x82F63B78
_ALL_ONES: Final = 0xFFFFFFFF
_MASK_64: Final = (1 << 64) - 1


def _byte_step(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value


TABLE: Final = tuple(_byte_step(byte) for byte in range(256))
"""What one byte does to a checksum of zero: the table of every software CRC."""


def _instruction() -> str | None:
    """The LLVM intrinsic for one step of eight bytes, if code is compiled for a processor that has the instruction."""
    features: dict[str, bool] = dict(llvmlite.binding.get_host_cpu_features())
    if numba.config.CPU_FEATURES is not None:
        listed = numba.config.CPU_FEATURES.split(",")
        features = {name[1:]: name.startswith("+") for name in listed if name}
    if platform.machine() in ("x86_64", "AMD64") and features.get("sse4.2"):
        return "llvm.x86.sse42.crc32.64.64"
    if platform.machine() in ("aarch64", "arm64") and features.get("crc"):
        return "llvm.aarch64.crc32cx"
    return None


INSTRUCTION: Final = _instruction()


def emit_by_instruction(builder: Any, checksum: Any, word: Any) -> Any:
    """One step with the processor's instruction."""
    assert INSTRUCTION is not None
    # x86 takes and returns the checksum in a register of 64 bits, ARM in one of 32.
    width = INT64 if INSTRUCTION.startswith("llvm.x86") else INT32
    before = checksum if width is INT64 else builder.trunc(checksum, INT32)
    function_type = ir.FunctionType(width, [width, INT64])
    step = cgutils.get_or_insert_function(builder.module, function_type, INSTRUCTION)
    after = builder.call(step, [before, word])
    return after if width is INT64 else builder.zext(after, INT64)


def emit_by_table(builder: Any, checksum: Any, word: Any) -> Any:
    """One step with look-ups: the same for every processor."""
    kind = ir.ArrayType(INT32, 256)
    name = "exchange.crc32c.table"
    table = builder.module.globals.get(name)
    if table is None:
        table = ir.GlobalVariable(builder.module, kind, name)
        table.initializer = ir.Constant(kind, [INT32(value) for value in TABLE])
        table.global_constant, table.linkage = True, "internal"
    rest = builder.xor(word, checksum)
    for _ in range(8):
        place = builder.gep(table, [INT64(0), builder.and_(rest, INT64(0xFF))], source_etype=kind)
        rest = builder.xor(builder.lshr(rest, INT64(8)), builder.zext(builder.load(place, typ=INT32), INT64))
    return rest


@lowers_to(
    types.int64(types.int64, types.int64), emit_by_table if INSTRUCTION is None else emit_by_instruction
)
def crc32c_step(checksum: int, word: int) -> int:
    """Take eight bytes, as one word, into a checksum that has not been inverted; the step of :func:`crc32c`."""
    rest = (word & _MASK_64) ^ checksum
    for _ in range(8):
        rest = (rest >> 8) ^ TABLE[rest & 0xFF]
    return rest


@inlined
def crc32c(seed: int, address: int, size_bytes: int) -> int:
    """The checksum of ``size_bytes`` bytes (a multiple of 8) behind what ``seed`` is the checksum of; 0 for
    nothing."""
    checksum = seed ^ _ALL_ONES
    for index in range(size_bytes >> 3):
        checksum = crc32c_step(checksum, load_int64(address + (index << 3)))
    return checksum ^ _ALL_ONES


@kernel
def _crc32c_words(seed: int, address: int, size_bytes: int) -> int:
    return crc32c(seed, address, size_bytes)


def crc32c_of(content: bytes | bytearray | memoryview, seed: int = 0) -> int:
    """The checksum of bytes of any length, from Python; the last seven at most are taken one by one."""
    whole = len(content) & -8
    # A copy, because the bytes may lie anywhere.
    words = np.frombuffer(content[:whole], np.int64).copy()
    checksum = int(_crc32c_words(seed, words.ctypes.data, whole)) ^ _ALL_ONES
    for byte in bytes(content[whole:]):
        checksum = (checksum >> 8) ^ TABLE[(checksum ^ byte) & 0xFF]
    return checksum ^ _ALL_ONES
