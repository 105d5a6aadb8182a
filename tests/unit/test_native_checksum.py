"""CRC32C: published values, the instruction, the table, and the plain twin say the same."""

import os
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit, types

from exchange.native import copy_with_crc32c, crc32c, crc32c_of, crc32c_step, kernel
from exchange.native.checksum import INSTRUCTION, LANE_BYTES, TABLE, emit_by_table, skip_lane
from exchange.native.lowering import lowers_to

few = settings(max_examples=100, deadline=None)


def by_definition(content: bytes, seed: int = 0) -> int:
    """Bit by bit, as RFC 3720 says."""
    value = seed ^ 0xFFFFFFFF
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("content", "checksum"),
    [
        (b"123456789", 0xE3069283),
        (b"", 0),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values(content: bytes, checksum: int) -> None:
    """The check value of the polynomial, and the examples of RFC 3720, appendix B.4."""
    assert crc32c_of(content) == by_definition(content) == checksum


@few
@given(content=st.binary(max_size=200), seed=st.integers(0, 0xFFFFFFFF), cut=st.integers(0, 200))
def test_any_length_and_in_pieces(content: bytes, seed: int, cut: int) -> None:
    assert crc32c_of(content, seed) == by_definition(content, seed)
    assert crc32c_of(content[cut:], crc32c_of(content[:cut], seed)) == crc32c_of(content, seed)
    assert crc32c_of(memoryview(content)) == crc32c_of(bytearray(content))


@few
@given(words=st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=20), seed=st.integers(0, 0xFFFFFFFF))
def test_compiled_and_plain(words: list[int], seed: int) -> None:
    rows = np.array(words, np.int64)
    plain = getattr(crc32c, "py_func", crc32c)
    expected = by_definition(struct.pack(f"<{len(words)}q", *words), seed)
    assert crc32c(seed, rows.ctypes.data, rows.nbytes) == expected
    assert plain(seed, rows.ctypes.data, rows.nbytes) == expected


@pytest.mark.parametrize("lanes", [0, 1, 2, 3, 4, 6, 7, 9])
@pytest.mark.parametrize("beyond_bytes", [-8, 0, 8, 248])
def test_lanes_come_to_what_steps_come_to(lanes: int, beyond_bytes: int) -> None:
    size_bytes = max(lanes * LANE_BYTES + beyond_bytes, 0)
    rows = np.random.default_rng(size_bytes).integers(-(1 << 63), (1 << 63) - 1, size_bytes // 8)
    expected = by_definition(rows.tobytes(), 0x1234_5678)
    plain = getattr(crc32c, "py_func", crc32c)
    assert crc32c(0x1234_5678, rows.ctypes.data, rows.nbytes) == expected
    assert plain(0x1234_5678, rows.ctypes.data, rows.nbytes) == expected


@kernel
def copied_checksum(target: int, source: int, size_bytes: int) -> int:
    return copy_with_crc32c((target,), source, size_bytes, 0x1234_5678)


@kernel
def twice_copied_checksum(target: int, source: int, size_bytes: int) -> int:
    """Copies the second time behind the first, and eight bytes more."""
    return copy_with_crc32c((target, target + size_bytes + 8), source, size_bytes, 0x1234_5678)


@pytest.mark.parametrize("records", [0, 1, 11, 12, 13, 24, 100])
@pytest.mark.parametrize(("copies", "function"), [(1, copied_checksum), (2, twice_copied_checksum)])
def test_copies_come_with_their_checksum(records: int, copies: int, function: Any) -> None:
    rows = np.random.default_rng(records).integers(-(1 << 63), (1 << 63) - 1, 8 * records)
    expected = by_definition(rows.tobytes(), 0x1234_5678 ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    for body in (function, getattr(function, "py_func", function)):
        targets = np.full((2, 8 * records + 1), 7, np.int64)
        assert body(targets.ctypes.data, rows.ctypes.data, rows.nbytes) == expected
        assert targets[:copies, :-1].tolist() == [rows.tolist()] * copies
        assert (targets[copies:] == 7).all()
        assert targets[:, -1].tolist() == [7, 7]


@given(checksum=st.integers(0, 0xFFFFFFFF))
def test_a_skipped_lane_is_one_of_zeros(checksum: int) -> None:
    expected = checksum
    for _ in range(LANE_BYTES // 8):
        expected = crc32c_step(expected, 0)
    assert skip_lane(checksum) == expected


def step_by_table(checksum: int, word: int) -> int:
    """The step as a processor without the instruction does it."""
    return crc32c_step(checksum, word)


lowers_to(types.int64(types.int64, types.int64), emit_by_table)(step_by_table)


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled")
def test_the_table_that_stands_in_for_the_instruction() -> None:
    compiled = njit(lambda checksum, word: step_by_table(checksum, word) + step_by_table(word & 0xFF, 1))
    for word in (0, 1, -1, 0x0123_4567_89AB_CDEF, -0x0123_4567_89AB_CDEF):
        for checksum in (0, 1, 0xFFFFFFFF, 0x8000_0000):
            assert compiled(checksum, word) == crc32c_step(checksum, word) + crc32c_step(word & 0xFF, 1)
    assert len(TABLE) == 256


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled")
@pytest.mark.skipif(INSTRUCTION is None, reason="this processor has no instruction for it")
def test_the_instruction_is_used() -> None:
    function = njit("int64(int64, int64)")(lambda checksum, word: crc32c_step(checksum, word))
    assert "crc32" in "".join(function.inspect_asm().values())
