"""What one pass has touched is there for the next one before it begins, and nothing else is."""

import numpy as np
import pytest

from exchange.bench.touched_memory import BLOCK_BYTES, TouchedMemory, present_blocks
from exchange.native import POPULATE_WRITE, Arena, load_int64, memory_advise, store_int64
from exchange.placement.memory_owners import Region, memory_of, regions

PART = "a book of a test"
BLOCKS = 16
USED = [0, 3, 11]


@pytest.fixture
def touched() -> TouchedMemory:
    return TouchedMemory()


def fresh(owner: str = "shard.0", blocks: int = BLOCKS) -> Arena:
    with memory_of(owner, PART):
        return Arena.private((blocks - 1) * BLOCK_BYTES + 1)


def blocks_of(arena: Arena) -> list[int]:
    (region,) = (one for one in regions() if one.address == arena.address)
    return np.flatnonzero(present_blocks(region)).tolist()


def use(arena: Arena) -> None:
    for block in USED:
        store_int64(arena.address + block * BLOCK_BYTES + 4096, block + 1)


def is_able() -> bool:
    """Whether this kernel can make pages present."""
    arena = fresh("probe", 1)
    return memory_advise(arena.address, BLOCK_BYTES, POPULATE_WRITE) == 0


needs_populate = pytest.mark.skipif(not is_able(), reason="the kernel is older than 5.14")


def test_nothing_is_present_that_nobody_has_written_to(touched: TouchedMemory) -> None:
    arena = fresh()
    assert blocks_of(arena) == []
    assert touched.make_ready() == 0
    assert blocks_of(arena) == []
    use(arena)
    assert blocks_of(arena) == USED


@needs_populate
def test_the_next_memory_alike_gets_what_the_last_one_had_touched(touched: TouchedMemory) -> None:
    first = fresh()
    use(first)
    touched.note()
    del first
    second, smaller, of_another = fresh(), fresh(blocks=BLOCKS - 1), fresh("shard.1")
    assert touched.make_ready() >= len(USED)
    assert blocks_of(second) == USED
    assert blocks_of(smaller) == blocks_of(of_another) == []
    assert [load_int64(second.address + block * BLOCK_BYTES + 4096) for block in USED] == [0, 0, 0]


@needs_populate
def test_what_stands_in_memory_stays(touched: TouchedMemory) -> None:
    arena = fresh()
    use(arena)
    touched.note()
    touched.make_ready()
    assert [load_int64(arena.address + block * BLOCK_BYTES + 4096) for block in USED] == [1, 4, 12]


@needs_populate
def test_of_several_passes_everything_counts(touched: TouchedMemory) -> None:
    for block in (2, 5):
        arena = fresh()
        store_int64(arena.address + block * BLOCK_BYTES, 1)
        touched.note()
        del arena
    last = fresh()
    touched.make_ready()
    assert blocks_of(last) == [2, 5]


def test_memory_that_is_gone_counts_as_absent() -> None:
    assert not present_blocks(Region("nobody", "gone", 4096, 3 * BLOCK_BYTES, ())).any()
