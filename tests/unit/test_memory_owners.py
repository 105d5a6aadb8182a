"""Whose memory is whose, where it is placed, and what the kernel says of it; as far as one NUMA node shows."""

import ctypes
import errno
import gc
import mmap
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.errors import UserError
from exchange.forked_child import ForkedChild
from exchange.native import Arena, load_int64, shared_with_children, store_int64
from exchange.placement import (
    NumaPlacement,
    PinnedPlacement,
    Plan,
    ThreadDescription,
    load_topology,
    memory_owners,
    plan,
)
from exchange.placement.memory_nodes import PAGE_BYTES, count_pages, new_pages_on, node_of_page, place_memory
from exchange.placement.memory_owners import (
    Region,
    current_nodes,
    hand_over,
    made_for,
    memory_as_planned,
    memory_of,
    regions,
)
from exchange.placement.protocol import Assignment
from exchange.queues.spsc import SpscQueue
from exchange.replication.config import TcpReplicationConfig
from exchange.replication.streams import ReplicaStreams

ABSENT_NODE = 1023
"""No machine has as many."""


def planned(**nodes: tuple[int, ...]) -> Plan:
    """A plan for this machine that places the memory of some agents; underscores stand for dots."""
    assignments = [
        Assignment(name, None, None, None, "a test", True, (name.replace("_", "."),), found)
        for name, found in nodes.items()
    ]
    return Plan("numa", "this machine", True, tuple(assignments))


def region_of(arena: Arena) -> Region:
    (found,) = [one for one in regions() if one.address == arena.address]
    return found


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int, tuple[int, ...]]]]:
    """What the kernel is told, which is not told here."""
    calls: list[tuple[int, int, tuple[int, ...]]] = []
    monkeypatch.setattr(memory_owners, "place_memory", lambda *call: calls.append(call))
    yield calls
    gc.collect()


def policy_of(address: int) -> str:
    """As numa_maps has it."""
    lines = Path("/proc/self/numa_maps").read_text().splitlines()
    before = [line.split() for line in lines if int(line.split()[0], 16) <= address]
    return max(before, key=lambda words: int(words[0], 16))[1]


# --- the kernel's calls ---


def test_pages_are_counted_when_they_are_there() -> None:
    with mmap.mmap(-1, 64 * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block.madvise(mmap.MADV_NOHUGEPAGE)
        first = ctypes.c_char.from_buffer(block)
        address = ctypes.addressof(first)
        del first
        assert count_pages(address, 64 * PAGE_BYTES) == {}
        for page in (0, 7, 63):
            block[page * PAGE_BYTES] = 1
        assert count_pages(address, 64 * PAGE_BYTES).total() == 3
        assert count_pages(address + 7 * PAGE_BYTES, PAGE_BYTES).total() == 1
        (node,) = count_pages(address, PAGE_BYTES)
        assert node_of_page(address) == node
        assert count_pages(address, 64 * PAGE_BYTES, (os.getpid(), 0)).total() == 3
    assert count_pages(address, 64 * PAGE_BYTES) == {}, "nothing is mapped there any more"


def test_many_pages_are_asked_for_in_several_calls() -> None:
    arena = Arena.private(192 << 20, huge_pages="never")
    ends = (arena.address, arena.address + (64 << 20) - PAGE_BYTES, arena.address + (64 << 20),
            arena.address + arena.capacity_bytes - PAGE_BYTES)  # fmt: skip
    for address in ends:
        store_int64(address, 1)
    assert count_pages(arena.address, arena.capacity_bytes).total() == len(ends)


def test_pages_that_a_child_has_touched_are_counted_once() -> None:
    with shared_with_children():
        arena = Arena.private(1, huge_pages="never")
    begun, ended = arena.allocate(8), arena.allocate(8)
    far = arena.address + (1 << 20)  # where reading the words brings nothing in

    def touch() -> None:
        for page in range(3):
            store_int64(far + page * PAGE_BYTES, 1)
        store_int64(begun, 1)
        while load_int64(ended) == 0:
            time.sleep(0.001)

    child = ForkedChild("touching", touch)
    try:
        while load_int64(begun) == 0:
            time.sleep(0.001)
        assert count_pages(far, 8 * PAGE_BYTES) == {}
        assert count_pages(far, 8 * PAGE_BYTES, (0, child.pid)).total() == 3
        store_int64(far + PAGE_BYTES, 2)
        assert count_pages(far, 8 * PAGE_BYTES, (0, child.pid)).total() == 3
    finally:
        store_int64(ended, 1)
        child.wait(10)
        child.take_result()


def test_a_policy_is_set_and_taken_back() -> None:
    with mmap.mmap(-1, 8 * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        first = ctypes.c_char.from_buffer(block)
        address = ctypes.addressof(first)
        del first
        place_memory(address, 8 * PAGE_BYTES, (0,))
        assert policy_of(address) == "bind:0"
        block[0] = 1
        assert count_pages(address, PAGE_BYTES) == {0: 1}
        place_memory(address, 8 * PAGE_BYTES, ())
        assert policy_of(address) == "default"


@pytest.mark.parametrize("nodes", [(ABSENT_NODE,), (5000,), (-1,)])
def test_a_node_that_is_not_there_is_refused(nodes: tuple[int, ...]) -> None:
    arena = Arena.private(1)
    with pytest.raises(OSError, match=r"Invalid argument|no NUMA node can have") as caught:
        place_memory(arena.address, PAGE_BYTES, nodes)
    assert caught.value.errno == errno.EINVAL


def test_a_processor_whose_calls_are_not_known_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    with pytest.raises(OSError, match="no number of move_pages is known for pdp11"):
        count_pages(0, PAGE_BYTES)


def thread_policy() -> tuple[int, int]:
    """Mode and first word of nodes of this thread's policy."""
    mode, nodes = ctypes.c_int(), (ctypes.c_uint64 * 16)()
    libc = ctypes.CDLL(None)
    numbers = {"x86_64": 239, "aarch64": 236}
    libc.syscall(numbers[os.uname().machine], ctypes.byref(mode), nodes, ctypes.c_ulong(1025), None, 0)
    return mode.value, nodes[0]


def test_new_pages_of_a_thread_come_from_a_node_for_a_while() -> None:
    with new_pages_on(()):
        assert thread_policy() == (0, 0)
    with new_pages_on((0,)):
        assert thread_policy() == (2, 1)
        with pytest.raises(OSError, match="Invalid argument"), new_pages_on((ABSENT_NODE,)):
            pass
        assert thread_policy() == (2, 1)
    assert thread_policy() == (0, 0)


# --- owners ---


def test_an_arena_belongs_to_nobody_and_is_named_by_who_takes_it() -> None:
    arena = Arena.private(1)
    assert region_of(arena) == Region("", __name__, arena.address, arena.capacity_bytes, ())
    assert region_of(SpscQueue(64).arena).part == "queues.ring_memory"


def test_an_owner_is_named_by_the_nearest_block_and_by_no_other_thread() -> None:
    with memory_of("shard.0", "outer"):
        with memory_of("shard.1"):
            inner = Arena.private(1)
        outer = Arena.private(1)
        elsewhere: list[Arena] = []
        thread = threading.Thread(target=lambda: elsewhere.append(Arena.private(1)))
        thread.start()
        thread.join()
    assert region_of(inner)[:2] == ("shard.1", __name__)
    assert region_of(outer)[:2] == ("shard.0", "outer")
    assert region_of(elsewhere[0]).owner == ""
    assert region_of(made_for("egress", "queue", SpscQueue, capacity_slots=64).arena)[:2] == (
        "egress",
        "queue",
    )


def test_an_arena_is_forgotten_with_its_holder() -> None:
    arena = Arena.private(1)
    address = arena.address
    assert address in {one.address for one in regions()}
    del arena
    gc.collect()
    assert address not in {one.address for one in regions()}


def test_memory_is_placed_before_it_is_touched_and_where_the_plan_says(
    placed: list[tuple[int, int, tuple[int, ...]]],
) -> None:
    with memory_as_planned(planned(ingress=(1,), shard_0=(0, 1), shard_1=())):
        with memory_of("shard.0"):
            assert current_nodes() == (0, 1)
            first = Arena.private(1)
        with memory_of("shard.1"):
            unplaced = Arena.private(1)
        with memory_of("somebody else"):
            stranger = Arena.private(1)
        clients = Arena.private(1)
    outside = Arena.private(1)
    assert placed == [
        (first.address, first.capacity_bytes, (0, 1)),
        (clients.address, clients.capacity_bytes, (1,)),
    ]
    assert region_of(clients).owner == "ingress"
    assert [region_of(one).nodes for one in (first, unplaced, stranger, outside)] == [(0, 1), (), (), ()]
    assert count_pages(first.address, first.capacity_bytes) == {}


def test_shared_memory_is_placed_by_who_makes_it(placed: list[tuple[int, int, tuple[int, ...]]]) -> None:
    name = f"exchange-owner-test-{os.getpid()}"
    with memory_as_planned(planned(shard_0=(1,))):
        ours = Arena.create_shared(name, 100_000)
        theirs = Arena.attach_shared(name)
    ours.unlink()
    assert [call[0] for call in placed] == [ours.address]
    assert region_of(theirs).nodes == (1,)


def test_what_the_kernel_refuses_is_one_clear_line_and_leaves_nothing_behind() -> None:
    name = f"exchange-owner-test-{os.getpid()}"
    with memory_as_planned(planned(shard_0=(ABSENT_NODE,))), memory_of("shard.0", "book"):
        with pytest.raises(
            UserError, match=r"refuses to place memory of shard\.0's book on NUMA node 1023"
        ) as caught:
            Arena.private(1)
        assert "\n" not in str(caught.value)
        assert "SYS_NICE" in str(caught.value)
        with pytest.raises(UserError, match="refuses to place memory"):
            Arena.create_shared(name, 4096)
        with pytest.raises(UserError, match=r"refuses to place memory|free huge pages"):
            Arena.private(1, huge_pages="reserved")
    assert not Path("/dev/shm", name).exists()
    assert not any(one.nodes == (ABSENT_NODE,) for one in regions())


def test_a_plan_for_another_machine_places_nothing() -> None:
    threads = (ThreadDescription("shard.0", ("shard.0",)),)
    imagined = plan(load_topology("node:2 core:2 pu:1"), threads, NumaPlacement())
    with (
        pytest.raises(UserError, match="memory was planned for another machine"),
        memory_as_planned(imagined),
    ):
        pass
    with memory_as_planned(plan(load_topology("node:2 core:2 pu:1"), threads, PinnedPlacement())):
        assert current_nodes() == ()


def test_pages_in_the_middle_can_be_handed_over(placed: list[tuple[int, int, tuple[int, ...]]]) -> None:
    page = PAGE_BYTES
    with memory_as_planned(planned(ingress_0=(0,), ingress_1=(1,))):
        arena = Arena.private(1, huge_pages="never")
        for number in (0, 2, 3):
            hand_over(arena, arena.address + number * page, page, "ingress.1")
        hand_over(arena, arena.address + 4 * page, page, "ingress.0")
    found = sorted(
        (one for one in regions() if one.part == __name__ and one.nodes), key=lambda one: one.address
    )
    offsets = [(one.owner, (one.address - arena.address) // page, one.size_bytes // page) for one in found]
    rest = arena.capacity_bytes // page - 5
    assert offsets == [
        ("ingress.1", 0, 1), ("ingress.0", 1, 1), ("ingress.1", 2, 1), ("ingress.1", 3, 1), ("ingress.0", 4, 1),
        ("ingress.0", 5, rest),
    ]  # fmt: skip
    assert placed[1:] == [(arena.address + number * page, page, (1,)) for number in (0, 2, 3)]
    with pytest.raises(ValueError, match="in one piece"):
        hand_over(arena, arena.address, 2 * page, "ingress.0")
    before = regions()
    hand_over(arena, arena.address + 6 * page + 1, 2 * page - 2, "ingress.1")  # no whole page
    assert regions() == before
    hand_over(arena, arena.address + 6 * page - 1, page + 2, "ingress.1")
    assert ("ingress.1", arena.address + 6 * page, page) in [
        (one.owner, one.address, one.size_bytes) for one in regions()
    ]


def test_the_rings_for_a_backup_lie_with_who_writes_to_them(
    placed: list[tuple[int, int, tuple[int, ...]]],
) -> None:
    plan = planned(ingress=(0,), shard_0=(0,), shard_1=(1,), replicator=(1,), egress=(0,))
    with memory_as_planned(plan):
        replica = ReplicaStreams(TcpReplicationConfig(), 2)
    for stream, (owner, nodes) in enumerate((("shard.0", (0,)), ("shard.1", (1,)), ("egress", (0,)))):
        ring = replica.ring(stream)
        (found,) = [
            one for one in regions() if one.address == ring.base and one.size_bytes == ring.ring_bytes
        ]
        assert (found.owner, found.part, found.nodes) == (owner, "rings", nodes)
        last = [call for call in placed if call[0] <= ring.base < call[0] + call[1]][-1]
        assert last[2] == nodes, "what was told last counts"
