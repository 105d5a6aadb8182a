"""Atomics between threads that do run at the same time, and the instructions that the memory orders become.

x86 keeps nearly every order by itself, so a forgotten one would pass all tests that run here. Therefore the last
tests compile for ARM, which keeps none, and look for the instructions that do.
"""

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from exchange.latest_value.protocol import publish, try_read
from exchange.latest_value.seqlock import SeqlockValue
from exchange.native import (
    Arena,
    compare_exchange,
    exchange_word,
    fence_acquire,
    fence_release,
    fence_sequential,
    fetch_add,
    kernel,
    load_acquire,
    load_int64,
    load_relaxed,
    pause,
    store_int64,
    store_relaxed,
    store_release,
    yield_core,
)
from exchange.queues.disruptor import DisruptorQueue
from exchange.queues.mpsc import MpscQueue
from exchange.queues.protocol import poll_batch, try_push
from exchange.queues.spsc import SpscQueue
from exchange.stacks.protocol import pop, push
from exchange.stacks.treiber import TreiberStack

DISTANCE = 128


def together(*tasks: Callable[[], Any]) -> list[Any]:
    """Run the tasks in threads of their own; what they returned."""
    results: list[Any] = [None] * len(tasks)

    def run(index: int) -> None:
        results[index] = tasks[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def fresh_words(count: int = 8) -> tuple[Arena, int]:
    """An arena and the address of zero words, :data:`DISTANCE` bytes apart."""
    arena = Arena.private(1 << 16, huge_pages="never")
    return arena, arena.allocate(count * DISTANCE)


@kernel
def add_ones(address: int, count: int) -> None:
    for _ in range(count):
        fetch_add(address, 1)


@kernel
def add_ones_by_swapping(address: int, count: int) -> None:
    for _ in range(count):
        seen = load_relaxed(address)
        while not compare_exchange(address, seen, seen + 1):
            seen = load_relaxed(address)


@kernel
def pass_on(address: int, count: int, first: int) -> int:
    """Exchange ``count`` numbers for whatever stands there; the sum of what came back."""
    total = 0
    for number in range(first, first + count):
        total += exchange_word(address, number)
    return total


@pytest.mark.parametrize("add", [add_ones, add_ones_by_swapping])
def test_no_addition_is_lost(add: Any) -> None:
    _arena, word = fresh_words()
    together(*[lambda: add(word, 200_000)] * 3)
    assert load_int64(word) == 600_000


def test_every_exchanged_word_comes_back_once() -> None:
    _arena, word = fresh_words()
    count = 100_000
    returned = together(lambda: pass_on(word, count, 1), lambda: pass_on(word, count, count + 1))
    assert sum(returned) + load_int64(word) == sum(range(1, 2 * count + 1))


@kernel
def send(words: int, count: int, use_fences: bool) -> None:
    """Write growing numbers: the message first, then the flag."""
    for number in range(1, count + 1):
        store_relaxed(words, number)
        if use_fences:
            fence_release()
            store_relaxed(words + DISTANCE, number)
        else:
            store_release(words + DISTANCE, number)
        if number % 1024 == 0:
            yield_core()


@kernel
def receive(words: int, count: int, use_fences: bool) -> int:
    """Poll the flag until the last number is there; how often the message was older than the flag.

    With plain loads the compiler would take them out of the loop, which would never end.
    """
    older = 0
    flag = 0
    looks = 0
    while flag < count:
        if use_fences:
            flag = load_relaxed(words + DISTANCE)
            fence_acquire()
        else:
            flag = load_acquire(words + DISTANCE)
        older += 1 if load_relaxed(words) < flag else 0
        looks += 1
        if looks % 1024 == 0:
            yield_core()
    return older


@pytest.mark.parametrize("use_fences", [False, True])
def test_who_sees_the_flag_sees_the_message(use_fences: bool) -> None:
    _arena, words = fresh_words()
    count = 300_000
    older = together(lambda: receive(words, count, use_fences), lambda: send(words, count, use_fences))[0]
    assert older == 0


@kernel
def claim(mine: int, other: int, seen: int, turn: int, other_turn: int, count: int) -> None:
    """Dekker's first step, ``count`` times: say that I want, then look whether the other does.

    Before each step it waits a little for the other to come as far, so that they often do meet.
    """
    for step in range(count):
        store_release(turn, step)
        for _ in range(50):
            if load_acquire(other_turn) >= step:
                break
            pause()
        store_relaxed(mine + 8 * step, 1)
        fence_sequential()
        store_int64(seen + 8 * step, load_relaxed(other + 8 * step))


def test_of_two_who_write_and_then_look_at_least_one_sees_the_other() -> None:
    """Needs the sequential fence even on x86: without it both writes may still be in their cores' store buffers."""
    count = 50_000
    arena = Arena.private(8 << 20, huge_pages="never")
    mine, seen = ([arena.allocate(8 * count) for _ in range(2)] for _ in range(2))
    turns = [arena.allocate(8) for _ in range(2)]
    together(
        *[
            lambda me=me: claim(mine[me], mine[1 - me], seen[me], turns[me], turns[1 - me], count)
            for me in (0, 1)
        ]
    )
    blind = [
        step for step in range(count) if load_int64(seen[0] + 8 * step) + load_int64(seen[1] + 8 * step) == 0
    ]
    assert blind == []


@kernel
def one_push(producer: Any, record: int) -> bool:
    return try_push(producer, record)


@kernel
def one_poll(consumer: Any, out: int) -> int:
    return poll_batch(consumer, out, 1)


@kernel
def one_publication(writer: Any, words: int) -> None:
    publish(writer, words)


@kernel
def one_read(reader: Any, out: int) -> bool:
    return try_read(reader, out)


@kernel
def one_stack_push(stack: Any) -> None:
    push(stack, 0)


@kernel
def one_pop(stack: Any) -> int:
    return pop(stack)


def arm_instructions(function: Any, *arguments: Any) -> list[str]:
    """The memory instructions, in order, that ``function`` becomes on a 64-bit ARM (ARMv8.1 with its atomics)."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError:
        pytest.skip("this llvmlite cannot compile for ARM")
    function(*arguments)
    code = function.inspect_llvm(function.signatures[-1])
    code = re.sub(r"^target (triple|datalayout).*$", "", code, flags=re.MULTILINE)
    code = re.sub(r'"target-(cpu|features)"="[^"]*"', "", code)
    machine = target.create_target_machine(cpu="neoverse-n1", opt=3)
    assembly = machine.emit_assembly(llvm.parse_assembly(code))
    name = function.py_func.__name__
    start = re.search(rf"^_ZN[^\n]*{name}[^\n]*:\n", assembly, re.MULTILINE)
    assert start is not None
    body = assembly[start.end() : assembly.index(".Lfunc_end", start.end())]
    return re.findall(r"^\s+((?:ld|st|cas|dmb)\w*(?: ish\w*)?)", body.replace("\t", " "), re.MULTILINE)


@pytest.mark.parametrize(
    ("queue", "pushing", "polling"),
    [
        # tail released, head acquired where it has to be looked at; and the other way round
        (SpscQueue(4, huge_pages="never"), {"stlr": 1, "ldapr": 1}, {"stlr": 1, "ldapr": 1}),
        # one reader, whose counter is acquired: alone, and as the first of more
        (DisruptorQueue(4, huge_pages="never"), {"stlr": 1}, {"stlr": 1, "ldapr": 1}),
        # the claim is a swap with both orders; the slot's word and the head as last seen are released
        (MpscQueue(4, huge_pages="never"), {"casal": 1, "stlr": 2, "ldapr": 2}, {"stlr": 1}),
    ],
    ids=["spsc", "disruptor", "mpsc"],
)
def test_on_arm_a_ring_releases_its_counters_and_acquires_the_other_sides(
    queue: Any, pushing: dict[str, int], polling: dict[str, int]
) -> None:
    arena = Arena.private(4096, huge_pages="never")
    pushed = arm_instructions(one_push, queue.producer(0), arena.allocate(64))
    assert {name: pushed.count(name) for name in pushing} == pushing
    assert "ldapr" in pushed
    polled = arm_instructions(one_poll, queue.consumer(0), arena.allocate(64))
    assert {name: polled.count(name) for name in polling} == polling
    assert "ldapr" in polled


def test_on_arm_a_seqlock_keeps_its_words_between_its_two_looks_at_the_number() -> None:
    value = SeqlockValue(3)
    arena = Arena.private(4096, huge_pages="never")
    publication = arm_instructions(one_publication, value.writer(), arena.allocate(64))
    assert publication.index("dmb ish") == 2  # load the number, store it odd, fence
    assert "stlr" in publication[publication.index("dmb ish") :]
    reading = arm_instructions(one_read, value.reader(), arena.allocate(64))
    assert reading[0] == "ldapr"
    after_fence = reading[reading.index("dmb ishld") + 1 :]
    assert after_fence[0] == "ldr"
    assert "ldr" in reading[: reading.index("dmb ishld")]


def test_on_arm_a_stack_swaps_its_top_with_both_orders() -> None:
    stack = TreiberStack(4, filled=True)
    popping = arm_instructions(one_pop, stack.handle())
    assert popping[:3] == ["ldapr", "ldr", "casal"]
    pushing = arm_instructions(one_stack_push, stack.handle())
    assert pushing[:3] == ["ldr", "str", "casal"]
