"""Every instruction that numba was taught does the same compiled as its Python twin does interpreted."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from exchange import native
from exchange.native import Arena, view_bytes
from exchange.native.processor import IS_X86_64

int64 = st.integers(-(1 << 63), (1 << 63) - 1)
few = settings(max_examples=60, deadline=None)

ARENA = Arena.private(1 << 16, huge_pages="never")
BLOCK = ARENA.allocate(4096)

BY_ARITY: dict[int, Callable[[Any], Any]] = {
    0: lambda f: lambda: f(),
    1: lambda f: lambda a: f(a),
    2: lambda f: lambda a, b: f(a, b),
    3: lambda f: lambda a, b, c: f(a, b, c),
}
_compiled: dict[str, Any] = {}


def compiled(name: str, arity: int) -> Any:
    """A compiled function that does nothing but call ``exchange.native.NAME``."""
    if name not in _compiled:
        _compiled[name] = njit(nogil=True)(BY_ARITY[arity](getattr(native, name)))
    return _compiled[name]


@pytest.mark.parametrize(
    ("load", "store", "bits"),
    [
        ("load_int64", "store_int64", 64),
        ("load_uint32", "store_uint32", 32),
        ("load_uint16", "store_uint16", 16),
        ("load_uint8", "store_uint8", 8),
        ("load_relaxed", "store_relaxed", 64),
        ("load_acquire", "store_release", 64),
    ],
)
@few
@given(value=int64, place=st.integers(0, 63))
def test_loads_and_stores(load: str, store: str, bits: int, value: int, place: int) -> None:
    """What either stores, both load; narrow ones keep the low bits, unsigned, and touch no other byte."""
    address = BLOCK + 8 + place * (bits // 8)
    size_bytes = bits // 8
    loads = [getattr(native, load), compiled(load, 1)]
    for write in (getattr(native, store), compiled(store, 2)):
        view_bytes(BLOCK, 1024)[:] = b"\xa5" * 1024
        write(address, value)
        expected = value if bits == 64 else value & (1 << bits) - 1
        assert [read(address) for read in loads] == [expected, expected]
        around = bytes(view_bytes(address - 8, size_bytes + 16))
        assert (around[:8], around[-8:]) == (b"\xa5" * 8, b"\xa5" * 8)


@pytest.mark.parametrize(("kind", "bits"), [("uint16", 16), ("uint32", 32), ("uint48", 48), ("int64", 64)])
@few
@given(value=int64, place=st.integers(0, 63))
def test_big_endian_loads_and_stores(kind: str, bits: int, value: int, place: int) -> None:
    """The most significant byte lies first, at any address; no other byte is touched."""
    address, size_bytes = BLOCK + 8 + place, bits // 8
    loads = [getattr(native, f"load_big_endian_{kind}"), compiled(f"load_big_endian_{kind}", 1)]
    for store in (getattr(native, f"store_big_endian_{kind}"), compiled(f"store_big_endian_{kind}", 2)):
        view_bytes(BLOCK, 128)[:] = b"\xa5" * 128
        store(address, value)
        low = value & (1 << bits) - 1
        around = bytes(view_bytes(address - 8, size_bytes + 16))
        assert around == b"\xa5" * 8 + low.to_bytes(size_bytes, "big") + b"\xa5" * 8
        assert [read(address) for read in loads] == [value if bits == 64 else low] * 2


@few
@given(content=st.binary(min_size=64, max_size=64))
def test_copy_record_copies_64_bytes_and_no_more(content: bytes) -> None:
    for copy in (native.copy_record, compiled("copy_record", 2)):
        view_bytes(BLOCK, 512)[:] = b"\x11" * 512
        view_bytes(BLOCK + 320, 64)[:] = content
        copy(BLOCK + 64, BLOCK + 320)
        assert bytes(view_bytes(BLOCK, 192)) == b"\x11" * 64 + content + b"\x11" * 64


@pytest.mark.parametrize("name", ["add_wrapping", "multiply_wrapping"])
@few
@given(left=int64, right=int64)
def test_wrapping_arithmetic(name: str, left: int, right: int) -> None:
    exact = left + right if name == "add_wrapping" else left * right
    expected = (exact + (1 << 63)) % (1 << 64) - (1 << 63)
    assert getattr(native, name)(left, right) == compiled(name, 2)(left, right) == expected


@few
@given(value=int64, count=st.integers(0, 63))
def test_shifts(value: int, count: int) -> None:
    pattern = value & (1 << 64) - 1
    for name, exact in (("shift_right_logical", pattern >> count), ("shift_left_wrapping", pattern << count)):
        expected = (exact + (1 << 63)) % (1 << 64) - (1 << 63)
        assert getattr(native, name)(value, count) == compiled(name, 2)(value, count) == expected


@few
@given(
    value=st.one_of(
        int64, st.integers(0, 63).map(lambda bit: (1 << bit) - (1 << 64) * (bit == 63)), st.just(0)
    )
)
def test_bit_counts(value: int) -> None:
    digits = f"{value & (1 << 64) - 1:064b}"
    leading, trailing = len(digits) - len(digits.lstrip("0")), len(digits) - len(digits.rstrip("0"))
    assert native.count_leading_zeros(value) == compiled("count_leading_zeros", 1)(value) == leading
    assert native.count_trailing_zeros(value) == compiled("count_trailing_zeros", 1)(value) == trailing


@pytest.mark.parametrize("condition", [True, False])
def test_expectations_change_nothing(condition: bool) -> None:
    for name in ("likely", "unlikely"):
        assert getattr(native, name)(condition) is compiled(name, 1)(condition) is condition


@pytest.mark.parametrize("condition", [True, False])
@few
@given(if_true=int64, if_false=int64)
def test_a_choice_is_one_of_two_words(condition: bool, if_true: int, if_false: int) -> None:
    chosen = if_true if condition else if_false
    assert native.choose(condition, if_true, if_false) == chosen
    assert compiled("choose", 3)(condition, if_true, if_false) == chosen


@pytest.mark.skipif(not IS_X86_64, reason="the conditional move has another name here")
@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled")
def test_a_choice_is_compiled_without_a_branch() -> None:
    """Around a store of what stands there already, an ordinary expression becomes a branch."""

    @njit("void(int64, int64)")
    def store_chosen(address: int, key: int) -> None:
        word = native.load_int64(address)
        native.store_int64(address, native.choose(key == word, native.load_int64(address + 8), word))

    (assembly,) = store_chosen.inspect_asm().values()
    assert "cmov" in assembly


def test_hints_change_nothing_even_for_addresses_that_do_not_exist() -> None:
    view_bytes(BLOCK, 64)[:] = bytes(range(64))
    for name in ("prefetch_for_read", "prefetch_for_write"):
        for address in (BLOCK, 0, -1):
            getattr(native, name)(address)
            compiled(name, 1)(address)
    native.pause()
    compiled("pause", 0)()
    assert bytes(view_bytes(BLOCK, 64)) == bytes(range(64))


@few
@given(before=int64, operand=int64)
def test_read_modify_write(before: int, operand: int) -> None:
    total = (before + operand + (1 << 63)) % (1 << 64) - (1 << 63)
    for name, after in (("fetch_add", total), ("exchange_word", operand)):
        for update in (getattr(native, name), compiled(name, 2)):
            native.store_int64(BLOCK, before)
            assert update(BLOCK, operand) == before
            assert native.load_int64(BLOCK) == after


@few
@given(before=int64, expected=int64, desired=int64, agree=st.booleans())
def test_compare_exchange(before: int, expected: int, desired: int, agree: bool) -> None:
    expected = before if agree else expected
    for swap in (native.compare_exchange, compiled("compare_exchange", 3)):
        native.store_int64(BLOCK, before)
        assert swap(BLOCK, expected, desired) is (before == expected)
        assert native.load_int64(BLOCK) == (desired if before == expected else before)


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_the_clocks_never_run_backwards_and_three_are_pythons() -> None:
    pythons = {
        "monotonic_ns": time.monotonic_ns,
        "boottime_ns": _boottime_ns,
        "thread_cpu_ns": time.thread_time_ns,
    }
    for name, python in pythons.items():
        for now in (getattr(native, name), compiled(name, 0)):
            readings = [python(), now(), python(), now(), python()]
            assert readings == sorted(readings)
    for now in (native.cycle_counter, compiled("cycle_counter", 0)):
        readings = [now() for _ in range(100)]
        assert readings == sorted(readings)
        assert readings[-1] > readings[0]


@pytest.mark.parametrize("duration_ns", [0, 1, 2_000_000])
def test_sleep_lasts_at_least_as_long_as_asked(duration_ns: int) -> None:
    for sleep in (native.sleep_ns, compiled("sleep_ns", 1)):
        before_ns = time.monotonic_ns()
        sleep(duration_ns)
        assert time.monotonic_ns() - before_ns >= duration_ns


def test_system_calls_by_number() -> None:
    getpid = {"x86_64": 39, "aarch64": 172}.get(os.uname().machine)
    if getpid is None:
        pytest.skip(f"the number of getpid is not known on {os.uname().machine}")
    call = njit(lambda number: native.system_call(number, 0, 0, 0, 0, 0, 0))
    assert native.system_call(getpid, 0, 0, 0, 0, 0, 0) == call(getpid) == os.getpid()
    assert native.system_call(-1, 0, 0, 0, 0, 0, 0) == call(-1) == -1
    assert native.yield_core() == compiled("yield_core", 0)() == 0


@pytest.mark.parametrize("form", ["interpreted", "compiled"])
def test_a_mutex_lets_one_in_at_a_time(form: str) -> None:
    mutex = ARENA.allocate(native.MUTEX_BYTES)
    native.initialise_mutex(mutex)
    lock, unlock = (
        (native.mutex_lock, native.mutex_unlock)
        if form == "interpreted"
        else (compiled("mutex_lock", 1), compiled("mutex_unlock", 1))
    )
    native.store_int64(BLOCK, 0)

    def count_up() -> None:
        for _ in range(300):
            assert lock(mutex) == 0
            before = native.load_int64(BLOCK)
            time.sleep(0)  # invites the others into the gap between reading and writing
            native.store_int64(BLOCK, before + 1)
            assert unlock(mutex) == 0

    threads = [threading.Thread(target=count_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert native.load_int64(BLOCK) == 900


def test_address_of_is_where_the_first_byte_lies() -> None:
    import numpy as np

    array = np.arange(4, dtype=np.int64)
    assert [native.load_int64(native.address_of(array) + 8 * index) for index in range(4)] == [0, 1, 2, 3]


@few
@given(st.integers(0, 2000), st.integers(0, 8), st.integers(0, 8))
def test_bytes_are_copied_from_anywhere_to_anywhere(size_bytes: int, to: int, start: int) -> None:
    """In both ways, and not one byte more."""
    pattern = (bytes(range(256)) * 8)[: size_bytes + 8]
    source, target = BLOCK, BLOCK + 2048
    for copy in (compiled("copy_bytes", 3), native.copy_bytes):
        view_bytes(source, len(pattern))[:] = pattern
        view_bytes(target, 2048)[:] = bytes(2048)
        copy(target + to, source + start, size_bytes)
        copied = bytes(view_bytes(target, 2048))
        assert copied == (bytes(to) + pattern[start : start + size_bytes]).ljust(2048, b"\0")
