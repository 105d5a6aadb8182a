"""What every stack promises, on both variants; and the pool of buffers that stands on them."""

import multiprocessing
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.native import (
    Arena,
    kernel,
    load_int64,
    load_relaxed,
    pause,
    store_int64,
    store_relaxed,
    yield_core,
)
from exchange.stacks import LockedStackConfig, StackConfig, TreiberStackConfig, build_stack, stack_size_bytes
from exchange.stacks.buffer_pool import EXHAUSTED, BufferPool, acquire, release
from exchange.stacks.protocol import NOTHING, pop, push
from exchange.stacks.stack_memory import TOP

CONFIGS: dict[str, StackConfig] = {"treiber": TreiberStackConfig(), "locked": LockedStackConfig()}

every_variant = pytest.mark.parametrize("variant", CONFIGS)


@every_variant
def test_an_empty_stack_yields_nothing(variant: str) -> None:
    owner = build_stack(CONFIGS[variant], 4)
    stack = owner.handle()
    assert [pop(stack), pop(stack)] == [NOTHING, NOTHING]


@every_variant
def test_a_filled_stack_yields_every_index_once_and_then_nothing(variant: str) -> None:
    owner = build_stack(CONFIGS[variant], 5, filled=True)
    stack = owner.handle()
    assert [pop(stack) for _ in range(6)] == [0, 1, 2, 3, 4, NOTHING]


@every_variant
def test_last_in_is_first_out(variant: str) -> None:
    owner = build_stack(CONFIGS[variant], 4)
    stack = owner.handle()
    for index in (2, 0, 3):
        push(stack, index)
    assert [pop(stack) for _ in range(4)] == [3, 0, 2, NOTHING]


@every_variant
@settings(max_examples=60, deadline=None)
@given(capacity=st.integers(1, 6), steps=st.lists(st.integers(-1, 5), max_size=40))
def test_it_behaves_as_a_list(variant: str, capacity: int, steps: list[int]) -> None:
    """A step of -1 pops; another step pushes that one of the indices that are out."""
    owner = build_stack(CONFIGS[variant], capacity, filled=True)
    stack = owner.handle()
    model, out = list(reversed(range(capacity))), []
    for step in steps:
        if step < 0:
            expected = model.pop() if model else NOTHING
            assert pop(stack) == expected
            out += [expected] if expected != NOTHING else []
        elif out:
            index = out.pop(step % len(out))
            push(stack, index)
            model.append(index)
    assert [pop(stack) for _ in range(capacity + 1)] == [
        *reversed(model),
        *[NOTHING] * (capacity + 1 - len(model)),
    ]


def test_the_tag_tells_a_top_that_left_and_came_back() -> None:
    """ABA: after pop, pop, push the same index is on top again, but the word that a swap compares is another."""
    owner: Any = build_stack(TreiberStackConfig(), 4, filled=True)
    stack = owner.handle()
    before = load_int64(owner.base + TOP)
    first, second = pop(stack), pop(stack)
    push(stack, first)
    after = load_int64(owner.base + TOP)
    assert (before & 0xFFFF_FFFF) == (after & 0xFFFF_FFFF)
    assert before != after
    assert second not in [pop(stack) for _ in range(4)]


def test_the_tag_may_wrap_round() -> None:
    owner: Any = build_stack(TreiberStackConfig(), 2, filled=True)
    store_int64(owner.base + TOP, (-1 << 32) | load_int64(owner.base + TOP))  # the last tag there is
    stack = owner.handle()
    assert [pop(stack), pop(stack), pop(stack)] == [0, 1, NOTHING]
    push(stack, 1)
    assert load_int64(owner.base + TOP) == (2 << 32) | 2
    assert pop(stack) == 1


@every_variant
@pytest.mark.parametrize("capacity", [0, -1, (1 << 24) + 1])
def test_a_capacity_out_of_range_is_refused(variant: str, capacity: int) -> None:
    with pytest.raises(UserError, match=f"stack '{variant}': capacity = {capacity}: must be 1 to 16777216"):
        build_stack(CONFIGS[variant], capacity)


@every_variant
def test_two_owners_of_the_same_memory_are_the_same_stack(variant: str, shared_name: str) -> None:
    config = CONFIGS[variant]
    ours = Arena.create_shared(shared_name, stack_size_bytes(config, 3) + 4096)
    theirs = Arena.attach_shared(shared_name)
    first = build_stack(config, 3, filled=True, arena=ours).handle()
    second = build_stack(config, 3, filled=True, arena=theirs).handle()
    assert [pop(first), pop(second), pop(first), pop(second)] == [0, 1, 2, NOTHING]
    push(first, 1)
    assert pop(second) == 1
    with pytest.raises(UserError, match="shared stack: its capacity is 3, but 2 was asked for"):
        build_stack(config, 2, filled=True, arena=Arena.attach_shared(shared_name))


@every_variant
def test_a_pool_gives_out_every_buffer_once_and_then_says_that_it_is_exhausted(variant: str) -> None:
    pool = BufferPool(3, 256, CONFIGS[variant])
    handle = pool.handle()
    buffers = [acquire(handle) for _ in range(4)]
    assert buffers[3] == EXHAUSTED
    assert sorted(buffers[:3]) == [pool.first_buffer + 256 * index for index in range(3)]
    assert all(buffer % 64 == 0 for buffer in buffers)
    release(handle, buffers[1])
    assert [acquire(handle), acquire(handle)] == [buffers[1], EXHAUSTED]


@pytest.mark.parametrize("buffer_bytes", [0, 32, 100, 1 << 21])
def test_a_buffer_size_out_of_range_is_refused(buffer_bytes: int) -> None:
    with pytest.raises(
        UserError, match=f"buffer_bytes = {buffer_bytes}: must be a power of two, 64 to 1048576"
    ):
        BufferPool(4, buffer_bytes)


@kernel
def use_buffers(pool: Any, count: int, owner: int, held_address: int, held_max: int) -> int:
    """Acquire up to ``held_max`` buffers, mark them all, check the marks, release them; ``count`` times.

    Returns how often a buffer turned out to have another owner.
    """
    shared = 0
    for turn in range(count):
        held = 0
        for _ in range(1 + turn % held_max):
            buffer = acquire(pool)
            if buffer == EXHAUSTED:
                break
            if load_relaxed(buffer) != 0:
                shared += 1
            store_relaxed(buffer, owner)
            store_int64(held_address + 8 * held, buffer)
            held += 1
        if held == 0:
            yield_core()
        for _ in range(turn & 7):
            pause()
        for index in range(held):
            buffer = load_int64(held_address + 8 * index)
            if load_relaxed(buffer) != owner:
                shared += 1
            store_relaxed(buffer, 0)
            release(pool, buffer)
    return shared


@pytest.mark.parametrize("buffers", [2, 5, 64])
@every_variant
def test_no_buffer_ever_has_two_owners(variant: str, buffers: int) -> None:
    """Four threads take one to three buffers at a time from pools that are often exhausted."""
    pool = BufferPool(buffers, 64, CONFIGS[variant])
    scratch = Arena.private(4096, huge_pages="never")
    results = [-1] * 4

    def work(index: int, held_address: int) -> None:
        results[index] = use_buffers(pool.handle(), 60_000, index + 1, held_address, 3)

    threads = [threading.Thread(target=work, args=(index, scratch.allocate(32))) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0] * 4
    left = [acquire(pool.handle()) for _ in range(buffers + 1)]
    assert len(set(left)) == buffers + 1
    assert left[-1] == EXHAUSTED


def _use_buffers_in_another_process(name: str, owner: int) -> None:
    pool = BufferPool(3, 64, arena=Arena.attach_shared(name))
    scratch = Arena.private(4096, huge_pages="never")
    # Addresses differ between processes, what is on the stack does not.
    raise SystemExit(use_buffers(pool.handle(), 100_000, owner, scratch.allocate(32), 2))


def test_processes_share_a_pool(shared_name: str) -> None:
    arena = Arena.create_shared(shared_name, BufferPool.size_bytes(3, 64) + 4096)
    pool = BufferPool(3, 64, arena=arena)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_use_buffers_in_another_process, args=(shared_name, 2))
    process.start()
    scratch = Arena.private(4096, huge_pages="never")
    shared = use_buffers(pool.handle(), 100_000, 1, scratch.allocate(32), 2)
    process.join()
    assert (shared, process.exitcode) == (0, 0)
    assert len({acquire(pool.handle()) for _ in range(4)} - {EXHAUSTED}) == 3
