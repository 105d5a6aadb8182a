"""Rings that are shared with the kernel, with a test at the other end: their counters wrap, and have their orders."""

import numpy as np
import pytest

from exchange.afxdp.program import assemble
from exchange.afxdp.rings import (
    KernelRing,
    address_entry,
    consume,
    descriptor_entry,
    frame_bytes_at,
    move_addresses,
    needs_waking,
    produce,
    produced,
    unconsumed,
    write_descriptor,
)
from exchange.ethernet import Local
from exchange.native import Arena, kernel, load_int64, load_uint32, store_int64, store_uint32
from tests.unit.test_native_atomics import arm_instructions

SIZE = 8
BEFORE_IT_WRAPS = 0xFFFF_FFFE


@pytest.fixture
def ring() -> KernelRing:
    arena = Arena.private(1 << 16, huge_pages="never")
    producer, consumer, flags = (arena.allocate(4) for _ in range(3))
    found = KernelRing(producer, consumer, arena.allocate(SIZE * 16), SIZE - 1, flags)
    for counter in (producer, consumer):
        store_uint32(counter, BEFORE_IT_WRAPS)
    KEPT.append(arena)
    return found


KEPT: list[Arena] = []
"""The memory of rings, which know its addresses only."""


@kernel
def put(ring: KernelRing, begin: int, count: int) -> None:
    for index in range(count):
        store_int64(address_entry(ring, load_uint32(ring.producer) + index), begin + index)
    produce(ring, count)


@kernel
def take(ring: KernelRing, addresses: int, most: int) -> int:
    count = min(produced(ring), most)
    move_addresses(ring, addresses, count)
    return count


@kernel
def waiting(ring: KernelRing) -> tuple[int, int, bool]:
    return produced(ring), unconsumed(ring), needs_waking(ring)


def test_counters_wrap_and_entries_come_in_order(ring: KernelRing) -> None:
    taken = np.zeros(SIZE, np.int64)
    assert waiting(ring) == (0, 0, False)
    for begin in range(0, 10 * SIZE, SIZE):
        put(ring, begin, SIZE)
        assert waiting(ring) == (SIZE, SIZE, False)
        assert take(ring, taken.ctypes.data, 3) == 3
        assert taken[:3].tolist() == [begin, begin + 1, begin + 2]
        assert waiting(ring)[:2] == (SIZE - 3, SIZE - 3)
        assert take(ring, taken.ctypes.data, SIZE) == SIZE - 3
        assert taken[: SIZE - 3].tolist() == list(range(begin + 3, begin + SIZE))
    assert load_uint32(ring.producer) == (BEFORE_IT_WRAPS + 10 * SIZE) % 2**32


def test_a_kernel_that_sleeps_says_so(ring: KernelRing) -> None:
    store_uint32(ring.flags, 1)
    assert waiting(ring) == (0, 0, True)


def test_a_descriptor_is_written_whole(ring: KernelRing) -> None:
    entry = descriptor_entry(ring, BEFORE_IT_WRAPS + 3)
    assert entry == ring.entries + 16
    store_int64(entry + 8, -1)
    write_descriptor(entry, 4096, 60)
    assert (load_int64(entry), load_int64(entry + 8)) == (4096, 60), "no option is set"
    assert frame_bytes_at(entry) == 60


@kernel
def one_production(ring: KernelRing) -> None:
    produce(ring, 1)


@kernel
def one_look(ring: KernelRing) -> int:
    return produced(ring)


@kernel
def one_consumption(ring: KernelRing) -> None:
    consume(ring, 1)


def test_on_arm_counters_are_released_and_acquired(ring: KernelRing) -> None:
    for releasing in (one_production, one_consumption):
        instructions = arm_instructions(releasing, ring)
        assert instructions.count("stlr") == 1
    assert sum(arm_instructions(one_look, ring).count(name) for name in ("ldapr", "ldar")) == 1


def test_the_program_is_whole_instructions_and_knows_us() -> None:
    instructions = assemble(5, Local(0, 0xC000_0201, 9005, 1))
    assert len(instructions) % 8 == 0
    constants = np.frombuffer(instructions, np.uint32)[1::2].tolist()
    assert {0xC000_0201, 9005, 5, 0x0800, 0x0806, 17} <= set(constants)
    other = assemble(5, Local(0, 0xC000_0201, 9006, 1))
    assert other != instructions
