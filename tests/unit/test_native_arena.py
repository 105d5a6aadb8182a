"""Arenas: alignment, freshness, sharing between attached mappings, and every way to be refused."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.native import Arena, HugePages, load_int64, store_int64, view_bytes
from exchange.native.block_header import HEADER_BYTES, take_header


@pytest.fixture
def shared_name() -> Iterator[str]:
    name = f"exchange-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    yield name
    Path("/dev/shm", name).unlink(missing_ok=True)


@pytest.mark.parametrize("huge_pages", ["never", "advise"])
def test_a_private_arena_is_aligned_zero_and_writable_to_its_end(huge_pages: HugePages) -> None:
    arena = Arena.private(3 << 20, huge_pages)
    assert arena.address % (2 << 20) == 0
    assert arena.capacity_bytes >= 3 << 20
    assert arena.name == ""
    last = arena.address + arena.capacity_bytes - 8
    assert (load_int64(arena.address), load_int64(last)) == (0, 0)
    store_int64(last, 7)
    assert load_int64(last) == 7


def test_an_empty_arena_is_allowed() -> None:
    assert Arena.private(0, "never").capacity_bytes >= 0


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(0, 5000), st.sampled_from([8, 64, 128, 4096])), max_size=20))
def test_allocations_are_aligned_disjoint_and_the_same_for_all_who_ask_alike(
    sizes: list[tuple[int, int]],
) -> None:
    arenas = [Arena.private(1 << 20, "never") for _ in range(2)]
    places = [[arena.allocate(*size) - arena.address for size in sizes] for arena in arenas]
    assert places[0] == places[1]
    end = 0
    for (size_bytes, alignment), offset in zip(sizes, places[0], strict=True):
        assert offset % alignment == 0
        assert offset >= end
        end = offset + size_bytes


def test_an_arena_that_is_too_small_says_by_how_much() -> None:
    arena = Arena.private(2 << 20, "never")
    arena.allocate(arena.capacity_bytes - 100)
    with pytest.raises(MemoryError, match=r"arena of \d+ bytes is \d+ bytes too short"):
        arena.allocate(200)


def test_touching_leaves_a_range_zero() -> None:
    arena = Arena.private(1 << 20, "never")
    address = arena.allocate(10_000)
    arena.touch(address, 10_000)
    assert bytes(view_bytes(address, 10_000)) == bytes(10_000)


def test_reserved_huge_pages_that_were_not_set_aside_are_refused_with_the_remedy() -> None:
    free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    pages = int(free.read_text()) + 64 if free.exists() else 64
    with pytest.raises(
        UserError, match=rf"needs {pages} free huge pages of 2 MiB; .*sysctl vm.nr_hugepages={pages}"
    ):
        Arena.private(pages * (2 << 20), "reserved")


def test_two_mappings_of_a_shared_arena_are_the_same_memory(shared_name: str) -> None:
    ours = Arena.create_shared(shared_name, 100_000)
    theirs = Arena.attach_shared(shared_name)
    assert ours.address != theirs.address
    assert theirs.capacity_bytes == 100_000
    here, there = ours.allocate(64), theirs.allocate(64)
    store_int64(here, 42)
    assert load_int64(there) == 42


def test_a_shared_arena_outlives_its_name(shared_name: str) -> None:
    ours = Arena.create_shared(shared_name, 4096)
    theirs = Arena.attach_shared(shared_name)
    ours.unlink()
    ours.unlink()  # a second time is no error: the other process may have been quicker
    assert not Path("/dev/shm", shared_name).exists()
    store_int64(ours.address, 5)
    assert load_int64(theirs.address) == 5


def test_a_shared_name_that_is_taken_missing_or_malformed_is_refused(shared_name: str) -> None:
    with pytest.raises(UserError, match=f"shared memory '{shared_name}' does not exist"):
        Arena.attach_shared(shared_name)
    arena = Arena.create_shared(shared_name, 4096)
    with pytest.raises(UserError, match=f"shared memory '{shared_name}' exists already"):
        Arena.create_shared(shared_name, 4096)
    arena.unlink()
    for name in ("", "a/b", "../etc", ".hidden"):
        with pytest.raises(UserError, match="use letters, digits"):
            Arena.create_shared(name, 4096)


def test_a_shared_arena_for_which_there_is_no_room_leaves_nothing_behind(shared_name: str) -> None:
    with pytest.raises(UserError, match="no room for"):
        Arena.create_shared(shared_name, 1 << 50)
    assert not Path("/dev/shm", shared_name).exists()


def test_a_header_is_written_once_and_compared_ever_after() -> None:
    arena = Arena.private(4096, "never")
    address = arena.allocate(HEADER_BYTES)
    assert take_header(address, "thing", {"variant": "small", "size": 4}) is True
    assert take_header(address, "thing", {"variant": "small", "size": 4}) is False
    with pytest.raises(UserError, match="shared thing: its size is 4, but 5 was asked for"):
        take_header(address, "thing", {"variant": "small", "size": 5})
    with pytest.raises(UserError, match="shared thing: its variant is 'small', but 'large' was asked for"):
        take_header(address, "thing", {"variant": "large", "size": 4})
    store_int64(address, 99)
    with pytest.raises(UserError, match="shared thing: the memory holds something else"):
        take_header(address, "thing", {"variant": "small", "size": 4})
