"""CRC32C, eight bytes at a time: what tells a record that was written from one that only looks like it.

The polynomial is Castagnoli's (0x1EDC6F41, mirrored), as in iSCSI (RFC 3720, appendix B.4), ext4 and most journals,
because processors have an instruction for it: three cycles for eight bytes on x86-64 with SSE 4.2, as much on ARM with
the CRC extension. Where there is none, the same step is eight look-ups in a table that is compiled in.

A step has to wait for the one before it: three cycles in which the processor could have begun two others. So a long run
of bytes is cut into *lanes* that are taken side by side and put together afterwards. That works because a CRC is
linear: what a lane's checksum becomes while the lanes behind it pass by is what zeros would make of it, which is a
look-up in a second table.

Rules:

* :func:`crc32c` takes a multiple of 8 bytes, at an address that is a multiple of 8. What has another length
  goes through :func:`crc32c_of`, which is for whole files and sections and not for a hot path.
* A checksum continues: ``crc32c(crc32c(0, a, n), a + n, m) == crc32c(0, a, n + m)``.
* A checksum is an int of 32 bits, never negative.

Sources: the check value, 0xE3069283 for the nine bytes ``123456789``; the lanes, Gopal et al., "Fast CRC Computation
for iSCSI Polynomial Using CRC32 Instruction" (Intel, 2011)."""

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
from exchange.native.raw_memory import copy_record, load_int64

_POLYNOMIAL: Final = 0x82F63B78
_ALL_ONES: Final = 0xFFFFFFFF
_MASK_64: Final = (1 << 64) - 1


def _byte_step(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value


TABLE: Final = tuple(_byte_step(byte) for byte in range(256))
"""What one byte does to a checksum of zero: the table of every software CRC."""

LANE_BYTES: Final = 256
LANES: Final = 3
"""As many as there are cycles in a step. Longer lanes would be put together less often, and fewer frames would have
three of them."""
_BLOCK_BYTES: Final = LANES * LANE_BYTES
_LANE_WORDS: Final = LANE_BYTES // 8


def _behind_zeros(value: int) -> int:
    for _ in range(LANE_BYTES):
        value = (value >> 8) ^ TABLE[value & 0xFF]
    return value


def _lane_table() -> tuple[int, ...]:
    bits = [_behind_zeros(1 << bit) for bit in range(32)]
    values = []
    for place in range(4):
        for byte in range(256):
            value = 0
            for bit in range(8):
                value ^= bits[place * 8 + bit] if byte >> bit & 1 else 0
            values.append(value)
    return tuple(values)


LANE_TABLE: Final = _lane_table()
"""What a lane of zeros makes of a checksum: 256 values for each of its four bytes, to be combined by XOR."""


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


def _emit_look_up(builder: Any, name: str, values: tuple[int, ...], index: Any) -> Any:
    """One of ``values``, which become a constant of the compiled module."""
    kind = ir.ArrayType(INT32, len(values))
    table = builder.module.globals.get(name)
    if table is None:
        table = ir.GlobalVariable(builder.module, kind, name)
        table.initializer = ir.Constant(kind, [INT32(value) for value in values])
        table.global_constant, table.linkage = True, "internal"
    place = builder.gep(table, [INT64(0), index], source_etype=kind)
    return builder.zext(builder.load(place, typ=INT32), INT64)


def emit_by_table(builder: Any, checksum: Any, word: Any) -> Any:
    """One step with look-ups: the same for every processor."""
    rest = builder.xor(word, checksum)
    for _ in range(8):
        found = _emit_look_up(builder, "exchange.crc32c.table", TABLE, builder.and_(rest, INT64(0xFF)))
        rest = builder.xor(builder.lshr(rest, INT64(8)), found)
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


def _emit_skip_lane(builder: Any, checksum: Any) -> Any:
    skipped = INT64(0)
    for place in range(4):
        byte = builder.and_(builder.lshr(checksum, INT64(8 * place)), INT64(0xFF))
        index = builder.add(byte, INT64(256 * place))
        skipped = builder.xor(skipped, _emit_look_up(builder, "exchange.crc32c.lane", LANE_TABLE, index))
    return skipped


@lowers_to(types.int64(types.int64), _emit_skip_lane)
def skip_lane(checksum: int) -> int:
    """What :data:`LANE_BYTES` zeros make of a checksum that has not been inverted."""
    return (
        LANE_TABLE[checksum & 0xFF]
        ^ LANE_TABLE[256 + (checksum >> 8 & 0xFF)]
        ^ LANE_TABLE[512 + (checksum >> 16 & 0xFF)]
        ^ LANE_TABLE[768 + (checksum >> 24)]
    )


@inlined
def crc32c_words(checksum: int, address: int, size_bytes: int) -> int:
    """Take ``size_bytes`` bytes (a multiple of 8) into a checksum that has not been inverted."""
    end = address + size_bytes
    while address + _BLOCK_BYTES <= end:
        second, third = 0, 0
        for index in range(_LANE_WORDS):
            word = address + (index << 3)
            checksum = crc32c_step(checksum, load_int64(word))
            second = crc32c_step(second, load_int64(word + LANE_BYTES))
            third = crc32c_step(third, load_int64(word + 2 * LANE_BYTES))
        checksum = skip_lane(skip_lane(checksum) ^ second) ^ third
        address += _BLOCK_BYTES
    while address < end:
        checksum = crc32c_step(checksum, load_int64(address))
        address += 8
    return checksum


@inlined
def copy_with_crc32c(targets: tuple[int, ...], source: int, size_bytes: int, checksum: int) -> int:
    """Copy ``size_bytes`` bytes (a multiple of 64) to each target and take them into a checksum that has not been
    inverted.

    The same as copies and :func:`crc32c_words`, in one pass: the copies wait for memory and the checksum for its own
    steps, and neither for the other.
    """
    done = 0
    while done + _BLOCK_BYTES <= size_bytes:
        second, third = 0, 0
        for offset in range(done, done + LANE_BYTES, 64):
            for lane in range(offset, offset + _BLOCK_BYTES, LANE_BYTES):
                for target in targets:
                    copy_record(target + lane, source + lane)
            for word in range(source + offset, source + offset + 64, 8):
                checksum = crc32c_step(checksum, load_int64(word))
                second = crc32c_step(second, load_int64(word + LANE_BYTES))
                third = crc32c_step(third, load_int64(word + 2 * LANE_BYTES))
        checksum = skip_lane(skip_lane(checksum) ^ second) ^ third
        done += _BLOCK_BYTES
    for record in range(done, size_bytes, 64):
        for target in targets:
            copy_record(target + record, source + record)
        for word in range(source + record, source + record + 64, 8):
            checksum = crc32c_step(checksum, load_int64(word))
    return checksum


@inlined
def crc32c(seed: int, address: int, size_bytes: int) -> int:
    """The checksum of ``size_bytes`` bytes (a multiple of 8) behind what ``seed`` is the checksum of; 0 for
    nothing."""
    return crc32c_words(seed ^ _ALL_ONES, address, size_bytes) ^ _ALL_ONES


@kernel
def _checksum_of(seed: int, address: int, size_bytes: int) -> int:
    return crc32c(seed, address, size_bytes)


def crc32c_of(content: bytes | bytearray | memoryview, seed: int = 0) -> int:
    """The checksum of bytes of any length, from Python; the last seven at most are taken one by one."""
    whole = len(content) & -8
    # A copy, because the bytes may lie anywhere.
    words = np.frombuffer(content[:whole], np.int64).copy()
    checksum = int(_checksum_of(seed, words.ctypes.data, whole)) ^ _ALL_ONES
    for byte in bytes(content[whole:]):
        checksum = (checksum >> 8) ^ TABLE[(checksum ^ byte) & 0xFF]
    return checksum ^ _ALL_ONES
